//! From the disk to a node: streams, tables and shards as a start finds them, and what a test reads
//! of the log. Must not know the network.

use super::node::{Node, Worker};
use super::{NODE, RETAINED, SESSIONS, SHARDS_PIN, SYS, World};
use broker::{
    HookTable, Interest, Markers, Outbox, OwnedMessage, Places, Position, RetainedIndex, Shard,
    Turn, decode_record,
};
use commitlog::disk::Operation;
use commitlog::{Ack, Log, LogReader, PartitionId, RecordView, Storage, StreamSettings};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

impl World {
    /// The node's log, to be read.
    pub fn reader(&self) -> &LogReader {
        &self.running().reader
    }

    /// All messages of a stream, partition by partition.
    pub fn stream(&self, name: &str) -> Vec<OwnedMessage> {
        let node = self.running();
        let stream = node.reader.stream(name).expect("the stream was made");
        let mut messages = Vec::new();
        for partition in stream.partitions {
            let kind = node.hooks.kind(partition).expect("messages are kept there");
            records(&node.reader, partition, |record| {
                messages.push(decode_record(kind, record).expect("a message decodes"));
            });
        }
        messages
    }

    /// The values of all records of a stream, partition by partition.
    pub fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let node = self.running();
        let stream = node.reader.stream(name).expect("the stream was made");
        let mut values = Vec::new();
        for partition in stream.partitions {
            records(&node.reader, partition, |record| {
                values.extend(record.value.map(<[u8]>::to_vec));
            });
        }
        values
    }

    /// The process starts, and dies on the way where something of the disk fails, or right after: what
    /// it has done by then is what the next start finds.
    pub fn start_in_vain(&mut self, operation: Operation, place: &str, nth: u64) {
        assert!(!self.is_running(), "it runs already");
        self.disk.fail(operation, place, nth);
        let disk = Arc::new(self.disk.clone());
        drop(Log::open(disk, self.settings.log.clone(), self.now.wall_ms));
        self.disk.heal();
    }

    pub(super) fn open(&self) -> Node {
        let now_ms = self.now.wall_ms;
        let disk = Arc::new(self.disk.clone());
        let mut log = Log::open(disk, self.settings.log.clone(), now_ms)
            .expect("the log opens after a crash");
        for (number, stream) in self.streams().into_iter().enumerate() {
            let topic_id = [number as u8 + 1; 16];
            log.ensure_stream(StreamSettings { topic_id, ..stream }, now_ms)
                .expect("a stream can be made");
        }
        let reader = log.reader();
        let hooks = HookTable::compile(NODE, &self.settings.hooks, &reader.streams())
            .expect("the hooks are valid");
        let hooks = Arc::new(hooks);
        let sessions = reader.stream(SESSIONS).expect("it was made").partitions[0];
        log.keep_last_room();
        let mut retained = RetainedIndex::new(1_000_000);
        let table = hooks.retained_partition();
        scan(&reader, table, |offset, key, value| {
            let position = Position {
                partition: table,
                offset,
            };
            retained
                .restore(key, value, position, 0)
                .expect("the table is readable");
        });
        let shards = self.shards(&mut log, &reader, &hooks, Places { sessions });
        let workers = shards.into_iter().map(|shard| Worker {
            shard,
            out: Outbox::new(Turn::new(Arc::clone(&hooks))),
            mail: VecDeque::new(),
            paused: Vec::new(),
            by_conn: HashMap::new(),
            heard: 0,
            refused: 0,
        });
        let workers = workers.collect();
        Node {
            log,
            reader,
            hooks,
            retained,
            workers,
            turns: VecDeque::new(),
            delivered: Vec::new(),
        }
    }

    fn shards(
        &self,
        log: &mut Log,
        reader: &LogReader,
        hooks: &Arc<HookTable>,
        places: Places,
    ) -> Vec<Shard> {
        let broker = Arc::new(self.settings.broker.clone());
        let interest = Arc::new(Interest::new());
        let count = self.settings.workers;
        let make = |worker| {
            let (broker, hooks) = (Arc::clone(&broker), Arc::clone(hooks));
            Shard::new(broker, worker, count, hooks, Arc::clone(&interest), places)
        };
        let mut shards: Vec<Shard> = (0..count).map(make).collect();
        let mut markers = Markers::default();
        scan(reader, places.sessions, |offset, key, value| {
            markers.note(offset, key, value);
        });
        log.pin(places.sessions, SHARDS_PIN, Some(markers.table_pin()));
        scan(reader, places.sessions, |offset, key, value| {
            for shard in &mut shards {
                shard.feed(&markers, offset, key, value);
            }
        });
        for entry in log
            .replay(markers.oldest() + 1)
            .expect("the journal can be replayed")
        {
            let entry = entry.expect("the journal can be replayed");
            for shard in &mut shards {
                shard.replay(entry.lsn, &entry.batches);
            }
        }
        shards
    }

    fn streams(&self) -> Vec<StreamSettings> {
        let segment_bytes = self.settings.segment_bytes;
        let table = |name| StreamSettings {
            segment_bytes,
            ack: Ack::Append,
            compact: true,
            internal: true,
            ..StreamSettings::new(name)
        };
        let memory = |name| StreamSettings {
            ack: Ack::Memory,
            storage: Storage::Memory,
            ..StreamSettings::new(name)
        };
        let plain = |name: &str, ack| {
            let mut stream = StreamSettings {
                segment_bytes,
                ack,
                partitions: 4,
                ..StreamSettings::new(name)
            };
            (self.settings.retention)(&mut stream);
            stream
        };
        let mut streams = vec![
            plain("mqtt.default", Ack::Append),
            memory("mqtt.default.qos0"),
            table(SESSIONS),
            table(RETAINED),
            memory(SYS),
        ];
        streams.extend(
            self.settings
                .hooks
                .iter()
                .map(|hook| plain(&hook.stream, Ack::Flush)),
        );
        streams.extend(self.settings.streams.iter().cloned());
        streams
    }
}

/// Visits the records of a partition that have a key.
fn scan(
    reader: &LogReader,
    partition: PartitionId,
    mut visit: impl FnMut(u64, &[u8], Option<&[u8]>),
) {
    records(reader, partition, |record| {
        if let Some(key) = record.key {
            visit(record.offset, key, record.value);
        }
    });
}

/// Visits all records of a partition.
fn records(reader: &LogReader, partition: PartitionId, mut visit: impl FnMut(&RecordView<'_>)) {
    let Some(marks) = reader.watermarks(partition) else {
        return;
    };
    let mut offset = marks.log_start;
    while offset < marks.appended {
        let batches = reader
            .read(partition, offset, 1 << 20, u64::MAX)
            .expect("a partition can be read");
        let before = offset;
        for batch in batches
            .iter()
            .flat_map(|bytes| commitlog::batch::batches(bytes))
        {
            let batch = batch.expect("a partition holds whole batches");
            for record in batch.records() {
                visit(&record.expect("a batch holds whole records"));
            }
            offset = batch.last_offset() + 1;
        }
        if offset == before {
            return;
        }
    }
}
