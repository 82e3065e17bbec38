//! Who comes in by MQTT and what it may do then: overload, bans, the authenticators of the listener
//! one after the other, flapping, and what only a callout knows. It knows no sockets and no sessions.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use broker::Admitted;
use broker::access::Judging;
use mqtt::{Connect, ReasonCode};

use super::bans::Bans;
use super::flapping::Flapping;
use super::limits::ADMISSION_MAX;
use super::methods::{Authenticator, Known, Outcome};
use super::overload::Overload;
use super::plan::Plan;
use super::refusal::{AuthValues, Counts, No};
use super::{Users, enhanced};
use crate::settings::{FlappingSettings, KeySettings};

/// The authentication of a node.
pub struct Auth {
    users: Arc<Users>,
    /// Who must not come in.
    pub bans: Arc<Bans>,
    plan: RwLock<Arc<Plan>>,
    /// Whether the plan has somebody who is asked where no rule says anything.
    asks: AtomicBool,
    flapping: Option<(FlappingSettings, Mutex<Flapping>)>,
    overload: Arc<Overload>,
    counts: Counts,
}

/// Who knocks.
#[derive(Debug, Clone, Copy)]
pub struct Knock<'a> {
    /// The authenticators of the listener, by name; none: nobody is asked.
    pub authenticators: &'a [String],
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The certificate that it showed, DER.
    pub certificate: Option<&'a [u8]>,
    /// Its client id: its own, or the one that was chosen for it.
    pub client_id: &'a str,
}

/// Speaks with a client that is not in yet.
pub trait Exchange: Send {
    /// Sends an AUTH packet and waits for the client's; the data of that, `None`: it is gone, or
    /// sent something else.
    fn exchange(
        &mut self,
        packet: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + '_>>;
}

/// A client that may come in.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// As whom and what it may do; the time at which it ends is not in there.
    pub admitted: Admitted,
    /// When its credentials end, ms since 1970.
    pub expires_wall_ms: Option<u64>,
}

impl Auth {
    /// Whether a rule of the node denies a publish that comes through no MQTT connection. Who may
    /// publish so at all was asked for a token; where no rule says anything, that is enough.
    pub fn denies_publish(
        &self,
        client_id: &str,
        username: &str,
        address: Option<IpAddr>,
        topic: &str,
    ) -> bool {
        let subject = broker::access::Subject {
            client_id,
            username,
            address,
        };
        let plan = self.plan();
        let said = plan
            .rules
            .decide(&subject, broker::access::Action::Publish, topic);
        said == Some(broker::access::Effect::Deny)
    }

    /// Made of the settings.
    ///
    /// # Errors
    /// What of them cannot be used.
    pub fn new(
        settings: &KeySettings,
        users: Arc<Users>,
        bans: Arc<Bans>,
    ) -> Result<Arc<Self>, String> {
        let plan = Plan::new(settings, None)?;
        let flapping = settings.flapping.map(|said| {
            let window = Duration::from_millis(said.window_ms);
            (said, Mutex::new(Flapping::new(said.connects_max, window)))
        });
        Ok(Arc::new(Self {
            users,
            bans,
            asks: AtomicBool::new(plan.callout.is_some()),
            plan: RwLock::new(Arc::new(plan)),
            flapping,
            overload: Arc::new(Overload::new(settings.memory_bytes_max)),
            counts: Counts::default(),
        }))
    }

    /// Begins what goes on beside: keys that are read anew, the look at the memory. Inside a tokio
    /// runtime.
    pub fn start(&self) {
        self.overload.watch();
        for one in &self.plan().authenticators {
            one.keep_fresh(None);
        }
    }

