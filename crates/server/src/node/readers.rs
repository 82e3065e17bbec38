//! Reads messages back for sessions that are behind: from memory at once, from files on a small
//! pool of threads, so that a worker never waits for a disk. It must not know who asked.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use broker::{
    HookTable, OwnedMessage, Position, ReadRequest, RetainedIndex, RetainedPage, RetainedRequest,
    decode_record, limits,
};
use bytes::Bytes;
use commitlog::{BatchView, LogReader, ReadError};
use tracing::warn;

use super::clock::wall_ms;
use super::line::{Entrance, Exit, line};
use super::mailbox::{Answer, Mailbox};

/// Threads that read files. More would not make one disk faster; fewer would let one slow read
/// hold up all sessions.
const THREADS: usize = 2;

/// Bytes asked for in one read, at most: the first batch comes whole anyway.
const READ_BYTES_MAX: usize = 256 * 1024;

/// Bytes asked for, for each record from the first to the last wanted one: about a record, so that
/// little is read and checked that nobody wants. Where records are larger, the next read goes on.
const READ_BYTES_PER_RECORD: usize = 1024;

/// Records between two wanted ones that are read along; another read costs more.
const GAP_MAX: u64 = 16;

/// Of so many reads that fail one is told of: a try of one session comes every half second.
const FAILURES_TOLD: u64 = 100;

/// What a shard wants from the log.
pub enum Wanted {
    /// Messages at positions.
    Messages(ReadRequest),
    /// A page of retained messages.
    Retained(RetainedRequest),
}

/// One for each worker; they share the pool.
#[derive(Clone)]
pub struct Readers {
    source: Arc<Source>,
    jobs: Entrance<(u16, Wanted)>,
}

struct Source {
    /// Reads that the disk has refused.
    failures: AtomicU64,
    log: LogReader,
    hooks: RwLock<Arc<HookTable>>,
    retained: Arc<RwLock<RetainedIndex>>,
}

impl Readers {
    /// Starts the pool; answers go to the worker that asked. It ends with its last handle.
    pub fn start(
        log: LogReader,
        hooks: Arc<HookTable>,
        retained: Arc<RwLock<RetainedIndex>>,
        mailboxes: &[Arc<Mailbox>],
    ) -> io::Result<Self> {
        let source = Arc::new(Source {
            failures: AtomicU64::new(0),
            log,
            hooks: RwLock::new(hooks),
            retained,
        });
        let (jobs, queue) = line();
        for number in 0..THREADS {
            let (source, queue) = (Arc::clone(&source), queue.clone());
            let mailboxes = mailboxes.to_vec();
            std::thread::Builder::new()
                .name(format!("reader-{number}"))
                .spawn(move || run(&source, &queue, &mailboxes))?;
        }
        Ok(Self { source, jobs })
    }

    /// Other hooks are about to be in force; their streams' records are messages too.
    pub fn set_hooks(&self, hooks: Arc<HookTable>) {
        let held = self.source.hooks.write();
        *held.unwrap_or_else(PoisonError::into_inner) = hooks;
    }

    /// The messages, if all of them are in memory.
    pub fn read_tail(&self, positions: &[Position]) -> Option<Vec<Option<OwnedMessage>>> {
        let log = &self.source.log;
        self.source.messages(positions, |position, bytes_max| {
            log.read_tail(position.partition, position.offset, bytes_max)
                .ok_or(())
        })
    }

    /// The page, if all of its messages are in memory.
    pub fn find_in_memory(
        &self,
        request: &RetainedRequest,
    ) -> Option<(RetainedPage, Vec<Option<OwnedMessage>>)> {
        let page = self.source.find(request);
        let messages = whole(&page, |positions| self.read_tail(positions))?;
        Some((page, messages))
    }

    /// Has the pool read; the answer comes to the mailbox of `worker`.
    pub fn send(&self, worker: u16, wanted: Wanted) {
        self.jobs.put((worker, wanted));
    }
}

