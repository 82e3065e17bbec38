//! Simulated members of one consumer group around the pure machine: they join, die, stall, come
//! back with what they knew, lead slowly and lose answers, while the clock now and then steps. A
//! seed decides everything; an oracle looks at every answer, and at the end everyone alive must be
//! in one generation.

mod client;
mod coordinator;
mod oracle;
#[cfg(test)]
mod tests;

pub use coordinator::Breakage;

use kafka::group::{Answer, Token};

use crate::random::Random;
use client::{Act, Client};
use coordinator::Coordinator;
use oracle::Oracle;

/// Partitions of the topic that the group shares.
const PARTITIONS: u32 = 7;
/// Members at most.
const CLIENTS: usize = 6;
/// Turns with faults.
const TURNS: u32 = 1_500;
/// Virtual time without faults after which all must be well, ms.
const CALM_MS: u64 = 15 * 60_000;

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Generations of the group.
    pub generations: i32,
    /// Members that died, stalled, left or were replaced.
    pub faults: u32,
    /// Commits admitted.
    pub commits: u64,
    /// Commits refused to who was fenced.
    pub fenced: u64,
    /// Everything that was answered, squeezed into a number.
    pub transcript: u64,
}

struct World {
    random: Random,
    now_ms: u64,
    coordinator: Coordinator,
    clients: Vec<Client>,
    /// Answers on their way: when they arrive, where, and what they say.
    mail: Vec<(u64, usize, Token, Answer)>,
    oracle: Oracle,
    verdict: Verdict,
}

/// Runs a seed, with a machine that is broken in some way or sound.
///
/// # Errors
/// What was wrong, in words.
pub fn run(seed: u64, breakage: Option<Breakage>) -> Result<Verdict, String> {
    let mut random = Random::new(seed);
    let cooperative = random.once_in(2);
    let delay_ms = [0, 100, 3_000][random.below(3) as usize];
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|number| Client::new(number, random.once_in(3), cooperative))
        .collect();
    let mut world = World {
        random,
        now_ms: 1_000,
        coordinator: Coordinator::new(delay_ms, breakage),
        oracle: Oracle::new(&clients),
        clients,
        mail: Vec::new(),
        verdict: Verdict::default(),
    };
    for _ in 0..TURNS {
        world.turn(true)?;
    }
    let until_ms = world.now_ms + CALM_MS;
    for client in &mut world.clients {
        client.revive(world.now_ms);
    }
    while world.now_ms < until_ms {
        world.turn(false)?;
    }
    world.verdict.transcript = world.oracle.transcript();
    world.verdict.generations = world.oracle.generation();
    Oracle::at_the_end(&world.clients, world.coordinator.view())?;
    Ok(world.verdict)
}

impl World {
    fn turn(&mut self, faults: bool) -> Result<(), String> {
        self.now_ms += 1 + self.random.below(if faults { 400 } else { 1_000 });
        if faults && self.random.once_in(200) {
            // The machine was suspended.
            self.now_ms += 5_000 + self.random.below(60_000);
        }
        self.coordinator.tick(self.now_ms);
        self.post()?;
        for number in 0..self.clients.len() {
            if faults && self.random.once_in(150) {
                self.harm(number);
                self.verdict.faults += 1;
            }
            self.receive(number, faults);
            self.act(number)?;
            self.post()?;
            if self.random.once_in(20) {
                self.claims_of_the_past(number)?;
            }
        }
        self.oracle.nobody_waits_for_ever(self.now_ms)
    }

    /// Takes the machine's answers and puts them on their way.
    fn post(&mut self) -> Result<(), String> {
        for (token, answer) in self.coordinator.answers() {
            let number = self.oracle.answered(token, &answer, self.now_ms)?;
            let arrives_ms = self.now_ms + self.random.below(300);
            self.mail.push((arrives_ms, number, token, answer));
        }
        Ok(())
    }

    /// Delivers what has arrived for a client; in bad times its connection may break first.
    fn receive(&mut self, number: usize, faults: bool) {
        let now_ms = self.now_ms;
        let asleep = self.clients[number].asleep(now_ms);
        let mut rest = Vec::new();
        for (arrives_ms, to, token, answer) in std::mem::take(&mut self.mail) {
            if to != number || arrives_ms > now_ms || asleep {
                rest.push((arrives_ms, to, token, answer));
            } else if faults && self.random.once_in(30) {
                self.clients[number].disconnected(now_ms);
            } else {
                let slow = self.random.once_in(15);
                let slow_ms = self.random.below(if slow { 90_000 } else { 500 });
                self.clients[number].receive(token, &answer, now_ms, slow_ms);
            }
        }
        self.mail = rest;
    }

    fn harm(&mut self, number: usize) {
        let now_ms = self.now_ms;
        let kind = self.random.below(7);
        let pause_ms = 1_000 + self.random.below(50_000);
        let client = &mut self.clients[number];
        match kind {
            0 => return client.stall(now_ms + pause_ms),
            // Nobody tells the machine that the connection is gone.
            1 => return client.disconnected(now_ms),
            2 => return client.die(now_ms + pause_ms),
            _ => {}
        }
        if let Some(token) = client.parked() {
            self.coordinator.dropped(token, now_ms);
            self.oracle.dropped(token);
        }
        match kind {
            3 => client.disconnected(now_ms),
            4 => {
                self.coordinator.leave(&client.claim(), now_ms);
                self.oracle.left(client);
                client.die(now_ms + pause_ms);
            }
            _ => client.die(now_ms + pause_ms),
        }
    }

    fn act(&mut self, number: usize) -> Result<(), String> {
        let now_ms = self.now_ms;
        let client = &mut self.clients[number];
        match client.act(now_ms) {
            Act::Nothing => {}
            Act::Join => {
                let random = std::array::from_fn(|_| self.random.any() as u8);
                let token = self.coordinator.join(client, now_ms, random);
                client.joining(token);
                self.oracle.asked(token, number, now_ms);
            }
            Act::Sync => {
                let token = self.coordinator.sync(client, now_ms);
                client.syncing(token);
                self.oracle.asked(token, number, now_ms);
            }
            Act::Beat => {
                let beaten = self.coordinator.heartbeat(&client.claim(), now_ms);
                client.beaten(beaten, now_ms);
            }
            Act::Commit => {
                let claim = client.claim();
                let admitted = self.coordinator.commit(&claim, now_ms);
                self.verdict.commits += u64::from(admitted.is_ok());
                self.oracle.committed(&claim, admitted.is_ok())?;
            }
        }
        Ok(())
    }

    /// Somebody commits and beats as one it once was.
    fn claims_of_the_past(&mut self, number: usize) -> Result<(), String> {
        let Some(claim) = self.clients[number].once_was(&mut self.random) else {
            return Ok(());
        };
        let admitted = self.coordinator.commit(&claim, self.now_ms);
        self.verdict.fenced += u64::from(admitted.is_err());
        self.oracle.committed(&claim, admitted.is_ok())
    }
}
