//! What a client may not do: the verdicts of `access` at PUBLISH, SUBSCRIBE and for wills, what only
//! the host can find out, credentials that end, and authentication again while connected.

use super::Shard;
use super::publish::dropped;
use super::timers::Due;
use crate::access::{
    Access, Action, Inquiry, Judging, Otherwise, Permit, Permits, Question, Revised, Subject,
    Verdict,
};
use crate::inbox::Owed;
use crate::input::{ConnId, Now, Reauthenticated};
use crate::limits::{QUESTIONS_MAX, SUBSCRIBE_FILTERS_MAX};
use crate::outbox::{Outbox, Reauthentication};
use crate::settings::DeniedPublish;
use crate::turn::{DropReason, PublishFacts};
use crate::will::OwnedWill;
use commitlog::Ack as Level;
use mqtt::{Auth, Packet, Publish, QoS, ReasonCode, topic::parse_share};
use std::collections::HashSet;
use std::sync::Arc;

impl Shard {
    /// Whether there is anything that the client may not do.
    pub(super) fn is_limited(&self, conn: ConnId) -> bool {
        let connection = self.conns.get(conn);
        connection.is_some_and(|connection| connection.permits.is_some())
    }

    /// Whether the client may do that to that topic or filter. What nobody has answered is denied.
    pub(super) fn may(&mut self, conn: ConnId, action: Action, topic: &str, now: Now) -> bool {
        self.verdict(conn, action, topic, now) == Verdict::Allowed
    }

    fn verdict(&mut self, conn: ConnId, action: Action, topic: &str, now: Now) -> Verdict {
        let Some(connection) = self.conns.get_mut(conn) else {
            return Verdict::Denied;
        };
        let Some(permits) = &mut connection.permits else {
            return Verdict::Allowed;
        };
        let session = &self.sessions[connection.session];
        let subject = Subject {
            client_id: &session.client_id,
            username: session.username(),
            address: connection.peer.map(|peer| peer.ip()),
        };
        let topic = match action {
            Action::Publish => topic,
            Action::Subscribe => parse_share(topic).map_or(topic, |share| share.filter),
        };
        permits.decide(&subject, action, topic, now.mono_ms)
    }

    /// What the host has to find out before it gives the shard this packet; usually nothing.
    pub fn inquiry(&mut self, conn: ConnId, packet: &Packet<'_>, now: Now) -> Option<Inquiry> {
        let connection = self.conns.get(conn)?;
        if !connection.permits.as_deref().is_some_and(Permits::asks) {
            return None;
        }
        let wanted: Vec<(Action, Box<str>)> = match packet {
            Packet::Publish(publish) => {
                let alias = publish.properties.topic_alias;
                let known = alias.and_then(|alias| connection.aliases_in.known(alias));
                let topic = if publish.topic.is_empty() {
                    known
                } else {
                    Some(publish.topic)
                };
                let topic = topic.map(|topic| (Action::Publish, topic.into()));
                topic.into_iter().collect()
            }
            Packet::Subscribe(subscribe) => {
                let bare = |filter| parse_share(filter).map_or(filter, |share| share.filter);
                let filters = subscribe.filters.iter().take(SUBSCRIBE_FILTERS_MAX);
                filters
                    .map(|(filter, _)| (Action::Subscribe, bare(filter).into()))
                    .collect()
            }
            _ => return None,
        };
        let (slot, peer) = (connection.session, connection.peer);
        let mut questions: Vec<Question> = Vec::new();
        let mut asked = HashSet::new();
        for (action, topic) in &wanted {
            if questions.len() < QUESTIONS_MAX
                && self.verdict(conn, *action, topic, now) == Verdict::Unknown
                && asked.insert((*action, &**topic))
            {
                questions.push(Question {
                    action: *action,
                    topic: topic.clone(),
                });
            }
        }
        let session = &self.sessions[slot];
        (!questions.is_empty()).then(|| Inquiry {
            client_id: session.client_id.clone(),
            username: session.username().into(),
            address: peer.map(|peer| peer.ip()),
            questions,
        })
    }

    /// The host has found out what it was asked; the packet follows.
    pub(super) fn permitted(&mut self, conn: ConnId, permits: Vec<Permit>, now: Now) {
        if let Some(connection) = self.conns.get_mut(conn)
            && let Some(known) = &mut connection.permits
        {
            known.told(permits, now.mono_ms);
        }
    }

    /// The packet for which the host asked is handled.
    pub(super) fn permits_settled(&mut self, conn: ConnId) {
        if let Some(connection) = self.conns.get_mut(conn)
            && let Some(known) = &mut connection.permits
        {
            known.settled();
        }
    }

