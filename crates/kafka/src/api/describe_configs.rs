//! DescribeConfigs (32): the settings of topics and brokers.

wire! {
    /// A topic or broker whose settings are asked for.
    pub struct DescribeConfigsResource<'a> {
        /// 2 for a topic, 4 for a broker.
        resource_type: i8 = 0, 1..;
        /// The topic's name, or the broker's id.
        resource_name: &'a str = "", 1..;
        /// Only these settings; all where null.
        configuration_keys: Option<Vec<&'a str>> = Some(Vec::new()), 1..;
    }

    /// Asks for the settings of topics and brokers.
    pub struct DescribeConfigsRequest<'a> {
        /// The topics and brokers.
        resources: Vec<DescribeConfigsResource<'a>> = Vec::new(), 1..;
        /// Whether to tell where else the settings may come from.
        include_synonyms: bool = false, 1..;
        /// Whether to tell what the settings mean.
        include_documentation: bool = false, 3..;
    }

    /// Where else a setting may come from.
    pub struct ConfigSynonym<'a> {
        /// Its name.
        name: &'a str = "", 1..;
        /// Its value; null where it has none.
        value: Option<&'a str> = Some(""), 1..;
        /// Where this value comes from.
        source: i8 = 0, 1..;
    }

    /// A setting.
    pub struct DescribedConfig<'a> {
        /// Its name.
        name: &'a str = "", 1..;
        /// Its value; null where it has none.
        value: Option<&'a str> = Some(""), 1..;
        /// Whether it cannot be changed.
        read_only: bool = false, 1..;
        /// Where its value comes from.
        config_source: i8 = -1, 1..;
        /// Whether its value is secret.
        is_sensitive: bool = false, 1..;
        /// Where its value may come from, the first that has one wins.
        synonyms: Vec<ConfigSynonym<'a>> = Vec::new(), 1..;
        /// What kind of value it has.
        config_type: i8 = 0, 3..;
        /// What it means.
        documentation: Option<&'a str> = Some(""), 3..;
    }

    /// The settings of a topic or broker.
    pub struct DescribedResource<'a> {
        /// What is wrong, or 0.
        error_code: i16 = 0, 1..;
        /// What is wrong, in words.
        error_message: Option<&'a str> = None, 1..;
        /// 2 for a topic, 4 for a broker.
        resource_type: i8 = 0, 1..;
        /// The topic's name, or the broker's id.
        resource_name: &'a str = "", 1..;
        /// Its settings.
        configs: Vec<DescribedConfig<'a>> = Vec::new(), 1..;
    }

    /// The settings.
    pub struct DescribeConfigsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 1..;
        /// What became of each.
        results: Vec<DescribedResource<'a>> = Vec::new(), 1..;
    }
}
