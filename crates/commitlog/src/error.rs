//! What can go wrong in the log: each error says what, where, and what to do about it.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::batch::BatchError;
use crate::disk::is_unreadable;
use crate::entry::Refusal;
use crate::stream::PartitionId;

/// An error of the log's owner (writing, opening, recovery).
#[derive(Debug)]
pub enum Error {
    /// A file holds what this program did not write there.
    Corrupt {
        /// File, relative to the data directory.
        path: String,
        /// Byte in the file where it begins.
        position: u64,
        /// What is wrong there.
        what: Cow<'static, str>,
    },
    /// As [`Error::Corrupt`], of a file without which nothing can be read: no accepted loss helps.
    Hopeless {
        /// File, relative to the data directory.
        path: String,
        /// What is wrong there.
        what: Cow<'static, str>,
    },
    /// The operating system refused an operation.
    Disk {
        /// File or folder, relative to the data directory.
        path: String,
        /// The verb: "write", "sync", "open" and so on.
        op: &'static str,
        /// Byte in the file, where the operation has one.
        position: Option<u64>,
        /// What the operating system said.
        source: io::Error,
    },
    /// An offset outside what a partition holds.
    OutOfRange {
        /// The partition's folder.
        path: String,
        /// The offset asked for.
        offset: u64,
        /// First offset there is.
        log_start: u64,
        /// Offset that the next record gets.
        next_offset: u64,
    },
    /// A record batch that the log does not take.
    Batch {
        /// The partition's folder.
        path: String,
        /// What is wrong with it.
        source: BatchError,
    },
    /// Free space is below the reserve; heals by itself.
    Full {
        /// Bytes free on the disk.
        free_bytes: u64,
        /// Bytes that stay free.
        reserve_bytes: u64,
    },
    /// The journal's parts are all in use until a checkpoint frees some; heals by itself.
    JournalFull {
        /// Bytes in use.
        used_bytes: u64,
        /// Bytes that there may be.
        bytes_max: u64,
    },
    /// An entry that does not fit in one part of the journal.
    EntryTooLarge {
        /// What it would take.
        bytes: u64,
        /// What there is room for.
        bytes_max: u64,
    },
    /// An operation on streams that cannot be done.
    Refused {
        /// Why not.
        refusal: Refusal,
    },
    /// An earlier write or flush failed; nothing is taken until the next start recovers.
    Latched {
        /// File whose write or flush failed.
        path: String,
        /// Byte in the file where the failed operation began.
        position: u64,
        /// What was said at that time.
        what: String,
    },
    /// A file of a format version that this program does not know.
    Unsupported {
        /// File, relative to the data directory.
        path: String,
        /// What is not known.
        what: Cow<'static, str>,
    },
}

impl Error {
    /// [`Error::Disk`] without a position.
    pub fn disk(path: impl Into<String>, op: &'static str, source: io::Error) -> Self {
        Self::Disk {
            path: path.into(),
            op,
            position: None,
            source,
        }
    }

    /// [`Error::Disk`] at byte `position`.
    pub fn disk_at(
        path: impl Into<String>,
        op: &'static str,
        position: u64,
        source: io::Error,
    ) -> Self {
        Self::Disk {
            path: path.into(),
            op,
            position: Some(position),
            source,
        }
    }

    /// [`Error::Hopeless`].
    pub(crate) fn hopeless(path: impl Into<String>, what: impl Into<Cow<'static, str>>) -> Self {
        Self::Hopeless {
            path: path.into(),
            what: what.into(),
        }
    }

    /// The same of work that latches nothing, so that no restart is asked for.
    pub(crate) fn passing(self) -> Self {
        match self {
            Self::Disk {
                path,
                op,
                position,
                source,
            } => Self::Disk {
                path,
                op: match op {
                    "write" => "fill",
                    "sync" => "settle",
                    other => other,
                },
                position,
                source,
            },
            other => other,
        }
    }

