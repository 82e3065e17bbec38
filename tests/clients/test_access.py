"""Who comes in by MQTT and who may do what: Eclipse Paho against the real program, with an HTTP
service that answers, is slow, is dead, or answers nonsense."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import queue
import select
import signal
import socket
import subprocess
import threading
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

SECRET = "geheim-geheim-geheim-geheim-geheim"


def encoded(part):
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def token(secret=SECRET, algorithm="HS256", **claims):
    header = b'{"alg":"%s","typ":"JWT"}' % algorithm.encode()
    signed = encoded(header) + b"." + encoded(json.dumps(claims).encode())
    mac = hmac.new(secret.encode(), signed, f"sha{algorithm[2:]}").digest()
    return (signed + b"." + encoded(mac)).decode()


class Client:
    """A Paho client that remembers what it was told."""

    def __init__(self, node, client_id="lock", user=None, password=None, version=5, will=None, lasting=False):
        self.told = queue.Queue()
        self.got = queue.Queue()
        protocol = paho.MQTTv5 if version == 5 else paho.MQTTv311
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=protocol)
        if user is not None:
            self.paho.username_pw_set(user, password)
        if will:
            self.paho.will_set(will, b"gone", 1)
        self.paho.on_connect = lambda _c, _u, _f, reason, _p: self.told.put(("connack", reason.value))
        self.paho.on_connect_fail = lambda _c, _u: self.told.put(("connack", None))
        self.paho.on_disconnect = lambda _c, _u, _f, reason, _p: self.told.put(("gone", reason.value))
        self.paho.on_publish = lambda _c, _u, _m, reason, _p: self.told.put(("puback", reason.value))
        self.paho.on_subscribe = lambda _c, _u, _m, codes, _p: self.told.put(
            ("suback", [code.value for code in codes])
        )
        self.paho.on_message = lambda _c, _u, message: self.got.put((message.topic, message.payload))
        if lasting:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 600
            self.paho.connect("127.0.0.1", node.mqtt, clean_start=False, properties=properties)
        else:
            self.paho.connect("127.0.0.1", node.mqtt)
        self.paho.loop_start()
        self.connack = self.wait("connack")

    def wait(self, what, seconds=15):
        while True:
            kind, value = self.told.get(timeout=seconds)
            if kind == what:
                return value

    def publish(self, topic, payload=b"x", qos=1):
        self.paho.publish(topic, payload, qos)
        return self.wait("puback") if qos else None

    def subscribe(self, topic):
        self.paho.subscribe(topic, 1)
        return self.wait("suback")[0]

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()


def connack(node, *arguments, **more):
    client = Client(node, *arguments, **more)
    client.close()
    return client.connack


def where(node):
    return ["--http", f"127.0.0.1:{node.http}", "--data-dir", os.path.join(node.folder, "data")]


def add_user(node, name, password):
    added = node.run(
        "user", *where(node), "add", name, "--password-env", "NEW_PASSWORD",
        env={**os.environ, "NEW_PASSWORD": password},
    )
    assert added.returncode == 0, added.stderr


class Service:
    """An HTTP service that is asked; `answer` is called with what was asked."""

    def __init__(self, answer):
        self.asked = []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                service.asked.append(body)
                said = answer(body)
                said = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/mqtt"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service():
    made = []

    def make(answer):
        made.append(Service(answer))
        return made[-1]

    yield make
    for one in made:
        one.stop()


# What a client may do: its own device's topics, but no secrets, and its own user's.
RULES = """
[[authorization.rule]]
effect = "deny"
filter = ["devices/+/secret"]

[[authorization.rule]]
effect = "allow"
action = "publish"
filter = ["devices/${clientid}/#"]

[[authorization.rule]]
effect = "allow"
action = "subscribe"
filter = ["users/${username}/#"]
"""

USERS = """
[[authenticator]]
kind = "users"

