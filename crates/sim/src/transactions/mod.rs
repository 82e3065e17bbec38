//! Simulated transactional producers around the pure machine: they die, stall, lose answers, are
//! fenced by another of their name and go on as if they were not, while the disk fills up and the
//! node crashes between any two entries. A seed decides everything; an oracle looks at the log and
//! at every answer, and at the end nothing may be open.

mod coordinator;
mod log;
mod oracle;
mod producer;
#[cfg(test)]
mod tests;

pub use coordinator::Breakage;

use std::collections::BTreeMap;

use kafka::ErrorCode;

use crate::random::Random;
use coordinator::{Coordinator, Outcome};
use oracle::Oracle;
use producer::{Call, Producer};

/// Partitions that producers write.
const PARTITIONS: u32 = 4;
/// Producers: pairs of them have the same transactional id.
const PRODUCERS: usize = 6;
/// How long a transaction may be open, ms.
const TIMEOUT_MS: i32 = 20_000;
/// Virtual time with faults, ms.
const FAULTS_MS: u64 = 4 * 60_000;
/// Virtual time without, after which all must be well, ms.
const CALM_MS: u64 = 60_000;

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Transactions that were committed.
    pub committed: u32,
    /// Transactions that were aborted.
    pub aborted: u32,
    /// Producers that died, stalled or lost an answer, and disks that were full.
    pub faults: u32,
    /// Crashes of the node.
    pub crashes: u32,
    /// Requests of producers that were fenced.
    pub fenced: u32,
    /// Everything that happened, squeezed into a number.
    pub transcript: u64,
}

/// What happens at a time.
#[derive(Debug)]
enum Event {
    /// A producer does its next step.
    Act(usize),
    /// The log takes the oldest entry that was handed to it.
    Append,
    /// The machine is told what became of an entry.
    Settle(Outcome),
    /// A producer gets its answer.
    Answer(usize, u64, Result<(), ErrorCode>),
    /// The machine looks what is due.
    Tick,
}

struct World {
    random: Random,
    now_ms: u64,
    /// By time, and in the order in which they were planned.
    events: BTreeMap<(u64, u64), (u32, Event)>,
    planned: u64,
    coordinator: Coordinator,
    producers: Vec<Producer>,
    oracle: Oracle,
    verdict: Verdict,
    /// How often the node has started: events of an earlier life of it do not happen.
    life: u32,
    last_append_ms: u64,
}

/// Runs a seed, with a coordinator that is broken in some way or sound.
///
/// # Errors
/// What was wrong, in words.
pub fn run(seed: u64, breakage: Option<Breakage>) -> Result<Verdict, String> {
    let mut world = World {
        random: Random::new(seed),
        now_ms: 1_000,
        events: BTreeMap::new(),
        planned: 0,
        coordinator: Coordinator::new(breakage),
        producers: (0..PRODUCERS).map(Producer::new).collect(),
        oracle: Oracle::default(),
        verdict: Verdict::default(),
        life: 0,
        last_append_ms: 0,
    };
    world.start();
    for number in 0..PRODUCERS {
        world.plan(number as u64, Event::Act(number));
    }
    world.pass(FAULTS_MS, true)?;
    world.calm();
    let before = world.oracle.told_committed;
    world.pass(CALM_MS, false)?;
    if world.oracle.told_committed <= before {
        return Err("nobody gets on although nothing is wrong".into());
    }
    // Nobody does anything any more: what is open is too old by now.
    for producer in &mut world.producers {
        producer.die(u64::MAX);
    }
    world.pass(3 * TIMEOUT_MS as u64, false)?;
    world.oracle.at_the_end(world.coordinator.kept_offsets())?;
    world.coordinator.at_the_end()?;
    let (committed, aborted) = world.oracle.ends();
    world.verdict.committed = committed;
    world.verdict.aborted = aborted;
    world.verdict.transcript = world.oracle.transcript();
    Ok(world.verdict)
}

impl World {
    fn plan(&mut self, in_ms: u64, event: Event) {
        self.planned += 1;
        let at = (self.now_ms + in_ms, self.planned);
        self.events.insert(at, (self.life, event));
    }

    /// Lets so much time pass.
    fn pass(&mut self, ms: u64, faults: bool) -> Result<(), String> {
        let until_ms = self.now_ms + ms;
        while let Some(first) = self.events.first_entry() {
            let (at_ms, _) = *first.key();
            if at_ms > until_ms {
                break;
            }
            let (life, event) = first.remove();
            self.now_ms = at_ms;
            if faults && self.random.once_in(1_500) {
                self.harm();
            }
            let of_node = !matches!(event, Event::Act(_) | Event::Answer(..));
            if life == self.life || !of_node {
                self.happen(event, faults)?;
            }
        }
        self.now_ms = until_ms;
        Ok(())
    }

