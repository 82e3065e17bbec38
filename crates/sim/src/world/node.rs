//! The running process: its log, its workers with their shards, and the mail between them. Each step
//! happens when the driver says so. Must not know the clients.

use super::{Client, World};
use broker::{
    Commit, Delivered, HookTable, Input, Outbox, OwnedMessage, Position, REFUSED, ReadRequest,
    RetainedIndex, RetainedRequest, Returned, Shard, ShardMessage, decode_record,
};
use commitlog::{BatchHead, Entry, Log, LogReader, Lsn, ReadError, Room};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub(super) struct Node {
    pub(super) log: Log,
    pub(super) reader: LogReader,
    pub(super) hooks: Arc<HookTable>,
    pub(super) retained: RetainedIndex,
    pub(super) workers: Vec<Worker>,
    /// Turns on their way to the log.
    pub(super) turns: VecDeque<Turn>,
    /// What became of parcels of downlinks.
    pub(super) delivered: Vec<Delivered>,
}

pub(super) struct Turn {
    pub(super) worker: u16,
    pub(super) number: u64,
    pub(super) room: Room,
    /// The turn needs all before it: the last refused one that the worker had heard of.
    pub(super) heard: Option<u64>,
    pub(super) entry: Entry,
    pub(super) messages: broker::Messages,
}

pub(super) struct Worker {
    pub(super) shard: Shard,
    pub(super) out: Outbox,
    /// What other parts of the node have for this shard, in order.
    pub(super) mail: VecDeque<Mail>,
    /// Reads that the disk refused: they are tried again after a while.
    pub(super) paused: Vec<Mail>,
    pub(super) by_conn: HashMap<u64, Client>,
    /// The last refused turn that the shard has heard of, and the last that there is.
    pub(super) heard: u64,
    pub(super) refused: u64,
}

pub(super) enum Mail {
    Committed(Arc<Commit>),
    /// A turn, why, and what was in it where the log may take it another time.
    Refused(u64, broker::Refusal, Option<Box<(Entry, broker::Messages)>>),
    Flushed(Lsn),
    /// No flush comes any more.
    Latched,
    Read(ReadRequest),
    Retained(RetainedRequest),
    Post(ShardMessage),
}

impl Node {
    /// Every worker gets a letter.
    fn tell(&mut self, letter: impl Fn() -> Mail) {
        let workers = self.workers.iter_mut();
        workers.for_each(|worker| worker.mail.push_back(letter()));
    }

    fn refuse(
        &mut self,
        worker: u16,
        turn: u64,
        why: broker::Refusal,
        returned: Option<Box<(Entry, broker::Messages)>>,
    ) {
        let worker = &mut self.workers[usize::from(worker)];
        worker.refused = turn;
        worker.mail.push_back(Mail::Refused(turn, why, returned));
    }

    /// Writes what is staged, and tells everyone.
    fn publish(&mut self, commits: Vec<Arc<Commit>>) {
        if self.log.write().is_err() {
            self.tell(|| Mail::Latched);
            for commit in commits {
                self.refuse(commit.worker, commit.turn, broker::Refusal::Latched, None);
            }
            return;
        }
        if self.log.appended_to().is_multiple_of(7) {
            // A failure has latched the log, which the next turns are told.
            let _ = self.log.write_gathered();
        }
        for commit in commits {
            self.retained.apply(&commit);
            for worker in &mut self.workers {
                worker.mail.push_back(Mail::Committed(Arc::clone(&commit)));
            }
        }
    }
}

impl World {
    /// The last turn of each worker that the log has refused.
    pub fn refused_turns(&self) -> Vec<u64> {
        let workers = self.running().workers.iter();
        workers.map(|worker| worker.refused).collect()
    }

    /// The log thread's turn: stages and writes what waits. False when nothing did.
    pub fn write_log(&mut self) -> bool {
        let now_ms = self.now.wall_ms;
        let node = self.running_mut();
        if node.turns.is_empty() {
            return false;
        }
        let mut commits = Vec::new();
        for turn in std::mem::take(&mut node.turns) {
            let Turn {
                worker,
                number: turn,
                room,
                heard,
                entry,
                messages,
            } = turn;
            let partitions: Vec<_> = entry
                .appends
                .iter()
                .map(|append| append.partition)
                .collect();
            let refused = match node.log.admits(&entry, room, now_ms) {
                Ok(()) => {
                    let refused = node.workers[usize::from(worker)].refused;
                    heard.is_some_and(|heard| heard < refused)
                }
                Err(
                    commitlog::Error::Full { .. }
                    | commitlog::Error::JournalFull { .. }
                    | commitlog::Error::EntryTooLarge { .. },
                ) => true,
                Err(_) => false,
            };
            if refused {
                // A worker hears of its turns in order.
                node.publish(std::mem::take(&mut commits));
                let returned = Some(Box::new((entry, messages)));
                node.refuse(worker, turn, broker::Refusal::Full, returned);
                continue;
            }
            let Ok(staged) = node.log.stage_in(entry, room, now_ms) else {
                node.publish(std::mem::take(&mut commits));
                node.refuse(worker, turn, broker::Refusal::Latched, None);
                continue;
            };
            let batches = partitions
                .iter()
                .zip(&staged.base_offsets)
                .zip(&staged.batches)
                .map(|((&partition, base), batch)| match base {
                    Ok(base) => {
                        let head = BatchHead::read(batch).expect("the log has checked it");
                        (partition, *base, head.count())
                    }
                    Err(_) => (partition, REFUSED, 0),
                })
                .collect();
            commits.push(Arc::new(Commit {
                lsn: staged.lsn,
                worker,
                turn,
                batches,
                messages,
            }));
        }
        node.publish(commits);
        true
    }

