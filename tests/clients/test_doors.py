"""TLS, mutual TLS, WebSocket, PROXY headers and rates: the real program, spoken to by mosquitto,
Paho and MQTT.js, and by peers that mean no good."""

import json
import os
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.request

import paho.mqtt.client as paho
import pytest

from sluice import Sluice

LISTENERS = """
[authorization]
no_match = "allow"
[[listener]]
kind = "mqtt"
name = "plain"
bind = "127.0.0.1:0"
[[listener]]
kind = "mqtts"
name = "secure"
bind = "[::1]:0"
certificate = "node.pem"
key = "node.key"
[[listener]]
kind = "mqtts"
name = "mutual"
bind = "127.0.0.1:0"
certificate = "node.pem"
key = "node.key"
client_ca = "ca.pem"
connect_timeout_ms = 1000
[[listener]]
kind = "ws"
name = "web"
bind = "127.0.0.1:0"
connect_timeout_ms = 1000
[[listener]]
kind = "wss"
name = "secure-web"
bind = "127.0.0.1:0"
certificate = "node.pem"
key = "node.key"
[[listener]]
kind = "mqtt"
name = "proxied"
bind = "127.0.0.1:0"
proxy_protocol = true
proxy_from = ["127.0.0.0/8"]
[[listener]]
kind = "mqtt"
name = "stranger"
bind = "127.0.0.1:0"
proxy_protocol = true
proxy_from = ["192.0.2.0/24"]
[[listener]]
kind = "mqtt"
name = "slow"
bind = "127.0.0.1:0"
messages_in_per_s = 20
[[listener]]
kind = "mqtts"
name = "narrow"
bind = "127.0.0.1:0"
certificate = "node.pem"
key = "node.key"
bytes_in_per_s = "16KB"
[[listener]]
kind = "mqtt"
name = "small"
bind = "127.0.0.1:0"
connections_max = 2
[[listener]]
kind = "mqtt"
name = "paced"
bind = "127.0.0.1:0"
connections_per_s = 5
"""

CONNECT = b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02ab"
CONNACK = b"\x20\x02\0\0"
V2 = b"\r\n\r\n\0\r\nQUIT\n"


class Doors(Sluice):
    """A node with all kinds of listeners for MQTT; ports by the name of the listener."""

    BY_FLAG = ("kafka", "http")

    def start(self):
        super().start()
        found = [re.match(r"\s*(MQTTS?|WSS?)\s+\S*:(\d+)", line) for line in self.lines]
        ports = [int(match.group(2)) for match in found if match]
        self.ports = dict(zip(re.findall(r'name = "(.*)"', self.config), ports, strict=True))
        return self

    def metric(self, name, listener):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return int(re.search(rf'^{name}\{{listener="{listener}"\}} (\d+)', text, re.M).group(1))

    def connect(self, listener, first=CONNECT, host="127.0.0.1"):
        """A socket that has sent its first bytes."""
        stream = socket.create_connection((host, self.ports[listener]), timeout=15)
        stream.sendall(first)
        return stream


def make_certificates(folder, serial="1"):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    if not os.path.exists(folder / "ca.pem"):
        for name in ("ca", "other"):
            openssl("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem",
                    "-days", "2", "-subj", f"/CN={name}")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n")
    for name, authority in (("node", "ca"), ("lock", "ca"), ("thief", "other")):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey",
                f"{authority}.key", "-set_serial", serial, "-out", f"{name}.pem", "-days", "2",
                "-extfile", "names")


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors")
    make_certificates(folder)
    doors = Doors(folder, LISTENERS).start()
    yield doors
    doors.kill()


def read_all(stream):
    """What comes until the peer closes, or says nothing for 15 seconds."""
    got = b""
    try:
        while chunk := stream.recv(65536):
            got += chunk
    except ConnectionError:
        pass
    return got


