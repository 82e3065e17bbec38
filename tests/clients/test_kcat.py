"""kcat (the librdkafka of Debian, 2.0) against the Kafka front door."""

import os
import subprocess
import time

import pytest

from conftest import read_stream
from door import Door, unique

pytestmark = pytest.mark.kafka


def kcat(door, *arguments, stdin=None):
    command = ["kcat", "-b", door.bootstrap, "-q", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4"])
def test_produce_and_consume_alone(door, codec):
    topic = door.topic("kcat", 2)
    lines = [f"line {number} of many that are all alike" for number in range(500)]
    kcat(door, "-P", "-t", topic, "-z", codec, stdin="\n".join(lines))
    found = kcat(door, "-C", "-t", topic, "-o", "beginning", "-e").splitlines()
    assert sorted(found) == sorted(lines)


def test_keys_headers_and_offsets(door):
    topic = door.topic("kcat")
    kcat(door, "-P", "-t", topic, "-K", ":", "-H", "a=1", stdin="key:value\n")
    assert kcat(door, "-C", "-t", topic, "-e", "-f", "%o %k %s %h\n").split() == ["0", "key", "value", "a=1"]


def test_a_group_resumes(door):
    topic, group = door.topic("kcat"), unique("kcat")
    config = ["-X", "auto.offset.reset=earliest"]
    for first in (0, 10):
        kcat(door, "-P", "-t", topic, stdin="\n".join(str(first + number) for number in range(10)))
        found = kcat(door, "-G", group, "-c", "10", *config, topic).split()
        assert found == [str(first + number) for number in range(10)]
    assert door.committed(group, topic) == [20]


def test_seek_by_time(door):
    topic = door.topic("kcat")
    door.produce(topic, [b"early"])
    time.sleep(0.05)
    now = int(time.time() * 1000)
    time.sleep(0.05)
    door.produce(topic, [b"late"])
    assert kcat(door, "-C", "-t", topic, "-o", f"s@{now}", "-e").split() == ["late"]
    assert "offset 1" in subprocess.run(
        ["kcat", "-Q", "-b", door.bootstrap, "-t", f"{topic}:0:{now}"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout


def test_idempotent_and_transactional_produce(door):
    topic = door.topic("kcat")
    lines = "\n".join(str(number) for number in range(200))
    kcat(door, "-P", "-t", topic, "-X", "enable.idempotence=true", stdin=lines)
    kcat(door, "-P", "-t", topic, "-X", f"transactional.id={unique('t')}", stdin=lines)
    assert [value for *_, value in door.read(topic)] == [b"%d" % number for number in range(200)] * 2
    found = kcat(door, "-C", "-t", topic, "-o", "beginning", "-e", "-X", "isolation.level=read_committed")
    assert len(found.split()) == 400


def test_readers_come_over_what_was_lost_at_the_end(fresh):
    node = fresh('[log]\nsegment_bytes = "1MB"\n[[stream]]\nname = "s"\npartitions = 1\n').start()
    lines = [f"{number:01000}" for number in range(3_000)]
    kcat(Door(f"127.0.0.1:{node.kafka}", node), "-P", "-t", "s", "-X", "batch.num.messages=50",
         stdin="\n".join(lines))
    assert node.stop() == 0
    folder = os.path.join(node.folder, "data/streams/s-0")
    segments = sorted(name for name in os.listdir(folder) if name.endswith(".log"))
    first_lost = int(segments[-1].removesuffix(".log"))
    assert 1_000 < first_lost < 3_000
    os.remove(os.path.join(folder, segments[-1]))
    with pytest.raises(AssertionError, match="ended at start"):
        node.start()
    assert segments[-1] in node.log() and "--accept-loss" in node.log()
    node.options = ["--accept-loss"]
    node.start()
    door = Door(f"127.0.0.1:{node.kafka}", node)
    for more in ([], ["behind the gap"]):
        kept = lines[:first_lost] + more
        if more:
            kcat(door, "-P", "-t", "s", stdin="behind the gap\n")
        ours = node.run("consume", "s", "--from-beginning", "--exit", "--bootstrap", door.bootstrap)
        assert (ours.returncode, ours.stdout.splitlines()) == (0, kept), ours.stderr
        assert kcat(door, "-C", "-t", "s", "-o", "beginning", "-e").splitlines() == kept
        # From within the gap, too.
        assert kcat(door, "-C", "-t", "s", "-o", str(first_lost + 1), "-e").splitlines() == more
        assert [value.decode() for *_, value in read_stream(node, "s")] == kept
