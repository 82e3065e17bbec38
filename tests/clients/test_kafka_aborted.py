"""What Kafka producers write and MQTT clients must not see, and transactions that a kill cuts off."""

import paho.mqtt.client as mqtt
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from door import Door, unique
from test_paho import Client

HOOKED, PLAIN = "devices/lock-1/state", "elsewhere/x"
STREAMS = {"message_state": HOOKED, "mqtt.default": PLAIN}


def at(node):
    return Door(f"127.0.0.1:{node.kafka}", node)


def write(producer, door, mark):
    """Into every partition of both streams: the mark, and a copy of what MQTT clients published, as
    the record that would be taken for a message if anything ever were."""
    copies = {stream: door.read(stream, "read_uncommitted")[0] for stream in STREAMS}
    for stream, (_, _, key, value) in copies.items():
        count = len(producer.list_topics(stream, 20).topics[stream].partitions)
        for partition in range(count):
            producer.produce(stream, mark, partition=partition, key=b"lock-1")
            producer.produce(stream, value, partition=partition, key=key)
    assert producer.flush(30) == 0


def transactional(door, name):
    producer = Producer(door.config(transactional_id=name, linger_ms=0))
    producer.init_transactions(30)
    return producer


class Watch:
    """MQTT subscribers of everything and of the streams' own topics, and the writer they hear."""

    FILTERS = ("#", "devices/+/state", "elsewhere/#", "$share/group/#")

    def __init__(self, node, number):
        self.readers = []
        for index, topic in enumerate(self.FILTERS):
            reader = Client(node, f"r{number}-{index}", mqtt.MQTTv5)
            reader.subscribe(topic, qos=1)
            self.readers.append(reader)
        self.writer = Client(node, f"w{number}", mqtt.MQTTv5)
        self.sent = []

    def publish(self, mark):
        for topic in STREAMS.values():
            payload = f"{mark} {topic}".encode()
            self.writer.publish(topic, payload, qos=1)
            self.sent.append((topic, payload))

    def heard(self):
        """Every reader heard what was published, in that order, and nothing else."""
        for topic, reader in zip(self.FILTERS, self.readers):
            wanted = [
                pair for pair in self.sent
                if topic in ("#", "$share/group/#") or pair[0].startswith(topic.split("/")[0])
            ]
            reader.received.wait(len(wanted))
            assert pairs(reader) == wanted, topic

    def leave(self):
        for client in [*self.readers, self.writer]:
            client.leave()


def pairs(reader):
    return [(message.topic, message.payload) for message in list(reader.received.messages)]


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_mqtt_never_shows_what_kafka_wrote(node, end):
    door = at(node)
    offline = Client(node, "offline", mqtt.MQTTv5, clean=False, expiry=600)
    offline.subscribe("#", qos=2)
    offline.leave()

    watch = Watch(node, 1)
    watch.publish("first")
    plain = Producer(door.config(linger_ms=0))
    write(plain, door, b"plain")
    watch.publish("after plain")
    producer = transactional(door, unique("t"))
    producer.begin_transaction()
    write(producer, door, b"committed")
    watch.publish("inside")
    producer.commit_transaction(30)
    producer.begin_transaction()
    write(producer, door, b"aborted")
    producer.abort_transaction(30)
    watch.publish("after abort")
    producer.begin_transaction()
    write(producer, door, b"open")
    # What comes last proves that nothing was on its way before it.
    watch.publish("last")
    watch.heard()
    watch.leave()
    sent = watch.sent

    getattr(node, end)()
    node.start()
    door = at(node)
    watch = Watch(node, 2)
    watch.publish("restarted")
    transactional(door, unique("t"))
    write(Producer(door.config(linger_ms=0)), door, b"later")
    watch.publish("very last")
    watch.heard()
    watch.leave()
    sent += watch.sent

    again = Client(node, "offline", mqtt.MQTTv5, clean=False, expiry=600)
    assert again.session_present
    again.received.wait(len(sent))
    again.publish("bell", b"", qos=1)
    again.received.wait(len(sent) + 1)
    assert pairs(again) == [*sent, ("bell", b"")]
    again.leave()
    # Kafka consumers saw all of it meanwhile, but for what was aborted.
    for stream in STREAMS:
        values = [value for *_, value in door.read(stream, "read_uncommitted")]
        assert {b"plain", b"committed", b"aborted", b"open", b"later"} <= set(values)


