//! The frames of a WebSocket connection (RFC 6455) as a layer under a stream of bytes: where frames
//! begin and end means nothing to MQTT [MQTT-6.0.0-2], so payload passes through as it comes and no
//! frame is ever gathered; what a frame says of its length buys no memory.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
pub use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::limits::{CONTROL_BYTES_MAX, FRAME_HEADER_BYTES_MAX, PONG_BYTES_MAX};

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Gets masked frames and sends unmasked ones.
    Server,
    /// Gets unmasked frames and sends masked ones.
    Client,
}

/// Why nothing comes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer said good-bye; its Close frame has been answered.
    Closed,
    /// The peer broke the protocol in this way; a Close frame with the code says so.
    Failed(&'static str),
}

/// What became of received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// So many bytes of payload lie at the beginning of what was given.
    pub len: usize,
    /// The connection ends behind them.
    pub end: Option<End>,
}

/// One end of a connection.
#[derive(Debug)]
pub struct WebSocket {
    role: Role,
    /// A message is begun and its last frame has not come.
    fragmented: bool,
    /// Nothing is read any more.
    ended: bool,
    /// A Close frame has been written.
    said_close: bool,
    /// The beginning of a header whose rest has not come.
    held: [u8; FRAME_HEADER_BYTES_MAX],
    held_len: u8,
    mask: [u8; 4],
    /// Place in the mask of the next byte of payload.
    mask_at: u8,
    /// Bytes of payload of the frame at hand that have not come.
    left: u64,
    /// The control frame at hand, as far as it has come.
    control: Option<(Control, Vec<u8>)>,
}

impl WebSocket {
    /// Behind a completed upgrade.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            fragmented: false,
            ended: false,
            said_close: false,
            held: [0; FRAME_HEADER_BYTES_MAX],
            held_len: 0,
            mask: [0; 4],
            mask_at: 0,
            left: 0,
            control: None,
        }
    }

    /// Takes what has come: the payload is moved to the beginning of `bytes`, answers to control
    /// frames are appended to `replies`.
    pub fn decode(&mut self, bytes: &mut [u8], replies: &mut Vec<u8>) -> Decoded {
        let (mut at, mut len) = (0, 0);
        while !self.ended && (at < bytes.len() || self.control_is_whole()) {
            if self.left == 0 && self.control.is_none() {
                match self.header(&bytes[at..]) {
                    Ok(used) => at += used,
                    Err((code, why)) => return self.fail(len, code, why, replies),
                }
                continue;
            }
            let n = usize::try_from(self.left)
                .unwrap_or(usize::MAX)
                .min(bytes.len() - at);
            self.unmask(&mut bytes[at..at + n]);
            self.left -= n as u64;
            if let Some((_, payload)) = &mut self.control {
                payload.extend_from_slice(&bytes[at..at + n]);
            } else {
                bytes.copy_within(at..at + n, len);
                len += n;
            }
            at += n;
            if self.left == 0
                && let Some((kind, payload)) = self.control.take()
                && let Err((code, why)) = self.on_control(kind, &payload, replies)
            {
                return self.fail(len, code, why, replies);
            }
        }
        Decoded {
            len,
            end: self.ended.then_some(End::Closed),
        }
    }

    /// Appends `payload` to `out` as one frame; `key` masks it where this is the client, and must
    /// then not be foreseeable.
    pub fn encode(&self, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
        self.frame(OpCode::Data(Data::Binary), payload, key, out);
    }

    /// Appends a Close frame to `out` unless one was written before.
    pub fn close(&mut self, code: CloseCode, key: [u8; 4], out: &mut Vec<u8>) {
        if !self.said_close {
            self.said_close = true;
            let code = u16::from(code).to_be_bytes();
            self.frame(OpCode::Control(Control::Close), &code, key, out);
        }
    }

    fn frame(&self, opcode: OpCode, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
        let header = FrameHeader {
            opcode,
            mask: (self.role == Role::Client).then_some(key),
            ..FrameHeader::default()
        };
        header
            .format(payload.len() as u64, out)
            .expect("a Vec takes what is written to it");
        let from = out.len();
        out.extend_from_slice(payload);
        if self.role == Role::Client {
            apply_mask(&mut out[from..], key, 0);
        }
    }

    fn control_is_whole(&self) -> bool {
        self.left == 0 && self.control.is_some()
    }

    /// Takes a header, or what there is of one; answers how many bytes it took.
    fn header(&mut self, bytes: &[u8]) -> Result<usize, (CloseCode, &'static str)> {
        let before = usize::from(self.held_len);
        let fresh = bytes.len().min(FRAME_HEADER_BYTES_MAX - before);
        self.held[before..before + fresh].copy_from_slice(&bytes[..fresh]);
        let mut cursor = Cursor::new(&self.held[..before + fresh]);
        let parsed = FrameHeader::parse(&mut cursor)
            .map_err(|_| (CloseCode::Protocol, "an unknown kind of frame"))?;
        let used = cursor.position() as usize;
        let Some((header, length)) = parsed else {
            self.held_len = (before + fresh) as u8;
            return Ok(fresh);
        };
        self.held_len = 0;
        self.admit(&header, length)?;
        self.mask = header.mask.unwrap_or_default();
        self.mask_at = 0;
        self.left = length;
        Ok(used - before)
    }

    /// Judges a header by the rules of RFC 6455, 5.
    fn admit(
        &mut self,
        header: &FrameHeader,
        length: u64,
    ) -> Result<(), (CloseCode, &'static str)> {
        let broken = |why| Err((CloseCode::Protocol, why));
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return broken("a reserved bit is set, and no extension was agreed on");
        }
        if header.mask.is_some() != (self.role == Role::Server) {
            return broken("frames of clients are masked, those of servers are not");
        }
        if length > i64::MAX as u64 {
            return broken("a length of 64 bits has its highest bit set");
        }
        match header.opcode {
            OpCode::Control(kind) => {
                if !header.is_final || length > CONTROL_BYTES_MAX as u64 {
                    return broken("a control frame is whole and has at most 125 bytes");
                }
                self.control = Some((kind, Vec::with_capacity(length as usize)));
            }
            OpCode::Data(Data::Continue) => {
                if !self.fragmented {
                    return broken("a continuation of nothing");
                }
                self.fragmented = !header.is_final;
            }
            OpCode::Data(Data::Binary) => {
                if self.fragmented {
                    return broken("a message begins within another");
                }
                self.fragmented = !header.is_final;
            }
            // [MQTT-6.0.0-1]
            OpCode::Data(_) => {
                return Err((CloseCode::Unsupported, "MQTT travels in binary frames"));
            }
        }
        Ok(())
    }

    fn on_control(
        &mut self,
        kind: Control,
        payload: &[u8],
        replies: &mut Vec<u8>,
    ) -> Result<(), (CloseCode, &'static str)> {
        match kind {
            Control::Ping if replies.len() < PONG_BYTES_MAX => {
                self.frame(OpCode::Control(Control::Pong), payload, [0; 4], replies);
            }
            Control::Close => {
                let code = judged_close(payload)?;
                self.ended = true;
                self.close(code, [0; 4], replies);
            }
            _ => {}
        }
        Ok(())
    }

    fn fail(
        &mut self,
        len: usize,
        code: CloseCode,
        why: &'static str,
        replies: &mut Vec<u8>,
    ) -> Decoded {
        self.ended = true;
        self.close(code, [0; 4], replies);
        Decoded {
            len,
            end: Some(End::Failed(why)),
        }
    }

    fn unmask(&mut self, bytes: &mut [u8]) {
        if self.role == Role::Server {
            apply_mask(bytes, self.mask, usize::from(self.mask_at));
            self.mask_at = ((usize::from(self.mask_at) + bytes.len()) % 4) as u8;
        }
    }
}

