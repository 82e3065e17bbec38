//! Dialogues of members with the machine: joining, assigning, leaving, dying, coming back.

use super::*;

const GROUP: &str = "g";
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;

/// The machine, with a clock and answers by token.
struct Bench {
    groups: Groups,
    now_ms: u64,
    next: Token,
    answers: Vec<Answered>,
}

/// A member as a client library keeps it.
#[derive(Clone, Debug, Default)]
struct Client {
    id: String,
    instance: Option<&'static str>,
    generation: i32,
    protocols: Vec<(&'static str, &'static [u8])>,
    knows_skip: bool,
}

fn client() -> Client {
    Client {
        protocols: vec![("range", b"meta")],
        knows_skip: true,
        ..Client::default()
    }
}

fn static_client(instance: &'static str) -> Client {
    Client {
        instance: Some(instance),
        ..client()
    }
}

impl Client {
    fn claim(&self) -> Claim<'_> {
        Claim {
            member_id: &self.id,
            instance_id: self.instance,
            generation: self.generation,
        }
    }

    fn take(&mut self, joined: &Joined) {
        self.id = joined.member_id.to_string();
        self.generation = joined.generation;
    }
}

impl Bench {
    fn new(rules: GroupRules) -> Self {
        Self {
            groups: Groups::new(rules),
            now_ms: 1_000,
            next: 0,
            answers: Vec::new(),
        }
    }

    fn eager() -> Self {
        Self::new(GroupRules {
            rebalance_delay_ms: 0,
            ..GroupRules::default()
        })
    }

