//! Consumer groups over loopback: members of two connections, offsets in their table, and a table
//! that is read again after a crash. The machine itself is tested in the crate `kafka`.

use ::kafka::api::{
    DeleteGroupsRequest, DeleteGroupsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    HeartbeatRequest, HeartbeatResponse, JoinGroupProtocol, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, LeavingMember, ListGroupsRequest, ListGroupsResponse,
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
    OffsetDeletePartition, OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteTopic,
    OffsetFetchGroup, OffsetFetchRequest, OffsetFetchResponse, OffsetFetchTopic,
    SyncGroupAssignment, SyncGroupRequest, SyncGroupResponse,
};
use commitlog::MemoryDisk;

use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::kafka::OFFSETS;
use crate::node::AppendError;

const GROUP: &str = "readers";

/// A house with the offsets table and a topic of two partitions.
async fn house() -> House {
    let house = House::new().await;
    house.log.create_internal(OFFSETS);
    house.log.create("t", 2);
    house
}

fn joining<'a>(member_id: &'a str, metadata: &'a [u8]) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id: GROUP,
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        member_id,
        protocol_type: "consumer",
        protocols: vec![JoinGroupProtocol {
            name: "range",
            metadata,
        }],
        ..Default::default()
    }
}

/// What of a joined member is needed later.
#[derive(Clone, Debug, PartialEq)]
struct Seat {
    error: i16,
    id: String,
    generation: i32,
    members: usize,
}

fn seat(version: i16, answer: &[u8]) -> Seat {
    let answer: JoinGroupResponse<'_> = decode_response(Api::JoinGroup, version, answer).unwrap();
    Seat {
        error: answer.error_code,
        id: answer.member_id.to_owned(),
        generation: answer.generation_id,
        members: answer.members.len(),
    }
}

impl Client {
    async fn join(&mut self, version: i16, member_id: &str, metadata: &[u8]) -> Seat {
        let request = joining(member_id, metadata);
        let answer = self.ask(Api::JoinGroup, version, &request).await;
        seat(version, &answer)
    }

    /// Joins as Kafka's own clients do: with the id of a first answer.
    async fn join_named(&mut self) -> Seat {
        let told = self.join(9, "", b"m").await;
        assert_eq!(told.error, ErrorCode::MemberIdRequired.as_i16());
        self.join(9, &told.id, b"m").await
    }

    async fn sync(&mut self, seat: &Seat, shares: &[(&str, &[u8])]) -> (i16, Vec<u8>) {
        self.send_sync(seat, shares).await;
        let answer = self.receive().await;
        synced(&answer)
    }

    async fn send_sync(&mut self, seat: &Seat, shares: &[(&str, &[u8])]) {
        let request = SyncGroupRequest {
            group_id: GROUP,
            generation_id: seat.generation,
            member_id: &seat.id,
            protocol_type: Some("consumer"),
            protocol_name: Some("range"),
            assignments: shares
                .iter()
                .map(|&(member_id, assignment)| SyncGroupAssignment {
                    member_id,
                    assignment,
                })
                .collect(),
            ..Default::default()
        };
        self.send(Api::SyncGroup, 5, &request).await;
    }

    async fn beat(&mut self, seat: &Seat) -> i16 {
        let request = HeartbeatRequest {
            group_id: GROUP,
            generation_id: seat.generation,
            member_id: &seat.id,
            ..Default::default()
        };
        let answer = self.ask(Api::Heartbeat, 4, &request).await;
        let answer: HeartbeatResponse = decode_response(Api::Heartbeat, 4, &answer).unwrap();
        answer.error_code
    }

