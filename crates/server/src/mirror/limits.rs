//! Bounds of the mirror: how much one round takes, how long it waits for the cluster.

use std::time::Duration;

/// Records of one round (a transaction) beyond which no further batch is begun.
pub const ROUND_RECORDS_MAX: u64 = 50_000;

/// Bytes of keys and values of one round beyond which no further batch is begun.
pub const ROUND_BYTES_MAX: u64 = 24 << 20;

/// The same after rounds that took too long: it is halved with each, down to this, and doubled
/// with each that went well.
pub const ROUND_BYTES_MIN: u64 = 64 << 10;

/// Bytes read of one partition before the next has its turn.
pub const READ_BYTES: usize = 1 << 20;

/// Bytes of one record that librdkafka takes: more than hooks make of the largest packet.
pub const MESSAGE_BYTES_MAX: u32 = 16 << 20;

/// Messages that wait in librdkafka; more than a round has.
pub const QUEUE_MESSAGES_MAX: u32 = 2_000_000;

/// Bytes that wait in librdkafka, KiB.
pub const QUEUE_KBYTES_MAX: u32 = 256 << 10;

/// Longest wait in one call of librdkafka, between two looks at whether the node stops.
pub const STEP: Duration = Duration::from_millis(250);

/// A cluster that is silent for this long in a round is told as `waiting`.
pub const SILENCE: Duration = Duration::from_secs(3);

/// A round of which nothing more is delivered for so long is aborted, so that topics that work go on
/// without those that do not.
pub const STALL: Duration = Duration::from_secs(5);

/// A round that does not end by then although it goes on is aborted and begun anew with less: well
/// before the cluster itself ends the transaction (after a minute).
pub const ROUND_MAX: Duration = Duration::from_secs(20);

/// The same where a stream takes part that has failed and not yet succeeded again.
pub const STALL_ON_TRIAL: Duration = Duration::from_secs(2);

/// Wait for one answer of the cluster while connecting.
pub const ANSWER: Duration = Duration::from_secs(10);

/// A thread that is not back from one call of librdkafka by then is given up: each has a timeout of
/// at most [`ANSWER`], but not all keep to it.
pub const BACK: Duration = Duration::from_secs(12);

/// The same where several calls come one after the other.
pub const BACK_FROM_ALL: Duration = Duration::from_secs(45);

/// The same while a round is read from the log, which may be on a slow disk.
pub const READING: Duration = Duration::from_mins(1);

/// Time between two looks at whether the threads are back.
pub const LOOK: Duration = Duration::from_millis(500);

/// Threads of one shard that were given up and are not back, beyond which it begins nothing: each
/// holds a few connections and at most a round of records.
pub const AWAY_MAX: usize = 3;

/// A commit or an abort that is not decided by then is asked for by a new client.
pub const DECIDED: Duration = Duration::from_secs(45);

/// How long a stopping node waits for the threads of the mirror.
pub const STOP: Duration = Duration::from_secs(6);

/// Rests between attempts to connect, and of a stream that fails: the first and the longest.
pub const REST_MIN: Duration = Duration::from_millis(500);
/// See [`REST_MIN`].
pub const REST_MAX: Duration = Duration::from_secs(30);

/// A transaction that is begun before the cluster has settled the one before is refused, and begun
/// again by librdkafka after this time: it is better to wait a little first.
pub const AGAIN: Duration = Duration::from_millis(20);

/// Longest such wait.
pub const SETTLING_MAX: Duration = Duration::from_millis(15);

/// How much more it is after a transaction that seems to have been refused at first, and how much
/// less after one that was not.
pub const SETTLING_STEPS: (Duration, Duration) =
    (Duration::from_millis(2), Duration::from_micros(100));

/// Longest sleep without anything to do.
pub const IDLE: Duration = Duration::from_secs(1);

/// Without transactions: time between two commits of the positions.
pub const COMMIT: Duration = Duration::from_secs(1);

/// All positions are written anew when they are as old: brokers forget offsets that nobody has written
/// for a week (`offsets.retention.minutes`), and those of an idle partition do not move.
pub const POSITIONS_AGE_MAX: Duration = Duration::from_hours(8);

/// How long a stopping node waits for the round that runs.
pub const FAREWELL: Duration = Duration::from_secs(3);

/// Partitions of the topic of positions if it is created.
pub const SLOTS: u32 = 32;

/// Bytes of metadata of one group offset (Kafka's `offset.metadata.max.bytes` is 4,096).
pub const METADATA_BYTES_MAX: usize = 4_096;

/// Attempts to put a record into the dead-letter stream before the stream waits.
pub const DEAD_LETTER_WAIT: Duration = Duration::from_secs(10);

const _: () = assert!(ROUND_RECORDS_MAX * 2 < QUEUE_MESSAGES_MAX as u64);
const _: () = assert!(ROUND_BYTES_MAX * 2 < (QUEUE_KBYTES_MAX as u64) << 10);
const _: () = assert!(ROUND_BYTES_MIN < ROUND_BYTES_MAX && READ_BYTES as u64 <= ROUND_BYTES_MAX);
const _: () = assert!(BACK.as_millis() > ANSWER.as_millis());
const _: () = assert!(STOP.as_millis() > FAREWELL.as_millis());
const _: () = assert!(READING.as_millis() > DEAD_LETTER_WAIT.as_millis());
