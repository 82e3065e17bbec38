//! When a will is published, and when it is given up.

use super::Shard;
use super::lost::LastWords;
use super::timers::Due;
use crate::input::Now;
use crate::outbox::Outbox;

impl Shard {
    /// The connection ended other than by a normal DISCONNECT: the will is due now, or after its
    /// delay or at the end of the session, whichever comes first [MQTT-3.1.3-9].
    pub(super) fn will_due(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        let session = &self.sessions[slot];
        let Some(will) = &session.will else { return };
        let delay_s = will.delay_s.min(session.expiry_s);
        if delay_s == 0 {
            self.publish_will(slot, now, out);
        } else {
            let at_ms = now.mono_ms + u64::from(delay_s) * 1000;
            let session = self.sessions.reference(slot);
            self.arm(at_ms, Due::Will(session));
        }
    }

    /// Publishes the will, if there still is one, and forgets it in the same journal entry.
    pub(super) fn publish_will(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        let Some(will) = self.sessions[slot].will.take() else {
            return;
        };
        self.forget_will(slot, now, out);
        let session = &self.sessions[slot];
        let words = LastWords {
            client_id: session.client_id.clone(),
            username: session.username.clone(),
            will,
        };
        self.stats.wills_published += 1;
        self.publish_words(words, now, out);
    }

    /// The client said goodbye or came back in time: no will.
    pub(super) fn drop_will(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        self.sessions[slot].will = None;
        self.forget_will(slot, now, out);
    }

    fn forget_will(&mut self, slot: u32, now: Now, out: &mut Outbox) {
        if std::mem::take(&mut self.sessions[slot].will_saved) {
            self.erase_will(slot, now, out);
        }
    }
}
