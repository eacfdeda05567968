//! Failed logins by address: each costs the client time, and too many in a while cost it the connection before a password is even
//! looked at. Counted as sessions are: IPv4 by address, IPv6 by /64. Users are never locked out: that would be a gift to whoever wants to lock
//! them out.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ahash::AHashMap;

use crate::admission::prefix;

/// Failures are forgotten after this long without another.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Failures within [`MEMORY`] after which an address is not listened to.
const FAILURES_MAX: u32 = 30;
/// The delay grows with every failure up to this.
const DELAY_MAX: Duration = Duration::from_secs(8);
/// Addresses remembered. An attacker with more of them is not slowed by counting.
const ADDRESSES_MAX: usize = 100_000;

/// The counts.
#[derive(Default)]
pub(crate) struct Throttle {
    failures: Mutex<AHashMap<IpAddr, Failures>>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Throttle {
    /// Whether this address may still try.
    pub(crate) fn allows(&self, address: IpAddr, now: Instant) -> bool {
        let failures = self.failures.lock().expect("no panic under this lock");
        failures.get(&prefix(address)).is_none_or(|f| f.count < FAILURES_MAX || now.duration_since(f.last) >= MEMORY)
    }

    /// Counts a failure; how long to wait before it is answered.
    pub(crate) fn fail(&self, address: IpAddr, now: Instant) -> Duration {
        let mut failures = self.failures.lock().expect("no panic under this lock");
        if failures.len() >= ADDRESSES_MAX {
            failures.retain(|_, f| now.duration_since(f.last) < MEMORY);
            if failures.len() >= ADDRESSES_MAX {
                failures.clear();
            }
        }
        let entry = failures.entry(prefix(address)).or_insert(Failures { count: 0, last: now });
        if now.duration_since(entry.last) >= MEMORY {
            entry.count = 0;
        }
        entry.count += 1;
        entry.last = now;
        (Duration::from_secs(1) * entry.count).min(DELAY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_cost_more_and_more_and_are_forgotten() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let (a, same, other) = ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1");
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(throttle.fail(ip(a), now), Duration::from_secs(1));
        assert_eq!(throttle.fail(ip(same), now), Duration::from_secs(2), "one network is one guesser");
        for _ in 2..FAILURES_MAX {
            throttle.fail(ip(a), now);
        }
        assert!(!throttle.allows(ip(same), now) && throttle.allows(ip(other), now));
        assert_eq!(throttle.fail(ip(a), now), DELAY_MAX);
        assert!(throttle.allows(ip(a), now + MEMORY));
        assert_eq!(throttle.fail(ip(a), now + MEMORY), Duration::from_secs(1));
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..=ADDRESSES_MAX as u32 {
            throttle.fail(IpAddr::V4(n.into()), now);
        }
        assert!(throttle.failures.lock().expect("lock").len() <= ADDRESSES_MAX);
    }
}
