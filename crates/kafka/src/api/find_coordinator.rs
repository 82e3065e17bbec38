//! FindCoordinator (10): which broker coordinates groups or transactions. Many keys in one request
//! since version 4 (KIP-699).

wire! {
    /// Asks which broker coordinates groups or transactions.
    pub struct FindCoordinatorRequest<'a> {
        /// The group or transactional id.
        key: &'a str = "", 0..=3;
        /// 0 for groups, 1 for transactional ids.
        key_type: i8 = 0, 1..;
        /// The groups or transactional ids.
        coordinator_keys: Vec<&'a str> = Vec::new(), 4..;
    }

    /// The broker that coordinates one of them.
    pub struct Coordinator<'a> {
        /// The group or transactional id.
        key: &'a str = "", 4..;
        /// Its id, or -1.
        node_id: i32 = 0, 4..;
        /// Where clients reach it.
        host: &'a str = "", 4..;
        /// Where clients reach it.
        port: i32 = 0, 4..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 4..;
        /// What is wrong, in words.
        error_message: Option<&'a str> = Some(""), 4..;
    }

    /// The coordinators.
    pub struct FindCoordinatorResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 1..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..=3;
        /// What is wrong, in words.
        error_message: Option<&'a str> = Some(""), 1..=3;
        /// Its id, or -1.
        node_id: i32 = 0, 0..=3;
        /// Where clients reach it.
        host: &'a str = "", 0..=3;
        /// Where clients reach it.
        port: i32 = 0, 0..=3;
        /// The coordinators, one for each key.
        coordinators: Vec<Coordinator<'a>> = Vec::new(), 4..;
    }
}
