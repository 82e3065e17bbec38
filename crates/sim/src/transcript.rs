//! Transcripts: MQTT dialogues as text, parsed, and run against whatever world can carry them.
//! The format stands in `tests/transcripts/README.md`. Nothing here knows the broker.

mod packet;
mod run;
mod words;

pub use packet::{Field, PacketText, Variables, Want};
pub use run::{Failure, World, run};

use mqtt::Version;

/// A parsed transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    /// Numbers of the statements it shows, as written in its first line.
    pub statements: Vec<String>,
    /// What happens, in a few words.
    pub title: String,
    /// Settings of the broker that differ from the defaults; `rule` may be repeated and keeps its
    /// order.
    pub settings: Vec<(String, String)>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One line of a transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Line number in the file, from 1.
    pub line: usize,
    /// What happens or must have happened.
    pub action: Action,
}

/// What a step does or expects.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// `a -> PACKET`
    Send(String, PacketText),
    /// `a raw HEX`
    Raw(String, Vec<u8>),
    /// `a speaks VERSION`
    Speaks(String, Version),
    /// `a <- PACKET`
    Receive(String, PacketText),
    /// `a <~ PACKET`
    ReceiveAmong(String, PacketText),
    /// `a|b <- PACKET`
    ReceiveOne(Vec<String>, PacketText),
    /// `a none`
    Nothing(String),
    /// `a closed`
    Closed(String),
    /// `a drop`
    Drop(String),
    /// `wait TIME` or `wait TIME or TIME`
    Wait {
        /// Milliseconds that pass.
        ms: u64,
        /// Milliseconds that are enough where the clock cannot be turned.
        enough_ms: u64,
    },
    /// `restart`
    Restart,
    /// `stop`
    Stop,
    /// `start`
    Start,
}

/// Why a text is no transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ParseError {}

impl Transcript {
    /// Parses the text of a transcript.
    pub fn parse(text: &str) -> Result<Transcript, ParseError> {
        let heading = text.lines().next().unwrap_or_default();
        let (statements, title) =
            parse_heading(heading).map_err(|what| ParseError { line: 1, what })?;
        let mut transcript = Transcript {
            statements,
            title,
            settings: Vec::new(),
            steps: Vec::new(),
        };
        for (index, text) in text.lines().enumerate() {
            let line = index + 1;
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            transcript
                .add(line, text)
                .map_err(|what| ParseError { line, what })?;
        }
        if transcript.steps.is_empty() {
            return Err(ParseError {
                line: 1,
                what: "a transcript without a step".to_owned(),
            });
        }
        Ok(transcript)
    }

    /// Time that the transcript takes where the clock cannot be turned, in milliseconds.
    pub fn waits_ms(&self) -> u64 {
        let wait = |step: &Step| match step.action {
            Action::Wait { enough_ms, .. } => enough_ms,
            _ => 0,
        };
        self.steps.iter().map(wait).sum()
    }

    fn add(&mut self, line: usize, text: &str) -> Result<(), String> {
        if let Some(rule) = text.strip_prefix("rule ") {
            let words = rule.split_whitespace().count();
            if !self.steps.is_empty() || words != 3 {
                return Err("a rule is EFFECT ACTION FILTER, before all steps".to_owned());
            }
            self.settings.push(("rule".to_owned(), rule.to_owned()));
            return Ok(());
        }
        if let Some(settings) = text.strip_prefix("broker ") {
            if !self.steps.is_empty() {
                return Err("settings stand before all steps".to_owned());
            }
            for setting in settings.split_whitespace() {
                let (key, value) = setting
                    .split_once('=')
                    .ok_or_else(|| format!("{setting} has no value"))?;
                self.settings.push((key.to_owned(), value.to_owned()));
            }
            return Ok(());
        }
        self.steps.push(Step {
            line,
            action: parse_step(text)?,
        });
        Ok(())
    }
}

fn parse_heading(heading: &str) -> Result<(Vec<String>, String), String> {
    let words = heading
        .strip_prefix("# ")
        .ok_or("the first line is a heading: # TITLE")?;
    let mut statements = Vec::new();
    let mut title = Vec::new();
    for word in words.split_whitespace() {
        let is_statement = word.starts_with("MQTT-") || word.starts_with("MQTT3-");
        if is_statement && title.is_empty() {
            statements.push(word.to_owned());
        } else {
            title.push(word);
        }
    }
    if title.is_empty() {
        return Err("the heading has no title".to_owned());
    }
    Ok((statements, title.join(" ")))
}

fn parse_step(text: &str) -> Result<Action, String> {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    match (first, rest) {
        ("restart", "") => return Ok(Action::Restart),
        ("stop", "") => return Ok(Action::Stop),
        ("start", "") => return Ok(Action::Start),
        ("wait", times) => return parse_wait(times),
        _ => {}
    }
    let clients: Vec<String> = first.split('|').map(str::to_owned).collect();
    for client in &clients {
        let plain = client
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !plain || !client.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Err(format!("{client} is neither a step nor a client"));
        }
    }
    let (verb, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim();
    let client = clients[0].clone();
    if clients.len() > 1 {
        return match verb {
            "<-" => Ok(Action::ReceiveOne(clients, PacketText::parse(rest)?)),
            _ => Err("several clients can only receive: <-".to_owned()),
        };
    }
    match (verb, rest) {
        ("->", packet) => Ok(Action::Send(client, PacketText::parse(packet)?)),
        ("<-", packet) => Ok(Action::Receive(client, PacketText::parse(packet)?)),
        ("<~", packet) => Ok(Action::ReceiveAmong(client, PacketText::parse(packet)?)),
        ("raw", bytes) => words::parse_hex(bytes).map(|bytes| Action::Raw(client, bytes)),
        ("speaks", version) => {
            words::parse_version(version).map(|version| Action::Speaks(client, version))
        }
        ("none", "") => Ok(Action::Nothing(client)),
        ("closed", "") => Ok(Action::Closed(client)),
        ("drop", "") => Ok(Action::Drop(client)),
        _ => Err(format!("{verb} {rest} is no step")),
    }
}

fn parse_wait(text: &str) -> Result<Action, String> {
    let (time, enough) = text.split_once(" or ").unwrap_or((text, text));
    let (ms, enough_ms) = (parse_time(time)?, parse_time(enough)?);
    if enough_ms > ms {
        return Err(format!("{enough} is no shorter than {time}"));
    }
    Ok(Action::Wait { ms, enough_ms })
}

fn parse_time(text: &str) -> Result<u64, String> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{text} is no time: 500ms, 10s, 2m, 1h")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text} is no time"))?;
    number
        .checked_mul(scale)
        .ok_or_else(|| format!("{text} is too long"))
}

#[cfg(test)]
mod tests;
