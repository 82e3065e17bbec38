//! IncrementalAlterConfigs (44): change single settings of a topic or broker (KIP-339).

wire! {
    /// A setting and what is to be done with it.
    pub struct IncrementalConfig<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// 0 sets, 1 deletes, 2 appends to a list, 3 takes from a list.
        config_operation: i8 = 0, 0..;
        /// Its value; null where it has none.
        value: Option<&'a str> = Some(""), 0..;
    }

    /// A topic or broker and the settings that change.
    pub struct IncrementalResource<'a> {
        /// 2 for a topic, 4 for a broker.
        resource_type: i8 = 0, 0..;
        /// The topic's name, or the broker's id.
        resource_name: &'a str = "", 0..;
        /// Its settings.
        configs: Vec<IncrementalConfig<'a>> = Vec::new(), 0..;
    }

    /// Changes single settings of topics and brokers.
    pub struct IncrementalAlterConfigsRequest<'a> {
        /// The topics and brokers.
        resources: Vec<IncrementalResource<'a>> = Vec::new(), 0..;
        /// Whether to check only and change nothing.
        validate_only: bool = false, 0..;
    }

    /// What became of the settings of a topic or broker.
    pub struct IncrementalResourceResponse<'a> {
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// What is wrong, in words.
        error_message: Option<&'a str> = None, 0..;
        /// 2 for a topic, 4 for a broker.
        resource_type: i8 = 0, 0..;
        /// The topic's name, or the broker's id.
        resource_name: &'a str = "", 0..;
    }

    /// What became of the settings.
    pub struct IncrementalAlterConfigsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// What became of each.
        responses: Vec<IncrementalResourceResponse<'a>> = Vec::new(), 0..;
    }
}
