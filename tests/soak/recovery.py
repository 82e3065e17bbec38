"""Start-up after kill -9 with ten million records in the log and 100,000 sessions."""

import json
import os
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


def session(port, number):
    """A persistent session with one subscription: CONNECT, SUBSCRIBE and DISCONNECT in one go."""
    client_id = f"session-{number}".encode()
    topic = f"devices/{number}/command".encode()
    connect = b"\x00\x04MQTT\x04\x00\x00\x00" + len(client_id).to_bytes(2, "big") + client_id
    subscribe = b"\x00\x01" + len(topic).to_bytes(2, "big") + topic + b"\x01"
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.sendall(
            bytes([0x10, len(connect)]) + connect + bytes([0x82, len(subscribe)]) + subscribe
        )
        answer = b""
        while len(answer) < 9:
            more = stream.recv(64)
            assert more, "the broker closed"
            answer += more
        stream.sendall(b"\xe0\x00")


def main():
    with tempfile.TemporaryDirectory(prefix="sluice-recovery-") as folder:
        node = Sluice(folder).start()
        try:
            start = time.monotonic()
            for number in range(SESSIONS):
                session(node.mqtt, number)
            print(f"{SESSIONS} sessions in {time.monotonic() - start:.0f} s", flush=True)
            published = 0
            while published < RECORDS:
                report = subprocess.run(
                    [BINARY, "bench", "--port", str(node.mqtt), "--publishers", "100", "--warmup",
                     "0", "--duration", "20", "--json"],
                    capture_output=True, text=True, check=True,
                )
                published += json.loads(report.stdout)["messages"]
            print(f"{published} records in {time.monotonic() - start:.0f} s", flush=True)
            for attempt in range(3):
                node.kill()
                start = time.monotonic()
                node.start()
                print(f"start {attempt + 1} after kill -9: {time.monotonic() - start:.2f} s", flush=True)
        finally:
            if node.process.poll() is None:
                node.kill()


main()
