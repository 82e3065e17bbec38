// @platformatic/kafka against a Kafka front door; its verbs are those of java/Clients.java.

import {
  Admin, CompressionAlgorithms, ConfigResourceTypes, Consumer, IncrementalAlterConfigOperationTypes,
  ListOffsetTimestamps, Producer, stringDeserializers, stringSerializers,
} from '@platformatic/kafka';
import { holds, numbers, record, runAll, same, unique, within } from './scenarios.mjs';

const [verb, bootstrap, group, topic, strategy] = process.argv.slice(2);
const at = { clientId: 'platformatic-test', bootstrapBrokers: bootstrap.split(',') };
const admin = new Admin(at);

async function newTopic(name, partitions = 1) {
  const made = unique(name);
  await admin.createTopics({ topics: [made], partitions, replicas: 1 });
  return made;
}

function newProducer(options = {}) {
  return new Producer({ ...at, serializers: stringSerializers, ...options });
}

function newConsumer(options = {}) {
  return new Consumer({ ...at, groupId: unique('reader'), deserializers: stringDeserializers, ...options });
}

async function send(to, values, options = {}) {
  const producer = newProducer(options);
  await producer.send({ messages: values.map((value) => ({ topic: to, value })) });
  await producer.close();
}

/// The first `count` messages of a stream, which stays open. When its group rebalances, this library
/// begins again in mode `earliest`, so each offset counts once.
async function take(stream, count) {
  const found = new Map();
  const full = new Promise((resolve, reject) => {
    stream.on('error', reject);
    stream.on('data', (message) => {
      if (found.size < count) found.set(`${message.partition}:${message.offset}`, message);
      if (found.size === count) resolve();
    });
  });
  await within(full, 30_000, `${count} records`);
  return [...found.values()];
}

async function read(from, count, options = {}) {
  const consumer = newConsumer();
  const stream = await consumer.consume({ topics: [from], mode: 'earliest', autocommit: false, ...options });
  const found = await take(stream, count);
  await consumer.close(true);
  return found.map((message) => message.value);
}

