//! Telling a client in an encoded response that it is throttled (KIP-13, KIP-219): every API keeps
//! the field at a fixed place, so that whoever answers a request needs to know nothing of quotas.

use bytes::{Bytes, BytesMut};

use crate::api::Api;
use crate::framing::Frame;
use crate::primitives::Piece;

/// Where the field is.
enum Place {
    /// So many bytes into the body.
    Front(usize),
    /// Last, in front of the tagged fields.
    Back,
}

/// Bytes of the field.
const FIELD_BYTES: usize = 4;

impl Frame {
    /// Writes the throttle time into a response of that API and version; changes nothing where it
    /// has none to tell.
    pub fn set_throttle_time(&mut self, api: Api, version: i16, throttle_time_ms: i32) {
        let Some(place) = place(api, version) else {
            return;
        };
        let flexible = api.flexible(version);
        let (piece, at) = match place {
            // Behind the size, the correlation id and the tags of the header.
            Place::Front(at) => (self.pieces.first_mut(), 8 + usize::from(flexible) + at),
            Place::Back => {
                let piece = self.pieces.last_mut();
                let end = piece.as_ref().map_or(0, |piece| piece.size_bytes());
                (
                    piece,
                    end.saturating_sub(FIELD_BYTES + usize::from(flexible)),
                )
            }
        };
        let Some(Piece::Bytes(slice)) = piece else {
            return;
        };
        if slice.len() < at + FIELD_BYTES {
            return;
        }
        // Where batches lie between the slices, the head is shared and copied; it is small.
        let mut bytes: BytesMut = std::mem::replace(slice, Bytes::new()).into();
        bytes[at..at + FIELD_BYTES].copy_from_slice(&throttle_time_ms.to_be_bytes());
        *slice = bytes.freeze();
    }
}

/// Where a response has the field, if it has one.
fn place(api: Api, version: i16) -> Option<Place> {
    let (since, place) = match api {
        // ApiVersions has it behind a list, and who asks for that is not throttled.
        Api::ApiVersions | Api::SaslHandshake | Api::SaslAuthenticate | Api::WriteTxnMarkers => {
            return None;
        }
        Api::Produce => (1, Place::Back),
        Api::OffsetDelete => (0, Place::Front(2)),
        Api::Fetch
        | Api::FindCoordinator
        | Api::Heartbeat
        | Api::LeaveGroup
        | Api::SyncGroup
        | Api::DescribeGroups
        | Api::ListGroups
        | Api::DeleteTopics
        | Api::DescribeConfigs
        | Api::DescribeLogDirs => (1, Place::Front(0)),
        Api::ListOffsets | Api::JoinGroup | Api::OffsetForLeaderEpoch | Api::CreateTopics => {
            (2, Place::Front(0))
        }
        Api::Metadata | Api::OffsetCommit | Api::OffsetFetch => (3, Place::Front(0)),
        _ => (0, Place::Front(0)),
    };
    (version >= since).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::*;
    use crate::{decode_response, encode_response};

    /// Sets the field in a response of each version and reads it back.
    macro_rules! check {
        ($($api:ident = $response:ident),+ $(,)?) => {
            const CHECKED: &[Api] = &[$(Api::$api),+];
            $(
                for version in Api::$api.versions() {
                    let api = Api::$api;
                    let mut told = $response::default();
                    told.throttle_time_ms = 0x0102_0304;
                    let wanted = encode_response(api, version, 7, &told);
                    let mut frame = encode_response(api, version, 7, &$response::default());
                    frame.set_throttle_time(api, version, 0x0102_0304);
                    assert_eq!(frame.to_vec(), wanted.to_vec(), "{} {version}", api.name());
                }
            )+
        };
    }

    #[test]
    fn the_field_is_where_each_api_has_it() {
        check!(
            Produce = ProduceResponse,
            Fetch = FetchResponse,
            ListOffsets = ListOffsetsResponse,
            Metadata = MetadataResponse,
            OffsetForLeaderEpoch = OffsetForLeaderEpochResponse,
            FindCoordinator = FindCoordinatorResponse,
            JoinGroup = JoinGroupResponse,
            SyncGroup = SyncGroupResponse,
            Heartbeat = HeartbeatResponse,
            LeaveGroup = LeaveGroupResponse,
            OffsetCommit = OffsetCommitResponse,
            OffsetFetch = OffsetFetchResponse,
            OffsetDelete = OffsetDeleteResponse,
            ListGroups = ListGroupsResponse,
            DescribeGroups = DescribeGroupsResponse,
            DeleteGroups = DeleteGroupsResponse,
            InitProducerId = InitProducerIdResponse,
            AddPartitionsToTxn = AddPartitionsToTxnResponse,
            AddOffsetsToTxn = AddOffsetsToTxnResponse,
            EndTxn = EndTxnResponse,
            TxnOffsetCommit = TxnOffsetCommitResponse,
            DescribeProducers = DescribeProducersResponse,
            DescribeTransactions = DescribeTransactionsResponse,
            ListTransactions = ListTransactionsResponse,
            CreateTopics = CreateTopicsResponse,
            DeleteTopics = DeleteTopicsResponse,
            CreatePartitions = CreatePartitionsResponse,
            DeleteRecords = DeleteRecordsResponse,
            DescribeConfigs = DescribeConfigsResponse,
            AlterConfigs = AlterConfigsResponse,
            IncrementalAlterConfigs = IncrementalAlterConfigsResponse,
            DescribeLogDirs = DescribeLogDirsResponse,
            DescribeCluster = DescribeClusterResponse,
            DescribeTopicPartitions = DescribeTopicPartitionsResponse,
        );
        let without = [
            Api::ApiVersions,
            Api::SaslHandshake,
            Api::SaslAuthenticate,
            Api::WriteTxnMarkers,
        ];
        for api in Api::ALL {
            assert!(CHECKED.contains(api) != without.contains(api), "{api:?}");
        }
    }

    #[test]
    fn records_of_a_fetch_stay_shared() {
        let records = Bytes::from(vec![7; 100]);
        let told = FetchResponse {
            topics: vec![FetchTopicResponse {
                partitions: vec![FetchPartitionResponse {
                    records: crate::Records::Stored(vec![records.clone()]),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut frame = encode_response(Api::Fetch, 12, 7, &told);
        frame.set_throttle_time(Api::Fetch, 12, 9);
        assert!(
            frame
                .pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Bytes(it) if it.as_ptr() == records.as_ptr()))
        );
        let bytes = frame.to_vec();
        let read: FetchResponse<'_> = decode_response(Api::Fetch, 12, &bytes[4..]).unwrap();
        assert_eq!(read.throttle_time_ms, 9);
    }
}
