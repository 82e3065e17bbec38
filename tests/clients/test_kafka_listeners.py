"""Several Kafka listeners, over IPv6 too, each telling clients its own address; and what operators see
of a group that reads by one of them."""

import json
import re
import socket
import subprocess

import pytest

from sluice import Sluice

pytestmark = pytest.mark.kafka

LINES = [f"line {number}" for number in range(10)]


class Listeners(Sluice):
    """A node whose Kafka listeners are those of its configuration."""

    BY_FLAG = ("mqtt", "ws", "http")


def kcat(address, *arguments, stdin=None):
    command = ["kcat", "-b", address, "-q", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=True).stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def node(tmp_path):
    named = free_port()
    config = f"""
[[listener]]
kind = "kafka"
bind = "[::1]:0"

[[listener]]
kind = "kafka"
bind = "127.0.0.1:{named}"
advertised = "localhost:{named}"

[[stream]]
name = "lines"
partitions = 1
"""
    node = Listeners(tmp_path, config).start()
    found = [re.match(r"\s*Kafka\s+(\[::1\]:\d+)", line) for line in node.lines]
    node.six = next(match.group(1) for match in found if match)
    node.named = f"localhost:{named}"
    yield node
    if node.process.poll() is None:
        node.kill()


def told(address):
    """The address that clients are sent to."""
    return re.search(r"broker \d+ at (\S+)", kcat(address, "-L")).group(1)


def test_each_listener_tells_its_own_address(node):
    assert told(node.six).replace("[::1]", "::1") == node.six.replace("[::1]", "::1")
    assert told(node.named.replace("localhost", "127.0.0.1")) == node.named


def test_a_group_over_ipv6_and_its_lag(node):
    kcat(node.six, "-P", "-t", "lines", stdin="\n".join(LINES))
    assert kcat(node.named, "-C", "-t", "lines", "-o", "beginning", "-e").splitlines() == LINES
    read = kcat(node.six, "-G", "readers", "-c", "6", "-X", "auto.offset.reset=earliest", "lines")
    assert read.splitlines() == LINES[:6]
    http = f"127.0.0.1:{node.http}"
    done = node.run("ctl", "--http", http, "--json", "groups", cwd=node.folder)
    assert done.returncode == 0, done.stderr
    [group] = json.loads(done.stdout)
    [offset] = group["offsets"]
    assert (group["group"], offset["committed"], offset["lag"]) == ("readers", 6, 4)
    shown = node.run("ctl", "--http", http, "groups", cwd=node.folder).stdout
    assert re.search(r"readers\b.*\b4\b", shown), shown
