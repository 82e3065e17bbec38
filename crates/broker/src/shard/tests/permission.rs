//! What clients may not do, and how they are told.

use crate::access::{
    Access, Action, Actions, Effect, Judging, Otherwise, Permit, Question, Rule, RuleFilter,
    RuleSet,
};
use crate::harness::{Hello, World, lasting, publish, publish_id, publish_with, v5, v311};
use crate::hooks::Event;
use crate::input::{Admitted, Input, Reauthenticated};
use crate::settings::{BrokerSettings, DeniedPublish};
use mqtt::{
    Auth, Packet, PublishProperties, QoS, ReasonCode, UserProperties, Will, WillProperties,
};
use std::sync::Arc;

const DROPS: (Event, &str, &str) = (Event::MessageDropped, "#", "events");

fn rule(effect: Effect, actions: Actions, filters: &[&str]) -> Rule {
    let filters: Vec<RuleFilter> = filters
        .iter()
        .map(|text| RuleFilter::parse(text).unwrap())
        .collect();
    Rule {
        effect,
        user: None,
        client_id: None,
        addresses: Box::default(),
        actions,
        filters: filters.into(),
    }
}

/// Devices publish below their own id and read what anybody says in `news`.
fn limited(mut hello: Hello<'_>, otherwise: Otherwise) -> Hello<'_> {
    let only = |publish| Actions {
        publish,
        subscribe: !publish,
    };
    hello.admitted = Admitted {
        access: Some(Arc::new(Access {
            rules: Arc::new(RuleSet {
                rules: Box::new([
                    rule(Effect::Allow, only(true), &["d/${clientid}/#"]),
                    rule(Effect::Allow, only(false), &["news/#"]),
                ]),
            }),
            own: Box::default(),
            otherwise,
            super_user: false,
            trusted: false,
        })),
        ..Admitted::default()
    };
    hello
}

fn drops(world: &mut World) -> Vec<String> {
    world.settle();
    world.values("events")
}

#[test]
fn a_publish_that_is_denied_is_told_counted_and_reported() {
    let mut world = World::with_hooks(&[DROPS]);
    let all = world.connect("all", &v5());
    world.subscribe(all, "#", QoS::AtMostOnce);
    let a = world.connect("a", &limited(v5(), Otherwise::Deny));
    world.publish(a, "d/a/x", QoS::AtLeastOnce, "mine");
    assert_eq!(world.got(a), ["PUBACK 10"]);
    world.publish(a, "d/b/x", QoS::AtLeastOnce, "not mine");
    world.publish(a, "d/b/x", QoS::ExactlyOnce, "not mine");
    world.publish(a, "d/b/x", QoS::AtMostOnce, "not mine");
    assert_eq!(
        world.got(a),
        ["PUBACK 10 not_authorized", "PUBREC 10 not_authorized"]
    );
    assert_eq!(world.got(all), ["d/a/x mine q0"]);
    let dropped = drops(&mut world);
    assert_eq!(dropped.len(), 3, "{dropped:?}");
    assert!(dropped[0].contains("\"reason\":\"not_authorized\""));
    assert!(dropped[0].contains("\"client_id\":\"a\""));
}

#[test]
fn an_alias_does_not_lead_around_a_rule() {
    let mut world = World::new();
    let a = world.connect("a", &limited(v5(), Otherwise::Deny));
    let with = |topic| {
        let properties = PublishProperties {
            topic_alias: Some(1),
            ..PublishProperties::default()
        };
        publish_with(topic, QoS::AtLeastOnce, false, "x", properties)
    };
    world.send(a, &with("d/b/x"));
    world.send(a, &with(""));
    let denied = "PUBACK 10 not_authorized";
    assert_eq!(world.got(a), [denied, denied]);
}

#[test]
fn older_clients_are_told_nothing_or_lose_their_connection() {
    let mut world = World::new();
    let a = world.connect("a", &limited(v311(true), Otherwise::Deny));
    world.publish(a, "d/b/x", QoS::AtLeastOnce, "x");
    world.publish(a, "d/b/x", QoS::ExactlyOnce, "x");
    world.pubrel(a, 10);
    assert_eq!(world.got(a), ["PUBACK 10", "PUBREC 10", "PUBCOMP 10"]);
    assert!(!world.is_closed(a));
    let settings = BrokerSettings {
        denied_publish: DeniedPublish::Disconnect,
        ..BrokerSettings::default()
    };
    let mut world = World::with(1, &[], settings);
    let a = world.connect("a", &limited(v311(true), Otherwise::Deny));
    world.publish(a, "d/a/x", QoS::AtLeastOnce, "x");
    assert_eq!(world.got(a), ["PUBACK 10"]);
    world.publish(a, "d/b/x", QoS::AtMostOnce, "x");
    assert!(world.is_closed(a));
}

#[test]
fn a_subscription_that_is_denied_is_told() {
    let mut world = World::new();
    let a = world.connect("a", &limited(v5(), Otherwise::Deny));
    let b = world.connect("b", &limited(v311(true), Otherwise::Deny));
    let options = mqtt::SubscribeOptions::qos(QoS::AtMostOnce);
    for (filter, allowed) in [
        ("news/+", true),
        ("$share/g/news/#", true),
        ("#", false),
        ("$share/g/#", false),
        ("d/a/x", false),
    ] {
        for (conn, word) in [(a, "not_authorized"), (b, "unspecified_error")] {
            world.subscribe_with(conn, filter, options, None);
            let refused = world.got(conn) == [format!("SUBACK 1 {word}")];
            assert_ne!(refused, allowed, "{filter}");
        }
    }
    let all = world.connect("all", &v5());
    world.publish(all, "news/x", QoS::AtMostOnce, "1");
    world.publish(all, "other", QoS::AtMostOnce, "2");
    // One of the two got it as a member of the group, too.
    assert!(world.got(a).iter().all(|line| line.starts_with("news/x 1")));
    assert!(world.got(b).iter().all(|line| line.starts_with("news/x 1")));
}

#[test]
fn a_will_that_is_denied_keeps_its_client_out() {
    let mut world = World::with_hooks(&[DROPS]);
    let will = |topic| Will {
        topic,
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: WillProperties::default(),
    };
    let mut hello = limited(v5(), Otherwise::Deny);
    hello.will = Some(will("d/b/x"));
    let a = world.open("a", &hello);
    assert_eq!(world.got(a), ["CONNACK not_authorized"]);
    assert!(world.is_closed(a));
    assert_eq!(drops(&mut world).len(), 1);
    hello.will = Some(will("d/a/x"));
    world.connect("a", &hello);
    // What the host found out counts for the will alone.
    let mut hello = limited(v5(), Otherwise::Ask);
    hello.will = Some(will("asked"));
    let c = world.open("c", &hello);
    assert_eq!(world.got(c), ["CONNACK not_authorized"]);
    hello.admitted.permits = vec![permit(Action::Publish, "asked", true, 0)];
    world.connect("c", &hello);
}

fn permit(action: Action, topic: &str, allowed: bool, keep_ms: u64) -> Permit {
    Permit {
        question: Question {
            action,
            topic: topic.into(),
        },
        allowed,
        keep_ms,
    }
}

#[test]
fn what_nobody_has_answered_is_asked_and_denied() {
    let mut world = World::new();
    let a = world.connect("a", &limited(v5(), Otherwise::Ask));
    let now = world.now;
    let asked = publish("other", QoS::AtLeastOnce, "x");
    let inquiry = world.shards[0].inquiry(a, &asked, now).unwrap();
    assert_eq!(inquiry.questions.len(), 1);
    assert_eq!(&*inquiry.questions[0].topic, "other");
    let own = publish("d/a/x", QoS::AtLeastOnce, "x");
    assert!(world.shards[0].inquiry(a, &own, now).is_none());
    world.send(a, &asked);
    assert_eq!(world.got(a), ["PUBACK 10 not_authorized"]);
    let permits = || vec![permit(Action::Publish, "other", true, 60_000)];
    world.each(|| Input::Permitted {
        conn: a,
        permits: permits(),
    });
    world.send(a, &asked);
    assert_eq!(world.got(a), ["PUBACK 10 no_matching_subscribers"]);
    assert!(world.shards[0].inquiry(a, &asked, world.now).is_none());
    world.each(|| Input::PermitsSettled { conn: a });
    world.pass(60_000);
    assert!(world.shards[0].inquiry(a, &asked, world.now).is_some());
}

#[test]
fn a_session_is_its_users_and_loses_what_it_may_not_read_any_more() {
    let mut world = World::new();
    let mut joe = lasting(100);
    joe.username = Some("joe");
    let conn = world.connect("c", &joe);
    world.subscribe(conn, "news/x", QoS::AtLeastOnce);
    world.subscribe(conn, "secret", QoS::AtLeastOnce);
    world.lose(conn);
    let mut ann = limited(lasting(100), Otherwise::Deny);
    ann.username = Some("ann");
    let conn = world.open("c", &ann);
    assert_eq!(world.got(conn), ["CONNACK not_authorized"]);
    let mut joe = limited(lasting(100), Otherwise::Deny);
    joe.username = Some("joe");
    let conn = world.connect("c", &joe);
    let all = world.connect("all", &v5());
    world.publish(all, "secret", QoS::AtMostOnce, "1");
    world.publish(all, "news/x", QoS::AtMostOnce, "2");
    assert_eq!(world.got(conn), ["news/x 2 q0"]);
}

#[test]
fn a_connection_ends_with_its_credentials() {
    let mut world = World::new();
    let mut hello = limited(v5(), Otherwise::Deny);
    hello.admitted.expires_ms = Some(world.now.mono_ms + 5_000);
    let a = world.connect("a", &hello);
    world.pass(4_999);
    assert!(!world.is_closed(a));
    world.pass(1);
    assert_eq!(world.got(a), ["DISCONNECT not_authorized"]);
    assert!(world.is_closed(a));
}

fn auth(reason: ReasonCode, method: Option<&str>) -> Packet<'_> {
    Packet::Auth(Auth {
        reason,
        method,
        data: Some(b"data"),
        reason_string: None,
        user: UserProperties::EMPTY,
    })
}

