//! Who may do what and how fast, among Kafka clients: permissions, super users and quotas.

use super::build::Builder;
use super::words::Word;
use crate::config::{PermissionTable, QuotaTable};

/// Most permissions, and most quotas.
const RULES_MAX: usize = 10_000;
/// Longest name or pattern in a permission or quota, in bytes.
const PATTERN_BYTES_MAX: usize = 1_024;

const KB: u64 = 1 << 10;
const TB: u64 = 1 << 40;

/// Who may do what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessSettings {
    /// Whether what no permission allows is refused: so as soon as there is a permission, or a
    /// Kafka listener that asks who is there. Otherwise everyone may do everything.
    pub enforced: bool,
    /// Names of users who may do everything.
    pub super_users: Vec<String>,
    /// The permissions, in the order written: the first that concerns a request decides.
    pub permissions: Vec<PermissionSettings>,
}

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionSettings {
    /// Whether it allows or denies.
    pub effect: Effect,
    /// Whom it concerns, without `User:`.
    pub principal: Pattern,
    /// What is done.
    pub operations: Vec<KafkaOperation>,
    /// To what.
    pub resource: ResourceKind,
    /// Of what name; of no meaning for the cluster.
    pub name: Pattern,
}

/// Whether a permission allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies.
    Deny,
}

/// What is done, in Apache Kafka's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaOperation {
    /// Everything.
    All,
    /// Fetch, join a group, commit offsets.
    Read,
    /// Produce.
    Write,
    /// Create topics.
    Create,
    /// Delete topics, records, groups.
    Delete,
    /// Add partitions, change the cluster.
    Alter,
    /// See that it is there.
    Describe,
    /// What brokers ask each other.
    ClusterAction,
    /// See settings.
    DescribeConfigs,
    /// Change settings.
    AlterConfigs,
    /// Produce idempotently without a permission to write a topic.
    IdempotentWrite,
}

/// To what something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceKind {
    /// Streams, which Kafka calls topics.
    Topic,
    /// Consumer groups.
    Group,
    /// Transactional ids.
    TransactionalId,
    /// The node as a cluster.
    Cluster,
    /// All of them.
    Any,
}

/// A name, the beginning of one, or any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// `*`
    Any,
    /// `name`
    Name(String),
    /// `begin*`
    Prefix(String),
}

/// One quota.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaSettings {
    /// Whom it concerns, without `User:`; `None`: everyone, and principals are not told apart.
    pub principal: Option<Pattern>,
    /// Which client ids it concerns; `None`: all, and they are not told apart.
    pub client_id: Option<Pattern>,
    /// Bytes of requests a second.
    pub bytes_in_per_s: Option<u64>,
    /// Bytes of answers a second.
    pub bytes_out_per_s: Option<u64>,
    /// Requests a second.
    pub requests_per_s: Option<u64>,
}

impl Pattern {
    /// `*`, `name` or `begin*`.
    pub fn read(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some("") => Self::Any,
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Name(text.to_owned()),
        }
    }

    /// Whether it concerns that name.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(own) => own == name,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

impl Builder {
    /// Permissions and super users. `asked` says whether a Kafka listener asks who is there.
    pub(super) fn kafka_access(&mut self, asked: bool) -> AccessSettings {
        let tables = self.said.kafka.permission.clone().unwrap_or_default();
        let super_users: Vec<String> = self
            .said
            .kafka
            .super_users
            .iter()
            .flatten()
            .map(|name| bare(name).to_owned())
            .collect();
        if super_users
            .iter()
            .any(|name| name.is_empty() || name.contains('*'))
        {
            self.fault(
                "kafka.super_users",
                "each is the name of one user, such as \"admin\" or \"User:admin\"",
            );
        }
        self.bounded("kafka.permission", tables.len());
        let permissions: Vec<PermissionSettings> = (0..)
            .zip(&tables)
            .filter_map(|(index, table)| {
                self.permission(&format!("kafka.permission[{index}]"), table)
            })
            .collect();
        if asked && tables.is_empty() && super_users.is_empty() {
            self.fault(
                "kafka.permission",
                "a Kafka listener asks who is there, and nobody may do anything: write [[kafka.permission]] for those who may, or name `super_users` in [kafka] (docs/security.md)",
            );
        }
        AccessSettings {
            enforced: asked || !tables.is_empty(),
            super_users,
            permissions,
        }
    }

