//! The bytes of a connection, whatever they travel through. It knows no requests.

use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::TlsStream;

/// What is decrypted at once, in bytes: one record of TLS holds at most as much.
const CHUNK_BYTES: usize = 16 * 1024;

/// What a connection's bytes travel through.
pub(super) enum Transport {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Appends what has come to `buffer`, which grows by `room` bytes only once something has; 0:
    /// the peer has closed its side.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => loop {
                ready!(stream.poll_read_ready(cx))?;
                buffer.reserve(room);
                match stream.try_read_buf(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read),
                }
            },
            Self::Tls(stream) => {
                // What has come is known only once it is decrypted: an idle connection holds no
                // buffer for it.
                let mut chunk = [MaybeUninit::uninit(); CHUNK_BYTES];
                let mut taken = ReadBuf::uninit(&mut chunk);
                ready!(Pin::new(stream).poll_read(cx, &mut taken))?;
                let taken = taken.filled();
                if buffer.capacity() - buffer.len() < taken.len() {
                    buffer.reserve(room.max(taken.len()));
                }
                buffer.extend_from_slice(taken);
                Poll::Ready(Ok(taken.len()))
            }
        }
    }

    /// Writes of `slices` what the network takes now.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => loop {
                match stream.try_write_vectored(slices) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(stream.poll_write_ready(cx))?;
                    }
                    written => return Poll::Ready(written),
                }
            },
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Hands on what was written and is still held back.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}
