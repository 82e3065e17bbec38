//! The load generator behind `sluice bench`: one thread, one epoll, packets encoded beforehand, so
//! that the generator costs little beside the broker that it measures. It knows MQTT 3.1.1 on the
//! wire and `/proc`; of the broker it shares no packet, so that it also measures other brokers.

mod churn;
mod connection;
mod flow;
mod idle;
mod payload;
mod probe;
mod report;

pub use churn::churn;
pub use flow::{Flow, flow};
pub use idle::idle;
pub use probe::Probe;
pub use report::{Percentiles, Report};

use std::net::SocketAddr;
use std::time::Duration;

use crate::client::Way;

/// What every scenario needs to know.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the broker listens.
    pub address: SocketAddr,
    /// What its connections travel through.
    pub way: Way,
    /// User name and password of every connection, when the broker asks for them.
    pub credentials: Option<(String, String)>,
    /// Begins every client id; two generators against one broker need different ones.
    pub client_prefix: String,
    /// The broker's process, to read its CPU time and memory from `/proc`.
    pub pid: Option<u32>,
}

/// How long a run lasts.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Not counted, first.
    pub warmup: Duration,
    /// Counted.
    pub measure: Duration,
}
