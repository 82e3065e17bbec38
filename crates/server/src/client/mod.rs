//! A small blocking MQTT client for the verbs `pub` and `sub`: the options that people know from
//! mosquitto_pub and mosquitto_sub, a connection that reads packet by packet, and the formats in which
//! messages are printed.

mod connection;
mod format;
mod local_time;
mod options;
mod properties;
mod wire;

pub use connection::Connection;
pub use format::{Format, NotJson};
pub use local_time::LocalTime;
pub use options::{ConnectArgs, qos};
pub use properties::{OwnedProperties, Property};
pub use wire::{Way, WayArgs, Wire};

/// Largest packet that the client accepts: the protocol's own limit.
const PACKET_BYTES_MAX: u32 = 268_435_455;
