"""The HTTP API and sluice ctl against the real program: tokens, hooks, traces, backup."""

import base64
import json
import os
import threading
import urllib.error
import urllib.request

import paho.mqtt.client as mqtt
import pytest

from sluice import Sluice


class Node(Sluice):
    """A node that is asked over HTTP and by ctl, as whoever may read its data directory."""

    def ask(self, method, path, body=None, token=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}/api/v1{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            assert error.headers["Content-Type"] == "application/problem+json"
            return error.code, json.load(error)

    def verb(self, *arguments):
        return self.run(
            *arguments, "--http", f"127.0.0.1:{self.http}",
            "--data-dir", os.path.join(self.folder, "data"),
        )

    def ctl(self, *arguments):
        done = self.verb("ctl", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def records(self, stream, **query):
        found, cursor = [], None
        while True:
            path = f"/streams/{stream}/records?limit=1000" + (f"&cursor={cursor}" if cursor else "")
            path += "".join(f"&{name}={value}" for name, value in query.items())
            code, page = self.ask("GET", path)
            assert code == 200, page
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                return found


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path).start()
    yield node
    node.kill()


def test_publish_records_and_retained(node):
    for number in range(20):
        body = {"topic": f"devices/{number % 2}/state", "payload": f"p{number}", "qos": 1}
        assert node.ask("POST", "/publish", body)[0] == 200
    records = node.records("message_state")
    assert len(records) == 20
    assert len(node.records("message_state", text="devices/1/state")) == 10
    last = node.ask("GET", "/streams/message_state/records?offset=-1&limit=100")[1]["items"]
    assert last and all(record["time"].endswith("Z") for record in last)
    kept = {"topic": "a/b", "payload_base64": "AAE=", "qos": 1, "retain": True}
    assert node.ask("POST", "/publish", kept)[0] == 200
    assert node.ask("GET", "/retained/a/b")[1]["payload_base64"] == "AAE="
    assert "a/b" in node.ctl("retained", "list", "a/#")
    assert node.ask("DELETE", "/retained/a/b")[0] == 204
    assert node.ask("GET", "/retained/a/b")[0] == 404
    audit = node.ask("GET", "/audit")[1]["items"]
    assert [row["method"] for row in audit] == ["POST"] * 21 + ["DELETE"]


def test_tokens_close_the_door(node):
    made = node.verb("token", "add", "ops", "--role", "operator")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert token.startswith("sluice_")
    assert node.ask("GET", "/status")[0] == 401
    assert node.ask("GET", "/status", token=token)[0] == 200
    assert node.ask("GET", "/users", token=token)[0] == 403
    assert "ops" in node.verb("token", "list").stdout
    node.kill()
    node.start()
    assert node.ask("GET", "/status", token=token)[0] == 200
    with open(os.path.join(node.folder, "sluice.log"), encoding="utf-8") as file:
        assert token not in file.read()


def test_a_hook_that_is_switched_off_writes_nothing(node):
    name = "message.publish:message_state"
    body = {"topic": "devices/1/state", "payload": "x", "qos": 1}
    assert name in node.ctl("hooks")
    node.ctl("hooks", "disable", name)
    assert node.ask("POST", "/publish", body)[0] == 200
    assert node.records("message_state") == []
    assert any(name in problem for problem in node.ask("GET", "/status")[1]["problems"])
    node.ctl("hooks", "enable", name)
    assert node.ask("POST", "/publish", body)[0] == 200
    assert len(node.records("message_state")) == 1
    assert node.ask("POST", "/hooks/none/enable")[0] == 404


def test_a_client_is_traced_shown_and_kicked(node):
    lines = []
    opened = threading.Event()
    request = urllib.request.urlopen(
        f"http://127.0.0.1:{node.http}/api/v1/trace/live?client=lock", timeout=30
    )
    gone = threading.Event()

    def read():
        opened.set()
        for line in request:
            if line.startswith(b"data: "):
                lines.append(json.loads(line[6:]))
                if {"PUBLISH", "PUBACK"} <= {line["packet"] for line in lines}:
                    return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert opened.wait(10)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "lock", reconnect_on_failure=False)
    client.on_disconnect = lambda *_: gone.set()
    client.connect("127.0.0.1", node.mqtt)
    client.loop_start()
    client.publish("devices/1/state", "x", qos=1).wait_for_publish(10)
    reader.join(20)
    assert not reader.is_alive(), lines
    publish = next(line for line in lines if line["packet"] == "PUBLISH")
    assert (publish["direction"], publish["topic"]) == ("in", "devices/1/state")
    shown = node.ask("GET", "/clients/lock")[1]
    assert shown["connected"] and shown["limits"]["owed_max"] > 0
    assert "lock" in node.ctl("clients", "show", "lock")
    node.ctl("clients", "kick", "lock")
    assert gone.wait(10)
    client.loop_stop()


