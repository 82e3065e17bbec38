"""kafka-python (current) against the Kafka front door."""

import time

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from door import unique

pytestmark = pytest.mark.kafka


def consumer(door, *topics, **config):
    config = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **config}
    return KafkaConsumer(*topics, bootstrap_servers=door.bootstrap, **config)


def take(reader, count, seconds=30):
    records, end = [], time.monotonic() + seconds
    while len(records) < count and time.monotonic() < end:
        for found in reader.poll(timeout_ms=300, max_records=count - len(records)).values():
            records += found
    assert len(records) == count, f"{len(records)} of {count} records"
    return records


@pytest.mark.parametrize("codec", [None, "gzip"])
def test_produce_and_consume_alone(door, codec):
    topic = door.topic("python", 1)
    producer = KafkaProducer(bootstrap_servers=door.bootstrap, compression_type=codec, acks="all")
    places = [producer.send(topic, b"%d" % number) for number in range(500)]
    producer.flush(30)
    assert [place.get(30).offset for place in places] == list(range(500))
    producer.close()
    reader = consumer(door)
    reader.assign([TopicPartition(topic, 0)])
    reader.seek_to_beginning()
    assert [record.value for record in take(reader, 500)] == [b"%d" % number for number in range(500)]
    reader.close()


def test_a_group_commits_and_resumes(door):
    topic, group = door.topic("python"), unique("python")
    door.produce(topic, [b"%d" % number for number in range(20)])
    first = consumer(door, topic, group_id=group)
    take(first, 12)
    first.commit({TopicPartition(topic, 0): OffsetAndMetadata(12, "why", -1)})
    assert first.committed(TopicPartition(topic, 0)) == 12
    first.close()
    second = consumer(door, topic, group_id=group)
    assert [record.value for record in take(second, 8)] == [b"%d" % number for number in range(12, 20)]
    second.close()


def test_seek_by_time(door):
    topic = door.topic("python")
    producer = KafkaProducer(bootstrap_servers=door.bootstrap, batch_size=0)
    base = int(time.time() * 1000) - 100_000
    for number in range(20):
        producer.send(topic, b"%d" % number, timestamp_ms=base + number * 1000).get(30)
    producer.close()
    reader = consumer(door)
    part = TopicPartition(topic, 0)
    reader.assign([part])
    found = reader.offsets_for_times({part: base + 11_500})[part]
    assert (found.offset, found.timestamp) == (12, base + 12_000)
    assert reader.offsets_for_times({part: base + 1_000_000})[part] is None
    reader.seek(part, found.offset)
    assert take(reader, 1)[0].value == b"12"
    assert (reader.beginning_offsets([part])[part], reader.end_offsets([part])[part]) == (0, 20)
    reader.close()


def test_idempotent_produce(door):
    topic = door.topic("python")
    producer = KafkaProducer(bootstrap_servers=door.bootstrap, enable_idempotence=True, batch_size=200)
    for number in range(500):
        producer.send(topic, b"%d" % number)
    producer.flush(30)
    producer.close()
    assert [value for *_, value in door.read(topic)] == [b"%d" % number for number in range(500)]


def test_transactions(door):
    topic, source, group = door.topic("python"), door.topic("python"), unique("python")
    producer = KafkaProducer(bootstrap_servers=door.bootstrap, transactional_id=unique("t"))
    producer.init_transactions()
    for number in range(4):
        producer.begin_transaction()
        producer.send(topic, b"%d" % number)
        where = {TopicPartition(source, 0): OffsetAndMetadata(number + 1, "", -1)}
        producer.send_offsets_to_transaction(where, group)
        producer.flush(30)
        if number % 2:
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    producer.close()
    reader = consumer(door, isolation_level="read_committed")
    reader.assign([TopicPartition(topic, 0)])
    assert [record.value for record in take(reader, 2)] == [b"0", b"2"]
    reader.close()
    assert len(door.read(topic, "read_uncommitted")) == 4
    assert door.committed(group, source) == [3]


def test_admin(door):
    admin = KafkaAdminClient(bootstrap_servers=door.bootstrap)
    name, group = unique("python-admin"), unique("python-admin")
    admin.create_topics({name: {"num_partitions": 2, "replication_factor": 1}})
    assert name in admin.list_topics()
    admin.create_partitions({name: 3})
    described = admin.describe_topics([name])
    assert len(described[0]["partitions"]) == 3
    door.produce(name, [b"x"] * 10, partition=0)
    reader = consumer(door, name, group_id=group)
    take(reader, 10)
    reader.commit()
    reader.close()
    assert group in str(admin.list_groups())
    offsets = admin.list_group_offsets(group)
    assert str(offsets).count("10") >= 1, offsets
    admin.delete_groups([group])
    assert group not in str(admin.list_groups())
    admin.delete_topics([name])
    admin.close()
