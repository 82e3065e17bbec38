//! How much of a connection that keeps appending must have come before it is looked at. Each look
//! costs wake-ups, a write to the log and an answer, whatever it finds: a producer at full speed who
//! was looked at for each of its requests paid for them one by one. Network cards do the same with
//! their interrupts. It knows no socket and no clock.

use std::time::Duration;

use tokio::time::Instant;

use super::limits::{
    MARK_BYTES_MAX, MARK_BYTES_MIN, MARK_GROWTH_LOOKS, MARK_PATIENCE, MARK_PAUSE, MARK_STALLS,
    MODERATED_LOOKS_MIN, MODERATED_WINDOW, UNMODERATED_AFTER_ANOTHER,
};

/// The low-water mark of a connection's socket (`SO_RCVLOWAT`): it rises while the sender reaches it
/// in time, and falls when the sender waits for us meanwhile.
pub(super) struct Moderation {
    /// Bytes that must have come before the socket is readable; none: any will do.
    mark: Option<usize>,
    /// The mark was given up in this look.
    gave_up: bool,
    /// Looks in a row in which the mark was given up with something waiting.
    stalls: u32,
    /// Bytes that this look has found.
    found_bytes: usize,
    /// Some of them were for the log.
    appended: bool,
    /// Looks since the mark was last another.
    looks: u32,
    /// While there is no mark, looks are counted from here on.
    window: Instant,
    /// The mark does not rise before.
    pause: Instant,
}

impl Moderation {
    /// Without a mark.
    pub fn new(now: Instant) -> Self {
        Self {
            mark: None,
            gave_up: false,
            stalls: 0,
            found_bytes: 0,
            appended: false,
            looks: 0,
            window: now,
            pause: now,
        }
    }

    /// So many bytes were found.
    pub fn found(&mut self, bytes: usize) {
        self.found_bytes += bytes;
    }

    /// Something that was found is for the log.
    pub fn appended(&mut self) {
        self.appended = true;
    }

    /// Something that was found is another request, whose sender may wait for its answer, and will
    /// for that of the next: a transaction's end. True: the socket is to be readable with any byte.
    pub fn other(&mut self, now: Instant) -> bool {
        self.pause = self.pause.max(now + UNMODERATED_AFTER_ANOTHER);
        let had_mark = self.mark.is_some();
        self.gave_up = false;
        self.rest();
        had_mark
    }

    /// Whether something was found since the last look ended.
    pub fn has_found(&self) -> bool {
        self.found_bytes > 0
    }

    /// What is read at once at least, in bytes: all that it was woken for, and what comes meanwhile.
    pub fn room(&self) -> usize {
        self.mark.map_or(0, |mark| mark + mark / 4)
    }

    /// All that has come was taken. The mark that the socket needs from now on, if it is another.
    pub fn look_ends(&mut self, now: Instant) -> Option<usize> {
        let found_bytes = std::mem::take(&mut self.found_bytes);
        let appended = std::mem::take(&mut self.appended);
        let Some(mark) = self.mark else {
            let begins = appended && self.is_busy(now);
            return begins.then(|| self.set(2 * found_bytes));
        };
        if !std::mem::take(&mut self.gave_up) {
            self.stalls = 0;
            self.looks += 1;
            let rises =
                self.looks >= MARK_GROWTH_LOOKS && mark < MARK_BYTES_MAX && now >= self.pause;
            return rises.then(|| self.set(2 * mark));
        }
        if self.stalls < MARK_STALLS {
            return Some(mark);
        }
        // So much it does not send without an answer, or not in this time.
        self.pause = now + MARK_PAUSE;
        if mark <= MARK_BYTES_MIN {
            self.rest();
            return None;
        }
        Some(self.set(mark / 2))
    }

    /// How long the socket may stay silent now; none: for ever.
    pub fn patience(&self) -> Option<Duration> {
        (self.mark.is_some() && !self.gave_up).then_some(MARK_PATIENCE)
    }

    /// The patience is over, and the socket is to be readable with any byte; `waits`: some are there.
    pub fn give_up(&mut self, waits: bool, now: Instant) {
        if waits {
            self.gave_up = true;
            self.stalls += 1;
        } else {
            // It has nothing to send, and nobody was kept waiting.
            self.rest();
            self.window = now;
        }
    }

    /// Whether a connection without a mark is to have one.
    fn is_busy(&mut self, now: Instant) -> bool {
        if now - self.window > MODERATED_WINDOW {
            (self.window, self.looks) = (now, 0);
        }
        self.looks += 1;
        self.looks >= MODERATED_LOOKS_MIN && now >= self.pause
    }

    fn set(&mut self, mark: usize) -> usize {
        let mark = mark.clamp(MARK_BYTES_MIN, MARK_BYTES_MAX);
        self.mark = Some(mark);
        self.looks = 0;
        mark
    }

