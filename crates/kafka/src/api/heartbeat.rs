//! Heartbeat (12): a member of a group is alive, and learns whether the group rebalances.

wire! {
    /// Tells that a member lives.
    pub struct HeartbeatRequest<'a> {
        /// The group.
        group_id: &'a str = "", 0..;
        /// The generation of the group.
        generation_id: i32 = 0, 0..;
        /// The member.
        member_id: &'a str = "", 0..;
        /// The name of a static member (KIP-345).
        group_instance_id: Option<&'a str> = None, 3..;
    }

    /// Whether the member's generation still stands.
    pub struct HeartbeatResponse {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 1..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
    }
}
