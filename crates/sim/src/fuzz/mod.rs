//! Fuzzing on stable Rust: each target has seeds, a mutator breaks them, the target must not panic
//! and must keep its own promises. A failing input is printed in full, so that it becomes a test.

mod batch;
mod door;
mod kafka;
mod mqtt;
mod recovery;
mod shard;

use crate::random::Random;

/// Longest input that mutation makes.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Something that takes bytes and must survive all of them.
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Valid inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Takes an input; panics when a promise is broken.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    mqtt::TARGET,
    door::PROXY,
    door::UPGRADE,
    door::WEBSOCKET,
    kafka::TARGET,
    batch::TARGET,
    recovery::TARGET,
    shard::TARGET,
];

/// An input of the target: one of its seeds, broken in one to eight places.
pub fn input(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.pick(seeds).clone();
    for _ in 0..=random.below(8) {
        mutate(&mut bytes, seeds, random);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    if bytes.is_empty() {
        bytes.push(random.any() as u8);
        return;
    }
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.any() as u8,
        2 => bytes[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
        3 => bytes.truncate(at),
        4 => bytes.insert(at, random.any() as u8),
        5 => {
            // A run of bytes once more, somewhere else.
            let end = (at + 1 + random.below(16) as usize).min(bytes.len());
            let run = bytes[at..end].to_vec();
            let to = random.below(bytes.len() as u64) as usize;
            bytes.splice(to..to, run);
        }
        6 => {
            // A number that lengths trip over.
            let number: u32 =
                *random.pick(&[0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0x1000_0000]);
            for (place, byte) in bytes[at..].iter_mut().zip(number.to_be_bytes()) {
                *place = byte;
            }
        }
        _ => {
            let other = random.pick(seeds);
            let from = random.below(other.len().max(1) as u64) as usize;
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from.min(other.len())..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The short form of `cargo xtask fuzz`.
    #[test]
    fn every_target_survives_many_inputs() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            for seed in &seeds {
                (target.run)(seed);
            }
            let mut random = Random::new(1);
            // A whole node costs more than a decoder.
            let inputs = match target.name {
                "recovery" | "shard" => 150,
                _ => 3_000,
            };
            for _ in 0..inputs {
                let input = input(&seeds, &mut random);
                (target.run)(&input);
            }
        }
    }
}
