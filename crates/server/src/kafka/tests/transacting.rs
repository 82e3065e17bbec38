//! Transactions over loopback, before the real log: what readers see of them, and crashes.

use ::kafka::api::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse,
    ListTransactionsRequest, ListTransactionsResponse, OffsetFetchGroup, OffsetFetchRequest,
    OffsetFetchResponse, OffsetFetchTopic, TxnMarker, TxnMarkerTopic, TxnOffsetCommitPartition,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitTopic, TxnTopic,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use commitlog::{Ack, MemoryDisk};

use super::producing::{request, written};
use super::real_log::Node;
use super::*;

/// A node with its tables and two streams.
fn node() -> Node {
    let mut node = Node::new(MemoryDisk::new());
    node.flushes_itself = true;
    for name in [
        "__sluice.transactions",
        "__sluice.offsets",
        "door",
        "window",
    ] {
        node.create(name, Ack::Append);
    }
    node
}

/// The node after a crash that kept all that was written.
fn crashed(node: Node) -> Node {
    let disk = node.disk.clone();
    drop(node);
    disk.crash(false);
    let mut node = Node::new(disk);
    node.flushes_itself = true;
    node
}

/// A producer id and its epoch.
type Me = (i64, i16);

impl Client {
    async fn init(&mut self, id: Option<&str>) -> (i16, Me) {
        let request = InitProducerIdRequest {
            transactional_id: id,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let answer = self.ask(Api::InitProducerId, 4, &request).await;
        let answer: InitProducerIdResponse =
            decode_response(Api::InitProducerId, 4, &answer).unwrap();
        (
            answer.error_code,
            (answer.producer_id, answer.producer_epoch),
        )
    }

    async fn add(&mut self, me: Me, topics: &[&str]) -> Vec<i16> {
        let topic = |name: &&'static str| TxnTopic {
            name,
            partitions: vec![0],
        };
        let topics: Vec<&'static str> = topics
            .iter()
            .map(|name| &*name.to_string().leak())
            .collect();
        let request = AddPartitionsToTxnRequest {
            transactional_id: "till",
            producer_id: me.0,
            producer_epoch: me.1,
            topics: topics.iter().map(topic).collect(),
            ..Default::default()
        };
        let answer = self.ask(Api::AddPartitionsToTxn, 3, &request).await;
        let answer: AddPartitionsToTxnResponse<'_> =
            decode_response(Api::AddPartitionsToTxn, 3, &answer).unwrap();
        let rows = answer.results_by_topic.iter();
        rows.map(|topic| topic.results_by_partition[0].error_code)
            .collect()
    }

    async fn end(&mut self, me: Me, committed: bool) -> i16 {
        let request = EndTxnRequest {
            transactional_id: "till",
            producer_id: me.0,
            producer_epoch: me.1,
            committed,
        };
        let answer = self.ask(Api::EndTxn, 3, &request).await;
        let answer: EndTxnResponse = decode_response(Api::EndTxn, 3, &answer).unwrap();
        answer.error_code
    }

    /// Appends two records in the transaction.
    async fn write(&mut self, me: Me, topic: &str, sequence: i32) -> (i16, i64) {
        let batch = written((me.0, me.1, sequence, true), 2);
        let request = ProduceRequest {
            transactional_id: Some("till"),
            ..request(topic, &batch)
        };
        self.produce(9, &request).await
    }

