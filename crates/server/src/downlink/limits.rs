//! Bounds of downlinks: how much of a source is under way at one time.

use std::time::Duration;

/// Records of one parcel, which is part of one entry of the journal.
pub const PARCEL_RECORDS_MAX: usize = 512;

/// Bytes of the records of one parcel beyond which no further one is put into it.
pub const PARCEL_BYTES_MAX: usize = 256 * 1024;

/// Bytes read of one partition at one time; one batch is read whole.
pub const READ_BYTES: usize = 1024 * 1024;

/// Bytes that the records of one batch may have once they are plain.
pub const PLAIN_BYTES_MAX: usize = commitlog::limits::DECOMPRESSED_BYTES_MAX;

/// Rest after the log took nothing, or the source could not be read.
pub const RETRY: Duration = Duration::from_millis(200);

/// Time between two looks at whether the source has more partitions than before.
pub const PARTITIONS_CHECK: Duration = Duration::from_secs(1);
