// The Apache Kafka Java clients against a Kafka front door; compiled against each version that is tested.
//
//   Clients scenarios BOOTSTRAP                    prints `ok NAME` or `failed NAME reason` for each
//   Clients member BOOTSTRAP GROUP TOPIC STRATEGY  a group's member, as tests/clients/member.py says

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListOffsetsResult;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public final class Clients {
    interface Scenario {
        void run() throws Exception;
    }

    private final String bootstrap;
    private final String run = Long.toHexString(System.nanoTime());
    private int names;

    private Clients(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] arguments) throws Exception {
        Clients clients = new Clients(arguments[1]);
        if (arguments[0].equals("member")) {
            clients.member(arguments[2], arguments[3], arguments[4]);
            return;
        }
        boolean good = true;
        Map<String, Scenario> all = new java.util.LinkedHashMap<>();
        all.put("produce", clients::produce);
        all.put("compressed", clients::compressed);
        all.put("group", clients::group);
        all.put("time", clients::time);
        all.put("idempotent", clients::idempotent);
        all.put("transactions", clients::transactions);
        all.put("exactly_once", clients::exactlyOnce);
        all.put("fenced", clients::fenced);
        all.put("admin", clients::admin);
        all.put("admin_groups", clients::adminGroups);
        all.put("admin_offsets", clients::adminOffsets);
        all.put("admin_producers", clients::adminProducers);
        all.put("admin_log_dirs", clients::adminLogDirs);
        for (Map.Entry<String, Scenario> scenario : all.entrySet()) {
            try {
                scenario.getValue().run();
                System.out.println("ok " + scenario.getKey());
            } catch (Throwable error) {
                good = false;
                error.printStackTrace();
                System.out.println("failed " + scenario.getKey() + " " + error.toString().replace('\n', ' '));
            }
        }
        System.exit(good ? 0 : 1);
    }

    // ---- what the scenarios share ----

    private String unique(String name) {
        names += 1;
        return "java-" + name + "-" + run + "-" + names;
    }

    private Properties properties(Object... pairs) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        for (int at = 0; at < pairs.length; at += 2) {
            properties.put(pairs[at].toString(), pairs[at + 1].toString());
        }
        return properties;
    }

    private KafkaProducer<String, String> producer(Object... pairs) {
        return new KafkaProducer<>(properties(pairs), new StringSerializer(), new StringSerializer());
    }

    private KafkaConsumer<String, String> consumer(Object... pairs) {
        Properties properties = properties(pairs);
        properties.putIfAbsent("auto.offset.reset", "earliest");
        properties.putIfAbsent("enable.auto.commit", "false");
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    private Admin admins() {
        return Admin.create(properties());
    }

    private String topic(String name, int partitions) throws Exception {
        String topic = unique(name);
        try (Admin admin = admins()) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get(30, TimeUnit.SECONDS);
        }
        return topic;
    }

    private static List<String> numbers(int from, int to) {
        return IntStream.range(from, to).mapToObj(Integer::toString).collect(Collectors.toList());
    }

    private void send(KafkaProducer<String, String> producer, String topic, List<String> values) throws Exception {
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        for (String value : values) {
            answers.add(producer.send(new ProducerRecord<>(topic, value)));
        }
        producer.flush();
        for (Future<RecordMetadata> answer : answers) {
            answer.get(30, TimeUnit.SECONDS);
        }
    }

    private static List<ConsumerRecord<String, String>> take(KafkaConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> found = new ArrayList<>();
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (found.size() < count && System.nanoTime() < end) {
            consumer.poll(Duration.ofMillis(200)).forEach(found::add);
        }
        check(found.size() == count, found.size() + " of " + count + " records");
        return found;
    }

    private List<String> all(String topic, String isolation) {
        try (KafkaConsumer<String, String> consumer = consumer("isolation.level", isolation)) {
            List<TopicPartition> parts = consumer.partitionsFor(topic).stream()
                .map(part -> new TopicPartition(topic, part.partition())).collect(Collectors.toList());
            consumer.assign(parts);
            Map<TopicPartition, Long> ends = consumer.endOffsets(parts);
            consumer.seekToBeginning(parts);
            List<String> values = new ArrayList<>();
            long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
            while (parts.stream().anyMatch(part -> consumer.position(part) < ends.get(part))) {
                check(System.nanoTime() < end, "the end of " + topic + " was not reached");
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    values.add(record.value());
                }
            }
            return values;
        }
    }

    private static void check(boolean good, String what) {
        if (!good) {
            throw new AssertionError(what);
        }
    }

    private static void same(Object found, Object expected) {
        check(expected.equals(found), found + " is not " + expected);
    }

    private static Throwable cause(Scenario scenario) {
        try {
            scenario.run();
        } catch (ExecutionException error) {
            return error.getCause();
        } catch (Exception error) {
            return error;
        }
        return null;
    }

    // ---- the scenarios ----

    private void produce() throws Exception {
        for (String acks : List.of("1", "all")) {
            String topic = topic("produce", 3);
            try (KafkaProducer<String, String> producer =
                    producer("acks", acks, "enable.idempotence", "false")) {
                send(producer, topic, numbers(0, 500));
            }
            same(new TreeSet<>(all(topic, "read_uncommitted")), new TreeSet<>(numbers(0, 500)));
        }
    }

    private void compressed() throws Exception {
        for (String codec : List.of("gzip", "snappy", "lz4", "zstd")) {
            String topic = topic(codec, 1);
            try (KafkaProducer<String, String> producer = producer("compression.type", codec)) {
                send(producer, topic, numbers(0, 2000));
            }
            same(all(topic, "read_uncommitted"), numbers(0, 2000));
        }
    }

    private void group() throws Exception {
        String topic = topic("group", 1);
        String group = unique("group");
        try (KafkaProducer<String, String> producer = producer()) {
            send(producer, topic, numbers(0, 20));
        }
        try (KafkaConsumer<String, String> first = consumer("group.id", group, "max.poll.records", 12)) {
            first.subscribe(List.of(topic));
            take(first, 12);
            first.commitSync();
        }
        try (KafkaConsumer<String, String> second = consumer("group.id", group)) {
            second.subscribe(List.of(topic));
            List<String> rest = take(second, 8).stream().map(ConsumerRecord::value).collect(Collectors.toList());
            same(rest, numbers(12, 20));
            second.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(15, "why")));
            OffsetAndMetadata committed =
                second.committed(Set.of(new TopicPartition(topic, 0))).get(new TopicPartition(topic, 0));
            same(committed.offset(), 15L);
            same(committed.metadata(), "why");
        }
    }

    private void time() throws Exception {
        String topic = topic("time", 1);
        long base = System.currentTimeMillis() - 200_000;
        try (KafkaProducer<String, String> producer = producer("batch.size", 1)) {
            for (int number = 0; number < 100; number++) {
                producer.send(new ProducerRecord<>(topic, 0, base + number * 1000L, null, "" + number));
            }
        }
        TopicPartition part = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = consumer()) {
            consumer.assign(List.of(part));
            Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(Map.of(part, base + 41_500));
            same(found.get(part).offset(), 42L);
            same(found.get(part).timestamp(), base + 42_000);
            consumer.seek(part, found.get(part).offset());
            List<ConsumerRecord<String, String>> rest = take(consumer, 58);
            same(rest.get(0).value(), "42");
            check(consumer.offsetsForTimes(Map.of(part, base + 10_000_000)).get(part) == null, "a time in the future");
            same(consumer.beginningOffsets(List.of(part)).get(part), 0L);
            same(consumer.endOffsets(List.of(part)).get(part), 100L);
        }
    }

    private void idempotent() throws Exception {
        String topic = topic("idempotent", 1);
        try (KafkaProducer<String, String> producer =
                producer("enable.idempotence", "true", "acks", "all", "batch.size", 200)) {
            send(producer, topic, numbers(0, 3000));
        }
        same(all(topic, "read_committed"), numbers(0, 3000));
    }

    private void transactions() throws Exception {
        String topic = topic("txn", 1);
        try (KafkaProducer<String, String> producer = producer("transactional.id", unique("t"))) {
            producer.initTransactions();
            for (int number = 0; number < 6; number++) {
                producer.beginTransaction();
                send(producer, topic, List.of("" + number));
                if (number % 2 == 0) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
        same(all(topic, "read_committed"), List.of("0", "2", "4"));
        same(all(topic, "read_uncommitted"), numbers(0, 6));
    }

    private void exactlyOnce() throws Exception {
        String source = topic("source", 1);
        String sink = topic("sink", 1);
        String group = unique("eos");
        TopicPartition part = new TopicPartition(source, 0);
        try (KafkaProducer<String, String> plain = producer()) {
            send(plain, source, numbers(0, 30));
        }
        try (KafkaProducer<String, String> producer = producer("transactional.id", unique("t"));
                KafkaConsumer<String, String> consumer = consumer(
                    "group.id", group, "isolation.level", "read_committed", "max.poll.records", 10)) {
            producer.initTransactions();
            consumer.subscribe(List.of(source));
            boolean abort = true;
            for (int done = 0; done < 30; abort = !abort) {
                List<ConsumerRecord<String, String>> batch = take(consumer, 10);
                producer.beginTransaction();
                for (ConsumerRecord<String, String> record : batch) {
                    producer.send(new ProducerRecord<>(sink, record.value()));
                }
                long next = batch.get(9).offset() + 1;
                producer.sendOffsetsToTransaction(
                    Map.of(part, new OffsetAndMetadata(next)), consumer.groupMetadata());
                if (abort) {
                    producer.abortTransaction();
                    consumer.seek(part, batch.get(0).offset());
                } else {
                    producer.commitTransaction();
                    done += 10;
                }
            }
            same(consumer.committed(Set.of(part)).get(part).offset(), 30L);
        }
        same(all(sink, "read_committed"), numbers(0, 30));
    }

    private void fenced() throws Exception {
        String topic = topic("fence", 1);
        String id = unique("t");
        try (KafkaProducer<String, String> first = producer("transactional.id", id);
                KafkaProducer<String, String> second = producer("transactional.id", id)) {
            first.initTransactions();
            first.beginTransaction();
            send(first, topic, List.of("zombie"));
            second.initTransactions();
            second.beginTransaction();
            second.send(new ProducerRecord<>(topic, "heir"));
            second.commitTransaction();
            Throwable error = cause(first::commitTransaction);
            check(error instanceof ProducerFencedException, "not fenced: " + error);
        }
        same(all(topic, "read_committed"), List.of("heir"));
    }

    private void admin() throws Exception {
        String topic = topic("admin", 2);
        try (Admin admin = admins(); KafkaProducer<String, String> producer = producer()) {
            Throwable error = cause(() ->
                admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all().get(30, TimeUnit.SECONDS));
            check(error instanceof TopicExistsException, "created twice: " + error);
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get(30, TimeUnit.SECONDS);
            same(admin.describeTopics(List.of(topic)).allTopicNames().get(30, TimeUnit.SECONDS)
                .get(topic).partitions().size(), 4);
            check(admin.listTopics().names().get(30, TimeUnit.SECONDS).contains(topic), "not listed");
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            AlterConfigOp set = new AlterConfigOp(new ConfigEntry("retention.ms", "7200000"), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get(30, TimeUnit.SECONDS);
            same(admin.describeConfigs(List.of(resource)).all().get(30, TimeUnit.SECONDS)
                .get(resource).get("retention.ms").value(), "7200000");
            for (int number = 0; number < 10; number++) {
                producer.send(new ProducerRecord<>(topic, 0, null, "" + number));
            }
            producer.flush();
            TopicPartition part = new TopicPartition(topic, 0);
            same(admin.deleteRecords(Map.of(part, RecordsToDelete.beforeOffset(4))).lowWatermarks()
                .get(part).get(30, TimeUnit.SECONDS).lowWatermark(), 4L);
            same(all(topic, "read_committed"), numbers(4, 10));
            check(!admin.describeCluster().nodes().get(30, TimeUnit.SECONDS).isEmpty(), "no nodes");
            admin.deleteTopics(List.of(topic)).all().get(30, TimeUnit.SECONDS);
        }
    }

    private void adminGroups() throws Exception {
        String topic = topic("groups", 1);
        String group = unique("groups");
        TopicPartition part = new TopicPartition(topic, 0);
        try (Admin admin = admins(); KafkaProducer<String, String> producer = producer()) {
            send(producer, topic, numbers(0, 10));
            try (KafkaConsumer<String, String> consumer = consumer("group.id", group)) {
                consumer.subscribe(List.of(topic));
                take(consumer, 10);
                consumer.commitSync();
                var described = admin.describeConsumerGroups(List.of(group)).all().get(30, TimeUnit.SECONDS).get(group);
                same(described.members().size(), 1);
                same(described.members().iterator().next().assignment().topicPartitions(), Set.of(part));
            }
            check(admin.listConsumerGroups().all().get(30, TimeUnit.SECONDS).stream()
                .anyMatch(listed -> listed.groupId().equals(group)), "not listed");
            admin.alterConsumerGroupOffsets(group, Map.of(part, new OffsetAndMetadata(3))).all()
                .get(30, TimeUnit.SECONDS);
            same(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(30, TimeUnit.SECONDS)
                .get(part).offset(), 3L);
            admin.deleteConsumerGroupOffsets(group, Set.of(part)).all().get(30, TimeUnit.SECONDS);
            check(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(30, TimeUnit.SECONDS)
                .get(part) == null, "the offset is still there");
            admin.deleteConsumerGroups(List.of(group)).all().get(30, TimeUnit.SECONDS);
        }
    }

    private void adminOffsets() throws Exception {
        String topic = topic("offsets", 1);
        TopicPartition part = new TopicPartition(topic, 0);
        long base = System.currentTimeMillis() - 100_000;
        try (Admin admin = admins(); KafkaProducer<String, String> producer = producer("batch.size", 1)) {
            for (int number : new int[] {0, 9, 4}) {
                producer.send(new ProducerRecord<>(topic, 0, base + number * 1000L, null, "" + number)).get();
            }
            Map<OffsetSpec, Long> expected = new HashMap<>();
            expected.put(OffsetSpec.earliest(), 0L);
            expected.put(OffsetSpec.latest(), 3L);
            expected.put(OffsetSpec.maxTimestamp(), 1L);
            expected.put(OffsetSpec.forTimestamp(base + 2000), 1L);
            for (Map.Entry<OffsetSpec, Long> asked : expected.entrySet()) {
                ListOffsetsResult.ListOffsetsResultInfo found = admin.listOffsets(Map.of(part, asked.getKey()))
                    .partitionResult(part).get(30, TimeUnit.SECONDS);
                same(found.offset(), asked.getValue());
            }
        }
    }

    private void adminProducers() throws Exception {
        String topic = topic("producers", 1);
        String id = unique("t");
        TopicPartition part = new TopicPartition(topic, 0);
        try (Admin admin = admins(); KafkaProducer<String, String> producer = producer("transactional.id", id)) {
            producer.initTransactions();
            producer.beginTransaction();
            send(producer, topic, List.of("open"));
            var states = admin.describeProducers(List.of(part)).partitionResult(part)
                .get(30, TimeUnit.SECONDS).activeProducers();
            same(states.size(), 1);
            same(states.get(0).currentTransactionStartOffset().getAsLong(), 0L);
            var described = admin.describeTransactions(List.of(id)).description(id).get(30, TimeUnit.SECONDS);
            same(described.state().toString(), "Ongoing");
            same(described.topicPartitions(), Set.of(part));
            same(described.producerId(), states.get(0).producerId());
            check(admin.listTransactions().all().get(30, TimeUnit.SECONDS).stream()
                .anyMatch(listed -> listed.transactionalId().equals(id)), "not listed");
            producer.commitTransaction();
            admin.fenceProducers(List.of(id)).all().get(30, TimeUnit.SECONDS);
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "late"));
            check(cause(producer::commitTransaction) != null, "the fenced producer went on");
        }
        same(all(topic, "read_committed"), List.of("open"));
    }

    private void adminLogDirs() throws Exception {
        String topic = topic("dirs", 1);
        try (Admin admin = admins(); KafkaProducer<String, String> producer = producer()) {
            send(producer, topic, numbers(0, 1000));
            int node = admin.describeCluster().nodes().get(30, TimeUnit.SECONDS).iterator().next().id();
            long size = admin.describeLogDirs(List.of(node)).allDescriptions().get(30, TimeUnit.SECONDS).get(node)
                .values().stream().flatMap(dir -> dir.replicaInfos().entrySet().stream())
                .filter(replica -> replica.getKey().topic().equals(topic))
                .mapToLong(replica -> replica.getValue().size()).sum();
            check(size > 1000, "a thousand records in " + size + " bytes");
        }
    }

    // ---- a member of a group ----

    private void member(String group, String topic, String strategy) throws Exception {
        Class<?> assignor = strategy.equals("range") ? RangeAssignor.class : CooperativeStickyAssignor.class;
        KafkaConsumer<String, String> consumer = consumer(
            "group.id", group, "session.timeout.ms", 6000, "heartbeat.interval.ms", 1000,
            "partition.assignment.strategy", assignor.getName());
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            consumer.wakeup();
            try {
                main.join(20_000);
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        }));
        consumer.subscribe(List.of(topic));
        String held = null;
        try {
            while (true) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                if (!records.isEmpty()) {
                    consumer.commitSync();
                }
                for (ConsumerRecord<String, String> record : records) {
                    System.out.println("record " + record.partition() + " " + record.offset() + " " + record.value());
                }
                Collection<Integer> parts =
                    consumer.assignment().stream().map(TopicPartition::partition).collect(Collectors.toCollection(TreeSet::new));
                String now = parts.stream().map(Object::toString).collect(Collectors.joining(","));
                if (!now.equals(held)) {
                    held = now;
                    System.out.println("assigned " + now);
                }
            }
        } catch (WakeupException error) {
            consumer.close();
        }
    }
}
