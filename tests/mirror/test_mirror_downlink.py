"""Commands that business writes into a topic of the real cluster reach each device once, while Sluice and
the cluster's nodes are killed on the way."""

import random
import time
import uuid

import pytest
from confluent_kafka import Producer

from cluster import QUIET
from conftest import KILLS
from devices import Device, downlinks

pytestmark = pytest.mark.mirror

COMMANDS = 200 * KILLS


def produce(cluster, topic, records, aborted=()):
    """Writes (key, value) in one transaction; what is `aborted` in one before it that is given up."""
    producer = Producer({
        "bootstrap.servers": cluster.bootstrap, "transactional.id": f"{topic}-{uuid.uuid4().hex[:6]}",
    }, logger=QUIET)
    producer.init_transactions(60)
    for batch, end in ((aborted, producer.abort_transaction), (records, producer.commit_transaction)):
        if batch:
            producer.begin_transaction()
            for key, value in batch:
                producer.produce(topic, value, key)
            producer.flush(60)
            end(60)


def test_commands_of_the_cluster_go_down_once(three, mirroring):
    topic = f"commands-{uuid.uuid4().hex[:6]}"
    three.create(topic, 3)
    node = mirroring(three, f"{topic}-state")
    node.config += f"""
[mqtt]
inbox_max = 20000
[[downlink]]
kafka_topic = "{topic}"
topic = "devices/{{key}}/command"
qos = 2
"""
    node.start()
    wait(node)
    names = [f"lock-{number}" for number in range(4)]
    devices = [Device(name, node.mqtt) for name in names]
    wanted = {name: [] for name in names}
    sent, chance = 0, random.Random()
    for kill in range(KILLS):
        until = COMMANDS * (kill + 1) // KILLS
        batch = [(names[number % 4], str(number)) for number in range(sent, until)]
        for name, number in batch:
            wanted[name].append(number)
        produce(three, topic, batch, [(name, "never") for name in names])
        sent = until
        time.sleep(chance.uniform(0, 1.5))
        node.kill()
        node.start()
    for device in devices:
        got = [payload for _, _, payload in device.wait(len(wanted[device.name]), 120)]
        missing = set(wanted[device.name]) - set(got)
        assert not missing, f"{device.name}: missing {sorted(missing)[:5]}"
    # Whoever got a command twice gets it soon after the last.
    time.sleep(1)
    for device in devices:
        assert [payload for _, _, payload in device.wait(0)] == wanted[device.name], device.name
        device.leave()
    print(f"{COMMANDS} commands of a topic of the cluster, {KILLS} kills: each once and in order")


def test_a_partition_without_a_leader_holds_up_no_other(three, mirroring):
    topic = f"split-{uuid.uuid4().hex[:6]}"
    three.create_over(topic, 1, 3)
    node = mirroring(three, f"{topic}-state")
    node.config += f"""
[[downlink]]
kafka_topic = "{topic}"
topic = "devices/{{key}}/command"
qos = 1
"""
    node.start()
    wait(node, partitions=2)
    node.stop()
    three.kill(3)
    try:
        node.start()
        device = Device("lock", node.mqtt)
        producer = Producer({"bootstrap.servers": three.bootstrap}, logger=QUIET)
        producer.produce(topic, "here", "lock", partition=0)
        assert producer.flush(60) == 0
        assert [payload for _, _, payload in device.wait(1, 60)] == ["here"]
    finally:
        three.start(3)
    three.wait_in_sync()
    producer.produce(topic, "there", "lock", partition=1)
    assert producer.flush(60) == 0
    assert [payload for _, _, payload in device.wait(2, 60)] == ["here", "there"]
    device.leave()


def wait(node, seconds=60, partitions=3):
    """Until the downlink has found the topic's ends: it begins there."""
    end = time.monotonic() + seconds
    while True:
        rows = downlinks(node)
        rows = rows["items"] if isinstance(rows, dict) else rows
        if rows[0]["state"] == "connected" and len(rows[0]["partitions"]) == partitions:
            return
        assert time.monotonic() < end, rows
        time.sleep(0.1)
