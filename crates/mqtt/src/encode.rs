//! Packets to bytes, for servers and clients, in each version. Validity is the caller's: what is
//! written here is what the model says.

use crate::packet::{
    Ack, Auth, Connack, ConnackProperties, Connect, ConnectProperties, Disconnect, Packet,
    PacketType, Publish, PublishProperties, Suback, Subscribe, Unsuback, Unsubscribe, Version,
    Will, WillProperties,
};
use crate::property::{UserProperties, id};
use crate::reason::ReasonCode;
use crate::wire::{put_binary, put_u16, put_u32, put_varint, varint_len};

/// Where bytes go: a buffer, or a count of them.
trait Sink {
    fn byte(&mut self, byte: u8);
    fn u16(&mut self, value: u16);
    fn u32(&mut self, value: u32);
    fn varint(&mut self, value: u32);
    fn binary(&mut self, bytes: &[u8]);
    fn bytes(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn byte(&mut self, byte: u8) {
        self.push(byte);
    }
    fn u16(&mut self, value: u16) {
        put_u16(self, value);
    }
    fn u32(&mut self, value: u32) {
        put_u32(self, value);
    }
    fn varint(&mut self, value: u32) {
        put_varint(self, value);
    }
    fn binary(&mut self, bytes: &[u8]) {
        put_binary(self, bytes);
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

struct Count(usize);

impl Sink for Count {
    fn byte(&mut self, _: u8) {
        self.0 += 1;
    }
    fn u16(&mut self, _: u16) {
        self.0 += 2;
    }
    fn u32(&mut self, _: u32) {
        self.0 += 4;
    }
    fn varint(&mut self, value: u32) {
        self.0 += varint_len(value);
    }
    fn binary(&mut self, bytes: &[u8]) {
        self.0 += 2 + bytes.len();
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Something that is written the same way into a buffer and into a count.
trait Write {
    fn write(&self, sink: &mut impl Sink);

    fn len(&self) -> usize {
        let mut count = Count(0);
        self.write(&mut count);
        count.0
    }

    /// With its length in front, as the properties of every packet are.
    fn write_section(&self, sink: &mut impl Sink) {
        sink.varint(self.len() as u32);
        self.write(sink);
    }
}

fn put_flag(sink: &mut impl Sink, number: u8, value: Option<bool>) {
    put_u8(sink, number, value.map(u8::from));
}

fn put_u8(sink: &mut impl Sink, number: u8, value: Option<u8>) {
    if let Some(value) = value {
        sink.byte(number);
        sink.byte(value);
    }
}

fn put_two(sink: &mut impl Sink, number: u8, value: Option<u16>) {
    if let Some(value) = value {
        sink.byte(number);
        sink.u16(value);
    }
}

fn put_four(sink: &mut impl Sink, number: u8, value: Option<u32>) {
    if let Some(value) = value {
        sink.byte(number);
        sink.u32(value);
    }
}

fn put_bin(sink: &mut impl Sink, number: u8, value: Option<&[u8]>) {
    if let Some(value) = value {
        sink.byte(number);
        sink.binary(value);
    }
}

fn put_str(sink: &mut impl Sink, number: u8, value: Option<&str>) {
    put_bin(sink, number, value.map(str::as_bytes));
}

fn put_user(sink: &mut impl Sink, user: &UserProperties<'_>) {
    for (name, value) in user.iter() {
        sink.byte(id::USER);
        sink.binary(name.as_bytes());
        sink.binary(value.as_bytes());
    }
}

fn nonzero<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

impl Write for ConnectProperties<'_> {
    fn write(&self, sink: &mut impl Sink) {
        put_four(sink, id::SESSION_EXPIRY, nonzero(self.session_expiry_s));
        put_two(sink, id::RECEIVE_MAXIMUM, self.receive_maximum);
        put_four(sink, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        put_two(
            sink,
            id::TOPIC_ALIAS_MAXIMUM,
            nonzero(self.topic_alias_maximum),
        );
        put_flag(
            sink,
            id::REQUEST_RESPONSE_INFORMATION,
            nonzero(self.request_response_information),
        );
        if !self.request_problem_information {
            put_flag(sink, id::REQUEST_PROBLEM_INFORMATION, Some(false));
        }
        put_str(sink, id::AUTHENTICATION_METHOD, self.authentication_method);
        put_bin(sink, id::AUTHENTICATION_DATA, self.authentication_data);
        put_user(sink, &self.user);
    }
}

impl Write for WillProperties<'_> {
    fn write(&self, sink: &mut impl Sink) {
        put_four(sink, id::WILL_DELAY, nonzero(self.delay_s));
        put_four(sink, id::MESSAGE_EXPIRY, self.expiry_s);
        self.forwarded().write(sink);
    }
}

impl Write for ConnackProperties<'_> {
    fn write(&self, sink: &mut impl Sink) {
        put_four(sink, id::SESSION_EXPIRY, self.session_expiry_s);
        put_two(sink, id::RECEIVE_MAXIMUM, self.receive_maximum);
        put_u8(
            sink,
            id::MAXIMUM_QOS,
            self.maximum_qos.map(crate::QoS::as_u8),
        );
        put_flag(sink, id::RETAIN_AVAILABLE, self.retain_available);
        put_four(sink, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        put_str(sink, id::ASSIGNED_CLIENT_ID, self.assigned_client_id);
        put_two(sink, id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        put_str(sink, id::REASON_STRING, self.reason_string);
        put_flag(sink, id::WILDCARD_AVAILABLE, self.wildcard_available);
        put_flag(
            sink,
            id::SUBSCRIPTION_IDS_AVAILABLE,
            self.subscription_ids_available,
        );
        put_flag(sink, id::SHARED_AVAILABLE, self.shared_available);
        put_two(sink, id::SERVER_KEEP_ALIVE, self.server_keep_alive_s);
        put_str(sink, id::RESPONSE_INFORMATION, self.response_information);
        put_str(sink, id::SERVER_REFERENCE, self.server_reference);
        put_str(sink, id::AUTHENTICATION_METHOD, self.authentication_method);
        put_bin(sink, id::AUTHENTICATION_DATA, self.authentication_data);
        put_user(sink, &self.user);
    }
}

/// The properties of a message that travel with it unchanged.
struct Forwarded<'a> {
    payload_format: Option<u8>,
    response_topic: Option<&'a str>,
    correlation_data: Option<&'a [u8]>,
    content_type: Option<&'a str>,
    user: UserProperties<'a>,
}

impl Write for Forwarded<'_> {
    fn write(&self, sink: &mut impl Sink) {
        put_u8(sink, id::PAYLOAD_FORMAT, self.payload_format);
        put_str(sink, id::RESPONSE_TOPIC, self.response_topic);
        put_bin(sink, id::CORRELATION_DATA, self.correlation_data);
        put_str(sink, id::CONTENT_TYPE, self.content_type);
        put_user(sink, &self.user);
    }
}

impl<'a> PublishProperties<'a> {
    fn forwarded(&self) -> Forwarded<'a> {
        Forwarded {
            payload_format: self.payload_format,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            content_type: self.content_type,
            user: self.user,
        }
    }

    /// Appends, encoded and without a length, the properties that a broker forwards unchanged:
    /// payload format, response topic, correlation data, content type and user properties. Expiry,
    /// alias and subscription identifiers are set anew for each delivery.
    pub fn encode_forwarded(&self, out: &mut Vec<u8>) {
        self.forwarded().write(out);
    }
}

impl<'a> WillProperties<'a> {
    fn forwarded(&self) -> Forwarded<'a> {
        Forwarded {
            payload_format: self.payload_format,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            content_type: self.content_type,
            user: self.user,
        }
    }

    /// As [`PublishProperties::encode_forwarded`].
    pub fn encode_forwarded(&self, out: &mut Vec<u8>) {
        self.forwarded().write(out);
    }

    /// The properties of the PUBLISH that the will becomes.
    pub fn publish_properties(&self) -> PublishProperties<'a> {
        PublishProperties {
            payload_format: self.payload_format,
            expiry_s: self.expiry_s,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            content_type: self.content_type,
            user: self.user,
            ..PublishProperties::default()
        }
    }
}

