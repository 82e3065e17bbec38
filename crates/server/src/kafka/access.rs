//! Who may do what: Kafka's operations and resources, decided by the permissions in the
//! configuration. The first that concerns a request decides.

use super::FrontDoor;
use super::caller::Caller;
use crate::auth::Principal;
use crate::settings::{AccessSettings, Effect, KafkaOperation, PermissionSettings, ResourceKind};

/// What is done to a resource. The numbers are Kafka's `AclOperation`, which are also the bits of
/// the authorised operations (KIP-430).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

/// What is acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
    Cluster,
}

impl Resource<'_> {
    /// The operations that Kafka knows for this kind of resource.
    fn operations(self) -> &'static [Operation] {
        use Operation::{
            Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs,
            IdempotentWrite, Read, Write,
        };
        match self {
            Self::Topic(_) => &[
                Read,
                Write,
                Create,
                Delete,
                Alter,
                Describe,
                DescribeConfigs,
                AlterConfigs,
            ],
            Self::Group(_) => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
            Self::TransactionalId(_) => &[Write, Describe],
            Self::Cluster => &[
                Create,
                Alter,
                Describe,
                ClusterAction,
                DescribeConfigs,
                AlterConfigs,
                IdempotentWrite,
            ],
        }
    }

    fn kind(self) -> ResourceKind {
        match self {
            Self::Topic(_) => ResourceKind::Topic,
            Self::Group(_) => ResourceKind::Group,
            Self::TransactionalId(_) => ResourceKind::TransactionalId,
            Self::Cluster => ResourceKind::Cluster,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Topic(name) | Self::Group(name) | Self::TransactionalId(name) => name,
            // Apache Kafka's name of the one there is.
            Self::Cluster => "kafka-cluster",
        }
    }
}