#[test]
fn a_client_authenticates_again_by_its_own_method_only() {
    let mut world = World::new();
    let mut hello = v5();
    hello.properties.authentication_method = Some("SCRAM");
    hello.admitted.method = Some("SCRAM".into());
    let a = world.connect("a", &hello);
    world.send(a, &auth(ReasonCode::ReAuthenticate, Some("SCRAM")));
    let asked = std::mem::take(&mut world.out[0].reauthentications);
    assert!(asked.len() == 1 && asked[0].begins && *asked[0].data == *b"data");
    world.each(|| Input::Reauthenticated {
        conn: a,
        judged: Reauthenticated::Continue(b"more"),
    });
    world.send(a, &auth(ReasonCode::ContinueAuthentication, Some("SCRAM")));
    assert!(!world.out[0].reauthentications.remove(0).begins);
    // Other packets are served meanwhile [MQTT 5, 4.12.1].
    world.send(a, &publish_id("t", QoS::AtLeastOnce, 3, "x"));
    world.each(|| Input::Reauthenticated {
        conn: a,
        judged: Reauthenticated::Done(b"last"),
    });
    let got = world.got(a);
    assert!(got[0].contains("ContinueAuthentication"), "{got:?}");
    assert!(
        got[1].starts_with("PUBACK 3") && got[2].contains("Success"),
        "{got:?}"
    );
    world.send(a, &auth(ReasonCode::ReAuthenticate, Some("OTHER")));
    assert_eq!(world.got(a), ["DISCONNECT protocol_error"]);
    let b = world.connect("b", &v5());
    world.send(b, &auth(ReasonCode::ReAuthenticate, None));
    assert_eq!(world.got(b), ["DISCONNECT protocol_error"]);
    let c = world.connect("c", &hello);
    world.send(c, &auth(ReasonCode::ContinueAuthentication, Some("SCRAM")));
    assert_eq!(world.got(c), ["DISCONNECT protocol_error"]);
    let d = world.connect("d", &hello);
    world.send(d, &auth(ReasonCode::ReAuthenticate, Some("SCRAM")));
    world.each(|| Input::Reauthenticated {
        conn: d,
        judged: Reauthenticated::Failed(ReasonCode::NotAuthorized),
    });
    assert_eq!(world.got(d), ["DISCONNECT not_authorized"]);
}

