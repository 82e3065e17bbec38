//! What a turn is told: a PUBLISH, an event, a delivery and why one was dropped. Knows nothing of
//! where they are written.

use crate::hooks::Event;
use crate::message::{MessageView, Position};
use crate::properties::ForwardProperties;
use crate::will::OwnedWill;
use commitlog::Ack;
use mqtt::{Publish, PublishProperties, QoS};

/// A PUBLISH that the broker has accepted.
#[derive(Debug, Clone, Copy)]
pub struct PublishFacts<'a> {
    /// The publisher.
    pub client_id: &'a str,
    /// Its user name, `""` when absent.
    pub username: &'a str,
    /// The topic, aliases resolved.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// `QoS` of the PUBLISH.
    pub qos: QoS,
    /// RETAIN flag: the message goes into the table of retained messages too, or, without payload,
    /// takes the one there away.
    pub retain: bool,
    /// DUP flag.
    pub dup: bool,
    /// Properties; those that are the receivers' go along, and the expiry counts from now.
    pub properties: &'a PublishProperties<'a>,
    /// Address and port of the publisher, `""` where there is none.
    pub peer: &'a str,
    /// Whom the publisher authenticated as, `""` where nobody asked.
    pub principal: &'a str,
    /// Now, ms since the epoch.
    pub now_ms: u64,
}

/// Who publishes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publisher<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// Its user name, `""` when absent.
    pub username: &'a str,
    /// Address and port, `""` where there is none.
    pub peer: &'a str,
    /// Whether it has proved that the user name is its own.
    pub proved: bool,
}

impl<'a> Publisher<'a> {
    fn principal(&self) -> &'a str {
        if self.proved { self.username } else { "" }
    }
}

/// What became of a PUBLISH in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Index of the message in the turn's [`Messages`].
    pub message: u32,
    /// The level that must be reached before the publisher is answered.
    pub ack: Ack,
    /// For level `kafka`: stands for the partitions that the cluster behind must have, a bit each.
    pub mirrored: u64,
}

/// An event besides a PUBLISH.
#[derive(Debug, Clone, Copy)]
pub enum EventFacts<'a> {
    /// `client.connected`
    Connected {
        /// The client.
        client_id: &'a str,
        /// Its user name, `""` when absent.
        username: &'a str,
    },
    /// `client.disconnected`
    Disconnected {
        /// The client.
        client_id: &'a str,
        /// Its user name, `""` when absent.
        username: &'a str,
        /// Why, in a word.
        reason: &'a str,
    },
    /// `session.subscribed`
    Subscribed {
        /// The client.
        client_id: &'a str,
        /// The filter; `$share/group/` in front is left out of the record, as EMQ X does.
        topic: &'a str,
        /// `QoS` granted.
        qos: QoS,
    },
    /// `session.unsubscribed`
    Unsubscribed {
        /// The client.
        client_id: &'a str,
        /// The filter; `$share/group/` in front is left out of the record, as EMQ X does.
        topic: &'a str,
        /// `QoS` that had been granted.
        qos: QoS,
    },
    /// `message.delivered`
    Delivered(Delivery<'a>),
    /// `message.acked`
    Acked(Delivery<'a>),
    /// `message.dropped`
    Dropped(Delivery<'a>, DropReason),
}

/// A message and one receiver of it.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The receiver; the publisher where nobody was to receive it.
    pub client_id: &'a str,
    /// Its user name, `""` when absent.
    pub username: &'a str,
    /// `QoS` of the delivery.
    pub qos: QoS,
    /// The message.
    pub message: &'a MessageView<'a>,
    /// Where the message is kept, if it is.
    pub position: Option<Position>,
}

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Nobody subscribes to its topic.
    NoSubscribers,
    /// The receiver is owed as much as it may be owed.
    QueueFull,
    /// Its expiry interval ran out.
    Expired,
    /// The receiver takes no packet as large.
    TooLarge,
    /// The receiver may not read its topic.
    NotAuthorized,
    /// Retention removed it before it could be delivered.
    Retention,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::NoSubscribers,
        Self::QueueFull,
        Self::Expired,
        Self::TooLarge,
        Self::NotAuthorized,
        Self::Retention,
    ];

    /// The word that stands in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSubscribers => "no_subscribers",
            Self::QueueFull => "queue_full",
            Self::Expired => "expired",
            Self::TooLarge => "too_large",
            Self::NotAuthorized => "not_authorized",
            Self::Retention => "retention",
        }
    }
}

