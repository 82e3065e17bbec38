"""TLS, mutual TLS, SASL PLAIN and SCRAM towards a real cluster, and what `check --connect` says of each
mistake. The program must be built with the feature `kafka-tls`."""

import os
import uuid

import pytest

from fleet import Fleet

pytestmark = [pytest.mark.mirror, pytest.mark.guarded]


class Door:
    """A guarded listener as a cluster."""

    def __init__(self, address):
        self.bootstrap = address


def node_at(mirroring, guarded, door, *lines):
    topic = f"guarded-{uuid.uuid4().hex[:6]}"
    return mirroring(Door(guarded.doors[door]), topic, mirror="\n".join(lines))


def ways(folder):
    tls = ["tls = true", f'tls_ca = "{folder}/ca.pem"']
    mutual = [f'tls_certificate = "{folder}/client.pem"', f'tls_key = "{folder}/client.key"']

    def login(mechanism, word="MIRROR_PASSWORD"):
        return [f'sasl_mechanism = "{mechanism}"', 'sasl_username = "lock"', f'sasl_password = "env:{word}"']

    return {
        "mutual TLS": ("SSL", tls + mutual),
        "PLAIN": ("SASL_PLAINTEXT", login("PLAIN")),
        "SCRAM-SHA-256": ("SASL_PLAINTEXT", login("SCRAM-SHA-256")),
        "SCRAM-SHA-512": ("SASL_PLAINTEXT", login("SCRAM-SHA-512")),
        "PLAIN over TLS": ("SASL_SSL", tls + login("PLAIN")),
        "SCRAM-SHA-512 over TLS": ("SASL_SSL", tls + login("SCRAM-SHA-512")),
    }


@pytest.fixture(autouse=True)
def passwords(monkeypatch):
    monkeypatch.setenv("MIRROR_PASSWORD", "lock-secret")
    monkeypatch.setenv("WRONG_PASSWORD", "wrong")


@pytest.mark.parametrize("way", sorted(ways("")))
def test_the_mirror_logs_in(guarded, mirroring, way):
    door, lines = ways(guarded.folder)[way]
    node = node_at(mirroring, guarded, door, *lines).start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 2).start()
    fleet.wait_more(50)
    fleet.end()
    node.wait_drained()
    acked, found, missing, twice, _ = fleet.judge((k, v) for _, _, k, v, _ in guarded.read(node.topic))
    assert acked and (missing, twice) == (0, 0)


def checked(node):
    """What `check --connect` says, in one line."""
    path = os.path.join(node.folder, "sluice.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(node.config)
    done = node.run("check", path, "--connect")
    return done.returncode, done.stdout + done.stderr


def test_check_connect_finds_nothing_wrong(guarded, mirroring):
    door, lines = ways(guarded.folder)["SCRAM-SHA-512 over TLS"]
    status, said = checked(node_at(mirroring, guarded, door, *lines))
    assert status == 0, said


@pytest.mark.parametrize("mistake", ["wrong port", "TLS against plaintext", "bad password"])
def test_check_connect_says_what_is_wrong(guarded, mirroring, mistake):
    over_tls = ways(guarded.folder)["SCRAM-SHA-512 over TLS"][1]
    if mistake == "wrong port":
        node = mirroring(Door("127.0.0.1:1"), "t")
    elif mistake == "TLS against plaintext":
        node = mirroring(Door(guarded.bootstrap), "t", mirror="\n".join(over_tls[:2]))
    else:
        lines = [line.replace("MIRROR_PASSWORD", "WRONG_PASSWORD") for line in over_tls]
        node = mirroring(Door(guarded.doors["SASL_SSL"]), "t", mirror="\n".join(lines))
    status, said = checked(node)
    assert status != 0
    words = {"wrong port": "wrong port", "TLS against plaintext": "TLS", "bad password": "password"}[mistake]
    assert words.lower() in said.lower(), said
