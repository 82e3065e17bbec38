"""The consumer of the article: Kafka's console consumer reads `message_state` from the beginning while
locks report over MQTT."""

import json
import subprocess

import paho.mqtt.client as mqtt
import pytest

from programs import tool_command
from test_paho import Client

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("tools")]


def test_console_consumer_reads_while_locks_report(node):
    writer = Client(node, "lock-1", mqtt.MQTTv311)

    def report(first, count):
        for number in range(first, first + count):
            said = json.dumps({"process_id": str(number), "action": "unlock"})
            info = writer.paho.publish("devices/lock-1/state", said, qos=1)
        info.wait_for_publish(30)

    report(0, 50)
    consumer = subprocess.Popen(
        tool_command(
            "console-consumer", "--bootstrap-server", f"localhost:{node.kafka}", "--topic", "message_state",
            "--from-beginning", "--max-messages", "150", "--timeout-ms", "60000",
        ),
        stdout=subprocess.PIPE, text=True,
    )
    try:
        lines = [consumer.stdout.readline() for _ in range(50)]
        report(50, 100)
        lines += consumer.stdout.readlines()
        assert consumer.wait(60) == 0
    finally:
        consumer.kill()
    records = [json.loads(line) for line in lines]
    assert {record["topic"] for record in records} == {"devices/lock-1/state"}
    payloads = [record["payload"] for record in records]
    found = [payload if isinstance(payload, dict) else decode(payload) for payload in payloads]
    assert [payload["process_id"] for payload in found] == [str(number) for number in range(150)]
    writer.leave()


def decode(payload):
    """The default encoding of a payload in the envelope."""
    import base64

    return json.loads(base64.b64decode(payload))
