//! What the cluster tells of topics and groups that are described: which topic of a name it is, and
//! what the user may do with it. It asks; what follows from the answer is decided elsewhere.

use std::ffi::{CString, c_char};
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_admin_op_t as Question;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::native::Ears;

/// What a user may be allowed to do with a topic or a group, as far as anybody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Fetch records; take part in a group, and commit its offsets.
    Read,
    /// Produce records.
    Write,
}

impl Right {
    fn number(self) -> i32 {
        match self {
            Self::Read => rd::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ as i32,
            Self::Write => rd::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE as i32,
        }
    }
}

/// What the cluster said of one topic or group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// Tells a topic from another that had its name before; `None`: the brokers give none.
    pub id: Option<u128>,
    /// Numbers of the operations that are allowed; `None`: the brokers do not tell.
    operations: Option<Vec<i32>>,
}

impl Described {
    /// Whether the brokers say that the user may not do this.
    pub fn forbids(&self, right: Right) -> bool {
        let operations = self.operations.as_ref();
        operations.is_some_and(|allowed| !allowed.contains(&right.number()))
    }
}

/// Asks for a topic; `Err` with the topic's own error too.
pub fn topic(
    consumer: &BaseConsumer<Ears>,
    name: &str,
    timeout: Duration,
) -> Result<Described, Code> {
    let name = CString::new(name).map_err(|_| Code::InvalidTopic)?;
    let asking = Asking::new(
        consumer,
        Question::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        timeout,
    );
    // SAFETY: the client lives as long as `asking`; the name ends with zero and is copied; what the
    // event holds is copied before it is destroyed.
    unsafe {
        let mut names = [name.as_ptr()];
        let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        rd::rd_kafka_DescribeTopics(asking.client(), topics, asking.options, asking.queue);
        rd::rd_kafka_TopicCollection_destroy(topics);
        asking.answer(|event| {
            let mut count = 0;
            let result = rd::rd_kafka_event_DescribeTopics_result(event);
            let found = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            if count == 0 {
                return Err(Code::UnknownTopicOrPartition);
            }
            let found = *found;
            none(rd::rd_kafka_TopicDescription_error(found))?;
            let id = rd::rd_kafka_TopicDescription_topic_id(found);
            let id = (!id.is_null()).then(|| {
                let high = rd::rd_kafka_Uuid_most_significant_bits(id);
                let low = rd::rd_kafka_Uuid_least_significant_bits(id);
                (u128::from(high as u64) << 64) | u128::from(low as u64)
            });
            let allowed =
                rd::rd_kafka_TopicDescription_authorized_operations(found, &raw mut count);
            Ok(Described {
                id: id.filter(|id| *id != 0),
                operations: operations(allowed, count),
            })
        })
    }
}

/// Asks for a group of consumers, which need not be there; `Err` with the group's own error too.
pub fn group(
    consumer: &BaseConsumer<Ears>,
    name: &str,
    timeout: Duration,
) -> Result<Described, Code> {
    let name = CString::new(name).map_err(|_| Code::InvalidGroupId)?;
    let question = Question::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let asking = Asking::new(consumer, question, timeout);
    // SAFETY: as in `topic`.
    unsafe {
        let mut names = [name.as_ptr()];
        rd::rd_kafka_DescribeConsumerGroups(
            asking.client(),
            names.as_mut_ptr(),
            names.len(),
            asking.options,
            asking.queue,
        );
        asking.answer(|event| {
            let mut count = 0;
            let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event);
            let found = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
            if count == 0 {
                return Err(Code::GroupIdNotFound);
            }
            let found = *found;
            none(rd::rd_kafka_ConsumerGroupDescription_error(found))?;
            let allowed =
                rd::rd_kafka_ConsumerGroupDescription_authorized_operations(found, &raw mut count);
            Ok(Described {
                id: None,
                operations: operations(allowed, count),
            })
        })
    }
}

/// # Safety
/// `error` is null or an error of librdkafka that lives.
unsafe fn none(error: *const rd::rd_kafka_error_t) -> Result<(), Code> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: as the caller promises.
    match unsafe { rd::rd_kafka_error_code(error) } {
        rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(code.into()),
    }
}

/// # Safety
/// `allowed` is null or has `count` operations.
unsafe fn operations(
    allowed: *const rd::rd_kafka_AclOperation_t,
    count: usize,
) -> Option<Vec<i32>> {
    // As numbers: a newer library may know more of them than the binding.
    let number = |at| {
        // SAFETY: `at` is below the count.
        unsafe { allowed.cast::<i32>().add(at).read() }
    };
    (!allowed.is_null()).then(|| (0..count).map(number).collect())
}

/// A question to the cluster, and where its answer comes to.
struct Asking<'a> {
    consumer: &'a BaseConsumer<Ears>,
    options: *mut rd::rd_kafka_AdminOptions_t,
    queue: *mut rd::rd_kafka_queue_t,
    timeout_ms: i32,
}

impl<'a> Asking<'a> {
    fn new(consumer: &'a BaseConsumer<Ears>, question: Question, timeout: Duration) -> Self {
        let client = consumer.client().native_ptr();
        let timeout_ms = timeout.as_millis().clamp(1, 60_000) as i32;
        let mut why: [c_char; 256] = [0; 256];
        // SAFETY: the client lives; what is made here is given back by `drop`.
        unsafe {
            let options = rd::rd_kafka_AdminOptions_new(client, question);
            rd::rd_kafka_AdminOptions_set_request_timeout(
                options,
                timeout_ms,
                why.as_mut_ptr(),
                why.len(),
            );
            let error = rd::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !error.is_null() {
                rd::rd_kafka_error_destroy(error);
            }
            Self {
                consumer,
                options,
                queue: rd::rd_kafka_queue_new(client),
                timeout_ms,
            }
        }
    }

    fn client(&self) -> *mut rd::rd_kafka_t {
        self.consumer.client().native_ptr()
    }

    fn answer<T>(
        &self,
        read: impl FnOnce(*mut rd::rd_kafka_event_t) -> Result<T, Code>,
    ) -> Result<T, Code> {
        // SAFETY: the queue lives; the event is destroyed once, behind its last use.
        unsafe {
            // The library answers in time by itself; the rest is for its thread to come to it.
            let event = rd::rd_kafka_queue_poll(self.queue, self.timeout_ms + 1_000);
            if event.is_null() {
                return Err(Code::OperationTimedOut);
            }
            let answer = match rd::rd_kafka_event_error(event) {
                rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => read(event),
                code => Err(code.into()),
            };
            rd::rd_kafka_event_destroy(event);
            answer
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        // SAFETY: both were made in `new`, and nobody else has them.
        unsafe {
            rd::rd_kafka_queue_destroy(self.queue);
            rd::rd_kafka_AdminOptions_destroy(self.options);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_brokers_say_is_held_against_a_user() {
        let silent = Described::default();
        assert!(!silent.forbids(Right::Write), "they tell nothing");
        let reader = Described {
            id: None,
            operations: Some(vec![Right::Read.number()]),
        };
        assert!(!reader.forbids(Right::Read) && reader.forbids(Right::Write));
        let nobody = Described {
            id: None,
            operations: Some(Vec::new()),
        };
        assert!(nobody.forbids(Right::Read));
    }
}
