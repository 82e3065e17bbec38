//! The users of a node: a map in memory over the records of the users table. Changes are in the
//! table before they count; where the table lives is behind [`Ledger`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Instant;

use tokio::sync::{Notify, Semaphore};

use super::attempts::Attempts;
use super::counted_as;
use super::hashing;
use super::imported::Imported;
use super::limits;
use super::password::{Password, SALT_BYTES};
use super::scram::{Hash, Keys};
use super::user::{User, UserRow, bad_name};
use super::verified::{Verified, mark};

/// Where the records are kept.
pub trait Ledger: Send + Sync + 'static {
    /// Writes the record of a user, or its end (`None`); returns when it survives a power cut.
    fn write(
        &self,
        name: &str,
        value: Option<Vec<u8>>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;

    /// Random bytes.
    fn random(&self) -> [u8; 32];

    /// Random bytes that are the same for the life of the table.
    fn secret(&self) -> [u8; 32];

    /// Now, ms since 1970.
    fn now_ms(&self) -> u64;
}

/// Why somebody does not come in. Nobody is told whether the name or the password was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There is no such user, or the password is another.
    Wrong,
    /// Too many attempts failed or wait; this one was not looked at.
    TooMany,
    /// The node has too much to do; this one was not looked at, for which nobody is to blame.
    Busy,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// There is such a user.
    Exists,
    /// There is no such user.
    Unknown,
    /// The name or the number of users is out of bounds; says which.
    Invalid(String),
    /// The table cannot be written; says why.
    Unwritten(String),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("there is a user of that name"),
            Self::Unknown => f.write_str("there is no user of that name"),
            Self::Invalid(what) => f.write_str(what),
            Self::Unwritten(why) => write!(f, "the users table cannot be written: {why}"),
        }
    }
}

/// No table.
struct Nowhere;

impl Ledger for Nowhere {
    fn write(
        &self,
        _name: &str,
        _value: Option<Vec<u8>>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async { Err("there is none".to_owned()) })
    }

    fn random(&self) -> [u8; 32] {
        [0; 32]
    }

    fn secret(&self) -> [u8; 32] {
        [0; 32]
    }

    fn now_ms(&self) -> u64 {
        0
    }
}

/// Users whose connections are to end: see [`Users::revocations`].
pub struct Revocations(Arc<Revoked>);

#[derive(Default)]
struct Revoked {
    /// At most all users there were.
    names: Mutex<BTreeSet<String>>,
    more: Notify,
}

impl Revocations {
    /// Waits until there are some.
    pub async fn next(&self) -> BTreeSet<String> {
        loop {
            let told = std::mem::take(&mut *lock(&self.0.names));
            if !told.is_empty() {
                return told;
            }
            self.0.more.notified().await;
        }
    }
}

/// All users.
pub struct Users {
    rows: RwLock<BTreeMap<String, Arc<User>>>,
    ledger: Box<dyn Ledger>,
    /// Held while a record is on its way, so that map and table change in the same order.
    changing: tokio::sync::Mutex<()>,
    hashing: Arc<Semaphore>,
    /// Hashes under way and waiting.
    places: Arc<Semaphore>,
    /// Those of each address that has any.
    hashing_by_address: Mutex<HashMap<IpAddr, AddressHashes>>,
    verified: Mutex<Verified>,
    attempts: Mutex<Attempts>,
    /// Who is told whose connections are to end.
    revocations: Mutex<Vec<Weak<Revoked>>>,
    /// For what must look random and be the same each time, also after a restart: a salt that
    /// changes with the process would tell that there is no such user.
    secret: [u8; 32],
    /// Compared with where there is no user, so that it takes as long.
    nobody: std::sync::OnceLock<Arc<User>>,
}

impl Users {
    /// The users whose records are in the table.
    pub fn new(rows: impl IntoIterator<Item = (String, User)>, ledger: Box<dyn Ledger>) -> Self {
        let rows = rows.into_iter().map(|(name, user)| (name, Arc::new(user)));
        let hashing = limits::hashing_max();
        Self {
            rows: RwLock::new(rows.collect()),
            secret: ledger.secret(),
            ledger,
            changing: tokio::sync::Mutex::new(()),
            hashing: Arc::new(Semaphore::new(hashing)),
            places: Arc::new(Semaphore::new(hashing + limits::HASHING_WAITING_MAX)),
            hashing_by_address: Mutex::default(),
            verified: Mutex::default(),
            attempts: Mutex::default(),
            revocations: Mutex::default(),
            nobody: std::sync::OnceLock::new(),
        }
    }

