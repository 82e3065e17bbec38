"""Fixtures: clusters that the tests of one file share, and a node that mirrors into one."""

import os
import signal
import sys
import time
import urllib.request
import json
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "clients"))
sys.path.insert(0, str(Path(__file__).parent))

import paho_mends  # noqa: E402, F401
from cluster import Cluster  # noqa: E402
from sluice import Sluice  # noqa: E402

KILLS = int(os.environ.get("SLUICE_KILLS", "3"))
# Of an outage; `cargo xtask soak mirror` makes it two minutes.
OUTAGE_SECONDS = float(os.environ.get("SLUICE_OUTAGE_SECONDS", "8"))
TEST_SECONDS = 300 + 4 * OUTAGE_SECONDS + 15 * KILLS


@pytest.fixture(autouse=True)
def bounded():
    """A test that hangs fails where it hangs."""

    def late(_signal, _frame):
        raise TimeoutError(f"the test took more than {TEST_SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(int(TEST_SECONDS))
    yield
    signal.alarm(0)


@pytest.fixture(scope="session")
def three():
    """Three nodes behind proxies."""
    cluster = Cluster(f"mirror-{os.getpid()}", 3)
    yield cluster
    cluster.down()


@pytest.fixture(scope="session")
def guarded():
    """One node with TLS, mutual TLS, SASL PLAIN and SCRAM."""
    cluster = Cluster(f"guarded-{os.getpid()}", 1, "--secure")
    yield cluster
    cluster.down()


class Mirroring(Sluice):
    """A node that mirrors `message_state` into `topic`."""

    def __init__(self, folder, cluster, topic, mirror="", rest="", ack="flush"):
        self.topic = topic
        super().__init__(folder, f"""
{rest}
[mirror]
brokers = "{cluster.bootstrap}"
{mirror}
[[mirror.stream]]
stream = "message_state"
topic = "{topic}"
partitions = 4
[[stream]]
name = "message_state"
partitions = 3
ack = "{ack}"
[[hook]]
event = "message.publish"
filter = "devices/+/state"
stream = "message_state"
key = "{{2}}"
""")

    def view(self):
        """What the mirror says of itself."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/api/v1/mirror", timeout=10) as answer:
            return json.load(answer)

    def turn(self, verb):
        """Lets the operator `enable` or `disable` the mirror."""
        told = self.run("ctl", "--http", f"127.0.0.1:{self.http}", "mirror", verb)
        assert told.returncode == 0, told.stderr

    def wait_state(self, *states, seconds=60):
        end = time.monotonic() + seconds
        while (view := self.view())["state"] not in states:
            assert time.monotonic() < end, f"not {states}: {view}"
            time.sleep(0.05)
        return view

    def wait_mirrored(self, records, seconds=60):
        """Until so many are in the cluster, however many follow."""
        end = time.monotonic() + seconds
        while True:
            view = self.view()
            if sum(row["records"] for row in view["streams"]) >= records:
                return
            assert time.monotonic() < end, f"not {records} records: {view}"
            time.sleep(0.05)

    def wait_drained(self, seconds=120):
        """Until all that is flushed is in the cluster."""
        end = time.monotonic() + seconds
        while True:
            view = self.view()
            rows = [row for row in view["streams"] if row["stream"] == "message_state"]
            known = rows and all(p["mirrored"] is not None for p in rows[0]["partitions"])
            if known and rows[0]["lag_records"] == 0:
                return view
            assert time.monotonic() < end, f"the backlog does not drain: {view}"
            time.sleep(0.05)


@pytest.fixture
def mirroring(tmp_path):
    """Makes nodes that mirror; those that still run at the end are killed."""
    made = []

    def make(cluster, topic, **options):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Mirroring(folder, cluster, topic, **options))
        return made[-1]

    yield make
    for node in made:
        if node.process and node.process.poll() is None:
            node.kill()