[authorization]
super_users = ["admin"]
""" + RULES


def test_users_and_rules(fresh):
    node = fresh(USERS).start()
    add_user(node, "joe", "pencil")
    add_user(node, "admin", "chief")
    assert connack(node, user="joe", password="pencil") == 0
    # user, password, MQTT 5, MQTT 3.1.1 (as Paho tells it: in the words of MQTT 5)
    for user, password, five in [
        ("joe", "wrong", 0x86),
        ("ann", "pencil", 0x86),
        ("joe", "", 0x86),
        (None, None, 0x87),
    ]:
        assert connack(node, user=user, password=password) == five, (user, password)
        assert connack(node, user=user, password=password, version=3) in (0x86, 0x87)
    joe = Client(node, user="joe", password="pencil")
    old = Client(node, "old", user="joe", password="pencil", version=3)
    admin = Client(node, "admin", user="admin", password="chief")
    assert admin.subscribe("#") == 1
    # Who may do what: the action, the topic, whether joe as `lock` may, and whether admin may.
    for action, topic, may, admin_may in [
        ("publish", "devices/lock/state", True, True),
        ("publish", "devices/lock", True, True),
        ("publish", "devices/lock/secret", False, True),
        ("publish", "devices/other/state", False, True),
        ("publish", "users/joe/x", False, True),
        ("subscribe", "users/joe/#", True, True),
        ("subscribe", "users/joe/x", True, True),
        ("subscribe", "$share/g/users/joe/#", True, True),
        ("subscribe", "users/ann/x", False, True),
        ("subscribe", "users/+/x", False, True),
        ("subscribe", "#", False, True),
        ("subscribe", "$share/g/#", False, True),
        ("subscribe", "devices/lock/#", False, True),
    ]:
        for client, allowed in [(joe, may), (admin, admin_may)]:
            if action == "publish":
                assert (client.publish(topic) == 0x87) != allowed, (action, topic)
            else:
                assert (client.subscribe(topic) == 0x87) != allowed, (action, topic)
    assert old.subscribe("#") == 0x80
    assert old.publish("devices/lock/state") == 0, "acknowledged, and dropped"
    assert old.publish("devices/old/state", b"old") == 0
    seen = []
    while ("devices/old/state", b"old") not in seen:
        seen.append(admin.got.get(timeout=15))
    assert sum(topic == "devices/lock/state" for topic, _ in seen) == 2, "joe's and admin's"
    assert connack(node, "w", user="joe", password="pencil", will="other") == 0x87
    assert connack(node, "w", user="joe", password="pencil", will="devices/w/x") == 0
    # A session is its user's.
    lasting = Client(node, "mine", user="joe", password="pencil", version=3)
    assert connack(node, "mine", user="admin", password="chief") == 0x87
    for client in (joe, old, admin, lasting):
        client.close()


def test_a_denied_publish_may_cost_an_old_client_its_connection(fresh):
    config = USERS.replace("[authorization]", '[authorization]\ndenied_publish = "disconnect"', 1)
    node = fresh(config).start()
    add_user(node, "joe", "pencil")
    old = Client(node, user="joe", password="pencil", version=3)
    old.paho.publish("other", b"x", 0)
    old.wait("gone")
    old.close()


def test_tokens(fresh, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    config = f"""
[[authenticator]]
kind = "jwt"
secret_file = "{secret}"
algorithms = ["HS256"]
user_name_claim = "sub"
client_id_claim = "device"
"""
    node = fresh(config).start()
    acl = {"pub": ["d/${clientid}/#"], "sub": ["news/#"]}
    soon = int(time.time()) + 600
    good = token(sub="joe", device="d7", exp=soon, acl=acl)
    for what, password in [
        ("another secret", token("x" * 40, sub="joe", device="d7", exp=soon)),
        ("expired", token(sub="joe", device="d7", exp=int(time.time()) - 1)),
        ("without a name", token(device="d7", exp=soon)),
        ("an algorithm that is not taken", token(algorithm="HS512", sub="joe", device="d7", exp=soon)),
        ("unsigned", (encoded(b'{"alg":"none"}') + b"." + encoded(b'{"sub":"joe"}') + b".").decode()),
        ("no token", "pencil"),
    ]:
        assert connack(node, user="any", password=password) in (0x86, 0x87), what
    assert connack(node) == 0x87, "missing"
    client = Client(node, user="any", password=good)
    assert client.connack == 0
    assert client.publish("d/d7/x") in (0, 0x10)
    assert client.publish("d/lock/x") == 0x87
    assert client.subscribe("news/+") == 1
    assert client.subscribe("d/d7/x") == 0x87
    client.close()
    begun = time.monotonic()
    brief = Client(node, user="any", password=token(sub="joe", device="d8", exp=int(time.time()) + 3))
    assert brief.connack == 0
    # Paho reads the reason of a DISCONNECT only where properties follow it.
    assert brief.wait("gone") in (0, 0x87), "the connection ends with its token"
    assert 2 <= time.monotonic() - begun <= 10
    brief.close()


def test_a_service_is_asked_and_only_who_needs_it_waits(fresh, service):
    slow = threading.Event()

    def answer(asked):
        if asked.get("topic") == "slow":
            slow.wait(20)
        if asked.get("topic") == "nonsense":
            return b"yes"
        if asked.get("action"):
            return {"result": "deny" if asked["topic"].startswith("no") else "allow"}
        if asked["username"] == "nonsense":
            return b"<html>"
        return {"result": "allow" if asked.get("password") == "pencil" else "deny"}

    asked = service(answer)
    config = f"""
