//! Who may do what, by rules.

use super::*;
use proptest::prelude::*;
use std::net::IpAddr;

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

fn access(rules: Vec<Rule>) -> Access {
    Access {
        rules: Arc::new(RuleSet {
            rules: rules.into(),
        }),
        own: Box::default(),
        otherwise: Otherwise::Deny,
        super_user: false,
        trusted: false,
    }
}

fn subject<'a>(client_id: &'a str, username: &'a str) -> Subject<'a> {
    Subject {
        client_id,
        username,
        address: Some(IpAddr::from([10, 1, 2, 3])),
    }
}

const PUBLISH: Actions = Actions {
    publish: true,
    subscribe: false,
};

#[test]
fn the_first_rule_that_concerns_a_request_decides() {
    use Action::{Publish, Subscribe};
    let mut admin = rule(Effect::Allow, Actions::ALL, &[]);
    admin.user = Some(Name::Begins("admin".into()));
    let mut near = rule(Effect::Allow, Actions::ALL, &["local/#"]);
    near.addresses = Box::new([Net::parse("10.1.0.0/16").unwrap()]);
    let mut far = rule(Effect::Allow, Actions::ALL, &["far/#"]);
    far.addresses = Box::new([Net::parse("10.2.0.0/16").unwrap()]);
    let access = access(vec![
        admin,
        rule(
            Effect::Deny,
            Actions::ALL,
            &["devices/+/secret", "eq devices/#"],
        ),
        rule(Effect::Allow, PUBLISH, &["devices/${clientid}/#"]),
        rule(Effect::Allow, Actions::ALL, &["users/${username}/+"]),
        near,
        far,
    ]);
    let lock = subject("lock", "u");
    for (who, action, topic, wanted) in [
        (lock, Publish, "devices/lock/state", true),
        (lock, Publish, "devices/lock", true),
        (lock, Publish, "devices/lock/secret", false),
        (lock, Publish, "devices/other/state", false),
        (lock, Subscribe, "devices/lock/state", false),
        (lock, Subscribe, "users/u/+", true),
        (lock, Subscribe, "users/u/x", true),
        (lock, Subscribe, "users/+/x", false),
        (lock, Subscribe, "users/#", false),
        (lock, Publish, "local/a", true),
        (lock, Publish, "far/a", false),
        (subject("x", "admin1"), Subscribe, "devices/#", true),
        // Ids that would widen a filter allow nothing.
        (subject("+", "u"), Publish, "devices/+/state", false),
        (subject("a/b", "u"), Publish, "devices/a/b", false),
        (subject("x", ""), Publish, "users//a", false),
        (subject("x", "#"), Subscribe, "users/#", false),
        (subject("x", "+"), Subscribe, "users/+/x", false),
        (subject("$SYS", "u"), Publish, "devices/$SYS/state", false),
    ] {
        let decided = access.decide(&who, action, topic) == Otherwise::Allow;
        assert_eq!(decided, wanted, "{who:?} {action:?} {topic}");
    }
}

#[test]
fn a_client_id_leads_into_no_place_of_its_own() {
    let access = access(vec![rule(Effect::Allow, Actions::ALL, &["${clientid}/#"])]);
    for (id, wanted) in [("$SYS", false), ("$share", false), ("lock", true)] {
        let filter = format!("{id}/#");
        let decided = access.decide(&subject(id, "u"), Action::Subscribe, &filter);
        assert_eq!(decided == Otherwise::Allow, wanted, "{id}");
    }
}

#[test]
fn rules_of_the_node_come_before_those_of_the_client() {
    let deny = rule(Effect::Deny, Actions::ALL, &["a/#"]);
    let mut access = access(vec![deny]);
    access.own = Box::new([rule(Effect::Allow, Actions::ALL, &["#"])]);
    access.otherwise = Otherwise::Ask;
    let joe = subject("c", "joe");
    let decide = |access: &Access, topic| access.decide(&joe, Action::Publish, topic);
    assert_eq!(decide(&access, "a/b"), Otherwise::Deny);
    assert_eq!(decide(&access, "b"), Otherwise::Allow);
    assert_eq!(decide(&access, "$SYS/x"), Otherwise::Ask);
    access.super_user = true;
    assert_eq!(decide(&access, "a/b"), Otherwise::Allow);
}

#[test]
fn addresses_are_compared_by_bits() {
    let net = |text| Net::parse(text).unwrap();
    let v4 = IpAddr::from([192, 168, 7, 9]);
    assert!(net("192.168.0.0/16").contains(v4) && net("0.0.0.0/0").contains(v4));
    assert!(!net("192.169.0.0/16").contains(v4) && !net("::/0").contains(v4));
    assert!(net("192.168.7.9").contains("::ffff:192.168.7.9".parse().unwrap()));
    assert!(net("fd00::/8").contains("fd12::1".parse().unwrap()));
    assert!(net("10.0.0.1").is_one() && !net("10.0.0.1/31").is_one());
    for bad in ["10.0.0.0/33", "::/129", "host", "10.0.0.0/", ""] {
        assert_eq!(Net::parse(bad), None, "{bad}");
    }
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["a", "b", "+", "c"]);
    (prop::collection::vec(level, 1..4), any::<bool>()).prop_map(|(mut levels, tail)| {
        if tail {
            levels.push("#");
        }
        levels.join("/")
    })
}

proptest! {
    /// Whatever may be subscribed to as part of a wider filter may be subscribed to alone: no
    /// denial is passed by asking for more.
    #[test]
    fn a_wide_subscription_reaches_nothing_that_is_denied(
        rules in prop::collection::vec((any::<bool>(), filter()), 1..6),
        asked in filter(),
        topic in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d"]), 1..5),
    ) {
        let rules = rules.iter().map(|(allow, filter)| {
            let effect = if *allow { Effect::Allow } else { Effect::Deny };
            rule(effect, Actions::ALL, &[filter.as_str()])
        });
        let access = access(rules.collect());
        let topic = topic.join("/");
        let joe = subject("c", "joe");
        let may = |what: &str| access.decide(&joe, Action::Subscribe, what) == Otherwise::Allow;
        if may(&asked) && mqtt::topic::matches(&asked, &topic) {
            prop_assert!(may(&topic), "{asked} {topic}");
        }
    }
}
