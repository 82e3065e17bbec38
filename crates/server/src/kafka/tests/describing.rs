//! ApiVersions, Metadata, ListOffsets and OffsetForLeaderEpoch.

use super::*;

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
                (0, 0, 13),
                (1, 4, 18),
                (2, 1, 11),
                (3, 0, 13),
                (8, 2, 10),
                (9, 1, 10),
                (10, 0, 6),
                (11, 0, 9),
                (12, 0, 4),
                (13, 0, 5),
                (14, 0, 5),
                (15, 0, 6),
                (16, 0, 5),
                (17, 0, 1),
                (18, 0, 4),
                (19, 2, 7),
                (20, 1, 6),
                (21, 0, 2),
                (22, 0, 5),
                (23, 2, 4),
                (24, 0, 5),
                (25, 0, 4),
                (26, 0, 4),
                (27, 1, 1),
                (28, 0, 4),
                (32, 1, 4),
                (33, 0, 2),
                (35, 1, 4),
                (36, 0, 2),
                (37, 0, 3),
                (42, 0, 2),
                (44, 0, 1),
                (47, 0, 0),
                (60, 0, 2),
                (61, 0, 0),
                (65, 0, 0),
                (66, 0, 1),
                (75, 0, 0),
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
            // What is repeated is told once.
            named("door"),
            by_id("door"),
            named("window"),
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
