"""The HTTP API and sluice ctl against the real program: tokens, hooks, traces, backup."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from node import Node


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


def traced(node, query, until):
    """Opens a trace; answers its lines and a thread that ends with the packet `until`."""
    lines = []
    request = urllib.request.urlopen(
        f"http://127.0.0.1:{node.http}/api/v1/trace/live?{query}", timeout=30
    )

    def read():
        for line in request:
            if line.startswith(b"data: "):
                lines.append(json.loads(line[6:]))
                if lines[-1]["packet"] == until:
                    return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return lines, reader


def test_a_trace_shows_who_connects_and_who_does_not_come_in(node):
    lines, reader = traced(node, "address=127.0.0.1&client=stolen", "CONNACK")
    others, other = traced(node, "topic=alarm/%23", "CONNECT")
    node.ctl("bans", "add", "client_id", "stolen")
    for client_id, will in [("stolen", None), ("lock", "alarm/lock")]:
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, reconnect_on_failure=False)
        client.username_pw_set("joe", "pencil")
        if will:
            client.will_set(will, "gone", qos=1)
        client.connect("127.0.0.1", node.mqtt)
        client.loop_start()
        for thread in (reader,) if will is None else (other,):
            thread.join(20)
            assert not thread.is_alive(), (lines, others)
        client.loop_stop()
    assert [(line["direction"], line["packet"]) for line in lines] == [("in", "CONNECT"), ("out", "CONNACK")]
    assert "user joe, password" in lines[0]["summary"] and "banned" in lines[1]["summary"], lines
    assert [line["client_id"] for line in others] == ["lock"], others
    assert "will alarm/lock QoS 1" in others[0]["summary"]
    assert "pencil" not in json.dumps([lines, others])


def test_a_trace_names_the_topic_of_an_alias(node):
    lines, reader = traced(node, "topic=aliased/%23", "DISCONNECT")
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "short", protocol=mqtt.MQTTv5)
    subscribed, got = threading.Event(), []
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _data, message: got.append(message)
    connect = Properties(PacketTypes.CONNECT)
    connect.TopicAliasMaximum = 4
    client.connect("127.0.0.1", node.mqtt, properties=connect)
    client.loop_start()
    client.subscribe("aliased/+", qos=1)
    assert subscribed.wait(10)
    for number in range(4):
        alias = Properties(PacketTypes.PUBLISH)
        alias.TopicAlias = 3
        topic = "" if number else "aliased/state"
        client.publish(topic, f"{number}", qos=1, properties=alias).wait_for_publish(10)

    def publishes(direction):
        return [line for line in list(lines) if (line["packet"], line["direction"]) == ("PUBLISH", direction)]

    wait_until(lambda: len(publishes("in")) == len(publishes("out")) == 4, lambda: lines)
    for line in publishes("in") + publishes("out"):
        assert line["topic"] == "aliased/state" and "PUBLISH aliased/state" in line["summary"], line
    assert all("alias 3" in line["summary"] for line in publishes("in"))
    assert sum("alias 1" in line["summary"] for line in publishes("out")) == 4
    client.disconnect()
    client.loop_stop()


def wait_until(is_so, told):
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end, told()
        time.sleep(0.02)


def test_hooks_tell_how_many_records_they_made(node):
    body = [{"topic": f"devices/{number}/state", "qos": 1} for number in range(30)]
    assert node.ask("POST", "/publish/batch", [*body, {"topic": "else", "qos": 1}])[0] == 200
    hooks = {hook["name"]: hook for hook in json.loads(node.ctl("--json", "hooks"))}
    assert hooks["message.publish:message_state"]["matched"] == 30
    assert hooks["message.acked:message_command"]["matched"] == 0
    node.ctl("hooks", "disable", "message.publish:message_state")
    assert node.ask("POST", "/publish/batch", body)[0] == 200
    node.ctl("hooks", "enable", "message.publish:message_state")
    assert node.ask("POST", "/publish", body[0])[0] == 200
    hooks = {hook["name"]: hook for hook in json.loads(node.ctl("--json", "hooks"))}
    assert hooks["message.publish:message_state"]["matched"] == 31
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{node.http}/metrics", timeout=10).read().decode()
    assert 'sluice_hook_records_total{hook="message.publish:message_state"} 31' in metrics
    assert 'sluice_http_requests_total{status="200"}' in metrics


def test_a_hook_tells_what_the_log_refused(tmp_path):
    node = Node(tmp_path).start()
    try:
        assert node.stop() == 0
        node.config = '[log]\ndisk_reserve_bytes = "900TB"\n'
        node.start()
        for _ in range(3):
            assert node.ask("POST", "/publish", {"topic": "devices/1/state", "qos": 1})[0] == 507
        assert node.ask("POST", "/publish", {"topic": "else", "qos": 1})[0] == 507
        hooks = {hook["name"]: hook for hook in node.ask("GET", "/hooks")[1]["items"]}
        assert hooks["message.publish:message_state"]["errors"] == 3
        assert hooks["message.acked:message_command"]["errors"] == 0
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{node.http}/metrics", timeout=10).read().decode()
        assert 'sluice_hook_records_refused_total{hook="message.publish:message_state"} 3' in metrics
    finally:
        node.kill()


def test_deeds_answer_in_json_too(node):
    done = json.loads(node.ctl("--json", "bans", "add", "user", "joe"))
    assert "joe" in done["done"]
    assert json.loads(node.ctl("--json", "hooks", "reload"))["done"]
    assert node.verb("ctl", "status").returncode == 0


def test_a_batch_waits_for_the_cluster_behind_once(tmp_path):
    config = """
