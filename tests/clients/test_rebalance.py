"""Every client in a group: two and three members join, one leaves, one is killed, the rest go on from
what was committed. Each member is a process of its own; what each prints is in member.py."""

import queue
import subprocess
import sys
import threading
import time

import pytest

from door import unique
from programs import GO, HERE, JAVA, JAVA_OLD, NODE, program

pytestmark = pytest.mark.kafka

PARTITIONS = 6
# The session timeout is 6 s; a member that is killed is missed after that.
CHANGE_SECONDS = 45


class Member:
    """A member's process and what it has printed so far."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.held, self.records, self.ended = None, [], False
        self.lines = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.split())
        self.lines.put(["ended"])

    def look(self):
        """Takes in what was printed since the last look."""
        while not self.lines.empty():
            words = self.lines.get()
            if words[0] == "assigned":
                self.held = [int(part) for part in words[1].split(",")] if len(words) > 1 else []
            elif words[0] == "record":
                self.records.append((int(words[1]), int(words[2]), words[3]))
            elif words[0] == "ended":
                self.ended = True

    def leave(self):
        self.process.terminate()
        assert self.process.wait(30) in (0, 143, -15), "the member did not leave in order"

    def kill(self):
        self.process.kill()
        self.process.wait()


class Group:
    """The members that live, and those that are gone with what they had read."""

    def __init__(self, commands, once):
        self.commands, self.once = commands, once
        self.members, self.gone = [], []

    def join(self):
        self.members.append(Member(self.commands[len(self.members) % len(self.commands)]))

    def remove(self, member):
        member.look()
        self.members.remove(member)
        self.gone.append(member)

    def until(self, what, true):
        end = time.monotonic() + CHANGE_SECONDS
        while True:
            for member in self.members:
                member.look()
            if true():
                return
            held = [member.held for member in self.members]
            assert not any(member.ended for member in self.members), f"a member ended by itself: {held}"
            assert time.monotonic() < end, f"{what}: not within {CHANGE_SECONDS} s; held: {held}"
            time.sleep(0.05)

    def shared_out(self):
        """Waits until every partition has one owner and every member its equal part."""
        share = PARTITIONS // len(self.members)

        def fair():
            held = [member.held or [] for member in self.members]
            return sorted(sum(held, [])) == list(range(PARTITIONS)) and {len(h) for h in held} == {share}

        self.until(f"{len(self.members)} members with {share} partitions each", fair)

    def values(self):
        values = [value for member in self.members + self.gone for _, _, value in member.records]
        return values if self.once else list(set(values))

    def end(self):
        for member in self.members:
            if member.process.poll() is None:
                member.kill()


CLIENTS = [
    ("confluent", "range"), ("confluent", "cooperative"),
    ("kafka-python", "range"), ("kafka-python", "cooperative"),
    ("aiokafka", "range"),
    ("kafkajs", "range"), ("platformatic", "range"),
    ("java", "range"), ("java", "cooperative"), ("java-old", "range"), ("java-old", "cooperative"),
    ("franz", "range"), ("franz", "cooperative"), ("sarama", "range"),
]


def command(client, door, group, topic, strategy):
    rest = [door.bootstrap, group, topic, strategy]
    if client in NODE | JAVA | JAVA_OLD | GO:
        return [*program(client), "member", *rest]
    return [sys.executable, str(HERE / "member.py"), client, *rest]


def produce(door, topic, first):
    """Ten values a partition, and the names they have."""
    values = [f"{first + number}" for number in range(10 * PARTITIONS)]
    for partition in range(PARTITIONS):
        door.produce(topic, values[partition::PARTITIONS], partition=partition)
    return values


def lives(door, commands, topic, once=True):
    """The life of a group, from one member to three and back."""
    group = Group(commands, once)
    try:
        group.join()
        group.shared_out()
        expected = produce(door, topic, 0)
        group.until("the first records", lambda: len(group.values()) >= len(expected))
        group.join()
        group.shared_out()
        group.join()
        group.shared_out()
        expected += produce(door, topic, 1000)
        group.until("the records of three", lambda: len(group.values()) >= len(expected))

        killed = group.members[2]
        killed.kill()
        group.remove(killed)
        expected += produce(door, topic, 2000)
        group.shared_out()
        group.until("the records of the killed member too", lambda: len(group.values()) >= len(expected))

        left = group.members[1]
        left.leave()
        group.remove(left)
        group.shared_out()
        last = group.members[0]
        last.leave()
        group.remove(last)

        expected += produce(door, topic, 3000)
        group.join()
        group.until("what came while nobody was there", lambda: len(group.values()) >= len(expected))
        group.members[0].leave()
        group.remove(group.members[0])
        assert sorted(group.values()) == sorted(expected), "some value was lost or came twice"
    finally:
        group.end()


@pytest.mark.parametrize("client,strategy", CLIENTS)
def test_members_come_and_go(door, client, strategy):
    topic, group = door.topic("rebalance", PARTITIONS), unique("rebalance")
    one = command(client, door, group, topic, strategy)
    # @platformatic/kafka reads again, when it joins again, what it was just given.
    lives(door, [one], topic, once=client != "platformatic")
    assert sum(door.committed(group, topic, PARTITIONS)) == 40 * PARTITIONS


def test_three_libraries_share_one_group(door):
    topic, group = door.topic("mixed", PARTITIONS), unique("mixed")
    mixed = [command(client, door, group, topic, "range") for client in ("confluent", "java", "kafka-python")]
    lives(door, mixed, topic)
