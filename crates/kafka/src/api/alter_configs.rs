//! AlterConfigs (33): set all settings of a topic or broker anew; what is not named goes back to its
//! default.

wire! {
    /// A setting and its new value.
    pub struct AlterableConfig<'a> {
        /// Its name.
        name: &'a str = "", 0..;
        /// Its value; null where it has none.
        value: Option<&'a str> = Some(""), 0..;
    }

    /// A topic or broker and all its settings.
    pub struct AlterConfigsResource<'a> {
        /// 2 for a topic, 4 for a broker.
        resource_type: i8 = 0, 0..;
        /// The topic's name, or the broker's id.
        resource_name: &'a str = "", 0..;
        /// Its settings.
        configs: Vec<AlterableConfig<'a>> = Vec::new(), 0..;
    }

    /// Sets all settings of topics and brokers anew.
    pub struct AlterConfigsRequest<'a> {
        /// The topics and brokers.
        resources: Vec<AlterConfigsResource<'a>> = Vec::new(), 0..;
        /// Whether to check only and change nothing.
        validate_only: bool = false, 0..;
    }

    /// What became of the settings of a topic or broker.
    pub struct AlterConfigsResourceResponse<'a> {
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
    pub struct AlterConfigsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// What became of each.
        responses: Vec<AlterConfigsResourceResponse<'a>> = Vec::new(), 0..;
    }
}
