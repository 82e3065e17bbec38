"""Apache Kafka's own command-line tools against the Kafka front door, by `cargo xtask kafka tool`."""

import json
import re

import pytest
from confluent_kafka import KafkaException, Producer

from door import unique
from programs import tool

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("tools")]


def at(door):
    return ["--bootstrap-server", door.bootstrap]


def test_topics(door):
    name = unique("tool")
    assert "Created topic" in tool(
        "topics", *at(door), "--create", "--topic", name, "--partitions", "2", "--replication-factor", "1",
        "--config", "retention.ms=3600000",
    )
    assert name in tool("topics", *at(door), "--list").split()
    tool("topics", *at(door), "--alter", "--topic", name, "--partitions", "4")
    described = tool("topics", *at(door), "--describe", "--topic", name)
    assert "PartitionCount: 4" in described
    assert "retention.ms=3600000" in described
    tool("topics", *at(door), "--delete", "--topic", name)
    assert name not in tool("topics", *at(door), "--list").split()


def test_configs(door):
    name = door.topic("tool")
    entity = ["--entity-type", "topics", "--entity-name", name]
    tool("configs", *at(door), "--alter", *entity, "--add-config", "retention.ms=7200000,cleanup.policy=compact")
    described = tool("configs", *at(door), "--describe", *entity)
    assert "retention.ms=7200000" in described
    assert "cleanup.policy=compact" in described
    tool("configs", *at(door), "--alter", *entity, "--delete-config", "retention.ms")
    assert "retention.ms=7200000" not in tool("configs", *at(door), "--describe", *entity)
    assert "segment.bytes" in tool("configs", *at(door), "--describe", "--all", *entity)


def test_console_producer_consumer_and_offsets(door):
    topic, group = door.topic("tool"), unique("tool")
    lines = [f"line {number}" for number in range(100)]
    tool("console-producer", *at(door), "--topic", topic, stdin="\n".join(lines) + "\n")
    found = tool(
        "console-consumer", *at(door), "--topic", topic, "--from-beginning", "--max-messages", "60", "--group", group,
    )
    assert found.splitlines() == lines[:60]
    assert tool("get-offsets", *at(door), "--topic", topic).strip() == f"{topic}:0:100"
    assert tool("get-offsets", *at(door), "--topic", topic, "--time", "earliest").strip() == f"{topic}:0:0"

    described = tool("consumer-groups", *at(door), "--describe", "--group", group)
    row = next(line.split() for line in described.splitlines() if topic in line)
    assert row[:6] == [group, topic, "0", "60", "100", "40"]
    assert group in tool("consumer-groups", *at(door), "--list").split()
    tool(
        "consumer-groups", *at(door), "--reset-offsets", "--group", group, "--topic", topic, "--to-offset", "90",
        "--execute",
    )
    rest = tool(
        "console-consumer", *at(door), "--topic", topic, "--group", group, "--max-messages", "10",
        "--timeout-ms", "20000",
    )
    assert rest.splitlines() == lines[90:]
    tool("consumer-groups", *at(door), "--delete-offsets", "--group", group, "--topic", topic)
    tool("consumer-groups", *at(door), "--delete", "--group", group)
    assert group not in tool("consumer-groups", *at(door), "--list").split()


def test_delete_records(door, tmp_path):
    topic = door.topic("tool")
    door.produce(topic, [b"x"] * 10)
    asked = tmp_path / "offsets.json"
    asked.write_text(json.dumps({"partitions": [{"topic": topic, "partition": 0, "offset": 4}], "version": 1}))
    assert "low_watermark: 4" in tool("delete-records", *at(door), "--offset-json-file", str(asked))
    assert len(door.read(topic)) == 6


def test_perf_tests(door):
    topic = door.topic("tool", 2)
    produced = tool(
        "producer-perf-test", *at(door), "--topic", topic, "--num-records", "20000", "--record-size", "256",
        "--throughput", "-1",
    )
    assert "20000 records sent" in produced
    consumed = tool(
        "consumer-perf-test", *at(door), "--topic", topic, "--num-records", "20000", "--timeout", "20000",
        "--hide-header",
    )
    assert re.search(r"\b20\d{3}\b", consumed), consumed


def test_verifiable_producer_and_consumer(door):
    topic, group = door.topic("tool"), unique("tool")
    produced = tool("verifiable-producer", *at(door), "--topic", topic, "--max-messages", "200", "--acks", "-1")
    assert produced.count('"producer_send_success"') == 200
    consumed = tool(
        "verifiable-consumer", *at(door), "--topic", topic, "--group-id", group, "--max-messages", "200",
        "--reset-policy", "earliest",
    )
    counts = [json.loads(line)["count"] for line in consumed.splitlines() if '"records_consumed"' in line]
    assert sum(counts) == 200
    assert door.committed(group, topic) == [200]


def test_transactions(door):
    topic, name = door.topic("tool"), unique("tool")
    producer = Producer(door.config(transactional_id=name))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    assert producer.flush(30) == 0
    assert name in tool("transactions", *at(door), "list")
    described = tool("transactions", *at(door), "describe", "--transactional-id", name)
    assert "Ongoing" in described and f"{topic}-0" in described
    states = tool("transactions", *at(door), "describe-producers", "--topic", topic, "--partition", "0")
    assert len(states.splitlines()) == 2
    assert states.splitlines()[1].split()[-1] == "0"
    hanging = tool("transactions", *at(door), "find-hanging", "--topic", topic, "--max-transaction-timeout", "0")
    assert topic not in hanging, "its coordinator knows the transaction"
    tool("transactions", *at(door), "abort", "--topic", topic, "--partition", "0", "--start-offset", "0")
    assert door.read(topic) == []
    assert len(door.read(topic, "read_uncommitted")) == 1
    tool("transactions", *at(door), "forceTerminateTransaction", "--transactionalId", name)
    with pytest.raises(KafkaException):
        producer.commit_transaction(30)
    assert door.read(topic) == []


def test_log_dirs_cluster_and_versions(door):
    topic = door.topic("tool")
    door.produce(topic, [b"x" * 100] * 100)
    described = tool("log-dirs", *at(door), "--describe", "--topic-list", topic)
    dirs = json.loads(next(line for line in described.splitlines() if line.startswith("{")))
    parts = [part for broker in dirs["brokers"] for dir in broker["logDirs"] for part in dir["partitions"]]
    assert [part["partition"] for part in parts] == [f"{topic}-0"]
    assert parts[0]["size"] > 100
    assert "Cluster ID:" in tool("cluster", "cluster-id", *at(door))
    versions = tool("broker-api-versions", *at(door))
    assert "Fetch(1)" in versions and "UNSUPPORTED" in versions or door.real
