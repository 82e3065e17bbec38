"""What is deleted in the cluster, and made anew: a target, the positions, the topic of a downlink. Nothing is
left out in silence and nothing comes twice."""

import shutil
import time
import uuid

import pytest
from confluent_kafka import Producer

from cluster import QUIET
from devices import Device, downlinks
from fleet import Fleet, number
from test_mirror_downlink import wait as wait_downlink
from test_mirror_trouble import SECOND, publish, row, wait_row

pytestmark = pytest.mark.mirror


def delete(cluster, *topics):
    """Deletes topics, and waits until nobody is told of them any more."""
    admin = cluster.admin()  # what it was asked for ends with it
    for future in admin.delete_topics(list(topics)).values():
        future.result(30)
    end = time.monotonic() + 60
    while set(topics) & set(admin.list_topics(timeout=10).topics):
        assert time.monotonic() < end, "still there"
        time.sleep(0.1)


@pytest.mark.parametrize("by", ["the mirror", "an operator"])
def test_a_target_that_is_deleted(three, mirroring, by):
    """It is made anew and gets what was not in the old one, in order and once; others are not held up."""
    run = uuid.uuid4().hex[:6]
    topic = f"deleted-{run}"
    create = "true" if by == "the mirror" else "false"
    for made in (topic, f"beside-{run}"):
        three.create(made, 4)
    node = mirroring(three, topic, mirror=f"create_topics = {create}")
    node.config += SECOND.format(topic=f"beside-{run}")
    node.start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 4, 0.01).start()
    fleet.wait_more(200)
    publish(node, "devices/a/other", [b"0"])
    wait_row(node, "message_other", lambda row: row["records"] == 1)
    delete(three, topic)
    for more in range(2, 6):
        publish(node, "devices/a/other", [b"1"])
        wait_row(node, "message_other", lambda row, more=more: row["records"] == more, 30)
        fleet.wait_more(20)
    if by == "an operator":
        found = wait_row(node, "message_state", lambda row: "unknown topic" in (row["why"] or ""), 90)
        assert found["state"] == "waiting" and "create_topics = true" in found["why"], found
        three.create(topic, 4)
    end = time.monotonic() + 90
    while topic not in three.admin().list_topics(timeout=10).topics:
        fleet.wait_more(10)
        assert time.monotonic() < end, "it is not made anew"
    fleet.wait_more(100)
    fleet.end()
    node.wait_drained(60)
    records = [(key.decode(), number(value)) for _, _, key, value, _ in three.read(topic)]
    for device in fleet.devices:
        found = [at for key, at in records if key == device.name_]
        # From some record on, each that follows.
        assert found and found == list(range(found[0], device.sent)), f"{device.name_}: {found[:5]}"
    print(f"a target deleted under load: {len(records)} of {fleet.acked()} in the new one, each once and in order")
    assert "made anew" in node.log() or "it is created" in node.log()


@pytest.mark.parametrize("what", ["group", "topic"])
def test_positions_that_the_cluster_has_lost(three, mirroring, what):
    """Whoever began anew would send everything twice: it is refused, and told."""
    run = uuid.uuid4().hex[:6]
    topic, positions = f"kept-{run}", f"positions-{run}"
    node = mirroring(three, topic, mirror=f'identity = "lost-{run}"\npositions_topic = "{positions}"').start()
    node.wait_state("connected")
    publish(node, "devices/a/state", [b"1"] * 20)
    node.wait_drained()
    node.stop()
    if what == "group":
        admin = three.admin()
        for future in admin.delete_consumer_groups([f"lost-{run}-positions"]).values():
            future.result(30)
    else:
        delete(three, positions)
    node.start()
    publish(node, "devices/a/state", [b"2"] * 5)
    view = node.wait_state("failed")
    assert "has lost positions" in view["why"] and f"lost-{run}-positions" in view["why"], view
    assert len(three.read(topic)) == 20
    assert row(node, "message_state")["lag_records"] >= 5
    # Another identity begins anew, as the message says.
    node.stop()
    node.config = node.config.replace(f"lost-{run}", f"found-{run}")
    node.start()
    node.wait_drained()
    assert len(three.read(topic)) == 45


def test_the_positions_of_a_new_directory(three, mirroring):
    """A directory that never was mirrored misses nothing."""
    topic = f"fresh-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    node.stop()
    shutil.rmtree(f"{node.folder}/data")
    node.start()
    publish(node, "devices/a/state", [b"1"])
    node.wait_drained()


def test_a_topic_of_commands_that_was_made_anew(three, mirroring):
    """It has grown past what was read of the old one; its commands are not taken for later ones of that."""
    topic = f"commands-{uuid.uuid4().hex[:6]}"
    three.create(topic, 1)
    node = mirroring(three, f"{topic}-state")
    node.config += f"""
[[downlink]]
kafka_topic = "{topic}"
topic = "devices/{{key}}/command"
qos = 1
"""
    node.start()
    wait_downlink(node, partitions=1)
    device = Device("lock", node.mqtt)
    produce(three, topic, ["one", "two"])
    assert [payload for _, _, payload in device.wait(2, 60)] == ["one", "two"]
    node.stop()
    delete(three, topic)
    three.create(topic, 1)
    produce(three, topic, [str(at) for at in range(5)])
    node.start()
    end = time.monotonic() + 60
    while (found := rows(node)[0])["state"] != "failed":
        assert time.monotonic() < end, found
        time.sleep(0.1)
    assert "made anew" in found["why"], found
    assert [payload for _, _, payload in device.wait(0)] == ["one", "two"]
    # Another name begins anew: at the end, as it is told to.
    node.stop()
    node.config = node.config.replace(f'kafka_topic = "{topic}"', f'kafka_topic = "{topic}"\nname = "again"')
    node.start()
    wait_downlink(node, partitions=1)
    produce(three, topic, ["three"])
    assert [payload for _, _, payload in device.wait(3, 60)] == ["one", "two", "three"]
    device.leave()


def produce(cluster, topic, values):
    producer = Producer({"bootstrap.servers": cluster.bootstrap}, logger=QUIET)
    for value in values:
        producer.produce(topic, value, "lock")
    assert producer.flush(60) == 0


def rows(node):
    found = downlinks(node)
    return found["items"] if isinstance(found, dict) else found
