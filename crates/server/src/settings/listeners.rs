//! Listeners: addresses, and that nobody gets in by default.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::build::{Builder, Flags};
use super::words::Word;
use super::{
    CertificatePrincipal, ClientCertificate, HostPort, ListenerKind, ListenerSettings,
    SaslMechanism, TlsSettings,
};
use crate::config::ListenerTable;
use crate::tls::Tls;

/// Whether Kafka clients log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authentication {
    None,
    Sasl,
}

impl ListenerSettings {
    /// Whether nobody comes in through this listener without saying who it is.
    pub fn asks(&self) -> bool {
        let certificate = |tls: &TlsSettings| tls.client_certificate == ClientCertificate::Required;
        !self.sasl.is_empty() || self.tls.as_ref().is_some_and(certificate)
    }

    /// Whether Kafka clients are asked who they are here, even if they need not say.
    pub(super) fn asks_kafka_clients(&self) -> bool {
        let certificate = |tls: &TlsSettings| tls.client_certificate != ClientCertificate::None;
        self.kind.speaks_kafka()
            && (!self.sasl.is_empty() || self.tls.as_ref().is_some_and(certificate))
    }

    fn local(&self) -> bool {
        self.bind.ip().to_canonical().is_loopback()
    }
}

impl ListenerKind {
    /// Whether the Kafka protocol is spoken there, with TLS or without.
    pub fn speaks_kafka(self) -> bool {
        matches!(self, Self::Kafka | Self::Kafkas)
    }
}

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
            self.in_the_clear(&path, &listener, table);
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
                advertised: None,
                sasl: Vec::new(),
                tls: None,
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
        if !kind.speaks_kafka() {
            self.only_for_kafka(path, kind, table);
        }
        let tls = self.tls(path, kind, table);
        let sasl = self.sasl(path, table);
        let anonymous = table.anonymous.unwrap_or(false);
        if anonymous && !sasl.is_empty() {
            self.fault(
                &format!("{path}.anonymous"),
                "says that anyone may come in, and `authentication` that everyone must log in: take one of them back",
            );
        }
        Some(ListenerSettings {
            kind,
            bind,
            anonymous,
            advertised: self.advertised(&format!("{path}.advertised"), table.advertised.as_deref()),
            sasl,
            tls,
            option: place,
        })
    }

    pub(super) fn advertised(&mut self, path: &str, said: Option<&str>) -> Option<HostPort> {
        let text = said?;
        let parsed = host_port(text);
        if parsed.is_none() {
            let what = format!("\"{text}\" is not host:port, such as \"10.0.0.5:9092\"");
            self.fault(path, &what);
        }
        parsed
    }

    /// Keys that say nothing to another protocol are mistakes there.
    fn only_for_kafka(&mut self, path: &str, kind: ListenerKind, table: &ListenerTable) {
        let said = [
            ("advertised", table.advertised.is_some()),
            ("authentication", table.authentication.is_some()),
            ("sasl_mechanisms", table.sasl_mechanisms.is_some()),
            ("plain_in_clear", table.plain_in_clear.is_some()),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            let what = format!(
                "is for kafka and kafkas listeners; this one is {}",
                kind.word()
            );
            self.fault(&format!("{path}.{key}"), &what);
        }
    }

    fn sasl(&mut self, path: &str, table: &ListenerTable) -> Vec<SaslMechanism> {
        let word = table.authentication.as_deref().unwrap_or("none");
        let authentication = self.word::<Authentication>(&format!("{path}.authentication"), word);
        let key = format!("{path}.sasl_mechanisms");
        let mut mechanisms = Vec::new();
        match &table.sasl_mechanisms {
            None => mechanisms.extend(SaslMechanism::ALL.iter().map(|(mechanism, _)| *mechanism)),
            Some(said) => {
                if said.is_empty() {
                    self.fault(&key, "names no mechanism, so that nobody could log in");
                }
                for word in said {
                    mechanisms.extend(self.word::<SaslMechanism>(&key, word));
                }
            }
        }
        if authentication == Some(Authentication::Sasl) {
            return mechanisms;
        }
        if table.sasl_mechanisms.is_some() {
            self.fault(&key, "needs authentication = \"sasl\"");
        }
        Vec::new()
    }

    fn tls(
        &mut self,
        path: &str,
        kind: ListenerKind,
        table: &ListenerTable,
    ) -> Option<TlsSettings> {
        if kind != ListenerKind::Kafkas {
            let said = [
                ("certificate", &table.certificate),
                ("key", &table.key),
                ("client_ca", &table.client_ca),
                ("client_certificate", &table.client_certificate),
                ("certificate_principal", &table.certificate_principal),
            ];
            for (key, _) in said.into_iter().filter(|(_, said)| said.is_some()) {
                let what = format!(
                    "is for listeners with TLS, of kind \"kafkas\"; this one is {}",
                    kind.word()
                );
                self.fault(&format!("{path}.{key}"), &what);
            }
            return None;
        }
        let certificate = self.required(path, "certificate", table.certificate.as_ref());
        let key = self.required(path, "key", table.key.as_ref());
        let client_certificate = match table.client_certificate.as_deref() {
            None if table.client_ca.is_some() => ClientCertificate::Required,
            None => ClientCertificate::None,
            Some(word) => self.word(&format!("{path}.client_certificate"), word)?,
        };
        if client_certificate != ClientCertificate::None && table.client_ca.is_none() {
            self.fault(
                &format!("{path}.client_certificate"),
                "needs `client_ca`: the file with the certificates that those of clients come from",
            );
            return None;
        }
        let principal = match table.certificate_principal.as_deref() {
            None => CertificatePrincipal::Subject,
            Some(word) => self.word(&format!("{path}.certificate_principal"), word)?,
        };
        let settings = TlsSettings {
            certificate: certificate?.into(),
            key: key?.into(),
            client_ca: table.client_ca.as_ref().map(Into::into),
            client_certificate,
            principal,
        };
        if let Err(what) = Tls::open(&settings) {
            self.fault(&format!("{path}.certificate"), &what);
        }
        Some(settings)
    }

    /// A password in the clear where others can listen is a mistake unless it is meant.
    fn in_the_clear(&mut self, path: &str, listener: &ListenerSettings, table: &ListenerTable) {
        let plain = listener.sasl.contains(&SaslMechanism::Plain);
        if plain
            && listener.tls.is_none()
            && !listener.local()
            && !table.plain_in_clear.unwrap_or(false)
        {
            self.fault(
                &format!("{path}.sasl_mechanisms"),
                "with PLAIN every password travels in the clear, and other machines reach this listener: make it kind = \"kafkas\", or leave PLAIN out of `sasl_mechanisms`, or write `plain_in_clear = true`",
            );
        }
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
        ListenerKind::Kafkas => 9093,
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
    if listener.local() {
        return None;
    }
    let (kind, bind) = (listener.kind.word(), listener.bind);
    if listener.kind == ListenerKind::Http {
        return Some(format!(
            "the http listener on {bind} is refused: the HTTP interface has no authentication yet. Bind 127.0.0.1, and reach it through a tunnel or a proxy that asks who is there"
        ));
    }
    let port = bind.port();
    (!listener.anonymous && !listener.asks()).then(|| {
        format!("the {kind} listener on {bind} is refused: other machines reach it and nobody is asked who they are. If anyone may come in, {how}; if not, bind 127.0.0.1:{port}")
    })
}