    fn join_with(&mut self, client: &Client, id_first: bool) -> Token {
        self.next += 1;
        let request = JoinRequest {
            group: GROUP,
            member_id: &client.id,
            instance_id: client.instance,
            client_id: "c",
            client_host: "/127.0.0.1",
            protocol_type: "consumer",
            protocols: client.protocols.clone(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            id_first,
            knows_skip: client.knows_skip,
        };
        let mut random = [0; 16];
        random[..8].copy_from_slice(&self.next.to_be_bytes());
        self.groups
            .join(&request, self.next, self.now_ms, random, &mut self.answers);
        self.next
    }

    fn join(&mut self, client: &Client) -> Token {
        self.join_with(client, false)
    }

    fn sync(&mut self, client: &Client, assignments: &[(&str, &[u8])]) -> Token {
        self.next += 1;
        let request = SyncRequest {
            group: GROUP,
            generation: client.generation,
            member_id: &client.id,
            instance_id: client.instance,
            protocol_type: Some("consumer"),
            protocol: None,
            assignments: assignments.to_vec(),
        };
        self.groups
            .sync(&request, self.next, self.now_ms, &mut self.answers);
        self.next
    }

    fn beat(&mut self, client: &Client) -> Result<(), ErrorCode> {
        self.groups.heartbeat(GROUP, client.claim(), self.now_ms)
    }

    fn commit(&mut self, client: &Client) -> Result<(), ErrorCode> {
        self.groups
            .admit_commit(GROUP, client.claim(), false, self.now_ms)
    }

    fn leave(&mut self, client: &Client) -> ErrorCode {
        let leaving = [Leaving {
            member_id: &client.id,
            instance_id: client.instance,
        }];
        self.groups
            .leave(GROUP, &leaving, self.now_ms, &mut self.answers)
            .unwrap()[0]
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.groups.tick(self.now_ms, &mut self.answers);
    }

    /// The answer under this token, if it is there.
    fn answer(&mut self, token: Token) -> Option<Answer> {
        let at = self.answers.iter().position(|(own, _)| *own == token)?;
        Some(self.answers.remove(at).1)
    }

    fn joined(&mut self, token: Token) -> Joined {
        match self.answer(token) {
            Some(Answer::Join(joined)) => joined,
            other => panic!("no answer to a join: {other:?}"),
        }
    }

    fn synced(&mut self, token: Token) -> Synced {
        match self.answer(token) {
            Some(Answer::Sync(synced)) => synced,
            other => panic!("no answer to a sync: {other:?}"),
        }
    }

    fn state(&self) -> GroupState {
        self.groups
            .get(GROUP)
            .map_or(GroupState::Dead, |group| group.state())
    }

    /// Two members in a stable group; the first leads.
    fn pair(&mut self) -> (Client, Client) {
        let (mut one, mut two) = (client(), client());
        let token = self.join(&one);
        one.take(&self.joined(token));
        let second = self.join(&two);
        let first = self.join(&one);
        one.take(&self.joined(first));
        two.take(&self.joined(second));
        let second = self.sync(&two, &[]);
        let first = self.sync(&one, &[(&one.id, b"a"), (&two.id, b"b")]);
        assert_eq!(&self.synced(first).assignment[..], b"a");
        assert_eq!(&self.synced(second).assignment[..], b"b");
        assert_eq!(self.state(), GroupState::Stable);
        (one, two)
    }
}

#[test]
fn a_second_member_makes_the_first_join_again_and_both_are_assigned() {
    let mut bench = Bench::eager();
    let (mut one, mut two) = (client(), client());
    let token = bench.join(&one);
    let joined = bench.joined(token);
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, 1));
    assert_eq!(joined.members.len(), 1, "the leader is told the members");
    assert_eq!(&joined.members[0].metadata[..], b"meta");
    one.take(&joined);
    let token = bench.sync(&one, &[(&one.id, b"all")]);
    assert_eq!(&bench.synced(token).assignment[..], b"all");
    assert_eq!(bench.beat(&one), Ok(()));

    let second = bench.join(&two);
    assert!(
        bench.answer(second).is_none(),
        "the first has to join again"
    );
    assert_eq!(bench.beat(&one), Err(ErrorCode::RebalanceInProgress));
    let first = bench.join(&one);
    let (first, second) = (bench.joined(first), bench.joined(second));
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
    assert_eq!(first.leader, second.leader);
    assert_eq!(bench.state(), GroupState::CompletingRebalance);
    two.take(&second);
    // A commit of the generation before is refused, and one before the assignment too.
    assert_eq!(bench.commit(&one), Err(ErrorCode::IllegalGeneration));
    one.take(&first);
    assert_eq!(bench.commit(&one), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn a_follower_waits_for_the_leaders_assignment() {
    let mut bench = Bench::eager();
    let (one, two) = bench.pair();
    // A sync in a stable group is answered at once.
    let token = bench.sync(&two, &[]);
    assert_eq!(&bench.synced(token).assignment[..], b"b");
    assert_eq!(bench.commit(&one), Ok(()));
    let old = Client {
        generation: 1,
        ..one.clone()
    };
    let token = bench.sync(&old, &[]);
    assert_eq!(bench.synced(token).error, ErrorCode::IllegalGeneration);
    let token = bench.sync(&client(), &[]);
    assert_eq!(bench.synced(token).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_first_join_gets_an_id_and_the_second_a_place() {
    let mut bench = Bench::eager();
    let mut one = client();
    let token = bench.join_with(&one, true);
    let told = bench.joined(token);
    assert_eq!(told.error, ErrorCode::MemberIdRequired);
    assert!(told.member_id.starts_with("c-"), "{}", told.member_id);
    one.take(&told);
    let token = bench.join_with(&one, true);
    assert_eq!(bench.joined(token).generation, 1);
    // An id that is not used in time is worth nothing any more, and leaves nothing behind.
    let mut bench = Bench::eager();
    let token = bench.join_with(&client(), true);
    one.take(&bench.joined(token));
    assert_eq!(bench.groups.next_deadline(), Some(11_000));
    bench.wait(10_000);
    let token = bench.join_with(&one, true);
    assert_eq!(bench.joined(token).error, ErrorCode::UnknownMemberId);
    assert_eq!(
        bench.groups.get(GROUP).map(|view| view.members_count()),
        None
    );
    assert_eq!(bench.groups.next_deadline(), None);
}

#[test]
fn a_promised_member_holds_the_rebalance_until_it_comes_or_not() {
    let mut bench = Bench::eager();
    let mut one = client();
    let token = bench.join(&one);
    one.take(&bench.joined(token));
    let token = bench.join_with(&client(), true);
    assert_eq!(bench.joined(token).error, ErrorCode::MemberIdRequired);
    let token = bench.join(&Client {
        protocols: vec![("range", b"other")],
        ..one.clone()
    });
    assert!(bench.answer(token).is_none());
    bench.wait(10_000);
    assert_eq!(bench.joined(token).generation, 2);
}

#[test]
fn the_initial_delay_gathers_members_and_grows_with_them() {
    let mut bench = Bench::new(GroupRules {
        rebalance_delay_ms: 3_000,
        ..GroupRules::default()
    });
    let first = bench.join(&client());
    bench.wait(2_000);
    let second = bench.join(&client());
    bench.wait(1_000);
    assert!(bench.answer(first).is_none(), "somebody has come: wait on");
    bench.wait(3_000);
    assert_eq!(bench.joined(first).generation, 1);
    assert_eq!(bench.joined(second).generation, 1);
}

#[test]
fn a_silent_member_is_lost_and_the_others_share() {
    let mut bench = Bench::eager();
    let (one, two) = bench.pair();
    bench.wait(6_000);
    assert_eq!(bench.beat(&one), Ok(()));
    bench.wait(4_000);
    assert_eq!(bench.groups.counts().members_lost, 1);
    assert_eq!(bench.beat(&one), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(bench.beat(&two), Err(ErrorCode::UnknownMemberId));
    assert_eq!(bench.commit(&two), Err(ErrorCode::UnknownMemberId));
    let token = bench.join(&one);
    let joined = bench.joined(token);
    assert_eq!((joined.generation, joined.members.len()), (3, 1));
}

#[test]
fn a_leader_that_dies_before_its_assignment_is_replaced() {
    let mut bench = Bench::eager();
    let (mut one, mut two) = (client(), client());
    let token = bench.join(&one);
    one.take(&bench.joined(token));
    let second = bench.join(&two);
    let first = bench.join(&one);
    one.take(&bench.joined(first));
    two.take(&bench.joined(second));
    let parked = bench.sync(&two, &[]);
    assert!(bench.answer(parked).is_none());
    bench.wait(10_000);
    // The leader was silent; who waits is told to join again, and leads.
    assert_eq!(bench.synced(parked).error, ErrorCode::RebalanceInProgress);
    let token = bench.join(&two);
    let joined = bench.joined(token);
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!((joined.generation, joined.members.len()), (3, 1));
}

#[test]
fn a_leader_that_beats_but_never_assigns_is_given_up() {
    let mut bench = Bench::eager();
    let (mut one, mut two) = (client(), client());
    let token = bench.join(&one);
    one.take(&bench.joined(token));
    let second = bench.join(&two);
    let first = bench.join(&one);
    one.take(&bench.joined(first));
    two.take(&bench.joined(second));
    let parked = bench.sync(&two, &[]);
    for _ in 0..12 {
        assert!(bench.answer(parked).is_none());
        bench.wait(5_000);
        let _ = bench.beat(&one);
    }
    assert_eq!(bench.synced(parked).error, ErrorCode::RebalanceInProgress);
    assert_eq!(bench.beat(&one), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_member_that_does_not_join_again_is_left_behind() {
    let mut bench = Bench::eager();
    let (one, two) = bench.pair();
    let token = bench.join(&one);
    for _ in 0..11 {
        bench.wait(5_000);
        assert_eq!(bench.beat(&two), Err(ErrorCode::RebalanceInProgress));
    }
    assert!(bench.answer(token).is_none());
    bench.wait(5_000);
    let joined = bench.joined(token);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(bench.beat(&two), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn leaving_is_at_once_and_by_batch() {
    let mut bench = Bench::eager();
    let (one, two) = bench.pair();
    assert_eq!(bench.leave(&two), ErrorCode::None);
    assert_eq!(bench.leave(&two), ErrorCode::UnknownMemberId);
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    let token = bench.join(&one);
    assert_eq!(bench.joined(token).members.len(), 1);
    assert_eq!(bench.leave(&one), ErrorCode::None);
    assert_eq!(bench.state(), GroupState::Empty);
    assert_eq!(bench.groups.next_deadline(), None);
    // Whoever is no member commits to an empty group, and to no other.
    let nobody = Client {
        generation: -1,
        ..client()
    };
    assert_eq!(bench.commit(&nobody), Ok(()));
    bench.pair();
    assert_eq!(bench.commit(&nobody), Err(ErrorCode::UnknownMemberId));
    let transactional = bench
        .groups
        .admit_commit(GROUP, nobody.claim(), true, bench.now_ms);
    assert_eq!(transactional, Ok(()));
    let mut answers = Vec::new();
    let unknown = Leaving {
        member_id: "x",
        instance_id: None,
    };
    let gone = bench
        .groups
        .leave("no such group", &[unknown, unknown], 0, &mut answers);
    assert_eq!(gone, Ok(vec![ErrorCode::UnknownMemberId; 2]));
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_its_double() {
    let mut bench = Bench::eager();
    let (mut one, mut two) = (static_client("i1"), static_client("i2"));
    let token = bench.join(&one);
    one.take(&bench.joined(token));
    let second = bench.join(&two);
    let first = bench.join(&one);
    one.take(&bench.joined(first));
    two.take(&bench.joined(second));
    let second = bench.sync(&two, &[]);
    bench.sync(&one, &[(&one.id, b"a"), (&two.id, b"b")]);
    bench.synced(second);

    // The follower.
    let mut again = static_client("i2");
    let token = bench.join(&again);
    let joined = bench.joined(token);
    assert_eq!((joined.generation, joined.error), (2, ErrorCode::None));
    assert!(!joined.skip_assignment);
    again.take(&joined);
    let token = bench.sync(&again, &[]);
    assert_eq!(&bench.synced(token).assignment[..], b"b");
    assert_eq!(bench.beat(&two), Err(ErrorCode::FencedInstanceId));
    assert_eq!(bench.commit(&two), Err(ErrorCode::FencedInstanceId));
    assert_eq!(bench.leave(&two), ErrorCode::FencedInstanceId);
    assert_eq!(bench.state(), GroupState::Stable);

    // The leader, once with the flag to skip the assignment and once without.
    let mut led = static_client("i1");
    let token = bench.join(&led);
    let joined = bench.joined(token);
    assert!(joined.skip_assignment);
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.members.len(), 2);
    led.take(&joined);
    let older = Client {
        knows_skip: false,
        ..static_client("i1")
    };
    let token = bench.join(&older);
    let joined = bench.joined(token);
    assert!(!joined.skip_assignment && joined.members.is_empty());
    assert_eq!(
        *joined.leader, *led.id,
        "it must not take itself for the leader"
    );
    assert_eq!(bench.groups.counts().members_lost, 0);
}

#[test]
fn a_static_member_may_be_away_for_its_session() {
    let mut bench = Bench::eager();
    let (mut one, mut two) = (static_client("i1"), static_client("i2"));
    let token = bench.join(&one);
    one.take(&bench.joined(token));
    let second = bench.join(&two);
    let first = bench.join(&one);
    one.take(&bench.joined(first));
    two.take(&bench.joined(second));
    bench.sync(&one, &[]);
    bench.sync(&two, &[]);
    for _ in 0..3 {
        bench.wait(3_000);
        assert_eq!(bench.beat(&one), Ok(()));
    }
    bench.wait(1_000);
    assert_eq!(bench.beat(&one), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(bench.beat(&two), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_dropped_join_without_an_id_leaves_nothing_and_with_one_may_come_back() {
    let mut bench = Bench::eager();
    let (mut one, mut two) = bench.pair();
    let token = bench.join(&client());
    bench
        .groups
        .dropped(GROUP, token, bench.now_ms, &mut bench.answers);
    let view = bench.groups.get(GROUP).unwrap();
    assert_eq!(view.members_count(), 2);
    let token = bench.join(&one);
    bench
        .groups
        .dropped(GROUP, token, bench.now_ms, &mut bench.answers);
    let second = bench.join(&two);
    assert!(bench.answer(second).is_none());
    let first = bench.join(&one);
    one.take(&bench.joined(first));
    two.take(&bench.joined(second));
    assert_eq!(one.generation, two.generation);
    // And one that does not come back is lost by its session.
    let third = bench.join(&Client {
        protocols: vec![("range", b"changed")],
        ..one.clone()
    });
    bench
        .groups
        .dropped(GROUP, third, bench.now_ms, &mut bench.answers);
    bench.wait(5_000);
    assert_eq!(bench.beat(&two), Err(ErrorCode::RebalanceInProgress));
    bench.wait(5_000);
    assert_eq!(bench.groups.get(GROUP).unwrap().members_count(), 1);
}

#[test]
fn a_second_request_of_a_member_answers_the_first() {
    let mut bench = Bench::eager();
    let (one, _two) = bench.pair();
    let first = bench.join(&one);
    let again = bench.join(&one);
    assert_eq!(bench.joined(first).error, ErrorCode::RebalanceInProgress);
    assert!(bench.answer(again).is_none());
}

#[test]
fn a_follower_that_joins_unchanged_is_told_what_it_missed() {
    let mut bench = Bench::eager();
    let (_, two) = bench.pair();
    let token = bench.join(&two);
    assert_eq!(bench.joined(token).generation, two.generation);
    assert_eq!(bench.state(), GroupState::Stable);
}

#[test]
fn the_protocol_is_chosen_by_vote_and_a_stranger_is_refused() {
    let mut bench = Bench::new(GroupRules {
        rebalance_delay_ms: 1_000,
        ..GroupRules::default()
    });
    let speaks = |protocols: &[(&'static str, &'static [u8])]| Client {
        protocols: protocols.to_vec(),
        ..client()
    };
    let first = bench.join(&speaks(&[("a", b""), ("b", b""), ("c", b"")]));
    let second = bench.join(&speaks(&[("d", b""), ("b", b""), ("a", b"")]));
    let third = bench.join(&speaks(&[("b", b""), ("a", b"")]));
    let stranger = bench.join(&speaks(&[("c", b"")]));
    assert_eq!(
        bench.joined(stranger).error,
        ErrorCode::InconsistentGroupProtocol
    );
    bench.wait(1_000);
    bench.wait(1_000);
    for token in [first, second, third] {
        assert_eq!(bench.joined(token).protocol.as_deref(), Some("b"));
    }
}

#[test]
fn bounds_are_held() {
    let mut bench = Bench::new(GroupRules {
        members_max: 2,
        groups_max: 1,
        rebalance_delay_ms: 0,
        ..GroupRules::default()
    });
    bench.pair();
    let token = bench.join(&client());
    assert_eq!(bench.joined(token).error, ErrorCode::GroupMaxSizeReached);
    let refused = |bench: &mut Bench, change: fn(&mut JoinRequest<'_>)| {
        bench.next += 1;
        let mut request = JoinRequest {
            group: GROUP,
            protocol_type: "consumer",
            protocols: vec![("range", b"")],
            session_timeout_ms: SESSION_MS,
            ..JoinRequest::default()
        };
        change(&mut request);
        bench
            .groups
            .join(&request, bench.next, 0, [0; 16], &mut bench.answers);
        let token = bench.next;
        bench.joined(token).error
    };
    let timeout = ErrorCode::InvalidSessionTimeout;
    assert_eq!(
        refused(&mut bench, |r| r.session_timeout_ms = 5_999),
        timeout
    );
    assert_eq!(refused(&mut bench, |r| r.session_timeout_ms = -1), timeout);
    assert_eq!(
        refused(&mut bench, |r| r.group = ""),
        ErrorCode::InvalidGroupId
    );
    assert_eq!(
        refused(&mut bench, |r| r.group = "another"),
        ErrorCode::CoordinatorNotAvailable
    );
    static LARGE: [u8; limits::MEMBER_METADATA_BYTES_MAX] = [0; limits::MEMBER_METADATA_BYTES_MAX];
    assert_eq!(
        refused(&mut bench, |r| r.protocols = vec![("range", &LARGE)]),
        ErrorCode::InvalidRequest
    );
    static LONG: &str = match str::from_utf8(&[b'x'; limits::MEMBER_ID_BYTES_MAX + 1]) {
        Ok(long) => long,
        Err(_) => "",
    };
    assert_eq!(
        refused(&mut bench, |r| r.protocol_type = LONG),
        ErrorCode::InvalidRequest
    );
    assert_eq!(
        refused(&mut bench, |r| (r.group, r.member_id) = ("another", "x")),
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn a_subscription_is_read_where_it_can_be() {
    let mut bench = Bench::eager();
    // Version 1; the topics "t" and "uv"; user metadata that is of no interest.
    let metadata: &[u8] = b"\0\x01\0\0\0\x02\0\x01t\0\x02uv\xff\xff\xff\xff";
    let token = bench.join(&Client {
        protocols: vec![("range", metadata)],
        ..client()
    });
    bench.joined(token);
    let view = bench.groups.get(GROUP).unwrap();
    assert_eq!(view.subscribes("uv"), Some(true));
    assert_eq!(view.subscribes("u"), Some(false));
}

#[test]
fn an_assignment_for_which_there_is_no_room_is_refused() {
    let mut bench = Bench::eager();
    let mut leader = client();
    let token = bench.join(&leader);
    let joined = bench.joined(token);
    leader.take(&joined);
    let used = bench.groups.size_bytes;
    assert!(used >= leader.id.len() + "c/127.0.0.1consumerrangemeta".len());

    // Other groups have left six bytes.
    bench.groups.size_bytes = limits::GROUPS_BYTES_MAX - 6;
    let token = bench.sync(&leader, &[(&leader.id, b"seven b")]);
    assert_eq!(
        bench.synced(token).error,
        ErrorCode::CoordinatorNotAvailable
    );
    let token = bench.sync(&leader, &[(&leader.id, b"six by")]);
    assert_eq!(bench.synced(token).error, ErrorCode::None);
    assert_eq!(bench.groups.size_bytes, limits::GROUPS_BYTES_MAX);

    // All of it is given back with the group.
    bench.groups.size_bytes = bench.groups.kept[GROUP].size_bytes;
    bench.now_ms += SESSION_MS as u64;
    bench.groups.tick(bench.now_ms, &mut bench.answers);
    assert!(bench.groups.size_bytes > 0, "its protocol type");
    bench.groups.sweep(|_| false);
    assert_eq!(bench.groups.size_bytes, 0);
}
