"""Commands from Kafka to devices: what a record becomes, what is refused, and kill -9 on the way."""

import json
import os
import random
import time

from kafka import KafkaProducer

from conftest import read_stream
from devices import Device, downlinks

KILLS = int(os.environ.get("SLUICE_KILLS", "3"))
COMMANDS = int(os.environ.get("SLUICE_COMMANDS", "600"))
SEED = int(os.environ.get("SLUICE_SEED", "0")) or random.SystemRandom().getrandbits(32)

CONFIG = """
[mqtt]
inbox_max = 20000

[[stream]]
name = "commands"
partitions = 3

[[hook]]
event = "message.publish"
filter = "devices/+/command"
stream = "message_command"

[[hook]]
event = "message.dropped"
filter = "devices/+/command"
stream = "fate"

[[downlink]]
stream = "commands"
topic = "devices/{key}/command"
qos = 2
"""


def produce(node, records):
    """Writes (key, value, headers) and waits until all are acknowledged."""
    producer = KafkaProducer(bootstrap_servers=f"127.0.0.1:{node.kafka}", acks="all")
    sent = [
        producer.send("commands", key=key, value=value, headers=headers)
        for key, value, headers in records
    ]
    for future in sent:
        future.get(timeout=30)
    producer.close()


def test_a_record_becomes_a_publish_or_a_dead_letter(fresh):
    node = fresh(CONFIG).start()
    lock = Device("lock-1", node.mqtt)
    away = Device("lock-2", node.mqtt)
    away.leave()
    produce(node, [
        (b"lock-1", b"open", []),
        (b"a/b", b"nowhere", []),
        (b"", b"nobody", []),
        (b"lock-1", b"once", [("mqtt.qos", b"1"), ("mqtt.expiry", b"600")]),
        (b"other", b"by header", [("mqtt.topic", b"devices/lock-1/command")]),
        (b"lock-2", b"later", []),
    ])
    got = lock.wait(3)
    assert sorted(got) == [(1, False, "once"), (2, False, "by header"), (2, False, "open")]
    back = Device("lock-2", node.mqtt)
    assert back.wait(1) == [(2, False, "later")]
    dead = sorted(value for *_, value in read_stream(node, "downlink_dead_letter"))
    assert dead == [b"nobody", b"nowhere"]
    row = downlinks(node)
    row = (row["items"] if isinstance(row, dict) else row)[0]
    assert (row["state"], row["published"], row["refused"]) == ("connected", 4, 2), row
    assert row["lag_records"] == 0
    for device in (lock, back):
        device.leave()


def test_kill_while_commands_go_down(fresh):
    print(f"seed {SEED}, {KILLS} kills, {COMMANDS} commands")
    chance = random.Random(SEED)
    node = fresh(CONFIG).start()
    names = [f"lock-{number}" for number in range(4)]
    devices = [Device(name, node.mqtt) for name in names]
    sent = 0
    for kill in range(KILLS):
        until = COMMANDS * (kill + 1) // KILLS
        batch = [
            (names[number % 4].encode(), str(number).encode(), [])
            for number in range(sent, until)
        ]
        sent = until
        produce(node, batch)
        time.sleep(chance.uniform(0, 0.3))
        node.kill()
        node.start()
    everything = {name: [] for name in names}
    for number in range(COMMANDS):
        everything[names[number % 4]].append(str(number))
    for device in devices:
        device.wait(len(everything[device.name]), 120)
    # Whoever got a command twice gets it soon after the last.
    time.sleep(1)
    for device in devices:
        got = [payload for _, _, payload in device.wait(0)]
        missing = set(everything[device.name]) - set(got)
        assert not missing, f"{device.name}: missing {sorted(missing)[:5]}"
        assert len(got) == len(set(got)), f"{device.name}: more than once"
        assert got == everything[device.name], f"{device.name}: out of order"
        device.leave()
    records = [json.loads(value) for *_, value in read_stream(node, "message_command")]
    assert len(records) == COMMANDS, "each is in the log once"
    print(f"{COMMANDS} commands, each once, through {KILLS} kills")
