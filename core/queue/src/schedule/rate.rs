//! How often: a token bucket told by its next free moment (the "virtual scheduling" form of GCRA), so that it has no timer and no
//! counter to refill.

use std::time::{Duration, Instant};

/// So many in such a time, evenly spaced, with some at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between two starts, on average.
    pub interval: Duration,
    /// How many may start at once after a pause; at least 1.
    pub burst: u32,
}

impl Rate {
    /// `count` per `span`, a tenth of them (at least one) at once.
    pub fn per(count: u32, span: Duration) -> Rate {
        Rate { interval: span / count.max(1), burst: (count / 10).max(1) }
    }
}

/// The use made of a [`Rate`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When the bucket is as it was before anything was taken.
    full: Option<Instant>,
}

impl Bucket {
    /// The earliest moment, `now` or later, at which one may be taken.
    pub fn next(&self, rate: Rate, now: Instant) -> Instant {
        let slack = rate.interval * rate.burst.saturating_sub(1);
        self.full.and_then(|full| full.checked_sub(slack)).map_or(now, |at| at.max(now))
    }

    /// Takes one.
    pub fn take(&mut self, rate: Rate, now: Instant) {
        self.full = Some(self.full.map_or(now, |full| full.max(now)) + rate.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts within `span` when one is taken at each free moment.
    fn taken(rate: Rate, span: Duration) -> Vec<Duration> {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        let mut at = start;
        let mut all = Vec::new();
        loop {
            at = bucket.next(rate, at);
            if at - start > span {
                return all;
            }
            bucket.take(rate, at);
            all.push(at - start);
        }
    }

    #[test]
    fn after_the_burst_starts_are_evenly_spaced() {
        let rate = Rate { interval: Duration::from_millis(100), burst: 3 };
        let millis: Vec<_> = taken(rate, Duration::from_millis(350)).iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [0, 0, 0, 100, 200, 300]);
    }

    #[test]
    fn a_long_run_keeps_the_rate() {
        assert_eq!(taken(Rate::per(600, Duration::from_secs(60)), Duration::from_secs(60)).len(), 600 + 60);
        assert_eq!(Rate::per(0, Duration::from_secs(1)).interval, Duration::from_secs(1));
    }

    #[test]
    fn a_pause_gives_back_no_more_than_the_burst() {
        let rate = Rate { interval: Duration::from_secs(1), burst: 2 };
        let start = Instant::now();
        let mut bucket = Bucket::default();
        bucket.take(rate, start);
        let later = start + Duration::from_secs(3600);
        bucket.take(rate, later);
        bucket.take(rate, later);
        assert_eq!(bucket.next(rate, later), later + Duration::from_secs(1));
    }
}
