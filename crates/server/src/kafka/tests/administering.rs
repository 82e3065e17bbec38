//! Creating, altering, widening, cutting, deleting and describing topics.

use ::kafka::api::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResponse, AlterableConfig,
    CreatableConfig, CreatableTopic, CreatePartitionsRequest, CreatePartitionsResponse,
    CreatePartitionsTopic, CreateTopicsRequest, CreateTopicsResponse, DeletableTopic,
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeClusterRequest, DescribeClusterResponse,
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeProducersRequest,
    DescribeProducersResponse, DescribeProducersTopic, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, IncrementalConfig, IncrementalResource, LogDirsTopic,
    PartitionAssignment, ReplicaAssignment, TopicPartitionsCursor, TopicPartitionsTopic,
};

use super::*;
use crate::settings::Settings;

/// What the default configuration says, and a `[[stream]]` named `written` beside it.
fn facts() -> NodeFacts {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::for_tests(dir.path());
    let mut written = settings.streams[0].clone();
    written.name = "written".into();
    written.implied = false;
    settings.streams.push(written);
    NodeFacts::new(&settings)
}

fn topic(name: &str) -> CreatableTopic<'_> {
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

async fn create(client: &mut Client, topics: Vec<CreatableTopic<'_>>) -> Vec<(i16, i32, String)> {
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

async fn describe(
    client: &mut Client,
    resource_type: i8,
    resource_name: &str,
    keys: Option<Vec<&str>>,
) -> (i16, Vec<(String, String, i8)>) {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type,
            resource_name,
            configuration_keys: keys,
        }],
        include_synonyms: true,
        include_documentation: true,
    };
    let mut shown = Vec::new();
    for version in Api::DescribeConfigs.versions() {
        let answer = client.ask(Api::DescribeConfigs, version, &request).await;
        let answer: DescribeConfigsResponse<'_> =
            decode_response(Api::DescribeConfigs, version, &answer).unwrap();
        let result = &answer.results[0];
        let row = |row: &::kafka::api::DescribedConfig<'_>| {
            if version >= 3 {
                assert!(row.config_type > 0 && !row.documentation.unwrap().is_empty());
            }
            (
                row.name.to_owned(),
                row.value.unwrap().to_owned(),
                row.config_source,
            )
        };
        shown.push((result.error_code, result.configs.iter().map(row).collect()));
    }
    assert!(shown.iter().all(|other| *other == shown[0]));
    shown.remove(0)
}

async fn alter(
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

#[tokio::test]
async fn settings_are_shown_altered_and_set_back() {
    let house = House::of(facts(), |_| {}).await;
    let mut client = house.client().await;
    create(&mut client, vec![topic("door")]).await;
    let one = |name| Some(vec![name]);
    let retention = |value: &str, source| {
        (
            0,
            vec![("retention.ms".to_owned(), value.to_owned(), source)],
        )
    };
    let week = retention("604800000", 5);
    assert_eq!(
        describe(&mut client, 2, "door", one("retention.ms")).await,
        week
    );
    assert_eq!(
        alter(&mut client, "door", 0, ("retention.ms", Some("1000")))
            .await
            .0,
        0
    );
    let shown = describe(&mut client, 2, "door", one("retention.ms")).await;
    assert_eq!(shown, retention("1000", 1));
    assert_eq!(
        alter(&mut client, "door", 1, ("retention.ms", None))
            .await
            .0,
        0
    );
    assert_eq!(
        describe(&mut client, 2, "door", one("retention.ms")).await,
        week
    );
    assert_eq!(
        alter(&mut client, "door", 2, ("cleanup.policy", Some("compact")))
            .await
            .0,
        0
    );
    let shown = describe(&mut client, 2, "door", one("cleanup.policy")).await;
    assert_eq!(shown.1[0].1, "compact,delete");
    assert_eq!(
        alter(&mut client, "door", 3, ("cleanup.policy", Some("delete")))
            .await
            .0,
        0
    );
    let shown = describe(&mut client, 2, "door", one("cleanup.policy")).await;
    assert_eq!(shown.1[0].1, "compact");
    let all = describe(&mut client, 2, "door", None).await.1;
    assert!(all.len() > 25);

    // AlterConfigs sets all anew: what it does not name goes back to its default.
    for version in Api::AlterConfigs.versions() {
        let request = AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 2,
                resource_name: "door",
                configs: vec![AlterableConfig {
                    name: "segment.bytes",
                    value: Some("1048576"),
                }],
            }],
            validate_only: false,
        };
        let answer = client.ask(Api::AlterConfigs, version, &request).await;
        let answer: AlterConfigsResponse<'_> =
            decode_response(Api::AlterConfigs, version, &answer).unwrap();
        assert_eq!(answer.responses[0].error_code, 0);
    }
    let all = describe(&mut client, 2, "door", None).await.1;
    let changed: Vec<_> = all
        .iter()
        .filter(|row| row.2 != 5)
        .map(|row| &*row.0)
        .collect();
    assert_eq!(changed, ["segment.bytes"]);
}

