//! The few calls of librdkafka that its Rust binding lacks or makes dear: records by topic handle,
//! waiting for deliveries without polling, delivery reports of failures only. What is `unsafe` in the
//! mirror is here and in `described`; what is produced, and why, is not known.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_vtype_t as vtype;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, TopicPartitionList};
use tracing::debug;

/// What librdkafka said last of its trouble; shared by the clients of a shard.
#[derive(Debug, Clone, Default)]
pub struct Ears(Arc<Mutex<Option<String>>>);

impl Ears {
    /// The last complaint since the last call.
    pub fn heard(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn hear(&self, text: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // "All brokers are down" comes behind the reason and says less.
        if last.is_none() || !text.contains("brokers are down") {
            *last = Some(text.trim().to_owned());
        }
    }
}

impl ClientContext for Ears {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, text: &str) {
        debug!(?level, fac, text, "librdkafka");
        if level as i32 <= RDKafkaLogLevel::Error as i32 {
            self.hear(text);
        }
    }

    fn error(&self, _error: KafkaError, reason: &str) {
        debug!(reason, "librdkafka");
        self.hear(reason);
    }
}

impl ConsumerContext for Ears {}

impl ProducerContext for Ears {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, (): ()) {}
}

/// librdkafka's RD_KAFKA_PARTITION_UA: its partitioner decides.
const PARTITION_BY_KEY: i32 = -1;

/// A producer; belongs to one thread.
pub struct Native {
    producer: BaseProducer<Ears>,
    queue: *mut rd::rd_kafka_queue_t,
    ears: Ears,
}

/// A topic of a [`Native`] producer, which must outlive it.
pub struct Topic(*mut rd::rd_kafka_topic_t);

/// A record as it goes out.
pub struct Outgoing<'a, H> {
    /// ms since the epoch.
    pub timestamp_ms: i64,
    /// Decides the partition.
    pub key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// Names and values.
    pub headers: H,
    /// Told again should the record fail.
    pub mark: usize,
}

impl Native {
    /// A producer that tells its failures to `ears`.
    pub fn new(config: &ClientConfig, ears: Ears) -> KafkaResult<Self> {
        let producer: BaseProducer<Ears> = config.create_with_context(ears.clone())?;
        // SAFETY: the client lives; the queue is given back before it.
        let queue = unsafe { rd::rd_kafka_queue_get_main(producer.client().native_ptr()) };
        Ok(Self {
            producer,
            queue,
            ears,
        })
    }

    /// The binding's producer, for transactions.
    pub fn producer(&self) -> &BaseProducer<Ears> {
        &self.producer
    }

