//! PUBLISH packets on their way out: encoded once for each form that a fan-out needs, then copied
//! and given a packet identifier.

use super::connection::Connection;
use crate::hooks::Event;
use crate::input::Now;
use crate::message::MessageView;
use crate::outbox::Outbox;
use mqtt::inflight::AliasOut;
use mqtt::{Outgoing, PublishFrame, QoS, write_publish};

/// Forms: MQTT 3 or 5, three QoS, retain or not.
const FORMS: usize = 12;

/// The frames of the message that is being fanned out.
#[derive(Debug, Default)]
pub(super) struct Frames {
    forms: [PublishFrame; FORMS],
    encoded: u16,
    /// Whether no hook takes the event of its acknowledgement, once that is known.
    quiet: Option<bool>,
}

/// What one delivery has of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    /// 0 for QoS 0.
    pub packet_id: u16,
    pub ids: &'a [u32],
}

impl Frames {
    /// Another message, or another moment, begins.
    pub(super) fn begin(&mut self) {
        self.encoded = 0;
        self.quiet = None;
    }

    /// Whether no hook takes `message.acked` of `message`.
    pub(super) fn is_quiet(&mut self, message: &MessageView<'_>, out: &mut Outbox) -> bool {
        *self
            .quiet
            .get_or_insert_with(|| !out.turn.matches_event(Event::MessageAcked, message.topic))
    }

    /// Writes `message` to the connection; answers false, having written nothing, if the client
    /// does not take a packet as large.
    pub(super) fn write(
        &mut self,
        message: &MessageView<'_>,
        form: Form<'_>,
        now: Now,
        conn: &mut Connection,
        out: &mut Outbox,
    ) -> bool {
        let v5 = conn.version.is_v5();
        if form.dup || (v5 && (!form.ids.is_empty() || conn.aliasing)) {
            return write_one(message, form, now, conn, out);
        }
        let key = usize::from(v5) * 6 + usize::from(form.retain) * 3 + form.qos as usize;
        let frame = &mut self.forms[key];
        if self.encoded & (1 << key) == 0 {
            self.encoded |= 1 << key;
            frame.encode(&outgoing(message, form, now), conn.version);
        }
        if frame.len() > conn.packet_size_max as usize {
            return false;
        }
        frame.write(form.packet_id, out.message(conn.id));
        true
    }
}

fn write_one(
    message: &MessageView<'_>,
    form: Form<'_>,
    now: Now,
    conn: &mut Connection,
    out: &mut Outbox,
) -> bool {
    let mut outgoing = outgoing(message, form, now);
    if conn.aliasing {
        match conn.aliases_out.of(message.topic) {
            AliasOut::Topic => {}
            AliasOut::Both(alias) => outgoing.topic_alias = Some(alias),
            AliasOut::Alias(alias) => {
                outgoing.topic_alias = Some(alias);
                outgoing.topic = "";
            }
        }
    }
    if outgoing.encoded_len(conn.version) > conn.packet_size_max as usize {
        if let Some(alias) = outgoing.topic_alias
            && !outgoing.topic.is_empty()
        {
            conn.aliases_out.forget(alias);
        }
        return false;
    }
    write_publish(&outgoing, conn.version, out.message(conn.id));
    true
}

fn outgoing<'a>(message: &MessageView<'a>, form: Form<'a>, now: Now) -> Outgoing<'a> {
    Outgoing {
        dup: form.dup,
        qos: form.qos,
        retain: form.retain,
        topic: message.topic,
        packet_id: form.packet_id,
        topic_alias: None,
        expiry_s: message.expiry_left_s(now.wall_ms),
        subscription_ids: form.ids,
        forwarded: message.properties.as_bytes(),
        payload: message.payload,
    }
}
