//! The machine under test with the log behind it: what it decides is handed in at once, appended in
//! that order, and told to it and to whoever waits afterwards. It can be broken on purpose, to show
//! that the oracle sees it.

use std::collections::VecDeque;

use kafka::ErrorCode;
use kafka::offsets::CommittedOffset;
use kafka::txn::{Ending, Identity, Settings, Transactions, Write};

use super::TIMEOUT_MS;
use super::log::{Entry, Log};
use super::oracle::Oracle;
use super::producer::Call;

/// A way in which the coordinator does not do what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// Batches of fenced producers are taken.
    AdmitsTheFenced,
    /// Time does nothing.
    NeverTicks,
    /// Changes of a transaction are not written.
    ForgetsChanges,
    /// An end that is not in the log counts as one.
    BelievesInFailedEnds,
    /// A new epoch that is not in the log is given out.
    BelievesInFailedEpochs,
    /// Records of ended transactions are not deleted.
    KeepsTheNeedless,
}

/// Who waits for an entry.
type Waiting = Option<(usize, u64)>;

/// What became of an entry.
#[derive(Debug)]
pub(super) struct Outcome {
    entry: Entry,
    waiting: Waiting,
    taken: Result<(), ErrorCode>,
}

#[derive(Debug)]
pub(super) struct Coordinator {
    machine: Transactions,
    log: Log,
    handed_in: VecDeque<(Entry, Waiting)>,
    /// How many of these have no place in time yet.
    new: usize,
    /// What was asked last needs no entry.
    nothing: bool,
    waits: Waiting,
    full: bool,
    breakage: Option<Breakage>,
}

impl Coordinator {
    pub fn new(breakage: Option<Breakage>) -> Self {
        Self {
            machine: Transactions::default(),
            log: Log::default(),
            handed_in: VecDeque::new(),
            new: 0,
            nothing: false,
            waits: None,
            full: false,
            breakage,
        }
    }

    pub fn is_full(&self) -> bool {
        self.full
    }

    /// From now on the disk is full, or is not.
    pub fn fill(&mut self, full: bool) {
        self.full = full;
    }

    pub fn kept_offsets(&self) -> usize {
        self.machine.kept_offsets().count()
    }

    /// Nothing is open: of each transaction there is one record.
    pub fn at_the_end(&self) -> Result<(), String> {
        let kept = self.log.table.len();
        let most = self.machine.all().count() + 1;
        if kept <= most {
            Ok(())
        } else {
            Err(format!("{kept} records are kept, and {most} are needed"))
        }
    }

    /// Starts, from what is in the log; what was on its way is gone.
    pub fn start(&mut self, oracle: &mut Oracle) {
        self.handed_in.clear();
        self.new = 0;
        self.waits = None;
        self.machine = Transactions::new(Settings {
            expiry_ms: 120_000,
            ..Settings::default()
        });
        for (key, value) in &self.log.table {
            self.machine
                .load(key, value)
                .expect("the machine has written it");
        }
        self.machine.loaded();
        for (identity, partition) in self.log.open() {
            if let Some(end) = self.machine.found_open(identity, partition) {
                oracle.nobody_knows();
                self.submit(Write {
                    end: Some(end),
                    ..Write::default()
                });
            }
        }
        self.reserve();
    }

    fn reserve(&mut self) {
        if let Some(write) = self.machine.reservation() {
            // Producer ids are not what is tested here.
            let value = write.value.expect("a reservation has a value");
            self.log.table.insert(write.key, value);
            self.machine.ids().reserved();
        }
    }

    fn submit(&mut self, write: Write) {
        self.handed_in.push_back((Entry::Decision(write), None));
        self.new += 1;
    }

    /// How many entries were handed in since it was asked last.
    pub fn handed_in(&mut self) -> usize {
        std::mem::take(&mut self.new)
    }

    /// The one who asked last waits for its entry.
    pub fn await_answer(&mut self, number: usize, call: u64) {
        if self.nothing {
            self.waits = Some((number, call));
        } else if let Some((_, waiting)) = self.handed_in.back_mut() {
            *waiting = Some((number, call));
        }
    }

