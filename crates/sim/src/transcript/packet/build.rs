//! A packet's text as the bytes that a client (or, in tests, a server) sends.

use mqtt::{
    Ack, Auth, Connack, ConnackProperties, Connect, ConnectProperties, Disconnect, Filters, Packet,
    PacketType, Publish, PublishProperties, QoS, ReasonCode, ReasonCodes, RetainHandling, Suback,
    Subscribe, SubscribeOptions, SubscriptionIds, TopicFilters, Unsuback, Unsubscribe,
    UserProperties, Version, Will, WillProperties,
};

use super::{PacketText, Variables, Want};
use crate::transcript::words;

/// The values of a packet's text, variables resolved: packets borrow from it.
struct Values {
    values: Vec<(String, Vec<u8>)>,
}

type Outcome<T> = Result<T, String>;

impl PacketText {
    /// The packet's bytes in this version (a CONNECT: in its own).
    pub fn encode(&self, version: Version, variables: &Variables) -> Result<Vec<u8>, String> {
        let values = Values::resolve(self, variables)?;
        let version = self.version.unwrap_or(version);
        let mut out = Vec::new();
        let mut write = |packet: Packet<'_>| packet.encode(version, &mut out);
        match self.kind {
            PacketType::Connect => values.connect(version, &mut write)?,
            PacketType::Connack => values.connack(&mut write)?,
            PacketType::Publish => values.publish(&mut write)?,
            PacketType::Puback => values.ack(|ack| write(Packet::Puback(ack)))?,
            PacketType::Pubrec => values.ack(|ack| write(Packet::Pubrec(ack)))?,
            PacketType::Pubrel => values.ack(|ack| write(Packet::Pubrel(ack)))?,
            PacketType::Pubcomp => values.ack(|ack| write(Packet::Pubcomp(ack)))?,
            PacketType::Subscribe => values.subscribe(&mut write)?,
            PacketType::Unsubscribe => values.unsubscribe(&mut write)?,
            PacketType::Suback | PacketType::Unsuback => values.reasons(self.kind, &mut write)?,
            PacketType::Pingreq => write(Packet::Pingreq),
            PacketType::Pingresp => write(Packet::Pingresp),
            PacketType::Disconnect => values.disconnect(&mut write)?,
            PacketType::Auth => values.auth(&mut write)?,
        }
        Ok(out)
    }
}

impl Values {
    fn resolve(packet: &PacketText, variables: &Variables) -> Outcome<Values> {
        let mut values = Vec::new();
        for field in &packet.fields {
            let value = match &field.want {
                Want::Is(value) => value.clone(),
                Want::Variable(name) => variables
                    .get(name)
                    .cloned()
                    .ok_or_else(|| format!("${name} has no value"))?,
                _ => return Err(format!("{} has no value to send", field.key)),
            };
            values.push((field.key.clone(), value));
        }
        Ok(Values { values })
    }

    fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.values
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_slice())
    }

    fn text(&self, key: &str) -> Outcome<Option<&str>> {
        let Some(bytes) = self.bytes(key) else {
            return Ok(None);
        };
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| format!("{key} is not UTF-8: use raw"))
    }

    fn number<T: TryFrom<u64>>(&self, key: &str) -> Outcome<Option<T>> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        to_number(key, text).map(Some)
    }

    fn flag(&self, key: &str) -> Outcome<Option<bool>> {
        Ok(self.number::<u8>(key)?.map(|value| value != 0))
    }

    fn qos(&self, key: &str) -> Outcome<QoS> {
        let number = self.number::<u8>(key)?.unwrap_or(0);
        QoS::from_u8(number).ok_or_else(|| format!("{key}={number}: use raw"))
    }

    fn pid(&self) -> Outcome<u16> {
        self.number("pid")?
            .ok_or_else(|| "a packet identifier is missing".to_owned())
    }

    fn reason(&self) -> Outcome<ReasonCode> {
        words::parse_reason(self.text("reason")?.unwrap_or("success"))
    }

    fn users(&self, key: &str) -> Outcome<Vec<(&str, &str)>> {
        let mut pairs = Vec::new();
        for (_, value) in self.values.iter().filter(|(known, _)| known == key) {
            let text = std::str::from_utf8(value).map_err(|_| format!("{key} is not UTF-8"))?;
            pairs.push(
                text.split_once(':')
                    .ok_or_else(|| format!("{key} is name:value"))?,
            );
        }
        Ok(pairs)
    }

    fn connect(&self, version: Version, write: &mut impl FnMut(Packet<'_>)) -> Outcome<()> {
        let user = self.users("user")?;
        let will_user = self.users("will.user")?;
        let properties = ConnectProperties {
            session_expiry_s: self.number("session_expiry")?.unwrap_or(0),
            receive_maximum: self.number("receive_maximum")?,
            maximum_packet_size: self.number("maximum_packet_size")?,
            topic_alias_maximum: self.number("topic_alias_maximum")?.unwrap_or(0),
            request_response_information: self.flag("request_response")?.unwrap_or(false),
            request_problem_information: self.flag("request_problem")?.unwrap_or(true),
            authentication_method: self.text("auth_method")?,
            authentication_data: self.bytes("auth_data"),
            user: UserProperties::from_slice(&user),
        };
        write(Packet::Connect(Connect {
            version,
            clean_start: self.flag("clean")?.unwrap_or(true),
            keep_alive_s: self.number("keepalive")?.unwrap_or(0),
            client_id: self
                .text("id")?
                .ok_or("CONNECT needs an id; id=\"\" is none")?,
            username: self.text("username")?,
            password: self.bytes("password"),
            will: self.will(&will_user)?,
            properties,
        }));
        Ok(())
    }

    fn will<'a>(&'a self, user: &'a [(&'a str, &'a str)]) -> Outcome<Option<Will<'a>>> {
        let Some(topic) = self.text("will.topic")? else {
            return Ok(None);
        };
        Ok(Some(Will {
            topic,
            payload: self.bytes("will.payload").unwrap_or_default(),
            qos: self.qos("will.qos")?,
            retain: self.flag("will.retain")?.unwrap_or(false),
            properties: WillProperties {
                delay_s: self.number("will.delay")?.unwrap_or(0),
                payload_format: self.number("will.format")?,
                expiry_s: self.number("will.expiry")?,
                response_topic: self.text("will.response_topic")?,
                correlation_data: self.bytes("will.correlation"),
                content_type: self.text("will.content_type")?,
                user: UserProperties::from_slice(user),
            },
        }))
    }

    fn connack(&self, write: &mut impl FnMut(Packet<'_>)) -> Outcome<()> {
        let user = self.users("user")?;
        let properties = ConnackProperties {
            session_expiry_s: self.number("session_expiry")?,
            receive_maximum: self.number("receive_maximum")?,
            maximum_qos: self.number("maximum_qos")?.and_then(QoS::from_u8),
            retain_available: self.flag("retain_available")?,
            maximum_packet_size: self.number("maximum_packet_size")?,
            assigned_client_id: self.text("assigned_id")?,
            topic_alias_maximum: self.number("topic_alias_maximum")?,
            reason_string: self.text("reason_string")?,
            wildcard_available: self.flag("wildcard_available")?,
            subscription_ids_available: self.flag("sub_ids_available")?,
            shared_available: self.flag("shared_available")?,
            server_keep_alive_s: self.number("server_keep_alive")?,
            response_information: self.text("response_information")?,
            server_reference: self.text("server_reference")?,
            authentication_method: self.text("auth_method")?,
            authentication_data: self.bytes("auth_data"),
            user: UserProperties::from_slice(&user),
        };
        let session_present = self.flag("present")?.unwrap_or(false);
        write(Packet::Connack(Connack {
            session_present,
            reason: self.reason()?,
            properties,
        }));
        Ok(())
    }

    fn publish(&self, write: &mut impl FnMut(Packet<'_>)) -> Outcome<()> {
        let user = self.users("user")?;
        let mut ids = Vec::new();
        for (_, value) in self.values.iter().filter(|(key, _)| key == "sub_id") {
            ids.push(to_number("sub_id", &String::from_utf8_lossy(value))?);
        }
        let qos = self.qos("qos")?;
        write(Packet::Publish(Publish {
            dup: self.flag("dup")?.unwrap_or(false),
            qos,
            retain: self.flag("retain")?.unwrap_or(false),
            topic: self
                .text("topic")?
                .ok_or("PUBLISH needs a topic; \"\" is none")?,
            packet_id: if qos == QoS::AtMostOnce {
                0
            } else {
                self.pid()?
            },
            properties: PublishProperties {
                payload_format: self.number("format")?,
                expiry_s: self.number("expiry")?,
                topic_alias: self.number("alias")?,
                response_topic: self.text("response_topic")?,
                correlation_data: self.bytes("correlation"),
                subscription_ids: SubscriptionIds::from_slice(&ids),
                content_type: self.text("content_type")?,
                user: UserProperties::from_slice(&user),
            },
            payload: self.bytes("payload").unwrap_or_default(),
        }));
        Ok(())
    }

    fn ack(&self, write: impl FnOnce(Ack<'_>)) -> Outcome<()> {
        let user = self.users("user")?;
        write(Ack {
            packet_id: self.pid()?,
            reason: self.reason()?,
            reason_string: self.text("reason_string")?,
            user: UserProperties::from_slice(&user),
        });
        Ok(())
    }

    fn subscribe(&self, write: &mut impl FnMut(Packet<'_>)) -> Outcome<()> {
        let mut filters: Vec<(&str, SubscribeOptions)> = Vec::new();
        for (key, value) in &self.values {
            let text = std::str::from_utf8(value).map_err(|_| format!("{key} is not UTF-8"))?;
            if key == "filter" {
                filters.push((text, SubscribeOptions::default()));
            } else if matches!(key.as_str(), "qos" | "nl" | "rap" | "rh") {
                let number = to_number(key, text)?;
                let (_, options) = filters.last_mut().ok_or("an option before its filter")?;
                set_option(options, key, number)?;
            }
        }
        let user = self.users("user")?;
        write(Packet::Subscribe(Subscribe {
            packet_id: self.pid()?,
            subscription_id: self.number("sub_id")?,
            user: UserProperties::from_slice(&user),
            filters: Filters::from_slice(&filters),
        }));
        Ok(())
    }

    fn unsubscribe(&self, write: &mut impl FnMut(Packet<'_>)) -> Outcome<()> {
        let mut filters = Vec::new();
        for (_, value) in self.values.iter().filter(|(key, _)| key == "filter") {
            filters.push(std::str::from_utf8(value).map_err(|_| "a filter is not UTF-8")?);
        }
        let user = self.users("user")?;
        write(Packet::Unsubscribe(Unsubscribe {
            packet_id: self.pid()?,
            user: UserProperties::from_slice(&user),
            filters: TopicFilters::from_slice(&filters),
        }));
        Ok(())
    }

    fn reasons(&self, kind: PacketType, write: &mut impl FnMut(Packet<'_>)) -> Outcome<()> {
        let mut codes = Vec::new();
        for (_, value) in self.values.iter().filter(|(key, _)| key == "reason") {
            codes.push(words::parse_reason(&String::from_utf8_lossy(value))?);
        }
        let pairs = self.users("user")?;
        let (packet_id, reasons) = (self.pid()?, ReasonCodes::from_slice(&codes));
        let reason_string = self.text("reason_string")?;
        let user = UserProperties::from_slice(&pairs);
        write(if kind == PacketType::Suback {
            Packet::Suback(Suback {
                packet_id,
                reasons,
                reason_string,
                user,
            })
        } else {
            Packet::Unsuback(Unsuback {
                packet_id,
                reasons,
                reason_string,
                user,
            })
        });
        Ok(())
    }

    fn disconnect(&self, write: &mut impl FnMut(Packet<'_>)) -> Outcome<()> {
        let user = self.users("user")?;
        write(Packet::Disconnect(Disconnect {
            reason: self.reason()?,
            session_expiry_s: self.number("session_expiry")?,
            reason_string: self.text("reason_string")?,
            server_reference: self.text("server_reference")?,
            user: UserProperties::from_slice(&user),
        }));
        Ok(())
    }

    fn auth(&self, write: &mut impl FnMut(Packet<'_>)) -> Outcome<()> {
        let user = self.users("user")?;
        write(Packet::Auth(Auth {
            reason: self.reason()?,
            method: self.text("auth_method")?,
            data: self.bytes("auth_data"),
            reason_string: self.text("reason_string")?,
            user: UserProperties::from_slice(&user),
        }));
        Ok(())
    }
}

fn set_option(options: &mut SubscribeOptions, key: &str, number: u8) -> Outcome<()> {
    let refused = || format!("{key}={number}: use raw");
    match key {
        "qos" => options.qos = QoS::from_u8(number).ok_or_else(refused)?,
        "nl" => options.no_local = number != 0,
        "rap" => options.retain_as_published = number != 0,
        _ => options.retain_handling = RetainHandling::from_u8(number).ok_or_else(refused)?,
    }
    Ok(())
}

fn to_number<T: TryFrom<u64>>(key: &str, text: &str) -> Outcome<T> {
    let number: u64 = text
        .parse()
        .map_err(|_| format!("{key} is a number, not {text}"))?;
    T::try_from(number).map_err(|_| format!("{key}={number} is too large"))
}
