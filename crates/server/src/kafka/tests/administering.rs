//! Creating, widening, cutting and deleting topics.

use ::kafka::api::{
    CreatableConfig, CreatableTopic, CreatePartitionsRequest, CreatePartitionsResponse,
    CreatePartitionsTopic, CreateTopicsRequest, CreateTopicsResponse, DeletableTopic,
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
    DeleteTopicsRequest, DeleteTopicsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, IncrementalConfig, IncrementalResource, PartitionAssignment,
    ReplicaAssignment,
};

use super::*;
use crate::settings::Settings;

/// What the default configuration says, and a `[[stream]]` named `written` beside it.
pub(super) fn facts() -> NodeFacts {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::for_tests(dir.path());
    let mut written = settings.streams[0].clone();
    written.name = "written".into();
    written.implied = false;
    settings.streams.push(written);
    NodeFacts::new(&settings)
}

pub(super) fn topic(name: &str) -> CreatableTopic<'_> {
    CreatableTopic {
        name,
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    }
}

fn config<'a>(name: &'a str, value: &'a str) -> CreatableConfig<'a> {
    CreatableConfig {
        name,
        value: Some(value),
    }
}

pub(super) async fn create(
    client: &mut Client,
    topics: Vec<CreatableTopic<'_>>,
) -> Vec<(i16, i32, String)> {
    let request = CreateTopicsRequest {
        topics,
        ..Default::default()
    };
    let answer = client.ask(Api::CreateTopics, 7, &request).await;
    let answer: CreateTopicsResponse<'_> = decode_response(Api::CreateTopics, 7, &answer).unwrap();
    let row = |row: &::kafka::api::CreatedTopic<'_>| {
        let words = row.error_message.unwrap_or_default().to_owned();
        (row.error_code, row.num_partitions, words)
    };
    answer.topics.iter().map(row).collect()
}

pub(super) async fn alter(
    client: &mut Client,
    name: &str,
    operation: i8,
    config: (&str, Option<&str>),
) -> (i16, String) {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![IncrementalResource {
            resource_type: 2,
            resource_name: name,
            configs: vec![IncrementalConfig {
                name: config.0,
                config_operation: operation,
                value: config.1,
            }],
        }],
        validate_only: false,
    };
    let api = Api::IncrementalAlterConfigs;
    let answer = client.ask(api, 1, &request).await;
    let answer: IncrementalAlterConfigsResponse<'_> = decode_response(api, 1, &answer).unwrap();
    let row = &answer.responses[0];
    (
        row.error_code,
        row.error_message.unwrap_or_default().to_owned(),
    )
}

#[tokio::test]
async fn topics_are_created_as_they_are_described() {
    let house = House::with(|settings| settings.topic_partitions = 3).await;
    let mut client = house.client().await;
    let mut cut = topic("cut");
    cut.configs = vec![
        config("retention.ms", "60000"),
        config("cleanup.policy", "compact,delete"),
        config("max.message.bytes", "2000000"),
        config("segment.bytes", "1048576"),
        config("min.insync.replicas", "1"),
        config("sluice.ack", "flush"),
    ];
    cut.num_partitions = 2;
    cut.replication_factor = 1;
    let mut memory = topic("memory");
    memory.configs = vec![config("sluice.ack", "memory")];
    let mut placed = topic("placed");
    placed.assignments = (0..2)
        .map(|partition_index| ReplicaAssignment {
            partition_index,
            broker_ids: vec![1],
        })
        .collect();
    let done = create(&mut client, vec![topic("plain"), cut, memory, placed]).await;
    let partitions: Vec<_> = done.iter().map(|row| (row.0, row.1)).collect();
    assert_eq!(partitions, [(0, 3), (0, 2), (0, 3), (0, 2)]);
    let settings = |name| {
        super::super::Source::stream(&*house.log, name)
            .unwrap()
            .settings
            .clone()
    };
    let cut = settings("cut");
    assert_eq!(
        (cut.retention_ms, cut.compact, cut.delete),
        (Some(60_000), true, true)
    );
    assert_eq!(
        (cut.message_bytes_max, cut.segment_bytes),
        (Some(2_000_000), 1 << 20)
    );
    assert_eq!(cut.ack, commitlog::Ack::Flush);
    assert_eq!(settings("memory").storage, commitlog::Storage::Memory);
    let plain = settings("plain");
    assert_eq!(plain.retention_ms, Some(7 * 86_400_000));
    assert_eq!(
        (plain.ack, plain.compact, plain.partitions),
        (commitlog::Ack::Append, false, 3)
    );
    assert_ne!(plain.topic_id, cut.topic_id);
    // It can be used at once.
    assert_eq!(
        client.list(9, "plain", timestamps::LATEST).await,
        (0, 0, -1)
    );
}

