//! Who must not come in, whatever it knows: client ids, users, addresses. Bans that a person makes
//! are in a table of the log before they count; those that are made by themselves are in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use broker::access::Net;
use serde::{Deserialize, Serialize};

use super::Ledger;
use super::flapping::{Naming, Who};
use super::limits::{BAN_TEXT_BYTES_MAX, BANS_MAX, PASSING_BANS_MAX};

/// Format of a record: one byte of version, then JSON.
const FORMAT: u8 = 1;

/// Characters that are shown of a name that may be long.
const SHOWN_CHARS_MAX: usize = 128;

/// What is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BanKind {
    /// A client id.
    ClientId,
    /// A user name.
    User,
    /// An address, or all that begin with the same bits (`10.0.0.0/8`).
    Address,
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// What is banned.
    pub kind: BanKind,
    /// Which one.
    pub value: String,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
    /// Who made it: a person, or `flapping`.
    #[serde(default)]
    pub by: String,
    /// Since when, ms since 1970.
    #[serde(default)]
    pub since_ms: u64,
    /// When it ends, ms since 1970; `None`: when it is taken back.
    #[serde(default)]
    pub until_ms: Option<u64>,
}

/// Why a ban was not made or not taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BanError {
    /// There is no such ban.
    Unknown,
    /// What is wrong with it.
    Invalid(String),
    /// The table cannot be written; says why.
    Unwritten(String),
}

impl fmt::Display for BanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such ban"),
            Self::Invalid(what) => f.write_str(what),
            Self::Unwritten(why) => write!(f, "the table of bans cannot be written: {why}"),
        }
    }
}

type Key = (BanKind, String);

#[derive(Default)]
struct Rows {
    all: BTreeMap<Key, Ban>,
    /// Those of [`Rows::all`] that name more than one address.
    nets: HashMap<String, Net>,
    /// Clients that came and went too often, and the order in which they were banned.
    passing: HashMap<Who, Ban>,
    passed: VecDeque<Who>,
}

/// All bans.
pub struct Bans {
    rows: RwLock<Rows>,
    ledger: Box<dyn Ledger>,
    naming: Naming,
    changing: tokio::sync::Mutex<()>,
}

impl Ban {
    /// The value of the record.
    fn encode(&self) -> Vec<u8> {
        let mut value = vec![FORMAT];
        serde_json::to_writer(&mut value, self).expect("a record of text and numbers is JSON");
        value
    }

    /// Reads the value of a record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(value: &[u8]) -> Result<Self, String> {
        match value.split_first() {
            Some((&FORMAT, json)) => serde_json::from_slice(json)
                .map_err(|error| format!("the record is damaged: {error}")),
            Some((format, _)) => Err(format!(
                "the record has format {format}; this program reads format {FORMAT}"
            )),
            None => Err("the record is empty".to_owned()),
        }
    }

    /// Whether it has ended.
    fn ended(&self, now_ms: u64) -> bool {
        self.until_ms.is_some_and(|until| until <= now_ms)
    }

    fn key(&self) -> Key {
        (self.kind, self.value.clone())
    }

    /// What it bans, in one spelling; or what is wrong with it.
    fn checked(mut self) -> Result<Self, String> {
        let most = BAN_TEXT_BYTES_MAX;
        let control = |text: &str| text.chars().any(char::is_control);
        if self.value.is_empty() || self.value.len() > most || control(&self.value) {
            return Err(format!(
                "what is banned has 1 to {most} bytes, all printable"
            ));
        }
        if self.reason.len() > most || control(&self.reason) {
            return Err(format!(
                "the reason has at most {most} bytes, all printable"
            ));
        }
        if self.kind == BanKind::Address {
            let net = Net::parse(&self.value).ok_or(format!(
                "\"{}\" is no address: write 10.0.0.1 or 10.0.0.0/8",
                self.value
            ))?;
            if net.is_one() {
                let bare = self.value.split('/').next().unwrap_or_default();
                let address: Result<IpAddr, _> = bare.trim().parse();
                self.value = address
                    .map_err(|error| error.to_string())?
                    .to_canonical()
                    .to_string();
            }
        }
        Ok(self)
    }
}

