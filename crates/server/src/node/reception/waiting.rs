//! Who has connected and not said enough yet to be judged: bounded places, of which those who wait for
//! longest at the busiest address are taken back when there are too few. It knows no bytes.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limits::{WAITING_GRACE, WAITING_MAX};
use crate::auth::counted_as;

/// The places of one listener.
#[derive(Debug, Default)]
pub struct WaitingRoom {
    inside: Mutex<Inside>,
    /// A place was given back.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    last: u64,
    /// In the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Waiting {
    address: IpAddr,
    since: Instant,
    leave: Arc<Notify>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    room: Arc<WaitingRoom>,
    number: u64,
    leave: Arc<Notify>,
}

impl WaitingRoom {
    /// Takes a place for a connection from `address` at `now`, if need be one that somebody else has
    /// had for too long; or says how long to wait until there may be one.
    fn take(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Seat, Duration> {
        let mut inside = self.lock();
        if inside.waiting.len() >= WAITING_MAX {
            inside.take_back(now)?;
        }
        let address = counted_as(address);
        inside.last += 1;
        let number = inside.last;
        let leave = Arc::new(Notify::new());
        *inside.by_address.entry(address).or_default() += 1;
        let waiting = Waiting {
            address,
            since: now,
            leave: Arc::clone(&leave),
        };
        inside.waiting.insert(number, waiting);
        drop(inside);
        Ok(Seat {
            room: Arc::clone(self),
            number,
            leave,
        })
    }

    /// Takes a place as soon as there is one.
    pub async fn enter(self: &Arc<Self>, address: IpAddr) -> Seat {
        loop {
            let wait = match self.take(address, Instant::now()) {
                Ok(seat) => return seat,
                Err(wait) => wait,
            };
            tokio::select! {
                () = self.freed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// Takes back the place of the one that has waited for longest among those of the address that
    /// has most. Everybody has some time, so that a fleet that comes at once waits in the backlog.
    fn take_back(&mut self, now: Instant) -> Result<(), Duration> {
        let most = self.by_address.iter().max_by_key(|(_, count)| **count);
        let Some(busiest) = most.map(|(address, _)| *address) else {
            return Ok(());
        };
        let of_it = |(_, waiting): &(&u64, &Waiting)| waiting.address == busiest;
        let Some((&number, oldest)) = self.waiting.iter().find(of_it) else {
            return Ok(());
        };
        let waited = now.saturating_duration_since(oldest.since);
        if let Some(left) = WAITING_GRACE
            .checked_sub(waited)
            .filter(|left| !left.is_zero())
        {
            return Err(left);
        }
        oldest.leave.notify_one();
        self.remove(number);
        Ok(())
    }

    fn remove(&mut self, number: u64) -> bool {
        let Some(gone) = self.waiting.remove(&number) else {
            return false;
        };
        self.leave(gone.address);
        true
    }

    fn leave(&mut self, address: IpAddr) {
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Seat {
    /// It comes from there, as a trusted proxy says.
    pub fn is_now(&self, address: IpAddr) {
        let address = counted_as(address);
        let mut inside = self.room.lock();
        let Some(waiting) = inside.waiting.get_mut(&self.number) else {
            return;
        };
        let before = std::mem::replace(&mut waiting.address, address);
        inside.leave(before);
        *inside.by_address.entry(address).or_default() += 1;
    }

    /// Returns when the place is taken back.
    pub async fn taken_back(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.room.lock().remove(self.number) {
            self.room.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    async fn is_taken_back(seat: &Seat) -> bool {
        let told = seat.taken_back();
        tokio::time::timeout(Duration::ZERO, told).await.is_ok()
    }

    #[tokio::test]
    async fn who_takes_all_places_loses_the_oldest_to_those_who_come() {
        let room = Arc::new(WaitingRoom::default());
        let start = Instant::now();
        let early = room.take(OTHER, start).unwrap();
        let seats: Vec<Seat> = (1..WAITING_MAX)
            .map(|_| room.take(BUSY, start).unwrap())
            .collect();
        let soon = start + WAITING_GRACE / 4;
        assert_eq!(room.take(OTHER, soon).unwrap_err(), WAITING_GRACE * 3 / 4);
        let late = start + WAITING_GRACE;
        let came: Vec<Seat> = (0..10).map(|_| room.take(OTHER, late).unwrap()).collect();
        assert_eq!(room.len(), WAITING_MAX);
        for (number, seat) in seats.iter().enumerate().take(20) {
            assert_eq!(is_taken_back(seat).await, number < 10, "{number}");
        }
        assert!(
            !is_taken_back(&early).await,
            "it is not of the busiest address"
        );
        drop((seats, came));
        assert_eq!(room.len(), 1);
        early.is_now(BUSY);
        assert_eq!(room.lock().by_address.get(&BUSY), Some(&1));
        drop(early);
        assert!(room.lock().by_address.is_empty() && room.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_place_that_is_given_back_is_had_at_once() {
        let room = Arc::new(WaitingRoom::default());
        let mut seats = Vec::new();
        for _ in 0..WAITING_MAX {
            seats.push(room.enter(BUSY).await);
        }
        let waits = room.enter(OTHER);
        tokio::pin!(waits);
        assert!(
            tokio::time::timeout(Duration::ZERO, &mut waits)
                .await
                .is_err()
        );
        seats.pop();
        assert!(tokio::time::timeout(WAITING_GRACE / 2, waits).await.is_ok());
    }
}