def test_a_kill_inside_a_transaction(node):
    door, name, group = at(node), unique("t"), unique("group")
    topic, source = door.topic("cut", 3), door.topic("source")
    door.produce(source, [b"x"] * 10)
    old = transactional(door, name)
    committed = []
    for batch in range(4):
        old.begin_transaction()
        for partition in range(3):
            value = b"%d-%d" % (batch, partition)
            old.produce(topic, value, partition=partition)
            if batch != 2:
                committed.append(value)
        if batch == 2:
            assert old.flush(30) == 0
            old.abort_transaction(30)
        else:
            from_source(old, door, group, source, batch)
            old.commit_transaction(30)
    old.begin_transaction()
    for partition in range(3):
        old.produce(topic, b"open-%d" % partition, partition=partition)
    from_source(old, door, group, source, 9)
    assert old.flush(30) == 0
    # Behind the open transaction: hidden until that one has its end.
    door.produce(topic, [b"behind"], partition=0)
    assert values(door, topic) == sorted(committed)

    for _ in range(2):
        node.kill()
        node.start()
        assert values(door, topic) == sorted(committed)
        uncommitted = [value for *_, value in door.read(topic, "read_uncommitted")]
        assert uncommitted.count(b"open-1") == uncommitted.count(b"behind") == 1
        assert uncommitted.count(b"2-0") == 1

    fresh = transactional(door, name)
    assert values(door, topic) == sorted([*committed, b"behind"])
    assert door.committed(group, source) == [3], "of the last commit, not of the open transaction"
    with pytest.raises(KafkaException) as fenced:
        old.commit_transaction(30)
    assert fenced.value.args[0].fatal() or fenced.value.args[0].txn_requires_abort(), fenced.value
    fresh.begin_transaction()
    for partition in range(3):
        fresh.produce(topic, b"new", partition=partition)
    fresh.commit_transaction(30)
    node.kill()
    node.start()
    assert values(door, topic) == sorted([*committed, b"behind", *[b"new"] * 3])
    assert door.committed(group, source) == [3]


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_what_was_aborted_is_left_out_of_what_is_sent_from_files(node, end):
    """After a restart nothing is in the tail cache: every batch leaves from the file in which it lies."""
    door = at(node)
    topic = door.topic("stored", 2, segment_bytes=32 << 10)
    writers = [transactional(door, unique("t")) for _ in range(2)]
    plain = Producer(door.config(linger_ms=0))
    everything, aborted = {}, set()

    def put(producer, value, partition, fate=None):
        def placed(error, message):
            assert error is None, error
            place = message.partition(), message.offset()
            everything[place] = value
            if fate is False:
                aborted.add(place)

        producer.produce(topic, value, partition=partition, on_delivery=placed)

    for number in range(12):
        fates = number % 2 == 0, number % 3 == 0
        for writer in writers:
            writer.begin_transaction()
        # Open at the same time, in the same partitions, batch by batch.
        for step in range(6):
            for at_, (writer, fate) in enumerate(zip(writers, fates)):
                for partition in range(2):
                    value = b"%d-%d-%d-%d " % (number, step, at_, partition)
                    put(writer, value + b"x" * 700, partition, fate)
                assert writer.flush(30) == 0
            put(plain, b"plain %d-%d" % (number, step), step % 2)
            assert plain.flush(30) == 0
        for writer, fate in zip(writers, fates):
            writer.commit_transaction(30) if fate else writer.abort_transaction(30)
    kept = {place: value for place, value in everything.items() if place not in aborted}
    assert len(aborted) > 100 and len(kept) > 100

    def seen(isolation):
        rows = [((partition, offset), value) for partition, offset, _, value in door.read(topic, isolation)]
        for partition in range(2):
            offsets = [offset for (of, offset), _ in rows if of == partition]
            assert offsets == sorted(set(offsets)), "in order, each once"
        return dict(rows)

    for _ in range(2):
        assert seen("read_committed") == kept
        assert seen("read_uncommitted") == everything
        getattr(node, end)()
        node.start()
        door = at(node)
    assert seen("read_uncommitted") == everything
    # From the middle of what was aborted on, too.
    for partition, first in sorted(aborted)[:: len(aborted) // 8]:
        behind = {place: value for place, value in kept.items() if place >= (partition, first) and place[0] == partition}
        assert from_offset(door, topic, partition, first, len(behind)) == behind


def from_offset(door, topic, partition, offset, count):
    """So many committed records from there on."""
    consumer = Consumer(door.config(group_id=unique("reader"), enable_auto_commit=False))
    try:
        consumer.assign([TopicPartition(topic, partition, offset)])
        found = {}
        while len(found) < count:
            message = consumer.poll(30)
            assert message is not None, f"{len(found)} of {count}"
            found[message.partition(), message.offset()] = message.value()
        return found
    finally:
        consumer.close()


def from_source(producer, door, group, source, offset):
    """The group's place, as part of the transaction."""
    consumer = Consumer(door.config(group_id=group))
    try:
        metadata = consumer.consumer_group_metadata()
        producer.send_offsets_to_transaction([TopicPartition(source, 0, offset)], metadata, 30)
    finally:
        consumer.close()


def values(door, topic):
    return sorted(value for *_, value in door.read(topic))
