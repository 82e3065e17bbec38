//! Keeps the threads of the mirror going. Some calls of librdkafka wait without a bound: a thread
//! that stays away in one is given up together with its clients, and a successor begins anew with
//! what the cluster says. What a thread does between two signs of life is not known here.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The signs of life of one thread.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// By when the next sign is due, ms since `origin`.
    due_ms: AtomicU64,
    given_up: AtomicBool,
}

impl Pulse {
    /// Of a thread that begins now and gives its first sign within that time.
    pub fn new(within: Duration) -> Self {
        let pulse = Self {
            origin: Instant::now(),
            due_ms: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
        };
        pulse.beat(within);
        pulse
    }

    /// A sign of life; the next comes within that time. False: the thread was given up. It must not
    /// touch the cluster any more, another does its work.
    pub fn beat(&self, within: Duration) -> bool {
        let due = self.origin.elapsed() + within;
        self.due_ms.store(due.as_millis() as u64, Ordering::Release);
        !self.is_given_up()
    }

    /// Whether a successor does the thread's work.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    fn is_overdue(&self) -> bool {
        self.origin.elapsed().as_millis() as u64 > self.due_ms.load(Ordering::Acquire)
    }

    fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }
}

/// Something that one thread at a time does, and that is done once: the turn of a thread that was
/// given up counts for nothing.
#[derive(Debug, Default)]
pub struct Once(Mutex<Turn>);

#[derive(Debug, Default)]
enum Turn {
    #[default]
    Open,
    Of(Arc<Pulse>),
    Done,
}

/// What [`Once::take`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is the caller's turn, until it says how it ended.
    Mine,
    /// Somebody else is at it.
    Others,
    /// It is done.
    Done,
}

impl Once {
    /// Asks for the turn.
    pub fn take(&self, pulse: &Arc<Pulse>) -> Taken {
        let mut turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*turn {
            Turn::Done => return Taken::Done,
            Turn::Of(other) if !other.is_given_up() && !Arc::ptr_eq(other, pulse) => {
                return Taken::Others;
            }
            Turn::Open | Turn::Of(_) => {}
        }
        *turn = Turn::Of(Arc::clone(pulse));
        Taken::Mine
    }

    /// The turn is over.
    pub fn end(&self, pulse: &Arc<Pulse>, done: bool) {
        let mut turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*turn, Turn::Of(holder) if Arc::ptr_eq(holder, pulse)) {
            *turn = if done { Turn::Done } else { Turn::Open };
        }
    }
}

/// What a [`Watch`] has to tell of one of its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its thread was given up; a successor begins.
    GivenUp,
    /// Its thread was given up; as many as may be have not come back, and none begins before one does.
    TooMany,
    /// A thread that was given up has come back, and has ended.
    Back,
    /// Its thread could not be started; it is tried again.
    NotStarted,
}

/// Bounds of a [`Watch`].
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// By when a thread gives its first sign of life.
    pub first: Duration,
    /// Time between two looks.
    pub look: Duration,
    /// Threads of one place that were given up and have not come back, beyond which no successor
    /// begins: each keeps its clients and the records of a round.
    pub away_max: usize,
    /// How long the end of the threads is waited for.
    pub stop: Duration,
}

/// One thread in each place, and another where it was given up.
pub struct Watch<R, T> {
    bounds: Bounds,
    stop: Arc<AtomicBool>,
    run: R,
    told: T,
    places: Vec<Place>,
}

struct Place {
    running: Option<(Arc<Pulse>, JoinHandle<()>)>,
    /// Given up, and not back yet.
    away: Vec<JoinHandle<()>>,
    /// Wants a successor.
    vacant: bool,
}

impl<R, T> Watch<R, T>
where
    R: Fn(u32, Arc<Pulse>) + Clone + Send + 'static,
    T: Fn(u32, Event, usize),
{
    /// Starts a thread in each of `count` places. `run` gets the number of its place; `told` what
    /// befalls a place, and how many of its threads have been given up and not come back.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        count: u32,
        bounds: Bounds,
        stop: Arc<AtomicBool>,
        run: R,
        told: T,
    ) -> io::Result<Self> {
        let mut watch = Self {
            bounds,
            stop,
            run,
            told,
            places: Vec::new(),
        };
        for at in 0..count {
            let running = Some(watch.spawn(at)?);
            watch.places.push(Place {
                running,
                away: Vec::new(),
                vacant: false,
            });
        }
        Ok(watch)
    }

    fn spawn(&self, at: u32) -> io::Result<(Arc<Pulse>, JoinHandle<()>)> {
        let pulse = Arc::new(Pulse::new(self.bounds.first));
        let (run, own) = (self.run.clone(), Arc::clone(&pulse));
        let thread = std::thread::Builder::new().name(format!("mirror-{at}"));
        Ok((pulse, thread.spawn(move || run(at, own))?))
    }

    /// Watches until it is told to stop, and waits for the ends of the threads for a while; false:
    /// some have not ended. Blocks; unpark the thread to have the stop seen at once.
    pub fn keep(mut self) -> bool {
        while !self.stop.load(Ordering::Acquire) {
            for at in 0..self.places.len() {
                self.look(at);
            }
            std::thread::park_timeout(self.bounds.look);
        }
        let deadline = Instant::now() + self.bounds.stop;
        let mut running = self.places.iter_mut().filter_map(|it| it.running.take());
        running.all(|(_, thread)| {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            thread.is_finished() && {
                joined(thread);
                true
            }
        })
    }

    fn look(&mut self, at: usize) {
        let place = &mut self.places[at];
        let away = place.away.len();
        for thread in place.away.extract_if(.., |thread| thread.is_finished()) {
            joined(thread);
        }
        if place.away.len() < away {
            (self.told)(at as u32, Event::Back, place.away.len());
        }
        let ended = |running: &(Arc<Pulse>, JoinHandle<()>)| running.1.is_finished();
        if let Some((_, thread)) = place.running.take_if(|running| ended(running)) {
            // It said why, and wants no successor.
            joined(thread);
        }
        if let Some((pulse, thread)) = place.running.take_if(|running| running.0.is_overdue()) {
            pulse.give_up();
            place.away.push(thread);
            place.vacant = true;
            let away = place.away.len();
            let too_many = away > self.bounds.away_max;
            let event = if too_many {
                Event::TooMany
            } else {
                Event::GivenUp
            };
            (self.told)(at as u32, event, away);
        }
        if place.vacant && place.away.len() <= self.bounds.away_max {
            if let Ok(running) = self.spawn(at as u32) {
                self.places[at].running = Some(running);
                self.places[at].vacant = false;
            } else {
                let away = self.places[at].away.len();
                (self.told)(at as u32, Event::NotStarted, away);
            }
        }
    }
}

