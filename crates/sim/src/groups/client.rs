//! A member as client libraries build it: joins, asks for its assignment, beats, commits, joins
//! again when told to, and as the leader shares the partitions, eagerly or cooperatively.

use std::collections::{BTreeMap, BTreeSet};

use kafka::ErrorCode;
use kafka::group::{Answer, JoinedMember, Token};

use super::PARTITIONS;
use super::coordinator::{Identity, SESSION_MS};
use crate::random::Random;

/// What a client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    Join,
    Sync,
    Beat,
    Commit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// It is not there.
    Gone,
    /// It will join.
    Out,
    Joining(Token),
    /// It has joined; the assignment is made, or asked for, at a time.
    Joined(u64),
    Syncing(Token),
    Working,
}

/// A member of the group.
pub(super) struct Client {
    pub(super) number: usize,
    instance_id: Option<String>,
    cooperative: bool,
    phase: Phase,
    member_id: String,
    generation: i32,
    /// As the leader: the members and what they announced.
    members: Vec<JoinedMember>,
    pub(super) owned: BTreeSet<u32>,
    /// It does nothing before.
    sleeps_until_ms: u64,
    beats_ms: u64,
    commits_ms: u64,
    past: Vec<Identity>,
}

impl Client {
    pub(super) fn new(number: usize, fixed: bool, cooperative: bool) -> Self {
        Self {
            number,
            instance_id: fixed.then(|| format!("instance-{number}")),
            cooperative,
            phase: Phase::Out,
            member_id: String::new(),
            generation: -1,
            members: Vec::new(),
            owned: BTreeSet::new(),
            sleeps_until_ms: 2_000 * number as u64,
            beats_ms: 0,
            commits_ms: 0,
            past: Vec::new(),
        }
    }

    pub(super) fn claim(&self) -> Identity {
        Identity {
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            generation: self.generation,
        }
    }

    /// One that it was before, the last one mostly.
    pub(super) fn once_was(&self, random: &mut Random) -> Option<Identity> {
        let last = self.past.last()?;
        Some(if random.once_in(2) {
            last.clone()
        } else {
            random.pick(&self.past).clone()
        })
    }

    pub(super) fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    pub(super) fn working(&self) -> bool {
        self.phase == Phase::Working
    }

    pub(super) fn asleep(&self, now_ms: u64) -> bool {
        self.sleeps_until_ms > now_ms
    }

    pub(super) fn parked(&self) -> Option<Token> {
        match self.phase {
            Phase::Joining(token) | Phase::Syncing(token) => Some(token),
            _ => None,
        }
    }

    /// What it announces: its number and what it owns.
    pub(super) fn metadata(&self) -> Vec<u8> {
        let owned = self.owned.iter().map(|partition| *partition as u8);
        std::iter::once(self.number as u8).chain(owned).collect()
    }

    pub(super) fn die(&mut self, until_ms: u64) {
        self.forget();
        self.owned.clear();
        self.phase = Phase::Gone;
        self.sleeps_until_ms = until_ms;
    }

    pub(super) fn stall(&mut self, until_ms: u64) {
        self.sleeps_until_ms = self.sleeps_until_ms.max(until_ms);
    }

    /// Bad times are over.
    pub(super) fn revive(&mut self, now_ms: u64) {
        self.sleeps_until_ms = self.sleeps_until_ms.min(now_ms + 1_000);
    }

    /// Its connection broke: what it asked is not answered, and it asks again.
    pub(super) fn disconnected(&mut self, now_ms: u64) {
        self.sleeps_until_ms = self.sleeps_until_ms.max(now_ms + 100);
        self.phase = match self.phase {
            Phase::Joining(_) => Phase::Out,
            Phase::Syncing(_) => Phase::Joined(now_ms),
            ref other => other.clone(),
        };
    }

    /// It is nobody again.
    fn forget(&mut self) {
        if self.generation >= 0 {
            self.past.push(self.claim());
        }
        self.member_id.clear();
        self.generation = -1;
    }

    pub(super) fn joining(&mut self, token: Token) {
        self.phase = Phase::Joining(token);
    }

