"""kcat and kafka-python in assign mode against the real program's Kafka front door."""

import base64
import json
import subprocess

import paho.mqtt.client as mqtt

from conftest import read_stream
from test_paho import Client


def fill(node, count):
    writer = Client(node, "filler", mqtt.MQTTv311)
    for number in range(count):
        info = writer.paho.publish(f"devices/lock-{number % 10}/state", str(number), qos=1)
    info.wait_for_publish(30)
    writer.published.wait(count)
    writer.leave()


def payload(value):
    return int(base64.b64decode(json.loads(value)["payload"]))


def test_kcat_reads_everything(node):
    fill(node, 1000)
    kcat = subprocess.run(
        ["kcat", "-C", "-b", f"127.0.0.1:{node.kafka}", "-t", "message_state", "-o", "beginning", "-e", "-q"],
        capture_output=True, text=True, timeout=60, check=True,
    )
    assert sorted(payload(line) for line in kcat.stdout.splitlines()) == list(range(1000))


def test_kafka_python_reads_everything_in_order_per_device(node):
    fill(node, 1000)
    records = read_stream(node, "message_state")
    assert sorted(payload(value) for *_, value in records) == list(range(1000))
    by_key = {}
    for partition, _, key, value in records:
        by_key.setdefault(key, []).append((partition, payload(value)))
    assert sorted(by_key) == sorted(f"lock-{n}".encode() for n in range(10))
    for found in by_key.values():
        assert len({partition for partition, _ in found}) == 1
        assert [number for _, number in found] == sorted(number for _, number in found)


def test_a_stream_is_the_same_after_a_kill(node):
    fill(node, 500)
    before = read_stream(node, "message_state")
    node.kill()
    node.start()
    assert read_stream(node, "message_state") == before
    fill(node, 10)
    assert len(read_stream(node, "message_state")) == 510


def test_kcat_lists_streams_and_hides_our_own(node):
    kcat = subprocess.run(
        ["kcat", "-L", "-J", "-b", f"127.0.0.1:{node.kafka}"],
        capture_output=True, text=True, timeout=60, check=True,
    )
    topics = {topic["topic"]: topic for topic in json.loads(kcat.stdout)["topics"]}
    assert {"message_state", "message_command", "mqtt.default"} <= set(topics)
    assert len(topics["message_state"]["partitions"]) == 4
    assert not [name for name in topics if name.startswith("__sluice")]


def test_offsets_by_time(node):
    fill(node, 10)
    query = ["kcat", "-Q", "-b", f"127.0.0.1:{node.kafka}"]
    for partition in range(4):
        query += ["-t", f"message_state:{partition}:0"]
    kcat = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True)
    assert kcat.returncode == 0
    assert "offset 0" in kcat.stdout
