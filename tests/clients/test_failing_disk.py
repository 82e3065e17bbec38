"""A disk that fails under the real program, and file descriptors that run out: nothing that was
acknowledged is lost, nobody waits for ever, and what passes is over when it has passed."""

import json
import os
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import paho.mqtt.client as mqtt
import pytest

from conftest import Inbox

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


def connected(node, client_id, version=mqtt.MQTTv5, clean=True):
    """A Paho client that is in, with its acknowledgements, messages and its end to be waited for."""
    options = {"clean_session": clean} if version == mqtt.MQTTv311 else {}
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=version, **options)
    client.acks, client.inbox = Inbox(), Inbox()
    client.gone, joined = threading.Event(), threading.Event()
    client.on_publish = lambda _c, _u, _mid, reason, _p: client.acks.put(reason)
    client.on_message = lambda _c, _u, message: client.inbox.put(message.payload)
    client.on_connect = lambda *_: joined.set()
    client.on_disconnect = lambda *_: client.gone.set()
    client.reconnect_delay_set(60, 60)
    client.connect("127.0.0.1", node.mqtt)
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
