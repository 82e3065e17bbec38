//! Transactions in examples, and against a model: a log that keeps what is appended, crashes, and
//! producers that come back with what they knew.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::machine::Stage;
use super::*;
use crate::ErrorCode;

const TIMEOUT_MS: i32 = 60_000;

/// A machine whose producer ids are reserved.
fn machine() -> Transactions {
    let mut machine = Transactions::new(Settings::default());
    reserve(&mut machine, &mut BTreeMap::new());
    machine
}

fn reserve(machine: &mut Transactions, table: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    if let Some(write) = machine.reservation() {
        table.insert(write.key, write.value.unwrap());
        machine.ids().reserved();
    }
}

/// Initialises an id, and appends what that takes.
fn init(machine: &mut Transactions, id: &str, now_ms: u64) -> Identity {
    let (identity, write) = machine.init(id, TIMEOUT_MS, None, now_ms).unwrap();
    if write.end.is_some() {
        machine.ended(id, true, now_ms);
    } else {
        machine.taken_over(id);
    }
    identity
}

fn committed(offset: i64) -> CommittedOffset {
    CommittedOffset {
        offset,
        leader_epoch: 3,
        metadata: "words".to_owned(),
        commit_ms: 77,
    }
}

fn end_of(ending: Ending) -> End {
    match ending {
        Ending::Write(write) => write.end.unwrap(),
        Ending::Already => panic!("it has ended before"),
    }
}

#[test]
fn a_transaction_ends_with_all_that_was_put_into_it() {
    let mut machine = machine();
    let me = init(&mut machine, "a", 1);
    assert_eq!(
        machine.admits(Some("a"), me, 7),
        Err(ErrorCode::InvalidTxnState)
    );
    assert!(
        machine
            .add_partitions("a", me, &[7, 8], 2)
            .unwrap()
            .is_some()
    );
    assert_eq!(machine.add_partitions("a", me, &[8], 2), Ok(None));
    assert!(machine.add_partitions("a", me, &[9], 3).unwrap().is_some());
    for id in [Some("a"), None] {
        assert_eq!(machine.admits(id, me, 9), Ok(()));
        assert_eq!(machine.admits(id, me, 10), Err(ErrorCode::InvalidTxnState));
    }
    let offsets = vec![(("t".into(), 0), committed(5))];
    let early = machine.add_offsets("a", me, "g", offsets.clone(), 3);
    assert_eq!(early, Err(ErrorCode::InvalidTxnState));
    assert!(machine.add_group("a", me, "g", 3).unwrap().is_some());
    assert_eq!(machine.add_group("a", me, "g", 3), Ok(None));
    machine
        .add_offsets("a", me, "g", offsets.clone(), 3)
        .unwrap();
    let end = end_of(machine.end("a", me, true, 4).unwrap());
    let expected = End {
        commit: true,
        identity: me,
        partitions: vec![7, 8, 9],
        offsets: vec![("g".into(), offsets)],
    };
    assert_eq!(end, expected);
    // Nothing happens while the end is appended.
    let busy = Err(ErrorCode::ConcurrentTransactions);
    assert_eq!(machine.end("a", me, true, 4), busy);
    assert_eq!(
        machine.add_partitions("a", me, &[7], 4),
        Err(ErrorCode::ConcurrentTransactions)
    );
    assert_eq!(
        machine.admits(Some("a"), me, 7),
        Err(ErrorCode::InvalidTxnState)
    );
    machine.ended("a", true, 5);
    assert_eq!(machine.end("a", me, true, 5), Ok(Ending::Already));
    assert_eq!(
        machine.end("a", me, false, 5),
        Err(ErrorCode::InvalidTxnState)
    );
    // The next one begins empty.
    machine.add_partitions("a", me, &[1], 6).unwrap();
    assert_eq!(
        end_of(machine.end("a", me, false, 7).unwrap()).partitions,
        [1]
    );
}

#[test]
fn an_end_that_could_not_be_appended_leaves_the_transaction_open() {
    let mut machine = machine();
    let me = init(&mut machine, "a", 1);
    machine.add_partitions("a", me, &[7], 1).unwrap();
    machine.end("a", me, true, 2).unwrap();
    machine.ended("a", false, 2);
    // It is recorded anew, in case that was lost; until then nothing more comes in.
    assert_eq!(
        machine.admits(Some("a"), me, 7),
        Err(ErrorCode::InvalidTxnState)
    );
    assert!(machine.add_partitions("a", me, &[7], 2).unwrap().is_some());
    assert_eq!(
        end_of(machine.end("a", me, true, 3).unwrap()).partitions,
        [7]
    );
}

