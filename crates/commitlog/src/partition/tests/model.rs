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
    /// By ranges, from where the last of them ended.
    ReadOn {
        max_bytes: usize,
        up_to: proptest::sample::Index,
        ranges: usize,
    },
    /// One of its closed segments loses batches: those whose bit is not set.
    Compact(proptest::sample::Index, u64),
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
        6 => (0..30_000usize, any::<Index>(), 1..5usize)
            .prop_map(|(max_bytes, up_to, ranges)| Step::ReadOn { max_bytes, up_to, ranges }),
        1 => (any::<Index>(), any::<u64>()).prop_map(|(at, kept)| Step::Compact(at, kept)),
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

/// The bytes of the range.
fn range(reader: &PartitionReader, offset: u64, max_bytes: usize, up_to: u64) -> Vec<u8> {
    let range = reader.range(offset, max_bytes, up_to, WAITS).unwrap();
    let range = range.expect("there are files");
    range.map_or_else(Vec::new, |range| {
        disk::bytes_of(range.file, range.position, range.size_bytes)
    })
}

/// Writes a closed segment anew, without those of its first 64 batches whose bit is not set.
fn compact(
    disk: &MemoryDisk,
    partition: &mut Partition,
    model: &mut Model,
    (at, kept): (proptest::sample::Index, u64),
) {
    let closed = partition.closed();
    if closed.is_empty() {
        return;
    }
    let of = &closed[at.index(closed.len())];
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut rewrite = SegmentRewrite::begin(&shared, DIR, of.base).unwrap();
    let mut seen = 0;
    model.written.retain(|bytes| {
        if !(of.base..of.next).contains(&head(bytes).base_offset()) {
            return true;
        }
        seen += 1;
        let keep = kept >> (seen % 64) & 1 == 1;
        if keep {
            rewrite.append(bytes).unwrap();
        }
        keep
    });
    partition.install(rewrite.finish().unwrap()).unwrap();
}

fn run(steps: Vec<Step>) {
    let disk = MemoryDisk::new();
    let mut partition = new_partition(&disk);
    let mut model = Model::default();
    let mut read_to = 0;
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
            Step::ReadOn {
                max_bytes,
                up_to,
                ranges,
            } => {
                let up_to = up_to.index(written as usize + 3) as u64;
                for _ in 0..ranges {
                    read_to = read_to.clamp(model.log_start, written);
                    let found = range(&partition.reader(), read_to, max_bytes, up_to);
                    let expected = model.read(read_to, max_bytes, up_to);
                    let whole: Vec<&[u8]> = expected.iter().map(|bytes| &bytes[..]).collect();
                    assert!(whole.concat().starts_with(&found));
                    assert_eq!(found.is_empty(), expected.is_empty());
                    if let Some(last) = batches(&found).last() {
                        read_to = last.unwrap().head().next_offset();
                    } else if expected.is_empty() {
                        // Begins anew once it is through.
                        read_to = 0;
                    }
                }
            }
            Step::Compact(at, kept) => compact(&disk, &mut partition, &mut model, (at, kept)),
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
    // One more, as the last may have been compacted away.
    let last = partition.stage(batch(1, 1, 1), 0, 0).unwrap();
    model.staged.push(last.batch);
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
