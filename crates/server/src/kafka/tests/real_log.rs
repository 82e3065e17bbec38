//! The front door before the real log, on a disk in memory.

use std::sync::{Arc, Mutex};

use commitlog::{
    Ack, Append, BatchBuilder, Disk, Entry, Log, LogConfig, MemoryDisk, PartitionId, StreamSettings,
};
use tokio::sync::{oneshot, watch};

use super::*;
use crate::kafka::log_source::LogSource;
use crate::kafka::source::Appends;
use crate::node::{AppendError, Appended, Flushing, Submitted};

/// A log, and the watch through which its node tells of commits.
pub(super) struct Node {
    pub(super) log: Arc<Mutex<Log>>,
    pub(super) disk: MemoryDisk,
    commits: watch::Sender<u64>,
    /// Whoever waits for a flush has it at once.
    pub(super) flushes_itself: bool,
}

/// Appends as the log thread does; flushes when the test says so.
struct Thread {
    log: Arc<Mutex<Log>>,
    commits: watch::Sender<u64>,
    flushes_itself: bool,
}

impl Appends for Thread {
    fn put(&self, entry: Entry) -> Submitted {
        let (answer, result) = oneshot::channel();
        let mut log = self.log.lock().unwrap();
        let staged = log.stage(entry, NOW_MS).map_err(|_| AppendError::Full);
        let lsn = log.write().unwrap();
        drop(log);
        let _ = answer.send(staged.map(|staged| Appended {
            lsn: staged.lsn,
            base_offsets: staged.base_offsets,
            ops: staged.ops,
        }));
        self.commits.send_replace(lsn);
        Submitted::new(result)
    }

    fn bring(&self) {}

    fn flushed(&self, lsn: u64) -> Flushing {
        if self.flushes_itself {
            flush(&self.log, &self.commits);
        }
        let reader = self.log.lock().unwrap().reader();
        let mut commits = self.commits.subscribe();
        Box::pin(async move {
            while reader.flushed_to() < lsn {
                commits.changed().await.map_err(|_| AppendError::Stopping)?;
            }
            Ok(())
        })
    }

    fn mirrored(&self, ends: Vec<(PartitionId, u64)>) -> Flushing {
        let reader = self.log.lock().unwrap().reader();
        let mut commits = self.commits.subscribe();
        let waits = move |&(id, end): &(PartitionId, u64)| {
            reader
                .watermarks(id)
                .is_none_or(|marks| marks.mirrored < end)
        };
        Box::pin(async move {
            while ends.iter().any(&waits) {
                commits.changed().await.map_err(|_| AppendError::Stopping)?;
            }
            Ok(())
        })
    }
}

/// The time at which everything happens, ms since 1970.
const NOW_MS: u64 = 1_000_000;

impl Node {
    pub(super) fn new(disk: MemoryDisk) -> Self {
        // So little that older batches are read from their segments.
        Self::on(Arc::new(disk.clone()), disk, 4096, 4 << 20)
    }

    /// In files of this folder, and nothing in memory.
    pub(super) fn on_files(folder: &std::path::Path) -> Self {
        let disk = crate::node::FileDisk::new(folder);
        Self::on(Arc::new(disk), MemoryDisk::new(), 1, 64 << 20)
    }

    /// On these files; `disk` is what a test sees of them, where it does.
    pub(super) fn on(
        files: Arc<dyn Disk>,
        disk: MemoryDisk,
        tail_bytes_max: u64,
        journal_bytes_max: u64,
    ) -> Self {
        let config = LogConfig {
            journal_part_bytes: 1 << 20,
            journal_bytes_max,
            tail_bytes_max,
            reserve_bytes: 0,
            ..LogConfig::default()
        };
        let log = Log::open(files, config, 0).unwrap();
        Self {
            log: Arc::new(Mutex::new(log)),
            disk,
            commits: watch::channel(0).0,
            flushes_itself: false,
        }
    }

    pub(super) fn create(&mut self, name: &str, ack: Ack) {
        self.create_with(name, ack, |_| {});
    }

    pub(super) fn create_with(
        &mut self,
        name: &str,
        ack: Ack,
        change: impl FnOnce(&mut StreamSettings),
    ) {
        let mut settings = StreamSettings::new(name);
        settings.partitions = 2;
        settings.ack = ack;
        settings.topic_id = fake::topic_id(name);
        settings.internal = name.starts_with("__");
        change(&mut settings);
        let mut log = self.log.lock().unwrap();
        log.create_stream(settings, 0).unwrap();
    }

    /// Appends a batch of 10 records to the first partition; returns how it lies there.
    pub(super) fn append(&mut self, name: &str, time: i64) -> Vec<u8> {
        self.append_to(name, 0, time, 100)
    }

