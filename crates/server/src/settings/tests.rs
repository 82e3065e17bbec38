//! What a configuration means, and how each mistake is told.

use std::path::Path;

use super::super::keys::ClientIds;
use super::super::listeners::{address, host_port};
use super::*;
use crate::config;
use crate::settings::*;

/// Faults of reading and of meaning together, as `sluice check` tells them.
fn settings(text: &str) -> Result<Settings, Vec<String>> {
    let (said, mut faults) = config::read("f", text);
    let built = build(Some(said), &Flags::default());
    if let Err(more) = &built {
        faults.extend(more.iter().cloned());
    }
    if faults.is_empty() {
        Ok(built.unwrap())
    } else {
        Err(faults.iter().map(ToString::to_string).collect())
    }
}

fn with_flags(flags: &Flags) -> Result<Settings, Vec<String>> {
    build(None, flags).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn stream<'s>(settings: &'s Settings, name: &str) -> &'s StreamSettings {
    settings
        .streams
        .iter()
        .find(|stream| stream.name == name)
        .expect(name)
}

#[test]
fn the_default_is_the_articles() {
    let settings = with_flags(&Flags::default()).unwrap();
    let [state, command] = &settings.hooks[..] else {
        panic!("{:?}", settings.hooks)
    };
    assert_eq!(
        (state.event, state.filter.as_deref()),
        (HookEvent::MessagePublish, Some("devices/+/state"))
    );
    assert_eq!(
        (state.stream.as_str(), state.key.as_str()),
        ("message_state", "{2}")
    );
    assert_eq!(
        (command.event, command.filter.as_deref()),
        (HookEvent::MessageAcked, Some("devices/+/command"))
    );
    assert_eq!(
        (command.stream.as_str(), command.key.as_str()),
        ("message_command", "{2}")
    );
    assert_eq!(settings.node.name, "sluice@127.0.0.1");
    let names: Vec<_> = settings
        .streams
        .iter()
        .map(|stream| stream.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "message_state",
            "message_command",
            "mqtt.default",
            "mqtt.default.qos0"
        ]
    );
    assert_eq!(
        (
            stream(&settings, "message_state").partitions,
            stream(&settings, "message_state").ack
        ),
        (4, Ack::Flush)
    );
    assert_eq!(stream(&settings, "mqtt.default").ack, Ack::Append);
    let qos0 = stream(&settings, "mqtt.default.qos0");
    assert_eq!((qos0.ack, qos0.storage), (Ack::Memory, Storage::Memory));
    let binds: Vec<_> = settings
        .listeners
        .iter()
        .map(|l| (l.kind, l.bind.to_string()))
        .collect();
    assert_eq!(
        binds,
        [
            (ListenerKind::Mqtt, "127.0.0.1:1883".to_owned()),
            (ListenerKind::Ws, "127.0.0.1:8083".to_owned()),
            (ListenerKind::Kafka, "127.0.0.1:9092".to_owned()),
            (ListenerKind::Http, "127.0.0.1:18083".to_owned()),
        ]
    );
}

#[test]
fn the_defaults_in_the_table_of_keys_are_those_of_the_code() {
    let said = |table: &str| -> String {
        let mut text = String::new();
        for key in config::keys::KEYS.iter().filter(|key| key.table == table) {
            // These may stand only where Kafka clients log in, or TLS or WebSocket is spoken.
            let elsewhere = [
                "authentication",
                "sasl_mechanisms",
                "plain_in_clear",
                "certificate_principal",
                "path",
                "origins",
            ];
            if !key.default.is_empty() && key.default != "{}" && !elsewhere.contains(&key.name) {
                text += &[key.name, " = ", key.default, "\n"].concat();
            }
        }
        text
    };
    let bare = "[[listener]]\nkind = \"mqtt\"\nbind = \"127.0.0.1:1\"\n[[hook]]\nevent = \"message.publish\"\nstream = \"a\"\n[[stream]]\nname = \"b\"\n";
    let full = format!(
        "[[listener]]\nkind = \"mqtt\"\nbind = \"127.0.0.1:1\"\n{}[[hook]]\nevent = \"message.publish\"\nstream = \"a\"\n{}[[stream]]\nname = \"b\"\n{}[stream.retention]\n{}",
        said("listener"),
        said("hook"),
        said("stream"),
        said("stream.retention"),
    );
    assert_eq!(
        settings(bare).unwrap().hooks,
        settings(&full).unwrap().hooks
    );
    assert_eq!(
        settings(bare).unwrap().streams,
        settings(&full).unwrap().streams
    );
    assert_eq!(
        settings(bare).unwrap().listeners[0].anonymous,
        settings(&full).unwrap().listeners[0].anonymous
    );
}

