//! What an administrator is told of sizes, the cluster, partitions and producers.

use ::kafka::api::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeProducersRequest, DescribeProducersResponse,
    DescribeProducersTopic, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    LogDirsTopic, TopicPartitionsCursor, TopicPartitionsTopic,
};

use super::administering::facts;
use super::*;

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
        topics: vec![topic("door", &[0, 1, 0]), topic("window", &[0])],
    };
    let answer = client.ask(Api::DescribeProducers, 0, &request).await;
    let answer: DescribeProducersResponse<'_> =
        decode_response(Api::DescribeProducers, 0, &answer).unwrap();
    let door = &answer.topics[0].partitions;
    assert_eq!(door.len(), 2, "each once");
    assert_eq!((door[0].error_code, door[1].error_code), (0, 3));
    let producer = &door[0].active_producers[0];
    assert_eq!((producer.producer_id, producer.producer_epoch), (7, 1));
    assert_eq!(
        (producer.last_sequence, producer.current_txn_start_offset),
        (41, 3)
    );
    assert_eq!(answer.topics[1].partitions[0].error_code, 3);
}
