//! What a worker does with its mail: commits, posts of other shards, new connections, questions.

use std::sync::Arc;

use ::tracing::error;
use broker::{Input, Returned};
use commitlog::Lsn;
use door::Counts;
use mio::net::TcpStream;
use mio::{Interest, Token};

use super::{LINGER_MS, Worker};
use crate::auth::Entry;
use crate::node::mailbox::{Answer, Ask, ClientTold, ConnectionTold, News, Snapshot};
use crate::node::reception::Arrival;
use crate::node::system_ms;

impl Worker {
    /// Commits, posts, arrivals and questions, in this order: what other shards and the log say
    /// comes before what new connections ask.
    pub(super) fn read_mail(&mut self) {
        let mut letters = std::mem::take(&mut self.letters);
        let flushed = self
            .mailbox()
            .take(&mut letters, || self.parts.log.flushed_to());
        for message in letters.posts.drain(..) {
            self.input(Input::Post(message));
        }
        for (conn, permits) in letters.permits.drain(..) {
            self.permitted(conn, permits);
        }
        self.handled += letters.news.len() as u32;
        for news in letters.news.drain(..) {
            match news {
                News::Committed(commit) => {
                    if commit.worker == self.parts.index {
                        self.parts.turns.settled(commit.turn);
                        self.hooked.settled(commit.turn);
                        self.deposits.committed(&commit);
                    }
                    self.input(Input::Committed(&commit));
                    self.mailbox().caught_up(&commit);
                }
                News::Refused {
                    turn,
                    why,
                    returned,
                } => {
                    self.parts.turns.settled(turn);
                    self.hooked.refused(turn);
                    self.deposits.refused(turn, why);
                    self.refused = turn;
                    let returned = returned.as_deref();
                    let returned = returned.map(|(entry, messages)| Returned { entry, messages });
                    self.input(Input::Refused {
                        turn,
                        why,
                        returned,
                    });
                }
                News::Latched => {
                    // What was flushed before counts, whichever of the two is read first.
                    self.flushed_to(self.parts.log.flushed_to());
                    self.input(Input::Latched);
                    self.deposits.latched();
                }
            }
            self.cut_turn_if_large();
        }
        if let Some(flushed) = flushed {
            self.flushed_to(flushed);
        }
        self.hear_of_mirror();
        self.reading -= letters.answers.len() as u32;
        for answer in letters.answers.drain(..) {
            self.input(match answer {
                Answer::Read { token, messages } => Input::Read { token, messages },
                Answer::Retained {
                    token,
                    page,
                    messages,
                } => Input::RetainedFound {
                    token,
                    page,
                    messages,
                },
            });
            self.cut_turn_if_large();
        }
        for arrival in letters.arrivals.drain(..) {
            self.arrive(arrival);
        }
        for ask in letters.asks.drain(..) {
            self.answer(ask);
        }
        self.letters = letters;
    }

