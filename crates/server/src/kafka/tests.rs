//! The front door over loopback, before a log in memory, spoken to by the client direction of the
//! crate `kafka`. Clients that others wrote are in the whole-program tests.

mod fake;
mod real_log;

use std::net::SocketAddr;
use std::sync::Arc;

use ::kafka::api::{
    Api, ApiVersionsRequest, ApiVersionsResponse, FetchPartition, FetchPartitionResponse,
    FetchRequest, FetchResponse, FetchTopic, LeaderEpochPartition, LeaderEpochTopic,
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
    MetadataRequest, MetadataRequestTopic, MetadataResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic,
    timestamps,
};
use ::kafka::{ErrorCode, Wire, decode_response, encode_request, frame, response_correlation_id};
use commitlog::batch::batches;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::FrontDoor;
use crate::settings::{HostPort, KafkaSettings};
pub(crate) use fake::FakeLog;

/// Settings that no test reaches the bounds of, where it does not change them.
pub(crate) fn settings() -> KafkaSettings {
    KafkaSettings {
        advertised: None,
        connections_max: 10,
        request_bytes_max: 1 << 20,
        fetch_bytes_max: 50 << 20,
        fetch_wait_ms_max: 60_000,
        idle_ms_max: 600_000,
    }
}

/// A front door that serves on loopback until it goes.
struct House {
    log: Arc<FakeLog>,
    door: Arc<FrontDoor>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl House {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut KafkaSettings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let log = Arc::new(FakeLog::new());
        let door = FrontDoor::new(log.clone(), &settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(door.clone().serve(listener, stopped));
        Self {
            log,
            door,
            address,
            stop,
        }
    }

    async fn client(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.address).await.unwrap(),
            sent: 0,
            received: 0,
        }
    }

    /// Returns once the figure has the value.
    async fn until(&self, figure: impl Fn(&super::KafkaValues) -> u64, value: u64) {
        while figure(&self.door.counters().values()) != value {
            tokio::task::yield_now().await;
        }
    }
}

struct Client {
    stream: TcpStream,
    sent: i32,
    received: i32,
}

