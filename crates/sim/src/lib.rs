//! A deterministic world around the pure crates: network, disk, clock, clients and an oracle.

pub mod clients;
pub mod fuzz;
pub mod groups;
pub mod oracle;
pub mod random;
pub mod seeds;
pub mod transactions;
pub mod transcript;
pub mod world;