    /// A handle of a topic, whose records are compressed as said.
    pub fn topic(&self, name: &str, compression: &str) -> Result<Topic, String> {
        let c = |text: &str| CString::new(text).map_err(|error| error.to_string());
        let (name, key, value) = (c(name)?, c("compression.codec")?, c(compression)?);
        let mut why: [c_char; 256] = [0; 256];
        let client = self.producer.client().native_ptr();
        // SAFETY: the client lives, all text ends with zero, `why` is as long as told; the
        // configuration is taken over by `rd_kafka_topic_new`, and given back where that fails.
        unsafe {
            let config = rd::rd_kafka_default_topic_conf_dup(client);
            let set = rd::rd_kafka_topic_conf_set(
                config,
                key.as_ptr(),
                value.as_ptr(),
                why.as_mut_ptr(),
                why.len(),
            );
            if set != rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                rd::rd_kafka_topic_conf_destroy(config);
                return Err(CStr::from_ptr(why.as_ptr()).to_string_lossy().into_owned());
            }
            let topic = rd::rd_kafka_topic_new(client, name.as_ptr(), config);
            if topic.is_null() {
                return Err("librdkafka does not take the topic".to_owned());
            }
            Ok(Topic(topic))
        }
    }

    /// Hands a record over; librdkafka copies it.
    pub fn send<'a, H>(
        &self,
        topic: &Topic,
        record: Outgoing<'_, H>,
    ) -> Result<(), RDKafkaErrorCode>
    where
        H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    {
        let bytes = |field: Option<&[u8]>| -> (*const c_void, usize) {
            field.map_or((ptr::null(), 0), |bytes| {
                (bytes.as_ptr().cast(), bytes.len())
            })
        };
        let (key, key_bytes) = bytes(record.key);
        let (value, value_bytes) = bytes(record.value);
        let headers = headers(record.headers);
        // SAFETY: the argument list is of pairs as librdkafka's rd_kafka_producev documents them
        // and ends with END; key and value are copied before the call returns; the headers are the
        // producer's if it succeeds.
        unsafe {
            let code = rd::rd_kafka_producev(
                self.producer.client().native_ptr(),
                vtype::RD_KAFKA_VTYPE_RKT,
                topic.0,
                vtype::RD_KAFKA_VTYPE_PARTITION,
                PARTITION_BY_KEY,
                vtype::RD_KAFKA_VTYPE_MSGFLAGS,
                rd::RD_KAFKA_MSG_F_COPY,
                vtype::RD_KAFKA_VTYPE_VALUE,
                value,
                value_bytes,
                vtype::RD_KAFKA_VTYPE_KEY,
                key,
                key_bytes,
                vtype::RD_KAFKA_VTYPE_OPAQUE,
                ptr::without_provenance::<c_void>(record.mark),
                vtype::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp_ms,
                vtype::RD_KAFKA_VTYPE_HEADERS,
                headers,
                vtype::RD_KAFKA_VTYPE_END,
            );
            if code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Ok(());
            }
            if !headers.is_null() {
                rd::rd_kafka_headers_destroy(headers);
            }
            Err(code.into())
        }
    }

    /// Sends at once what waits, and waits until all is delivered or has failed; false when the
    /// time is over before. What has failed must be taken by [`Native::serve`] for it to count.
    pub fn drain(&self, timeout: Duration) -> bool {
        let timeout_ms = timeout.as_millis().min(60_000) as i32;
        // SAFETY: the client lives.
        let code = unsafe { rd::rd_kafka_flush(self.producer.client().native_ptr(), timeout_ms) };
        code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    }

    /// Gives up everything that is not delivered; each record is told by [`Native::serve`].
    pub fn purge(&self) {
        // SAFETY: the client lives; the flags are those of the call.
        unsafe {
            rd::rd_kafka_purge(
                self.producer.client().native_ptr(),
                rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT,
            );
        }
    }

    /// Takes all that librdkafka has to tell; `failed` gets the mark of each record that was not
    /// delivered.
    pub fn serve(&self, mut failed: impl FnMut(usize, RDKafkaErrorCode)) {
        loop {
            // SAFETY: the queue lives; an event is used and destroyed once, its messages and texts
            // are not kept.
            unsafe {
                let event = rd::rd_kafka_queue_poll(self.queue, 0);
                if event.is_null() {
                    return;
                }
                match rd::rd_kafka_event_type(event) {
                    rd::RD_KAFKA_EVENT_DR => loop {
                        let message = rd::rd_kafka_event_message_next(event);
                        let Some(message) = message.as_ref() else {
                            break;
                        };
                        if message.err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                            failed(message._private.addr(), message.err.into());
                        }
                    },
                    rd::RD_KAFKA_EVENT_ERROR => {
                        let reason = text(rd::rd_kafka_event_error_string(event));
                        let code: RDKafkaErrorCode = rd::rd_kafka_event_error(event).into();
                        self.ears.error(KafkaError::Global(code), &reason);
                    }
                    rd::RD_KAFKA_EVENT_LOG => {
                        let (mut fac, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                        let read = rd::rd_kafka_event_log(
                            event,
                            &raw mut fac,
                            &raw mut line,
                            &raw mut level,
                        );
                        if read == 0 && level <= 3 {
                            self.ears
                                .log(RDKafkaLogLevel::Error, &text(fac), &text(line));
                        }
                    }
                    _ => {}
                }
                rd::rd_kafka_event_destroy(event);
            }
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: it was got in `new`, and the client behind it is dropped afterwards.
        unsafe { rd::rd_kafka_queue_destroy(self.queue) };
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: a handle counts as a reference of its own.
        unsafe { rd::rd_kafka_topic_destroy(self.0) };
    }
}

