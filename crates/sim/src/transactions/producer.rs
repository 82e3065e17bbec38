//! A producer as a client library keeps it: a step at a time, each repeated until it is answered.

use kafka::ErrorCode;
use kafka::txn::Identity;

use super::PARTITIONS;
use super::oracle::Told;
use crate::random::Random;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Init {
        expected: Option<Identity>,
    },
    Add {
        partition: u32,
    },
    /// A record with the number of its transaction.
    Produce {
        partition: u32,
        record: u64,
        transaction: u64,
    },
    Group,
    Offset {
        partition: i32,
        transaction: u64,
    },
    End {
        commit: bool,
        transaction: u64,
    },
}

/// A producer.
#[derive(Debug)]
pub(super) struct Producer {
    number: usize,
    name: String,
    identity: Option<Identity>,
    /// What an initialisation that is not answered yet would make it, by request.
    promised: Option<(u64, Identity)>,
    /// Steps of the transaction, the next last.
    script: Vec<Call>,
    /// The request that is not answered.
    waiting: Option<(u64, Call)>,
    /// When it is asked again.
    again_ms: u64,
    away_until_ms: u64,
    /// It died: it comes back knowing nothing.
    forgotten: bool,
    calls: u64,
    transactions: u64,
    calm: bool,
}

impl Producer {
    pub fn new(number: usize) -> Self {
        Self {
            number,
            name: format!("id-{}", number / 2),
            identity: None,
            promised: None,
            script: Vec::new(),
            waiting: None,
            again_ms: 0,
            away_until_ms: 0,
            forgotten: false,
            calls: 0,
            transactions: 0,
            calm: false,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Comes back later, as a new process.
    pub fn die(&mut self, until_ms: u64) {
        self.stall(until_ms);
        self.forgotten = true;
    }

    /// Does nothing for a while.
    pub fn stall(&mut self, until_ms: u64) {
        self.away_until_ms = until_ms;
    }

    /// Bad times are over; of two with one id only the first goes on.
    pub fn calm(&mut self, now_ms: u64) {
        self.calm = true;
        if self.number.is_multiple_of(2) {
            self.away_until_ms = now_ms;
        } else {
            self.die(u64::MAX);
        }
    }

    /// The next request, if there is one to be made now.
    pub fn act(&mut self, now_ms: u64, again_ms: u64, random: &mut Random) -> Option<(u64, Call)> {
        if now_ms < self.away_until_ms {
            return None;
        }
        if std::mem::take(&mut self.forgotten) {
            self.identity = None;
            self.script.clear();
            self.waiting = None;
        }
        if self.waiting.is_some() && now_ms < self.again_ms {
            return None;
        }
        self.again_ms = now_ms + again_ms;
        let call = match (&self.waiting, self.identity) {
            // The answer got lost.
            (Some((_, call)), _) => *call,
            (None, None) => Call::Init { expected: None },
            (None, Some(_)) => {
                if self.script.is_empty() {
                    self.begin(random);
                }
                *self.script.last().expect("a script has a step")
            }
        };
        self.calls += 1;
        self.waiting = Some((self.calls, call));
        Some((self.calls, call))
    }

    /// Writes the script of a transaction.
    fn begin(&mut self, random: &mut Random) {
        self.transactions += 1;
        let transaction = self.number as u64 * 1_000_000 + self.transactions;
        let commit = self.calm || !random.once_in(4);
        let mut steps = Vec::new();
        let mut record = transaction * 100;
        for partition in 0..PARTITIONS {
            if random.once_in(2) {
                steps.push(Call::Add { partition });
                for _ in 0..random.below(4) {
                    record += 1;
                    steps.push(Call::Produce {
                        partition,
                        record,
                        transaction,
                    });
                }
            }
        }
        if random.once_in(2) || steps.is_empty() {
            steps.push(Call::Group);
            for partition in 0..=random.below(80) as i32 {
                steps.push(Call::Offset {
                    partition,
                    transaction,
                });
            }
        }
        steps.push(Call::End {
            commit,
            transaction,
        });
        steps.reverse();
        self.script = steps;
    }

    /// The coordinator says who it is once this request is answered.
    pub fn promised(&mut self, call: u64, identity: Identity) {
        self.promised = Some((call, identity));
    }

    /// An answer has come; what it tells, where it was waited for.
    pub fn answered(
        &mut self,
        call: u64,
        answer: Result<(), ErrorCode>,
        random: &mut Random,
    ) -> Option<Told> {
        let (_, asked) = self.waiting.filter(|(waiting, _)| *waiting == call)?;
        if self.forgotten {
            return None;
        }
        let name = self.name.clone();
        match answer {
            Ok(()) => {
                self.waiting = None;
                if let Call::Init { expected } = asked {
                    let (_, identity) = self.promised.filter(|(of, _)| *of == call)?;
                    self.identity = Some(identity);
                    self.script.clear();
                    return Some(Told::Identity {
                        name,
                        identity,
                        expected,
                    });
                }
                self.script.pop();
                Some(Told::Done {
                    name,
                    me: self.identity?,
                    call: asked,
                })
            }
            Err(
                ErrorCode::ConcurrentTransactions
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::CoordinatorLoadInProgress,
            ) => {
                // The same again; the answer that is told now is for nobody.
                self.again_ms = 0;
                Some(Told::Nothing)
            }
            Err(_) => {
                self.give_up(asked, random);
                Some(Told::Nothing)
            }
        }
    }

    /// What is refused for good ends the transaction, or the producer.
    fn give_up(&mut self, asked: Call, random: &mut Random) {
        self.waiting = None;
        let end = self.script.first().copied();
        self.script.clear();
        match (asked, end) {
            (Call::Produce { .. } | Call::Add { .. }, Some(Call::End { transaction, .. }))
                if random.once_in(2) =>
            {
                self.script.push(Call::End {
                    commit: false,
                    transaction,
                });
            }
            _ => {
                let expected = self.identity.take().filter(|_| random.once_in(2));
                let expected = match asked {
                    Call::Init { .. } => None,
                    _ => expected,
                };
                self.calls += 1;
                self.waiting = Some((self.calls, Call::Init { expected }));
                self.again_ms = 0;
            }
        }
    }
}
