"""Apache Kafka nodes behind proxies, started and stopped by `xtask kafka`."""

import logging
import os
import subprocess
import time
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from proxy import Proxy

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# librdkafka tells on standard error of each connection that a test has cut.
QUIET = logging.getLogger("cluster")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False
START_SECONDS = 240


def xtask(*arguments, **environment):
    """Runs a verb of `xtask kafka` and returns what it said; nodes that it starts get the environment too."""
    program = os.environ.get("XTASK_BIN", str(TARGET / "debug/xtask"))
    done = subprocess.run(
        [program, "kafka", *arguments], capture_output=True, text=True, timeout=START_SECONDS, check=False,
        cwd=ROOT, env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"xtask kafka {arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


class Cluster:
    """Nodes of Apache Kafka. Clients are told the proxies' addresses; tests read past them."""

    def __init__(self, name, nodes, *flags):
        self.name, self.nodes = name, nodes
        self.environment = {}
        if nodes > 1:
            self.environment = full_disk(TARGET / "xtask/kafka", name)
        self.proxies = [Proxy() for _ in range(nodes)]
        advertised = ",".join(str(proxy.port) for proxy in self.proxies)
        said = xtask("up", "--nodes", str(nodes), "--name", name, "--advertised", advertised, *flags, **self.environment)
        real = next(line.split()[-1] for line in said.splitlines() if " answers at " in line)
        for proxy, address in zip(self.proxies, real.split(","), strict=True):
            proxy.to = int(address.rsplit(":", 1)[1])
        self.bootstrap = ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies)
        self.folder = TARGET / "xtask/kafka" / name
        self.doors = dict(line.split() for line in (self.folder / "doors").read_text().splitlines())

    def admin(self):
        return AdminClient({"bootstrap.servers": self.bootstrap}, logger=QUIET)

    def set(self, mode, seconds=0.0):
        for proxy in self.proxies:
            proxy.set(mode, seconds)

    def kill(self, node):
        xtask("kill", str(node), "--name", self.name)

    def start(self, node):
        """Starts the node and waits until all partitions have all their replicas in sync again."""
        xtask("start", str(node), "--name", self.name, **self.environment)

    def fill(self, node=None):
        """The disk of a node is full, or of each: whoever writes there ends, as Kafka does without a log
        directory that works."""
        flag = Path(self.environment["FULL_DISK"])
        fresh = flag.with_suffix(".new")
        fresh.write_text(f"/n{node}/" if node else "/n")
        fresh.rename(flag)

    def make_room(self):
        """There is room again."""
        Path(self.environment["FULL_DISK"]).unlink(missing_ok=True)

    def wait_ended(self, *nodes, count=None, seconds=60):
        """Until these nodes, or so many of them, have ended by themselves."""
        end = time.monotonic() + seconds
        while sum(not self.runs(node) for node in nodes) < (count or len(nodes)):
            assert time.monotonic() < end, f"still there: {[node for node in nodes if self.runs(node)]}"
            time.sleep(0.05)

    def runs(self, node):
        """Whether the process of a node is there."""
        try:
            words = Path("/proc", (self.folder / f"n{node}.pid").read_text(), "cmdline").read_bytes()
        except OSError:
            return False
        return b"kafka.Kafka" in words.split(b"\0")

    def wait_in_sync(self, seconds=120):
        end = time.monotonic() + seconds
        while True:
            try:
                found = self.admin().list_topics(timeout=10)
                partitions = [p for topic in found.topics.values() for p in topic.partitions.values()]
                if len(found.brokers) == self.nodes and all(len(p.isrs) == len(p.replicas) for p in partitions):
                    return
            except Exception as fault:  # the node that was asked may be the one that is down
                found = fault
            assert time.monotonic() < end, f"the cluster does not come together: {found}"
            time.sleep(0.3)

    def create(self, topic, partitions=4, **config):
        """A topic with a replica on each node."""
        self.make(NewTopic(
            topic, partitions, self.nodes, config={k.replace("_", "."): str(v) for k, v in config.items()}
        ))

    def create_on(self, topic, node):
        """A topic of one partition that is on one node only."""
        self.make(NewTopic(topic, 1, replica_assignment=[[node]]))

    def create_over(self, topic, *nodes):
        """A topic with a partition on each of these nodes, and no second replica."""
        self.make(NewTopic(topic, len(nodes), replica_assignment=[[node] for node in nodes]))

    def make(self, new):
        admin = self.admin()  # what it was asked for ends with it
        for future in admin.create_topics([new]).values():
            future.result(30)

    def read(self, topic, isolation="read_committed"):
        return read(self.bootstrap, topic, isolation)

    def down(self):
        for proxy in self.proxies:
            proxy.close()
        xtask("down", "--name", self.name)
        for path in self.environment.values():
            Path(path).unlink(missing_ok=True)


def full_disk(folder, name):
    """The environment of nodes whose disks `Cluster.fill` fills."""
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / f"{name}.so"
    source = Path(__file__).with_name("full_disk.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library), "FULL_DISK": str(folder / f"{name}.full")}


def read(bootstrap, topic, isolation="read_committed"):
    """Every record of a topic as (partition, offset, key, value, headers)."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False,
        "isolation.level": isolation, "enable.partition.eof": True,
    }, logger=QUIET)
    try:
        found = consumer.list_topics(topic, timeout=30).topics[topic]
        assert not found.error, found.error
        left = set(found.partitions)
        consumer.assign([TopicPartition(topic, p, 0) for p in left])
        records, end = [], time.monotonic() + 120
        while left:
            for message in consumer.consume(5000, 1):
                if message.error():
                    if message.error().name() == "_PARTITION_EOF":
                        left.discard(message.partition())
                    continue
                records.append(
                    (message.partition(), message.offset(), message.key(), message.value(), message.headers())
                )
            assert time.monotonic() < end, f"the end of {topic} is not reached: {left}"
        return records
    finally:
        consumer.close()
