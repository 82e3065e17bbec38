//! Who may publish and subscribe to what: ordered rules, the claims of a token, and what a callout
//! answered. Pure: no clock, no network; what only a callout can say is asked by the host.

mod filter;
mod judging;
mod permits;
mod rules;

pub use filter::{FilterError, RuleFilter, fill, has_two};
pub use judging::Judging;
pub(crate) use judging::Revised;
pub use permits::{Inquiry, Permit, Question};
pub(crate) use permits::{Permits, Verdict};
pub use rules::{Action, Actions, Effect, Name, Net, Rule, RuleSet, Subject};

use std::sync::Arc;

/// What decides where no rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// It is allowed.
    Allow,
    /// It is denied.
    Deny,
    /// The host asks; what it is not told is denied.
    Ask,
}

/// What one client may do, for as long as its connection lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The rules of the node, looked at first.
    pub rules: Arc<RuleSet>,
    /// Rules of the client's own, such as those of its token.
    pub own: Box<[Rule]>,
    /// What holds where no rule says anything.
    pub otherwise: Otherwise,
    /// Everything is allowed, whatever the rules say.
    pub super_user: bool,
    /// It is so by what the client showed, and not by its name.
    pub trusted: bool,
}

impl Access {
    /// What the rules say, or what holds without one.
    pub fn decide(&self, subject: &Subject<'_>, action: Action, topic: &str) -> Otherwise {
        if self.super_user {
            return Otherwise::Allow;
        }
        let own = || {
            let concerned = |rule: &&Rule| rule.concerns(subject, action, topic);
            self.own.iter().find(concerned).map(|rule| rule.effect)
        };
        match self.rules.decide(subject, action, topic).or_else(own) {
            Some(Effect::Allow) => Otherwise::Allow,
            Some(Effect::Deny) => Otherwise::Deny,
            None => self.otherwise,
        }
    }
}

#[cfg(test)]
mod tests;
