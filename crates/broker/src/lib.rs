//! What an MQTT broker decides: sessions, subscriptions, publish, deliver, retained, will, hooks.

pub mod decode;
pub mod filters;
pub mod hooks;
pub mod interest;
pub mod limits;
pub mod message;
mod placement;
pub mod properties;
pub mod record;
pub mod retained;
pub mod turn;

pub use decode::{RecordError, StreamKind, decode_record};
pub use filters::{FilterTree, MatchCache, TopicCache};
pub use hooks::{Event, HookError, HookSettings, HookTable, KeyTemplate, PayloadEncoding};
pub use interest::Interest;
pub use message::{
    Commit, MessageRef, MessageView, Messages, OwnedMessage, Place, Position, REFUSED,
};
pub use retained::{RetainedHit, RetainedIndex, RetainedPage};
pub use turn::{Delivery, DropReason, EventFacts, PublishFacts, Published, Turn};
