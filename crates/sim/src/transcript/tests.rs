//! The format, and the runner against a world of canned answers.

use mqtt::{Packet, ReasonCode};

use super::*;

fn packet(text: &str) -> PacketText {
    PacketText::parse(text).unwrap()
}

fn got(text: &str, version: Version) -> PacketText {
    let bytes = packet(text).encode(version, &Variables::new()).unwrap();
    let version = packet(text).version.unwrap_or(version);
    let (packet, len) = mqtt::decode(&bytes, version, 1 << 28).unwrap().unwrap();
    assert_eq!(len, bytes.len());
    PacketText::of(&packet)
}

#[test]
fn a_transcript_is_parsed() {
    let text = "# MQTT-3.1.4-3 MQTT3-3.1.4-2 the same client id connects again\n\
        broker receive_maximum=10 inbox_max=5\n\
        rule allow publish d/${clientid}/#\n\
        \n\
        # a comment\n\
        a -> CONNECT v3.1.1 id=meter-7 clean=0 keepalive=60\n\
        a|b <- PUBLISH t \"x\"\n\
        a closed\n\
        a raw 10 0c0 0\n\
        wait 2m or 30s\n\
        restart";
    let transcript = Transcript::parse(text).unwrap();
    assert_eq!(transcript.statements, ["MQTT-3.1.4-3", "MQTT3-3.1.4-2"]);
    assert_eq!(transcript.title, "the same client id connects again");
    let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        transcript.settings,
        [
            setting("receive_maximum", "10"),
            setting("inbox_max", "5"),
            setting("rule", "allow publish d/${clientid}/#")
        ]
    );
    assert_eq!(transcript.waits_ms(), 30_000);
    assert_eq!(
        transcript.steps[4].action,
        Action::Wait {
            ms: 120_000,
            enough_ms: 30_000
        }
    );
    let lines: Vec<usize> = transcript.steps.iter().map(|step| step.line).collect();
    assert_eq!(lines, [6, 7, 8, 9, 10, 11]);
    assert_eq!(
        transcript.steps[3].action,
        Action::Raw("a".into(), vec![0x10, 0x0C, 0])
    );
    let Action::Send(_, connect) = &transcript.steps[0].action else {
        panic!()
    };
    assert_eq!(connect.version, Some(Version::V311));
}

#[test]
fn mistakes_are_named_by_line() {
    for (text, line) in [
        ("no heading", 1),
        ("# t\nwait 1s or 2s", 2),
        ("# MQTT-1.1.1-1\na drop", 1),
        ("# title", 1),
        ("# title\na jumps", 2),
        ("# title\nrule allow #", 2),
        ("# title\nA drop", 2),
        ("# title\n\nwait 10", 3),
        ("# title\na drop\nbroker x=1", 3),
        ("# title\na raw 0", 2),
        ("# title\na -> PUBLISH t \"open", 2),
        ("# title\na -> PUBLISH t x y", 2),
        ("# title\na -> PUBLISH t qos=1 qos=x", 2),
        ("# title\na -> PUBLISH t colour=red", 2),
        ("# title\na -> PUBACK 1 splendid", 2),
        ("# title\na|b -> PINGREQ", 2),
        ("# title\na -> CONNECT v4 id=x", 2),
        ("# title\na -> PUBLISH t user=novalue", 2),
    ] {
        let error = Transcript::parse(text).expect_err(text);
        assert_eq!(error.line, line, "{text}: {error}");
    }
}

