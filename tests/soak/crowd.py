"""A crowd at the door: 15,000 well-behaved MQTT connections, 100 of which publish and 100 read, while
1,000 abusive clients try everything that costs them little. Prints what the well-behaved see with and
without the crowd, and fails where one of them lost its connection or waits for too long."""

import argparse
import asyncio
import collections
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "clients"))

from sluice import BINARY, Sluice  # noqa: E402

CONFIG = """
[flapping]
connects_max = 15
window = "1m"
ban = "5m"

[[authenticator]]
kind = "users"

[authorization]
no_match = "allow"

[[listener]]
kind = "mqtt"
name = "fleet"
bind = "127.0.0.1:0"
anonymous = true
messages_in_per_s = 100
bytes_in_per_s = "64KB"
[[listener]]
kind = "mqtt"
name = "asking"
bind = "127.0.0.1:0"
[[listener]]
kind = "mqtts"
name = "secure"
bind = "127.0.0.1:0"
anonymous = true
certificate = "node.pem"
key = "node.key"
[[listener]]
kind = "ws"
name = "web"
bind = "127.0.0.1:0"
anonymous = true
"""


# What strangers can make the node hold, together: 64 MiB for CONNECTs that do not end, 19 for each
# password that is hashed, 64 for each of the four partitions of mqtt.default.qos0, which is in memory,
# 16 for the tail of the log, and what their connections themselves take.
GROWTH_MIB_MAX = 64 + 2 * 19 + 4 * 64 + 16 + 40


class Node(Sluice):
    BY_FLAG = ("kafka", "http")

    def start(self):
        super().start()
        found = [re.match(r"\s*(MQTTS?|WSS?)\s+\S*:(\d+)", line) for line in self.lines]
        ports = [int(match.group(2)) for match in found if match]
        self.ports = dict(zip(re.findall(r'name = "(.*)"', self.config), ports, strict=True))
        return self

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=60) as answer:
            return answer.read().decode()

    def metric(self, pattern):
        return sum(int(value) for value in re.findall(rf"^{pattern} (\d+)", self.metrics(), re.M))

    def resident(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmRSS:"))


def text(value):
    return len(value).to_bytes(2, "big") + value


def connect(client_id, user=None, password=None):
    flags = 2 | (0xC0 if user else 0)
    body = b"\0\x04MQTT\x05" + bytes([flags]) + b"\0\x3c\0" + text(client_id)
    if user:
        body += text(user) + text(password)
    return b"\x10" + bytes([len(body)]) + body


class Crowd:
    """Abusive clients, each with an address of its own and one way to be a nuisance."""

    WAYS = ("silent", "half_connect", "garbage", "broken_tls", "half_upgrade", "guess", "flap", "flood")

    def __init__(self, node, size, ways):
        self.node, self.size, self.ways = node, size, ways
        self.done = collections.Counter()
        self.stop = asyncio.Event()

    async def run(self):
        tasks = [asyncio.create_task(self.abuse(number)) for number in range(self.size)]
        await self.stop.wait()
        while tasks:
            # More than once: one that is just given up by a timeout of its own does not notice.
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=0.5)

    async def abuse(self, number):
        way = self.ways[number % len(self.ways)]
        listener = {"broken_tls": "secure", "half_upgrade": "web", "guess": "asking"}.get(way, "fleet")
        address = f"127.{1 + number // 250}.0.{1 + number % 250}"
        while True:
            try:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.node.ports[listener], local_addr=(address, 0))
            except OSError:
                self.done["not let to connect"] += 1
                await asyncio.sleep(0.2)
                continue
            self.done[way] += 1
            try:
                await asyncio.wait_for(getattr(self, way)(number, reader, writer), 15)
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.transport.abort()

    async def silent(self, _number, reader, _writer):
        await reader.read(1)

    async def half_connect(self, _number, reader, writer):
        writer.write(b"\x10\xf0\xff\x1f\0\x04MQTT\x05\x02\0\x3c\0\0\x01c" + b"x" * 300_000)
        await writer.drain()
        await reader.read(1)

    async def garbage(self, number, reader, writer):
        writer.write(bytes((number * n) % 251 for n in range(1, 200)))
        await reader.read(1)

    async def broken_tls(self, _number, reader, writer):
        writer.write(b"\x16\x03\x01\0\x05\x01\0\0\x01\0")
        await reader.read()

    async def half_upgrade(self, _number, reader, writer):
        writer.write(b"GET /mqtt HTTP/1.1\r\nHost: x\r\n")
        while True:
            await asyncio.sleep(0.5)
            writer.write(b"X: y\r\n")
            await writer.drain()

    async def guess(self, number, reader, writer):
        writer.write(connect(b"g%d" % number, b"admin", b"guess%d" % self.done["guess"]))
        await reader.read()

    async def flap(self, number, reader, writer):
        writer.write(connect(b"flap%d" % number))
        await reader.read(5)

    async def flood(self, number, reader, writer):
        writer.write(connect(b"flood%d" % number))
        await reader.readexactly(2)
        publish = b"\x30\x82\x08\0\x05flood\0" + b"x" * (1026 - 8)
        while True:
            writer.write(publish * 50)
            await writer.drain()


