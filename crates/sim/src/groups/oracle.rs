//! What must hold of every answer, whatever happens to the members; it knows nothing of the
//! machine but what it answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use kafka::group::{Answer, GroupState, GroupView, Joined, Synced, Token};

use super::PARTITIONS;
use super::client::Client;
use super::coordinator::{Identity, REBALANCE_MS, SESSION_MS};

/// Longest time that anybody waits for an answer, ms: a rebalance whose leader never assigns,
/// behind one in which somebody never joins, and what a step of the clock adds to both.
const WAIT_MS_MAX: u64 = 4 * (REBALANCE_MS as u64 + SESSION_MS as u64) + 70_000;

#[derive(Default)]
pub(super) struct Oracle {
    /// Who waits, and since when.
    waiting: HashMap<Token, (usize, u64)>,
    generation: i32,
    /// The protocol of each generation.
    protocols: BTreeMap<i32, Option<Arc<str>>>,
    /// Of each generation: which client got which partition.
    owners: BTreeMap<(i32, u8), usize>,
    /// Clients with a static name.
    fixed: BTreeSet<usize>,
    /// The last id of each client, and its generation.
    ids: HashMap<usize, (String, i32)>,
    /// Ids that another one of the same static name has replaced, and ids that have left.
    fenced: BTreeSet<String>,
    hasher: DefaultHasher,
}

impl Oracle {
    pub(super) fn new(clients: &[Client]) -> Self {
        let fixed = clients.iter().filter(|client| client.is_static());
        Self {
            fixed: fixed.map(|client| client.number).collect(),
            ..Self::default()
        }
    }

    pub(super) fn asked(&mut self, token: Token, client: usize, now_ms: u64) {
        self.waiting.insert(token, (client, now_ms));
    }

    pub(super) fn dropped(&mut self, token: Token) {
        self.waiting.remove(&token);
    }

    /// A member leaves: its id is worth nothing any more.
    pub(super) fn left(&mut self, client: &Client) {
        let id = client.claim().member_id;
        if !id.is_empty() {
            self.fenced.insert(id);
        }
    }

    /// An answer was given; says to which client.
    pub(super) fn answered(
        &mut self,
        token: Token,
        answer: &Answer,
        now_ms: u64,
    ) -> Result<usize, String> {
        let Some((client, _)) = self.waiting.remove(&token) else {
            return Err(format!("the token {token} is answered without a question"));
        };
        (token, now_ms, format!("{answer:?}")).hash(&mut self.hasher);
        match answer {
            Answer::Join(joined) if !joined.error.is_error() => self.joins(client, joined)?,
            Answer::Sync(synced) if !synced.error.is_error() => self.syncs(client, synced)?,
            _ => {}
        }
        Ok(client)
    }

    fn joins(&mut self, client: usize, joined: &Joined) -> Result<(), String> {
        let generation = joined.generation;
        if generation < self.generation {
            return Err(format!(
                "generation {generation} is given out after {}",
                self.generation
            ));
        }
        self.generation = generation;
        let id = joined.member_id.to_string();
        if let Some((old, _)) = self.ids.insert(client, (id.clone(), generation))
            && old != id
            && self.fixed.contains(&client)
        {
            self.fenced.insert(old);
        }
        let protocols = self.protocols.entry(generation);
        if *protocols.or_insert_with(|| joined.protocol.clone()) != joined.protocol {
            return Err(format!("generation {generation} has two protocols"));
        }
        if joined.leader == joined.member_id {
            let told: BTreeSet<_> = joined.members.iter().map(|member| &member.id).collect();
            if !told.contains(&joined.member_id) {
                return Err(format!("the leader of {generation} is not told of itself"));
            }
            if let Some(member) = joined
                .members
                .iter()
                .find(|member| member.metadata.is_empty())
            {
                return Err(format!("the metadata of {} is lost", member.id));
            }
        }
        Ok(())
    }

    fn syncs(&mut self, client: usize, synced: &Synced) -> Result<(), String> {
        let generation = self
            .ids
            .get(&client)
            .map_or(-1, |(_, generation)| *generation);
        for partition in &synced.assignment {
            let owner = self
                .owners
                .entry((generation, *partition))
                .or_insert(client);
            if *owner != client {
                return Err(format!(
                    "partition {partition} has two owners in generation {generation}: {owner} and \
                     {client}"
                ));
            }
        }
        Ok(())
    }

    /// A commit was admitted or refused.
    pub(super) fn committed(&mut self, who: &Identity, admitted: bool) -> Result<(), String> {
        (&who.member_id, who.generation, admitted).hash(&mut self.hasher);
        if !admitted {
            return Ok(());
        }
        if who.generation < self.generation {
            return Err(format!(
                "a commit of generation {} was admitted in generation {}",
                who.generation, self.generation
            ));
        }
        if self.fenced.contains(&who.member_id) {
            return Err(format!(
                "a commit of {}, which is fenced, was admitted",
                who.member_id
            ));
        }
        Ok(())
    }

    pub(super) fn nobody_waits_for_ever(&self, now_ms: u64) -> Result<(), String> {
        let long = self
            .waiting
            .iter()
            .filter(|(_, (_, since_ms))| now_ms - since_ms > WAIT_MS_MAX)
            .min();
        match long {
            None => Ok(()),
            Some((token, (client, since_ms))) => Err(format!(
                "client {client} waits under token {token} for {} ms",
                now_ms - since_ms
            )),
        }
    }

    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    pub(super) fn transcript(&self) -> u64 {
        self.hasher.finish()
    }

    /// Nobody was harmed for long: all are in one generation and share everything.
    pub(super) fn at_the_end(
        clients: &[Client],
        group: Option<GroupView<'_>>,
    ) -> Result<(), String> {
        let group = group.ok_or("the group is gone")?;
        if group.state() != GroupState::Stable {
            return Err(format!("the group ends as {}", group.state().name()));
        }
        let mut shared = BTreeSet::new();
        for client in clients {
            let who = client.claim();
            if !client.working() || who.generation != group.generation() {
                return Err(format!(
                    "client {} ends in generation {} of {}, at work: {}",
                    client.number,
                    who.generation,
                    group.generation(),
                    client.working()
                ));
            }
            for partition in &client.owned {
                if !shared.insert(*partition) {
                    return Err(format!("partition {partition} has two owners at the end"));
                }
            }
        }
        if shared.len() != PARTITIONS as usize {
            return Err(format!(
                "{} partitions have an owner at the end",
                shared.len()
            ));
        }
        let members = group.members_count();
        if members != clients.len() {
            return Err(format!(
                "{members} members at the end, {} live",
                clients.len()
            ));
        }
        Ok(())
    }
}
