//! Committed offsets: how they are written in their compacted table, and the table in memory. Who
//! may commit is the groups' (`crate::group`); the log that keeps the records is the caller's.

mod record;
mod table;

pub use record::{CommittedOffset, MalformedRecord, OffsetKey};
pub use table::{Lookup, Offsets, Place};
