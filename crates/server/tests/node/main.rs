//! The engine room as a whole: a node in this process on a temporary directory, real sockets, and
//! what its log holds afterwards.

#![expect(clippy::unwrap_used, reason = "a test may fail where it likes")]

mod client;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use commitlog::batch::batches;
use mqtt::{Packet, QoS, ReasonCode, Version};
use server::node::{ClientQuery, Health, Node};
use server::settings::Settings;

async fn start(dir: &Path) -> Arc<Node> {
    start_with(dir, |_| {}).await
}

async fn start_with(dir: &Path, change: impl FnOnce(&mut Settings)) -> Arc<Node> {
    try_start(dir, change).await.expect("the node starts")
}

async fn try_start(
    dir: &Path,
    change: impl FnOnce(&mut Settings),
) -> Result<Arc<Node>, anyhow::Error> {
    let mut settings = Settings::for_tests(dir);
    settings.node.workers = 2;
    settings.mqtt.sys_interval_s = 0;
    change(&mut settings);
    Node::start(settings).await
}

fn mqtt(node: &Node) -> SocketAddr {
    node.mqtt_addresses()[0]
}

/// Clients block, so they run beside the runtime.
async fn beside<T: Send + 'static>(clients: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(clients)
        .await
        .expect("the clients are content")
}

/// Keys and values of all records of a stream, in the order of partitions and offsets.
fn records(node: &Node, stream: &str) -> Vec<(String, String)> {
    let stream = node.log.stream(stream).expect("the stream exists");
    let mut found = Vec::new();
    for partition in stream.partitions {
        let marks = node.log.watermarks(partition).unwrap();
        let mut offset = marks.log_start;
        while offset < marks.appended {
            for bytes in node.log.read(partition, offset, 1 << 20, u64::MAX).unwrap() {
                for batch in batches(&bytes) {
                    let batch = batch.unwrap();
                    offset = batch.last_offset() + 1;
                    for record in batch.records() {
                        let record = record.unwrap();
                        let text = |bytes: Option<&[u8]>| {
                            String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
                        };
                        found.push((text(record.key), text(record.value)));
                    }
                }
            }
        }
    }
    found
}

