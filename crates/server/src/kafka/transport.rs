//! The bytes of a connection, whatever they travel through. It knows no requests.

use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::stored::StoredFile;
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
    /// Whether what comes is what the peer has sent, byte by byte.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// From now on the connection is readable once so many bytes have come (or as many as the system
    /// holds for it, or its end). A lower mark takes effect on what is there.
    pub fn set_low_water_mark(&self, bytes: usize) {
        let mark = libc::c_int::try_from(bytes).unwrap_or(1);
        // Best effort: without it the connection is readable sooner.
        // SAFETY: the descriptor is open while the stream lives; the value is an int that the call
        // only reads.
        unsafe {
            libc::setsockopt(
                self.tcp().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVLOWAT,
                (&raw const mark).cast(),
                size_of_val(&mark) as libc::socklen_t,
            );
        }
    }

    /// Whether something has come that was not read.
    pub fn has_unread(&self) -> bool {
        let mut unread: libc::c_int = 0;
        // SAFETY: the descriptor is open while the stream lives; the call writes an int.
        let done = unsafe { libc::ioctl(self.tcp().as_raw_fd(), libc::FIONREAD, &raw mut unread) };
        done == 0 && unread > 0
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Appends what has come to `buffer`, which grows by `room` bytes only once something has; 0:
    /// the peer has closed its side.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => {
                ready!(stream.poll_read_ready(cx))?;
                buffer.reserve(room);
                // Knows from a read that came short that there is no more, without asking again.
                pin!(stream.read_buf(buffer)).poll(cx)
            }
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

    /// Writes of `slices` what the network takes now. With `more` the last packet waits for what is
    /// written next.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => loop {
                let written = if more {
                    stream.try_io(Interest::WRITABLE, || send_more(stream, slices))
                } else {
                    stream.try_write_vectored(slices)
                };
                match written {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(stream.poll_write_ready(cx))?;
                    }
                    written => return Poll::Ready(written),
                }
            },
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Sends of the file what the network takes now, at most `bytes_max`; 0: the file is too short.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        file: &StoredFile,
        bytes_max: usize,
    ) -> Poll<io::Result<usize>> {
        let Self::Plain(stream) = self else {
            unreachable!("what is encrypted is not sent from files");
        };
        loop {
            ready!(stream.poll_write_ready(cx))?;
            let send = || file.send(stream.as_fd(), bytes_max);
            match stream.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
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

/// Writes what the socket takes, and tells it that more will come.
fn send_more(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zeros are a message without address, slices and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` is guaranteed to be laid out as an `iovec`; the call only reads through it.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len();
    let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
    // SAFETY: the message points at slices that are borrowed for longer than the call, and the
    // descriptor is open while `stream` lives.
    let sent = unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
