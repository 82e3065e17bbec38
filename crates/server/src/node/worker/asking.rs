//! Packets that wait for a callout, and clients that authenticate again. A connection whose packet
//! waits is not read from, so that its order is kept; nobody else notices.

use broker::access::{Inquiry, Permit, Subject};
use broker::{Admitted, ConnId, Input, Reauthenticated, Reauthentication};
use mqtt::ReasonCode;

use super::Worker;
use crate::auth::enhanced;
use crate::auth::limits::{ASKING_MAX, REAUTHENTICATIONS_MAX};

impl Worker {
    /// The next packet of a connection needs what only a callout knows.
    pub(super) fn ask(&mut self, conn: ConnId, inquiry: Inquiry) {
        let Some(socket) = self.sockets.get_mut(conn) else {
            return;
        };
        socket.asking = true;
        if self.asking >= ASKING_MAX {
            let denied = inquiry.questions.into_iter().map(|question| Permit {
                question,
                allowed: false,
                keep_ms: 0,
            });
            let denied = denied.collect();
            self.answered(conn, denied);
            return;
        }
        self.asking += 1;
        let Some(auth) = self.parts.auth.get().cloned() else {
            return;
        };
        let mailbox = self.parts.mailboxes[usize::from(self.parts.index)].clone();
        self.parts.runtime.spawn(async move {
            let subject = Subject {
                client_id: &inquiry.client_id,
                username: &inquiry.username,
                address: inquiry.address,
            };
            let permits = auth.permits(&subject, inquiry.questions).await;
            mailbox.put(|letters| letters.permits.push((conn, permits)));
        });
    }

    /// A callout has answered, or failed to.
    pub(super) fn permitted(&mut self, conn: ConnId, permits: Vec<Permit>) {
        self.asking -= 1;
        self.answered(conn, permits);
    }

    fn answered(&mut self, conn: ConnId, permits: Vec<Permit>) {
        self.input(Input::Permitted { conn, permits });
        let now_s = (self.now.mono_ms / 1000) as u32;
        let Some(socket) = self.sockets.get_mut(conn) else {
            return;
        };
        socket.asking = false;
        // It was not heard because it was not listened to.
        socket.heard_s = now_s;
        if !socket.queued {
            socket.queued = true;
            self.ready.push_back(conn);
        }
    }

    /// Whether a client that was let in has been banned on its way here. Who bans looks for the client
    /// only behind that: one of the two sees the other.
    pub(super) fn is_banned(
        &self,
        connect: &mqtt::Connect<'_>,
        peer: std::net::SocketAddr,
        assigned: Option<&str>,
        admitted: &Admitted,
    ) -> bool {
        let Some(auth) = self.parts.auth.get() else {
            return false;
        };
        let client_id = admitted.client_id.as_deref().or(assigned);
        let own = connect.username.filter(|_| !admitted.unnamed);
        let user = admitted.username.as_deref().or(own);
        let client_id = client_id.unwrap_or(connect.client_id);
        auth.bans_now(peer.ip(), client_id, user.unwrap_or(""))
    }

    /// Judges the AUTH packets of clients that are in; what follows is for the shard.
    pub(super) fn reauthenticate(&mut self) {
        for asked in std::mem::take(&mut self.parts.out.reauthentications) {
            let conn = asked.conn;
            let judged = self.judge(&asked);
            let judged = match &judged {
                Ok((false, data)) => Reauthenticated::Continue(data),
                Ok((true, data)) => Reauthenticated::Done(data),
                Err(reason) => Reauthenticated::Failed(*reason),
            };
            self.input(Input::Reauthenticated { conn, judged });
        }
    }

    /// Whether the exchange is complete, and what the client is told.
    fn judge(&mut self, asked: &Reauthentication) -> Result<(bool, Vec<u8>), ReasonCode> {
        let auth = self.parts.auth.get().ok_or(ReasonCode::NotAuthorized)?;
        let users = auth.users();
        if asked.begins {
            if self.exchanges.len() >= REAUTHENTICATIONS_MAX {
                return Err(ReasonCode::NotAuthorized);
            }
            let (exchange, told) = enhanced::begin(users, &asked.data)?;
            if exchange.name() != &*asked.username {
                return Err(ReasonCode::NotAuthorized);
            }
            self.exchanges.insert(asked.conn, exchange);
            return Ok((false, told));
        }
        let exchange = self.exchanges.remove(&asked.conn);
        let exchange = exchange.ok_or(ReasonCode::NotAuthorized)?;
        let unknown = std::net::Ipv4Addr::UNSPECIFIED.into();
        let address = asked.address.unwrap_or(unknown);
        let attempt = users.attempt_again(exchange.name(), address);
        Ok((true, exchange.finish(attempt, &asked.data)?))
    }
}