def bench(node, *arguments):
    return [BINARY, "bench", *arguments, "--port", str(node.ports["fleet"]), "--json",
            "--pid", str(node.process.pid)]


def flow(node, seconds, rate):
    """One publisher to one subscriber each, a hundred times; latencies in milliseconds."""
    return bench(node, "flow", "--publishers", "100", "--subscribers", "100", "--topic", "crowd/{i}",
                 "--filter", "crowd/{i}", "--qos", "1", "--rate", str(rate), "--duration", str(seconds))


async def measured(node, seconds, rate):
    run = await asyncio.create_subprocess_exec(*flow(node, seconds, rate), stdout=subprocess.PIPE)
    out, _ = await run.communicate()
    assert run.returncode == 0, "a well-behaved client lost its connection"
    return json.loads(out)


def shown(name, report):
    latency = report.get("latency_us") or report.get("latency") or report
    print(f"{name:<10} {json.dumps(latency)}", flush=True)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=15_000)
    parser.add_argument("--abusive", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--ways", nargs="+", choices=Crowd.WAYS, default=Crowd.WAYS)
    parser.add_argument("--p99-ms-max", type=float, help="most that the crowd may cost, if it is to fail")
    parser.add_argument("--growth-mib-max", type=int, default=GROWTH_MIB_MAX)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="sluice-crowd-") as folder:
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        subprocess.run(["openssl", "req", "-x509", *key, "-keyout", "node.key", "-out", "node.pem",
                        "-days", "2", "-subj", "/CN=localhost"], cwd=folder, check=True, capture_output=True)
        node = Node(folder, CONFIG).start()
        try:
            await crowd(node, options)
        finally:
            node.kill()


async def crowd(node, options):
    idle = options.clients - 200
    lasts = 60 + 3 * options.seconds
    fleet = await asyncio.create_subprocess_exec(
        *bench(node, "idle", "--connections", str(idle), "--duration", str(lasts)),
        stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    open_now = lambda: node.metric('sluice_listener_connections\\{listener="fleet"\\}')
    while open_now() < idle:
        assert time.monotonic() < deadline, f"{open_now()} of {idle} are connected"
        await asyncio.sleep(0.5)
    at_rest = node.resident()
    print(f"{idle} idle connections, {at_rest} MiB resident", flush=True)
    before = await measured(node, options.seconds, options.rate)
    shown("alone", before)
    attack = Crowd(node, options.abusive, options.ways)
    attacking = asyncio.create_task(attack.run())
    # Once they are all there.
    await asyncio.sleep(2)
    during = await measured(node, options.seconds, options.rate)
    shown("crowd", during)
    after = node.resident()
    print(f"what the {options.abusive} did: {dict(attack.done)}; {after} MiB resident")
    text_now = node.metrics()
    for name in ("timeouts", "crowded_out", "bad_connects", "not_admitted", "rate_waits",
                 "tls_handshakes_failed", "upgrades_failed"):
        found = re.findall(rf'^sluice_listener_{name}_total\{{listener="(.*?)"\}} ([1-9]\d*)', text_now, re.M)
        print(f"  {name}: {dict(found)}")
    attack.stop.set()
    await attacking
    assert fleet.returncode is None, "an idle client lost its connection"
    assert open_now() >= idle, "the fleet is still there"
    assert after - at_rest <= options.growth_mib_max, "more than all that is bounded together"
    if options.p99_ms_max is not None:
        for what in ("ack_ms", "delivery_ms"):
            assert during[what]["p99"] <= before[what]["p99"] + options.p99_ms_max, what
    fleet.send_signal(signal.SIGTERM)
    await fleet.wait()


if __name__ == "__main__":
    asyncio.run(main())