    /// No mark any more.
    fn rest(&mut self) {
        self.mark = None;
        self.stalls = 0;
        self.looks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender that sends every 100 microseconds, and has no more than so many bytes unanswered.
    struct Sender {
        moderation: Moderation,
        start: Instant,
        now: Instant,
        /// The mark at the socket.
        mark: usize,
        stalls: u32,
    }

    impl Sender {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                moderation: Moderation::new(now),
                start: now,
                now,
                mark: 1,
                stalls: 0,
            }
        }

        /// How much of it the next look finds.
        fn look(&mut self, request: usize, window: usize) -> usize {
            let (mut there, mut waited) = (0, Duration::ZERO);
            while there < self.mark {
                waited += Duration::from_micros(100);
                if there + request <= window {
                    there += request;
                }
                let patience = self.moderation.patience();
                if there < self.mark && patience.is_some_and(|patience| waited >= patience) {
                    self.moderation.give_up(there > 0, self.now + waited);
                    self.mark = 1;
                    self.stalls += u32::from(there > 0);
                }
                assert!(waited < Duration::from_secs(1), "nobody looks any more");
            }
            self.now += waited;
            self.moderation.found(there);
            self.moderation.appended();
            if let Some(mark) = self.moderation.look_ends(self.now) {
                self.mark = mark;
            }
            there
        }
    }

    #[test]
    fn who_keeps_sending_is_looked_at_more_rarely() {
        let mut sender = Sender::new();
        let found: Vec<usize> = (0..100).map(|_| sender.look(20_000, 400_000)).collect();
        let first = &found[..MODERATED_LOOKS_MIN as usize];
        assert!(first.iter().all(|&it| it == 20_000));
        assert!(found[50..].iter().all(|&it| it >= MARK_BYTES_MAX));
        assert_eq!(sender.stalls, 0);
        assert!(sender.moderation.room() >= MARK_BYTES_MAX);
    }

    #[test]
    fn who_waits_for_answers_is_kept_waiting_a_few_times_a_second_at_most() {
        for (request, window) in [(500, 500), (500, 2500), (20_000, 20_000), (9_000, 45_000)] {
            let mut sender = Sender::new();
            let mut looks = 0;
            while sender.now - sender.start < Duration::from_secs(20) {
                assert!(sender.look(request, window) <= window);
                looks += 1;
            }
            // Until the first pause it may take a few more.
            let most = 21 * MARK_STALLS + 4;
            assert!(
                (20..=most).contains(&sender.stalls),
                "{request}: {}",
                sender.stalls
            );
            assert!(looks > 20_000, "{request}: {looks}");
        }
    }

    #[test]
    fn a_mark_falls_as_fast_as_the_sender_becomes_slow() {
        let mut sender = Sender::new();
        for _ in 0..100 {
            sender.look(20_000, 400_000);
        }
        for _ in 0..10 {
            sender.look(500, 500);
        }
        assert_eq!((sender.mark, sender.moderation.mark), (1, None));
        assert!(sender.stalls < 10);
    }

    #[test]
    fn an_end_of_the_load_is_no_stall() {
        let mut sender = Sender::new();
        while sender.mark == 1 {
            sender.look(20_000, 400_000);
        }
        sender.moderation.give_up(false, sender.now);
        sender.mark = 1;
        assert_eq!(sender.moderation.patience(), None);
        sender.now += Duration::from_hours(1);
        for _ in 1..MODERATED_LOOKS_MIN {
            sender.look(20_000, 400_000);
            assert_eq!(sender.mark, 1);
        }
        // As busy as before.
        sender.look(20_000, 400_000);
        assert!(sender.mark > 1);
    }

    #[test]
    fn who_asks_for_something_else_in_between_is_looked_at_for_every_byte() {
        let mut sender = Sender::new();
        for _ in 0..100 {
            assert!(!sender.moderation.other(sender.now));
            for _ in 0..50 {
                sender.look(20_000, 400_000);
            }
            assert_eq!(sender.mark, 1);
        }
        sender.moderation.other(sender.now);
        let from = sender.now;
        while sender.mark == 1 {
            sender.look(20_000, 400_000);
        }
        assert!(sender.now - from >= UNMODERATED_AFTER_ANOTHER);
        assert!(sender.moderation.other(sender.now));
        assert_eq!(sender.moderation.patience(), None);
    }

    #[test]
    fn who_appends_nothing_is_looked_at_for_every_byte() {
        let now = Instant::now();
        let mut moderation = Moderation::new(now);
        for _ in 0..1000 {
            moderation.found(20_000);
            assert_eq!(moderation.look_ends(now), None);
        }
    }
}