#[test]
fn a_new_producer_fences_the_old_one_and_aborts_what_it_left_open() {
    let mut machine = machine();
    let old = init(&mut machine, "a", 1);
    machine.add_partitions("a", old, &[7], 1).unwrap();
    let (new, write) = machine.init("a", TIMEOUT_MS, None, 2).unwrap();
    assert_eq!((new.producer_id, new.epoch), (old.producer_id, 1));
    let end = write.end.unwrap();
    assert_eq!(
        (end.commit, end.identity, end.partitions),
        (false, new, vec![7])
    );
    assert_eq!(
        machine.init("a", TIMEOUT_MS, None, 2),
        Err(ErrorCode::ConcurrentTransactions)
    );
    machine.ended("a", true, 3);
    assert_eq!(
        machine.end("a", old, true, 3),
        Err(ErrorCode::ProducerFenced)
    );
    assert_eq!(
        machine.add_partitions("a", old, &[7], 3),
        Err(ErrorCode::ProducerFenced)
    );
    assert_eq!(
        machine.admits(Some("a"), old, 7),
        Err(ErrorCode::InvalidProducerEpoch)
    );
    assert_eq!(
        machine.end("a", new, true, 3),
        Err(ErrorCode::InvalidTxnState)
    );
    let other = Identity {
        producer_id: 999_999,
        epoch: 0,
    };
    assert_eq!(
        machine.end("a", other, true, 3),
        Err(ErrorCode::InvalidProducerIdMapping)
    );
    assert_eq!(
        machine.end("b", new, true, 3),
        Err(ErrorCode::InvalidProducerIdMapping)
    );
}

#[test]
fn a_producer_that_says_who_it_is_keeps_its_place_and_may_repeat_itself() {
    let mut machine = machine();
    let first = init(&mut machine, "a", 1);
    let (second, write) = machine.init("a", TIMEOUT_MS, Some(first), 2).unwrap();
    assert_eq!((second.epoch, write.takes_over), (1, true));
    machine.taken_over("a");
    let (again, _) = machine.init("a", TIMEOUT_MS, Some(first), 2).unwrap();
    assert_eq!(again, second);
    machine.taken_over("a");
    let (third, _) = machine.init("a", TIMEOUT_MS, Some(second), 2).unwrap();
    assert_eq!(third.epoch, 2);
    machine.taken_over("a");
    assert_eq!(
        machine.init("a", TIMEOUT_MS, Some(first), 2),
        Err(ErrorCode::ProducerFenced)
    );
    // A repetition is none any more once the new epoch is in use.
    machine.add_partitions("a", third, &[1], 3).unwrap();
    assert_eq!(
        machine.init("a", TIMEOUT_MS, Some(second), 3),
        Err(ErrorCode::ProducerFenced)
    );
}

#[test]
fn who_was_replaced_does_not_become_its_successor() {
    let mut machine = machine();
    let zombie = init(&mut machine, "a", 1);
    let successor = init(&mut machine, "a", 2);
    assert_eq!(successor.epoch, 1);
    let back = machine.init("a", TIMEOUT_MS, Some(zombie), 3);
    assert_eq!(back, Err(ErrorCode::ProducerFenced));
    machine.add_partitions("a", successor, &[1], 3).unwrap();
    let third = init(&mut machine, "a", 4);
    let back = machine.init("a", TIMEOUT_MS, Some(successor), 4);
    assert_eq!(back, Err(ErrorCode::ProducerFenced));
    // After a timeout nobody else has come: its producer may go on.
    machine.add_partitions("a", third, &[1], 5).unwrap();
    machine.due(5 + TIMEOUT_MS as u64).unwrap();
    machine.ended("a", true, 5);
    let (again, _) = machine.init("a", TIMEOUT_MS, Some(third), 6).unwrap();
    assert_eq!(again.epoch, third.epoch + 1);
}

