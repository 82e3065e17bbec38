//! Where the log's owner sits, so that whoever appends may do the log's work in its place: waking
//! two threads costs more than a small append. What the work is, is the owner's own.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::door::Standing;
use super::log_thread::LogThread;
use super::rings::Wake;

/// Times that one who brings something goes on with what others have brought meanwhile.
const ROUNDS_MAX: usize = 4;

/// The place of the log's owner; empty before it runs and after it has ended.
#[derive(Default)]
pub struct Desk {
    owner: Mutex<Option<LogThread>>,
}

impl Desk {
    /// Runs on the log thread until it is stopped through the door.
    pub fn run(&self, owner: LogThread, wake: &Wake) {
        wake.belong_to_this_thread();
        let standing = owner.standing();
        *self.lock() = Some(owner);
        loop {
            let mut seat = self.lock();
            let owner = seat.as_mut().expect("only this thread takes it away");
            owner.is_up();
            let worked = owner.turn();
            if owner.is_stopped() {
                let owner = seat.take();
                drop(seat);
                owner.expect("it was just there").end();
                return;
            }
            let rest = if worked { None } else { owner.rest() };
            drop(seat);
            if let Some(rest) = rest {
                wake.wait(rest.timeout, rest.dozing, || {
                    let seat = self.lock();
                    let found = seat.as_ref().is_none_or(|owner| owner.found_work(&rest));
                    drop(seat);
                    // Who found the desk taken by this very look relies on a second one.
                    fence(Ordering::SeqCst);
                    found || standing.has_requests()
                });
            }
        }
    }

    /// Does what was brought to the door, unless somebody is at it: whoever is looks again afterwards.
    /// False: the log thread has to be woken.
    pub fn help(&self, standing: &Standing) -> bool {
        for _ in 0..ROUNDS_MAX {
            // Pairs with the fence below: either this sees the desk free, or who leaves it sees the
            // request.
            fence(Ordering::SeqCst);
            let mut seat = match self.owner.try_lock() {
                Ok(seat) => seat,
                Err(TryLockError::Poisoned(seat)) => seat.into_inner(),
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

    fn lock(&self) -> MutexGuard<'_, Option<LogThread>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