    fn permission(&mut self, path: &str, table: &PermissionTable) -> Option<PermissionSettings> {
        let effect = table.effect.clone().unwrap_or_else(|| "allow".to_owned());
        let effect = self.word::<Effect>(&format!("{path}.effect"), &effect);
        let principal = self.required(path, "principal", table.principal.as_ref());
        let principal =
            principal.map(|text| self.pattern(&format!("{path}.principal"), bare(&text)));
        let resource = self.required(path, "resource", table.resource.as_ref());
        let resource =
            resource.and_then(|word| self.word::<ResourceKind>(&format!("{path}.resource"), &word));
        let name = table.name.clone().unwrap_or_else(|| "*".to_owned());
        let name = self.pattern(&format!("{path}.name"), &name);
        if resource == Some(ResourceKind::Cluster) && name != Pattern::Any {
            self.fault(
                &format!("{path}.name"),
                "there is one cluster; leave the name out",
            );
        }
        let said = table.operations.clone().unwrap_or_default();
        if said.is_empty() {
            let known: Vec<&str> = KafkaOperation::ALL.iter().map(|(_, word)| *word).collect();
            self.fault(
                path,
                &format!(
                    "this [[kafka.permission]] needs `operations`: a list of {}",
                    known.join(", ")
                ),
            );
        }
        let operations = said
            .iter()
            .filter_map(|word| self.word::<KafkaOperation>(&format!("{path}.operations"), word))
            .collect();
        Some(PermissionSettings {
            effect: effect?,
            principal: principal?,
            operations,
            resource: resource?,
            name,
        })
    }

    pub(super) fn kafka_quotas(&mut self) -> Vec<QuotaSettings> {
        let tables = self.said.kafka.quota.clone().unwrap_or_default();
        self.bounded("kafka.quota", tables.len());
        (0..)
            .zip(&tables)
            .map(|(index, table)| self.quota(&format!("kafka.quota[{index}]"), table))
            .collect()
    }

    fn quota(&mut self, path: &str, table: &QuotaTable) -> QuotaSettings {
        let mut bytes = |key: &str, said| {
            let said = Option::as_ref(said).copied()?;
            self.size_or_none(&format!("{path}.{key}"), said, KB, TB)
        };
        let bytes_in_per_s = bytes("bytes_in_per_s", &table.bytes_in_per_s);
        let bytes_out_per_s = bytes("bytes_out_per_s", &table.bytes_out_per_s);
        let requests_per_s = table.requests_per_s.map(|said| {
            let path = format!("{path}.requests_per_s");
            self.integer(&path, Some(said), 1, 1_000_000_000) as u64
        });
        if bytes_in_per_s.is_none() && bytes_out_per_s.is_none() && requests_per_s.is_none() {
            self.fault(
                path,
                "this [[kafka.quota]] bounds nothing: write bytes_in_per_s, bytes_out_per_s or requests_per_s",
            );
        }
        let mut pattern = |key: &str, said: &Option<String>| {
            let text = said.as_deref()?;
            Some(self.pattern(&format!("{path}.{key}"), bare(text)))
        };
        QuotaSettings {
            principal: pattern("principal", &table.principal),
            client_id: pattern("client_id", &table.client_id),
            bytes_in_per_s,
            bytes_out_per_s,
            requests_per_s,
        }
    }

    pub(super) fn pattern(&mut self, path: &str, text: &str) -> Pattern {
        let inner = text.strip_suffix('*').unwrap_or(text);
        if text.is_empty() || inner.contains('*') {
            self.fault(
                path,
                &format!("\"{text}\" is no pattern: write a name, the beginning of names with one * behind it, or * for all"),
            );
        }
        if text.len() > PATTERN_BYTES_MAX {
            self.fault(path, &format!("is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        Pattern::read(text)
    }

    fn bounded(&mut self, path: &str, count: usize) {
        if count > RULES_MAX {
            self.fault(path, &format!("there are at most {RULES_MAX} of these"));
        }
    }
}

/// A principal without the kind that Kafka writes before it.
fn bare(principal: &str) -> &str {
    principal.strip_prefix("User:").unwrap_or(principal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_a_beginning_or_any() {
        assert!(Pattern::read("*").matches("x") && Pattern::read("*").matches(""));
        assert!(Pattern::read("ab*").matches("ab") && Pattern::read("ab*").matches("abc"));
        assert!(!Pattern::read("ab*").matches("a") && !Pattern::read("ab").matches("abc"));
        assert!(Pattern::read("ab").matches("ab"));
        assert_eq!(bare("User:joe"), "joe");
    }
}