#[test]
fn epochs_that_run_out_give_a_new_producer_id() {
    let mut machine = machine();
    let mut me = init(&mut machine, "a", 1);
    let first = me.producer_id;
    while me.epoch < i16::MAX - 1 {
        me = init(&mut machine, "a", 1);
    }
    machine.add_partitions("a", me, &[7], 1).unwrap();
    me = init(&mut machine, "a", 1);
    assert_eq!((me.producer_id, me.epoch), (first, i16::MAX));
    machine.add_partitions("a", me, &[7], 1).unwrap();
    let stuck = machine.init("a", TIMEOUT_MS, None, 1);
    assert_eq!(stuck, Err(ErrorCode::ConcurrentTransactions));
    let late = 1 + TIMEOUT_MS as u64;
    assert_eq!(
        machine.due(late).unwrap().end.unwrap().identity.epoch,
        i16::MAX
    );
    machine.ended("a", true, late);
    let fresh = init(&mut machine, "a", late);
    assert!(fresh.producer_id != first && fresh.epoch == 0);
    assert_eq!(
        machine.end("a", me, true, late),
        Err(ErrorCode::InvalidProducerIdMapping)
    );
}

#[test]
fn what_is_open_for_too_long_is_aborted_and_its_producer_fenced() {
    let mut machine = machine();
    assert_eq!(
        machine.init("a", 0, None, 1),
        Err(ErrorCode::InvalidTransactionTimeout)
    );
    let long = Settings::default().timeout_ms_max + 1;
    assert_eq!(
        machine.init("a", long, None, 1),
        Err(ErrorCode::InvalidTransactionTimeout)
    );
    let me = init(&mut machine, "a", 1);
    machine.add_partitions("a", me, &[7], 10).unwrap();
    let at_ms = 10 + TIMEOUT_MS as u64;
    assert_eq!(machine.next_due_ms(), Some(at_ms));
    assert_eq!(machine.due(at_ms - 1), None);
    let end = machine.due(at_ms).unwrap().end.unwrap();
    assert_eq!((end.commit, end.identity.epoch), (false, 1));
    assert_eq!(machine.due(at_ms), None);
    // A full disk: it is tried again, and stays fenced.
    machine.ended("a", false, at_ms);
    assert_eq!(
        machine.end("a", me, true, at_ms),
        Err(ErrorCode::ProducerFenced)
    );
    assert_eq!(machine.due(at_ms), None);
    let again_ms = machine.next_due_ms().unwrap();
    assert!(again_ms > at_ms);
    let end = machine.due(again_ms).unwrap().end.unwrap();
    assert_eq!(end.identity.epoch, 1, "fenced once");
    machine.ended("a", true, again_ms);
    assert_eq!(machine.get("a").unwrap().state, State::Empty);
}

#[test]
fn an_epoch_that_could_not_be_appended_fences_nobody() {
    let mut machine = machine();
    let me = init(&mut machine, "a", 1);
    // With a transaction open, and by itself.
    machine.add_partitions("a", me, &[7], 2).unwrap();
    for expected in [None, Some(me)] {
        let (next, write) = machine.init("a", TIMEOUT_MS, expected, 2).unwrap();
        assert_eq!((next.epoch, write.end.is_some()), (me.epoch + 1, true));
        // As long as nobody knows, the old one waits.
        let busy = Err(ErrorCode::ConcurrentTransactions);
        assert_eq!(machine.end("a", me, true, 2), busy);
        machine.ended("a", false, 2);
    }
    end_of(machine.end("a", me, true, 2).unwrap());
    machine.ended("a", true, 2);
    for expected in [None, Some(me)] {
        machine.init("a", TIMEOUT_MS, expected, 3).unwrap();
        let busy = machine.add_partitions("a", me, &[7], 3);
        assert_eq!(busy, Err(ErrorCode::ConcurrentTransactions));
        machine.not_recorded("a", true);
        assert_eq!(machine.end("a", me, true, 3), Ok(Ending::Already));
    }
    machine.add_partitions("a", me, &[7], 3).unwrap();
    assert_eq!(machine.admits(Some("a"), me, 7), Ok(()));
    // What was recorded before is told only now: it is not the new epoch.
    let (next, _) = machine.init("a", TIMEOUT_MS, None, 4).unwrap();
    machine.not_recorded("a", false);
    machine.ended("a", true, 4);
    assert_eq!(
        machine.end("a", me, true, 4),
        Err(ErrorCode::ProducerFenced)
    );
    assert_eq!(next.epoch, me.epoch + 1);
}

