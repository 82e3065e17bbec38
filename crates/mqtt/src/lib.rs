//! MQTT 3.1, 3.1.1 and 5: packets, codec, topics and the protocol's state machine of a session.
//! Bytes in, bytes out: this crate knows no socket, no clock, no broker and no log.

mod decode;
mod encode;
mod frame;
pub mod inflight;
pub mod limits;
mod packet;
mod property;
mod reason;
pub mod topic;
mod wire;

pub use decode::{DecodeError, decode, decode_connect};
pub use frame::{AckKind, Outgoing, PublishFrame, write_ack, write_ack_v3, write_publish};
pub use packet::{
    Ack, Auth, Connack, ConnackProperties, Connect, ConnectProperties, Disconnect, Filters, Packet,
    PacketType, Publish, PublishProperties, QoS, ReasonCodes, RetainHandling, Suback, Subscribe,
    SubscribeOptions, TopicFilters, Unsuback, Unsubscribe, Version, Will, WillProperties,
};
pub use property::{SubscriptionIds, UserProperties};
pub use reason::ReasonCode;
