//! Retention that knows of inboxes and the mirror: the log keeps what somebody is owed, and what must go all the
//! same, because the stream has a hard bound, is given up first by those who are owed it, while it
//! can still be read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use commitlog::{Dropped, Error, Log, LogReader, PartitionId};
use tracing::warn;

use super::clock::wall_ms;
use super::door::LogDoor;
use super::mailbox::{Ask, Mailbox};
use crate::mirror::Board;

/// The name under which inboxes hold retention and compaction back.
const INBOX_PIN: u32 = 2;

/// The name under which the mirror does.
const MIRROR_PIN: u32 = 3;

/// How long workers may take to say what they need, or to give up what goes.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Drops what the streams' settings say and nobody needs. Nothing is dropped while a worker does
/// not say what it needs; beyond a hard bound nothing waits for more than a few seconds.
pub(super) fn retain(
    mailboxes: &[Arc<Mailbox>],
    door: &LogDoor,
    reader: &LogReader,
    mirror: &Board,
) -> Result<(), Error> {
    let pins = mirror.pins();
    door.call(move |log| {
        for (partition, offset) in pins {
            log.pin(partition, MIRROR_PIN, Some(offset));
        }
    });
    if !pin_owed(mailboxes, door, reader) {
        warn!("a worker does not say what its sessions are owed; retention is put off");
        return Ok(());
    }
    let overdue = door.call(|log| log.overdue(wall_ms()));
    for dropped in overdue.transpose()?.unwrap_or_default() {
        if dropped.pinned.iter().any(|&(owner, _)| owner == INBOX_PIN) {
            give_up(mailboxes, &dropped);
        }
    }
    let dropped = door.call(|log| log.housekeeping(wall_ms()));
    for dropped in dropped.transpose()?.unwrap_or_default() {
        if !dropped.pinned.is_empty() {
            warn!(
                ?dropped,
                "a stream's hard size bound dropped records that were still owed"
            );
        }
    }
    Ok(())
}

/// Pins each partition at the first offset that a session or a shared group is owed, or where it
/// ended when the question was put: what came later may be owed too. False: some worker did not
/// answer, and the pins are what they were.
fn pin_owed(mailboxes: &[Arc<Mailbox>], door: &LogDoor, reader: &LogReader) -> bool {
    let reader = reader.clone();
    // On the log thread, where all that is in the log is in the mailboxes too; the workers read
    // that before they read the question.
    let ends = door.call(move |_: &mut Log| ends(&reader));
    let (answer, answers) = channel();
    for mailbox in mailboxes {
        let answer = answer.clone();
        mailbox.put(|letters| letters.asks.push(Ask::Owed { answer }));
    }
    drop(answer);
    let (Some(mut pins), Some(owed)) = (ends, all(&answers, mailboxes.len())) else {
        return false;
    };
    for (partition, offset) in owed.into_iter().flatten() {
        if let Some(pin) = pins.get_mut(&partition) {
            *pin = offset.min(*pin);
        }
    }
    let pinned = door.call(move |log: &mut Log| {
        for (partition, offset) in pins {
            log.pin(partition, INBOX_PIN, Some(offset));
        }
    });
    pinned.is_some()
}

fn ends(reader: &LogReader) -> BTreeMap<PartitionId, u64> {
    let mut ends = BTreeMap::new();
    for stream in reader.streams().iter() {
        for &partition in &stream.partitions {
            if let Some(marks) = reader.watermarks(partition) {
                ends.insert(partition, marks.appended);
            }
        }
    }
    ends
}

/// Lets everyone who is owed some of it give it up.
fn give_up(mailboxes: &[Arc<Mailbox>], dropped: &Dropped) {
    let (answer, answers) = channel();
    for mailbox in mailboxes {
        let ask = Ask::Overdue {
            partition: dropped.partition,
            below: dropped.to,
            answer: answer.clone(),
        };
        mailbox.put(|letters| letters.asks.push(ask));
    }
    drop(answer);
    if all(&answers, mailboxes.len()).is_none() {
        // What is left is reported without its content when it is to be delivered.
        warn!(
            ?dropped,
            "not all deliveries of messages that go were given up in time"
        );
    }
}

/// The answers of all workers, if they come in time.
fn all<T>(answers: &Receiver<T>, workers: usize) -> Option<Vec<T>> {
    let deadline = Instant::now() + ANSWER_WAIT;
    let mut all = Vec::new();
    while all.len() < workers {
        let left = deadline.saturating_duration_since(Instant::now());
        all.push(answers.recv_timeout(left).ok()?);
    }
    Some(all)
}
