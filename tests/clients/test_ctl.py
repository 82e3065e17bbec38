"""Every verb of sluice ctl against a running node: as a table for people, and as JSON for programs."""

import json
import os
import re
import subprocess
import threading
import time

import paho.mqtt.client as mqtt
import pytest

from node import Node
from sluice import BINARY

# No cluster is there: the mirror tries, and says so.
CONFIG = """
[mirror]
brokers = "127.0.0.1:1"

[[stream]]
name = "commands"

[[downlink]]
name = "unlock"
stream = "commands"
topic = "devices/{key}/command"
"""

LOCK = "10083618796833171"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("ctl"), CONFIG).start()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, LOCK, protocol=mqtt.MQTTv5)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", node.mqtt)
    client.loop_start()
    client.subscribe(f"devices/{LOCK}/command", qos=1)
    assert subscribed.wait(10)
    client.publish(f"devices/{LOCK}/config", "kept", qos=1, retain=True).wait_for_publish(10)
    added = node.run("user", "add", "joe", *where(node), input="pencil\n")
    assert added.returncode == 0, added.stderr
    yield node
    client.loop_stop()
    node.kill()


def where(node):
    return "--http", f"127.0.0.1:{node.http}", "--data-dir", os.path.join(node.folder, "data")


# Verb; what its table says, in this order; a field of each row, or of the one thing, as JSON.
ASKED = [
    (["status"], ["health", "serving", "connections"], "uptime_s"),
    (["listeners"], ["NAME", "KIND", "ADDRESS", "TLS", "mqtt", "127.0.0.1:"], "bind"),
    (["clients"], ["CLIENT", LOCK], "client_id"),
    (["clients", "list", "--connected", "--sort", "-owed", "--limit", "1"], ["CLIENT", LOCK], "keep_alive_s"),
    (["clients", "show", LOCK], ["CLIENT", LOCK, "session expiry", f"devices/{LOCK}/command"], "subscriptions_list"),
    (["subscriptions", "--contains", "command"], ["CLIENT", "FILTER", f"devices/{LOCK}/command"], "filter"),
    (["streams"], ["STREAM", "message_state"], "retention_ms"),
    (["streams", "--all"], ["STREAM", "__sluice.audit"], "internal"),
    (["streams", "--partitions"], ["message_state"], "partitions"),
    (["groups"], ["GROUP"], "group"),
    (["groups", "--partitions"], ["GROUP", "LAG"], "group"),
    (["groups", "--members"], ["GROUP"], "group"),
    (["hooks"], ["NAME", "ENABLED", "REFUSED", "message.publish:message_state"], "errors"),
    (["hooks", "list"], ["NAME", "message.acked:message_command"], "matched"),
    (["mirror"], ["127.0.0.1:1"], "state"),
    (["mirror", "--partitions"], ["message_state"], "streams"),
    (["downlinks"], ["unlock", "commands"], "lag_records"),
    (["downlinks", "--partitions"], ["unlock"], "partitions"),
    (["retained"], ["TOPIC", "SIZE", f"devices/{LOCK}/config"], "size_bytes"),
    (["retained", "list", "devices/+/config"], ["TOPIC", f"devices/{LOCK}/config"], "topic"),
    (["retained", "show", f"devices/{LOCK}/config"], [f"devices/{LOCK}/config", "kept"], "payload_base64"),
    (["users"], ["joe", "SCRAM"], "name"),
    (["bans"], [], "value"),
    (["bans", "list"], [], "value"),
    (["log", "level"], ["all", "info"], "level"),
    (["audit", "--last", "5"], ["/api/v1/users"], "status"),
    (["config"], ["[log]"], "toml"),
]


@pytest.mark.parametrize(("verb", "words", "field"), ASKED, ids=lambda it: " ".join(it) if isinstance(it, list) else "")
def test_what_is_asked(node, verb, words, field):
    told = node.ctl(*verb)
    at = 0
    for word in words:
        at = told.find(word, at)
        assert at >= 0, f"{word}\n{told}"
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", told)
    answer = json.loads(node.ctl("--json", *verb))
    rows = answer if isinstance(answer, list) else [answer]
    if rows or verb[0] not in ("groups", "bans"):
        assert rows and all(field in row for row in rows), answer


# Verb; what it says.
DONE = [
    (["publish", "-t", f"devices/{LOCK}/state", "-m", "x"], "published"),
    (["hooks", "disable", "message.publish:message_state"], "disabled"),
    (["hooks", "enable", "message.publish:message_state"], "enabled"),
    (["hooks", "reload"], "in force"),
    (["mirror", "disable"], "disabled"),
    (["mirror", "enable"], "enabled"),
    (["log", "level", "debug", "--module", "server::kafka"], "server::kafka"),
    (["bans", "add", "user", "mallory", "--reason", "noise", "--expires", "1d"], "mallory"),
    (["bans", "delete", "user:mallory"], "deleted"),
]


