//! Who gets a message: the subscriptions that match a topic, merged to one delivery a session.

use super::Shard;
use crate::message::MessageView;
use crate::session::Session;
use mqtt::{QoS, SubscribeOptions};
use std::sync::Arc;

/// What the filter tree holds for one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub who: Who,
    /// Subscription identifier; 0 is none.
    pub id: u32,
    pub options: SubscribeOptions,
}

/// A session, or a shared group that is at home here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Session(u32),
    Group(u32),
}

/// One session's delivery of the messages of one topic. Where several of its subscriptions match,
/// it gets each message once, with the highest QoS granted, with the identifiers of all of them
/// [MQTT-3.3.4-2] [MQTT-3.3.4-4], and with the publisher's retain flag if any of them asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub session: u32,
    pub qos: QoS,
    pub retain_as_published: bool,
    /// Some of the subscriptions do not want what the session itself published.
    pub no_local: bool,
    /// Where in [`Matched::ids`] its identifiers are.
    ids: (u32, u32),
}

/// All deliveries of the messages of one topic, in the order of the slots.
#[derive(Debug, Default)]
pub(super) struct Matched {
    pub targets: Box<[Target]>,
    pub groups: Box<[u32]>,
    ids: Box<[u32]>,
}

impl Matched {
    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.groups.is_empty()
    }

    pub(super) fn ids(&self, target: &Target) -> &[u32] {
        &self.ids[target.ids.0 as usize..target.ids.1 as usize]
    }

    fn merge(mut found: Vec<Subscriber>) -> Self {
        found.sort_unstable_by_key(|subscriber| (subscriber.who, subscriber.id));
        let mut targets: Vec<Target> = Vec::with_capacity(found.len());
        let mut groups = Vec::new();
        let mut ids = Vec::new();
        for subscriber in found {
            let session = match subscriber.who {
                Who::Session(session) => session,
                Who::Group(group) => {
                    groups.push(group);
                    continue;
                }
            };
            let options = subscriber.options;
            if targets.last().is_none_or(|last| last.session != session) {
                let start = ids.len() as u32;
                targets.push(Target {
                    session,
                    qos: options.qos,
                    retain_as_published: false,
                    no_local: false,
                    ids: (start, start),
                });
            }
            let target = targets
                .last_mut()
                .expect("one was just pushed if there was none");
            target.qos = target.qos.max(options.qos);
            target.retain_as_published |= options.retain_as_published;
            target.no_local |= options.no_local;
            if subscriber.id != 0 {
                ids.push(subscriber.id);
                target.ids.1 = ids.len() as u32;
            }
        }
        Self {
            targets: targets.into(),
            groups: groups.into(),
            ids: ids.into(),
        }
    }
}

impl Shard {
    /// Who of this shard gets messages of `topic`.
    pub(super) fn matched(&mut self, topic: &str) -> Arc<Matched> {
        let filters = &self.filters;
        self.matches.get_or_make(topic, filters.generation(), || {
            let mut found = Vec::new();
            filters.for_each_match(topic, |&subscriber| found.push(subscriber));
            let weight = 1 + found.len();
            (Arc::new(Matched::merge(found)), weight)
        })
    }
}

/// What the publisher itself gets of its own message, through those of its subscriptions that do
/// not say no-local [MQTT-3.8.3-3]: QoS, retain as published, identifiers.
pub(super) fn own_message(
    session: &Session,
    message: &MessageView<'_>,
) -> Option<(QoS, bool, Vec<u32>)> {
    let mut own: Option<(QoS, bool, Vec<u32>)> = None;
    for subscription in &session.subscriptions {
        let options = subscription.options;
        if options.no_local || !mqtt::topic::matches(&subscription.filter, message.topic) {
            continue;
        }
        let (qos, retain, ids) = own.get_or_insert_default();
        *qos = (*qos).max(options.qos);
        *retain |= options.retain_as_published;
        if subscription.id != 0 {
            ids.push(subscription.id);
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(session: u32, qos: QoS, id: u32) -> Subscriber {
        Subscriber {
            who: Who::Session(session),
            id,
            options: SubscribeOptions::qos(qos),
        }
    }

    #[test]
    fn a_session_gets_one_delivery_with_the_highest_qos_and_all_identifiers() {
        let group = Subscriber {
            who: Who::Group(7),
            id: 0,
            options: SubscribeOptions::qos(QoS::AtMostOnce),
        };
        let matched = Matched::merge(vec![
            subscriber(2, QoS::AtMostOnce, 9),
            group,
            subscriber(1, QoS::AtLeastOnce, 0),
            subscriber(2, QoS::ExactlyOnce, 4),
        ]);
        assert_eq!(*matched.groups, [7]);
        let [first, second] = &*matched.targets else {
            panic!("two sessions")
        };
        assert_eq!((first.session, first.qos), (1, QoS::AtLeastOnce));
        assert!(matched.ids(first).is_empty());
        assert_eq!((second.session, second.qos), (2, QoS::ExactlyOnce));
        assert_eq!(matched.ids(second), [4, 9]);
    }
}