def mosquitto(doors, listener, *arguments, host="127.0.0.1"):
    port = str(doors.ports[listener])
    return subprocess.run(
        ["mosquitto_pub", "-h", host, "-p", port, "-t", "doors/x", "-m", "open", "-q", "1", *arguments],
        cwd=doors.folder, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_mosquitto_comes_in_over_tls(doors, version):
    assert mosquitto(doors, "secure", "--cafile", "ca.pem", "--tls-version", version,
                     host="::1").returncode == 0
    assert mosquitto(doors, "secure", "--cafile", "other.pem", host="::1").returncode != 0
    assert mosquitto(doors, "secure", host="::1").returncode != 0, "without TLS"


def test_mutual_tls_lets_in_whom_the_authority_signed(doors):
    by = lambda name: ["--cafile", "ca.pem", "--cert", f"{name}.pem", "--key", f"{name}.key"]
    assert mosquitto(doors, "mutual", *by("lock")).returncode == 0
    assert mosquitto(doors, "mutual", *by("thief")).returncode != 0
    assert mosquitto(doors, "mutual", "--cafile", "ca.pem").returncode != 0


def test_the_programs_own_clients_travel_as_well(doors):
    ca = os.path.join(doors.folder, "ca.pem")
    ways = {
        "secure": [f"mqtts://[::1]:{doors.ports['secure']}", "--cafile", ca],
        "web": [f"ws://127.0.0.1:{doors.ports['web']}/mqtt"],
        "secure-web": [f"wss://localhost:{doors.ports['secure-web']}", "--insecure"],
        "plain": ["127.0.0.1", "-p", str(doors.ports["plain"])],
    }
    for name, way in ways.items():
        sent = doors.run("pub", "-h", *way, "-q", "2", "-r", "-t", f"own/{name}", "-m", "x" * 50_000)
        assert sent.returncode == 0, sent.stderr
    for name, way in ways.items():
        got = doors.run("sub", "-h", *way, "-q", "1", "-t", "own/+", "-C", "4")
        assert got.stdout.split() == ["x" * 50_000] * 4, (name, got.stderr)
    wrong = doors.run("pub", "-h", f"mqtts://[::1]:{doors.ports['secure']}", "-t", "a", "-m", "b")
    assert wrong.returncode != 0 and "--cafile" in wrong.stderr


@pytest.mark.parametrize("listener", ["secure-web", "web", "mutual"])
@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5])
def test_paho_keeps_order_through_every_layer(doors, listener, version):
    def client(name):
        made = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"{listener}-{name}-{version}",
                           protocol=version, transport="websockets" if "web" in listener else "tcp")
        if listener != "web":
            folder = doors.folder
            own = (f"{folder}/lock.pem", f"{folder}/lock.key") if listener == "mutual" else (None, None)
            made.tls_set(f"{folder}/ca.pem", *own)
        if "web" in listener:
            made.ws_set_options(path="/mqtt")
        return made

    payloads = [bytes([n % 251]) * (n * 997 % 70_000) for n in range(60)]
    got, all_came, subscribed = [], threading.Event(), threading.Event()
    reader, writer = client("r"), client("w")

    def on_message(_client, _data, message):
        got.append(message.payload)
        if len(got) == len(payloads):
            all_came.set()

    reader.on_message = on_message
    reader.on_connect = lambda c, *_: c.subscribe(f"order/{listener}/{version}", 1)
    reader.on_subscribe = lambda *_: subscribed.set()
    for each in (reader, writer):
        each.connect("localhost", doors.ports[listener])
        each.loop_start()
    assert subscribed.wait(20)
    for payload in payloads:
        writer.publish(f"order/{listener}/{version}", payload, 1)
    assert all_came.wait(30), len(got)
    assert got == payloads
    for each in (reader, writer):
        each.disconnect()
        each.loop_stop()