const scenarios = {
  async produce() {
    for (const acks of [1, -1]) {
      const to = await newTopic('produce', 3);
      await send(to, numbers(0, 200), { acks });
      same((await read(to, 200)).sort(), numbers(0, 200).sort());
    }
  },
  async compressed() {
    const to = await newTopic('gzip');
    await send(to, numbers(0, 500), { compression: CompressionAlgorithms.GZIP });
    same(await read(to, 500), numbers(0, 500));
  },
  async group() {
    const [to, groupId] = [await newTopic('group'), unique('group')];
    await send(to, numbers(0, 10));
    for (const expected of [numbers(0, 10), numbers(10, 20)]) {
      const consumer = newConsumer({ groupId });
      const stream = await consumer.consume({
        topics: [to], mode: 'committed', fallbackMode: 'earliest', autocommit: false,
      });
      const found = await take(stream, 10);
      for (const message of found) await message.commit();
      await consumer.close(true);
      same(found.map((message) => message.value), expected);
      await send(to, numbers(10, 20));
    }
  },
  async time() {
    const to = await newTopic('time');
    const base = Date.now() - 100_000;
    const producer = newProducer();
    for (let number = 0; number < 20; number += 1) {
      await producer.send({ messages: [{ topic: to, value: `${number}`, timestamp: BigInt(base + number * 1000) }] });
    }
    await producer.close();
    const consumer = newConsumer();
    const found = await consumer.listOffsets({ topics: [to], timestamp: BigInt(base + 11_500) });
    same(Number(found.get(to)[0]), 12);
    const ends = await consumer.listOffsets({ topics: [to], timestamp: ListOffsetTimestamps.LATEST });
    same(Number(ends.get(to)[0]), 20);
    const stream = await consumer.consume({
      topics: [to], mode: 'manual', autocommit: false, offsets: [{ topic: to, partition: 0, offset: found.get(to)[0] }],
    });
    same((await take(stream, 8)).map((message) => message.value), numbers(12, 20));
    await consumer.close(true);
  },
  async idempotent() {
    const to = await newTopic('idempotent');
    const producer = newProducer({ idempotent: true });
    for (const value of numbers(0, 50)) await producer.send({ messages: [{ topic: to, value }] });
    await producer.close();
    same(await read(to, 50), numbers(0, 50));
  },
  async transactions() {
    const to = await newTopic('txn');
    const producer = newProducer({ transactionalId: unique('t'), idempotent: true });
    // One abort only: of several of one producer in a fetch this library leaves out the last alone.
    for (const value of numbers(0, 4)) {
      const transaction = await producer.beginTransaction();
      await transaction.send({ messages: [{ topic: to, value }] });
      if (value === '1') await transaction.abort();
      else await transaction.commit();
    }
    await producer.close();
    same(await read(to, 3, { isolationLevel: 1 }), ['0', '2', '3']);
    same(await read(to, 4, { isolationLevel: 0 }), numbers(0, 4));
  },
  async admin() {
    const to = await newTopic('admin', 2);
    await admin.createPartitions({ topics: [{ name: to, count: 4 }] });
    const metadata = await admin.metadata({ topics: [to], forceUpdate: true });
    same(metadata.topics.get(to).partitionsCount, 4);
    same((await admin.listTopics()).includes(to), true);
    const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: to };
    const configOperation = IncrementalAlterConfigOperationTypes.SET;
    await admin.incrementalAlterConfigs({
      resources: [{ ...resource, configs: [{ name: 'retention.ms', configOperation, value: '7200000' }] }],
    });
    const [described] = await admin.describeConfigs({
      resources: [{ ...resource, configurationKeys: ['retention.ms'] }],
    });
    same(described.configs[0].value, '7200000');
    const producer = newProducer();
    await producer.send({ messages: numbers(0, 10).map((value) => ({ topic: to, partition: 0, value })) });
    await producer.close();
    const deleted = await admin.deleteRecords({ topics: [{ name: to, partitions: [{ partition: 0, offset: 4n }] }] });
    same(Number(deleted[0].partitions[0].lowWatermark), 4);
    await admin.deleteTopics({ topics: [to] });
  },
  async admin_groups() {
    const [to, groupId] = [await newTopic('groups'), unique('groups')];
    await send(to, numbers(0, 10));
    const consumer = newConsumer({ groupId });
    const stream = await consumer.consume({ topics: [to], mode: 'earliest', autocommit: false });
    await take(stream, 10);
    const described = (await admin.describeGroups({ groups: [groupId] })).get(groupId);
    same([described.state, described.members.size], ['STABLE', 1]);
    same((await admin.listGroups()).has(groupId), true);
    await consumer.close(true);
    await admin.alterConsumerGroupOffsets({
      groupId, topics: [{ name: to, partitionOffsets: [{ partition: 0, offset: 3n }] }],
    });
    const [found] = await admin.listConsumerGroupOffsets({ groups: [groupId] });
    same(Number(found.topics[0].partitions[0].committedOffset), 3);
    await admin.deleteGroups({ groups: [groupId] });
  },
};

async function member() {
  same(strategy, 'range');
  // The library ships round robin only, which is eager too; the test asks that the parts are equal.
  const consumer = newConsumer({
    groupId: group, sessionTimeout: 6000, heartbeatInterval: 1000, rebalanceTimeout: 10_000,
  });
  consumer.on('consumer:group:join', ({ assignments }) => {
    holds(assignments.filter((found) => found.topic === topic).flatMap((found) => found.partitions));
  });
  process.on('SIGTERM', async () => {
    await consumer.close(true);
    process.exit(0);
  });
  const stream = await consumer.consume({
    topics: [topic], mode: 'committed', fallbackMode: 'earliest', autocommit: false, maxWaitTime: 200,
  });
  for await (const message of stream) {
    await message.commit();
    record(message.partition, message.offset, message.value);
  }
}

if (verb === 'member') await member();
else await runAll(scenarios);
