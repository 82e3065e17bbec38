//! Options that `pub` and `sub` share, named as mosquitto's clients name them.

use clap::{ArgAction, Args};
use mqtt::{QoS, Version};

use super::WayArgs;

/// How to reach the broker, and as whom.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// Print help
    #[arg(long, action = ArgAction::HelpLong)]
    help: Option<bool>,
    /// Broker's host, or mqtts://, ws:// or wss:// with host, port and path
    #[arg(short = 'h', long, default_value = "127.0.0.1")]
    pub host: String,
    /// Broker's port; by default 1883, 8883 for mqtts://, 8083 for ws://, 8084 for wss://
    #[arg(short, long)]
    pub port: Option<u16>,
    /// TLS and WebSocket
    #[command(flatten)]
    pub way: WayArgs,
    /// Client identifier; absent: the broker assigns one (MQTT 5, 3.1.1) or one is made up (3.1)
    #[arg(short, long)]
    pub id: Option<String>,
    /// User name
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password
    #[arg(short = 'P', long, requires = "username")]
    pub password: Option<String>,
    /// Protocol version: 5, 311 or 31 (also mqttv5, mqttv311, mqttv31)
    #[arg(short = 'V', long, default_value = "311", value_parser = version)]
    pub protocol_version: Version,
    /// Keep alive in seconds; 0 turns it off
    #[arg(short, long, default_value_t = 60)]
    pub keepalive: u16,
    /// Keep the session: do not ask for a clean one (needs --id)
    #[arg(short = 'c', long, requires = "id")]
    pub disable_clean_session: bool,
    /// Seconds that the session outlives the connection (MQTT 5)
    #[arg(short = 'x', long)]
    pub session_expiry_interval: Option<u32>,
    /// Topic of the will
    #[arg(long)]
    pub will_topic: Option<String>,
    /// Payload of the will
    #[arg(long, requires = "will_topic")]
    pub will_payload: Option<String>,
    /// QoS of the will
    #[arg(long, default_value = "0", value_parser = qos, requires = "will_topic")]
    pub will_qos: QoS,
    /// Retain the will
    #[arg(long, requires = "will_topic")]
    pub will_retain: bool,
    /// A property of MQTT 5: packet, name, value (user-property: name and value), for example
    /// -D publish content-type text/plain; may be repeated
    #[arg(short = 'D', long = "property", num_args = 3..=4, action = ArgAction::Append,
          value_names = ["PACKET", "NAME", "VALUE"])]
    pub properties: Vec<String>,
    /// Tell on standard error what is sent and received
    #[arg(short, long)]
    pub debug: bool,
}

/// Parses a QoS for clap.
pub fn qos(text: &str) -> Result<QoS, String> {
    let number = text
        .parse::<u8>()
        .map_err(|_| format!("{text}: a QoS is 0, 1 or 2"))?;
    QoS::from_u8(number).ok_or_else(|| format!("{number}: a QoS is 0, 1 or 2"))
}

fn version(text: &str) -> Result<Version, String> {
    match text.trim_start_matches("mqttv") {
        "5" => Ok(Version::V5),
        "311" | "3.1.1" | "4" => Ok(Version::V311),
        "31" | "3.1" | "3" => Ok(Version::V31),
        _ => Err(format!("{text}: a version is 5, 311 or 31")),
    }
}
