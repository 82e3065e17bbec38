//! What the configuration says of who may come in by MQTT and what each may do, made usable as one
//! value, which is replaced as a whole where the configuration is read anew. It knows no client.

use std::sync::Arc;

use broker::access::{Access, Otherwise, RuleSet};

use super::callout::Callout;
use super::methods::{Authenticator, Known};
use crate::settings::{AuthorizationSettings, KeySettings};

/// Authenticators and rules.
pub(super) struct Plan {
    pub authenticators: Vec<Authenticator>,
    pub authorization: AuthorizationSettings,
    /// What everyone may do who has no permissions of its own; `None`: nothing is judged.
    pub access: Option<Arc<Access>>,
    pub rules: Arc<RuleSet>,
    /// Who is asked where no rule says anything.
    pub callout: Option<Arc<Callout>>,
}

impl Plan {
    /// Of these settings; `before` is the one that was in force.
    ///
    /// # Errors
    /// What of them cannot be used.
    pub fn new(settings: &KeySettings, before: Option<&Self>) -> Result<Self, String> {
        let mut authenticators = Vec::with_capacity(settings.authenticators.len());
        for one in &settings.authenticators {
            let known = before.and_then(|before| before.authenticator(&one.name));
            authenticators.push(Authenticator::new(one, known)?);
        }
        let authorization = settings.authorization.clone();
        let callout = authorization.callout.as_ref();
        let callout = callout.map(Callout::new).transpose()?;
        let rules = Arc::new(RuleSet {
            rules: authorization.rules.clone().into(),
        });
        let otherwise = match (&callout, authorization.allow_no_match) {
            (Some(_), _) => Otherwise::Ask,
            (None, true) => Otherwise::Allow,
            (None, false) => Otherwise::Deny,
        };
        let access = authorization.enforced.then(|| {
            Arc::new(Access {
                rules: Arc::clone(&rules),
                own: Box::default(),
                otherwise,
                super_user: false,
                trusted: false,
            })
        });
        Ok(Self {
            authenticators,
            authorization,
            access,
            rules,
            callout: callout.map(Arc::new),
        })
    }

    /// The authenticator of that name.
    pub fn authenticator(&self, name: &str) -> Option<&Authenticator> {
        self.authenticators.iter().find(|one| one.name() == name)
    }

    /// What a client may do that came in as `user`.
    pub fn access_of(&self, known: &Known, user: &str) -> Option<Arc<Access>> {
        let access = self.access.as_ref()?;
        let super_users = &self.authorization.super_users;
        let named = !user.is_empty() && super_users.iter().any(|name| name == user);
        if known.rules.is_empty() && !known.super_user && !named {
            return Some(Arc::clone(access));
        }
        Some(Arc::new(Access {
            rules: Arc::clone(&self.rules),
            own: known.rules.clone().into(),
            otherwise: access.otherwise,
            super_user: known.super_user || named,
            trusted: known.super_user,
        }))
    }

    /// What the shards are told where this comes into force after another.
    pub fn judging(&self) -> broker::access::Judging {
        broker::access::Judging {
            access: self.access.clone(),
            super_users: self.authorization.super_users.clone().into(),
            denied_publish: self.authorization.denied_publish,
        }
    }
}
