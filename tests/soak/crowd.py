"""A crowd at the door: 15,000 well-behaved MQTT connections, 100 of which publish and 100 read, while
1,000 abusive clients try everything that costs them little. Prints what the well-behaved see without the
crowd, with a machine that is busy with something else, and with the crowd; fails where one of them lost
its connection or waits for too long, or where the node holds more memory than is bounded.

The crowd would have machines of its own. Here it gets the processor time that nobody else wants
(SCHED_IDLE), so that what the well-behaved see is the node's doing and not that of the crowd's own
program; `--same-priority` lets it compete."""

import argparse
import asyncio
import collections
import contextlib
import ctypes
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
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


# What strangers can make the node hold, share by share, as docs/security.md says: CONNECTs that do not
# end, a password that is hashed for two cores, the four partitions of mqtt.default.qos0, the tail of the
# log, what is on its way there, the crowd's own connections; and an eighth that the allocator cannot
# give back.
SHARES_MIB = {
    "CONNECTs": 64, "hashing": 19 * max(1, os.cpu_count() // 2), "mqtt.default.qos0": 4 * 64, "tail": 16,
    "on the way": 4 * max(1, os.cpu_count() // 2), "connections": 10,
}
GROWTH_MIB_MAX = sum(SHARES_MIB.values()) * 9 // 8


def die_with_parent():
    """In a child: whatever ends the run, it leaves nothing behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Node(Sluice):
    BY_FLAG = ("kafka", "http")

    def __init__(self, folder, config):
        super().__init__(folder, config)
        self.open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def _limit(self):
        super()._limit()
        die_with_parent()

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

    def memory(self):
        """Resident MiB: of its own, and of files and libraries that the system may take back."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            found = dict(re.findall(r"^(\w+):\s+(\d+) kB", file.read(), re.M))
        return {name: int(found[name]) >> 10 for name in ("VmRSS", "RssAnon", "RssFile")}

    def streams(self):
        """MiB of the streams in memory."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/api/v1/streams", timeout=60) as answer:
            rows = json.load(answer)["items"]
        return sum(row["size_bytes"] for row in rows if row["storage"] == "memory") >> 20


def cpu_s(pid):
    """Processor time that a process has used, in seconds."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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

    def __init__(self, ports, size, ways):
        self.ports, self.size, self.ways = ports, size, ways
        self.done = collections.Counter()

    async def run(self):
        """Never ends by itself."""
        await asyncio.gather(*(self.abuse(number) for number in range(self.size)))

    async def abuse(self, number):
        way = self.ways[number % len(self.ways)]
        listener = {"broken_tls": "secure", "half_upgrade": "web", "guess": "asking"}.get(way, "fleet")
        address = f"127.{1 + number // 250}.0.{1 + number % 250}"
        while True:
            try:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.ports[listener], local_addr=(address, 0))
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
    run = await asyncio.create_subprocess_exec(
        *flow(node, seconds, rate), stdout=subprocess.PIPE, preexec_fn=die_with_parent)
    out, _ = await run.communicate()
    assert run.returncode == 0, "a well-behaved client lost its connection"
    return json.loads(out)


class Phase:
    """What the well-behaved saw, and what it cost, while something went on."""

    def __init__(self, name, node, crowd=None):
        self.name, self.node, self.crowd = name, node, crowd

    async def run(self, options):
        pids = [self.node.process.pid] + ([self.crowd.pid] if self.crowd else [])
        before = [cpu_s(pid) for pid in pids]
        start = time.monotonic()
        self.report = await measured(self.node, options.seconds, options.rate)
        took = time.monotonic() - start
        self.cores = [(cpu_s(pid) - cpu) / took for pid, cpu in zip(pids, before, strict=True)]
        self.show()
        return self

    def p99(self, what):
        return self.report[what]["p99"]

    def show(self):
        ack, delivery = self.report["ack_ms"], self.report["delivery_ms"]
        figures = "  ".join(
            f"{name} p50 {found['p50']:6.2f} p99 {found['p99']:7.2f} p99.9 {found['p999']:7.2f} ms"
            for name, found in (("ack", ack), ("delivery", delivery)))
        cores = f"{self.cores[0]:.2f} cores" + (f", the crowd {self.cores[1]:.2f}" if self.crowd else "")
        print(f"{self.name:<8} {figures}  {cores}", flush=True)


@contextlib.asynccontextmanager
async def beside(*arguments):
    """This program once more, as something that goes on beside the well-behaved."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        preexec_fn=die_with_parent)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def spin():
    """Keeps the machine busy with nothing, where nobody else wants it."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    for _ in range(1, os.cpu_count()):
        if os.fork() == 0:
            die_with_parent()
            break
    while True:
        pass


async def be_crowd(options):
    """The crowd, until its standard input ends; then it says what it did."""
    if not options.same_priority:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    attack = Crowd(json.loads(options.be_crowd), options.abusive, options.ways)

    def until_told():
        sys.stdin.read()
        os.write(1, json.dumps(attack.done).encode())
        # All at once, as a crowd that loses its network does.
        os._exit(0)

    threading.Thread(target=until_told, daemon=True).start()
    await attack.run()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=15_000)
    parser.add_argument("--abusive", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--ways", nargs="+", choices=Crowd.WAYS, default=Crowd.WAYS)
    parser.add_argument("--p99-ms-max", type=float, help="most that the crowd may cost, if it is to fail")
    parser.add_argument("--growth-mib-max", type=int, default=GROWTH_MIB_MAX)
    parser.add_argument("--same-priority", action="store_true", help="let the crowd compete for the processor")
    parser.add_argument("--be-crowd", help=argparse.SUPPRESS)
    parser.add_argument("--spin", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.spin:
        spin()
    if options.be_crowd:
        await be_crowd(options)
        return
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
    lasts = 120 + 4 * options.seconds
    fleet = await asyncio.create_subprocess_exec(
        *bench(node, "idle", "--connections", str(idle), "--duration", str(lasts)),
        stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)
    deadline = time.monotonic() + 60
    open_now = lambda: node.metric('sluice_listener_connections\\{listener="fleet"\\}')
    while open_now() < idle:
        assert time.monotonic() < deadline, f"{open_now()} of {idle} are connected"
        await asyncio.sleep(0.5)
    at_rest = node.memory()
    print(f"{idle} idle connections, {at_rest} MiB", flush=True)
    alone = await Phase("alone", node).run(options)
    async with beside("--spin"):
        busy = await Phase("busy", node).run(options)
    ways = ["--abusive", str(options.abusive), "--ways", *options.ways]
    ways += ["--same-priority"] * options.same_priority
    async with beside("--be-crowd", json.dumps(node.ports), *ways) as attack:
        # Once they are all there.
        await asyncio.sleep(2)
        began = time.monotonic()
        crowded = await Phase("crowd", node, attack).run(options)
        after, kept = node.memory(), node.streams()
        lasted = time.monotonic() - began + 2
        done, _ = await attack.communicate(b"")
    done = {way: round(count / lasted, 1) for way, count in json.loads(done).items()}
    print(f"what the {options.abusive} did a second: {done}")
    print(f"{after} MiB, of which the streams in memory are {kept}; grown by {after['RssAnon'] - at_rest['RssAnon']} "
          f"of at most {options.growth_mib_max}: {SHARES_MIB} and an eighth")
    text_now = node.metrics()
    for name in ("timeouts", "crowded_out", "bad_connects", "not_admitted", "rate_waits",
                 "tls_handshakes_failed", "upgrades_failed"):
        found = re.findall(rf'^sluice_listener_{name}_total\{{listener="(.*?)"\}} ([1-9]\d*)', text_now, re.M)
        print(f"  {name}: {dict(found)}")
    assert fleet.returncode is None, "an idle client lost its connection"
    assert open_now() >= idle, "the fleet is still there"
    grown = after["RssAnon"] - at_rest["RssAnon"]
    assert grown <= options.growth_mib_max, f"{grown} MiB are more than all that is bounded together"
    if options.p99_ms_max is not None:
        for what in ("ack_ms", "delivery_ms"):
            most = max(alone.p99(what), busy.p99(what)) + options.p99_ms_max
            assert crowded.p99(what) <= most, what
    fleet.send_signal(signal.SIGTERM)
    await fleet.wait()


if __name__ == "__main__":
    asyncio.run(main())
