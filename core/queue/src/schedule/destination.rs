//! How many at once: a destination's concurrency window, with asymmetric feedback after Postfix's queue manager.
//!
//! What counts is whether the destination can be *talked to*, never what it says about a recipient: one slow or refused mailbox does not throttle
//! a domain. Success opens the window: by one each time at first (slow start), by one per window's worth after the first failure. A failure to
//! connect, to be greeted or to agree on TLS closes it by one. A receiver that limits connections refuses the one too many: the window then stands at the limit, and each
//! further step over it that fails makes the next one twice as dear (up to [`PROBE_MAX`] windows' worth of successes), so that few connections are refused;
//! a step that holds makes it cheaper again. When a whole cohort, as many as the window is wide, fails with no success in between, the
//! destination is dead: it gets nothing for a while, then a single probe. Each further spell is twice as long.

use std::time::{Duration, Instant};

/// The bounds of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// At first, and after a dead spell.
    pub initial: u32,
    /// At most.
    pub max: u32,
    /// The first dead spell.
    pub dead_first: Duration,
    /// The longest dead spell.
    pub dead_max: Duration,
}

impl Default for WindowLimits {
    /// Postfix's 5 and 20; one minute to half an hour.
    fn default() -> WindowLimits {
        WindowLimits { initial: 5, max: 20, dead_first: Duration::from_secs(60), dead_max: Duration::from_secs(1800) }
    }
}

/// Whether one more may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open,
    /// Not before another has ended.
    Full,
    /// Not before another has ended, or this moment has come.
    Capped(Instant),
    /// Not before this moment.
    Dead(Instant),
}

/// What is known about a destination's willingness.
#[derive(Clone, Debug)]
pub struct Window {
    limits: WindowLimits,
    size: u32,
    /// Parts of a window's worth of successes.
    credit: f32,
    /// Parts of a cohort that have failed since the last success.
    cohort: f32,
    /// Windows' worths of successes that the next step up costs.
    probe: u32,
    /// Successes that are still to come before the last step up has proved itself.
    unproved: u32,
    /// No failure yet: every success opens the window by one.
    slow_start: bool,
    dead_until: Option<Instant>,
    /// A rule or an operator says so: no success of what is still under way ends it.
    suspended: Option<Instant>,
    /// No more than so many until then, whatever the window is.
    cap: Option<(u32, Instant)>,
    /// Dead spells since the last success.
    spells: u32,
}

/// The most that a step up costs, in windows' worths of successes.
const PROBE_MAX: u32 = 64;

/// Sums of parts such as 1/3 may stay a little below 1.
const FUDGE: f32 = 0.001;

impl Window {
    /// A destination of which nothing is known.
    pub fn new(limits: WindowLimits) -> Window {
        assert!(limits.initial >= 1 && limits.max >= limits.initial, "a window is at least 1 wide");
        Window {
            limits,
            size: limits.initial,
            credit: 0.0,
            cohort: 0.0,
            probe: 1,
            unproved: 0,
            slow_start: true,
            dead_until: None,
            suspended: None,
            cap: None,
            spells: 0,
        }
    }

    /// How many may run at once.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Until when nothing may be sent there.
    pub fn dead_until(&self) -> Option<Instant> {
        self.dead_until.max(self.suspended)
    }

    /// No more than so many until then.
    pub fn capped(&self) -> Option<(u32, Instant)> {
        self.cap
    }

    /// Until when something learned is worth keeping.
    pub fn keep_until(&self) -> Option<Instant> {
        self.dead_until().max(self.cap.map(|(_, until)| until))
    }

    /// Whether nothing has been learned that is worth keeping.
    pub fn is_new(&self) -> bool {
        self.keep_until().is_none() && self.spells == 0
    }

    /// Other bounds, from now on.
    pub fn set_limits(&mut self, limits: WindowLimits) {
        self.limits = limits;
        self.size = self.size.min(limits.max);
    }

    /// Whether one more may start beside `running`.
    pub fn gate(&self, running: u32, now: Instant) -> Gate {
        if let Some(until) = self.suspended.filter(|until| now < *until) {
            return Gate::Dead(until.max(self.dead_until.unwrap_or(until)));
        }
        if let Some((_, until)) = self.cap.filter(|(max, until)| now < *until && running >= *max) {
            return Gate::Capped(until);
        }
        match self.dead_until {
            Some(until) if now < until => Gate::Dead(until),
            // The spell is over: one probe decides.
            Some(_) if running > 0 => Gate::Full,
            None if running >= self.size => Gate::Full,
            _ => Gate::Open,
        }
    }

    /// The destination talked to us.
    pub fn on_success(&mut self) {
        if self.dead_until.is_some() {
            *self = Window { suspended: self.suspended, cap: self.cap, ..Window::new(self.limits) };
        }
        self.spells = 0;
        self.cohort = 0.0;
        if self.unproved > 0 {
            self.unproved -= 1;
            if self.unproved == 0 {
                self.probe = (self.probe / 2).max(1);
            }
        }
        self.credit += if self.slow_start { 1.0 } else { 1.0 / (self.size * self.probe) as f32 };
        if self.credit + FUDGE >= 1.0 && self.size < self.limits.max {
            self.credit = 0.0;
            self.size += 1;
            self.unproved = if self.slow_start { 0 } else { self.size };
        }
    }