#[tokio::test]
async fn what_cannot_be_altered_is_told_with_words() {
    let house = House::of(facts(), |_| {}).await;
    for name in ["door", "written", "message_state"] {
        house.log.create(name, 1);
    }
    let mut client = house.client().await;
    for (name, operation, key, value, code, words) in [
        ("window", 0, "retention.ms", Some("1"), 3, "no such topic"),
        ("written", 0, "retention.ms", Some("1"), 44, "[[stream]]"),
        ("message_state", 0, "sluice.ack", Some("append"), 0, ""),
        (
            "message_state",
            0,
            "sluice.ack",
            Some("flush"),
            44,
            "a hook writes",
        ),
        (
            "message_state",
            0,
            "cleanup.policy",
            Some("compact"),
            40,
            "sessions point",
        ),
        ("message_state", 0, "retention.ms", Some("1"), 0, ""),
        ("door", 0, "sluice.storage", Some("memory"), 40, "stays"),
        (
            "door",
            0,
            "sluice.ack",
            Some("memory"),
            40,
            "sluice.storage=memory",
        ),
        ("door", 0, "retention.ms", None, 42, "no value"),
        ("door", 7, "retention.ms", Some("1"), 42, "no operation 7"),
        ("door", 2, "retention.ms", Some("1"), 40, "no list"),
        ("door", 0, "retention.ms", Some("x"), 40, "Invalid value x"),
    ] {
        let (said, message) = alter(&mut client, name, operation, (key, value)).await;
        assert_eq!(said, code, "{name} {key}: {message}");
        assert!(message.contains(words), "{name} {key}: {message}");
    }
    let request = IncrementalAlterConfigsRequest {
        resources: vec![
            IncrementalResource {
                resource_type: 4,
                resource_name: "1",
                configs: Vec::new(),
            },
            IncrementalResource {
                resource_type: 32,
                resource_name: "group",
                configs: Vec::new(),
            },
        ],
        validate_only: true,
    };
    let answer = client.ask(Api::IncrementalAlterConfigs, 0, &request).await;
    let answer: IncrementalAlterConfigsResponse<'_> =
        decode_response(Api::IncrementalAlterConfigs, 0, &answer).unwrap();
    let codes: Vec<_> = answer.responses.iter().map(|row| row.error_code).collect();
    assert_eq!(codes, [44, 42]);
}

#[tokio::test]
async fn the_node_shows_its_settings_as_those_of_a_broker() {
    let house = House::of(facts(), |_| {}).await;
    let mut client = house.client().await;
    let (code, rows) = describe(&mut client, 4, "1", None).await;
    assert_eq!(code, 0);
    let value = |name: &str| rows.iter().find(|row| row.0 == name).unwrap().1.clone();
    assert_eq!(value("num.partitions"), "1");
    assert_eq!(value("auto.create.topics.enable"), "false");
    assert_eq!(value("log.retention.ms"), "604800000");
    assert!(value("log.dirs").starts_with('/'));
    assert!(rows.is_sorted());
    assert_eq!(describe(&mut client, 4, "", None).await, (0, vec![]));
    assert_eq!(describe(&mut client, 4, "2", None).await.0, 42);
    assert_eq!(describe(&mut client, 8, "1", None).await.0, 42);
    assert_eq!(describe(&mut client, 2, "window", None).await.0, 3);
}

#[tokio::test]
async fn sizes_are_told_of_all_topics_or_of_some() {
    let house = House::of(facts(), |_| {}).await;
    house.log.create_internal("__sluice.sessions");
    house.log.create("door", 2);
    house.log.create("gate", 1);
    let size = house.log.append("door", 1, &[1, 2, 3]);
    let mut client = house.client().await;
    for version in Api::DescribeLogDirs.versions() {
        let mut ask = async |topics| {
            let request = DescribeLogDirsRequest { topics };
            let answer = client.ask(Api::DescribeLogDirs, version, &request).await;
            let answer: DescribeLogDirsResponse<'_> =
                decode_response(Api::DescribeLogDirs, version, &answer).unwrap();
            assert_eq!(answer.error_code, 0);
            let dir = &answer.results[0];
            assert!(dir.log_dir.starts_with('/'));
            if version >= 4 {
                assert_eq!(dir.usable_bytes, 1 << 30);
            }
            let rows = dir.topics.iter().flat_map(|topic| {
                let partitions = topic.partitions.iter();
                partitions.map(|row| {
                    (
                        topic.name.to_owned(),
                        row.partition_index,
                        row.partition_size,
                    )
                })
            });
            rows.collect::<Vec<_>>()
        };
        let row = |name: &str, index, size: usize| (name.to_owned(), index, size as i64);
        assert_eq!(
            ask(None).await,
            [row("door", 0, 0), row("door", 1, size), row("gate", 0, 0)]
        );
        let some = vec![
            LogDirsTopic {
                topic: "door",
                partitions: vec![1, 7],
            },
            LogDirsTopic {
                topic: "window",
                partitions: vec![0],
            },
        ];
        assert_eq!(ask(Some(some)).await, [row("door", 1, size)]);
    }
}