impl Rows {
    fn insert(&mut self, ban: Ban) {
        if ban.kind == BanKind::Address
            && let Some(net) = Net::parse(&ban.value).filter(|net| !net.is_one())
        {
            self.nets.insert(ban.value.clone(), net);
        }
        self.all.insert(ban.key(), ban);
    }

    fn remove(&mut self, key: &Key) -> Option<Ban> {
        if key.0 == BanKind::Address {
            self.nets.remove(&key.1);
        }
        self.all.remove(key)
    }

    /// Forgets that a client came too often; false: it did not.
    fn let_pass(&mut self, client_id: &str) -> bool {
        let before = self.passing.len();
        self.passing.retain(|_, ban| ban.value != client_id);
        let Self {
            passing, passed, ..
        } = self;
        passed.retain(|who| passing.contains_key(who));
        passing.len() < before
    }

    fn holds(&self, kind: BanKind, value: &str, now_ms: u64) -> Option<&Ban> {
        let found = self.all.get(&(kind, value.to_owned()))?;
        (!found.ended(now_ms)).then_some(found)
    }
}

impl Bans {
    /// The bans whose records are in the table.
    pub fn new(rows: impl IntoIterator<Item = Ban>, ledger: Box<dyn Ledger>) -> Self {
        let mut known = Rows::default();
        for ban in rows {
            known.insert(ban);
        }
        Self {
            rows: RwLock::new(known),
            ledger,
            naming: Naming::default(),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// Whether somebody may come in; else the ban that says no. `user` is `""` where it has none.
    ///
    /// # Errors
    /// The ban.
    pub fn admits(&self, address: IpAddr, client_id: &str, user: &str) -> Result<(), Ban> {
        let rows = self.read();
        if rows.all.is_empty() && rows.passing.is_empty() {
            return Ok(());
        }
        let now_ms = self.ledger.now_ms();
        if !rows.passing.is_empty()
            && let Some(ban) = rows.passing.get(&self.naming.who(client_id, user))
            && !ban.ended(now_ms)
        {
            return Err(ban.clone());
        }
        let one = address.to_canonical().to_string();
        let within = || {
            let mut nets = rows.nets.iter();
            let found = nets.find(|(value, net)| {
                net.contains(address) && rows.holds(BanKind::Address, value, now_ms).is_some()
            });
            found.and_then(|(value, _)| rows.holds(BanKind::Address, value, now_ms))
        };
        let ban = rows
            .holds(BanKind::Address, &one, now_ms)
            .or_else(|| rows.holds(BanKind::ClientId, client_id, now_ms))
            .or_else(|| rows.holds(BanKind::User, user, now_ms))
            .or_else(within);
        match ban {
            Some(ban) => Err(ban.clone()),
            None => Ok(()),
        }
    }

    /// Whether a connection from there may go on before anything else is known of it.
    pub fn admits_address(&self, address: IpAddr) -> bool {
        self.admits(address, "", "").is_ok()
    }

    /// At most `limit` bans behind `after` (kind and value), in order; those that have ended are
    /// left out.
    pub fn list(&self, after: Option<(BanKind, &str)>, limit: usize) -> Vec<Ban> {
        use std::ops::Bound::{Excluded, Unbounded};
        let now_ms = self.ledger.now_ms();
        let rows = self.read();
        let from = after.map_or(Unbounded, |(kind, value)| {
            Excluded((kind, value.to_owned()))
        });
        let made = rows.all.range((from, Unbounded)).map(|(_, ban)| ban);
        let behind = |ban: &&Ban| after.is_none_or(|after| (ban.kind, &*ban.value) > after);
        let live = |ban: &&Ban| !ban.ended(now_ms);
        let made = made.filter(live).take(limit);
        let passing = rows.passing.values().filter(behind).filter(live);
        let mut all: Vec<&Ban> = made.chain(passing).collect();
        all.sort_by(|a, b| (a.kind, &a.value, &a.reason).cmp(&(b.kind, &b.value, &b.reason)));
        all.truncate(limit);
        all.into_iter().cloned().collect()
    }

    /// How many there are, those that have ended and are not forgotten yet included.
    pub fn count(&self) -> usize {
        let rows = self.read();
        rows.all.len() + rows.passing.len()
    }

    /// Bans somebody, or changes a ban. Who is in stays in: see `Node::ban`.
    ///
    /// # Errors
    /// Something is out of bounds, or the table cannot be written.
    pub async fn add(&self, ban: Ban) -> Result<Ban, BanError> {
        let mut ban = ban.checked().map_err(BanError::Invalid)?;
        ban.since_ms = self.ledger.now_ms();
        if ban.ended(ban.since_ms) {
            return Err(BanError::Invalid(
                "the ban would have ended already".to_owned(),
            ));
        }
        let _changing = self.changing.lock().await;
        self.forget_ended().await?;
        if self.read().all.len() >= BANS_MAX && !self.read().all.contains_key(&ban.key()) {
            return Err(BanError::Invalid(format!(
                "a node has at most {BANS_MAX} bans"
            )));
        }
        self.put(&ban.key(), Some(ban.encode())).await?;
        self.write().insert(ban.clone());
        Ok(ban)
    }

    /// Takes a ban back.
    ///
    /// # Errors
    /// There is none, or the table cannot be written.
    pub async fn remove(&self, kind: BanKind, value: &str) -> Result<(), BanError> {
        let _changing = self.changing.lock().await;
        let key = (kind, value.to_owned());
        let taken_back = kind == BanKind::ClientId && self.write().let_pass(value);
        if !self.read().all.contains_key(&key) {
            return if taken_back {
                Ok(())
            } else {
                Err(BanError::Unknown)
            };
        }
        self.put(&key, None).await?;
        self.write().remove(&key);
        Ok(())
    }

    /// Bans a client that came as `user` until then, in memory alone: strangers must not make the node
    /// write, nor use up the room of bans that people make.
    pub fn add_passing(&self, client_id: &str, user: &str, until_ms: u64) {
        let shown = |text: &str| text.chars().take(SHOWN_CHARS_MAX).collect::<String>();
        let mut reason = "came and went too often".to_owned();
        if !user.is_empty() {
            reason = format!("{reason} as {}", shown(user));
        }
        let ban = Ban {
            kind: BanKind::ClientId,
            value: shown(client_id),
            reason,
            by: "flapping".to_owned(),
            since_ms: self.ledger.now_ms(),
            until_ms: Some(until_ms),
        };
        let who = self.naming.who(client_id, user);
        let mut rows = self.write();
        if rows.passing.insert(who, ban).is_none() {
            rows.passed.push_back(who);
        }
        if rows.passed.len() > PASSING_BANS_MAX
            && let Some(oldest) = rows.passed.pop_front()
        {
            rows.passing.remove(&oldest);
        }
    }

    /// What a client is called where it is counted how often it comes.
    pub fn who(&self, client_id: &str, user: &str) -> Who {
        self.naming.who(client_id, user)
    }

    /// Bans that have ended go from table and memory, some at a time.
    async fn forget_ended(&self) -> Result<(), BanError> {
        const AT_ONCE: usize = 100;
        let now_ms = self.ledger.now_ms();
        let ended: Vec<Key> = {
            let rows = self.read();
            let ended = rows.all.values().filter(|ban| ban.ended(now_ms));
            ended.take(AT_ONCE).map(Ban::key).collect()
        };
        for key in ended {
            self.put(&key, None).await?;
            self.write().remove(&key);
        }
        Ok(())
    }

    async fn put(&self, key: &Key, value: Option<Vec<u8>>) -> Result<(), BanError> {
        let kind = match key.0 {
            BanKind::ClientId => "client_id",
            BanKind::User => "user",
            BanKind::Address => "address",
        };
        let written = self.ledger.write(&format!("{kind}:{}", key.1), value).await;
        written.map_err(BanError::Unwritten)
    }

    fn read(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Rows> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Clone, Default)]
    struct Clock(Arc<AtomicU64>);

    impl Ledger for Clock {
        fn write(
            &self,
            _name: &str,
            _value: Option<Vec<u8>>,
        ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
            Box::pin(async { Ok(()) })
        }

        fn secret(&self) -> [u8; 32] {
            [0; 32]
        }

        fn random(&self) -> [u8; 32] {
            [0; 32]
        }

        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn ban(kind: BanKind, value: &str, until_ms: Option<u64>) -> Ban {
        Ban {
            kind,
            value: value.to_owned(),
            reason: String::new(),
            by: "test".to_owned(),
            since_ms: 0,
            until_ms,
        }
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

    #[tokio::test]
    async fn bans_hold_until_they_end_or_are_taken_back() {
        let clock = Clock::default();
        let bans = Bans::new([], Box::new(clock.clone()));
        let admits = |bans: &Bans| bans.admits(HERE, "lock", "joe").is_ok();
        for (kind, value) in [
            (BanKind::ClientId, "lock"),
            (BanKind::User, "joe"),
            (BanKind::Address, "10.1.2.3"),
            (BanKind::Address, "10.0.0.0/8"),
            (BanKind::Address, "::ffff:10.1.2.3"),
        ] {
            assert!(admits(&bans), "{value}");
            let made = bans.add(ban(kind, value, None)).await.unwrap();
            assert!(!admits(&bans), "{value}");
            bans.remove(kind, &made.value).await.unwrap();
        }
        for (kind, value) in [
            (BanKind::ClientId, "joe"),
            (BanKind::User, "lock"),
            (BanKind::Address, "10.2.0.0/16"),
        ] {
            bans.add(ban(kind, value, None)).await.unwrap();
        }
        assert!(admits(&bans));
        bans.add(ban(BanKind::User, "joe", Some(10))).await.unwrap();
        assert!(!admits(&bans));
        clock.0.store(10, Ordering::Relaxed);
        assert!(admits(&bans) && bans.list(None, 10).len() == 3);
        let again = bans.add(ban(BanKind::User, "joe", Some(10))).await;
        assert!(matches!(again, Err(BanError::Invalid(_))));
        assert_eq!(
            bans.remove(BanKind::User, "nobody").await,
            Err(BanError::Unknown)
        );
        for (kind, value) in [
            (BanKind::Address, "here"),
            (BanKind::User, ""),
            (BanKind::User, "\n"),
        ] {
            assert!(bans.add(ban(kind, value, None)).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_passing_ban_does_not_replace_one_that_a_person_made() {
        let bans = Bans::new([], Box::new(Clock::default()));
        bans.add(ban(BanKind::ClientId, "lock", None))
            .await
            .unwrap();
        bans.add_passing("lock", "", 5);
        bans.add_passing("other", "joe", 5);
        let found = bans.list(None, 10);
        assert_eq!(found.len(), 3);
        assert!(
            found
                .iter()
                .any(|ban| ban.value == "lock" && ban.until_ms.is_none())
        );
        assert_eq!(bans.list(Some((BanKind::ClientId, "lock")), 10).len(), 1);
        let here: IpAddr = [10, 0, 0, 1].into();
        assert!(bans.admits(here, "other", "joe").is_err());
        assert!(
            bans.admits(here, "other", "ann").is_ok(),
            "it was joe who came too often"
        );
        bans.remove(BanKind::ClientId, "other").await.unwrap();
        assert!(bans.admits(here, "other", "joe").is_ok());
        for n in 0..=PASSING_BANS_MAX {
            bans.add_passing(&n.to_string(), "", 5);
        }
        let rows = bans.read();
        assert_eq!(
            (rows.passing.len(), rows.passed.len()),
            (PASSING_BANS_MAX, PASSING_BANS_MAX)
        );
        assert_eq!(rows.all.len(), 1);
    }

    #[test]
    fn a_record_comes_back() {
        let one = ban(BanKind::Address, "10.0.0.0/8", Some(7));
        assert_eq!(Ban::decode(&one.encode()), Ok(one));
        assert!(Ban::decode(&[]).is_err() && Ban::decode(&[9]).is_err());
        assert!(Ban::decode(&[FORMAT, b'x']).is_err());
    }
}