    /// The flush thread's turn. False when everything was flushed.
    pub fn flush_log(&mut self) -> bool {
        let node = self.running_mut();
        if node.reader.flushed_to() == node.reader.appended_to() {
            return false;
        }
        let Some(ticket) = node.log.flush_ticket() else {
            return false;
        };
        match ticket.run() {
            Ok(flushed) => {
                node.log.flushed(flushed);
                let lsn = node.reader.flushed_to();
                node.tell(|| Mail::Flushed(lsn));
            }
            Err(_) => node.tell(|| Mail::Latched),
        }
        true
    }

    /// One piece of mail reaches the shard of `worker`, or of the first that has some. False when
    /// there was none.
    pub fn deliver_mail(&mut self, worker: Option<u16>) -> bool {
        let node = self.running_mut();
        let has_mail = |worker: &u16| !node.workers[usize::from(*worker)].mail.is_empty();
        let found = match worker {
            Some(worker) => Some(worker).filter(has_mail),
            None => (0..node.workers.len() as u16).find(has_mail),
        };
        let Some(worker) = found else { return false };
        let mail = node.workers[usize::from(worker)]
            .mail
            .pop_front()
            .expect("it has mail");
        match mail {
            Mail::Committed(commit) => self.handle(worker, Input::Committed(&commit)),
            Mail::Refused(turn, why, returned) => {
                self.running_mut().workers[usize::from(worker)].heard = turn;
                let returned = returned.as_deref();
                let returned = returned.map(|(entry, messages)| Returned { entry, messages });
                let input = Input::Refused {
                    turn,
                    why,
                    returned,
                };
                self.handle(worker, input);
            }
            Mail::Flushed(lsn) => self.handle(worker, Input::Flushed(lsn)),
            Mail::Latched => self.handle(worker, Input::Latched),
            Mail::Read(request) => match self.read(&request.positions) {
                Some(messages) => {
                    let token = request.token;
                    self.handle(worker, Input::Read { token, messages });
                }
                None => self.pause(worker, Mail::Read(request)),
            },
            Mail::Retained(request) => {
                let wall_ms = self.now.wall_ms;
                let page = self.running().retained.find(
                    &request.filter,
                    request.after.as_deref(),
                    request.as_of,
                    wall_ms,
                    broker::limits::RETAINED_PAGE_MAX,
                );
                let positions: Vec<Position> = page.hits.iter().map(|hit| hit.position).collect();
                let Some(messages) = self.read(&positions) else {
                    self.pause(worker, Mail::Retained(request));
                    return true;
                };
                let token = request.token;
                self.handle(
                    worker,
                    Input::RetainedFound {
                        token,
                        page,
                        messages,
                    },
                );
            }
            Mail::Post(message) => self.handle(worker, Input::Post(message)),
        }
        true
    }

    fn pause(&mut self, worker: u16, mail: Mail) {
        let worker = &mut self.running_mut().workers[usize::from(worker)];
        worker.paused.push(mail);
    }

    /// Reads that the disk refused come again.
    pub(super) fn resume_reads(&mut self) {
        for worker in &mut self.running_mut().workers {
            worker.mail.extend(worker.paused.drain(..));
        }
    }

    /// `None`: the disk could not be read.
    pub(super) fn read(&self, positions: &[Position]) -> Option<Vec<Option<OwnedMessage>>> {
        let node = self.running();
        let mut messages = Vec::with_capacity(positions.len());
        for position in positions {
            let (partition, offset) = (position.partition, position.offset);
            let batches = match node.reader.read(partition, offset, 1, u64::MAX) {
                Err(ReadError::Disk { .. }) => return None,
                found => found.unwrap_or_default(),
            };
            let message = || {
                let kind = node.hooks.kind(partition)?;
                let batch = commitlog::batch::batches(batches.first()?).next()?.ok()?;
                let mut records = batch.records().filter_map(Result::ok);
                let record = records.find(|record| record.offset == offset)?;
                decode_record(kind, &record).ok()
            };
            messages.push(message());
        }
        Some(messages)
    }
}
