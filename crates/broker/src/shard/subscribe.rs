//! SUBSCRIBE and UNSUBSCRIBE. A change of a session that outlives its connection takes effect at
//! its place in the journal, that of any other at once; retained messages follow from there.

use super::Shard;
use super::answers::Answer;
use super::deliver::Live;
use super::matches::{Subscriber, Who};
use crate::access::Action;
use crate::input::{ConnId, Now, RetainedRequest};
use crate::limits::{FILTER_LEVELS_MAX, SUBSCRIBE_FILTERS_MAX};
use crate::message::{Commit, OwnedMessage};
use crate::outbox::Outbox;
use crate::retained::RetainedPage;
use crate::session::{SessionRef, Subscription};
use crate::turn::EventFacts;
use commitlog::{Ack as Level, Lsn};
use mqtt::{
    QoS, ReasonCode, RetainHandling, Subscribe, SubscribeOptions, Unsubscribe, topic::parse_share,
};
use std::sync::Arc;

/// A change of what a session is subscribed to, that waits for its turn's commit.
#[derive(Debug)]
pub(super) struct PendingChange {
    pub turn: u64,
    /// Messages of the turn that come before it.
    pub after: u32,
    session: SessionRef,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Set {
        filter: Arc<str>,
        options: SubscribeOptions,
        id: u32,
        retained: bool,
    },
    Remove {
        filter: Arc<str>,
    },
}

/// A search for the retained messages of one new subscription.
#[derive(Debug)]
pub(super) struct Search {
    session: SessionRef,
    filter: Arc<str>,
    qos: QoS,
    id: u32,
    as_of: Lsn,
    /// Offsets in the table of retained messages that the subscription is going to match anyway.
    except: Box<[u64]>,
}

impl Shard {
    /// A client subscribes.
    pub(super) fn subscribe(
        &mut self,
        conn: ConnId,
        packet: &Subscribe<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.conns.get(conn) else {
            return;
        };
        let slot = connection.session;
        let v5 = connection.version.is_v5();
        if packet
            .filters
            .iter()
            .any(|(filter, options)| options.no_local && parse_share(filter).is_some())
        {
            // [MQTT-3.8.3-4]
            self.disconnect(conn, ReasonCode::ProtocolError, "protocol_error", now, out);
            return;
        }
        let id = packet.subscription_id.unwrap_or(0);
        let mut reasons = Vec::new();
        for (number, (filter, options)) in packet.filters.iter().enumerate() {
            let reason = if number >= SUBSCRIBE_FILTERS_MAX {
                ReasonCode::QuotaExceeded
            } else if self.may(conn, Action::Subscribe, filter, now) {
                self.subscribe_one(slot, filter, options, id, now, out)
            } else {
                self.stats.subscribes_denied += 1;
                ReasonCode::NotAuthorized
            };
            reasons.push(match reason {
                failed if failed.is_error() && !v5 => ReasonCode::UnspecifiedError,
                reason => reason,
            });
        }
        let level = if self.sessions[slot].is_persistent() {
            Level::Append
        } else {
            Level::Memory
        };
        let answer = Answer::Suback {
            packet_id: packet.packet_id,
            reasons: reasons.into(),
        };
        self.answer(conn, level, answer, now, out);
    }

