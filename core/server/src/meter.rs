//! How much a client may do in a while: connections, messages and recipients in a minute, each counted under its network.
//!
//! One moment per network is kept: when it would have done everything at an even pace. Whoever is a minute ahead of that waits (the
//! generic cell rate algorithm): a full minute's worth may come at once, and then as fast as the minute allows.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ahash::AHashMap;

/// What the limits are counted over.
const SPAN: Duration = Duration::from_secs(60);
/// Networks remembered. An attacker with more of them is not slowed by counting.
const NETWORKS_MAX: usize = 100_000;

/// Counts one kind of thing.
#[derive(Default)]
pub(crate) struct Meter {
    even: Mutex<AHashMap<IpAddr, Instant>>,
}

impl Meter {
    /// Counts one more of `network` and says whether it is within `per_minute`; zero is no limit. What is refused is not counted.
    pub(crate) fn allows(&self, network: IpAddr, per_minute: u32, now: Instant) -> bool {
        if per_minute == 0 {
            return true;
        }
        let step = SPAN / per_minute;
        let mut even = self.even.lock().expect("no panic under this lock");
        let at = even.get(&network).copied().unwrap_or(now).max(now);
        if at.duration_since(now) > SPAN - step {
            return false;
        }
        if even.len() >= NETWORKS_MAX {
            even.retain(|_, at| *at > now);
            if even.len() >= NETWORKS_MAX {
                even.clear();
            }
        }
        even.insert(network, at + step);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_at_an_even_pace() {
        let (meter, now) = (Meter::default(), Instant::now());
        let ip: IpAddr = "192.0.2.1".parse().expect("an address");
        let allowed = |after: u64| meter.allows(ip, 6, now + Duration::from_secs(after));
        assert_eq!((0..10).filter(|_| allowed(0)).count(), 6);
        assert!(!allowed(9) && allowed(10) && !allowed(11) && allowed(20));
        assert!(meter.allows("192.0.2.2".parse().expect("an address"), 6, now), "others are not concerned");
        assert!((0..100).all(|_| meter.allows(ip, 0, now)), "no limit");
        assert_eq!((0..10).filter(|_| allowed(1000)).count(), 6, "forgotten");
    }
}