/// The code that answers a Close frame: its own, or a normal end where it has none (RFC 6455, 5.5.1
/// and 7.4).
fn judged_close(payload: &[u8]) -> Result<CloseCode, (CloseCode, &'static str)> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(CloseCode::Normal)
        } else {
            Err((CloseCode::Protocol, "a close code has two bytes"))
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err((CloseCode::Protocol, "a close code that may not be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err((CloseCode::Invalid, "the reason of a close is no UTF-8"));
    }
    Ok(CloseCode::from(code))
}

/// Masks or unmasks `bytes`, the first of which meets the mask's byte `at`.
fn apply_mask(bytes: &mut [u8], mut mask: [u8; 4], at: usize) {
    mask.rotate_left(at % 4);
    let wide = u64::from(u32::from_ne_bytes(mask));
    let wide = wide | wide << 32;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first, 0x80 | payload.len() as u8];
        frame.extend_from_slice(&KEY);
        let from = frame.len();
        frame.extend_from_slice(payload);
        apply_mask(&mut frame[from..], KEY, 0);
        frame
    }

    /// What a server makes of bytes that come in pieces of `size`.
    fn served(bytes: &[u8], size: usize) -> (Vec<u8>, Vec<u8>, Option<End>) {
        let mut socket = WebSocket::new(Role::Server);
        let (mut payload, mut replies, mut end) = (Vec::new(), Vec::new(), None);
        for piece in bytes.chunks(size.max(1)) {
            let mut piece = piece.to_vec();
            let decoded = socket.decode(&mut piece, &mut replies);
            payload.extend_from_slice(&piece[..decoded.len]);
            end = end.or(decoded.end);
        }
        (payload, replies, end)
    }

    #[test]
    fn a_message_may_come_in_any_pieces_with_pings_between_its_frames() {
        let mut bytes = raw(0x02, b"abc");
        bytes.extend(raw(0x89, b"are you there"));
        bytes.extend(raw(0x00, b""));
        bytes.extend(raw(0x80, b"defgh"));
        bytes.extend(raw(0x8a, b"unasked"));
        bytes.extend(raw(0x89, b""));
        bytes.extend(raw(0x82, b"i"));
        for size in 1..=bytes.len() {
            let (payload, replies, end) = served(&bytes, size);
            assert_eq!(payload, b"abcdefghi", "pieces of {size}");
            assert_eq!(replies, b"\x8a\x0dare you there\x8a\x00");
            assert_eq!(end, None);
        }
    }

    #[test]
    fn a_good_bye_is_answered_and_nothing_is_read_behind_it() {
        let mut bytes = raw(0x82, b"last");
        bytes.extend(raw(0x88, &1000_u16.to_be_bytes()));
        bytes.extend(raw(0x82, b"too late"));
        for size in [1, 3, bytes.len()] {
            let (payload, replies, end) = served(&bytes, size);
            assert_eq!(payload, b"last");
            assert_eq!(replies, b"\x88\x02\x03\xe8");
            assert_eq!(end, Some(End::Closed));
        }
        for (close, answer) in [
            (raw(0x88, b""), 1000_u16),
            (raw(0x88, b"\x03\xe9going away"), 1001),
            (raw(0x88, &4321_u16.to_be_bytes()), 4321),
        ] {
            let [high, low] = answer.to_be_bytes();
            let wanted = (Vec::new(), vec![0x88, 2, high, low], Some(End::Closed));
            assert_eq!(served(&close, 1), wanted);
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_told_by_its_code() {
        let unmasked = b"\x82\x01x".to_vec();
        let mut lying = vec![0x82, 0xff];
        lying.extend_from_slice(&u64::MAX.to_be_bytes());
        lying.extend_from_slice(&KEY);
        let mut long_ping = vec![0x89, 0xfe, 0, 126];
        long_ping.extend_from_slice(&KEY);
        let mut nested = raw(0x02, b"a");
        nested.extend(raw(0x82, b"b"));
        for (bytes, code) in [
            (unmasked, 1002_u16),
            (lying, 1002),
            (long_ping, 1002),
            (nested, 1002),
            (raw(0x80, b"continues nothing"), 1002),
            (raw(0xc2, b"rsv1"), 1002),
            (raw(0x83, b"reserved kind"), 1002),
            (raw(0x09, b"half a ping"), 1002),
            (raw(0x88, b"\x03"), 1002),
            (raw(0x88, &1005_u16.to_be_bytes()), 1002),
            (raw(0x88, &1006_u16.to_be_bytes()), 1002),
            (raw(0x88, &999_u16.to_be_bytes()), 1002),
            (raw(0x88, &2999_u16.to_be_bytes()), 1002),
            (raw(0x88, &5000_u16.to_be_bytes()), 1002),
            (raw(0x88, b"\x03\xe8\xff"), 1007),
            (raw(0x81, b"text"), 1003),
        ] {
            for size in [1, bytes.len()] {
                let (_, replies, end) = served(&bytes, size);
                assert!(matches!(end, Some(End::Failed(_))), "{bytes:02x?}");
                let [high, low] = code.to_be_bytes();
                assert_eq!(replies, [0x88, 2, high, low], "{bytes:02x?}");
            }
        }
    }

    #[test]
    fn a_frame_that_announces_much_costs_nothing_until_it_comes() {
        let mut bytes = vec![0x82, 0xff];
        bytes.extend_from_slice(&(1_u64 << 62).to_be_bytes());
        bytes.extend_from_slice(&KEY);
        bytes.extend_from_slice(&[0x37, 0xfa, 0x21, 0x3d, 0x37]);
        let (payload, replies, end) = served(&bytes, 4);
        assert_eq!((payload, replies, end), (vec![0; 5], Vec::new(), None));
    }

    #[test]
    fn pings_that_nobody_lets_be_answered_are_not_gathered() {
        let mut socket = WebSocket::new(Role::Server);
        let mut replies = Vec::new();
        for _ in 0..10_000 {
            let mut ping = raw(0x89, &[7; 100]);
            socket.decode(&mut ping, &mut replies);
        }
        assert!(replies.len() < PONG_BYTES_MAX + 200);
    }

    proptest! {
        #[test]
        fn what_one_end_writes_the_other_reads(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70_000), 1..4),
            key: [u8; 4],
            size in 1_usize..9_000,
            to_server: bool,
        ) {
            let (from, to) = if to_server { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
            let writer = WebSocket::new(from);
            let mut wire = Vec::new();
            for message in &messages {
                writer.encode(message, key, &mut wire);
            }
            let mut reader = WebSocket::new(to);
            let (mut read, mut replies) = (Vec::new(), Vec::new());
            for piece in wire.chunks_mut(size) {
                let decoded = reader.decode(piece, &mut replies);
                prop_assert_eq!(decoded.end, None);
                read.extend_from_slice(&piece[..decoded.len]);
            }
            prop_assert_eq!(read, messages.concat());
            prop_assert!(replies.is_empty());
        }

        #[test]
        fn the_size_of_the_pieces_changes_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
            prop_assert_eq!(served(&bytes, size), served(&bytes, 1));
        }
    }
}
