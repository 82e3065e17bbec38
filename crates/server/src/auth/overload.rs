//! Whether the process has so much memory in use that nobody new may come in.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the process has in use, and what it may have.
#[derive(Debug, Default)]
pub struct Overload {
    memory_bytes_max: Option<u64>,
    memory_bytes: AtomicU64,
    over: AtomicBool,
}

impl Overload {
    /// With a bound, or without.
    pub fn new(memory_bytes_max: Option<u64>) -> Self {
        Self {
            memory_bytes_max,
            ..Self::default()
        }
    }

    /// Looks from time to time, for as long as it is in use.
    pub fn watch(self: &Arc<Self>) {
        if self.memory_bytes_max.is_none() {
            return;
        }
        let this: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(overload) = this.upgrade() {
                if let Some(bytes) = resident_bytes() {
                    overload.see(bytes);
                }
                drop(overload);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }

    /// Whether nobody new may come in.
    pub fn refuses(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// The process has so much in use. Once over the bound it must fall a twentieth below it, so
    /// that the door does not open and close with every connection.
    fn see(&self, bytes: u64) {
        let Some(most) = self.memory_bytes_max else {
            return;
        };
        self.memory_bytes.store(bytes, Ordering::Relaxed);
        let was = self.refuses();
        let over = bytes > if was { most - most / 20 } else { most };
        self.over.store(over, Ordering::Relaxed);
        if over != was {
            tracing::warn!(bytes, most, over, "memory and new MQTT connections");
        }
    }
}

/// Memory of this process that is in RAM.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_closes_over_the_bound_and_opens_well_below_it() {
        let overload = Overload::new(Some(1_000));
        for (bytes, refuses) in [
            (1_000, false),
            (1_001, true),
            (960, true),
            (950, false),
            (999, false),
        ] {
            overload.see(bytes);
            assert_eq!(overload.refuses(), refuses, "{bytes}");
        }
        let unbounded = Overload::new(None);
        unbounded.see(u64::MAX);
        assert!(!unbounded.refuses());
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