fn run(source: &Source, queue: &Exit<(u16, Wanted)>, mailboxes: &[Arc<Mailbox>]) {
    while let Some((worker, wanted)) = queue.take() {
        match answer(source, &wanted) {
            Some(answer) => {
                mailboxes[usize::from(worker)].put(|letters| letters.answers.push(answer));
            }
            // What is owed is kept until the disk can be read again.
            None => queue.pause((worker, wanted)),
        }
    }
}

/// `None`: the disk could not be read.
fn answer(source: &Source, wanted: &Wanted) -> Option<Answer> {
    Some(match wanted {
        Wanted::Messages(ReadRequest { token, positions }) => Answer::Read {
            token: *token,
            messages: source.read(positions)?,
        },
        Wanted::Retained(request) => {
            let page = source.find(request);
            let messages = whole(&page, |positions| source.read(positions))?;
            Answer::Retained {
                token: request.token,
                page,
                messages,
            }
        }
    })
}

/// The messages of all hits of a page, however many reads that takes.
fn whole(
    page: &RetainedPage,
    mut read: impl FnMut(&[Position]) -> Option<Vec<Option<OwnedMessage>>>,
) -> Option<Vec<Option<OwnedMessage>>> {
    let positions: Vec<Position> = page.hits.iter().map(|hit| hit.position).collect();
    let mut messages = Vec::with_capacity(positions.len());
    while messages.len() < positions.len() {
        messages.extend(read(&positions[messages.len()..])?);
    }
    Some(messages)
}

impl Source {
    fn kind(&self, partition: commitlog::PartitionId) -> Option<broker::StreamKind> {
        let hooks = self.hooks.read().unwrap_or_else(PoisonError::into_inner);
        hooks.kind(partition)
    }

    fn find(&self, request: &RetainedRequest) -> RetainedPage {
        let retained = self.retained.read().unwrap_or_else(PoisonError::into_inner);
        retained.find(
            &request.filter,
            request.after.as_deref(),
            request.as_of,
            wall_ms(),
            limits::RETAINED_PAGE_MAX,
        )
    }

    /// `None`: the disk could not be read, which may pass: descriptors are short, a cable is loose.
    fn read(&self, positions: &[Position]) -> Option<Vec<Option<OwnedMessage>>> {
        self.messages(positions, |position, bytes_max| {
            let read = self
                .log
                .read(position.partition, position.offset, bytes_max, u64::MAX);
            match read {
                Ok(batches) => Ok(batches),
                Err(ReadError::OutOfRange { .. } | ReadError::UnknownPartition { .. }) => {
                    Ok(Vec::new())
                }
                Err(failure @ ReadError::Corrupt { .. }) => {
                    // The message counts as gone, as after retention; the shard reports it.
                    warn!(%position, error = %failure, "a message cannot be read back");
                    Ok(Vec::new())
                }
                Err(failure @ ReadError::Disk { .. }) => {
                    self.failed(position, &failure);
                    Err(())
                }
            }
        })
    }