impl Client {
    async fn send<'a>(&mut self, api: Api, version: i16, body: &impl Wire<'a>) {
        let request = encode_request(api, version, self.sent, "test", body).to_vec();
        self.sent += 1;
        self.stream.write_all(&request).await.unwrap();
    }

    /// The next answer, which must be that to the oldest request without one.
    async fn receive(&mut self) -> Vec<u8> {
        let answer = self.receive_or_end().await.expect("an answer");
        assert_eq!(response_correlation_id(&answer), Ok(self.received));
        self.received += 1;
        answer
    }

    /// The next answer, or none where the server has closed.
    async fn receive_or_end(&mut self) -> Option<Vec<u8>> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).await.ok()?;
        let mut answer = vec![0; i32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut answer).await.unwrap();
        Some(answer)
    }

    async fn ask<'a>(&mut self, api: Api, version: i16, body: &impl Wire<'a>) -> Vec<u8> {
        self.send(api, version, body).await;
        self.receive().await
    }

    async fn fetch(&mut self, version: i16, request: &FetchRequest<'_>) -> Fetched {
        let answer = self.ask(Api::Fetch, version, request).await;
        Fetched::new(version, &answer)
    }

    async fn list(&mut self, version: i16, name: &str, timestamp: i64) -> (i16, i64, i64) {
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name,
                partitions: vec![ListOffsetsPartition {
                    timestamp,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let answer = self.ask(Api::ListOffsets, version, &request).await;
        let answer: ListOffsetsResponse<'_> =
            decode_response(Api::ListOffsets, version, &answer).unwrap();
        let row = &answer.topics[0].partitions[0];
        (row.error_code, row.offset, row.timestamp)
    }
}

/// What the only partition of a fetch had.
#[derive(Debug, PartialEq)]
struct Fetched {
    error: i16,
    high_watermark: i64,
    offsets: Vec<u64>,
    size_bytes: usize,
    diverged: Option<(i32, i64)>,
}

impl Fetched {
    fn new(version: i16, answer: &[u8]) -> Self {
        let answer: FetchResponse<'_> = decode_response(Api::Fetch, version, answer).unwrap();
        assert_eq!((answer.error_code, answer.session_id), (0, 0));
        let row: &FetchPartitionResponse<'_> = &answer.topics[0].partitions[0];
        let offsets = batches(row.records.received())
            .flat_map(|batch| {
                let batch = batch.unwrap();
                batch.verify_crc().unwrap();
                batch
                    .records()
                    .map(|record| record.unwrap().offset)
                    .collect::<Vec<_>>()
            })
            .collect();
        Self {
            error: row.error_code,
            high_watermark: row.high_watermark,
            offsets,
            size_bytes: row.records.size_bytes(),
            diverged: row
                .diverging_epoch
                .as_ref()
                .map(|end| (end.epoch, end.end_offset)),
        }
    }
}

/// A request for one partition that does not wait.
fn fetch(topic: &str, fetch_offset: i64) -> FetchRequest<'_> {
    FetchRequest {
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic,
            topic_id: fake::topic_id(topic),
            partitions: vec![FetchPartition {
                fetch_offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

/// As [`fetch`], waiting for as long as the server lets it.
fn long_poll(topic: &str, fetch_offset: i64) -> FetchRequest<'_> {
    FetchRequest {
        max_wait_ms: i32::MAX,
        ..fetch(topic, fetch_offset)
    }
}

fn named(name: &str) -> MetadataRequestTopic<'_> {
    MetadataRequestTopic {
        name: Some(name),
        ..Default::default()
    }
}

#[tokio::test]
async fn every_version_of_api_versions_lists_the_same() {
    let house = House::new().await;
    let mut client = house.client().await;
    for version in Api::ApiVersions.versions() {
        let answer = client
            .ask(Api::ApiVersions, version, &ApiVersionsRequest::default())
            .await;
        let answer: ApiVersionsResponse =
            decode_response(Api::ApiVersions, version, &answer).unwrap();
        let listed: Vec<_> = answer
            .api_keys
            .iter()
            .map(|row| (row.api_key, row.min_version, row.max_version))
            .collect();
        assert_eq!(
            listed,
            [
                (0, 0, 11),
                (1, 4, 18),
                (2, 1, 11),
                (3, 0, 13),
                (18, 0, 4),
                (23, 2, 4)
            ]
        );
    }
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let house = House::new().await;
    let mut client = house.client().await;
    let answer = client
        .ask(Api::ApiVersions, 99, &ApiVersionsRequest::default())
        .await;
    let answer: ApiVersionsResponse = decode_response(Api::ApiVersions, 0, &answer).unwrap();
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.as_i16());
    assert_eq!(
        (answer.api_keys[0].api_key, answer.api_keys[0].max_version),
        (18, 4)
    );
    // The connection goes on, as the client will ask again.
    client
        .ask(Api::ApiVersions, 4, &ApiVersionsRequest::default())
        .await;
}

#[tokio::test]
async fn what_is_not_served_and_what_is_no_request_closes_the_connection() {
    let house = House::new().await;
    let requests: [(&[u8], bool); 6] = [
        // Produce in version 2, and Fetch in version 3.
        (&[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0], true),
        (&[0, 0, 0, 10, 0, 1, 0, 3, 0, 0, 0, 1, 0, 0], true),
        // A size that is negative, one too large for a first request, and a cut header.
        (&[0xff, 0xff, 0xff, 0xff], false),
        (&[0, 1, 0, 1], false),
        (&[0, 0, 0, 2, 0, 3], false),
        // Metadata of 2^31 - 1 topics.
        (
            &[
                0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff,
            ],
            false,
        ),
    ];
    for (request, known) in requests {
        let mut client = house.client().await;
        client.stream.write_all(request).await.unwrap();
        assert_eq!(client.receive_or_end().await, None, "{request:?}");
        assert_eq!(known, house.door.counters().values().malformed == 0);
    }
    house.until(|values| values.unsupported, 2).await;
    house.until(|values| values.malformed, 4).await;
}

#[tokio::test]
async fn metadata_shows_all_streams_but_the_nodes_own() {
    let house = House::new().await;
    house.log.create("message_state", 4);
    house.log.create("door", 1);
    house.log.create_internal("__sluice.sessions");
    let mut client = house.client().await;
    for version in Api::Metadata.versions() {
        let topics = if version == 0 { Some(Vec::new()) } else { None };
        let request = MetadataRequest {
            topics,
            ..Default::default()
        };
        let answer = client.ask(Api::Metadata, version, &request).await;
        let answer: MetadataResponse<'_> =
            decode_response(Api::Metadata, version, &answer).unwrap();
        let broker = &answer.brokers[0];
        assert_eq!(
            (broker.node_id, broker.host, broker.port),
            (1, "127.0.0.1", i32::from(house.address.port()))
        );
        let topics: Vec<_> = answer
            .topics
            .iter()
            .map(|topic| (topic.name, topic.partitions.len()))
            .collect();
        assert_eq!(topics, [(Some("door"), 1), (Some("message_state"), 4)]);
        let partition = &answer.topics[1].partitions[3];
        assert_eq!((partition.partition_index, partition.leader_id), (3, 1));
        if version >= 7 {
            assert_eq!(partition.leader_epoch, 5);
        }
        if version >= 10 {
            assert_eq!(answer.topics[1].topic_id, fake::topic_id("message_state"));
        }
        if version >= 1 {
            assert_eq!(answer.controller_id, 1);
        }
        if version >= 2 {
            assert_eq!(answer.cluster_id, Some(fake::CLUSTER_ID));
        }
    }
}

#[tokio::test]
async fn metadata_tells_what_is_wrong_with_a_topic() {
    let house = House::with(|settings| {
        settings.advertised = Some(HostPort {
            host: "sluice.example".into(),
            port: 19_092,
        });
    })
    .await;
    house.log.create("door", 1);
    house.log.create_internal("__sluice.sessions");
    let mut client = house.client().await;
    let by_id = |name| MetadataRequestTopic {
        topic_id: fake::topic_id(name),
        name: None,
    };
    let request = MetadataRequest {
        topics: Some(vec![
            named("door"),
            named("window"),
            named("__sluice.sessions"),
            named("no topic"),
            by_id("door"),
            by_id("window"),
            by_id("__sluice.sessions"),
        ]),
        include_topic_authorized_operations: true,
        ..Default::default()
    };
    let answer = client.ask(Api::Metadata, 12, &request).await;
    let answer: MetadataResponse<'_> = decode_response(Api::Metadata, 12, &answer).unwrap();
    assert_eq!(
        (answer.brokers[0].host, answer.brokers[0].port),
        ("sluice.example", 19_092)
    );
    let topics: Vec<_> = answer
        .topics
        .iter()
        .map(|topic| (topic.name, topic.error_code))
        .collect();
    assert_eq!(
        topics,
        [
            (Some("door"), 0),
            (Some("window"), 3),
            (Some("__sluice.sessions"), 3),
            (Some("no topic"), 17),
            (Some("door"), 0),
            (None, 100),
            (None, 100),
        ]
    );
    assert!(answer.topics[0].topic_authorized_operations > 0);

    let nothing = MetadataRequest {
        topics: Some(Vec::new()),
        ..Default::default()
    };
    let answer = client.ask(Api::Metadata, 12, &nothing).await;
    let answer: MetadataResponse<'_> = decode_response(Api::Metadata, 12, &answer).unwrap();
    assert_eq!(answer.topics, []);
}

#[tokio::test]
async fn offsets_are_found_by_end_and_by_time() {
    let house = House::new().await;
    house.log.create("door", 1);
    house.log.create("empty", 1);
    house.log.append("door", 0, &[1000, 2000]);
    house.log.append("door", 0, &[4000, 3000]);
    house.log.set_log_start("door", 0, 1);
    let mut client = house.client().await;
    for version in Api::ListOffsets.versions() {
        assert_eq!(
            client.list(version, "door", timestamps::LATEST).await,
            (0, 4, -1)
        );
        assert_eq!(
            client.list(version, "door", timestamps::EARLIEST).await,
            (0, 1, -1)
        );
        assert_eq!(client.list(version, "door", 2001).await, (0, 2, 4000));
        assert_eq!(client.list(version, "door", 5000).await, (0, -1, -1));
        assert_eq!(client.list(version, "empty", 0).await, (0, -1, -1));
        assert_eq!(
            client.list(version, "window", timestamps::LATEST).await.0,
            3
        );
        let newest = client
            .list(version, "door", timestamps::MAX_TIMESTAMP)
            .await;
        assert_eq!(
            newest,
            if version < 7 {
                (35, -1, -1)
            } else {
                (0, 2, 4000)
            }
        );
        let local = client
            .list(version, "door", timestamps::EARLIEST_LOCAL)
            .await;
        assert_eq!(
            local,
            if version < 8 {
                (35, -1, -1)
            } else {
                (0, 1, -1)
            }
        );
        let tiered = client
            .list(version, "door", timestamps::LATEST_TIERED)
            .await;
        assert_eq!(
            tiered,
            if version < 9 {
                (35, -1, -1)
            } else {
                (0, -1, -1)
            }
        );
    }
}

#[tokio::test]
async fn every_version_of_fetch_returns_the_batch_that_contains_the_offset() {
    let house = House::new().await;
    house.log.create("door", 1);
    house.log.append("door", 0, &[1, 1, 1]);
    house.log.append("door", 0, &[2, 2]);
    let mut client = house.client().await;
    for version in Api::Fetch.versions() {
        for in_tail in [true, false] {
            house.log.keep_in_tail(in_tail);
            let fetched = client.fetch(version, &fetch("door", 1)).await;
            assert_eq!((fetched.error, fetched.high_watermark), (0, 5));
            assert_eq!(fetched.offsets, [0, 1, 2, 3, 4]);
            assert_eq!(
                client.fetch(version, &fetch("door", 3)).await.offsets,
                [3, 4]
            );
            assert_eq!(
                client.fetch(version, &fetch("door", 5)).await.offsets,
                [0; 0]
            );
        }
    }
}

#[tokio::test]
async fn a_fetch_tells_what_is_wrong_with_a_partition() {
    let house = House::new().await;
    house.log.create("door", 1);
    house.log.create_internal("__sluice.sessions");
    house.log.append("door", 0, &[1, 1, 1]);
    house.log.set_log_start("door", 0, 1);
    let mut client = house.client().await;
    // However long they would wait, errors are told at once.
    for (offset, error) in [(-1, 1), (0, 1), (1, 0), (4, 1)] {
        assert_eq!(
            client.fetch(12, &long_poll("door", offset)).await.error,
            error,
            "{offset}"
        );
    }
    for name in ["window", "__sluice.sessions"] {
        assert_eq!(client.fetch(12, &long_poll(name, 0)).await.error, 3);
        assert_eq!(client.fetch(13, &long_poll(name, 0)).await.error, 100);
    }
    let mut request = long_poll("door", 3);
    request.topics[0].partitions[0].partition = 1;
    assert_eq!(client.fetch(12, &request).await.error, 3);
    for (epoch, error) in [(4, 74), (6, 75)] {
        let mut request = long_poll("door", 3);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(client.fetch(12, &request).await.error, error);
    }
    house.log.keep_in_tail(false);
    house.log.fail_reads();
    assert_eq!(client.fetch(12, &long_poll("door", 1)).await.error, 56);
    let errors: u64 = house
        .door
        .counters()
        .values()
        .apis
        .iter()
        .map(|api| api.errors)
        .sum();
    assert_eq!(errors, 11);
}

#[tokio::test]
async fn the_first_batch_is_whole_and_the_rest_is_bounded() {
    let house = House::new().await;
    house.log.create("door", 2);
    let one = house.log.append("door", 0, &[1; 100]);
    house.log.append("door", 0, &[1; 100]);
    house.log.append("door", 1, &[1; 100]);
    let mut client = house.client().await;
    for in_tail in [true, false] {
        house.log.keep_in_tail(in_tail);
        let mut request = fetch("door", 0);
        request.topics[0].partitions[0].partition_max_bytes = 1;
        assert_eq!(client.fetch(12, &request).await.size_bytes, one);
        request.topics[0].partitions[0].partition_max_bytes = one as i32 * 2 - 1;
        assert_eq!(client.fetch(12, &request).await.size_bytes, one);
        request.topics[0].partitions[0].partition_max_bytes = one as i32 * 2;
        assert_eq!(client.fetch(12, &request).await.size_bytes, one * 2);

        // A second partition gets only what the first has left.
        let mut other = request.topics[0].partitions[0].clone();
        other.partition = 1;
        request.topics[0].partitions.push(other);
        for (max_bytes, sizes) in [
            (1, [one, 0]),
            (one * 3 - 1, [one * 2, 0]),
            (one * 3, [one * 2, one]),
        ] {
            request.max_bytes = max_bytes as i32;
            let answer = client.ask(Api::Fetch, 12, &request).await;
            let answer: FetchResponse<'_> = decode_response(Api::Fetch, 12, &answer).unwrap();
            let rows = &answer.topics[0].partitions;
            assert_eq!(
                [rows[0].records.size_bytes(), rows[1].records.size_bytes()],
                sizes
            );
        }
    }
    assert_eq!(
        house.door.fetch_memory.available_permits(),
        super::limits::FETCH_MEMORY_KIB_MAX as usize
    );
}

#[tokio::test]
async fn a_fetch_waits_until_a_commit_wakes_it() {
    let house = House::new().await;
    house.log.create("door", 2);
    house.log.create("other", 1);
    let mut client = house.client().await;
    client.send(Api::Fetch, 12, &long_poll("door", 0)).await;
    house.until(|values| values.fetches_parked, 1).await;
    // Neither another stream nor another partition of this one is a reason to answer.
    house.log.append("other", 0, &[1]);
    house.log.append("door", 1, &[1]);
    house.log.append("door", 0, &[1, 1]);
    let fetched = Fetched::new(12, &client.receive().await);
    assert_eq!(fetched.offsets, [0, 1]);
    house.until(|values| values.fetches_parked, 0).await;
}

#[tokio::test]
async fn a_fetch_waits_for_as_many_bytes_as_it_asks_for() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    let one = house.log.append("door", 0, &[1]);
    let request = FetchRequest {
        min_bytes: one as i32 * 3,
        ..long_poll("door", 0)
    };
    client.send(Api::Fetch, 12, &request).await;
    house.until(|values| values.fetches_parked, 1).await;
    house.log.append("door", 0, &[1]);
    house.log.append("door", 0, &[1]);
    assert_eq!(Fetched::new(12, &client.receive().await).offsets, [0, 1, 2]);
}

