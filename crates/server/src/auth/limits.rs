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

/// Nice value of the threads that do it: where the processor is short, those who are in get ten times
/// as much of it.
pub const HASHING_NICE: i32 = 10;

/// Passwords that wait to be hashed, as a fleet's do that comes back at once; who sends a further one
/// is told to come later.
pub const HASHING_WAITING_MAX: usize = 4_096;

/// Of these, those of one address: it cannot keep all others out.
pub const HASHING_WAITING_MAX_PER_ADDRESS: usize = HASHING_WAITING_MAX / 4;

/// Attempts of one address for one name that may be under way at one time; who begins a further one is
/// told to come later. So many guesses are made before the first has failed.
pub const ATTEMPTS_UNDER_WAY_MAX: u32 = 512;

/// Client ids that are banned at one time because they came and went too often; one more lets the
/// oldest in again.
pub const PASSING_BANS_MAX: usize = 10_000;

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

/// Longest secret in a file or variable, in bytes.
pub const SECRET_BYTES_MAX: u64 = 64 * 1_024;

/// Longest answer of an HTTP service, in bytes.
pub const CALLOUT_ANSWER_BYTES_MAX: usize = 64 * 1_024;

/// Most rules, and filters in them, of one token or answer.
pub const CLAIM_RULES_MAX: usize = 256;

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1_024;

/// Largest set of keys, in bytes, and most keys in it.
pub const KEY_SET_BYTES_MAX: usize = 1_024 * 1_024;
/// See [`KEY_SET_BYTES_MAX`].
pub const KEY_SET_KEYS_MAX: usize = 1_000;

/// Least time between two reads of a set of keys because of a key that is not known.
pub const KEY_SET_REST: Duration = Duration::from_secs(10);

/// How long a read of a set of keys may take.
pub const KEY_SET_TIMEOUT: Duration = Duration::from_secs(5);

/// How far the clock of who made a token may be ahead, in seconds.
pub const CLOCK_SKEW_S: u64 = 60;

/// Most bans of a node; a further one is refused, and one that would be made by itself is not.
pub const BANS_MAX: usize = 100_000;

/// Longest value or reason of a ban, in bytes.
pub const BAN_TEXT_BYTES_MAX: usize = 1_024;

/// Client ids whose connections are counted to find those that come and go too often; when there
/// are more, who was seen longest ago is forgotten.
pub const FLAPPING_CLIENTS_MAX: usize = 100_000;

/// Exchanges of enhanced authentication by connected clients that are under way on one worker.
pub const REAUTHENTICATIONS_MAX: usize = 10_000;

/// Packets that wait for a callout on one worker; who sends a further one is denied.
pub const ASKING_MAX: usize = 10_000;

/// Longest that it may take to judge who knocks, the turns of slowed attempts and all callouts
/// included.
pub const ADMISSION_MAX: Duration = Duration::from_secs(90);

/// Connections that wait for one callout at one time, those whose request is under way included; a
/// further one is not let in. Listeners have room for more, so that a dead callout stops nobody else.
pub const CALLOUT_WAITING_MAX: usize = 1_024;

/// Requests to a callout without an answer, one behind the other, after which nobody waits for it any
/// more but one who finds out each [`CALLOUT_REST`]; the others get their no at once.
pub const CALLOUT_FAILURES_MAX: u32 = 8;

/// See [`CALLOUT_FAILURES_MAX`].
pub const CALLOUT_REST: Duration = Duration::from_secs(1);

/// Least time between two lines of the log about one callout that fails.
pub const CALLOUT_TELL_EVERY: Duration = Duration::from_secs(10);

/// Questions about one client that a callout is asked at one time.
pub const ASKED_AT_ONCE: usize = 16;

/// Iterations of an imported PBKDF2 hash: who logs in with it makes the node compute them.
pub const IMPORTED_ITERATIONS_MAX: u32 = 1_000_000;

/// Cost of an imported bcrypt hash: 2 to this power rounds, about a second.
pub const IMPORTED_COST_MAX: u32 = 14;

/// Longest salt of an imported hash, in bytes.
pub const IMPORTED_SALT_BYTES_MAX: usize = 256;

/// Longest imported hash, in bytes.
pub const IMPORTED_HASH_BYTES_MAX: usize = 128;
