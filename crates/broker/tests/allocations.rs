//! Placing a message must not allocate: what a turn needs grows to its size once and is used again.

use broker::{Event, HookSettings, HookTable, KeyTemplate, PayloadEncoding, PublishFacts, Turn};
use commitlog::{StreamMeta, StreamSettings};
use mqtt::{PublishProperties, QoS};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is asked of the system's allocator.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn turn() -> Turn {
    let names = [
        "message_state",
        "mqtt.default",
        "mqtt.default.qos0",
        "__sluice.retained",
        "__sluice.sys",
    ];
    let streams: Vec<StreamMeta> = (0u32..)
        .zip(names)
        .map(|(id, name)| StreamMeta {
            settings: StreamSettings::new(name),
            partitions: vec![id],
        })
        .collect();
    let hook = HookSettings {
        event: Event::MessagePublish,
        filter: "devices/+/state".to_owned(),
        stream: "message_state".to_owned(),
        key: KeyTemplate::parse("{2}").expect("the template is valid"),
        payload: PayloadEncoding::Base64,
        counter: 0,
    };
    Turn::new(Arc::new(
        HookTable::compile("n", &[hook], &streams).expect("the hook is valid"),
    ))
}

#[test]
fn a_turn_of_a_thousand_messages_allocates_a_few_times() {
    let mut turn = turn();
    let properties = PublishProperties::default();
    let mut fill = |messages: u32| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for number in 0..messages {
            // Hooked and not hooked, with headers and without.
            let topics = ["devices/10083618796833171/state", "other/topic"];
            turn.publish(&PublishFacts {
                client_id: "10083618796833171",
                username: "u",
                topic: topics[number as usize % 2],
                payload: &[7; 256],
                qos: QoS::ExactlyOnce,
                retain: false,
                dup: number % 4 == 0,
                properties: &properties,
                peer: "",
                principal: "",
                now_ms: 5,
            });
        }
        drop(turn.finish());
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    fill(1000);
    let allocations = fill(1000);
    assert!(
        allocations < 16,
        "{allocations} allocations for 1000 messages"
    );
}
