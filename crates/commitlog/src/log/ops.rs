//! Creating, deleting and altering streams, and moving log starts: as asked for, and as replayed
//! from the journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::Disk;
use crate::entry::{Entry, JournalOp, Op, OpBytes, Refusal};
use crate::error::Error;
use crate::limits::MEMORY_PARTITION_BYTES_DEFAULT;
use crate::log::{Log, OwnedPartition, OwnedStream, Store};
use crate::partition::{MemoryPartition, Partition, PartitionSettings};
use crate::stream::{Lsn, PartitionId, Place, Storage, StreamSettings};

type Done = Result<Vec<PartitionId>, Refusal>;

/// Longest time that a segment stays the active one, in milliseconds.
const SEGMENT_MS_MAX: u64 = 7 * 24 * 3600 * 1000;
const SEGMENT_MS_COMPACTED: u64 = 3600 * 1000;

/// Age at which a segment is closed: retention by age drops only closed ones.
pub(crate) fn segment_ms(settings: &StreamSettings) -> Option<u64> {
    if settings.segment_ms.is_some() {
        return settings.segment_ms;
    }
    let by_age = settings
        .retention_ms
        .filter(|_| settings.delete)
        .map(|age| (age / 4).clamp(1000, SEGMENT_MS_MAX));
    let compacted = settings.compact.then_some(SEGMENT_MS_COMPACTED);
    by_age.into_iter().chain(compacted).min()
}

/// Bound of what an op takes in the journal.
pub(super) fn bytes_max(op: &Op) -> u64 {
    match op {
        Op::CreateStream(settings) | Op::AlterStream(settings) => {
            512 + settings.name.len() as u64 + 8 * u64::from(settings.partitions)
        }
        Op::DeleteStream(name) => 64 + name.len() as u64,
        Op::SetLogStart { .. } => 64,
        Op::AwaitFlush => 0,
    }
}

pub(super) fn takes_space(op: &Op) -> bool {
    matches!(op, Op::CreateStream(_) | Op::AlterStream(_))
}

impl Log {
    /// Stages and writes the creation of a stream; returns its partitions.
    pub fn create_stream(
        &mut self,
        settings: StreamSettings,
        now_ms: u64,
    ) -> Result<Vec<PartitionId>, Error> {
        self.one_op(Op::CreateStream(settings), now_ms)
    }

    /// Makes the stream be there with these settings: creates it, or alters it where they differ.
    /// The topic id of a stream that exists stays; fewer partitions than there are is no
    /// difference.
    pub fn ensure_stream(
        &mut self,
        mut settings: StreamSettings,
        now_ms: u64,
    ) -> Result<Vec<PartitionId>, Error> {
        let Some(stream) = self.streams.get(&settings.name) else {
            return self.create_stream(settings, now_ms);
        };
        settings.topic_id = stream.settings.topic_id;
        settings.partitions = settings.partitions.max(stream.settings.partitions);
        if stream.settings != settings {
            let name = settings.name.clone();
            self.one_op(Op::AlterStream(settings), now_ms)?;
            return Ok(self.streams[&name]
                .places
                .iter()
                .map(|place| place.id)
                .collect());
        }
        Ok(stream.places.iter().map(|place| place.id).collect())
    }

    /// Stages and writes the deletion of a stream. Its files go with the next checkpoint.
    pub fn delete_stream(&mut self, name: &str, now_ms: u64) -> Result<(), Error> {
        self.one_op(Op::DeleteStream(name.to_owned()), now_ms)
            .map(|_| ())
    }

    fn one_op(&mut self, op: Op, now_ms: u64) -> Result<Vec<PartitionId>, Error> {
        let staged = self.stage(
            Entry {
                ops: vec![op],
                appends: Vec::new(),
            },
            now_ms,
        )?;
        self.write()?;
        let done = staged
            .ops
            .into_iter()
            .next()
            .expect("one op has one answer");
        done.map_err(|refusal| Error::Refused { refusal })
    }

    /// Carries out an op that a caller asks for, unless it is refused; adds it to the entry.
    pub(super) fn carry_out(&mut self, op: Op, bytes: &mut OpBytes) -> Result<Done, Error> {
        let op = match self.judge(op) {
            Ok(op) => op,
            Err(refusal) => return Ok(Err(refusal)),
        };
        bytes.push(&op);
        let mut world = World {
            disk: &self.disk,
            streams: &mut self.streams,
            partitions: &mut self.partitions,
            graves: &mut self.graves,
        };
        let done = world.apply(op, self.staged_lsn + 1)?;
        self.directory_changed = true;
        Ok(Ok(done))
    }