fn joined(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the mirror did not end in order");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_mins(5);

    fn bounds() -> Bounds {
        Bounds {
            first: LONG,
            look: Duration::from_millis(1),
            away_max: 2,
            stop: Duration::from_secs(20),
        }
    }

    /// Threads that report each beginning and wait in a call that ends only when the test says so.
    /// The first `silent` of them are overdue at once.
    struct Calls {
        begun: mpsc::Receiver<(Arc<Pulse>, mpsc::Sender<()>)>,
        told: mpsc::Receiver<(u32, Event, usize)>,
        stop: Arc<AtomicBool>,
        watching: JoinHandle<bool>,
    }

    fn calls(silent: usize) -> Calls {
        let (begin, begun) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let run = move |_, pulse: Arc<Pulse>| {
            let (back, wait) = mpsc::channel();
            begin.send((Arc::clone(&pulse), back)).unwrap();
            if count.fetch_add(1, Ordering::Relaxed) < silent as u64 {
                pulse.beat(Duration::ZERO);
            }
            let _ = wait.recv();
        };
        let told_by = move |at, event, away| tell.send((at, event, away)).unwrap();
        let watch = Watch::start(1, bounds(), Arc::clone(&stop), run, told_by).unwrap();
        Calls {
            begun,
            told,
            stop,
            watching: std::thread::spawn(move || watch.keep()),
        }
    }

    impl Calls {
        fn end(self) -> bool {
            self.stop.store(true, Ordering::Release);
            self.watching.thread().unpark();
            self.watching.join().unwrap()
        }
    }

    #[test]
    fn a_thread_that_stays_away_is_given_up_and_a_successor_begins() {
        let calls = calls(1);
        let (first, _away) = calls.begun.recv_timeout(LONG).unwrap();
        let (second, back) = calls.begun.recv_timeout(LONG).unwrap();
        assert_eq!(calls.told.recv_timeout(LONG), Ok((0, Event::GivenUp, 1)));
        assert!(first.is_given_up() && !first.beat(LONG), "it is told so");
        assert!(!second.is_given_up() && second.beat(LONG));
        drop(back);
        assert!(calls.end(), "who is away is not waited for");
    }

    #[test]
    fn no_more_are_given_up_than_may_be_away_and_the_next_begins_when_one_is_back() {
        let calls = calls(3);
        let mut away = Vec::new();
        for _ in 0..3 {
            away.push(calls.begun.recv_timeout(LONG).unwrap());
        }
        let told: Vec<_> = (0..3)
            .map(|_| calls.told.recv_timeout(LONG).unwrap())
            .collect();
        let given_up = |away| (0, Event::GivenUp, away);
        assert_eq!(told, [given_up(1), given_up(2), (0, Event::TooMany, 3)]);
        assert!(calls.begun.try_recv().is_err(), "a fourth has begun");
        away.remove(0);
        let (fourth, back) = calls.begun.recv_timeout(LONG).unwrap();
        assert!(!fourth.is_given_up());
        drop(back);
        assert!(calls.end());
    }

    #[test]
    fn who_ends_by_himself_has_no_successor() {
        let calls = calls(0);
        drop(calls.begun.recv_timeout(LONG).unwrap());
        let again = calls.begun.recv_timeout(Duration::from_millis(50));
        assert!(again.is_err() && calls.told.try_recv().is_err());
        assert!(calls.end());
    }

    #[test]
    fn the_turn_of_one_who_was_given_up_is_free() {
        let (once, own) = (Once::default(), Arc::new(Pulse::new(LONG)));
        let other = Arc::new(Pulse::new(LONG));
        assert_eq!(once.take(&own), Taken::Mine);
        assert_eq!(once.take(&other), Taken::Others);
        own.give_up();
        assert_eq!(once.take(&other), Taken::Mine);
        once.end(&own, true);
        assert_eq!(once.take(&other), Taken::Mine, "it was not his to end");
        once.end(&other, false);
        assert_eq!(once.take(&other), Taken::Mine);
        once.end(&other, true);
        assert_eq!(once.take(&own), Taken::Done);
    }
}
