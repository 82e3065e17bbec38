//! What one connection was found to be allowed: a small bounded memory of decisions, so that a
//! device that publishes to the same topic is judged once. The time is given.

use super::{Access, Action, Otherwise, Subject};
use crate::limits::{PERMIT_TOPIC_BYTES_MAX, PERMITS_MAX};
use std::sync::Arc;

/// Something that only the host can find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What the client wants to do.
    pub action: Action,
    /// To which topic or filter.
    pub topic: Box<str>,
}

/// What the host is asked before it hands in a packet, and about whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// The client id.
    pub client_id: Arc<str>,
    /// The user name, `""` where there is none.
    pub username: Box<str>,
    /// Where it comes from.
    pub address: Option<std::net::IpAddr>,
    /// At least one.
    pub questions: Vec<Question>,
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// What was asked.
    pub question: Question,
    /// Whether it is allowed.
    pub allowed: bool,
    /// How long the answer may be kept, ms.
    pub keep_ms: u64,
}

/// What comes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    Denied,
    /// Nobody knows yet.
    Unknown,
}

/// The decisions of one connection.
#[derive(Debug)]
pub(crate) struct Permits {
    access: Arc<Access>,
    /// The last used is the first.
    known: Vec<Known>,
    /// Answers for the packet that is to come, kept or not, in the order of [`place`]; `None`: nobody
    /// was asked for it.
    granted: Option<Vec<Permit>>,
}

#[derive(Debug)]
struct Known {
    action: Action,
    topic: Box<str>,
    allowed: bool,
    /// By the monotonic clock.
    until_ms: u64,
}

impl Permits {
    pub(crate) fn new(access: Arc<Access>) -> Self {
        Self {
            access,
            known: Vec::new(),
            granted: None,
        }
    }

    /// What the client may do.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Whether there may be anything that only the host can find out, and it was not asked for this
    /// packet already.
    pub(crate) fn asks(&self) -> bool {
        let answered = self.granted.is_some();
        self.access.otherwise == Otherwise::Ask && !self.access.super_user && !answered
    }

    /// Whether the client may do that.
    pub(crate) fn decide(
        &mut self,
        subject: &Subject<'_>,
        action: Action,
        topic: &str,
        now_ms: u64,
    ) -> Verdict {
        if self.access.super_user {
            return Verdict::Allowed;
        }
        if let Some(allowed) = self.remembered(action, topic, now_ms) {
            return verdict(allowed);
        }
        let granted = self.granted.as_deref().unwrap_or_default();
        let wanted = (action == Action::Subscribe, topic);
        if let Ok(at) = granted.binary_search_by(|permit| place(permit).cmp(&wanted)) {
            return verdict(granted[at].allowed);
        }
        let allowed = match self.access.decide(subject, action, topic) {
            Otherwise::Allow => true,
            Otherwise::Deny => false,
            Otherwise::Ask => return Verdict::Unknown,
        };
        self.remember(action, topic, allowed, u64::MAX);
        verdict(allowed)
    }

    /// What the host found out.
    pub(crate) fn told(&mut self, mut permits: Vec<Permit>, now_ms: u64) {
        for permit in &permits {
            if permit.keep_ms > 0 {
                let until_ms = now_ms.saturating_add(permit.keep_ms);
                let Question { action, topic } = &permit.question;
                self.remember(*action, topic, permit.allowed, until_ms);
            }
        }
        permits.sort_by(|a, b| place(a).cmp(&place(b)));
        self.granted = Some(permits);
    }

    /// The packet for which the host asked is handled.
    pub(crate) fn settled(&mut self) {
        self.granted = None;
    }

    fn remembered(&mut self, action: Action, topic: &str, now_ms: u64) -> Option<bool> {
        let at = self
            .known
            .iter()
            .position(|known| known.action == action && *known.topic == *topic)?;
        if self.known[at].until_ms <= now_ms {
            self.known.remove(at);
            return None;
        }
        self.known[..=at].rotate_right(1);
        Some(self.known[0].allowed)
    }

    fn remember(&mut self, action: Action, topic: &str, allowed: bool, until_ms: u64) {
        if topic.len() > PERMIT_TOPIC_BYTES_MAX {
            return;
        }
        self.known
            .retain(|known| known.action != action || *known.topic != *topic);
        if self.known.len() >= PERMITS_MAX {
            self.known.pop();
        }
        let known = Known {
            action,
            topic: topic.into(),
            allowed,
            until_ms,
        };
        self.known.insert(0, known);
    }
}

/// Where an answer stands among others.
fn place(permit: &Permit) -> (bool, &str) {
    let Question { action, topic } = &permit.question;
    (*action == Action::Subscribe, topic)
}

fn verdict(allowed: bool) -> Verdict {
    if allowed {
        Verdict::Allowed
    } else {
        Verdict::Denied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::RuleSet;

    const JOE: Subject<'_> = Subject {
        client_id: "c",
        username: "joe",
        address: None,
    };

    fn permits() -> Permits {
        Permits::new(Arc::new(Access {
            rules: Arc::new(RuleSet::default()),
            own: Box::default(),
            otherwise: Otherwise::Ask,
            super_user: false,
            trusted: false,
        }))
    }

    fn permit(topic: &str, allowed: bool, keep_ms: u64) -> Permit {
        Permit {
            question: Question {
                action: Action::Publish,
                topic: topic.into(),
            },
            allowed,
            keep_ms,
        }
    }

    #[test]
    fn an_answer_counts_for_its_packet_and_as_long_as_it_may_be_kept() {
        let mut permits = permits();
        let ask = |permits: &mut Permits, topic: &str, now| {
            permits.decide(&JOE, Action::Publish, topic, now)
        };
        assert_eq!(ask(&mut permits, "a", 0), Verdict::Unknown);
        permits.told(vec![permit("a", true, 10), permit("b", false, 0)], 0);
        assert_eq!(ask(&mut permits, "a", 5), Verdict::Allowed);
        assert_eq!(ask(&mut permits, "b", 5), Verdict::Denied);
        permits.settled();
        assert_eq!(ask(&mut permits, "b", 5), Verdict::Unknown);
        assert_eq!(ask(&mut permits, "a", 9), Verdict::Allowed);
        assert_eq!(ask(&mut permits, "a", 10), Verdict::Unknown);
        let other = permits.decide(&JOE, Action::Subscribe, "a", 5);
        assert_eq!(other, Verdict::Unknown);
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_used() {
        let mut permits = permits();
        permits.told(vec![permit("kept", true, 1_000)], 0);
        for n in 0..3 * PERMITS_MAX {
            permits.told(vec![permit(&n.to_string(), true, 1_000)], 0);
            let kept = permits.decide(&JOE, Action::Publish, "kept", 1);
            assert_eq!(kept, Verdict::Allowed);
        }
        assert_eq!(permits.known.len(), PERMITS_MAX);
        let long = "x".repeat(PERMIT_TOPIC_BYTES_MAX + 1);
        permits.told(vec![permit(&long, true, 1_000)], 0);
        permits.settled();
        let forgotten = permits.decide(&JOE, Action::Publish, &long, 1);
        assert_eq!(forgotten, Verdict::Unknown);
    }
}
