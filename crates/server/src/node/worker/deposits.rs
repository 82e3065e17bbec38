//! Messages published without an MQTT connection, until the log has them at their level.

use std::collections::VecDeque;

use broker::{Input, Refusal};
use commitlog::{Ack, Lsn};
use mqtt::ReasonCode;
use tokio::sync::oneshot;

use super::Worker;
use crate::node::deposit::{Deposit, DepositError, Deposited};

/// Where the answer goes.
type Answer = oneshot::Sender<Result<Deposited, DepositError>>;

/// Offsets of the batches of a turn.
type Ends = Vec<(commitlog::PartitionId, std::ops::Range<u64>)>;

/// Messages that wait for the log, in the order of their turns.
#[derive(Default)]
pub(super) struct Deposits {
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    turn: u64,
    level: Ack,
    /// Entry of the journal, once its turn is in the log.
    lsn: Option<Lsn>,
    deposited: Deposited,
    answer: Answer,
}

impl Worker {
    /// Publishes a message.
    pub(super) fn deposit(&mut self, message: &Deposit, answer: Answer) {
        message.with_facts(|facts| self.input(Input::Deposit(facts)));
        let taken = self.parts.out.deposits.pop();
        match taken.unwrap_or(Err(ReasonCode::UnspecifiedError)) {
            Ok(taken) => self.deposits.waiting.push_back(Waiting {
                turn: taken.turn,
                level: taken.level,
                lsn: None,
                deposited: Deposited {
                    subscribers: taken.wanted,
                    ends: Vec::new(),
                },
                answer,
            }),
            Err(reason) => {
                let error = match reason {
                    ReasonCode::QuotaExceeded => DepositError::Full,
                    reason => DepositError::Invalid(reason.name().to_owned()),
                };
                let _ = answer.send(Err(error));
            }
        }
        self.cut_turn_if_large();
    }

    /// Tells of a message that the rules do not allow.
    pub(super) fn deny_deposit(&mut self, message: &Deposit, answer: Answer) {
        message.with_facts(|facts| self.input(Input::DepositDenied(facts)));
        let _ = answer.send(Err(DepositError::NotAuthorized));
        self.cut_turn_if_large();
    }
}

/// What the cluster behind must have of a turn.
fn ends(commit: &broker::Commit) -> Ends {
    let taken = commit.batches.iter();
    let taken = taken.filter(|(_, base, _)| *base != broker::REFUSED);
    taken
        .map(|&(partition, base, count)| (partition, base..base + u64::from(count)))
        .collect()
}

impl Deposits {
    /// One of our turns is in the log.
    pub(super) fn committed(&mut self, commit: &broker::Commit) {
        for waiting in &mut self.waiting {
            if waiting.turn == commit.turn {
                waiting.lsn = Some(commit.lsn);
                if waiting.level == Ack::Kafka {
                    waiting.deposited.ends = ends(commit);
                }
            }
        }
        // What the page cache has, and what is kept nowhere, is done.
        self.answer(|waiting| waiting.lsn.is_some() && waiting.level < Ack::Flush);
    }

    /// What is up to there survives a power cut.
    pub(super) fn flushed(&mut self, lsn: Lsn) {
        self.answer(|waiting| waiting.lsn.is_some_and(|at| at <= lsn));
    }

    /// The log took nothing of a turn.
    pub(super) fn refused(&mut self, turn: u64, why: Refusal) {
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.turn != turn {
                self.waiting.push_back(waiting);
                continue;
            }
            let error = match why {
                Refusal::Full => DepositError::Full,
                Refusal::Latched => DepositError::Latched,
            };
            let _ = waiting.answer.send(Err(error));
        }
    }

    /// No flush comes any more. What is not in the log yet is refused by itself.
    pub(super) fn latched(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.lsn.is_none() {
                self.waiting.push_back(waiting);
            } else {
                let _ = waiting.answer.send(Err(DepositError::Latched));
            }
        }
    }

    fn answer(&mut self, is_done: impl Fn(&Waiting) -> bool) {
        if !self.waiting.iter().any(&is_done) {
            return;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            if is_done(&waiting) {
                let _ = waiting.answer.send(Ok(waiting.deposited));
            } else {
                self.waiting.push_back(waiting);
            }
        }
    }
}
