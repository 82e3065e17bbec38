"""Certificates, key sets, bans, and what changes while clients are in: Eclipse Paho against the real
program, with certificates and signatures that OpenSSL makes."""

import base64
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import paho.mqtt.client as paho
import pytest

from test_access import USERS, Client, Scram, Service, Raw, add_user, auth_packet, connack, encoded, packet, text, where
from test_doors import make_certificates


def openssl(folder, *arguments, text=None):
    ran = subprocess.run(["openssl", *arguments], cwd=folder, input=text, check=True, capture_output=True)
    return ran.stdout


CERTIFICATES = """
[[listener]]
kind = "mqtts"
bind = "127.0.0.1:0"
certificate = "node.pem"
key = "node.key"
client_ca = "ca.pem"
client_certificate = "optional"

[[authenticator]]
kind = "certificate"
user_name = "common_name"
client_id = "san_dns"

[[authorization.rule]]
effect = "allow"
action = "publish"
filter = ["devices/${clientid}/#", "users/${username}/#"]
"""


def certificate(folder, name, subject, san=None, authority="ca", days="2", purpose=None):
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
    # With an extension it is a certificate of version 3, as TLS wants it.
    extension = f"subjectAltName={san}\n" if san else "keyUsage=digitalSignature\n"
    if purpose:
        extension += f"extendedKeyUsage={purpose}\n"
    (folder / f"{name}.ext").write_text(extension)
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey",
            f"{authority}.key", "-set_serial", "7", "-out", f"{name}.pem", "-days", days, "-extfile",
            f"{name}.ext")


class Secure:
    """A Paho client over TLS; `connack` is its reason code, or None where TLS did not come about."""

    def __init__(self, node, folder, name=None, client_id="claimed", user=None):
        self.told = []
        self.changed = threading.Condition()
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
        if user:
            self.paho.username_pw_set(user, "whatever")
        own = (f"{folder}/{name}.pem", f"{folder}/{name}.key") if name else (None, None)
        self.paho.tls_set(f"{folder}/ca.pem", *own)
        self.paho.on_connect = lambda _c, _u, _f, reason, _p: self.tell("connack", reason.value)
        self.paho.on_disconnect = lambda _c, _u, _f, reason, _p: self.tell("connack", None)
        self.paho.on_publish = lambda _c, _u, _m, reason, _p: self.tell("puback", reason.value)
        self.paho.on_subscribe = lambda _c, _u, _m, codes, _p: self.tell("suback", codes[0].value)
        try:
            self.paho.connect("localhost", node.mqtts)
        except OSError:
            self.connack = None
            return
        self.paho.loop_start()
        self.connack = self.wait("connack")

    def tell(self, *what):
        with self.changed:
            self.told.append(what)
            self.changed.notify()

    def wait(self, kind):
        with self.changed:
            found = lambda: next((value for what, value in self.told if what == kind), "none")
            assert self.changed.wait_for(lambda: found() != "none", 15), kind
            value = found()
            self.told.remove((kind, value))
            return value

    def publish(self, topic):
        self.paho.publish(topic, b"x", 1)
        return self.wait("puback")

    def subscribe(self, topic):
        self.paho.subscribe(topic, 1)
        return self.wait("suback")

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()


def test_certificates_say_who_a_device_is(fresh, tmp_path):
    make_certificates(tmp_path)
    certificate(tmp_path, "right", "/CN=joe", "DNS:lock-7")
    certificate(tmp_path, "nameless", "/O=acme", "DNS:lock-7")
    certificate(tmp_path, "idless", "/CN=joe")
    certificate(tmp_path, "foreign", "/CN=joe", "DNS:lock-7", authority="other")
    certificate(tmp_path, "expired", "/CN=joe", "DNS:lock-7", days="-1")
    certificate(tmp_path, "server", "/CN=joe", "DNS:lock-7", purpose="serverAuth")
    node = fresh(CERTIFICATES).start()
    for name, told in [("nameless", 0x86), ("idless", 0x86), ("foreign", None), ("expired", None),
                       ("server", None), (None, 0x87)]:
        client = Secure(node, tmp_path, name)
        assert client.connack == told, name
        client.close()
    # What it claims counts for nothing.
    client = Secure(node, tmp_path, "right", client_id="other", user="admin")
    assert client.connack == 0
    for topic, may in [("devices/lock-7/x", True), ("devices/other/x", False), ("users/joe/x", True),
                       ("users/admin/x", False)]:
        assert (client.publish(topic) == 0x87) != may, topic
    client.close()


