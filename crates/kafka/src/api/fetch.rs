//! Fetch (1): the batches of partitions. Sessions since version 7 (KIP-227), leader epochs since 9
//! (KIP-320), topic ids instead of names since 13 (KIP-516).

use crate::{Records, Uuid};

wire! {
    /// A partition and where to read it.
    pub struct FetchPartition {
        /// Its number in the topic.
        partition: i32 = 0, 4..;
        /// The leader epoch that the client knows, or -1.
        current_leader_epoch: i32 = -1, 9..;
        /// The offset to read from.
        fetch_offset: i64 = 0, 4..;
        /// The epoch of the last record that the client has, or -1.
        last_fetched_epoch: i32 = -1, 12..;
        /// For followers: their log start.
        log_start_offset: i64 = -1, 5..;
        /// At most this many bytes, but at least one batch.
        partition_max_bytes: i32 = 0, 4..;
    }

    /// A topic and its partitions.
    pub struct FetchTopic<'a> {
        /// Its name.
        topic: &'a str = "", 4..=12;
        /// Its id.
        topic_id: Uuid = [0; 16], 13..;
        /// Its partitions.
        partitions: Vec<FetchPartition> = Vec::new(), 4..;
    }

    /// Partitions that a fetch session is to forget.
    pub struct ForgottenTopic<'a> {
        /// The topic's name.
        topic: &'a str = "", 7..=12;
        /// The topic's id.
        topic_id: Uuid = [0; 16], 13..;
        /// Numbers of the partitions.
        partitions: Vec<i32> = Vec::new(), 7..;
    }

    /// Asks for batches.
    pub struct FetchRequest<'a> {
        /// -1 for a consumer.
        replica_id: i32 = -1, 4..=14;
        /// How long to wait for `min_bytes`, in milliseconds.
        max_wait_ms: i32 = 0, 4..;
        /// How many bytes to wait for.
        min_bytes: i32 = 0, 4..;
        /// At most this many bytes in all, but at least one batch.
        max_bytes: i32 = i32::MAX, 4..;
        /// 0 read uncommitted, 1 read committed.
        isolation_level: i8 = 0, 4..;
        /// The fetch session, or 0.
        session_id: i32 = 0, 7..;
        /// The epoch in the session: 0 opens one, -1 ends it.
        session_epoch: i32 = -1, 7..;
        /// The topics.
        topics: Vec<FetchTopic<'a>> = Vec::new(), 4..;
        /// What the session is to forget.
        forgotten_topics: Vec<ForgottenTopic<'a>> = Vec::new(), 7..;
        /// The rack that the client is in.
        rack_id: &'a str = "", 11..;
    }

    /// A transaction that was aborted.
    pub struct AbortedTransaction {
        /// Its producer.
        producer_id: i64 = 0, 4..;
        /// The first offset in it.
        first_offset: i64 = 0, 4..;
    }

    /// Where an epoch ends.
    pub struct EpochEnd {
        /// The epoch.
        epoch: i32 = -1, 12..;
        /// The offset behind its last record.
        end_offset: i64 = -1, 12..;
    }

    /// What a partition has.
    pub struct FetchPartitionResponse<'a> {
        /// Its number in the topic.
        partition_index: i32 = 0, 4..;
        /// What is wrong with it.
        error_code: i16 = 0, 4..;
        /// The end, as far as a reader may see.
        high_watermark: i64 = 0, 4..;
        /// The end of what is decided: no open transaction lies below.
        last_stable_offset: i64 = -1, 4..;
        /// The first offset.
        log_start_offset: i64 = -1, 5..;
        /// The aborted transactions among the batches; null for a reader of the uncommitted.
        aborted_transactions: Option<Vec<AbortedTransaction>> = None, 4..;
        /// A better replica to read from, or -1.
        preferred_read_replica: i32 = -1, 11..;
        /// The batches.
        records: Records<'a> = Records::Stored(Vec::new()), 4..;
    }
    tags {
        /// Where the client's log parts from ours.
        0 => diverging_epoch: EpochEnd, 12..;
    }

    /// What a topic has.
    pub struct FetchTopicResponse<'a> {
        /// Its name.
        topic: &'a str = "", 4..=12;
        /// Its id.
        topic_id: Uuid = [0; 16], 13..;
        /// Its partitions.
        partitions: Vec<FetchPartitionResponse<'a>> = Vec::new(), 4..;
    }

    /// The batches.
    pub struct FetchResponse<'a> {
        /// Always 0: nobody is throttled.
        throttle_time_ms: i32 = 0, 4..;
        /// What is wrong with the request as a whole.
        error_code: i16 = 0, 7..;
        /// The fetch session, or 0.
        session_id: i32 = 0, 7..;
        /// The topics.
        topics: Vec<FetchTopicResponse<'a>> = Vec::new(), 4..;
    }
}
