//! DescribeLogDirs (35): where partitions lie on disk and how large they are (KIP-113, KIP-827).

wire! {
    /// A topic and its partitions.
    pub struct LogDirsTopic<'a> {
        /// Its name.
        topic: &'a str = "", 1..;
        /// The partitions.
        partitions: Vec<i32> = Vec::new(), 1..;
    }

    /// Asks where partitions lie on disk and how large they are.
    pub struct DescribeLogDirsRequest<'a> {
        /// The topics; null asks for all.
        topics: Option<Vec<LogDirsTopic<'a>>> = Some(Vec::new()), 1..;
    }

    /// A partition in a directory.
    pub struct LogDirPartition {
        /// Its number in the topic.
        partition_index: i32 = 0, 1..;
        /// Size of the segments, in bytes.
        partition_size: i64 = 0, 1..;
        /// How far it is behind; 0 here.
        offset_lag: i64 = 0, 1..;
        /// Whether it is being moved here; never.
        is_future_key: bool = false, 1..;
    }

    /// A topic in a directory.
    pub struct LogDirTopic<'a> {
        /// Its name.
        name: &'a str = "", 1..;
        /// The partitions.
        partitions: Vec<LogDirPartition> = Vec::new(), 1..;
    }

    /// A directory and what lies in it.
    pub struct LogDir<'a> {
        /// What is wrong, or 0.
        error_code: i16 = 0, 1..;
        /// The path of the directory.
        log_dir: &'a str = "", 1..;
        /// The topics.
        topics: Vec<LogDirTopic<'a>> = Vec::new(), 1..;
        /// Size of the file system, in bytes, or -1.
        total_bytes: i64 = -1, 4..;
        /// What of it is free, in bytes, or -1.
        usable_bytes: i64 = -1, 4..;
    }

    /// The directories.
    pub struct DescribeLogDirsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 1..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 3..;
        /// What became of each.
        results: Vec<LogDir<'a>> = Vec::new(), 1..;
    }
}
