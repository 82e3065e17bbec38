//! What this machine's disk does by itself: the floor under every figure that waits for a flush. A
//! shared disk stalls now and then, whoever uses it; a latency is judged beside that.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::bench::fresh_folder;
use crate::process::scratch;

/// How much is written before each flush: about a journal entry of 20,000 messages a second.
const WRITE_BYTES: usize = 8 << 10;

/// The file is written again and again, as the journal's parts are.
const FILE_BYTES: u64 = 64 << 20;

/// Between two flushes.
const PAUSE: Duration = Duration::from_millis(1);

/// Longer flushes are stalls: what a PUBACK may take.
const STALL_MS: f64 = 5.0;

/// How long the disk takes to make writes of several sizes durable.
pub fn flush_times() -> anyhow::Result<()> {
    let folder = fresh_folder("bench-disk")?;
    let mut file = File::create(folder.join("probe"))?;
    file.write_all(&vec![0; 2 << 20])?;
    file.sync_all()?;
    print!("fdatasync in {}:", scratch().display());
    for (name, size) in [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        let bytes = vec![7_u8; size];
        let mut times = Vec::new();
        for _ in 0..50 {
            times.push(flush_ms(&mut file, 0, &bytes)?);
        }
        times.sort_by(f64::total_cmp);
        print!("  {name} p50 {:.2} ms, p99 {:.2} ms", times[25], times[49]);
    }
    println!();
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Flushes of a journal's size, one a millisecond, with nothing else running; prints how long they
/// took and which share of the time was spent in stalls.
pub fn disk_alone(when: &str, time: Duration) -> anyhow::Result<()> {
    ensure!(!time.is_zero(), "a look at the disk takes some time");
    let folder = fresh_folder("bench-disk")?;
    let mut file = File::create(folder.join("probe"))?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    let bytes = vec![7_u8; WRITE_BYTES];
    let (start, mut at, mut times) = (Instant::now(), 0, Vec::new());
    while start.elapsed() < time {
        times.push(flush_ms(&mut file, at, &bytes)?);
        at = (at + WRITE_BYTES as u64) % FILE_BYTES;
        std::thread::sleep(PAUSE);
    }
    fs::remove_dir_all(&folder)?;
    let stalls: Vec<f64> = times.iter().copied().filter(|ms| *ms > STALL_MS).collect();
    times.sort_by(f64::total_cmp);
    let part = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "the disk alone {when} ({} s, fdatasync of 8 KiB a ms): p50 {:.2}, p99 {:.2}, p99.9 {:.2}, \
         max {:.1} ms; {} above {STALL_MS} ms, {:.1} % of the time",
        time.as_secs(),
        part(0.5),
        part(0.99),
        part(0.999),
        part(1.0),
        stalls.len(),
        stalls.iter().sum::<f64>() / time.as_secs_f64() / 10.0
    );
    Ok(())
}

fn flush_ms(file: &mut File, at: u64, bytes: &[u8]) -> std::io::Result<f64> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)?;
    let start = Instant::now();
    file.sync_data()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