    /// As [`Node::append`], to this partition, with values of so many bytes.
    pub(super) fn append_to(
        &mut self,
        name: &str,
        index: usize,
        time: i64,
        value_bytes: usize,
    ) -> Vec<u8> {
        let mut log = self.log.lock().unwrap();
        let partition = log.reader().stream(name).unwrap().partitions[index];
        let mut builder = BatchBuilder::new();
        for _ in 0..10 {
            builder.push(time, Some(b"key"), Some(&vec![b'x'; value_bytes]), &[]);
        }
        let append = Append::new(partition, builder.finish());
        let staged = log
            .stage(
                Entry {
                    appends: vec![append],
                    ops: Vec::new(),
                },
                0,
            )
            .unwrap();
        self.commits.send_replace(log.write().unwrap());
        staged.batches[0].to_vec()
    }

    pub(super) fn flush(&mut self) {
        flush(&self.log, &self.commits);
    }

    /// Wakes whoever waits for the log.
    pub(super) fn appended_more(&self) {
        self.commits.send_modify(|_| {});
    }

    fn appends(&self) -> Thread {
        Thread {
            log: self.log.clone(),
            commits: self.commits.clone(),
            flushes_itself: self.flushes_itself,
        }
    }

    pub(super) async fn serve(&self) -> (Client, Arc<FrontDoor>, watch::Sender<bool>) {
        let commits = self.commits.subscribe();
        let source = LogSource::new(
            self.log.lock().unwrap().reader(),
            Arc::new(self.appends()),
            commits,
            fake::CLUSTER_ID.into(),
        );
        let door = FrontDoor::new(Arc::new(source), &settings(), NodeFacts::default());
        let reader = self.log.lock().unwrap().reader();
        door.groups.load(&reader).unwrap();
        door.transactions.load(&reader).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(door.clone().serve(listener, stopped));
        let stream = TcpStream::connect(address).await.unwrap();
        (
            Client {
                stream,
                sent: 0,
                received: 0,
            },
            door,
            stop,
        )
    }
}

fn flush(log: &Mutex<Log>, commits: &watch::Sender<u64>) {
    let mut log = log.lock().unwrap();
    if let Some(ticket) = log.flush_ticket() {
        log.flushed(ticket.run().unwrap());
        commits.send_modify(|_| {});
    }
}

#[tokio::test]
async fn stored_batches_go_out_as_they_lie_in_the_log() {
    let mut node = Node::new(MemoryDisk::new());
    node.create("door", Ack::Append);
    let stored: Vec<Vec<u8>> = (0..100).map(|time| node.append("door", time)).collect();
    let (mut client, _door, _stop) = node.serve().await;
    for version in Api::Fetch.versions() {
        // The first is read from its segment, the last from the tail.
        for (first, offset) in [(0, 0), (0, 9), (50, 505), (99, 990)] {
            let answer = client
                .ask(Api::Fetch, version, &fetch("door", offset))
                .await;
            let answer: FetchResponse<'_> = decode_response(Api::Fetch, version, &answer).unwrap();
            let row = &answer.topics[0].partitions[0];
            assert_eq!((row.error_code, row.high_watermark), (0, 1000));
            let records = row.records.received();
            assert!(stored[first..].concat().starts_with(records));
            assert!(records.len() >= stored[first].len());
        }
    }
    for version in Api::ListOffsets.versions() {
        assert_eq!(
            client.list(version, "door", timestamps::LATEST).await,
            (0, 1000, -1)
        );
        assert_eq!(client.list(version, "door", 42).await, (0, 420, 42));
    }
    assert_eq!(
        client.list(7, "door", timestamps::MAX_TIMESTAMP).await.2,
        99
    );
}

#[tokio::test]
async fn a_flush_stream_is_shown_as_far_as_it_is_flushed() {
    let mut node = Node::new(MemoryDisk::new());
    node.create("flushed", Ack::Flush);
    node.create("appended", Ack::Append);
    node.create("__sluice.own", Ack::Append);
    node.append("__sluice.own", 1);
    node.append("flushed", 1);
    node.append("appended", 1);
    let (mut client, door, _stop) = node.serve().await;
    assert_eq!(
        client.fetch(13, &fetch("appended", 0)).await.offsets.len(),
        10
    );
    assert_eq!(client.fetch(13, &fetch("__sluice.own", 0)).await.error, 100);
    client.send(Api::Fetch, 13, &long_poll("flushed", 0)).await;
    while door.counters().values().fetches_parked == 0 {
        tokio::task::yield_now().await;
    }
    node.flush();
    assert_eq!(Fetched::new(13, &client.receive().await).offsets.len(), 10);
    // A stream that is made later is seen, too.
    node.create("later", Ack::Append);
    assert_eq!(client.fetch(13, &fetch("later", 0)).await.error, 0);
}

