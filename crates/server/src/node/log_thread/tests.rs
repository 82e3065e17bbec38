//! The log's owner, driven by hand on a disk in memory: whom it tells what.

use commitlog::disk::{MemoryDisk, Operation};
use commitlog::{Append, BatchBuilder, LogConfig, PartitionId, Room, StreamSettings};
use mio::{Poll, Token, Waker};

use super::super::desk::Desk;
use super::super::door::{Health, LogDoor};
use super::super::mailbox::Letters;
use super::super::rings::{self, TurnSender};
use super::*;

/// An owner at no desk, and whoever has to do with it.
struct Scene {
    disk: MemoryDisk,
    owner: LogThread,
    door: LogDoor,
    standing: Arc<Standing>,
    reader: LogReader,
    mailbox: Arc<Mailbox>,
    turns: TurnSender,
    partition: PartitionId,
    _poll: Poll,
}

impl Scene {
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let config = LogConfig {
            journal_part_bytes: 16 << 10,
            journal_bytes_max: 1 << 20,
            reserve_bytes: 0,
            ..LogConfig::default()
        };
        let mut log = Log::open(Arc::new(disk.clone()), config, 1000).unwrap();
        let partition = log.create_stream(StreamSettings::new("s"), 1000).unwrap()[0];
        let reader = log.reader();
        let standing = Arc::new(Standing::new(reader.appended_to()));
        let (wake, brake) = (Arc::new(Wake::default()), Arc::new(Brake::default()));
        let (requests, door_end) = std::sync::mpsc::channel();
        let desk = Arc::new(Desk::default());
        let door = LogDoor::new(requests, Arc::clone(&standing), Arc::clone(&wake), desk);
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        let mailbox = Arc::new(Mailbox::new(waker));
        let (turns, ring) = rings::ring(1 << 20, Arc::clone(&brake), Arc::clone(&wake));
        let counters = Arc::new(Counters::new(1));
        let owner = LogThread::new(Parts {
            dir: "memory".into(),
            log,
            reader: reader.clone(),
            rings: vec![ring],
            requests: door_end,
            mailboxes: vec![Arc::clone(&mailbox)],
            retained: Arc::new(RwLock::new(RetainedIndex::new(10))),
            flusher: Flusher::start(door.clone(), Arc::clone(&counters)).unwrap(),
            // Nothing is flushed for its age.
            policy: FlushPolicy::new(1000, 1 << 30, 3_600_000),
            flush_interval_us: 1000,
            wake,
            room_bytes: 0,
            brake,
            standing: Arc::clone(&standing),
            counters,
        });
        Self {
            disk,
            owner,
            door,
            standing,
            reader,
            mailbox,
            turns,
            partition,
            _poll: poll,
        }
    }

    fn entry(&self) -> Entry {
        let mut batch = BatchBuilder::new();
        batch.push(1000, Some(b"key"), Some(&[b'v'; 3000]), &[]);
        Entry {
            appends: vec![Append::new(self.partition, batch.finish())],
            ops: Vec::new(),
        }
    }

    fn append(&mut self) -> Result<Appended, AppendError> {
        let (answer, mut result) = tokio::sync::oneshot::channel();
        self.door.put(self.entry(), answer);
        self.door.bring();
        self.owner.turn();
        result.try_recv().expect("a turn answers what came before")
    }

    fn send_turn(&mut self, turn: u64) {
        let order = TurnOrder {
            turn,
            entry: self.entry(),
            partitions: Vec::new(),
            messages: broker::Messages::default(),
            bytes: 1,
            room: Room::Usual,
            heard: None,
            patient: false,
        };
        self.turns.send(order);
        self.owner.turn();
    }

    fn news(&self) -> Vec<News> {
        let mut letters = Letters::default();
        self.mailbox.take(&mut letters, || 0);
        letters.news
    }

    fn is_latched(&self) -> bool {
        matches!(self.standing.health(), Health::Latched { .. })
    }
}

