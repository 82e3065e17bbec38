//! What must be true of transactions: whole or not at all, as they were told, and nothing of who was
//! fenced. It looks at the log and at answers, and knows nothing of the machine.

use std::collections::{BTreeMap, BTreeSet};

use kafka::txn::Identity;

use super::producer::Call;

/// What a producer was told.
#[derive(Debug)]
pub(super) enum Told {
    Identity {
        name: String,
        identity: Identity,
        expected: Option<Identity>,
    },
    Done {
        name: String,
        me: Identity,
        call: Call,
    },
    Nothing,
}

/// A transaction, as far as it is known from outside.
#[derive(Debug, Default)]
struct Known {
    /// Records in the log.
    records: u32,
    /// How it ended in the log.
    ended: Option<bool>,
    /// Records of which their producer was told that they are in the log.
    told_records: u32,
    /// Offsets of which it was told that they will be committed.
    told_offsets: BTreeSet<i32>,
    /// Offsets that were committed.
    offsets: BTreeSet<i32>,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    known: BTreeMap<u64, Known>,
    /// By id: who was told last who it is.
    latest: BTreeMap<String, Identity>,
    /// Everybody who was ever told.
    given: BTreeSet<(i64, i16)>,
    /// Commits that were told.
    pub told_committed: u32,
    transcript: u64,
}

impl Oracle {
    fn note(&mut self, what: u64) {
        self.transcript = (self.transcript ^ what).wrapping_mul(0x0100_0000_01b3);
    }

    pub fn transcript(&self) -> u64 {
        self.transcript
    }

    /// Transactions that were committed, and those that were aborted.
    pub fn ends(&self) -> (u32, u32) {
        let count = |commit| {
            let ended = self.known.values().filter(|it| it.ended == Some(commit));
            ended.count() as u32
        };
        (count(true), count(false))
    }

    /// A request of a producer was not refused.
    pub fn admitted(&mut self, name: &str, me: Identity) -> Result<(), String> {
        match self.latest.get(name) {
            Some(latest) if *latest != me => Err(format!("{me:?} is not fenced by {latest:?}")),
            _ => Ok(()),
        }
    }

    /// A record is in the log.
    pub fn appended(&mut self, transaction: u64, partition: u32) -> Result<(), String> {
        self.note(transaction ^ u64::from(partition) << 48);
        let known = self.known.entry(transaction).or_default();
        known.records += 1;
        match known.ended {
            None => Ok(()),
            Some(how) => Err(format!("a record behind the end ({how}) of {transaction}")),
        }
    }

    /// A record is behind a marker of its producer.
    pub fn decided(&mut self, transaction: u64, commit: bool) -> Result<(), String> {
        self.note(transaction << 1 | u64::from(commit));
        let known = self.known.entry(transaction).or_default();
        if *known.ended.get_or_insert(commit) == commit {
            Ok(())
        } else {
            Err(format!("{transaction} is committed in part"))
        }
    }

    /// An offset was committed with a transaction.
    pub fn offset_committed(&mut self, transaction: u64, partition: i32) -> Result<(), String> {
        self.known
            .entry(transaction)
            .or_default()
            .offsets
            .insert(partition);
        self.decided(transaction, true)
    }

    /// A start has found open what no transaction knows: at most data of who was told of nothing.
    pub fn nobody_knows(&mut self) {
        self.note(7);
    }

    /// A producer got an answer.
    pub fn told(&mut self, told: Told) -> Result<(), String> {
        match told {
            Told::Nothing => Ok(()),
            Told::Identity {
                name,
                identity,
                expected,
            } => self.told_identity(name, identity, expected),
            Told::Done { name, me, call } => self.told_done(&name, me, call),
        }
    }

    fn told_identity(
        &mut self,
        name: String,
        identity: Identity,
        expected: Option<Identity>,
    ) -> Result<(), String> {
        let given = (identity.producer_id, identity.epoch);
        self.note(given.0 as u64 ^ (given.1 as u64) << 32);
        if !self.given.insert(given) && expected.is_none() {
            return Err(format!("{identity:?} was given out twice"));
        }
        // Answers may overtake each other.
        let latest = self.latest.entry(name).or_insert(identity);
        *latest = identity.max(*latest);
        Ok(())
    }

    fn told_done(&mut self, name: &str, me: Identity, call: Call) -> Result<(), String> {
        match call {
            Call::Produce { transaction, .. } => {
                self.known.entry(transaction).or_default().told_records += 1;
            }
            Call::Offset {
                partition,
                transaction,
            } => {
                let known = self.known.entry(transaction).or_default();
                known.told_offsets.insert(partition);
            }
            Call::End {
                commit,
                transaction,
            } => {
                self.note(transaction << 2);
                self.told_committed += u32::from(commit);
                let known = self.known.entry(transaction).or_default();
                let is_empty = known.told_records == 0 && known.told_offsets.is_empty();
                // What a crash aborted before is not there any more, which is an abort too.
                let otherwise = commit || known.ended.is_some();
                if known.ended != Some(commit) && !is_empty && otherwise {
                    return Err(format!(
                        "{transaction} of {name} {me:?} was told to end ({commit}), and is {known:?}"
                    ));
                }
                if commit && !known.told_offsets.is_subset(&known.offsets) {
                    return Err(format!("offsets of {transaction} were not committed"));
                }
                if !commit && !known.offsets.is_empty() {
                    return Err(format!("offsets of {transaction} were committed"));
                }
                if commit && known.told_records > known.records {
                    return Err(format!("records of {transaction} are missing"));
                }
            }
            Call::Init { .. } | Call::Add { .. } | Call::Group => {}
        }
        Ok(())
    }

    /// Nobody does anything any more, and every timeout is over.
    pub fn at_the_end(&self, kept_offsets: usize) -> Result<(), String> {
        if kept_offsets > 0 {
            return Err(format!("{kept_offsets} groups are still kept"));
        }
        let open = self.known.iter();
        let mut open = open.filter(|(_, known)| known.records > 0 && known.ended.is_none());
        match open.next() {
            Some((transaction, _)) => Err(format!("{transaction} is open for ever")),
            None => Ok(()),
        }
    }
}
