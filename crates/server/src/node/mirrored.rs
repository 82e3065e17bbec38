//! Waiting until the Apache Kafka cluster behind has what was appended. It knows no cluster: the
//! mirror tells how far that is.

use std::time::Duration;

use commitlog::PartitionId;

use super::door::Standing;
use super::{AppendError, Appender, Health};

/// Time between two looks at whether the log still takes appends.
const HEALTH_CHECK: Duration = Duration::from_secs(1);

impl Appender {
    /// Waits until the cluster behind has these partitions up to these ends. Has no end of its own:
    /// whoever waits says how long.
    pub async fn mirrored(&self, ends: &[(PartitionId, u64)]) -> Result<(), AppendError> {
        let is_there = |&(partition, end): &(PartitionId, u64)| {
            let marks = self.log.watermarks(partition);
            marks.is_some_and(|marks| marks.mirrored >= end)
        };
        until(&self.standing, || ends.iter().all(is_there)).await
    }
}

/// Waits until something is there that only the mirror brings. Many may wait for long: flushes and
/// appends wake none of them.
async fn until(standing: &Standing, is_there: impl Fn() -> bool) -> Result<(), AppendError> {
    let mut moves = standing.mirror_moves();
    loop {
        if is_there() {
            return Ok(());
        }
        if let Health::Latched { .. } = standing.health() {
            return Err(AppendError::Latched);
        }
        let ended = tokio::select! {
            moved = moves.changed() => moved.is_err(),
            () = tokio::time::sleep(HEALTH_CHECK) => false,
        };
        if ended {
            return Err(AppendError::Stopping);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake};

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_the_mirror_wakes_those_who_wait_for_it() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _within = runtime.enter();
        let (standing, mirrored) = (Standing::new(0), AtomicUsize::new(0));
        let wakes = Arc::new(Wakes::default());
        let waker = Arc::clone(&wakes).into();
        let mut task = Context::from_waker(&waker);
        let is_there = || mirrored.load(Ordering::Relaxed) == 2;
        let mut waiting = pin!(until(&standing, is_there));
        assert_eq!(waiting.as_mut().poll(&mut task), Poll::Pending);
        for lsn in 1..=100 {
            standing.appended(lsn);
            standing.flushed();
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0, "woken by a flush");
        for step in 1..=2 {
            mirrored.store(step, Ordering::Relaxed);
            standing.mirrored();
            assert_eq!(wakes.0.load(Ordering::Relaxed), step);
            let done = waiting.as_mut().poll(&mut task).is_ready();
            assert_eq!(done, step == 2);
        }
    }

    #[test]
    fn a_log_that_is_latched_ends_the_wait() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let standing = Standing::new(0);
        standing.latch("a write failed");
        let ended = runtime.block_on(until(&standing, || false));
        assert_eq!(ended, Err(AppendError::Latched));
    }
}