/// The next part of the journal cannot be opened: nothing was written, and yet nothing will be.
#[test]
fn a_failure_while_an_entry_is_staged_is_told_to_all() {
    let mut scene = Scene::new();
    let mut flushes = scene.standing.flushes();
    scene.disk.fail(Operation::Open, "journal", 1);
    let refused = loop {
        if let Err(refused) = scene.append() {
            break refused;
        }
    };
    assert_eq!(refused, AppendError::Latched);
    assert!(scene.is_latched(), "{:?}", scene.standing.health());
    assert!(
        flushes.has_changed().unwrap(),
        "who waits for a flush is told"
    );
    flushes.mark_unchanged();
    assert!(matches!(scene.news()[..], [News::Latched]));

    let mut scene = Scene::new();
    scene.disk.fail(Operation::Open, "journal", 1);
    let mut told = Vec::new();
    for turn in 1..10 {
        scene.send_turn(turn);
        told.extend(scene.news());
    }
    assert!(scene.is_latched());
    let latched = |news: &&News| matches!(news, News::Latched);
    assert_eq!(told.iter().filter(latched).count(), 1);
    assert!(told.iter().any(|news| matches!(news, News::Refused { .. })));
}

#[test]
fn what_a_checkpoint_flushes_is_told_to_who_waits_for_a_flush() {
    let mut scene = Scene::new();
    scene.append().unwrap();
    assert!(scene.reader.flushed_to() < scene.reader.appended_to());
    let flushes = scene.standing.flushes();
    scene.news();
    scene.door.send(Request::Call(Box::new(|log| {
        let mut checkpoint = log.checkpoint(u64::MAX).unwrap();
        while !checkpoint.step().unwrap() {}
        log.checkpointed(checkpoint).unwrap();
    })));
    scene.owner.turn();
    assert_eq!(scene.reader.flushed_to(), scene.reader.appended_to());
    assert!(flushes.has_changed().unwrap());
    let mut letters = Letters::default();
    let mark = scene
        .mailbox
        .take(&mut letters, || scene.reader.flushed_to());
    assert_eq!(mark, Some(scene.reader.appended_to()));
}

#[test]
fn what_a_checkpoint_made_durable_is_not_flushed() {
    let mut scene = Scene::new();
    let idle = |scene: &Scene| scene.owner.parts.policy.advice(u64::MAX) == FlushAdvice::Idle;
    for appends_meanwhile in [false, true] {
        scene.append().unwrap();
        assert!(!idle(&scene));
        let (begun, checkpoint) = std::sync::mpsc::channel();
        scene.door.send(Request::Call(Box::new(move |log| {
            begun.send(log.checkpoint(u64::MAX).unwrap()).unwrap();
        })));
        scene.owner.turn();
        let mut checkpoint = checkpoint.recv().unwrap();
        if appends_meanwhile {
            scene.append().unwrap();
        }
        while !checkpoint.step().unwrap() {}
        assert!(!idle(&scene), "it is not handed back");
        scene.door.send(Request::Call(Box::new(move |log| {
            log.checkpointed(checkpoint).unwrap();
        })));
        scene.owner.turn();
        assert_eq!(idle(&scene), !appends_meanwhile);
    }
}

/// What a call has appended is there for readers who wait for more.
#[test]
fn what_a_call_appends_is_told_to_readers() {
    let mut scene = Scene::new();
    let moves = scene.standing.subscribe();
    let entry = scene.entry();
    scene.door.send(Request::Call(Box::new(move |log| {
        log.stage(entry, 1000).unwrap();
        log.write().unwrap();
    })));
    scene.owner.turn();
    assert!(moves.has_changed().unwrap());
}

#[test]
fn who_waits_for_a_flush_is_told_that_the_end_could_not_be_flushed() {
    let mut scene = Scene::new();
    scene.append().unwrap();
    scene.disk.fail(Operation::Sync, "journal", 1);
    let (answer, ended) = std::sync::mpsc::channel();
    let shards_at = 0;
    scene.door.send(Request::Stop { shards_at, answer });
    scene.owner.turn();
    assert!(scene.owner.is_stopped());
    let (standing, flushes) = (Arc::clone(&scene.standing), scene.standing.flushes());
    scene.owner.end();
    assert!(ended.recv().unwrap().is_err());
    assert!(flushes.has_changed().unwrap());
    let health = standing.health();
    assert!(matches!(health, Health::Latched { .. }), "{health:?}");
}