def b64(number):
    return encoded(number.to_bytes((number.bit_length() + 7) // 8, "big")).decode()


class Keys:
    """A set of keys behind a URL, and the private halves, for RS256, ES256 and EdDSA."""

    def __init__(self, folder):
        self.folder, self.keys, self.reads, self.up = folder, [], 0, True
        keys = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                keys.reads += 1
                body = json.dumps({"keys": keys.keys}).encode()
                self.send_response(200 if keys.up else 503)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/fleet.json"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def make(self, kid, algorithm):
        kind = {"RS256": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "EdDSA": ["ED25519"],
                "ES256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}[algorithm]
        openssl(self.folder, "genpkey", "-algorithm", *kind, "-out", f"{kid}.key")
        public = openssl(self.folder, "pkey", "-in", f"{kid}.key", "-pubout", "-outform", "DER")
        if algorithm == "RS256":
            said = openssl(self.folder, "rsa", "-in", f"{kid}.key", "-noout", "-modulus").decode()
            fields = {"kty": "RSA", "n": b64(int(said.strip().split("=")[1], 16)), "e": "AQAB"}
        elif algorithm == "ES256":
            x, y = public[-64:-32], public[-32:]
            fields = {"kty": "EC", "crv": "P-256", "x": encoded(x).decode(), "y": encoded(y).decode()}
        else:
            fields = {"kty": "OKP", "crv": "Ed25519", "x": encoded(public[-32:]).decode()}
        return {"kid": kid, "alg": algorithm, "use": "sig", **fields}

    def token(self, kid, algorithm, claimed=None, **claims):
        header = {"alg": claimed or algorithm, "typ": "JWT", "kid": kid}
        signed = encoded(json.dumps(header).encode()) + b"." + encoded(json.dumps(claims).encode())
        (self.folder / "signed").write_bytes(signed)
        if algorithm == "EdDSA":
            signature = openssl(self.folder, "pkeyutl", "-sign", "-inkey", f"{kid}.key", "-rawin",
                                "-in", "signed")
        else:
            signature = openssl(self.folder, "dgst", "-sha256", "-sign", f"{kid}.key", "signed")
        if algorithm == "ES256":
            # DER of two numbers; a token has them side by side.
            at, parts = 2, []
            for _ in range(2):
                size = signature[at + 1]
                parts.append(int.from_bytes(signature[at + 2 : at + 2 + size], "big").to_bytes(32, "big"))
                at += 2 + size
            signature = b"".join(parts)
        return (signed + b"." + encoded(signature)).decode()


def test_tokens_of_a_set_of_keys_behind_a_url(fresh, tmp_path):
    keys = Keys(tmp_path)
    algorithms = ["RS256", "ES256", "EdDSA"]
    keys.keys = [keys.make(f"old-{name}", name) for name in algorithms]
    stranger = keys.make("stranger", "RS256")
    config = f"""
[[authenticator]]
kind = "jwt"
jwks = "{keys.url}"
refresh = "1s"
user_name_claim = "sub"
audience = "fleet"
issuer = "plant"
require = {{ line = "${{clientid}}" }}
"""
    keys.keys.append({**keys.make("sealing", "ES256"), "use": "enc"})
    node = fresh(config).start()
    now = int(time.time())
    good = {"sub": "joe", "aud": "fleet", "iss": "plant", "line": "lock", "exp": now + 600}
    for name in algorithms:
        assert connack(node, user="x", password=keys.token(f"old-{name}", name, **good)) == 0, name
    for what, password in [
        ("another's key", keys.token("stranger", "RS256", **good)),
        ("expired", keys.token("old-ES256", "ES256", **{**good, "exp": now - 1})),
        ("another audience", keys.token("old-ES256", "ES256", **{**good, "aud": "else"})),
        ("another issuer", keys.token("old-ES256", "ES256", **{**good, "iss": "else"})),
        ("not yet", keys.token("old-ES256", "ES256", **good, nbf=now + 600)),
        ("another client's", keys.token("old-ES256", "ES256", **{**good, "line": "else"})),
        ("a key for something else", keys.token("sealing", "ES256", **good)),
        ("a public key as a secret", keys.token("old-RS256", "RS256", claimed="HS256", **good)),
        ("missing", None),
    ]:
        assert connack(node, user="x", password=password) in (0x86, 0x87), what
    # The keys change: the old ones hold until they are read anew, and not longer.
    keys.keys = [stranger]
    deadline = time.monotonic() + 20
    while connack(node, user="x", password=keys.token("stranger", "RS256", **good)) != 0:
        assert time.monotonic() < deadline
    assert connack(node, user="x", password=keys.token("old-EdDSA", "EdDSA", **good)) == 0x86
    # Nobody answers: what is known goes on.
    keys.up = False
    before = keys.reads
    while keys.reads < before + 2:
        assert time.monotonic() < deadline + 20
    assert connack(node, user="x", password=keys.token("stranger", "RS256", **good)) == 0
    keys.server.shutdown()


def ctl(node, *arguments):
    done = node.run("ctl", *where(node), *arguments)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def ban(node, kind, value, until_ms=None):
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.http}/api/v1/bans", method="POST",
        data=json.dumps({"kind": kind, "value": value, "until_ms": until_ms}).encode(),
        headers={"content-type": "application/json", "authorization": f"Bearer {own_token(node)}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status in (200, 201)


def own_token(node):
    with open(os.path.join(node.folder, "data", "admin.token"), encoding="utf-8") as file:
        return file.read().strip()


def test_a_ban_ends_connections_and_keeps_out(fresh):
    node = fresh(USERS).start()
    add_user(node, "joe", "pencil")
    add_user(node, "ann", "pencil")
    for kind, value, joe_too in [("client_id", "lock", False), ("user", "joe", True),
                                 ("address", "127.0.0.1", True), ("address", "127.0.0.0/8", True)]:
        lock = Client(node, "lock", "joe", "pencil")
        other = Client(node, "other", "joe", "pencil")
        assert (lock.connack, other.connack) == (0, 0)
        ban(node, kind, value)
        lock.wait("gone")
        if joe_too:
            other.wait("gone")
        if kind == "address":
            # It is closed before it is listened to, and not when the time for a CONNECT is over.
            with socket.create_connection(("127.0.0.1", node.mqtt), timeout=5) as stream:
                assert stream.recv(1) == b""
        else:
            assert connack(node, "lock", "joe", "pencil") == 0x8A, kind
        if kind == "user":
            assert connack(node, "lock", "ann", "pencil") in (0, 0x87)
        if not joe_too:
            assert other.publish("devices/other/x") in (0, 0x10)
        row = f"{kind}:{value}"
        listed = json.loads(ctl(node, "--json", "bans", "list"))
        assert any(row == one.get("id") or one.get("value") == value for one in listed), listed
        ident = next((one["id"] for one in listed if one.get("value") == value and "id" in one), row)
        ctl(node, "bans", "delete", ident)
        assert connack(node, "lock", "joe", "pencil") == 0
        lock.close()
        other.close()
    # A ban with an end needs nobody to take it back.
    ban(node, "client_id", "lock", until_ms=int(time.time() * 1000) + 3_000)
    assert connack(node, "lock", "joe", "pencil") == 0x8A
    deadline = time.monotonic() + 15
    while connack(node, "lock", "joe", "pencil") != 0:
        assert time.monotonic() < deadline


def test_flapping_gets_nobody_elses_device_banned(fresh):
    node = fresh(USERS + '\n[flapping]\nconnects_max = 5\nwindow = "1m"\nban = "1m"\n').start()
    add_user(node, "joe", "pencil")
    add_user(node, "mallory", "pencil")
    device = Client(node, "lock", "joe", "pencil")
    codes = {connack(node, "lock", "mallory", "pencil") for _ in range(20)}
    assert codes <= {0x87, 0x8A}
    device.close()
    assert connack(node, "lock", "joe", "pencil") in (0, 0x87)
    assert connack(node, "other", "joe", "pencil") == 0


def test_rules_and_authenticators_change_on_sighup(fresh):
    node = fresh(USERS).start()
    add_user(node, "joe", "pencil")
    joe = Client(node, "lock", "joe", "pencil")
    old = Client(node, "old", "joe", "pencil", version=3)
    assert joe.publish("devices/lock/x") in (0, 0x10) and joe.publish("other") == 0x87
    assert joe.subscribe("users/joe/#") == 1

    def change(config):
        # As a whole: the node may still be reading because of the signal before.
        path = os.path.join(node.folder, "sluice.toml")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(config)
        os.replace(path + ".new", path)
        node.process.send_signal(signal.SIGHUP)

    def until(what):
        deadline = time.monotonic() + 20
        while not what():
            assert time.monotonic() < deadline

    rules = '[[authorization.rule]]\neffect = "allow"\nfilter = ["other"]\n'
    users = '[[authenticator]]\nkind = "users"\n'
    change(users + '[authorization]\ndenied_publish = "disconnect"\n' + rules)
    until(lambda: joe.publish("other") in (0, 0x10))
    assert joe.publish("devices/lock/x") == 0x87
    assert joe.subscribe("users/joe/#") == 0x87
    old.paho.publish("devices/old/x", b"x", 0)
    old.wait("gone")
    # What is wrong changes nothing.
    change("[[authenticator]]\nkind = \"nothing\"\n")
    change(users + rules + '[[listener]]\nkind = "mqtt"\nname = "one more"\nbind = "127.0.0.1:0"\n')
    assert joe.publish("other") in (0, 0x10) and joe.publish("devices/lock/x") == 0x87
    # An empty file, as it is for a moment while somebody saves it, would let everybody in.
    change("")
    until(lambda: "sluice.toml is empty" in node.log())
    assert joe.publish("devices/lock/x") == 0x87
    # Another authenticator asks from now on.
    with open(os.path.join(node.folder, "secret"), "w", encoding="utf-8") as file:
        file.write("geheim-geheim-geheim-geheim-geheim")
    change(f'[[authenticator]]\nkind = "jwt"\nsecret_file = "{node.folder}/secret"\nuser_name_claim = "sub"\n'
           + rules)
    until(lambda: connack(node, "lock2", "joe", "pencil") in (0x86, 0x87))
    joe.close()
    old.close()


def test_who_is_deleted_or_gets_another_password_is_out(fresh):
    node = fresh(USERS).start()
    add_user(node, "joe", "pencil")
    add_user(node, "ann", "pencil")
    joe, ann = Client(node, "lock", "joe", "pencil"), Client(node, "other", "ann", "pencil")
    env = {**os.environ, "NEW_PASSWORD": "crayon"}
    done = node.run("user", *where(node), "passwd", "joe", "--password-env", "NEW_PASSWORD", env=env)
    assert done.returncode == 0, done.stderr
    joe.wait("gone")
    joe.close()
    assert connack(node, "lock", "joe", "pencil") == 0x86
    again = Client(node, "lock", "joe", "crayon")
    assert again.connack == 0 and ann.publish("devices/other/x") in (0, 0x10)
    done = node.run("user", *where(node), "delete", "ann")
    assert done.returncode == 0, done.stderr
    ann.wait("gone")
    ann.close()
    assert again.publish("devices/lock/x") in (0, 0x10)
    again.close()


def test_what_is_denied_is_counted_told_and_in_no_wider_subscription(fresh):
    node = fresh(USERS + """
[[authorization.rule]]
effect = "deny"
filter = ["secret/#"]
[[authorization.rule]]
effect = "allow"
filter = ["#"]
[[hook]]
event = "message.dropped"
stream = "dropped"
""").start()
    add_user(node, "joe", "pencil")
    client = Client(node, "lock", "joe", "pencil")
    for filter, granted in [("#", 0x87), ("+/x", 0x87), ("secret/a", 0x87), ("$share/g/#", 0x87), ("open/#", 1), ("a/+", 1)]:
        assert client.subscribe(filter) == granted, filter
    assert client.publish("open/x") in (0, 0x10)
    for _ in range(3):
        assert client.publish("secret/x") == 0x87
    client.close()
    with urllib.request.urlopen(f"http://127.0.0.1:{node.http}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert re.search(r'^sluice_mqtt_messages_dropped_total\{reason="not_authorized"\} 3$', metrics, re.M), metrics
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.http}/api/v1/streams/dropped/records",
        headers={"authorization": f"Bearer {own_token(node)}"})
    told, deadline = [], time.monotonic() + 15
    while len(told) < 3:
        # Nobody waits for these records: they are read once they are flushed.
        assert time.monotonic() < deadline, told
        with urllib.request.urlopen(request, timeout=10) as answer:
            told = [json.loads(base64.b64decode(row["value_base64"])) for row in json.load(answer)["items"]]
    assert [(one["topic"], one["reason"], one["client_id"]) for one in told] == [("secret/x", "not_authorized", "lock")] * 3


def test_what_a_service_says_holds_no_longer_than_it_may(fresh):
    told = {"allowed": True, "expire_at": int(time.time()) - 1}

    def answer(asked):
        if asked.get("action"):
            return {"result": "allow" if told["allowed"] else "deny"}
        if asked.get("password") != "pencil":
            return {"result": "deny"}
        return {"result": "allow", "expire_at": told["expire_at"]} if asked["username"] == "past" else {"result": "allow"}

    service = Service(answer)
    node = fresh(f"""
[[authenticator]]
kind = "http"
url = "{service.url}"

[authorization]
url = "{service.url}"
cache = "1s"
""").start()
    assert connack(node, user="past", password="pencil") == 0x86, "it let in until a second ago"
    client = Client(node, user="joe", password="pencil")
    assert client.connack == 0 and client.publish("a") == 0x10
    told["allowed"] = False
    deadline = time.monotonic() + 10
    while client.publish("a") != 0x87:
        assert time.monotonic() < deadline, "remembered for a second"
    client.close()
    # Who guesses through the service waits longer each time, as with the users table.
    guess = packet(0x10, text("MQTT") + bytes([4, 0xC2, 0, 60]) + text("g") + text("ann") + text("pen"))
    begun = time.monotonic()
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", node.mqtt), timeout=15) as stream:
            stream.sendall(guess)
            assert stream.recv(4) == b"\x20\x02\0\x04"
    # 0.1 s, 0.2, 0.4, 0.8 and then a second each.
    assert time.monotonic() - begun > 3
    service.stop()


def test_a_login_that_is_never_proved_has_failed(fresh):
    node = fresh(USERS).start()
    add_user(node, "joe", "pencil")
    for _ in range(4):
        raw = Raw(node, Scram("joe", "pencil").first)
        raw.challenge()
        raw.socket.close()
    begun = time.monotonic()
    scram = Scram("joe", "pencil")
    raw = Raw(node, scram.first)
    raw.socket.sendall(auth_packet(0x18, scram.last(raw.challenge())))
    assert raw.read()[1][1] == 0
    assert time.monotonic() - begun > 0.3, "it waits for its turn"
    raw.socket.close()


def test_who_does_not_answer_is_not_waited_for(fresh):
    node = fresh('[mqtt]\nconnect_timeout_ms = 500\n' + USERS).start()
    raw = Raw(node, Scram("joe", "pencil").first)
    raw.challenge()
    begun = time.monotonic()
    kind, _ = raw.read()
    assert kind in (0x20, None) and time.monotonic() - begun < 10
    raw.socket.close()


def resident(node):
    with open(f"/proc/{node.process.pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) * 1024


def test_no_memory_for_more(fresh):
    bare = fresh().start()
    at_rest = resident(bare)
    bare.kill()
    most = max(at_rest + (24 << 20), 64 << 20)
    node = fresh(
        f"[log]\ntail_bytes_max = {128 << 20}\n[overload]\nmemory_max = {most}\n"
    ).start()
    before = Client(node, "before")
    assert before.connack == 0
    writer = Client(node, "writer")
    # The tail of the log is kept in memory: it grows beyond the bound.
    for _ in range(200):
        writer.publish("a", b"x" * 900_000)
        if resident(node) > most + (4 << 20):
            break
    assert resident(node) > most, (resident(node), most)
    deadline = time.monotonic() + 15
    while connack(node, "late") != 0x97:
        assert time.monotonic() < deadline
        writer.publish("a", b"x" * 900_000)
    assert connack(node, "late", version=3) in (0x88, 0x89, 0x97)
    assert before.publish("b") in (0, 0x10), "who is in notices nothing"
    before.close()
    writer.close()


def test_hashes_of_emqx_come_over(fresh, tmp_path):
    node = fresh(USERS).start()
    users = tmp_path / "users.csv"
    # Made by libxcrypt of "pencil".
    users.write_text("user_id,password_hash,salt,is_superuser\n"
                     "joe,$2b$10$Zq3sT8uVwX1yA2bC4dE6Fe1mhxeaeNy6YkuxL1qp5jdfQ.O0SGIAq,,false\n")
    done = node.run("user", *where(node), "import", "--from", "emqx", "--algorithm", "bcrypt", str(users))
    assert done.returncode == 0, done.stderr
    assert connack(node, user="joe", password="pencil") == 0
    assert connack(node, user="joe", password="Pencil") == 0x86
