//! Figures that the threads of the node keep about themselves: relaxed atomics, a set for each
//! worker so that no two cores write one cache line, summed only when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Upper bounds of the flush histogram's buckets, in microseconds; one more bucket is open ended.
pub const FLUSH_BOUNDS_US: [u64; 16] = [
    100, 200, 400, 600, 800, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000,
    500_000, 1_000_000,
];

/// A figure that rises, or a level that one thread sets.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// For figures that several threads raise.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// For figures that only the calling thread raises: no locked instruction.
    pub fn add_own(&self, n: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// Lowers a level by `n`, which must have been added before.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Sets a level.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares a set of counts, its plain copy, and the sum of several copies, from one list.
macro_rules! counts {
    ($(#[$set_doc:meta])* $set:ident, $(#[$values_doc:meta])* $values:ident {
        $($(#[$doc:meta])* $name:ident,)*
    }) => {
        $(#[$set_doc])*
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct $set { $($(#[$doc])* pub $name: Count,)* }

        $(#[$values_doc])*
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
        pub struct $values { $($(#[$doc])* pub $name: u64,)* }

        impl $set {
            /// A plain copy of the figures.
            pub fn values(&self) -> $values {
                $values { $($name: self.$name.get(),)* }
            }
        }

        impl $values {
            /// The sum of two sets, figure by figure.
            #[must_use]
            pub fn plus(self, other: Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }

            /// Names and values in the order of declaration.
            pub fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counts! {
    /// What one worker counts.
    WorkerCounters,
    /// What all workers counted.
    WorkerValues {
        /// Connections that are open now (a level).
        connections,
        /// Connections ever handed to a worker.
        connections_total,
        /// MQTT packets received.
        packets_in,
        /// MQTT packets sent, or put where they wait to be sent.
        packets_out,
        /// Bytes received from MQTT clients.
        bytes_in,
        /// Bytes sent to MQTT clients.
        bytes_out,
        /// System calls that read from sockets.
        reads,
        /// System calls that wrote to sockets.
        writes,
        /// Turns of the worker's loop in which something was done.
        turns,
        /// Turns that appended to the log.
        appends,
        /// Bytes handed to the log thread.
        append_bytes,
        /// Times the worker stopped reading for want of log credit.
        credit_waits,
        /// Connections closed because their keep alive ran out.
        keep_alive_timeouts,
        /// Connections closed because they did not read what they were owed.
        slow_closes,
        /// Packets that could not be decoded.
        malformed,
        /// Bytes waiting in output buffers now (a level).
        output_bytes,
        /// Reads handed to the reader pool for sessions behind the tail.
        pool_reads,
    }
}

counts! {
    /// What reception counts.
    ReceptionCounters,
    /// What reception counted.
    ReceptionValues {
        /// TCP connections accepted.
        accepted,
        /// Connections refused since `connections_max` was reached.
        refused_full,
        /// Connections that sent no whole CONNECT in time.
        timeouts,
        /// Connections whose first packet was no acceptable CONNECT.
        refused_connect,
        /// Connections waiting for their CONNECT now (a level).
        waiting,
    }
}

counts! {
    /// What one listener counts.
    ListenerCounters,
    /// What one listener counted.
    ListenerValues {
        /// Connections open now, those awaiting their CONNECT included (a level).
        open,
        /// Connections accepted.
        accepted,
        /// Times the listener rested since connections came faster than its rate.
        accept_waits,
        /// Connections refused since the listener or the node had too many.
        refused_full,
        /// Connections that did not begin with the PROXY header that was expected.
        refused_proxy,
        /// Connections whose first packet was no acceptable CONNECT.
        refused_connect,
        /// Connections whose CONNECT was whole and who were not let in.
        refused_admission,
        /// Connections that sent no whole CONNECT in time.
        timeouts,
        /// Connections closed since they sent nothing while others wanted to come in, or since too much
        /// of others' CONNECTs was awaited.
        crowded_out,
        /// TLS handshakes completed.
        handshakes,
        /// TLS handshakes that failed or took too long.
        handshakes_failed,
        /// Upgrades to WebSocket.
        upgrades,
        /// Requests for an upgrade that were refused.
        upgrades_failed,
        /// Connections closed because they broke the rules of TLS or WebSocket.
        broken_frames,
        /// Times a client was over its rate and was not read for a while.
        rate_waits,
    }
}

counts! {
    /// What the log and flush threads count.
    LogCounters,
    /// What the log and flush threads counted.
    LogValues {
        /// Writes: each makes all entries staged since the last one readable.
        commits,
        /// Entries written.
        entries,
        /// Bytes of entries written.
        bytes,
        /// fdatasync rounds.
        flushes,
        /// Entries refused (full disk, latched log).
        refused,
        /// Checkpoints completed.
        checkpoints,
        /// Times the log thread took no turns since a worker lagged or the journal was full.
        waits,
    }
}

/// Times of fdatasync.
#[derive(Debug, Default)]
pub struct FlushTimes {
    buckets: [Count; FLUSH_BOUNDS_US.len() + 1],
    sum_us: Count,
}

/// A plain copy of [`FlushTimes`].
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct FlushTimesValues {
    /// Flushes in each bucket (not cumulated); the last is beyond all bounds.
    pub buckets: Vec<u64>,
    /// Sum of all times in microseconds.
    pub sum_us: u64,
}

impl FlushTimes {
    /// Counts one flush.
    pub fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = FLUSH_BOUNDS_US.partition_point(|&bound| bound < us);
        self.buckets[bucket].add(1);
        self.sum_us.add(us);
    }

    fn values(&self) -> FlushTimesValues {
        FlushTimesValues {
            buckets: self.buckets.iter().map(Count::get).collect(),
            sum_us: self.sum_us.get(),
        }
    }
}

/// All figures of the node.
#[derive(Debug)]
pub struct Counters {
    workers: Box<[WorkerCounters]>,
    /// Of reception.
    pub reception: ReceptionCounters,
    /// Of the log and flush threads.
    pub log: LogCounters,
    /// Of the flush thread.
    pub flush_times: FlushTimes,
}

/// A plain copy of [`Counters`].
#[derive(Debug, Default, Clone, Serialize)]
pub struct CounterValues {
    /// Sum over the workers.
    pub workers: WorkerValues,
    /// Of reception.
    pub reception: ReceptionValues,
    /// Of the log and flush threads.
    pub log: LogValues,
    /// Of the flush thread.
    pub flush_times: FlushTimesValues,
}

impl Counters {
    /// Zeros, for so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| WorkerCounters::default()).collect(),
            reception: ReceptionCounters::default(),
            log: LogCounters::default(),
            flush_times: FlushTimes::default(),
        }
    }

    /// The set of one worker. Panics when there is no such worker.
    pub fn worker(&self, index: usize) -> &WorkerCounters {
        &self.workers[index]
    }

    /// MQTT connections open on all workers.
    pub fn connections(&self) -> u64 {
        self.workers
            .iter()
            .map(|worker| worker.connections.get())
            .sum()
    }

    /// A plain copy of everything; figures of different threads may be of slightly different times.
    pub fn snapshot(&self) -> CounterValues {
        CounterValues {
            workers: self
                .workers
                .iter()
                .map(WorkerCounters::values)
                .fold(WorkerValues::default(), WorkerValues::plus),
            reception: self.reception.values(),
            log: self.log.values(),
            flush_times: self.flush_times.values(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sums_the_workers() {
        let counters = Counters::new(2);
        counters.worker(0).packets_in.add_own(3);
        counters.worker(1).packets_in.add_own(4);
        counters.worker(1).connections.add(2);
        counters.worker(1).connections.sub(1);
        let values = counters.snapshot();
        assert_eq!(values.workers.packets_in, 7);
        assert_eq!(values.workers.connections, 1);
        assert_eq!(counters.connections(), 1);
        assert!(values.workers.each().contains(&("packets_in", 7)));
    }

    #[test]
    fn a_flush_time_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let times = FlushTimes::default();
        times.record(Duration::from_micros(100));
        times.record(Duration::from_micros(101));
        times.record(Duration::from_secs(9));
        let values = times.values();
        assert_eq!(values.buckets[0], 1);
        assert_eq!(values.buckets[1], 1);
        assert_eq!(values.buckets[FLUSH_BOUNDS_US.len()], 1);
        assert_eq!(values.sum_us, 9_000_201);
    }
}
