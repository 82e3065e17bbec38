//! The server's end of a TLS connection as bytes in and bytes out. It owns no buffer while nothing
//! is half read, so that an idle connection holds its keys and nothing else.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

/// What a record may be longer than what it carries.
const RECORD_EXTRA_BYTES: usize = 64;

/// Most bytes that a record carries.
const RECORD_BYTES: usize = 16 * 1024;

/// Steps that are taken to get an alert out of a connection that failed.
const ALERT_STEPS: usize = 4;

/// One connection.
pub struct Secure {
    connection: UnbufferedServerConnection,
    /// The beginning of a record whose rest has not come; holds no memory when there is none.
    held: Vec<u8>,
    /// The peers have fallen out: rustls is not asked any more, since what it remembers of the
    /// bytes it saw last is gone.
    failed: bool,
}

impl Secure {
    /// Ready for a client's first bytes.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            held: Vec::new(),
            failed: false,
        })
    }

    /// Whether the peers have not agreed yet.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The certificate that the client showed.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.connection.peer_certificates()?.first()
    }

    /// Takes what came from the network, destroying it: what it says is appended to `plain`, what
    /// TLS itself has to answer to `out`, an alert too. True: the peer closed its side behind it.
    ///
    /// # Errors
    /// The peer broke the protocol, or the peers cannot agree.
    pub fn receive(
        &mut self,
        fresh: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, rustls::Error> {
        if self.failed {
            return Err(rustls::Error::HandshakeNotComplete);
        }
        let joined = !self.held.is_empty();
        let buffer = if joined {
            self.held.extend_from_slice(fresh);
            &mut self.held[..]
        } else {
            &mut *fresh
        };
        let driven = drive(&mut self.connection, buffer, plain, out);
        self.failed = driven.is_err();
        let (used, closed) = driven?;
        if !joined {
            self.held = fresh[used..].to_vec();
        } else if used == self.held.len() {
            self.held = Vec::new();
        } else if used > 0 {
            self.held = self.held[used..].to_vec();
        }
        Ok(closed)
    }

    /// Appends `plain` to `out`, encrypted.
    ///
    /// # Errors
    /// The connection cannot encrypt any more.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        let records = plain.len() / RECORD_BYTES + 1;
        let expected = plain.len() + records * RECORD_EXTRA_BYTES;
        self.write(out, expected, Some(plain))
    }

    /// Appends the good-bye of TLS to `out`.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        // A connection that cannot say it any more goes without.
        let _ = self.write(out, RECORD_EXTRA_BYTES, None);
    }

    /// Writes into `out`, which grows by `room` first; `None`: the good-bye.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        mut room: usize,
        plain: Option<&[u8]>,
    ) -> Result<(), rustls::Error> {
        if self.failed {
            return Err(rustls::Error::HandshakeNotComplete);
        }
        loop {
            // What is held is shown again: rustls may remember places in it.
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.held);
            let step = match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let from = out.len();
                    out.resize(from + room, 0);
                    let written = match plain {
                        Some(plain) => traffic.encrypt(plain, &mut out[from..]),
                        None => traffic.queue_close_notify(&mut out[from..]),
                    };
                    match written {
                        Ok(length) => {
                            out.truncate(from + length);
                            Step::Done
                        }
                        Err(EncryptError::InsufficientSize(short)) => {
                            out.truncate(from);
                            room = short.required_size.max(room + 1);
                            Step::Again
                        }
                        Err(EncryptError::EncryptExhausted) => {
                            out.truncate(from);
                            return Err(rustls::Error::EncryptError);
                        }
                    }
                }
                state => own(state, &mut Vec::new(), out)?,
            };
            if discard > 0 {
                self.held = self.held[discard..].to_vec();
            }
            match step {
                Step::Done => return Ok(()),
                Step::Again | Step::Closed => {}
                Step::Wait => return Err(rustls::Error::HandshakeNotComplete),
            }
        }
    }
}

/// What a state of the connection asks for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Again,
    /// The peer has closed its side.
    Closed,
    /// Nothing more can be done with the bytes there are.
    Wait,
    Done,
}

/// Takes whole records from `buffer`; answers how many bytes they had, and whether the peer closed.
fn drive(
    connection: &mut UnbufferedServerConnection,
    buffer: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(usize, bool), rustls::Error> {
    let (mut at, mut closed) = (0, false);
    loop {
        let UnbufferedStatus { discard, state } = connection.process_tls_records(&mut buffer[at..]);
        let step = match state {
            Ok(state) => own(state, plain, out)?,
            Err(error) => {
                alert(connection, out);
                return Err(error);
            }
        };
        at += discard;
        match step {
            Step::Again => {}
            Step::Closed => closed = true,
            Step::Wait | Step::Done => return Ok((at, closed)),
        }
    }
}

/// Does what a state asks for, sending excepted.
fn own<T>(
    state: ConnectionState<'_, '_, T>,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Step, rustls::Error> {
    match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                plain.extend_from_slice(record?.payload);
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(mut message) => {
            let from = out.len();
            let mut room = RECORD_EXTRA_BYTES;
            loop {
                out.resize(from + room, 0);
                match message.encode(&mut out[from..]) {
                    Ok(length) => {
                        out.truncate(from + length);
                        return Ok(Step::Again);
                    }
                    Err(EncodeError::InsufficientSize(short)) => {
                        room = short.required_size.max(room + 1);
                    }
                    Err(EncodeError::AlreadyEncoded) => {
                        out.truncate(from);
                        return Ok(Step::Again);
                    }
                }
            }
        }
        ConnectionState::TransmitTlsData(written) => {
            // It lies in `out`, which is sent before anything that comes later.
            written.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed => Ok(Step::Closed),
        ConnectionState::Closed
        | ConnectionState::BlockedHandshake
        | ConnectionState::WriteTraffic(_) => Ok(Step::Wait),
        // Early data is never offered.
        _ => Err(rustls::Error::General("an unexpected state".to_owned())),
    }
}

/// Appends the alert with which a connection failed. The bytes that it failed with are not shown again:
/// rustls would fail once more.
fn alert(connection: &mut UnbufferedServerConnection, out: &mut Vec<u8>) {
    for _ in 0..ALERT_STEPS {
        let UnbufferedStatus { state, .. } = connection.process_tls_records(&mut []);
        let Ok(state) = state else { return };
        if own(state, &mut Vec::new(), out) != Ok(Step::Again) {
            return;
        }
    }
}
