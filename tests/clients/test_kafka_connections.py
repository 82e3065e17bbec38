"""Who is connected to the Kafka front door, and what a thousand waiting consumers cost."""

import contextlib
import json
import re
import socket
import struct
import time

from confluent_kafka.admin import AdminClient

from door import Door
from test_program import get

WAITING = 1000
# A debug build takes 9 MiB for them, buffers of the allocator included.
WAITING_BYTES_MAX = 20 << 20


def rows(node):
    return json.loads(get(node, "/api/v1/kafka"))["items"]


def test_connections_are_shown_with_their_software(node):
    assert rows(node) == []
    door = Door(f"127.0.0.1:{node.kafka}", node)
    admin = AdminClient(door.config(client_id="the-admin"))
    deadline = time.monotonic() + 30
    shown = []
    # The client gives up its first connection once it knows the broker's address.
    while not shown:
        assert time.monotonic() < deadline
        admin.list_topics(timeout=20)
        shown = [row for row in rows(node) if row["client_id"] == "the-admin"]
    for row in shown:
        assert row["software_name"] == "confluent-kafka-python", row
        assert re.match(r"\d+\.\d+", row["software_version"]), row
        assert row["principal"] == "User:anonymous", row
        assert row["local"] == f"127.0.0.1:{node.kafka}", row
        assert row["requests"] > 0, row


def text(word):
    return struct.pack(">h", len(word)) + word


def ask(connection, api, version, body):
    frame = struct.pack(">hhi", api, version, 7) + text(b"waiting") + body
    connection.sendall(struct.pack(">i", len(frame)) + frame)


def answer(connection):
    size = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))[0]
    return connection.recv(size, socket.MSG_WAITALL)


def fetch(topic):
    """Fetch in version 11: one partition from offset 0, for up to 30 s, without a session."""
    return b"".join([
        struct.pack(">iiiibii", -1, 30_000, 1, 50 << 20, 0, 0, -1),
        struct.pack(">i", 1), text(topic),
        struct.pack(">iiiqqi", 1, 0, -1, 0, -1, 1 << 20),
        struct.pack(">i", 0), text(b""),
    ])


def resident(node):
    with open(f"/proc/{node.process.pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) * 1024


def test_a_thousand_waiting_consumers_cost_little(node):
    door = Door(f"127.0.0.1:{node.kafka}", node)
    topic = door.topic("waiting")
    before = resident(node)
    with contextlib.ExitStack() as stack:
        consumers = []
        for _ in range(WAITING):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", node.kafka), 60))
            ask(connection, 18, 0, b"")
            answer(connection)
            ask(connection, 1, 11, fetch(topic.encode()))
            consumers.append(connection)
        end = time.monotonic() + 20
        while f"sluice_kafka_fetches_waiting {WAITING}\n" not in get(node, "/metrics"):
            assert time.monotonic() < end, "they do not all wait"
            time.sleep(0.05)
        cost = resident(node) - before
        print(f"{WAITING} waiting consumers: {cost / (1 << 20):.1f} MiB")
        assert cost < WAITING_BYTES_MAX, cost
        door.produce(topic, [b"at last"])
        assert all(b"at last" in answer(connection) for connection in consumers)
