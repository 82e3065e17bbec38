//! CONNECT: opens, resumes or takes over a session; and the dispatch of what follows.

use super::Shard;
use super::answers::{Answer, Welcome};
use super::connection::Connection;
use crate::access::{Action, Permits, Subject, Verdict};
use crate::input::{Admitted, ConnId, Now, Peer};
use crate::outbox::{Accepted, Outbox};
use crate::session::Session;
use crate::turn::EventFacts;
use crate::will::OwnedWill;
use commitlog::Ack as Level;
use mqtt::inflight::{AliasesIn, AliasesOut};
use mqtt::{Connack, ConnackProperties, Connect, Packet, ReasonCode, Version, Will};
use std::collections::VecDeque;

/// A client at the door, as the reception has found it.
pub(super) struct Arrival<'a> {
    pub connect: &'a Connect<'a>,
    /// The id that counts, whoever chose it.
    pub client_id: &'a str,
    /// The reception chose it because the client named none.
    pub assigned: bool,
    pub peer: Peer,
    pub admitted: &'a Admitted,
}

impl Arrival<'_> {
    /// A copy of its will.
    pub(super) fn will(&self, will: &Will<'_>) -> OwnedWill {
        OwnedWill::new(will, self.peer.address, self.admitted.proved)
    }

    /// The user name that counts.
    fn username(&self) -> Option<&str> {
        let own = self.connect.username.filter(|_| !self.admitted.unnamed);
        self.admitted.username.as_deref().or(own)
    }
}

impl Shard {
    /// A client connects. The reception has checked who it is.
    pub(super) fn open(&mut self, conn: ConnId, arrival: &Arrival<'_>, now: Now, out: &mut Outbox) {
        let &Arrival {
            connect, client_id, ..
        } = arrival;
        let permits = match self.admit(arrival, now, out) {
            Ok(permits) => permits,
            Err(reason) => {
                refuse(conn, connect.version, reason, out);
                return;
            }
        };
        self.lost_first(client_id, now, out);
        let fresh = connect.clean_start || (permits.is_some() && self.is_anothers(arrival));
        let (slot, present) = self.find_or_make(client_id, (connect.version, fresh), now, out);
        let expiry_asked = connect.session_expiry_s();
        let expiry_s = match self.settings.session_expiry_s_max {
            Some(max) => expiry_asked.min(max),
            None => expiry_asked,
        };
        let window = match connect.version {
            Version::V5 => connect
                .properties
                .receive_maximum
                .unwrap_or(u16::MAX)
                .min(self.settings.inflight_max),
            _ => self.settings.inflight_v3.min(self.settings.inflight_max),
        };
        let incarnation = self.sessions.next_incarnation();
        let was_persistent = self.sessions[slot].is_persistent();
        let session = &mut self.sessions[slot];
        session.incarnation = incarnation;
        session.conn = Some(conn);
        session.protocol = connect.version;
        session.username = arrival.username().map(Into::into);
        session.expiry_s = expiry_s;
        session.connected_ms = now.wall_ms;
        session.outbound.set_receive_maximum(window);
        // The will of the connection before was dealt with when that connection ended, or is
        // given up because the client is back before its delay was over [MQTT-3.1.3-9].
        if session.will.is_some() {
            self.drop_will(slot, now, out);
        }
        let session = &mut self.sessions[slot];
        session.will = connect
            .will
            .as_ref()
            .map(|will| Box::new(arrival.will(will)));
        let written = self.save_opened(slot, present, was_persistent, now, out);
        let keep_alive_s = self.keep_alive(connect);
        self.connect_to(conn, slot, arrival, (keep_alive_s, permits), out);
        self.arm_credentials(conn, arrival.admitted.expires_ms);
        self.recheck_subscriptions(conn, now, out);
        self.permits_settled(conn);
        let session = &self.sessions[slot];
        let facts = EventFacts::Connected {
            client_id: &session.client_id,
            username: session.username(),
        };
        out.turn.happened(&facts, now.wall_ms);
        let welcome = Welcome {
            session_present: present,
            session_expiry_s: (expiry_s != expiry_asked).then_some(expiry_s),
            keep_alive_s: (keep_alive_s != connect.keep_alive_s).then_some(keep_alive_s),
            assigned_client_id: arrival.assigned.then(|| client_id.into()),
            data: arrival.admitted.data.clone(),
        };
        // If a power cut brought back an earlier session and the ids of its QoS 2 messages, a new
        // message with such an id would be taken for a repetition and lost, as after PUBCOMP.
        let may_come_back = !present && self.progress.ids_erased > self.progress.flushed;
        let level = match (written, may_come_back) {
            (true, true) => self.hooks.strictest(),
            (true, false) => Level::Append,
            (false, _) => Level::Memory,
        };
        self.answer(conn, level, Answer::Connack(Box::new(welcome)), now, out);
    }