    /// Tells of it, but not each time that it is tried again.
    fn failed(&self, position: Position, failure: &ReadError) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        if failures.is_multiple_of(FAILURES_TOLD) {
            warn!(
                %position,
                error = %failure,
                failures = failures + 1,
                "messages owed to sessions cannot be read; they are kept and tried again"
            );
        }
    }

    /// Messages at `positions`, in their order, or at those of its front that fit into
    /// [`limits::READ_ANSWER_BYTES_MAX`]. Batches are read in the order of the log and each is walked once; a
    /// position whose record is not there is `None`.
    fn messages<E>(
        &self,
        positions: &[Position],
        mut read: impl FnMut(Position, usize) -> Result<Vec<Bytes>, E>,
    ) -> Option<Vec<Option<OwnedMessage>>> {
        let mut order: Vec<(Position, usize)> = positions.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let mut found = Found {
            messages: vec![None; positions.len()],
            bytes: 0,
        };
        let mut next = 0;
        while next < order.len() && !found.is_full() {
            let (first, _) = order[next];
            let same = order[next..]
                .iter()
                .take_while(|(at, _)| at.partition == first.partition)
                .count();
            let wanted = &order[next..next + same];
            let batches = read(first, bytes_for(wanted)).ok()?;
            let reached = self.decode(&batches, wanted, &mut found);
            // Without progress the first position itself is not there.
            next += wanted
                .iter()
                .take_while(|(at, _)| at.offset < reached)
                .count()
                .max(1);
        }
        if next < order.len() {
            // What was not come to is not answered, nor what is behind the first such one.
            let front = order[next..].iter().map(|&(_, at)| at).min();
            found.messages.truncate(front.unwrap_or(0));
            if found.messages.len() < positions.len().div_ceil(4) {
                // What filled the answer lies behind positions of another partition.
                return self.messages(&positions[..positions.len().div_ceil(4)], read);
            }
        }
        Some(found.messages)
    }

    /// Decodes those records of `batches` that are `wanted` (sorted, of one partition); answers
    /// the offset behind the last batch, or the first offset that the answer has no room for.
    fn decode(&self, batches: &[Bytes], wanted: &[(Position, usize)], found: &mut Found) -> u64 {
        let mut reached = 0;
        let Some(kind) = wanted
            .first()
            .and_then(|(first, _)| self.kind(first.partition))
        else {
            return u64::MAX;
        };
        let mut wanted = wanted.iter().copied().peekable();
        for batch in batches
            .iter()
            .flat_map(|bytes| commitlog::batch::batches(bytes))
        {
            let Ok(batch) = batch else { break };
            reached = decode_batch(kind, &batch, &mut wanted, found);
            if wanted.peek().is_none() || found.is_full() {
                break;
            }
        }
        reached
    }
}

/// Bytes to ask for, so that one read brings the positions that lie together (sorted, of one
/// partition) and little that nobody wants.
fn bytes_for(wanted: &[(Position, usize)]) -> usize {
    let together = wanted
        .iter()
        .zip(wanted.iter().skip(1))
        .take_while(|((at, _), (next, _))| next.offset - at.offset <= GAP_MAX)
        .count();
    let records = wanted[together].0.offset - wanted[0].0.offset + 1;
    usize::try_from(records)
        .unwrap_or(usize::MAX)
        .saturating_mul(READ_BYTES_PER_RECORD)
        .min(READ_BYTES_MAX)
}

/// The messages of one answer, by the place of their positions.
struct Found {
    messages: Vec<Option<OwnedMessage>>,
    bytes: usize,
}

impl Found {
    fn add(&mut self, at: usize, message: OwnedMessage) {
        self.bytes += message.size_bytes();
        self.messages[at] = Some(message);
    }

    fn is_full(&self) -> bool {
        self.bytes >= limits::READ_ANSWER_BYTES_MAX
    }
}

/// Decodes the wanted records of one batch; answers the offset behind it, or the first offset that
/// the answer has no room for.
fn decode_batch(
    kind: broker::StreamKind,
    batch: &BatchView<'_>,
    wanted: &mut std::iter::Peekable<impl Iterator<Item = (Position, usize)>>,
    found: &mut Found,
) -> u64 {
    for record in batch.records() {
        let Ok(record) = record else { break };
        let offset = record.offset;
        if found.is_full() {
            return offset;
        }
        while wanted.next_if(|(at, _)| at.offset < offset).is_some() {}
        while let Some((position, at)) = wanted.next_if(|(at, _)| at.offset == offset) {
            match decode_record(kind, &record) {
                Ok(message) => {
                    found.add(at, message);
                }
                Err(failure) => {
                    warn!(%position, error = %failure, "a record is no message");
                }
            }
        }
    }
    batch.last_offset() + 1
}
