//! The bytes of a worker's connections, whatever they travel through: sockets in a slab, and what
//! lies between MQTT and TCP on those that have it (TLS, WebSocket, rates). It knows no packet.

pub mod secure;
pub mod socket;
pub mod wrapping;

#[cfg(test)]
mod tests;

pub use self::socket::{ReadEnd, Socket, Sockets, send};
pub use self::wrapping::{Flow, Wrapping};
