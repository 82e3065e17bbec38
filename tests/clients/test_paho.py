"""Eclipse Paho for Python, MQTT 3.1.1 and 5, against the real program."""

import time

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from conftest import Inbox, envelopes

VERSIONS = pytest.mark.parametrize("version", [mqtt.MQTTv311, mqtt.MQTTv5])


class Client:
    """A connected Paho client whose loop runs in its own thread."""

    def __init__(self, node, client_id, version, clean=True, expiry=None, will=None):
        extra = {} if version == mqtt.MQTTv5 else {"clean_session": clean}
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=version, **extra
        )
        self.connected, self.subscribed, self.published = Inbox(), Inbox(), Inbox()
        self.received, self.disconnected = Inbox(), Inbox()
        self.paho.on_connect = lambda _c, _u, flags, reason, props: self.connected.put(
            (flags.session_present, reason, props)
        )
        self.paho.on_subscribe = lambda _c, _u, _mid, reasons, _p: self.subscribed.put(reasons)
        self.paho.on_publish = lambda _c, _u, mid, reason, _p: self.published.put((mid, reason))
        self.paho.on_message = lambda _c, _u, message: self.received.put(message)
        self.paho.on_disconnect = lambda _c, _u, _f, reason, _p: self.disconnected.put(reason)
        if will:
            self.paho.will_set(*will)
        options = {}
        if version == mqtt.MQTTv5:
            options["clean_start"] = clean
            if expiry:
                options["properties"] = Properties(PacketTypes.CONNECT)
                options["properties"].SessionExpiryInterval = expiry
        self.paho.connect("127.0.0.1", node.mqtt, **options)
        self.paho.loop_start()
        self.session_present, self.reason, self.properties = self.connected.wait(1)[0]
        assert not self.reason.is_failure, self.reason

    def subscribe(self, *arguments, **options):
        self.paho.subscribe(*arguments, **options)
        return self.subscribed.wait(1)[-1]

    def publish(self, *arguments, **options):
        self.paho.publish(*arguments, **options).wait_for_publish(20)

    def leave(self):
        self.paho.disconnect()
        self.disconnected.wait(1)
        self.paho.loop_stop()

    def break_off(self):
        """The connection breaks without DISCONNECT."""
        self.paho.loop_stop()
        if self.paho.socket():
            self.paho.socket().close()


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_order_and_number_at_each_qos(node, version, qos):
    reader, writer = Client(node, "r", version), Client(node, "w", version)
    reader.subscribe("t/#", qos=qos)
    for number in range(300):
        writer.paho.publish("t/a", str(number), qos=qos)
    got = [int(message.payload) for message in reader.received.wait(300)]
    assert got == list(range(300))
    reader.leave()
    writer.leave()


@pytest.mark.parametrize("topic", ["plain/x", "devices/d1/state"])
def test_a_qos_2_exchange_waits_for_no_timer(node, topic):
    """Its answers wait for flushes; nothing else makes a quiet node flush within a second."""
    reader = Client(node, "r", mqtt.MQTTv5, clean=False, expiry=600)
    writer = Client(node, "w", mqtt.MQTTv5, clean=False, expiry=600)
    reader.subscribe(topic, qos=2)
    begun = time.monotonic()
    for number in range(10):
        writer.publish(topic, str(number), qos=2)
        reader.received.wait(number + 1)
    assert time.monotonic() - begun < 5
    reader.leave()
    writer.leave()


@VERSIONS
def test_a_session_is_resumed_with_what_it_is_owed(node, version):
    first = Client(node, "dur", version, clean=False, expiry=600)
    assert not first.session_present
    first.subscribe("owed/#", qos=2)
    first.leave()
    writer = Client(node, "w", version)
    for number in range(50):
        writer.publish("owed/x", str(number), qos=1 + number % 2)
    again = Client(node, "dur", version, clean=False, expiry=600)
    assert again.session_present
    got = [int(message.payload) for message in again.received.wait(50)]
    assert sorted(got) == list(range(50))
    assert [n for n in got if n % 2 == 0] == list(range(0, 50, 2))
    again.leave()
    writer.leave()


