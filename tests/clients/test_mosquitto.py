"""mosquitto_pub and mosquitto_sub against the real program."""

import subprocess

from conftest import envelopes


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