#[tokio::test]
async fn a_fetch_is_answered_when_its_time_is_over() {
    let house = House::with(|settings| settings.fetch_wait_ms_max = 20).await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    // The client's own time, and the server's bound on it.
    let request = FetchRequest {
        max_wait_ms: 10,
        ..long_poll("door", 0)
    };
    assert_eq!(client.fetch(12, &request).await.offsets, [0; 0]);
    assert_eq!(
        client.fetch(12, &long_poll("door", 0)).await.offsets,
        [0; 0]
    );
    // A fetch of nothing has nothing to wait for.
    let request = FetchRequest {
        topics: Vec::new(),
        ..long_poll("door", 0)
    };
    client.ask(Api::Fetch, 12, &request).await;
}

#[tokio::test]
async fn readers_of_a_flush_stream_see_what_is_flushed() {
    let house = House::new().await;
    house.log.create_flush("door");
    house.log.append("door", 0, &[1, 1]);
    house.log.flush("door", 0);
    house.log.append("door", 0, &[2, 2]);
    let mut client = house.client().await;
    for in_tail in [true, false] {
        house.log.keep_in_tail(in_tail);
        let fetched = client.fetch(12, &fetch("door", 0)).await;
        assert_eq!((fetched.offsets, fetched.high_watermark), (vec![0, 1], 2));
        assert_eq!(client.list(5, "door", timestamps::LATEST).await.1, 2);
        assert_eq!(client.list(5, "door", 2).await.1, -1);
        // An offset that is appended but not shown yet is nevertheless in range.
        let fetched = client.fetch(12, &fetch("door", 3)).await;
        assert_eq!((fetched.error, fetched.offsets), (0, vec![]));
    }
    client.send(Api::Fetch, 12, &long_poll("door", 2)).await;
    house.until(|values| values.fetches_parked, 1).await;
    house.log.flush("door", 0);
    assert_eq!(Fetched::new(12, &client.receive().await).offsets, [2, 3]);
}

