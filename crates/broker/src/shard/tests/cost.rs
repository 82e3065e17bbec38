//! What live delivery costs. Ignored: it measures, it does not judge; run it with --release.

use crate::harness::{World, publish_id, v5, v311};
use mqtt::QoS;
use std::sync::Arc;

/// Nanoseconds of one delivery to `receivers` connections, median of some rounds.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement"
)]
fn delivery_ns(receivers: u32, qos: QoS) -> u64 {
    let mut world = World::new();
    for at in 0..receivers {
        let conn = world.connect(&format!("r{at}"), &v311(true));
        world.subscribe(conn, "devices/+/state", qos);
    }
    let from = world.connect("from", &v5());
    let payload = "x".repeat(256);
    let (messages, mut rounds) = (30_u32, Vec::new());
    for _ in 0..30 {
        for at in 0..messages {
            let topic = format!("devices/{at}/state");
            world.send_unsettled(from, &publish_id(&topic, qos, at as u16 + 1, &payload));
        }
        let commit = world.commit_turn(0);
        let start = std::time::Instant::now();
        world.committed(0, &commit);
        rounds.push(start.elapsed().as_nanos() as u64 / u64::from(messages * receivers));
        drop(Arc::clone(&commit));
        world.settle();
        world.acknowledge_everything();
    }
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

#[test]
#[ignore = "a measurement"]
fn live_delivery_costs() {
    for receivers in [1, 10, 500] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            println!(
                "{receivers} receivers, {qos:?}: {} ns",
                delivery_ns(receivers, qos)
            );
        }
    }
}

/// The bound for an idle connection is 2.5 KiB in the whole program; this is the shard's part
/// without client id, filter and their places in maps.
#[test]
fn an_idle_session_is_small() {
    let session = size_of::<crate::session::Session>();
    let connection = size_of::<crate::shard::connection::Connection>();
    let subscription = size_of::<crate::session::Subscription>();
    let sum = session + connection + subscription;
    println!("session {session}, connection {connection}, subscription {subscription}");
    assert!(sum <= 768, "{session} + {connection} + {subscription}");
}
