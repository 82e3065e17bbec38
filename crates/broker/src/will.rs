//! A client's will, kept from CONNECT until it is published or given up. Knows its bytes, not when
//! it is due.

use mqtt::{PublishProperties, QoS, Will};
use std::net::SocketAddr;

/// A will that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OwnedWill {
    pub topic: Box<str>,
    pub payload: Box<[u8]>,
    pub qos: QoS,
    pub retain: bool,
    /// Seconds between the end of the connection and the publication.
    pub delay_s: u32,
    /// Seconds that the message lives once it is published.
    pub expiry_s: Option<u32>,
    /// The other properties, as they stand on the wire.
    pub forwarded: Box<[u8]>,
    /// Address and port of the connection that brought it, `""` where there was none.
    pub peer: Box<str>,
    /// Whether that connection had proved that the user name is its own.
    pub proved: bool,
}

impl OwnedWill {
    /// A copy of the will of a CONNECT from `peer`, which has `proved` who it is, or not.
    pub(crate) fn new(will: &Will<'_>, peer: Option<SocketAddr>, proved: bool) -> Self {
        let mut forwarded = Vec::new();
        will.properties.encode_forwarded(&mut forwarded);
        Self {
            topic: will.topic.into(),
            payload: will.payload.into(),
            qos: will.qos,
            retain: will.retain,
            delay_s: will.properties.delay_s,
            expiry_s: will.properties.expiry_s,
            forwarded: forwarded.into(),
            peer: peer.map(|peer| peer.to_string().into()).unwrap_or_default(),
            proved,
        }
    }

    /// Properties of the PUBLISH that the will becomes.
    pub(crate) fn properties(&self) -> PublishProperties<'_> {
        PublishProperties {
            expiry_s: self.expiry_s,
            ..PublishProperties::from_forwarded(&self.forwarded).unwrap_or_default()
        }
    }
}