[mirror]
brokers = "127.0.0.1:1"
ack_timeout = "2s"

[[stream]]
name = "message_state"
ack = "kafka"
"""
    node = Node(tmp_path, config).start()
    try:
        batch = [{"topic": f"devices/{number}/state", "qos": 1} for number in range(20)]
        answers = []
        start = time.monotonic()
        # More than publish at a time: none of them holds the others up.
        threads = [
            threading.Thread(target=lambda: answers.append(node.ask("POST", "/publish/batch", batch)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - start
        assert 2 <= took < 10, took
        for code, answer in answers:
            assert code == 200 and not any(row["published"] for row in answer["items"]), answer
    finally:
        node.kill()


def test_an_open_body_keeps_no_node_from_stopping(node):
    with socket.create_connection(("127.0.0.1", node.http)) as stream:
        stream.sendall(b"POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        # It has been read once another request that came later is answered.
        assert node.ask("GET", "/status")[0] == 200
        start = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - start < 15


def test_ctl_travels_through_tls(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
         "-keyout", key, "-out", certificate], check=True, capture_output=True)
    config = f"""
[[listener]]
kind = "https"
bind = "127.0.0.1:0"
certificate = "{certificate}"
key = "{key}"
"""
    node = Node(tmp_path, config).start()
    try:
        def ctl(*more):
            return node.run("ctl", "status", "--http", f"https://127.0.0.1:{node.https}", *more)
        assert "serving" in ctl("--cafile", str(certificate)).stdout
        refused = ctl()
        assert refused.returncode == 1 and "TLS" in refused.stderr, refused.stderr
        assert ctl("--insecure").returncode == 0
        far = node.run("ctl", "status", "--http", "192.0.2.1:1", "--data-dir", str(tmp_path / "data"))
        assert far.returncode == 1 and "another" in far.stderr, far.stderr
    finally:
        node.kill()


def test_data_and_backups_are_for_their_owner_only(node, tmp_path):
    node.ctl("backup", str(tmp_path / "copy"))
    node.ctl("restore", str(tmp_path / "copy"), str(tmp_path / "again"))
    for folder in ("data", "copy", "again"):
        assert os.stat(tmp_path / folder).st_mode & 0o077 == 0, folder
    (tmp_path / "again" / "restore.unfinished").touch()
    refused = node.run("serve", "--data-dir", str(tmp_path / "again"), "--mqtt", "127.0.0.1:0", "--ws", "off",
                       "--kafka", "off", "--http", "off")
    assert refused.returncode == 1 and "restore again" in refused.stderr


def test_a_denied_publish_is_told_and_rules_see_where_it_comes_from(tmp_path):
    config = """
[[authorization.rule]]
effect = "deny"
action = "publish"
filter = ["secret/#"]

