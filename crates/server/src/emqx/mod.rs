//! What users of EMQ X bring along: its configuration files, read and said again in Sluice's words.
//! Nothing here is needed to run a node.

pub mod bridge_kafka;
pub mod cuttlefish;
