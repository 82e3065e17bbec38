//! What peers cannot do to others: too many connections, requests that never come whole, memory that
//! is only announced, and what is no request at all.

use std::net::Ipv4Addr;
use std::time::Duration;

use commitlog::BatchBuilder;
use tokio::net::TcpSocket;

use super::producing::{request, row};
use super::*;
use crate::kafka::limits;

const MEMORY_KIB: usize = limits::REQUEST_MEMORY_KIB_MAX as usize;

/// A Produce request for `door` of about that size, in bytes.
fn large(size: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push(7, None, Some(&vec![b'x'; size]), &[]);
    let batch = builder.finish();
    encode_request(Api::Produce, 9, 1, "test", &request("door", &batch)).to_vec()
}

impl House {
    /// A client that has made itself understood, from this loopback address.
    async fn known(&self, address: Ipv4Addr) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        let mut client = Client {
            stream: socket.connect(self.address).await.unwrap(),
            sent: 0,
            received: 0,
        };
        client.ask_versions().await;
        client
    }

    /// Returns once so much more has come in than before.
    async fn until_came(&self, before: u64, bytes: usize) {
        while self.door.counters().values().bytes_in < before + bytes as u64 {
            tokio::task::yield_now().await;
        }
    }

    fn taken_kib(&self) -> usize {
        MEMORY_KIB - self.door.request_memory.available_permits()
    }
}

impl Client {
    async fn ask_versions(&mut self) {
        self.ask(Api::ApiVersions, 4, &ApiVersionsRequest::default())
            .await;
    }
}

#[tokio::test]
async fn one_address_does_not_take_the_connections_of_others() {
    let house = House::with(|settings| settings.connections_max_per_address = 2).await;
    let here = Ipv4Addr::LOCALHOST;
    let first = house.known(here).await;
    let mut second = house.known(here).await;
    let mut third = house.client().await;
    assert_eq!(third.receive_or_end().await, None);
    house.until(|values| values.connections_refused, 1).await;
    let mut elsewhere = house.known(Ipv4Addr::new(127, 0, 0, 2)).await;
    second.ask_versions().await;
    drop(first);
    house.until(|values| values.connections, 2).await;
    house.known(here).await.ask_versions().await;
    elsewhere.ask_versions().await;
}

#[tokio::test]
async fn many_requests_that_come_in_part_take_no_more_than_what_came() {
    const PART: usize = 16 * 1024;
    let house = House::with(|settings| {
        settings.connections_max = 200;
        settings.connections_max_per_address = 200;
    })
    .await;
    house.log.create("door", 1);
    let whole = large(1_000_000);
    let mut clients = Vec::new();
    for _ in 0..150 {
        let mut client = house.known(Ipv4Addr::LOCALHOST).await;
        let before = house.door.counters().values().bytes_in;
        client.stream.write_all(&whole[..1000]).await.unwrap();
        house.until_came(before, 1000).await;
        clients.push(client);
    }
    assert_eq!(house.taken_kib(), 0, "announced only");
    let before = house.door.counters().values().bytes_in;
    for client in &mut clients {
        client.stream.write_all(&whole[1000..PART]).await.unwrap();
    }
    house.until_came(before, 150 * (PART - 1000)).await;
    let most = 150 * PART / 1024 * limits::REQUEST_SHARE_GROWTH;
    assert!(house.taken_kib() <= most, "{} KiB", house.taken_kib());
    let mut other = house.known(Ipv4Addr::LOCALHOST).await;
    other.stream.write_all(&whole).await.unwrap();
    let answer = other.receive().await;
    assert_eq!(row(9, &answer), (0, 0));
    // Nothing is kept of those who go.
    drop(clients);
    while house.taken_kib() > 0 {
        tokio::task::yield_now().await;
    }
    other.ask_versions_later().await;
}

impl Client {
    /// As after requests that were written by hand with the number 1.
    async fn ask_versions_later(&mut self) {
        self.sent = self.received;
        self.ask_versions().await;
    }
}