    /// No users, and none can be added: for a door that asks nobody.
    pub fn none() -> Self {
        Self::new([], Box::new(Nowhere))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// What may be told of all users, by name.
    pub fn list(&self) -> Vec<UserRow> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.iter().map(|(name, user)| user.row(name)).collect()
    }

    /// What may be told of at most `limit` users behind the name `after`, by name.
    pub fn page(&self, after: Option<&str>, limit: usize) -> Vec<UserRow> {
        use std::ops::Bound::{Excluded, Unbounded};
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(Unbounded, Excluded);
        let behind = rows.range::<str, _>((from, Unbounded)).take(limit);
        behind.map(|(name, user)| user.row(name)).collect()
    }

    /// Adds a user.
    ///
    /// # Errors
    /// There is one, the name is out of bounds, or the table cannot be written.
    pub async fn add(&self, name: &str, password: Password) -> Result<UserRow, ChangeError> {
        if let Some(what) = bad_name(name) {
            return Err(ChangeError::Invalid(what));
        }
        self.set(name, password, |rows| {
            if rows.contains_key(name) {
                return Err(ChangeError::Exists);
            }
            let most = limits::USERS_MAX;
            if rows.len() >= most {
                return Err(ChangeError::Invalid(format!(
                    "a node has at most {most} users"
                )));
            }
            Ok(None)
        })
        .await
    }

    /// Adds a user with a hash that another broker made, or replaces one.
    ///
    /// # Errors
    /// There is one and it is not to be replaced, something is out of bounds, or the table cannot be
    /// written.
    pub async fn import(
        &self,
        name: &str,
        hash: Imported,
        replace: bool,
    ) -> Result<(), ChangeError> {
        if let Some(what) = bad_name(name) {
            return Err(ChangeError::Invalid(what));
        }
        if !hash.sound() {
            let what = "the hash is damaged, or asks for too much".to_owned();
            return Err(ChangeError::Invalid(what));
        }
        let _changing = self.changing.lock().await;
        let known = self.user(name);
        if known.is_some() && !replace {
            return Err(ChangeError::Exists);
        }
        let most = limits::USERS_MAX;
        let rows = self
            .rows
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        if known.is_none() && rows >= most {
            let what = format!("a node has at most {most} users");
            return Err(ChangeError::Invalid(what));
        }
        let mut user = User::of_imported(hash, self.ledger.now_ms());
        let replaced = known.is_some();
        user.created_ms = known.map_or(user.created_ms, |known| known.created_ms);
        let written = self.ledger.write(name, Some(user.encode())).await;
        written.map_err(ChangeError::Unwritten)?;
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        rows.insert(name.to_owned(), Arc::new(user));
        drop(rows);
        if replaced {
            self.revoke(name);
        }
        Ok(())
    }

    /// Gives a user another password; from now on only that one counts, and [`Users::revocations`] tell.
    ///
    /// # Errors
    /// There is no such user, or the table cannot be written.
    pub async fn set_password(
        &self,
        name: &str,
        password: Password,
    ) -> Result<UserRow, ChangeError> {
        self.set(name, password, |rows| {
            let user = rows.get(name).ok_or(ChangeError::Unknown)?;
            Ok(Some(user.created_ms))
        })
        .await
    }

    /// Deletes a user; [`Users::revocations`] tell.
    ///
    /// # Errors
    /// There is no such user, or the table cannot be written.
    pub async fn delete(&self, name: &str) -> Result<(), ChangeError> {
        let _changing = self.changing.lock().await;
        if self.user(name).is_none() {
            return Err(ChangeError::Unknown);
        }
        let written = self.ledger.write(name, None).await;
        written.map_err(ChangeError::Unwritten)?;
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        rows.remove(name);
        drop(rows);
        self.revoke(name);
        Ok(())
    }

    /// Tells from now on of users whose password is another or who are there no more, each once: for
    /// one door.
    pub fn revocations(&self) -> Revocations {
        let revoked = Arc::new(Revoked::default());
        lock(&self.revocations).push(Arc::downgrade(&revoked));
        Revocations(revoked)
    }

    fn revoke(&self, name: &str) {
        lock(&self.revocations).retain(|told| {
            let Some(told) = told.upgrade() else {
                return false;
            };
            lock(&told.names).insert(name.to_owned());
            told.more.notify_one();
            true
        });
    }

