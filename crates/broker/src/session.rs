//! A client's session: what outlives its connection, or would. Holds state; the decisions are in
//! the shard.

use crate::inbox::{IdList, Inbox, Owed};
use crate::input::{ConnId, GroupName, Now};
use crate::message::Position;
use crate::will::OwnedWill;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use mqtt::inflight::{Inbound, Outbound};
use mqtt::{SubscribeOptions, Version};
use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// A session at one incarnation: what timers, reads and commits answer to. A resumed session is
/// another incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionRef {
    pub slot: u32,
    /// Which session it is; slots are used again.
    pub born: u64,
    pub incarnation: u64,
}

/// One subscription of a session.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    /// As the client wrote it, with `$share/group/` in front of a shared one.
    pub filter: Arc<str>,
    pub options: SubscribeOptions,
    /// Subscription identifier; 0 is none.
    pub id: u32,
}

/// State of one session.
#[derive(Debug)]
pub(crate) struct Session {
    pub client_id: Arc<str>,
    pub username: Option<Box<str>>,
    /// Never changes.
    pub born: u64,
    /// Changes whenever the session is resumed.
    pub incarnation: u64,
    /// The connection, while there is one.
    pub conn: Option<ConnId>,
    pub protocol: Version,
    /// Seconds it outlives its connection; 0: it ends with it and writes nothing.
    pub expiry_s: u32,
    /// Whether the table has a will record of it.
    pub will_saved: bool,
    /// A turn with its records was refused: they are written anew at the next CONNECT.
    pub unsaved: bool,
    /// Whether its inbox changed since the last snapshot.
    pub dirty: bool,
    /// A subscription was taken from it, and it may be owed messages that came by that.
    pub revoked: bool,
    pub will: Option<Box<OwnedWill>>,
    /// When the connection ended; of no meaning while there is one.
    pub disconnected: Now,
    /// When the connection began, ms since the epoch.
    pub connected_ms: u64,
    pub subscriptions: Vec<Subscription>,
    pub inbound: Inbound,
    pub outbound: Outbound<Owed>,
    pub backlog: Backlog,
}

/// What a session is owed and could not be sent at once.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pub inbox: Inbox,
    /// Packet ids in flight whose PUBLISH (or PUBREL) is to be sent, in order.
    pub transmit: VecDeque<u16>,
    /// Token of the read that is under way; 0 is none.
    pub reading: u64,
    /// Rare parts.
    pub rare: Option<Box<Rare>>,
}

/// A message that a shared group lent.
#[derive(Debug)]
pub(crate) struct Borrowed {
    pub position: Position,
    pub group: GroupName,
    /// The group outlives the process: what becomes of the message is journalled.
    pub journal: bool,
}

/// What few sessions need.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// Lists of subscription identifiers that owed messages refer to.
    pub id_lists: Vec<Box<[u32]>>,
    /// Messages held that shared groups lent.
    pub loans: Vec<Borrowed>,
}

impl Session {
    /// A session without a connection.
    pub(crate) fn new(client_id: Arc<str>, protocol: Version) -> Self {
        Self {
            client_id,
            username: None,
            born: 0,
            incarnation: 0,
            conn: None,
            protocol,
            expiry_s: 0,
            will_saved: false,
            unsaved: false,
            dirty: false,
            revoked: false,
            will: None,
            disconnected: Now::default(),
            connected_ms: 0,
            subscriptions: Vec::new(),
            inbound: Inbound::new(u16::MAX),
            outbound: Outbound::new(u16::MAX),
            backlog: Backlog::default(),
        }
    }

    /// Whether it outlives its connection.
    pub(crate) fn is_persistent(&self) -> bool {
        self.expiry_s > 0
    }

    /// The user name, `""` when absent.
    pub(crate) fn username(&self) -> &str {
        self.username.as_deref().unwrap_or("")
    }

    /// The lists that [`IdList`] refers to.
    pub(crate) fn id_lists(&self) -> &[Box<[u32]>] {
        self.backlog
            .rare
            .as_ref()
            .map_or(&[], |rare| &rare.id_lists)
    }