#[tokio::test]
async fn every_version_of_create_topics_tells_what_was_made() {
    let house = House::new().await;
    let mut client = house.client().await;
    for version in Api::CreateTopics.versions() {
        let name = format!("t{version}");
        let mut request = CreateTopicsRequest {
            topics: vec![topic(&name), topic("no topic")],
            validate_only: true,
            ..Default::default()
        };
        for (validate_only, there) in [(true, false), (false, true)] {
            request.validate_only = validate_only;
            let answer = client.ask(Api::CreateTopics, version, &request).await;
            let answer: CreateTopicsResponse<'_> =
                decode_response(Api::CreateTopics, version, &answer).unwrap();
            assert_eq!(answer.topics[0].error_code, 0);
            assert_eq!(answer.topics[1].error_code, 17);
            if version >= 5 {
                assert_eq!(answer.topics[0].num_partitions, 1);
                let configs = answer.topics[0].configs.as_ref().unwrap();
                assert!(configs.iter().any(|row| row.name == "retention.ms"));
            }
            let stream = super::super::Source::stream(&*house.log, &name);
            assert_eq!(stream.is_some(), there);
            if version >= 7 {
                assert_eq!(answer.topics[0].topic_id != [0; 16], there);
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_created_is_told_with_words() {
    let house = House::of(facts(), |settings| {
        settings.topics_max = 3;
        settings.partitions_max = 20;
    })
    .await;
    house.log.create("there", 1);
    let mut client = house.client().await;
    let with = |name: &'static str, name_of: &'static str, value: &'static str| {
        let mut topic = topic(name);
        topic.configs = vec![config(name_of, value)];
        topic
    };
    let mut replicated = topic("replicated");
    replicated.replication_factor = 3;
    let mut none = topic("none");
    none.num_partitions = 0;
    let mut elsewhere = topic("elsewhere");
    elsewhere.assignments = vec![ReplicaAssignment {
        partition_index: 0,
        broker_ids: vec![2],
    }];
    let mut wide = topic("wide");
    wide.num_partitions = 21;
    let refused = [
        (topic("there"), 36, "already exists"),
        (topic("a b"), 17, "letters"),
        (topic("__sluice.mine"), 17, "the node's own"),
        (replicated, 38, "only 1 broker"),
        (none, 37, "1 to 1024"),
        (elsewhere, 39, "only broker"),
        (wide, 44, "partitions_max"),
        (
            with("x", "retention.hours", "1"),
            40,
            "Unknown topic config",
        ),
        (with("x", "min.insync.replicas", "2"), 40, "always 1"),
        (
            with("mqtt.default", "cleanup.policy", "compact"),
            40,
            "sessions point",
        ),
        (with("x", "sluice.storage", "tape"), 40, "neither disk nor"),
    ];
    for (topic, code, words) in refused {
        let done = create(&mut client, vec![topic]).await;
        assert_eq!(done[0].0, code, "{done:?}");
        assert!(done[0].2.contains(words), "{done:?}");
    }
    let twice = create(&mut client, vec![topic("twice"), topic("twice")]).await;
    assert_eq!((twice[0].0, twice[1].0), (42, 42));
    let full = create(&mut client, vec![topic("a"), topic("b"), topic("c")]).await;
    assert_eq!((full[0].0, full[1].0, full[2].0), (0, 0, 44));
    assert!(full[2].2.contains("topics_max"));
}

#[tokio::test]
async fn a_log_that_takes_nothing_creates_nothing() {
    let house = House::new().await;
    house.log.refuse(crate::node::AppendError::Full);
    let mut client = house.client().await;
    let done = create(&mut client, vec![topic("door")]).await;
    assert_eq!(done[0].0, ErrorCode::StorageError.as_i16());
    assert!(done[0].2.contains("disk space"));
}

#[tokio::test]
async fn metadata_creates_what_it_is_asked_for_where_it_may() {
    let house = House::with(|settings| {
        settings.auto_create = true;
        settings.topic_partitions = 2;
    })
    .await;
    let mut client = house.client().await;
    for version in Api::Metadata.versions() {
        let name = format!("auto{version}");
        let mut ask = async |allow| {
            let request = MetadataRequest {
                topics: Some(vec![named(&name), named("__sluice.mine")]),
                allow_auto_topic_creation: allow,
                ..Default::default()
            };
            let answer = client.ask(Api::Metadata, version, &request).await;
            let answer: MetadataResponse<'_> =
                decode_response(Api::Metadata, version, &answer).unwrap();
            let rows = answer.topics.iter();
            let rows: Vec<_> = rows
                .map(|row| (row.error_code, row.partitions.len()))
                .collect();
            rows
        };
        if version >= 4 {
            assert_eq!(ask(false).await, [(3, 0), (3, 0)]);
        }
        assert_eq!(ask(true).await, [(0, 2), (3, 0)]);
    }
}

#[tokio::test]
async fn partitions_are_added_and_never_taken() {
    let house = House::with(|settings| settings.partitions_max = 10).await;
    house.log.create("door", 2);
    let mut client = house.client().await;
    let mut ask = async |version, count, assignments, validate_only| {
        let request = CreatePartitionsRequest {
            topics: vec![
                CreatePartitionsTopic {
                    name: "door",
                    count,
                    assignments,
                },
                CreatePartitionsTopic {
                    name: "window",
                    count: 9,
                    assignments: None,
                },
            ],
            validate_only,
            ..Default::default()
        };
        let answer = client.ask(Api::CreatePartitions, version, &request).await;
        let answer: CreatePartitionsResponse<'_> =
            decode_response(Api::CreatePartitions, version, &answer).unwrap();
        assert_eq!(answer.results[1].error_code, 3);
        answer.results[0].error_code
    };
    let count = || {
        super::super::Source::stream(&*house.log, "door")
            .unwrap()
            .partitions
            .len()
    };
    assert_eq!(ask(3, 3, None, true).await, 0);
    assert_eq!(count(), 2);
    for version in Api::CreatePartitions.versions() {
        assert_eq!(ask(version, 3 + i32::from(version), None, false).await, 0);
        assert_eq!(count(), 3 + version as usize);
    }
    let here = PartitionAssignment {
        broker_ids: vec![1],
    };
    let there = PartitionAssignment {
        broker_ids: vec![2],
    };
    assert_eq!(ask(3, 6, None, false).await, 37);
    assert_eq!(ask(3, 5, None, false).await, 37);
    assert_eq!(ask(3, 7, Some(vec![there]), false).await, 39);
    assert_eq!(ask(3, 7, Some(vec![here]), false).await, 0);
    assert_eq!(ask(3, 11, None, false).await, 44);
    assert_eq!(count(), 7);
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id_unless_the_configuration_names_them() {
    let house = House::of(facts(), |_| {}).await;
    house.log.create_internal("__sluice.sessions");
    house.log.create("message_state", 1);
    house.log.create("written", 1);
    let mut client = house.client().await;
    for version in Api::DeleteTopics.versions() {
        house.log.create("door", 1);
        house.log.create("gate", 1);
        let mut request = DeleteTopicsRequest::default();
        let names = [
            "door",
            "window",
            "message_state",
            "written",
            "__sluice.sessions",
        ];
        if version >= 6 {
            request.topics = names
                .iter()
                .map(|name| DeletableTopic {
                    name: Some(name),
                    ..Default::default()
                })
                .collect();
            for id in [fake::topic_id("gate"), [9; 16]] {
                request.topics.push(DeletableTopic {
                    name: None,
                    topic_id: id,
                });
            }
        } else {
            request.topic_names = names.to_vec();
        }
        let answer = client.ask(Api::DeleteTopics, version, &request).await;
        let answer: DeleteTopicsResponse<'_> =
            decode_response(Api::DeleteTopics, version, &answer).unwrap();
        let rows: Vec<_> = answer
            .responses
            .iter()
            .map(|row| (row.name, row.error_code))
            .collect();
        assert_eq!(
            rows[..5],
            [
                (Some("door"), 0),
                (Some("window"), 3),
                (Some("message_state"), 44),
                (Some("written"), 44),
                (Some("__sluice.sessions"), 3),
            ]
        );
        if version >= 5 {
            assert!(
                answer.responses[2]
                    .error_message
                    .unwrap()
                    .contains("[[hook]]")
            );
        }
        if version >= 6 {
            assert_eq!(rows[5..], [(Some("gate"), 0), (None, 100)]);
        }
        assert_eq!(client.list(1, "door", timestamps::LATEST).await.0, 3);
    }
}

#[tokio::test]
async fn records_are_deleted_up_to_an_offset() {
    let house = House::of(facts(), |_| {}).await;
    for name in ["door", "message_state", "table"] {
        house.log.create(name, 1);
        house.log.append(name, 0, &[1, 2, 3, 4]);
    }
    let mut client = house.client().await;
    assert_eq!(
        alter(&mut client, "table", 0, ("cleanup.policy", Some("compact")))
            .await
            .0,
        0
    );
    let mut ask = async |version, name, partition_index, offset| {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name,
                partitions: vec![DeleteRecordsPartition {
                    partition_index,
                    offset,
                }],
            }],
            ..Default::default()
        };
        let answer = client.ask(Api::DeleteRecords, version, &request).await;
        let answer: DeleteRecordsResponse<'_> =
            decode_response(Api::DeleteRecords, version, &answer).unwrap();
        let row = &answer.topics[0].partitions[0];
        (row.error_code, row.low_watermark)
    };
    assert_eq!(ask(0, "door", 0, 2).await, (0, 2));
    assert_eq!(ask(1, "door", 0, 1).await, (0, 2));
    assert_eq!(ask(1, "door", 0, 5).await, (1, -1));
    assert_eq!(ask(1, "door", 0, -2).await, (1, -1));
    assert_eq!(ask(2, "door", 1, 1).await, (3, -1));
    assert_eq!(ask(2, "window", 0, 1).await, (3, -1));
    assert_eq!(ask(2, "message_state", 0, 1).await, (44, -1));
    assert_eq!(ask(2, "table", 0, 1).await, (44, -1));
    assert_eq!(ask(2, "door", 0, -1).await, (0, 4));
    assert_eq!(
        client.list(1, "door", timestamps::EARLIEST).await,
        (0, 4, -1)
    );
}