#[test]
fn an_epoch_of_a_new_producer_id_that_could_not_be_appended_is_taken_back() {
    let mut machine = machine();
    let mut me = init(&mut machine, "a", 1);
    while me.epoch < i16::MAX - 1 {
        me = init(&mut machine, "a", 1);
    }
    let (fresh, _) = machine.init("a", TIMEOUT_MS, None, 1).unwrap();
    assert_ne!(fresh.producer_id, me.producer_id);
    machine.not_recorded("a", true);
    machine.add_partitions("a", me, &[7], 1).unwrap();
    assert_eq!(machine.admits(None, me, 7), Ok(()));
    let unknown = Err(ErrorCode::InvalidProducerIdMapping);
    assert_eq!(machine.admits(None, fresh, 7), unknown);
}

#[test]
fn changes_are_recorded_by_themselves_and_found_again() {
    let mut machine = machine();
    let mut table = BTreeMap::new();
    let mut put = |write: Write| {
        let size = write.key.len() + write.value.as_ref().unwrap().len();
        for key in write.needless {
            assert!(table.remove(&key).is_some());
        }
        table.insert(write.key, write.value.unwrap());
        let mut found = Transactions::new(Settings::default());
        for (key, value) in &table {
            found.load(key, value).unwrap();
        }
        found.loaded();
        (size, found, table.len())
    };
    let (me, write) = machine.init("a", TIMEOUT_MS, None, 1).unwrap();
    machine.taken_over("a");
    put(write);
    put(machine.add_group("a", me, "g", 1).unwrap().unwrap());
    let mut written = 0;
    for number in 0..500 {
        let offsets = vec![(("t".into(), number % 400), committed(number.into()))];
        let write = machine.add_offsets("a", me, "g", offsets, 2).unwrap();
        let (size, found, _) = put(write);
        written += size;
        let of = |machine: &Transactions| {
            let Stage::Open(open) = &machine.by_id["a"].stage else {
                panic!("it is open")
            };
            (open.content.clone(), open.round, open.changes, open.slots)
        };
        assert_eq!(of(&found), of(&machine));
        assert_eq!(found.open_bytes, machine.open_bytes);
    }
    assert!(written < 300_000, "{written} bytes for 500 offsets");
    // A record that was lost is made up for by all of it.
    machine.not_recorded("a", false);
    let write = machine.add_partitions("a", me, &[3], 3).unwrap().unwrap();
    assert_eq!(write.key, [1, 1, b'a']);
    put(write);
    let Ending::Write(write) = machine.end("a", me, true, 4).unwrap() else {
        panic!("it is open")
    };
    let end = write.end.clone().unwrap();
    assert_eq!(end.offsets[0].1.len(), 400);
    let (_, found, records) = put(write);
    assert_eq!((records, found.open_bytes), (1, 0));
    machine.ended("a", true, 4);
    assert_eq!(machine.open_bytes, 0);
}

#[test]
fn the_memory_of_open_transactions_is_bounded() {
    let settings = Settings {
        transaction_bytes_max: 10_000,
        bytes_max: 15_000,
        ..Settings::default()
    };
    let mut machine = Transactions::new(settings);
    reserve(&mut machine, &mut BTreeMap::new());
    let words = |partition, size| {
        let mut offset = committed(1);
        offset.metadata = "x".repeat(size);
        vec![(("t".into(), partition), offset)]
    };
    let [a, b] = ["a", "b"].map(|id| {
        let me = init(&mut machine, id, 1);
        machine.add_group(id, me, "g", 1).unwrap();
        me
    });
    let full = Err(ErrorCode::PolicyViolation);
    machine
        .add_offsets("a", a, "g", words(0, 9_000), 1)
        .unwrap();
    assert_eq!(machine.add_offsets("a", a, "g", words(1, 900), 1), full);
    // What replaces something takes its place.
    machine
        .add_offsets("a", a, "g", words(0, 9_001), 1)
        .unwrap();
    assert_eq!(machine.add_offsets("b", b, "g", words(0, 6_000), 1), full);
    machine
        .add_offsets("b", b, "g", words(0, 5_000), 1)
        .unwrap();
    let many: Vec<u32> = (0..1_000).collect();
    let refused = machine.add_partitions("b", b, &many, 1);
    assert_eq!(refused, Err(ErrorCode::PolicyViolation));
    machine.end("a", a, false, 1).unwrap();
    assert_eq!(machine.add_offsets("b", b, "g", words(0, 6_000), 1), full);
    machine.ended("a", true, 1);
    machine
        .add_offsets("b", b, "g", words(0, 6_000), 1)
        .unwrap();
}

