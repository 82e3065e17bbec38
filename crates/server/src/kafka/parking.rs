//! Where fetches wait that found too little. A commit wakes those, and only those, whose partitions
//! have grown; nobody polls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use commitlog::PartitionId;
use tokio::sync::Notify;

use super::Source;

/// The waiting fetches by partition.
#[derive(Default)]
pub(super) struct Parking {
    lots: Mutex<HashMap<PartitionId, Lot>>,
    /// Told when somebody parks: commits are only listened to while somebody waits.
    occupied: Notify,
}

/// Those who wait for one partition.
struct Lot {
    /// The visible end when they were last woken, or came.
    end: u64,
    waiting: Vec<Arc<Notify>>,
}

impl Parking {
    /// Waits at each of these partitions, given with the visible end that the caller has seen. The
    /// caller must look once more after this and before it waits: what was committed in between
    /// wakes nobody.
    pub(super) fn park(self: &Arc<Self>, partitions: Vec<(PartitionId, u64)>) -> Parked {
        let wake = Arc::new(Notify::new());
        let mut lots = self.lots.lock().expect("nobody panics with this lock");
        for &(partition, end) in &partitions {
            lots.entry(partition)
                .or_insert_with(|| Lot {
                    end,
                    waiting: Vec::new(),
                })
                .waiting
                .push(wake.clone());
        }
        drop(lots);
        self.occupied.notify_one();
        Parked {
            parking: self.clone(),
            partitions,
            wake,
        }
    }

    fn is_empty(&self) -> bool {
        self.lots
            .lock()
            .expect("nobody panics with this lock")
            .is_empty()
    }

    /// Wakes who waits at a partition that has grown, or is gone.
    fn wake(&self, source: &dyn Source) {
        let mut lots = self.lots.lock().expect("nobody panics with this lock");
        for (&partition, lot) in lots.iter_mut() {
            let end = source
                .watermarks(partition)
                .map_or(u64::MAX, |marks| marks.visible);
            if end != lot.end {
                lot.end = end;
                for waiting in &lot.waiting {
                    waiting.notify_one();
                }
            }
        }
    }
}

/// A fetch that waits; it leaves all its partitions when this goes.
pub(super) struct Parked {
    parking: Arc<Parking>,
    partitions: Vec<(PartitionId, u64)>,
    wake: Arc<Notify>,
}

impl Parked {
    /// Returns when one of the partitions has grown since the last return, or since parking.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        let mut lots = self
            .parking
            .lots
            .lock()
            .expect("nobody panics with this lock");
        for (partition, _) in &self.partitions {
            if let Some(lot) = lots.get_mut(partition) {
                lot.waiting
                    .retain(|waiting| !Arc::ptr_eq(waiting, &self.wake));
                if lot.waiting.is_empty() {
                    lots.remove(partition);
                }
            }
        }
    }
}

/// Wakes the parked for as long as the log commits. While nobody is
/// parked it does not listen, so that a commit wakes no thread for nothing.
pub(super) async fn wake_on_commit(source: Arc<dyn Source>, parking: Weak<Parking>) {
    loop {
        let Some(lots) = parking.upgrade() else {
            return;
        };
        if lots.is_empty() {
            lots.occupied.notified().await;
        }
        let mut commits = source.commits();
        // What was committed before this subscription is seen by the first look.
        lots.wake(&*source);
        while !lots.is_empty() {
            if commits.changed().await.is_err() {
                return;
            }
            lots.wake(&*source);
        }
    }
}
