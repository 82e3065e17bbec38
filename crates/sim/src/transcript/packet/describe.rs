//! A received packet in the words of a transcript.

use mqtt::{
    Ack, Auth, Connack, Connect, Disconnect, Packet, Publish, QoS, ReasonCode, ReasonCodes,
    Subscribe, UserProperties, WillProperties,
};

use super::{PacketText, Want};

impl PacketText {
    /// Describes a packet; properties that are absent, and flags that are off, are left out.
    pub fn of(packet: &Packet<'_>) -> PacketText {
        let mut text = PacketText {
            kind: packet.kind(),
            version: None,
            fields: Vec::new(),
        };
        match packet {
            Packet::Connect(connect) => text.describe_connect(connect),
            Packet::Connack(connack) => text.describe_connack(connack),
            Packet::Publish(publish) => text.describe_publish(publish),
            Packet::Puback(ack)
            | Packet::Pubrec(ack)
            | Packet::Pubrel(ack)
            | Packet::Pubcomp(ack) => text.describe_ack(ack),
            Packet::Subscribe(subscribe) => text.describe_subscribe(subscribe),
            Packet::Suback(suback) => {
                text.describe_reasons(suback.packet_id, &suback.reasons);
                text.text("reason_string", suback.reason_string);
                text.users("user", suback.user);
            }
            Packet::Unsubscribe(unsubscribe) => {
                text.number("pid", unsubscribe.packet_id);
                for filter in unsubscribe.filters.iter() {
                    text.text("filter", Some(filter));
                }
                text.users("user", unsubscribe.user);
            }
            Packet::Unsuback(unsuback) => {
                text.describe_reasons(unsuback.packet_id, &unsuback.reasons);
                text.text("reason_string", unsuback.reason_string);
                text.users("user", unsuback.user);
            }
            Packet::Pingreq | Packet::Pingresp => {}
            Packet::Disconnect(disconnect) => text.describe_disconnect(disconnect),
            Packet::Auth(auth) => text.describe_auth(auth),
        }
        text
    }

    fn describe_connect(&mut self, connect: &Connect<'_>) {
        self.version = Some(connect.version);
        self.text("id", Some(connect.client_id));
        self.number("clean", u8::from(connect.clean_start));
        self.number("keepalive", connect.keep_alive_s);
        self.text("username", connect.username);
        self.bytes("password", connect.password);
        if let Some(will) = &connect.will {
            self.text("will.topic", Some(will.topic));
            self.bytes("will.payload", Some(will.payload));
            self.number("will.qos", will.qos.as_u8());
            self.number("will.retain", u8::from(will.retain));
            self.describe_will(&will.properties);
        }
        let properties = &connect.properties;
        self.nonzero("session_expiry", properties.session_expiry_s);
        self.maybe("receive_maximum", properties.receive_maximum);
        self.maybe("maximum_packet_size", properties.maximum_packet_size);
        self.nonzero(
            "topic_alias_maximum",
            u32::from(properties.topic_alias_maximum),
        );
        self.nonzero(
            "request_response",
            u32::from(properties.request_response_information),
        );
        if !properties.request_problem_information {
            self.number("request_problem", 0_u8);
        }
        self.text("auth_method", properties.authentication_method);
        self.bytes("auth_data", properties.authentication_data);
        self.users("user", properties.user);
    }

    fn describe_will(&mut self, will: &WillProperties<'_>) {
        self.nonzero("will.delay", will.delay_s);
        self.maybe("will.expiry", will.expiry_s);
        self.maybe("will.format", will.payload_format);
        self.text("will.content_type", will.content_type);
        self.text("will.response_topic", will.response_topic);
        self.bytes("will.correlation", will.correlation_data);
        self.users("will.user", will.user);
    }

