"""kill -9 under load, again and again: nothing acknowledged is lost."""

import base64
import json
import os
import queue
import random
import threading
import time

import paho.mqtt.client as mqtt

from conftest import read_stream
from test_paho import Client

KILLS = int(os.environ.get("SLUICE_KILLS", "3"))
SEED = int(os.environ.get("SLUICE_SEED", "0")) or random.SystemRandom().getrandbits(32)


class Paho(mqtt.Client):
    """Paho sends a QoS 2 PUBLISH again although it has answered its PUBREC, where an attempt to
    reconnect has failed since then, which MQTT 3.1.1 forbids [MQTT-4.3.3-1]: each attempt looks for
    messages that wait for PUBCOMP, and the first has given those another state."""

    def _messages_reconnect_reset_out(self):
        released = (mqtt.mqtt_ms_wait_for_pubcomp, mqtt.mqtt_ms_resend_pubrel)
        messages = [message for message in self._out_messages.values() if message.state in released]
        super()._messages_reconnect_reset_out()
        for message in messages:
            message.state = mqtt.mqtt_ms_resend_pubrel


class Publisher:
    """Publishes numbers at one QoS through reconnects; remembers which were acknowledged."""

    def __init__(self, name, qos, port):
        self.name, self.qos = name, qos
        self.acked, self.sent = [], 0
        # Paho calls back on its own thread and with its locks held: mids come over a queue.
        self.answers = queue.SimpleQueue()
        self.numbers = {}
        self.paho = Paho(
            mqtt.CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv311, clean_session=False,
            reconnect_on_failure=True,
        )
        self.paho.max_inflight_messages_set(8)
        self.paho.reconnect_delay_set(1, 1)
        self.paho.on_publish = lambda _c, _u, mid, _reason, _p: self.answers.put(mid)
        # Paho sends what is published between its CONNECT and the CONNACK at once, and what was not
        # acknowledged before only after that: in another order than it was published.
        self.lost, self.failed = threading.Event(), threading.Semaphore(0)
        self.paho.on_connect_fail = lambda *_: self.failed.release()
        self.paho.on_disconnect = lambda *_: self.lost.set()
        self.paho.connect("127.0.0.1", port)
        self.paho.loop_start()

    def collect(self, timeout=None):
        """Takes the answers that have come; with a timeout, waits for one."""
        try:
            while True:
                mid = self.answers.get(timeout=timeout) if timeout else self.answers.get_nowait()
                timeout = None
                if mid in self.numbers:
                    self.acked.append(self.numbers.pop(mid))
        except queue.Empty:
            pass

    def publish(self):
        self.collect()
        if len(self.numbers) >= 8 or (self.lost.is_set() and self.numbers):
            return
        self.lost.clear()
        info = self.paho.publish(f"devices/{self.name}/state", str(self.sent), qos=self.qos)
        self.numbers[info.mid] = self.sent
        self.sent += 1

    def miss(self, attempts):
        """Waits until so many attempts to connect again have failed from now on."""
        while self.failed.acquire(blocking=False):
            pass
        for _ in range(attempts):
            assert self.failed.acquire(timeout=60), f"{self.name}: does not try again"

    def wait(self, seconds=60):
        end = time.monotonic() + seconds
        while self.numbers and time.monotonic() < end:
            self.collect(timeout=0.5)
        if self.numbers:
            waiting = sorted(self.numbers.values())[:5]
            raise AssertionError(f"{self.name}: never acknowledged: {waiting}")


def test_kill(fresh):
    # Nothing that is owed may be dropped for want of room in the inbox.
    node = fresh("[mqtt]\ninbox_max = 1000000\n").start()
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    offline = Client(node, "offline", mqtt.MQTTv311, clean=False)
    offline.subscribe("devices/+/state", qos=2)
    offline.leave()
    publishers = [Publisher(f"p{qos}-{n}", qos, node.mqtt) for qos in (1, 2) for n in range(4)]
    for kill in range(KILLS):
        end = time.monotonic() + chance.uniform(0.2, 1.5)
        while time.monotonic() < end:
            for publisher in publishers:
                publisher.publish()
            threading.Event().wait(0.002)
        node.kill()
        if kill % 3 == 1:
            for publisher in publishers:
                publisher.miss(attempts=2)
        node.start()
    for publisher in publishers:
        publisher.wait()
        publisher.paho.disconnect()
        publisher.paho.loop_stop()
    total = sum(publisher.sent for publisher in publishers)
    assert total > 0

    stream = {}
    for _, _, key, value in read_stream(node, "message_state"):
        number = int(base64.b64decode(json.loads(value)["payload"]))
        stream.setdefault(key.decode(), []).append(number)

    owed = Client(node, "offline", mqtt.MQTTv311, clean=False)
    assert owed.session_present
    records = sum(len(numbers) for numbers in stream.values())
    owed.received.wait(records, 100)
    delivered = {}
    for message in owed.received.messages:
        delivered.setdefault(message.topic.split("/")[1], []).append(int(message.payload))

    for publisher in publishers:
        numbers = stream[publisher.name]
        assert set(publisher.acked) <= set(numbers), f"{publisher.name}: acknowledged and lost"
        first_seen = list(dict.fromkeys(numbers))
        assert first_seen == sorted(first_seen), f"{publisher.name}: out of order"
        if publisher.qos == 2:
            assert numbers == first_seen, f"{publisher.name}: QoS 2 more than once"
        got = delivered.get(publisher.name, [])
        assert set(got) == set(numbers), f"{publisher.name}: owed and not delivered"
        assert list(dict.fromkeys(got)) == first_seen, f"{publisher.name}: delivered out of order"
        if publisher.qos == 2:
            assert got == numbers, f"{publisher.name}: QoS 2 delivered more than once"
    owed.leave()
    print(f"{total} published, {records} records, {len(owed.received.messages)} delivered")