const MULTI: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_acknowledged_message_is_a_flushed_hook_record_and_reaches_its_subscriber() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let address = mqtt(&node);
    beside(move || {
        let mut lock = Client::connect(address, "lock-7");
        let mut reader = Client::connect(address, "reader");
        reader.subscribe("devices/+/state", QoS::AtLeastOnce);
        lock.publish_acked("devices/7/state", b"{\"open\":1}", QoS::AtLeastOnce, 10);
        let got = reader.receive_acked();
        assert_eq!(
            (got.topic.as_str(), &got.payload[..]),
            ("devices/7/state", &b"{\"open\":1}"[..])
        );
    })
    .await;
    let found = records(&node, "message_state");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "7", "the key is level 2 of the topic");
    let value: serde_json::Value = serde_json::from_str(&found[0].1).unwrap();
    assert_eq!(value["topic"], "devices/7/state");
    assert_eq!(value["client_id"], "lock-7");
    assert_eq!(value["payload"], "eyJvcGVuIjoxfQ==");
    assert!(node.log.flushed_to() > 0);
    let counted = node.counters.snapshot();
    assert!(
        counted.log.flushes > 0 && counted.workers.packets_in >= 4,
        "{counted:?}"
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_qos_goes_from_one_to_the_other_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let address = mqtt(&node);
    beside(move || {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut from = Client::connect(address, "from");
            let mut to = Client::connect(address, "to");
            to.subscribe("t/#", qos);
            for n in 0..200_u16 {
                from.publish_acked("t/x", &n.to_be_bytes(), qos, n + 1);
            }
            for n in 0..200_u16 {
                let got = to.receive_acked();
                assert_eq!((got.qos, &got.payload[..]), (qos, &n.to_be_bytes()[..]));
            }
            from.disconnect();
            to.disconnect();
        }
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_an_offline_session_is_owed_outlives_the_node() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let node = start(dir.path()).await;
        let address = mqtt(&node);
        beside(move || {
            let mut owed = Client::resume(address, "owed");
            assert_eq!(owed.session_present, round > 0);
            if round > 0 {
                for n in 0..100_u8 {
                    let got = owed.receive_acked();
                    assert_eq!(got.payload, [round - 1, n]);
                }
            }
            owed.subscribe("a/#", QoS::AtLeastOnce);
            owed.disconnect();
            let mut from = Client::connect(address, "from");
            for n in 0..100_u8 {
                from.publish_acked("a/b", &[round, n], QoS::AtLeastOnce, u16::from(n) + 1);
            }
        })
        .await;
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn retained_messages_outlive_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let address = mqtt(&node);
    beside(move || {
        let mut from = Client::connect(address, "from");
        for n in 1..=20_u16 {
            from.publish(&format!("r/{n}"), b"old", QoS::AtLeastOnce, true, n);
            from.expect_puback(n);
        }
        from.publish("r/1", b"new", QoS::AtLeastOnce, true, 21);
        from.expect_puback(21);
        from.publish("r/2", b"", QoS::AtLeastOnce, true, 22);
        from.expect_puback(22);
    })
    .await;
    assert_eq!(node.retained_count(), 19);
    node.shutdown().await.unwrap();
    let node = start(dir.path()).await;
    assert_eq!(node.retained_count(), 19);
    let address = mqtt(&node);
    beside(move || {
        let mut to = Client::connect(address, "to");
        to.subscribe("r/+", QoS::AtLeastOnce);
        let mut got: Vec<_> = (0..19).map(|_| to.receive_acked()).collect();
        got.sort_by(|a, b| a.topic.cmp(&b.topic));
        assert_eq!(
            (got[0].topic.as_str(), &got[0].payload[..]),
            ("r/1", &b"new"[..])
        );
        assert!(got.iter().all(|it| it.retain && it.topic != "r/2"));
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn packets_come_in_any_pieces_and_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let address = mqtt(&node);
    beside(move || {
        let mut to = Client::connect(address, "to");
        to.subscribe("big/#", QoS::AtMostOnce);
        let mut from = Client::connect(address, "from");
        let mut bytes = Vec::new();
        let sizes = [
            0_usize, 1, 127, 128, 20_000, 70_000, 500_000, 3, 16_300, 16_400,
        ];
        for (n, size) in sizes.iter().enumerate() {
            Packet::Publish(mqtt::Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic: "big/x",
                packet_id: 0,
                properties: mqtt::PublishProperties::default(),
                payload: &vec![n as u8; *size],
            })
            .encode(Version::V5, &mut bytes);
        }
        let mut step = 1;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(step.min(rest.len()));
            from.stream.write_all(piece).unwrap();
            rest = after;
            step = step * 3 % 50_021;
        }
        for (n, size) in sizes.iter().enumerate() {
            let got = to.receive();
            assert!(got.payload.len() == *size && got.payload.iter().all(|&b| b == n as u8));
        }
        // More packets than one turn takes from one connection.
        let mut flood = Vec::new();
        for _ in 0..10_000 {
            Packet::Pingreq.encode(Version::V5, &mut flood);
        }
        from.stream.write_all(&flood).unwrap();
        for _ in 0..10_000 {
            from.expect(|packet| assert!(matches!(packet, Packet::Pingresp)));
        }
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nonsense_closes_one_connection_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let node = start_with(dir.path(), |settings| {
        settings.mqtt.connect_timeout_ms = 300;
    })
    .await;
    let address = mqtt(&node);
    beside(move || {
        let mut good = Client::connect(address, "good");
        let mut silent = Client::open(address);
        let mut http = Client::open(address);
        http.stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert!(http.expect_close().is_empty());
        let mut future = Client::open(address);
        future
            .stream
            .write_all(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 60, 0, 0])
            .unwrap();
        let answer = future.expect_close();
        assert_eq!((answer[0], answer[3]), (0x20, 0x84));
        let mut bad = Client::connect(address, "bad");
        bad.stream.write_all(&[0xF3, 0x00]).unwrap();
        let answer = bad.expect_close();
        assert_eq!(answer[0], 0xE0, "DISCONNECT with a reason");
        assert!(silent.expect_close().is_empty(), "no CONNECT in time");
        let mut unnamed = Client::connect(address, "");
        assert!(
            unnamed
                .assigned_client_id
                .as_ref()
                .unwrap()
                .starts_with("sluice-")
        );
        unnamed.ping();
        good.ping();
    })
    .await;
    let counted = node.counters.snapshot();
    assert_eq!(counted.reception.timeouts, 1);
    assert_eq!(counted.reception.refused_connect, 2);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_says_nothing_is_closed_after_its_keep_alive() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let address = mqtt(&node);
    beside(move || {
        let mut silent = Client::connect_with(address, |connect| {
            connect.client_id = "silent";
            connect.keep_alive_s = 1;
        });
        silent.expect(|packet| match packet {
            Packet::Disconnect(it) => assert_eq!(it.reason, ReasonCode::KeepAliveTimeout),
            other => panic!("DISCONNECT expected, not {other:?}"),
        });
        silent.expect_close();
    })
    .await;
    assert_eq!(node.counters.snapshot().workers.keep_alive_timeouts, 1);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_does_not_read_delays_nobody_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = start_with(dir.path(), |settings| settings.mqtt.inbox_max = 100_000).await;
    let address = mqtt(&node);
    const COUNT: u32 = 3_000;
    beside(move || {
        let mut slow = Client::connect(address, "slow");
        slow.subscribe("s/#", QoS::AtLeastOnce);
        let mut quick = Client::connect(address, "quick");
        quick.subscribe("s/#", QoS::AtMostOnce);
        let mut from = Client::connect(address, "from");
        let mut payload = vec![0; 4_000];
        for n in 0..COUNT {
            payload[..4].copy_from_slice(&n.to_be_bytes());
            from.publish_acked("s/x", &payload, QoS::AtLeastOnce, (n % 60_000) as u16 + 1);
            assert_eq!(quick.receive().payload[..4], n.to_be_bytes());
        }
        for n in 0..COUNT {
            assert_eq!(slow.receive_acked().payload[..4], n.to_be_bytes());
        }
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_are_listed_page_by_page_and_can_be_closed() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let address = mqtt(&node);
    let mut clients = beside(move || {
        (0..25)
            .map(|n| Client::connect(address, &format!("c-{n:02}")))
            .collect::<Vec<_>>()
    })
    .await;
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let query = ClientQuery {
            after,
            limit: 10,
            ..ClientQuery::default()
        };
        let page = node.clients(query).await;
        for row in &page.clients {
            assert!(row.peer.is_some_and(|peer| peer.ip().is_loopback()));
            assert_eq!(row.keep_alive_s, Some(60));
        }
        names.extend(page.clients.iter().map(|row| row.client_id.clone()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (0..25).map(|n| format!("c-{n:02}")).collect();
    assert_eq!(names, expected);
    assert_eq!(node.status().connections, 25);
    assert!(node.kick("c-03").await);
    assert!(!node.kick("nobody").await);
    let mut kicked = clients.remove(3);
    beside(move || kicked.expect_close()).await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn shutdown_tells_clients_and_the_next_start_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let address = mqtt(&node);
    let (mut new, mut old) = beside(move || {
        let new = Client::connect(address, "new");
        let old = Client::connect_with(address, |connect| {
            connect.client_id = "old";
            connect.version = Version::V311;
        });
        (new, old)
    })
    .await;
    let stopping = Arc::clone(&node);
    let stop = tokio::spawn(async move { stopping.shutdown().await });
    beside(move || {
        new.expect(|packet| match packet {
            Packet::Disconnect(it) => assert_eq!(it.reason, ReasonCode::ServerShuttingDown),
            other => panic!("DISCONNECT expected, not {other:?}"),
        });
        new.expect_close();
        assert!(
            old.expect_close().is_empty(),
            "MQTT 3 knows no DISCONNECT of a server"
        );
    })
    .await;
    stop.await.unwrap().unwrap();
    assert_eq!(node.health(), Health::Stopping);
    let cluster_id = node.cluster_id.clone();
    let node = start(dir.path()).await;
    assert_eq!(node.cluster_id, cluster_id);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_node_is_refused_the_directory_and_a_taken_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let same = Node::start(Settings::for_tests(dir.path())).await;
    let why = format!("{:#}", same.err().expect("refused"));
    assert!(why.contains("in use by another sluice process"), "{why}");
    let other = tempfile::tempdir().unwrap();
    let mut settings = Settings::for_tests(other.path());
    let taken = mqtt(&node);
    for listener in &mut settings.listeners {
        listener.bind = taken;
    }
    let option = settings.listeners[0].option.clone();
    let why = format!("{:#}", Node::start(settings).await.err().expect("refused"));
    assert!(
        why.contains(&taken.to_string()) && why.contains(&option),
        "{why}"
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sys_topics_are_published_and_retained() {
    let dir = tempfile::tempdir().unwrap();
    let node = start_with(dir.path(), |settings| settings.mqtt.sys_interval_s = 1).await;
    let address = mqtt(&node);
    beside(move || {
        let mut to = Client::connect(address, "to");
        to.subscribe("$SYS/broker/version", QoS::AtMostOnce);
        let got = to.receive();
        assert!(String::from_utf8_lossy(&got.payload).starts_with("sluice version"));
        to.subscribe("$SYS/broker/clients/connected", QoS::AtMostOnce);
        loop {
            let got = to.receive();
            if got.topic == "$SYS/broker/clients/connected" && got.payload == b"1" {
                break;
            }
        }
        for topic in [
            "$SYS/broker/messages/sent",
            "$SYS/broker/publish/bytes/sent",
        ] {
            to.subscribe(topic, QoS::AtMostOnce);
            loop {
                let got = to.receive();
                if got.topic == topic && got.payload != b"0" {
                    break;
                }
            }
        }
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn beyond_the_connection_limit_a_client_is_told_to_come_later() {
    let dir = tempfile::tempdir().unwrap();
    let node = start_with(dir.path(), |settings| {
        settings.mqtt.connections_max = MULTI as u32;
    })
    .await;
    let address = mqtt(&node);
    beside(move || {
        let clients: Vec<_> = (0..MULTI)
            .map(|n| Client::connect(address, &format!("c{n}")))
            .collect();
        let mut late = Client::open(address);
        late.stream
            .write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 0])
            .unwrap();
        late.expect(|packet| match packet {
            Packet::Connack(it) => assert_eq!(it.reason, ReasonCode::QuotaExceeded),
            other => panic!("CONNACK expected, not {other:?}"),
        });
        late.expect_close();
        drop(clients);
    })
    .await;
    assert_eq!(node.counters.snapshot().reception.refused_full, 1);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streams_are_made_and_appended_to_through_the_door() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let partitions = node
        .create_stream(commitlog::StreamSettings::new("extra"))
        .await
        .expect("made");
    let again = node
        .create_stream(commitlog::StreamSettings::new("extra"))
        .await;
    assert!(again.is_err());
    let mut watch = node.commit_watch();
    let mut builder = commitlog::BatchBuilder::new();
    builder.push(1_000, Some(b"k"), Some(b"v"), &[]);
    let entry = commitlog::Entry {
        appends: vec![commitlog::Append::new(partitions[0], builder.finish())],
        ops: Vec::new(),
    };
    let appended = node.append(entry).await.expect("appended");
    assert_eq!(appended.base_offsets, [Ok(0)]);
    tokio::time::timeout(Duration::from_secs(5), watch.changed())
        .await
        .unwrap()
        .unwrap();
    node.flushed(appended.lsn).await.expect("flushed");
    assert_eq!(records(&node, "extra"), [("k".to_owned(), "v".to_owned())]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_refuses_what_must_be_kept_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).await.shutdown().await.unwrap();
    let node = start_with(dir.path(), |settings| {
        settings.log.disk_reserve_bytes = u64::MAX / 2;
    })
    .await;
    let address = mqtt(&node);
    beside(move || {
        let mut to = Client::connect(address, "to");
        to.subscribe("#", QoS::AtMostOnce);
        let mut from = Client::connect(address, "from");
        from.publish("a", b"kept", QoS::AtLeastOnce, false, 7);
        from.expect(|packet| match packet {
            Packet::Puback(ack) => {
                assert_eq!((ack.packet_id, ack.reason), (7, ReasonCode::QuotaExceeded));
            }
            other => panic!("PUBACK expected, not {other:?}"),
        });
        from.publish("a", b"live", QoS::AtMostOnce, false, 0);
        assert_eq!(to.receive().payload, b"live");
    })
    .await;
    assert_eq!(
        node.health(),
        Health::Serving,
        "a full disk heals by itself"
    );
    assert_eq!(node.counters.snapshot().log.refused, 1);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_record_of_another_version_is_named_and_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let table = node.log.stream("__sluice.sessions").unwrap().partitions[0];
    let mut batch = commitlog::BatchBuilder::new();
    // A session of the client x, in the format 99.
    batch.push(1, Some(b"c\0\0\0\x01x"), Some(&[99, 0, 0]), &[]);
    let entry = commitlog::Entry {
        appends: vec![commitlog::Append::new(table, batch.finish())],
        ops: Vec::new(),
    };
    let appended = node.append(entry).await.unwrap();
    let offset = *appended.base_offsets[0].as_ref().unwrap();
    node.shutdown().await.unwrap();
    drop(node);
    let Err(failure) = try_start(dir.path(), |_| {}).await else {
        panic!("it starts");
    };
    let said = format!("{failure:#}");
    let place = format!("stream __sluice.sessions, offset {offset}: a session (format version 99)");
    assert!(said.contains(&place), "{said}");
    assert!(said.contains("by --accept-loss"), "{said}");
    let node = start_with(dir.path(), |settings| settings.log.accept_loss = true).await;
    assert_eq!(node.health(), Health::Serving);
    node.shutdown().await.unwrap();
}

/// The last batch of the session table has the markers that say how far it goes: without them the
/// sessions are there all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn accept_loss_keeps_the_sessions_whose_markers_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    for id in ["first", "second"] {
        let node = start(dir.path()).await;
        let address = mqtt(&node);
        beside(move || {
            let mut client = Client::resume(address, id);
            client.subscribe("owed/#", QoS::AtLeastOnce);
        })
        .await;
        node.shutdown().await.unwrap();
    }
    let table = dir.path().join("streams/__sluice.sessions-0");
    let mut logs: Vec<_> = std::fs::read_dir(table)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "log"))
        .collect();
    logs.sort();
    let log = logs.pop().unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let Err(failure) = try_start(dir.path(), |_| {}).await else {
        panic!("it starts");
    };
    assert!(
        format!("{failure:#}").contains("--accept-loss"),
        "{failure:#}"
    );
    let node = start_with(dir.path(), |settings| settings.log.accept_loss = true).await;
    let address = mqtt(&node);
    beside(move || {
        let mut publisher = Client::connect(address, "publisher");
        publisher.publish_acked("owed/1", b"here", QoS::AtLeastOnce, 1);
        for id in ["first", "second"] {
            let mut client = Client::resume(address, id);
            assert!(client.session_present, "{id}");
            assert_eq!(&client.receive_acked().payload[..], b"here");
        }
    })
    .await;
    node.shutdown().await.unwrap();
    // The next start needs no such word any more.
    let node = start(dir.path()).await;
    node.shutdown().await.unwrap();
}
