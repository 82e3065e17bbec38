"""The cluster refuses, swallows, is slow, or refuses one record: devices keep their PUBACK, the backlog
stays on disk and drains by itself."""

import threading
import time
import uuid

import paho.mqtt.client as paho
import pytest

from cluster import read
from conftest import OUTAGE_SECONDS
from fleet import Fleet
from test_mirror_kills import judged

pytestmark = pytest.mark.mirror


@pytest.mark.parametrize("how", ["refuse", "swallow"])
def test_the_cluster_is_unreachable(three, mirroring, how):
    topic = f"{how}-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic, mirror="[mirror.client]\n\"socket.timeout.ms\" = 3000").start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt).start()
    fleet.wait_more(200)
    three.set(how)
    end = time.monotonic() + OUTAGE_SECONDS
    try:
        while time.monotonic() < end:
            # Devices notice nothing.
            fleet.wait_more(50, 10)
        view = node.view()
        assert [row["lag_records"] for row in view["streams"] if row["stream"] == "message_state"][0] > 0
    finally:
        three.set("pass")
    fleet.wait_more(200)
    fleet.end()
    node.wait_drained(180)
    judged(fleet, three, topic, f"{OUTAGE_SECONDS:.0f} s of {how}")


def test_the_cluster_is_slow(three, mirroring):
    topic = f"slow-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 4).start()
    three.set("delay", 0.2)
    try:
        fleet.wait_more(500)
    finally:
        three.set("pass")
    three.proxies[0].cut()
    fleet.wait_more(100)
    fleet.end()
    node.wait_drained()
    judged(fleet, three, topic, "each piece 0.2 s late, then cut")


def test_a_record_that_is_too_large_goes_to_the_dead_letters(three, mirroring):
    topic = f"large-{uuid.uuid4().hex[:6]}"
    three.create(topic, 4, max_message_bytes=2000)
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 2).start()
    fleet.wait_more(50)
    sent = node.run(
        "pub", "-p", str(node.mqtt), "-i", "large", "-q", "1", "-t", "devices/large/state", "-m", "x" * 5000
    )
    assert sent.returncode == 0, sent.stderr
    fleet.wait_more(100)
    fleet.end()
    node.wait_drained()
    judged(fleet, three, topic, "beside one record that is too large")
    ((_, _, key, value, headers),) = read(f"127.0.0.1:{node.kafka}", "mirror_dead_letter")
    told = {name: text.decode() for name, text in headers if name.startswith("sluice.")}
    assert (key, told["sluice.stream"], told["sluice.topic"]) == (b"large", "message_state", topic)
    assert b"devices/large/state" in value and told["sluice.reason"]


def test_ack_kafka_waits_for_all_replicas(three, mirroring):
    topic = f"gated-{uuid.uuid4().hex[:6]}"
    three.create(topic, 4, min_insync_replicas=3)
    node = mirroring(three, topic, mirror='ack_timeout = "2m"', ack="kafka").start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 4, 0.01).start()
    fleet.wait_more(40)
    three.kill(3)
    try:
        # What was in sync before the kill may still be answered; then nothing is.
        deadline, before = time.monotonic() + 60, -1
        while fleet.acked() != before:
            assert time.monotonic() < deadline, "PUBACKs go on without the third replica"
            before = fleet.acked()
            time.sleep(4)
    finally:
        three.start(3)
    three.wait_in_sync()
    fleet.wait_more(40)
    fleet.end()
    node.wait_drained()
    judged(fleet, three, topic, "ack = kafka, one of three replicas gone for a while")


def publish(node, topic, payload, version=paho.MQTTv5):
    """Publishes once at QoS 1; the reason code of the PUBACK, 0 for any success, or None where the connection
    ended instead."""
    told = []
    answered = threading.Event()
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, client_id=uuid.uuid4().hex, protocol=version, reconnect_on_failure=False
    )

    def on_publish(_client, _userdata, _mid, reason, _properties):
        told.append(reason.value if reason.is_failure else 0)
        answered.set()

    client.on_publish = on_publish
    client.on_disconnect = lambda *_: answered.set()
    client.connect("127.0.0.1", node.mqtt)
    client.loop_start()
    client.publish(topic, payload, qos=1)
    assert answered.wait(30), "neither a PUBACK nor an end"
    client.disconnect()
    client.loop_stop()
    return told[0] if told else None


def test_ack_kafka_is_never_a_false_success(three, mirroring):
    """A record that the topic refuses, and one that waits while an operator has the mirror switched off."""
    topic = f"honest-{uuid.uuid4().hex[:6]}"
    three.create(topic, 4, max_message_bytes=2000)
    node = mirroring(three, topic, mirror='ack_timeout = "6s"', ack="kafka").start()
    node.wait_state("connected")
    assert publish(node, "devices/a/state", "small") == 0
    begun = time.monotonic()
    assert publish(node, "devices/a/state", "x" * 5000) == 0x80
    assert time.monotonic() - begun < 6, "told by the mirror, not by ack_timeout"
    assert publish(node, "devices/a/state", "x" * 5000, paho.MQTTv311) is None
    assert publish(node, "devices/a/state", "small") == 0
    assert [row["dead_letters"] for row in node.view()["streams"]] == [2]
    node.turn("disable")
    node.wait_state("paused")
    assert publish(node, "devices/a/state", "waits") == 0x80
    assert len(three.read(topic)) == 2
    node.turn("enable")
    node.wait_state("connected")
    assert publish(node, "devices/a/state", "small") == 0
    # What was told a failure for its time is there all the same.
    node.wait_drained()
    assert len(three.read(topic)) == 4


