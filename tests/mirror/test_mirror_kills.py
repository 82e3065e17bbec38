"""kill -9 of Sluice and of each node of Apache Kafka in turn, under load: what Sluice acknowledged, a
`read_committed` reader of the cluster finds once and in order. `cargo xtask soak mirror` does it in full."""

import random
import time
import uuid

import pytest

from conftest import KILLS
from fleet import Fleet, number

pytestmark = pytest.mark.mirror


def judged(fleet, cluster, topic, words):
    records = [(key, value) for _, _, key, value, _ in cluster.read(topic)]
    acked, found, missing, twice, disordered = fleet.judge(records)
    print(f"{words}: {acked} acknowledged, {found} found, {missing} missing, {twice} twice, {disordered} disordered")
    assert acked > 0
    assert (missing, twice, disordered) == (0, 0, 0)


def test_sluice_is_killed(three, mirroring):
    topic = f"killed-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt).start()
    chance = random.Random()
    for _ in range(KILLS):
        fleet.wait_more(100)
        time.sleep(chance.uniform(0.1, 2))
        node.kill()
        node.start()
    fleet.wait_more(100)
    fleet.end()
    node.wait_drained()
    judged(fleet, three, topic, f"Sluice killed {KILLS} times")


def test_sluice_is_killed_without_transactions(three, mirroring):
    """`exactly_once = false`: nothing is missing, and what is there again is what was sent in the last second
    before a kill; the first of each is in order."""
    topic = f"least-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic, mirror="exactly_once = false").start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 4, 0.01).start()
    chance, kills = random.Random(), min(KILLS, 5)
    for _ in range(kills):
        fleet.wait_more(100)
        time.sleep(chance.uniform(0.5, 1.5))
        node.kill()
        node.start()
    fleet.wait_more(100)
    fleet.end()
    node.wait_drained()
    records = [(key, value) for _, _, key, value, _ in three.read(topic)]
    first = list(dict.fromkeys((key, number(value)) for key, value in records))
    acked, found, missing, twice, _ = fleet.judge(records)
    print(f"without transactions, Sluice killed {kills} times: {acked} acknowledged, {found} found, {missing} missing, "
          f"{twice} twice")
    assert acked > 0 and missing == 0
    for device in fleet.devices:
        numbers = [at for key, at in first if key == device.name_.encode()]
        assert numbers == sorted(numbers), device.name_
    # The documented window, with room for a machine that stands still: three seconds of what devices send.
    assert twice <= kills * 3 * len(fleet.devices) / 0.01


def test_each_node_of_the_cluster_is_killed(three, mirroring):
    topic = f"nodes-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt).start()
    fleet.wait_more(200)
    for broker in (1, 2, 3):
        three.kill(broker)
        fleet.wait_more(300)
        three.start(broker)
        three.wait_in_sync()
        fleet.wait_more(100)
    fleet.end()
    node.wait_drained()
    judged(fleet, three, topic, "each node killed in turn")


def test_a_second_with_the_same_identity_fences_the_first(three, mirroring):
    topic = f"fenced-{uuid.uuid4().hex[:6]}"
    identity = f'identity = "twin-{topic}"'
    first = mirroring(three, topic, mirror=identity).start()
    first.wait_state("connected")
    fleet = Fleet(first.mqtt, 1).start()
    fleet.wait_more(50)
    second = mirroring(three, topic, mirror=identity).start()
    # Another data folder owns the identity: it refuses to write, whoever fences whom.
    view = second.wait_state("fenced", "failed")
    assert view["why"], view
    # The first goes on; the topic has an end to read up to once nobody publishes.
    fleet.wait_more(50)
    fleet.end()
    assert not [row for row in three.read(topic) if row[2] and row[2].startswith(b"second")]
