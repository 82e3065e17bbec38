//! ListGroups (16): which groups there are.

wire! {
    /// Asks which groups there are.
    pub struct ListGroupsRequest<'a> {
        /// Only groups in these states; all where empty.
        states_filter: Vec<&'a str> = Vec::new(), 4..;
        /// Only groups of these types; all where empty.
        types_filter: Vec<&'a str> = Vec::new(), 5..;
    }

    /// A group.
    pub struct ListedGroup<'a> {
        /// The group.
        group_id: &'a str = "", 0..;
        /// What kind of group it is, as its clients say.
        protocol_type: &'a str = "", 0..;
        /// Its state.
        group_state: &'a str = "", 4..;
        /// Its type: classic.
        group_type: &'a str = "", 5..;
    }

    /// The groups.
    pub struct ListGroupsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 1..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// The groups.
        groups: Vec<ListedGroup<'a>> = Vec::new(), 0..;
    }
}
