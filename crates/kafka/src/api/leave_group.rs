//! LeaveGroup (13): take members out of a group; several at once since version 3 (KIP-345).

wire! {
    /// A member that leaves.
    pub struct LeavingMember<'a> {
        /// The member.
        member_id: &'a str = "", 3..;
        /// The name of a static member (KIP-345).
        group_instance_id: Option<&'a str> = None, 3..;
        /// Why, in words.
        reason: Option<&'a str> = None, 5..;
    }

    /// Takes members out of a group.
    pub struct LeaveGroupRequest<'a> {
        /// The group.
        group_id: &'a str = "", 0..;
        /// The member.
        member_id: &'a str = "", 0..=2;
        /// The members.
        members: Vec<LeavingMember<'a>> = Vec::new(), 3..;
    }

    /// What became of one of the members.
    pub struct LeavingMemberResponse<'a> {
        /// The member.
        member_id: &'a str = "", 3..;
        /// The name of a static member (KIP-345).
        group_instance_id: Option<&'a str> = Some(""), 3..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 3..;
    }

    /// What became of it.
    pub struct LeaveGroupResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 1..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// The members.
        members: Vec<LeavingMemberResponse<'a>> = Vec::new(), 3..;
    }
}
