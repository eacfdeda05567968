//! How many sessions a door holds: in all, and from one network. IPv4 addresses are counted one by one, IPv6 by /64, the smallest
//! network that a site is given (RFC 6177): a host can have a fresh address in it for every connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ahash::AHashMap;

/// How many leading bits of an address name a client. An IPv4 address in IPv6 clothes counts as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Of IPv4.
    pub v4: u8,
    /// Of IPv6.
    pub v6: u8,
}

impl Default for Prefix {
    fn default() -> Prefix {
        Prefix { v4: 32, v6: 64 }
    }
}

impl Prefix {
    /// What an address is counted under.
    pub(crate) fn of(self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.v4.min(32))).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.v6.min(128))).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        }
    }
}

/// What an address is counted under where nothing else is set.
pub(crate) fn prefix(address: IpAddr) -> IpAddr {
    Prefix::default().of(address)
}

/// Counts the sessions of one door.
#[derive(Default)]
pub(crate) struct Admission {
    counts: Mutex<AHashMap<IpAddr, u32>>,
    total: AtomicUsize,
}

/// Which limit keeps a client out, by its name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Door,
    Address,
    Rate,
}

impl Full {
    pub(crate) fn limit(self) -> &'static str {
        match self {
            Full::Door => "sessions_max",
            Full::Address => "sessions_per_address_max",
            Full::Rate => "connections_per_minute",
        }
    }
}

impl Admission {
    /// Lets a client in, if neither limit is reached. It counts until the place is dropped.
    pub(crate) fn enter(self: &Arc<Self>, client: IpAddr, total_max: usize, address_max: u32) -> Result<Place, Full> {
        let mut counts = self.counts.lock().expect("no panic under this lock");
        if self.total() >= total_max {
            return Err(Full::Door);
        }
        count_in(&mut counts, client, address_max)?;
        self.total.fetch_add(1, Ordering::Relaxed);
        Ok(Place { admission: self.clone(), client })
    }

    /// Sessions at this door.
    pub(crate) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

fn count_in(counts: &mut AHashMap<IpAddr, u32>, client: IpAddr, max: u32) -> Result<(), Full> {
    let count = counts.entry(client).or_default();
    if *count >= max {
        return Err(Full::Address);
    }
    *count += 1;
    Ok(())
}

fn count_out(counts: &mut AHashMap<IpAddr, u32>, client: IpAddr) {
    let count = counts.get_mut(&client).expect("whoever leaves has entered");
    *count -= 1;
    if *count == 0 {
        counts.remove(&client);
    }
}

/// A client's place at a door.
pub(crate) struct Place {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Place {
    /// The client behind a balancer has become known: it counts under its own network from now on.
    pub(crate) fn move_to(&mut self, client: IpAddr, address_max: u32) -> Result<(), Full> {
        let mut counts = self.admission.counts.lock().expect("no panic under this lock");
        count_in(&mut counts, client, address_max)?;
        count_out(&mut counts, self.client);
        self.client = client;
        Ok(())
    }

    /// Sessions at this door.
    pub(crate) fn total(&self) -> usize {
        self.admission.total()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.admission.counts.lock().expect("no panic under this lock");
        count_out(&mut counts, self.client);
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn enter(admission: &Arc<Admission>, text: &str, total_max: usize, max: u32) -> Result<Place, Full> {
        admission.enter(prefix(ip(text)), total_max, max)
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let admission = Arc::new(Admission::default());
        let _first = enter(&admission, "2001:db8::1", 10, 2).map_err(|_| ()).expect("first");
        let second = enter(&admission, "2001:db8::ffff:2", 10, 2).map_err(|_| ()).expect("second");
        assert_eq!(enter(&admission, "2001:db8::3", 10, 2).err(), Some(Full::Address));
        let _other = enter(&admission, "2001:db8:0:1::3", 10, 2).map_err(|_| ()).expect("another network");
        drop(second);
        assert!(enter(&admission, "2001:db8::3", 10, 2).is_ok());
    }

    #[test]
    fn a_full_door_lets_nobody_in_and_forgets_who_left() {
        let admission = Arc::new(Admission::default());
        let first = enter(&admission, "192.0.2.1", 1, 9).map_err(|_| ()).expect("first");
        assert_eq!(enter(&admission, "192.0.2.2", 1, 9).err(), Some(Full::Door));
        drop(first);
        assert!(admission.total() == 0 && admission.counts.lock().expect("lock").is_empty());
    }

    #[test]
    fn who_is_behind_a_balancer_counts_for_himself() {
        let admission = Arc::new(Admission::default());
        let mut first = enter(&admission, "10.0.0.1", 9, u32::MAX).map_err(|_| ()).expect("first");
        let mut second = enter(&admission, "10.0.0.1", 9, u32::MAX).map_err(|_| ()).expect("second");
        assert_eq!(first.move_to(ip("192.0.2.1"), 1), Ok(()));
        assert_eq!(second.move_to(ip("192.0.2.1"), 1), Err(Full::Address));
        drop(first);
        assert_eq!(second.move_to(ip("192.0.2.1"), 1), Ok(()));
        drop(second);
        assert!(admission.total() == 0 && admission.counts.lock().expect("lock").is_empty());
    }

    #[test]
    fn prefixes_are_cut_as_they_are_set() {
        let of = |v4, v6, text: &str| Prefix { v4, v6 }.of(ip(text)).to_string();
        assert_eq!(of(32, 64, "192.0.2.77"), "192.0.2.77");
        assert_eq!(of(24, 64, "192.0.2.77"), "192.0.2.0");
        assert_eq!(of(24, 64, "::ffff:192.0.2.77"), "192.0.2.0");
        assert_eq!(of(0, 0, "192.0.2.77"), "0.0.0.0");
        assert_eq!(of(32, 56, "2001:db8:1:2ff:3::4"), "2001:db8:1:200::");
        assert_eq!(of(32, 128, "2001:db8::1"), "2001:db8::1");
        assert_eq!(of(32, 0, "2001:db8::1"), "::");
    }
}
