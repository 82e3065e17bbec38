//! The front door over loopback, before a log in memory, spoken to by the client direction of the
//! crate `kafka`. Clients that others wrote are in the whole-program tests.

mod administering;
mod bounds;
mod configuring;
mod describing;
mod documented;
mod fake;
mod fetching;
mod grouping;
mod inspecting;
mod producing;
mod real_log;
mod sending;
mod transacting;

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

use super::{FrontDoor, NodeFacts};
use crate::settings::{HostPort, KafkaSettings};
pub(crate) use fake::FakeLog;

/// Settings that no test reaches the bounds of, where it does not change them.
pub(crate) fn settings() -> KafkaSettings {
    KafkaSettings {
        advertised: None,
        connections_max: 10,
        connections_max_per_address: 10,
        requests_outstanding_max: 8,
        request_bytes_max: 1 << 20,
        fetch_bytes_max: 50 << 20,
        fetch_wait_ms_max: 60_000,
        idle_ms_max: 600_000,
        group_session_timeout_ms_min: 100,
        group_session_timeout_ms_max: 600_000,
        group_rebalance_delay_ms: 0,
        group_members_max: 100,
        groups_max: 1_000,
        offsets_retention_ms: 600_000,
        transaction_timeout_ms_max: 900_000,
        transactional_id_expiry_ms: 600_000,
        session_lifetime_ms: None,
        access: crate::settings::AccessSettings::default(),
        quotas: Vec::new(),
        auto_create: false,
        topic_partitions: 1,
        topic_ack: commitlog::Ack::Append,
        topics_max: 100,
        partitions_max: 1000,
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
        Self::of(NodeFacts::default(), change).await
    }

    /// As [`House::with`], where the configuration says this.
    async fn of(facts: NodeFacts, change: impl FnOnce(&mut KafkaSettings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let log = Arc::new(FakeLog::new());
        let door = FrontDoor::new(log.clone(), &settings, facts);
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
        let request = self.next(api, version, body);
        self.stream.write_all(&request).await.unwrap();
    }

    /// The next request, for who sends it himself.
    fn next<'a>(&mut self, api: Api, version: i16, body: &impl Wire<'a>) -> Vec<u8> {
        let request = encode_request(api, version, self.sent, "test", body).to_vec();
        self.sent += 1;
        request
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
        let request = list_request(name, timestamp);
        let answer = self.ask(Api::ListOffsets, version, &request).await;
        listed(version, &answer)
    }
}

fn list_request(name: &str, timestamp: i64) -> ListOffsetsRequest<'_> {
    ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name,
            partitions: vec![ListOffsetsPartition {
                timestamp,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

/// Error code, offset and timestamp of the only partition.
fn listed(version: i16, answer: &[u8]) -> (i16, i64, i64) {
    let answer: ListOffsetsResponse<'_> =
        decode_response(Api::ListOffsets, version, answer).unwrap();
    let row = &answer.topics[0].partitions[0];
    (row.error_code, row.offset, row.timestamp)
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
    house.until(|values| values.fetches_parked, 2).await;
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