@pytest.mark.parametrize("json_too", [False, True], ids=["table", "json"])
def test_what_is_done(node, json_too):
    for verb, said in DONE:
        told = node.ctl(*(["--json"] if json_too else []), *verb)
        if json_too:
            answer = json.loads(told)
            assert "published" in answer if verb[0] == "publish" else answer, told
        else:
            assert said in told, told
    levels = json.loads(node.ctl("--json", "log", "level"))
    assert {"level": "debug", "module": "server::kafka"} in levels


def test_a_client_is_kicked_and_a_retained_message_taken_away(node):
    other = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "victim", reconnect_on_failure=False)
    gone, inside = threading.Event(), threading.Event()
    other.on_connect = lambda *_: inside.set()
    other.on_disconnect = lambda *_: gone.set()
    other.connect("127.0.0.1", node.mqtt)
    other.loop_start()
    assert inside.wait(10)
    assert "victim" in json.loads(node.ctl("--json", "clients", "kick", "victim"))["done"]
    assert gone.wait(10)
    other.loop_stop()
    node.ctl("publish", "-t", "kept/once", "-m", "x", "-r")
    assert "kept/once" in node.ctl("retained", "delete", "kept/once")
    assert node.verb("ctl", "retained", "show", "kept/once").returncode == 1


def test_what_is_not_there_is_an_error_in_words(node):
    for verb, said in [
        (["clients", "show", "nobody"], "there is no client nobody"),
        (["clients", "kick", "nobody"], "nobody"),
        (["hooks", "disable", "nothing"], "there is no hook nothing"),
        (["retained", "delete", "no/such"], "no/such"),
        (["bans", "delete", "user:nobody"], "there is no such ban"),
        (["bans", "add", "colour", "blue"], "client_id, user or address"),
        (["log", "level", "loud"], "off, error, warn"),
        (["trace", "--address", "x"], "no IP address"),
        (["publish", "-t", "a/#", "-m", "x"], "topic"),
    ]:
        done = node.verb("ctl", *verb)
        assert done.returncode == 1 and said in done.stderr, (verb, done)
        assert done.stdout == ""


class Following:
    """A verb that goes on until it is stopped, and its lines."""

    def __init__(self, node, *verb):
        self.process = subprocess.Popen(
            [BINARY, "ctl", *verb, *where(node)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def until(self, wanted, again=lambda: None):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            again()
            found = [line for line in list(self.lines) if wanted in line]
            if found:
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"no {wanted} in {self.lines}")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.thread.join(10)


@pytest.mark.parametrize("which", [["--client", "traced"], ["--topic", "traced/+"], ["--address", "127.0.0.1"]])
def test_a_trace_by_client_topic_or_address(node, which):
    table, program = Following(node, "trace", *which), Following(node, "--json", "trace", *which)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "traced", protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", node.mqtt)
    client.loop_start()
    try:
        def publish():
            client.publish("traced/x", "y", qos=1).wait_for_publish(10)
        line = table.until("PUBLISH traced/x", publish)
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z traced -> PUBLISH traced/x QoS 1 id \d+, 1 bytes$", line.strip())
        told = json.loads(program.until('"PUBLISH"', publish))
        assert (told["client_id"], told["topic"], told["direction"]) == ("traced", "traced/x", "in")
    finally:
        table.stop()
        program.stop()
        client.loop_stop()


def test_the_log_is_followed(node):
    table, program = Following(node, "log", "tail"), Following(node, "--json", "log", "tail")
    try:
        def reload():
            os.kill(node.process.pid, 1)
        assert " INFO " in table.until("authenticators and rules", reload)
        told = json.loads(program.until("authenticators and rules", reload))
        assert told["level"] == "info"
    finally:
        table.stop()
        program.stop()


def test_a_backup_is_made_and_restored(node, tmp_path):
    told = json.loads(node.ctl("--json", "backup", str(tmp_path / "one")))
    assert told["files"] > 0
    assert "files" in node.ctl("backup", str(tmp_path / "two"))
    assert node.verb("ctl", "backup", str(tmp_path / "two")).returncode == 1, "it is not empty"
    assert json.loads(node.ctl("--json", "restore", str(tmp_path / "one"), str(tmp_path / "data")))["done"]
    assert "start: sluice serve" in node.ctl("restore", str(tmp_path / "two"), str(tmp_path / "other"))
    assert node.verb("ctl", "restore", str(tmp_path / "two"), str(tmp_path / "other")).returncode == 1


def test_a_node_that_does_not_answer_is_said_so():
    done = Node("/nowhere").run("ctl", "status", "--http", "127.0.0.1:1")
    assert done.returncode == 1 and "is the node running" in done.stderr
