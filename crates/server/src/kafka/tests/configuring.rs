//! The settings of topics and of the node: shown, altered, and what is refused.

use ::kafka::api::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResponse, AlterableConfig,
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, IncrementalResource,
};

use super::administering::{alter, create, facts, topic};
use super::*;

async fn describe(
    client: &mut Client,
    resource_type: i8,
    resource_name: &str,
    keys: Option<Vec<&str>>,
) -> (i16, Vec<(String, String, i8)>) {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name,
        configuration_keys: keys,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource.clone(), resource],
        include_synonyms: true,
        include_documentation: true,
    };
    let mut shown = Vec::new();
    for version in Api::DescribeConfigs.versions() {
        let answer = client.ask(Api::DescribeConfigs, version, &request).await;
        let answer: DescribeConfigsResponse<'_> =
            decode_response(Api::DescribeConfigs, version, &answer).unwrap();
        assert_eq!(answer.results.len(), 1, "each once");
        let result = &answer.results[0];
        let row = |row: &::kafka::api::DescribedConfig<'_>| {
            if version >= 3 {
                assert!(row.config_type > 0 && !row.documentation.unwrap().is_empty());
            }
            (
                row.name.to_owned(),
                row.value.unwrap().to_owned(),
                row.config_source,
            )
        };
        shown.push((result.error_code, result.configs.iter().map(row).collect()));
    }
    assert!(shown.iter().all(|other| *other == shown[0]));
    shown.remove(0)
}

#[tokio::test]
async fn settings_are_shown_altered_and_set_back() {
    let house = House::of(facts(), |_| {}).await;
    let mut client = house.client().await;
    create(&mut client, vec![topic("door")]).await;
    let one = |name| Some(vec![name]);
    let retention = |value: &str, source| {
        (
            0,
            vec![("retention.ms".to_owned(), value.to_owned(), source)],
        )
    };
    let week = retention("604800000", 5);
    assert_eq!(
        describe(&mut client, 2, "door", one("retention.ms")).await,
        week
    );
    assert_eq!(
        alter(&mut client, "door", 0, ("retention.ms", Some("1000")))
            .await
            .0,
        0
    );
    let shown = describe(&mut client, 2, "door", one("retention.ms")).await;
    assert_eq!(shown, retention("1000", 1));
    assert_eq!(
        alter(&mut client, "door", 1, ("retention.ms", None))
            .await
            .0,
        0
    );
    assert_eq!(
        describe(&mut client, 2, "door", one("retention.ms")).await,
        week
    );
    assert_eq!(
        alter(&mut client, "door", 2, ("cleanup.policy", Some("compact")))
            .await
            .0,
        0
    );
    let shown = describe(&mut client, 2, "door", one("cleanup.policy")).await;
    assert_eq!(shown.1[0].1, "compact,delete");
    assert_eq!(
        alter(&mut client, "door", 3, ("cleanup.policy", Some("delete")))
            .await
            .0,
        0
    );
    let shown = describe(&mut client, 2, "door", one("cleanup.policy")).await;
    assert_eq!(shown.1[0].1, "compact");
    let all = describe(&mut client, 2, "door", None).await.1;
    assert!(all.len() > 25);

    // AlterConfigs sets all anew: what it does not name goes back to its default.
    for version in Api::AlterConfigs.versions() {
        let request = AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 2,
                resource_name: "door",
                configs: vec![AlterableConfig {
                    name: "segment.bytes",
                    value: Some("1048576"),
                }],
            }],
            validate_only: false,
        };
        let answer = client.ask(Api::AlterConfigs, version, &request).await;
        let answer: AlterConfigsResponse<'_> =
            decode_response(Api::AlterConfigs, version, &answer).unwrap();
        assert_eq!(answer.responses[0].error_code, 0);
    }
    let all = describe(&mut client, 2, "door", None).await.1;
    let changed: Vec<_> = all
        .iter()
        .filter(|row| row.2 != 5)
        .map(|row| &*row.0)
        .collect();
    assert_eq!(changed, ["segment.bytes"]);
}

#[tokio::test]
async fn what_cannot_be_altered_is_told_with_words() {
    let house = House::of(facts(), |_| {}).await;
    for name in ["door", "written", "message_state"] {
        house.log.create(name, 1);
    }
    let mut client = house.client().await;
    for (name, operation, key, value, code, words) in [
        ("window", 0, "retention.ms", Some("1"), 3, "no such topic"),
        ("written", 0, "retention.ms", Some("1"), 44, "[[stream]]"),
        ("message_state", 0, "sluice.ack", Some("append"), 0, ""),
        (
            "message_state",
            0,
            "sluice.ack",
            Some("flush"),
            44,
            "a hook writes",
        ),
        (
            "message_state",
            0,
            "cleanup.policy",
            Some("compact"),
            40,
            "sessions point",
        ),
        ("message_state", 0, "retention.ms", Some("1"), 0, ""),
        ("door", 0, "sluice.storage", Some("memory"), 40, "stays"),
        (
            "door",
            0,
            "sluice.ack",
            Some("memory"),
            40,
            "sluice.storage=memory",
        ),
        ("door", 0, "retention.ms", None, 42, "no value"),
        ("door", 7, "retention.ms", Some("1"), 42, "no operation 7"),
        ("door", 2, "retention.ms", Some("1"), 40, "no list"),
        ("door", 0, "retention.ms", Some("x"), 40, "Invalid value x"),
    ] {
        let (said, message) = alter(&mut client, name, operation, (key, value)).await;
        assert_eq!(said, code, "{name} {key}: {message}");
        assert!(message.contains(words), "{name} {key}: {message}");
    }
    let request = IncrementalAlterConfigsRequest {
        resources: vec![
            IncrementalResource {
                resource_type: 4,
                resource_name: "1",
                configs: Vec::new(),
            },
            IncrementalResource {
                resource_type: 32,
                resource_name: "group",
                configs: Vec::new(),
            },
        ],
        validate_only: true,
    };
    let answer = client.ask(Api::IncrementalAlterConfigs, 0, &request).await;
    let answer: IncrementalAlterConfigsResponse<'_> =
        decode_response(Api::IncrementalAlterConfigs, 0, &answer).unwrap();
    let codes: Vec<_> = answer.responses.iter().map(|row| row.error_code).collect();
    assert_eq!(codes, [44, 42]);
}

#[tokio::test]
async fn the_node_shows_its_settings_as_those_of_a_broker() {
    let house = House::of(facts(), |_| {}).await;
    let mut client = house.client().await;
    let (code, rows) = describe(&mut client, 4, "1", None).await;
    assert_eq!(code, 0);
    let value = |name: &str| rows.iter().find(|row| row.0 == name).unwrap().1.clone();
    assert_eq!(value("num.partitions"), "1");
    assert_eq!(value("auto.create.topics.enable"), "false");
    assert_eq!(value("log.retention.ms"), "604800000");
    assert!(value("log.dirs").starts_with('/'));
    assert!(rows.is_sorted());
    assert_eq!(describe(&mut client, 4, "", None).await, (0, vec![]));
    assert_eq!(describe(&mut client, 4, "2", None).await.0, 42);
    assert_eq!(describe(&mut client, 8, "1", None).await.0, 42);
    assert_eq!(describe(&mut client, 2, "window", None).await.0, 3);
}
