//! A packet in a line, as tests compare it.

use mqtt::{Ack, Packet, Publish, QoS, ReasonCode};
use std::fmt::Write;

/// A packet in a line.
pub(super) fn show(packet: &Packet<'_>) -> String {
    let ack = |name: &str, ack: &Ack<'_>| match ack.reason {
        ReasonCode::Success => format!("{name} {}", ack.packet_id),
        reason => format!("{name} {} {}", ack.packet_id, reason.name()),
    };
    match packet {
        Packet::Connack(connack) => {
            let mut line = format!("CONNACK {}", connack.reason.name());
            if connack.session_present {
                line.push_str(" present");
            }
            let properties = &connack.properties;
            if let Some(id) = properties.assigned_client_id {
                write!(line, " id={id}").unwrap();
            }
            if let Some(expiry_s) = properties.session_expiry_s {
                write!(line, " expiry={expiry_s}").unwrap();
            }
            if let Some(keep_alive_s) = properties.server_keep_alive_s {
                write!(line, " keep_alive={keep_alive_s}").unwrap();
            }
            line
        }
        Packet::Publish(publish) => show_publish(publish),
        Packet::Puback(packet) => ack("PUBACK", packet),
        Packet::Pubrec(packet) => ack("PUBREC", packet),
        Packet::Pubrel(packet) => ack("PUBREL", packet),
        Packet::Pubcomp(packet) => ack("PUBCOMP", packet),
        Packet::Suback(suback) => {
            let reasons: Vec<&str> = suback.reasons.iter().map(ReasonCode::name).collect();
            format!("SUBACK {} {}", suback.packet_id, reasons.join(","))
        }
        Packet::Unsuback(unsuback) => {
            let reasons: Vec<&str> = unsuback.reasons.iter().map(ReasonCode::name).collect();
            format!("UNSUBACK {} {}", unsuback.packet_id, reasons.join(","))
        }
        Packet::Pingresp => "PINGRESP".to_owned(),
        Packet::Disconnect(disconnect) => format!("DISCONNECT {}", disconnect.reason.name()),
        other => format!("{other:?}"),
    }
}

fn show_publish(publish: &Publish<'_>) -> String {
    let payload = String::from_utf8_lossy(publish.payload);
    let mut line = format!("{} {payload} q{}", publish.topic, publish.qos.as_u8());
    if publish.qos != QoS::AtMostOnce {
        write!(line, " #{}", publish.packet_id).unwrap();
    }
    for (flag, name) in [(publish.dup, " dup"), (publish.retain, " retain")] {
        if flag {
            line.push_str(name);
        }
    }
    let properties = &publish.properties;
    if let Some(expiry_s) = properties.expiry_s {
        write!(line, " expiry={expiry_s}").unwrap();
    }
    if let Some(alias) = properties.topic_alias {
        write!(line, " alias={alias}").unwrap();
    }
    if let Some(content_type) = properties.content_type {
        write!(line, " type={content_type}").unwrap();
    }
    let ids: Vec<String> = properties
        .subscription_ids
        .iter()
        .map(|id| id.to_string())
        .collect();
    if !ids.is_empty() {
        write!(line, " ids={}", ids.join(",")).unwrap();
    }
    for (name, value) in properties.user.iter() {
        write!(line, " {name}={value}").unwrap();
    }
    line
}
