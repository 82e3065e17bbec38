//! SyncGroup (14): the leader brings the division of the work, each member waits for its share.

wire! {
    /// What the leader gives to a member.
    pub struct SyncGroupAssignment<'a> {
        /// The member.
        member_id: &'a str = "", 0..;
        /// What the member is to do; only its peers understand it.
        assignment: &'a [u8] = &[], 0..;
    }

    /// Brings the leader's assignment and asks for one's own.
    pub struct SyncGroupRequest<'a> {
        /// The group.
        group_id: &'a str = "", 0..;
        /// The generation of the group.
        generation_id: i32 = 0, 0..;
        /// The member.
        member_id: &'a str = "", 0..;
        /// The name of a static member (KIP-345).
        group_instance_id: Option<&'a str> = None, 3..;
        /// What kind of group it is, as its clients say.
        protocol_type: Option<&'a str> = None, 5..;
        /// The protocol that was chosen.
        protocol_name: Option<&'a str> = None, 5..;
        /// The assignments; empty where the member is not the leader.
        assignments: Vec<SyncGroupAssignment<'a>> = Vec::new(), 0..;
    }

    /// What the member is to do.
    pub struct SyncGroupResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 1..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// What kind of group it is, as its clients say.
        protocol_type: Option<&'a str> = None, 5..;
        /// The protocol that was chosen.
        protocol_name: Option<&'a str> = None, 5..;
        /// What the member is to do; only its peers understand it.
        assignment: &'a [u8] = &[], 0..;
    }
}
