//! The tables of those who may come in, users and tokens: compacted streams that are read at the start
//! and written with every change. What a record means is `auth`'s.

use std::pin::Pin;

use anyhow::{Context as _, anyhow};
use commitlog::batch::BatchBuilder;
use commitlog::{Append, Entry, LogReader, PartitionId, table};

use super::{Appender, Submitted, random, wall_ms};
use crate::auth::{Ban, Bans, Ledger, Token, Tokens, User, Users};

/// The table.
pub(super) const USERS: &str = "__sluice.users";

/// The table of bearer tokens.
pub(super) const TOKENS: &str = "__sluice.tokens";

/// Key of the secret in the users table, which is no name that a user can have. Its value is one byte
/// of version and 32 random bytes.
const SECRET: &[u8] = b"\0secret";

/// Format of the secret.
const SECRET_FORMAT: u8 = 1;

/// Reads the users.
pub(super) fn open(log: &LogReader, appender: Appender) -> anyhow::Result<Users> {
    let (rows, mut table) = read(log, appender, USERS, User::decode)?;
    if table.secret.is_none() {
        let secret = random::bytes();
        // Nobody waits: where it cannot be written, the next start makes another.
        let value = [&[SECRET_FORMAT], secret.as_slice()].concat();
        drop(table.submit(SECRET, Some(&value)));
        table.secret = Some(secret);
    }
    Ok(Users::new(rows, Box::new(table)))
}

/// Reads the tokens.
pub(super) fn open_tokens(log: &LogReader, appender: Appender) -> anyhow::Result<Tokens> {
    let (rows, table) = read(log, appender, TOKENS, Token::decode)?;
    Ok(Tokens::new(rows, Box::new(table)))
}

/// The table of bans.
pub(super) const BANS: &str = "__sluice.bans";

/// Reads the bans.
pub(super) fn open_bans(log: &LogReader, appender: Appender) -> anyhow::Result<Bans> {
    let (rows, table) = read(log, appender, BANS, Ban::decode)?;
    let bans = rows.into_iter().map(|(_, ban)| ban);
    Ok(Bans::new(bans, Box::new(table)))
}

/// The rows of a table and what writes it.
fn read<T, E: std::fmt::Display>(
    log: &LogReader,
    appender: Appender,
    name: &str,
    decode: impl Fn(&[u8]) -> Result<T, E>,
) -> anyhow::Result<(Vec<(String, T)>, Table)> {
    let stream = log
        .stream(name)
        .with_context(|| format!("there is no stream {name}"))?;
    let partition = *stream
        .partitions
        .first()
        .with_context(|| format!("{name} has no partition"))?;
    let mut rows = Vec::new();
    let mut wrong = None;
    let mut secret = None;
    table::load(log, partition, None, |row| {
        if row.key == SECRET {
            secret = secret_of(row.value);
            if secret.is_none() {
                wrong = Some(anyhow!("the secret at offset {}", row.offset));
            }
            return;
        }
        let key = String::from_utf8_lossy(row.key).into_owned();
        match decode(row.value) {
            Ok(value) => rows.push((key, value)),
            // Whoever cannot log in would not know why; the operator does.
            Err(what) => wrong = Some(anyhow!("{key} at offset {}: {what}", row.offset)),
        }
    })
    .with_context(|| format!("cannot read {name}"))?;
    if let Some(wrong) = wrong {
        return Err(wrong.context(format!("cannot read {name}")));
    }
    let table = Table {
        appender,
        partition,
        secret,
    };
    Ok((rows, table))
}

fn secret_of(value: &[u8]) -> Option<[u8; 32]> {
    let (format, secret) = value.split_first()?;
    secret.try_into().ok().filter(|_| *format == SECRET_FORMAT)
}

struct Table {
    appender: Appender,
    partition: PartitionId,
    secret: Option<[u8; 32]>,
}

impl Table {
    fn submit(&self, key: &[u8], value: Option<&[u8]>) -> Submitted {
        let mut batch = BatchBuilder::new();
        batch.push(wall_ms() as i64, Some(key), value, &[]);
        self.appender.submit(Entry {
            appends: vec![Append::new(self.partition, batch.finish())],
            ops: Vec::new(),
        })
    }
}

impl Ledger for Table {
    fn write(
        &self,
        name: &str,
        value: Option<Vec<u8>>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        let submitted = self.submit(name.as_bytes(), value.as_deref());
        Box::pin(async move {
            let appended = submitted.await.map_err(|error| error.to_string())?;
            for offset in appended.base_offsets {
                offset.map_err(|refusal| refusal.to_string())?;
            }
            let flushed = self.appender.flushed(appended.lsn, true).await;
            flushed.map_err(|error| error.to_string())
        })
    }

    fn secret(&self) -> [u8; 32] {
        self.secret.unwrap_or_else(random::bytes)
    }

    fn random(&self) -> [u8; 32] {
        random::bytes()
    }

    fn now_ms(&self) -> u64 {
        wall_ms()
    }
}
