//! Free space on the disk: appends are refused before they start when it falls below the reserve,
//! and go on by themselves when it rises again.

use crate::disk::Disk;
use crate::error::Error;
use crate::limits::{PROBE_BYTES, PROBE_FULL_MS, PROBE_MS};

/// Knows about how much is free without asking for every append.
pub(crate) struct SpaceGuard {
    reserve_bytes: u64,
    free_bytes: u64,
    spent_bytes: u64,
    /// Claimed before the probe, and not on the disk then.
    gathered_bytes: u64,
    probed_ms: Option<u64>,
}

impl SpaceGuard {
    pub(crate) fn new(reserve_bytes: u64) -> Self {
        Self {
            reserve_bytes,
            free_bytes: 0,
            spent_bytes: 0,
            gathered_bytes: 0,
            probed_ms: None,
        }
    }

    /// Counts `bytes` as about to be written, or refuses them; `gathered()` were counted before and
    /// have not come to the disk yet.
    pub(crate) fn claim(
        &mut self,
        disk: &dyn Disk,
        bytes: u64,
        gathered: impl FnOnce() -> u64,
        now_ms: u64,
    ) -> Result<(), Error> {
        if self.reserve_bytes == 0 {
            return Ok(());
        }
        if self.is_stale(bytes, now_ms) {
            self.free_bytes = disk.free_bytes().map_err(|e| Error::disk("", "probe", e))?;
            self.gathered_bytes = gathered();
            self.spent_bytes = 0;
            self.probed_ms = Some(now_ms);
        }
        if self.left().saturating_sub(bytes) < self.reserve_bytes {
            return Err(Error::Full {
                free_bytes: self.free_bytes.saturating_sub(self.spent_bytes),
                reserve_bytes: self.reserve_bytes,
            });
        }
        self.spent_bytes += bytes;
        Ok(())
    }

    /// Free space that stays free, in bytes.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    fn left(&self) -> u64 {
        self.free_bytes
            .saturating_sub(self.gathered_bytes + self.spent_bytes)
    }

    fn is_stale(&self, bytes: u64, now_ms: u64) -> bool {
        let Some(probed_ms) = self.probed_ms else {
            return true;
        };
        let full = self.left().saturating_sub(bytes) < self.reserve_bytes;
        let wait_ms = if full { PROBE_FULL_MS } else { PROBE_MS };
        // A wall clock that was set back must not stop the asking.
        let age_ms = now_ms.checked_sub(probed_ms).unwrap_or(wait_ms);
        age_ms >= wait_ms || self.spent_bytes >= PROBE_BYTES
    }
}

/// Whether work that can wait finds room for so many bytes above the reserve; asks the disk.
pub(crate) fn leave_reserve(disk: &dyn Disk, reserve_bytes: u64, bytes: u64) -> Result<(), Error> {
    if reserve_bytes == 0 {
        return Ok(());
    }
    let free_bytes = disk.free_bytes().map_err(|e| Error::disk("", "probe", e))?;
    if free_bytes.saturating_sub(bytes) < reserve_bytes {
        return Err(Error::Full {
            free_bytes,
            reserve_bytes,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn a_full_disk_refuses_and_heals() {
        let disk = MemoryDisk::new();
        disk.set_free_bytes(1 << 30);
        let mut guard = SpaceGuard::new(64 << 20);
        guard.claim(&disk, 1000, || 0, 0).unwrap();
        disk.set_free_bytes(10 << 20);
        guard.claim(&disk, 1000, || 0, 500).unwrap();
        let error = guard.claim(&disk, 1000, || 0, 1000).unwrap_err();
        assert!(
            error.to_string().contains("10485760 bytes are free"),
            "{error}"
        );
        disk.set_free_bytes(1 << 30);
        guard.claim(&disk, 1000, || 0, 1050).unwrap_err();
        guard.claim(&disk, 1000, || 0, 1100).unwrap();
    }

    #[test]
    fn many_bytes_are_noticed_without_time_passing() {
        let disk = MemoryDisk::new();
        disk.set_free_bytes(1 << 30);
        let mut guard = SpaceGuard::new(64 << 20);
        guard.claim(&disk, PROBE_BYTES, || 0, 0).unwrap();
        disk.set_free_bytes(0);
        guard.claim(&disk, 1, || 0, 0).unwrap_err();
    }
}
