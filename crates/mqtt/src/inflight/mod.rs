//! The protocol's state of a session beside its subscriptions: messages in flight both ways and
//! topic aliases. Pure and bounded; what a delivery is, is the caller's type.

mod aliases;
mod inbound;
mod outbound;

pub use aliases::{AliasOut, AliasesIn, AliasesOut};
pub use inbound::{Inbound, Received};
pub use outbound::{AckError, OutState, Outbound};