    fn happen(&mut self, event: Event, faults: bool) -> Result<(), String> {
        match event {
            Event::Act(number) => self.act(number)?,
            Event::Append => {
                let outcome = self.coordinator.append(&mut self.oracle)?;
                if let Some(outcome) = outcome {
                    // Those who wait for the log are told in any order.
                    let later_ms = self.random.below(40);
                    self.plan(later_ms, Event::Settle(outcome));
                }
            }
            Event::Settle(outcome) => {
                let told = self.coordinator.settle(&outcome, self.now_ms);
                self.answer(told, faults);
                self.hand_in(0);
            }
            Event::Answer(number, call, answer) => {
                let told = self.producers[number].answered(call, answer, &mut self.random);
                if let Some(told) = told {
                    self.oracle.told(told)?;
                    let later_ms = 1 + self.random.below(200);
                    self.plan(later_ms, Event::Act(number));
                }
            }
            Event::Tick => {
                self.coordinator.tick(self.now_ms);
                self.hand_in(0);
                self.plan(500, Event::Tick);
            }
        }
        Ok(())
    }

    /// Puts an answer on its way, which may get lost.
    fn answer(&mut self, told: Option<(usize, u64, Result<(), ErrorCode>)>, faults: bool) {
        let Some((number, call, answer)) = told else {
            return;
        };
        if faults && self.random.once_in(40) {
            self.verdict.faults += 1;
            return;
        }
        let later_ms = self.random.below(100);
        self.plan(later_ms, Event::Answer(number, call, answer));
    }

    /// Plans the appends of what the coordinator has handed in, first in, first out.
    fn hand_in(&mut self, slow_ms: u64) {
        for _ in 0..self.coordinator.handed_in() {
            let soonest_ms = self.last_append_ms.max(self.now_ms);
            let at_ms = soonest_ms + self.random.below(20 + slow_ms);
            self.last_append_ms = at_ms;
            self.plan(at_ms - self.now_ms, Event::Append);
        }
    }

    fn act(&mut self, number: usize) -> Result<(), String> {
        let now_ms = self.now_ms;
        // It asks again later, whatever becomes of this.
        let again_ms = 1_000 + self.random.below(1_000);
        let Some((id, call)) = self.producers[number].act(now_ms, again_ms, &mut self.random)
        else {
            self.plan(again_ms, Event::Act(number));
            return Ok(());
        };
        self.plan(again_ms, Event::Act(number));
        let producer = &self.producers[number];
        let asked = match &call {
            Call::Init { expected } => {
                let told = self.coordinator.init(producer.name(), *expected, now_ms);
                told.map(|identity| {
                    self.producers[number].promised(id, identity);
                })
            }
            call => {
                let Some(me) = producer.identity() else {
                    return Ok(());
                };
                let asked = self.coordinator.ask(producer.name(), me, call, now_ms);
                if asked.is_ok() {
                    self.oracle.admitted(producer.name(), me)?;
                }
                asked
            }
        };
        match asked {
            Ok(()) => self.coordinator.await_answer(number, id),
            Err(error) => {
                self.verdict.fenced += u32::from(error == ErrorCode::ProducerFenced);
                let later_ms = self.random.below(50);
                self.plan(later_ms, Event::Answer(number, id, Err(error)));
            }
        }
        if let Some(told) = self.coordinator.nothing_to_wait_for() {
            self.answer(Some(told), false);
        }
        self.hand_in(0);
        Ok(())
    }

    fn harm(&mut self) {
        self.verdict.faults += 1;
        let number = self.random.below(PRODUCERS as u64) as usize;
        let until_ms = self.now_ms + 1_000 + self.random.below(2 * TIMEOUT_MS as u64);
        match self.random.below(8) {
            0..=2 => self.producers[number].die(until_ms),
            // It comes back as who it was, and does not know that it was away.
            3..=4 => self.producers[number].stall(until_ms),
            5 => {
                let full = !self.coordinator.is_full();
                self.coordinator.fill(full);
            }
            _ => {
                self.verdict.crashes += 1;
                self.life += 1;
                self.start();
            }
        }
    }

    /// The node starts, from what its log holds.
    fn start(&mut self) {
        self.coordinator.start(&mut self.oracle);
        self.last_append_ms = self.now_ms;
        self.plan(0, Event::Tick);
        self.hand_in(0);
    }

    /// No faults any more, and one producer for each id.
    fn calm(&mut self) {
        self.coordinator.fill(false);
        for producer in &mut self.producers {
            producer.calm(self.now_ms);
        }
    }
}
