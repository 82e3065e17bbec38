//! Listeners: addresses, and that nobody gets in by default.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::build::{Builder, Flags};
use super::words::Word;
use super::{
    CertificatePrincipal, ClientCertificate, HostPort, ListenerKind, ListenerSettings, Network,
    SaslMechanism, TlsSettings,
};
use crate::config::ListenerTable;
use crate::tls::Tls;

/// Where WebSocket is served unless a listener says otherwise.
const WEBSOCKET_PATH: &str = "/mqtt";

/// Longest name of a listener.
const NAME_MAX: usize = 64;

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
        !self.sasl.is_empty()
            || !self.authenticators.is_empty()
            || self.tls.as_ref().is_some_and(certificate)
    }

    /// Why its address cannot be had, and what to change.
    pub fn cannot_bind(&self, error: &std::io::Error) -> String {
        let (kind, bind) = (self.kind.word(), self.bind);
        let why = if error.kind() == std::io::ErrorKind::AddrInUse {
            format!("another program listens on {bind}")
        } else {
            format!("{bind}: {error}")
        };
        format!(
            "cannot listen for {kind}: {why}; {} changes the address",
            self.option
        )
    }

    /// Whether Kafka clients are asked who they are here, even if they need not say.
    pub(super) fn asks_kafka_clients(&self) -> bool {
        let certificate = |tls: &TlsSettings| tls.client_certificate != ClientCertificate::None;
        self.kind.speaks_kafka()
            && (!self.sasl.is_empty() || self.tls.as_ref().is_some_and(certificate))
    }

    /// A listener that asks nobody who is there and has no bound of its own.
    pub fn plain(kind: ListenerKind, bind: SocketAddr, option: String) -> Self {
        Self {
            kind,
            bind,
            anonymous: false,
            advertised: None,
            authenticators: Vec::new(),
            sasl: Vec::new(),
            tls: None,
            name: None,
            path: WEBSOCKET_PATH.to_owned(),
            origins: Vec::new(),
            proxy: None,
            connections_max: None,
            connections_per_s: None,
            bytes_in_per_s: None,
            messages_in_per_s: None,
            connect_timeout_ms: None,
            option,
        }
    }

    /// What it is called: as configured, or its kind and where it is bound.
    pub fn shown_name(&self, address: SocketAddr) -> String {
        let own = self.name.clone();
        own.unwrap_or_else(|| format!("{}:{address}", self.kind.word()))
    }

    /// Whether a connection from `peer` begins with a PROXY header.
    pub fn expects_proxy(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let proxy = self.proxy.as_ref();
        proxy.is_some_and(|from| from.is_empty() || from.iter().any(|net: &Network| net.has(peer)))
    }

    /// Whether clients of MQTT are asked for a certificate here.
    pub(super) fn asks_devices_for_certificates(&self) -> bool {
        let asked = |tls: &TlsSettings| tls.client_certificate != ClientCertificate::None;
        self.kind.speaks_mqtt() && self.tls.as_ref().is_some_and(asked)
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

    /// Whether MQTT is spoken there, whatever it travels through.
    pub fn speaks_mqtt(self) -> bool {
        matches!(self, Self::Mqtt | Self::Mqtts | Self::Ws | Self::Wss)
    }

    /// Whether MQTT travels in WebSocket frames there.
    pub fn speaks_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Whether HTTP is spoken there, with TLS or without.
    pub fn speaks_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// Whether everything travels through TLS there.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss | Self::Kafkas | Self::Https)
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
                anonymous: flags.anonymous,
                authenticators: self.listener_authenticators("", *kind, (None, flags.anonymous)),
                ..ListenerSettings::plain(*kind, bind, option)
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
        if !kind.speaks_mqtt() {
            self.only_for_mqtt(path, kind, table);
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
            anonymous,
            advertised: self.advertised(&format!("{path}.advertised"), table.advertised.as_deref()),
            authenticators: self.listener_authenticators(
                path,
                kind,
                (table.authenticators.as_ref(), anonymous),
            ),
            sasl,
            tls,
            ..self.door(path, table, ListenerSettings::plain(kind, bind, place))
        })
    }

    /// What a listener bounds, and what it travels through.
    fn door(
        &mut self,
        path: &str,
        table: &ListenerTable,
        mut listener: ListenerSettings,
    ) -> ListenerSettings {
        let key = |name: &str| format!("{path}.{name}");
        if let Some(name) = &table.name {
            let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
            if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) {
                let what = format!("a name has 1 to {NAME_MAX} characters without spaces");
                self.fault(&key("name"), &what);
            }
            listener.name = Some(name.clone());
        }
        let websocket = listener.kind.speaks_websocket();
        for (name, said) in [
            ("path", table.path.is_some()),
            ("origins", table.origins.is_some()),
        ] {
            if said && !websocket {
                let what = format!(
                    "is for ws and wss listeners; this one is {}",
                    listener.kind.word()
                );
                self.fault(&key(name), &what);
            }
        }
        if let Some(said) = &table.path {
            let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
            if !said.starts_with('/') || !said.chars().all(plain) {
                self.fault(&key("path"), "is the path of a URL, such as \"/mqtt\"");
            }
            listener.path.clone_from(said);
        }
        for origin in table.origins.iter().flatten() {
            if origin != "*" && !origin.contains("://") {
                let what = "an origin is \"https://host\", with its port if it has one, or \"*\"";
                self.fault(&key("origins"), what);
            }
            listener.origins.push(origin.clone());
        }
        listener.proxy = self.proxy(path, table);
        if listener.proxy.as_ref().is_some_and(Vec::is_empty) && !listener.local() {
            self.fault(
                &key("proxy_protocol"),
                "lets everybody who reaches this listener claim any address, past bans and rules: name the proxies in `proxy_from`, or write proxy_from = [\"0.0.0.0/0\", \"::/0\"] if nobody else can reach it",
            );
        }
        let most = i64::from(u32::MAX);
        let count = |builder: &mut Self, name: &str, said: Option<i64>| {
            let said = said?;
            Some(builder.integer(&key(name), Some(said), 1, most) as u32)
        };
        listener.connections_max = count(self, "connections_max", table.connections_max);
        listener.connections_per_s = count(self, "connections_per_s", table.connections_per_s);
        listener.messages_in_per_s = count(self, "messages_in_per_s", table.messages_in_per_s);
        listener.bytes_in_per_s = table.bytes_in_per_s.and_then(|said| {
            self.size_or_none(&key("bytes_in_per_s"), said, 1024, u64::from(u32::MAX))
                .map(|size| size as u32)
        });
        listener.connect_timeout_ms = table
            .connect_timeout_ms
            .map(|said| self.span(&key("connect_timeout_ms"), Some(said), 1, 100, 300_000));
        listener
    }

    fn proxy(&mut self, path: &str, table: &ListenerTable) -> Option<Vec<Network>> {
        let key = format!("{path}.proxy_from");
        if !table.proxy_protocol.unwrap_or(false) {
            if table.proxy_from.is_some() {
                self.fault(&key, "needs proxy_protocol = true");
            }
            return None;
        }
        let mut from = Vec::new();
        if let Some(said) = &table.proxy_from {
            if said.is_empty() {
                self.fault(
                    &key,
                    "names no address, so that nobody's header would be read",
                );
            }
            for text in said {
                if let Some(network) = Network::parse(text) {
                    from.push(network);
                } else {
                    let what =
                        format!("\"{text}\" is no address and no network, such as \"10.0.0.0/8\"");
                    self.fault(&key, &what);
                }
            }
        }
        Some(from)
    }

    /// Keys that say nothing to another protocol are mistakes there.
    fn only_for_mqtt(&mut self, path: &str, kind: ListenerKind, table: &ListenerTable) {
        let said = [
            ("messages_in_per_s", table.messages_in_per_s.is_some()),
            ("connect_timeout_ms", table.connect_timeout_ms.is_some()),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            let what = format!(
                "is for mqtt, mqtts, ws and wss listeners; this one is {} (for Kafka clients there is [[kafka.quota]])",
                kind.word()
            );
            self.fault(&format!("{path}.{key}"), &what);
        }
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
        if !kind.has_tls() {
            let said = [
                ("certificate", &table.certificate),
                ("key", &table.key),
                ("client_ca", &table.client_ca),
                ("client_certificate", &table.client_certificate),
                ("certificate_principal", &table.certificate_principal),
            ];
            for (key, _) in said.into_iter().filter(|(_, said)| said.is_some()) {
                let what = format!(
                    "is for listeners with TLS (mqtts, wss, kafkas, https); this one is {}",
                    kind.word()
                );
                self.fault(&format!("{path}.{key}"), &what);
            }
            return None;
        }
        if !kind.speaks_kafka() && table.certificate_principal.is_some() {
            self.fault(
                &format!("{path}.certificate_principal"),
                "is for kafkas listeners",
            );
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
        ListenerKind::Mqtts => 8883,
        ListenerKind::Ws => 8083,
        ListenerKind::Wss => 8084,
        ListenerKind::Kafka => 9092,
        ListenerKind::Kafkas => 9093,
        ListenerKind::Http => 18083,
        ListenerKind::Https => 18084,
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
    match listener.kind {
        // There every caller shows a token.
        ListenerKind::Https => return None,
        ListenerKind::Http => {
            return Some(format!(
                "the http listener on {bind} is refused: tokens would travel in the clear where others can listen. Make it kind = \"https\", or bind 127.0.0.1 and reach it through a tunnel"
            ));
        }
        _ => {}
    }
    let port = bind.port();
    (!listener.anonymous && !listener.asks()).then(|| {
        format!("the {kind} listener on {bind} is refused: other machines reach it and nobody is asked who they are. If anyone may come in, {how}; if not, bind 127.0.0.1:{port}")
    })
}