#[test]
fn rules_that_change_hold_for_those_who_are_in() {
    let judging = |rules: Option<Vec<Rule>>, super_users: &[&str]| {
        let access = rules.map(|rules| {
            Arc::new(Access {
                rules: Arc::new(RuleSet {
                    rules: rules.into(),
                }),
                own: Box::default(),
                otherwise: Otherwise::Deny,
                super_user: false,
                trusted: false,
            })
        });
        Arc::new(Judging {
            access,
            super_users: super_users.iter().map(|name| (*name).to_owned()).collect(),
            denied_publish: DeniedPublish::Disconnect,
        })
    };
    let mut world = World::new();
    let a = world.connect("a", &limited(v5(), Otherwise::Deny));
    let open = world.connect("open", &v5());
    let old = world.connect("old", &limited(v311(true), Otherwise::Deny));
    world.subscribe(a, "news/#", QoS::AtMostOnce);
    world.publish(a, "d/a/x", QoS::AtLeastOnce, "1");
    assert_eq!(world.got(a), ["PUBACK 10 no_matching_subscribers"]);
    // Only reading `other`, and publishing there.
    let other = judging(
        Some(vec![rule(Effect::Allow, Actions::ALL, &["other"])]),
        &[],
    );
    world.each(|| Input::Judging(Arc::clone(&other)));
    assert!(world.is_closed(open), "nobody has said who it is");
    world.publish(a, "d/a/x", QoS::AtLeastOnce, "2");
    assert_eq!(
        world.got(a),
        ["PUBACK 10 not_authorized"],
        "and nothing is remembered"
    );
    assert!(!world.is_closed(old));
    world.publish(old, "d/old/x", QoS::AtMostOnce, "3");
    assert!(world.is_closed(old), "the new setting counts too");
    let b = world.open("b", &v5());
    let told = world.got(b);
    assert_eq!(
        told,
        ["CONNACK not_authorized"],
        "let in before, and only now here"
    );
    let late = world.connect("late", &limited(v5(), Otherwise::Deny));
    world.publish(late, "d/late/x", QoS::AtLeastOnce, "4");
    assert_eq!(world.got(late), ["PUBACK 10 not_authorized"]);
    world.publish(late, "other", QoS::AtLeastOnce, "5");
    assert_eq!(world.got(late), ["PUBACK 10 no_matching_subscribers"]);
    // Nothing is judged any more.
    let nothing = judging(None, &[]);
    world.each(|| Input::Judging(Arc::clone(&nothing)));
    world.publish(a, "news/x", QoS::AtLeastOnce, "6");
    assert_eq!(
        world.got(a),
        ["PUBACK 10 no_matching_subscribers"],
        "the subscription has ended with the permission"
    );
}