    fn subscribe_one(
        &mut self,
        slot: u32,
        filter: &str,
        mut options: SubscribeOptions,
        id: u32,
        now: Now,
        out: &mut Outbox,
    ) -> ReasonCode {
        if mqtt::topic::levels(filter).count() > FILTER_LEVELS_MAX {
            return ReasonCode::TopicFilterInvalid;
        }
        options.qos = options.qos.min(self.settings.qos_max);
        let session = &mut self.sessions[slot];
        let existing = session.subscription(filter);
        let shared = parse_share(filter).is_some();
        let filter: Arc<str> = match existing {
            Some(at) => session.subscriptions[at].filter.clone(),
            None if session.subscriptions.len() >= self.settings.subscriptions_max as usize => {
                return ReasonCode::QuotaExceeded;
            }
            None => filter.into(),
        };
        let subscription = Subscription {
            filter: filter.clone(),
            options,
            id,
        };
        if let Some(at) = existing {
            session.subscriptions[at] = subscription;
        } else {
            session.subscriptions.reserve_exact(1);
            session.subscriptions.push(subscription);
            self.stats.subscriptions += 1;
            self.stats.shared_subscriptions += u64::from(shared);
        }
        let retained = !shared
            && match options.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => existing.is_none(),
                RetainHandling::DoNotSend => false,
            };
        let client_id = session.client_id.clone();
        self.save_subscription(slot, &filter, options, id, now, out);
        self.change(
            slot,
            Change::Set {
                filter: filter.clone(),
                options,
                id,
                retained,
            },
            out,
        );
        let facts = EventFacts::Subscribed {
            client_id: &client_id,
            topic: &filter,
            qos: options.qos,
        };
        out.turn.event(&facts, now.wall_ms);
        options.qos.granted()
    }

    /// A client unsubscribes.
    pub(super) fn unsubscribe(
        &mut self,
        conn: ConnId,
        packet: &Unsubscribe<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.conns.get(conn) else {
            return;
        };
        let slot = connection.session;
        let mut reasons = Vec::new();
        for filter in packet.filters.iter() {
            reasons.push(if self.end_subscription(slot, filter, now, out) {
                ReasonCode::Success
            } else {
                ReasonCode::NoSubscriptionExisted
            });
        }
        let level = if self.sessions[slot].is_persistent() {
            Level::Append
        } else {
            Level::Memory
        };
        let answer = Answer::Unsuback {
            packet_id: packet.packet_id,
            reasons: reasons.into(),
        };
        self.answer(conn, level, answer, now, out);
    }

    /// Ends a subscription; false: there is none.
    pub(super) fn end_subscription(
        &mut self,
        slot: u32,
        filter: &str,
        now: Now,
        out: &mut Outbox,
    ) -> bool {
        let session = &mut self.sessions[slot];
        let Some(at) = session.subscription(filter) else {
            return false;
        };
        let removed = session.subscriptions.remove(at);
        let client_id = session.client_id.clone();
        self.stats.subscriptions -= 1;
        self.stats.shared_subscriptions -= u64::from(parse_share(filter).is_some());
        self.erase_subscription(slot, filter, now, out);
        self.change(
            slot,
            Change::Remove {
                filter: removed.filter,
            },
            out,
        );
        let facts = EventFacts::Unsubscribed {
            client_id: &client_id,
            topic: filter,
            qos: removed.options.qos,
        };
        out.turn.event(&facts, now.wall_ms);
        true
    }

    fn change(&mut self, slot: u32, change: Change, out: &mut Outbox) {
        let session = self.sessions.reference(slot);
        if self.sessions[slot].is_persistent() {
            let (turn, after) = (out.turn.number(), out.turn.messages());
            self.pending.push_back(PendingChange {
                turn,
                after,
                session,
                change,
            });
        } else if let Some(last) = self.pending.back()
            && self
                .pending
                .iter()
                .any(|other| other.session.born == session.born)
        {
            // It was persistent until now: what it changed before must not come behind this.
            let (turn, after) = (last.turn, last.after);
            self.pending.push_back(PendingChange {
                turn,
                after,
                session,
                change,
            });
        } else {
            self.apply(session, change, self.progress.applied_lsn, None, out);
        }
    }

    /// Filters whose removal from a session waits for its commit, beside those that it has now. A
    /// session that ends before that must not leave them behind: its slot is another's then, or
    /// nobody's.
    pub(super) fn pending_removals(&self, slot: u32, has: &[Subscription]) -> Vec<Arc<str>> {
        let born = self.sessions[slot].born;
        let pending = self.pending.iter();
        let removed = pending.filter_map(|pending| match &pending.change {
            Change::Remove { filter } if pending.session.born == born => Some(filter),
            _ => None,
        });
        let mut removals: Vec<Arc<str>> = Vec::new();
        for filter in removed {
            let known = has
                .iter()
                .any(|subscription| subscription.filter == *filter);
            if !known && !removals.contains(filter) {
                removals.push(filter.clone());
            }
        }
        removals
    }

    /// Applies the changes of a turn that come before its message number `before`.
    pub(super) fn apply_pending(&mut self, commit: &Commit, before: u32, out: &mut Outbox) {
        let turn = commit.turn;
        while let Some(next) = self.pending.front()
            && next.turn <= turn
            && (next.turn < turn || next.after <= before)
        {
            let Some(PendingChange {
                session,
                change,
                after,
                turn: own,
            }) = self.pending.pop_front()
            else {
                return;
            };
            let after = if own == turn { after } else { 0 };
            self.apply(session, change, commit.lsn, Some((commit, after)), out);
        }
    }

    /// The log refused a turn: what it would have added is not there. What it would have taken
    /// away is gone all the same, and its record comes later.
    pub(super) fn refuse_pending(&mut self, turn: u64, out: &mut Outbox) {
        let lsn = self.progress.applied_lsn;
        while let Some(change) = self.pending.pop_front_if(|change| change.turn <= turn) {
            if change.turn < turn || matches!(change.change, Change::Remove { .. }) {
                self.apply(change.session, change.change, lsn, None, out);
            }
        }
    }

    /// `turn`: the commit that the change is part of, and how many of its messages come before it.
    fn apply(
        &mut self,
        session: SessionRef,
        change: Change,
        lsn: Lsn,
        turn: Option<(&Commit, u32)>,
        out: &mut Outbox,
    ) {
        if self.sessions.living(session).is_none() {
            return;
        }
        match change {
            Change::Set {
                filter,
                options,
                id,
                retained,
            } => {
                self.attach(session.slot, &filter, options, id, out);
                if retained {
                    let search = Search {
                        session,
                        filter,
                        qos: options.qos,
                        id,
                        as_of: lsn,
                        except: self.retained_to_come(turn),
                    };
                    self.search(search, out);
                }
            }
            Change::Remove { filter } => self.detach(session.slot, &filter, out),
        }
    }

    /// Lets messages that match `filter` reach the session from now on.
    pub(super) fn attach(
        &mut self,
        slot: u32,
        filter: &Arc<str>,
        options: SubscribeOptions,
        id: u32,
        out: &mut Outbox,
    ) {
        if parse_share(filter).is_some() {
            self.join_group(slot, filter, out);
            return;
        }
        let subscriber = Subscriber {
            who: Who::Session(slot),
            id,
            options,
        };
        let added = self.filters.update(filter, |subscribers| {
            let mut others = subscribers.iter_mut();
            if let Some(other) = others.find(|other| other.who == subscriber.who) {
                *other = subscriber;
                return false;
            }
            subscribers.push(subscriber);
            true
        });
        if added == Ok(true) {
            // The filter went into our own tree, so it is not too deep for this one.
            let _ = self.interest.add(self.worker, filter);
        }
    }

    /// The opposite of [`Shard::attach`].
    pub(super) fn detach(&mut self, slot: u32, filter: &Arc<str>, out: &mut Outbox) {
        if parse_share(filter).is_some() {
            self.leave_group(slot, filter, out);
            return;
        }
        let gone = self
            .filters
            .remove(filter, |other| other.who == Who::Session(slot));
        if gone.is_some() {
            self.interest.remove(self.worker, filter);
        }
    }

    /// Retained messages that are in the log and still to be matched: those behind a subscription in
    /// its own turn, and those that wait for their flush. A new subscription gets them as what is
    /// published now, and must not get them twice.
    fn retained_to_come(&self, turn: Option<(&Commit, u32)>) -> Box<[u64]> {
        let held = self.held.iter().map(|commit| (&**commit, u32::MAX));
        let mut offsets = Vec::new();
        for (commit, after) in held.chain(turn) {
            for index in 0..commit.messages.len() as u32 {
                let waits = commit.messages.level(index) >= Level::Flush
                    && commit.lsn > self.progress.flushed_lsn;
                if (index >= after || waits)
                    && let Some(place) = commit.messages.retained_place(index)
                    && let Some(position) = commit.position(place)
                {
                    offsets.push(position.offset);
                }
            }
        }
        offsets.into()
    }

    fn search(&mut self, search: Search, out: &mut Outbox) {
        let token = self.token();
        out.retained.push(RetainedRequest {
            token,
            filter: search.filter.clone(),
            as_of: search.as_of,
            after: None,
        });
        self.searches.insert(token, search);
    }

    /// A page of retained messages for a new subscription; each goes out as if it were published
    /// now, with the retain flag set [MQTT-3.3.1-8].
    pub(super) fn retained_found(
        &mut self,
        token: u64,
        page: RetainedPage,
        messages: &[Option<OwnedMessage>],
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(search) = self.searches.remove(&token) else {
            return;
        };
        let Some(slot) = self.sessions.living(search.session) else {
            return;
        };
        if self.sessions[slot].subscription(&search.filter).is_none() {
            return;
        }
        for (hit, message) in page.hits.iter().zip(messages) {
            let Some(message) = message else { continue };
            if search.except.contains(&hit.position.offset) {
                continue;
            }
            let message = &message.view();
            let live = Live {
                message,
                position: Some(hit.position),
                commit: None,
            };
            self.deliver_retained(slot, live, (search.qos, search.id), now, out);
        }
        if let Some(after) = page.next {
            let token = self.token();
            out.retained.push(RetainedRequest {
                token,
                filter: search.filter.clone(),
                as_of: search.as_of,
                after: Some(after),
            });
            self.searches.insert(token, search);
        }
    }
}
