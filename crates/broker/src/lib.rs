//! What an MQTT broker decides: sessions, subscriptions, publish, deliver, retained, will, hooks.

pub mod access;
pub mod decode;
pub mod downlink;
pub mod filters;
pub mod hooks;
mod inbox;
pub mod input;
pub mod interest;
pub mod limits;
pub mod message;
pub mod outbox;
mod placement;
pub mod properties;
pub mod record;
pub mod restore;
pub mod retained;
mod session;
pub mod settings;
pub mod shard;
mod shared;
pub mod turn;
mod will;

#[cfg(test)]
mod harness;

pub use decode::{RecordError, StreamKind, decode_record};
pub use downlink::{Carried, Delivered, DownlinkRules, Parcel, SourceRecord, TopicTemplate, Unfit};
pub use filters::{FilterTree, MatchCache, TopicCache};
pub use hooks::{Event, HookError, HookSettings, HookTable, KeyTemplate, PayloadEncoding};
pub use input::{
    Admitted, Announce, CloseCause, ConnId, Input, Now, Peer, ReadRequest, Reauthenticated,
    Refusal, RetainedRequest, Returned, ShardMessage,
};
pub use interest::Interest;
pub use message::{
    Commit, MessageRef, MessageView, Messages, OwnedMessage, Place, Position, REFUSED,
};
pub use outbox::{Accepted, Deposited, Outbox, Reauthentication};
pub use restore::{Markers, Unreadable};
pub use retained::{RetainedHit, RetainedIndex, RetainedPage};
pub use settings::{BrokerSettings, DeniedPublish, SharedStrategy};
pub use shard::{
    ClientDetails, ClientOrder, ClientQuery, ClientRow, HOMES, OrderKey, Places,
    READ_POSITIONS_MAX, Shard, ShardStats, SubscriptionQuery, SubscriptionRow, home_of, worker_of,
};
pub use turn::{Delivery, DropReason, EventFacts, PublishFacts, Published, Turn};