#[tokio::test]
async fn where_the_memory_is_taken_one_request_after_the_other_goes_on() {
    let house = House::new().await;
    house.log.create("door", 1);
    let memory = house.door.request_memory.clone();
    let all = memory.acquire_many_owned(MEMORY_KIB as u32).await.unwrap();
    let whole = large(500_000);
    let mut slow = house.known(Ipv4Addr::LOCALHOST).await;
    let before = house.door.counters().values().bytes_in;
    let (most, last) = whole.split_at(whole.len() - 1);
    slow.stream.write_all(most).await.unwrap();
    house.until_came(before, most.len()).await;
    assert_eq!(house.door.request_elder.available_permits(), 0);

    let mut next = house.known(Ipv4Addr::LOCALHOST).await;
    let sending = whole.clone();
    let mut answered = tokio::spawn(async move {
        next.stream.write_all(&sending).await.unwrap();
        row(9, &next.receive().await)
    });
    let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut answered);
    assert!(early.await.is_err(), "no memory, and another is before it");
    slow.stream.write_all(last).await.unwrap();
    assert_eq!(row(9, &slow.receive().await), (0, 0));
    assert_eq!(answered.await.unwrap(), (0, 1));

    // Who is slow does not hold up others once there is memory again.
    slow.received = 1;
    let before = house.door.counters().values().bytes_in;
    slow.stream.write_all(most).await.unwrap();
    house.until_came(before, most.len()).await;
    drop(all);
    let mut third = house.known(Ipv4Addr::LOCALHOST).await;
    third.stream.write_all(&whole).await.unwrap();
    assert_eq!(row(9, &third.receive().await), (0, 2));
    slow.stream.write_all(last).await.unwrap();
    assert_eq!(row(9, &slow.receive().await), (0, 3));
    while house.taken_kib() > 0 || house.door.request_elder.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn garbage_closes_its_connection_and_no_other() {
    let house = House::with(|settings| settings.connections_max = 100).await;
    let mut witness = house.client().await;
    witness.ask_versions().await;
    let mut pieces = vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x0a\x00\x00".to_vec(),
        vec![0; 64],
    ];
    // Frames of a fitting size with arbitrary content.
    let mut state = 7_u32;
    for size in 8..40_u8 {
        let noise = (0..size).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        pieces.push([vec![0, 0, 0, size], noise.collect()].concat());
    }
    let count = pieces.len() as u64;
    for piece in pieces {
        let mut client = house.client().await;
        client.stream.write_all(&piece).await.unwrap();
        assert_eq!(client.receive_or_end().await, None, "{piece:?}");
    }
    let ended = |values: &crate::kafka::KafkaValues| values.malformed + values.unsupported;
    house.until(ended, count).await;
    witness.ask_versions().await;
    house.until(|values| values.connections, 1).await;
}

#[tokio::test]
async fn an_unknown_api_ends_a_known_connection_behind_its_answers() {
    let house = House::new().await;
    let mut client = house.client().await;
    client
        .send(Api::ApiVersions, 4, &ApiVersionsRequest::default())
        .await;
    let unknown = [0, 0, 0, 10, 0x03, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    client.stream.write_all(&unknown).await.unwrap();
    client.receive().await;
    assert_eq!(client.receive_or_end().await, None);
    house.until(|values| values.unsupported, 1).await;
}

#[tokio::test]
async fn versions_that_are_too_new_are_told_which_are_served() {
    let house = House::new().await;
    let mut client = house.client().await;
    let newest = [0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 0, 0xff, 0xff];
    client.stream.write_all(&newest).await.unwrap();
    client.sent = 1;
    let answer = client.receive().await;
    let answer: ApiVersionsResponse = decode_response(Api::ApiVersions, 0, &answer).unwrap();
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion as i16);
    assert!(!answer.api_keys.is_empty());
    client.ask_versions().await;
}

#[tokio::test]
async fn a_connection_shows_what_its_client_calls_itself() {
    let house = House::new().await;
    let mut client = house.client().await;
    let shown = || house.door.connections(0, 9).remove(0);
    let told = ApiVersionsRequest {
        client_software_name: "some-client",
        client_software_version: "1.2.3",
    };
    client.ask(Api::ApiVersions, 4, &told).await;
    let row = shown();
    assert_eq!(row.client_id, "test");
    assert_eq!(row.software_name.as_deref(), Some("some-client"));
    assert_eq!(row.software_version.as_deref(), Some("1.2.3"));
    assert_eq!((row.requests, row.outstanding), (1, 0));
    assert_eq!(row.peer, client.stream.local_addr().unwrap());
    assert_eq!(row.local, house.address);
    // A name without bounds is cut, at a character.
    let long = format!("x{}", "\u{e9}".repeat(100));
    let told = ApiVersionsRequest {
        client_software_name: &long,
        client_software_version: "2",
    };
    client.ask(Api::ApiVersions, 4, &told).await;
    let name = shown().software_name.unwrap();
    assert_eq!(name.len(), limits::SOFTWARE_NAME_BYTES_MAX - 1);
    assert!(long.starts_with(&name));
}

