"""Who comes in through the Kafka front door, and what each may do: SASL PLAIN and SCRAM, TLS, mutual
TLS, permissions and quotas, by clients that others wrote."""

import os
import re
import socket
import struct
import subprocess
import time

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer, KafkaProducer

from programs import tool
from sluice import Sluice

# One node for all: a name that failed to log in waits, whoever tried it.
pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("security")]

MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
USERS = {"root": "r00t, secret", "reader": "read=me", "writer": "wr\u00eft\u00eb", "nobody": "nothing", "victim": "guess me"}
# Wrong passwords are tried with a name of their own: each failure makes the next login of that name wait.

CONFIG = """
[kafka]
super_users = ["root"]

[[kafka.permission]]
effect = "deny"
principal = "*"
operations = ["all"]
resource = "topic"
name = "secret*"

[[kafka.permission]]
principal = "reader"
operations = ["read"]
resource = "topic"
name = "open*"

[[kafka.permission]]
principal = "reader"
operations = ["read"]
resource = "group"
name = "readers"

[[kafka.permission]]
principal = "writer"
operations = ["write", "create"]
resource = "topic"
name = "open*"

[[kafka.permission]]
principal = "writer"
operations = ["write"]
resource = "transactional_id"
name = "writer-*"

[[kafka.permission]]
principal = "CN=lock\\\\, 7,O=acme"
operations = ["read", "write"]
resource = "topic"
name = "open*"

[[kafka.quota]]
principal = "writer"
client_id = "fast"
bytes_in_per_s = "50KB"

[[listener]]
kind = "kafka"
bind = "127.0.0.1:0"
authentication = "sasl"

[[listener]]
kind = "kafkas"
bind = "127.0.0.1:0"
certificate = "CERTS/node.pem"
key = "CERTS/node.key"
authentication = "sasl"

[[listener]]
kind = "kafkas"
bind = "127.0.0.1:0"
certificate = "CERTS/node.pem"
key = "CERTS/node.key"
client_ca = "CERTS/ca.pem"
"""


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def certificate(folder, name, subject, authority=None):
    """Makes NAME.pem and NAME.key; signed by an authority, or by itself as one."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
    if authority is None:
        openssl(folder, "req", "-x509", *key, "-out", f"{name}.pem", "-subj", subject, "-days", "2")
        return
    openssl(folder, "req", "-new", *key, "-out", f"{name}.csr", "-subj", subject)
    (folder / f"{name}.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
        "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext",
    )


class Secured(Sluice):
    """A node whose Kafka listeners are those of the configuration."""

    BY_FLAG = ("mqtt", "http")

    def start(self):
        super().start()
        found = re.findall(r"^\s*Kafkas?\s+127\.0\.0\.1:(\d+)", "\n".join(self.lines), re.MULTILINE)
        self.sasl, self.sasl_tls, self.mutual_tls = (f"127.0.0.1:{port}" for port in found)
        return self

    def user(self, *arguments, password=None):
        done = self.run(
            "user", *arguments, "--http", f"127.0.0.1:{self.http}",
            "--data-dir", os.path.join(self.folder, "data"), input=password,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    certificate(folder, "ca", "/CN=the authority")
    certificate(folder, "node", "/CN=node", "ca")
    certificate(folder, "lock", "/O=acme/CN=lock, 7", "ca")
    certificate(folder, "other", "/CN=another authority")
    certificate(folder, "stranger", "/O=acme/CN=lock, 7", "other")
    return folder


@pytest.fixture(scope="module")
def secured(tmp_path_factory, certs):
    node = Secured(tmp_path_factory.mktemp("secured"), CONFIG.replace("CERTS", str(certs))).start()
    for name, password in USERS.items():
        node.user("add", name, password=password + "\n")
    admin = AdminClient(login(node.sasl, "root"))
    topics = [NewTopic(name, num_partitions=1) for name in ("open-1", "secret-1", "closed-1")]
    for future in admin.create_topics(topics).values():
        future.result(30)
    producer = Producer(login(node.sasl, "root"))
    for topic in ("open-1", "secret-1", "closed-1"):
        producer.produce(topic, b"first")
    assert producer.flush(30) == 0
    yield node
    node.kill()


def login(bootstrap, name, mechanism="SCRAM-SHA-256", password=None, protocol="SASL_PLAINTEXT", **more):
    """The configuration of librdkafka for a user."""
    return {
        "bootstrap.servers": bootstrap, "security.protocol": protocol, "sasl.mechanism": mechanism,
        "sasl.username": name, "sasl.password": USERS.get(name, "") if password is None else password,
        "log_level": 0, **{key.replace("_", "."): value for key, value in more.items()},
    }


def topics(config):
    """The topics that a client sees; raises the error that it is refused with."""
    errors = []
    admin = AdminClient({**config, "error_cb": errors.append})
    try:
        return set(admin.list_topics(timeout=5).topics)
    except KafkaException as error:
        vague = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT}
        until = time.monotonic() + 5
        while not (known := [found for found in errors if found.code() not in vague]) and time.monotonic() < until:
            admin.poll(0.1)
        raise KafkaException(known[0] if known else error.args[0]) from error


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_librdkafka_logs_in(secured, certs, mechanism):
    assert topics(login(secured.sasl, "reader", mechanism)) == {"open-1"}
    tls = {"protocol": "SASL_SSL", "ssl_ca_location": str(certs / "ca.pem")}
    assert topics(login(secured.sasl_tls, "reader", mechanism, **tls)) == {"open-1"}


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("name, password", [("victim", "wrong"), ("victim", "guess m"), ("stranger", "guess me")])
def test_librdkafka_is_refused(secured, mechanism, name, password):
    with pytest.raises(KafkaException) as refused:
        topics(login(secured.sasl, name, mechanism, password))
    assert refused.value.args[0].code() == KafkaError._AUTHENTICATION, refused.value


def test_who_does_not_log_in_sees_nothing(secured):
    with pytest.raises(KafkaException):
        topics({"bootstrap.servers": secured.sasl, "log_level": 0})


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kafka_python_logs_in(secured, certs, mechanism):
    for bootstrap, more in [
        (secured.sasl, {"security_protocol": "SASL_PLAINTEXT"}),
        (secured.sasl_tls, {"security_protocol": "SASL_SSL", "ssl_cafile": str(certs / "ca.pem")}),
    ]:
        who = {"bootstrap_servers": bootstrap, "sasl_mechanism": mechanism, **more}
        producer = KafkaProducer(
            **who, sasl_plain_username="writer", sasl_plain_password=USERS["writer"],
        )
        sent = producer.send("open-1", b"by kafka-python").get(timeout=30)
        producer.close()
        consumer = KafkaConsumer(
            "open-1", **who, sasl_plain_username="reader", sasl_plain_password=USERS["reader"],
            group_id="readers", auto_offset_reset="earliest", consumer_timeout_ms=20000,
        )
        assert any(record.offset == sent.offset for record in consumer)
        consumer.close()


def test_kafka_python_is_refused(secured):
    with pytest.raises(Exception) as refused:  # noqa: B017 - its type differs between the versions
        KafkaProducer(
            bootstrap_servers=secured.sasl, security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN",
            sasl_plain_username="victim", sasl_plain_password="wrong", bootstrap_timeout_ms=5000,
            max_block_ms=5000,
        ).send("open-1", b"x").get(timeout=10)
    assert "record" not in str(refused.value).lower()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kcat_logs_in(secured, certs, mechanism):
    options = [
        "-X", "security.protocol=SASL_SSL", "-X", f"ssl.ca.location={certs / 'ca.pem'}",
        "-X", f"sasl.mechanism={mechanism}",
    ]
    command = ["kcat", "-b", secured.sasl_tls, *options]
    reader = ["-X", "sasl.username=reader", "-X", f"sasl.password={USERS['reader']}"]
    right = [*command, *reader, "-C", "-t", "open-1", "-o", "0", "-c", "1"]
    done = subprocess.run(right, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "first\n", done.stderr
    wrong = [*command, "-X", "sasl.username=victim", "-X", "sasl.password=wrong", "-L", "-m", "5"]
    done = subprocess.run(wrong, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "Authentication failed" in done.stderr, done.stderr


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_java_client_logs_in(secured, certs, tmp_path, mechanism):
    module = "plain.PlainLoginModule" if mechanism == "PLAIN" else "scram.ScramLoginModule"

    def listed(name, password, check):
        file = tmp_path / "client.properties"
        file.write_text(
            f"security.protocol=SASL_SSL\nssl.truststore.type=PEM\nssl.truststore.location={certs / 'ca.pem'}\n"
            f"sasl.mechanism={mechanism}\n"
            f'sasl.jaas.config=org.apache.kafka.common.security.{module} required username="{name}" '
            f'password="{password}";\n',
            encoding="utf-8",
        )
        return tool(
            "topics", "--bootstrap-server", secured.sasl_tls, "--command-config", str(file), "--list", check=check,
        )

    assert listed("reader", USERS["reader"], True).split() == ["open-1"]
    assert "Authentication failed" in listed("victim", "wrong", False)


def mutual(node, certs, name):
    """The configuration of librdkafka for a client with a certificate."""
    config = {
        "bootstrap.servers": node.mutual_tls, "security.protocol": "SSL", "log_level": 0,
        "ssl.ca.location": str(certs / "ca.pem"),
    }
    if name:
        config |= {
            "ssl.certificate.location": str(certs / f"{name}.pem"), "ssl.key.location": str(certs / f"{name}.key"),
        }
    return config


def test_a_certificate_names_the_client(secured, certs):
    assert topics(mutual(secured, certs, "lock")) == {"open-1"}
    for name in ("stranger", None):
        with pytest.raises(KafkaException):
            topics(mutual(secured, certs, name))
    # A node that a client cannot trust is not spoken to.
    config = mutual(secured, certs, "lock") | {"ssl.ca.location": str(certs / "other.pem")}
    with pytest.raises(KafkaException):
        topics(config)


def produced(node, name, topic, **more):
    """The error code of a produce, 0 for none."""
    told = []
    producer = Producer(login(node.sasl, name, message_timeout_ms=8000, **more))
    producer.produce(topic, b"x", on_delivery=lambda error, _: told.append(error.code() if error else 0))
    producer.flush(10)
    return told[0]


def consumed(node, name, topic, group):
    """The error code of a read with a commit, 0 for none."""
    consumer = Consumer(
        login(node.sasl, name, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False)
    )
    consumer.subscribe([topic])
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                return message.error().code()
            consumer.commit(message, asynchronous=False)
            return 0
        raise AssertionError("nothing was said")
    except KafkaException as error:
        return error.args[0].code()
    finally:
        consumer.close()


def transacted(node, name, transactional_id):
    producer = Producer(login(node.sasl, name, transactional_id=transactional_id))
    try:
        producer.init_transactions(10)
        producer.begin_transaction()
        producer.produce("open-1", b"in a transaction")
        producer.commit_transaction(10)
        return 0
    except KafkaException as error:
        return error.args[0].code()


def created(node, name, topic):
    admin = AdminClient(login(node.sasl, name))
    future = admin.create_topics([NewTopic(topic, num_partitions=1)])[topic]
    return 0 if not (error := future.exception(30)) else error.args[0].code()


def deleted(node, name, topic):
    admin = AdminClient(login(node.sasl, name))
    future = admin.delete_topics([topic])[topic]
    return 0 if not (error := future.exception(30)) else error.args[0].code()


TOPIC, GROUP, TRANSACTION = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)


@pytest.mark.parametrize(
    "ask, name, arguments, told",
    [
        (produced, "writer", ("open-1",), 0),
        (produced, "writer", ("secret-1",), TOPIC),
        (produced, "writer", ("closed-1",), TOPIC),
        (produced, "reader", ("open-1",), TOPIC),
        (produced, "nobody", ("open-1",), TOPIC),
        (produced, "root", ("secret-1",), 0),
        (consumed, "reader", ("open-1", "readers"), 0),
        (consumed, "reader", ("open-1", "others"), GROUP),
        (consumed, "reader", ("closed-1", "readers"), TOPIC),
        (consumed, "writer", ("open-1", "readers"), GROUP),
        (consumed, "root", ("secret-1", "any"), 0),
        (transacted, "writer", ("writer-1",), 0),
        (transacted, "writer", ("other",), TRANSACTION),
        (transacted, "reader", ("writer-1",), TRANSACTION),
        (created, "reader", ("open-2",), TOPIC),
        (created, "writer", ("closed-2",), TOPIC),
        (created, "writer", ("open-2",), 0),
        (deleted, "writer", ("open-2",), TOPIC),
        (deleted, "root", ("open-2",), 0),
    ],
)
def test_who_may_do_what(secured, ask, name, arguments, told):
    assert ask(secured, name, *arguments) == told


def test_an_idempotent_producer_needs_no_more_than_to_write(secured):
    assert produced(secured, "writer", "open-1", enable_idempotence=True) == 0
    with pytest.raises(KafkaException) as refused:
        produced(secured, "reader", "open-1", enable_idempotence=True)
    assert refused.value.args[0].code() == KafkaError.CLUSTER_AUTHORIZATION_FAILED


def test_users_come_and_go(secured):
    config = lambda password: login(secured.sasl, "guest", "SCRAM-SHA-512", password)  # noqa: E731
    secured.user("add", "guest", password="one\n")
    assert topics(config("one")) == set()
    secured.user("passwd", "guest", password="two\n")
    assert topics(config("two")) == set()
    with pytest.raises(KafkaException):
        topics(config("one"))
    assert "guest" in secured.user("list")
    secured.user("delete", "guest")
    assert "guest" not in secured.user("list")
    with pytest.raises(KafkaException):
        topics(config("two"))


def framed(api, version, body):
    frame = struct.pack(">hhih", api, version, 7, 3) + b"raw" + body
    return struct.pack(">i", len(frame)) + frame


def answered(raw):
    size = raw.recv(4, socket.MSG_WAITALL)
    assert len(size) == 4, "the connection was closed"
    return raw.recv(struct.unpack(">i", size)[0], socket.MSG_WAITALL)


def logged_in(bootstrap, name, password):
    """A connection that has logged in by PLAIN and waits for nothing."""
    host, port = bootstrap.split(":")
    raw = socket.create_connection((host, int(port)), 30)
    raw.sendall(framed(17, 1, struct.pack(">h", 5) + b"PLAIN"))
    assert answered(raw)[4:6] == b"\0\0"
    token = b"\0" + name.encode() + b"\0" + password.encode()
    raw.sendall(framed(36, 0, struct.pack(">i", len(token)) + token))
    assert answered(raw)[4:6] == b"\0\0"
    return raw


@pytest.mark.parametrize("change", [["passwd"], ["delete"]])
def test_open_connections_of_a_user_end_with_a_change(secured, change):
    leaver, stayer = (f"{name}-{change[0]}" for name in ("leaver", "stayer"))
    secured.user("add", leaver, password="one\n")
    secured.user("add", stayer, password="one\n")
    idle, other = (logged_in(secured.sasl, name, "one") for name in (leaver, stayer))
    # One that has asked for something before.
    waiting = logged_in(secured.sasl, leaver, "one")
    waiting.sendall(framed(18, 0, b""))
    assert answered(waiting)
    secured.user(*change, leaver, password="two\n" if change == ["passwd"] else None)
    assert idle.recv(1) == waiting.recv(1) == b"", "both are closed"
    # Who was not meant is still served.
    other.sendall(framed(18, 0, b""))
    assert answered(other)[4:6] == b"\0\0"
    for name in (stayer,) if change == ["delete"] else (stayer, leaver):
        secured.user("delete", name)
    assert other.recv(1) == b""


def test_users_survive_a_kill(tmp_path, certs):
    node = Secured(tmp_path, CONFIG.replace("CERTS", str(certs))).start()
    node.user("add", "root", password="x\n")
    node.kill()
    node.start()
    assert topics(login(node.sasl, "root", "PLAIN", "x")) >= {"message_state"}
    node.kill()
    log = (tmp_path / "sluice.log").read_text(encoding="utf-8")
    assert "panic" not in log


def test_a_password_is_nowhere_to_be_found(tmp_path, certs):
    password = "Zaubertrank4711"
    node = Secured(tmp_path, CONFIG.replace("CERTS", str(certs))).start()
    node.user("add", "root", password=password + "\n")
    for mechanism in MECHANISMS:
        topics(login(node.sasl, "root", mechanism, password))
    with pytest.raises(KafkaException):
        topics(login(node.sasl, "root", "PLAIN", password + "!"))
    found = subprocess.run(
        ["curl", "-s", f"http://127.0.0.1:{node.http}/metrics", f"http://127.0.0.1:{node.http}/api/v1/users"],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout
    # A client may log in twice: on its first connection and on that to the broker it then knows.
    assert re.search(r'sluice_kafka_logins_total\{mechanism="PLAIN"\} [1-9]', found)
    assert 'sluice_kafka_logins_failed_total{mechanism="PLAIN"}' in found
    assert password not in found
    assert node.stop() == 0
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert password.encode() not in file.read_bytes(), file


def test_who_is_over_its_quota_is_slowed_down(secured):
    def seconds(client_id):
        told = []
        producer = Producer(
            login(secured.sasl, "writer", client_id=client_id, linger_ms=0, batch_size=20000, acks=1)
            | {"throttle_cb": told.append}
        )
        begun = time.monotonic()
        for _ in range(20):
            producer.produce("open-1", b"x" * 10000)
            producer.flush(30)
        return time.monotonic() - begun, [event.throttle_time for event in told]

    slow, told = seconds("fast")
    # 200 KB at 50 KB/s, the first second's worth for nothing.
    assert slow > 2, "the quota does not hold"
    assert told and max(told) > 0
    quick, told = seconds("other")
    assert quick < slow / 2
    assert not told


def frame(api, version, body=b""):
    header = struct.pack(">hhi", api, version, 7) + struct.pack(">h", 1) + b"x"
    return struct.pack(">i", len(header) + len(body)) + header + body


def text(word):
    return struct.pack(">h", len(word)) + word


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(frame(3, 1, struct.pack(">i", 0)), id="Metadata"),
        pytest.param(frame(0, 3, b"\xff\xff" + struct.pack(">hii", 1, 1000, 0)), id="Produce"),
        pytest.param(struct.pack(">i", 10_000_000), id="a large request"),
        pytest.param(frame(36, 0, struct.pack(">i", 3) + b"abc"), id="SaslAuthenticate without a mechanism"),
        pytest.param(frame(17, 1, text(b"GSSAPI")), id="an unknown mechanism"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
    ],
)
def test_before_the_login_nothing_else_is_answered(secured, sent):
    host, port = secured.sasl.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        peer.sendall(sent)
        answer = b""
        while chunk := peer.recv(4096):
            answer += chunk
    # The two that belong to the login are answered with an error; the others are not at all.
    if sent[4:6] == struct.pack(">h", 17):
        assert struct.unpack(">h", answer[8:10]) == (33,)
    elif sent[4:6] == struct.pack(">h", 36):
        assert struct.unpack(">h", answer[8:10]) == (34,)
    else:
        assert answer == b""


def test_the_handshake_of_old_clients(secured):
    """SaslHandshake 0: the mechanism's bytes follow without requests around them."""
    host, port = secured.sasl.split(":")

    def exchange(password):
        with socket.create_connection((host, int(port)), timeout=10) as peer:
            peer.sendall(frame(17, 0, text(b"PLAIN")))
            size = struct.unpack(">i", peer.recv(4))[0]
            assert struct.unpack(">h", peer.recv(size)[4:6]) == (0,)
            token = b"\0reader\0" + password.encode()
            peer.sendall(struct.pack(">i", len(token)) + token)
            if peer.recv(4) != b"\0\0\0\0":
                return False
            peer.sendall(frame(3, 1, struct.pack(">i", 0)))
            return len(peer.recv(4)) == 4

    assert exchange(USERS["reader"])
    assert not exchange("wrong")


def test_a_node_does_not_start_without_its_certificate(tmp_path, certs):
    config = CONFIG.replace("CERTS/node.key", str(certs / "lock.key")).replace("CERTS", str(certs))
    (tmp_path / "sluice.toml").write_text(config, encoding="utf-8")
    done = Sluice(tmp_path).run("check", str(tmp_path / "sluice.toml"))
    assert done.returncode == 1
    assert "does not belong to the first certificate" in done.stderr
