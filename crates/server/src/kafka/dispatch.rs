//! From a request to the one who answers it: one line for each API. It knows no sockets.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::kafka::api::Api;
use ::kafka::{RequestHeader, Wire, WireError, decode_request};
use bytes::BytesMut;

use super::caller::Caller;
use super::sasl::{self, Sasl};
use super::{
    Answer, FrontDoor, admin, api_versions, fetch, groups, leader_epoch, list_offsets, metadata,
    produce, transactions,
};

/// A request as it came.
pub(super) struct Asked {
    pub door: Arc<FrontDoor>,
    pub caller: Arc<Caller>,
    /// How far its connection is with logging in.
    pub login: Arc<Sasl>,
    pub api: Api,
    pub version: i16,
    pub correlation_id: i32,
    /// What its sender's connection reads at once, in bytes: the frame may be a part of as much memory.
    pub read_bytes: usize,
    /// The frame behind its size.
    pub frame: BytesMut,
}

impl Asked {
    /// The request, borrowed from the frame.
    pub fn request<'a, T: Wire<'a>>(&'a self) -> Result<T, WireError> {
        let (_, _, body) = RequestHeader::read(&self.frame)?;
        decode_request(body)
    }
}

/// What comes of a request: an answer, nothing where none is asked for, or the end of the
/// connection.
pub(super) type Outcome = Result<Option<Answer>, HangUp>;

/// Why a request ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HangUp {
    /// Its bytes are no request.
    Malformed(WireError),
    /// It failed and its sender wants no answer, or the answer would have been too large to be sent;
    /// this is how it learns of that.
    Unanswered,
}

impl From<WireError> for HangUp {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}

/// An answer that is still being made. Dropped with its connection.
pub(super) type Later = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A request that was begun.
pub(super) enum Reply {
    /// It is answered.
    Ready(Outcome),
    /// It will be.
    Later(Later),
    /// It will be. What it appends was put ([`Source::put`](super::Source::put)) and waits to be
    /// brought; it need not be polled before.
    Put(Later),
}

impl Reply {
    /// Whether there is an outcome now; goes on making it.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> bool {
        if let Self::Later(later) | Self::Put(later) = self {
            match later.as_mut().poll(cx) {
                Poll::Ready(outcome) => *self = Self::Ready(outcome),
                Poll::Pending => return false,
            }
        }
        if let Self::Ready(Ok(Some(answer))) = self
            && answer.frame.is_too_large()
        {
            *self = Self::Ready(Err(HangUp::Unanswered));
        }
        true
    }
}

/// Answers at once.
macro_rules! now {
    ($asked:ident, $answer:path) => {{
        let answer = |asked: &Asked| -> Outcome {
            let (version, id) = (asked.version, asked.correlation_id);
            let request = asked.request()?;
            Ok(Some(
                $answer(&asked.door, &asked.caller, version, id, &request).into(),
            ))
        };
        Reply::Ready(answer(&$asked))
    }};
}

/// Answers with a future. What it does before it waits for the first time is done before the next
/// request of the connection is begun.
macro_rules! later {
    ($asked:ident, $answer:path) => {
        Reply::Later(Box::pin(async move {
            let (version, id) = ($asked.version, $asked.correlation_id);
            let request = $asked.request()?;
            let answer = $answer(&$asked.door, &$asked.caller, version, id, &request).await;
            Ok(Some(answer.into()))
        }))
    };
}

/// Begins a request. A later one must be polled before the next request is begun.
pub(super) fn begin(asked: Asked) -> Reply {
    match asked.api {
        Api::Produce => produce::begin(asked),
        Api::Fetch => later!(asked, fetch::answer),
        Api::ListOffsets => later!(asked, list_offsets::answer),
        Api::Metadata => later!(asked, metadata::answer),
        Api::ApiVersions => now!(asked, api_versions::answer),
        Api::OffsetForLeaderEpoch => now!(asked, leader_epoch::answer),
        Api::SaslHandshake => sasl::begin_handshake(&asked),
        Api::SaslAuthenticate => sasl::begin_authenticate(asked),
        Api::FindCoordinator => now!(asked, groups::find_coordinator),
        Api::JoinGroup => later!(asked, groups::join_group),
        Api::SyncGroup => later!(asked, groups::sync_group),
        Api::Heartbeat => now!(asked, groups::heartbeat),
        Api::LeaveGroup => now!(asked, groups::leave_group),
        Api::OffsetCommit => later!(asked, groups::offset_commit),
        Api::OffsetFetch => now!(asked, groups::offset_fetch),
        Api::OffsetDelete => later!(asked, groups::offset_delete),
        Api::ListGroups => now!(asked, groups::list_groups),
        Api::DescribeGroups => now!(asked, groups::describe_groups),
        Api::DeleteGroups => later!(asked, groups::delete_groups),
        Api::CreateTopics => later!(asked, admin::create_topics),
        Api::CreatePartitions => later!(asked, admin::create_partitions),
        Api::DeleteTopics => later!(asked, admin::delete_topics),
        Api::DeleteRecords => later!(asked, admin::delete_records),
        Api::DescribeConfigs => now!(asked, admin::describe_configs),
        Api::AlterConfigs => later!(asked, admin::alter_configs),
        Api::IncrementalAlterConfigs => later!(asked, admin::incremental_alter_configs),
        Api::DescribeLogDirs => now!(asked, admin::describe_log_dirs),
        Api::DescribeCluster => now!(asked, admin::describe_cluster),
        Api::DescribeTopicPartitions => now!(asked, admin::describe_topic_partitions),
        Api::DescribeProducers => now!(asked, admin::describe_producers),
        Api::InitProducerId => later!(asked, transactions::init_producer_id),
        Api::AddPartitionsToTxn => later!(asked, transactions::add_partitions_to_txn),
        Api::AddOffsetsToTxn => later!(asked, transactions::add_offsets_to_txn),
        Api::EndTxn => later!(asked, transactions::end_txn),
        Api::WriteTxnMarkers => later!(asked, transactions::write_txn_markers),
        Api::TxnOffsetCommit => later!(asked, transactions::txn_offset_commit),
        Api::DescribeTransactions => now!(asked, transactions::describe_transactions),
        Api::ListTransactions => now!(asked, transactions::list_transactions),
    }
}
