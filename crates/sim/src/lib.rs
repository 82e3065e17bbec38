//! A deterministic world around the pure crates: network, disk, clock, clients and an oracle.

pub mod fuzz;
pub mod random;