#[test]
fn offsets_for_a_topic_that_goes_leave_open_transactions() {
    let mut machine = machine();
    let offsets = |topic: &str| vec![((topic.into(), 0), committed(1))];
    for id in ["a", "b", "c"] {
        let me = init(&mut machine, id, 1);
        machine.add_group(id, me, id, 1).unwrap();
        machine.add_offsets(id, me, id, offsets("kept"), 1).unwrap();
        if id != "c" {
            machine.add_offsets(id, me, id, offsets("gone"), 1).unwrap();
        }
        if id == "b" {
            machine.end(id, me, true, 1).unwrap();
        }
    }
    let (writes, ending) = machine.forget_topic("gone");
    assert_eq!(ending, [("b".into(), 0)]);
    let keys: Vec<&[u8]> = writes.iter().map(|write| &*write.key).collect();
    assert_eq!(keys, [[1, 1, b'a']]);
    let me = machine.get("a").unwrap().identity;
    let end = end_of(machine.end("a", me, true, 2).unwrap());
    assert_eq!(end.offsets, [("a".into(), offsets("kept"))]);
    // The commit on its way is not appended; whoever makes a topic of that name finds no offsets.
    machine.ended("b", false, 2);
    let me = machine.get("b").unwrap().identity;
    let end = end_of(machine.end("b", me, true, 3).unwrap());
    assert_eq!(end.offsets, [("b".into(), offsets("kept"))]);
}

#[test]
fn an_id_that_nobody_uses_is_forgotten() {
    let mut machine = machine();
    init(&mut machine, "a", 1);
    let at_ms = 1 + Settings::default().expiry_ms;
    assert_eq!(machine.due(at_ms - 1), None);
    let write = machine.due(at_ms).unwrap();
    assert_eq!((write.value, write.end), (None, None));
    assert_eq!((machine.get("a"), machine.next_due_ms()), (None, None));
}

#[test]
fn bounds_are_kept() {
    let settings = Settings {
        transactions_max: 1,
        partitions_max: 2,
        offsets_max: 1,
        ..Settings::default()
    };
    let mut machine = Transactions::new(settings);
    let starting = machine.init("a", TIMEOUT_MS, None, 1);
    assert_eq!(starting, Err(ErrorCode::CoordinatorLoadInProgress));
    reserve(&mut machine, &mut BTreeMap::new());
    let me = init(&mut machine, "a", 1);
    assert_eq!(
        machine.init("b", TIMEOUT_MS, None, 1),
        Err(ErrorCode::PolicyViolation)
    );
    assert_eq!(
        machine.add_partitions("a", me, &[1, 2, 3], 1),
        Err(ErrorCode::PolicyViolation)
    );
    for group in ["g", "h"] {
        machine.add_group("a", me, group, 1).unwrap();
    }
    assert_eq!(
        machine.add_group("a", me, "i", 1),
        Err(ErrorCode::PolicyViolation)
    );
    let two = vec![
        (("t".into(), 0), committed(1)),
        (("t".into(), 1), committed(1)),
    ];
    assert_eq!(
        machine.add_offsets("a", me, "g", two, 1),
        Err(ErrorCode::PolicyViolation)
    );
}

#[test]
fn records_that_are_none_are_refused() {
    let mut machine = machine();
    let (_, write) = machine.init("a", TIMEOUT_MS, None, 1).unwrap();
    let value = write.value.unwrap();
    let mut fresh = Transactions::default();
    for cut in 0..value.len() {
        assert!(fresh.load(&write.key, &value[..cut]).is_err());
    }
    assert!(
        fresh
            .load(&write.key, &[value.as_slice(), &[0]].concat())
            .is_err()
    );
    assert!(fresh.load(&[1, 9], &value).is_err());
    fresh.load(&write.key, &value).unwrap();
    assert_eq!(fresh.get("a"), machine.get("a"));
}