impl Write for PublishProperties<'_> {
    fn write(&self, sink: &mut impl Sink) {
        put_four(sink, id::MESSAGE_EXPIRY, self.expiry_s);
        put_two(sink, id::TOPIC_ALIAS, self.topic_alias);
        for number in self.subscription_ids.iter() {
            sink.byte(id::SUBSCRIPTION_ID);
            sink.varint(number);
        }
        self.forwarded().write(sink);
    }
}

/// What most answers carry.
struct Explanation<'a> {
    reason_string: Option<&'a str>,
    user: UserProperties<'a>,
}

impl Write for Explanation<'_> {
    fn write(&self, sink: &mut impl Sink) {
        put_str(sink, id::REASON_STRING, self.reason_string);
        put_user(sink, &self.user);
    }
}

struct SubscribeProperties<'a> {
    subscription_id: Option<u32>,
    user: UserProperties<'a>,
}

impl Write for SubscribeProperties<'_> {
    fn write(&self, sink: &mut impl Sink) {
        if let Some(number) = self.subscription_id {
            sink.byte(id::SUBSCRIPTION_ID);
            sink.varint(number);
        }
        put_user(sink, &self.user);
    }
}

struct DisconnectProperties<'a>(&'a Disconnect<'a>);

impl Write for DisconnectProperties<'_> {
    fn write(&self, sink: &mut impl Sink) {
        put_four(sink, id::SESSION_EXPIRY, self.0.session_expiry_s);
        put_str(sink, id::REASON_STRING, self.0.reason_string);
        put_str(sink, id::SERVER_REFERENCE, self.0.server_reference);
        put_user(sink, &self.0.user);
    }
}

