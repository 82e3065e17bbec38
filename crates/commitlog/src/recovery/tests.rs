//! The log against a model, with crashes between any two operations of the disk.

mod conditions;
mod losses;
mod producers;
mod unreadable;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::chaos::{ChaosDisk, Random};
use crate::batch::{BatchBuilder, batches};
use crate::checkpoint::Checkpoint;
use crate::entry::{Append, Entry, Op, Refusal};
use crate::error::Error;
use crate::flush::FlushTicket;
use crate::log::{Log, LogConfig};
use crate::stream::{Lsn, PartitionId, Storage, StreamSettings};
use crate::table;
use producers::Seen;

const NAMES: [&str; 6] = ["a", "b", "c", "memory", "table", "keyed"];
const KEYS: u64 = 12;

fn config() -> LogConfig {
    LogConfig {
        journal_part_bytes: 16 << 10,
        journal_bytes_max: 128 << 10,
        tail_bytes_max: 4 << 10,
        ..LogConfig::default()
    }
}

fn settings(name: &str, partitions: u32) -> StreamSettings {
    let mut settings = StreamSettings::new(name);
    settings.partitions = partitions;
    settings.segment_bytes = 4096;
    settings.compact = name == "table" || name == "keyed";
    if name == "memory" {
        settings.storage = Storage::Memory;
    }
    settings
}

/// What an entry did, as the caller was told.
#[derive(Clone, Debug)]
enum Change {
    Create(StreamSettings, Vec<PartitionId>),
    Delete(String),
    Grow(StreamSettings, Vec<PartitionId>),
    LogStart(PartitionId, u64),
    Append(PartitionId, u64, Vec<(String, String)>, Option<Seen>),
}

#[derive(Clone, Default, Debug, PartialEq, Eq)]
struct State {
    streams: BTreeMap<String, (StreamSettings, Vec<PartitionId>)>,
    partitions: BTreeMap<PartitionId, Content>,
}

#[derive(Clone, Default, Debug, PartialEq, Eq)]
struct Content {
    log_start: u64,
    /// Key and value by offset.
    records: Vec<(String, String)>,
    /// Those of producers.
    batches: Vec<Seen>,
}

/// What stands in the model for a marker; it has no key.
fn marker_text(commit: bool) -> String {
    if commit { "commit" } else { "abort" }.to_owned()
}

impl State {
    fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::Create(settings, partitions) => {
                for id in &partitions {
                    self.partitions.insert(*id, Content::default());
                }
                self.streams
                    .insert(settings.name.clone(), (settings, partitions));
            }
            Change::Delete(name) => {
                for id in self.streams.remove(&name).unwrap().1 {
                    self.partitions.remove(&id);
                }
            }
            Change::Grow(settings, partitions) => {
                for id in &partitions {
                    self.partitions.insert(*id, Content::default());
                }
                let stream = self.streams.get_mut(&settings.name).unwrap();
                stream.0 = settings;
                stream.1.extend(partitions);
            }
            Change::LogStart(id, offset) => {
                let content = self.partitions.get_mut(&id).unwrap();
                content.log_start = content.log_start.max(offset);
            }
            Change::Append(id, base_offset, records, seen) => {
                let content = self.partitions.get_mut(&id).unwrap();
                assert_eq!(content.records.len() as u64, base_offset);
                content.records.extend(records);
                content.batches.extend(seen);
            }
        }
    }

    fn is_memory(&self, id: PartitionId) -> bool {
        let mut streams = self.streams.values();
        streams.any(|(settings, ids)| settings.storage == Storage::Memory && ids.contains(&id))
    }

    fn is_of(&self, name: &str, id: PartitionId) -> bool {
        self.streams
            .get(name)
            .is_some_and(|(_, ids)| ids.contains(&id))
    }

    fn is_table(&self, id: PartitionId) -> bool {
        self.is_of("table", id)
    }
}

