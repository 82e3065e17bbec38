//! Answers that wait until the cluster behind has their messages, and those that waited too long.

use crate::harness::{World, lasting, publish_id, v5, v311};
use crate::hooks::Event;
use crate::input::ConnId;
use commitlog::Ack as Level;
use mqtt::QoS;

const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;
const ALL: [u64; 2] = [u64::MAX; 2];

fn world() -> World {
    let hooks = [
        (Event::MessagePublish, "far/#", "far"),
        (Event::MessagePublish, "near/#", "second"),
    ];
    World::with_hooks(&hooks)
}

/// What came besides that nobody subscribes.
fn answers(world: &mut World, conn: ConnId) -> Vec<String> {
    let got = world.got(conn).into_iter();
    got.map(|line| line.replace(" no_matching_subscribers", ""))
        .collect()
}

/// Two clients whose messages go to the first and to the second partition.
fn one_each(world: &mut World) -> [ConnId; 2] {
    let mut found = [None; 2];
    for number in 0..100 {
        let conn = world.connect(&format!("c{number}"), &v5());
        let before = world.far_ends();
        world.publish(conn, "far/x", Q1, "probe");
        let at = usize::from(world.far_ends()[0] == before[0]);
        world.mirror(world.far_ends());
        assert_eq!(answers(world, conn), ["PUBACK 10"]);
        found[at].get_or_insert(conn);
        if let [Some(first), Some(second)] = found {
            return [first, second];
        }
    }
    unreachable!("a hundred keys are in one partition")
}

#[test]
fn an_answer_waits_for_the_partitions_of_its_message_and_no_others() {
    let mut world = world();
    let [first, second] = one_each(&mut world);
    let ends = world.far_ends();
    // All in one turn.
    world.send_unsettled(first, &publish_id("far/a", Q1, 1, "x"));
    world.send_unsettled(second, &publish_id("far/b", Q1, 1, "x"));
    world.send_unsettled(first, &publish_id("near/a", Q1, 2, "x"));
    world.send_unsettled(second, &publish_id("far/c", Q2, 3, "x"));
    world.settle();
    assert_eq!(world.far_ends(), [ends[0] + 1, ends[1] + 2]);
    assert_eq!(answers(&mut world, first), [""; 0]);
    // Half of what the turn holds of the second partition is not enough.
    world.mirror([ends[0], ends[1] + 1]);
    assert_eq!(answers(&mut world, second), [""; 0]);
    world.mirror([ends[0], ends[1] + 2]);
    assert_eq!(answers(&mut world, second), ["PUBACK 1", "PUBREC 3"]);
    assert_eq!(answers(&mut world, first), [""; 0]);
    // What needs no cluster leaves behind what does [MQTT-4.6.0-2].
    world.mirror([ends[0] + 1, ends[1] + 2]);
    assert_eq!(answers(&mut world, first), ["PUBACK 1", "PUBACK 2"]);
    world.publish(first, "near/a", Q1, "x");
    assert_eq!(answers(&mut world, first), ["PUBACK 10"]);
    assert_eq!(world.shards[0].stats().mirror_waiting, 0);
}

#[test]
fn what_was_promised_counts_whatever_hooks_and_levels_come_after_it() {
    let elsewhere = [(Event::MessagePublish, "far/#", "second")];
    // Neither a commit that is heard of before the change nor one behind it opens the gate.
    for heard_of in [true, false] {
        let mut world = world();
        let conn = world.connect("a", &v5());
        world.hold_appends = !heard_of;
        world.send(conn, &publish_id("far/a", Q1, 1, "x"));
        world.send(conn, &publish_id("far/a", Q2, 2, "x"));
        world.reload_hooks(&elsewhere, ("far", Level::Flush));
        world.hold_appends = false;
        world.settle();
        assert_eq!(answers(&mut world, conn), [""; 0], "heard of: {heard_of}");
        assert_eq!(world.values("far").len(), 2);
        // What comes now goes elsewhere, and waits for nothing but the answers before it.
        world.send(conn, &publish_id("far/a", Q1, 3, "x"));
        assert_eq!(answers(&mut world, conn), [""; 0]);
        world.mirror(world.far_ends());
        assert_eq!(
            answers(&mut world, conn),
            ["PUBACK 1", "PUBREC 2", "PUBACK 3"]
        );
        assert_eq!(world.values("second").len(), 1);
        assert_eq!(world.shards[0].stats().mirror_waiting, 0);
    }
}

