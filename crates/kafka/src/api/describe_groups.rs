//! DescribeGroups (15): groups and their members.

wire! {
    /// Asks for groups and their members.
    pub struct DescribeGroupsRequest<'a> {
        /// The groups.
        groups: Vec<&'a str> = Vec::new(), 0..;
        /// Whether to tell what the client may do with each group.
        include_authorized_operations: bool = false, 3..;
    }

    /// A member of a group.
    pub struct DescribedMember<'a> {
        /// The member.
        member_id: &'a str = "", 0..;
        /// The name of a static member (KIP-345).
        group_instance_id: Option<&'a str> = None, 4..;
        /// The name that its client gives itself.
        client_id: &'a str = "", 0..;
        /// Where its client is.
        client_host: &'a str = "", 0..;
        /// What it told the group; only its peers understand it.
        member_metadata: &'a [u8] = &[], 0..;
        /// What it is to do; only its peers understand it.
        member_assignment: &'a [u8] = &[], 0..;
    }

    /// A group and its members.
    pub struct DescribedGroup<'a> {
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// What is wrong, in words.
        error_message: Option<&'a str> = None, 6..;
        /// The group.
        group_id: &'a str = "", 0..;
        /// Its state.
        group_state: &'a str = "", 0..;
        /// What kind of group it is, as its clients say.
        protocol_type: &'a str = "", 0..;
        /// The protocol that was chosen.
        protocol_data: &'a str = "", 0..;
        /// The members.
        members: Vec<DescribedMember<'a>> = Vec::new(), 0..;
        /// What the client may do with it, a bit for each of Kafka's operations.
        authorized_operations: i32 = super::OPERATIONS_NOT_ASKED, 3..;
    }

    /// The groups.
    pub struct DescribeGroupsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 1..;
        /// The groups.
        groups: Vec<DescribedGroup<'a>> = Vec::new(), 0..;
    }
}