def test_a_denied_publish_and_a_ban(tmp_path):
    config = """
[[authorization.rule]]
effect = "deny"
action = "publish"
filter = ["secret/#"]
"""
    node = Node(tmp_path, config).start()
    try:
        assert node.ask("POST", "/publish", {"topic": "secret/a", "qos": 1})[0] == 403
        assert node.ask("POST", "/publish", {"topic": "open/a", "qos": 1})[0] == 200
        node.ctl("bans", "add", "client_id", "lock", "--reason", "stolen", "--expires", "1d")
        assert "stolen" in node.ctl("bans")
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "lock", reconnect_on_failure=False)
        refused, answered = [], threading.Event()

        def connected(_client, _data, _flags, reason, _properties):
            refused.append(reason.is_failure)
            answered.set()

        client.on_connect = connected
        client.connect("127.0.0.1", node.mqtt)
        client.loop_start()
        assert answered.wait(10) and refused == [True]
        client.loop_stop()
        node.ctl("bans", "delete", "client_id:lock")
        assert node.ask("GET", "/bans")[1]["items"] == []
    finally:
        node.kill()


def test_a_backup_under_load_has_all_that_was_acknowledged_before_it(node, tmp_path):
    acked, going = [], threading.Event()
    going.set()

    def publish():
        number = 0
        while going.is_set():
            body = [
                {"topic": f"devices/{i}/state", "payload": f"n{number + i}", "qos": 1,
                 "client_id": f"c{i}"}
                for i in range(50)
            ]
            code, answer = node.ask("POST", "/publish/batch", body)
            assert code == 200 and all(row["published"] for row in answer["items"])
            acked.extend(message["payload"] for message in body)
            number += 50

    publisher = threading.Thread(target=publish)
    publisher.start()
    while len(acked) < 500:
        pass
    before = list(acked)
    copy, restored = str(tmp_path / "copy"), str(tmp_path / "restored" / "data")
    told = node.ctl("backup", copy)
    assert "files" in told
    going.clear()
    publisher.join(30)
    node.kill()
    assert os.path.exists(os.path.join(copy, "backup.complete"))
    (tmp_path / "restored").mkdir()
    done = node.run("ctl", "restore", copy, restored)
    assert done.returncode == 0, done.stderr
    again = Node(tmp_path / "restored").start()
    try:
        values = [
            json.loads(base64.b64decode(record["value_base64"]))["payload"]
            for record in again.records("message_state")
        ]
        found = {base64.b64decode(value).decode() for value in values}
        assert not set(before) - found
        assert len(values) == len(found), "nothing twice"
    finally:
        again.kill()


def test_a_daemon_is_ready_when_its_starter_returns(tmp_path):
    node = Node(tmp_path)
    done = node.run(
        "serve", "--daemon", "--data-dir", str(tmp_path / "data"), "--mqtt", "127.0.0.1:0",
        "--kafka", "off", "--ws", "off", "--http", "127.0.0.1:0",
    )
    assert done.returncode == 0, done.stderr
    process = int(done.stdout.split("ready; process ")[1].split(",")[0])
    os.kill(process, 15)
