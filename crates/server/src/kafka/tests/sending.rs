//! Fetch from real files: batches that are sent from where they lie, also to who takes them slowly
//! while their file goes.

use std::io;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use commitlog::{Ack, Disk, DiskFile, MemoryDisk, Open};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use super::real_log::Node;
use super::*;
use crate::kafka::caller::ListenerFacts;
use crate::node::FileDisk;
use crate::tls::Tls;
use crate::tls::tests::{Authority, client as trusting, settings as tls_settings};

/// A node whose stream `door` has so many batches of about `batch_bytes` in each of its two
/// partitions, as they lie there.
fn filled(
    folder: &std::path::Path,
    ack: Ack,
    count: i64,
    batch_bytes: usize,
    segment_bytes: u64,
) -> (Node, [Vec<Vec<u8>>; 2]) {
    let node = Node::on_files(folder);
    filled_in(node, ack, count, batch_bytes, segment_bytes)
}

fn filled_in(
    mut node: Node,
    ack: Ack,
    count: i64,
    batch_bytes: usize,
    segment_bytes: u64,
) -> (Node, [Vec<Vec<u8>>; 2]) {
    node.create_with("door", ack, |settings| {
        settings.segment_bytes = segment_bytes;
        settings.retention_ms = Some(24 * 3_600_000);
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

/// A client whose bytes go through TLS to a listener of this door.
async fn encrypted(door: &Arc<FrontDoor>) -> (Client, watch::Sender<bool>) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("servers");
    let tls = Tls::open(&tls_settings(folder.path(), &authority, None)).unwrap();
    let facts = Arc::new(ListenerFacts {
        tls: Some(tls),
        ..ListenerFacts::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(door.clone().serve_listener(facts, listener, stopped));
    let bridge = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = bridge.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut near, _) = bridge.accept().await.unwrap();
        let far = TcpStream::connect(secure).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let connector = TlsConnector::from(Arc::new(trusting(&authority, None)));
        let mut far = connector.connect(name, far).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    let client = Client {
        stream: TcpStream::connect(address).await.unwrap(),
        sent: 0,
        received: 0,
    };
    (client, stop)
}

#[tokio::test]
async fn what_is_encrypted_is_read_into_memory_and_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let (node, stored) = filled(folder.path(), Ack::Append, 60, 1200, 1 << 20);
    let (mut plain, door, _stop) = node.serve().await;
    let (mut client, _stop_tls) = encrypted(&door).await;
    let memory = door.fetch_memory.clone();
    let all = memory.available_permits() as u32;
    for version in Api::Fetch.versions() {
        for committed in [0, 1] {
            let mut request = both([75, 330], 1 << 20);
            request.isolation_level = committed;
            let expected = [stored[0][7..].concat(), stored[1][33..].concat()];
            assert_eq!(rows(&mut client, version, &request).await, expected);
            assert_eq!(rows(&mut plain, version, &request).await, expected);
        }
    }
    // Without memory nothing is read for it; who is sent the files needs none.
    let held = memory.clone().acquire_many_owned(all).await.unwrap();
    let mut request = both([0, 0], 1);
    request.max_wait_ms = 0;
    assert_eq!(rows(&mut client, 12, &request).await, [[0; 0], [0; 0]]);
    assert_eq!(rows(&mut plain, 12, &request).await[0], stored[0][0]);
    drop(held);
    // What goes through memory is verified on its way.
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(folder.path().join("streams")).unwrap() {
        logs.push(entry.unwrap().path().join("00000000000000000000.log"));
    }
    logs.sort();
    let mut bytes = std::fs::read(&logs[0]).unwrap();
    bytes[stored[0][0].len() - 1] ^= 1;
    std::fs::write(&logs[0], &bytes).unwrap();
    let answer = client.ask(Api::Fetch, 12, &both([0, 0], 1 << 20)).await;
    let answer: FetchResponse<'_> = decode_response(Api::Fetch, 12, &answer).unwrap();
    assert_ne!(answer.topics[0].partitions[0].error_code, 0);
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

/// Asks for 8 MiB of each partition, and returns once the network takes no more of the answer: it has
/// begun, and most of it is still in the file.
async fn stalled(client: &Client, door: &FrontDoor) -> Client {
    let mut client = narrow(client).await;
    client.send(Api::Fetch, 12, &both([0, 0], 8 << 20)).await;
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
    client
}

#[tokio::test]
async fn a_file_that_goes_while_it_is_sent_is_sent_to_its_end() {
    for by_retention in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (node, stored) = filled(folder.path(), Ack::Append, 48, 400_000, 9 << 20);
        let (client, door, _stop) = node.serve().await;
        let mut client = stalled(&client, &door).await;
        if by_retention {
            let mut log = node.log.lock().unwrap();
            let month_ms = 31 * 24 * 3_600_000;
            let dropped = log.housekeeping(month_ms).unwrap();
            assert_eq!(dropped.len(), 2, "of both partitions");
            log.write().unwrap();
        } else {
            std::fs::remove_dir_all(folder.path().join("streams")).unwrap();
        }
        let answer = client.receive().await;
        let answer: FetchResponse<'_> = decode_response(Api::Fetch, 12, &answer).unwrap();
        for (row, stored) in answer.topics[0].partitions.iter().zip(&stored) {
            let found = row.records.received();
            assert!(found.len() > 7 << 20 && stored.concat().starts_with(found));
        }
        if by_retention {
            let again = client.ask(Api::Fetch, 12, &both([0, 0], 1)).await;
            let again: FetchResponse<'_> = decode_response(Api::Fetch, 12, &again).unwrap();
            let error = again.topics[0].partitions[0].error_code;
            assert_eq!(error, ErrorCode::OffsetOutOfRange.as_i16());
        }
    }
}

#[tokio::test]
async fn a_file_that_is_cut_while_it_is_sent_ends_its_connection_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (node, stored) = filled(folder.path(), Ack::Append, 48, 400_000, 9 << 20);
    let (mut other, door, _stop) = node.serve().await;
    let mut client = stalled(&other, &door).await;
    let streams = std::fs::read_dir(folder.path().join("streams")).unwrap();
    for stream in streams {
        let path = stream.unwrap().path().join("00000000000000000000.log");
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(1 << 20).unwrap();
    }
    let mut taken = Vec::new();
    let ended = client.stream.read_to_end(&mut taken);
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
    assert!(ended.is_ok(), "nothing more can come");
    assert!(taken.len() < 16 << 20);
    assert_eq!(
        rows(&mut other, 12, &both([0, 0], 1)).await[0],
        stored[0][0]
    );
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

/// Lets reads pass, or has them wait.
#[derive(Default)]
struct Gate {
    /// Closed; whether somebody waited for too long.
    state: Mutex<(bool, bool)>,
    opened: Condvar,
}

impl Gate {
    fn set_closed(&self, closed: bool) {
        self.state.lock().unwrap().0 = closed;
        self.opened.notify_all();
    }

    fn is_closed(&self) -> bool {
        self.state.lock().unwrap().0
    }

    /// Waits until it is open; whoever waits on the one thread that could open it is let go.
    fn pass(&self) {
        let state = self.state.lock().unwrap();
        let long = Duration::from_secs(5);
        let (mut state, waited) = self
            .opened
            .wait_timeout_while(state, long, |(closed, _)| *closed)
            .unwrap();
        state.1 |= waited.timed_out();
    }
}

/// Files whose pages are in no page cache, and whose disk stands still while the gate is closed.
struct GatedDisk(FileDisk, Arc<Gate>);

struct GatedFile(Box<dyn DiskFile>, Arc<Gate>);

impl Disk for GatedDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = self.0.open(path, how)?;
        Ok(Box::new(GatedFile(file, self.1.clone())))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.0.remove_file(path)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.0.remove_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn exists(&self, path: &str) -> bool {
        self.0.exists(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
}

impl DiskFile for GatedFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.1.pass();
        self.0.read_at(buf, pos)
    }

    fn read_at_now(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        if self.1.is_closed() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read_at_now(buf, pos)
    }

    fn write_at(&self, bufs: &[&[u8]], pos: u64) -> io::Result<()> {
        self.0.write_at(bufs, pos)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn handle(&self) -> Option<Arc<dyn std::any::Any + Send + Sync>> {
        self.0.handle()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

// On one thread: whoever waits for the disk there has all others wait.
#[tokio::test]
async fn a_disk_that_stands_still_is_waited_for_by_no_other_connection() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let disk = GatedDisk(FileDisk::new(folder.path()), gate.clone());
    let node = Node::on(Arc::new(disk), MemoryDisk::new(), 1, 64 << 20);
    let (node, stored) = filled_in(node, Ack::Append, 60, 1200, 1 << 20);
    let (mut waiting, door, _stop) = node.serve().await;
    let address = waiting.stream.peer_addr().unwrap();
    let mut other = Client {
        stream: TcpStream::connect(address).await.unwrap(),
        sent: 0,
        received: 0,
    };
    for committed in [0, 1] {
        let mut old = both([75, 330], 1 << 20);
        old.isolation_level = committed;
        let expected = [stored[0][7..].concat(), stored[1][33..].concat()];
        assert_eq!(rows(&mut waiting, 12, &old).await, expected);
        gate.set_closed(true);
        let asked = door.counters().values().bytes_in;
        waiting.send(Api::Fetch, 12, &old).await;
        while door.counters().values().bytes_in == asked {
            tokio::task::yield_now().await;
        }
        let end = both([600, 600], 1000);
        assert_eq!(rows(&mut other, 12, &end).await, [[0; 0], [0; 0]]);
        gate.set_closed(false);
        let answer = waiting.receive().await;
        let answer: FetchResponse<'_> = decode_response(Api::Fetch, 12, &answer).unwrap();
        for (row, expected) in answer.topics[0].partitions.iter().zip(&expected) {
            assert_eq!(row.records.received(), expected);
        }
    }
    assert!(
        !gate.state.lock().unwrap().1,
        "the one thread waited for the disk"
    );
}
