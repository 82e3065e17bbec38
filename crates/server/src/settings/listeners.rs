//! Listeners: addresses, and that nobody gets in by default.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::build::{Builder, Flags};
use super::words::Word;
use super::{HostPort, ListenerKind, ListenerSettings};
use crate::config::ListenerTable;

impl Builder {
    pub(super) fn listeners(&mut self, flags: &Flags) -> Vec<ListenerSettings> {
        let replaced: BTreeSet<ListenerKind> =
            flags.listeners.iter().map(|(kind, _)| *kind).collect();
        let mut listeners = Vec::new();
        for (index, table) in self
            .said
            .listener
            .clone()
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let path = format!("listener[{index}]");
            let Some(listener) = self.listener(&path, index, table) else {
                continue;
            };
            if replaced.contains(&listener.kind) {
                continue;
            }
            if let Some(what) = refusal(&listener, "write `anonymous = true` in this [[listener]]")
            {
                self.fault(&format!("{path}.bind"), &what);
            }
            listeners.push((format!("{path}.bind"), listener));
        }
        for (kind, text) in &flags.listeners {
            if text == "off" {
                continue;
            }
            let option = format!("--{} ADDR", kind.word());
            let Some(bind) = address(text) else {
                self.flag_fault(&option, &bad_address(text, *kind));
                continue;
            };
            let listener = ListenerSettings {
                kind: *kind,
                bind,
                anonymous: flags.anonymous,
                option,
            };
            if let Some(what) = refusal(&listener, "add `--anonymous`") {
                self.flag_fault(&listener.option, &what);
            }
            listeners.push((String::new(), listener));
        }
        let mut seen = BTreeSet::new();
        for (path, listener) in &listeners {
            if listener.bind.port() != 0 && !seen.insert(listener.bind) {
                let what = format!("two listeners have the address {}", listener.bind);
                if path.is_empty() {
                    self.flag_fault(&listener.option, &what);
                } else {
                    self.fault(path, &what);
                }
            }
        }
        listeners
            .into_iter()
            .map(|(_, listener)| listener)
            .collect()
    }

    pub(super) fn listener(
        &mut self,
        path: &str,
        index: usize,
        table: &ListenerTable,
    ) -> Option<ListenerSettings> {
        let kind = self.required(path, "kind", table.kind.as_ref())?;
        let kind = self.word::<ListenerKind>(&format!("{path}.kind"), &kind)?;
        let text = self.required(path, "bind", table.bind.as_ref())?;
        let Some(bind) = address(&text) else {
            self.fault(&format!("{path}.bind"), &bad_address(&text, kind));
            return None;
        };
        let place = match self.lines.get(&format!("{path}.bind")) {
            Some(line) => format!(
                "[[listener]] number {}: bind ({}, line {line})",
                index + 1,
                self.source
            ),
            None => format!("--{} ADDR", kind.word()),
        };
        Some(ListenerSettings {
            kind,
            bind,
            anonymous: table.anonymous.unwrap_or(false),
            option: place,
        })
    }
}

/// `127.0.0.1:1883`, `[::1]:1883`, `localhost:1883`.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

pub(super) fn bad_address(text: &str, kind: ListenerKind) -> String {
    let port = match kind {
        ListenerKind::Mqtt => 1883,
        ListenerKind::Kafka => 9092,
        ListenerKind::Http => 18083,
    };
    format!(
        "\"{text}\" is not an address to bind: write an IP address and a port, such as \"127.0.0.1:{port}\""
    )
}

/// `host:port`; IPv6 in brackets.
pub(super) fn host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let plain = !bare.is_empty()
        && bare
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
    (plain && (bare == host) != bare.contains(':')).then(|| HostPort {
        host: bare.to_owned(),
        port,
    })
}

/// Why a listener would let strangers in, if it would.
pub(super) fn refusal(listener: &ListenerSettings, how: &str) -> Option<String> {
    if listener.bind.ip().to_canonical().is_loopback() {
        return None;
    }
    let (kind, bind) = (listener.kind.word(), listener.bind);
    if listener.kind == ListenerKind::Http {
        return Some(format!(
            "the http listener on {bind} is refused: the HTTP interface has no authentication yet. Bind 127.0.0.1, and reach it through a tunnel or a proxy that asks who is there"
        ));
    }
    let port = bind.port();
    (!listener.anonymous).then(|| {
        format!("the {kind} listener on {bind} is refused: other machines reach it and nobody is asked who they are. If anyone may come in, {how}; if not, bind 127.0.0.1:{port}")
    })
}