    fn describe_connack(&mut self, connack: &Connack<'_>) {
        self.reason(connack.reason);
        self.number("present", u8::from(connack.session_present));
        let properties = &connack.properties;
        self.maybe("session_expiry", properties.session_expiry_s);
        self.maybe("receive_maximum", properties.receive_maximum);
        self.maybe("maximum_qos", properties.maximum_qos.map(QoS::as_u8));
        self.maybe(
            "retain_available",
            properties.retain_available.map(u8::from),
        );
        self.maybe("maximum_packet_size", properties.maximum_packet_size);
        self.text("assigned_id", properties.assigned_client_id);
        self.maybe("topic_alias_maximum", properties.topic_alias_maximum);
        self.text("reason_string", properties.reason_string);
        self.maybe(
            "wildcard_available",
            properties.wildcard_available.map(u8::from),
        );
        self.maybe(
            "sub_ids_available",
            properties.subscription_ids_available.map(u8::from),
        );
        self.maybe(
            "shared_available",
            properties.shared_available.map(u8::from),
        );
        self.maybe("server_keep_alive", properties.server_keep_alive_s);
        self.text("response_information", properties.response_information);
        self.text("server_reference", properties.server_reference);
        self.text("auth_method", properties.authentication_method);
        self.bytes("auth_data", properties.authentication_data);
        self.users("user", properties.user);
    }

    fn describe_publish(&mut self, publish: &Publish<'_>) {
        self.text("topic", Some(publish.topic));
        self.bytes("payload", Some(publish.payload));
        self.nonzero("qos", u32::from(publish.qos.as_u8()));
        self.nonzero("pid", u32::from(publish.packet_id));
        self.nonzero("retain", u32::from(publish.retain));
        self.nonzero("dup", u32::from(publish.dup));
        let properties = &publish.properties;
        self.maybe("alias", properties.topic_alias);
        self.maybe("expiry", properties.expiry_s);
        self.maybe("format", properties.payload_format);
        self.text("response_topic", properties.response_topic);
        self.bytes("correlation", properties.correlation_data);
        self.text("content_type", properties.content_type);
        for number in properties.subscription_ids.iter() {
            self.number("sub_id", number);
        }
        self.users("user", properties.user);
    }

    fn describe_ack(&mut self, ack: &Ack<'_>) {
        self.number("pid", ack.packet_id);
        self.reason(ack.reason);
        self.text("reason_string", ack.reason_string);
        self.users("user", ack.user);
    }

    fn describe_subscribe(&mut self, subscribe: &Subscribe<'_>) {
        self.number("pid", subscribe.packet_id);
        self.maybe("sub_id", subscribe.subscription_id);
        self.users("user", subscribe.user);
        for (filter, options) in subscribe.filters.iter() {
            self.text("filter", Some(filter));
            self.number("qos", options.qos.as_u8());
            self.nonzero("nl", u32::from(options.no_local));
            self.nonzero("rap", u32::from(options.retain_as_published));
            self.nonzero("rh", options.retain_handling as u32);
        }
    }

    fn describe_reasons(&mut self, packet_id: u16, reasons: &ReasonCodes<'_>) {
        self.number("pid", packet_id);
        for reason in reasons.iter() {
            self.reason(reason);
        }
    }

    fn describe_disconnect(&mut self, disconnect: &Disconnect<'_>) {
        self.reason(disconnect.reason);
        self.maybe("session_expiry", disconnect.session_expiry_s);
        self.text("reason_string", disconnect.reason_string);
        self.text("server_reference", disconnect.server_reference);
        self.users("user", disconnect.user);
    }

    fn describe_auth(&mut self, auth: &Auth<'_>) {
        self.reason(auth.reason);
        self.text("auth_method", auth.method);
        self.bytes("auth_data", auth.data);
        self.text("reason_string", auth.reason_string);
        self.users("user", auth.user);
    }

    fn bytes(&mut self, key: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.push(key, Want::Is(value.to_vec()));
        }
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        self.bytes(key, value.map(str::as_bytes));
    }

    fn number(&mut self, key: &str, value: impl Into<u64>) {
        self.push(key, Want::Is(value.into().to_string().into_bytes()));
    }

    fn maybe(&mut self, key: &str, value: Option<impl Into<u64>>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    fn nonzero(&mut self, key: &str, value: u32) {
        self.maybe(key, (value != 0).then_some(value));
    }

    fn reason(&mut self, reason: ReasonCode) {
        self.text("reason", Some(reason.name()));
    }

    fn users(&mut self, key: &str, user: UserProperties<'_>) {
        for (name, value) in user.iter() {
            self.text(key, Some(&format!("{name}:{value}")));
        }
    }
}
