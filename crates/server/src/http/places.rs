//! The places of a listener's connections: so many in all, so many for one address, and some that only
//! programs of this machine get, such as the one that asks whether the node is well. It knows no sockets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limits::{
    CONNECTIONS_KEPT_FOR_THIS_MACHINE, CONNECTIONS_MAX, CONNECTIONS_MAX_PER_ADDRESS,
};

/// Connections of addresses that are not this machine's.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    /// `None`: this machine's, which are not counted here.
    address: Option<IpAddr>,
}

impl Places {
    /// A place for a connection of that address; `None`: it has its share, or others have all.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        const OTHERS_MAX: usize = CONNECTIONS_MAX - CONNECTIONS_KEPT_FOR_THIS_MACHINE;
        let is_here = address.to_canonical().is_loopback();
        let address = (!is_here).then(|| crate::auth::counted_as(address));
        if let Some(address) = address {
            let mut taken = self.taken();
            let own = taken.by_address.get(&address).copied().unwrap_or(0);
            if taken.all >= OTHERS_MAX || own >= CONNECTIONS_MAX_PER_ADDRESS {
                return None;
            }
            taken.all += 1;
            taken.by_address.insert(address, own + 1);
        }
        Some(Place {
            places: Arc::clone(self),
            address,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut taken = self.places.taken();
        taken.all -= 1;
        match taken.by_address.get_mut(&address) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    #[test]
    fn nobody_takes_the_places_of_all_others() {
        let places = Arc::new(Places::default());
        let enter = |address: IpAddr| places.enter(address);
        let mut held: Vec<Place> = std::iter::from_fn(|| enter(of(1))).collect();
        assert_eq!(held.len(), CONNECTIONS_MAX_PER_ADDRESS);
        assert!(enter("::ffff:10.0.0.1".parse().unwrap()).is_none());
        let other = enter(of(2)).expect("another address has its own");
        for number in 3.. {
            let more: Vec<Place> = std::iter::from_fn(|| enter(of(number))).collect();
            if more.is_empty() {
                break;
            }
            held.extend(more);
        }
        let most = CONNECTIONS_MAX - CONNECTIONS_KEPT_FOR_THIS_MACHINE;
        assert_eq!(held.len() + 1, most);
        let here: Vec<_> = (0..=CONNECTIONS_MAX)
            .map(|_| enter(IpAddr::from([127, 0, 0, 1])))
            .collect();
        assert!(here.iter().all(Option::is_some), "this machine comes in");
        drop(other);
        assert!(enter(of(2)).is_some(), "a place is free again");
        drop(held);
        assert!(places.taken().by_address.is_empty());
    }

    #[test]
    fn an_address_of_six_is_counted_by_its_network() {
        let places = Arc::new(Places::default());
        let of = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]);
        let held: Vec<_> = (0..100).map_while(|host| places.enter(of(host))).collect();
        assert_eq!(held.len(), CONNECTIONS_MAX_PER_ADDRESS);
    }
}
