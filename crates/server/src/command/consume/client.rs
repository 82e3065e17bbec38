//! A Kafka connection that asks one question at a time and waits for the answer.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kafka::api::{Api, ApiVersionsRequest, ApiVersionsResponse};
use kafka::{ErrorCode, Wire, decode_response, encode_request, limits, response_correlation_id};

/// Time for the connection to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Time for an answer; longer than any wait that we ask for.
const ANSWER_MAX: Duration = Duration::from_mins(1);

/// How the node's counters and logs name us.
const CLIENT_ID: &str = "sluice-consume";

/// A connection to a node, with the versions that both sides know.
pub(super) struct KafkaClient {
    stream: TcpStream,
    address: String,
    correlation_id: i32,
    versions: [Option<i16>; Api::ALL.len()],
    answer: Vec<u8>,
}

impl KafkaClient {
    /// Connects and agrees on versions.
    pub(super) fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = open(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        let mut client = Self {
            stream,
            address: address.to_owned(),
            correlation_id: 0,
            versions: [None; Api::ALL.len()],
            answer: Vec::new(),
        };
        client.agree()?;
        Ok(client)
    }

    /// Where the connection goes to.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request in the newest version that both sides know, and waits for its answer.
    pub(super) fn ask<'a, 'r, T: Wire<'a>>(
        &'a mut self,
        api: Api,
        request: &impl Wire<'r>,
    ) -> anyhow::Result<T> {
        let version = self.versions[api.index()].with_context(|| {
            format!(
                "{} does not serve {} in a version that we know",
                self.address,
                api.name()
            )
        })?;
        self.exchange(api, version, request)
            .with_context(|| format!("the connection to {} broke", self.address))?;
        decode_response(api, version, &self.answer)
            .with_context(|| format!("{} answers {} with nonsense", self.address, api.name()))
    }

    fn agree(&mut self) -> anyhow::Result<()> {
        // Version 0 is understood by all, and says all that we need.
        self.exchange(Api::ApiVersions, 0, &ApiVersionsRequest::default())
            .with_context(|| format!("what listens on {} speaks no Kafka", self.address))?;
        let listed: ApiVersionsResponse = decode_response(Api::ApiVersions, 0, &self.answer)
            .with_context(|| format!("what listens on {} speaks no Kafka", self.address))?;
        if let Some(error) = ErrorCode::from_i16(listed.error_code).filter(|e| e.is_error()) {
            bail!("{} refuses us: {error}", self.address);
        }
        for &api in Api::ALL {
            let ours = api.versions();
            let row = listed.api_keys.iter().find(|row| row.api_key == api.key());
            self.versions[api.index()] = row
                .map(|row| row.max_version.min(*ours.end()))
                .filter(|version| ours.contains(version))
                .filter(|version| row.is_some_and(|row| row.min_version <= *version));
        }
        Ok(())
    }

    /// Sends a request and reads its answer into `self.answer`.
    fn exchange<'r>(
        &mut self,
        api: Api,
        version: i16,
        request: &impl Wire<'r>,
    ) -> anyhow::Result<()> {
        self.correlation_id += 1;
        let frame = encode_request(api, version, self.correlation_id, CLIENT_ID, request);
        self.stream.write_all(&frame.to_vec()).map_err(plain)?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).map_err(plain)?;
        let size = u32::from_be_bytes(size);
        if size > limits::RESPONSE_BYTES_MAX {
            bail!("an answer of {size} bytes is announced, which is more than we take");
        }
        self.answer.clear();
        // Grows with what comes, not with what was announced.
        (&self.stream)
            .take(u64::from(size))
            .read_to_end(&mut self.answer)
            .map_err(plain)?;
        if self.answer.len() < size as usize {
            bail!(plain(io::ErrorKind::UnexpectedEof.into()));
        }
        if response_correlation_id(&self.answer) != Ok(self.correlation_id) {
            bail!("the answer belongs to another question");
        }
        Ok(())
    }
}

fn open(address: &str) -> anyhow::Result<TcpStream> {
    let found = address.to_socket_addrs().with_context(|| {
        format!("cannot find {address}; give the node's Kafka address as --bootstrap HOST:PORT")
    })?;
    let mut last = None;
    for socket in found {
        match TcpStream::connect_timeout(&socket, CONNECT_MAX) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
    bail!(
        "cannot connect to {address}: {error}; start a node there with `sluice`, or say where it \
         listens for Kafka clients with --bootstrap HOST:PORT"
    )
}

/// The ends of a connection in words that say who did what.
fn plain(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => anyhow::anyhow!("the node closed it"),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            anyhow::anyhow!("no answer came within {} s", ANSWER_MAX.as_secs())
        }
        _ => error.into(),
    }
}
