//! Dialogues with a shard, a theme a file.

mod acks;
mod backlog;
mod chaos;
mod cost;
mod delivery;
mod giving_up;
mod mirrored;
mod permission;
mod publishers;
mod refused;
mod restart;
mod retained;
mod sessions;
mod shared;
mod wills;
