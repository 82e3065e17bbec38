//! Every transcript of `tests/transcripts`, run against the shards and the log in the simulator.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use broker::access::{Access, Actions, Effect, Otherwise, Rule, RuleFilter, RuleSet};
use broker::{DeniedPublish, SharedStrategy};
use sim::transcript::{Transcript, run};
use sim::world::{self, WorldSettings};

/// The simulator as a place where transcripts happen: after each step all that is under way
/// arrives.
#[derive(Default)]
struct Simulator {
    world: Option<world::World>,
    clients: BTreeMap<String, world::Client>,
    /// Milliseconds between the node's own figures; 0: none.
    sys_interval_ms: u64,
    now_ms: u64,
}

impl Simulator {
    fn running(&mut self) -> &mut world::World {
        self.world.as_mut().expect("the transcript has begun")
    }

    /// Some of the figures that the node publishes under `$SYS`.
    fn publish_figures(&mut self) {
        let clients = self.clients.len().to_string();
        for (topic, value) in [
            ("uptime", "1 seconds"),
            ("version", "sluice"),
            ("clients/connected", &clients),
        ] {
            let topic = format!("$SYS/broker/{topic}");
            self.running().announce(&topic, value.as_bytes());
        }
        self.running().settle();
    }

    fn conn(&self, client: &str) -> world::Client {
        self.clients[client]
    }
}

impl sim::transcript::World for Simulator {
    fn begin(&mut self, settings: &[(String, String)]) -> Result<(), String> {
        let mut world_settings = WorldSettings {
            workers: 2,
            ..WorldSettings::default()
        };
        self.sys_interval_ms = 0;
        let mut rules = Vec::new();
        for (key, value) in settings {
            if key == "sys_interval_s" {
                let seconds: u64 = value.parse().map_err(|_| "sys_interval_s is a number")?;
                self.sys_interval_ms = 1_000 * seconds;
                continue;
            }
            if key == "rule" {
                rules.push(rule(value)?);
                continue;
            }
            set(&mut world_settings, key, value)?;
        }
        world_settings.access = (!rules.is_empty()).then(|| {
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
        self.world = Some(world::World::new(world_settings));
        self.clients.clear();
        Ok(())
    }

    fn connect(&mut self, client: &str) {
        let conn = self.running().connect();
        self.clients.insert(client.to_owned(), conn);
    }

    fn send(&mut self, client: &str, bytes: &[u8]) {
        let conn = self.conn(client);
        self.running().send(conn, bytes);
        self.running().settle();
    }

    fn drop_connection(&mut self, client: &str) {
        let conn = self.conn(client);
        self.running().cut(conn);
        self.running().settle();
    }

    fn read(&mut self, client: &str, _expecting: bool) -> Vec<u8> {
        let conn = self.conn(client);
        self.running().take_received(conn)
    }

    fn closed(&mut self, client: &str, _expecting: bool) -> bool {
        let conn = self.conn(client);
        self.running().is_closed(conn)
    }

    fn advance(&mut self, ms: u64, _: u64) {
        if !self.running().is_running() {
            self.running().sleep(ms);
            return;
        }
        let end = self.now_ms + ms;
        while self.now_ms < end {
            let next = match self.sys_interval_ms {
                0 => end,
                interval => end.min((self.now_ms / interval + 1) * interval),
            };
            let step = next - self.now_ms;
            self.now_ms = next;
            self.running().advance(step);
            self.running().settle();
            if self.sys_interval_ms > 0 && next.is_multiple_of(self.sys_interval_ms) {
                self.publish_figures();
            }
        }
    }

    fn restart(&mut self) -> Result<(), String> {
        self.running().crash();
        self.start()
    }

    fn stop(&mut self) -> Result<(), String> {
        self.running().stop();
        Ok(())
    }

    fn start(&mut self) -> Result<(), String> {
        self.running().start();
        self.running().settle();
        Ok(())
    }
}

/// `allow publish d/${clientid}/#`
fn rule(text: &str) -> Result<Rule, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [effect, action, filter] = words[..] else {
        return Err(format!("no rule: {text}"));
    };
    Ok(Rule {
        effect: match effect {
            "allow" => Effect::Allow,
            "deny" => Effect::Deny,
            other => return Err(format!("no such effect: {other}")),
        },
        user: None,
        client_id: None,
        addresses: Box::default(),
        actions: match action {
            "all" => Actions::ALL,
            "publish" | "subscribe" => Actions {
                publish: action == "publish",
                subscribe: action == "subscribe",
            },
            other => return Err(format!("no such action: {other}")),
        },
        filters: Box::new([RuleFilter::parse(filter).map_err(|error| error.to_string())?]),
    })
}

fn set(settings: &mut WorldSettings, key: &str, value: &str) -> Result<(), String> {
    let number = || {
        value
            .parse::<u64>()
            .map_err(|_| format!("{key} is a number, not {value}"))
    };
    let broker = &mut settings.broker;
    match key {
        "packet_size_max" => broker.packet_size_max = number()? as u32,
        "keep_alive_s_max" => broker.keep_alive_s_max = Some(number()? as u16),
        "session_expiry_s_max" => broker.session_expiry_s_max = Some(number()? as u32),
        "receive_maximum" => broker.receive_maximum = number()? as u16,
        "inflight_max" => broker.inflight_max = number()? as u16,
        "topic_alias_max" => broker.topic_alias_max = number()? as u16,
        "inbox_max" => broker.inbox_max = number()? as u32,
        "subscriptions_max" => broker.subscriptions_max = number()? as u32,
        "shared_strategy" => {
            broker.shared_strategy = match value {
                "round_robin" => SharedStrategy::RoundRobin,
                "sticky" => SharedStrategy::Sticky,
                other => return Err(format!("no such strategy: {other}")),
            }
        }
        "denied_publish" => {
            broker.denied_publish = match value {
                "drop" => DeniedPublish::Drop,
                "disconnect" => DeniedPublish::Disconnect,
                other => return Err(format!("no such answer: {other}")),
            }
        }
        other => return Err(format!("no such setting: {other}")),
    }
    Ok(())
}

#[test]
fn every_transcript_is_what_the_shards_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let only = std::env::var("SLUICE_TRANSCRIPT").unwrap_or_default();
    let entries = std::fs::read_dir(&folder).expect("the transcripts are there");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter(|path| path.to_string_lossy().contains(&only))
        .collect();
    paths.sort();
    let mut failures = Vec::new();
    for path in &paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(path).expect("the transcript is readable");
        let outcome = std::panic::catch_unwind(|| match Transcript::parse(&text) {
            Ok(transcript) => run(&transcript, &mut Simulator::default())
                .err()
                .map(|failure| failure.to_string()),
            Err(error) => Some(error.to_string()),
        });
        match outcome {
            Ok(None) => {}
            Ok(Some(what)) => failures.push(format!("{name}: {what}")),
            Err(_) => failures.push(format!("{name}: the broker panicked")),
        }
    }
    println!("{} transcripts passed", paths.len() - failures.len());
    assert!(!paths.is_empty(), "there are no transcripts");
    assert!(
        failures.is_empty(),
        "{} of {} transcripts failed:\n{}",
        failures.len(),
        paths.len(),
        failures.join("\n")
    );
}
