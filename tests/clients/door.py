"""The Kafka front door that the tests of Kafka clients speak to: one Sluice for a whole run, or, to
check the tests themselves, a real Apache Kafka (KAFKA_BOOTSTRAP=127.0.0.1:19092)."""

import functools
import itertools
import os
import pathlib
import random

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKSHOP = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "xtask"
# Runs that share one Apache Kafka must not meet in a topic or a group.
RUN = f"{random.SystemRandom().getrandbits(32):08x}"
COUNTER = itertools.count(1)


def unique(name):
    """A name that no other test and no other run uses."""
    return f"{name}-{RUN}-{next(COUNTER)}"


class Door:
    """An address, and what most tests need there, done by confluent-kafka."""

    def __init__(self, bootstrap, node=None):
        self.bootstrap = bootstrap
        self.node = node

    @property
    def real(self):
        """Whether this is an Apache Kafka and not the program under test."""
        return self.node is None

    def config(self, **more):
        return {"bootstrap.servers": self.bootstrap, "log_level": 0, **{k.replace("_", "."): v for k, v in more.items()}}

    @functools.cache
    def admin(self):
        """One for all: its answers come only while it lives."""
        return AdminClient(self.config())

    def topic(self, name, partitions=1, **settings):
        """Creates a topic of that name with something unique behind it, and returns the name."""
        name = unique(name)
        settings = {key.replace("_", "."): str(value) for key, value in settings.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings)
        self.admin().create_topics([new])[name].result(30)
        return name

    def produce(self, topic, values, partition=None, key=None, **config):
        """Produces values and returns their (partition, offset), in the order of the values."""
        producer = Producer(self.config(linger_ms=1, **config))
        places = {}

        def placed(number):
            def report(error, message):
                assert error is None, error
                places[number] = (message.partition(), message.offset())

            return report

        for number, value in enumerate(values):
            where = {} if partition is None else {"partition": partition}
            producer.produce(topic, value, key=key, on_delivery=placed(number), **where)
            producer.poll(0)
        assert producer.flush(30) == 0, "not everything was answered within 30 s"
        return [places[number] for number in range(len(values))]

    def read(self, topic, isolation="read_committed"):
        """Every record of a topic as (partition, offset, key, value), by assign."""
        config = self.config(
            group_id=unique("reader"), enable_auto_commit=False, isolation_level=isolation,
            enable_partition_eof=True, auto_offset_reset="earliest",
        )
        consumer = Consumer(config)
        try:
            partitions = consumer.list_topics(topic, 20).topics[topic].partitions
            consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
            records, ended = [], set()
            while len(ended) < len(partitions):
                message = consumer.poll(30)
                assert message is not None, f"{topic}: nothing within 30 s, ended {ended}"
                if message.error() and message.error().name() == "_PARTITION_EOF":
                    ended.add(message.partition())
                    continue
                assert message.error() is None, message.error()
                ended.discard(message.partition())
                records.append((message.partition(), message.offset(), message.key(), message.value()))
            return records
        finally:
            consumer.close()

    def committed(self, group, topic, partitions=1):
        """The committed offsets of a group; -1001 where there is none."""
        consumer = Consumer(self.config(group_id=group))
        try:
            asked = [TopicPartition(topic, p) for p in range(partitions)]
            return [found.offset for found in consumer.committed(asked, 30)]
        finally:
            consumer.close()
