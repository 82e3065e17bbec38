//! The bytes of a connection, whatever they travel through. It knows no requests.

use std::io;
use std::io::IoSlice;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::net::TcpStream;

/// What a connection's bytes travel through.
pub(super) enum Transport {
    /// TCP.
    Plain(TcpStream),
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
        }
    }
}
