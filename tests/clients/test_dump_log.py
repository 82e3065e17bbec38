"""Apache Kafka's dump-log tool reads our segments and finds nothing wrong with their indexes."""

import pathlib
import random
import re

import paho.mqtt.client as mqtt
import pytest
from confluent_kafka import Producer

from door import Door, unique
from programs import tool
from test_paho import Client

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("tools")]


def segments(folder, topic, ending):
    found = sorted(path for path in folder.rglob(f"*{ending}") if path.parent.name == f"{topic}-0")
    assert found, f"no {ending} of {topic} in {sorted(folder.rglob('*'))[:50]}"
    return ",".join(map(str, found)), len(found)


def dump(files):
    """The tool's findings; it exits with 0 whatever it finds, and says what is wrong in words."""
    said = tool("dump-log", "--files", files, "--deep-iteration", "--print-data-log")
    for wrong in ("Found timestamp mismatch", "Non-consecutive offsets", "isvalid: false", "Mismatches in", "Exception"):
        assert wrong not in said, f"{wrong}: {said[-3000:]}"
    return said


def test_dump_log_reads_our_segments(fresh):
    node = fresh().start()
    door = Door(f"127.0.0.1:{node.kafka}", node)
    topic = door.topic("dumped", 1, segment_bytes=1 << 20)
    chance = random.Random(1)
    values = [b"value %d %0200x" % (number, chance.getrandbits(800)) for number in range(3000)]
    for at, codec in enumerate(["none", "gzip", "snappy", "lz4", "zstd"]):
        config = {"compression_type": codec, "batch_num_messages": 20, "enable_idempotence": at % 2 == 0}
        door.produce(topic, values, key=b"k", **config)
    producer = Producer(door.config(transactional_id=unique("t")))
    producer.init_transactions(30)
    for commit in (True, False):
        producer.begin_transaction()
        producer.produce(topic, b"in a transaction")
        assert producer.flush(30) == 0
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    writer = Client(node, "filler", mqtt.MQTTv311)
    for number in range(500):
        info = writer.paho.publish("devices/lock-1/state", str(number), qos=1)
    info.wait_for_publish(30)
    writer.leave()
    assert node.stop() == 0
    folder = pathlib.Path(node.folder) / "data"

    logs, count = segments(folder, topic, ".log")
    assert count > 1, "the topic has one segment only"
    said = dump(logs)
    assert len(re.findall(r"^\| offset: \d+ .*payload: value ", said, re.M)) == 5 * 3000
    assert len(re.findall(r"^\| offset: .* endTxnMarker: COMMIT", said, re.M)) == 1
    assert len(re.findall(r"^\| offset: .* endTxnMarker: ABORT", said, re.M)) == 1
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        assert f"compresscodec: {codec}" in said
    offsets = [int(found) for found in re.findall(r"^\| offset: (\d+) ", said, re.M)]
    assert offsets == list(range(len(offsets)))

    for ending in (".index", ".timeindex"):
        files, count = segments(folder, topic, ending)
        checked = tool("dump-log", "--files", files, "--index-sanity-check")
        assert checked.count("passed sanity check") == count, checked
        dump(files)
    aborted, _ = segments(folder, topic, ".txnindex")
    assert "producerId" in dump(aborted)

    states = [path for path in folder.rglob("00000000000000000000.log") if path.parent.name.startswith("message_state-")]
    said = dump(",".join(map(str, states)))
    assert len(re.findall(r'^\| offset: \d+ .*payload: \{"client_id":"filler"', said, re.M)) == 500