    async fn commit(&mut self, seat: Option<&Seat>, partition: i32, offset: i64) -> i16 {
        let request = OffsetCommitRequest {
            group_id: GROUP,
            generation_id: seat.map_or(-1, |seat| seat.generation),
            member_id: seat.map_or("", |seat| &seat.id),
            topics: vec![OffsetCommitTopic {
                name: "t",
                partitions: vec![OffsetCommitPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    committed_metadata: Some("note"),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.ask(Api::OffsetCommit, 8, &request).await;
        let answer: OffsetCommitResponse<'_> =
            decode_response(Api::OffsetCommit, 8, &answer).unwrap();
        answer.topics[0].partitions[0].error_code
    }

    /// Offset and error of each partition.
    async fn offsets(&mut self, stable: bool) -> Vec<(i32, i64, i16)> {
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchGroup {
                group_id: GROUP,
                topics: None,
                ..Default::default()
            }],
            require_stable: stable,
            ..Default::default()
        };
        let answer = self.ask(Api::OffsetFetch, 8, &request).await;
        let answer: OffsetFetchResponse<'_> =
            decode_response(Api::OffsetFetch, 8, &answer).unwrap();
        let topics = answer.groups[0].topics.iter();
        topics
            .flat_map(|topic| &topic.partitions)
            .map(|row| (row.partition_index, row.committed_offset, row.error_code))
            .collect()
    }
}

fn synced(answer: &[u8]) -> (i16, Vec<u8>) {
    let answer: SyncGroupResponse<'_> = decode_response(Api::SyncGroup, 5, answer).unwrap();
    (answer.error_code, answer.assignment.to_vec())
}

#[tokio::test]
async fn this_node_coordinates_everything() {
    let house = house().await;
    let mut client = house.client().await;
    for version in Api::FindCoordinator.versions() {
        let request = FindCoordinatorRequest {
            key: "g",
            coordinator_keys: vec!["g", ""],
            ..Default::default()
        };
        let answer = client.ask(Api::FindCoordinator, version, &request).await;
        let answer: FindCoordinatorResponse<'_> =
            decode_response(Api::FindCoordinator, version, &answer).unwrap();
        let port = i32::from(house.address.port());
        if version < 4 {
            assert_eq!((answer.error_code, answer.node_id), (0, 1));
            assert_eq!((answer.host, answer.port), ("127.0.0.1", port));
        } else {
            let rows = &answer.coordinators;
            assert_eq!((rows[0].error_code, rows[0].host), (0, "127.0.0.1"));
            assert_eq!((rows[0].key, rows[0].port), ("g", port));
            assert_eq!(rows[1].error_code, ErrorCode::InvalidGroupId.as_i16());
        }
    }
}

#[tokio::test]
async fn two_members_share_and_the_dead_one_is_missed() {
    let house = house().await;
    let (mut one, mut two) = (house.client().await, house.client().await);
    let first = one.join_named().await;
    assert_eq!((first.error, first.generation, first.members), (0, 1, 1));
    assert_eq!(one.sync(&first, &[(&first.id, b"all")]).await.1, b"all");

    // The second waits until the first has joined again.
    let told = two.join(9, "", b"m").await;
    two.send(Api::JoinGroup, 9, &joining(&told.id, b"m")).await;
    let rebalance = ErrorCode::RebalanceInProgress.as_i16();
    while one.beat(&first).await != rebalance {
        tokio::task::yield_now().await;
    }
    let first = one.join(9, &first.id, b"m").await;
    let second = seat(9, &two.receive().await);
    assert_eq!((first.generation, first.members), (2, 2));
    assert_eq!((second.generation, second.members), (2, 0));
    two.send_sync(&second, &[]).await;
    let shares: [(&str, &[u8]); 2] = [(&first.id, b"a"), (&second.id, b"b")];
    assert_eq!(one.sync(&first, &shares).await, (0, b"a".to_vec()));
    assert_eq!(synced(&two.receive().await), (0, b"b".to_vec()));

    // Who waits and loses its connection is not waited for: without an id it is gone at once.
    let mut third = house.client().await;
    third.send(Api::JoinGroup, 3, &joining("", b"m")).await;
    while one.beat(&first).await != rebalance {
        tokio::task::yield_now().await;
    }
    drop(third);
    while house.door.groups().values().members != 2 {
        tokio::task::yield_now().await;
    }
    let request = LeaveGroupRequest {
        group_id: GROUP,
        members: vec![
            LeavingMember {
                member_id: &second.id,
                ..Default::default()
            },
            LeavingMember {
                member_id: "nobody",
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    let answer = two.ask(Api::LeaveGroup, 5, &request).await;
    let answer: LeaveGroupResponse<'_> = decode_response(Api::LeaveGroup, 5, &answer).unwrap();
    let errors: Vec<i16> = answer.members.iter().map(|row| row.error_code).collect();
    assert_eq!(errors, [0, ErrorCode::UnknownMemberId.as_i16()]);
    let first = one.join(9, &first.id, b"m").await;
    assert_eq!((first.error, first.members), (0, 1));
}

#[tokio::test]
async fn time_takes_a_silent_member_out() {
    let house = house().await;
    let mut client = house.client().await;
    let mut request = joining("", b"m");
    request.session_timeout_ms = 100;
    let answer = client.ask(Api::JoinGroup, 3, &request).await;
    assert_eq!(seat(3, &answer).error, 0);
    while house.door.groups().values().members_lost != 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.door.groups().values().members, 0);
}

#[tokio::test]
async fn offsets_are_committed_fetched_and_deleted() {
    let house = house().await;
    let mut client = house.client().await;
    assert_eq!(client.commit(None, 0, 5).await, 0);
    assert_eq!(client.commit(None, 1, 7).await, 0);
    let unknown = ErrorCode::UnknownTopicOrPartition.as_i16();
    assert_eq!(client.commit(None, 2, 7).await, unknown);
    assert_eq!(client.offsets(true).await, [(0, 5, 0), (1, 7, 0)]);
    for version in Api::OffsetFetch.versions() {
        let topic = OffsetFetchTopic {
            name: "t",
            topic_id: fake::topic_id("t"),
            partition_indexes: vec![1, 9, 1],
        };
        let request = OffsetFetchRequest {
            group_id: GROUP,
            topics: Some(vec![topic.clone()]),
            groups: vec![OffsetFetchGroup {
                group_id: GROUP,
                topics: Some(vec![topic]),
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = client.ask(Api::OffsetFetch, version, &request).await;
        let answer: OffsetFetchResponse<'_> =
            decode_response(Api::OffsetFetch, version, &answer).unwrap();
        let topics = if version < 8 {
            &answer.topics
        } else {
            &answer.groups[0].topics
        };
        let [known, unknown] = &topics[0].partitions[..] else {
            panic!("two partitions were asked for");
        };
        assert_eq!((known.committed_offset, known.metadata), (7, Some("note")));
        assert_eq!((unknown.committed_offset, unknown.error_code), (-1, 0));
        assert_eq!(unknown.metadata, Some(""));
    }

    // An offset that a transaction may replace is not told to who wants stable ones.
    let groups = &house.door.groups;
    groups.pend(9, GROUP, &[("t", 1)]);
    let unstable = ErrorCode::UnstableOffsetCommit.as_i16();
    let told = [(0, 5, 0), (1, -1, unstable)];
    assert_eq!(client.offsets(true).await, told);
    assert_eq!(client.offsets(false).await, [(0, 5, 0), (1, 7, 0)]);
    let offset = ::kafka::offsets::CommittedOffset {
        offset: 8,
        ..Default::default()
    };
    let records = groups.offset_records(GROUP, [("t", 1, offset)]);
    groups.settle(9, &records, 50);
    assert_eq!(client.offsets(true).await, [(0, 5, 0), (1, 8, 0)]);

    let request = OffsetDeleteRequest {
        group_id: GROUP,
        topics: vec![OffsetDeleteTopic {
            name: "t",
            partitions: vec![OffsetDeletePartition { partition_index: 0 }],
        }],
    };
    let answer = client.ask(Api::OffsetDelete, 0, &request).await;
    let answer: OffsetDeleteResponse<'_> = decode_response(Api::OffsetDelete, 0, &answer).unwrap();
    assert_eq!(answer.error_code, 0);
    assert_eq!(client.offsets(true).await, [(1, 8, 0)]);
}

#[tokio::test]
async fn commits_of_members_are_fenced_and_a_full_disk_says_so() {
    let house = house().await;
    let mut client = house.client().await;
    let member = client.join_named().await;
    client.sync(&member, &[(&member.id, b"x")]).await;
    assert_eq!(client.commit(Some(&member), 0, 1).await, 0);
    let mut old = member.clone();
    old.generation -= 1;
    let illegal = ErrorCode::IllegalGeneration.as_i16();
    assert_eq!(client.commit(Some(&old), 0, 2).await, illegal);
    let unknown = ErrorCode::UnknownMemberId.as_i16();
    assert_eq!(client.commit(None, 0, 2).await, unknown);
    assert_eq!(client.offsets(false).await, [(0, 1, 0)]);
    house.log.refuse(AppendError::Full);
    let refused = ErrorCode::CoordinatorNotAvailable.as_i16();
    assert_eq!(client.commit(Some(&member), 0, 3).await, refused);
    assert_eq!(client.offsets(false).await, [(0, 1, 0)]);
}

#[tokio::test]
async fn groups_are_listed_described_and_deleted() {
    let house = house().await;
    let mut client = house.client().await;
    let member = client.join_named().await;
    client.sync(&member, &[(&member.id, b"x")]).await;
    assert_eq!(client.commit(Some(&member), 0, 0).await, 0);

    let list = |states: Vec<&'static str>, types: Vec<&'static str>| ListGroupsRequest {
        states_filter: states,
        types_filter: types,
    };
    for (request, count) in [
        (list(vec![], vec![]), 1),
        (list(vec!["stable"], vec!["Classic"]), 1),
        (list(vec!["Empty"], vec![]), 0),
        (list(vec![], vec!["consumer"]), 0),
    ] {
        let answer = client.ask(Api::ListGroups, 5, &request).await;
        let answer: ListGroupsResponse<'_> = decode_response(Api::ListGroups, 5, &answer).unwrap();
        assert_eq!(answer.groups.len(), count, "{request:?}");
        if let Some(row) = answer.groups.first() {
            assert_eq!((row.group_state, row.protocol_type), ("Stable", "consumer"));
        }
    }

    for version in Api::DescribeGroups.versions() {
        let request = DescribeGroupsRequest {
            groups: vec![GROUP, "none", GROUP],
            include_authorized_operations: true,
        };
        let answer = client.ask(Api::DescribeGroups, version, &request).await;
        let answer: DescribeGroupsResponse<'_> =
            decode_response(Api::DescribeGroups, version, &answer).unwrap();
        let [known, unknown] = &answer.groups[..] else {
            panic!("two groups were asked for");
        };
        assert_eq!(
            (known.group_state, known.protocol_data),
            ("Stable", "range")
        );
        let row = &known.members[0];
        assert_eq!(
            (row.member_id, row.client_host),
            (&*member.id, "/127.0.0.1")
        );
        assert_eq!(
            (row.member_metadata, row.member_assignment),
            (&b"m"[..], &b"x"[..])
        );
        if version >= 3 {
            // READ, DELETE, DESCRIBE at least.
            assert_eq!(known.authorized_operations & 0x148, 0x148);
        }
        assert_eq!(unknown.group_state, "Dead");
        let absent = ErrorCode::GroupIdNotFound.as_i16();
        assert_eq!(unknown.error_code, if version < 6 { 0 } else { absent });
    }

    let delete = DeleteGroupsRequest {
        group_names: vec![GROUP, "none"],
    };
    let errors = async |client: &mut Client| {
        let answer = client.ask(Api::DeleteGroups, 2, &delete).await;
        let answer: DeleteGroupsResponse<'_> =
            decode_response(Api::DeleteGroups, 2, &answer).unwrap();
        let rows = answer.results.iter();
        rows.map(|row| row.error_code).collect::<Vec<_>>()
    };
    let absent = ErrorCode::GroupIdNotFound.as_i16();
    let full = ErrorCode::NonEmptyGroup.as_i16();
    assert_eq!(errors(&mut client).await, [full, absent]);
    let leave = LeaveGroupRequest {
        group_id: GROUP,
        member_id: &member.id,
        ..Default::default()
    };
    client.ask(Api::LeaveGroup, 2, &leave).await;
    assert_eq!(errors(&mut client).await, [0, absent]);
    assert!(client.offsets(false).await.is_empty());
    assert_eq!(errors(&mut client).await, [absent, absent]);
}

#[tokio::test]
async fn pages_of_groups_tell_the_lag_and_a_deleted_topic_has_none() {
    let house = house().await;
    let mut client = house.client().await;
    house.log.append("t", 0, &[1, 2, 3]);
    assert_eq!(client.commit(None, 0, 1).await, 0);
    let groups = house.door.groups();
    let page = groups.page(Some("read"), None, 10);
    assert_eq!((page.items.len(), &page.next), (1, &None));
    let row = &page.items[0];
    assert_eq!((&*row.group, &*row.state), (GROUP, "Empty"));
    let offset = &row.offsets[0];
    assert_eq!(
        (offset.committed, offset.end, offset.lag),
        (1, Some(3), Some(2))
    );
    assert!(groups.page(None, Some(GROUP), 10).items.is_empty());
    let values = groups.values();
    let labels = [GROUP.to_owned(), "t".to_owned(), "0".to_owned()];
    assert_eq!(values.lags, [(labels, 2)]);
    assert_eq!((values.offsets, values.commits), (1, 1));

    assert_eq!(client.delete_topic("t").await, 0);
    assert!(client.offsets(false).await.is_empty());
    assert_eq!(house.log.deleted_with(), [1], "in the same entry");
}

impl Client {
    async fn delete_topic(&mut self, name: &str) -> i16 {
        self.send_delete(name).await;
        let answer = self.receive().await;
        deleted(&answer)
    }

    async fn send_delete(&mut self, name: &str) {
        let request = DeleteTopicsRequest {
            topic_names: vec![name],
            timeout_ms: 1000,
            ..Default::default()
        };
        self.send(Api::DeleteTopics, 5, &request).await;
    }
}

fn deleted(answer: &[u8]) -> i16 {
    let answer: DeleteTopicsResponse<'_> = decode_response(Api::DeleteTopics, 5, answer).unwrap();
    answer.responses[0].error_code
}

#[tokio::test]
async fn nothing_is_committed_for_a_topic_that_is_being_deleted() {
    let house = house().await;
    let (mut client, mut other) = (house.client().await, house.client().await);
    // A commit is on its way, then the deletion, then another commit.
    house.log.stand_still();
    let early = tokio::spawn(async move {
        assert_eq!(client.commit(None, 0, 1).await, 0);
        client
    });
    while house.log.held() < 1 {
        tokio::task::yield_now().await;
    }
    other.send_delete("t").await;
    let mut late = house.client().await;
    let absent = ErrorCode::UnknownTopicOrPartition.as_i16();
    loop {
        // Until the deletion has begun, commits wait for the log.
        let commit = tokio::time::timeout(Duration::from_millis(20), late.commit(None, 1, 1));
        if let Ok(error) = commit.await {
            assert_eq!(error, absent);
            break;
        }
        late = house.client().await;
    }
    house.log.go_on();
    let mut client = early.await.unwrap();
    assert_eq!(deleted(&other.receive().await), 0);
    assert!(client.offsets(false).await.is_empty());
    house.log.create("t", 2);
    assert!(client.offsets(false).await.is_empty());
    assert_eq!(client.commit(None, 1, 1).await, 0);
    assert_eq!(client.offsets(false).await, [(1, 1, 0)]);
}

#[tokio::test]
async fn what_a_deletion_had_no_time_for_is_not_found_by_a_successor() {
    let mut node = real_log::Node::new(MemoryDisk::new());
    node.flushes_itself = true;
    for name in ["t", OFFSETS, "__sluice.transactions"] {
        node.create(name, commitlog::Ack::Append);
    }
    {
        let (mut client, _door, _stop) = node.serve().await;
        assert_eq!(client.commit(None, 0, 7).await, 0);
    }
    // As if the offsets had not fitted into the entry of the deletion.
    let log = node.log.clone();
    let delete = |log: &Mutex<commitlog::Log>| log.lock().unwrap().delete_stream("t", 0);
    delete(&log).unwrap();
    drop(log);
    for _ in 0..2 {
        let disk = node.disk.clone();
        drop(node);
        disk.crash(false);
        node = real_log::Node::new(disk);
        node.flushes_itself = true;
        let (mut client, door, _stop) = node.serve().await;
        assert!(client.offsets(false).await.is_empty());
        assert_eq!(door.groups().values().offsets, 0);
        node.create("t", commitlog::Ack::Append);
        assert!(client.offsets(false).await.is_empty());
        delete(&node.log).unwrap();
    }
    node.create("t", commitlog::Ack::Append);
    let (mut client, _door, _stop) = node.serve().await;
    assert!(client.offsets(false).await.is_empty());
}

#[tokio::test]
async fn committed_offsets_survive_a_crash() {
    let mut node = real_log::Node::new(MemoryDisk::new());
    node.create("t", commitlog::Ack::Append);
    node.create(OFFSETS, commitlog::Ack::Append);
    let disk = node.disk.clone();
    {
        let (mut client, _door, _stop) = node.serve().await;
        for offset in 0..50 {
            assert_eq!(client.commit(None, (offset % 2) as i32, offset).await, 0);
        }
    }
    drop(node);
    disk.crash(false);
    let node = real_log::Node::new(disk);
    let (mut client, _door, _stop) = node.serve().await;
    assert_eq!(client.offsets(false).await, [(0, 48, 0), (1, 49, 0)]);
}
