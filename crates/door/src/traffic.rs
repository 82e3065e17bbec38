//! How much a client says and is told: counts of a connection, and rates over the last ten to twenty
//! seconds. Pure; the time is given.

/// Length of a window of time, in milliseconds.
pub const WINDOW_MS: u64 = 10_000;

/// Messages and bytes, each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUBLISH packets from the client.
    pub messages_in: u64,
    /// Bytes from the client, as they came from the network.
    pub bytes_in: u64,
    /// PUBLISH packets to the client.
    pub messages_out: u64,
    /// Bytes to the client, without what TLS and WebSocket add.
    pub bytes_out: u64,
}

/// What went over one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    total: Counts,
    /// `total` when the window began.
    at_window: Counts,
    /// `total` when the window before it began.
    at_last: Counts,
    /// When the window began.
    window_ms: u64,
    /// When the window before it began; the same while there is none.
    last_ms: u64,
}

/// Messages and bytes a second, each way.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// PUBLISH packets from the client.
    pub messages_in_per_s: f64,
    /// Bytes from the client.
    pub bytes_in_per_s: f64,
    /// PUBLISH packets to the client.
    pub messages_out_per_s: f64,
    /// Bytes to the client.
    pub bytes_out_per_s: f64,
}

impl Traffic {
    /// Nothing has been said, at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Self {
            total: Counts::default(),
            at_window: Counts::default(),
            at_last: Counts::default(),
            window_ms: now_ms,
            last_ms: now_ms,
        }
    }

    /// So much went over it.
    pub fn count(&mut self, more: Counts, now_ms: u64) {
        self.roll(now_ms);
        self.total.messages_in += more.messages_in;
        self.total.bytes_in += more.bytes_in;
        self.total.messages_out += more.messages_out;
        self.total.bytes_out += more.bytes_out;
    }

    /// All that went over it.
    pub fn total(&self) -> Counts {
        self.total
    }

    /// How much a second, over the last two windows or as far back as is known, a second at least.
    pub fn rates(&mut self, now_ms: u64) -> Rates {
        self.roll(now_ms);
        let ms = now_ms.saturating_sub(self.last_ms).max(1_000);
        let a_second = |now: u64, then: u64| (now - then) as f64 * 1000.0 / ms as f64;
        Rates {
            messages_in_per_s: a_second(self.total.messages_in, self.at_last.messages_in),
            bytes_in_per_s: a_second(self.total.bytes_in, self.at_last.bytes_in),
            messages_out_per_s: a_second(self.total.messages_out, self.at_last.messages_out),
            bytes_out_per_s: a_second(self.total.bytes_out, self.at_last.bytes_out),
        }
    }

    fn roll(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.window_ms);
        if passed < WINDOW_MS {
            return;
        }
        let windows = passed / WINDOW_MS;
        let begins_ms = self.window_ms + windows * WINDOW_MS;
        self.last_ms = begins_ms - WINDOW_MS;
        // Of several windows that passed all but the first are empty.
        self.at_last = if windows == 1 {
            self.at_window
        } else {
            self.total
        };
        self.at_window = self.total;
        self.window_ms = begins_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Counts = Counts {
        messages_in: 10,
        bytes_in: 1_000,
        messages_out: 20,
        bytes_out: 2_000,
    };

    fn is(rate: f64, wanted: f64) -> bool {
        (rate - wanted).abs() < 1e-9
    }

    #[test]
    fn a_steady_client_has_its_rate_at_any_time() {
        let start_ms = 123;
        let mut traffic = Traffic::new(start_ms);
        for second in 1..=100 {
            let now_ms = start_ms + second * 1000;
            traffic.count(TEN, now_ms);
            let rates = traffic.rates(now_ms);
            // What is counted in the moment of the look may be one step too much.
            let near = |rate: f64, is: f64| (0.99..1.11).contains(&(rate / is));
            assert!(near(rates.messages_in_per_s, 10.0), "{second}: {rates:?}");
            assert!(near(rates.bytes_in_per_s, 1_000.0), "{second}: {rates:?}");
            assert!(near(rates.messages_out_per_s, 20.0), "{second}: {rates:?}");
            assert!(near(rates.bytes_out_per_s, 2_000.0), "{second}: {rates:?}");
        }
        assert_eq!(traffic.total().bytes_out, 200_000);
    }

    #[test]
    fn who_falls_silent_has_no_rate_after_two_windows() {
        let mut traffic = Traffic::new(0);
        traffic.count(TEN, 9_999);
        assert!(traffic.rates(15_000).messages_in_per_s > 0.6, "10 in 15 s");
        assert_eq!(traffic.rates(20_000), Rates::default());
        traffic.count(TEN, 25_000);
        assert!(is(traffic.rates(29_000).messages_in_per_s, 10.0 / 19.0));
        assert_eq!(traffic.rates(1_000_000), Rates::default());
        assert_eq!(traffic.total().messages_in, 20);
    }

    #[test]
    fn a_young_connection_is_measured_over_its_life_and_a_clock_that_goes_back_does_no_harm() {
        let mut traffic = Traffic::new(5_000);
        traffic.count(TEN, 5_000);
        let over_a_second = traffic.rates(5_000);
        assert!(is(over_a_second.messages_in_per_s, 10.0));
        assert!(is(traffic.rates(9_000).messages_in_per_s, 2.5));
        traffic.count(TEN, 1_000);
        assert!(is(traffic.rates(2_000).bytes_in_per_s, 2_000.0));
    }
}