#[test]
fn what_was_promised_and_never_comes_is_a_failure_after_a_change_of_hooks_too() {
    let mut world = world();
    let conn = world.connect("a", &v5());
    world.hold_appends = true;
    world.send(conn, &publish_id("far/a", Q1, 1, "x"));
    world.reload_hooks(&[], ("far", Level::Append));
    world.hold_appends = false;
    world.settle();
    assert_eq!(answers(&mut world, conn), [""; 0]);
    world.pass(30_000);
    assert_eq!(answers(&mut world, conn), ["PUBACK 1 unspecified_error"]);
}

#[test]
fn what_the_cluster_had_before_the_commit_was_heard_of_is_not_waited_for() {
    let mut world = world();
    let conn = world.connect("a", &v5());
    world.hold_appends = true;
    world.mirror(ALL);
    world.publish(conn, "far/a", Q1, "x");
    assert_eq!(answers(&mut world, conn), [""; 0]);
    world.hold_appends = false;
    world.hold_flushes = true;
    world.settle();
    assert_eq!(answers(&mut world, conn), [""; 0], "not heard of the flush");
    world.hold_flushes = false;
    world.settle();
    assert_eq!(answers(&mut world, conn), ["PUBACK 10"]);
}

#[test]
fn an_answer_that_waits_too_long_is_a_failure_and_holds_nothing_up() {
    let mut world = world();
    let conn = world.connect("a", &v5());
    world.publish(conn, "far/a", Q1, "1");
    world.pass(20_000);
    world.send(conn, &publish_id("far/a", Q1, 11, "2"));
    world.pass(9_999);
    assert_eq!(answers(&mut world, conn), [""; 0]);
    world.pass(1);
    assert_eq!(answers(&mut world, conn), ["PUBACK 10 unspecified_error"]);
    world.mirror(ALL);
    assert_eq!(answers(&mut world, conn), ["PUBACK 11"]);
    let stats = world.shards[0].stats();
    assert_eq!((stats.mirror_waiting, stats.mirror_timeouts), (0, 1));
}

#[test]
fn older_clients_are_cut_off_and_their_repetition_waits_as_the_first_did() {
    let mut world = world();
    let conn = world.connect("a", &v311(false));
    world.send(conn, &publish_id("far/a", Q2, 7, "1"));
    world.pass(30_000);
    assert!(world.is_closed(conn));
    assert_eq!(answers(&mut world, conn), [""; 0]);
    let again = world.connect("a", &v311(false));
    world.send(again, &publish_id("far/a", Q2, 7, "1"));
    assert_eq!(answers(&mut world, again), [""; 0]);
    world.mirror(ALL);
    assert_eq!(answers(&mut world, again), ["PUBREC 7"]);
    assert_eq!(world.values("far").len(), 1);
    assert_eq!(world.shards[0].stats().mirror_waiting, 0);
}

#[test]
fn a_repetition_after_a_crash_waits_for_what_was_there_before_it() {
    let mut world = world();
    let conn = world.connect("a", &lasting(600));
    world.send(conn, &publish_id("far/a", Q2, 7, "1"));
    world.restart(1, 0);
    let conn = world.connect("a", &lasting(600));
    world.send(conn, &publish_id("far/a", Q2, 7, "1"));
    assert_eq!(answers(&mut world, conn), [""; 0]);
    world.mirror(world.far_ends());
    assert_eq!(answers(&mut world, conn), ["PUBREC 7"]);
    assert_eq!(world.values("far").len(), 1);
}

#[test]
fn a_failed_pubrec_frees_its_packet_id_for_good() {
    let mut world = world();
    let conn = world.connect("a", &lasting(600));
    world.send(conn, &publish_id("far/a", Q2, 7, "1"));
    world.hold_flushes = true;
    world.pass(30_000);
    assert_eq!(answers(&mut world, conn), [""; 0], "the id is not durable");
    world.hold_flushes = false;
    world.settle();
    assert_eq!(answers(&mut world, conn), ["PUBREC 7 unspecified_error"]);
    world.restart(1, 0);
    let conn = world.connect("a", &lasting(600));
    world.send(conn, &publish_id("far/a", Q2, 7, "2"));
    world.mirror(world.far_ends());
    assert_eq!(answers(&mut world, conn), ["PUBREC 7"]);
    assert_eq!(world.values("far").len(), 2, "it was another message");
}

