"""What must not stop the mirror, and what must: slow and narrow ways to the cluster, a topic that takes
nothing, a data directory that is older than what was mirrored, twins with other numbers of threads."""

import base64
import json
import shutil
import threading
import time
import uuid
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from fleet import Fleet
from test_mirror_kills import judged

pytestmark = pytest.mark.mirror

SECOND = """
[[mirror.stream]]
stream = "message_other"
topic = "{topic}"
partitions = 1
[[hook]]
event = "message.publish"
filter = "devices/+/other"
stream = "message_other"
key = "{{2}}"
"""


def publish(node, topic, payloads):
    """Publishes at QoS 1 and waits until all are acknowledged."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=uuid.uuid4().hex, protocol=paho.MQTTv311)
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", node.mqtt)
    client.loop_start()
    sent = [client.publish(topic, payload, qos=1) for payload in payloads]
    for message in sent:
        message.wait_for_publish(60)
        assert message.is_published()
    client.disconnect()
    client.loop_stop()


def row(node, stream):
    return next(row for row in node.view()["streams"] if row["stream"] == stream)


def wait_row(node, stream, good, seconds=60):
    end = time.monotonic() + seconds
    while not good(found := row(node, stream)):
        assert time.monotonic() < end, f"{stream}: {found}"
        time.sleep(0.05)
    return found


def test_far_away(three, mirroring):
    """Each answer of the cluster takes 0.6 s: it is slow, and no more than that."""
    topic = f"far-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 4).start()
    three.set("delay", 0.3)
    try:
        fleet.wait_more(300)
        fleet.end()
        node.wait_drained(60)
    finally:
        three.set("pass")
    judged(fleet, three, topic, "each answer 0.6 s late")


def test_a_client_library_that_does_not_come_back(three, mirroring):
    """While a coordinator is elected librdkafka can wait for it without a bound, and does not notice when it
    is there: the client is given up, another begins, and each record is there once."""
    topic = f"orphan-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 4, 0.01).start()
    fleet.wait_more(100)
    node.wait_mirrored(100)
    three.set("orphan")
    try:
        # As long as an election lasts.
        end = time.monotonic() + 3
        while time.monotonic() < end:
            fleet.wait_more(20)
    finally:
        three.set("pass")
    fleet.wait_more(100)
    fleet.end()
    view = node.wait_drained(60)
    assert view["given_up"] > 0, view
    assert node.wait_state("connected")["away"] <= view["given_up"]
    judged(fleet, three, topic, f"{view['given_up']} clients that did not come back")


@pytest.mark.long
def test_a_narrow_way(three, mirroring):
    """A backlog that takes longer than a round may stand still is drained all the same."""
    topic = f"narrow-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    three.set("refuse")
    publish(node, "devices/narrow/state", [bytes(100_000)] * 120)
    three.set("narrow", 0.8)
    try:
        node.wait_drained(100)
    finally:
        three.set("pass")
    assert len(three.read(topic)) == 120


def test_a_topic_that_takes_nothing(three, mirroring):
    """One stream has only records that its topic refuses: the other goes on, and they are kept aside."""
    run = uuid.uuid4().hex[:6]
    poisoned = f"poisoned-{run}"
    three.create(poisoned, 1, max_message_bytes=2000)
    node = mirroring(three, f"healthy-{run}")
    node.config += SECOND.format(topic=poisoned)
    node.start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 2, 0.01).start()
    ending = threading.Event()

    def poison():
        while not ending.wait(0.2):
            publish(node, "devices/large/other", [b"x" * 5000] * 3)

    thread = threading.Thread(target=poison)
    thread.start()
    try:
        wait_row(node, "message_other", lambda row: row["dead_letters"] > 0)
        for _ in range(4):
            before = row(node, "message_state")["records"]
            wait_row(node, "message_state", lambda row, before=before: row["records"] > before + 20, 5)
    finally:
        ending.set()
        thread.join(60)
    fleet.end()
    node.wait_drained()
    found = wait_row(node, "message_other", lambda row: row["lag_records"] == 0, 120)
    assert found["records"] == 0 and found["dead_letters"] > 5, found
    judged(fleet, three, f"healthy-{run}", "beside a topic that takes nothing")


@pytest.mark.long
def test_a_topic_without_a_leader(three, mirroring):
    """It is told, and holds up no other stream."""
    run = uuid.uuid4().hex[:6]
    three.create_on(f"alone-{run}", 3)
    node = mirroring(three, f"together-{run}")
    node.config += SECOND.format(topic=f"alone-{run}")
    three.kill(3)
    try:
        node.start()
        node.wait_state("connected", seconds=90)
        publish(node, "devices/a/state", [b"1"] * 10)
        publish(node, "devices/a/other", [b"1"] * 10)
        wait_row(node, "message_state", lambda row: row["records"] == 10)
        wait_row(node, "message_other", lambda row: row["state"] == "waiting" and row["lag_records"] == 10)
    finally:
        three.start(3)
    three.wait_in_sync()
    wait_row(node, "message_other", lambda row: row["records"] == 10, 90)


def test_from_the_end(three, mirroring):
    """`start = "end"`: what was there is left out, what comes before the cluster answers is not."""
    topic = f"end-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic, mirror='start = "end"')
    with_mirror = node.config
    node.config = "[[hook]]" + with_mirror.split("[[hook]]")[1]
    node.start()
    publish(node, "devices/a/state", [b"old"] * 10)
    node.stop()
    node.config = with_mirror
    three.set("refuse")
    try:
        node.start()
        publish(node, "devices/a/state", [b"%d" % n for n in range(30)])
    finally:
        three.set("pass")
    node.wait_drained()
    assert len(three.read(topic)) == 30


def test_an_older_data_directory(three, mirroring):
    """It has grown past what was mirrored before the cluster can be asked, and is refused all the same."""
    topic = f"older-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    publish(node, "devices/a/state", [b"1"] * 10)
    node.wait_drained()
    node.stop()
    shutil.copytree(f"{node.folder}/data", f"{node.folder}/older")
    node.start()
    publish(node, "devices/a/state", [b"2"] * 10)
    node.wait_drained()
    node.stop()
    shutil.rmtree(f"{node.folder}/data")
    shutil.move(f"{node.folder}/older", f"{node.folder}/data")
    three.set("refuse")
    try:
        node.start()
        publish(node, "devices/a/state", [b"3"] * 30)
    finally:
        three.set("pass")
    view = node.wait_state("failed")
    assert "older than what was mirrored" in view["why"], view


def test_a_copy_with_fewer_threads(three, mirroring):
    """A copy of the data directory on a smaller machine fences the original, all of its threads."""
    topic = f"copy-{uuid.uuid4().hex[:6]}"
    first = mirroring(three, topic, mirror="shards = 3").start()
    first.wait_state("connected")
    everywhere = [f"devices/{number}/state" for number in range(40)]
    for device in everywhere:
        publish(first, device, [b"both"])
    first.wait_drained()
    first.stop()
    second = mirroring(three, topic, mirror="shards = 1")
    shutil.copytree(f"{first.folder}/data", f"{second.folder}/data")
    first.start()
    first.wait_state("connected")
    second.start()
    second.wait_state("connected")
    for device in everywhere:
        publish(first, device, [b"first"])
        publish(second, device, [b"second"])
    second.wait_drained()
    end = time.monotonic() + 60
    while any(shard["state"] != "fenced" for shard in first.view()["shards"]):
        assert time.monotonic() < end, first.view()
        time.sleep(0.1)
    payloads = [base64.b64decode(json.loads(value)["payload"]) for _, _, _, value, _ in three.read(topic)]
    assert sorted(payloads) == [b"both"] * 40 + [b"second"] * 40


def test_an_older_copy_with_fewer_threads(three, mirroring):
    """It is refused, and takes nothing from the original."""
    topic = f"behind-{uuid.uuid4().hex[:6]}"
    first = mirroring(three, topic, mirror="shards = 3").start()
    first.wait_state("connected")
    first.stop()
    second = mirroring(three, topic, mirror="shards = 1")
    shutil.copytree(f"{first.folder}/data", f"{second.folder}/data")
    first.start()
    everywhere = [f"devices/{number}/state" for number in range(40)]
    for device in everywhere:
        publish(first, device, [b"1"])
    first.wait_drained()
    second.start()
    view = second.wait_state("failed")
    assert "older than what was mirrored" in view["why"], view
    for device in everywhere:
        publish(first, device, [b"2"])
    view = first.wait_drained()
    assert [shard["state"] for shard in view["shards"]] == ["connected"] * 3, view
    assert not view["errors"], view
    assert len(three.read(topic)) == 80


def test_a_transaction_that_nobody_ended(three, mirroring):
    """Sluice is killed while the end of a transaction is under way: the next start ends it, and does not wait
    the minute that the cluster would take."""
    topic = f"unended-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic).start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 4, 0.01).start()
    fleet.wait_more(100)
    three.set("unended")
    try:
        # Positions are in the transaction before its end is asked for.
        end = time.monotonic() + 30
        while not any(proxy.unended for proxy in three.proxies):
            assert time.monotonic() < end, "no transaction comes to its end"
            time.sleep(0.02)
        node.kill()
    finally:
        three.set("pass")
    begun = time.monotonic()
    node.start()
    node.wait_state("connected", seconds=25)
    took = time.monotonic() - begun
    fleet.wait_more(100)
    fleet.end()
    node.wait_drained(30)
    judged(fleet, three, topic, f"a transaction left open, ended by the next start within {took:.1f} s")


def test_records_that_the_client_does_not_take(three, mirroring):
    """A burst of them in one partition keeps no other waiting, and each is put aside."""
    run = uuid.uuid4().hex[:6]
    node = mirroring(three, f"small-{run}", mirror='[mirror.client]\n"message.max.bytes" = 2000')
    node.config += SECOND.format(topic=f"behind-{run}")
    three.set("refuse")
    try:
        node.start()
        publish(node, "devices/large/state", [b"x" * 5000] * 300)
        publish(node, "devices/a/other", [b"1"] * 10)
    finally:
        three.set("pass")
    # In the order of the configuration it comes behind the others.
    wait_row(node, "message_other", lambda row: row["records"] == 10)
    aside = row(node, "message_state")["dead_letters"]
    assert aside < 150, f"{aside} records were put aside first"
    found = wait_row(node, "message_state", lambda row: row["lag_records"] == 0, 120)
    assert (found["dead_letters"], found["records"]) == (300, 0), found


def test_a_partition_that_cannot_be_read(three, mirroring):
    """The others of its stream go on, and it is told."""
    topic = f"broken-{uuid.uuid4().hex[:6]}"
    node = mirroring(three, topic)
    three.set("refuse")
    try:
        node.start()
        for device in range(30):
            publish(node, f"devices/{device}/state", [b"1" * 200] * 5)
        before = row(node, "message_state")["partitions"]
        assert all(partition["flushed"] > 0 for partition in before), before
        node.stop()
        (segment,) = Path(node.folder, "data").rglob("message_state-0/00000000000000000000.log")
        with open(segment, "r+b") as file:
            # Behind the head of the first batch: within its first record.
            file.seek(64)
            file.write(b"\xff" * 40)
        node.start()
    finally:
        three.set("pass")

    def others_through(found):
        return found["state"] == "failed" and all(
            partition["lag_records"] == 0 for partition in found["partitions"][1:]
        )

    found = wait_row(node, "message_state", others_through)
    assert "partition 0" in found["why"] and found["partitions"][0]["lag_records"] > 0, found
    publish(node, "devices/7/state", [b"2"])
    sent = sum(partition["flushed"] for partition in before[1:])
    assert len(three.read(topic)) >= sent


def test_the_lag_in_time(three, mirroring):
    """It is the age of what waits, from the first moment on, and nothing of what has been mirrored."""
    node = mirroring(three, f"late-{uuid.uuid4().hex[:6]}")

    def age(since):
        return (time.monotonic() - since) * 1000

    three.set("refuse")
    try:
        node.start()
        begun = time.monotonic()
        publish(node, "devices/a/state", [b"1"])
        found = wait_row(node, "message_state", lambda row: row["lag_ms"] >= 1500, 20)
        assert found["lag_ms"] <= age(begun), found
    finally:
        three.set("pass")
    node.wait_drained()
    assert row(node, "message_state")["lag_ms"] == 0
    idle = time.monotonic()
    while age(idle) < 3000:
        assert row(node, "message_state")["lag_ms"] == 0
        time.sleep(0.2)
    three.set("refuse")
    try:
        begun = time.monotonic()
        publish(node, "devices/a/state", [b"2"])
        found = wait_row(node, "message_state", lambda row: row["lag_records"] == 1)
        assert found["lag_ms"] <= age(begun), found
    finally:
        three.set("pass")
