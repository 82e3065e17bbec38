//! Produce over loopback: levels, order, refusals, and duplicates of idempotent producers.

use std::time::Duration;

use ::kafka::Records;
use commitlog::batch::crc32c;
use commitlog::{Ack, BatchBuilder, MemoryDisk};
use tokio::time::Instant;

use super::real_log::Node;
use super::*;
use crate::node::AppendError;

/// Who writes a batch: producer id, epoch, first sequence, and whether in a transaction.
pub(super) type Writer = (i64, i16, i32, bool);

/// A batch with so many records of a producer.
pub(super) fn written(
    (producer_id, epoch, sequence, transactional): Writer,
    records: usize,
) -> Vec<u8> {
    let mut batch = plain(records);
    batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    if transactional {
        batch[22] |= 0x10;
    }
    seal(batch)
}

fn plain(records: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for _ in 0..records {
        builder.push(7, Some(b"key"), Some(b"value"), &[]);
    }
    builder.finish()
}

fn seal(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

pub(super) fn request<'a>(name: &'a str, batch: &'a [u8]) -> ProduceRequest<'a> {
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic {
            name,
            topic_id: fake::topic_id(name),
            partitions: vec![ProducePartition {
                index: 0,
                records: Records::Received(batch),
            }],
        }],
        ..Default::default()
    }
}

/// Error code and base offset of the only partition.
pub(super) fn row(version: i16, answer: &[u8]) -> (i16, i64) {
    let answer: ProduceResponse<'_> = decode_response(Api::Produce, version, answer).unwrap();
    let row = &answer.topics[0].partitions[0];
    assert_eq!(
        row.error_message.is_some() && version >= 8,
        row.error_message.is_some()
    );
    (row.error_code, row.base_offset)
}

impl Client {
    pub(super) async fn produce(
        &mut self,
        version: i16,
        request: &ProduceRequest<'_>,
    ) -> (i16, i64) {
        let answer = self.ask(Api::Produce, version, request).await;
        row(version, &answer)
    }
}

#[tokio::test]
async fn every_version_appends_a_batch_as_it_came() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    let batch = plain(2);
    for (offset, version) in (0..).step_by(2).zip(Api::Produce.versions()) {
        let produced = client.produce(version, &request("door", &batch)).await;
        assert_eq!(produced, (0, offset), "version {version}");
    }
    let fetched = client.fetch(12, &fetch("door", 0)).await;
    assert_eq!(
        fetched.size_bytes,
        batch.len() * Api::Produce.versions().count()
    );
}

#[tokio::test]
async fn pipelined_requests_are_appended_and_answered_in_their_order() {
    let house = House::new().await;
    house.log.create("door", 1);
    house.log.create_flush("safe");
    let mut client = house.client().await;
    let batch = plain(1);
    // More than may be outstanding; the first waits for its flush, and all others for the first.
    client.send(Api::Produce, 9, &request("safe", &batch)).await;
    for _ in 0..20 {
        client.send(Api::Produce, 9, &request("door", &batch)).await;
    }
    let outstanding = || {
        let connections = house.door.connections(0, 9);
        connections.first().map_or(0, |row| row.outstanding)
    };
    while outstanding() < 8 {
        tokio::task::yield_now().await;
    }
    assert_eq!(outstanding(), 8);
    house.log.flush("safe", 0);
    assert_eq!(row(9, &client.receive().await), (0, 0));
    for offset in 0..20 {
        assert_eq!(row(9, &client.receive().await), (0, offset));
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_has_its_own_time_also_behind_others() {
    let house = House::new().await;
    house.log.create_flush("safe");
    let mut client = house.client().await;
    let batch = plain(1);
    let mut hasty = request("safe", &batch);
    hasty.timeout_ms = 1000;
    let start = Instant::now();
    for _ in 0..5 {
        client.send(Api::Produce, 9, &hasty).await;
    }
    for _ in 0..5 {
        let (code, _) = row(9, &client.receive().await);
        assert_eq!(code, ErrorCode::RequestTimedOut.as_i16());
    }
    assert!(start.elapsed() < Duration::from_millis(1500));
}

#[tokio::test]
async fn requests_that_come_together_are_appended_together() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    let batch = plain(1);
    let mut together = Vec::new();
    for _ in 0..5 {
        together.extend(client.next(Api::Produce, 9, &request("door", &batch)));
    }
    // Who asks behind them sees them.
    let list = list_request("door", timestamps::LATEST);
    together.extend(client.next(Api::ListOffsets, 7, &list));
    together.extend(client.next(Api::Produce, 9, &request("door", &batch)));
    client.stream.write_all(&together).await.unwrap();
    for offset in 0..5 {
        assert_eq!(row(9, &client.receive().await), (0, offset));
    }
    assert_eq!(listed(7, &client.receive().await).1, 5);
    assert_eq!(row(9, &client.receive().await), (0, 5));
    assert_eq!(house.log.brought(), [5, 1]);
}

#[tokio::test]
async fn what_stands_before_what_is_no_request_is_appended() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    let batch = plain(1);
    let mut together = client.next(Api::Produce, 9, &request("door", &batch));
    together.extend([0xff; 64]);
    client.stream.write_all(&together).await.unwrap();
    while client.receive_or_end().await.is_some() {}
    let mut other = house.client().await;
    assert_eq!(other.list(7, "door", timestamps::LATEST).await.1, 1);
}