    /// [`Error::Corrupt`].
    pub fn corrupt(
        path: impl Into<String>,
        position: u64,
        what: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Corrupt {
            path: path.into(),
            position,
            what: what.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt {
                path,
                position,
                what,
            } => {
                write_corrupt(f, path, *position, what)?;
                f.write_str(
                    "; restore the file from a copy, or go on without what is lost by \
                     --accept-loss",
                )
            }
            Self::Hopeless { path, what } => write!(
                f,
                "{path} is damaged at byte 0: {what}; without it nothing can be read, not with \
                 --accept-loss either: restore the data directory from a backup, or move it away to \
                 begin anew"
            ),
            Self::Disk {
                path,
                op,
                position,
                source,
            } => {
                write_disk(f, path, op, *position, source)?;
                f.write_str(match *op {
                    "write" | "sync" => {
                        "; no more is taken until a restart recovers the log: check the disk, \
                         then start again"
                    }
                    "read" if is_unreadable(source) => {
                        "; the disk does not give back what was written there: restore the file \
                         from a copy, or go on without what is lost by --accept-loss"
                    }
                    _ => "; check the disk and the rights on the data directory",
                })
            }
            Self::OutOfRange {
                path,
                offset,
                log_start,
                next_offset,
            } => write!(
                f,
                "{path} holds offsets {log_start} to {next_offset} (exclusive), not {offset}; \
                 read from its start or its end"
            ),
            Self::Batch { path, source } => {
                write!(
                    f,
                    "{path} refuses a record batch: {source}; mend the producer"
                )
            }
            Self::Full {
                free_bytes,
                reserve_bytes,
            } => write!(
                f,
                "only {free_bytes} bytes are free on the disk and {reserve_bytes} are kept in \
                 reserve; free some space or shorten retention, appends then go on by themselves"
            ),
            Self::JournalFull {
                used_bytes,
                bytes_max,
            } => write!(
                f,
                "{used_bytes} of the journal's {bytes_max} bytes wait for a checkpoint; appends go \
                 on by themselves after it"
            ),
            Self::EntryTooLarge { bytes, bytes_max } => write!(
                f,
                "an entry of {bytes} bytes is larger than a part of the journal holds \
                 ({bytes_max}); append less at once or configure larger parts"
            ),
            Self::Refused { refusal } => write!(f, "{refusal}"),
            Self::Latched {
                path,
                position,
                what,
            } => write!(
                f,
                "nothing is appended since {path} failed at byte {position} ({what}); check the \
                 disk, then restart, which recovers the log"
            ),
            Self::Unsupported { path, what } => {
                write!(
                    f,
                    "{path}: {what}; a newer version wrote it, start that version"
                )
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk { source, .. } => Some(source),
            Self::Batch { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// An error of one who reads a partition; the partition itself is not affected.
#[derive(Debug)]
pub enum ReadError {
    /// A segment holds what this program did not write there.
    Corrupt {
        /// File, relative to the data directory.
        path: String,
        /// Byte in the file where the bad batch begins.
        position: u64,
        /// What is wrong there.
        what: Cow<'static, str>,
    },
    /// The offset is no longer or not yet there.
    OutOfRange {
        /// The offset asked for.
        offset: u64,
        /// First offset there is.
        log_start: u64,
        /// Offset that the next record gets.
        next_offset: u64,
    },
    /// There is no such partition, or its stream was deleted.
    UnknownPartition {
        /// The number asked for.
        partition: PartitionId,
    },
    /// The operating system refused a read.
    Disk {
        /// File, relative to the data directory.
        path: String,
        /// The verb.
        op: &'static str,
        /// Byte in the file, where the operation has one.
        position: Option<u64>,
        /// What the operating system said.
        source: io::Error,
    },
}

impl ReadError {
    /// Whether it is only that the read would have had to wait; see
    /// [`Patience::Never`](crate::Patience::Never).
    pub fn would_wait(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt {
                path,
                position,
                what,
            } => {
                write_corrupt(f, path, *position, what)?;
                f.write_str(
                    "; restore the file from a copy; of a compacted stream, a start with \
                     --accept-loss leaves out what is damaged",
                )
            }
            Self::OutOfRange {
                offset,
                log_start,
                next_offset,
            } => write!(
                f,
                "offset {offset} is not in the log, which holds {log_start} to {next_offset} \
                 (exclusive); read from its start or its end"
            ),
            Self::UnknownPartition { partition } => {
                write!(f, "there is no partition {partition}")
            }
            Self::Disk {
                path,
                op,
                position,
                source,
            } => {
                write_disk(f, path, op, *position, source)?;
                f.write_str(if is_unreadable(source) {
                    "; the disk does not give back what was written there: restore the file from \
                     a copy, or start with --accept-loss, where it counts as lost"
                } else {
                    "; check the disk and the rights on the data directory"
                })
            }
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Corrupt {
                path,
                position,
                what,
            } => Self::Corrupt {
                path,
                position,
                what,
            },
            ReadError::OutOfRange {
                offset,
                log_start,
                next_offset,
            } => Self::OutOfRange {
                path: "the partition".into(),
                offset,
                log_start,
                next_offset,
            },
            ReadError::UnknownPartition { .. } => Self::Refused {
                refusal: Refusal::UnknownPartition,
            },
            ReadError::Disk {
                path,
                op,
                position,
                source,
            } => Self::Disk {
                path,
                op,
                position,
                source,
            },
        }
    }
}

fn write_corrupt(f: &mut fmt::Formatter<'_>, path: &str, position: u64, what: &str) -> fmt::Result {
    write!(f, "{path} is damaged at byte {position}: {what}")
}

fn write_disk(
    f: &mut fmt::Formatter<'_>,
    path: &str,
    op: &str,
    position: Option<u64>,
    source: &io::Error,
) -> fmt::Result {
    write!(f, "cannot {op} {path}")?;
    if let Some(position) = position {
        write!(f, " at byte {position}")?;
    }
    write!(f, ": {source}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_and_what_to_do() {
        let torn = Error::corrupt("streams/a-0/0.log", 77, "checksum does not match");
        assert_eq!(
            torn.to_string(),
            "streams/a-0/0.log is damaged at byte 77: checksum does not match; restore the file \
             from a copy, or go on without what is lost by --accept-loss"
        );
        let failed = Error::disk_at("j", "write", 4096, io::Error::other("boom"));
        assert_eq!(
            failed.to_string(),
            "cannot write j at byte 4096: boom; no more is taken until a restart recovers the \
             log: check the disk, then start again"
        );
    }
}