@VERSIONS
def test_takeover_and_will(node, version):
    watcher = Client(node, "watch", version)
    watcher.subscribe("wills/#", qos=1)
    first = Client(node, "same", version, will=("wills/same", "gone", 1, False))
    second = Client(node, "same", version)
    # Paho overlooks the reason code of a DISCONNECT without properties; the transcripts look at it.
    first.disconnected.wait(1)
    first.paho.loop_stop()
    assert watcher.received.wait(1)[0].payload == b"gone"
    second.leave()
    watcher.leave()


def test_properties_travel_from_end_to_end(node):
    reader, writer = Client(node, "r", mqtt.MQTTv5), Client(node, "w", mqtt.MQTTv5)
    options = SubscribeOptions(qos=1, noLocal=False, retainAsPublished=True)
    properties = Properties(PacketTypes.SUBSCRIBE)
    properties.SubscriptionIdentifier = 7
    reader.paho.subscribe("p/+", options=options, properties=properties)
    reader.subscribed.wait(1)
    sent = Properties(PacketTypes.PUBLISH)
    sent.PayloadFormatIndicator = 1
    sent.MessageExpiryInterval = 100
    sent.ContentType = "application/json"
    sent.ResponseTopic = "answers/here"
    sent.CorrelationData = b"\x00\x01"
    sent.UserProperty = [("b", "2"), ("a", "1"), ("b", "3")]
    writer.publish("p/1", b"{}", qos=1, retain=True, properties=sent)
    (message,) = reader.received.wait(1)
    got = message.properties
    assert message.retain
    assert got.PayloadFormatIndicator == 1
    assert 95 <= got.MessageExpiryInterval <= 100
    assert got.ContentType == "application/json"
    assert got.ResponseTopic == "answers/here"
    assert got.CorrelationData == b"\x00\x01"
    assert got.UserProperty == [("b", "2"), ("a", "1"), ("b", "3")]
    assert got.SubscriptionIdentifier == [7]
    reader.leave()
    writer.leave()


def test_a_publish_nobody_reads_says_so(node):
    writer = Client(node, "w", mqtt.MQTTv5)
    writer.publish("nobody/reads/this", "x", qos=1)
    assert writer.published.wait(1)[0][1].value == 0x10
    writer.leave()


def test_a_shared_group_gets_each_message_once(node):
    members = [Client(node, f"m{n}", mqtt.MQTTv5) for n in range(3)]
    for member in members:
        member.subscribe("$share/g/work/#", qos=1)
    writer = Client(node, "w", mqtt.MQTTv5)
    for number in range(90):
        writer.paho.publish("work/x", str(number), qos=1)
    for member in members:
        member.received.wait(30)
    got = sorted(int(m.payload) for member in members for m in member.received.messages)
    assert got == list(range(90))
    for client in [*members, writer]:
        client.leave()


@VERSIONS
def test_everything_owed_survives_a_kill(node, version):
    reader = Client(node, "dur", version, clean=False, expiry=3600)
    reader.subscribe("devices/+/command", qos=1)
    reader.leave()
    writer = Client(node, "w", version)
    for number in range(100):
        writer.publish("devices/7/command", str(number), qos=1)
    writer.publish("kept", "retained", qos=1, retain=True)
    node.kill()
    writer.break_off()
    node.start()
    reader = Client(node, "dur", version, clean=False, expiry=3600)
    assert reader.session_present
    got = [int(message.payload) for message in reader.received.wait(100)]
    assert got == list(range(100))
    reader.subscribe("kept")
    assert reader.received.wait(101)[-1].payload == b"retained"
    reader.leave()


def test_an_acked_command_is_in_its_stream_once(node):
    lock = Client(node, "10083618796833171", mqtt.MQTTv311)
    lock.subscribe("devices/10083618796833171/command", qos=1)
    business = Client(node, "backend", mqtt.MQTTv311)
    business.publish("devices/10083618796833171/command", '{"action": "unlock"}', qos=1)
    lock.received.wait(1)
    lock.leave()
    (record,) = envelopes(node, "message_command")
    assert list(record) == [
        "client_id", "username", "from", "topic", "payload", "qos", "node", "ts",
    ]
    assert (record["client_id"], record["from"]) == ("10083618796833171", "backend")
    business.leave()
