//! The thread for the log's slow work: checkpoints, retention, compaction, fresh journal parts,
//! expired retained messages. It takes small steps with pauses, so that the journal's fdatasync
//! does not queue behind it, and asks the log thread only for what takes no time.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use broker::RetainedIndex;
use commitlog::{Entry, Error, LogReader, Lsn, PartitionId};
use tracing::{debug, warn};

use super::backup::{self, BackupError};
use super::clock::wall_ms;
use super::counters::Counters;
use super::door::{LogDoor, Request};
use super::mailbox::{Ask, Mailbox, Snapshot};
use super::retention;
use super::rings::Brake;
use crate::mirror::Board;

/// How often the thread looks whether there is something to do.
const LOOK: Duration = Duration::from_millis(250);

/// How often expired retained messages are looked for, and how many topics at one time.
const SWEEP: Duration = Duration::from_secs(1);
const SWEEP_STEPS: usize = 1000;

/// After a step the thread rests as long as the step took, within these bounds.
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_millis(50);

/// While a journal part is prepared faster than entries fill the one in use, the rests are so many
/// times as long: there is time, since more than one part is kept ready.
const PREPARE_EASE: u32 = 10;

/// Flushes between two looks up to which hardly anybody waits for one: one a second comes whatever
/// happens. Then no part is prepared: what zeros cost is saved by flushes only.
const CALM_FLUSHES: u64 = 2;

/// Bytes written since the last checkpoint from which on another may save their flush.
const RELIEF_BYTES: u64 = 32 << 20;

/// Share of the journal, percent, beyond which a checkpoint does not rest any more.
const HURRY_PERCENT: u64 = 80;

/// How long a worker may take to put its snapshot into the log.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(10);

/// The name under which compaction of `__sluice.sessions` is held back.
pub(super) const SHARDS_PIN: u32 = 1;

/// What the thread is made of.
pub struct Parts {
    /// The log thread.
    pub door: LogDoor,
    /// The log.
    pub log: LogReader,
    /// The workers, for their snapshots.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// Partition of `__sluice.sessions`.
    pub sessions: PartitionId,
    /// Partition of `__sluice.retained`.
    pub retained_table: PartitionId,
    /// The retained messages.
    pub retained: Arc<RwLock<RetainedIndex>>,
    /// What the mirror still needs.
    pub mirror: Arc<Board>,
    /// Pulled while the journal is about to be full: no time for rests.
    pub brake: Arc<Brake>,
    /// Backups to be finished.
    pub jobs: Receiver<backup::Job>,
    /// The node's counters.
    pub counters: Arc<Counters>,
    /// Longest time between two checkpoints, seconds.
    pub interval_s: u64,
    /// Longest time until what nobody waits for is flushed, milliseconds.
    pub flush_ms_max: u64,
    /// Share of the journal, percent, at which a checkpoint starts whatever the time.
    pub fill_percent: u8,
    /// Time between two looks at retention and compaction, seconds.
    pub retention_s: u64,
}

