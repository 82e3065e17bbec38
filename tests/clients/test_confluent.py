"""confluent-kafka (librdkafka, current) against the Kafka front door."""

import time

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition,
)
from confluent_kafka.admin import (
    AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType,
)

from door import unique

pytestmark = pytest.mark.kafka


def take(consumer, count, seconds=30):
    """That many records, as they come."""
    records, end = [], time.monotonic() + seconds
    while len(records) < count and time.monotonic() < end:
        message = consumer.poll(0.5)
        if message is not None:
            assert message.error() is None, message.error()
            records.append(message)
    assert len(records) == count, f"{len(records)} of {count} records"
    return records


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_produce(door, acks):
    topic = door.topic("confluent", 3)
    values = [b"%d" % number for number in range(300)]
    places = door.produce(topic, values, acks=acks)
    end = time.monotonic() + 20
    while len(records := door.read(topic)) < 300 and acks == "0" and time.monotonic() < end:
        pass
    assert sorted(value for *_, value in records) == sorted(values)
    if acks != "0":
        assert sorted((p, o) for p, o, _, _ in records) == sorted(places)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed(door, codec):
    topic = door.topic("codec", 1)
    values = [b"a value that compresses well, number %d " % number * 10 for number in range(500)]
    door.produce(topic, values, compression_type=codec)
    assert [value for *_, value in door.read(topic)] == values


def test_headers_keys_and_timestamps_come_back(door):
    topic = door.topic("headers")
    producer = Producer(door.config())
    producer.produce(topic, b"v", key=b"k", headers=[("a", b"1"), ("a", None)], timestamp=1574744434000)
    producer.produce(topic, None, key=b"k")
    assert producer.flush(30) == 0
    consumer = Consumer(door.config(group_id=unique("g")))
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    first, second = take(consumer, 2)
    consumer.close()
    assert (first.key(), first.value()) == (b"k", b"v")
    assert first.headers() == [("a", b"1"), ("a", None)]
    assert first.timestamp()[1] == 1574744434000
    assert second.value() is None


def test_a_group_commits_and_resumes(door):
    topic, group = door.topic("resume", 2), unique("resume")
    door.produce(topic, [b"%d" % number for number in range(10)], partition=0)
    door.produce(topic, [b"%d" % number for number in range(10, 20)], partition=1)
    config = door.config(group_id=group, auto_offset_reset="earliest", enable_auto_commit=False)
    first = Consumer(config)
    first.subscribe([topic])
    seen = take(first, 20)
    first.commit(offsets=[TopicPartition(topic, 0, 7, metadata="why"), TopicPartition(topic, 1, 10)], asynchronous=False)
    first.close()
    assert len({message.value() for message in seen}) == 20
    assert door.committed(group, topic, 2) == [7, 10]
    second = Consumer(config)
    assert second.committed([TopicPartition(topic, 0)], 30)[0].metadata == "why"
    second.subscribe([topic])
    assert [message.value() for message in take(second, 3)] == [b"7", b"8", b"9"]
    second.close()


def test_auto_commit(door):
    topic, group = door.topic("auto"), unique("auto")
    door.produce(topic, [b"x"] * 5)
    consumer = Consumer(door.config(group_id=group, auto_offset_reset="earliest"))
    consumer.subscribe([topic])
    take(consumer, 5)
    consumer.close()
    assert door.committed(group, topic) == [5]


def test_seek_by_time(door):
    topic = door.topic("time")
    producer = Producer(door.config())
    base = int(time.time() * 1000) - 100_000
    for number in range(100):
        producer.produce(topic, b"%d" % number, timestamp=base + number * 1000)
        if number % 10 == 9:
            assert producer.flush(30) == 0
    consumer = Consumer(door.config(group_id=unique("g")))
    ask = [TopicPartition(topic, 0, base + 41_500)]
    found = consumer.offsets_for_times(ask, 30)
    assert found[0].offset == 42
    consumer.assign(found)
    assert take(consumer, 1)[0].value() == b"42"
    consumer.seek(TopicPartition(topic, 0, 10))
    assert take(consumer, 1)[0].value() == b"10"
    late = consumer.offsets_for_times([TopicPartition(topic, 0, base + 10_000_000)], 30)
    assert late[0].offset == -1
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), 30) == (0, 100)
    consumer.close()


