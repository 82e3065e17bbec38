"""A disk that fails or is full under the real program, file descriptors that run out, a clock that jumps:
nothing that was acknowledged is lost, nobody waits for ever, and what passes is over when it has passed."""

import base64
import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import paho.mqtt.client as mqtt
import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaStorageError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from conftest import Inbox, read_stream

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def failing(fresh, tmp_path):
    """A node whose disk fails while `failing.switch` has made it do so."""
    library = tmp_path / "failing_disk.so"
    source = os.path.join(HERE, "failing_disk.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    flags = tmp_path / "flags"
    flags.mkdir()
    node = fresh()
    node.environment = {"LD_PRELOAD": str(library), "FAILING_DISK": str(flags)}
    node.switch = lambda name, on: (flags / name).touch() if on else (flags / name).unlink()
    return node.start()


def connected(node, client_id, version=mqtt.MQTTv5, clean=True, properties=None):
    """A Paho client that is in, with its acknowledgements, messages and its end to be waited for."""
    options = {"clean_session": clean} if version == mqtt.MQTTv311 else {}
    clean_start = {} if version == mqtt.MQTTv311 else {"clean_start": clean, "properties": properties}
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=version, **options)
    client.acks, client.inbox = Inbox(), Inbox()
    client.gone, joined = threading.Event(), threading.Event()
    client.on_publish = lambda _c, _u, _mid, reason, _p: client.acks.put(reason)
    client.on_message = lambda _c, _u, message: client.inbox.put(message.payload)
    client.on_connect = lambda *_: joined.set()
    client.on_subscribe = lambda *_: client.acks.put("subscribed")
    client.on_disconnect = lambda *_: client.gone.set()
    client.reconnect_delay_set(60, 60)
    client.connect("127.0.0.1", node.mqtt, **clean_start)
    client.loop_start()
    assert joined.wait(20)
    return client


def ended(client):
    client.disconnect()
    client.loop_stop()


def test_a_flush_that_fails_is_told_to_whoever_waits_for_it(failing):
    five = connected(failing, "five")
    old = connected(failing, "old", mqtt.MQTTv311)
    five.publish("devices/1/state", "kept", 1)
    five.acks.wait(1)
    failing.switch("flush", True)
    old.publish("devices/2/state", "lost", 1)
    five.publish("devices/1/state", "lost", 1)
    five.publish("devices/1/state", "refused", 1)
    reasons = five.acks.wait(3)
    assert not reasons[0].is_failure
    assert reasons[1].is_failure and reasons[2].is_failure, "never a success"
    assert old.gone.wait(20), "MQTT 3 has no other word for it"
    assert not old.acks.messages
    with pytest.raises(urllib.error.HTTPError) as sick:
        urllib.request.urlopen(f"http://127.0.0.1:{failing.http}/healthz", timeout=10)
    assert sick.value.code == 503
    assert "takes no appends" in failing.log() and ".part" in failing.log()
    ended(five)
    ended(old)
    failing.kill()
    failing.switch("flush", False)
    failing.start()
    again = connected(failing, "five")
    again.publish("devices/1/state", "after", 1)
    again.acks.wait(1)
    ended(again)
    consumed = failing.run(
        "consume", "message_state", "--from-beginning", "--decode", "--exit",
        "--bootstrap", f"127.0.0.1:{failing.kafka}",
    )
    assert '"kept"' in consumed.stdout and '"after"' in consumed.stdout, consumed