/// The running thread.
pub struct Handle {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts the thread.
pub fn start(parts: Parts) -> io::Result<Handle> {
    let (stop, stopped) = channel();
    let thread = super::startup::spawn("checkpoint", move || {
        Keeper {
            parts,
            appended: 0,
            flushes: 0,
            calm: true,
            checkpointed: 0,
            begun: Instant::now(),
            begun_bytes: 0,
            took: Duration::ZERO,
            swept: Instant::now(),
        }
        .run(&stopped);
    })?;
    Ok(Handle { stop, thread })
}

impl Handle {
    /// Ends the thread after the step it is at.
    pub fn stop(self) {
        drop(self.stop);
        // A panic there would have ended the process.
        let _ = self.thread.join();
    }
}

/// Asks all workers for snapshots and waits until they are in the log; answers the entry behind which
/// replay may start, and what compaction must leave alone, once a checkpoint of all that is in the log
/// now is done. `None`: some worker could not answer.
pub fn snapshot(mailboxes: &[Arc<Mailbox>], door: &LogDoor) -> Option<Snapshot> {
    // Who asks behind the workers' mail asks behind all that they have put there.
    let seen = door.call(|log| log.appended_to())?;
    let (answer, snapshots) = channel();
    for mailbox in mailboxes {
        let answer = answer.clone();
        mailbox.put(|letters| letters.asks.push(Ask::Snapshot { seen, answer }));
    }
    drop(answer);
    let mut all = Snapshot {
        shards_at: Lsn::MAX,
        table_pin: u64::MAX,
    };
    let deadline = Instant::now() + SNAPSHOT_WAIT;
    for _ in mailboxes {
        let left = deadline.saturating_duration_since(Instant::now());
        let one = snapshots.recv_timeout(left).ok()?;
        all.shards_at = all.shards_at.min(one.shards_at);
        all.table_pin = all.table_pin.min(one.table_pin);
    }
    Some(all)
}

/// Whether a checkpoint, of which the last began so long ago and took so long, is to begin so that it is
/// done before a flush is due, `flush_max` behind what is to be flushed; none that could only just be.
fn is_time_to_relieve(ago: Duration, took: Duration, flush_max: Duration) -> bool {
    took <= flush_max / 4 && ago + LOOK + 2 * took >= flush_max
}

struct Keeper {
    parts: Parts,
    /// How far the log was at the last look.
    appended: Lsn,
    /// Flushes until the last look.
    flushes: u64,
    /// Hardly anybody waits for flushes.
    calm: bool,
    /// How far the log was behind the last checkpoint.
    checkpointed: Lsn,
    /// When the last checkpoint began, how many bytes the journal had been given by then, and how long
    /// it took.
    begun: Instant,
    begun_bytes: u64,
    took: Duration,
    swept: Instant,
}

impl Keeper {
    fn run(&mut self, stopped: &Receiver<()>) {
        let interval = Duration::from_secs(self.parts.interval_s);
        let retention = Duration::from_secs(self.parts.retention_s);
        let mut checkpointed = Instant::now();
        let mut tidied = Instant::now();
        self.parts.door.call(commitlog::Log::keep_last_room);
        while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            if let Some(why) = self.parts.log.latched() {
                while let Ok(job) = self.parts.jobs.try_recv() {
                    let what = format!(
                        "the log takes no appends until the next start ({why}); stop the node and \
                         copy its directory"
                    );
                    let _ = job.answer.send(Err(BackupError::Latched(what)));
                }
                continue;
            }
            let flushes = self.parts.counters.log.flushes.get();
            self.calm = flushes - std::mem::replace(&mut self.flushes, flushes) <= CALM_FLUSHES;
            let result = self.prepare_parts(stopped).and_then(|()| {
                // The entries of the last snapshot are no reason for the next.
                let due =
                    checkpointed.elapsed() >= interval || self.is_filling() || self.saves_a_flush();
                let news = self.parts.log.appended_to() > self.checkpointed;
                if due && news && self.checkpoint(stopped)? {
                    self.checkpointed = self.parts.log.appended_to();
                    checkpointed = Instant::now();
                }
                if tidied.elapsed() >= retention {
                    self.tidy(stopped)?;
                    tidied = Instant::now();
                }
                Ok(())
            });
            while let Ok(job) = self.parts.jobs.try_recv() {
                let made = self.back_up(job.copier, stopped);
                let _ = job.answer.send(made);
            }
            if let Err(failure) = result {
                // A checkpoint that failed has latched the log; the log thread looks and reports it.
                // A part or a compaction that failed is tried again after a while.
                warn!(error = %failure, "the log's slow work failed");
                self.parts.door.send(Request::Latched);
            }
            self.sweep_retained();
        }
    }

    /// Ends a backup: between two checkpoints, since these remove files and use the journal again.
    fn back_up(
        &mut self,
        copier: backup::Copier,
        stopped: &Receiver<()>,
    ) -> Result<backup::Backup, BackupError> {
        let failed = |error: Error| BackupError::Failed(error.to_string());
        self.checkpoint(stopped).map_err(failed)?;
        let extents = self.parts.door.call(|log| log.journal_extents());
        let Some(Some(extents)) = extents else {
            return Err(BackupError::Latched("the log is about to close".to_owned()));
        };
        Ok(copier.finish(&extents)?)
    }

    fn fill_percent(&self) -> u64 {
        let (used, max) = self.parts.log.journal_fill();
        used * 100 / max.max(1)
    }

    fn is_filling(&self) -> bool {
        self.fill_percent() >= u64::from(self.parts.fill_percent)
    }

    /// Whether much was written for whose flush nobody waits, and a checkpoint that begins now is done
    /// before that is due: what is durable in segments is not flushed in the journal (decision 0016).
    fn saves_a_flush(&self) -> bool {
        let bytes = self.parts.counters.log.bytes.get() - self.begun_bytes;
        let flush_max = Duration::from_millis(self.parts.flush_ms_max);
        self.calm
            && bytes >= RELIEF_BYTES
            && is_time_to_relieve(self.begun.elapsed(), self.took, flush_max)
    }