    /// Puts other authenticators and rules in force for those who come from now on; answers what the
    /// shards must be told for those who are in. Flapping and overload stay as they are.
    ///
    /// # Errors
    /// What of the settings cannot be used; all stays as it was.
    pub fn reload(&self, settings: &KeySettings) -> Result<Judging, String> {
        let before = self.plan();
        let plan = Arc::new(Plan::new(settings, Some(&before))?);
        for one in &plan.authenticators {
            one.keep_fresh(before.authenticator(one.name()));
        }
        self.asks.store(plan.callout.is_some(), Ordering::Relaxed);
        let judging = plan.judging();
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = plan;
        Ok(judging)
    }

    /// Why clients did not come in.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was counted.
    pub fn values(&self) -> AuthValues {
        let plan = self.plan();
        let mut values = AuthValues {
            bans: self.bans.count() as u64,
            flapped: self.counts.flapped.load(Ordering::Relaxed),
            ..AuthValues::default()
        };
        let refused = self.counts.refused();
        values.refused = refused
            .map(|(word, count)| (word.to_owned(), count))
            .collect();
        let callouts = plan.authenticators.iter();
        let callouts = callouts.filter_map(|one| Some((one.name(), one.callout()?)));
        let permits = plan.callout.as_deref();
        for (name, callout) in callouts.chain(permits.map(|it| ("authorization", it))) {
            let counts = callout.counts();
            let of = |value: u64| (name.to_owned(), value);
            let answered_ms = counts.answered_us.load(Ordering::Relaxed) / 1_000;
            values
                .answered
                .push(of(counts.answered.load(Ordering::Relaxed)));
            values
                .unanswered
                .push(of(counts.failed.load(Ordering::Relaxed)));
            values.answered_ms.push(of(answered_ms));
        }
        for one in &plan.authenticators {
            let accepted = one.counts.accepted.load(Ordering::Relaxed);
            values.accepted.push((one.name().to_owned(), accepted));
        }
        values
    }

    /// Whether a connection from there is to be closed before anything is read from it.
    pub fn turns_away(&self, address: IpAddr) -> bool {
        let away = !self.bans.admits_address(address);
        if away {
            self.counts.count(No::Banned);
        }
        away
    }

    /// Whether a client that was let in has been banned since.
    pub fn bans_now(&self, address: IpAddr, client_id: &str, user: &str) -> bool {
        let banned = self.bans.admits(address, client_id, user).is_err();
        if banned {
            self.counts.count(No::Banned);
        }
        banned
    }

    /// Whether what a client may do can be known only by asking.
    pub fn asks(&self) -> bool {
        self.asks.load(Ordering::Relaxed)
    }

    /// The users that SCRAM is spoken about.
    pub fn users(&self) -> &Arc<Users> {
        &self.users
    }

    /// Judges who knocks.
    ///
    /// # Errors
    /// It does not come in; what it is told.
    pub async fn admit(
        &self,
        knock: &Knock<'_>,
        connect: &Connect<'_>,
        exchange: &mut dyn Exchange,
    ) -> Result<Entry, ReasonCode> {
        let judged = self.judge(knock, connect, exchange);
        let judged = tokio::time::timeout(ADMISSION_MAX, judged).await;
        judged.unwrap_or(Err(No::Unanswered)).map_err(|no| {
            self.counts.count(no);
            tracing::debug!(
                peer = %knock.peer,
                client_id = knock.client_id,
                why = Counts::WORDS[no as usize],
                "a client was not let in"
            );
            no.reason()
        })
    }