    /// The client may not publish that: counted and told. MQTT 5 has a reason code where there is an
    /// answer; older clients are told nothing, or lose their connection, as the settings say.
    pub(super) fn deny_publish(
        &mut self,
        conn: ConnId,
        publish: &Publish<'_>,
        topic: &str,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.conns.get_mut(conn) else {
            return;
        };
        let v5 = connection.version.is_v5();
        connection.name_peer();
        let who = connection.publisher(&self.sessions[connection.session]);
        let facts = PublishFacts::of(publish, topic, who, now.wall_ms);
        self.stats.dropped[DropReason::NotAuthorized as usize] += 1;
        dropped(&facts, DropReason::NotAuthorized, now, out);
        if !v5 && self.settings.denied_publish == DeniedPublish::Disconnect {
            let reason = ReasonCode::NotAuthorized;
            self.disconnect(conn, reason, reason.name(), now, out);
            return;
        }
        let reason = if v5 {
            ReasonCode::NotAuthorized
        } else {
            ReasonCode::Success
        };
        self.answer_unpublished(conn, publish, reason, now, out);
    }

    /// Whether a PUBLISH is a repetition of one that was taken: what it may was judged then.
    pub(super) fn is_repeated(&self, slot: u32, publish: &Publish<'_>) -> bool {
        publish.qos == QoS::ExactlyOnce && self.sessions[slot].inbound.contains(publish.packet_id)
    }

    /// Arms the timer of credentials that end.
    pub(super) fn arm_credentials(&mut self, conn: ConnId, expires_ms: Option<u64>) {
        if let Some(connection) = self.conns.get_mut(conn) {
            connection.expires_ms = expires_ms;
            if let Some(at_ms) = expires_ms {
                self.arm(at_ms, Due::Credentials(conn));
            }
        }
    }

    /// Time has come to look whether a client's credentials have ended.
    pub(super) fn credentials_due(&mut self, conn: ConnId, now: Now, out: &mut Outbox) {
        let ended = |at_ms| at_ms <= now.mono_ms;
        if let Some(connection) = self.conns.get(conn)
            && connection.expires_ms.is_some_and(ended)
        {
            self.stats.credentials_ended += 1;
            let reason = ReasonCode::NotAuthorized;
            self.disconnect(conn, reason, "credentials_expired", now, out);
        }
    }

    /// The client sends AUTH: it authenticates again, by the method that it came in with
    /// [MQTT-4.12.0-4], [MQTT-4.12.1-1]; the host judges.
    pub(super) fn auth(&mut self, conn: ConnId, auth: &Auth<'_>, now: Now, out: &mut Outbox) {
        let Some(connection) = self.conns.get_mut(conn) else {
            return;
        };
        let begins = auth.reason == ReasonCode::ReAuthenticate;
        let goes_on = auth.reason == ReasonCode::ContinueAuthentication;
        let of_method = connection.method.is_some() && auth.method == connection.method.as_deref();
        if !of_method
            || !connection.ready
            || begins == connection.authenticating
            || begins == goes_on
        {
            self.disconnect(conn, ReasonCode::ProtocolError, "protocol_error", now, out);
            return;
        }
        connection.authenticating = true;
        let session = &self.sessions[connection.session];
        out.reauthentications.push(Reauthentication {
            conn,
            begins,
            username: session.username().into(),
            address: connection.peer.map(|peer| peer.ip()),
            data: auth.data.unwrap_or_default().into(),
        });
    }

    /// The method of enhanced authentication that the client came in with.
    pub(super) fn method(&self, conn: ConnId) -> Option<&str> {
        self.conns.get(conn)?.method.as_deref()
    }

    /// The client may not publish the will that it came with.
    pub(super) fn deny_will(
        &mut self,
        subject: &Subject<'_>,
        will: &OwnedWill,
        now: Now,
        out: &mut Outbox,
    ) {
        let properties = will.properties();
        let who = (subject.client_id, subject.username);
        let facts = PublishFacts::of_will(will, &properties, who, now.wall_ms);
        self.stats.dropped[DropReason::NotAuthorized as usize] += 1;
        dropped(&facts, DropReason::NotAuthorized, now, out);
    }

    /// Subscriptions of the session that a client is about to resume of which no rule says anything:
    /// the host finds out about them before it hands in the CONNECT. At most [`QUESTIONS_MAX`].
    pub fn asked_on_return(&self, subject: &Subject<'_>, access: &Access) -> Vec<Question> {
        let Some(slot) = self.sessions.find(subject.client_id) else {
            return Vec::new();
        };
        let session = &self.sessions[slot];
        let owner = session.username.as_deref();
        if owner.is_some_and(|owner| owner != subject.username) {
            return Vec::new();
        }
        let filters = session.subscriptions.iter().map(|subscription| {
            let filter: &str = &subscription.filter;
            parse_share(filter).map_or(filter, |share| share.filter)
        });
        let unknown = filters
            .filter(|filter| access.decide(subject, Action::Subscribe, filter) == Otherwise::Ask);
        let mut asked = HashSet::new();
        let first = unknown.filter(|filter| asked.insert(*filter));
        let question = |filter: &str| Question {
            action: Action::Subscribe,
            topic: filter.into(),
        };
        first.take(QUESTIONS_MAX).map(question).collect()
    }

