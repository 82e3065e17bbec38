"""mosquitto_pub and mosquitto_sub against the real program."""

import itertools
import json
import subprocess
import time

from conftest import envelopes
from sluice import BINARY

# Formats of -F that print the same for the same message whenever it is read.
FORMATS = [
    "%t|%p|%l|%q|%r|%m|%%",
    "%x|%X",
    "%10t|%-10t|%.2t|%10.2t",
    "%7p|%-7p|%5l|%05l|%-5l|%3m",
    "%A|%5A|%C|%12C|%.4C|%D|%F|%03F|%P|%R|%S|%4S|%04S",
    r"@@|@Y-@m-@d|\\|\n|\t|\a|\e|\r|\v|\0",
]


def pub(node, *arguments, version="311"):
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(node.mqtt), "-V", version, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)


def sub(node, *arguments, version="311"):
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(node.mqtt), "-V", version, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def offline_session(node, client_id, topic, version="311"):
    """Makes a session that outlives its connection: subscribe and leave (-E)."""
    extra = ["-x", "3600"] if version == "5" else []
    ended = sub(node, "-c", "-i", client_id, "-q", "1", "-t", topic, "-E", *extra, version=version)
    assert ended.wait(timeout=20) == 0


def test_a_retained_message_reaches_each_version(node):
    pub(node, "-t", "doors/1/open", "-m", "yes", "-r", "-q", "1")
    for version in ("31", "311", "5"):
        reader = sub(node, "-t", "doors/+/open", "-C", "1", version=version)
        assert reader.communicate(timeout=20)[0] == "yes\n"


def test_an_offline_session_gets_what_it_is_owed(node):
    for version in ("311", "5"):
        offline_session(node, f"meter-{version}", f"meters/{version}", version)
        for number in range(20):
            pub(node, "-t", f"meters/{version}", "-m", str(number), "-q", "1")
        extra = ["-x", "3600"] if version == "5" else []
        reader = sub(node, "-c", "-i", f"meter-{version}", "-q", "1", "-t", f"meters/{version}",
                     "-C", "20", *extra, version=version)
        assert reader.communicate(timeout=20)[0].split() == [str(n) for n in range(20)]


def test_qos_2_is_delivered(node):
    offline_session(node, "two", "q/2")
    pub(node, "-t", "q/2", "-m", "once", "-q", "2")
    reader = sub(node, "-c", "-i", "two", "-q", "2", "-t", "q/2", "-C", "1")
    assert reader.communicate(timeout=20)[0] == "once\n"


def test_the_article_state_report_reaches_its_stream(node):
    payload = '{"process_id": "7802441525528958", "action": "unlock"}'
    topic = "devices/10083618796833171/state"
    pub(node, "-i", "10083618796833171", "-t", topic, "-m", payload, "-q", "1")
    (record,) = envelopes(node, "message_state")
    assert list(record) == ["client_id", "username", "topic", "payload", "qos", "node", "ts"]
    assert record["client_id"] == "10083618796833171"
    assert record["username"] == ""
    assert record["node"] == "sluice@127.0.0.1"


def test_a_user_name_that_nobody_asked_about_is_recorded_and_proves_nothing(node):
    pub(node, "-u", "joe", "-P", "any", "-t", "devices/1/state", "-m", "x", "-q", "1")
    read = node.run("consume", "message_state", "--from-beginning", "--json", "--exit", "--bootstrap",
                    f"127.0.0.1:{node.kafka}")
    record = json.loads(read.stdout)
    headers = dict(record["headers"])
    assert json.loads(record["value"])["username"] == "joe"
    assert headers["mqtt.peer"].startswith("127.0.0.1:") and "mqtt.principal" not in headers


def test_a_large_payload_passes(node):
    offline_session(node, "large", "large")
    payload = "x" * 500_000
    subprocess.run(
        ["mosquitto_pub", "-p", str(node.mqtt), "-t", "large", "-q", "1", "-s"],
        input=payload, text=True, timeout=20, check=True,
    )
    reader = sub(node, "-c", "-i", "large", "-q", "1", "-t", "large", "-C", "1")
    assert reader.communicate(timeout=20)[0].strip() == payload


