//! A partition against a `Vec` of batches, by random steps.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        records: u64,
        value_bytes: usize,
        ms: i64,
    },
    Write,
    Roll,
    Truncate(proptest::sample::Index),
    Drop(proptest::sample::Index),
    Reopen {
        at_mark: bool,
    },
    Read {
        from: proptest::sample::Index,
        max_bytes: usize,
        up_to: proptest::sample::Index,
    },
    Time(i64),
}

fn step() -> impl Strategy<Value = Step> {
    use proptest::sample::Index;
    prop_oneof![
        8 => (1..6u64, 0..2500usize, 1..2000i64)
            .prop_map(|(records, value_bytes, ms)| Step::Append { records, value_bytes, ms }),
        4 => Just(Step::Write),
        1 => Just(Step::Roll),
        1 => any::<Index>().prop_map(Step::Truncate),
        1 => any::<Index>().prop_map(Step::Drop),
        1 => any::<bool>().prop_map(|at_mark| Step::Reopen { at_mark }),
        4 => (any::<Index>(), 0..30_000usize, any::<Index>())
            .prop_map(|(from, max_bytes, up_to)| Step::Read { from, max_bytes, up_to }),
        2 => (0..2100i64).prop_map(Step::Time),
    ]
}

/// The same partition as a list of batches.
#[derive(Default)]
struct Model {
    written: Vec<Bytes>,
    staged: Vec<Bytes>,
    log_start: u64,
    next_offset: u64,
}

fn head(bytes: &[u8]) -> BatchHead {
    BatchHead::read(bytes).unwrap()
}

impl Model {
    fn read(&self, from: u64, max_bytes: usize, up_to: u64) -> Vec<&Bytes> {
        let reaching = self
            .written
            .iter()
            .skip_while(|batch| head(batch).last_offset() < from);
        let mut size = 0;
        reaching
            .take_while(|batch| {
                let first = size == 0;
                size += batch.len();
                head(batch).last_offset() < up_to && (first || size <= max_bytes)
            })
            .collect()
    }

    fn time(&self, timestamp_ms: i64) -> Option<(u64, i64)> {
        let views = self
            .written
            .iter()
            .map(|bytes| BatchView::parse(bytes).unwrap().0);
        let mut records = views.flat_map(|batch| batch.records().map(Result::unwrap));
        records
            .find(|record| record.offset >= self.log_start && record.timestamp_ms >= timestamp_ms)
            .map(|record| (record.offset, record.timestamp_ms))
    }
}

fn run(steps: Vec<Step>) {
    let disk = MemoryDisk::new();
    let mut partition = new_partition(&disk);
    let mut model = Model::default();
    for step in steps {
        let written = model
            .written
            .last()
            .map_or(model.log_start, |last| head(last).next_offset());
        let written = written.max(partition.mark().next_offset);
        match step {
            Step::Append {
                records,
                value_bytes,
                ms,
            } => {
                let staged = partition
                    .stage(batch(records, value_bytes, ms), 0, 0)
                    .unwrap();
                assert_eq!(staged.base_offset, model.next_offset);
                model.next_offset = staged.last_offset + 1;
                model.staged.push(staged.batch);
            }
            Step::Write | Step::Roll => {
                if matches!(step, Step::Roll) {
                    partition.roll().unwrap();
                } else {
                    partition.write().unwrap();
                }
                model.written.append(&mut model.staged);
            }
            Step::Truncate(at) => {
                let offset =
                    model.log_start + at.index((written - model.log_start + 1) as usize) as u64;
                let next_offset = partition.truncate_to(offset).unwrap();
                model
                    .written
                    .retain(|batch| head(batch).last_offset() < offset);
                model.staged.clear();
                let last = model.written.last().map(|last| head(last).next_offset());
                assert!(next_offset <= offset && last.is_none_or(|last| last <= next_offset));
                model.next_offset = next_offset;
                model.log_start = model.log_start.min(next_offset);
            }
            Step::Drop(at) => {
                let offset = at.index(written as usize + 1) as u64;
                partition.drop_segments_before(offset).unwrap();
                model.log_start = partition.log_start();
                assert!(model.log_start <= offset.max(model.log_start));
                model
                    .written
                    .retain(|batch| head(batch).last_offset() >= model.log_start);
            }
            Step::Reopen { at_mark } => {
                let mark = partition.mark();
                drop(partition);
                let notices;
                (partition, notices) = open(&disk, at_mark.then_some(mark));
                assert_eq!(notices, []);
                assert_eq!(partition.mark().position, mark.position);
                model.staged.clear();
                model.log_start = partition.log_start();
                model.next_offset = partition.next_offset();
            }
            Step::Read {
                from,
                max_bytes,
                up_to,
            } => {
                let from =
                    model.log_start + from.index((written - model.log_start + 1) as usize) as u64;
                let up_to = up_to.index(written as usize + 3) as u64;
                let found = partition
                    .reader()
                    .read(from, max_bytes, up_to)
                    .unwrap()
                    .concat();
                let expected: Vec<&[u8]> = model
                    .read(from, max_bytes, up_to)
                    .iter()
                    .map(|bytes| &bytes[..])
                    .collect();
                // A read may end with its segment, but not before its first batch.
                assert!(expected.concat().starts_with(&found));
                assert_eq!(
                    found.is_empty(),
                    expected.is_empty(),
                    "from {from} up to {up_to}"
                );
            }
            Step::Time(ms) => {
                assert_eq!(
                    partition.reader().offset_for_time(ms).unwrap(),
                    model.time(ms)
                );
            }
        }
        assert_eq!(partition.next_offset(), model.next_offset);
        let stored: u64 = partition
            .segments()
            .iter()
            .map(|segment| segment.size_bytes)
            .sum();
        assert_eq!(partition.size_bytes(), stored);
    }
    partition.write().unwrap();
    model.written.append(&mut model.staged);
    assert_eq!(
        read_all(&partition.reader(), model.log_start),
        model.written
    );
    let bytes: usize = model.written.iter().map(Bytes::len).sum();
    assert!(partition.size_bytes() >= bytes as u64);
}

proptest! {
    #[test]
    fn a_partition_behaves_like_a_list(steps in vec(step(), 1..60)) {
        run(steps);
    }
}
