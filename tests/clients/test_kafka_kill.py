"""kill -9 under the load of Kafka clients, again and again: nothing acknowledged is lost, nothing comes
twice to who reads committed, no committed offset is lost. Three kills here; `cargo xtask soak kafka-kill`
does twenty."""

import os
import random
import threading
import time

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from door import Door, unique

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("kill")]

KILLS = int(os.environ.get("SLUICE_KILLS", "3"))
SEED = int(os.environ.get("SLUICE_SEED", "0")) or random.SystemRandom().getrandbits(32)
PARTITIONS = 3
# A producer that has lost its node for a while goes on as soon as it is back. librdkafka 2.16 begins anew
# from its bootstrap addresses when all brokers are gone (KIP-899), and then waits for ever for the group's
# coordinator that it remembers, without a request on the wire: with a single broker that is left out.
PATIENT = {"reconnect_backoff_ms": 20, "reconnect_backoff_max_ms": 200, "metadata_recovery_strategy": "none"}


class Worker(threading.Thread):
    """A client that works until it is told to end; what kills it fails the test."""

    def __init__(self, door):
        super().__init__(daemon=True)
        self.door, self.ending, self.fault = door, threading.Event(), None

    def run(self):
        try:
            self.work()
        except BaseException as fault:
            self.fault = fault

    def end(self, seconds):
        self.ending.set()
        self.join(seconds)
        assert not self.is_alive(), f"{type(self).__name__} does not come to its end"
        if self.fault:
            raise self.fault


class Idempotent(Worker):
    """Produces rising numbers, number n to partition n % PARTITIONS."""

    def __init__(self, door, topic):
        super().__init__(door)
        self.topic, self.acked, self.sent, self.errors = topic, [], 0, []

    def work(self):
        config = self.door.config(enable_idempotence=True, linger_ms=2, **PATIENT, message_timeout_ms=120_000)
        producer = Producer(config)

        def report(error, message):
            if error:
                self.errors.append(error)
            else:
                self.acked.append((message.partition(), message.offset(), int(message.value())))

        while not self.ending.is_set():
            if len(producer) < 500:
                producer.produce(
                    self.topic, b"%d" % self.sent, partition=self.sent % PARTITIONS, on_delivery=report
                )
                self.sent += 1
            # A few hundred a second, in spurts: who copies them in transactions must keep up.
            producer.poll(0)
            if self.sent % 50 == 0 or len(producer) >= 500:
                self.ending.wait(0.05)
        assert producer.flush(90) == 0, "the idempotent producer never got its answers"


class Transactional(Worker):
    """Writes batches, each in a transaction of its own; every fourth is aborted."""

    SIZE = 6

    def __init__(self, door, topic):
        super().__init__(door)
        self.topic, self.id = topic, unique("t")
        self.committed, self.never, self.unsure = set(), set(), set()
        self.next = 0

    def work(self):
        while not self.ending.is_set():
            config = self.door.config(transactional_id=self.id, linger_ms=0, **PATIENT)
            producer = Producer(config)
            try:
                producer.init_transactions(60)
                while not self.ending.is_set():
                    self.batch(producer)
            except KafkaException:
                # What was open is aborted by the next producer of the id.
                continue

    def batch(self, producer):
        batch = self.next
        self.next += 1
        self.never.add(batch)
        producer.begin_transaction()
        for part in range(self.SIZE):
            producer.produce(self.topic, b"%d-%d" % (batch, part), partition=part % PARTITIONS)
        if batch % 4 == 3:
            assert producer.flush(60) == 0
            producer.abort_transaction(60)
            return
        self.never.discard(batch)
        self.unsure.add(batch)
        producer.commit_transaction(60)
        self.unsure.discard(batch)
        self.committed.add(batch)


class Transformer(Worker):
    """Copies a topic exactly once: what it writes and how far it has read are one transaction."""

    def __init__(self, door, source, sink, group):
        super().__init__(door)
        self.source, self.sink, self.group, self.id = source, sink, group, unique("t")
        self.copied = 0

    def work(self):
        while not self.ending.is_set():
            producer = Producer(self.door.config(transactional_id=self.id, linger_ms=0, **PATIENT))
            consumer = Consumer(self.door.config(
                group_id=self.group, auto_offset_reset="earliest", enable_auto_commit=False,
                isolation_level="read_committed", session_timeout_ms=6000, heartbeat_interval_ms=500, **PATIENT,
            ))
            try:
                producer.init_transactions(60)
                consumer.subscribe([self.source])
                while not self.ending.is_set():
                    self.copy(producer, consumer)
            except KafkaException:
                continue
            finally:
                consumer.close()

    def copy(self, producer, consumer):
        batch = [message for message in consumer.consume(500, 0.2) if message.error() is None]
        if not batch:
            return
        producer.begin_transaction()
        for message in batch:
            producer.produce(self.sink, message.value(), partition=message.partition())
        places = [place for place in consumer.position(consumer.assignment()) if place.offset >= 0]
        producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata(), 30)
        producer.commit_transaction(30)
        self.copied += len(batch)