#[test]
fn packets_are_built_described_and_written_alike() {
    for text in [
        "CONNECT v5 id=a clean=1 keepalive=60 username=u password=\"p w\" will.topic=t \
         will.payload=gone will.qos=1 will.retain=1 will.delay=5 will.expiry=6 will.format=1 \
         will.content_type=c will.response_topic=r will.correlation=hex:00ff will.user=a:b \
         session_expiry=7 receive_maximum=8 maximum_packet_size=99 topic_alias_maximum=3 \
         request_response=1 request_problem=0 auth_method=m auth_data=d user=x:1 user=x:2",
        "CONNECT v3.1 id=a clean=0 keepalive=0",
        "CONNACK quota_exceeded present=0 assigned_id=z reason_string=why user=a:b",
        "CONNACK success present=1 session_expiry=1 receive_maximum=2 maximum_qos=1 \
         retain_available=0 maximum_packet_size=3 topic_alias_maximum=4 wildcard_available=0 \
         sub_ids_available=1 shared_available=0 server_keep_alive=5 response_information=i \
         server_reference=s auth_method=m auth_data=hex:ff",
        "PUBLISH a/b \"payload\" qos=2 pid=7 retain dup alias=1 expiry=2 format=1 \
         response_topic=r correlation=c content_type=t sub_id=1 sub_id=2 user=a:b",
        "PUBLISH $SYS/x \"\"",
        "PUBLISH \"\" hex:fffe alias=3",
        "PUBACK 1 no_matching_subscribers reason_string=\"no one\"",
        "PUBREC 1 success",
        "PUBREL 1 packet_identifier_not_found",
        "PUBCOMP 1 success",
        "SUBSCRIBE 1 sub_id=3 user=a:b a/# qos=1 nl rap rh=2 + qos=0",
        "SUBACK 1 granted_qos_1 unspecified_error",
        "UNSUBSCRIBE 1 a/# b",
        "UNSUBACK 1 success no_subscription_existed",
        "PINGREQ",
        "PINGRESP",
        "DISCONNECT session_taken_over reason_string=x session_expiry=3 user=a:b",
        "AUTH continue_authentication auth_method=m auth_data=d",
    ] {
        let described = got(text, Version::V5);
        assert_eq!(packet(&described.to_string()), described, "{text}");
        let plain: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let fields = |packet: &PacketText| {
            let mut keys: Vec<String> = packet.fields.iter().map(|f| format!("{f:?}")).collect();
            keys.sort();
            keys
        };
        assert_eq!(fields(&packet(&plain)), fields(&described), "{text}");
    }
}

#[test]
fn what_is_compared() {
    let matches = |wanted: &str, text: &str| {
        packet(wanted)
            .matches(&got(text, Version::V5), &mut Variables::new())
            .is_ok()
    };
    let publish = "PUBLISH t \"x\" qos=1 pid=9 expiry=11 sub_id=1 sub_id=2 user=a:1 user=b:2";
    for wanted in [
        "PUBLISH t \"x\" qos=1",
        "PUBLISH * * qos=1 pid=9",
        "PUBLISH t \"x\" qos=1 expiry=10..12 sub_id=2 sub_id=1",
        "PUBLISH t \"x\" qos=1 user=a:1 user=b:2 content_type=- expiry=*",
        "PUBLISH t \"x\" qos=* pid=$p",
    ] {
        assert!(matches(wanted, publish), "{wanted}");
    }
    for wanted in [
        "PUBLISH t \"x\"",
        "PUBLISH t \"x\" qos=1 retain",
        "PUBLISH t \"x\" qos=1 dup",
        "PUBLISH u \"x\" qos=1",
        "PUBLISH t qos=1",
        "PUBLISH t \"x\" qos=1 pid=8",
        "PUBLISH t \"x\" qos=1 expiry=12..20",
        "PUBLISH t \"x\" qos=1 expiry=-",
        "PUBLISH t \"x\" qos=1 content_type=*",
        "PUBLISH t \"x\" qos=1 sub_id=1",
        "PUBLISH t \"x\" qos=1 user=b:2 user=a:1",
        "PUBLISH t \"x\" qos=1 user=-",
        "PUBACK 9",
    ] {
        assert!(!matches(wanted, publish), "{wanted}");
    }
    assert!(matches(
        "SUBACK 1 granted_qos_0 0x01",
        "SUBACK 1 success granted_qos_1"
    ));
    assert!(!matches(
        "SUBACK 1 granted_qos_1",
        "SUBACK 1 granted_qos_1 granted_qos_1"
    ));
    assert!(!matches("PUBACK 1", "PUBACK 1 no_matching_subscribers"));
    assert!(matches("CONNACK success", "CONNACK success present=1"));
    assert!(!matches(
        "CONNACK success present=0",
        "CONNACK success present=1"
    ));
}

#[test]
fn a_variable_keeps_its_first_value() {
    let mut variables = Variables::new();
    let wanted = packet("PUBLISH t qos=1 pid=$p");
    let received = |pid| got(&format!("PUBLISH t \"\" qos=1 pid={pid}"), Version::V311);
    wanted.matches(&received(5), &mut variables).unwrap();
    assert!(wanted.matches(&received(6), &mut variables).is_err());
    wanted.matches(&received(5), &mut variables).unwrap();
    let ack = packet("PUBACK $p")
        .encode(Version::V311, &variables)
        .unwrap();
    assert_eq!(ack, [0x40, 2, 0, 5]);
    assert!(
        packet("PUBACK $q")
            .encode(Version::V311, &variables)
            .is_err()
    );
}

