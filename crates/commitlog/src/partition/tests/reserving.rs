//! Space that is reserved behind the end of a segment, and given back (decision 0014).

use super::*;

#[test]
fn large_writes_reserve_space_and_a_closed_segment_keeps_none() {
    let disk = MemoryDisk::new();
    let settings = PartitionSettings {
        segment_bytes: 64 << 20,
        ..SETTINGS
    };
    let log = format!("{DIR}/{:020}.log", 0);
    let mut partition = Partition::create(Arc::new(disk.clone()), DIR, settings).unwrap();
    append(&mut partition, batch(10, 500, 0));
    assert_eq!(disk.reserved(&log), 0, "a small write finds its own");
    let mut reserved = Vec::new();
    while partition.mark().position <= 3 * RESERVED_AHEAD_BYTES {
        append(&mut partition, batch(10, 10_000, 0));
        reserved.push(disk.reserved(&log));
        assert!(partition.mark().position <= disk.reserved(&log));
    }
    reserved.dedup();
    // Each time the file has all it had, and ends where a large page does.
    assert_eq!(
        reserved,
        [2 * RESERVED_AHEAD_BYTES, 4 * RESERVED_AHEAD_BYTES]
    );

    sync(&mut partition, &disk);
    let mark = partition.mark();
    drop(partition);
    assert!(
        disk.reserved(&log) > 0,
        "a killed process gives nothing back"
    );
    let open = Partition::open(Arc::new(disk.clone()), DIR, settings, Some(mark));
    let (mut partition, _) = open.unwrap();
    assert_eq!(disk.reserved(&log), 0);

    append(&mut partition, batch(10, 10_000, 0));
    partition.release_unused().unwrap();
    assert!(disk.reserved(&log) > 0, "it is busy");
    append(&mut partition, batch(10, 500, 0));
    let end = partition.mark().position;
    partition.release_unused().unwrap();
    assert_eq!(disk.reserved(&log), 0, "it was");
    assert_eq!(disk.contents(&log).unwrap().len() as u64, end);

    append(&mut partition, batch(10, 10_000, 0));
    assert!(disk.reserved(&log) > 0);
    assert!(partition.roll().unwrap());
    assert_eq!(disk.reserved(&log), 0);

    disk.set_free_bytes(RESERVE_FREE_BYTES_MIN - 1);
    append(&mut partition, batch(10, 10_000, 0));
    let second = format!("{DIR}/{:020}.log", partition.mark().segment_base);
    assert_eq!(disk.reserved(&second), 0, "what little is free is for all");
}

#[test]
fn no_more_is_reserved_than_a_segment_takes() {
    let disk = MemoryDisk::new();
    let settings = PartitionSettings {
        segment_bytes: 200_000,
        ..SETTINGS
    };
    let mut partition = Partition::create(Arc::new(disk.clone()), DIR, settings).unwrap();
    append(&mut partition, batch(10, 10_000, 0));
    assert_eq!(disk.reserved(&format!("{DIR}/{:020}.log", 0)), 200_000);
}
