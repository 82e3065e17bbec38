//! The records of the table of transactions. Numbers are big endian, texts and lists begin with
//! their count.
//!
//! ```text
//! key    format (1)  kind: 0 producer ids, 1 transaction, followed by the transactional id
//! value  format (1)  reserved_to: i64
//! value  format (1)  producer id: i64  epoch: i16  last epoch: i16  timeout ms: i32  state: u8
//!                    since ms: u64  used ms: u64  partitions: u32 each
//!                    groups: name, offsets: topic, partition: i32, committed offset
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Identity;
use super::machine::{Open, Stage, Transaction};
use crate::offsets::CommittedOffset;

/// Format of keys and values; one that is not known is refused, not guessed at.
const FORMAT: u8 = 1;

const PRODUCER_IDS: u8 = 0;
const TRANSACTION: u8 = 1;

/// Bytes that are no record of the table of transactions; says what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedTransaction(pub &'static str);

impl std::fmt::Display for MalformedTransaction {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for MalformedTransaction {}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    ProducerIds,
    Transaction(&'a str),
}

impl<'a> Key<'a> {
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::ProducerIds => vec![FORMAT, PRODUCER_IDS],
            Self::Transaction(id) => [&[FORMAT, TRANSACTION], id.as_bytes()].concat(),
        }
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Self, MalformedTransaction> {
        match bytes {
            [FORMAT, PRODUCER_IDS] => Ok(Self::ProducerIds),
            [FORMAT, TRANSACTION, id @ ..] => std::str::from_utf8(id)
                .map(Self::Transaction)
                .map_err(|_| MalformedTransaction("a transactional id is not UTF-8")),
            _ => Err(MalformedTransaction("a key is of an unknown kind")),
        }
    }
}

/// The value of the record of producer ids.
pub(super) fn encode_reserved(reserved_to: i64) -> Vec<u8> {
    [&[FORMAT], reserved_to.to_be_bytes().as_slice()].concat()
}

pub(super) fn decode_reserved(bytes: &[u8]) -> Result<i64, MalformedTransaction> {
    let mut fields = Fields::new(bytes)?;
    let reserved_to = i64::from_be_bytes(fields.array()?);
    fields.end()?;
    Ok(reserved_to)
}

/// The value of the record of a transactional id.
pub(super) fn encode(transaction: &Transaction) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    let (stage, open) = match &transaction.stage {
        Stage::Empty => (0, None),
        // An end on its way is not recorded: it is there with its markers or not at all.
        Stage::Open(open) | Stage::Ending { open, .. } => (1, Some(open)),
        Stage::Ended { commit: true } => (2, None),
        Stage::Ended { commit: false } => (3, None),
    };
    bytes.extend_from_slice(&transaction.identity.producer_id.to_be_bytes());
    bytes.extend_from_slice(&transaction.identity.epoch.to_be_bytes());
    bytes.extend_from_slice(&transaction.last_epoch.to_be_bytes());
    bytes.extend_from_slice(&transaction.timeout_ms.to_be_bytes());
    bytes.push(stage);
    let since_ms = open.map_or(0, |open| open.since_ms);
    bytes.extend_from_slice(&since_ms.to_be_bytes());
    bytes.extend_from_slice(&transaction.used_ms.to_be_bytes());
    let empty = Open::default();
    let open = open.unwrap_or(&empty);
    put_count(&mut bytes, open.partitions.len());
    for partition in &open.partitions {
        bytes.extend_from_slice(&partition.to_be_bytes());
    }
    put_count(&mut bytes, open.groups.len());
    for (group, offsets) in &open.groups {
        put(&mut bytes, group.as_bytes());
        put_count(&mut bytes, offsets.len());
        for ((topic, partition), committed) in offsets {
            put(&mut bytes, topic.as_bytes());
            bytes.extend_from_slice(&partition.to_be_bytes());
            put(&mut bytes, &committed.encode());
        }
    }
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Result<Transaction, MalformedTransaction> {
    let mut fields = Fields::new(bytes)?;
    let identity = Identity {
        producer_id: i64::from_be_bytes(fields.array()?),
        epoch: i16::from_be_bytes(fields.array()?),
    };
    let last_epoch = i16::from_be_bytes(fields.array()?);
    let timeout_ms = i32::from_be_bytes(fields.array()?);
    let [stage] = fields.array()?;
    let since_ms = u64::from_be_bytes(fields.array()?);
    let used_ms = u64::from_be_bytes(fields.array()?);
    let mut partitions = BTreeSet::new();
    for _ in 0..fields.count()? {
        partitions.insert(u32::from_be_bytes(fields.array()?));
    }
    let mut groups = BTreeMap::new();
    for _ in 0..fields.count()? {
        let group: Arc<str> = fields.text()?.into();
        let mut offsets = BTreeMap::new();
        for _ in 0..fields.count()? {
            let topic: Arc<str> = fields.text()?.into();
            let partition = i32::from_be_bytes(fields.array()?);
            let committed = CommittedOffset::decode(fields.sized()?)
                .map_err(|error| MalformedTransaction(error.0))?;
            offsets.insert((topic, partition), committed);
        }
        groups.insert(group, offsets);
    }
    fields.end()?;
    Ok(Transaction {
        identity,
        last_epoch,
        timeout_ms,
        used_ms,
        alarm_ms: None,
        stage: match stage {
            0 => Stage::Empty,
            1 => Stage::Open(Open {
                since_ms,
                partitions,
                groups,
                recorded: true,
            }),
            2 => Stage::Ended { commit: true },
            3 => Stage::Ended { commit: false },
            _ => return Err(MalformedTransaction("a transaction is in an unknown state")),
        },
    })
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend_from_slice(&(count as u32).to_be_bytes());
}

fn put(bytes: &mut Vec<u8>, value: &[u8]) {
    put_count(bytes, value.len());
    bytes.extend_from_slice(value);
}

/// Reads values from the front of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    const SHORT: MalformedTransaction = MalformedTransaction("a record ends too early");

    fn new(bytes: &'a [u8]) -> Result<Self, MalformedTransaction> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => Ok(Self(rest)),
            _ => Err(MalformedTransaction("a record has an unknown format")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedTransaction> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Self::SHORT)?;
        self.0 = rest;
        Ok(*array)
    }

    fn count(&mut self) -> Result<u32, MalformedTransaction> {
        self.array().map(u32::from_be_bytes)
    }

    fn sized(&mut self) -> Result<&'a [u8], MalformedTransaction> {
        let size = self.count()? as usize;
        let (value, rest) = self.0.split_at_checked(size).ok_or(Self::SHORT)?;
        self.0 = rest;
        Ok(value)
    }

    fn text(&mut self) -> Result<&'a str, MalformedTransaction> {
        std::str::from_utf8(self.sized()?).map_err(|_| MalformedTransaction("a text is not UTF-8"))
    }

    fn end(&self) -> Result<(), MalformedTransaction> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(MalformedTransaction("a record goes on behind its end"))
        }
    }
}
