//! Tells packets to whoever traces; where nobody does, nothing is looked at.

use broker::{ConnId, Shard};
use mqtt::{Connect, Packet, Publish};

use super::Worker;
use crate::node::trace::Traces;

/// A packet of a client goes by.
pub(super) fn inbound(traces: &Traces, shard: &Shard, conn: ConnId, packet: &Packet<'_>) {
    if !traces.is_armed() {
        return;
    }
    if let Some((client_id, peer)) = shard.connection(conn) {
        let named = named(shard, conn, packet, true);
        let packet = named.as_ref().unwrap_or(packet);
        traces.tell(client_id, peer.map(|peer| peer.ip()), true, packet);
    }
}

/// A PUBLISH with the topic that its alias stands for; `None` for all that need none.
fn named<'a>(
    shard: &'a Shard,
    conn: ConnId,
    packet: &Packet<'a>,
    is_clients: bool,
) -> Option<Packet<'a>> {
    let Packet::Publish(publish) = packet else {
        return None;
    };
    if !publish.topic.is_empty() {
        return None;
    }
    let topic = shard.aliased(conn, publish.properties.topic_alias?, is_clients)?;
    Some(Packet::Publish(Publish {
        topic,
        ..publish.clone()
    }))
}

impl Worker {
    /// A client was let in. It has its connection by now, unless the shard has closed that again.
    pub(super) fn trace_connect(&self, conn: ConnId, connect: &Connect<'_>) {
        if self.parts.traces.is_armed() {
            let packet = Packet::Connect(connect.clone());
            inbound(&self.parts.traces, &self.parts.shard, conn, &packet);
        }
    }

    /// Packets to clients that were put since the last look; before any of them is sent.
    pub(super) fn trace_outbound(&mut self) {
        if !self.parts.traces.is_armed() {
            return;
        }
        let chosen = self.parts.traces.chosen();
        let shard = &self.parts.shard;
        let frames = self.parts.out.take_traced(|conn| {
            let known = shard.connection(conn);
            known.is_some_and(|(client_id, peer)| chosen.has(client_id, peer.map(|it| it.ip())))
        });
        for (conn, bytes) in frames {
            let Some((client_id, peer)) = self.parts.shard.connection(conn) else {
                continue;
            };
            let Some(socket) = self.sockets.get_mut(conn) else {
                continue;
            };
            if let Ok(Some((packet, _))) = mqtt::decode(&bytes, socket.version, u32::MAX) {
                let address = peer.map(|peer| peer.ip());
                let named = named(&self.parts.shard, conn, &packet, false);
                let packet = named.as_ref().unwrap_or(&packet);
                self.parts.traces.tell(client_id, address, false, packet);
            }
        }
    }
}
