"""A record arrives as it was: key, value, headers, time, and in the partition where Java's producer would put
it, whatever compresses it on its way."""

import time
import uuid

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, Consumer, Producer, TopicPartition

from cluster import QUIET, xtask

pytestmark = pytest.mark.mirror

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def test_records_arrive_as_they_were(three, mirroring):
    run = uuid.uuid4().hex[:6]
    node = mirroring(three, f"unused-{run}")
    for codec in CODECS:
        node.config += f"""
[[mirror.stream]]
stream = "with_{codec}"
topic = "{codec}-{run}"
partitions = 4
compression = "{codec}"
[[stream]]
name = "with_{codec}"
partitions = 2
"""
    node.start()
    node.wait_state("connected")
    now = int(time.time() * 1000)
    records = [
        (f"lock-{at}".encode(), b"v" * 300 + b"%d" % at, [("a", b"\x00\xff"), ("a", b"2"), ("empty", b"")], now - at)
        for at in range(40)
    ] + [(b"gone", None, [], now - 100), (b"", b"empty key", [], now), (b"lock-1", b"", [("nothing", None)], now)]
    local = Producer({"bootstrap.servers": f"127.0.0.1:{node.kafka}", "linger.ms": 50}, logger=QUIET)
    for codec in CODECS:
        for key, value, headers, at in records:
            local.produce(f"with_{codec}", value, key, headers=headers, timestamp=at)
    assert local.flush(60) == 0
    end = time.monotonic() + 60
    while any(row["lag_records"] for row in node.view()["streams"]):
        assert time.monotonic() < end, node.view()
        time.sleep(0.05)
    for codec in CODECS:
        found = everything(three, f"{codec}-{run}", len(records))
        wanted = [(key, value, headers, at, by_java(key, 4)) for key, value, headers, at in records]
        assert sorted(found, key=repr) == sorted(wanted, key=repr), codec
    dumped = [
        str(path) for codec in CODECS for path in (three.folder / "n1").glob(f"{codec}-{run}-*/*.log")
        if path.stat().st_size
    ]
    said = xtask("tool", "dump-log", "--files", ",".join(dumped))
    used = {codec: f"compresscodec: {codec}" in said for codec in CODECS}
    assert all(used.values()), used


def by_java(key, count):
    """The partition that the default partitioner of Java's producer chooses: murmur2 with its seed."""
    bits = 0xFFFFFFFF
    value = (0x9747B28C ^ len(key)) & bits
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at:at + 4], "little") * 0x5BD1E995 & bits
        word = (word ^ word >> 24) * 0x5BD1E995 & bits
        value = (value * 0x5BD1E995 & bits) ^ word
    if rest := key[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & bits
    value = (value ^ value >> 13) * 0x5BD1E995 & bits
    return ((value ^ value >> 15) & 0x7FFFFFFF) % count


def everything(cluster, topic, count):
    consumer = Consumer({
        "bootstrap.servers": cluster.bootstrap, "group.id": "records", "enable.auto.commit": False,
    }, logger=QUIET)
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
        found, end = [], time.monotonic() + 60
        while len(found) < count:
            assert time.monotonic() < end, f"{len(found)} of {count}"
            for message in consumer.consume(count, 1):
                assert not message.error(), message.error()
                kind, at = message.timestamp()
                assert kind == TIMESTAMP_CREATE_TIME
                found.append((message.key(), message.value(), message.headers() or [], at, message.partition()))
        return found
    finally:
        consumer.close()