/// What happens to the house.
#[derive(Clone, Debug)]
enum Step {
    Init {
        id: u8,
        knows: bool,
    },
    Add {
        id: u8,
        partition: u32,
    },
    Offsets {
        id: u8,
        offset: i64,
    },
    Append {
        id: u8,
        partition: u32,
    },
    End {
        id: u8,
        commit: bool,
    },
    /// Entries are appended or refused from now on.
    Disk {
        full: bool,
    },
    Wait {
        ms: u64,
    },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..3_u8;
    prop_oneof![
        (id.clone(), any::<bool>()).prop_map(|(id, knows)| Step::Init { id, knows }),
        (id.clone(), 0..4_u32).prop_map(|(id, partition)| Step::Add { id, partition }),
        (id.clone(), 0..99_i64).prop_map(|(id, offset)| Step::Offsets { id, offset }),
        (id.clone(), 0..4_u32).prop_map(|(id, partition)| Step::Append { id, partition }),
        (id.clone(), 0..4_u32).prop_map(|(id, partition)| Step::Append { id, partition }),
        (id, any::<bool>()).prop_map(|(id, commit)| Step::End { id, commit }),
        any::<bool>().prop_map(|full| Step::Disk { full }),
        (1..40_000_u64).prop_map(|ms| Step::Wait { ms }),
        Just(Step::Crash),
    ]
}

/// A log with what was appended to it, and what its readers must find.
#[derive(Default)]
struct House {
    machine: Transactions,
    table: BTreeMap<Vec<u8>, Vec<u8>>,
    /// By partition and producer: the records of its open transaction.
    open: BTreeMap<(u32, i64), Vec<u64>>,
    committed: Vec<u64>,
    aborted: Vec<u64>,
    /// The highest epoch of each producer that wrote a marker.
    fenced: BTreeMap<i64, i16>,
    offset: Option<i64>,
    full: bool,
    now_ms: u64,
}

/// A producer, and what it believes.
#[derive(Clone, Default)]
struct Producer {
    identity: Option<Identity>,
    /// What it appended in its transaction.
    records: Vec<u64>,
    offset: Option<i64>,
}

impl House {
    /// Appends, or not, and tells the machine.
    fn append(&mut self, id: &str, write: Write) -> bool {
        let (ends, takes_over) = (write.end.is_some(), write.takes_over);
        if !self.full {
            match write.value {
                Some(value) => self.table.insert(write.key, value),
                None => self.table.remove(&write.key),
            };
            for key in &write.needless {
                self.table.remove(key);
            }
            if let Some(end) = write.end {
                self.mark(&end);
            }
        }
        if ends {
            self.machine.ended(id, !self.full, self.now_ms);
        } else if self.full {
            self.machine.not_recorded(id, takes_over);
        } else if takes_over {
            self.machine.taken_over(id);
        }
        !self.full
    }

    fn mark(&mut self, end: &End) {
        let fence = self.fenced.entry(end.identity.producer_id).or_insert(0);
        assert!(
            *fence <= end.identity.epoch,
            "a marker of a fenced producer"
        );
        *fence = end.identity.epoch;
        for partition in &end.partitions {
            let records = self.open.remove(&(*partition, end.identity.producer_id));
            let kept = if end.commit {
                &mut self.committed
            } else {
                &mut self.aborted
            };
            kept.extend(records.unwrap_or_default());
        }
        if end.commit
            && let Some((_, offsets)) = end.offsets.first()
            && let Some((_, committed)) = offsets.first()
        {
            self.offset = Some(committed.offset);
        }
    }

    fn crash(&mut self) {
        self.machine = Transactions::new(Settings::default());
        for (key, value) in &self.table {
            self.machine.load(key, value).unwrap();
        }
        self.machine.loaded();
        for (partition, producer_id) in self.open.clone().into_keys() {
            let epoch = self.fenced.get(&producer_id).copied().unwrap_or(0);
            let identity = Identity { producer_id, epoch };
            if let Some(end) = self.machine.found_open(identity, partition) {
                self.mark(&end);
            }
        }
        reserve(&mut self.machine, &mut self.table);
    }