#[test]
fn very_many_filters_are_asked_about_within_a_bound_and_once() {
    use crate::limits::{QUESTIONS_MAX, SUBSCRIBE_FILTERS_MAX};
    let mut world = World::new();
    let a = world.connect("a", &limited(v5(), Otherwise::Ask));
    let names: Vec<String> = (0..150_000).map(|n| format!("{n}")).collect();
    let all = names
        .iter()
        .map(|name| (&**name, mqtt::SubscribeOptions::qos(QoS::AtMostOnce)));
    let all: Vec<_> = all.collect();
    let packet = Packet::Subscribe(mqtt::Subscribe {
        packet_id: 1,
        subscription_id: None,
        filters: mqtt::Filters::from_slice(&all),
        user: UserProperties::EMPTY,
    });
    let inquiry = world.shards[0].inquiry(a, &packet, world.now).unwrap();
    assert_eq!(inquiry.questions.len(), QUESTIONS_MAX);
    let permits = inquiry.questions.into_iter().map(|question| Permit {
        question,
        allowed: true,
        keep_ms: 0,
    });
    let permits: Vec<_> = permits.collect();
    world.each(|| Input::Permitted {
        conn: a,
        permits: permits.clone(),
    });
    assert_eq!(
        world.shards[0].inquiry(a, &packet, world.now),
        None,
        "once a packet"
    );
    world.send(a, &packet);
    let got = world.got(a).join(" ");
    let count = |word: &str| got.matches(word).count();
    assert_eq!(
        count("not_authorized"),
        SUBSCRIBE_FILTERS_MAX - QUESTIONS_MAX
    );
    assert_eq!(count("quota_exceeded"), 150_000 - SUBSCRIBE_FILTERS_MAX);
}