    /// Makes journal parts ready before they are needed.
    fn prepare_parts(&mut self, stopped: &Receiver<()>) -> Result<(), Error> {
        let appended = self.parts.log.appended_to();
        if appended == self.appended {
            return Ok(());
        }
        self.appended = appended;
        if self.calm {
            return Ok(());
        }
        let next = |log: &mut commitlog::Log| log.prepare(wall_ms());
        while let Some(Some(mut preparation)) = self.parts.door.call(next) {
            let (used, _) = self.parts.log.journal_fill();
            let made = loop {
                let step = Instant::now();
                match preparation.step() {
                    Ok(false) => {}
                    done => break done,
                }
                let (done, _) = preparation.progress();
                let (used_now, _) = self.parts.log.journal_fill();
                let ahead = done >= used_now.saturating_sub(used);
                let ease = if ahead { PREPARE_EASE } else { 1 };
                self.rest(step.elapsed() * ease, stopped);
            };
            // Also what failed: only so it is cleared away, and tried again later.
            self.parts.door.call(move |log| log.prepared(preparation));
            made?;
        }
        Ok(())
    }

    /// False: some worker had no snapshot to give, so that it is to be tried again.
    fn checkpoint(&mut self, stopped: &Receiver<()>) -> Result<bool, Error> {
        let start = Instant::now();
        self.begun = start;
        self.begun_bytes = self.parts.counters.log.bytes.get();
        let Parts {
            mailboxes,
            door,
            sessions,
            ..
        } = &self.parts;
        let sessions = *sessions;
        let Some(snapshot) = snapshot(mailboxes, door) else {
            warn!(
                "the checkpoint is put off: a worker's snapshot did not get into the log (there is no \
                 room, or the disk is slow)"
            );
            return Ok(false);
        };
        let begun = door.call(move |log| log.checkpoint(snapshot.shards_at));
        let Some(Some(mut checkpoint)) = begun else {
            return Ok(true);
        };
        loop {
            let step = Instant::now();
            if checkpoint.step()? {
                break;
            }
            self.rest(step.elapsed(), stopped);
        }
        let lsn = checkpoint.lsn();
        if let Some(result) = self.parts.door.call(move |log| {
            let taken = log.checkpointed(checkpoint);
            if taken.is_ok() {
                log.pin(sessions, SHARDS_PIN, Some(snapshot.table_pin));
            }
            taken
        }) {
            result?;
        }
        self.took = start.elapsed();
        self.parts.counters.log.checkpoints.add_own(1);
        debug!(
            lsn,
            took_ms = start.elapsed().as_millis() as u64,
            "checkpoint"
        );
        Ok(true)
    }

    /// Lets the journal's flushes go first, unless the journal is about to be full or the node
    /// is being stopped.
    fn rest(&self, step: Duration, stopped: &Receiver<()>) {
        if !self.parts.brake.is_pulled() && self.fill_percent() < HURRY_PERCENT {
            let _ = stopped.recv_timeout(step.clamp(REST_MIN, REST_MAX));
        }
    }

    /// Retention, then compaction of what is worth it.
    fn tidy(&self, stopped: &Receiver<()>) -> Result<(), Error> {
        let door = &self.parts.door;
        let parts = &self.parts;
        retention::retain(&parts.mailboxes, door, &parts.log, &parts.mirror)?;
        let mut cleaned = Ok(true);
        while let Some(Some(mut compaction)) = door.call(|log| log.compaction(wall_ms())) {
            let done = loop {
                let step = Instant::now();
                match compaction.step() {
                    Ok(false) => {}
                    done => break done,
                }
                self.rest(step.elapsed(), stopped);
            };
            // Also what failed: only so it is tried again later. Others have their turn meanwhile.
            let handed = door.call(move |log| log.compacted(compaction, wall_ms()));
            if let Some(result) = handed {
                result?;
            }
            if done.is_err() {
                cleaned = done;
            }
        }
        cleaned.map(|_| ())
    }

    fn sweep_retained(&mut self) {
        if self.swept.elapsed() < SWEEP {
            return;
        }
        self.swept = Instant::now();
        let table = self.parts.retained_table;
        let retained = Arc::clone(&self.parts.retained);
        if retained
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
        {
            return;
        }
        let swept = self.parts.door.call(move |log| {
            let now_ms = wall_ms();
            let mut retained = retained.write().unwrap_or_else(PoisonError::into_inner);
            let Some(append) = retained.sweep(table, now_ms, SWEEP_STEPS) else {
                return Ok(());
            };
            log.stage(
                Entry {
                    appends: vec![append],
                    ops: Vec::new(),
                },
                now_ms,
            )?;
            log.write().map(|_| ())
        });
        if let Some(Err(failure)) = swept {
            // The messages stay expired in memory; a start finds them expired again.
            debug!(error = %failure, "tombstones of expired retained messages were not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_begins_as_late_as_it_can_before_a_flush_is_due() {
        let ms = Duration::from_millis;
        let due = |ago, took| is_time_to_relieve(ms(ago), ms(took), ms(1000));
        assert!(!due(500, 100));
        assert!(due(550, 100), "the next look may be too late");
        assert!(due(250, 250));
        assert!(!due(900, 251), "it would take too long");
        assert!(!is_time_to_relieve(ms(900), ms(3), ms(10)));
    }
}