class Reader(Worker):
    """A member of a group that commits what it has read and remembers which commits were answered."""

    def __init__(self, door, topic, group):
        super().__init__(door)
        self.topic, self.group = topic, group
        self.answered = {}

    def work(self):
        consumer = Consumer(self.door.config(
            group_id=self.group, auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=6000,
            heartbeat_interval_ms=500, **PATIENT,
        ))
        consumer.subscribe([self.topic])
        while not self.ending.is_set():
            batch = [message for message in consumer.consume(50, 0.1) if message.error() is None]
            if not batch:
                continue
            try:
                done = consumer.commit(asynchronous=False)
            except KafkaException:
                continue
            for place in done:
                if place.error is None and place.offset >= 0:
                    self.answered[place.partition] = max(self.answered.get(place.partition, 0), place.offset)
        consumer.close()


def kept(door, readers, group, topic, before):
    """Every commit that was answered before the kill is there after it."""
    found = door.committed(group, topic, PARTITIONS)
    for answered in before:
        for partition, offset in answered.items():
            assert found[partition] >= offset, f"partition {partition}: {offset} was committed, {found[partition]} is"
    return readers


def test_kafka_clients_through_kills(node):
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    door = Door(f"127.0.0.1:{node.kafka}", node)
    plain, batches, copy = (door.topic(name, PARTITIONS) for name in ("plain", "batches", "copy"))
    readers_group, copy_group = unique("readers"), unique("copy")
    idempotent, transactional = Idempotent(door, plain), Transactional(door, batches)
    transformer = Transformer(door, plain, copy, copy_group)
    readers = [Reader(door, plain, readers_group) for _ in range(2)]
    workers = [idempotent, transactional, transformer, *readers]
    for worker in workers:
        worker.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.5, 2.5))
        before = [dict(reader.answered) for reader in readers]
        node.kill()
        node.start()
        kept(door, readers, readers_group, plain, before)
        assert not [worker.fault for worker in workers if worker.fault]
    time.sleep(1)
    idempotent.end(100)
    transactional.end(100)
    for worker in readers:
        worker.end(60)

    records = door.read(plain)
    assert not idempotent.errors, idempotent.errors[:3]
    assert len(idempotent.acked) == idempotent.sent > 0
    found = {(p, offset): int(value) for p, offset, _, value in records}
    assert all(found.get((p, offset)) == value for p, offset, value in idempotent.acked), "acknowledged and lost"
    for partition in range(PARTITIONS):
        numbers = [int(value) for p, _, _, value in records if p == partition]
        assert numbers == list(range(partition, idempotent.sent, PARTITIONS)), "out of order, or twice"

    seen = {}
    for _, _, _, value in door.read(batches):
        batch, part = value.split(b"-")
        seen.setdefault(int(batch), []).append(int(part))
    assert all(len(parts) == len(set(parts)) for parts in seen.values()), "a committed record came twice"
    assert all(len(parts) == Transactional.SIZE for parts in seen.values()), "half a transaction"
    assert transactional.committed and transactional.committed <= set(seen), "committed and lost"
    assert not transactional.never & set(seen), "aborted and seen"

    end = time.monotonic() + 90
    while sum(max(0, offset) for offset in door.committed(copy_group, plain, PARTITIONS)) < len(records):
        assert not transformer.fault and time.monotonic() < end, f"the copy stands still: {transformer.copied}"
        time.sleep(0.2)
    transformer.end(60)
    copied = sorted(int(value) for *_, value in door.read(copy))
    assert copied == list(range(idempotent.sent)), "the copy is not exactly once"
    print(
        f"{idempotent.sent} idempotent, {len(transactional.committed)} transactions committed, "
        f"{len(transactional.never)} aborted, {len(transactional.unsure)} unsure, {len(copied)} copied"
    )