/// A session with two subscriptions that a callout allowed, offline, owed a message by each.
fn owed_by_two(world: &mut World) {
    let mut hello = limited(lasting(1_000), Otherwise::Ask);
    hello.username = Some("joe");
    let conn = world.connect("c", &hello);
    for filter in ["kept/#", "lost/#"] {
        let permits = vec![permit(Action::Subscribe, filter, true, 0)];
        world.each(|| Input::Permitted {
            conn,
            permits: permits.clone(),
        });
        world.subscribe(conn, filter, QoS::AtLeastOnce);
        world.each(|| Input::PermitsSettled { conn });
    }
    world.lose(conn);
    let all = world.connect("all", &v5());
    for topic in ["lost/x", "kept/x"] {
        world.publish(all, topic, QoS::AtLeastOnce, topic);
    }
    world.got(all);
}

#[test]
fn what_a_callout_allowed_is_asked_again_when_the_session_comes_back() {
    let mut world = World::with_hooks(&[DROPS]);
    owed_by_two(&mut world);
    let mut hello = limited(lasting(1_000), Otherwise::Ask);
    hello.username = Some("joe");
    let access = hello.admitted.access.clone().unwrap();
    let asked = |username| {
        let subject = crate::access::Subject {
            client_id: "c",
            username,
            address: None,
        };
        let questions = world.shards[0].asked_on_return(&subject, &access);
        let topics = questions.iter().map(|question| question.topic.to_string());
        topics.collect::<Vec<_>>()
    };
    assert_eq!(asked("joe"), ["kept/#", "lost/#"]);
    assert!(
        asked("ann").is_empty(),
        "it is not hers, and she is refused"
    );
    hello.admitted.permits = vec![
        permit(Action::Subscribe, "kept/#", true, 0),
        permit(Action::Subscribe, "lost/#", false, 0),
    ];
    let conn = world.connect("c", &hello);
    // What it was owed by the subscription that it lost is not delivered, and told.
    assert_eq!(world.got(conn), ["kept/x kept/x q1 #1"]);
    let dropped = drops(&mut world);
    assert_eq!(dropped.len(), 1, "{dropped:?}");
    assert!(dropped[0].contains("\"reason\":\"not_authorized\""));
    assert!(dropped[0].contains("\"topic\":\"lost/x\""));
    let all = world.connect("all", &v5());
    world.publish(all, "lost/y", QoS::AtMostOnce, "1");
    world.publish(all, "kept/y", QoS::AtMostOnce, "2");
    assert_eq!(world.got(conn), ["kept/y 2 q0"]);
    // The answers counted for the CONNECT alone.
    let again = publish("other", QoS::AtLeastOnce, "x");
    assert!(world.shards[0].inquiry(conn, &again, world.now).is_some());
}

#[test]
fn a_session_that_was_opened_under_the_id_of_another_gives_way() {
    let mut world = World::new();
    let mut thief = limited(lasting(1_000), Otherwise::Deny);
    thief.username = Some("mallory");
    let squatting = world.connect("lock", &thief);
    world.subscribe(squatting, "news/x", QoS::AtLeastOnce);
    let mut device = limited(lasting(1_000), Otherwise::Deny);
    device.username = Some("joe");
    let refused = world.open("lock", &device);
    assert_eq!(world.got(refused), ["CONNACK not_authorized"]);
    // Somebody has found that the id is joe's.
    device.admitted.client_id = Some("lock".into());
    let conn = world.open("lock", &device);
    assert_eq!(
        world.got(conn),
        ["CONNACK success"],
        "and the session is a new one"
    );
    assert!(world.is_closed(squatting));
    let all = world.connect("all", &v5());
    world.publish(all, "news/x", QoS::AtMostOnce, "1");
    assert!(world.got(conn).is_empty());
    world.lose(conn);
    let conn = world.open("lock", &device);
    assert_eq!(
        world.got(conn),
        ["CONNACK success present"],
        "it is joe's from now on"
    );
}