    /// Whether that is the user's password. Waits where attempts of that address failed before,
    /// and hashes on a thread that others come before.
    ///
    /// # Errors
    /// It is not, or it was not looked at.
    pub async fn verify_password(
        &self,
        name: &str,
        password: &str,
        address: IpAddr,
    ) -> Result<(), Denied> {
        let name = bounded(name);
        // Also where the password is remembered: how soon the answer comes would tell a guesser.
        let mut attempt = Attempt::begin(self, name, address).await?;
        let known = self.user(name);
        let user = known.clone().unwrap_or_else(|| self.nobody());
        let found = mark(&self.secret, name, &user.mark(), password);
        if lock(&self.verified).contains(&found, Instant::now()) {
            attempt.succeeded();
            return Ok(());
        }
        if password.len() > limits::PASSWORD_BYTES_MAX {
            return Err(Denied::Wrong);
        }
        let text = password.to_owned();
        let Some(own) = HashPlace::of(self, address) else {
            attempt.decided = true;
            return Err(Denied::Busy);
        };
        // One of each address stands in the common queue: who comes with many waits for itself.
        let Ok(_first) = own.turns.acquire().await else {
            return Err(Denied::Busy);
        };
        let nobody = self.nobody();
        let matches = move || {
            // Another broker's hash may take no time, which would tell that there is such a user.
            let beside = user.argon2id.is_some() || !nobody.matches(&text);
            user.matches(&text) && beside
        };
        let matches = match self.hash(matches).await {
            Ok(matches) => matches,
            Err(denied) => {
                // It was not looked at, for which this client is not to blame.
                attempt.decided = true;
                return Err(denied);
            }
        };
        if !(matches && known.is_some()) {
            return Err(Denied::Wrong);
        }
        attempt.succeeded();
        lock(&self.verified).insert(found, Instant::now());
        Ok(())
    }

    /// The keys of a user for a SCRAM exchange; of an unknown one keys that nobody can prove.
    pub fn scram_keys(&self, name: &str, hash: Hash) -> Keys {
        self.user(name)
            .and_then(|user| user.keys(hash))
            .unwrap_or_else(|| Keys::of_nobody(hash, &self.secret, name, limits::SCRAM_ITERATIONS))
    }

    /// A nonce for a SCRAM exchange: 192 random bits.
    pub fn nonce(&self) -> String {
        base64_simd::STANDARD.encode_to_string(&self.ledger.random()[..24])
    }

    /// Waits for the turn of an attempt, as long as earlier failures say.
    ///
    /// # Errors
    /// Too many wait already.
    pub async fn turn(&self, name: &str, address: IpAddr) -> Result<(), Denied> {
        let wait = lock(&self.attempts).turn(address, bounded(name), Instant::now());
        match wait {
            Some(wait) if wait.is_zero() => Ok(()),
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(Denied::TooMany),
        }
    }

    /// Waits for the turn of an attempt that goes on in further messages.
    ///
    /// # Errors
    /// Too many wait already.
    pub async fn attempt(
        self: &Arc<Self>,
        name: &str,
        address: IpAddr,
    ) -> Result<Attempt<Arc<Self>>, Denied> {
        Attempt::begin(self.clone(), bounded(name), address).await
    }

    /// An attempt of a client that is in, and loses its connection when it fails: it has its turn at
    /// once.
    pub fn attempt_again(self: &Arc<Self>, name: &str, address: IpAddr) -> Attempt<Arc<Self>> {
        Attempt {
            users: self.clone(),
            name: bounded(name).to_owned(),
            address,
            begun: false,
            decided: false,
        }
    }

    /// An attempt failed.
    pub fn failed(&self, name: &str, address: IpAddr) {
        lock(&self.attempts).failed(address, bounded(name), Instant::now());
    }

    /// An attempt succeeded.
    pub fn succeeded(&self, name: &str, address: IpAddr) {
        lock(&self.attempts).succeeded(address, bounded(name));
    }

    /// Whether there is such a user: one who was deleted does not authenticate again.
    pub fn exists(&self, name: &str) -> bool {
        self.user(name).is_some()
    }