    fn judge(&mut self, op: Op) -> Result<JournalOp, Refusal> {
        Ok(match op {
            Op::CreateStream(settings) => {
                settings.check().map_err(|_| Refusal::InvalidSettings)?;
                if self.streams.contains_key(&settings.name) {
                    return Err(Refusal::StreamExists);
                }
                let places = self.places(&settings, 0);
                JournalOp::Create { settings, places }
            }
            Op::AlterStream(settings) => {
                settings.check().map_err(|_| Refusal::InvalidSettings)?;
                let stream = self
                    .streams
                    .get(&settings.name)
                    .ok_or(Refusal::UnknownStream)?;
                let have = stream.places.len();
                if settings.storage != stream.settings.storage
                    || (settings.partitions as usize) < have
                {
                    return Err(Refusal::InvalidSettings);
                }
                let places = self.places(&settings, have);
                JournalOp::Alter { settings, places }
            }
            Op::DeleteStream(name) => {
                if !self.streams.contains_key(&name) {
                    return Err(Refusal::UnknownStream);
                }
                JournalOp::Delete { name }
            }
            Op::SetLogStart { partition, offset } => {
                let owned = self
                    .partitions
                    .get(&partition)
                    .ok_or(Refusal::UnknownPartition)?;
                if offset > owned.state.watermarks().appended {
                    return Err(Refusal::OffsetOutOfRange);
                }
                JournalOp::LogStart { partition, offset }
            }
            Op::AwaitFlush => {
                unreachable!("it was taken out of the entry");
            }
        })
    }

    /// Numbers for the partitions of a stream from index `have` on, and folders that no deleted
    /// stream of the same name still has.
    fn places(&mut self, settings: &StreamSettings, have: usize) -> Vec<Place> {
        let taken = self.folders();
        let mut places = Vec::new();
        for index in have..settings.partitions as usize {
            let mut place = Place {
                id: self.next_partition,
                suffix: 0,
            };
            if taken.contains(&place.dir(&settings.name, index)) {
                place.suffix = place.id;
            }
            self.next_partition += 1;
            places.push(place);
        }
        places
    }
}

/// What ops change; recovery has it before there is a [`Log`].
pub(crate) struct World<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) streams: &'a mut BTreeMap<String, OwnedStream>,
    pub(crate) partitions: &'a mut BTreeMap<PartitionId, OwnedPartition>,
    pub(crate) graves: &'a mut Vec<(Lsn, Partition)>,
}

impl World<'_> {
    /// Carries out an op of the entry `lsn`; returns the partitions that it made.
    pub(crate) fn apply(&mut self, op: JournalOp, lsn: Lsn) -> Result<Vec<PartitionId>, Error> {
        match op {
            JournalOp::Create { settings, places } => {
                let made = self.make(&settings, &places, 0)?;
                self.streams
                    .insert(settings.name.clone(), OwnedStream { settings, places });
                Ok(made)
            }
            JournalOp::Alter { settings, places } => self.alter(&settings, &places),
            JournalOp::Delete { name } => {
                let places = self.streams.remove(&name).map(|stream| stream.places);
                for place in places.unwrap_or_default() {
                    if let Some(OwnedPartition {
                        store: Store::Disk(partition),
                        ..
                    }) = self.partitions.remove(&place.id)
                    {
                        self.graves.push((lsn, *partition));
                    }
                }
                Ok(Vec::new())
            }
            JournalOp::LogStart { partition, offset } => {
                if let Some(owned) = self.partitions.get_mut(&partition) {
                    let offset = offset.min(owned.store.next_offset());
                    match &mut owned.store {
                        Store::Disk(partition) => partition.set_log_start(offset)?,
                        Store::Memory(partition) => partition.set_log_start(offset)?,
                    }
                    owned.state.publish_log_start(owned.store.log_start());
                }
                Ok(Vec::new())
            }
        }
    }

    fn alter(
        &mut self,
        settings: &StreamSettings,
        places: &[Place],
    ) -> Result<Vec<PartitionId>, Error> {
        let Some(stream) = self.streams.get_mut(&settings.name) else {
            return Ok(Vec::new());
        };
        let have = stream.places.len();
        stream.settings.clone_from(settings);
        for place in &stream.places {
            let partition = self
                .partitions
                .get_mut(&place.id)
                .and_then(|p| p.disk_mut());
            if let Some(partition) = partition {
                partition.update_settings(partition_settings(settings));
            }
        }
        stream.places.extend_from_slice(places);
        self.make(settings, places, have)
    }

    fn make(
        &mut self,
        settings: &StreamSettings,
        places: &[Place],
        first_index: usize,
    ) -> Result<Vec<PartitionId>, Error> {
        let mut made = Vec::with_capacity(places.len());
        for (at, place) in places.iter().enumerate() {
            let index = first_index + at;
            let store = match settings.storage {
                Storage::Disk => Store::Disk(Box::new(Partition::create(
                    Arc::clone(self.disk),
                    &place.dir(&settings.name, index),
                    partition_settings(settings),
                )?)),
                Storage::Memory => memory_store(settings),
            };
            let index = u32::try_from(index).expect("partitions are bounded");
            let owned = OwnedPartition::new(&settings.name, index, place.id, store);
            self.partitions.insert(place.id, owned);
            made.push(place.id);
        }
        Ok(made)
    }
}

pub(crate) fn partition_settings(settings: &StreamSettings) -> PartitionSettings {
    PartitionSettings {
        topic_id: settings.topic_id,
        segment_bytes: settings.segment_bytes,
        segment_ms: segment_ms(settings),
    }
}

pub(crate) fn memory_store(settings: &StreamSettings) -> Store {
    let bounds = [settings.retention_bytes, settings.size_max_bytes];
    let bytes = bounds
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(MEMORY_PARTITION_BYTES_DEFAULT);
    Store::Memory(MemoryPartition::new(bytes))
}
