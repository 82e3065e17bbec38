//! Who is connected: the bounds on connections, whole and per address, and what is shown of each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::Notify;

use super::caller::Caller;
use crate::auth::counted_as;
use crate::node::wall_ms;

/// A connection as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ConnectionRow {
    /// Number of the connection since the start of the node.
    pub id: u64,
    /// The client's address.
    #[schema(value_type = String)]
    pub peer: SocketAddr,
    /// The address at which it reached the node.
    #[schema(value_type = String)]
    pub local: SocketAddr,
    /// Who it is, as Kafka writes it: `User:alice`.
    pub principal: String,
    /// What it calls itself; empty before its first request.
    pub client_id: String,
    /// Name of its library (KIP-511), where it tells.
    pub software_name: Option<String>,
    /// Version of its library.
    pub software_version: Option<String>,
    /// When it came, ms since the epoch.
    pub connected_ms: u64,
    /// Requests so far.
    pub requests: u64,
    /// Requests begun and not yet answered.
    pub outstanding: u64,
}

/// All connections of a front door.
#[derive(Default)]
pub(super) struct Roster {
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    next: u64,
    rows: BTreeMap<u64, Arc<Row>>,
    by_address: HashMap<IpAddr, u32>,
}

struct Row {
    caller: Mutex<Arc<Caller>>,
    /// The caller is a user who has logged in.
    is_user: AtomicBool,
    /// Told when that user's password is another or the user is there no more.
    revoked: Notify,
    connected_ms: u64,
    requests: AtomicU64,
    outstanding: AtomicU64,
}

impl Roster {
    /// Takes a connection in; `None` where there are too many, or too many from its address.
    pub fn admit(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        connections_max: u32,
        per_address_max: u32,
    ) -> Option<Place> {
        let address = counted_as(caller.peer.ip());
        let mut inside = self.lock();
        let Inside {
            next,
            rows,
            by_address,
        } = &mut *inside;
        if rows.len() >= connections_max as usize {
            return None;
        }
        let from_there = by_address.entry(address).or_default();
        if *from_there >= per_address_max {
            return None;
        }
        *from_there += 1;
        *next += 1;
        let row = Arc::new(Row {
            caller: Mutex::new(caller.clone()),
            is_user: AtomicBool::new(false),
            revoked: Notify::new(),
            connected_ms: wall_ms(),
            requests: AtomicU64::new(0),
            outstanding: AtomicU64::new(0),
        });
        rows.insert(*next, row.clone());
        Some(Place {
            roster: self.clone(),
            id: *next,
            address,
            row,
        })
    }

    /// A page of connections behind the number `after`, oldest first.
    pub fn rows(&self, after: u64, limit: usize) -> Vec<ConnectionRow> {
        let inside = self.lock();
        let rows = inside.rows.range(after.saturating_add(1)..).take(limit);
        rows.map(|(&id, row)| row.shown(id)).collect()
    }

    /// Ends the connections of users who logged in by these names.
    pub fn revoke(&self, names: &BTreeSet<String>) {
        for row in self.lock().rows.values() {
            let caller = row.caller.lock().unwrap_or_else(PoisonError::into_inner);
            if row.is_user.load(Ordering::Relaxed) && names.contains(caller.principal.name()) {
                row.revoked.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn shown(&self, id: u64) -> ConnectionRow {
        let caller = self
            .caller
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (software_name, software_version) = caller.software.clone().unzip();
        ConnectionRow {
            id,
            peer: caller.peer,
            local: caller.local,
            principal: caller.principal.to_string(),
            client_id: caller.client_id.to_string(),
            software_name,
            software_version,
            connected_ms: self.connected_ms,
            requests: self.requests.load(Ordering::Relaxed),
            outstanding: self.outstanding.load(Ordering::Relaxed),
        }
    }
}

/// The place of one connection; leaves the roster when it goes.
pub(super) struct Place {
    roster: Arc<Roster>,
    id: u64,
    address: IpAddr,
    row: Arc<Row>,
}

impl Place {
    /// The connection turned out to be somebody else, or to have another name.
    pub fn is_now(&self, caller: &Arc<Caller>) {
        *self
            .row
            .caller
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = caller.clone();
    }

    /// A user has logged in: `caller`.
    pub fn is_user(&self, caller: &Arc<Caller>) {
        self.is_now(caller);
        self.row.is_user.store(true, Ordering::Relaxed);
    }

    /// Returns when the user who logged in is to leave.
    pub fn revoked(&self) -> impl Future<Output = ()> + Send + 'static {
        let row = self.row.clone();
        async move { row.revoked.notified().await }
    }

    /// A request was begun.
    pub fn begun(&self) {
        self.row.requests.fetch_add(1, Ordering::Relaxed);
        self.row.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    /// The oldest outstanding request is answered.
    pub fn answered(&self) {
        self.row.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.roster.lock();
        inside.rows.remove(&self.id);
        if let Some(from_there) = inside.by_address.get_mut(&self.address) {
            *from_there -= 1;
            if *from_there == 0 {
                inside.by_address.remove(&self.address);
            }
        }
    }
}
