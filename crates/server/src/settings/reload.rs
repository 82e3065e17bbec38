//! Which hooks of a new file may come into force while the node runs: mirror, downlinks and the
//! levels of streams stay those of its start. It changes nothing.

use super::downlinks::{leading_to, way_back};
use super::{Ack, Settings, Storage};

/// Why the hooks of `wanted` need a restart of the node that runs by `running`; `None`: they do not.
/// `is_there`: whether there is a stream of that name already.
pub fn needs_restart(
    running: &Settings,
    wanted: &Settings,
    is_there: impl Fn(&str) -> bool,
) -> Option<String> {
    for stream in &wanted.streams {
        // One that is there keeps its level; one that would be made waits for a cluster to which
        // nothing of it goes.
        if stream.ack == Ack::Kafka
            && !is_mirrored(running, &stream.name)
            && !is_there(&stream.name)
        {
            return Some(format!(
                "the stream {} has ack = \"kafka\", but the mirror that runs does not know it: \
                 restart the node",
                stream.name
            ));
        }
    }
    let mirror = running.mirror.as_ref();
    for downlink in &running.downlinks {
        let source = &downlink.source;
        if let Some(way) = way_back(source, &running.downlinks, &wanted.hooks, mirror) {
            return Some(format!(
                "the downlink {} that runs would read what it has published: {way}; restart the node \
                 if the new file has it no more",
                downlink.name
            ));
        }
        // What its records name in headers is held against what led back when the node started.
        let before = leading_to(source, &running.downlinks, &running.hooks, mirror);
        let now = leading_to(source, &running.downlinks, &wanted.hooks, mirror);
        if let Some(stream) = now.difference(&before).next() {
            return Some(format!(
                "what is written to the stream {stream} would lead back to the source of the \
                 downlink {}, which does not know it: restart the node",
                downlink.name
            ));
        }
    }
    None
}

/// Streams that new hooks write to and that `wanted` would mirror, but not before the next start.
pub fn mirrored_later<'a>(running: &Settings, wanted: &'a Settings) -> Vec<&'a str> {
    let on_disk = |name: &str| {
        let found = wanted.streams.iter().find(|stream| stream.name == name);
        found.is_none_or(|stream| stream.storage == Storage::Disk)
    };
    let hooked = wanted.hooks.iter().map(|hook| hook.stream.as_str());
    let mut later: Vec<&str> = hooked
        .filter(|stream| is_mirrored(wanted, stream) && !is_mirrored(running, stream))
        .filter(|stream| on_disk(stream))
        .collect();
    later.sort_unstable();
    later.dedup();
    later
}

fn is_mirrored(settings: &Settings, stream: &str) -> bool {
    let mirror = settings.mirror.as_ref();
    mirror.is_some_and(|mirror| mirror.mirrors(stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Flags, build};

    fn settings(text: &str) -> Settings {
        let (said, faults) = crate::config::read("f", text);
        assert!(faults.is_empty(), "{faults:?}");
        build(Some(said), &Flags::default()).unwrap()
    }

    fn hook(filter: &str, stream: &str) -> String {
        format!(
            "[[hook]]\nevent = \"message.publish\"\nfilter = \"{filter}\"\nstream = \"{stream}\"\n"
        )
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn answers_cannot_begin_to_wait_for_a_mirror_that_does_not_know_their_stream() {
        let mirror = |streams: &[&str]| {
            let table = |name: &&str| format!("[[mirror.stream]]\nstream = \"{name}\"\n");
            let tables: String = streams.iter().map(table).collect();
            format!("[mirror]\nbrokers = \"k:9092\"\n{tables}")
        };
        let waiting = |name: &str| format!("[[stream]]\nname = \"{name}\"\nack = \"kafka\"\n");
        let before = mirror(&["a"]) + &waiting("a") + &hook("a/#", "a");
        let running = settings(&before);
        let both = mirror(&["a", "b"]) + &waiting("a") + &hook("a/#", "a") + &hook("b/#", "b");
        let wanted = settings(&(both.clone() + &waiting("b")));
        let fresh = needs_restart(&running, &wanted, |name| name == "a");
        assert!(fresh.is_some_and(|why| why.contains("the stream b has ack")));
        // It was there before with a level of its own, and keeps that.
        assert_eq!(needs_restart(&running, &wanted, |_| true), None);
        assert_eq!(mirrored_later(&running, &wanted), ["b"]);
        let flushed = settings(&both);
        assert_eq!(needs_restart(&running, &flushed, |name| name == "a"), None);
        assert_eq!(mirrored_later(&running, &flushed), ["b"]);
        assert_eq!(mirrored_later(&running, &running), [""; 0]);
        // One that the mirror was told of before it was made.
        let told = settings(&(mirror(&["a", "b"]) + &hook("a/#", "a")));
        assert_eq!(needs_restart(&told, &wanted, |name| name == "a"), None);
    }

    #[test]
    fn hooks_do_not_close_a_loop_over_downlinks_that_only_the_node_that_runs_has() {
        let downlink = |stream: &str, topic: &str| {
            format!("[[downlink]]\nstream = \"{stream}\"\ntopic = \"{topic}\"\n")
        };
        let running = settings(&(downlink("x", "to-x/{key}") + &downlink("y", "to-y/{key}")));
        let wanted = |hooks: &str| settings(&(downlink("x", "to-x/{key}") + hooks));
        let why = |hooks: &str| needs_restart(&running, &wanted(hooks), |_| true);
        let closed = why(&(hook("to-x/+", "y") + &hook("to-y/+", "x")));
        assert!(closed.is_some_and(|why| why.contains("would read what it has published")));
        // No loop yet, but headers of y's records may name a topic whose hook leads to x.
        let open = why(&hook("to-x/+", "y"));
        assert!(open.is_some_and(|why| why.contains("the source of the downlink y")));
        assert_eq!(why(&hook("elsewhere/+", "z")), None);
    }
}