#[test]
fn a_file_lies_over_the_default_and_flags_over_the_file() {
    let text = "[node]\nname = \"n1\"\ndata_dir = \"/var/lib/a\"\n[mqtt]\ninbox_max = 7\nconnect_timeout_ms = 2500\nsession_expiry_s_max = \"2h\"\n";
    let (said, _) = config::read("f", text);
    let flags = Flags {
        data_dir: Some("/tmp/b".into()),
        listeners: vec![
            (ListenerKind::Mqtt, "127.0.0.1:2883".into()),
            (ListenerKind::Ws, "off".into()),
            (ListenerKind::Http, "off".into()),
        ],
        accept_loss: true,
        ..Flags::default()
    };
    let settings = build(Some(said), &flags).unwrap();
    assert_eq!(settings.node.name, "n1");
    assert_eq!(settings.node.data_dir, Path::new("/tmp/b"));
    assert_eq!(
        (settings.mqtt.inbox_max, settings.mqtt.connect_timeout_ms),
        (7, 2_500)
    );
    assert_eq!(settings.mqtt.session_expiry_s_max, Some(7_200));
    assert_eq!(settings.mqtt.receive_maximum, 1_024);
    assert!(settings.log.accept_loss);
    let kinds: Vec<_> = settings
        .listeners
        .iter()
        .map(|l| (l.kind, l.bind.port(), l.option.as_str()))
        .collect();
    assert_eq!(
        kinds,
        [
            (ListenerKind::Kafka, 9092, "--kafka ADDR"),
            (ListenerKind::Mqtt, 2883, "--mqtt ADDR")
        ]
    );
}

#[test]
fn hooks_of_a_file_replace_the_defaults_and_their_streams() {
    let only = settings("[[hook]]\nevent = \"message.deliver\"\nstream = \"out\"\n").unwrap();
    assert_eq!(only.hooks.len(), 1);
    assert_eq!(
        (only.hooks[0].event, only.hooks[0].filter.as_deref()),
        (HookEvent::MessageDelivered, Some("#"))
    );
    let names: Vec<_> = only
        .streams
        .iter()
        .map(|stream| stream.name.as_str())
        .collect();
    assert_eq!(names, ["out", "mqtt.default", "mqtt.default.qos0"]);
    assert!(settings("hook = []").unwrap().hooks.is_empty());
    // A stream of the file lies over the default's of that name and leaves the other.
    let one = settings("[[stream]]\nname = \"message_state\"\npartitions = 12\n").unwrap();
    assert_eq!(stream(&one, "message_state").partitions, 12);
    assert_eq!(stream(&one, "message_command").partitions, 4);
}