/// Sends so fast, to a topic with one partition, that it is read in large pieces; how many records.
async fn at_full_speed(house: &House, client: &mut Client, batch: &[u8]) -> i64 {
    let mut offset = 0;
    while house.door.counters().values().looks_moderated < 20 {
        let mut together = Vec::new();
        for _ in 0..8 {
            together.extend(client.next(Api::Produce, 9, &request("door", batch)));
        }
        client.stream.write_all(&together).await.unwrap();
        for _ in 0..8 {
            assert_eq!(row(9, &client.receive().await), (0, offset));
            offset += 500;
        }
    }
    offset
}

#[tokio::test(start_paused = true)]
async fn a_producer_at_full_speed_is_read_in_large_pieces_and_still_answered_to_the_last() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    let batch = plain(500);
    let mut offset = at_full_speed(&house, &mut client, &batch).await;
    // What comes is less than is waited for, but not for long.
    let start = Instant::now();
    for _ in 0..100 {
        let produced = client.produce(9, &request("door", &batch)).await;
        assert_eq!(produced, (0, offset));
        offset += 500;
    }
    assert!(start.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_goes_at_full_speed_is_noticed() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    at_full_speed(&house, &mut client, &plain(500)).await;
    drop(client);
    house.until(|values| values.connections, 0).await;
}

#[tokio::test]
async fn who_wants_no_answer_gets_none_and_loses_its_connection_when_that_fails() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    let batch = plain(1);
    let unanswered = |name| ProduceRequest {
        acks: 0,
        ..request(name, &batch)
    };
    client.send(Api::Produce, 9, &unanswered("door")).await;
    // The answer to the next request is the first that comes.
    client.received += 1;
    assert_eq!(client.produce(9, &request("door", &batch)).await, (0, 1));
    client.send(Api::Produce, 9, &unanswered("nowhere")).await;
    assert_eq!(client.receive_or_end().await, None);
}

