//! One MQTT 3.1.1 connection of the generator: a socket, bytes to send, and a scanner that cuts what
//! comes in into packets. Packets are encoded by hand here and nowhere else.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream as StdStream;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Target;
use crate::client::Wire;

/// A packet that came in, as far as the generator cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// PUBLISH with its QoS, packet id (0 at QoS 0) and payload.
    Publish {
        qos: u8,
        packet_id: u16,
        payload: &'a [u8],
    },
    /// PUBACK.
    Puback(u16),
    /// PUBREC.
    Pubrec(u16),
    /// PUBREL.
    Pubrel(u16),
    /// PUBCOMP.
    Pubcomp(u16),
    /// Anything else, by its packet type.
    Other(u8),
}

/// A connected client.
#[derive(Debug)]
pub struct Connection {
    /// The socket; blocking during the handshake, non-blocking afterwards.
    pub stream: Wire<mio::net::TcpStream>,
    /// Bytes that the socket has not taken yet.
    pub out: Vec<u8>,
    rest: Vec<u8>,
}

impl Connection {
    /// Connects, sends CONNECT and SUBSCRIBE (when `filter` is given), and waits for the answers.
    pub fn open(
        target: &Target,
        client_id: &str,
        filter: Option<(&str, u8)>,
    ) -> anyhow::Result<Self> {
        let mut stream = dial(target)?;
        let credentials = target
            .credentials
            .as_ref()
            .map(|(user, password)| (user.as_str(), password.as_str()));
        stream.write_all(&connect(client_id, credentials))?;
        let mut answer = [0_u8; 4];
        stream
            .read_exact(&mut answer)
            .context("the broker closed instead of sending CONNACK")?;
        if answer[0] != 0x20 || answer[3] != 0 {
            bail!(
                "the broker refused client {client_id}: return code {}",
                answer[3]
            );
        }
        if let Some((filter, qos)) = filter {
            stream.write_all(&subscribe(filter, qos))?;
            let mut answer = [0_u8; 5];
            stream
                .read_exact(&mut answer)
                .context("the broker closed instead of sending SUBACK")?;
            if answer[0] != 0x90 || answer[4] > 2 {
                bail!("the broker refused the subscription to {filter}");
            }
        }
        stream.socket().set_nonblocking(true)?;
        Ok(Self {
            stream: stream.over(mio::net::TcpStream::from_std),
            out: Vec::new(),
            rest: Vec::new(),
        })
    }

    /// Sends as much of `out` as the socket takes.
    pub fn send(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.write(&self.out[sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..sent);
        match self.stream.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads until the socket has no more and calls `each` with every whole packet and the bytes to
    /// send, where answers go. `buffer` is lent by the caller and shared by all connections.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        mut each: impl FnMut(Incoming<'_>, &mut Vec<u8>),
    ) -> anyhow::Result<()> {
        loop {
            let kept = self.rest.len();
            buffer[..kept].copy_from_slice(&self.rest);
            let count = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => bail!("the broker closed a connection"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let filled = kept + count;
            let mut at = 0;
            while let Some((packet, length)) = scan(&buffer[at..filled]) {
                each(packet, &mut self.out);
                at += length;
            }
            self.rest.clear();
            self.rest.extend_from_slice(&buffer[at..filled]);
            if filled < buffer.len() && self.stream.is_plain() {
                return Ok(());
            }
        }
    }
}

/// Connects through all layers; blocking, with a bound on each answer.
pub fn dial(target: &Target) -> anyhow::Result<Wire<StdStream>> {
    let mut wire = target.way.dial(target.address).with_context(|| {
        format!(
            "no connection to {}: is the broker running there?",
            target.address
        )
    })?;
    wire.socket()
        .set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(wire)
}

fn scan(bytes: &[u8]) -> Option<(Incoming<'_>, usize)> {
    let (&first, rest) = bytes.split_first()?;
    let mut remaining = 0_usize;
    let mut header = 1;
    for (index, &byte) in rest.iter().enumerate().take(4) {
        remaining |= usize::from(byte & 0x7f) << (7 * index);
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if index + 1 == rest.len() {
            return None;
        }
    }
    if header == 1 || bytes.len() < header + remaining {
        return None;
    }
    let body = &bytes[header..header + remaining];
    let id = |at: usize| {
        body.get(at..at + 2)
            .map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
    };
    let packet = match first >> 4 {
        3 => {
            let qos = first >> 1 & 3;
            let topic_end = 2 + usize::from(id(0));
            let packet_id = if qos > 0 { id(topic_end) } else { 0 };
            let start = topic_end + if qos > 0 { 2 } else { 0 };
            Incoming::Publish {
                qos,
                packet_id,
                payload: body.get(start..).unwrap_or_default(),
            }
        }
        4 => Incoming::Puback(id(0)),
        5 => Incoming::Pubrec(id(0)),
        6 => Incoming::Pubrel(id(0)),
        7 => Incoming::Pubcomp(id(0)),
        other => Incoming::Other(other),
    };
    Some((packet, header + remaining))
}

/// Encodes CONNECT of MQTT 3.1.1 with a clean session and no keep alive.
pub fn connect(client_id: &str, credentials: Option<(&str, &str)>) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04".to_vec();
    body.push(if credentials.is_some() { 0xc2 } else { 0x02 });
    body.extend_from_slice(&[0, 0]);
    string(&mut body, client_id);
    if let Some((user, password)) = credentials {
        string(&mut body, user);
        string(&mut body, password);
    }
    packet(0x10, &body)
}

/// Encodes SUBSCRIBE to one filter, packet id 1.
pub fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    string(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

/// Encodes PUBLISH; returns it with the place of its packet id (0 at QoS 0) and of its payload.
pub fn publish(topic: &str, qos: u8, payload: &[u8]) -> (Vec<u8>, usize, usize) {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
    string(&mut body, topic);
    if qos > 0 {
        body.extend_from_slice(&[0, 0]);
    }
    body.extend_from_slice(payload);
    let bytes = packet(0x30 | qos << 1, &body);
    let payload_at = bytes.len() - payload.len();
    (bytes, if qos > 0 { payload_at - 2 } else { 0 }, payload_at)
}

/// Encodes one of the four acknowledgements: 0x40 PUBACK, 0x50 PUBREC, 0x62 PUBREL, 0x70 PUBCOMP.
pub fn ack(out: &mut Vec<u8>, first: u8, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut remaining = body.len();
    loop {
        let byte = (remaining & 0x7f) as u8;
        remaining >>= 7;
        out.push(if remaining > 0 { byte | 0x80 } else { byte });
        if remaining == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_publish_encodes_scan_finds() {
        let payload = vec![7_u8; 300];
        let (mut bytes, id_at, payload_at) = publish("a/b", 1, &payload);
        bytes[id_at..id_at + 2].copy_from_slice(&9_u16.to_be_bytes());
        assert_eq!(&bytes[payload_at..], &payload);
        let expected = Incoming::Publish {
            qos: 1,
            packet_id: 9,
            payload: &payload,
        };
        assert_eq!(scan(&bytes), Some((expected, bytes.len())));
        for cut in 0..bytes.len() {
            assert_eq!(scan(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn acks_are_scanned_by_type() {
        let mut out = Vec::new();
        ack(&mut out, 0x40, 5);
        ack(&mut out, 0x62, 6);
        assert_eq!(scan(&out), Some((Incoming::Puback(5), 4)));
        assert_eq!(scan(&out[4..]), Some((Incoming::Pubrel(6), 4)));
    }
}
