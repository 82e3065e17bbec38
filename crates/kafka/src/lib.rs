//! The Kafka wire: framing, primitives, and the supported APIs as tables of fields and versions,
//! in both directions (a server decodes requests and encodes responses, a client the reverse).
//! Requests are borrowed from the read buffer and stored record batches pass by reference; this
//! crate knows no socket, no clock, no stream and no log.

#[macro_use]
mod table;
#[macro_use]
mod requests;

pub mod api;
mod error_code;
mod framing;
pub mod group;
pub mod limits;
pub mod offsets;
mod primitives;
mod throttle;
pub mod txn;

pub use error_code::ErrorCode;
pub use framing::{
    Frame, RequestHeader, decode_request, decode_response, encode_request, encode_response, frame,
    response_correlation_id,
};
pub use primitives::{Piece, Reader, Records, Uuid, Wire, WireError, Writer};

#[cfg(test)]
mod tests;