    /// Whoever is answered at once.
    pub fn nothing_to_wait_for(&mut self) -> Option<(usize, u64, Result<(), ErrorCode>)> {
        let (number, call) = self.waits.take()?;
        Some((number, call, Ok(())))
    }

    pub fn init(
        &mut self,
        name: &str,
        expected: Option<Identity>,
        now_ms: u64,
    ) -> Result<Identity, ErrorCode> {
        self.reserve();
        self.nothing = false;
        let (identity, write) = self.machine.init(name, TIMEOUT_MS, expected, now_ms)?;
        self.submit(write);
        Ok(identity)
    }

    pub fn ask(
        &mut self,
        name: &str,
        me: Identity,
        call: &Call,
        now_ms: u64,
    ) -> Result<(), ErrorCode> {
        let write = match *call {
            Call::Init { .. } => unreachable!("the world asks for that itself"),
            Call::Add { partition } => {
                self.machine
                    .add_partitions(name, me, &[partition], now_ms)?
            }
            Call::Group => self.machine.add_group(name, me, "g", now_ms)?,
            Call::Offset {
                partition,
                transaction,
            } => {
                let committed = CommittedOffset {
                    offset: transaction as i64,
                    ..CommittedOffset::default()
                };
                let offsets = vec![(("t".into(), partition), committed)];
                Some(self.machine.add_offsets(name, me, "g", offsets, now_ms)?)
            }
            Call::End { commit, .. } => match self.machine.end(name, me, commit, now_ms)? {
                Ending::Write(write) => Some(write),
                Ending::Already => None,
            },
            Call::Produce {
                partition,
                record,
                transaction,
            } => {
                let admitted = self.machine.admits(Some(name), me, partition);
                if self.breakage != Some(Breakage::AdmitsTheFenced) {
                    admitted?;
                }
                let batch = Entry::Batch {
                    partition,
                    identity: me,
                    record,
                    transaction,
                };
                self.handed_in.push_back((batch, None));
                self.new += 1;
                self.nothing = false;
                return Ok(());
            }
        };
        self.nothing = write.is_none();
        if let Some(write) = write {
            self.submit(write);
        }
        Ok(())
    }

    /// Appends the oldest entry, or not.
    pub fn append(&mut self, oracle: &mut Oracle) -> Result<Option<Outcome>, String> {
        let Some((mut entry, waiting)) = self.handed_in.pop_front() else {
            return Ok(None);
        };
        if let Entry::Decision(write) = &mut entry {
            match self.breakage {
                Some(Breakage::KeepsTheNeedless) => write.needless.clear(),
                Some(Breakage::ForgetsChanges) if write.end.is_none() && !write.takes_over => {
                    write.value = None;
                    write.key = vec![9];
                }
                _ => {}
            }
        }
        let taken = if self.full {
            Err(ErrorCode::CoordinatorNotAvailable)
        } else if self.log.append(&entry, oracle)? {
            Ok(())
        } else {
            Err(ErrorCode::InvalidProducerEpoch)
        };
        Ok(Some(Outcome {
            entry,
            waiting,
            taken,
        }))
    }

    /// Tells the machine what became of an entry; who is told what.
    pub fn settle(
        &mut self,
        outcome: &Outcome,
        now_ms: u64,
    ) -> Option<(usize, u64, Result<(), ErrorCode>)> {
        let mut taken = outcome.taken;
        if let Entry::Decision(write) = &outcome.entry {
            let believes = if write.end.is_some() {
                Breakage::BelievesInFailedEnds
            } else {
                Breakage::BelievesInFailedEpochs
            };
            if self.breakage == Some(believes) {
                taken = Ok(());
            }
            if write.end.is_some() {
                self.machine.ended(&write.id, taken.is_ok(), now_ms);
            } else if taken.is_err() {
                self.machine.not_recorded(&write.id, write.takes_over);
            } else if write.takes_over {
                self.machine.taken_over(&write.id);
            }
        }
        let (number, call) = outcome.waiting?;
        Some((number, call, taken))
    }

    /// Does what is due.
    pub fn tick(&mut self, now_ms: u64) {
        if self.breakage == Some(Breakage::NeverTicks) {
            return;
        }
        while let Some(write) = self.machine.due(now_ms) {
            self.submit(write);
        }
    }
}
