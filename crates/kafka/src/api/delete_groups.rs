//! DeleteGroups (42): delete groups that have no members (KIP-229).

wire! {
    /// Deletes groups that have no members.
    pub struct DeleteGroupsRequest<'a> {
        /// The groups.
        group_names: Vec<&'a str> = Vec::new(), 0..;
    }

    /// What became of a group.
    pub struct DeletedGroup<'a> {
        /// The group.
        group_id: &'a str = "", 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
    }

    /// What became of the groups.
    pub struct DeleteGroupsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// What became of each.
        results: Vec<DeletedGroup<'a>> = Vec::new(), 0..;
    }
}