struct AuthProperties<'a>(&'a Auth<'a>);

impl Write for AuthProperties<'_> {
    fn write(&self, sink: &mut impl Sink) {
        put_str(sink, id::AUTHENTICATION_METHOD, self.0.method);
        put_bin(sink, id::AUTHENTICATION_DATA, self.0.data);
        put_str(sink, id::REASON_STRING, self.0.reason_string);
        put_user(sink, &self.0.user);
    }
}

/// A packet behind its fixed header.
struct Body<'a>(&'a Packet<'a>, Version);

impl Write for Body<'_> {
    fn write(&self, sink: &mut impl Sink) {
        let version = self.1;
        match self.0 {
            Packet::Connect(connect) => write_connect(connect, version, sink),
            Packet::Connack(connack) => write_connack(connack, version, sink),
            Packet::Publish(publish) => write_publish(publish, version, sink),
            Packet::Puback(ack)
            | Packet::Pubrec(ack)
            | Packet::Pubrel(ack)
            | Packet::Pubcomp(ack) => write_ack(ack, version, sink),
            Packet::Subscribe(subscribe) => write_subscribe(subscribe, version, sink),
            Packet::Suback(suback) => write_suback(suback, version, sink),
            Packet::Unsubscribe(unsubscribe) => write_unsubscribe(unsubscribe, version, sink),
            Packet::Unsuback(unsuback) => write_unsuback(unsuback, version, sink),
            Packet::Pingreq | Packet::Pingresp => {}
            Packet::Disconnect(disconnect) => write_disconnect(disconnect, version, sink),
            Packet::Auth(auth) => write_auth(auth, sink),
        }
    }
}

impl Packet<'_> {
    /// Appends the packet as this version writes it. A CONNECT should be written in its own
    /// version; properties that a version lacks are left out.
    ///
    /// # Panics
    /// If a string or binary field has more than 65,535 bytes, or the packet more than 256 MiB.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let body = Body(self, version);
        let remaining = body.len();
        assert!(
            remaining <= crate::limits::REMAINING_LENGTH_MAX as usize,
            "a packet of MQTT has at most 256 MiB"
        );
        out.reserve(5 + remaining);
        out.push(self.first_byte());
        put_varint(out, remaining as u32);
        body.write(out);
    }

    /// How many bytes [`Packet::encode`] appends.
    pub fn encoded_len(&self, version: Version) -> usize {
        let remaining = Body(self, version).len();
        1 + varint_len(remaining as u32) + remaining
    }

    fn first_byte(&self) -> u8 {
        let flags = match self {
            Packet::Publish(publish) => {
                u8::from(publish.dup) << 3 | publish.qos.as_u8() << 1 | u8::from(publish.retain)
            }
            Packet::Pubrel(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) => 0b0010,
            _ => 0,
        };
        (self.kind() as u8) << 4 | flags
    }
}

