//! The thread for the log's slow work: checkpoints, retention, compaction, fresh journal parts.
//! It takes small steps with pauses, so that fdatasync of the journal does not queue behind it,
//! and asks the log thread only for what takes no time.
