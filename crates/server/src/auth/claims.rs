//! Permissions as tokens and HTTP services write them, in EMQX's two forms: an object of lists
//! (`pub`, `sub`, `all`) or a list of rules. Pure.

use broker::access::{Actions, Effect, Rule, RuleFilter};
use serde_json::Value;

use super::limits::CLAIM_RULES_MAX;

/// The rules of a claim.
///
/// # Errors
/// What of it cannot be read: who wrote it meant something, and nobody knows what.
pub fn rules(claim: &Value) -> Result<Vec<Rule>, String> {
    let rules = match claim {
        Value::Object(lists) => {
            let mut rules = Vec::new();
            for (key, filters) in lists {
                let actions = action(key).ok_or("has a key that is none of pub, sub, all")?;
                rules.push(rule(Effect::Allow, actions, filters)?);
            }
            rules
        }
        Value::Array(list) => list.iter().map(listed).collect::<Result<_, _>>()?,
        _ => return Err("is neither an object nor a list".to_owned()),
    };
    let filters: usize = rules.iter().map(|rule| rule.filters.len()).sum();
    if rules.len() > CLAIM_RULES_MAX || filters > CLAIM_RULES_MAX {
        return Err(format!("has more than {CLAIM_RULES_MAX} rules or filters"));
    }
    Ok(rules)
}

fn listed(value: &Value) -> Result<Rule, String> {
    let word = |key: &str| value.get(key).and_then(Value::as_str);
    let effect = match word("permission") {
        Some("allow") => Effect::Allow,
        Some("deny") => Effect::Deny,
        _ => return Err("has a rule without \"permission\": \"allow\" or \"deny\"".to_owned()),
    };
    let actions = match word("action") {
        None => Actions::ALL,
        Some(word) => action(word).ok_or("has an action that is none of pub, sub, all")?,
    };
    for key in ["qos", "retain"] {
        if value.get(key).is_some() {
            return Err(format!(
                "has a rule with \"{key}\", which is not looked at here"
            ));
        }
    }
    let topics = value
        .get("topic")
        .or_else(|| value.get("topics"))
        .ok_or("has a rule without \"topic\"")?;
    rule(effect, actions, topics)
}

fn action(word: &str) -> Option<Actions> {
    let (publish, subscribe) = match word {
        "pub" | "publish" => (true, false),
        "sub" | "subscribe" => (false, true),
        "all" => (true, true),
        _ => return None,
    };
    Some(Actions { publish, subscribe })
}

fn rule(effect: Effect, actions: Actions, filters: &Value) -> Result<Rule, String> {
    let one = |value: &Value| {
        let text = value.as_str().ok_or("has a filter that is no text")?;
        RuleFilter::parse(text).map_err(|error| format!("has a filter that {error}"))
    };
    let filters: Vec<RuleFilter> = match filters {
        Value::Array(list) => list.iter().map(one).collect::<Result<_, _>>()?,
        value => vec![one(value)?],
    };
    if filters.is_empty() {
        // In a rule of ours no filter means any; here it means none.
        return Ok(Rule {
            effect: Effect::Deny,
            user: None,
            client_id: None,
            addresses: Box::default(),
            actions: Actions {
                publish: false,
                subscribe: false,
            },
            filters: Box::default(),
        });
    }
    Ok(Rule {
        effect,
        user: None,
        client_id: None,
        addresses: Box::default(),
        actions,
        filters: filters.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::access::{Action, RuleSet, Subject};
    use serde_json::json;

    fn decide(claim: &Value, action: Action, topic: &str) -> Option<Effect> {
        let joe = Subject {
            client_id: "lock",
            username: "joe",
            address: None,
        };
        let rules = rules(claim).unwrap().into();
        RuleSet { rules }.decide(&joe, action, topic)
    }

    #[test]
    fn both_forms_are_read() {
        let lists = json!({"pub": ["d/${clientid}/#"], "sub": ["news", "d/+"], "all": []});
        let allow = Some(Effect::Allow);
        assert_eq!(decide(&lists, Action::Publish, "d/lock/x"), allow);
        assert_eq!(decide(&lists, Action::Publish, "news"), None);
        assert_eq!(decide(&lists, Action::Subscribe, "d/+"), allow);
        let list = json!([
            {"permission": "deny", "action": "publish", "topic": "d/secret"},
            {"permission": "allow", "topics": ["d/#"]},
        ]);
        assert_eq!(
            decide(&list, Action::Publish, "d/secret"),
            Some(Effect::Deny)
        );
        assert_eq!(decide(&list, Action::Subscribe, "d/secret"), allow);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            json!(5),
            json!({"push": ["a"]}),
            json!({"pub": [5]}),
            json!({"pub": ["a/#/b"]}),
            json!([{"action": "pub", "topic": "a"}]),
            json!([{"permission": "allow", "action": "x", "topic": "a"}]),
            json!([{"permission": "allow"}]),
            json!([{"permission": "deny", "topic": "a", "qos": [1]}]),
            json!({"pub": vec!["a"; CLAIM_RULES_MAX + 1]}),
        ] {
            assert!(rules(&bad).is_err(), "{bad}");
        }
        assert_eq!(rules(&json!({})), Ok(Vec::new()));
    }
}
