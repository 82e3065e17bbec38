//! The users of a node: changes, logins, and what is in the way of guessing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::auth::scram::ClientFirst;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A table in memory that can be made to fail.
#[derive(Default)]
struct Paper {
    written: Mutex<Vec<(String, Option<Vec<u8>>)>>,
    fails: AtomicBool,
    dice: AtomicU64,
}

impl Ledger for Arc<Paper> {
    fn write(
        &self,
        name: &str,
        value: Option<Vec<u8>>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        let name = name.to_owned();
        Box::pin(async move {
            if self.fails.load(Ordering::Relaxed) {
                return Err("full".to_owned());
            }
            lock(&self.written).push((name, value));
            Ok(())
        })
    }

    fn secret(&self) -> [u8; 32] {
        [7; 32]
    }

    fn random(&self) -> [u8; 32] {
        [self.dice.fetch_add(1, Ordering::Relaxed) as u8; 32]
    }

    fn now_ms(&self) -> u64 {
        1_000 + self.dice.load(Ordering::Relaxed)
    }
}

fn users() -> (Arc<Paper>, Users) {
    let paper = Arc::new(Paper::default());
    let users = Users::new([], Box::new(Arc::clone(&paper)));
    (paper, users)
}

/// Users whose table is in memory.
pub(crate) fn in_memory() -> Users {
    users().1
}

/// Tokens whose table is in memory.
pub(crate) fn tokens_in_memory() -> crate::auth::Tokens {
    crate::auth::Tokens::new([], Box::new(Arc::new(Paper::default())))
}

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

#[tokio::test]
async fn a_user_comes_in_with_its_password_and_with_no_other() {
    let (paper, users) = users();
    let added = users.add("joe", password("pencil")).await.unwrap();
    assert_eq!(users.list(), std::slice::from_ref(&added));
    assert_eq!(users.verify_password("joe", "pencil", HERE).await, Ok(()));
    // The second time it is remembered; a wrong one never is.
    assert_eq!(users.verify_password("joe", "pencil", HERE).await, Ok(()));
    for (name, text) in [("joe", "Pencil"), ("joe", ""), ("jo", "pencil")] {
        let denied = users.verify_password(name, text, HERE).await;
        assert_eq!(denied, Err(Denied::Wrong), "{name} {text}");
    }
    let changed = users.set_password("joe", password("pen")).await.unwrap();
    assert_eq!(changed.created_ms, added.created_ms);
    assert!(changed.changed_ms > added.changed_ms);
    let old = users.verify_password("joe", "pencil", HERE).await;
    assert_eq!(old, Err(Denied::Wrong));
    assert_eq!(users.verify_password("joe", "pen", HERE).await, Ok(()));
    users.delete("joe").await.unwrap();
    let gone = users.verify_password("joe", "pen", HERE).await;
    assert_eq!(gone, Err(Denied::Wrong));
    assert!(users.is_empty());
    // The table holds what the map held, step by step.
    let written = lock(&paper.written);
    let [first, second, last] = &written[..] else {
        panic!("{} records", written.len())
    };
    let read = |value: &Option<Vec<u8>>| User::decode(value.as_ref().unwrap()).unwrap();
    assert_eq!(read(&first.1).row("joe"), added);
    assert_eq!(read(&second.1).row("joe"), changed);
    assert_eq!(last, &("joe".to_owned(), None));
}

#[tokio::test]
async fn changes_that_cannot_be_are_told() {
    let (paper, users) = users();
    users.add("joe", password("a")).await.unwrap();
    let again = users.add("joe", password("b")).await;
    assert_eq!(again, Err(ChangeError::Exists));
    let nobody = users.set_password("ann", password("b")).await;
    assert_eq!(nobody, Err(ChangeError::Unknown));
    assert_eq!(users.delete("ann").await, Err(ChangeError::Unknown));
    let bad = users.add("anonymous", password("b")).await;
    assert!(matches!(bad, Err(ChangeError::Invalid(_))));
    paper.fails.store(true, Ordering::Relaxed);
    let full = Err(ChangeError::Unwritten("full".to_owned()));
    assert_eq!(users.add("ann", password("b")).await, full);
    assert_eq!(users.delete("joe").await, full.map(|_: UserRow| ()));
    // What is not in the table does not count.
    assert_eq!(users.list().len(), 1);
}

