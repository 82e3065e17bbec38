//! The records of the table of transactions. Numbers are big endian, texts and lists begin with
//! their count.
//!
//! ```text
//! key    format (1)  kind: 0 producer ids, 1 transaction, followed by the transactional id;
//!                    2 change of an open transaction, followed by its number: u32 and the id
//! value  format (1)  reserved_to: i64
//! value  format (2)  producer id: i64  epoch: i16  last epoch: i16  timeout ms: i32  state: u8
//!                    since ms: u64  used ms: u64  content  round: u32 (not in format 1)
//! value  format (1)  producer id: i64  epoch: i16  since ms: u64  round: u32  content
//! content            partitions: u32 each
//!                    groups: name, offsets: topic, partition: i32, committed offset
//! ```
//!
//! A change adds to the record of its transaction with the same producer, time and round.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Identity;
use super::machine::{Stage, Transaction};
use super::open::{Content, Open};
use crate::offsets::CommittedOffset;

/// Format of keys and values; one that is not known is refused, not guessed at.
const FORMAT: u8 = 1;

/// Format of the value of a transaction.
const TRANSACTION_FORMAT: u8 = 2;

const PRODUCER_IDS: u8 = 0;
const TRANSACTION: u8 = 1;
const CHANGE: u8 = 2;

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
    Change { number: u32, id: &'a str },
}

/// What was added to an open transaction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub identity: Identity,
    pub since_ms: u64,
    pub round: u32,
    pub content: Content,
}

impl<'a> Key<'a> {
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::ProducerIds => vec![FORMAT, PRODUCER_IDS],
            Self::Transaction(id) => [&[FORMAT, TRANSACTION], id.as_bytes()].concat(),
            Self::Change { number, id } => {
                let number = number.to_be_bytes();
                [&[FORMAT, CHANGE], number.as_slice(), id.as_bytes()].concat()
            }
        }
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Self, MalformedTransaction> {
        match bytes {
            [FORMAT, PRODUCER_IDS] => Ok(Self::ProducerIds),
            [FORMAT, TRANSACTION, id @ ..] => text(id).map(Self::Transaction),
            [FORMAT, CHANGE, a, b, c, d, id @ ..] => Ok(Self::Change {
                number: u32::from_be_bytes([*a, *b, *c, *d]),
                id: text(id)?,
            }),
            _ => Err(MalformedTransaction("a key is of an unknown kind")),
        }
    }
}

/// The value of the record of producer ids.
pub(super) fn encode_reserved(reserved_to: i64) -> Vec<u8> {
    [&[FORMAT], reserved_to.to_be_bytes().as_slice()].concat()
}

pub(super) fn decode_reserved(bytes: &[u8]) -> Result<i64, MalformedTransaction> {
    let mut fields = Fields::new(bytes, FORMAT)?;
    let reserved_to = i64::from_be_bytes(fields.array()?);
    fields.end()?;
    Ok(reserved_to)
}

/// The value of the record of a transactional id.
pub(super) fn encode(transaction: &Transaction) -> Vec<u8> {
    let mut bytes = vec![TRANSACTION_FORMAT];
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
    put_content(&mut bytes, &open.content);
    bytes.extend_from_slice(&open.round.to_be_bytes());
    bytes
}

/// The value of the record of a change.
pub(super) fn encode_change(change: &Change) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&change.identity.producer_id.to_be_bytes());
    bytes.extend_from_slice(&change.identity.epoch.to_be_bytes());
    bytes.extend_from_slice(&change.since_ms.to_be_bytes());
    bytes.extend_from_slice(&change.round.to_be_bytes());
    put_content(&mut bytes, &change.content);
    bytes
}

