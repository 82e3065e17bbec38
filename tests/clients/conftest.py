"""Fixtures: a running node for each test, and small wrappers around the clients."""

import json
import os
import signal
import threading

import pytest
from kafka import KafkaConsumer, TopicPartition

import paho_mends  # noqa: F401
from door import Door
from sluice import Sluice


TEST_SECONDS = 120 + 10 * int(os.environ.get("SLUICE_KILLS", "3"))


@pytest.fixture(autouse=True)
def bounded():
    """A test that hangs fails where it hangs."""

    def late(_signal, _frame):
        raise TimeoutError(f"the test took more than {TEST_SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)


@pytest.fixture
def node(tmp_path):
    """A node on the shipped defaults: the article's hooks and streams."""
    sluice = Sluice(tmp_path).start()
    yield sluice
    if sluice.process.poll() is None:
        sluice.kill()


@pytest.fixture
def fresh(tmp_path):
    """A node that the test starts itself, possibly with a configuration."""
    made = []

    def make(config=None):
        sluice = Sluice(tmp_path, config)
        made.append(sluice)
        return sluice

    yield make
    for sluice in made:
        if sluice.process and sluice.process.poll() is None:
            sluice.kill()


@pytest.fixture(scope="session")
def door(tmp_path_factory):
    """The Kafka front door of one node that many tests share; they keep to topics of their own."""
    bootstrap = os.environ.get("KAFKA_BOOTSTRAP")
    if bootstrap:
        yield Door(bootstrap)
        return
    sluice = Sluice(tmp_path_factory.mktemp("door")).start()
    yield Door(f"127.0.0.1:{sluice.kafka}", sluice)
    if sluice.process.poll() is None:
        sluice.kill()


def read_stream(node, stream):
    """Every record of a stream, by kafka-python in assign mode, as (partition, offset, key, value)."""
    consumer = KafkaConsumer(
        bootstrap_servers=f"127.0.0.1:{node.kafka}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        partitions = [TopicPartition(stream, p) for p in sorted(consumer.partitions_for_topic(stream))]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning(*partitions)
        records = []
        while any(consumer.position(p) < ends[p] for p in partitions):
            for batch in consumer.poll(timeout_ms=1000).values():
                records += [(r.partition, r.offset, r.key, r.value) for r in batch]
        return records
    finally:
        consumer.close()


def envelopes(node, stream):
    """The JSON values of a stream."""
    return [json.loads(value) for _, _, _, value in read_stream(node, stream)]


class Inbox:
    """Collects what a client receives and waits for it without sleeping."""

    def __init__(self):
        self.messages = []
        self.changed = threading.Condition()

    def put(self, message):
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    def wait(self, count, seconds=20):
        with self.changed:
            self.changed.wait_for(lambda: len(self.messages) >= count, seconds)
            assert len(self.messages) >= count, f"{len(self.messages)} of {count}: {self.messages}"
            return list(self.messages)
