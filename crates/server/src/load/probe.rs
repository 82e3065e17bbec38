//! Reads what a process has used from `/proc`: CPU time and resident memory.

use std::fs;
use std::io;

/// One reading of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Probe {
    /// User and system time of all threads, in microseconds.
    pub cpu_us: u64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

impl Probe {
    /// Reads the process `pid` now. Fails when it is gone.
    pub fn read(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the command in parentheses and may hold blanks.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|f| f.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident_kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse::<u64>().ok())
            .unwrap_or(0);
        Ok(Self {
            // utime and stime are fields 14 and 15 of proc(5), counted from 1; a tick is 10 ms.
            cpu_us: (ticks(11) + ticks(12)) * 10_000,
            resident_bytes: resident_kib * 1024,
        })
    }
}