def test_what_cannot_be_read_is_owed_until_it_can(failing):
    count = 500
    away = connected(failing, "away", mqtt.MQTTv311, clean=False)
    away.subscribe("t", 1)
    ended(away)
    source = connected(failing, "source")
    for number in range(count):
        source.publish("t", str(number).ljust(1000, "."), 1)
    source.acks.wait(count)
    ended(source)
    # The tail in memory is gone with the process: what is owed lies in the segments.
    assert failing.stop() == 0
    failing.start()
    failing.switch("read", True)
    back = connected(failing, "away", mqtt.MQTTv311, clean=False)
    told = threading.Event()

    def watch():
        while "they are kept and tried again" not in failing.log():
            if told.wait(0.05):
                return
        told.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert told.wait(20), failing.log()
    watcher.join()
    assert not back.inbox.messages
    failing.switch("read", False)
    got = back.inbox.wait(count)
    assert [int(payload.rstrip(b".")) for payload in got] == list(range(count))
    ended(back)


def test_a_clock_that_jumps_expires_nothing(failing):
    def lasting(packet, **values):
        properties = Properties(packet)
        for name, value in values.items():
            setattr(properties, name, value)
        return properties

    session = lasting(PacketTypes.CONNECT, SessionExpiryInterval=300)
    expiring = lasting(PacketTypes.PUBLISH, MessageExpiryInterval=300)
    away = connected(failing, "away", clean=False, properties=session)
    away.subscribe("owed", 1)
    away.acks.wait(1)
    ended(away)
    source = connected(failing, "source")
    source.publish("owed", "before the jump", 1, properties=expiring)
    source.publish("kept", "retained", 1, retain=True, properties=expiring)
    source.acks.wait(2)
    failing.switch("clock", True)
    late = time.monotonic() + 20
    while "the system's clock has jumped" not in failing.log():
        assert time.monotonic() < late
        source.publish("else", "", 0)
        time.sleep(0.05)
    source.publish("owed", "after the jump", 1, properties=expiring)
    source.acks.wait(3)
    back = connected(failing, "away", clean=False, properties=session)
    assert back.inbox.wait(2) == [b"before the jump", b"after the jump"]
    back.subscribe("kept", 1)
    assert back.inbox.wait(3)[2] == b"retained"
    ended(back)
    ended(source)


CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP = 2, 4, 5, 6, 7
QUOTA_EXCEEDED = 0x97


def received(stream):
    """Type and body of the next packet; nothing where the connection was closed."""
    try:
        head = stream.recv(2, socket.MSG_WAITALL)
        if len(head) < 2:
            return None
        return head[0] >> 4, stream.recv(head[1], socket.MSG_WAITALL) if head[1] else b""
    except ConnectionResetError:
        return None


def answer_to_publish(node, version, qos, payload):
    """What a new client is told of a message, as (type, reason), or "closed"; QoS 2 to its end."""
    five = version == 5
    none = b"\x00" if five else b""
    connect = b"\x00\x04MQTT" + bytes([version]) + b"\x02\x00\x00" + none + b"\x00\x04full"
    topic = b"devices/1/state"
    publish = len(topic).to_bytes(2, "big") + topic + b"\x00\x07" + none + payload
    with socket.create_connection(("127.0.0.1", node.mqtt), timeout=20) as stream:
        stream.sendall(bytes([0x10, len(connect)]) + connect)
        kind, body = received(stream)
        assert (kind, body[1]) == (CONNACK, 0)
        stream.sendall(bytes([0x30 | qos << 1, len(publish)]) + publish)
        answer = received(stream)
        if answer is None:
            return "closed"
        kind, body = answer
        assert body[:2] == b"\x00\x07"
        reason = body[2] if len(body) > 2 else 0
        if kind == PUBREC and reason < 0x80:
            stream.sendall(bytes([PUBREL << 4 | 2, 2, 0, 7]))
            assert received(stream)[0] == PUBCOMP
        return kind, reason