    /// No connection, greeting or TLS. Says until when the destination is dead, if it is dead by this.
    pub fn on_failure(&mut self, now: Instant) -> Option<Instant> {
        let probe = self.dead_until.is_some_and(|until| now >= until);
        if self.dead_until.is_some() && !probe {
            return None; // A straggler of the cohort that was found dead.
        }
        self.slow_start = false;
        self.credit = 0.0;
        self.cohort += 1.0 / self.size as f32;
        if probe || self.cohort + FUDGE >= 1.0 {
            return Some(self.die(now));
        }
        if self.unproved > 0 {
            self.probe = (self.probe * 2).min(PROBE_MAX);
            self.unproved = 0;
        }
        self.size = (self.size - 1).max(1);
        None
    }

    /// Nothing is sent there before `until`: a rule or an operator says so. `None` takes it back.
    pub fn suspend(&mut self, until: Option<Instant>) {
        self.suspended = until;
    }

    /// A dead destination gets its probe at once: somebody says that it is well again. A suspension stays.
    pub fn probe_now(&mut self, now: Instant) {
        self.dead_until = self.dead_until.map(|until| until.min(now));
    }

    /// No more than `max` at once before `until`.
    pub fn cap(&mut self, max: u32, until: Instant) {
        self.cap = Some((max.max(1), until));
    }

    fn die(&mut self, now: Instant) -> Instant {
        let spell = self.limits.dead_first.saturating_mul(1 << self.spells.min(16)).min(self.limits.dead_max);
        let until = now + spell;
        let spells = self.spells + 1;
        let (suspended, cap) = (self.suspended, self.cap);
        *self =
            Window { dead_until: Some(until), suspended, cap, spells, slow_start: false, ..Window::new(self.limits) };
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> (Window, Instant) {
        (Window::new(WindowLimits::default()), Instant::now())
    }

    #[test]
    fn the_window_opens_by_one_a_success_until_the_first_failure() {
        let (mut w, now) = window();
        (0..4).for_each(|_| w.on_success());
        assert_eq!(w.size(), 9);
        assert_eq!(w.on_failure(now), None);
        assert_eq!(w.size(), 8);
        (0..7).for_each(|_| w.on_success());
        assert_eq!(w.size(), 8, "a window's worth of successes opens it by one");
        w.on_success();
        assert_eq!(w.size(), 9);
        (0..1000).for_each(|_| w.on_success());
        assert_eq!(w.size(), 20);
    }

    #[test]
    fn a_failed_cohort_is_death_and_a_success_in_between_is_not() {
        let (mut w, now) = window();
        assert!((0..3).all(|_| w.on_failure(now).is_none()));
        w.on_success();
        assert_eq!(w.size(), 2);
        assert_eq!(w.on_failure(now), None);
        assert_eq!(w.on_failure(now), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn the_dead_get_one_probe_and_longer_spells() {
        let (mut w, mut now) = window();
        let mut until = (0..5).find_map(|_| w.on_failure(now)).unwrap();
        for seconds in [120, 240, 480, 960, 1800, 1800] {
            assert_eq!(w.gate(0, now), Gate::Dead(until));
            assert_eq!(w.on_failure(now), None, "stragglers do not count");
            now = until;
            assert_eq!(w.gate(0, now), Gate::Open);
            assert_eq!(w.gate(1, now), Gate::Full);
            until = w.on_failure(now).unwrap();
            assert_eq!(until - now, Duration::from_secs(seconds));
        }
        w.on_success();
        assert!(w.is_new());
        assert_eq!((w.gate(5, now), w.size()), (Gate::Open, 6));
    }

    #[test]
    fn a_suspension_outlasts_the_successes_of_what_was_under_way() {
        let (mut w, now) = window();
        let until = now + Duration::from_secs(7200);
        w.suspend(Some(until));
        w.on_success();
        assert_eq!(w.gate(0, now), Gate::Dead(until));
        assert_eq!(w.gate(3, until), Gate::Open, "and no probe is needed then");
        w.suspend(None);
        assert_eq!(w.gate(0, now), Gate::Open);
    }

    #[test]
    fn a_cap_holds_until_its_time_whatever_the_window_says() {
        let (mut w, now) = window();
        let until = now + Duration::from_secs(3600);
        w.cap(1, until);
        (0..50).for_each(|_| w.on_success());
        assert_eq!((w.gate(0, now), w.gate(1, now)), (Gate::Open, Gate::Capped(until)));
        assert_eq!(w.gate(15, until), Gate::Open);
    }

    #[test]
    fn a_window_of_one_dies_at_once() {
        let mut w = Window::new(WindowLimits { initial: 1, max: 1, ..WindowLimits::default() });
        assert_eq!(w.gate(1, Instant::now()), Gate::Full);
        assert!(w.on_failure(Instant::now()).is_some());
    }
}