#[test]
fn nobody_gets_in_by_default() {
    let open = |rest: &str| {
        settings(&format!(
            "[[listener]]\nkind = \"mqtt\"\nbind = \"0.0.0.0:1883\"\n{rest}"
        ))
    };
    let told = open("").unwrap_err();
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("f:3: ") && told[0].contains("anonymous = true"),
        "{told:?}"
    );
    assert!(open("anonymous = false").is_err());
    assert!(open("anonymous = true").is_ok());
    let http = settings("[[listener]]\nkind = \"http\"\nbind = \"0.0.0.0:80\"\nanonymous = true\n")
        .unwrap_err();
    assert!(http[0].contains("in the clear"), "{http:?}");
    assert!(settings("[[listener]]\nkind = \"kafka\"\nbind = \"[::1]:9092\"\n").is_ok());
    let mut flags = Flags {
        listeners: vec![(ListenerKind::Kafka, "0.0.0.0:9092".into())],
        ..Flags::default()
    };
    let told = with_flags(&flags).unwrap_err();
    assert!(
        told[0].starts_with("--kafka ADDR: ") && told[0].contains("--anonymous"),
        "{told:?}"
    );
    flags.anonymous = true;
    assert!(with_flags(&flags).is_ok());
}

/// A configuration with one Kafka listener of these keys.
fn listening(rest: &str) -> Result<Settings, Vec<String>> {
    settings(&format!(
        "kafka.super_users = [\"root\"]\n[[listener]]\nkind = \"kafka\"\nbind = \"0.0.0.0:9092\"\n{rest}"
    ))
}

#[test]
fn a_kafka_listener_that_asks_may_stand_anywhere() {
    let scram = "authentication = \"sasl\"\nsasl_mechanisms = [\"SCRAM-SHA-512\"]\n";
    let open = listening(scram).unwrap();
    assert_eq!(open.listeners[0].sasl, [SaslMechanism::ScramSha512]);
    assert!(open.kafka.access.enforced);
    for (rest, told) in [
        (
            "authentication = \"sasl\"",
            "f:2: sasl_mechanisms: with PLAIN every password travels in the clear",
        ),
        (
            "authentication = \"sasl\"\nanonymous = true\nplain_in_clear = true",
            "f:6: anonymous: says that anyone may come in",
        ),
        (
            "anonymous = true\nsasl_mechanisms = [\"PLAIN\"]",
            "f:6: sasl_mechanisms: needs authentication",
        ),
        (
            "anonymous = true\nkey = \"x\"",
            "f:6: key: is for listeners with TLS",
        ),
    ] {
        let faults = listening(rest).unwrap_err();
        assert!(faults[0].starts_with(told), "{rest}: {faults:?}");
    }
    let plain = "authentication = \"sasl\"\nplain_in_clear = true";
    assert!(listening(plain).is_ok());
    let nobody = settings(
        "[[listener]]\nkind = \"kafka\"\nbind = \"127.0.0.1:1\"\nauthentication = \"sasl\"\n",
    );
    let told = nobody.unwrap_err();
    assert!(told[0].contains("nobody may do anything"), "{told:?}");
}

#[test]
fn what_would_let_strangers_be_somebody_else_is_refused() {
    let token = "[[authenticator]]\nkind = \"jwt\"\nsecret_env = \"PATH\"\n";
    for (text, told) in [
        (token.to_owned(), "f:1: any token would let its bearer"),
        (
            format!("{token}require = {{ sub = \"${{clientid}}-${{username}}\" }}\n"),
            "f:1: require: a value has two placeholders",
        ),
        (
            "[[authenticator]]\nkind = \"users\"\nclient_ids = \"${username}*\"\n".to_owned(),
            "f:3: client_ids: would let the user",
        ),
        (
            "[[authenticator]]\nkind = \"users\"\nclient_ids = \"${clientid}\"\n".to_owned(),
            "f:3: client_ids: knows ${username}, once",
        ),
        (
            "[[authenticator]]\nkind = \"http\"\nurl = \"http://a:geheim@b/\"\n".to_owned(),
            "f:3: url: the URL has a user name or password in it",
        ),
        (
            "[authorization]\nurl = \"http://127.0.0.1/\"\ntimeout = \"11s\"\n".to_owned(),
            "f:3: timeout: ",
        ),
        (
            "[[listener]]\nkind = \"mqtt\"\nbind = \"0.0.0.0:1883\"\nanonymous = true\nproxy_protocol = true\n"
                .to_owned(),
            "f:5: proxy_protocol: lets everybody who reaches this listener claim any address",
        ),
    ] {
        let faults = settings(&text).expect_err(&text);
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert!(faults[0].starts_with(told), "{text}: {faults:?}");
        assert!(!faults[0].contains("geheim"), "{faults:?}");
    }
    for more in [
        "user_name_claim = \"sub\"",
        "client_id_claim = \"sub\"",
        "require = { sub = \"${clientid}\" }",
    ] {
        assert!(settings(&format!("{token}{more}\n")).is_ok(), "{more}");
    }
    let proxy = "[[listener]]\nkind = \"mqtt\"\nanonymous = true\nproxy_protocol = true\n";
    for more in [
        "bind = \"127.0.0.1:1\"",
        "bind = \"0.0.0.0:1\"\nproxy_from = [\"0.0.0.0/0\"]",
    ] {
        assert!(settings(&format!("{proxy}{more}\n")).is_ok(), "{more}");
    }
}

