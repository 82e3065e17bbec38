"""The article, whole, against a real cluster: a door lock of mosquitto's own clients, and the records as
Kafka's own console consumer prints them."""

import base64
import json
import subprocess
import time
import urllib.request
import uuid

import pytest

from cluster import xtask

pytestmark = pytest.mark.mirror

LOCK = "10083618796833171"
COMMAND = """{
    "process_id": "7802441525528958",
    "action": "unlock",
    "nonce_str": "u7u4p0n8",
    "ts": 1574744434,
    "sign": "e9f5af7deaa28563"
}"""
STATE = """{
    "process_id": "7802441525528958",
    "action": "unlock",
    "battery": 83.4,
    "lock_state": 1,
    "version": 1.1,
    "client_id": "10083618796833171"
}"""


def printed(cluster, topic):
    """The first record, as the console consumer prints it."""
    said = xtask(
        "tool", "console-consumer", "--bootstrap-server", cluster.bootstrap, "--topic", topic, "--from-beginning",
        "--max-messages", "1", "--timeout-ms", "60000", "--command-property", "isolation.level=read_committed",
    )
    return json.loads(next(line for line in said.splitlines() if line.startswith("{")))


def wait_subscribed(node, seconds=30):
    """mosquitto_sub says nothing until a message comes."""
    end = time.monotonic() + seconds
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.http}/api/v1/subscriptions", timeout=10) as answer:
            if f"devices/{LOCK}/command" in answer.read().decode():
                return
        assert time.monotonic() < end, "the lock has not subscribed"
        time.sleep(0.05)


def test_both_records_reach_the_cluster(three, mirroring):
    run = uuid.uuid4().hex[:6]
    node = mirroring(three, f"message_state-{run}", rest="")
    node.config += f"""
[[hook]]
event = "message.acked"
filter = "devices/+/command"
stream = "message_command"
key = "{{2}}"
[[mirror.stream]]
stream = "message_command"
topic = "message_command-{run}"
"""
    node.start()
    node.wait_state("connected")
    port = str(node.mqtt)
    before = time.time() * 1000
    lock = subprocess.Popen(
        ["mosquitto_sub", "-p", port, "-i", LOCK, "-q", "1", "-t", f"devices/{LOCK}/command", "-C", "1"],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        wait_subscribed(node)
        for what, payload in (("command", COMMAND), ("state", STATE)):
            # The console publishes the command, the lock its state.
            who = "console" if what == "command" else LOCK + "-2"
            subprocess.run(
                ["mosquitto_pub", "-p", port, "-q", "1", "-i", who, "-t", f"devices/{LOCK}/{what}", "-m", payload],
                check=True, timeout=30,
            )
        got, _ = lock.communicate(timeout=30)
        assert got == COMMAND + "\n"
    finally:
        if lock.poll() is None:
            lock.kill()
            lock.wait()
    node.wait_drained()
    command, state = (printed(three, f"message_{what}-{run}") for what in ("command", "state"))
    print(f"console consumer: {json.dumps(command)}\nconsole consumer: {json.dumps(state)}")
    ts = command.pop("ts"), state.pop("ts")
    assert all(before <= t <= time.time() * 1000 for t in ts)
    assert command == {
        "client_id": LOCK, "username": "", "from": "console", "topic": f"devices/{LOCK}/command",
        "payload": base64.b64encode(COMMAND.encode()).decode(), "qos": 1, "node": "sluice@127.0.0.1",
    }
    assert state == {
        "client_id": LOCK + "-2", "username": "", "topic": f"devices/{LOCK}/state",
        "payload": base64.b64encode(STATE.encode()).decode(), "qos": 1, "node": "sluice@127.0.0.1",
    }
    assert list(command) == ["client_id", "username", "from", "topic", "payload", "qos", "node"]