fn write_connect(connect: &Connect<'_>, version: Version, sink: &mut impl Sink) {
    sink.binary(if version == Version::V31 {
        b"MQIsdp"
    } else {
        b"MQTT"
    });
    sink.byte(version.level());
    let mut flags = u8::from(connect.clean_start) << 1;
    if let Some(will) = &connect.will {
        flags |= 0x04 | will.qos.as_u8() << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(connect.password.is_some()) << 6 | u8::from(connect.username.is_some()) << 7;
    sink.byte(flags);
    sink.u16(connect.keep_alive_s);
    if version.is_v5() {
        connect.properties.write_section(sink);
    }
    sink.binary(connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        write_will(will, version, sink);
    }
    if let Some(username) = connect.username {
        sink.binary(username.as_bytes());
    }
    if let Some(password) = connect.password {
        sink.binary(password);
    }
}

fn write_will(will: &Will<'_>, version: Version, sink: &mut impl Sink) {
    if version.is_v5() {
        will.properties.write_section(sink);
    }
    sink.binary(will.topic.as_bytes());
    sink.binary(will.payload);
}

fn write_connack(connack: &Connack<'_>, version: Version, sink: &mut impl Sink) {
    // MQTT 3.1 has no session present flag.
    sink.byte(u8::from(connack.session_present && version != Version::V31));
    if version.is_v5() {
        sink.byte(connack.reason.as_u8());
        connack.properties.write_section(sink);
    } else {
        sink.byte(connack.reason.connect_return_code_v3());
    }
}

fn write_publish(publish: &Publish<'_>, version: Version, sink: &mut impl Sink) {
    sink.binary(publish.topic.as_bytes());
    if publish.qos != crate::QoS::AtMostOnce {
        sink.u16(publish.packet_id);
    }
    if version.is_v5() {
        publish.properties.write_section(sink);
    }
    sink.bytes(publish.payload);
}

fn write_ack(ack: &Ack<'_>, version: Version, sink: &mut impl Sink) {
    sink.u16(ack.packet_id);
    if !version.is_v5() {
        return;
    }
    let explanation = Explanation {
        reason_string: ack.reason_string,
        user: ack.user,
    };
    let explains = explanation.len() > 0;
    if explains || ack.reason != ReasonCode::Success {
        sink.byte(ack.reason.as_u8());
    }
    if explains {
        explanation.write_section(sink);
    }
}

fn write_subscribe(subscribe: &Subscribe<'_>, version: Version, sink: &mut impl Sink) {
    sink.u16(subscribe.packet_id);
    if version.is_v5() {
        SubscribeProperties {
            subscription_id: subscribe.subscription_id,
            user: subscribe.user,
        }
        .write_section(sink);
    }
    for (filter, options) in subscribe.filters.iter() {
        sink.binary(filter.as_bytes());
        sink.byte(if version.is_v5() {
            options.as_u8()
        } else {
            options.qos.as_u8()
        });
    }
}

fn write_suback(suback: &Suback<'_>, version: Version, sink: &mut impl Sink) {
    sink.u16(suback.packet_id);
    if version.is_v5() {
        Explanation {
            reason_string: suback.reason_string,
            user: suback.user,
        }
        .write_section(sink);
    }
    for reason in suback.reasons.iter() {
        sink.byte(if version.is_v5() {
            reason.as_u8()
        } else {
            reason.suback_return_code_v3()
        });
    }
}

fn write_unsubscribe(unsubscribe: &Unsubscribe<'_>, version: Version, sink: &mut impl Sink) {
    sink.u16(unsubscribe.packet_id);
    if version.is_v5() {
        Explanation {
            reason_string: None,
            user: unsubscribe.user,
        }
        .write_section(sink);
    }
    for filter in unsubscribe.filters.iter() {
        sink.binary(filter.as_bytes());
    }
}

fn write_unsuback(unsuback: &Unsuback<'_>, version: Version, sink: &mut impl Sink) {
    sink.u16(unsuback.packet_id);
    if version.is_v5() {
        Explanation {
            reason_string: unsuback.reason_string,
            user: unsuback.user,
        }
        .write_section(sink);
        for reason in unsuback.reasons.iter() {
            sink.byte(reason.as_u8());
        }
    }
}

fn write_disconnect(disconnect: &Disconnect<'_>, version: Version, sink: &mut impl Sink) {
    if !version.is_v5() {
        return;
    }
    let properties = DisconnectProperties(disconnect);
    let has_properties = properties.len() > 0;
    if has_properties || disconnect.reason != ReasonCode::Success {
        sink.byte(disconnect.reason.as_u8());
    }
    if has_properties {
        properties.write_section(sink);
    }
}

fn write_auth(auth: &Auth<'_>, sink: &mut impl Sink) {
    let properties = AuthProperties(auth);
    if properties.len() > 0 || auth.reason != ReasonCode::Success {
        sink.byte(auth.reason.as_u8());
        properties.write_section(sink);
    }
}

// The type numbers above are the specification's.
const _: () = assert!(PacketType::Auth as u8 == 15);
