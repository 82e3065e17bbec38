//! What stands before MQTT on a connection, as bytes in and bytes out: the PROXY protocol, the
//! upgrade to WebSocket and its frames, and how fast a client may be. It knows no socket, no clock
//! and no MQTT packet.

pub mod limits;
pub mod meter;
pub mod proxy;
pub mod traffic;
pub mod upgrade;
pub mod websocket;

pub use meter::{Bucket, Meter};
pub use proxy::{ProxyError, Source};
pub use traffic::{Counts, Rates, Traffic};
pub use upgrade::{Accepted, Policy, Refused};
pub use websocket::{Decoded, End, Role, WebSocket};
