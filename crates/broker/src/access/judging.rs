//! What holds for everyone from now on, where an operator has changed the rules while clients are in.

use super::{Access, RuleSet};
use crate::settings::DeniedPublish;
use std::sync::Arc;

/// The rules of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judging {
    /// What everyone may do who has no permissions of its own; `None`: nothing is judged.
    pub access: Option<Arc<Access>>,
    /// Names of users who may do everything.
    pub super_users: Box<[String]>,
    /// What becomes of MQTT 3 clients that publish what they may not.
    pub denied_publish: DeniedPublish,
}

/// What a client that came in under other rules may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Revised {
    /// Everything.
    All,
    /// That.
    Only(Arc<Access>),
    /// Nobody has proved who it is, and now that matters: it has to come in again.
    Unproved,
}

impl Judging {
    /// Whether these are its rules.
    pub(crate) fn rules(&self) -> Option<&Arc<RuleSet>> {
        self.access.as_ref().map(|access| &access.rules)
    }

    /// What a client of that user name may do that came in with `before`.
    pub(crate) fn revise(&self, before: Option<&Access>, username: &str) -> Revised {
        let Some(access) = &self.access else {
            return Revised::All;
        };
        let Some(before) = before else {
            return Revised::Unproved;
        };
        let named = !username.is_empty() && self.super_users.iter().any(|name| name == username);
        if before.own.is_empty() && !before.trusted && !named {
            return Revised::Only(Arc::clone(access));
        }
        Revised::Only(Arc::new(Access {
            rules: Arc::clone(&access.rules),
            own: before.own.clone(),
            otherwise: access.otherwise,
            super_user: before.trusted || named,
            trusted: before.trusted,
        }))
    }
}
