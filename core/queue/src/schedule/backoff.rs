//! When again: exponential backoff with jitter, from the attempts counted on disk.
//!
//! RFC 5321 §4.5.4.1 asks for at least 30 minutes between attempts "in general" and for better strategies where a reason is known; the first
//! retries come sooner because greylisting is the commonest reason (first retry after 5 to 15 minutes). The jitter keeps a million
//! messages that were deferred together from coming back together.

use std::time::Duration;

use waypost_types::Timestamp;

/// The retry schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// No pause is longer, jitter aside. Each is twice the one before it.
    pub max: Duration,
    /// Up to this many hundredths of a pause are added to it.
    pub jitter_percent: u32,
}

impl Default for Backoff {
    /// 5 minutes, 10, 20, … 4 hours; each up to a quarter longer.
    fn default() -> Backoff {
        Backoff { first: Duration::from_secs(300), max: Duration::from_secs(4 * 3600), jitter_percent: 25 }
    }
}

impl Backoff {
    /// The pause after `attempts` attempts (at least 1); `random` is any 64 random bits.
    pub fn pause(&self, attempts: u32, random: u64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let base = self.first.saturating_mul(1 << doublings).min(self.max);
        base.saturating_add(jitter(base, self.jitter_percent, random))
    }

    /// When to try again: not past `expires`, where the last attempt is made. `None` once that has come: the recipient fails (4.4.7).
    pub fn next(&self, now: Timestamp, expires: Timestamp, attempts: u32, random: u64) -> Option<Timestamp> {
        (now < expires).then(|| now.after(self.pause(attempts, random)).min(expires))
    }
}

/// A random part of `span`, at most `percent` hundredths of it.
pub fn jitter(span: Duration, percent: u32, random: u64) -> Duration {
    let most = span.as_millis() * u128::from(percent) / 100;
    let part = (most * u128::from(random)) >> 64;
    Duration::from_millis(u64::try_from(part).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff::default();
        let pauses: Vec<_> = (1..8).map(|n| backoff.pause(n, 0).as_secs() / MINUTE).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 240]);
        assert_eq!(backoff.pause(u32::MAX, 0), backoff.max);
        assert_eq!(backoff.pause(0, 0), backoff.first);
    }

    #[test]
    fn jitter_only_adds_and_stays_below_a_quarter() {
        let backoff = Backoff::default();
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            let pause = backoff.pause(1, random).as_secs();
            assert!((5 * MINUTE..15 * MINUTE).contains(&pause), "greylisting wants 5 to 15 minutes, not {pause} s");
            assert!(pause <= 375);
        }
        assert_eq!(backoff.pause(1, u64::MAX / 2 + 1).as_millis(), 337_500);
    }

    #[test]
    fn the_last_attempt_is_made_at_expiry() {
        let backoff = Backoff::default();
        let now = Timestamp(1_000_000);
        let soon = now.after(Duration::from_secs(60));
        assert_eq!(backoff.next(now, soon, 3, 0), Some(soon));
        assert_eq!(backoff.next(soon, soon, 4, 0), None);
        assert_eq!(backoff.next(now, Timestamp::NEVER, 1, 0), Some(now.after(backoff.first)));
    }
}
