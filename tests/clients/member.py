"""A member of a consumer group as a process of its own, so that a test can kill it:

    member.py CLIENT BOOTSTRAP GROUP TOPIC STRATEGY

It prints `assigned 0,1` whenever what it holds has changed, and `record PARTITION OFFSET VALUE` for each
record; a record is committed before it is printed. SIGTERM makes it leave."""

import asyncio
import signal
import sys

SESSION_MS = 6000


class Lines:
    """What a member prints, and whether it shall go on."""

    def __init__(self):
        self.held = None
        self.going = True
        signal.signal(signal.SIGTERM, self.stop)

    def stop(self, *_):
        self.going = False

    def holds(self, partitions):
        partitions = sorted(partitions)
        if partitions != self.held:
            self.held = partitions
            print("assigned " + ",".join(map(str, partitions)), flush=True)

    @staticmethod
    def record(partition, offset, value):
        print(f"record {partition} {offset} {value.decode()}", flush=True)


def confluent(lines, bootstrap, group, topic, strategy):
    from confluent_kafka import Consumer

    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 1000,
        "partition.assignment.strategy": {"range": "range", "cooperative": "cooperative-sticky"}[strategy],
    })
    consumer.subscribe([topic])
    while lines.going:
        messages = consumer.consume(100, 0.2)
        good = [message for message in messages if message.error() is None]
        if good:
            consumer.commit(asynchronous=False)
        for message in good:
            lines.record(message.partition(), message.offset(), message.value())
        lines.holds(part.partition for part in consumer.assignment())
    consumer.close()


def kafka_python(lines, bootstrap, group, topic, strategy):
    from kafka import KafkaConsumer
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
    from kafka.coordinator.assignors.range import RangePartitionAssignor

    assignors = {"range": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest",
        enable_auto_commit=False, session_timeout_ms=SESSION_MS, heartbeat_interval_ms=1000,
        partition_assignment_strategy=[assignors[strategy]],
    )
    while lines.going:
        found = consumer.poll(timeout_ms=200)
        if found:
            consumer.commit()
        for records in found.values():
            for record in records:
                lines.record(record.partition, record.offset, record.value)
        lines.holds(part.partition for part in consumer.assignment())
    consumer.close()


def aiokafka(lines, bootstrap, group, topic, strategy):
    assert strategy == "range", "aiokafka knows eager strategies only"
    asyncio.run(aiokafka_member(lines, bootstrap, group, topic))


async def aiokafka_member(lines, bootstrap, group, topic):
    from aiokafka import AIOKafkaConsumer
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor

    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest",
        enable_auto_commit=False, session_timeout_ms=SESSION_MS, heartbeat_interval_ms=1000,
        partition_assignment_strategy=[RangePartitionAssignor],
    )
    await consumer.start()
    while lines.going:
        found = await consumer.getmany(timeout_ms=200)
        if found:
            await consumer.commit()
        for records in found.values():
            for record in records:
                lines.record(record.partition, record.offset, record.value)
        lines.holds(part.partition for part in consumer.assignment())
    await consumer.stop()


if __name__ == "__main__":
    clients = {"confluent": confluent, "kafka-python": kafka_python, "aiokafka": aiokafka}
    clients[sys.argv[1]](Lines(), *sys.argv[2:])
