//! The bounds of the users table and of what strangers can make it do.

use std::time::Duration;

/// Most users of a node.
pub const USERS_MAX: usize = 100_000;

/// Most bearer tokens of a node.
pub const TOKENS_MAX: usize = 1_000;

/// Longest name of a user, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// Passwords that are hashed at the same time: each takes [`ARGON2_MEMORY_KIB`] and a core, and half
/// of the cores is left to those who are in.
pub fn hashing_max() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

/// Passwords that wait to be hashed; a further one is refused without being looked at.
pub const HASHING_WAITING_MAX: usize = 256;

/// Memory of one argon2id hash, in KiB (OWASP: 19 MiB with two passes).
pub const ARGON2_MEMORY_KIB: u32 = 19 * 1_024;

/// Passes of one argon2id hash.
pub const ARGON2_PASSES: u32 = 2;

/// Iterations of the SCRAM keys of a new password; RFC 7677 wants at least 4,096 and advises about
/// 15,000, Apache Kafka allows 16,384.
pub const SCRAM_ITERATIONS: u32 = 15_000;

/// Longest SCRAM message, in bytes.
pub const SCRAM_MESSAGE_BYTES_MAX: usize = 4_096;

/// Passwords found right that are remembered, so that a fleet that comes back is not hashed anew.
pub const VERIFIED_MAX: usize = 20_000;

/// How long a password found right is remembered.
pub const VERIFIED_FOR: Duration = Duration::from_mins(10);

/// Addresses and names whose failures are remembered.
pub const FAILURES_MAX: usize = 20_000;

/// How long failures are remembered after the last.
pub const FAILURES_FOR: Duration = Duration::from_mins(10);

/// Names with which one address failed before all its attempts are slowed down: who mistypes a
/// password does so with one, who tries a common password with many.
pub const ADDRESS_FAILURES_FREE: u32 = 20;

/// Pause that the first failure costs; each further one doubles it.
pub const DELAY_FIRST: Duration = Duration::from_millis(100);

/// Longest pause between two attempts. A client with an old password slows down those with the new
/// one beside it, so that it is not longer.
pub const DELAY_MAX: Duration = Duration::from_secs(1);

/// Longest an attempt waits for its turn; one that had to wait longer fails at once.
pub const DELAY_WAIT_MAX: Duration = Duration::from_secs(10);

const _: () = assert!(SCRAM_ITERATIONS >= 4_096 && SCRAM_ITERATIONS <= 16_384);
const _: () = assert!(DELAY_MAX.as_millis() <= DELAY_WAIT_MAX.as_millis());