#[tokio::test]
async fn a_crash_raises_the_leader_epoch_and_tells_where_the_old_one_ended() {
    let mut node = Node::new(MemoryDisk::new());
    node.create("door", Ack::Append);
    node.append("door", 1);
    node.flush();
    let (mut client, _door, _stop) = node.serve().await;
    let epoch = leader_epoch(&mut client).await;
    node.append("door", 2);
    let disk = node.disk.clone();
    drop(node);
    disk.crash(true);

    let mut node = Node::new(disk);
    let (mut client, _door, _stop) = node.serve().await;
    let now = leader_epoch(&mut client).await;
    assert!(now > epoch);
    // What a client read behind the flushed end is gone, and it is told where to go on.
    let mut request = fetch("door", 20);
    request.topics[0].partitions[0].last_fetched_epoch = epoch;
    node.append("door", 3);
    node.append("door", 4);
    let fetched = client.fetch(12, &request).await;
    assert_eq!((fetched.error, fetched.diverged), (0, Some((epoch, 10))));
    request.topics[0].partitions[0].current_leader_epoch = epoch;
    assert_eq!(client.fetch(12, &request).await.error, 74);
}

async fn leader_epoch(client: &mut Client) -> i32 {
    let request = MetadataRequest {
        topics: Some(vec![named("door")]),
        ..Default::default()
    };
    let answer = client.ask(Api::Metadata, 9, &request).await;
    let answer: MetadataResponse<'_> = decode_response(Api::Metadata, 9, &answer).unwrap();
    answer.topics[0].partitions[0].leader_epoch
}

#[tokio::test]
async fn what_was_administered_is_there_after_a_crash() {
    use ::kafka::api::{
        CreatableTopic, CreatePartitionsRequest, CreatePartitionsTopic, CreateTopicsRequest,
        DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, DeleteTopicsRequest,
        IncrementalAlterConfigsRequest, IncrementalConfig, IncrementalResource,
    };
    let mut node = Node::new(MemoryDisk::new());
    let (mut client, _door, _stop) = node.serve().await;
    let topic = |name| CreatableTopic {
        name,
        num_partitions: 2,
        replication_factor: 1,
        ..Default::default()
    };
    let create = CreateTopicsRequest {
        topics: vec![topic("door"), topic("gone")],
        ..Default::default()
    };
    // An administrator is answered once the change survives a power cut, which is here when the
    // test says so.
    let mut done = async |api: Api, version, request: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        request(&mut bytes);
        client.stream.write_all(&bytes).await.unwrap();
        let before = node.log.lock().unwrap().flushed_to();
        while node.log.lock().unwrap().appended_to() == before {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let waiting = client.stream.try_read(&mut [0]).unwrap_err();
        assert_eq!(waiting.kind(), std::io::ErrorKind::WouldBlock);
        node.flush();
        let answer = client.receive_or_end().await.unwrap();
        // Every error code of these answers is in a place of its own; that nothing is wrong is
        // seen by what is there afterwards.
        assert_eq!(
            response_correlation_id(&answer),
            Ok(7),
            "{} {version}",
            api.name()
        );
    };
    macro_rules! done {
        ($api:ident, $version:literal, $request:expr) => {
            done(Api::$api, $version, &|bytes| {
                let frame = encode_request(Api::$api, $version, 7, "test", &$request);
                bytes.extend(frame.to_vec());
            })
            .await
        };
    }
    done!(CreateTopics, 7, create);
    done!(
        CreatePartitions,
        3,
        CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: "door",
                count: 3,
                assignments: None,
            }],
            ..Default::default()
        }
    );
    done!(
        IncrementalAlterConfigs,
        1,
        IncrementalAlterConfigsRequest {
            resources: vec![IncrementalResource {
                resource_type: 2,
                resource_name: "door",
                configs: vec![IncrementalConfig {
                    name: "retention.ms",
                    config_operation: 0,
                    value: Some("-1"),
                }],
            }],
            ..Default::default()
        }
    );
    done!(
        DeleteTopics,
        5,
        DeleteTopicsRequest {
            topic_names: vec!["gone"],
            ..Default::default()
        }
    );
    node.append("door", 1);
    node.flush();
    let cut = async |client: &mut Client| {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: "door",
                partitions: vec![DeleteRecordsPartition {
                    partition_index: 0,
                    offset: 4,
                }],
            }],
            ..Default::default()
        };
        let frame = encode_request(Api::DeleteRecords, 2, 8, "test", &request);
        client.stream.write_all(&frame.to_vec()).await.unwrap();
    };
    cut(&mut client).await;
    let to = node.log.lock().unwrap().appended_to();
    while node.log.lock().unwrap().appended_to() == to {
        tokio::task::yield_now().await;
    }
    node.flush();
    client.receive_or_end().await.unwrap();
    let disk = node.disk.clone();
    drop(node);
    disk.crash(true);

    let node = Node::new(disk);
    let reader = node.log.lock().unwrap().reader();
    let door = reader.stream("door").unwrap();
    assert_eq!(door.partitions.len(), 3);
    assert_eq!(door.settings.retention_ms, None);
    assert!(reader.stream("gone").is_none());
    assert_eq!(reader.watermarks(door.partitions[0]).unwrap().log_start, 4);
}
