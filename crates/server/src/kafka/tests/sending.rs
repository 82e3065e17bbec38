//! Fetch from real files: batches that are sent from where they lie, also to who takes them slowly
//! while their file goes.

use std::time::Duration;

use commitlog::Ack;
use tokio::net::TcpSocket;

use super::real_log::Node;
use super::*;

/// A node whose stream `door` has so many batches of about `batch_bytes` in each of its two
/// partitions, as they lie there.
fn filled(
    folder: &std::path::Path,
    ack: Ack,
    count: i64,
    batch_bytes: usize,
    segment_bytes: u64,
) -> (Node, [Vec<Vec<u8>>; 2]) {
    let mut node = Node::on_files(folder);
    node.create_with("door", ack, |settings| {
        settings.segment_bytes = segment_bytes;
    });
    let mut stored = [Vec::new(), Vec::new()];
    for time in 0..count {
        for (index, stored) in stored.iter_mut().enumerate() {
            stored.push(node.append_to("door", index, time, batch_bytes / 10));
        }
    }
    (node, stored)
}

fn both(offsets: [i64; 2], partition_max_bytes: i32) -> FetchRequest<'static> {
    let mut request = fetch("door", offsets[0]);
    request.topics[0].partitions[0].partition_max_bytes = partition_max_bytes;
    let mut second = request.topics[0].partitions[0].clone();
    (second.partition, second.fetch_offset) = (1, offsets[1]);
    request.topics[0].partitions.push(second);
    request
}

/// The records of both partitions.
async fn rows(client: &mut Client, version: i16, request: &FetchRequest<'_>) -> [Vec<u8>; 2] {
    let answer = client.ask(Api::Fetch, version, request).await;
    let answer: FetchResponse<'_> = decode_response(Api::Fetch, version, &answer).unwrap();
    let rows = &answer.topics[0].partitions;
    [0, 1].map(|at: usize| {
        assert_eq!(
            (rows[at].error_code, rows[at].partition_index),
            (0, at as i32)
        );
        rows[at].records.received().to_vec()
    })
}

#[tokio::test]
async fn batches_are_sent_from_their_files_as_they_lie_there() {
    let folder = tempfile::tempdir().unwrap();
    let (node, stored) = filled(folder.path(), Ack::Append, 60, 1200, 16 << 10);
    let one = stored[0][0].len();
    let (mut client, door, _stop) = node.serve().await;
    for version in Api::Fetch.versions() {
        for committed in [0, 1] {
            for (first, offset) in [(0, 0), (0, 9), (7, 75), (33, 330), (59, 590)] {
                let mut request = both([offset, 0], 1 << 20);
                request.isolation_level = committed;
                let [found, other] = rows(&mut client, version, &request).await;
                // Up to the end of the segment.
                assert!(stored[0][first..].concat().starts_with(&found));
                assert!(found.len() % one == 0 && found.len() >= one && found.len() <= 16 << 10);
                assert!(stored[1].concat().starts_with(&other) && other.len() > 8 * one);
            }
        }
    }
    for (max_bytes, count) in [(1, 1), (3 * one - 1, 2), (3 * one, 3)] {
        let [found, other] = rows(&mut client, 12, &both([0, 10], max_bytes as i32)).await;
        assert_eq!(found, stored[0][..count].concat());
        // Only the first of an answer may be larger than it was asked for.
        let count = if max_bytes == 1 { 0 } else { count };
        assert_eq!(other, stored[1][1..][..count].concat());
    }
    let mut request = both([0, 0], 1 << 20);
    request.max_bytes = 5 * one as i32;
    assert_eq!(
        rows(&mut client, 12, &request).await,
        [stored[0][..5].concat(), Vec::new()]
    );
    assert_eq!(
        rows(&mut client, 12, &both([600, 600], 1000)).await,
        [[0; 0], [0; 0]]
    );
    // It took no memory, and needs none.
    let memory = door.fetch_memory.clone();
    let all = memory.available_permits() as u32;
    assert_eq!(all, crate::kafka::limits::FETCH_MEMORY_KIB_MAX);
    let _held = memory.acquire_many_owned(all).await.unwrap();
    assert_eq!(
        rows(&mut client, 12, &both([0, 0], 1)).await[0],
        stored[0][0]
    );
}

#[tokio::test]
async fn what_is_sent_from_a_file_is_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let (node, stored) = filled(folder.path(), Ack::Append, 2, 1200, 1 << 20);
    let streams = std::fs::read_dir(folder.path().join("streams")).unwrap();
    let mut logs: Vec<_> = streams
        .map(|entry| entry.unwrap().path().join("00000000000000000000.log"))
        .collect();
    logs.sort();
    let mut bytes = std::fs::read(&logs[0]).unwrap();
    assert_eq!(bytes, stored[0].concat());
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&logs[0], &bytes).unwrap();
    let (mut client, _door, _stop) = node.serve().await;
    assert_eq!(
        rows(&mut client, 12, &both([0, 0], 1 << 20)).await[0],
        bytes
    );
}

#[tokio::test]
async fn a_file_is_sent_as_far_as_its_stream_is_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut node, stored) = filled(folder.path(), Ack::Flush, 20, 1200, 1 << 20);
    node.flush();
    node.append("door", 99);
    let (mut client, _door, _stop) = node.serve().await;
    for offset in [0, 105, 195] {
        let [found, _] = rows(&mut client, 12, &both([offset, 0], 1 << 20)).await;
        assert_eq!(found, stored[0][offset as usize / 10..].concat());
    }
    assert_eq!(rows(&mut client, 12, &both([200, 0], 1)).await[0], [0; 0]);
}

/// A connection that takes little at once.
async fn narrow(client: &Client) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let address = client.stream.peer_addr().unwrap();
    Client {
        stream: socket.connect(address).await.unwrap(),
        sent: 0,
        received: 0,
    }
}

#[tokio::test]
async fn a_file_that_goes_while_it_is_sent_is_sent_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (node, stored) = filled(folder.path(), Ack::Append, 24, 400_000, 64 << 20);
    let (client, door, _stop) = node.serve().await;
    let mut client = narrow(&client).await;
    client.send(Api::Fetch, 12, &both([0, 0], 8 << 20)).await;
    // Until the network takes no more.
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let sent = door.counters().values().bytes_out;
        if sent > 0 && sent == before {
            break;
        }
        before = sent;
    }
    assert!(before < 8 << 20, "{before} bytes went out");
    std::fs::remove_dir_all(folder.path().join("streams")).unwrap();
    let answer = client.receive().await;
    let answer: FetchResponse<'_> = decode_response(Api::Fetch, 12, &answer).unwrap();
    for (row, stored) in answer.topics[0].partitions.iter().zip(&stored) {
        let found = row.records.received();
        assert!(found.len() > 7 << 20 && stored.concat().starts_with(found));
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_file_too_slowly_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (node, _) = filled(folder.path(), Ack::Append, 24, 400_000, 64 << 20);
    let (client, door, _stop) = node.serve().await;
    let mut client = narrow(&client).await;
    client.send(Api::Fetch, 12, &both([0, 0], 8 << 20)).await;
    let (mut taken, mut part) = (0, vec![0; 64 * 1024]);
    while let Ok(read @ 1..) = client.stream.read(&mut part).await {
        taken += read;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(taken < 15 << 20, "{taken} bytes");
    while door.counters().values().timed_out == 0 {
        tokio::task::yield_now().await;
    }
}
