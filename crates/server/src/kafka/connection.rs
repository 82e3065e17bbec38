//! One connection: requests are read, answered and written one after the other, so that answers
//! leave in the order of their requests. Requests may be pipelined; they wait in the buffer.

use std::io;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::kafka::api::Api;
use ::kafka::{Frame, RequestHeader, WireError, decode_request, frame};
use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::listener::stopping;
use super::{
    Answer, FrontDoor, api_versions, fetch, leader_epoch, limits, list_offsets, metadata, produce,
};

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The peer closed it, or the network did.
    Closed,
    /// The node stops.
    Stopping,
    /// The peer was silent or did not read for too long.
    TimedOut,
    /// The peer sent what is no request.
    Malformed(WireError),
    /// The peer asked for an API or a version that is not served.
    Unsupported(RequestHeader<'static>),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    door: Arc<FrontDoor>,
    stream: TcpStream,
    peer: SocketAddr,
    stop: watch::Receiver<bool>,
) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    // Answers are written whole, so nothing is won by waiting for more.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection {
        door: &door,
        stream,
        local,
        buffer: BytesMut::new(),
        stop,
    };
    let end = connection.run().await;
    match end {
        End::Closed | End::Stopping => {}
        End::TimedOut => door.counters.timed_out.add(1),
        End::Malformed(error) => {
            door.counters.malformed.add(1);
            tracing::debug!(%peer, %error, "a Kafka connection sent what is no request");
        }
        End::Unsupported(header) => {
            door.counters.unsupported.add(1);
            tracing::debug!(
                %peer,
                api_key = header.api_key,
                version = header.api_version,
                "a Kafka connection asked for what is not served"
            );
        }
    }
}

struct Connection<'a> {
    door: &'a FrontDoor,
    stream: TcpStream,
    local: SocketAddr,
    buffer: BytesMut,
    stop: watch::Receiver<bool>,
}

impl Connection<'_> {
    async fn run(&mut self) -> End {
        let mut size_max =
            ::kafka::limits::FIRST_REQUEST_BYTES_MAX.min(self.door.request_bytes_max());
        let mut idle_max = limits::FIRST_REQUEST_MAX.min(self.door.idle_max());
        loop {
            let taken = match self.next(size_max, idle_max).await {
                Ok(taken) => taken,
                Err(end) => return end,
            };
            if let Err(end) = self.answer_first(taken).await {
                return end;
            }
            self.buffer.advance(taken);
            size_max = self.door.request_bytes_max();
            idle_max = self.door.idle_max();
        }
    }

    /// Waits until the buffer begins with a whole request; returns what that takes of it.
    async fn next(&mut self, size_max: u32, idle_max: Duration) -> Result<usize, End> {
        let mut deadline = Instant::now() + idle_max;
        let mut begun = false;
        loop {
            match frame(&self.buffer, size_max) {
                Ok(Some((_, taken))) => return Ok(taken),
                Ok(None) => {}
                Err(error) => return Err(End::Malformed(error)),
            }
            if self.buffer.is_empty() {
                // An idle connection holds no buffer.
                self.buffer = BytesMut::new();
            } else if !begun {
                begun = true;
                deadline = Instant::now() + limits::REQUEST_MAX;
            }
            tokio::select! {
                biased;
                () = stopping(self.stop.clone()) => return Err(End::Stopping),
                ready = timeout_at(deadline, self.stream.readable()) => {
                    ready.map_err(|_| End::TimedOut)??;
                }
            }
            self.buffer.reserve(limits::READ_BYTES);
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(End::Closed),
                Ok(read) => self.door.counters.bytes_in.add(read as u64),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Answers the request at the front of the buffer, which takes `taken` of it.
    async fn answer_first(&mut self, taken: usize) -> Result<(), End> {
        let content = &self.buffer[4..taken];
        let answer = tokio::select! {
            biased;
            answer = self.answer(content) => answer?,
            () = self.hung_up() => return Err(End::Closed),
            () = stopping(self.stop.clone()) => return Err(End::Stopping),
        };
        self.write(&answer.frame).await?;
        self.door
            .counters
            .bytes_out
            .add(answer.frame.size_bytes() as u64);
        Ok(())
    }

    async fn answer(&self, content: &[u8]) -> Result<Answer, End> {
        let fixed = RequestHeader::read_fixed(content).map_err(End::Malformed)?;
        let (header, api, body) = match RequestHeader::read(content) {
            Ok(read) => read,
            Err(WireError::Unsupported) if fixed.api_key == Api::ApiVersions.key() => {
                self.door.counters.request(Api::ApiVersions);
                self.door.counters.error(Api::ApiVersions);
                return Ok(api_versions::unsupported(fixed.correlation_id).into());
            }
            Err(WireError::Unsupported) => return Err(End::Unsupported(fixed)),
            Err(error) => return Err(End::Malformed(error)),
        };
        self.door.counters.request(api);
        let door = self.door;
        let (version, id) = (header.api_version, header.correlation_id);
        Ok(match api {
            Api::Produce => {
                let request = decode_request(body).map_err(End::Malformed)?;
                // Who asks for no answer learns of a failure by the end of the connection.
                produce::answer(door, version, id, &request)
                    .ok_or(End::Unsupported(fixed))?
                    .into()
            }
            Api::ApiVersions => {
                decode_request::<::kafka::api::ApiVersionsRequest<'_>>(body)
                    .map_err(End::Malformed)?;
                api_versions::answer(version, id).into()
            }
            Api::Metadata => {
                let request = decode_request(body).map_err(End::Malformed)?;
                metadata::answer(door, &door.advertised(self.local), version, id, &request).into()
            }
            Api::ListOffsets => {
                let request = decode_request(body).map_err(End::Malformed)?;
                list_offsets::answer(door, version, id, &request)
                    .await
                    .into()
            }
            Api::Fetch => {
                let request = decode_request(body).map_err(End::Malformed)?;
                fetch::answer(door, version, id, &request).await
            }
            Api::OffsetForLeaderEpoch => {
                let request = decode_request(body).map_err(End::Malformed)?;
                leader_epoch::answer(door, version, id, &request).into()
            }
        })
    }

    /// Returns when the peer has closed its side with nothing more to read. Where it has pipelined
    /// another request, that is found out when the request is read.
    async fn hung_up(&self) {
        let mut byte = [0];
        match self.stream.peek(&mut byte).await {
            Ok(0) | Err(_) => {}
            Ok(_) => std::future::pending().await,
        }
    }

    /// Writes all slices of a response.
    async fn write(&self, frame: &Frame) -> Result<(), End> {
        let mut first = 0;
        let mut skip = 0;
        while first < frame.slices.len() {
            let mut slices = [IoSlice::new(&[]); limits::WRITE_SLICES];
            let left = &frame.slices[first..];
            let count = left.len().min(slices.len());
            for (at, (slice, bytes)) in slices.iter_mut().zip(left).enumerate() {
                *slice = IoSlice::new(if at == 0 { &bytes[skip..] } else { bytes });
            }
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(End::Closed),
                Ok(written) => (first, skip) = advance(&frame.slices, first, skip + written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    timeout(limits::WRITE_STALL_MAX, self.stream.writable())
                        .await
                        .map_err(|_| End::TimedOut)??;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The slice, and the place in it, that lies `skip` bytes behind the start of slice `first`.
fn advance(slices: &[Bytes], mut first: usize, mut skip: usize) -> (usize, usize) {
    while let Some(slice) = slices.get(first)
        && skip >= slice.len()
    {
        skip -= slice.len();
        first += 1;
    }
    (first, skip)
}