    pub(super) fn syncing(&mut self, token: Token) {
        self.phase = Phase::Syncing(token);
    }

    pub(super) fn act(&mut self, now_ms: u64) -> Act {
        if self.asleep(now_ms) {
            return Act::Nothing;
        }
        match self.phase {
            Phase::Gone | Phase::Out => Act::Join,
            Phase::Joined(at_ms) if at_ms <= now_ms => Act::Sync,
            // Client libraries beat from the moment they have joined.
            Phase::Joined(_) | Phase::Working | Phase::Syncing(_) if self.beats_ms <= now_ms => {
                self.beats_ms = now_ms + SESSION_MS as u64 / 3;
                Act::Beat
            }
            Phase::Working if self.commits_ms <= now_ms => {
                self.commits_ms = now_ms + 2_000;
                Act::Commit
            }
            _ => Act::Nothing,
        }
    }

    pub(super) fn beaten(&mut self, beaten: Result<(), ErrorCode>, now_ms: u64) {
        let Err(error) = beaten else { return };
        if matches!(self.phase, Phase::Joining(_) | Phase::Syncing(_)) {
            // What it waits for will say the same.
            return;
        }
        self.told(error, now_ms);
    }

    fn told(&mut self, error: ErrorCode, now_ms: u64) {
        match error {
            ErrorCode::RebalanceInProgress => {
                self.past.push(self.claim());
                if !self.cooperative {
                    self.owned.clear();
                }
            }
            ErrorCode::FencedInstanceId => {
                // Its double lives; in this world the double is itself, started again.
                self.forget();
                self.owned.clear();
                self.sleeps_until_ms = now_ms + 5_000;
            }
            _ => {
                self.forget();
                self.owned.clear();
            }
        }
        self.phase = Phase::Out;
    }

    pub(super) fn receive(&mut self, token: Token, answer: &Answer, now_ms: u64, slow_ms: u64) {
        match answer {
            Answer::Join(joined) if self.phase == Phase::Joining(token) => {
                if joined.error == ErrorCode::MemberIdRequired {
                    self.member_id = joined.member_id.to_string();
                    self.phase = Phase::Out;
                    return;
                }
                if joined.error.is_error() {
                    self.told(joined.error, now_ms);
                    return;
                }
                self.member_id = joined.member_id.to_string();
                self.generation = joined.generation;
                self.beats_ms = now_ms + SESSION_MS as u64 / 3;
                let leads = joined.leader == joined.member_id && !joined.skip_assignment;
                self.members = if leads {
                    joined.members.clone()
                } else {
                    Vec::new()
                };
                self.phase = Phase::Joined(now_ms + if leads { slow_ms } else { 0 });
            }
            Answer::Sync(synced) if self.phase == Phase::Syncing(token) => {
                if synced.error.is_error() {
                    self.told(synced.error, now_ms);
                    return;
                }
                let given: BTreeSet<u32> = synced
                    .assignment
                    .iter()
                    .map(|byte| u32::from(*byte))
                    .collect();
                let revoked = self.owned.difference(&given).next().is_some();
                self.owned = given;
                // Who has given something up joins again, so that another may get it.
                self.phase = if self.cooperative && revoked {
                    Phase::Out
                } else {
                    Phase::Working
                };
            }
            // To a question of a life before.
            _ => {}
        }
    }

    /// As the leader: what each member gets. Cooperatively, nobody is given what another owns.
    pub(super) fn assignments(&self) -> Vec<(String, Vec<u8>)> {
        let mut shares: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        if self.members.is_empty() {
            return Vec::new();
        }
        let owner = |partition: u8| {
            let owns = |member: &&JoinedMember| member.metadata[1..].contains(&partition);
            self.members.iter().find(owns)
        };
        for partition in 0..PARTITIONS as u8 {
            let target = &self.members[usize::from(partition) % self.members.len()];
            let held = owner(partition).is_some_and(|owner| owner.id != target.id);
            if !(self.cooperative && held) {
                shares.entry(&target.id).or_default().push(partition);
            }
        }
        shares
            .into_iter()
            .map(|(id, partitions)| (id.to_owned(), partitions))
            .collect()
    }
}
