//! Records of events taken out of a turn that the log refused, to be written again as they are.

use super::Turn;
use crate::message::{Messages, Place};
use commitlog::{BatchView, Entry, PartitionId};

/// Name and value.
type Header = (Box<[u8]>, Box<[u8]>);

/// Whose something is, by client id or name of a group: what the log refuses of one owner is written
/// again together. Two may share a number, and then stay together.
pub(crate) fn owner_of(name: &str) -> u32 {
    commitlog::murmur2(name.as_bytes()) as u32
}

/// One record of an event, with the bytes it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventRecord {
    owner: u32,
    partition: PartitionId,
    timestamp_ms: u64,
    key: Option<Box<[u8]>>,
    value: Box<[u8]>,
    headers: Vec<Header>,
}

impl EventRecord {
    /// The records of events that happened whatever becomes of the turn, in their order.
    pub(crate) fn of(entry: &Entry, messages: &Messages) -> Vec<Self> {
        let read = |&(place, owner): &(Place, u32)| Self::read(entry, place, owner);
        messages.events().iter().filter_map(read).collect()
    }

    fn read(entry: &Entry, place: Place, owner: u32) -> Option<Self> {
        let append = entry.appends.get(place.append as usize)?;
        let (batch, _) = BatchView::parse(&append.batch).ok()?;
        let record = batch.records().nth(place.delta as usize)?.ok()?;
        let headers = record.headers();
        let headers = headers.map(|(name, value)| (name.into(), value.unwrap_or_default().into()));
        Some(Self {
            owner,
            partition: append.partition,
            timestamp_ms: u64::try_from(record.timestamp_ms).ok()?,
            key: record.key.map(Into::into),
            value: record.value?.into(),
            headers: headers.collect(),
        })
    }

    /// Whose event it is.
    pub(crate) fn owner(&self) -> u32 {
        self.owner
    }

    /// Bytes of memory, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| 32 + name.len() + value.len())
            .sum();
        let key = self.key.as_ref().map_or(0, |key| key.len());
        size_of::<Self>() + key + self.value.len() + headers
    }
}

impl Turn {
    /// Writes a record of an event again.
    pub(crate) fn again(&mut self, record: &EventRecord) {
        let headers: Vec<(&[u8], &[u8])> = record
            .headers
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let place = self.appends.push(
            record.partition,
            record.timestamp_ms,
            record.key.as_deref(),
            Some(&record.value),
            &headers,
        );
        self.messages.happened(place, record.owner);
    }
}