/// One request a second, of all together.
async fn slow_house() -> House {
    House::with(|settings| {
        settings.quotas = vec![crate::settings::QuotaSettings {
            requests_per_s: Some(1),
            ..Default::default()
        }];
    })
    .await
}

#[tokio::test]
async fn a_new_connection_is_no_way_around_a_quota() {
    let house = slow_house().await;
    let begun = std::time::Instant::now();
    let mut client = house.client().await;
    for _ in 0..2 {
        client.ask_versions().await;
    }
    drop(client);
    house.client().await.ask_versions().await;
    assert!(begun.elapsed() >= Duration::from_millis(900));
}

#[tokio::test]
async fn who_is_muted_by_what_has_no_answer_is_read_from_again() {
    let house = slow_house().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    let mut builder = BatchBuilder::new();
    builder.push(7, None, Some(b"x"), &[]);
    let batch = builder.finish();
    let unanswered = ::kafka::api::ProduceRequest {
        acks: 0,
        ..request("door", &batch)
    };
    for _ in 0..2 {
        client.send(Api::Produce, 9, &unanswered).await;
        client.received += 1;
    }
    let answered = tokio::time::timeout(Duration::from_secs(9), client.ask_versions());
    assert!(answered.await.is_ok());
}

const FETCH_KIB: usize = limits::FETCH_MEMORY_KIB_MAX as usize;

/// A house whose topic holds so many MiB, and a fetch of all of it.
async fn full_house(mebibytes: usize) -> (House, ::kafka::api::FetchRequest<'static>) {
    let house = House::new().await;
    house.log.create("door", 1);
    for _ in 0..mebibytes * 8 {
        let mut builder = BatchBuilder::new();
        builder.push(7, None, Some(&vec![b'x'; 1 << 17]), &[]);
        house.log.append_batch("door", 0, builder.finish());
    }
    let mut request = fetch("door", 0);
    request.max_bytes = i32::MAX;
    request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    (house, request)
}

#[tokio::test]
async fn readers_who_stall_leave_memory_to_others() {
    let (house, request) = full_house(16).await;
    let mut client = house.client().await;
    let memory = house.door.fetch_memory.clone();
    let most = client.fetch(12, &request).await.size_bytes;
    assert!(most > 15 << 20, "{most} bytes where all is free");
    let held = memory.clone().acquire_many_owned(FETCH_KIB as u32 - 8192);
    let held = held.await.unwrap();
    let few = client.fetch(12, &request).await.size_bytes;
    assert!(few <= 1 << 20 && few > 0, "{few} bytes of 8 MiB");
    let rest = memory.clone().acquire_many_owned(8192).await.unwrap();
    // Without any it is told that there is more, and asks again.
    let begun = std::time::Instant::now();
    let none = client.fetch(12, &request).await;
    assert_eq!((none.size_bytes, none.error), (0, 0));
    assert_eq!(none.high_watermark, 128);
    assert!(begun.elapsed() < Duration::from_secs(9));
    drop((held, rest));
    assert_eq!(client.fetch(12, &request).await.size_bytes, most);
}

#[tokio::test(start_paused = true)]
async fn who_takes_its_answer_too_slowly_is_not_waited_for() {
    let (house, request) = full_house(16).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut client = Client {
        stream: socket.connect(house.address).await.unwrap(),
        sent: 0,
        received: 0,
    };
    client.send(Api::Fetch, 12, &request).await;
    let mut taken = 0;
    let mut part = vec![0; 64 * 1024];
    // A little of it every second: it never stands still.
    while let Ok(read @ 1..) = client.stream.read(&mut part).await {
        taken += read;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(taken < 15 << 20, "{taken} bytes");
    house.until(|values| values.timed_out, 1).await;
    house.until(|values| values.connections, 0).await;
    assert_eq!(house.door.fetch_memory.available_permits(), FETCH_KIB);
}
