//! The durable log: journal, streams, segments, recovery, group commit.
