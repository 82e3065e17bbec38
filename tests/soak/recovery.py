"""Start-up after kill -9 with ten million records in the log and 100,000 sessions that are owed messages:
under five seconds, and nothing owed is missing."""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "clients"))
from sluice import BINARY, Sluice  # noqa: E402

RECORDS = int(os.environ.get("SLUICE_RECORDS", "10000000"))
SESSIONS = int(os.environ.get("SLUICE_SESSIONS", "100000"))
# Longest start that is accepted.
START_SECONDS = float(os.environ.get("SLUICE_START_SECONDS", "5"))
# What each session is owed, and how many are asked whether they get it.
OWED = 3
ASKED = 200
# Messages on their way without an acknowledgement.
WINDOW = 500


def packet(kind, body):
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


def text(words):
    return len(words).to_bytes(2, "big") + words.encode()


def topic(number):
    return f"devices/{number}/command"


def connect(client_id, clean):
    flags = b"\x02" if clean else b"\x00"
    return packet(0x10, b"\x00\x04MQTT\x04" + flags + b"\x00\x00" + text(client_id))


def dial(port):
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def exactly(stream, count):
    answer = b""
    while len(answer) < count:
        more = stream.recv(count - len(answer))
        assert more, "the broker closed"
        answer += more
    return answer


def session(port, number):
    """A persistent session with one subscription: CONNECT, SUBSCRIBE and DISCONNECT in one go."""
    subscribe = packet(0x82, b"\x00\x01" + text(topic(number)) + b"\x01")
    with dial(port) as stream:
        stream.sendall(connect(f"session-{number}", False) + subscribe)
        assert exactly(stream, 9)[-1] == 1
        stream.sendall(b"\xe0\x00")


def owe(port):
    """Publishes at QoS 1 what the sessions are owed, and waits for every acknowledgement."""
    with dial(port) as stream:
        stream.sendall(connect("source", True))
        assert exactly(stream, 4)[3] == 0
        waiting = 0
        for turn in range(OWED):
            for number in range(SESSIONS):
                waiting += 1
                packet_id = waiting.to_bytes(2, "big")
                stream.sendall(packet(0x32, text(topic(number)) + packet_id + b"%d" % turn))
                if waiting == WINDOW:
                    exactly(stream, 4 * waiting)
                    waiting = 0
        exactly(stream, 4 * waiting)


def ask(port, number):
    """Comes back as a session and takes what it is owed, without acknowledging it."""
    with dial(port) as stream:
        stream.sendall(connect(f"session-{number}", False))
        assert exactly(stream, 4) == b"\x20\x02\x01\x00", "the session is gone"
        payloads = []
        while len(payloads) < OWED:
            kind, length = exactly(stream, 2)
            body = exactly(stream, length)
            name = text(topic(number))
            assert kind & 0xF6 == 0x32 and body.startswith(name), (kind, body)
            payloads.append(body[len(name) + 2:])
        assert payloads == [b"%d" % turn for turn in range(OWED)], payloads


def fill(node):
    start = time.monotonic()
    for number in range(SESSIONS):
        session(node.mqtt, number)
    print(f"{SESSIONS} sessions in {time.monotonic() - start:.0f} s", flush=True)
    owe(node.mqtt)
    print(f"{OWED * SESSIONS} messages owed after {time.monotonic() - start:.0f} s", flush=True)
    published = 0
    while published < RECORDS:
        report = subprocess.run(
            [BINARY, "bench", "--port", str(node.mqtt), "--publishers", "100", "--warmup", "0",
             "--duration", "20", "--json"],
            capture_output=True, text=True, check=True,
        )
        published += json.loads(report.stdout)["messages"]
    print(f"{published} records after {time.monotonic() - start:.0f} s", flush=True)


def main():
    with tempfile.TemporaryDirectory(prefix="sluice-recovery-") as folder:
        node = Sluice(folder).start()
        try:
            fill(node)
            starts = []
            for attempt in range(3):
                node.kill()
                start = time.monotonic()
                node.start()
                starts.append(time.monotonic() - start)
                print(f"start {attempt + 1} after kill -9: {starts[-1]:.2f} s", flush=True)
                for number in random.sample(range(SESSIONS), min(ASKED, SESSIONS)):
                    ask(node.mqtt, number)
            print(f"{ASKED} sessions asked after each start: each was owed what it should be", flush=True)
            assert max(starts) < START_SECONDS, f"a start took {max(starts):.2f} s"
        finally:
            if node.process.poll() is None:
                node.kill()


main()
