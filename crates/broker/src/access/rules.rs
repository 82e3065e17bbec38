//! Rules: whom they concern, what is done, to which topics, and whether that is allowed. The first
//! that concerns a request decides. Knows neither configuration nor tokens, which it is built from.

use std::net::IpAddr;

use super::RuleFilter;

/// Whether a rule allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies.
    Deny,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It publishes to a topic.
    Publish,
    /// It subscribes to a filter, given without `$share/group/`.
    Subscribe,
}

/// What a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actions {
    /// Publishing.
    pub publish: bool,
    /// Subscribing.
    pub subscribe: bool,
}

impl Actions {
    /// Both.
    pub const ALL: Self = Self {
        publish: true,
        subscribe: true,
    };

    fn contain(self, action: Action) -> bool {
        match action {
            Action::Publish => self.publish,
            Action::Subscribe => self.subscribe,
        }
    }
}

/// Names that a rule concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// One name.
    Is(Box<str>),
    /// Names that begin so.
    Begins(Box<str>),
}

impl Name {
    fn is_met(&self, name: &str) -> bool {
        match self {
            Self::Is(own) => **own == *name,
            Self::Begins(begin) => name.starts_with(&**begin),
        }
    }
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Net {
    address: IpAddr,
    bits: u8,
}

impl Net {
    /// Reads `10.0.0.0/8`, `fd00::/8`, or one address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        // Addresses of IPv4 written as IPv6 are what they are, as those of clients.
        let (address, bits, most) = match address.to_canonical() {
            v4 @ IpAddr::V4(_) if most == 128 && bits >= 96 => (v4, bits - 96, 32),
            _ => (address, bits, most),
        };
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether it is one address.
    pub fn is_one(&self) -> bool {
        self.bits == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `address` is within. An IPv4 address that came as IPv6 is that IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shared = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        shared >= u32::from(self.bits)
    }
}

/// Who does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// Its user name, `""` where it has none.
    pub username: &'a str,
    /// Where it comes from.
    pub address: Option<IpAddr>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whether it allows or denies.
    pub effect: Effect,
    /// Users it concerns; `None`: all.
    pub user: Option<Name>,
    /// Client ids it concerns; `None`: all.
    pub client_id: Option<Name>,
    /// Addresses it concerns; none: all.
    pub addresses: Box<[Net]>,
    /// What is done.
    pub actions: Actions,
    /// To what; none: to anything.
    pub filters: Box<[RuleFilter]>,
}

impl Rule {
    /// Whether the rule says anything of that. `topic` is a filter for [`Action::Subscribe`].
    pub fn concerns(&self, subject: &Subject<'_>, action: Action, topic: &str) -> bool {
        let user = |name: &Name| name.is_met(subject.username);
        let client = |name: &Name| name.is_met(subject.client_id);
        let from = |net: &Net| subject.address.is_some_and(|address| net.contains(address));
        let meant = |filter: &RuleFilter| match action {
            Action::Publish => filter.meets(subject, self.effect, topic),
            Action::Subscribe => filter.includes(subject, self.effect, topic),
        };
        self.actions.contain(action)
            && self.user.as_ref().is_none_or(user)
            && self.client_id.as_ref().is_none_or(client)
            && (self.addresses.is_empty() || self.addresses.iter().any(from))
            && (self.filters.is_empty() || self.filters.iter().any(meant))
    }
}

/// Rules in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// The rules.
    pub rules: Box<[Rule]>,
}

impl RuleSet {
    /// What the first rule says that concerns it; `None`: no rule does.
    pub fn decide(&self, subject: &Subject<'_>, action: Action, topic: &str) -> Option<Effect> {
        let concerned = |rule: &&Rule| rule.concerns(subject, action, topic);
        self.rules.iter().find(concerned).map(|rule| rule.effect)
    }
}
