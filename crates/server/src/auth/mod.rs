//! Who comes in: principals and the users of the node. It knows neither MQTT nor Kafka; both doors ask it.

mod principal;

pub use principal::Principal;
