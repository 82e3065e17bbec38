//! Bounds of all that comes in over HTTP, and of what is held for those who asked.

use std::time::Duration;

/// Most connections of one listener open at a time; further ones wait in the backlog.
pub const CONNECTIONS_MAX: usize = 256;

/// Most of them from one address, unless it is this machine's; further ones are closed.
pub const CONNECTIONS_MAX_PER_ADDRESS: usize = 32;

/// How many of them nobody but programs of this machine gets.
pub const CONNECTIONS_KEPT_FOR_THIS_MACHINE: usize = 32;

/// Time in which the head of a request must have come, from the end of the one before.
pub const HEAD_WAIT: Duration = Duration::from_secs(15);

/// Time in which the body of a request must have come, from the end of its head.
pub const BODY_WAIT: Duration = Duration::from_secs(30);

/// Time in which a client must take something of what waits for it.
pub const WRITE_WAIT: Duration = Duration::from_secs(30);

/// Time in which a client must have taken all that waits for it, however often it takes a little.
pub const ANSWER_WAIT: Duration = Duration::from_mins(5);

/// Time that requests on their way have once the node stops.
pub const STOP_WAIT: Duration = Duration::from_secs(5);

/// Time between two looks whether those who follow events still may.
pub const EVENTS_JUDGED: Duration = Duration::from_secs(5);

/// Largest body of a request that changes something, in bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// Largest body of a request that publishes, in bytes.
pub const PUBLISH_BODY_BYTES_MAX: usize = 8 << 20;

/// A body that is larger than this has its place among large ones, in bytes.
pub const BODY_SMALL_BYTES: usize = 64 << 10;

/// Most bytes of large bodies that are read or handled at a time.
pub const BODIES_BYTES_MAX: usize = 64 << 20;

/// Time that a request waits for room among others of its kind; then it is told to come again.
pub const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Most messages of one batch.
pub const PUBLISH_BATCH_MAX: usize = 1_000;

/// Most topics, or names, that the record of one publish says.
pub const NOTE_TEXTS_MAX: usize = 10;

/// Bytes of each of them.
pub const NOTE_TEXT_BYTES_MAX: usize = 256;

/// Most streams of events open at a time.
pub const EVENT_STREAMS_MAX: usize = 32;

/// Events that wait for one subscriber.
pub const EVENTS_WAITING_MAX: usize = 16;

/// Time after which a stream of events without events says that it is alive.
pub const EVENTS_ALIVE: Duration = Duration::from_secs(15);

/// Most records in one answer.
pub const RECORDS_MAX: usize = 1_000;

/// Most bytes of keys, values and headers in one answer; one record comes whole, cut as below.
pub const RECORD_ANSWER_BYTES_MAX: usize = 4 << 20;

/// Bytes of batches, unfolded, that one answer may look at, whatever it finds in them; the batch that
/// is at hand is looked at to its end.
pub const RECORD_SCAN_BYTES_MAX: usize = 32 << 20;

/// Time after which an answer goes out with what was found.
pub const RECORD_SCAN_WAIT: Duration = Duration::from_secs(2);

/// Least of those bytes that a partition is looked at for, once it is its turn.
pub const PARTITION_SCAN_BYTES_MIN: usize = 64 << 10;

/// Longest text that records are searched for, in bytes.
pub const RECORD_TEXT_BYTES_MAX: usize = 1024;

/// Bytes of a value that are shown; the rest is cut off.
pub const VALUE_SHOWN_BYTES_MAX: usize = 256 << 10;

/// Plain bytes that one compressed batch may have.
pub const BATCH_PLAIN_BYTES_MAX: usize = 64 << 20;

/// Readings of records under way at a time: each holds a thread and memory.
pub const RECORD_READS_MAX: usize = 4;

/// Time between two looks of a live tail.
pub const TAIL_LOOK: Duration = Duration::from_millis(200);

/// Records that a live tail sends at one look; what is beyond is skipped and counted.
pub const TAIL_RECORDS_MAX: usize = 200;

/// Samples of the history: an hour in steps of ten seconds.
pub const HISTORY_MAX: usize = 360;

/// Seconds between two samples of the history.
pub const HISTORY_STEP_S: u64 = 10;

const _: () = assert!(
    CONNECTIONS_MAX_PER_ADDRESS + CONNECTIONS_KEPT_FOR_THIS_MACHINE < CONNECTIONS_MAX,
    "one address does not keep all others out"
);
const _: () = assert!(WRITE_WAIT.as_secs() < ANSWER_WAIT.as_secs());
const _: () = assert!(
    EVENT_STREAMS_MAX < CONNECTIONS_MAX / 2,
    "events leave room for questions"
);
const _: () = assert!(
    BODIES_BYTES_MAX >= 2 * PUBLISH_BODY_BYTES_MAX,
    "one large body does not keep all others out"
);
const _: () = assert!(
    RECORD_ANSWER_BYTES_MAX > VALUE_SHOWN_BYTES_MAX,
    "one record fits"
);