    /// A session comes back: what it subscribed to and may not any more ends, by the rules or by what
    /// the host has found out before.
    pub(super) fn recheck_subscriptions(&mut self, conn: ConnId, now: Now, out: &mut Outbox) {
        let Some(slot) = self.conns.get(conn).map(|connection| connection.session) else {
            return;
        };
        if !self.is_limited(conn) || self.sessions[slot].subscriptions.is_empty() {
            return;
        }
        let filters: Vec<_> = self.sessions[slot]
            .subscriptions
            .iter()
            .map(|subscription| subscription.filter.clone())
            .collect();
        for filter in filters {
            if self.verdict(conn, Action::Subscribe, &filter, now) == Verdict::Denied {
                self.stats.subscribes_denied += 1;
                self.end_subscription(slot, &filter, now, out);
                self.sessions[slot].revoked = true;
            }
        }
    }

    /// Whether a session must not have a message that it is owed: the subscription that it came by was
    /// taken from it, and no other matches.
    pub(super) fn is_revoked(&mut self, slot: u32, owed: &Owed, topic: &str) -> bool {
        if !self.sessions[slot].revoked || owed.shared {
            return false;
        }
        let matched = self.matched(topic);
        !matched.targets.iter().any(|target| target.session == slot)
    }

    /// Other rules hold: for those who are in as if they came now. Who came in unproved where nothing
    /// was judged has to come again.
    pub(super) fn judge_anew(&mut self, judging: &Arc<Judging>, now: Now, out: &mut Outbox) {
        Arc::make_mut(&mut self.settings).denied_publish = judging.denied_publish;
        self.judging = Some(Arc::clone(judging));
        for conn in self.conns.ids() {
            let Some(connection) = self.conns.get_mut(conn) else {
                continue;
            };
            let username = self.sessions[connection.session].username();
            let before = connection.permits.as_deref().map(Permits::access);
            match judging.revise(before, username) {
                Revised::All => connection.permits = None,
                Revised::Only(access) => {
                    connection.permits = Some(Box::new(Permits::new(access)));
                    self.recheck_subscriptions(conn, now, out);
                }
                Revised::Unproved => {
                    let reason = ReasonCode::NotAuthorized;
                    self.disconnect(conn, reason, reason.name(), now, out);
                }
            }
        }
    }

    /// What a client may do that was let in with `access`, perhaps before the rules changed.
    ///
    /// # Errors
    /// It has to come again.
    pub(super) fn in_force(
        &self,
        access: Option<&Arc<Access>>,
        username: &str,
    ) -> Result<Option<Arc<Access>>, ReasonCode> {
        let outdated = |judging: &&Arc<Judging>| {
            let rules = access.map(|access| &access.rules);
            match (rules, judging.rules()) {
                (Some(own), Some(rules)) => !Arc::ptr_eq(own, rules),
                (None, None) => false,
                _ => true,
            }
        };
        let Some(judging) = self.judging.as_ref().filter(outdated) else {
            return Ok(access.cloned());
        };
        match judging.revise(access.map(Arc::as_ref), username) {
            Revised::All => Ok(None),
            Revised::Only(access) => Ok(Some(access)),
            Revised::Unproved => Err(ReasonCode::NotAuthorized),
        }
    }

    /// The host has judged an AUTH.
    pub(super) fn reauthenticated(
        &mut self,
        conn: ConnId,
        judged: Reauthenticated<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(connection) = self.conns.get_mut(conn) else {
            return;
        };
        let version = connection.version;
        let (reason, data) = match judged {
            Reauthenticated::Continue(data) => (ReasonCode::ContinueAuthentication, data),
            Reauthenticated::Done(data) => {
                connection.authenticating = false;
                (ReasonCode::Success, data)
            }
            Reauthenticated::Failed(reason) => {
                self.disconnect(conn, reason, reason.name(), now, out);
                return;
            }
        };
        let packet = Auth {
            reason,
            method: connection.method.as_deref(),
            data: Some(data),
            reason_string: None,
            user: mqtt::UserProperties::EMPTY,
        };
        Packet::Auth(packet).encode(version, out.frame(conn));
    }

    /// Answers a PUBLISH that is not taken.
    pub(super) fn answer_unpublished(
        &mut self,
        conn: ConnId,
        publish: &Publish<'_>,
        reason: ReasonCode,
        now: Now,
        out: &mut Outbox,
    ) {
        let kind = match publish.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => mqtt::AckKind::Puback,
            QoS::ExactlyOnce => mqtt::AckKind::Pubrec,
        };
        let answer = super::answers::Answer::Ack {
            kind,
            packet_id: publish.packet_id,
            reason,
        };
        self.answer(conn, Level::Memory, answer, now, out);
    }
}
