//! The protocol between the log thread and those who help: every order in which requests can come
//! in while somebody is at the desk. No thread runs here; who comes in does so inside the owner's
//! own methods, where the desk is taken, or between them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::*;

/// When requests come in, and whether the log thread was told to wake.
struct Script {
    desk: RefCell<Weak<Desk<Scripted>>>,
    standing: Arc<Standing>,
    /// For each point that is passed: whether a request comes in there.
    arrivals: RefCell<VecDeque<bool>>,
    /// Somebody wanted the log thread woken since it declared itself asleep.
    roused: Cell<bool>,
    came: Cell<usize>,
    done: Cell<usize>,
}

impl Script {
    /// A point between two steps of somebody: perhaps a request comes in.
    fn point(&self) {
        let comes = self.arrivals.borrow_mut().pop_front();
        if comes != Some(true) {
            return;
        }
        self.came.set(self.came.get() + 1);
        self.standing.request_put();
        let desk = self.desk.borrow().upgrade().expect("the desk stands");
        if !desk.help(&self.standing) {
            self.roused.set(true);
        }
    }

    fn take(&self) -> bool {
        let takes = self.standing.has_requests();
        if takes {
            self.standing.request_taken();
            self.done.set(self.done.get() + 1);
        }
        takes
    }
}

/// An owner that does nothing but count.
struct Scripted(Rc<Script>);

impl Owner for Scripted {
    fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.0.standing)
    }

    fn is_up(&mut self) {
        self.0.point();
    }

    fn turn(&mut self) -> bool {
        let worked = self.0.take();
        self.0.point();
        worked
    }

    fn is_stopped(&self) -> bool {
        false
    }

    fn rest(&mut self) -> Option<Rest> {
        self.0.point();
        Some(Rest {
            timeout: None,
            dozing: false,
            takes_turns: true,
        })
    }

    fn found_work(&self, _: &Rest) -> bool {
        self.0.point();
        let found = self.0.standing.has_requests();
        self.0.point();
        found
    }

    fn help(&mut self) -> bool {
        self.0.point();
        self.0.take();
        self.0.point();
        false
    }

    fn end(self) {}
}

/// Plays the log thread until it sleeps and nothing comes any more.
fn play(arrivals: u32, points: usize) {
    let script = Rc::new(Script {
        desk: RefCell::new(Weak::new()),
        standing: Arc::new(Standing::new(0)),
        arrivals: RefCell::new((0..points).map(|at| arrivals >> at & 1 == 1).collect()),
        roused: Cell::new(false),
        came: Cell::new(0),
        done: Cell::new(0),
    });
    let desk = Rc::new(Desk::default());
    *script.desk.borrow_mut() = Rc::downgrade(&desk);
    *desk.lock() = Some(Scripted(Rc::clone(&script)));
    for _ in 0..1000 {
        let Round::Rests(rest) = desk.round() else {
            continue;
        };
        // Between its turn and its sleep the desk is free.
        script.point();
        script.roused.set(false);
        if desk.look(&rest, &script.standing) || script.roused.get() {
            continue;
        }
        assert!(
            !script.standing.has_requests(),
            "{arrivals:b}: it sleeps over a request, and nobody wakes it"
        );
        // It sleeps; who comes now does it, or wakes it.
        script.point();
        if script.roused.get() {
            continue;
        }
        assert!(
            !script.standing.has_requests(),
            "{arrivals:b}: who came while it slept left a request there"
        );
        if script.arrivals.borrow().is_empty() {
            assert_eq!(script.came, script.done);
            return;
        }
    }
    panic!("{arrivals:b}: it never comes to rest");
}

#[test]
fn nothing_that_comes_in_at_any_time_is_slept_over() {
    const POINTS: usize = 14;
    for arrivals in 0..1 << POINTS {
        play(arrivals, POINTS);
    }
}

/// The request that came in between the log thread's last look and its sleep, and found the desk
/// taken by that look.
#[test]
fn who_finds_the_desk_taken_by_the_last_look_is_seen_by_a_second_one() {
    // is_up, turn, rest, free desk, before the look's own glance, behind it.
    play(0b10_0000, 6);
}