/// Headers as librdkafka takes them; null without any.
fn headers<'a>(
    all: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> *mut rd::rd_kafka_headers_t {
    let mut out: *mut rd::rd_kafka_headers_t = ptr::null_mut();
    for (name, value) in all {
        let (bytes, length) = match value {
            Some(value) => (value.as_ptr().cast(), value.len() as isize),
            // Length -1 with null is no value.
            None => (ptr::null(), -1),
        };
        // SAFETY: name and value are copied; their lengths are told.
        unsafe {
            if out.is_null() {
                out = rd::rd_kafka_headers_new(4);
            }
            rd::rd_kafka_header_add(
                out,
                name.as_ptr().cast(),
                name.len() as isize,
                bytes,
                length,
            );
        }
    }
    out
}

/// Name and value of a header.
pub type Header = (Box<[u8]>, Box<[u8]>);

/// The headers of a message. The binding's own way panics where a name is not UTF-8.
pub fn message_headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let mut all = Vec::new();
    let mut found: *mut rd::rd_kafka_headers_t = ptr::null_mut();
    // SAFETY: the message lives, and what is read of its headers is copied before it ends.
    unsafe {
        if rd::rd_kafka_message_headers(message.ptr(), &raw mut found)
            != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return all;
        }
        loop {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let read = rd::rd_kafka_header_get_all(
                found,
                all.len(),
                &raw mut name,
                &raw mut value,
                &raw mut size,
            );
            if read != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return all;
            }
            let value: &[u8] = if value.is_null() {
                &[]
            } else {
                slice::from_raw_parts(value.cast(), size)
            };
            all.push((CStr::from_ptr(name).to_bytes().into(), value.into()));
        }
    }
}

/// The end of what is committed in a partition, as the consumer's last fetch told it: nothing is
/// asked. `None` before the first.
pub fn known_end(consumer: &BaseConsumer<Ears>, topic: &str, partition: i32) -> Option<u64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives, the name ends with zero, both numbers are written before it returns.
    let code = unsafe {
        rd::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    let known = code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    known.then(|| u64::try_from(high).ok()).flatten()
}

/// The metadata of the entries of a list: partition, offset, and text where there is any and it is
/// UTF-8. The binding's own way panics where it is not.
pub fn entries(list: &TopicPartitionList) -> Vec<(i32, i64, Option<String>, RDKafkaErrorCode)> {
    // SAFETY: the list lives, and its entries are as many as it says.
    unsafe {
        let raw = &*list.ptr();
        if raw.cnt <= 0 {
            return Vec::new();
        }
        let entry = |entry: &rd::rd_kafka_topic_partition_t| {
            let bytes = (!entry.metadata.is_null() && entry.metadata_size > 0)
                .then(|| slice::from_raw_parts(entry.metadata.cast::<u8>(), entry.metadata_size));
            let text = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
            (entry.partition, entry.offset, text, entry.err.into())
        };
        slice::from_raw_parts(raw.elems, raw.cnt as usize)
            .iter()
            .map(entry)
            .collect()
    }
}

/// # Safety
/// `text` is null or ends with zero.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::mocking::MockCluster;
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

    use super::*;

    #[test]
    fn a_header_may_have_any_name() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        config.set("delivery.report.only.error", "true");
        let native = Native::new(&config, Ears::default()).unwrap();
        let topic = native.topic("t", "none").unwrap();
        let sent: [(&[u8], Option<&[u8]>); 3] =
            [(b"a", Some(b"1")), (b"\xff\xfe", Some(b"2")), (b"c", None)];
        let record = Outgoing {
            timestamp_ms: 1,
            key: None,
            value: Some(b"v"),
            headers: sent.into_iter(),
            mark: 0,
        };
        native.send(&topic, record).unwrap();
        assert!(native.drain(Duration::from_secs(20)));
        let consumer: BaseConsumer = config.set("group.id", "g").create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("t", 0, Offset::Beginning)
            .unwrap();
        consumer.assign(&list).unwrap();
        let message = std::iter::repeat_with(|| consumer.poll(Duration::from_secs(20)))
            .find_map(|polled| polled?.ok())
            .unwrap();
        let found = message_headers(&message);
        let names = [&b"a"[..], b"\xff\xfe", b"c"];
        assert!(found.iter().map(|(name, _)| &**name).eq(names), "{found:?}");
        assert!(
            found
                .iter()
                .map(|(_, value)| &**value)
                .eq([&b"1"[..], b"2", b""])
        );
        drop(topic);
    }
}
