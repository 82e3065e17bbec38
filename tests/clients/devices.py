"""Devices that await commands, and what a node says of its downlinks."""

import json
import os
import threading

import paho.mqtt.client as mqtt


class Device:
    """A lock with a session of its own, through reconnects."""

    def __init__(self, name, port):
        self.name, self.got = name, []
        self.changed = threading.Condition()
        self.ready = threading.Event()
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv311, clean_session=False
        )
        self.paho.reconnect_delay_set(1, 1)
        self.paho.on_connect = lambda *_: self.paho.subscribe(f"devices/{name}/command", qos=2)
        self.paho.on_subscribe = lambda *_: self.ready.set()
        self.paho.on_message = self.take
        self.paho.connect("127.0.0.1", port)
        self.paho.loop_start()
        assert self.ready.wait(30)

    def take(self, _client, _userdata, message):
        with self.changed:
            self.got.append((message.qos, message.retain, message.payload.decode()))
            self.changed.notify_all()

    def wait(self, count, seconds=60):
        with self.changed:
            self.changed.wait_for(lambda: len(self.got) >= count, seconds)
            return list(self.got)

    def leave(self):
        self.paho.disconnect()
        self.paho.loop_stop()


def downlinks(node):
    """The rows of `sluice ctl downlinks`."""
    told = node.run(
        "ctl", "--http", f"127.0.0.1:{node.http}", "--json", "downlinks",
        cwd=node.folder, env={**os.environ, "SLUICE_TOKEN": token(node)},
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def token(node):
    with open(os.path.join(node.folder, "data", "admin.token"), encoding="utf-8") as file:
        return file.read().strip()
