//! How fast, when a receiver says "slower": a rate that is found by trying, after TCP's congestion control (additive increase,
//! multiplicative decrease; Chiu and Jain 1989).
//!
//! Nothing is limited until somebody asks for it. The first request halves the rate at which jobs have been starting, each further one halves it again, but
//! requests that come close together are one: what is on its way was started before we slowed down. When the receiver has been quiet for the
//! time that the request named, the rate rises step by step, a twentieth of what it once was at a time. At twice that the limit is not felt any more, and is
//! forgotten.

use std::time::{Duration, Instant};

/// The pace of one destination.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    last: Option<Instant>,
    /// The mean time between starts, over the last eight or so.
    mean: Option<Duration>,
    slowed: Option<Slowed>,
}

#[derive(Clone, Copy, Debug)]
struct Slowed {
    /// Between two starts now.
    interval: Duration,
    /// Between two starts before anybody complained.
    normal: Duration,
    /// The last cut or rise.
    changed: Instant,
    /// How long it must be quiet before the first rise; the rises take a twentieth of it each.
    hold: Duration,
    rising: bool,
}

/// No destination is slowed beyond one start in so much time: it would never be asked whether it has changed its mind.
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// A rate is not thought to be higher than one start in this.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// A pause says nothing about the rate.
const GAP_MAX: Duration = Duration::from_secs(10);
/// Cuts within this, or within four starts, are one.
const ONE_CUT: Duration = Duration::from_secs(1);
/// Steps from nothing to the rate as it was.
const STEPS: u32 = 20;

impl Pace {
    /// The earliest moment, `now` or later, for the next start.
    pub fn next(&self, now: Instant) -> Instant {
        let earliest = self.slowed.zip(self.last).map(|(slowed, last)| last + slowed.interval);
        earliest.map_or(now, |earliest| earliest.max(now))
    }

    /// Time between two starts, while it is limited.
    pub fn interval(&self) -> Option<Duration> {
        self.slowed.map(|slowed| slowed.interval)
    }

    /// Until when it is worth remembering although nothing starts.
    pub fn keep_until(&self) -> Option<Instant> {
        self.slowed.map(|slowed| slowed.changed + slowed.hold * 2)
    }

    /// A job starts.
    pub fn on_start(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let gap = now.saturating_duration_since(last).min(GAP_MAX);
            self.mean = Some(self.mean.map_or(gap, |mean| (mean * 7 + gap) / 8));
        }
    }

    /// The receiver asks for less, and to be left in peace with more for `hold`.
    pub fn slow(&mut self, now: Instant, hold: Duration) {
        let Some(slowed) = &mut self.slowed else {
            let normal = self.mean.unwrap_or(ONE_CUT).max(INTERVAL_MIN);
            let interval = (normal * 2).min(INTERVAL_MAX);
            self.slowed = Some(Slowed { interval, normal, changed: now, hold, rising: false });
            return;
        };
        let since = now.saturating_duration_since(slowed.changed);
        if !slowed.rising && since < ONE_CUT.max((slowed.interval * 4).min(slowed.hold)) {
            return;
        }
        slowed.interval = (slowed.interval * 2).min(INTERVAL_MAX);
        (slowed.changed, slowed.hold, slowed.rising) = (now, hold, false);
    }

    /// The receiver has taken something.
    pub fn on_success(&mut self, now: Instant) {
        let Some(slowed) = &mut self.slowed else { return };
        let wait = if slowed.rising { slowed.hold / STEPS } else { slowed.hold };
        if now.saturating_duration_since(slowed.changed) < wait {
            return;
        }
        let rate = 1.0 / slowed.interval.as_secs_f64() + 1.0 / (slowed.normal * STEPS).as_secs_f64();
        slowed.interval = Duration::from_secs_f64(1.0 / rate);
        (slowed.changed, slowed.rising) = (now, true);
        if slowed.interval * 2 <= slowed.normal {
            self.slowed = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts whenever it may for `span`, at most every 10 ms, at a receiver that takes `limit` in each second and answers 421 to the rest. Gives
    /// what was taken and what was refused.
    fn run(pace: &mut Pace, now: &mut Instant, span: Duration, limit: Option<u32>, hold: Duration) -> (u32, u32) {
        let (end, begun) = (*now + span, *now);
        let (mut second, mut used) = (0, 0);
        let (mut taken, mut refused) = (0, 0);
        while *now < end {
            pace.on_start(*now);
            let this = now.duration_since(begun).as_secs();
            if this != second {
                (second, used) = (this, 0);
            }
            used += 1;
            if limit.is_none_or(|limit| used <= limit) {
                taken += 1;
                pace.on_success(*now);
            } else {
                refused += 1;
                pace.slow(*now, hold);
            }
            *now = pace.next(*now + Duration::from_millis(10));
        }
        (taken, refused)
    }

    const HOLD: Duration = Duration::from_secs(20);

    #[test]
    fn it_finds_the_limit_and_keeps_near_it() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        run(&mut pace, &mut now, Duration::from_secs(30), Some(20), HOLD);
        let (taken, refused) = run(&mut pace, &mut now, Duration::from_secs(1200), Some(20), HOLD);
        assert!(taken > 1200 * 20 / 2, "{taken} taken of {} possible", 1200 * 20);
        assert!(refused * 50 < taken, "{refused} refused, {taken} taken");
    }

    #[test]
    fn it_comes_back_when_the_receiver_has_changed_its_mind() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        run(&mut pace, &mut now, Duration::from_secs(60), Some(5), HOLD);
        assert!(pace.interval().is_some_and(|interval| interval >= Duration::from_millis(100)));
        run(&mut pace, &mut now, Duration::from_secs(120), None, HOLD);
        assert_eq!(pace.interval(), None, "as fast as at first");
    }

    #[test]
    fn complaints_about_what_was_under_way_are_one() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        (0..10).for_each(|n| pace.on_start(start + Duration::from_millis(100 * n)));
        let now = start + Duration::from_secs(1);
        (0..50).for_each(|n| pace.slow(now + Duration::from_millis(n), HOLD));
        assert_eq!(pace.interval(), Some(Duration::from_millis(200)));
        pace.slow(now + Duration::from_secs(2), HOLD);
        assert_eq!(pace.interval(), Some(Duration::from_millis(400)));
        (0..20).for_each(|n| pace.slow(now + Duration::from_secs(1000 * (n + 1)), HOLD));
        assert_eq!(pace.interval(), Some(INTERVAL_MAX), "never stopped altogether");
    }
}