    /// The offsets that a reader of committed records gets, as a client filters them: it fetches on
    /// until nothing comes.
    async fn read_committed(&mut self, topic: &str) -> Vec<u64> {
        let (mut offsets, mut next) = (Vec::new(), 0);
        loop {
            let from = next;
            let request = FetchRequest {
                isolation_level: 1,
                ..fetch(topic, from)
            };
            let answer = self.ask(Api::Fetch, 12, &request).await;
            let answer: FetchResponse<'_> = decode_response(Api::Fetch, 12, &answer).unwrap();
            let row = &answer.topics[0].partitions[0];
            assert_eq!(row.error_code, 0);
            let mut aborted = row.aborted_transactions.clone().expect("it was asked for");
            let mut leaving_out = Vec::new();
            for batch in batches(row.records.received()) {
                let head = batch.unwrap().head();
                assert!(head.next_offset() as i64 <= row.last_stable_offset);
                next = head.next_offset() as i64;
                aborted.retain(|range| {
                    let begins = range.first_offset as u64 <= head.last_offset();
                    leaving_out.extend(begins.then_some(range.producer_id));
                    !begins
                });
                if head.is_control() {
                    let marker = batch.unwrap().marker().unwrap();
                    assert!(!marker.commit || !leaving_out.contains(&head.producer_id()));
                    leaving_out.retain(|&producer| producer != head.producer_id());
                } else if !head.is_transactional() || !leaving_out.contains(&head.producer_id()) {
                    offsets.extend(head.base_offset()..head.next_offset());
                }
            }
            if next == from {
                return offsets;
            }
        }
    }