/// Drives a log and remembers what it promised.
struct World {
    disk: ChaosDisk,
    random: Random,
    log: Option<Log>,
    /// State at the last recovery, and the entries since: `(lsn, changes)`.
    base: State,
    base_lsn: Lsn,
    entries: Vec<(Lsn, Vec<Change>)>,
    /// State after all entries that were staged.
    now: State,
    /// All entries' disk batches ever, for replay.
    history: BTreeMap<Lsn, Vec<(PartitionId, u64)>>,
    appended: Lsn,
    flushed: Lsn,
    shards_at: Lsn,
    ticket: Option<FlushTicket>,
    checkpoint: Option<Checkpoint>,
    counter: u64,
    now_ms: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            disk: ChaosDisk::new(),
            random: Random::new(seed),
            log: None,
            base: State::default(),
            base_lsn: 0,
            entries: Vec::new(),
            now: State::default(),
            history: BTreeMap::new(),
            appended: 0,
            flushed: 0,
            shards_at: 0,
            ticket: None,
            checkpoint: None,
            counter: 0,
            now_ms: 1_000_000,
        }
    }

    fn open(&mut self) -> Result<(), Error> {
        self.log = Some(Log::open(
            Arc::new(self.disk.clone()),
            config(),
            self.now_ms,
        )?);
        Ok(())
    }

    fn state_at(&self, lsn: Lsn) -> State {
        let mut state = self.base.clone();
        for (_, changes) in self.entries.iter().take_while(|(at, _)| *at <= lsn) {
            for change in changes {
                state.apply(change);
            }
        }
        state
    }

    /// One random thing. An error: the power failed.
    fn act(&mut self) -> Result<(), Error> {
        self.now_ms += self.random.below(50);
        match self.random.below(20) {
            0..=9 => self.append(),
            10 => self.change_streams(),
            11..=13 => self.flush(),
            14..=16 => self.step_checkpoint(),
            17 => self.compact(),
            18 => {
                let log = self.log.as_mut().unwrap();
                if let Some(mut preparation) = log.prepare(self.now_ms) {
                    while !preparation.step()? {}
                    log.prepared(preparation);
                }
                Ok(())
            }
            _ => {
                self.shards_at += self
                    .random
                    .below(self.flushed.max(self.shards_at) - self.shards_at + 1);
                Ok(())
            }
        }
    }

    fn append(&mut self) -> Result<(), Error> {
        for _ in 0..=self.random.below(3) {
            let state = &self.now;
            let ids: Vec<PartitionId> = state.partitions.keys().copied().collect();
            if ids.is_empty() {
                break;
            }
            let mut appends = Vec::new();
            let mut sent = Vec::new();
            let mut future = self.now.clone();
            for _ in 0..=self.random.below(3) {
                let id = ids[self.random.below(ids.len() as u64) as usize];
                let mut builder = BatchBuilder::new();
                let mut records = Vec::new();
                for _ in 0..=self.random.below(4) {
                    self.counter += 1;
                    let key = format!("k{}", self.random.below(KEYS));
                    let length = self.random.below(300) as usize;
                    let value = format!("{}:{}", self.counter, "x".repeat(length));
                    builder.push(
                        self.now_ms as i64,
                        Some(key.as_bytes()),
                        Some(value.as_bytes()),
                        &[],
                    );
                    records.push((key, value));
                }
                let batch = builder.finish();
                let (batch, sending) = self.prepare(&future, id, batch, records);
                if let Ok(change) = &sending
                    && !future.is_memory(id)
                {
                    future.apply(change);
                }
                let partition = id;
                appends.push(Append::new(partition, batch));
                sent.push((id, sending));
            }
            let ops = Vec::new();
            let staged = self
                .log
                .as_mut()
                .unwrap()
                .stage(Entry { appends, ops }, self.now_ms);
            let staged = match staged {
                Err(Error::JournalFull { .. }) => break,
                other => other?,
            };
            let mut changes = Vec::new();
            let mut on_disk = Vec::new();
            for ((id, sending), base) in sent.into_iter().zip(staged.base_offsets) {
                if self.now.is_memory(id) {
                    continue;
                }
                match sending {
                    Ok(change) => {
                        on_disk.push((id, base.unwrap()));
                        changes.push(change);
                    }
                    Err(refusal) => assert_eq!(base, Err(refusal)),
                }
            }
            if !changes.is_empty() {
                self.history.insert(staged.lsn, on_disk);
                self.note(staged.lsn, changes);
            }
        }
        self.write()
    }

    /// Perhaps makes a batch one of a producer; the change that it makes, or why it is refused.
    fn prepare(
        &mut self,
        state: &State,
        id: PartitionId,
        mut batch: Vec<u8>,
        mut records: Vec<(String, String)>,
    ) -> (Vec<u8>, Result<Change, Refusal>) {
        let content = &state.partitions[&id];
        let mut seen = None;
        if !state.is_memory(id) && self.random.one_in(2) {
            let transactions = !state.is_table(id);
            let count = records.len() as u32;
            let random = &mut self.random;
            let sending = producers::send(random, content, &mut batch, count, transactions);
            if let Some(refusal) = sending.1 {
                return (batch, Err(refusal));
            }
            seen = sending.0;
        }
        let marker = seen.and_then(|seen| seen.marker);
        match marker {
            Some(commit) => records = vec![(String::new(), marker_text(commit))],
            None if !state.is_table(id) => producers::pack(&mut self.random, &mut batch),
            None => {}
        }
        let base_offset = content.records.len() as u64;
        (batch, Ok(Change::Append(id, base_offset, records, seen)))
    }

    fn note(&mut self, lsn: Lsn, changes: Vec<Change>) {
        for change in &changes {
            self.now.apply(change);
        }
        self.entries.push((lsn, changes));
    }

    fn write(&mut self) -> Result<(), Error> {
        self.appended = self.log.as_mut().unwrap().write()?;
        Ok(())
    }

    fn change_streams(&mut self) -> Result<(), Error> {
        let state = &self.now;
        let name = NAMES[self.random.below(NAMES.len() as u64) as usize];
        let partitions = 1 + self.random.below(2) as u32;
        let op = match (state.streams.get(name), self.random.below(3)) {
            (None, _) => Op::CreateStream(settings(name, partitions)),
            (Some(_), 0) => Op::DeleteStream(name.to_owned()),
            (Some((have, _)), 1) => Op::AlterStream(settings(name, have.partitions + 1)),
            (Some((_, ids)), _) => {
                let content = &state.partitions[&ids[0]];
                if name == "memory" || name == "table" || name == "keyed" {
                    return Ok(());
                }
                let offset = self.random.below(content.records.len() as u64 + 1);
                Op::SetLogStart {
                    partition: ids[0],
                    offset,
                }
            }
        };
        let entry = Entry {
            ops: vec![op.clone()],
            appends: Vec::new(),
        };
        let staged = match self.log.as_mut().unwrap().stage(entry, self.now_ms) {
            Err(Error::JournalFull { .. }) => return Ok(()),
            other => other?,
        };
        let done = staged.ops.into_iter().next().unwrap();
        if done == Err(Refusal::OffsetOutOfRange) {
            return Ok(());
        }
        let made = done.unwrap();
        let change = match op {
            Op::CreateStream(settings) => Change::Create(settings, made),
            Op::DeleteStream(name) => Change::Delete(name),
            Op::AlterStream(settings) => Change::Grow(settings, made),
            Op::SetLogStart { partition, offset } => Change::LogStart(partition, offset),
            Op::AwaitFlush => unreachable!("this walk makes none"),
        };
        self.history.insert(staged.lsn, Vec::new());
        self.note(staged.lsn, vec![change]);
        self.write()
    }

    /// Takes a ticket, or runs the one that was taken before.
    fn flush(&mut self) -> Result<(), Error> {
        let log = self.log.as_mut().unwrap();
        match self.ticket.take() {
            Some(ticket) => {
                let flushed = ticket.run()?;
                self.flushed = self.flushed.max(flushed.lsn());
                log.flushed(flushed);
            }
            None => self.ticket = log.flush_ticket(),
        }
        Ok(())
    }

    fn step_checkpoint(&mut self) -> Result<(), Error> {
        let log = self.log.as_mut().unwrap();
        if let Some(mut checkpoint) = self.checkpoint.take() {
            for _ in 0..self.random.below(8) {
                if checkpoint.step()? {
                    self.flushed = self.flushed.max(checkpoint.lsn());
                    return log.checkpointed(checkpoint);
                }
            }
            self.checkpoint = Some(checkpoint);
        } else {
            self.checkpoint = log.checkpoint(self.shards_at);
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<(), Error> {
        let log = self.log.as_mut().unwrap();
        if let Some(mut run) = log.compaction(self.now_ms) {
            while !run.step()? {}
            log.compacted(run, self.now_ms)?;
        }
        Ok(())
    }

    /// The machine or the process died; it starts again, perhaps dying while it does.
    fn crash(&mut self, power: bool) {
        self.log = None;
        self.ticket = None;
        self.checkpoint = None;
        let mut promised = if power { self.flushed } else { self.appended };
        self.lose(power);
        while self.random.one_in(2) {
            self.disk
                .stop_after(self.random.below(60), self.random.clone().next());
            if self.open().is_ok() {
                // It got through and died right behind.
                promised = promised.max(self.log.as_ref().unwrap().appended_to());
            }
            self.log = None;
            let power = power && self.random.one_in(2);
            self.lose(power);
        }
        self.open().unwrap();
        self.check(promised);
    }

    fn lose(&mut self, power: bool) {
        if power {
            self.disk.lose_power(&mut self.random);
        } else {
            self.disk.restart();
        }
    }

    fn check(&mut self, promised: Lsn) {
        let log = self.log.as_ref().unwrap();
        let lsn = log.appended_to();
        let staged = self.entries.last().map_or(self.base_lsn, |(lsn, _)| *lsn);
        assert!(
            lsn >= promised,
            "entry {promised} was promised, the log ends at {lsn}"
        );
        assert!(
            lsn <= staged,
            "the log ends at {lsn}, but {staged} was the last entry"
        );
        assert!(!log.recovery().lossy);
        let state = self.state_at(lsn);
        check_state(log, &state);
        producers::check(self.log.as_mut().unwrap(), &state);
        let log = self.log.as_ref().unwrap();
        self.history.retain(|at, _| *at <= lsn);
        let from = self.shards_at + 1;
        let replayed: Vec<_> = log
            .replay(from)
            .unwrap()
            .map(|entry| entry.unwrap())
            .collect();
        assert_eq!(replayed.len() as u64, (lsn + 1).saturating_sub(from));
        for entry in replayed {
            let found: Vec<_> = entry
                .batches
                .iter()
                .map(|(id, base, _)| (*id, *base))
                .collect();
            assert_eq!(found, self.history[&entry.lsn], "entry {}", entry.lsn);
        }
        self.now = state.clone();
        self.base = state;
        self.base_lsn = lsn;
        self.entries.clear();
        self.appended = lsn;
        self.flushed = lsn;
        // Memory streams are empty again; the model keeps nothing of them anyway.
    }
}

fn check_state(log: &Log, state: &State) {
    let reader = log.reader();
    let mut streams = BTreeMap::new();
    for meta in reader.streams().iter() {
        streams.insert(
            meta.settings.name.clone(),
            (meta.settings.clone(), meta.partitions.clone()),
        );
    }
    assert_eq!(streams, state.streams);
    for (id, content) in &state.partitions {
        if state.is_memory(*id) {
            continue;
        }
        let marks = reader.watermarks(*id).unwrap();
        assert_eq!(marks.log_start, content.log_start, "log start of {id}");
        assert_eq!(marks.appended, content.records.len() as u64, "end of {id}");
        if state.is_table(*id) {
            check_table(log, *id, content);
            continue;
        }
        if state.is_of("keyed", *id) {
            producers::check_compacted(log, *id, content);
            continue;
        }
        let mut offset = marks.log_start;
        while offset < marks.appended {
            for bytes in reader.read(*id, offset, 10_000, u64::MAX).unwrap() {
                for batch in batches(&bytes).map(Result::unwrap) {
                    for record in &batch.plain(1 << 20).unwrap() {
                        let record = record.unwrap();
                        let (key, value) = &content.records[record.offset as usize];
                        if let Some(marker) = batch.marker() {
                            assert_eq!(*value, marker_text(marker.commit));
                        } else {
                            assert_eq!(record.key, Some(key.as_bytes()));
                            assert_eq!(record.value, Some(value.as_bytes()));
                        }
                        assert!(record.offset <= offset);
                        offset = offset.max(record.offset + 1);
                    }
                }
            }
        }
    }
}

fn check_table(log: &Log, id: PartitionId, content: &Content) {
    let mut expected = BTreeMap::new();
    for (key, value) in &content.records {
        expected.insert(key.clone().into_bytes(), value.clone().into_bytes());
    }
    let mut found = BTreeMap::new();
    table::load(&log.reader(), id, None, |row| {
        found.insert(row.key.to_vec(), row.value.to_vec());
    })
    .unwrap();
    assert_eq!(found, expected);
    table::scan(&log.reader(), id, 0, None, |offset, _, key, value| {
        let (expected_key, expected_value) = &content.records[offset as usize];
        assert_eq!(
            (key, value),
            (expected_key.as_bytes(), Some(expected_value.as_bytes()))
        );
    })
    .unwrap();
}

fn run(seed: u64, rounds: u32) {
    let mut world = World::new(seed);
    world.open().unwrap();
    for _ in 0..rounds {
        let budget = world.random.below(800);
        world.disk.stop_after(budget, world.random.clone().next());
        let mut actions = 0;
        while world.act().is_ok() && actions < 300 {
            actions += 1;
        }
        let power = world.random.one_in(2);
        world.crash(power);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn crashes_lose_nothing_that_was_promised(seed in any::<u64>()) {
        run(seed, 6);
    }
}

/// One fixed story, cut at every single operation: as a killed process and as a power cut.
#[test]
fn every_point_of_a_short_story_can_be_the_last() {
    for power in [false, true] {
        let mut stop = 0;
        loop {
            let mut world = World::new(77);
            world.disk.stop_after(stop, stop * 31);
            let mut finished = world.open().is_ok();
            for _ in 0..40 {
                finished = finished && world.act().is_ok();
            }
            // From here on its own dice, so that the story stays the same.
            world.random = Random::new(stop);
            world.crash(power);
            if finished {
                break;
            }
            stop += 1;
        }
        assert!(stop > 100, "{stop}");
    }
}
