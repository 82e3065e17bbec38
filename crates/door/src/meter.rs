//! How fast a client may be: buckets of bytes and of messages that fill with time. Who is over
//! waits; nobody is cut. The time is an argument, in milliseconds.

/// Who is over its rate waits until this part of a second's worth is there again: few larger reads
/// cost a node less than many small ones, and those within their rates pay for neither.
const PARTS: i64 = 10;

/// A bucket that holds one second's worth and may be overdrawn: what was taken beyond is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    per_s: u32,
    /// Thousandths of what is there; below zero: what is owed.
    level: i64,
    at_ms: u64,
}

impl Bucket {
    /// A full bucket that fills by `per_s` a second; 0 is taken as 1.
    pub fn new(per_s: u32, now_ms: u64) -> Self {
        let per_s = per_s.max(1);
        Self {
            per_s,
            level: i64::from(per_s) * 1000,
            at_ms: now_ms,
        }
    }

    /// Takes `n`, whether it is there or not.
    pub fn take(&mut self, n: u64, now_ms: u64) {
        self.fill(now_ms);
        let taken = i64::try_from(n.saturating_mul(1000)).unwrap_or(i64::MAX);
        self.level = self.level.saturating_sub(taken);
    }

    /// What may be taken without waiting afterwards.
    pub fn allowance(&mut self, now_ms: u64) -> u64 {
        self.fill(now_ms);
        u64::try_from(self.level / 1000).unwrap_or(0)
    }

    /// Milliseconds until something may be taken again; 0: now.
    pub fn wait_ms(&mut self, now_ms: u64) -> u64 {
        self.fill(now_ms);
        let short = u64::try_from(1000 - self.level).unwrap_or(0);
        short.div_ceil(u64::from(self.per_s))
    }

    /// As [`Bucket::wait_ms`]; who has to wait does so until a part of a second's worth is there.
    pub fn rest_ms(&mut self, now_ms: u64) -> u64 {
        let wait_ms = self.wait_ms(now_ms);
        if wait_ms == 0 {
            return 0;
        }
        let part = i64::from(self.per_s) * 1000 / PARTS;
        let short = u64::try_from(part - self.level).unwrap_or(0);
        wait_ms.max(short.div_ceil(u64::from(self.per_s)))
    }

    fn fill(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.at_ms);
        let most = i64::from(self.per_s) * 1000;
        let come = i64::try_from(passed.saturating_mul(u64::from(self.per_s))).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(come).min(most);
        self.at_ms = self.at_ms.max(now_ms);
    }
}

/// The rates of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    bytes: Option<Bucket>,
    messages: Option<Bucket>,
}

impl Meter {
    /// With these rates a second; `None` where neither is bounded.
    pub fn new(bytes_per_s: Option<u32>, messages_per_s: Option<u32>, now_ms: u64) -> Option<Self> {
        let bucket = |per_s: Option<u32>| per_s.map(|per_s| Bucket::new(per_s, now_ms));
        let meter = Self {
            bytes: bucket(bytes_per_s),
            messages: bucket(messages_per_s),
        };
        (meter.bytes.is_some() || meter.messages.is_some()).then_some(meter)
    }

    /// Counts what the client has sent.
    pub fn charge(&mut self, bytes: u64, messages: u64, now_ms: u64) {
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes, now_ms);
        }
        if let Some(bucket) = &mut self.messages {
            bucket.take(messages, now_ms);
        }
    }

    /// Bytes and messages that may be taken now; `u64::MAX` where there is no bound.
    pub fn allowance(&mut self, now_ms: u64) -> (u64, u64) {
        let of = |bucket: &mut Option<Bucket>| match bucket {
            Some(bucket) => bucket.allowance(now_ms),
            None => u64::MAX,
        };
        (of(&mut self.bytes), of(&mut self.messages))
    }

    /// Milliseconds for which nothing is to be read from the client; 0: it is within its rates.
    pub fn wait_ms(&mut self, now_ms: u64) -> u64 {
        let of = |bucket: &mut Option<Bucket>| {
            let bucket = bucket.as_mut();
            bucket.map_or(0, |bucket| bucket.rest_ms(now_ms))
        };
        of(&mut self.bytes).max(of(&mut self.messages))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_is_within_its_rate_never_waits() {
        let mut bucket = Bucket::new(10, 5);
        for second in 0..100 {
            let now_ms = 5 + second * 1000;
            assert_eq!(bucket.wait_ms(now_ms), 0);
            bucket.take(9, now_ms);
        }
        // Nor who was silent and then says a second's worth at once.
        assert_eq!(bucket.allowance(1_000_000), 10);
        bucket.take(10, 1_000_000);
        assert_eq!(
            bucket.wait_ms(1_000_000),
            100,
            "one more in a tenth of a second"
        );
        assert_eq!(bucket.wait_ms(1_000_100), 0);
    }

    #[test]
    fn who_is_over_its_rate_goes_on_with_a_tenth_of_a_second() {
        let mut bucket = Bucket::new(100, 0);
        assert_eq!(bucket.rest_ms(0), 0);
        bucket.take(105, 0);
        assert_eq!((bucket.wait_ms(0), bucket.rest_ms(0)), (60, 150));
        assert_eq!((bucket.rest_ms(150), bucket.allowance(150)), (0, 10));
        // Less than one in a tenth of a second: it goes on with one.
        let mut slow = Bucket::new(2, 0);
        slow.take(3, 0);
        assert_eq!((slow.rest_ms(0), slow.rest_ms(1_000)), (1_000, 0));
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(1, 1_000);
        bucket.take(1, 1_000);
        assert_eq!(bucket.wait_ms(500), 1_000);
        assert_eq!(bucket.wait_ms(1_999), 1);
    }

    #[test]
    fn the_slower_of_two_rates_counts() {
        assert_eq!(Meter::new(None, None, 0), None);
        let mut meter = Meter::new(Some(1_000), Some(2), 0).unwrap();
        assert_eq!(meter.allowance(0), (1_000, 2));
        meter.charge(10, 3, 0);
        assert_eq!(meter.wait_ms(0), 1_000);
        meter.charge(3_989, 0, 0);
        // Overdrawn by 2,999 bytes; it goes on with 100.
        assert_eq!(meter.wait_ms(0), 3_099);
        let mut unbounded = Meter::new(Some(1), None, 0).unwrap();
        unbounded.charge(0, 1_000_000, 0);
        assert_eq!(unbounded.wait_ms(0), 0);
    }

    proptest! {
        /// Who takes whenever it need not wait gets its rate and one second's worth, no more.
        #[test]
        fn the_rate_is_kept(per_s in 1_u32..5_000, sizes in proptest::collection::vec(1_u64..300, 1..200)) {
            let mut bucket = Bucket::new(per_s, 0);
            let (mut now_ms, mut taken, mut last) = (0, 0, 0);
            for size in sizes {
                now_ms += bucket.wait_ms(now_ms);
                prop_assert_eq!(bucket.wait_ms(now_ms), 0);
                bucket.take(size, now_ms);
                taken += size;
                last = size;
            }
            let allowed = u64::from(per_s) * (now_ms + 1_000) / 1_000 + 1;
            prop_assert!(taken - last <= allowed, "{taken} - {last} > {allowed}");
        }
    }
}