def test_an_offset_out_of_range_resets(door):
    topic = door.topic("range")
    door.produce(topic, [b"a", b"b"])
    consumer = Consumer(door.config(group_id=unique("g"), auto_offset_reset="earliest"))
    consumer.assign([TopicPartition(topic, 0, 1000)])
    assert take(consumer, 1)[0].value() == b"a"
    consumer.close()


def test_a_batch_larger_than_the_fetch_is_returned_whole(door):
    topic = door.topic("large")
    door.produce(topic, [b"x" * 200_000, b"end"])
    config = door.config(group_id=unique("g"), max_partition_fetch_bytes=1000, fetch_max_bytes=1_000_000)
    consumer = Consumer(config)
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    assert [len(message.value()) for message in take(consumer, 2)] == [200_000, 3]
    consumer.close()


def test_a_fetch_waits_for_the_commit(door):
    """A record that arrives while a fetch waits is delivered by the wake, not by the wait's end."""
    topic = door.topic("wake")
    consumer = Consumer(door.config(group_id=unique("g"), fetch_wait_max_ms=5000))
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    assert consumer.poll(1) is None
    producer = Producer(door.config(linger_ms=0))
    producer.list_topics(topic, 30)
    delays = []
    for _ in range(5):
        start = time.monotonic()
        producer.produce(topic, b"x")
        assert producer.flush(30) == 0
        take(consumer, 1)
        delays.append(time.monotonic() - start)
    consumer.close()
    assert min(delays) < 0.5, delays


def test_idempotent_produce(door):
    topic = door.topic("idempotent", 2)
    values = [b"%d" % number for number in range(2000)]
    places = door.produce(topic, values, enable_idempotence=True, batch_num_messages=50)
    records = door.read(topic)
    assert sorted(value for *_, value in records) == sorted(values)
    assert len(set(places)) == len(values)


def test_transactions_commit_and_abort(door):
    topic = door.topic("txn", 2)
    producer = Producer(door.config(transactional_id=unique("t")))
    producer.init_transactions(30)
    for number in range(6):
        producer.begin_transaction()
        for partition in (0, 1):
            producer.produce(topic, b"%d" % number, partition=partition)
        assert producer.flush(30) == 0
        if number % 2:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    committed = sorted((p, value) for p, _, _, value in door.read(topic))
    assert committed == [(p, b"%d" % n) for p in (0, 1) for n in (0, 2, 4)]
    assert len(door.read(topic, "read_uncommitted")) == 12


def test_an_open_transaction_holds_back_read_committed(door):
    topic = door.topic("open")
    producer = Producer(door.config(transactional_id=unique("t")))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"held")
    assert producer.flush(30) == 0
    door.produce(topic, [b"plain"])
    reader = Consumer(door.config(group_id=unique("g"), isolation_level="read_committed"))
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    assert reader.poll(1.5) is None
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), 30)[0] == 0
    producer.commit_transaction(30)
    assert [message.value() for message in take(reader, 2)] == [b"held", b"plain"]
    reader.close()


def test_a_second_producer_fences_the_first(door):
    topic, name = door.topic("fence"), unique("t")
    first = Producer(door.config(transactional_id=name))
    first.init_transactions(30)
    first.begin_transaction()
    first.produce(topic, b"zombie")
    assert first.flush(30) == 0
    second = Producer(door.config(transactional_id=name))
    second.init_transactions(30)
    second.begin_transaction()
    second.produce(topic, b"heir")
    second.commit_transaction(30)
    with pytest.raises(KafkaException) as caught:
        first.commit_transaction(30)
    assert caught.value.args[0].name() in ("_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH")
    assert [value for *_, value in door.read(topic)] == [b"heir"]


def test_consume_transform_produce_once(door):
    """Offsets committed within the transaction: an aborted one takes them back."""
    source, sink, group = door.topic("source"), door.topic("sink"), unique("eos")
    door.produce(source, [b"%d" % number for number in range(30)])
    producer = Producer(door.config(transactional_id=unique("t")))
    producer.init_transactions(30)
    abort = True
    done = 0
    while done < 30:
        config = door.config(
            group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, isolation_level="read_committed"
        )
        consumer = Consumer(config)
        consumer.subscribe([source])
        batch = take(consumer, 10)
        producer.begin_transaction()
        for message in batch:
            producer.produce(sink, message.value())
        places = consumer.position([TopicPartition(source, 0)])
        producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata(), 30)
        if abort:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            done += 10
        abort = not abort
        consumer.close()
    assert [value for *_, value in door.read(sink)] == [b"%d" % number for number in range(30)]
    assert door.committed(group, source) == [30]