def test_mqttjs_over_websocket(doors):
    script = """
      import mqtt from "mqtt";
      const [url, ca] = process.argv.slice(1);
      const fs = await import("node:fs");
      // Version 3.1 asks for the subprotocol mqttv3.1.
      for (const protocolVersion of [3, 4, 5]) {
        const protocolId = protocolVersion === 3 ? "MQIsdp" : "MQTT";
        const options = { protocolVersion, protocolId, ca: ca ? [fs.readFileSync(ca)] : undefined };
        const client = await mqtt.connectAsync(url, options);
        await client.subscribeAsync("js/" + protocolVersion, { qos: 1 });
        const came = new Promise((done) => client.on("message", (_t, payload) => done(payload)));
        await client.publishAsync("js/" + protocolVersion, Buffer.alloc(100000, "z"), { qos: 2 });
        if ((await came).length !== 100000) process.exit(3);
        await client.endAsync();
      }
    """
    here = os.path.dirname(os.path.abspath(__file__))
    for url, ca in ((f"ws://127.0.0.1:{doors.ports['web']}/mqtt", ""),
                    (f"wss://localhost:{doors.ports['secure-web']}/mqtt", f"{doors.folder}/ca.pem")):
        ran = subprocess.run(["node", "--input-type=module", "-e", script, "--", url, ca],
                             cwd=here, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr


def upgrade(more="Sec-WebSocket-Protocol: mqtt\r\n", path="/mqtt", host="127.0.0.1"):
    return (f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n").encode()


def test_what_asks_for_something_else_is_told(doors):
    offer = "Sec-WebSocket-Protocol: mqtt\r\n"
    for asked, status in ((upgrade(path="/"), b"404"), (upgrade(""), b"400"),
                          (upgrade(offer + "Origin: https://evil.example\r\n"), b"403"),
                          (CONNECT, b"400"), (b"A" * 9000, b"431"),
                          (upgrade(offer + "X: " + "y" * 9000 + "\r\n"), b"431")):
        with doors.connect("web", asked) as stream:
            assert read_all(stream).startswith(b"HTTP/1.1 " + status), asked[:40]


def test_frames_that_lie_are_cut_with_a_code(doors):
    mask = b"\0\0\0\0"
    for frame, code in ((b"\x82\xff" + b"\xff" * 8 + mask, 1002), (b"\x82\x01x", 1002),
                        (b"\x81\x81" + mask + b"x", 1003), (b"\x89\xfe\0\x7e" + mask, 1002),
                        (b"\x88\x82" + mask + b"\x03\xed", 1002), (b"\x88\x83" + mask + b"\x03\xe8\xff", 1007)):
        with doors.connect("web", upgrade() + b"\x82\x90" + mask + CONNECT) as stream:
            got = b""
            while not got.endswith(b"\x82\x04" + CONNACK):
                got += stream.recv(4096)
            stream.sendall(frame)
            assert read_all(stream) == b"\x88\x02" + struct.pack(">H", code), frame
    # One that announces more than can be is served as far as it comes, and buys no memory.
    with doors.connect("web", upgrade() + b"\x82\xff" + struct.pack(">Q", 1 << 62) + mask + CONNECT) as stream:
        got = b""
        while not got.endswith(b"\x82\x04" + CONNACK):
            got += stream.recv(4096)
    assert doors.metric("sluice_listener_broken_frames_total", "web") >= 4


def test_who_never_finishes_is_not_waited_for(doors):
    before = doors.metric("sluice_listener_timeouts_total", "web")
    starts = [("web", b"GET /mqtt HTTP/1.1\r\nHost: x\r\nX:"), ("web", b""), ("web", upgrade()),
              ("mutual", b"\x16\x03\x01\x02\0\x01"), ("mutual", b"")]
    begun = time.monotonic()
    streams = [doors.connect(listener, first) for listener, first in starts for _ in range(40)]
    slow = doors.connect("web", b"GET /mqtt HTTP/1.1\r\n")
    dripping = threading.Event()

    def drip():
        # A header every now and then does not lengthen the wait.
        try:
            while not dripping.wait(0.2):
                slow.sendall(b"X: y\r\n")
        except OSError:
            pass

    thread = threading.Thread(target=drip)
    thread.start()
    # Meanwhile others come in as if nothing was.
    assert mosquitto(doors, "plain").returncode == 0
    for stream in streams:
        read_all(stream)
        stream.close()
    read_all(slow)
    dripping.set()
    thread.join()
    assert time.monotonic() - begun < 9, "the listeners say one second, and the node ten"
    assert doors.metric("sluice_listener_timeouts_total", "web") >= before + 121
    assert doors.metric("sluice_listener_connections", "web") == 0


def test_a_flood_of_handshakes_keeps_nobody_out(doors):
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            try:
                with doors.connect("mutual", b"\x16\x03\x01\0\x05\x01\0\0\x01\0") as stream:
                    read_all(stream)
            except OSError:
                pass

    threads = [threading.Thread(target=flood) for _ in range(24)]
    for thread in threads:
        thread.start()
    try:
        lock = ["--cafile", "ca.pem", "--cert", "lock.pem", "--key", "lock.key"]
        for _ in range(5):
            assert mosquitto(doors, "mutual", *lock).returncode == 0
            assert mosquitto(doors, "plain").returncode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert doors.metric("sluice_listener_tls_handshakes_failed_total", "mutual") > 24


def from_address(doors, listener, address, first=b""):
    """A socket of another loopback address that has sent its first bytes."""
    stream = socket.socket()
    stream.bind((address, 0))
    stream.settimeout(15)
    stream.connect(("127.0.0.1", doors.ports[listener]))
    stream.sendall(first)
    return stream


def client_hello(folder):
    said, heard = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    with pytest.raises(ssl.SSLWantReadError):
        trusting.wrap_bio(heard, said, server_hostname="localhost").do_handshake()
    return said.read()


def open_files(most):
    """Lets the test have so many; answers the limits of before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(most, soft)), hard))
    return soft, hard


def test_half_a_handshake_keeps_nobody_out(doors):
    before = open_files(8_000)
    hello = client_hello(doors.folder)
    streams = []
    try:
        # Nothing, a part of a ClientHello, or a whole one and no answer to what is said to it.
        for number in range(1_500):
            first = (b"", hello[:50], hello)[number % 3]
            streams.append(from_address(doors, "secure-web", f"127.3.0.{1 + number // 30}", first))
        trusting = ssl.create_default_context(cafile=f"{doors.folder}/ca.pem")
        begun = time.monotonic()
        with doors.connect("secure-web", b"") as plain, \
                trusting.wrap_socket(plain, server_hostname="localhost") as stream:
            stream.sendall(upgrade())
            assert stream.recv(12) == b"HTTP/1.1 101"
        assert time.monotonic() - begun < 4
        assert resident(doors) < 300 << 20
    finally:
        for stream in streams:
            stream.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def v2(source, port=4321):
    packed = socket.inet_aton(source) + socket.inet_aton("10.0.0.1") + struct.pack(">HH", port, 1883)
    return V2 + b"\x21\x11" + struct.pack(">H", len(packed)) + packed


def peers(doors):
    with urllib.request.urlopen(f"http://127.0.0.1:{doors.http}/api/v1/clients", timeout=10) as answer:
        return answer.read().decode()


def test_a_proxy_says_who_is_there(doors):
    v1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 4321 1883\r\n"
    for header, address in ((v1, "203.0.113.9:4321"), (v2("203.0.113.77"), "203.0.113.77:4321"),
                            (V2 + b"\x20\0\0\0", "127.0.0.1:")):
        with doors.connect("proxied", header + CONNECT) as stream:
            assert stream.recv(4) == CONNACK
            assert address in peers(doors)


def test_a_ban_concerns_who_is_behind_the_proxy(doors):
    def api(method, path, ban=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{doors.http}/api/v1/bans{path}", method=method,
            data=json.dumps(ban).encode() if ban else None, headers={"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status in (200, 201, 204)

    api("POST", "", {"kind": "address", "value": "203.0.113.7"})
    try:
        # It is closed before it is listened to, and neither the proxy nor who else is behind it is.
        with doors.connect("proxied", v2("203.0.113.7")) as stream:
            stream.settimeout(5)
            assert read_all(stream) == b""
        with doors.connect("proxied", v2("203.0.113.8") + CONNECT) as stream:
            assert stream.recv(4) == CONNACK
    finally:
        api("DELETE", "/address:203.0.113.7")
    with doors.connect("proxied", v2("203.0.113.7") + CONNECT) as stream:
        assert stream.recv(4) == CONNACK


def test_a_proxy_header_that_is_none_is_refused(doors):
    before = doors.metric("sluice_listener_bad_proxy_headers_total", "proxied")
    bad = [CONNECT, b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n" + CONNECT, b"PROXY " + b"x" * 200,
           V2 + b"\x21\x11\xff\xff" + CONNECT, V2 + b"\x21\x12\0\x0c" + b"\0" * 12 + CONNECT]
    for first in bad:
        with doors.connect("proxied", first) as stream:
            assert read_all(stream) == b"", first
    assert doors.metric("sluice_listener_bad_proxy_headers_total", "proxied") == before + len(bad)
    # From elsewhere nobody may claim to be another.
    with doors.connect("stranger", CONNECT) as stream:
        assert stream.recv(4) == CONNACK
    with doors.connect("stranger", v2("203.0.113.7") + CONNECT) as stream:
        assert not read_all(stream).startswith(CONNACK)


def publish(number, size=10):
    body = b"\0\x01r" + struct.pack(">H", number) + b"x" * size
    length = len(body)
    header = b""
    while True:
        length, byte = divmod(length, 128)
        header += bytes([byte | (0x80 if length else 0)])
        if not length:
            return b"\x32" + header + body


def acknowledged(stream, count):
    got = b""
    while len(got) < 4 * count:
        chunk = stream.recv(65536)
        assert chunk, "closed"
        got += chunk


def test_who_is_over_its_rate_is_read_more_slowly_and_not_cut(doors):
    # Keep alive of one second: it must not punish who is not read.
    hasty = CONNECT.replace(b"\0\x3c", b"\0\x01")
    with doors.connect("slow", hasty) as stream:
        assert stream.recv(4) == CONNACK
        start = time.monotonic()
        stream.sendall(b"".join(publish(n) for n in range(1, 101)))
        acknowledged(stream, 100)
        took = time.monotonic() - start
        # 20 at once and 80 more at 20 a second.
        assert 3.5 < took < 8, took
    assert doors.metric("sluice_listener_rate_waits_total", "slow") > 0


def details(doors, client_id):
    path = f"http://127.0.0.1:{doors.http}/api/v1/clients/{client_id}"
    with urllib.request.urlopen(path, timeout=10) as answer:
        return json.load(answer)


def test_a_clients_details_tell_its_listener_and_its_rates(doors):
    # Its session stays when it goes.
    lasting = CONNECT.replace(b"\x04\x02", b"\x04\0").replace(b"ab", b"dt")
    with doors.connect("slow", lasting) as stream:
        assert stream.recv(4) == CONNACK
        told = details(doors, "dt")
        assert told["listener"] == "slow" and not told["slowed"]
        assert (told["limits"]["messages_in_per_s"], told["limits"]["bytes_in_per_s"]) == (20, None)
        nothing = told["traffic"]
        assert set(nothing.values()) == {0}
        # A subscriber to what it publishes itself; a second's worth at once, and more than it may.
        stream.sendall(b"\x82\x06\0\x01\0\x01r\0")
        assert stream.recv(5) == b"\x90\x03\0\x01\0"
        sent = b"".join(publish(n, 100) for n in range(1, 61))
        stream.sendall(sent)
        deadline = time.monotonic() + 10
        while not details(doors, "dt")["slowed"]:
            assert time.monotonic() < deadline, "60 messages at 20 a second"
        shown = doors.run("ctl", "clients", "show", "dt", "--http", f"127.0.0.1:{doors.http}",
                          "--data-dir", os.path.join(doors.folder, "data")).stdout
        assert re.search(r"^listener +slow$", shown, re.M), shown
        assert re.search(r"^from it +\d+\.\d messages/s, .* of 20 messages/s; it is being slowed down$", shown, re.M), shown
        assert re.search(r"^to it +\d+\.\d messages/s", shown, re.M), shown
        # Each comes back as QoS 0, and is acknowledged.
        back = (publish(1, 100).replace(b"\x32", b"\x30", 1), 4)
        whole = 60 * (len(back[0]) - 2 + back[1])
        got = 0
        while got < whole:
            got += len(stream.recv(65536))
        traffic = details(doors, "dt")["traffic"]
        assert (traffic["messages_in"], traffic["messages_out"]) == (60, 60)
        assert (traffic["bytes_in"], traffic["bytes_out"]) == (len(sent) + 8, whole + 5)
        # 60 messages within the last seconds: a second at least, twenty at most.
        for way in ("in", "out"):
            assert 3 <= traffic[f"messages_{way}_per_s"] <= 60
            rate = traffic[f"bytes_{way}_per_s"] / traffic[f"messages_{way}_per_s"]
            assert 100 < rate < 130, traffic
    deadline = time.monotonic() + 10
    while (told := details(doors, "dt"))["connected"]:
        assert time.monotonic() < deadline
    assert told["listener"] is None and told["traffic"] is None and not told["slowed"]


def test_the_bytes_of_a_client_behind_tls_are_counted_too(doors):
    trusting = ssl.create_default_context(cafile=f"{doors.folder}/ca.pem")
    with doors.connect("narrow", b"") as plain, \
            trusting.wrap_socket(plain, server_hostname="localhost") as stream:
        stream.sendall(CONNECT.replace(b"ab", b"tn"))
        assert stream.recv(4) == CONNACK
        stream.sendall(publish(1, 1000))
        acknowledged(stream, 1)
        told = details(doors, "tn")
        assert (told["listener"], told["limits"]["bytes_in_per_s"]) == ("narrow", 16 << 10)
        # With what TLS adds to what came, without it in what went.
        assert told["traffic"]["messages_in"] == 1 and told["traffic"]["messages_out"] == 0
        assert 1_007 < told["traffic"]["bytes_in"] < 1_200 and told["traffic"]["bytes_out"] == 4


def test_who_is_within_its_rate_sees_no_change(doors):
    with doors.connect("slow") as stream:
        assert stream.recv(4) == CONNACK
        before = doors.metric("sluice_listener_rate_waits_total", "slow")
        for number in range(1, 16):
            start = time.monotonic()
            stream.sendall(publish(number))
            acknowledged(stream, 1)
            assert time.monotonic() - start < 1
        assert doors.metric("sluice_listener_rate_waits_total", "slow") == before


def test_bytes_are_bounded_through_tls_too(doors):
    trusting = ssl.create_default_context(cafile=f"{doors.folder}/ca.pem")
    with doors.connect("narrow", b"") as plain, \
            trusting.wrap_socket(plain, server_hostname="localhost") as stream:
        stream.sendall(CONNECT)
        assert stream.recv(4) == CONNACK
        start = time.monotonic()
        stream.sendall(b"".join(publish(n, 4000) for n in range(1, 17)))
        acknowledged(stream, 16)
        # 64 KiB at 16 KiB a second, the first of them at once.
        assert 2 < time.monotonic() - start < 9


def test_a_listener_takes_as_many_as_it_may(doors):
    first = [doors.connect("small", CONNECT.replace(b"ab", b"s" + bytes([n]))) for n in b"12"]
    for stream in first:
        assert stream.recv(4) == CONNACK
    with doors.connect("small", CONNECT.replace(b"ab", b"s3")) as refused:
        assert read_all(refused) == b"\x20\x02\0\x03", "server unavailable"
    assert doors.metric("sluice_listener_full_total", "small") == 1
    for stream in first:
        stream.close()
    deadline = time.monotonic() + 10
    while doors.metric("sluice_listener_connections", "small") > 0:
        assert time.monotonic() < deadline
    with doors.connect("small") as stream:
        assert stream.recv(4) == CONNACK


def test_a_listener_takes_no_more_a_second_than_it_may(doors):
    start = time.monotonic()
    for number in range(15):
        with doors.connect("paced", CONNECT.replace(b"ab", b"p%c" % (97 + number))) as stream:
            assert stream.recv(4) == CONNACK, "who comes too fast waits"
    # Five at once and ten more at five a second.
    assert 1.5 < time.monotonic() - start < 10
    assert doors.metric("sluice_listener_accept_waits_total", "paced") > 0


def test_a_packet_that_announces_too_much_is_not_read(doors):
    with doors.connect("plain", CONNECT.replace(b"\x0e\0\x04MQTT\x04\x02\0\x3c", b"\x0f\0\x04MQTT\x05\x02\0\x3c\0")) as stream:
        assert stream.recv(2)[0] == 0x20
        # 2 MB, where 1 MB may be; nothing of it follows.
        stream.sendall(b"\x30\x80\x80\x80\x01\0\x01a")
        assert re.search(rb"\xe0[\x01-\x7f]\x95", read_all(stream)), "packet too large"


def test_a_certificate_is_taken_anew_while_connections_stay(tmp_path):
    make_certificates(tmp_path)
    config = LISTENERS[LISTENERS.index('[[listener]]\nkind = "mqtts"\nname = "mutual"'):]
    config = config[:config.index('[[listener]]\nkind = "ws"')]
    doors = Doors(tmp_path, config).start()
    try:
        context = ssl.create_default_context(cafile=f"{tmp_path}/ca.pem")
        context.load_cert_chain(f"{tmp_path}/lock.pem", f"{tmp_path}/lock.key")

        def meet():
            plain = socket.create_connection(("127.0.0.1", doors.ports["mutual"]), timeout=15)
            stream = context.wrap_socket(plain, server_hostname="localhost")
            stream.sendall(CONNECT)
            assert stream.recv(4) == CONNACK
            return stream, stream.getpeercert()["serialNumber"]

        old, serial = meet()
        assert serial == "01"
        make_certificates(tmp_path, serial="2")
        doors.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while True:
            fresh, serial = meet()
            fresh.close()
            if serial == "02":
                break
            assert time.monotonic() < deadline
        # The first was taken over by those that came later, which is its end in MQTT, not in TLS.
        old.close()
    finally:
        assert doors.stop() == 0


def test_a_stop_says_good_bye_through_every_layer(tmp_path):
    make_certificates(tmp_path)
    doors = Doors(tmp_path, LISTENERS).start()
    five = b"\x10\x10\0\x04MQTT\x05\x02\0\x3c\0\0\x03ws5"
    trusting = ssl.create_default_context(cafile=f"{tmp_path}/ca.pem")
    web = doors.connect("web", upgrade() + b"\x82" + bytes([0x80 | len(five)]) + b"\0\0\0\0" + five)
    got = b""
    while b"\r\n\r\n\x82" not in got:
        got += web.recv(4096)
    plain = socket.create_connection(("::1", doors.ports["secure"]), timeout=15)
    secure = trusting.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
    secure.sendall(five.replace(b"ws5", b"tl5"))
    assert secure.recv(1) == b"\x20"
    assert doors.stop() == 0
    # DISCONNECT 0x8B in a frame, then a Close frame.
    got = read_all(web)
    assert b"\xe0" in got and b"\x8b" in got and got.endswith(b"\x88\x02\x03\xe8"), got
    rest = b""
    while chunk := secure.recv(4096):
        rest += chunk
    assert b"\xe0" in rest, "and the end is TLS's own: else recv had raised"


def test_a_page_of_elsewhere_is_kept_out_of_the_default_listener(tmp_path):
    node = Sluice(tmp_path).start()
    try:
        for origin, status in (("http://localhost:18083", b"101"), ("https://evil.example", b"403")):
            with socket.create_connection(("127.0.0.1", node.ws), timeout=15) as stream:
                stream.sendall(upgrade(f"Sec-WebSocket-Protocol: mqtt\r\nOrigin: {origin}\r\n"))
                assert stream.recv(12) == b"HTTP/1.1 " + status
    finally:
        node.kill()



OTHERS = """
[[listener]]
kind = "mqtt"
name = "plain"
bind = "127.0.0.1:0"
connections_max = 20
[[listener]]
kind = "mqtts"
name = "secure"
bind = "127.0.0.1:0"
certificate = "node.pem"
key = "node.key"
[[listener]]
kind = "mqtt"
name = "crowd"
bind = "127.0.0.1:0"
proxy_protocol = true
connect_timeout_ms = 60000
[[listener]]
kind = "kafka"
name = "kafka-proxied"
bind = "127.0.0.1:0"
proxy_protocol = true
[[listener]]
kind = "kafka"
name = "kafka-small"
bind = "127.0.0.1:0"
connections_max = 2
bytes_in_per_s = "4KB"
[[listener]]
kind = "kafkas"
name = "kafka-secure"
bind = "127.0.0.1:0"
certificate = "node.pem"
key = "node.key"
[[listener]]
kind = "http"
name = "http-proxied"
bind = "127.0.0.1:0"
proxy_protocol = true
[[listener]]
kind = "http"
name = "http-small"
bind = "127.0.0.1:0"
connections_max = 4
"""


class Others(Doors):
    """A node whose listeners for Kafka and HTTP have bounds too."""

    BY_FLAG = ()

    def start(self):
        Sluice.start(self)
        found = [re.match(r"\s*(MQTTS?|Kafkas?|HTTPS?)\s+\S*:(\d+)", line) for line in self.lines]
        ports = [int(match.group(2)) for match in found if match]
        self.ports = dict(zip(re.findall(r'name = "(.*)"', self.config), ports, strict=True))
        self.http = self.ports["http-small"]
        return self


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    make_certificates(folder)
    others = Others(folder, OTHERS).start()
    yield others
    others.kill()


# ApiVersions version 0, correlation id 7, without a client id; and with one that is `size` bytes.
def api_versions(size=0):
    client_id = struct.pack(">h", -1) if not size else struct.pack(">h", size) + b"x" * size
    body = struct.pack(">hhi", 18, 0, 7) + client_id
    return struct.pack(">i", len(body)) + body


def answered(stream):
    size = int.from_bytes(stream.recv(4, socket.MSG_WAITALL), "big")
    body = stream.recv(size, socket.MSG_WAITALL)
    assert len(body) == size and body[:4] == struct.pack(">i", 7)


def test_kafka_and_http_stand_behind_proxies_too(others):
    v1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 4321 9092\r\n"
    with others.connect("kafka-proxied", v1 + api_versions()) as stream:
        answered(stream)
        url = f"http://127.0.0.1:{others.http}/api/v1/kafka"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"203.0.113.9:4321" in answer.read()
    with others.connect("kafka-proxied", v2("203.0.113.9") + api_versions()) as stream:
        answered(stream)
    asked = b"GET /api/v1/listeners HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with others.connect("http-proxied", v1 + asked) as stream:
        assert read_all(stream).startswith(b"HTTP/1.1 401"), "it is not on this machine alone"
    with others.connect("http-small", asked) as stream:
        assert read_all(stream).startswith(b"HTTP/1.1 200")
    for listener, first in (("kafka-proxied", api_versions()), ("http-proxied", asked)):
        with others.connect(listener, first) as stream:
            assert read_all(stream) == b""
        assert others.metric("sluice_listener_bad_proxy_headers_total", listener) == 1


def test_listeners_for_kafka_take_as_many_and_as_much_as_they_may(others):
    first, second = (others.connect("kafka-small", api_versions()) for _ in range(2))
    answered(first)
    answered(second)
    with others.connect("kafka-small", api_versions()) as third:
        assert read_all(third) == b""
    url = f"http://127.0.0.1:{others.http}/api/v1/listeners"
    with urllib.request.urlopen(url, timeout=10) as answer:
        counted = {row["name"]: row["connections"] for row in json.load(answer)["items"]}
    assert counted["kafka-small"] == 2 and counted["http-small"] == 1 and counted["plain"] == 0
    assert others.metric("sluice_listener_full_total", "kafka-small") == 1
    # 4 KiB at once, 12 more at 4 a second.
    begun = time.monotonic()
    for _ in range(16):
        first.sendall(api_versions(1_000))
    for _ in range(16):
        answered(first)
    assert 2 < time.monotonic() - begun < 9
    assert others.metric("sluice_listener_rate_waits_total", "kafka-small") > 0
    first.close()
    second.close()


def test_who_is_silent_where_tls_is_spoken_keeps_no_kafka_client_out(others):
    silent = [from_address(others, "kafka-secure", f"127.4.0.{1 + number // 32}") for number in range(512)]
    try:
        trusting = ssl.create_default_context(cafile=f"{others.folder}/ca.pem")
        begun = time.monotonic()
        with others.connect("kafka-secure", b"") as plain, \
                trusting.wrap_socket(plain, server_hostname="localhost") as stream:
            stream.sendall(api_versions())
            assert len(stream.recv(4)) == 4
        assert time.monotonic() - begun < 4
    finally:
        for stream in silent:
            stream.close()


def test_who_says_nothing_keeps_nobody_out(others):
    before = open_files(20_000)
    silent = []
    try:
        for _ in range(4_200):
            silent.append(others.connect("plain", b""))
        begun = time.monotonic()
        # More than the listener may have, and more than may wait; none of them counts.
        for number in range(10):
            asked = CONNECT.replace(b"ab", b"q" + bytes([48 + number]))
            stream = from_address(others, "plain", "127.0.0.2", asked)
            assert stream.recv(4) == CONNACK
            silent.append(stream)
        assert time.monotonic() - begun < 4, "a second of grace, and not the ten of a CONNECT"
        assert others.metric("sluice_listener_crowded_out_total", "plain") >= 104
    finally:
        for stream in silent:
            stream.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_who_says_nothing_behind_a_proxy_loses_its_own_place(others):
    before = open_files(20_000)
    held = []
    try:
        # The proxy is one address; who stands behind it are two.
        patient = others.connect("crowd", v2("203.0.113.1"))
        held.append(patient)
        for _ in range(4_200):
            held.append(others.connect("crowd", v2("203.0.113.2")))
        deadline = time.monotonic() + 30
        while others.metric("sluice_listener_crowded_out_total", "crowd") < 100:
            assert time.monotonic() < deadline
        patient.sendall(CONNECT)
        assert patient.recv(4) == CONNACK, "it came first, and is not of the busiest address"
    finally:
        for stream in held:
            stream.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_connects_that_never_end_share_a_bounded_memory(others):
    # A CONNECT that announces 512 KiB and sends 500 of them.
    begin = b"\x10\xf0\xff\x1f\0\x04MQTT\x05\x02\0\x3c\0\0\x01c"
    streams = []
    before = resident(others)
    closed = 0
    try:
        for _ in range(250):
            stream = others.connect("plain", begin)
            streams.append(stream)
            try:
                stream.sendall(b"x" * 500_000)
            except OSError:
                closed += 1
        assert resident(others) - before < 160 << 20, (before, resident(others))
        with others.connect("plain") as stream:
            assert stream.recv(4) == CONNACK
    finally:
        for stream in streams:
            stream.close()
    assert others.metric("sluice_listener_crowded_out_total", "plain") > 0


def resident(node):
    with open(f"/proc/{node.process.pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) * 1024


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_device_that_comes_back_resumes_its_session(others, version):
    context = ssl.create_default_context(cafile=f"{others.folder}/ca.pem")
    context.minimum_version = context.maximum_version = version
    session = None
    for again in (False, True):
        plain = socket.create_connection(("127.0.0.1", others.ports["secure"]), timeout=15)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as stream:
            stream.sendall(CONNECT)
            assert stream.recv(4) == CONNACK
            assert stream.session_reused == again
            session = stream.session
