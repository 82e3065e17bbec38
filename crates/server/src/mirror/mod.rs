//! The mirror: reads flushed records of local streams and writes them into an Apache Kafka cluster,
//! each once. It knows the log and the node's handles; who published a record it does not know.

mod board;
pub mod view;

pub use board::{Board, Standing, State, StreamFigures};

/// What is wrong with a property of librdkafka and its value, if the library says so.
#[cfg(feature = "kafka")]
pub fn bad_property(name: &str, value: &str) -> Option<String> {
    let mut config = rdkafka::ClientConfig::new();
    config.set(name, value);
    match config.create_native_config() {
        Err(rdkafka::error::KafkaError::ClientConfig(_, what, _, _)) => Some(what),
        Err(error) => Some(error.to_string()),
        Ok(_) => None,
    }
}

/// Without the library nothing is known of its properties.
#[cfg(not(feature = "kafka"))]
pub fn bad_property(_name: &str, _value: &str) -> Option<String> {
    None
}
