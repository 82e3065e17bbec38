//! The Kafka wire: framing and the supported APIs as tables of fields and versions.