impl<'a> PublishFacts<'a> {
    /// A PUBLISH of `who` to `topic`, its alias resolved.
    pub(crate) fn of(
        publish: &'a Publish<'a>,
        topic: &'a str,
        who: Publisher<'a>,
        now_ms: u64,
    ) -> Self {
        Self {
            client_id: who.client_id,
            username: who.username,
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            properties: &publish.properties,
            peer: who.peer,
            principal: who.principal(),
            now_ms,
        }
    }

    /// The PUBLISH that the will of a client (id, and user name) becomes, with `properties`, which
    /// are [`OwnedWill::properties`].
    pub(crate) fn of_will(
        will: &'a OwnedWill,
        properties: &'a PublishProperties<'a>,
        (client_id, username): (&'a str, &'a str),
        now_ms: u64,
    ) -> Self {
        Self {
            client_id,
            username,
            topic: &will.topic,
            payload: &will.payload,
            qos: will.qos,
            retain: will.retain,
            dup: false,
            properties,
            peer: &will.peer,
            principal: if will.proved { username } else { "" },
            now_ms,
        }
    }

    pub(super) fn message<'m>(&'m self, properties: &'m [u8]) -> MessageView<'m> {
        MessageView {
            topic: self.topic,
            payload: self.payload,
            qos: self.qos,
            retain: self.retain,
            dup: self.dup,
            publisher: self.client_id,
            username: self.username,
            peer: self.peer,
            principal: self.principal,
            properties: ForwardProperties::from_raw(properties),
            publish_ms: self.now_ms,
            expires_ms: self
                .properties
                .expiry_s
                .map(|expiry_s| self.now_ms + 1000 * u64::from(expiry_s)),
        }
    }
}

impl<'a> EventFacts<'a> {
    /// Which event it is.
    pub fn event(&self) -> Event {
        match self {
            Self::Connected { .. } => Event::ClientConnected,
            Self::Disconnected { .. } => Event::ClientDisconnected,
            Self::Subscribed { .. } => Event::SessionSubscribed,
            Self::Unsubscribed { .. } => Event::SessionUnsubscribed,
            Self::Delivered(_) => Event::MessageDelivered,
            Self::Acked(_) => Event::MessageAcked,
            Self::Dropped(..) => Event::MessageDropped,
        }
    }

    /// Whose event it is: the client's, or the receiver's.
    pub(super) fn client_id(&self) -> &'a str {
        match self {
            Self::Connected { client_id, .. }
            | Self::Disconnected { client_id, .. }
            | Self::Subscribed { client_id, .. }
            | Self::Unsubscribed { client_id, .. } => client_id,
            Self::Delivered(delivery) | Self::Acked(delivery) | Self::Dropped(delivery, _) => {
                delivery.client_id
            }
        }
    }

    /// What a hook's filter is held against; empty for `client.*`.
    pub(super) fn topic(&self) -> &'a str {
        match self {
            Self::Connected { .. } | Self::Disconnected { .. } => "",
            Self::Subscribed { topic, .. } | Self::Unsubscribed { topic, .. } => unshared(topic),
            Self::Delivered(delivery) | Self::Acked(delivery) | Self::Dropped(delivery, _) => {
                delivery.message.topic
            }
        }
    }
}

/// A filter without `$share/group/`.
pub(super) fn unshared(filter: &str) -> &str {
    mqtt::topic::parse_share(filter).map_or(filter, |share| share.filter)
}
