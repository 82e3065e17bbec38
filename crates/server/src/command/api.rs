//! The small HTTP client of the command line: one question, one answer, pages until there is no more,
//! and streams of events. It knows the API's manners, not its routes.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::de::DeserializeOwned;

use super::serve::LOCAL_TOKEN_FILE;
use crate::client::{Way, WayArgs, Wire};
use crate::http::list::Page;
use crate::http::problem::Problem;

/// Longest wait for the node.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for what takes long, such as a backup.
const LONG_TIMEOUT: Duration = Duration::from_hours(2);
/// Longest silence of a stream of events; the node says every 15 seconds that it is there.
const EVENTS_TIMEOUT: Duration = Duration::from_mins(1);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Longest line of a stream of events.
const EVENT_BYTES_MAX: u64 = 16 << 20;
/// Variable that holds a token.
const TOKEN_VARIABLE: &str = "SLUICE_TOKEN";
/// Where a node keeps its data when nothing is said.
const USUAL_DATA_DIR: &str = "sluice-data";

/// Which node is asked, and by whom.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// Address of the node's HTTP interface; with https:// in front through TLS
    #[arg(
        long,
        global = true,
        default_value = "127.0.0.1:18083",
        value_name = "ADDR"
    )]
    pub http: String,
    /// File whose first line is the token; without it the variable SLUICE_TOKEN, or the token that a
    /// node on this machine keeps in its data directory
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Data directory of a node on this machine, for its token
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// With https://: file with the certificates that the node's must come from, PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub cafile: Option<PathBuf>,
    /// With https://: whatever certificate the node shows
    #[arg(long, global = true)]
    pub insecure: bool,
}