[[authorization.rule]]
effect = "deny"
action = "publish"
address = ["127.0.0.0/8"]
filter = ["from/elsewhere/#"]

[[authorization.rule]]
effect = "deny"
action = "publish"
address = ["10.0.0.0/8"]
filter = ["from/here/#"]

[[authorization.rule]]
effect = "allow"

[[hook]]
event = "message.dropped"
filter = "#"
stream = "fate"

[[hook]]
event = "message.publish"
filter = "from/here/#"
stream = "taken"
"""
    node = Node(tmp_path, config).start()
    try:
        denied = {"topic": "secret/a", "payload": "x", "qos": 1, "client_id": "lock"}
        assert node.ask("POST", "/publish", denied)[0] == 403
        assert node.ask("POST", "/publish", {"topic": "from/elsewhere/a", "qos": 1})[0] == 403
        code, answer = node.ask("POST", "/publish/batch", [{"topic": "from/here/a", "qos": 1}, denied])
        assert code == 200 and [row["published"] for row in answer["items"]] == [True, False]
        wait_until(lambda: len(told(node, "not_authorized")) == 3, lambda: node.records("fate"))
        fate = told(node, "not_authorized")
        assert sorted((record["client_id"], record["topic"]) for record in fate) == [
            ("http:loopback", "from/elsewhere/a"), ("lock", "secret/a"), ("lock", "secret/a")]
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{node.http}/metrics", timeout=10).read().decode()
        assert re.search(r'dropped_total\{[^}]*reason="not_authorized"[^}]*\} 3', metrics)
        headers = {
            header["name"]: base64.b64decode(header["value_base64"]).decode()
            for header in node.records("taken")[0]["headers"]
        }
        assert headers["mqtt.principal"] == "loopback" and headers["mqtt.peer"].startswith("127.0.0.1:")
        audit = [(row["status"], row["what"]) for row in node.ask("GET", "/audit")[1]["items"]]
        assert audit == [
            (403, "topic secret/a as lock"), (403, "topic from/elsewhere/a"),
            (200, "2 messages on from/here/a, secret/a as lock, 1 refused")]
    finally:
        node.kill()


def told(node, reason):
    """What `message.dropped` says with that reason."""
    values = [json.loads(base64.b64decode(record["value_base64"])) for record in node.records("fate")]
    return [value for value in values if value["reason"] == reason]


def test_one_address_does_not_keep_others_from_a_listener(tmp_path):
    config = """
[[listener]]
kind = "http"
bind = "127.0.0.1:0"
proxy_protocol = true
"""
    node = Node(tmp_path, config)
    node.BY_FLAG = ("mqtt", "ws", "kafka")
    node.start()
    held = []

    def come(address):
        stream = socket.create_connection(("127.0.0.1", node.http), timeout=10)
        stream.sendall(f"PROXY TCP4 {address} 10.9.9.9 4711 80\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        held.append(stream)
        try:
            return stream.recv(12)
        except ConnectionResetError:
            return b""

    try:
        assert all(come("10.0.0.1") == b"HTTP/1.1 200" for _ in range(32))
        assert come("10.0.0.1") == b"", "it has its share"
        assert come("10.0.0.2") == b"HTTP/1.1 200"
        held.pop(0).close()
        wait_until(lambda: come("10.0.0.1") == b"HTTP/1.1 200", lambda: "no place was given back")
    finally:
        for stream in held:
            stream.close()
        node.kill()


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
    data = tmp_path / "data"
    try:
        assert int((data / "lock").read_text()) == process
        # Whoever rotates logs moves the file away and sends SIGHUP.
        lines, rotated = data / "sluice.log", data / "sluice.log.1"
        lines.rename(rotated)
        os.kill(process, signal.SIGHUP)
        wait_until(lambda: lines.exists() and "authenticators and rules" in lines.read_text(), rotated.read_text)
        assert "authenticators and rules" not in rotated.read_text()
        assert os.stat(lines).st_mode & 0o077 == 0
    finally:
        os.kill(process, signal.SIGTERM)
    # Nobody who reads it there stops another process later.
    wait_until(lambda: (data / "lock").read_text() == "", lambda: (data / "lock").read_text())
