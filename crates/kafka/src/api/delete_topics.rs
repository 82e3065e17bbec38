//! DeleteTopics (20): delete topics; by id since version 6 (KIP-516).

use crate::Uuid;

wire! {
    /// A topic to be deleted, by name or by id.
    pub struct DeletableTopic<'a> {
        /// Its name.
        name: Option<&'a str> = None, 6..;
        /// Its id.
        topic_id: Uuid = [0; 16], 6..;
    }

    /// Deletes topics.
    pub struct DeleteTopicsRequest<'a> {
        /// The topics.
        topics: Vec<DeletableTopic<'a>> = Vec::new(), 6..;
        /// The topics, by name.
        topic_names: Vec<&'a str> = Vec::new(), 1..=5;
        /// How long to wait for it, in milliseconds.
        timeout_ms: i32 = 0, 1..;
    }

    /// What became of a topic.
    pub struct DeletedTopic<'a> {
        /// Its name; null where an unknown id was given.
        name: Option<&'a str> = Some(""), 1.., null 6..;
        /// Its id.
        topic_id: Uuid = [0; 16], 6..;
        /// What is wrong, or 0.
        error_code: i16 = 0, 1..;
        /// What is wrong, in words.
        error_message: Option<&'a str> = None, 5..;
    }

    /// What became of the topics.
    pub struct DeleteTopicsResponse<'a> {
        /// How long the client is to be silent, in milliseconds.
        throttle_time_ms: i32 = 0, 1..;
        /// What became of each.
        responses: Vec<DeletedTopic<'a>> = Vec::new(), 1..;
    }
}