impl FrontDoor {
    /// Whether the caller may do that.
    pub(super) fn allows(
        &self,
        caller: &Caller,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool {
        allows(
            &self.settings.access,
            &caller.principal,
            operation,
            resource,
        )
    }

    /// The bits of what the caller may do with a resource (KIP-430), for the answers that tell
    /// `authorized_operations` to who asked for them.
    pub(super) fn authorized_operations(&self, caller: &Caller, resource: Resource<'_>) -> i32 {
        let allowed = |operation: &&Operation| self.allows(caller, **operation, resource);
        let operations = resource.operations().iter().filter(allowed);
        operations.fold(0, |bits, &operation| bits | 1 << operation as i32)
    }
}

fn allows(
    access: &AccessSettings,
    principal: &Principal,
    operation: Operation,
    resource: Resource<'_>,
) -> bool {
    if !access.enforced
        || access
            .super_users
            .iter()
            .any(|name| name == principal.name())
    {
        return true;
    }
    let of_principal =
        |permission: &&PermissionSettings| permission.principal.matches(principal.name());
    let mut concerned = access.permissions.iter().filter(of_principal);
    let decided = concerned.find(|permission| {
        concerns_resource(permission, resource) && concerns_operation(permission, operation)
    });
    match decided {
        Some(permission) => permission.effect == Effect::Allow,
        // Who may write some topic may do so idempotently (KIP-679).
        None if operation == Operation::IdempotentWrite => access
            .permissions
            .iter()
            .filter(of_principal)
            .any(writes_topics),
        None => false,
    }
}

fn writes_topics(permission: &PermissionSettings) -> bool {
    permission.effect == Effect::Allow
        && matches!(permission.resource, ResourceKind::Topic | ResourceKind::Any)
        && concerns_operation(permission, Operation::Write)
}

fn concerns_resource(permission: &PermissionSettings, resource: Resource<'_>) -> bool {
    let kind = permission.resource;
    (kind == ResourceKind::Any || kind == resource.kind())
        && permission.name.matches(resource.name())
}

/// Whether a permission says something about an operation: by its name, or, where it allows
/// something else, because that is allowed along with it.
fn concerns_operation(permission: &PermissionSettings, operation: Operation) -> bool {
    let implied = |said: KafkaOperation| {
        permission.effect == Effect::Allow
            && match operation {
                Operation::Describe => matches!(
                    said,
                    KafkaOperation::Read
                        | KafkaOperation::Write
                        | KafkaOperation::Delete
                        | KafkaOperation::Alter
                ),
                Operation::DescribeConfigs => said == KafkaOperation::AlterConfigs,
                _ => false,
            }
    };
    permission
        .operations
        .iter()
        .any(|&said| said == KafkaOperation::All || said == operation.said() || implied(said))
}

impl Operation {
    /// The operation as the configuration names it.
    fn said(self) -> KafkaOperation {
        match self {
            Self::Read => KafkaOperation::Read,
            Self::Write => KafkaOperation::Write,
            Self::Create => KafkaOperation::Create,
            Self::Delete => KafkaOperation::Delete,
            Self::Alter => KafkaOperation::Alter,
            Self::Describe => KafkaOperation::Describe,
            Self::ClusterAction => KafkaOperation::ClusterAction,
            Self::DescribeConfigs => KafkaOperation::DescribeConfigs,
            Self::AlterConfigs => KafkaOperation::AlterConfigs,
            Self::IdempotentWrite => KafkaOperation::IdempotentWrite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Flags, build};

    fn access(text: &str) -> AccessSettings {
        let (said, faults) = crate::config::read("f", text);
        assert_eq!(faults, []);
        let settings = build(Some(said), &Flags::default()).unwrap();
        settings.kafka.access
    }

    const RULES: &str = r#"
        [kafka]
        super_users = ["User:root"]
        [[kafka.permission]]
        effect = "deny"
        principal = "*"
        operations = ["all"]
        resource = "topic"
        name = "secret"
        [[kafka.permission]]
        principal = "User:billing"
        operations = ["read"]
        resource = "topic"
        name = "message_*"
        [[kafka.permission]]
        principal = "billing"
        operations = ["read"]
        resource = "group"
        name = "billing"
        [[kafka.permission]]
        principal = "prod*"
        operations = ["write", "create"]
        resource = "topic"
        [[kafka.permission]]
        principal = "ops"
        operations = ["all"]
        resource = "any"
        [[kafka.permission]]
        effect = "deny"
        principal = "viewer"
        operations = ["read"]
        resource = "topic"
        name = "message_command"
        [[kafka.permission]]
        principal = "viewer"
        operations = ["read", "alter_configs"]
        resource = "topic"
    "#;

    #[test]
    fn the_first_permission_that_concerns_a_request_decides() {
        use Operation::{
            Alter, AlterConfigs, Create, Delete, Describe, DescribeConfigs, IdempotentWrite, Read,
            Write,
        };
        use Resource::{Cluster, Group, Topic, TransactionalId};
        let access = access(RULES);
        let may = |name: &str, operation, resource| {
            allows(&access, &Principal::user(name), operation, resource)
        };
        for (name, operation, resource, allowed) in [
            ("billing", Read, Topic("message_state"), true),
            ("billing", Describe, Topic("message_state"), true),
            ("billing", Write, Topic("message_state"), false),
            ("billing", Read, Topic("other"), false),
            ("billing", Read, Group("billing"), true),
            ("billing", Read, Group("other"), false),
            ("billing", IdempotentWrite, Cluster, false),
            ("billing", Describe, Cluster, false),
            ("billing", DescribeConfigs, Topic("message_state"), false),
            ("producer-1", Write, Topic("x"), true),
            ("producer-1", Create, Topic("x"), true),
            ("producer-1", Create, Cluster, false),
            ("producer-1", Write, Topic("secret"), false),
            ("producer-1", IdempotentWrite, Cluster, true),
            ("producer-1", Write, TransactionalId("t"), false),
            ("ops", Delete, Topic("x"), true),
            ("ops", Delete, Topic("secret"), false),
            ("ops", Write, TransactionalId("t"), true),
            ("ops", Alter, Cluster, true),
            ("root", Delete, Topic("secret"), true),
            ("viewer", Read, Topic("message_command"), false),
            // Only reading is denied; the next permission lets it be seen.
            ("viewer", Describe, Topic("message_command"), true),
            ("viewer", AlterConfigs, Topic("message_command"), true),
            ("viewer", DescribeConfigs, Topic("message_command"), true),
            ("anonymous", Describe, Topic("x"), false),
        ] {
            let told = may(name, operation, resource);
            assert_eq!(told, allowed, "{name} {operation:?} {resource:?}");
        }
    }

    #[test]
    fn everything_is_allowed_until_somebody_is_asked() {
        let open = access("");
        let anyone = Principal::anonymous();
        assert!(!open.enforced);
        assert!(allows(
            &open,
            &anyone,
            Operation::Delete,
            Resource::Topic("x")
        ));
        let asked = access(
            "[kafka]\nsuper_users = [\"root\"]\n[[listener]]\nkind = \"kafka\"\nbind = \"127.0.0.1:0\"\nauthentication = \"sasl\"\n",
        );
        assert!(asked.enforced);
        assert!(!allows(
            &asked,
            &anyone,
            Operation::Describe,
            Resource::Topic("x")
        ));
    }
}