#[tokio::test]
async fn the_cluster_is_this_node() {
    let house = House::new().await;
    let mut client = house.client().await;
    for version in Api::DescribeCluster.versions() {
        let mut request = DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            ..Default::default()
        };
        let answer = client.ask(Api::DescribeCluster, version, &request).await;
        let answer: DescribeClusterResponse<'_> =
            decode_response(Api::DescribeCluster, version, &answer).unwrap();
        assert_eq!((answer.error_code, answer.controller_id), (0, 1));
        assert_eq!(answer.cluster_id, fake::CLUSTER_ID);
        let broker = &answer.brokers[0];
        assert_eq!(
            (broker.broker_id, broker.host, broker.port),
            (1, "127.0.0.1", i32::from(house.address.port()))
        );
        assert!(answer.cluster_authorized_operations > 0);
        if version >= 1 {
            request.endpoint_type = 2;
            let answer = client.ask(Api::DescribeCluster, version, &request).await;
            let answer: DescribeClusterResponse<'_> =
                decode_response(Api::DescribeCluster, version, &answer).unwrap();
            assert_eq!(answer.error_code, 114);
        }
    }
}

#[tokio::test]
async fn partitions_are_described_so_many_at_a_time() {
    let house = House::new().await;
    house.log.create_internal("__sluice.sessions");
    house.log.create("door", 3);
    house.log.create("gate", 1);
    let mut client = house.client().await;
    let mut ask = async |names: &[&'static str], limit, cursor: Option<(String, i32)>| {
        let request = DescribeTopicPartitionsRequest {
            topics: names
                .iter()
                .map(|&name| TopicPartitionsTopic { name })
                .collect(),
            response_partition_limit: limit,
            cursor: cursor.as_ref().map(|(name, index)| TopicPartitionsCursor {
                topic_name: name,
                partition_index: *index,
            }),
        };
        let api = Api::DescribeTopicPartitions;
        let answer = client.ask(api, 0, &request).await;
        let answer: DescribeTopicPartitionsResponse<'_> = decode_response(api, 0, &answer).unwrap();
        let rows = answer.topics.iter().map(|topic| {
            let numbers = topic.partitions.iter().map(|row| row.partition_index);
            let name = topic.name.unwrap().to_owned();
            (name, topic.error_code, numbers.collect::<Vec<_>>())
        });
        let next = answer.next_cursor.as_ref();
        let next = next.map(|cursor| (cursor.topic_name.to_owned(), cursor.partition_index));
        (rows.collect::<Vec<_>>(), next)
    };
    let row = |name: &str, code, numbers: &[i32]| (name.to_owned(), code, numbers.to_vec());
    let (rows, next) = ask(&[], 2000, None).await;
    assert_eq!(rows, [row("door", 0, &[0, 1, 2]), row("gate", 0, &[0])]);
    assert_eq!(next, None);
    let (rows, next) = ask(&[], 2, None).await;
    assert_eq!(rows, [row("door", 0, &[0, 1])]);
    assert_eq!(next, Some(("door".to_owned(), 2)));
    let (rows, next) = ask(&[], 1, next).await;
    assert_eq!(rows, [row("door", 0, &[2])]);
    assert_eq!(next, Some(("gate".to_owned(), 0)));
    let (rows, next) = ask(&[], 1, next).await;
    assert_eq!(rows, [row("gate", 0, &[0])]);
    assert_eq!(next, None);
    let (rows, _) = ask(&["window", "door", "__sluice.sessions"], 2000, None).await;
    let hidden = row("__sluice.sessions", 3, &[]);
    assert_eq!(
        rows,
        [hidden, row("door", 0, &[0, 1, 2]), row("window", 3, &[])]
    );
}

#[tokio::test]
async fn producers_are_described() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    let topic = |name, indexes: &[i32]| DescribeProducersTopic {
        name,
        partition_indexes: indexes.to_vec(),
    };
    let request = DescribeProducersRequest {
        topics: vec![topic("door", &[0, 1]), topic("window", &[0])],
    };
    let answer = client.ask(Api::DescribeProducers, 0, &request).await;
    let answer: DescribeProducersResponse<'_> =
        decode_response(Api::DescribeProducers, 0, &answer).unwrap();
    let door = &answer.topics[0].partitions;
    assert_eq!((door[0].error_code, door[1].error_code), (0, 3));
    let producer = &door[0].active_producers[0];
    assert_eq!((producer.producer_id, producer.producer_epoch), (7, 1));
    assert_eq!(
        (producer.last_sequence, producer.current_txn_start_offset),
        (41, 3)
    );
    assert_eq!(answer.topics[1].partitions[0].error_code, 3);
}