def test_a_full_disk_is_told_and_over_when_there_is_room(failing):
    watcher = connected(failing, "watcher")
    watcher.subscribe("live", 0)
    producer = KafkaProducer(
        bootstrap_servers=f"127.0.0.1:{failing.kafka}", acks="all", retries=0, linger_ms=0
    )
    producer.send("message_state", b"before", partition=0).get(timeout=20)
    assert answer_to_publish(failing, 5, 1, b"before") == (PUBACK, 0x10)
    failing.switch("full", True)
    # How much is free is asked once a second.
    late = time.monotonic() + 20
    kept = 0
    while answer_to_publish(failing, 5, 1, b"still kept") != (PUBACK, QUOTA_EXCEEDED):
        kept += 1
        assert time.monotonic() < late
    assert answer_to_publish(failing, 5, 2, b"lost") == (PUBREC, QUOTA_EXCEEDED)
    assert answer_to_publish(failing, 4, 1, b"lost") == "closed"
    assert answer_to_publish(failing, 4, 2, b"lost") == "closed"
    with pytest.raises(KafkaStorageError):
        producer.send("message_state", b"lost", partition=0).get(timeout=20)
    watcher.publish("live", "what nothing keeps goes on", 0)
    watcher.inbox.wait(1)
    assert "refuses appends until there is room" in failing.log()
    assert urllib.request.urlopen(f"http://127.0.0.1:{failing.http}/healthz", timeout=10).status == 200
    failing.switch("full", False)
    while answer_to_publish(failing, 5, 1, b"after 1") != (PUBACK, 0x10):
        assert time.monotonic() < late
    assert answer_to_publish(failing, 5, 2, b"after 2") == (PUBREC, 0x10)
    assert answer_to_publish(failing, 4, 1, b"after 3") == (PUBACK, 0)
    assert answer_to_publish(failing, 4, 2, b"after 4") == (PUBREC, 0)
    producer.send("message_state", b"after 5", partition=0).get(timeout=20)
    producer.close()
    ended(watcher)
    assert "the log takes appends again" in failing.log()
    values = [value for _, _, _, value in read_stream(failing, "message_state")]
    produced = [value for value in values if not value.startswith(b"{")]
    assert produced == [b"before", b"after 5"]
    published = [json.loads(value) for value in values if value.startswith(b"{")]
    payloads = [base64.b64decode(value["payload"]) for value in published]
    after = [b"after %d" % number for number in (1, 2, 3, 4)]
    assert payloads == [b"before", *[b"still kept"] * kept, *after]
    assert failing.stop() == 0


def connect_packet(client_id):
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(client_id).to_bytes(2, "big") + client_id
    return bytes([0x10, len(body)]) + body


def test_a_crowd_never_takes_the_descriptors_of_the_log(fresh):
    node = fresh(
        '[log]\ncheckpoint_s = 1\nsegment_bytes = "1MB"\n'
        '[[stream]]\nname = "message_state"\npartitions = 1\nack = "flush"\n'
    )
    node.open_files = 300
    node.start()
    source = connected(node, "source")
    crowd, turned_away = [], 0
    while turned_away < 50:
        one = socket.create_connection(("127.0.0.1", node.mqtt), timeout=20)
        one.sendall(connect_packet(b"c%d" % len(crowd) if len(crowd) % 2 else b""))
        try:
            let_in = one.recv(4)[:1] == b"\x20"
        except ConnectionResetError:
            let_in = False
        if let_in:
            crowd.append(one)
        else:
            turned_away += 1
            one.close()
        assert len(crowd) < 300
    assert len(crowd) > 100
    # Several segments and checkpoints later.
    for _ in range(1_500):
        source.publish("devices/1/state", "x" * 2_000, 1)
    assert not any(reason.is_failure for reason in source.acks.wait(1_500, 60))
    health = urllib.request.urlopen(f"http://127.0.0.1:{node.http}/healthz", timeout=10)
    assert health.status == 200
    segments = os.listdir(os.path.join(node.folder, "data/streams/message_state-0"))
    assert len([name for name in segments if name.endswith(".log")]) > 3
    assert "descriptors are in use" in node.log()
    for one in crowd:
        one.close()
    ended(source)
    assert node.stop() == 0