#[tokio::test]
async fn what_is_refused_of_a_large_request_takes_nothing_of_the_rest_with_it() {
    let house = House::new().await;
    house.log.create("door", 4);
    let mut client = house.client().await;
    let whole: Vec<Vec<u8>> = (1..=4).map(|count| plain(count * 400)).collect();
    let mut sent = whole.clone();
    *sent[1].last_mut().unwrap() ^= 1;
    let rows = sent.iter().zip(0..).map(|(batch, index)| ProducePartition {
        index,
        records: Records::Received(batch),
    });
    let mut request = request("door", &[]);
    request.topics[0].partitions = rows.collect();
    let answer = client.ask(Api::Produce, 9, &request).await;
    let answer: ProduceResponse<'_> = decode_response(Api::Produce, 9, &answer).unwrap();
    let rows = answer.topics[0].partitions.iter();
    let codes: Vec<i16> = rows.map(|row| row.error_code).collect();
    assert_eq!(codes, [0, ErrorCode::CorruptMessage.as_i16(), 0, 0]);
    for (index, batch) in (0..).zip(&whole) {
        let mut fetch = fetch("door", 0);
        fetch.topics[0].partitions[0].partition = index;
        let size_bytes = client.fetch(12, &fetch).await.size_bytes;
        let expected = if index == 1 { 0 } else { batch.len() };
        assert_eq!(size_bytes, expected, "partition {index}");
    }
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_its_own_code() {
    let house = House::new().await;
    house.log.create("door", 1);
    house.log.create_internal("__sluice.own");
    let mut client = house.client().await;
    let good = plain(1);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut control = good.clone();
    control[22] |= 0x20;
    let control = seal(control);
    let two = [good.clone(), good.clone()].concat();
    let mut large = BatchBuilder::new();
    large.push(7, None, Some(&vec![0; 1 << 20]), &[]);
    let large = large.finish();
    let mut future = BatchBuilder::new();
    future.push(i64::MAX / 2, None, Some(b"v"), &[]);
    let future = future.finish();
    let cases: [(&str, &[u8], ErrorCode); 9] = [
        ("nowhere", &good, ErrorCode::UnknownTopicOrPartition),
        ("no such name", &good, ErrorCode::InvalidTopic),
        ("__sluice.own", &good, ErrorCode::InvalidTopic),
        ("door", &damaged, ErrorCode::CorruptMessage),
        ("door", &control, ErrorCode::InvalidRecord),
        ("door", &two, ErrorCode::InvalidRecord),
        ("door", &[], ErrorCode::InvalidRecord),
        ("door", &large, ErrorCode::MessageTooLarge),
        ("door", &future, ErrorCode::InvalidTimestamp),
    ];
    let house_large = House::with(|settings| settings.request_bytes_max = 4 << 20).await;
    house_large.log.create("door", 1);
    for (name, batch, code) in cases {
        if batch.len() > 1 << 20 {
            let mut client = house_large.client().await;
            client.produce(9, &request("door", &good)).await;
            let produced = client.produce(9, &request(name, batch)).await;
            assert_eq!(produced, (code.as_i16(), -1));
            continue;
        }
        let produced = client.produce(9, &request(name, batch)).await;
        assert_eq!(produced, (code.as_i16(), -1), "{name} {code}");
    }
    let strange = ProduceRequest {
        acks: 2,
        ..request("door", &good)
    };
    let code = ErrorCode::InvalidRequiredAcks.as_i16();
    assert_eq!(client.produce(9, &strange).await, (code, -1));
    for (error, code) in [
        (AppendError::Full, ErrorCode::StorageError),
        (AppendError::Latched, ErrorCode::StorageError),
        (AppendError::Stopping, ErrorCode::NotLeaderOrFollower),
    ] {
        house.log.refuse(error);
        let produced = client.produce(9, &request("door", &good)).await;
        assert_eq!(produced, (code.as_i16(), -1));
    }
}

#[tokio::test]
async fn a_flush_that_does_not_come_in_time_is_told() {
    let house = House::new().await;
    house.log.create_flush("safe");
    let mut client = house.client().await;
    let batch = plain(1);
    let hasty = ProduceRequest {
        timeout_ms: 10,
        ..request("safe", &batch)
    };
    let code = ErrorCode::RequestTimedOut.as_i16();
    assert_eq!(client.produce(9, &hasty).await, (code, -1));
}

#[tokio::test]
async fn who_asks_for_all_replicas_waits_for_the_cluster_behind() {
    let mut node = Node::new(MemoryDisk::new());
    node.flushes_itself = true;
    node.create("far", Ack::Kafka);
    let (mut client, _door, _stop) = node.serve().await;
    let batch = plain(2);
    let all = request("far", &batch);
    let leader = ProduceRequest {
        acks: 1,
        ..request("far", &batch)
    };
    assert_eq!(client.produce(9, &leader).await, (0, 0));
    let hasty = ProduceRequest {
        timeout_ms: 10,
        ..request("far", &batch)
    };
    let late = ErrorCode::RequestTimedOut.as_i16();
    assert_eq!(client.produce(9, &hasty).await, (late, -1));
    let reader = node.log.lock().unwrap().reader();
    let partition = reader.stream("far").unwrap().partitions[0];
    client.send(Api::Produce, 9, &all).await;
    // Half of the batch, then all of it.
    for end in [5, 6] {
        let until = async {
            while reader.watermarks(partition).unwrap().flushed < 6 {
                tokio::task::yield_now().await;
            }
        };
        until.await;
        reader.set_mirrored(partition, end);
        node.appended_more();
    }
    let answer = client.receive().await;
    assert_eq!(row(9, &answer), (0, 4));
}

#[tokio::test]
async fn an_idempotent_producer_may_repeat_itself_also_after_a_crash() {
    let mut node = Node::new(MemoryDisk::new());
    node.create("door", Ack::Append);
    let (mut client, _door, _stop) = node.serve().await;
    for (sequence, expected) in [
        (0, (0, 0)),
        (2, (0, 2)),
        (0, (0, 0)),
        (2, (0, 2)),
        (9, (ErrorCode::OutOfOrderSequenceNumber.as_i16(), -1)),
        (4, (0, 4)),
    ] {
        let batch = written((5, 0, sequence, false), 2);
        let produced = client.produce(9, &request("door", &batch)).await;
        assert_eq!(produced, expected, "sequence {sequence}");
    }
    node.flush();
    let disk = node.disk.clone();
    drop((client, node));
    disk.crash(true);
    let node = Node::new(disk);
    let (mut client, _door, _stop) = node.serve().await;
    let batch = written((5, 0, 4, false), 2);
    assert_eq!(client.produce(9, &request("door", &batch)).await, (0, 4));
    let fenced = written((5, 1, 0, false), 2);
    assert_eq!(client.produce(9, &request("door", &fenced)).await, (0, 6));
    let batch = written((5, 0, 6, false), 2);
    let code = ErrorCode::InvalidProducerEpoch.as_i16();
    assert_eq!(
        client.produce(9, &request("door", &batch)).await,
        (code, -1)
    );
}