[[authenticator]]
kind = "http"
url = "{asked.url}"
timeout = "2s"

[authorization]
url = "{asked.url}"
timeout = "10s"
"""
    node = fresh(config).start()
    assert connack(node, user="joe", password="wrong") == 0x86
    assert connack(node, user="nonsense", password="pencil") == 0x88
    client = Client(node, user="joe", password="pencil")
    assert client.connack == 0
    assert client.publish("a") == 0x10
    for _ in range(5):
        client.publish("a")
    assert sum(one.get("topic") == "a" for one in asked.asked) == 1, "remembered"
    assert client.publish("no") == 0x87 and client.publish("nonsense") == 0x87
    assert client.subscribe("b/#") == 1 and client.subscribe("no/#") == 0x87
    assert connack(node, "w", user="joe", password="pencil", will="no") == 0x87
    assert connack(node, "w", user="joe", password="pencil", will="yes") == 0
    # One waits for its answer, in order; another goes on.
    other = Client(node, "other", user="joe", password="pencil")
    other.publish("warm")
    client.paho.publish("slow", b"1", 1)
    client.paho.publish("a", b"2", 1)
    for _ in range(20):
        other.publish("warm")
    assert client.told.empty()
    slow.set()
    assert client.wait("puback") == 0x10 and client.wait("puback") == 0x10
    # Nobody answers any more: what is remembered holds, anything else is denied.
    asked.stop()
    assert client.publish("a") == 0x10
    assert client.publish("new") == 0x87
    assert connack(node, user="joe", password="pencil") == 0x88
    client.close()
    other.close()


def test_what_a_service_allowed_is_asked_again_when_a_session_comes_back(fresh, service):
    forbidden = set()

    def answer(asked):
        if asked.get("action") == "subscribe" and asked["topic"] in forbidden:
            return b"nonsense" if "unclear" in forbidden else {"result": "deny"}
        return {"result": "allow"}

    asked = service(answer)
    node = fresh(f'[authorization]\nurl = "{asked.url}"\ncache = "1h"\n').start()
    device = Client(node, "device", lasting=True)
    assert device.subscribe("kept") == 1 and device.subscribe("lost") == 1
    device.close()
    writer = Client(node, "writer")
    for topic in ("lost", "kept"):
        writer.publish(topic, b"owed")
    # Nobody can say whether it may still: it has to come again, and loses nothing.
    forbidden |= {"lost", "unclear"}
    again = Client(node, "device", lasting=True)
    assert again.connack == 0x88
    again.close()
    forbidden.remove("unclear")
    again = Client(node, "device", lasting=True)
    assert again.connack == 0
    assert again.got.get(timeout=15) == ("kept", b"owed")
    assert writer.publish("lost") == 0x10, "nobody is subscribed to it any more"
    assert writer.publish("kept", b"now") == 0
    assert again.got.get(timeout=15) == ("kept", b"now"), "and what was owed by the other is gone"
    again.close()
    writer.close()


def test_a_dead_service_is_not_waited_for_by_everybody(fresh):
    def knock(node, count):
        """So many at once; how long each waited for its answer."""
        begun = time.monotonic()
        waits = []
        streams = [socket.create_connection(("127.0.0.1", node.mqtt), timeout=30) for _ in range(count)]
        for number, stream in enumerate(streams):
            named = b"\0" + text(f"c{number}") + text("joe") + text("x")
            stream.sendall(packet(0x10, text("MQTT") + bytes([5, 0xC2, 0, 60]) + named))
        while streams:
            for stream in select.select(streams, [], [], 30)[0]:
                assert stream.recv(5)[3] == 0x88
                waits.append(time.monotonic() - begun)
                streams.remove(stream)
                stream.close()
        return waits

    with socket.create_server(("127.0.0.1", 0)) as dead:
        url = f"http://127.0.0.1:{dead.getsockname()[1]}/"
        node = fresh(f'[[authenticator]]\nkind = "http"\nurl = "{url}"\ntimeout = "4s"\n').start()
        assert knock(node, 8)[0] > 3, "nobody knows yet that it is dead"
        # One finds out whether it answers again; the others are told at once.
        waits = knock(node, 40)
        assert sum(wait < 2 for wait in waits) >= 36 and waits[-1] < 8, waits
    with open(os.path.join(node.folder, "sluice.log"), encoding="utf-8") as log:
        lines = [line for line in log if "a callout failed" in line]
    assert 1 <= len(lines) <= 4, "clients do not fill the log"


def test_a_client_id_is_its_users(fresh):
    node = fresh(USERS.replace('kind = "users"', 'kind = "users"\nclient_ids = "${username}/*"')).start()
    for name in ("joe", "mallory"):
        add_user(node, name, "pencil")
    for client_id, user, code in [("joe/lock", "joe", 0), ("joe/lock", "mallory", 0x85), ("lock", "joe", 0x85),
                                  ("joe", "joe", 0x85), ("joe/", "joe", 0), ("mallory/x", "mallory", 0),
                                  ("joe/lock", "ann", 0x86)]:
        assert connack(node, client_id, user, "pencil") == code, (client_id, user)
    assert connack(node, "lock", "joe", "pencil", version=3) == 0x85
    # Whoever proves its name by SCRAM has no other ids.
    for client_id, code in [("joe/lock", 0), ("mallory/lock", 0x85)]:
        scram = Scram("joe", "pencil")
        raw = Raw(node, scram.first, client_id=client_id)
        raw.socket.sendall(auth_packet(0x18, scram.last(raw.challenge())))
        assert raw.read()[1][1] == code, client_id
        raw.socket.close()


def test_a_session_that_was_opened_under_another_ones_id_gives_way(fresh):
    node = fresh(USERS).start()
    for name in ("joe", "mallory"):
        add_user(node, name, "pencil")
    thief = Client(node, "joe-lock", "mallory", "pencil", lasting=True)
    assert thief.connack == 0
    thief.close()
    assert connack(node, "joe-lock", "joe", "pencil") == 0x87
    # From now on the configuration says whose the id is.
    with open(os.path.join(node.folder, "sluice.toml"), "w", encoding="utf-8") as file:
        file.write(USERS.replace('kind = "users"', 'kind = "users"\nclient_ids = "${username}-*"'))
    node.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while connack(node, "joe-lock", "joe", "pencil") != 0:
        assert time.monotonic() < deadline
    assert connack(node, "joe-lock", "mallory", "pencil") == 0x85


def hi(password, salt, iterations):
    return hashlib.pbkdf2_hmac("sha256", password, salt, iterations)


class Scram:
    """SCRAM-SHA-256 as a client speaks it (RFC 7677)."""

    def __init__(self, name, password):
        self.password = password.encode()
        self.bare = f"n={name},r=abcdefghijkl"
        self.first = ("n,," + self.bare).encode()

    def last(self, challenge, nonce=None):
        fields = dict(part.split("=", 1) for part in challenge.decode().split(","))
        fields["r"] = nonce or fields["r"]
        salted = hi(self.password, base64.b64decode(fields["s"]), int(fields["i"]))
        bare = f"c=biws,r={fields['r']}"
        signed = f"{self.bare},{challenge.decode()},{bare}".encode()
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature))
        self.verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()


def packet(kind, body):
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return len(value).to_bytes(2, "big") + value


def auth_packet(reason, data):
    properties = b"\x15" + text("SCRAM-SHA-256") + b"\x16" + text(data)
    body = bytes([reason, len(properties)]) + properties
    size = len(body)
    assert size < 16384
    length = bytes([size]) if size < 128 else bytes([size % 128 | 128, size // 128])
    return b"\xf0" + length + body


class Raw:
    """MQTT 5 over a bare socket: Paho does not speak enhanced authentication."""

    def __init__(self, node, data, client_id="scram"):
        self.socket = socket.create_connection(("127.0.0.1", node.mqtt), timeout=20)
        properties = b"\x15" + text("SCRAM-SHA-256") + b"\x16" + text(data)
        body = text("MQTT") + bytes([5, 2, 0, 60, len(properties)]) + properties + text(client_id)
        self.socket.sendall(packet(0x10, body))

    def read(self):
        def exactly(n):
            out = b""
            while len(out) < n:
                part = self.socket.recv(n - len(out))
                if not part:
                    return None
                out += part
            return out

        head = exactly(1)
        if head is None:
            return None, b""
        size = shift = 0
        while True:
            byte = exactly(1)[0]
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        return head[0], exactly(size) if size else b""

    @staticmethod
    def data(properties):
        """The authentication data: the last property that the node writes."""
        at = properties.index(b"\x16")
        size = int.from_bytes(properties[at + 1 : at + 3], "big")
        return properties[at + 3 : at + 3 + size]

    def challenge(self):
        kind, body = self.read()
        assert kind == 0xF0 and body[0] == 0x18, (kind, body)
        return self.data(body[body.index(b"SCRAM-SHA-256") + 13 :])


def test_enhanced_authentication_and_again_while_connected(fresh):
    node = fresh(USERS).start()
    add_user(node, "joe", "pencil")
    for password, right in [("pencil", True), ("wrong", False)]:
        scram = Scram("joe", password)
        raw = Raw(node, scram.first)
        raw.socket.sendall(auth_packet(0x18, scram.last(raw.challenge())))
        kind, body = raw.read()
        assert kind == 0x20 and (body[1] == 0) == right, (password, body)
        if right:
            assert base64.b64encode(scram.verifier) in body
            # Once more while connected, first rightly and then wrongly.
            for again, reason in [("pencil", 0x00), ("wrong", None)]:
                scram = Scram("joe", again)
                raw.socket.sendall(auth_packet(0x19, scram.first))
                raw.socket.sendall(auth_packet(0x18, scram.last(raw.challenge())))
                kind, body = raw.read()
                if reason == 0:
                    assert kind == 0xF0 and body[0] == 0
                else:
                    assert kind == 0xE0 and body[0] == 0x87
        raw.socket.close()
    # The nonce of another exchange, though signed by who knows the password: it could be heard before.
    replayed = Scram("joe", "pencil")
    raw = Raw(node, replayed.first)
    raw.socket.sendall(auth_packet(0x18, replayed.last(raw.challenge(), "abcdefghijklmnopqrst")))
    assert raw.read()[1][1] == 0x86
    raw.socket.close()
    unknown = Scram("nobody", "pencil")
    raw = Raw(node, unknown.first)
    raw.socket.sendall(auth_packet(0x18, unknown.last(raw.challenge())))
    assert raw.read()[1][1] == 0x86
    raw.socket.close()


def test_guessing_by_scram_is_slowed_down(fresh):
    node = fresh(USERS).start()
    add_user(node, "joe", "pencil")
    begun = time.monotonic()
    for number in range(6):
        scram = Scram("joe", "wrong")
        raw = Raw(node, scram.first)
        challenge = raw.challenge()
        if number % 2:
            # Who hangs up with the challenge has failed, too.
            raw.socket.close()
            continue
        raw.socket.sendall(auth_packet(0x18, scram.last(challenge)))
        assert raw.read()[1][1] == 0x86
        raw.socket.close()
    # 0.1, 0.2, 0.4, 0.8 and 1 second before the second and each further one.
    assert time.monotonic() - begun > 2
    begun = time.monotonic()
    assert connack(node, user="joe", password="pencil") == 0
    assert time.monotonic() - begun > 0.5, "with a password it is the same brake"


def test_flapping_is_banned(fresh):
    node = fresh('[flapping]\nconnects_max = 5\nwindow = "1m"\nban = "1m"\n').start()
    codes = [connack(node, "restless") for _ in range(7)]
    assert codes == [0] * 5 + [0x8A, 0x8A]
    assert connack(node, "calm") == 0


def test_a_node_takes_as_many_connections_as_it_may(fresh):
    node = fresh("[mqtt]\nconnections_max = 2\n").start()
    first, second = Client(node, "a"), Client(node, "b")
    assert (first.connack, second.connack) == (0, 0)
    assert connack(node, "c") == 0x97
    first.close()
    second.close()


def test_users_of_mosquitto_come_over(fresh, tmp_path):
    node = fresh(USERS).start()
    passwords = tmp_path / "passwords"
    for name, more in [("joe", ["-c"]), ("ann", ["-H", "sha512"])]:
        made = ["mosquitto_passwd", "-b", *more, str(passwords), name, "pencil"]
        subprocess.run(made, check=True, capture_output=True)
    done = node.run(
        "user", *where(node), "import", "--from", "mosquitto", str(passwords)
    )
    assert done.returncode == 0 and "2 users imported" in done.stdout, done.stderr
    for name in ("joe", "ann"):
        assert connack(node, user=name, password="pencil") == 0
        assert connack(node, user=name, password="Pencil") == 0x86
    node.kill()
    node.start()
    assert connack(node, user="joe", password="pencil") == 0, "it survives a crash"
    assert "pencil" not in open(os.path.join(node.folder, "sluice.log"), encoding="utf-8").read()