/// A broker of a few rules: it grants, echoes QoS 0, and closes at a second CONNECT.
#[derive(Default)]
struct Echo {
    answers: std::collections::BTreeMap<String, Vec<u8>>,
    connected: std::collections::BTreeSet<String>,
    closed: std::collections::BTreeSet<String>,
    begun: Vec<(String, String)>,
}

impl World for Echo {
    fn begin(&mut self, settings: &[(String, String)]) -> Result<(), String> {
        self.begun = settings.to_vec();
        Ok(())
    }
    fn connect(&mut self, client: &str) {
        self.closed.remove(client);
        self.connected.remove(client);
    }
    fn send(&mut self, client: &str, bytes: &[u8]) {
        let out = self.answers.entry(client.to_owned()).or_default();
        match mqtt::decode(bytes, Version::V5, 1 << 20) {
            Ok(Some((Packet::Connect(_), _))) if self.connected.insert(client.to_owned()) => {
                out.extend_from_slice(&[0x20, 3, 0, 0, 0]);
            }
            Ok(Some((Packet::Publish(_), _))) => out.extend_from_slice(bytes),
            _ => {
                let reason = ReasonCode::ProtocolError;
                Packet::Disconnect(mqtt::Disconnect::new(reason)).encode(Version::V5, out);
                self.closed.insert(client.to_owned());
            }
        }
    }
    fn drop_connection(&mut self, client: &str) {
        self.answers.remove(client);
    }
    fn read(&mut self, client: &str, _: bool) -> Vec<u8> {
        self.answers.remove(client).unwrap_or_default()
    }
    fn closed(&mut self, client: &str, _: bool) -> bool {
        self.closed.contains(client)
    }
    fn advance(&mut self, _: u64, _: u64) {}
    fn restart(&mut self) -> Result<(), String> {
        self.answers.clear();
        Ok(())
    }
    fn stop(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn start(&mut self) -> Result<(), String> {
        self.restart()
    }
}

fn run_echo(steps: &str) -> Result<(), Failure> {
    let transcript = Transcript::parse(&format!("# title\nbroker inbox_max=1\n{steps}")).unwrap();
    let mut world = Echo::default();
    let result = run(&transcript, &mut world);
    assert_eq!(world.begun.len(), 1);
    result
}

#[test]
fn a_world_that_answers_as_written_passes() {
    run_echo(
        "a -> CONNECT v5 id=a\n\
         a <- CONNACK success present=0\n\
         a -> PUBLISH t \"1\" correlation=c\n\
         a -> PUBLISH t \"2\"\n\
         a <~ PUBLISH t \"2\"\n\
         a|b <- PUBLISH t \"1\" correlation=$c\n\
         a none\n\
         a -> CONNECT v5 id=a\n\
         a <- DISCONNECT protocol_error\n\
         a closed\n\
         a -> CONNECT v5 id=a\n\
         a <- CONNACK\n\
         a -> DISCONNECT\n\
         a <- DISCONNECT *\n\
         a -> CONNECT v5 id=a\n\
         a <- CONNACK\n\
         a raw 30 04 00 01 61 00\n\
         a <- PUBLISH a\n\
         restart\n\
         a -> CONNECT v5 id=a\n\
         a drop",
    )
    .unwrap();
}

#[test]
fn a_world_that_answers_otherwise_fails_at_the_line() {
    for (steps, line) in [
        ("a -> PINGREQ", 3),
        ("a -> CONNECT v5 id=a\na <- CONNACK banned", 4),
        ("a -> CONNECT v5 id=a\na <- CONNACK\na <- PINGRESP", 5),
        ("a -> CONNECT v5 id=a\na none", 4),
        ("a -> CONNECT v5 id=a\na <- CONNACK\na closed", 5),
        ("a -> CONNECT v5 id=a\na drop\na -> PINGREQ", 5),
        (
            "a -> CONNECT v5 id=a\na <- CONNACK\na -> PINGREQ\na <- DISCONNECT *\na none",
            7,
        ),
        ("a -> CONNECT v5 id=a", 4),
        ("a -> CONNECT v5 id=a\na|b <- PINGRESP", 4),
        ("a -> CONNECT v5 id=a\na <~ PINGRESP", 4),
    ] {
        let failure = run_echo(steps).expect_err(steps);
        assert_eq!(failure.line, line, "{steps}: {failure}");
    }
}