def test_admin(door):
    admin = door.admin()
    name = unique("admin")
    admin.create_topics([NewTopic(name, 2, 1, config={"retention.ms": "3600000"})])[name].result(30)
    with pytest.raises(KafkaException) as caught:
        admin.create_topics([NewTopic(name, 2, 1)])[name].result(30)
    assert caught.value.args[0].name() == "TOPIC_ALREADY_EXISTS"
    admin.create_partitions([NewPartitions(name, 4)])[name].result(30)
    described = admin.list_topics(name, 30).topics[name]
    assert len(described.partitions) == 4

    resource = ConfigResource(ResourceType.TOPIC, name)
    configs = admin.describe_configs([resource])[resource].result(30)
    assert configs["retention.ms"].value == "3600000"
    change = ConfigResource(
        ResourceType.TOPIC, name,
        incremental_configs=[ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET)],
    )
    admin.incremental_alter_configs([change])[change].result(30)
    assert admin.describe_configs([resource])[resource].result(30)["retention.ms"].value == "7200000"

    door.produce(name, [b"x"] * 10, partition=0)
    where = TopicPartition(name, 0)
    ends = admin.list_offsets({where: OffsetSpec.latest()})[where].result(30)
    assert ends.offset == 10
    gone = admin.delete_records([TopicPartition(name, 0, 4)])
    assert next(iter(gone.values())).result(30).low_watermark == 4
    assert [offset for p, offset, _, _ in door.read(name)] == [4, 5, 6, 7, 8, 9]

    admin.delete_topics([name])[name].result(30)
    end = time.monotonic() + 30
    while name in admin.list_topics(timeout=30).topics:
        assert time.monotonic() < end, "deleted and still listed after 30 s"


def test_admin_of_groups(door):
    admin, topic, group = door.admin(), door.topic("groups"), unique("groups")
    door.produce(topic, [b"x"] * 10)
    consumer = Consumer(door.config(group_id=group, auto_offset_reset="earliest", enable_auto_commit=False))
    consumer.subscribe([topic])
    take(consumer, 10)
    consumer.commit(asynchronous=False)
    groups = admin.list_consumer_groups(request_timeout=30).result(30)
    assert group in {listed.group_id for listed in groups.valid}
    described = admin.describe_consumer_groups([group])[group].result(30)
    assert described.state.name == "STABLE"
    assert len(described.members) == 1
    assert described.members[0].assignment.topic_partitions[0].topic == topic
    consumer.close()

    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])
    admin.alter_consumer_group_offsets([moved])[group].result(30)
    asked = ConsumerGroupTopicPartitions(group)
    offsets = admin.list_consumer_group_offsets([asked])[group].result(30)
    assert [(found.topic, found.offset) for found in offsets.topic_partitions] == [(topic, 3)]
    admin.delete_consumer_groups([group])[group].result(30)
    groups = admin.list_consumer_groups(request_timeout=30).result(30)
    assert group not in {listed.group_id for listed in groups.valid}


def test_describe_cluster(door):
    cluster = door.admin().describe_cluster().result(30)
    assert len(cluster.nodes) == 1
    host, port = door.bootstrap.split(":")
    assert (cluster.nodes[0].host, str(cluster.nodes[0].port)) == (host, port)


def test_static_members_keep_their_partitions(door):
    topic, group = door.topic("static", 2), unique("static")
    config = door.config(group_id=group, auto_offset_reset="earliest", group_instance_id="one", session_timeout_ms=10000)
    changes = []

    def assigned(_consumer, partitions):
        changes.append(sorted(p.partition for p in partitions))

    for _ in range(2):
        consumer = Consumer(config)
        consumer.subscribe([topic], on_assign=assigned)
        end = time.monotonic() + 30
        while not changes and time.monotonic() < end:
            consumer.poll(0.2)
        assert changes.pop() == [0, 1]
        member = consumer.memberid()
        consumer.close()
        assert member
    described = door.admin().describe_consumer_groups([group])[group].result(30)
    assert [found.group_instance_id for found in described.members] == ["one"]
