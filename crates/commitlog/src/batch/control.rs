//! Control batches: the markers that end a producer's transaction in a partition (KIP-98), in the
//! bytes of Kafka's `EndTransactionMarker`.

use super::{BatchBuilder, BatchView, CRC_START, crc32c};

/// Bits of the attributes: part of a transaction, and control.
const MARKER_ATTRIBUTES: i16 = 0x30;

const ABORT: u16 = 0;
const COMMIT: u16 = 1;

/// What a marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Committed, or aborted.
    pub commit: bool,
    /// Epoch of the transaction coordinator that wrote it.
    pub coordinator_epoch: i32,
}

/// The batch that ends a transaction of `producer_id`; `now_ms` becomes its timestamp.
pub fn control_batch(
    producer_id: i64,
    epoch: i16,
    commit: bool,
    coordinator_epoch: i32,
    now_ms: u64,
) -> Vec<u8> {
    // Both in version 0: the kind, and the coordinator's epoch.
    let kind = if commit { COMMIT } else { ABORT };
    let mut key = [0; 4];
    key[2..].copy_from_slice(&kind.to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut builder = BatchBuilder::new();
    let time_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    builder.push(time_ms, Some(&key), Some(&value), &[]);
    let mut batch = builder.finish();
    batch[21..23].copy_from_slice(&MARKER_ATTRIBUTES.to_be_bytes());
    batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    let crc = crc32c(&batch[CRC_START..]);
    batch[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
    batch
}

impl BatchView<'_> {
    /// What the control batch says; `None` for batches of records and for control records of
    /// another kind, which have no meaning here.
    pub fn marker(&self) -> Option<Marker> {
        if !self.is_control() {
            return None;
        }
        let record = self.records().next()?.ok()?;
        let key = record.key?.first_chunk::<4>()?;
        let value = record.value?.first_chunk::<6>()?;
        let commit = match u16::from_be_bytes([key[2], key[3]]) {
            ABORT => false,
            COMMIT => true,
            _ => return None,
        };
        let coordinator_epoch = i32::from_be_bytes([value[2], value[3], value[4], value[5]]);
        Some(Marker {
            commit,
            coordinator_epoch,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        for commit in [false, true] {
            let bytes = control_batch(77, 3, commit, 9, 1234);
            let (batch, size) = BatchView::parse(&bytes).unwrap();
            assert_eq!(size, bytes.len());
            batch.verify_crc().unwrap();
            assert!(batch.is_control() && batch.is_transactional());
            assert_eq!((batch.producer_id(), batch.producer_epoch()), (77, 3));
            assert_eq!((batch.base_sequence(), batch.max_timestamp()), (-1, 1234));
            let marker = Marker {
                commit,
                coordinator_epoch: 9,
            };
            assert_eq!(batch.marker(), Some(marker));
        }
    }

    #[test]
    fn the_bytes_are_kafkas() {
        // MemoryRecords.withEndTransactionMarker(0, 5, 0, 13, 2, ABORT with epoch 1) of Kafka.
        let bytes = control_batch(13, 2, false, 1, 5);
        let tail = [0x20, 0, 0, 0, 8, 0, 0, 0, 0, 0x0c, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(bytes.len(), 61 + tail.len());
        assert_eq!(bytes[61..], tail);
        assert_eq!(bytes[21..23], [0, 0x30]);
    }

    #[test]
    fn other_batches_are_no_markers() {
        let mut builder = BatchBuilder::new();
        builder.push(0, Some(b"key"), None, &[]);
        let bytes = builder.finish();
        assert_eq!(BatchView::parse(&bytes).unwrap().0.marker(), None);
        let mut unknown = control_batch(1, 0, true, 0, 0);
        unknown[61 + 8] = 7;
        assert_eq!(BatchView::parse(&unknown).unwrap().0.marker(), None);
    }
}