    /// An [`IdList`] for `ids`.
    pub(crate) fn list_ids(&mut self, ids: &[u32]) -> IdList {
        match ids {
            [] => IdList::NONE,
            &[id] => IdList::one(id),
            _ => {
                let lists = &mut self.backlog.rare.get_or_insert_default().id_lists;
                let at = lists
                    .iter()
                    .position(|list| **list == *ids)
                    .unwrap_or_else(|| {
                        lists.push(ids.into());
                        lists.len() - 1
                    });
                IdList::listed(at as u32)
            }
        }
    }

    /// The loan of the message at `position`.
    pub(crate) fn loan(&self, position: Position) -> Option<&Borrowed> {
        let loans = &self.backlog.rare.as_ref()?.loans;
        loans.iter().find(|loan| loan.position == position)
    }

    /// Remembers a loan.
    pub(crate) fn borrow(&mut self, loan: Borrowed) {
        self.backlog.rare.get_or_insert_default().loans.push(loan);
    }

    /// Forgets a loan and answers whose it was.
    pub(crate) fn give_back(&mut self, position: Position) -> Option<Borrowed> {
        let loans = &mut self.backlog.rare.as_mut()?.loans;
        let at = loans.iter().position(|loan| loan.position == position)?;
        Some(loans.swap_remove(at))
    }

    /// Where in [`Session::subscriptions`] the one to `filter` is.
    pub(crate) fn subscription(&self, filter: &str) -> Option<usize> {
        self.subscriptions
            .iter()
            .position(|subscription| *subscription.filter == *filter)
    }
}

/// All sessions of a shard, by slot and by client id.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    slots: Vec<Option<Box<Session>>>,
    free: Vec<u32>,
    by_client: HashMap<Arc<str>, u32, RandomState>,
    last_incarnation: u64,
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    pub(crate) fn find(&self, client_id: &str) -> Option<u32> {
        self.by_client.get(client_id).copied()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Session> {
        self.slots.get(slot as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Session> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The slot, if the session is still in this incarnation.
    pub(crate) fn current(&self, session: SessionRef) -> Option<u32> {
        (self.get(session.slot)?.incarnation == session.incarnation).then_some(session.slot)
    }

    /// The slot, if the session still exists, resumed or not.
    pub(crate) fn living(&self, session: SessionRef) -> Option<u32> {
        (self.get(session.slot)?.born == session.born).then_some(session.slot)
    }

    /// The session as it is now.
    pub(crate) fn reference(&self, slot: u32) -> SessionRef {
        let session = &self[slot];
        SessionRef {
            slot,
            born: session.born,
            incarnation: session.incarnation,
        }
    }

    /// Adds a session; its client id must be new.
    pub(crate) fn add(&mut self, mut session: Session) -> u32 {
        session.born = self.next_incarnation();
        session.incarnation = session.born;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        let before = self.by_client.insert(session.client_id.clone(), slot);
        assert!(before.is_none(), "one session a client id");
        self.slots[slot as usize] = Some(Box::new(session));
        slot
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Box<Session>> {
        let session = self.slots.get_mut(slot as usize)?.take()?;
        self.by_client.remove(&*session.client_id);
        self.free.push(slot);
        Some(session)
    }

    /// A number no session of this shard had before.
    pub(crate) fn next_incarnation(&mut self) -> u64 {
        self.last_incarnation += 1;
        self.last_incarnation
    }

    /// All slots in use, in order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.slots.len() as u32).filter(|&slot| self.slots[slot as usize].is_some())
    }
}

impl Index<u32> for Sessions {
    type Output = Session;

    fn index(&self, slot: u32) -> &Session {
        self.slots[slot as usize]
            .as_deref()
            .expect("the slot is that of a live session")
    }
}

impl IndexMut<u32> for Sessions {
    fn index_mut(&mut self, slot: u32) -> &mut Session {
        self.slots[slot as usize]
            .as_deref_mut()
            .expect("the slot is that of a live session")
    }
}
