//! DescribeCluster (60): the brokers (KIP-700).

wire! {
    /// Asks for the brokers.
    pub struct DescribeClusterRequest {
        /// Whether to tell what the client may do with the cluster.
        include_cluster_authorized_operations: bool = false, 0..;
        /// 1 for brokers, 2 for controllers.
        endpoint_type: i8 = 1, 1..;
        /// Whether to tell of brokers that are shut out.
        include_fenced_brokers: bool = false, 2..;
    }

    /// A broker.
    pub struct DescribeClusterBroker<'a> {
        /// Its id.
        broker_id: i32 = 0, 0..;
        /// Where clients reach it.
        host: &'a str = "", 0..;
        /// Where clients reach it.
        port: i32 = 0, 0..;
        /// Its rack.
        rack: Option<&'a str> = None, 0..;
        /// Whether it is shut out.
        is_fenced: bool = false, 2..;
    }

    /// The brokers.
    pub struct DescribeClusterResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 0..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 0..;
        /// What is wrong, in words.
        error_message: Option<&'a str> = None, 0..;
        /// 1 for brokers, 2 for controllers.
        endpoint_type: i8 = 1, 1..;
        /// Name of the cluster.
        cluster_id: &'a str = "", 0..;
        /// The broker that is controller.
        controller_id: i32 = -1, 0..;
        /// The brokers.
        brokers: Vec<DescribeClusterBroker<'a>> = Vec::new(), 0..;
        /// What the client may do with the cluster, a bit for each of Kafka's operations.
        cluster_authorized_operations: i32 = super::OPERATIONS_NOT_ASKED, 0..;
    }
}