    fn due(&mut self) {
        while let Some(write) = self.machine.due(self.now_ms) {
            let id = write.id.clone();
            self.append(&id, write);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What a producer was told is committed is, once, with its offsets; what it was told is
    /// aborted, or was left behind, never is; and what is open ends in the end.
    #[test]
    fn committed_is_there_once_and_aborted_never(steps in prop::collection::vec(step(), 1..120)) {
        let mut house = House::default();
        house.crash();
        let mut producers = vec![Producer::default(); 3];
        let (mut told_committed, mut told_aborted) = (Vec::new(), Vec::new());
        let mut next_record = 0;
        for step in steps {
            match step {
                Step::Init { id, knows } => {
                    let name = id.to_string();
                    let expected = producers[id as usize].identity.filter(|_| knows);
                    let init = house.machine.init(&name, TIMEOUT_MS, expected, house.now_ms);
                    if let Ok((identity, write)) = init
                        && house.append(&name, write)
                    {
                        let left = std::mem::take(&mut producers[id as usize]).records;
                        told_aborted.extend(left);
                        producers[id as usize].identity = Some(identity);
                    }
                }
                Step::Add { id, partition } => {
                    let Some(me) = producers[id as usize].identity else { continue };
                    let name = id.to_string();
                    let now_ms = house.now_ms;
                    if let Ok(Some(write)) = house.machine.add_partitions(&name, me, &[partition], now_ms) {
                        house.append(&name, write);
                    }
                }
                Step::Offsets { id, offset } => {
                    let Some(me) = producers[id as usize].identity else { continue };
                    let (name, now_ms) = (id.to_string(), house.now_ms);
                    match house.machine.add_group(&name, me, "g", now_ms) {
                        Ok(Some(write)) => {
                            if !house.append(&name, write) { continue }
                        }
                        Ok(None) => {}
                        Err(_) => continue,
                    }
                    let offsets = vec![(("t".into(), 0), committed(offset))];
                    let write = house.machine.add_offsets(&name, me, "g", offsets, now_ms);
                    // What a full disk refused is committed or not: nobody was told.
                    if let Ok(write) = write {
                        let appended = house.append(&name, write);
                        producers[id as usize].offset = appended.then_some(offset);
                    }
                }
                Step::Append { id, partition } => {
                    let Some(me) = producers[id as usize].identity else { continue };
                    let admitted = house.machine.admits(Some(&id.to_string()), me, partition);
                    if admitted.is_ok() && !house.full {
                        let fence = house.fenced.get(&me.producer_id).copied().unwrap_or(0);
                        prop_assert!(fence <= me.epoch);
                        house.open.entry((partition, me.producer_id)).or_default().push(next_record);
                        producers[id as usize].records.push(next_record);
                        next_record += 1;
                    }
                }
                Step::End { id, commit } => {
                    let Some(me) = producers[id as usize].identity else { continue };
                    let name = id.to_string();
                    let now_ms = house.now_ms;
                    match house.machine.end(&name, me, commit, now_ms) {
                        Ok(Ending::Write(write)) => {
                            if house.append(&name, write) {
                                let producer = &mut producers[id as usize];
                                let records = std::mem::take(&mut producer.records);
                                let offset = producer.offset.take();
                                if commit {
                                    told_committed.extend(records);
                                    prop_assert!(offset.is_none() || house.offset == offset);
                                } else {
                                    told_aborted.extend(records);
                                }
                            }
                        }
                        Ok(Ending::Already) => prop_assert!(producers[id as usize].records.is_empty()),
                        Err(_) => {}
                    }
                }
                Step::Disk { full } => house.full = full,
                Step::Wait { ms } => {
                    house.now_ms += ms;
                    house.due();
                }
                Step::Crash => house.crash(),
            }
        }
        house.full = false;
        house.now_ms += 2 * TIMEOUT_MS as u64;
        house.due();
        house.now_ms += 2 * TIMEOUT_MS as u64;
        house.due();
        prop_assert!(house.open.is_empty(), "{:?} is open for ever", house.open);
        prop_assert_eq!(house.machine.kept_offsets().count(), 0);
        house.committed.sort_unstable();
        told_committed.sort_unstable();
        prop_assert_eq!(&house.committed, &told_committed);
        for record in told_aborted {
            prop_assert!(house.aborted.contains(&record));
        }
    }
}