#[tokio::test]
async fn a_scram_exchange_proves_the_password() {
    let (_, users) = users();
    users.add("joe", password("pencil")).await.unwrap();
    for hash in [Hash::Sha256, Hash::Sha512] {
        let keys = users.scram_keys("joe", hash);
        let right = Keys::derive(hash, "pencil", &keys.salt, keys.iterations);
        assert_eq!(keys, right);
        assert!(keys != users.scram_keys("ann", hash));
        assert_eq!(users.scram_keys("ann", hash), users.scram_keys("ann", hash));
        let first = ClientFirst::read(b"n,,n=ann,r=x").unwrap();
        let (challenge, told) = first.challenge(hash, users.scram_keys("ann", hash), "y");
        assert!(told.ends_with(",i=15000"), "{told}");
        assert!(challenge.verify(b"c=biws,r=xy,p=AAAA").is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn guessing_takes_longer_and_longer() {
    let (_, users) = users();
    users.failed("joe", HERE);
    users.failed("joe", HERE);
    let begun = tokio::time::Instant::now();
    users.turn("joe", HERE).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(150));
    for _ in 0..10 {
        users.failed("joe", HERE);
    }
    let mut denied = 0;
    for _ in 0..12 {
        // The paused clock of the runtime is not the one that attempts are judged by.
        denied += u32::from(users.turn("joe", HERE).await == Err(Denied::TooMany));
    }
    assert!(denied >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_remembered_password_waits_for_its_turn_too() {
    let (_, users) = users();
    users.add("joe", password("pencil")).await.unwrap();
    assert_eq!(users.verify_password("joe", "pencil", HERE).await, Ok(()));
    for _ in 0..5 {
        users.failed("joe", HERE);
    }
    let begun = tokio::time::Instant::now();
    assert_eq!(users.verify_password("joe", "pencil", HERE).await, Ok(()));
    assert!(begun.elapsed() >= Duration::from_millis(500));
    // It succeeded: the next does not wait.
    let next = lock(&users.attempts).turn(HERE, "joe", Instant::now());
    assert_eq!(next, Some(Duration::ZERO));
}

#[tokio::test]
async fn who_hangs_up_before_the_answer_has_failed() {
    let (_, users) = users();
    users.add("joe", password("pencil")).await.unwrap();
    let attempt = users.verify_password("joe", "pen", HERE);
    let hung_up = tokio::time::timeout(Duration::ZERO, attempt).await;
    assert!(hung_up.is_err());
    let next = lock(&users.attempts).turn(HERE, "joe", Instant::now());
    assert!(next > Some(Duration::ZERO));
}

#[tokio::test]
async fn who_never_proves_what_it_claims_has_failed() {
    let users = Arc::new(users().1);
    let attempt = users.attempt("joe", HERE).await.unwrap();
    attempt.succeeded();
    let wait = || lock(&users.attempts).turn(HERE, "joe", Instant::now());
    assert_eq!(wait(), Some(Duration::ZERO));
    drop(users.attempt("joe", HERE).await.unwrap());
    assert!(wait() > Some(Duration::ZERO));
}

#[tokio::test]
async fn who_comes_with_many_passwords_waits_for_itself() {
    const CROWD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));
    let users = Arc::new(users().1);
    users.add("joe", password("pencil")).await.unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let many = 16 * limits::hashing_max() as u64;
    for number in 0..many {
        let (users, done) = (Arc::clone(&users), Arc::clone(&done));
        tokio::spawn(async move {
            let name = format!("guessed{number}");
            let _ = users.verify_password(&name, "guess", CROWD).await;
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    // All of them wait for their hash by now.
    while lock(&users.hashing_by_address)
        .get(&CROWD)
        .map(|own| own.count as u64)
        != Some(many)
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(users.verify_password("joe", "pencil", HERE).await, Ok(()));
    let before = done.load(Ordering::Relaxed);
    assert!(before < many / 2, "{before} of {many} came first");
}

#[tokio::test]
async fn a_hash_that_takes_no_time_does_not_tell_that_there_is_a_user() {
    let (_, users) = users();
    let hash = Imported::Digest {
        function: crate::auth::imported::Function::Sha256,
        salt_position: crate::auth::imported::SaltPosition::Disable,
        salt: Vec::new(),
        hash: vec![0; 32],
    };
    users.import("ann", hash, false).await.unwrap();
    let users = &users;
    let took = |name: &'static str| async move {
        users.succeeded(name, HERE);
        let begun = Instant::now();
        let denied = users.verify_password(name, "guess", HERE).await;
        assert_eq!(denied, Err(Denied::Wrong));
        begun.elapsed()
    };
    let (mut unknown, mut known) = (Duration::MAX, Duration::MAX);
    for _ in 0..20 {
        unknown = unknown.min(took("nobody").await);
        known = known.min(took("ann").await);
        // Whoever else runs on this machine makes either take longer, and none shorter.
        if known > unknown / 4 {
            return;
        }
    }
    panic!("{known:?} {unknown:?}");
}

#[test]
fn one_address_does_not_wait_in_all_places() {
    let (_, users) = users();
    let most = limits::HASHING_WAITING_MAX_PER_ADDRESS;
    let mut held: Vec<_> = (0..most)
        .map(|_| HashPlace::of(&users, HERE).expect("it has a place"))
        .collect();
    assert!(HashPlace::of(&users, HERE).is_none());
    assert!(HashPlace::of(&users, [10, 0, 0, 1].into()).is_some());
    held.pop();
    assert!(HashPlace::of(&users, HERE).is_some());
    drop(held);
    assert!(lock(&users.hashing_by_address).is_empty());
}

#[test]
fn the_salt_of_nobody_outlives_the_process() {
    let salt = |users: &Users, name| users.scram_keys(name, Hash::Sha256).salt;
    let (before, after) = (users().1, users().1);
    after.nonce();
    assert_eq!(salt(&before, "ann"), salt(&after, "ann"));
    assert_ne!(salt(&before, "ann"), salt(&after, "joe"));
}
