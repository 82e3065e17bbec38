//! Where the log's owner sits, so that whoever appends may do the log's work in its place: waking
//! two threads costs more than a small append. What the work is, is the owner's own.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::door::Standing;
use super::log_thread::{LogThread, Rest};
use super::rings::Wake;

/// Times that one who brings something goes on with what others have brought meanwhile.
const ROUNDS_MAX: usize = 4;

/// Whoever sits at a desk: what is to be done there, without who does it.
pub trait Owner {
    /// Where requests are counted before they are put.
    fn standing(&self) -> Arc<Standing>;
    /// Its thread sleeps no more.
    fn is_up(&mut self);
    /// One round of all that there is to do; whether there was something.
    fn turn(&mut self) -> bool;
    /// Whether nothing is to be done any more but to end.
    fn is_stopped(&self) -> bool;
    /// How its thread may sleep now; none: it has something to do.
    fn rest(&mut self) -> Option<Rest>;
    /// Whether there is something to do for a thread that is about to rest so.
    fn found_work(&self, rest: &Rest) -> bool;
    /// Does what stands first at the door, for whoever brought it; true where its thread has to go
    /// on.
    fn help(&mut self) -> bool;
    /// The last work.
    fn end(self);
}

/// The place of the log's owner; empty before it runs and after it has ended.
pub struct Desk<O = LogThread> {
    owner: Mutex<Option<O>>,
}

impl<O> Default for Desk<O> {
    fn default() -> Self {
        Self {
            owner: Mutex::new(None),
        }
    }
}

/// What a round of the owner's thread came to.
enum Round<O> {
    Worked,
    Rests(Rest),
    Stopped(O),
}

impl<O: Owner> Desk<O> {
    /// Runs on the log thread until it is stopped through the door.
    pub fn run(&self, owner: O, wake: &Wake) {
        wake.belong_to_this_thread();
        let standing = owner.standing();
        *self.lock() = Some(owner);
        loop {
            match self.round() {
                Round::Worked => {}
                Round::Rests(rest) => {
                    wake.wait(rest.timeout, rest.dozing, || self.look(&rest, &standing));
                }
                Round::Stopped(owner) => return owner.end(),
            }
        }
    }

    fn round(&self) -> Round<O> {
        let mut seat = self.lock();
        let owner = seat.as_mut().expect("only this thread takes it away");
        owner.is_up();
        let worked = owner.turn();
        if owner.is_stopped() {
            return Round::Stopped(seat.take().expect("it was just there"));
        }
        let rest = if worked { None } else { owner.rest() };
        rest.map_or(Round::Worked, Round::Rests)
    }

    /// The last look of the owner's thread, which has declared itself asleep: whether there is
    /// something to do after all.
    fn look(&self, rest: &Rest, standing: &Standing) -> bool {
        let seat = self.lock();
        let found = seat.as_ref().is_none_or(|owner| owner.found_work(rest));
        drop(seat);
        // Who found the desk taken by this very look relies on a second one.
        fence(Ordering::SeqCst);
        found || standing.has_requests()
    }

    /// Does what was brought to the door, unless somebody is at it: whoever is looks again afterwards.
    /// False: the log thread has to be woken.
    pub fn help(&self, standing: &Standing) -> bool {
        for _ in 0..ROUNDS_MAX {
            // Pairs with the fences behind each leaving of the desk: either this sees the desk free,
            // or who leaves it sees the request.
            fence(Ordering::SeqCst);
            let mut seat = match self.owner.try_lock() {
                Ok(seat) => seat,
                Err(TryLockError::Poisoned(seat)) => broken(seat),
                Err(TryLockError::WouldBlock) => return true,
            };
            let Some(owner) = seat.as_mut() else {
                return false;
            };
            let goes_on = owner.help();
            drop(seat);
            if goes_on {
                return false;
            }
            fence(Ordering::SeqCst);
            if !standing.has_requests() {
                return true;
            }
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Option<O>> {
        self.owner.lock().unwrap_or_else(broken)
    }
}

/// Somebody panicked with the log in hand: a log that is half changed must not go on.
fn broken<T>(_: PoisonError<T>) -> T {
    tracing::error!("a panic left the log half changed; the process ends");
    std::process::abort()
}

#[cfg(test)]
mod tests;