#[tokio::test]
async fn answers_leave_in_the_order_of_their_requests() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    client.send(Api::Fetch, 12, &long_poll("door", 0)).await;
    client
        .send(Api::Metadata, 12, &MetadataRequest::default())
        .await;
    client
        .send(Api::ApiVersions, 4, &ApiVersionsRequest::default())
        .await;
    client.send(Api::Fetch, 12, &long_poll("door", 0)).await;
    house.until(|values| values.fetches_parked, 1).await;
    house.log.append("door", 0, &[1]);
    assert_eq!(Fetched::new(12, &client.receive().await).offsets, [0]);
    let metadata = client.receive().await;
    decode_response::<MetadataResponse<'_>>(Api::Metadata, 12, &metadata).unwrap();
    let versions = client.receive().await;
    decode_response::<ApiVersionsResponse>(Api::ApiVersions, 4, &versions).unwrap();
    assert_eq!(Fetched::new(12, &client.receive().await).offsets, [0]);
}

#[tokio::test]
async fn a_client_that_goes_while_it_waits_leaves_nothing_behind() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    client.send(Api::Fetch, 12, &long_poll("door", 0)).await;
    house.until(|values| values.fetches_parked, 1).await;
    drop(client);
    house.until(|values| values.fetches_parked, 0).await;
    house.until(|values| values.connections, 0).await;
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_at_once() {
    let house = House::with(|settings| settings.connections_max = 1).await;
    let mut first = house.client().await;
    first
        .ask(Api::ApiVersions, 4, &ApiVersionsRequest::default())
        .await;
    let mut second = house.client().await;
    assert_eq!(second.receive_or_end().await, None);
    house.until(|values| values.connections_refused, 1).await;
    first
        .ask(Api::ApiVersions, 4, &ApiVersionsRequest::default())
        .await;
    drop(first);
    house.until(|values| values.connections, 0).await;
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let house = House::with(|settings| settings.idle_ms_max = 10).await;
    let mut client = house.client().await;
    assert_eq!(client.receive_or_end().await, None);
    house.until(|values| values.timed_out, 1).await;
}