def test_an_operator_switches_it_off_and_on(three, mirroring):
    topic = f"paused-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 4, 0.05).start()
    fleet.wait_more(200)
    node.turn("disable")
    end, view = time.monotonic() + 30, node.view()
    while any(shard["state"] != "paused" for shard in view["shards"]):
        assert time.monotonic() < end, view
        time.sleep(0.05)
        view = node.view()
    assert (view["state"], bool(view["why"])) == ("paused", True)
    before = len(three.read(topic))
    # Devices notice nothing, and nothing more comes into the cluster.
    fleet.wait_more(300)
    assert [row["lag_records"] for row in node.view()["streams"] if row["stream"] == "message_state"][0] >= 300
    assert (len(three.read(topic)), node.view()["transactions"]) == (before, view["transactions"])
    node.turn("enable")
    node.wait_state("connected", seconds=5)
    fleet.wait_more(100)
    node.wait_mirrored(fleet.acked())
    # One that is switched off stops in time; the next start mirrors.
    node.turn("disable")
    fleet.wait_more(100)
    fleet.end()
    begun = time.monotonic()
    node.stop()
    assert time.monotonic() - begun < 6
    node.start()
    node.wait_drained()
    judged(fleet, three, topic, "switched off and on, and stopped while off")


def test_a_stream_that_is_no_longer_mirrored(mirroring):
    """`ack = "kafka"` does not outlive the mirror: nobody waits for a cluster that nothing goes to."""

    class Nowhere:
        bootstrap = "127.0.0.1:1"

    node = mirroring(Nowhere, "gone", mirror='ack_timeout = "1s"', ack="kafka").start()
    assert publish(node, "devices/a/state", "1") == 0x80
    node.stop()
    node.config = "[[hook]]" + node.config.split("[[hook]]")[1]
    node.start()
    assert publish(node, "devices/a/state", "2") == 0


def test_the_disks_of_the_cluster_are_full(three, mirroring):
    """First that of one node, then of all: a node of Apache Kafka whose disk takes nothing ends itself."""
    topic = f"full-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 4, 0.01).start()
    fleet.wait_more(100)
    three.fill(3)
    try:
        three.wait_ended(3)
        fleet.wait_more(100)
        before = node.view()["transactions"]
        end = time.monotonic() + 60
        while node.view()["transactions"] <= before + 5:
            assert time.monotonic() < end, "two nodes with room do not take over"
            time.sleep(0.05)
        three.fill()
        # The next that writes ends; then there are too few for anybody to write.
        three.wait_ended(1, 2, count=1)
        # Devices notice nothing.
        fleet.wait_more(300)
        view = node.wait_state("waiting")
        assert [row["lag_records"] for row in view["streams"] if row["stream"] == "message_state"][0] > 100
    finally:
        three.make_room()
        for broker in (1, 2, 3):
            # Who met the full disk last is about to end.
            if three.runs(broker):
                three.kill(broker)
            three.start(broker)
    three.wait_in_sync()
    fleet.wait_more(100)
    fleet.end()
    node.wait_drained()
    judged(fleet, three, topic, "the disk of one node full, then of all")


def test_a_reload_that_the_mirror_does_not_know(mirroring):
    """Hooks may be read anew while the node runs, the mirror's streams not: nobody may come to wait for a
    cluster to which nothing of a stream goes."""

    class Nowhere:
        bootstrap = "127.0.0.1:1"

    node = mirroring(Nowhere, "known").start()
    before = node.config
    node.config += """
[[mirror.stream]]
stream = "fresh"
[[stream]]
name = "fresh"
ack = "kafka"
[[hook]]
event = "message.publish"
filter = "fresh/#"
stream = "fresh"
"""
    told = reload(node)
    assert told.returncode != 0
    assert "the stream fresh has ack" in told.stderr and "restart the node" in told.stderr, told.stderr
    # Nothing of it is in force.
    assert publish(node, "fresh/a", "1") == 0
    node.config = before + """
[[hook]]
event = "message.publish"
filter = "fresh/#"
stream = "fresh"
"""
    assert reload(node).returncode == 0
    assert publish(node, "fresh/a", "2") == 0
    assert len(read(f"127.0.0.1:{node.kafka}", "fresh")) == 1


def reload(node):
    """Reads the hooks of the node's file anew."""
    with open(f"{node.folder}/sluice.toml", "w", encoding="utf-8") as file:
        file.write(node.config)
    return node.run("ctl", "--http", f"127.0.0.1:{node.http}", "hooks", "reload")