    /// Tells the shard how far the cluster behind is, where that has changed or is asked anew.
    fn hear_of_mirror(&mut self) {
        let asked = self.parts.shard.take_new_mirror_waits();
        // Read before the ends: what moves meanwhile is seen by the next look.
        let moves = self.parts.log.mirrored_moves();
        if !asked && moves == self.mirror_moves {
            return;
        }
        self.mirror_moves = moves;
        let waits: Vec<_> = self.parts.shard.mirror_waits().collect();
        for partition in waits {
            if let Some(marks) = self.parts.log.watermarks(partition) {
                let end = marks.mirrored;
                // Behind the end: what the mirror leaves out is told before the end passes it.
                let never = &self.parts.log.unmirrored(partition)[..];
                self.input(Input::Mirrored {
                    partition,
                    end,
                    never,
                });
            }
        }
    }

    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Clients { query, answer } => {
                let _ = answer.send(self.parts.shard.clients(&query));
            }
            Ask::Client { client_id, answer } => {
                let _ = answer.send(self.client(&client_id));
            }
            Ask::Subscriptions { query, answer } => {
                let _ = answer.send(self.parts.shard.subscriptions(&query));
            }
            Ask::Stats { answer } => {
                let mut stats = self.parts.shard.stats();
                stats.made = self.parts.out.turn.made().to_vec();
                stats.made_refused = self.hooked.lost().to_vec();
                let _ = answer.send(stats);
            }
            Ask::Kick { client_id, answer } => {
                let before = self.parts.out.closes.len();
                self.input(Input::Kick {
                    client_id: &client_id,
                });
                let _ = answer.send(self.parts.out.closes.len() > before);
            }
            Ask::Deposit {
                message,
                denied: false,
                answer,
            } => self.deposit(&message, answer),
            Ask::Deposit {
                message, answer, ..
            } => self.deny_deposit(&message, answer),
            Ask::Publish(values) => {
                for (topic, payload) in &values {
                    self.input(Input::Publish(broker::Announce {
                        topic,
                        payload: payload.as_bytes(),
                        retain: true,
                    }));
                }
            }
            Ask::Downlink { parcel, answer } => {
                self.carriers.insert(parcel.token, answer);
                self.input(Input::Downlink(&parcel));
                self.cut_turn_if_large();
            }
            Ask::Return {
                client_id,
                username,
                address,
                access,
                answer,
            } => {
                let subject = broker::access::Subject {
                    client_id: &client_id,
                    username: &username,
                    address: Some(address),
                };
                let _ = answer.send(self.parts.shard.asked_on_return(&subject, &access));
            }
            Ask::Judging { judging, answer } => {
                self.input(Input::Judging(judging));
                self.cut_turn_if_large();
                let _ = answer.send(());
            }
            Ask::Hooks { table, answer } => {
                self.send_turn();
                self.parts.out.turn.set_hooks(Arc::clone(&table));
                let turn = self.parts.out.turn.number();
                self.parts.shard.set_hooks(table, turn);
                let _ = answer.send(());
            }
            Ask::Snapshot { seen, answer } => {
                self.input(Input::Seen(seen));
                self.snapshots.push((self.parts.shard.shards_at(), answer));
                // In an entry of its own: the log keeps room for it when it takes nothing else.
                self.send_turn();
                self.input(Input::Snapshot);
                self.send_turn();
            }
            Ask::Owed { answer } => {
                let _ = answer.send(self.parts.shard.owed_from());
            }
            Ask::Overdue {
                partition,
                below,
                answer,
            } => {
                self.input(Input::Overdue { partition, below });
                self.giving_up.push(answer);
            }
            Ask::Drain { answer } => {
                self.input(Input::Drain);
                self.draining.push((self.now.mono_ms + LINGER_MS, answer));
            }
            Ask::Stop => self.stopped = true,
        }
    }

    /// All there is to know of one client: its session, and its connection.
    fn client(&mut self, client_id: &str) -> Option<ClientTold> {
        let session = self.parts.shard.client(client_id)?;
        let open = session.conn.and_then(|conn| {
            let slowed = self.sockets.get_mut(conn)?.waits();
            let (total, rates) = self.sockets.traffic(conn, self.now.mono_ms)?;
            Some(ConnectionTold {
                listener: self.sockets.listener(conn),
                slowed,
                total,
                rates,
            })
        });
        Some(ClientTold { session, open })
    }

    fn flushed_to(&mut self, flushed: Lsn) {
        if flushed > self.flushed {
            self.flushed = flushed;
            self.input(Input::Flushed(flushed));
            self.deposits.flushed(flushed);
        }
    }

    /// Answers those who wait for a snapshot once a newer one than they saw is in the log.
    pub(super) fn answer_snapshots(&mut self) {
        if self.snapshots.is_empty() {
            return;
        }
        let shard = &self.parts.shard;
        let (shards_at, table_pin) = (shard.shards_at(), shard.table_pin());
        self.snapshots.retain(|(before, answer)| {
            let newer = shards_at > *before;
            if newer {
                let _ = answer.send(Snapshot {
                    shards_at,
                    table_pin,
                });
            }
            !newer
        });
    }

    /// Tells downlinks what became of their records.
    pub(super) fn answer_carriers(&mut self) {
        for delivered in std::mem::take(&mut self.parts.out.delivered) {
            if let Some(answer) = self.carriers.remove(&delivered.token) {
                let _ = answer.send(delivered.result);
            }
        }
    }

    /// Answers those who wait until deliveries are given up whose messages the log drops.
    pub(super) fn answer_given_up(&mut self) {
        if !self.giving_up.is_empty() && !self.parts.shard.is_giving_up() {
            for answer in self.giving_up.drain(..) {
                let _ = answer.send(());
            }
        }
    }

    pub(super) fn answer_drain(&mut self) {
        // An acknowledgement may wait for the message that it names.
        let over = self.sockets.is_empty() && self.parts.turns.is_idle() && self.reading == 0;
        let now_ms = self.now.mono_ms;
        while let Some(&(until, _)) = self.draining.first()
            && (over || until <= now_ms)
        {
            let (_, answer) = self.draining.remove(0);
            let _ = answer.send(());
        }
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival {
            stream,
            wrapping,
            peer,
            place,
            bytes,
            assigned_client_id,
            admitted,
        } = arrival;
        let max = self.parts.packet_size_max;
        let Ok(Some((connect, used))) = mqtt::decode_connect(&bytes, max) else {
            error!(%peer, "a CONNECT that reception took cannot be read");
            return;
        };
        if self.is_banned(
            &connect,
            peer,
            assigned_client_id.as_deref(),
            &admitted.admitted,
        ) {
            return;
        }
        let mut stream = TcpStream::from_std(stream);
        let conn = self.sockets.reserve();
        let token = Token(conn.slot());
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(failure) = self
            .parts
            .poll
            .registry()
            .register(&mut stream, token, both)
        {
            error!(%peer, error = %failure, "cannot watch a connection");
            self.sockets.release(conn);
            return;
        }
        let meter = place.meter(self.now.mono_ms);
        let socket = self
            .sockets
            .fill(conn, stream, connect.version, place.keep());
        socket.wrap(wrapping, meter);
        socket.heard_s = (self.now.mono_ms / 1000) as u32;
        socket.keep(&bytes[used..]);
        if used < bytes.len() {
            socket.queued = true;
            self.ready.push_back(conn);
        }
        if socket.holds_output() {
            self.dirty.push(conn);
        }
        let more = Counts {
            bytes_in: (bytes.len() - used) as u64,
            ..Counts::default()
        };
        self.sockets.count(conn, more, self.now.mono_ms);
        self.counters().connections_total.add_own(1);
        self.counters().connections.set(self.sockets.len() as u64);
        self.counters().packets_in.add_own(1);
        self.counters().bytes_in.add_own(bytes.len() as u64);
        let Entry {
            mut admitted,
            expires_wall_ms,
        } = *admitted;
        // Who dates tokens goes by the time of day as it is, not by ours.
        let left = |at: u64| self.now.mono_ms + at.saturating_sub(system_ms());
        admitted.expires_ms = expires_wall_ms.map(left);
        self.input(Input::Open {
            conn,
            connect: &connect,
            assigned_client_id: assigned_client_id.as_deref(),
            peer: broker::Peer {
                address: Some(peer),
            },
            admitted: &admitted,
        });
        self.trace_connect(conn, &connect);
    }
}
