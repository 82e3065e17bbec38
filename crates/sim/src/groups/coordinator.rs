//! The machine under test behind the calls of the members; it can be broken on purpose, to show
//! that the oracle sees it.

use kafka::ErrorCode;
use kafka::group::{
    Answer, Answered, Claim, GroupRules, GroupView, Groups, JoinRequest, Leaving, SyncRequest,
    Token,
};

use super::client::Client;

const GROUP: &str = "group";
/// The session timeout of all members, ms.
pub(super) const SESSION_MS: i32 = 10_000;
/// The rebalance timeout of all members, ms.
pub(super) const REBALANCE_MS: i32 = 30_000;

/// A way in which the machine does not do what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// Commits are admitted whatever generation they name.
    AdmitsOldGenerations,
    /// Each tenth answer to a member that waited is forgotten.
    ForgetsAnswers,
    /// Time does nothing.
    NeverTicks,
    /// The first assignment goes to everybody.
    AssignsTwice,
    /// Members that were replaced are not fenced.
    AdmitsDoubles,
}

/// Who a member says to be, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) member_id: String,
    pub(super) instance_id: Option<String>,
    pub(super) generation: i32,
}

impl Identity {
    fn claim(&self) -> Claim<'_> {
        Claim {
            member_id: &self.member_id,
            instance_id: self.instance_id.as_deref(),
            generation: self.generation,
        }
    }
}

pub(super) struct Coordinator {
    machine: Groups,
    answers: Vec<Answered>,
    next_token: Token,
    answered: u64,
    breakage: Option<Breakage>,
}

impl Coordinator {
    pub(super) fn new(rebalance_delay_ms: u32, breakage: Option<Breakage>) -> Self {
        Self {
            machine: Groups::new(GroupRules {
                rebalance_delay_ms,
                ..GroupRules::default()
            }),
            answers: Vec::new(),
            next_token: 0,
            answered: 0,
            breakage,
        }
    }

    pub(super) fn view(&self) -> Option<GroupView<'_>> {
        self.machine.get(GROUP)
    }

    pub(super) fn answers(&mut self) -> Vec<Answered> {
        let mut answers = std::mem::take(&mut self.answers);
        match self.breakage {
            Some(Breakage::ForgetsAnswers) => answers.retain(|_| {
                self.answered += 1;
                !self.answered.is_multiple_of(10)
            }),
            Some(Breakage::AssignsTwice) => {
                let found = answers.iter().find_map(|(_, answer)| match answer {
                    Answer::Sync(synced) if !synced.assignment.is_empty() => {
                        Some(synced.assignment.clone())
                    }
                    _ => None,
                });
                for (_, answer) in &mut answers {
                    if let (Answer::Sync(synced), Some(found)) = (answer, &found) {
                        synced.assignment = found.clone();
                    }
                }
            }
            _ => {}
        }
        answers
    }

    pub(super) fn tick(&mut self, now_ms: u64) {
        let due = self.machine.next_deadline().is_some_and(|at| at <= now_ms);
        if due && self.breakage != Some(Breakage::NeverTicks) {
            self.machine.tick(now_ms, &mut self.answers);
        }
    }

    pub(super) fn join(&mut self, client: &Client, now_ms: u64, random: [u8; 16]) -> Token {
        self.next_token += 1;
        let claim = client.claim();
        let metadata = client.metadata();
        let name = format!("client-{}", client.number);
        let request = JoinRequest {
            group: GROUP,
            member_id: &claim.member_id,
            instance_id: claim.instance_id.as_deref(),
            client_id: &name,
            client_host: "/10.0.0.1",
            protocol_type: "consumer",
            protocols: vec![("sticky", &metadata), ("range", &metadata)],
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            id_first: client.number.is_multiple_of(2),
            knows_skip: client.number.is_multiple_of(3),
        };
        self.machine
            .join(&request, self.next_token, now_ms, random, &mut self.answers);
        self.next_token
    }

    pub(super) fn sync(&mut self, client: &Client, now_ms: u64) -> Token {
        self.next_token += 1;
        let claim = client.claim();
        let assignments = client.assignments();
        let request = SyncRequest {
            group: GROUP,
            generation: claim.generation,
            member_id: &claim.member_id,
            instance_id: claim.instance_id.as_deref(),
            protocol_type: Some("consumer"),
            protocol: None,
            assignments: assignments
                .iter()
                .map(|(id, assignment)| (id.as_str(), assignment.as_slice()))
                .collect(),
        };
        self.machine
            .sync(&request, self.next_token, now_ms, &mut self.answers);
        self.next_token
    }

    pub(super) fn heartbeat(&mut self, who: &Identity, now_ms: u64) -> Result<(), ErrorCode> {
        self.machine.heartbeat(GROUP, who.claim(), now_ms)
    }

    pub(super) fn commit(&mut self, who: &Identity, now_ms: u64) -> Result<(), ErrorCode> {
        let mut who = who.clone();
        match self.breakage {
            Some(Breakage::AdmitsOldGenerations) => {
                who.generation = self.view().map_or(-1, |view| view.generation());
            }
            Some(Breakage::AdmitsDoubles) => {
                let holder = self.view().and_then(|view| {
                    let same = |id: &str| who.instance_id.as_deref() == Some(id);
                    view.members()
                        .find(|member| member.instance_id.as_deref().is_some_and(same))
                });
                if let Some(holder) = holder {
                    who.member_id = holder.id.to_string();
                }
            }
            _ => {}
        }
        self.machine.admit_commit(GROUP, who.claim(), false, now_ms)
    }

    pub(super) fn leave(&mut self, who: &Identity, now_ms: u64) {
        let leaving = [Leaving {
            member_id: &who.member_id,
            instance_id: who.instance_id.as_deref(),
        }];
        // Whoever is no member has nothing to leave.
        let _ = self
            .machine
            .leave(GROUP, &leaving, now_ms, &mut self.answers);
    }

    pub(super) fn dropped(&mut self, token: Token, now_ms: u64) {
        self.machine
            .dropped(GROUP, token, now_ms, &mut self.answers);
    }
}