fn put_content(bytes: &mut Vec<u8>, content: &Content) {
    put_count(bytes, content.partitions.len());
    for partition in &content.partitions {
        bytes.extend_from_slice(&partition.to_be_bytes());
    }
    put_count(bytes, content.groups.len());
    for (group, offsets) in &content.groups {
        put(bytes, group.as_bytes());
        put_count(bytes, offsets.len());
        for ((topic, partition), committed) in offsets {
            put(bytes, topic.as_bytes());
            bytes.extend_from_slice(&partition.to_be_bytes());
            put(bytes, &committed.encode());
        }
    }
}

pub(super) fn decode_change(bytes: &[u8]) -> Result<Change, MalformedTransaction> {
    let mut fields = Fields::new(bytes, FORMAT)?;
    let change = Change {
        identity: Identity {
            producer_id: i64::from_be_bytes(fields.array()?),
            epoch: i16::from_be_bytes(fields.array()?),
        },
        since_ms: u64::from_be_bytes(fields.array()?),
        round: u32::from_be_bytes(fields.array()?),
        content: fields.content()?,
    };
    fields.end()?;
    Ok(change)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Transaction, MalformedTransaction> {
    // Data directories of the first format open too.
    let known = bytes.first().is_some_and(|format| *format == FORMAT);
    let format = if known { FORMAT } else { TRANSACTION_FORMAT };
    let mut fields = Fields::new(bytes, format)?;
    let identity = Identity {
        producer_id: i64::from_be_bytes(fields.array()?),
        epoch: i16::from_be_bytes(fields.array()?),
    };
    let last_epoch = i16::from_be_bytes(fields.array()?);
    let timeout_ms = i32::from_be_bytes(fields.array()?);
    let [stage] = fields.array()?;
    let since_ms = u64::from_be_bytes(fields.array()?);
    let used_ms = u64::from_be_bytes(fields.array()?);
    let content = fields.content()?;
    let round = if format == FORMAT {
        0
    } else {
        u32::from_be_bytes(fields.array()?)
    };
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
                content,
                recorded: true,
                round,
                changes: 0,
                slots: 0,
                expired: false,
            }),
            2 => Stage::Ended { commit: true },
            3 => Stage::Ended { commit: false },
            _ => return Err(MalformedTransaction("a transaction is in an unknown state")),
        },
        before: None,
    })
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend_from_slice(&(count as u32).to_be_bytes());
}

fn put(bytes: &mut Vec<u8>, value: &[u8]) {
    put_count(bytes, value.len());
    bytes.extend_from_slice(value);
}

fn text(bytes: &[u8]) -> Result<&str, MalformedTransaction> {
    std::str::from_utf8(bytes).map_err(|_| MalformedTransaction("a text is not UTF-8"))
}

/// Reads values from the front of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    const SHORT: MalformedTransaction = MalformedTransaction("a record ends too early");

    fn new(bytes: &'a [u8], format: u8) -> Result<Self, MalformedTransaction> {
        match bytes.split_first() {
            Some((known, rest)) if *known == format => Ok(Self(rest)),
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
        text(self.sized()?)
    }

    fn content(&mut self) -> Result<Content, MalformedTransaction> {
        let mut content = Content::default();
        for _ in 0..self.count()? {
            content.partitions.insert(u32::from_be_bytes(self.array()?));
        }
        for _ in 0..self.count()? {
            let group: Arc<str> = self.text()?.into();
            let mut offsets = BTreeMap::new();
            for _ in 0..self.count()? {
                let topic: Arc<str> = self.text()?.into();
                let partition = i32::from_be_bytes(self.array()?);
                let committed = CommittedOffset::decode(self.sized()?)
                    .map_err(|error| MalformedTransaction(error.0))?;
                offsets.insert((topic, partition), committed);
            }
            content.groups.insert(group, offsets);
        }
        // What it takes is counted as it is added.
        let mut counted = Content::default();
        counted.add(content);
        Ok(counted)
    }

    fn end(&self) -> Result<(), MalformedTransaction> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(MalformedTransaction("a record goes on behind its end"))
        }
    }
}
