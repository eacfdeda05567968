//! How many sessions a door holds: in all, and from one address. IPv4 addresses are counted one by one, IPv6 by /64, the smallest
//! network that a site is given (RFC 6177): a host can have a fresh address in it for every connection.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use ahash::AHashMap;

/// What an address is counted under.
pub(crate) fn prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Counts the sessions of one door.
#[derive(Default)]
pub(crate) struct Admission {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_prefix: AHashMap<IpAddr, u32>,
}

/// Which limit keeps a client out, by its name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Door,
    Address,
}

impl Full {
    pub(crate) fn limit(self) -> &'static str {
        match self {
            Full::Door => "sessions_max",
            Full::Address => "sessions_per_address_max",
        }
    }
}

impl Admission {
    /// Lets a client in, if neither limit is reached. It counts until the place is dropped.
    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr, total_max: usize, address_max: u32) -> Result<Place, Full> {
        let prefix = prefix(peer);
        let mut counts = self.counts.lock().expect("no panic under this lock");
        if counts.total >= total_max {
            return Err(Full::Door);
        }
        let count = counts.by_prefix.entry(prefix).or_default();
        if *count >= address_max {
            return Err(Full::Address);
        }
        *count += 1;
        counts.total += 1;
        Ok(Place { admission: self.clone(), prefix })
    }

    fn leave(&self, prefix: IpAddr) {
        let mut counts = self.counts.lock().expect("no panic under this lock");
        counts.total -= 1;
        let count = counts.by_prefix.get_mut(&prefix).expect("whoever leaves has entered");
        *count -= 1;
        if *count == 0 {
            counts.by_prefix.remove(&prefix);
        }
    }
}

/// A client's place at a door.
pub(crate) struct Place {
    admission: Arc<Admission>,
    prefix: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.leave(self.prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let admission = Arc::new(Admission::default());
        let _first = admission.enter(ip("2001:db8::1"), 10, 2).map_err(|_| ()).expect("first");
        let second = admission.enter(ip("2001:db8::ffff:2"), 10, 2).map_err(|_| ()).expect("second");
        assert_eq!(admission.enter(ip("2001:db8::3"), 10, 2).err(), Some(Full::Address));
        let _other = admission.enter(ip("2001:db8:0:1::3"), 10, 2).map_err(|_| ()).expect("another network");
        drop(second);
        assert!(admission.enter(ip("2001:db8::3"), 10, 2).is_ok());
    }

    #[test]
    fn a_full_door_lets_nobody_in_and_forgets_who_left() {
        let admission = Arc::new(Admission::default());
        let first = admission.enter(ip("192.0.2.1"), 1, 9).map_err(|_| ()).expect("first");
        assert_eq!(admission.enter(ip("192.0.2.2"), 1, 9).err(), Some(Full::Door));
        drop(first);
        let counts = admission.counts.lock().expect("lock");
        assert!(counts.total == 0 && counts.by_prefix.is_empty());
    }
}