    /// Whether a CONNECT may be served at all, and what its client may do then.
    fn admit(
        &mut self,
        arrival: &Arrival<'_>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<Option<Box<Permits>>, ReasonCode> {
        let connect = arrival.connect;
        if self.draining {
            return Err(ReasonCode::ServerUnavailable);
        }
        if connect.properties.authentication_method != arrival.admitted.method.as_deref() {
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        if connect.client_id.is_empty() {
            let may = connect.version == Version::V5
                || (connect.version == Version::V311 && connect.clean_start);
            if !may || arrival.client_id.is_empty() {
                return Err(ReasonCode::ClientIdentifierNotValid);
            }
        }
        if let Some(will) = &connect.will {
            if will.qos > self.settings.qos_max {
                return Err(ReasonCode::QoSNotSupported);
            }
            if will.retain && !self.settings.retain_available {
                return Err(ReasonCode::RetainNotSupported);
            }
        }
        let username = arrival.username().unwrap_or("");
        let access = self.in_force(arrival.admitted.access.as_ref(), username)?;
        let Some(access) = access else {
            return Ok(None);
        };
        if self.is_anothers(arrival) && arrival.admitted.client_id.is_none() {
            // The messages in it are somebody else's, and so are its subscriptions.
            return Err(ReasonCode::NotAuthorized);
        }
        let mut permits = Box::new(Permits::new(access));
        permits.told(arrival.admitted.permits.clone(), now.mono_ms);
        if let Some(will) = &connect.will {
            let subject = Subject {
                client_id: arrival.client_id,
                username,
                address: arrival.peer.address.map(|peer| peer.ip()),
            };
            let verdict = permits.decide(&subject, Action::Publish, will.topic, now.mono_ms);
            if verdict != Verdict::Allowed {
                self.deny_will(&subject, &arrival.will(will), now, out);
                return Err(ReasonCode::NotAuthorized);
            }
        }
        Ok(Some(permits))
    }

    /// Whether the session of its client id is another user's. Where rules are in force it stays so,
    /// unless it is proved that the client id is the newcomer's: then whoever opened a session under
    /// it only kept the place.
    fn is_anothers(&self, arrival: &Arrival<'_>) -> bool {
        let slot = self.sessions.find(arrival.client_id);
        let owner = slot.and_then(|slot| self.sessions[slot].username.as_deref());
        owner.is_some_and(|owner| Some(owner) != arrival.username())
    }

    /// The session of a client id, after a takeover and a clean start; and whether it was there.
    fn find_or_make(
        &mut self,
        client_id: &str,
        (version, fresh): (Version, bool),
        now: Now,
        out: &mut Outbox,
    ) -> (u32, bool) {
        if let Some(slot) = self.sessions.find(client_id) {
            self.restart_now(slot, now, out);
        }
        if let Some(slot) = self.sessions.find(client_id) {
            if let Some(old) = self.sessions[slot].conn {
                self.stats.takeovers += 1;
                let word = if fresh { "discarded" } else { "takenover" };
                self.disconnect(old, ReasonCode::SessionTakenOver, word, now, out);
            }
            // A session that ended with its connection is gone by now.
            if self.sessions.find(client_id) == Some(slot) {
                if !fresh {
                    return (slot, true);
                }
                self.end_session(slot, now, out);
            }
        }
        let slot = self.sessions.add(Session::new(client_id.into(), version));
        (slot, false)
    }

    fn keep_alive(&self, connect: &Connect<'_>) -> u16 {
        match (
            self.settings.keep_alive_s_max,
            connect.version,
            connect.keep_alive_s,
        ) {
            (Some(max), Version::V5, 0) => max,
            (Some(max), Version::V5, asked) => asked.min(max),
            (_, _, asked) => asked,
        }
    }

    fn connect_to(
        &mut self,
        conn: ConnId,
        slot: u32,
        arrival: &Arrival<'_>,
        (keep_alive_s, permits): (u16, Option<Box<Permits>>),
        out: &mut Outbox,
    ) {
        let connect = arrival.connect;
        let alias_max = self.settings.topic_alias_max;
        let out_max = connect.properties.topic_alias_maximum.min(alias_max);
        let session = &self.sessions[slot];
        self.conns.add(Connection {
            id: conn,
            session: slot,
            version: connect.version,
            peer: arrival.peer.address,
            peer_text: None,
            proved: arrival.admitted.proved,
            permits,
            expires_ms: None,
            method: arrival.admitted.method.clone(),
            authenticating: false,
            keep_alive_s,
            ready: false,
            parked: false,
            packet_size_max: connect.properties.maximum_packet_size.unwrap_or(u32::MAX),
            unfinished: session.inbound.len() as u16,
            expiry_fixed: session.expiry_s == 0,
            aliasing: out_max > 0,
            aliases_in: AliasesIn::new(alias_max),
            aliases_out: AliasesOut::new(out_max),
            answers: VecDeque::new(),
            awaits_append: 0,
            awaits_flush: 0,
        });
        self.stats.connections_opened += 1;
        out.accepted.push(Accepted { conn, keep_alive_s });
    }

    /// A client sends something.
    pub(super) fn packet(&mut self, conn: ConnId, packet: &Packet<'_>, now: Now, out: &mut Outbox) {
        if let Err(error) = packet.check_from_client() {
            self.malformed(conn, error, now, out);
            return;
        }
        match packet {
            Packet::Publish(publish) => self.publish(conn, publish, now, out),
            Packet::Puback(ack) => self.puback(conn, ack, now, out),
            Packet::Pubrec(ack) => self.pubrec(conn, ack, now, out),
            Packet::Pubrel(ack) => self.pubrel(conn, ack, now, out),
            Packet::Pubcomp(ack) => self.pubcomp(conn, ack, now, out),
            Packet::Subscribe(subscribe) => self.subscribe(conn, subscribe, now, out),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(conn, unsubscribe, now, out),
            Packet::Pingreq => {
                if let Some(connection) = self.conns.get(conn) {
                    Packet::Pingresp.encode(connection.version, out.frame(conn));
                }
            }
            Packet::Disconnect(goodbye) => self.goodbye(conn, goodbye, now, out),
            Packet::Auth(auth) => self.auth(conn, auth, now, out),
            // A second CONNECT [MQTT-3.1.0-2], what only servers send.
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp => {
                self.disconnect(conn, ReasonCode::ProtocolError, "protocol_error", now, out);
            }
        }
    }
}

/// Answers a CONNECT that is not served.
fn refuse(conn: ConnId, version: Version, reason: ReasonCode, out: &mut Outbox) {
    Packet::Connack(Connack {
        session_present: false,
        reason,
        properties: ConnackProperties::default(),
    })
    .encode(version, out.frame(conn));
    out.closes.push(conn);
}
