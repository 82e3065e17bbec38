"""One table of who comes in and one of who may do what: each way to say who one is, with right, wrong,
expired and missing credentials, by Eclipse Paho over the real program (SCRAM by hand: Paho has none)."""

import json
import os
import re
import subprocess
import time

import pytest

from sluice import Sluice
from test_access import Client, RULES, Raw, SECRET, Scram, Service, add_user, auth_packet, packet, text, token, where
from test_doors import make_certificates
from test_keys import Secure, certificate

CONFIG = """
[[authenticator]]
kind = "users"

[[authenticator]]
kind = "jwt"
secret_file = "secret"
user_name_claim = "sub"

[[authenticator]]
kind = "http"
url = "{url}"

[[authenticator]]
kind = "certificate"
user_name = "common_name"

[[listener]]
kind = "mqtt"
name = "users"
bind = "127.0.0.1:0"
authenticators = ["users"]
[[listener]]
kind = "mqtt"
name = "jwt"
bind = "127.0.0.1:0"
authenticators = ["jwt"]
[[listener]]
kind = "mqtt"
name = "http"
bind = "127.0.0.1:0"
authenticators = ["http"]
[[listener]]
kind = "mqtts"
name = "certificate"
bind = "127.0.0.1:0"
certificate = "node.pem"
key = "node.key"
client_ca = "ca.pem"
client_certificate = "optional"
authenticators = ["certificate"]
[[listener]]
kind = "mqtt"
name = "anyone"
bind = "127.0.0.1:0"
anonymous = true
"""

NEWS = """
[[authorization.rule]]
effect = "allow"
action = "subscribe"
filter = ["news"]
"""


class At:
    """A listener, for clients that want a node."""

    def __init__(self, port):
        self.mqtt = self.mqtts = port


class Methods(Sluice):
    BY_FLAG = ("kafka", "http")

    def start(self):
        super().start()
        found = [re.match(r"\s*(MQTTS?)\s+\S*:(\d+)", line) for line in self.lines]
        ports = [int(match.group(2)) for match in found if match]
        names = re.findall(r'kind = "mqtts?"\nname = "(.*)"', self.config)
        self.at = {name: At(port) for name, port in zip(names, ports, strict=True)}
        return self


def answer(asked):
    """A service that knows the password of joe, and of late whose time is over."""
    said = {"right": {"result": "allow"}, "late": {"result": "allow", "expire_at": int(time.time()) - 1}}
    return said.get(asked.get("password"), {"result": "deny"})


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    make_certificates(folder)
    certificate(folder, "right", "/CN=joe")
    certificate(folder, "wrong", "/CN=joe", authority="other")
    certificate(folder, "expired", "/CN=joe", days="-1")
    (folder / "secret").write_text(SECRET)
    service = Service(answer)
    node = Methods(folder, CONFIG.format(url=service.url) + RULES + NEWS).start()
    for name in ("joe", "gone", "changed"):
        add_user(node, name, "right")
    # Credentials of the users table end with their user, or with another password.
    assert node.run("user", *where(node), "delete", "gone").returncode == 0
    changed = node.run("user", *where(node), "passwd", "changed", "--password-env", "NEW_PASSWORD",
                       env={**os.environ, "NEW_PASSWORD": "another"})
    assert changed.returncode == 0, changed.stderr
    yield node
    node.kill()
    service.stop()


class ByHand(Raw):
    """MQTT 5 with SCRAM-SHA-256, as far as these tables need it."""

    def __init__(self, node, name, password):
        scram = Scram(name, password)
        super().__init__(node, scram.first)
        kind, body = self.read()
        if kind == 0xF0:
            challenge = self.data(body[body.index(b"SCRAM-SHA-256") + 13:])
            self.socket.sendall(auth_packet(0x18, scram.last(challenge)))
            kind, body = self.read()
        assert kind == 0x20
        self.connack = body[1]

    def publish(self, topic):
        self.socket.sendall(packet(0x32, text(topic) + b"\0\1\0x"))
        kind, body = self.read()
        assert kind == 0x40
        return body[2] if len(body) > 2 else 0

    def subscribe(self, topic):
        self.socket.sendall(packet(0x82, b"\0\1\0" + text(topic) + b"\1"))
        kind, body = self.read()
        assert kind == 0x90
        return body[-1]

    def close(self):
        self.socket.close()


