"""aiokafka against the Kafka front door: the client that asks with the oldest versions."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.structs import OffsetAndMetadata

from door import unique

pytestmark = pytest.mark.kafka


def consumer(door, *topics, **config):
    config = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **config}
    return AIOKafkaConsumer(*topics, bootstrap_servers=door.bootstrap, **config)


async def take(reader, count):
    return [await asyncio.wait_for(reader.getone(), 30) for _ in range(count)]


async def send(door, topic, values, **config):
    async with AIOKafkaProducer(bootstrap_servers=door.bootstrap, **config) as producer:
        answers = [await producer.send(topic, value) for value in values]
        return [(await answer).offset for answer in answers]


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_produce_and_consume_alone(door, acks):
    topic = door.topic("aio")
    values = [b"%d" % number for number in range(300)]

    async def run():
        if acks == 0:
            async with AIOKafkaProducer(bootstrap_servers=door.bootstrap, acks=0) as producer:
                for value in values:
                    await producer.send(topic, value)
        else:
            assert await send(door, topic, values, acks=acks) == list(range(300))
        async with consumer(door) as reader:
            reader.assign([TopicPartition(topic, 0)])
            await reader.seek_to_beginning()
            assert [record.value for record in await take(reader, 300)] == values

    asyncio.run(run())


def test_a_group_commits_and_resumes(door):
    topic, group = door.topic("aio"), unique("aio")
    part = TopicPartition(topic, 0)

    async def run():
        await send(door, topic, [b"%d" % number for number in range(20)])
        async with consumer(door, topic, group_id=group) as reader:
            await take(reader, 12)
            await reader.commit({part: OffsetAndMetadata(12, "why")})
            assert await reader.committed(part) == 12
        async with consumer(door, topic, group_id=group) as reader:
            assert [r.value for r in await take(reader, 8)] == [b"%d" % number for number in range(12, 20)]

    asyncio.run(run())


def test_seek_by_time(door):
    topic = door.topic("aio")
    part = TopicPartition(topic, 0)
    base = int(time.time() * 1000) - 100_000

    async def run():
        async with AIOKafkaProducer(bootstrap_servers=door.bootstrap) as producer:
            for number in range(20):
                await producer.send_and_wait(topic, b"%d" % number, timestamp_ms=base + number * 1000)
        async with consumer(door) as reader:
            reader.assign([part])
            found = (await reader.offsets_for_times({part: base + 11_500}))[part]
            assert found.offset == 12
            reader.seek(part, found.offset)
            assert (await take(reader, 1))[0].value == b"12"
            assert await reader.end_offsets([part]) == {part: 20}

    asyncio.run(run())


def test_idempotent_produce(door):
    topic = door.topic("aio")
    values = [b"%d" % number for number in range(500)]
    asyncio.run(send(door, topic, values, enable_idempotence=True, max_batch_size=1000))
    assert [value for *_, value in door.read(topic)] == values


def test_transactions(door):
    topic, source, group = door.topic("aio"), door.topic("aio"), unique("aio")

    async def run():
        async with AIOKafkaProducer(bootstrap_servers=door.bootstrap, transactional_id=unique("t")) as producer:
            for number in range(4):
                await producer.begin_transaction()
                await producer.send_and_wait(topic, b"%d" % number)
                await producer.send_offsets_to_transaction({TopicPartition(source, 0): number + 1}, group)
                if number % 2:
                    await producer.abort_transaction()
                else:
                    await producer.commit_transaction()
        async with consumer(door, isolation_level="read_committed") as reader:
            reader.assign([TopicPartition(topic, 0)])
            assert [record.value for record in await take(reader, 2)] == [b"0", b"2"]

    asyncio.run(run())
    assert door.committed(group, source) == [3]


def test_admin(door):
    name = unique("aio-admin")

    async def run():
        admin = AIOKafkaAdminClient(bootstrap_servers=door.bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, 2, 1)])
            assert name in await admin.list_topics()
            await admin.create_partitions({name: NewPartitions(3)})
            assert len((await admin.describe_topics([name]))[0]["partitions"]) == 3
            await send(door, name, [b"x"] * 5)
            await admin.list_consumer_groups()
            await admin.delete_topics([name])
        finally:
            await admin.close()

    asyncio.run(run())
