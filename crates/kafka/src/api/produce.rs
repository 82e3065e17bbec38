//! Produce (0): batches for partitions, as they are to be stored. librdkafka reads batches of the
//! current format only from a server that lists Produce. Topic ids instead of names since version
//! 13 (KIP-516).

use crate::{Records, Uuid};

wire! {
    /// Batches for a partition.
    pub struct ProducePartition<'a> {
        /// Its number in the topic.
        index: i32 = 0, 3..;
        /// The batches.
        records: Records<'a> = Records::Received(&[]), 3..;
    }

    /// Batches for a topic.
    pub struct ProduceTopic<'a> {
        /// Its name.
        name: &'a str = "", 3..=12;
        /// Its id.
        topic_id: Uuid = [0; 16], 13..;
        /// Its partitions.
        partitions: Vec<ProducePartition<'a>> = Vec::new(), 3..;
    }

    /// Batches to be appended.
    pub struct ProduceRequest<'a> {
        /// The transactional id, if there is a transaction.
        transactional_id: Option<&'a str> = None, 3..;
        /// Who must have the batches before the answer: 0 there is none, 1 the leader, -1 all.
        acks: i16 = 0, 3..;
        /// How long to wait for that, in milliseconds.
        timeout_ms: i32 = 0, 3..;
        /// The topics.
        topics: Vec<ProduceTopic<'a>> = Vec::new(), 3..;
    }

    /// A record that was refused.
    pub struct RecordError<'a> {
        /// Its place in the batch.
        batch_index: i32 = 0, 8..;
        /// What is wrong with it.
        message: Option<&'a str> = None, 8..;
    }

    /// What became of the batches for a partition.
    pub struct ProducePartitionResponse<'a> {
        /// Its number in the topic.
        index: i32 = 0, 3..;
        /// What is wrong with them.
        error_code: i16 = 0, 3..;
        /// Offset of the first record, or -1.
        base_offset: i64 = 0, 3..;
        /// The time that the server gave them, or -1.
        log_append_time_ms: i64 = -1, 3..;
        /// The first offset of the partition.
        log_start_offset: i64 = -1, 5..;
        /// The records that were refused.
        record_errors: Vec<RecordError<'a>> = Vec::new(), 8..;
        /// What is wrong, in words.
        error_message: Option<&'a str> = None, 8..;
    }

    /// What became of the batches for a topic.
    pub struct ProduceTopicResponse<'a> {
        /// Its name.
        name: &'a str = "", 3..=12;
        /// Its id.
        topic_id: Uuid = [0; 16], 13..;
        /// Its partitions.
        partitions: Vec<ProducePartitionResponse<'a>> = Vec::new(), 3..;
    }

    /// What became of the batches.
    pub struct ProduceResponse<'a> {
        /// The topics.
        topics: Vec<ProduceTopicResponse<'a>> = Vec::new(), 3..;
        /// Always 0: nobody is throttled.
        throttle_time_ms: i32 = 0, 3..;
    }
}
