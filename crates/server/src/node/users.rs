//! The tables of those who may come in, users and tokens: compacted streams that are read at the start
//! and written with every change. What a record means is `auth`'s.

use std::pin::Pin;

use anyhow::{Context as _, anyhow};
use commitlog::batch::BatchBuilder;
use commitlog::{Append, Entry, LogReader, PartitionId, table};

use super::{Appender, random, wall_ms};
use crate::auth::{Ledger, Token, Tokens, User, Users};

/// The table.
pub(super) const USERS: &str = "__sluice.users";

/// The table of bearer tokens.
pub(super) const TOKENS: &str = "__sluice.tokens";

/// Reads the users.
pub(super) fn open(log: &LogReader, appender: Appender) -> anyhow::Result<Users> {
    let (rows, table) = read(log, appender, USERS, User::decode)?;
    Ok(Users::new(rows, Box::new(table)))
}

/// Reads the tokens.
pub(super) fn open_tokens(log: &LogReader, appender: Appender) -> anyhow::Result<Tokens> {
    let (rows, table) = read(log, appender, TOKENS, Token::decode)?;
    Ok(Tokens::new(rows, Box::new(table)))
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
    table::load(log, partition, None, |row| {
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
    };
    Ok((rows, table))
}

struct Table {
    appender: Appender,
    partition: PartitionId,
}

impl Ledger for Table {
    fn write(
        &self,
        name: &str,
        value: Option<Vec<u8>>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        let mut batch = BatchBuilder::new();
        batch.push(
            wall_ms() as i64,
            Some(name.as_bytes()),
            value.as_deref(),
            &[],
        );
        let entry = Entry {
            appends: vec![Append {
                partition: self.partition,
                batch: batch.finish(),
            }],
            ops: Vec::new(),
        };
        let submitted = self.appender.submit(entry);
        Box::pin(async move {
            let appended = submitted.await.map_err(|error| error.to_string())?;
            for offset in appended.base_offsets {
                offset.map_err(|refusal| refusal.to_string())?;
            }
            let flushed = self.appender.flushed(appended.lsn, true).await;
            flushed.map_err(|error| error.to_string())
        })
    }

    fn random(&self) -> [u8; 32] {
        random::bytes()
    }

    fn now_ms(&self) -> u64 {
        wall_ms()
    }
}
