//! Reason codes of MQTT 5, the packets that may carry each, and their counterparts in MQTT 3.
//! It knows nothing of what leads to a code.

use crate::packet::PacketType;

const CONNACK: u16 = 1 << PacketType::Connack as u16;
const PUBACK: u16 = 1 << PacketType::Puback as u16;
const PUBREC: u16 = 1 << PacketType::Pubrec as u16;
const PUBREL: u16 = 1 << PacketType::Pubrel as u16;
const PUBCOMP: u16 = 1 << PacketType::Pubcomp as u16;
const SUBACK: u16 = 1 << PacketType::Suback as u16;
const UNSUBACK: u16 = 1 << PacketType::Unsuback as u16;
const DISCONNECT: u16 = 1 << PacketType::Disconnect as u16;
const AUTH: u16 = 1 << PacketType::Auth as u16;

macro_rules! reason_codes {
    ($($variant:ident = $code:literal, $name:literal, $packets:expr, $doc:literal;)*) => {
        /// What a control packet answers [MQTT 5, 2.4]; below 0x80 the operation went well.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = $doc] $variant = $code,)*
        }

        impl ReasonCode {
            /// Every code, in rising order.
            pub const ALL: &'static [ReasonCode] = &[$(ReasonCode::$variant,)*];

            /// The code of this number; none where MQTT 5 defines none.
            pub const fn from_u8(code: u8) -> Option<ReasonCode> {
                match code {
                    $($code => Some(ReasonCode::$variant),)*
                    _ => None,
                }
            }

            /// The code's name in lower case with underscores, for logs and transcripts.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ReasonCode::$variant => $name,)*
                }
            }

            const fn packets(self) -> u16 {
                match self {
                    $(ReasonCode::$variant => $packets,)*
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00, "success",
        CONNACK | PUBACK | PUBREC | PUBREL | PUBCOMP | SUBACK | UNSUBACK | DISCONNECT | AUTH,
        "Success; also granted QoS 0 and normal disconnection.";
    GrantedQoS1 = 0x01, "granted_qos_1", SUBACK, "Subscribed with at most QoS 1.";
    GrantedQoS2 = 0x02, "granted_qos_2", SUBACK, "Subscribed with at most QoS 2.";
    DisconnectWithWill = 0x04, "disconnect_with_will", DISCONNECT,
        "The client leaves and wants its will published.";
    NoMatchingSubscribers = 0x10, "no_matching_subscribers", PUBACK | PUBREC,
        "Accepted, nobody subscribes.";
    NoSubscriptionExisted = 0x11, "no_subscription_existed", UNSUBACK,
        "There was nothing to unsubscribe.";
    ContinueAuthentication = 0x18, "continue_authentication", AUTH,
        "A further step of authentication.";
    ReAuthenticate = 0x19, "re_authenticate", AUTH, "Start authentication again.";
    UnspecifiedError = 0x80, "unspecified_error",
        CONNACK | PUBACK | PUBREC | SUBACK | UNSUBACK | DISCONNECT,
        "An error that its sender does not explain.";
    MalformedPacket = 0x81, "malformed_packet", CONNACK | DISCONNECT,
        "The packet cannot be parsed.";
    ProtocolError = 0x82, "protocol_error", CONNACK | DISCONNECT,
        "The packet is well formed and not allowed here.";
    ImplementationSpecificError = 0x83, "implementation_specific_error",
        CONNACK | PUBACK | PUBREC | SUBACK | UNSUBACK | DISCONNECT,
        "Valid, and refused by this receiver.";
    UnsupportedProtocolVersion = 0x84, "unsupported_protocol_version", CONNACK,
        "The server does not speak this version.";
    ClientIdentifierNotValid = 0x85, "client_identifier_not_valid", CONNACK,
        "The client identifier is not allowed.";
    BadUserNameOrPassword = 0x86, "bad_user_name_or_password", CONNACK,
        "User name or password is wrong.";
    NotAuthorized = 0x87, "not_authorized",
        CONNACK | PUBACK | PUBREC | SUBACK | UNSUBACK | DISCONNECT,
        "The client may not do this.";
    ServerUnavailable = 0x88, "server_unavailable", CONNACK, "The server is not available.";
    ServerBusy = 0x89, "server_busy", CONNACK | DISCONNECT, "The server is busy; try later.";
    Banned = 0x8A, "banned", CONNACK, "The client was banned by an administrator.";
    ServerShuttingDown = 0x8B, "server_shutting_down", DISCONNECT, "The server is stopping.";
    BadAuthenticationMethod = 0x8C, "bad_authentication_method", CONNACK | DISCONNECT,
        "The authentication method is not supported or not the one in use.";
    KeepAliveTimeout = 0x8D, "keep_alive_timeout", DISCONNECT,
        "Nothing arrived for one and a half times the keep alive.";
    SessionTakenOver = 0x8E, "session_taken_over", DISCONNECT,
        "Another connection uses the same client identifier.";
    TopicFilterInvalid = 0x8F, "topic_filter_invalid", SUBACK | UNSUBACK | DISCONNECT,
        "The topic filter is well formed and not accepted.";
    TopicNameInvalid = 0x90, "topic_name_invalid", CONNACK | PUBACK | PUBREC | DISCONNECT,
        "The topic name is well formed and not accepted.";
    PacketIdentifierInUse = 0x91, "packet_identifier_in_use",
        PUBACK | PUBREC | SUBACK | UNSUBACK, "The packet identifier is in use.";
    PacketIdentifierNotFound = 0x92, "packet_identifier_not_found", PUBREL | PUBCOMP,
        "The packet identifier is not known.";
    ReceiveMaximumExceeded = 0x93, "receive_maximum_exceeded", DISCONNECT,
        "More messages are in flight than the receiver allowed.";
    TopicAliasInvalid = 0x94, "topic_alias_invalid", DISCONNECT,
        "The topic alias is zero or above the receiver's maximum.";
    PacketTooLarge = 0x95, "packet_too_large", CONNACK | DISCONNECT,
        "The packet is larger than the receiver's maximum.";
    MessageRateTooHigh = 0x96, "message_rate_too_high", DISCONNECT, "Too many messages a second.";
    QuotaExceeded = 0x97, "quota_exceeded", CONNACK | PUBACK | PUBREC | SUBACK | DISCONNECT,
        "A limit of the implementation or the administrator is reached.";
    AdministrativeAction = 0x98, "administrative_action", DISCONNECT,
        "Closed by an administrator.";
    PayloadFormatInvalid = 0x99, "payload_format_invalid",
        CONNACK | PUBACK | PUBREC | DISCONNECT,
        "The payload is not what its format indicator says.";
    RetainNotSupported = 0x9A, "retain_not_supported", CONNACK | DISCONNECT,
        "The server keeps no retained messages.";
    QoSNotSupported = 0x9B, "qos_not_supported", CONNACK | DISCONNECT,
        "The QoS is above the server's maximum.";
    UseAnotherServer = 0x9C, "use_another_server", CONNACK | DISCONNECT,
        "Use another server for the time being.";
    ServerMoved = 0x9D, "server_moved", CONNACK | DISCONNECT, "Use another server from now on.";
    SharedSubscriptionsNotSupported = 0x9E, "shared_subscriptions_not_supported",
        SUBACK | DISCONNECT, "The server has no shared subscriptions.";
    ConnectionRateExceeded = 0x9F, "connection_rate_exceeded", CONNACK | DISCONNECT,
        "Too many connections a second.";
    MaximumConnectTime = 0xA0, "maximum_connect_time", DISCONNECT,
        "The connection lasted as long as it was authorised for.";
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription_identifiers_not_supported",
        SUBACK | DISCONNECT, "The server has no subscription identifiers.";
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard_subscriptions_not_supported",
        SUBACK | DISCONNECT, "The server has no wildcard subscriptions.";
}

impl ReasonCode {
    /// The number on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether the code says that something failed.
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The code of this name, as [`ReasonCode::name`] writes it.
    pub fn from_name(name: &str) -> Option<ReasonCode> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }

    /// Whether packets of this type may carry the code [MQTT 5, table 2-6].
    pub const fn allowed_in(self, packet: PacketType) -> bool {
        self.packets() & (1 << packet as u16) != 0
    }

    /// The CONNACK return code of MQTT 3.1 and 3.1.1 that says the same [MQTT 3.1.1, table 3.1].
    /// What MQTT 3 has no word for is "server unavailable" (3), as the connection ends anyway.
    pub const fn connect_return_code_v3(self) -> u8 {
        match self {
            ReasonCode::Success => 0,
            ReasonCode::UnsupportedProtocolVersion => 1,
            ReasonCode::ClientIdentifierNotValid => 2,
            ReasonCode::BadUserNameOrPassword | ReasonCode::BadAuthenticationMethod => 4,
            ReasonCode::NotAuthorized | ReasonCode::Banned => 5,
            _ => 3,
        }
    }

    /// The reason code for a CONNACK return code of MQTT 3; none for reserved numbers.
    pub const fn from_connect_return_code_v3(code: u8) -> Option<ReasonCode> {
        match code {
            0 => Some(ReasonCode::Success),
            1 => Some(ReasonCode::UnsupportedProtocolVersion),
            2 => Some(ReasonCode::ClientIdentifierNotValid),
            3 => Some(ReasonCode::ServerUnavailable),
            4 => Some(ReasonCode::BadUserNameOrPassword),
            5 => Some(ReasonCode::NotAuthorized),
            _ => None,
        }
    }

    /// The SUBACK return code of MQTT 3.1.1: the granted QoS, or 0x80 for any failure.
    pub const fn suback_return_code_v3(self) -> u8 {
        if self.is_error() { 0x80 } else { self as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_number_and_one_name() {
        assert_eq!(ReasonCode::ALL.len(), 43);
        for pair in ReasonCode::ALL.windows(2) {
            assert!(pair[0].as_u8() < pair[1].as_u8());
        }
        for &code in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_u8(code.as_u8()), Some(code));
            assert_eq!(ReasonCode::from_name(code.name()), Some(code));
        }
        assert_eq!((0..=255).filter_map(ReasonCode::from_u8).count(), 43);
    }

    #[test]
    fn packets_carry_only_their_codes() {
        assert!(ReasonCode::GrantedQoS1.allowed_in(PacketType::Suback));
        assert!(!ReasonCode::GrantedQoS1.allowed_in(PacketType::Puback));
        assert!(ReasonCode::PacketIdentifierNotFound.allowed_in(PacketType::Pubrel));
        assert!(!ReasonCode::PacketIdentifierNotFound.allowed_in(PacketType::Puback));
        assert!(ReasonCode::SessionTakenOver.allowed_in(PacketType::Disconnect));
        assert!(!ReasonCode::SessionTakenOver.allowed_in(PacketType::Connack));
        let count = |packet| {
            ReasonCode::ALL
                .iter()
                .filter(|code| code.allowed_in(packet))
                .count()
        };
        assert_eq!(count(PacketType::Connack), 22);
        assert_eq!(count(PacketType::Puback), 9);
        assert_eq!(count(PacketType::Pubrec), 9);
        assert_eq!(count(PacketType::Pubrel), 2);
        assert_eq!(count(PacketType::Pubcomp), 2);
        assert_eq!(count(PacketType::Suback), 12);
        assert_eq!(count(PacketType::Unsuback), 7);
        assert_eq!(count(PacketType::Disconnect), 30);
        assert_eq!(count(PacketType::Auth), 3);
    }

    #[test]
    fn mqtt_3_return_codes_go_both_ways() {
        for number in 0..=5 {
            let code = ReasonCode::from_connect_return_code_v3(number).unwrap();
            assert_eq!(code.connect_return_code_v3(), number);
        }
        assert_eq!(ReasonCode::from_connect_return_code_v3(6), None);
        assert_eq!(ReasonCode::QuotaExceeded.connect_return_code_v3(), 3);
        assert_eq!(ReasonCode::NotAuthorized.suback_return_code_v3(), 0x80);
        assert_eq!(ReasonCode::GrantedQoS2.suback_return_code_v3(), 2);
    }
}