    /// Error and offset that group `g` has committed for `door`.
    async fn with_transactions(&mut self, require_stable: bool) -> (i16, i64) {
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchGroup {
                group_id: "g",
                topics: Some(vec![OffsetFetchTopic {
                    name: "door",
                    partition_indexes: vec![0],
                    ..Default::default()
                }]),
                ..Default::default()
            }],
            require_stable,
            ..Default::default()
        };
        let answer = self.ask(Api::OffsetFetch, 8, &request).await;
        let answer: OffsetFetchResponse<'_> =
            decode_response(Api::OffsetFetch, 8, &answer).unwrap();
        let row = &answer.groups[0].topics[0].partitions[0];
        (row.error_code, row.committed_offset)
    }

    /// Puts an offset of group `g` into the transaction.
    async fn commit_with(&mut self, me: Me, offset: i64) -> (i16, i16) {
        let add = AddOffsetsToTxnRequest {
            transactional_id: "till",
            producer_id: me.0,
            producer_epoch: me.1,
            group_id: "g",
        };
        let answer = self.ask(Api::AddOffsetsToTxn, 3, &add).await;
        let added: AddOffsetsToTxnResponse =
            decode_response(Api::AddOffsetsToTxn, 3, &answer).unwrap();
        let commit = TxnOffsetCommitRequest {
            transactional_id: "till",
            group_id: "g",
            producer_id: me.0,
            producer_epoch: me.1,
            topics: vec![TxnOffsetCommitTopic {
                name: "door",
                partitions: vec![TxnOffsetCommitPartition {
                    committed_offset: offset,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let answer = self.ask(Api::TxnOffsetCommit, 3, &commit).await;
        let kept: TxnOffsetCommitResponse<'_> =
            decode_response(Api::TxnOffsetCommit, 3, &answer).unwrap();
        (added.error_code, kept.topics[0].partitions[0].error_code)
    }

    /// State and partitions of the transaction.
    async fn described(&mut self) -> (String, usize) {
        let request = DescribeTransactionsRequest {
            transactional_ids: vec!["till", "nobody", "till"],
        };
        let answer = self.ask(Api::DescribeTransactions, 0, &request).await;
        let answer: DescribeTransactionsResponse<'_> =
            decode_response(Api::DescribeTransactions, 0, &answer).unwrap();
        let nobody = ErrorCode::TransactionalIdNotFound.as_i16();
        assert_eq!(answer.transaction_states[1].error_code, nobody);
        assert_eq!(answer.transaction_states.len(), 2, "each once");
        let state = &answer.transaction_states[0];
        (state.transaction_state.to_owned(), state.topics.len())
    }
}

#[tokio::test]
async fn only_the_id_of_a_group_is_taken_into_a_transaction() {
    let node = node();
    let (mut client, _door, _stop) = node.serve().await;
    let (_, me) = client.init(Some("till")).await;
    let long = "g".repeat(::kafka::limits::GROUP_ID_BYTES_MAX + 1);
    for (group_id, error) in [("", 24), (&*long, 24), (&long[1..], 0)] {
        let add = AddOffsetsToTxnRequest {
            transactional_id: "till",
            producer_id: me.0,
            producer_epoch: me.1,
            group_id,
        };
        let answer = client.ask(Api::AddOffsetsToTxn, 3, &add).await;
        let added: AddOffsetsToTxnResponse =
            decode_response(Api::AddOffsetsToTxn, 3, &answer).unwrap();
        assert_eq!(added.error_code, error, "{} bytes", group_id.len());
    }
}

#[tokio::test]
async fn readers_of_committed_records_see_whole_transactions_or_nothing() {
    let node = node();
    let (mut client, _door, _stop) = node.serve().await;
    let (error, me) = client.init(Some("till")).await;
    assert_eq!((error, me.1), (0, 0));
    assert_eq!(client.add(me, &["door", "window"]).await, [0, 0]);
    assert_eq!(client.write(me, "door", 0).await, (0, 0));
    assert_eq!(client.write(me, "window", 0).await, (0, 0));
    assert_eq!(client.described().await, ("Ongoing".to_owned(), 2));
    // Another producer's records lie behind the open transaction.
    let plain = written((-1, -1, -1, false), 1);
    assert_eq!(client.produce(9, &request("door", &plain)).await, (0, 2));
    assert_eq!(client.read_committed("door").await, [0; 0]);
    assert_eq!(client.fetch(12, &fetch("door", 0)).await.offsets, [0, 1, 2]);
    assert_eq!(client.end(me, true).await, 0);
    assert_eq!(client.end(me, true).await, 0);
    assert_eq!(
        client.end(me, false).await,
        ErrorCode::InvalidTxnState.as_i16()
    );
    // Offset 3 is the marker.
    assert_eq!(client.read_committed("door").await, [0, 1, 2]);
    assert_eq!(client.read_committed("window").await, [0, 1]);
    assert_eq!(client.add(me, &["door"]).await, [0]);
    assert_eq!(client.write(me, "door", 2).await, (0, 4));
    let outside = ErrorCode::InvalidTxnState.as_i16();
    assert_eq!(client.write(me, "window", 2).await, (outside, -1));
    assert_eq!(client.end(me, false).await, 0);
    assert_eq!(client.produce(9, &request("door", &plain)).await, (0, 7));
    assert_eq!(client.read_committed("door").await, [0, 1, 2, 7]);
    assert_eq!(client.described().await, ("CompleteAbort".to_owned(), 0));
    let missing = [
        ErrorCode::OperationNotAttempted,
        ErrorCode::UnknownTopicOrPartition,
    ];
    let missing = missing.map(ErrorCode::as_i16);
    assert_eq!(client.add(me, &["door", "nowhere"]).await, missing);
}

#[tokio::test]
async fn a_fetch_of_committed_records_is_woken_by_the_end_of_the_transaction() {
    let node = node();
    let (mut client, door, _stop) = node.serve().await;
    let (_, me) = client.init(Some("till")).await;
    client.add(me, &["door"]).await;
    client.write(me, "door", 0).await;
    let (mut reader, ..) = (Client {
        stream: TcpStream::connect(client.stream.peer_addr().unwrap())
            .await
            .unwrap(),
        sent: 0,
        received: 0,
    },);
    let waiting = FetchRequest {
        isolation_level: 1,
        ..long_poll("door", 0)
    };
    reader.send(Api::Fetch, 12, &waiting).await;
    while door.counters().values().fetches_parked == 0 {
        tokio::task::yield_now().await;
    }
    client.end(me, true).await;
    let answer = reader.receive().await;
    let answer: FetchResponse<'_> = decode_response(Api::Fetch, 12, &answer).unwrap();
    assert!(answer.topics[0].partitions[0].records.size_bytes() > 0);
}

#[tokio::test]
async fn offsets_of_groups_are_committed_with_their_transaction_only() {
    let node = node();
    let (mut client, _door, _stop) = node.serve().await;
    let (_, me) = client.init(Some("till")).await;
    assert_eq!(client.commit_with(me, 5).await, (0, 0));
    assert_eq!(client.with_transactions(false).await, (0, -1));
    let unstable = ErrorCode::UnstableOffsetCommit.as_i16();
    assert_eq!(client.with_transactions(true).await.0, unstable);
    assert_eq!(client.end(me, false).await, 0);
    assert_eq!(client.with_transactions(true).await, (0, -1));
    assert_eq!(client.commit_with(me, 6).await, (0, 0));
    // Neither what is kept nor that it is open is lost by a crash, nor is it committed by it.
    let node = crashed(node);
    let (mut client, _door, _stop) = node.serve().await;
    assert_eq!(client.with_transactions(true).await.0, unstable);
    assert_eq!(client.end(me, true).await, 0);
    assert_eq!(client.with_transactions(true).await, (0, 6));
    let node = crashed(node);
    let (mut client, _door, _stop) = node.serve().await;
    assert_eq!(client.with_transactions(true).await, (0, 6));
}

#[tokio::test]
async fn an_open_transaction_is_still_open_after_a_crash() {
    let node = node();
    let (mut client, _door, _stop) = node.serve().await;
    let (_, me) = client.init(Some("till")).await;
    client.add(me, &["door", "window"]).await;
    client.write(me, "door", 0).await;
    let node = crashed(node);
    let (mut client, _door, _stop) = node.serve().await;
    assert_eq!(client.described().await, ("Ongoing".to_owned(), 2));
    assert_eq!(client.read_committed("door").await, [0; 0]);
    assert_eq!(client.write(me, "window", 0).await, (0, 0));
    assert_eq!(client.write(me, "door", 0).await, (0, 0));
    assert_eq!(client.write(me, "door", 2).await, (0, 2));
    assert_eq!(client.end(me, true).await, 0);
    assert_eq!(client.read_committed("door").await, [0, 1, 2, 3]);
    assert_eq!(client.read_committed("window").await, [0, 1]);
    // A producer id is never given out twice.
    let (_, other) = client.init(None).await;
    assert!(other.0 > me.0);
    let node = crashed(node);
    let (mut client, _door, _stop) = node.serve().await;
    let (_, next) = client.init(None).await;
    assert!(next.0 > other.0);
    // Whoever comes next has the next epoch, and fences the last.
    let (_, new) = client.init(Some("till")).await;
    assert_eq!(new, (me.0, 1));
    assert_eq!(
        client.add(me, &["door"]).await,
        [ErrorCode::ProducerFenced.as_i16()]
    );
    assert_eq!(
        client.end(me, true).await,
        ErrorCode::ProducerFenced.as_i16()
    );
}

#[tokio::test]
async fn a_new_producer_aborts_what_the_old_one_left_open() {
    let node = node();
    let (mut client, _door, _stop) = node.serve().await;
    let (_, old) = client.init(Some("till")).await;
    client.add(old, &["door"]).await;
    client.write(old, "door", 0).await;
    let (error, new) = client.init(Some("till")).await;
    assert_eq!((error, new), (0, (old.0, 1)));
    let (code, _) = client.write(old, "door", 2).await;
    assert_eq!(code, ErrorCode::InvalidProducerEpoch.as_i16());
    assert_eq!(client.add(new, &["door"]).await, [0]);
    assert_eq!(client.write(new, "door", 0).await, (0, 3));
    assert_eq!(client.end(new, true).await, 0);
    assert_eq!(client.read_committed("door").await, [3, 4]);
}

#[tokio::test]
async fn an_operator_ends_a_transaction_by_its_markers() {
    let node = node();
    let (mut client, _door, _stop) = node.serve().await;
    let (_, me) = client.init(Some("till")).await;
    client.add(me, &["door"]).await;
    client.write(me, "door", 0).await;
    let all = client
        .ask(
            Api::ListTransactions,
            1,
            &ListTransactionsRequest::default(),
        )
        .await;
    let all: ListTransactionsResponse<'_> =
        decode_response(Api::ListTransactions, 1, &all).unwrap();
    let listed = &all.transaction_states[0];
    assert_eq!(
        (listed.transactional_id, listed.transaction_state),
        ("till", "Ongoing")
    );
    let request = WriteTxnMarkersRequest {
        markers: vec![TxnMarker {
            producer_id: me.0,
            producer_epoch: me.1,
            transaction_result: false,
            topics: vec![TxnMarkerTopic {
                name: "door",
                partition_indexes: vec![0, 9],
            }],
            coordinator_epoch: 0,
        }],
    };
    let answer = client.ask(Api::WriteTxnMarkers, 1, &request).await;
    let answer: WriteTxnMarkersResponse<'_> =
        decode_response(Api::WriteTxnMarkers, 1, &answer).unwrap();
    let rows = &answer.markers[0].topics[0].partitions;
    let codes: Vec<i16> = rows.iter().map(|row| row.error_code).collect();
    assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.as_i16()]);
    let plain = written((-1, -1, -1, false), 1);
    client
        .produce(9, &super::producing::request("door", &plain))
        .await;
    assert_eq!(client.read_committed("door").await, [3]);
}

/// Ends what a producer has open in `door` as an operator does; the error.
async fn write_marker(client: &mut Client, me: Me, coordinator_epoch: i32) -> i16 {
    let request = WriteTxnMarkersRequest {
        markers: vec![TxnMarker {
            producer_id: me.0,
            producer_epoch: me.1,
            transaction_result: false,
            topics: vec![TxnMarkerTopic {
                name: "door",
                partition_indexes: vec![0],
            }],
            coordinator_epoch,
        }],
    };
    let answer = client.ask(Api::WriteTxnMarkers, 1, &request).await;
    let answer: WriteTxnMarkersResponse<'_> =
        decode_response(Api::WriteTxnMarkers, 1, &answer).unwrap();
    answer.markers[0].topics[0].partitions[0].error_code
}

#[tokio::test]
async fn a_marker_of_a_foreign_coordinator_does_not_fence_the_own_ones() {
    let node = node();
    let (mut client, _door, _stop) = node.serve().await;
    let (_, me) = client.init(Some("till")).await;
    client.add(me, &["door"]).await;
    client.write(me, "door", 0).await;
    assert_eq!(write_marker(&mut client, me, 7).await, 0);
    assert_eq!(client.write(me, "door", 2).await, (0, 3));
    assert_eq!(client.end(me, true).await, 0);
    assert_eq!(client.read_committed("door").await, [3, 4]);
}

#[tokio::test]
async fn a_commit_whose_marker_is_refused_is_not_answered_as_one() {
    let node = node();
    let (mut client, door, _stop) = node.serve().await;
    let (_, me) = client.init(Some("till")).await;
    client.add(me, &["door"]).await;
    client.write(me, "door", 0).await;
    // Aborts it, and fences the producer in the partition.
    assert_eq!(write_marker(&mut client, (me.0, me.1 + 1), 0).await, 0);
    assert_eq!(
        client.end(me, true).await,
        ErrorCode::InvalidProducerEpoch.as_i16()
    );
    assert_eq!(door.transactions().values().committed, 0);
    assert_eq!(client.read_committed("door").await, [0; 0]);
}

#[tokio::test]
async fn a_transaction_that_is_open_for_too_long_is_aborted() {
    let node = node();
    let (mut client, door, _stop) = node.serve().await;
    let request = InitProducerIdRequest {
        transactional_id: Some("till"),
        transaction_timeout_ms: 50,
        ..Default::default()
    };
    let answer = client.ask(Api::InitProducerId, 4, &request).await;
    let answer: InitProducerIdResponse = decode_response(Api::InitProducerId, 4, &answer).unwrap();
    let me = (answer.producer_id, answer.producer_epoch);
    client.add(me, &["door"]).await;
    while door.transactions().values().aborted == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(door.transactions().values().expired, 1);
    assert_eq!(
        client.end(me, true).await,
        ErrorCode::ProducerFenced.as_i16()
    );
}

#[tokio::test]
async fn a_batch_of_a_transaction_without_its_id_is_refused() {
    let node = node();
    let (mut client, _door, _stop) = node.serve().await;
    let (_, me) = client.init(Some("till")).await;
    assert_eq!(client.add(me, &["door"]).await, [0]);
    let batch = written((me.0, me.1, 0, true), 2);
    let (code, _) = client.produce(9, &request("door", &batch)).await;
    assert_eq!(code, ErrorCode::TransactionalIdAuthorizationFailed.as_i16());
    assert_eq!(client.write(me, "door", 0).await, (0, 0));
}