def client(node, method, which, version=5):
    """A client that comes by that method with such credentials; its client id is `lock`."""
    if method == "users":
        user, password = {"right": ("joe", "right"), "wrong": ("joe", "wrong"), "unknown": ("ann", "right"),
                          "expired": ("changed", "right"), "deleted": ("gone", "right"),
                          "missing": (None, None), "no password": ("joe", None)}[which]
        return Client(node.at["users"], "lock", user, password, version)
    if method == "scram":
        if which == "missing":
            return Client(node.at["users"], "lock")
        name, password = {"right": ("joe", "right"), "wrong": ("joe", "wrong"), "unknown": ("ann", "right"),
                          "expired": ("changed", "right"), "deleted": ("gone", "right")}[which]
        return ByHand(node.at["users"], name, password)
    if method == "jwt":
        soon = int(time.time()) + 600
        password = {"right": token(sub="joe", exp=soon), "wrong": token("x" * 40, sub="joe", exp=soon),
                    "expired": token(sub="joe", exp=int(time.time()) - 1), "missing": None,
                    "nameless": token(exp=soon), "no token": "right"}[which]
        return Client(node.at["jwt"], "lock", "any", password, version)
    if method == "http":
        password = {"right": "right", "wrong": "wrong", "expired": "late", "missing": None}[which]
        return Client(node.at["http"], "lock", "joe", password, version)
    if method == "certificate":
        name = None if which == "missing" else which
        user = "joe" if name else None
        return Secure(node.at["certificate"], node.folder, name, client_id="lock", user=user)
    return Client(node.at["anyone"], "lock", "joe", None, version)


# How one says who one is, with what, and what an MQTT 5 client is told; None: TLS does not come about.
WHO_COMES_IN = [
    ("users", "right", 0x00),
    ("users", "wrong", 0x86),
    ("users", "unknown", 0x86),
    ("users", "expired", 0x86),
    ("users", "deleted", 0x86),
    ("users", "missing", 0x87),
    ("users", "no password", 0x86),
    ("scram", "right", 0x00),
    ("scram", "wrong", 0x86),
    ("scram", "unknown", 0x86),
    ("scram", "expired", 0x86),
    ("scram", "deleted", 0x86),
    ("scram", "missing", 0x87),
    ("jwt", "right", 0x00),
    ("jwt", "wrong", 0x86),
    ("jwt", "expired", 0x86),
    ("jwt", "nameless", 0x86),
    ("jwt", "no token", 0x86),
    ("jwt", "missing", 0x86),
    ("http", "right", 0x00),
    ("http", "wrong", 0x86),
    ("http", "expired", 0x86),
    ("http", "missing", 0x86),
    ("certificate", "right", 0x00),
    ("certificate", "wrong", None),
    ("certificate", "expired", None),
    ("certificate", "missing", 0x87),
    ("anyone", "missing", 0x00),
]

# What a client that came in as joe with the client id `lock` may do; and what one may whom nobody asked.
WHO_MAY_DO_WHAT = [
    ("publish", "devices/lock/state", True, True),
    ("publish", "devices/lock/secret", False, False),
    ("publish", "devices/other/state", False, False),
    ("publish", "users/joe/x", False, False),
    ("subscribe", "users/joe/+", True, False),
    ("subscribe", "users/ann/x", False, False),
    ("subscribe", "users/#", False, False),
    ("subscribe", "news", True, True),
    ("subscribe", "$share/g/news", True, True),
    ("subscribe", "$share/g/#", False, False),
    ("subscribe", "devices/lock/#", False, False),
    ("subscribe", "$SYS/#", False, False),
]


@pytest.mark.parametrize("method, which, told", WHO_COMES_IN)
def test_who_comes_in(node, method, which, told):
    asked = client(node, method, which)
    asked.close()
    assert asked.connack == told
    if method in ("users", "jwt", "http"):
        # As Paho tells what MQTT 3.1.1 has: 4, 5 and 0 in the words of MQTT 5.
        old = client(node, method, which, version=3)
        old.close()
        assert old.connack in ((0,) if told == 0 else (0x86, 0x87))


@pytest.mark.parametrize("method", ["users", "scram", "jwt", "http", "certificate", "anyone"])
def test_who_may_do_what(node, method):
    who = client(node, method, "missing" if method == "anyone" else "right")
    assert who.connack == 0
    for action, topic, known, unknown in WHO_MAY_DO_WHAT:
        may = unknown if method == "anyone" else known
        if method == "scram":
            # Its client by hand is called so.
            topic = topic.replace("/lock", "/scram")
        code = who.publish(topic) if action == "publish" else who.subscribe(topic)
        assert (code != 0x87) == may, (method, action, topic, code)
    who.close()


def test_records_say_who_published_only_where_that_was_proved(node):
    methods = ["users", "scram", "jwt", "http", "certificate", "anyone"]
    for method in methods:
        who = client(node, method, "missing" if method == "anyone" else "right")
        assert who.publish(f"devices/{'scram' if method == 'scram' else 'lock'}/by-{method}") != 0x87
        who.close()
    read = node.run("consume", "mqtt.default", "--from-beginning", "--json", "--exit", "--bootstrap",
                    f"127.0.0.1:{node.kafka}")
    assert read.returncode == 0, read.stderr
    said = {}
    for record in map(json.loads, read.stdout.splitlines()):
        headers = dict(record["headers"])
        method = headers["mqtt.topic"].partition("/by-")[2]
        assert headers["mqtt.peer"].startswith("127.0.0.1:")
        said[method] = headers.get("mqtt.principal")
    assert [said[method] for method in methods] == ["joe"] * 5 + [None]


def test_no_password_is_in_any_log(node):
    with open(os.path.join(node.folder, "sluice.log"), encoding="utf-8") as file:
        log = file.read()
    assert SECRET not in log and "another" not in log