impl ApiArgs {
    /// The body of a GET.
    ///
    /// # Errors
    /// When nobody answers, or with a problem document's detail.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        self.ask("GET", path, None)
    }

    /// The answer to a GET.
    ///
    /// # Errors
    /// As [`ApiArgs::get`], and when it is not what was expected.
    pub fn told<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        serde_json::from_str(&self.get(path)?).with_context(|| self.other_version())
    }

    /// The items of all pages of a list, or the first `limit`. `path` may have a query.
    ///
    /// # Errors
    /// As [`ApiArgs::told`].
    pub fn pages<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: Option<usize>,
    ) -> anyhow::Result<Vec<T>> {
        let limit = limit.unwrap_or(usize::MAX);
        let mut items = Vec::new();
        let mut next: Option<String> = None;
        while items.len() < limit {
            let mark = if path.contains('?') { '&' } else { '?' };
            let rows = (limit - items.len()).min(1_000);
            let mut asked = format!("{path}{mark}limit={rows}");
            if let Some(next) = &next {
                let _ = write!(asked, "&cursor={}", escaped(next));
            }
            let page: Page<T> = self.told(&asked)?;
            items.extend(page.items);
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        items.truncate(limit);
        Ok(items)
    }

    /// The body of an answer. A `sent` body is JSON.
    ///
    /// # Errors
    /// When nobody answers, or with a problem document's detail.
    pub fn ask(&self, method: &str, path: &str, sent: Option<&str>) -> anyhow::Result<String> {
        self.ask_within(method, path, sent, TIMEOUT)
    }

    /// As [`ApiArgs::ask`], for what takes long.
    ///
    /// # Errors
    /// As [`ApiArgs::ask`].
    pub fn ask_long(&self, method: &str, path: &str, sent: Option<&str>) -> anyhow::Result<String> {
        self.ask_within(method, path, sent, LONG_TIMEOUT)
    }

    fn ask_within(
        &self,
        method: &str,
        path: &str,
        sent: Option<&str>,
        timeout: Duration,
    ) -> anyhow::Result<String> {
        let (mut stream, address) = self.send(method, path, sent, timeout)?;
        let mut answer = Vec::new();
        std::io::Read::by_ref(&mut stream)
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .with_context(|| format!("{address} does not answer"))?;
        let answer =
            String::from_utf8(answer).with_context(|| format!("{address} answers with no text"))?;
        let (status, body) = split_answer(&answer)
            .with_context(|| format!("{address} does not speak HTTP; {HINT}"))?;
        refused(&address, status, body)?;
        Ok(body.to_owned())
    }

    /// Name and text of every event of a stream, until `each` says that it is enough (`false`).
    ///
    /// # Errors
    /// As [`ApiArgs::ask`], what `each` fails with, and when the node ends the stream.
    pub fn events(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &str) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let (stream, address) = self.send("GET", path, None, EVENTS_TIMEOUT)?;
        let mut lines = BufReader::new(stream);
        let mut status = None;
        let (mut event, mut text) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            let read = std::io::Read::by_ref(&mut lines)
                .take(EVENT_BYTES_MAX)
                .read_line(&mut line)
                .with_context(|| format!("{address} says nothing any more"))?;
            if read == 0 {
                bail!(
                    "{address} says nothing any more: the node was stopped, or the token is none"
                );
            }
            let line = line.trim_end_matches(['\r', '\n']);
            let Some(code) = status else {
                let code = line
                    .split(' ')
                    .nth(1)
                    .and_then(|code| code.parse::<u16>().ok());
                status = Some((code.context(HINT)?, false));
                continue;
            };
            match code {
                (code, false) if line.is_empty() => {
                    if !(200..300).contains(&code) {
                        let mut body = String::new();
                        lines.take(ANSWER_BYTES_MAX).read_to_string(&mut body)?;
                        return refused(&address, code, &body);
                    }
                    status = Some((code, true));
                }
                (_, false) => {}
                (_, true) if line.is_empty() => {
                    if !text.is_empty() && !each(&event, &text)? {
                        return Ok(());
                    }
                    event.clear();
                    text.clear();
                }
                (_, true) => {
                    if let Some(name) = line.strip_prefix("event: ") {
                        name.clone_into(&mut event);
                    } else if let Some(more) = line.strip_prefix("data: ") {
                        text += more;
                    }
                }
            }
        }
    }

    fn other_version(&self) -> String {
        format!("{} answers, but not as a Sluice of this version", self.http)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        sent: Option<&str>,
        timeout: Duration,
    ) -> anyhow::Result<(Wire<TcpStream>, String)> {
        let bare = self.http.strip_prefix("https://");
        let secure = bare.is_some();
        let bare = bare.or(self.http.strip_prefix("http://"));
        let address = bare.unwrap_or(&self.http).trim_end_matches('/').to_owned();
        let way = if secure {
            let args = WayArgs::tls(self.cafile.clone(), self.insecure);
            Way::new(&format!("mqtts://{address}"), None, &args)?
        } else {
            Way::plain("", 0)
        };
        let resolved = address
            .to_socket_addrs()
            .with_context(|| format!("--http {address}: not an address such as 127.0.0.1:18083"))?
            .next()
            .with_context(|| format!("--http {address}: the name has no address"))?;
        let token = self.token(resolved)?;
        let mut stream = way
            .dial(resolved)
            .with_context(|| format!("cannot connect to {address}; {HINT}"))?;
        stream.socket().set_read_timeout(Some(timeout))?;
        stream.socket().set_write_timeout(Some(TIMEOUT))?;
        let mut request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAccept: */*\r\nConnection: close\r\n"
        );
        if let Some(token) = token {
            let _ = write!(request, "Authorization: Bearer {token}\r\n");
        }
        if let Some(sent) = sent {
            let length = sent.len();
            let _ = write!(
                request,
                "Content-Type: application/json\r\nContent-Length: {length}\r\n"
            );
        }
        request += "\r\n";
        request += sent.unwrap_or_default();
        stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.flush())
            .with_context(|| format!("{address} does not take the request"))?;
        Ok((stream, address))
    }

    /// The token to show. That of the data directory never leaves this machine.
    fn token(&self, asked: SocketAddr) -> anyhow::Result<Option<String>> {
        let first_line = |path: &PathBuf| -> anyhow::Result<String> {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the token in {}", path.display()))?;
            Ok(text.lines().next().unwrap_or_default().trim().to_owned())
        };
        if let Some(file) = &self.token_file {
            return first_line(file).map(Some);
        }
        if let Ok(token) = std::env::var(TOKEN_VARIABLE) {
            return Ok(Some(token.trim().to_owned()).filter(|token| !token.is_empty()));
        }
        let is_here = asked.ip().to_canonical().is_loopback();
        if let Some(dir) = &self.data_dir {
            if !is_here {
                bail!(
                    "--data-dir: its token is for this machine, and {asked} is another; use \
                     --token-file or {TOKEN_VARIABLE}"
                );
            }
            return first_line(&dir.join(LOCAL_TOKEN_FILE)).map(Some);
        }
        let usual = PathBuf::from(USUAL_DATA_DIR).join(LOCAL_TOKEN_FILE);
        if is_here && usual.exists() {
            // Of another node, or not ours to read: the node says whether it needs one.
            return Ok(first_line(&usual).ok());
        }
        Ok(None)
    }
}

const HINT: &str = "is the node running, and is this its http listener? (--http ADDR)";

/// Fails with what a problem document says.
fn refused(address: &str, status: u16, body: &str) -> anyhow::Result<()> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let detail = serde_json::from_str::<Problem>(body).map(|problem| problem.detail);
    bail!(
        "{address} answers {status}: {}",
        detail.unwrap_or_else(|_| body.trim().to_owned())
    )
}

/// Status and body. An answer to HTTP/1.0 is never chunked: the body ends with the connection.
fn split_answer(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some((status, body))
}

/// Text for a path or a query string.
pub fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_split() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(split_answer(answer), Some((503, "{}")));
        assert_eq!(split_answer("HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(split_answer("\u{10}\u{2}\r\n\r\n"), None);
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped("a b/\u{fc}&"), "a%20b%2F%C3%BC%26");
    }
}
