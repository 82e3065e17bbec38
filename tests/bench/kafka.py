"""The parts of `cargo xtask bench kafka` that a Kafka client or a raw socket does:

    kafka.py latency BOOTSTRAP TOPIC [ISOLATION]   a member of a group reads stamped messages until its input ends
    kafka.py idle BOOTSTRAP TOPIC COUNT PID   connections that wait in a long poll, and what they cost
    kafka.py cold FOLDER...            takes the files out of the page cache

The result is one line of JSON."""

import base64
import json
import os
import select
import socket
import struct
import sys
import time

STAMP = slice(-18, -2)


def latency(bootstrap, topic, isolation="read_committed"):
    """Ages of messages when the consumer holds them. `sluice bench` stamps the machine's monotonic clock
    into each payload."""
    from confluent_kafka import Consumer

    held = []
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": f"bench-{time.time_ns()}", "auto.offset.reset": "latest",
        "fetch.min.bytes": 1, "fetch.wait.max.ms": 500, "enable.auto.commit": True,
        "isolation.level": isolation,
    })
    consumer.subscribe([topic], on_assign=lambda _, partitions: held.extend(partitions))
    while not held:
        consumer.poll(0.1)
    # The fetchers begin behind the assignment.
    for _ in range(10):
        consumer.poll(0.1)
    print("ready", flush=True)
    ages = []
    marker = b'"payload":"'
    while not select.select([sys.stdin], [], [], 0)[0]:
        first = consumer.poll(0.05)
        if first is None:
            continue
        # What is there already; with a timeout this would wait for a thousand.
        messages = [first, *consumer.consume(1000, 0)]
        now = time.monotonic_ns()
        for message in messages:
            value = message.value()
            if message.error() or value is None:
                continue
            start = value.find(marker) + len(marker)
            payload = base64.b64decode(value[start:value.index(b'"', start)])
            ages.append(now - int(payload[STAMP], 16))
    consumer.close()
    ages.sort()

    def at(part):
        return ages[min(len(ages) - 1, int(len(ages) * part))] / 1e6 if ages else None

    return {"count": len(ages), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999)}


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def request(api, version, body):
    frame = struct.pack(">hhi", api, version, 1) + text("idle") + body
    return struct.pack(">i", len(frame)) + frame


def answer(connection):
    size = struct.unpack(">i", exactly(connection, 4))[0]
    return exactly(connection, size)


def exactly(connection, count):
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        assert more, "the server closed the connection"
        found += more
    return found


def idle(bootstrap, topic, count, pid):
    """Each connection does what a consumer does first, then waits in a fetch at the end of the log."""
    host, port = bootstrap.split(":")
    before = resident(pid)
    end = struct.pack(">ibi", -1, 0, 1) + text(topic) + struct.pack(">iiq", 1, 0, -1)
    connections = []
    for _ in range(count):
        connection = socket.create_connection((host, int(port)), 20)
        connection.sendall(request(18, 0, b""))
        answer(connection)
        connection.sendall(request(3, 4, struct.pack(">i", 1) + text(topic) + b"\0"))
        answer(connection)
        connection.sendall(request(2, 2, end))
        offset = struct.unpack(">q", answer(connection)[-8:])[0]
        part = struct.pack(">iiqi", 1, 0, offset, 1 << 20)
        fetch = struct.pack(">iiiib", -1, 60_000, 1, 50 << 20, 0) + struct.pack(">i", 1) + text(topic) + part
        connection.sendall(request(1, 4, fetch))
        connections.append(connection)
    time.sleep(2)
    after = resident(pid)
    return {"connections": len(connections), "bytes": after - before}


def cold(*folders):
    count = 0
    for folder in folders:
        for where, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(where, name), "rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    count += 1
    return {"files": count}


if __name__ == "__main__":
    verb, rest = sys.argv[1], sys.argv[2:]
    if verb == "idle":
        rest[2:] = map(int, rest[2:])
    print(json.dumps({"latency": latency, "idle": idle, "cold": cold}[verb](*rest)))
