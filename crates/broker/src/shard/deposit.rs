//! Publishes that come through no MQTT connection, such as those over HTTP: placed like all others.
//! Whether they may be is decided by the host, which also waits for the log.

use super::Shard;
use super::publish::{dropped, is_reserved};
use crate::input::Now;
use crate::outbox::{Deposited, Outbox};
use crate::turn::{DropReason, PublishFacts};
use mqtt::ReasonCode;

impl Shard {
    /// Takes a message in; what became of it is in [`Outbox::deposits`].
    pub(super) fn deposit(&mut self, facts: &PublishFacts<'_>, now: Now, out: &mut Outbox) {
        let taken = self.place_deposit(facts, now, out);
        out.deposits.push(taken);
    }

    /// Whoever publishes may not: that reaches nobody.
    pub(super) fn deny_deposit(&mut self, facts: &PublishFacts<'_>, now: Now, out: &mut Outbox) {
        self.stats.dropped[DropReason::NotAuthorized as usize] += 1;
        dropped(facts, DropReason::NotAuthorized, now, out);
    }

    fn place_deposit(
        &mut self,
        facts: &PublishFacts<'_>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<Deposited, ReasonCode> {
        if is_reserved(facts.topic) {
            return Err(ReasonCode::TopicNameInvalid);
        }
        if facts.retain && !facts.payload.is_empty() && !self.admits_retained(facts.topic) {
            return Err(ReasonCode::QuotaExceeded);
        }
        let wanted = self.is_wanted(facts.topic);
        self.stats.received[facts.qos as usize] += 1;
        self.stats.received_bytes += facts.payload.len() as u64;
        let turn = out.turn.number();
        let published = out.turn.publish(facts);
        if !wanted {
            self.stats.dropped[DropReason::NoSubscribers as usize] += 1;
            dropped(facts, DropReason::NoSubscribers, now, out);
        }
        Ok(Deposited {
            turn,
            level: published.ack,
            wanted,
        })
    }
}
