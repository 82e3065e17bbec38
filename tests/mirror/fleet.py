"""Devices that publish numbers at QoS 1 and remember which were acknowledged, and the comparison with
what a topic of the cluster holds."""

import base64
import json
import threading
import time
import uuid

import paho.mqtt.client as paho

WINDOW = 20


class Device(threading.Thread):
    """Publishes 0, 1, 2, ... in the order of its numbers, at most WINDOW without an answer. What a lost
    connection leaves unanswered is not sent again: its fate is unknown, as a real device's restart."""

    def __init__(self, port, name, topic, pause):
        super().__init__(daemon=True)
        self.port, self.name_, self.topic, self.pause = port, name, topic, pause
        self.ending, self.changed = threading.Event(), threading.Condition()
        self.acked, self.sent, self.fault = set(), 0, None

    def run(self):
        try:
            while not self.ending.is_set():
                try:
                    self.connection()
                except OSError:
                    self.ending.wait(0.1)
        except BaseException as fault:
            self.fault = fault

    def connection(self):
        # An answer may come before `publish` has said which number it is for. Paho calls back with
        # locks held that `publish` takes: nothing is published while `changed` is held.
        waiting, early = {}, {}
        lost = threading.Event()
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=self.name_, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        client.max_inflight_messages_set(WINDOW)

        def on_publish(_client, _userdata, mid, reason, _properties):
            with self.changed:
                if mid not in waiting:
                    early[mid] = not reason.is_failure
                else:
                    number = waiting.pop(mid)
                    if not reason.is_failure:
                        self.acked.add(number)
                self.changed.notify_all()

        def on_disconnect(*_):
            lost.set()
            with self.changed:
                self.changed.notify_all()

        client.on_publish, client.on_disconnect = on_publish, on_disconnect
        client.connect("127.0.0.1", self.port, keepalive=30)
        client.loop_start()
        try:
            while not lost.is_set():
                with self.changed:
                    self.changed.wait_for(lambda: len(waiting) < WINDOW or lost.is_set(), 1)
                    if self.ending.is_set():
                        self.changed.wait_for(lambda: not waiting or lost.is_set(), 60)
                        return
                    if len(waiting) >= WINDOW or lost.is_set():
                        continue
                number = self.sent
                self.sent += 1
                mid = client.publish(self.topic, b"%d" % number, qos=1).mid
                with self.changed:
                    if mid not in early:
                        waiting[mid] = number
                    elif early.pop(mid):
                        self.acked.add(number)
                if self.pause:
                    self.ending.wait(self.pause)
        finally:
            client.disconnect()
            client.loop_stop()


class Fleet:
    """`count` devices of a run of their own on topics of the article's form."""

    def __init__(self, port, count=8, pause=0.003):
        self.run = uuid.uuid4().hex[:8]
        self.devices = [
            Device(port, f"{self.run}-{n}", f"devices/{self.run}-{n}/state", pause) for n in range(count)
        ]

    def start(self):
        for device in self.devices:
            device.start()
        return self

    def acked(self):
        return sum(len(device.acked) for device in self.devices)

    def wait_more(self, count, seconds=60):
        """Until `count` more are acknowledged."""
        goal, end = self.acked() + count, time.monotonic() + seconds
        while self.acked() < goal:
            assert time.monotonic() < end, f"publishing stands still at {self.acked()} of {goal}"
            time.sleep(0.02)

    def end(self):
        for device in self.devices:
            device.ending.set()
        for device in self.devices:
            device.join(90)
            assert not device.is_alive(), "a device does not come to its end"
            if device.fault:
                raise device.fault

    def judge(self, records):
        """Of (key, value) in the order of each partition: (acknowledged, found, missing, twice, disordered)."""
        found = {device.name_: [] for device in self.devices}
        for key, value in records:
            name = (key or b"").decode()
            if name in found:
                found[name].append(number(value))
        missing = twice = disordered = 0
        for device in self.devices:
            numbers = found[device.name_]
            missing += len(device.acked - set(numbers))
            twice += len(numbers) - len(set(numbers))
            disordered += sum(a > b for a, b in zip(numbers, numbers[1:]))
        return self.acked(), sum(map(len, found.values())), missing, twice, disordered


def number(value):
    """The published number within a hook record."""
    payload = json.loads(value)["payload"]
    return int(payload if isinstance(payload, str) and payload.isdigit() else base64.b64decode(payload))
