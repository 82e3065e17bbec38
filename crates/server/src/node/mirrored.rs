//! Waiting until the Apache Kafka cluster behind has what was appended. It knows no cluster: the
//! mirror tells how far that is.

use std::time::Duration;

use commitlog::PartitionId;

use super::{AppendError, Appender, Health};

/// Time between two looks of one who waits at whether the log still takes appends.
const HEALTH_CHECK: Duration = Duration::from_secs(1);

impl Appender {
    /// Waits until the cluster behind has these partitions up to these ends. Has no end of its own:
    /// whoever waits says how long.
    pub async fn mirrored(&self, ends: &[(PartitionId, u64)]) -> Result<(), AppendError> {
        let mut moves = self.standing.mirror_moves();
        loop {
            let is_there = |&(partition, end): &(PartitionId, u64)| {
                let marks = self.log.watermarks(partition);
                marks.is_some_and(|marks| marks.mirrored >= end)
            };
            if ends.iter().all(is_there) {
                return Ok(());
            }
            if let Health::Latched { .. } = self.standing.health() {
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
}