def test_dollar_sys_tells_the_version(node):
    reader = sub(node, "-t", "$SYS/broker/version", "-C", "1", "-W", "20")
    assert reader.communicate(timeout=25)[0].strip() != ""


def both_subs(node, *arguments):
    """What mosquitto_sub and `sluice sub` print with the same arguments, and how they end."""
    common = ["-h", "127.0.0.1", "-p", str(node.mqtt), "-V", "5", *arguments]
    programs = [["mosquitto_sub"], [BINARY, "sub"]]
    return [
        subprocess.run([*program, *common], capture_output=True, timeout=30, check=False)
        for program in programs
    ]


def retained_with_properties(node, topic, payload):
    properties = [
        ["content-type", "text/plain"], ["user-property", "k", "v"], ["user-property", "k2", "v 2"],
        ["response-topic", "r/t"], ["correlation-data", "cd"], ["payload-format-indicator", "1"],
        ["message-expiry-interval", "3600"],
    ]
    words = [word for one in properties for word in ["-D", "publish", *one]]
    pub(node, "-t", topic, "-m", payload, "-q", "1", "-r", *words, version="5")


def test_our_sub_formats_as_mosquitto_sub(node):
    retained_with_properties(node, "a/bc", "xyz")
    pub(node, "-t", "plain", "-m", "123456", "-q", "0", "-r")
    for topic, form in itertools.product(("a/bc", "plain"), FORMATS):
        theirs, ours = both_subs(
            node, "-t", topic, "-q", "1", "-C", "1", "-F", form,
            "-D", "subscribe", "subscription-identifier", "9",
        )
        assert (theirs.returncode, ours.returncode) == (0, 0), ours.stderr
        assert ours.stdout == theirs.stdout, form


def test_our_sub_writes_json_as_mosquitto_sub(node):
    retained_with_properties(node, "words", 'a "b" \u00e4')
    retained_with_properties(node, "object", '{"a": [1, 2.5], "b": " c "}')
    for topic, form in (("words", "%j"), ("object", "%j"), ("object", "%J")):
        printed = both_subs(node, "-t", topic, "-q", "1", "-C", "1", "-F", form)
        theirs, ours = (json.loads(done.stdout) for done in printed)
        for message in (theirs, ours):
            # The time of arrival, and seconds that go by.
            assert message.pop("tst").startswith("20")
            assert 3500 < message["properties"].pop("message-expiry-interval") <= 3600
        assert ours == theirs
    _, ours = both_subs(node, "-t", "words", "-C", "1", "-F", "%J")
    assert (ours.returncode, ours.stdout) == (0, b"")
    assert b"words" in ours.stderr and b"JSON" in ours.stderr


def test_an_unknown_format_is_refused_by_both(node):
    for form in ("%z", "%t %", r"\z", "%5"):
        theirs, ours = both_subs(node, "-t", "t", "-F", form, "-W", "5")
        assert theirs.returncode not in (0, 27) and ours.returncode not in (0, 27), form
    assert b"%t topic" in both_subs(node, "-t", "t", "-F", "%z", "-W", "5")[1].stderr


def test_sub_ends_after_its_time_though_messages_come(node):
    busy = subprocess.Popen(
        [BINARY, "pub", "-p", str(node.mqtt), "-t", "busy", "-m", "x", "--repeat", "100000",
         "--repeat-delay", "0.02"]
    )
    try:
        for command in (["mosquitto_sub"], [BINARY, "sub"]):
            begun = time.monotonic()
            ended = subprocess.run(
                [*command, "-p", str(node.mqtt), "-t", "busy", "-W", "2"],
                capture_output=True, timeout=30, check=False,
            )
            assert ended.returncode == 27, ended.stderr
            assert b"x" in ended.stdout
            assert 1.9 < time.monotonic() - begun < 10
    finally:
        busy.kill()
        busy.wait()