#[test]
fn client_ids_are_held_against_their_user() {
    let own = ClientIds::read("${username}/*").unwrap();
    for (client_id, username, may) in [
        ("joe/lock", "joe", true),
        ("joe/", "joe", true),
        ("joe", "joe", false),
        ("ann/joe/lock", "joe", false),
        ("/x", "", false),
    ] {
        assert_eq!(own.admits(client_id, username), may, "{client_id}");
    }
    let exact = ClientIds::read("${username}").unwrap();
    assert!(exact.admits("joe", "joe") && !exact.admits("joe2", "joe") && exact.names_user());
    let kiosk = ClientIds::read("kiosk-*").unwrap();
    assert!(kiosk.admits("kiosk-1", "") && !kiosk.admits("x", "") && !kiosk.names_user());
    for bad in ["", "*", "a*b", "${username}${username}", "${user}"] {
        assert!(ClientIds::read(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_listener_with_tls_needs_its_files() {
    let listen = |rest: &str| {
        let text = format!("[[listener]]\nkind = \"kafkas\"\nbind = \"127.0.0.1:1\"\n{rest}");
        settings(&text).unwrap_err()
    };
    let told = listen("");
    assert_eq!(
        told,
        [
            "f:1: this [[listener]] needs `certificate`",
            "f:1: this [[listener]] needs `key`"
        ]
    );
    let told = listen("certificate = \"/no/such/file\"\nkey = \"/no/such/key\"");
    assert!(
        told[0].starts_with("f:4: certificate: cannot read the certificate file /no/such/file"),
        "{told:?}"
    );
    let told = listen("certificate = \"a\"\nkey = \"b\"\nclient_certificate = \"required\"");
    assert!(told[0].contains("needs `client_ca`"), "{told:?}");
    let http = "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:1\"\nadvertised = \"a:1\"";
    let told = settings(http).unwrap_err();
    assert!(
        told[0].starts_with("f:4: advertised: is for kafka and kafkas listeners"),
        "{told:?}"
    );
}

#[test]
fn permissions_and_quotas_are_read() {
    let text = "[[kafka.permission]]\nprincipal = \"User:a*\"\noperations = [\"read\"]\nresource = \"topic\"\n[[kafka.quota]]\nclient_id = \"x\"\nbytes_in_per_s = \"2KB\"\n";
    let kafka = settings(text).unwrap().kafka;
    let permission = &kafka.access.permissions[0];
    assert!(kafka.access.enforced);
    assert_eq!(
        (permission.effect, &permission.principal, &permission.name),
        (Effect::Allow, &Pattern::Prefix("a".into()), &Pattern::Any)
    );
    let quota = &kafka.quotas[0];
    assert_eq!(
        (&quota.principal, quota.bytes_in_per_s),
        (&None, Some(2_048))
    );
    for (text, told) in [
        (
            "[[kafka.permission]]\nprincipal = \"a\"\nresource = \"topic\"",
            "f:1: this [[kafka.permission]] needs `operations`",
        ),
        (
            "[[kafka.permission]]\nprincipal = \"a\"\nresource = \"topics\"\noperations = [\"read\"]",
            "f:3: resource: \"topics\" is none of topic",
        ),
        (
            "[[kafka.permission]]\nprincipal = \"a*b\"\nresource = \"topic\"\noperations = [\"read\"]",
            "f:2: principal: \"a*b\" is no pattern",
        ),
        (
            "[[kafka.permission]]\nprincipal = \"a\"\nresource = \"cluster\"\nname = \"x\"\noperations = [\"all\"]",
            "f:4: name: there is one cluster",
        ),
        (
            "[[kafka.quota]]\nprincipal = \"a\"",
            "f:1: this [[kafka.quota]] bounds nothing",
        ),
    ] {
        let faults = settings(text).unwrap_err();
        assert!(faults[0].starts_with(told), "{text}: {faults:?}");
    }
}

#[test]
fn faults_of_meaning_have_lines() {
    for (text, told) in [
        (
            "[[hook]]\nevent = \"message.published\"\nstream = \"a\"",
            "f:2: event: \"message.published\" is none of ",
        ),
        (
            "[[hook]]\nevent = \"message.publish\"\n",
            "f:1: this [[hook]] needs `stream`",
        ),
        (
            "[[hook]]\nevent = \"client.connected\"\nstream = \"a\"\nfilter = \"#\"",
            "f:4: filter: client.connected has no topic, so that a hook on it takes no filter",
        ),
        (
            "[[hook]]\nevent = \"client.connected\"\nstream = \"a\"\nkey = \"{2}\"",
            "f:4: key: client.connected has no topic to take a key from",
        ),
        (
            "[[hook]]\nevent = \"message.publish\"\nstream = \"a\"\nkey = \"2\"",
            "f:4: key: \"2\" would be the key of every record; write \"{2}\"",
        ),
        (
            "[[hook]]\nevent = \"message.publish\"\nstream = \"a\"\nkey = \"{0}\"",
            "f:4: key \"{0}\": the levels of a topic are counted from 1",
        ),
        (
            "[[hook]]\nevent = \"message.publish\"\nstream = \"a\"\nfilter = \"a/#/b\"",
            "f:4: filter: \"a/#/b\" is not a filter",
        ),
        (
            "[[hook]]\nevent = \"message.publish\"\nstream = \"a b\"",
            "f:3: stream: \"a b\" cannot be the name of a stream",
        ),
        (
            "[[stream]]\nname = \"__sluice.x\"",
            "f:2: name: the stream __sluice.x is the node's own",
        ),
        (
            "[[stream]]\nname = \"a\"\nack = \"kafka\"",
            "f:3: ack = \"kafka\" waits for the Apache Kafka cluster behind, but the stream a is not mirrored",
        ),
        (
            "[[stream]]\nname = \"a\"\nack = \"memory\"",
            "f:3: ack = \"memory\" promises nothing",
        ),
        (
            "[[stream]]\nname = \"a\"\nstorage = \"memory\"\nack = \"flush\"",
            "f:4: ack: a stream in memory cannot promise \"flush\"",
        ),
        (
            "[mqtt]\ninbox_max = 1000001",
            "f:2: inbox_max: must be 1 to 1000000, is 1000001",
        ),
        (
            "[[stream]]\nname = \"a\"\npartitions = 0",
            "f:3: partitions: must be 1 to 1024, is 0",
        ),
        (
            "[[stream]]\nname = \"a\"\n[[stream]]\nname = \"a\"",
            "f:4: name: the stream a is defined twice",
        ),
        (
            "[[stream]]\nname = \"message_state\"\ncompaction = true",
            "f:3: compaction: a message.publish hook writes message_state",
        ),
        (
            "[[stream]]\nname = \"a\"\nretention = { age = \"7d\" }\ncompaction = true",
            "f:3: retention: a stream with compaction",
        ),
        (
            "[[stream]]\nname = \"a\"\nretention.size = \"10GB\"\nretention.size_max = \"1GB\"",
            "f:4: retention.size is larger than retention.size_max",
        ),
        (
            "[mqtt]\npacket_size_max = \"none\"",
            "f:2: packet_size_max: needs a size",
        ),
        (
            "[mqtt]\npacket_size_max = \"1GB\"",
            "f:2: packet_size_max: must be at least 1KB and at most 8MB, is 1GB",
        ),
        (
            "[mqtt]\nkeep_alive_s_max = \"1500ms\"",
            "f:2: keep_alive_s_max: must be whole seconds",
        ),
        (
            "[log]\nflush_ms_max = \"none\"",
            "f:2: flush_ms_max: needs a duration",
        ),
        (
            "[logging]\nlevel = \"inof\"",
            "f:2: level: \"inof\" is none of off, error, warn, info, debug, trace; did you mean \"info\"?",
        ),
        (
            "[logging]\n[logging.modules]\ncommitlog = \"loud\"",
            "f:3: commitlog: \"loud\" is none of",
        ),
        (
            "[kafka]\nadvertised = \"10.0.0.5\"",
            "f:2: advertised: \"10.0.0.5\" is not host:port",
        ),
        (
            "[[listener]]\nkind = \"mqtt\"\nbind = \"1883\"",
            "f:3: bind: \"1883\" is not an address to bind: write an IP address and a port, such as \"127.0.0.1:1883\"",
        ),
        (
            "[[listener]]\nkind = \"mqtt\"\nbind = \"127.0.0.1:9092\"\n[[listener]]\nkind = \"kafka\"\nbind = \"127.0.0.1:9092\"",
            "f:6: bind: two listeners have the address 127.0.0.1:9092",
        ),
    ] {
        let faults = settings(text).expect_err(text);
        assert_eq!(faults.len(), 1, "{text}\n{faults:#?}");
        assert!(
            faults[0].starts_with(told),
            "{text}\nsays   {}\nwanted {told}",
            faults[0]
        );
    }
}

#[test]
fn all_faults_of_meaning_are_told() {
    let text = "[node]\nworkers = 99\n[[hook]]\nevent = \"x\"\n[[stream]]\nname = \"a\"\npartitions = 0\nack = \"kafka\"\n";
    let faults = settings(text).unwrap_err();
    assert_eq!(faults.len(), 5, "{faults:#?}");
}

#[test]
fn keys_and_addresses_are_read() {
    assert!(needs_topic("{2}") && needs_topic("lock-{topic}") && needs_topic("{clientid}/{17}"));
    assert!(!needs_topic("{clientid}") && !needs_topic("none") && !needs_topic("${username}"));
    assert_eq!(
        host_port("[::1]:9092"),
        Some(HostPort {
            host: "::1".into(),
            port: 9092
        })
    );
    assert_eq!(
        host_port("kafka.example:9092").unwrap().to_string(),
        "kafka.example:9092"
    );
    for wrong in ["a", "a:0", ":1", "::1:9092", "a b:1", "[a]:1"] {
        assert_eq!(host_port(wrong), None, "{wrong}");
    }
    assert_eq!(
        address("localhost:1883").unwrap().to_string(),
        "127.0.0.1:1883"
    );
}

#[test]
fn settings_for_tests_take_free_ports() {
    let settings = Settings::for_tests(Path::new("/x"));
    assert!(
        settings
            .listeners
            .iter()
            .all(|l| l.bind.port() == 0 && l.bind.ip().is_loopback())
    );
    assert_eq!(settings.listeners.len(), 4);
}