    async fn judge(
        &self,
        knock: &Knock<'_>,
        connect: &Connect<'_>,
        exchange: &mut dyn Exchange,
    ) -> Result<Entry, No> {
        if self.overload.refuses() {
            return Err(No::Overload);
        }
        let address = knock.peer.ip();
        let own_name = connect.username.unwrap_or("");
        let banned =
            |client_id: &str, user: &str| self.bans.admits(address, client_id, user).is_err();
        if banned(knock.client_id, own_name) {
            return Err(No::Banned);
        }
        let plan = self.plan();
        let known = if connect.properties.authentication_method.is_some() {
            self.enhanced(&plan, knock, connect, exchange).await?
        } else if knock.authenticators.is_empty() {
            Box::new(Known {
                unproved: true,
                ..Known::default()
            })
        } else {
            self.ask_all(&plan, knock, connect).await?
        };
        let client_id = known.client_id.as_deref().unwrap_or(knock.client_id);
        let unnamed = known.unproved && plan.access.is_some();
        let user = if unnamed {
            None
        } else {
            known.user_name.as_deref().or(connect.username)
        };
        let user = user.unwrap_or("");
        if !sound(client_id) {
            return Err(No::ClientId);
        }
        if !sound(user) {
            return Err(No::WrongCredentials);
        }
        if banned(client_id, user) {
            return Err(No::Banned);
        }
        if self.flaps(client_id, user) {
            return Err(No::Flapping);
        }
        let access = plan.access_of(&known, user);
        let permits = self
            .permits_for_will(access.as_deref(), connect, (client_id, user, address))
            .await;
        if banned(client_id, user) {
            return Err(No::Banned);
        }
        Ok(Entry {
            expires_wall_ms: known.expires_s.map(|s| s.saturating_mul(1_000)),
            admitted: Admitted {
                username: known.user_name.as_deref().map(Into::into),
                unnamed,
                proved: !known.unproved && !user.is_empty(),
                client_id: known.client_id.as_deref().map(Into::into),
                access,
                permits,
                expires_ms: None,
                method: known.data.is_some().then(|| enhanced::METHOD.into()),
                data: known.data.map(Into::into),
            },
        })
    }

    /// The authenticators of the listener, one after the other.
    async fn ask_all(
        &self,
        plan: &Plan,
        knock: &Knock<'_>,
        connect: &Connect<'_>,
    ) -> Result<Box<Known>, No> {
        let named = |name: &String| plan.authenticator(name);
        let asked: Vec<&Authenticator> = knock.authenticators.iter().filter_map(named).collect();
        for (at, one) in asked.iter().enumerate() {
            let last = at + 1 == asked.len();
            match one.judge(&self.users, knock, connect, last).await {
                Outcome::Known(known) => return Ok(known),
                Outcome::No(no) => return Err(no),
                Outcome::Ignored => {}
            }
        }
        let missing = connect.username.is_none() && connect.password.is_none();
        Err(if missing {
            No::Missing
        } else {
            No::WrongCredentials
        })
    }

    /// Enhanced authentication, where the listener asks for users.
    async fn enhanced(
        &self,
        plan: &Plan,
        knock: &Knock<'_>,
        connect: &Connect<'_>,
        exchange: &mut dyn Exchange,
    ) -> Result<Box<Known>, No> {
        let of_users = |one: &&Authenticator| {
            one.is_users() && knock.authenticators.iter().any(|name| name == one.name())
        };
        let method = connect.properties.authentication_method;
        let found = plan.authenticators.iter().find(of_users);
        match (found, method) {
            (Some(one), Some(enhanced::METHOD)) => {
                one.judge_scram(&self.users, knock, connect, exchange).await
            }
            _ => Err(No::Method),
        }
    }

    /// Whether a client came too often as that user; then it is banned for a while.
    fn flaps(&self, client_id: &str, user: &str) -> bool {
        let Some((settings, flapping)) = &self.flapping else {
            return false;
        };
        let who = self.bans.who(client_id, user);
        let came = flapping
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .came(who, Instant::now());
        if !came {
            return false;
        }
        self.counts.flapped.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            client_id,
            user,
            "a client comes and goes too often and is banned for a while"
        );
        let until_ms = crate::node::wall_ms() + settings.ban_ms;
        self.bans.add_passing(client_id, user, until_ms);
        true
    }
}

/// Whether a name may be one: what an HTTP service or a token says goes into records and topics.
fn sound(name: &str) -> bool {
    u16::try_from(name.len()).is_ok() && !name.chars().any(char::is_control)
}

#[cfg(test)]
#[path = "admission/tests.rs"]
mod tests;