    fn user(&self, name: &str) -> Option<Arc<User>> {
        self.rows
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    fn nobody(&self) -> Arc<User> {
        let made = self.nobody.get_or_init(|| {
            let random = self.ledger.random();
            let text = base64_simd::STANDARD.encode_to_string(random);
            let password = Password::new(text).expect("44 characters are a password");
            Arc::new(User::make(&password, [[0; SALT_BYTES]; 3], 0))
        });
        Arc::clone(made)
    }

    /// Makes the record of a password and writes it. `admit` looks at the users there are and says
    /// since when this one is, `None`: from now on.
    async fn set(
        &self,
        name: &str,
        password: Password,
        admit: impl Fn(&BTreeMap<String, Arc<User>>) -> Result<Option<u64>, ChangeError>,
    ) -> Result<UserRow, ChangeError> {
        let _changing = self.changing.lock().await;
        let created_ms = admit(&self.rows.read().unwrap_or_else(PoisonError::into_inner))?;
        let now_ms = self.ledger.now_ms();
        let salts = std::array::from_fn(|_| {
            let random = self.ledger.random();
            std::array::from_fn(|at| random[at])
        });
        let mut user = self
            .hash(move || User::make(&password, salts, now_ms))
            .await
            .map_err(|_| ChangeError::Unwritten("too many passwords are being hashed".into()))?;
        user.created_ms = created_ms.unwrap_or(now_ms);
        let written = self.ledger.write(name, Some(user.encode())).await;
        written.map_err(ChangeError::Unwritten)?;
        let row = user.row(name);
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        rows.insert(name.to_owned(), Arc::new(user));
        drop(rows);
        if created_ms.is_some() {
            self.revoke(name);
        }
        Ok(row)
    }

    /// Runs what hashes, with a bound on how many run and wait.
    async fn hash<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Denied> {
        const OPEN: &str = "the semaphore is never closed";
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Denied::Busy)?;
        let turn = Arc::clone(&self.hashing).acquire_owned().await.expect(OPEN);
        let hashed = hashing::run(move || {
            // Held until the hash is done, even where nobody waits for it any more.
            let _held = (place, turn);
            what()
        });
        hashed.await.ok_or(Denied::Busy)
    }
}

/// An attempt that has its turn. It has failed unless it is said otherwise: whoever hangs up before
/// the answer, or never proves what it claims, could guess without a brake.
pub struct Attempt<U: Deref<Target = Users>> {
    users: U,
    name: String,
    address: IpAddr,
    /// It is counted among those under way.
    begun: bool,
    decided: bool,
}

impl<U: Deref<Target = Users>> Attempt<U> {
    /// Waits for its turn. Who hangs up before that has not failed.
    async fn begin(users: U, name: &str, address: IpAddr) -> Result<Self, Denied> {
        if !lock(&users.attempts).begun(address, name) {
            return Err(Denied::Busy);
        }
        let mut attempt = Self {
            users,
            name: name.to_owned(),
            address,
            begun: true,
            decided: true,
        };
        attempt.users.turn(name, address).await?;
        attempt.decided = false;
        Ok(attempt)
    }

    /// It was not judged: it has not failed.
    pub fn undecided(mut self) {
        self.decided = true;
    }

    /// It was somebody who knows the password.
    pub fn succeeded(mut self) {
        self.decided = true;
        self.users.succeeded(&self.name, self.address);
    }
}

impl<U: Deref<Target = Users>> Drop for Attempt<U> {
    fn drop(&mut self) {
        if !self.decided {
            self.users.failed(&self.name, self.address);
        }
        if self.begun {
            lock(&self.users.attempts).ended(self.address, &self.name);
        }
    }
}

/// The passwords of one address that are hashed or wait for it.
struct AddressHashes {
    count: usize,
    /// As many as are hashed at one time.
    turns: Arc<Semaphore>,
}

/// One of an address's places among the passwords that are hashed or wait for it.
struct HashPlace<'a> {
    users: &'a Users,
    address: IpAddr,
    turns: Arc<Semaphore>,
}

impl<'a> HashPlace<'a> {
    /// `None`: the address has all of its places.
    fn of(users: &'a Users, address: IpAddr) -> Option<Self> {
        let address = counted_as(address);
        let mut hashing = lock(&users.hashing_by_address);
        let own = hashing.entry(address).or_insert_with(|| AddressHashes {
            count: 0,
            turns: Arc::new(Semaphore::new(limits::hashing_max())),
        });
        if own.count >= limits::HASHING_WAITING_MAX_PER_ADDRESS {
            return None;
        }
        own.count += 1;
        let turns = Arc::clone(&own.turns);
        Some(Self {
            users,
            address,
            turns,
        })
    }
}

impl Drop for HashPlace<'_> {
    fn drop(&mut self) {
        let mut hashing = lock(&self.users.hashing_by_address);
        if let Some(own) = hashing.get_mut(&self.address) {
            own.count -= 1;
            if own.count == 0 {
                hashing.remove(&self.address);
            }
        }
    }
}

/// A name that no user can have is as good as none.
fn bounded(name: &str) -> &str {
    if name.len() > limits::NAME_BYTES_MAX {
        ""
    } else {
        name
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "users/tests.rs"]
pub(crate) mod tests;