#[tokio::test]
async fn a_stop_closes_all_connections() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut waiting = house.client().await;
    waiting.send(Api::Fetch, 12, &long_poll("door", 0)).await;
    house.until(|values| values.fetches_parked, 1).await;
    let mut idle = house.client().await;
    idle.ask(Api::ApiVersions, 4, &ApiVersionsRequest::default())
        .await;
    house.stop.send(true).unwrap();
    assert_eq!(waiting.receive_or_end().await, None);
    assert_eq!(idle.receive_or_end().await, None);
    house.until(|values| values.connections, 0).await;
}

#[tokio::test]
async fn a_fetch_session_that_was_never_opened_is_refused() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    let request = FetchRequest {
        session_id: 7,
        session_epoch: 1,
        ..long_poll("door", 0)
    };
    let answer = client.ask(Api::Fetch, 12, &request).await;
    let answer: FetchResponse<'_> = decode_response(Api::Fetch, 12, &answer).unwrap();
    assert_eq!(
        answer.error_code,
        ErrorCode::FetchSessionIdNotFound.as_i16()
    );
}

#[tokio::test]
async fn a_client_finds_out_that_the_log_was_cut() {
    let house = House::new().await;
    house.log.create("door", 1);
    house.log.append("door", 0, &[1, 1, 1]);
    // Epoch 4 ended at offset 2: a crash took what a client may have read behind it.
    house.log.end_epoch("door", 0, 4, 2);
    let mut client = house.client().await;
    let mut ask = async |version, leader_epoch| {
        let request = OffsetForLeaderEpochRequest {
            topics: vec![LeaderEpochTopic {
                topic: "door",
                partitions: vec![LeaderEpochPartition {
                    leader_epoch,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let answer = client
            .ask(Api::OffsetForLeaderEpoch, version, &request)
            .await;
        let answer: OffsetForLeaderEpochResponse<'_> =
            decode_response(Api::OffsetForLeaderEpoch, version, &answer).unwrap();
        let row = &answer.topics[0].partitions[0];
        (row.error_code, row.leader_epoch, row.end_offset)
    };
    for version in Api::OffsetForLeaderEpoch.versions() {
        assert_eq!(ask(version, 5).await, (0, 5, 3));
        assert_eq!(ask(version, 4).await, (0, 4, 2));
        assert_eq!(ask(version, 3).await, (0, -1, -1));
        assert_eq!(ask(version, 6).await, (0, -1, -1));
    }
    let mut client = house.client().await;
    let mut request = long_poll("door", 3);
    request.topics[0].partitions[0].last_fetched_epoch = 4;
    let fetched = client.fetch(12, &request).await;
    assert_eq!(
        (fetched.error, fetched.offsets, fetched.diverged),
        (0, vec![], Some((4, 2)))
    );
    request.topics[0].partitions[0].fetch_offset = 2;
    assert_eq!(client.fetch(12, &request).await.offsets, [0, 1, 2]);
}

#[tokio::test]
async fn nothing_is_taken_from_a_producer() {
    let house = House::new().await;
    house.log.create("door", 1);
    let request = |acks| ProduceRequest {
        acks,
        topics: vec![ProduceTopic {
            name: "door",
            partitions: vec![ProducePartition::default()],
        }],
        ..Default::default()
    };
    let mut client = house.client().await;
    for version in Api::Produce.versions() {
        let answer = client.ask(Api::Produce, version, &request(-1)).await;
        let answer: ProduceResponse<'_> = decode_response(Api::Produce, version, &answer).unwrap();
        let row = &answer.topics[0].partitions[0];
        assert_eq!((row.error_code, row.base_offset), (29, -1));
        assert_eq!(row.error_message.is_some(), version >= 8);
    }
    client.send(Api::Produce, 9, &request(0)).await;
    assert_eq!(client.receive_or_end().await, None);
}

#[tokio::test]
async fn a_large_answer_is_written_whole_to_a_slow_reader() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut size_bytes = 0;
    for _ in 0..200 {
        size_bytes += house.log.append("door", 0, &[1; 2000]);
    }
    let mut client = house.client().await;
    let mut request = fetch("door", 0);
    request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    client.send(Api::Fetch, 12, &request).await;
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while frame(&answer, u32::MAX).unwrap().is_none() {
        let read = client.stream.read(&mut piece).await.unwrap();
        answer.extend_from_slice(&piece[..read]);
        tokio::task::yield_now().await;
    }
    let fetched = Fetched::new(12, &answer[4..]);
    assert_eq!(fetched.size_bytes, size_bytes);
    assert_eq!(fetched.offsets.len(), 400_000);
}