#[test]
fn what_the_log_refused_waits_for_nothing() {
    let mut world = world();
    let conn = world.connect("a", &v5());
    world.refuse = true;
    world.publish(conn, "far/a", Q1, "1");
    assert_eq!(answers(&mut world, conn), ["PUBACK 10 quota_exceeded"]);
    world.refuse = false;
    world.publish(conn, "far/a", Q1, "1");
    world.lose(conn);
    assert_eq!(world.shards[0].stats().mirror_waiting, 0);
}

#[test]
fn an_outage_keeps_nothing_of_answers_that_were_given_up() {
    let mut world = world();
    let conn = world.connect("a", &v5());
    for number in 0..3_000 {
        world.publish(conn, "far/a", Q1, "x");
        world.pass(30_000);
        let got = answers(&mut world, conn);
        assert_eq!(got, ["PUBACK 10 unspecified_error"], "{number}");
    }
    let (turns, awaited) = world.shards[0].progress.mirror.kept();
    assert!(
        turns < 10 && awaited < 1_100,
        "{turns} turns, {awaited} ends"
    );
    world.publish(conn, "far/a", Q1, "x");
    world.mirror(ALL);
    assert_eq!(answers(&mut world, conn), ["PUBACK 10"]);
}

#[test]
fn what_the_cluster_will_never_have_is_a_failure_at_once_and_concerns_no_other_message() {
    let mut world = world();
    let [first, second] = one_each(&mut world);
    let ends = world.far_ends();
    world.send_unsettled(first, &publish_id("far/a", Q1, 1, "x"));
    world.send_unsettled(second, &publish_id("far/b", Q1, 1, "x"));
    world.settle();
    // A second message of the partition, in a turn of its own.
    world.send(first, &publish_id("far/c", Q1, 2, "x"));
    assert_eq!(world.far_ends(), [ends[0] + 2, ends[1] + 1]);
    let refused = ends[0]..ends[0] + 1;
    world.mirror_without([ends[0] + 2, ends[1]], [refused, 0..0]);
    assert_eq!(
        answers(&mut world, first),
        ["PUBACK 1 unspecified_error", "PUBACK 2"]
    );
    assert_eq!(answers(&mut world, second), [""; 0]);
    world.mirror(world.far_ends());
    assert_eq!(answers(&mut world, second), ["PUBACK 1"]);
    let stats = world.shards[0].stats();
    assert_eq!((stats.mirror_waiting, stats.mirror_timeouts), (0, 1));
}

#[test]
fn what_was_left_out_before_the_commit_was_heard_of_is_a_failure_too() {
    let mut world = world();
    let conn = world.connect("a", &v5());
    let ends = world.far_ends();
    // Somebody waited for the partitions before.
    world.publish(conn, "far/a", Q1, "x");
    world.mirror(world.far_ends());
    assert_eq!(answers(&mut world, conn), ["PUBACK 10"]);
    let at = usize::from(world.far_ends()[0] == ends[0]);
    let refused = world.far_ends()[at]..world.far_ends()[at] + 1;
    let mut never = [0..0, 0..0];
    never[at] = refused;
    world.hold_appends = true;
    world.mirror_without(ALL, never);
    world.publish(conn, "far/a", Q1, "x");
    world.hold_appends = false;
    world.settle();
    assert_eq!(answers(&mut world, conn), ["PUBACK 10 unspecified_error"]);
}

#[test]
fn a_repetition_of_what_the_cluster_will_never_have_is_no_success() {
    for version in [v311(false), lasting(600)] {
        let mut world = world();
        let conn = world.connect("a", &version);
        world.send(conn, &publish_id("far/a", Q2, 7, "1"));
        world.lose(conn);
        world.mirror_without(ALL, [0..1, 0..1]);
        let again = world.connect("a", &version);
        world.send(again, &publish_id("far/a", Q2, 7, "1"));
        assert_eq!(answers(&mut world, again), [""; 0]);
        // What others wait for meanwhile is not held up.
        let other = world.connect("b", &v5());
        world.publish(other, "near/a", Q1, "x");
        assert_eq!(answers(&mut world, other), ["PUBACK 10"]);
        world.pass(30_000);
        let told = answers(&mut world, again);
        assert!(
            world.is_closed(again) || told == ["PUBREC 7 unspecified_error"],
            "{told:?}"
        );
        assert_eq!(world.shards[0].stats().mirror_waiting, 0);
    }
}
