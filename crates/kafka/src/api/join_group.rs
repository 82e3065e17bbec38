//! JoinGroup (11): become a member of a group and wait until all its members have come. A member
//! without an id is told one first since version 4 (KIP-394), static members since 5 (KIP-345).

wire! {
    /// A way to divide the work that the member supports.
    pub struct JoinGroupProtocol<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// What the member tells its peers; only they understand it.
        metadata: &'a [u8] = &[], 0..;
    }

    /// Asks to become, or to stay, a member of a group.
    pub struct JoinGroupRequest<'a> {
        /// The group.
        group_id: &'a str = "", 0..;
        /// How long a member may be silent, in milliseconds.
        session_timeout_ms: i32 = 0, 0..;
        /// How long a rebalance waits for the member, in milliseconds.
        rebalance_timeout_ms: i32 = -1, 1..;
        /// The member.
        member_id: &'a str = "", 0..;
        /// The name of a static member (KIP-345).
        group_instance_id: Option<&'a str> = None, 5..;
        /// What kind of group it is, as its clients say.
        protocol_type: &'a str = "", 0..;
        /// The protocols that the member supports, the most wanted first.
        protocols: Vec<JoinGroupProtocol<'a>> = Vec::new(), 0..;
        /// Why, in words.
        reason: Option<&'a str> = None, 8..;
    }

    /// A member, as the leader is told of it.
    pub struct JoinGroupMember<'a> {
        /// The member.
        member_id: &'a str = "", 0..;
        /// The name of a static member (KIP-345).
        group_instance_id: Option<&'a str> = None, 5..;
        /// What the member told; only its peers understand it.
        metadata: &'a [u8] = &[], 0..;
    }

    /// The generation that was joined.
    pub struct JoinGroupResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 2..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// The generation of the group.
        generation_id: i32 = -1, 0..;
        /// What kind of group it is, as its clients say.
        protocol_type: Option<&'a str> = None, 7..;
        /// The protocol that was chosen.
        protocol_name: Option<&'a str> = Some(""), 0.., null 7..;
        /// The member that divides the work.
        leader: &'a str = "", 0..;
        /// Whether the leader is to leave the assignment as it is (KIP-814).
        skip_assignment: bool = false, 9..;
        /// The member.
        member_id: &'a str = "", 0..;
        /// The members.
        members: Vec<JoinGroupMember<'a>> = Vec::new(), 0..;
    }
}
