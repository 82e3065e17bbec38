"""The article, whole, against a real cluster: a door lock of mosquitto's own clients, and the records as
Kafka's own console consumer prints them."""

import json
import subprocess
import uuid

import pytest

from cluster import xtask

pytestmark = pytest.mark.mirror

LOCK = "10083618796833171"
COMMAND = '{"process_id":"7802441525528958","action":"unlock","nonce_str":"u7u4p0n8","ts":1574744434}'
STATE = '{"process_id":"7802441525528958","action":"unlock","battery":83.4,"lock_state":1,"version":1.1}'


def printed(cluster, topic):
    said = xtask(
        "tool", "console-consumer", "--bootstrap-server", cluster.bootstrap, "--topic", topic, "--from-beginning",
        "--max-messages", "1", "--timeout-ms", "60000", "--command-property", "isolation.level=read_committed",
    )
    return json.loads(next(line for line in said.splitlines() if line.startswith("{")))


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
    lock = subprocess.Popen(
        ["mosquitto_sub", "-p", port, "-i", LOCK, "-q", "1", "-t", f"devices/{LOCK}/command", "-C", "1", "-d"],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        for line in lock.stdout:
            if "SUBACK" in line:
                break
        for what, payload in (("command", COMMAND), ("state", STATE)):
            subprocess.run(
                ["mosquitto_pub", "-p", port, "-q", "1", "-i", LOCK + what, "-t", f"devices/{LOCK}/{what}", "-m", payload],
                check=True, timeout=30,
            )
        rest, _ = lock.communicate(timeout=30)
        assert COMMAND in rest
    finally:
        if lock.poll() is None:
            lock.kill()
            lock.wait()
    for what in ("command", "state"):
        record = printed(three, f"message_{what}-{run}")
        assert record["topic"] == f"devices/{LOCK}/{what}"
        assert record["qos"] == 1
