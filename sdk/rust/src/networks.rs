//! Sets of networks in CIDR notation.

use std::net::IpAddr;

use serde::Deserialize;

/// A set of networks; a lookup costs one binary search per distinct prefix length, whatever the number of entries.
///
/// ```
/// let networks = waypost_sdk::Networks::parse(["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]).unwrap();
/// assert!(networks.contains("192.0.2.9".parse().unwrap()));
/// assert!(!networks.contains("198.51.100.8".parse().unwrap()));
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Networks {
    /// Per prefix length, its networks' first addresses in order.
    four: Vec<(u8, Vec<u32>)>,
    six: Vec<(u8, Vec<u128>)>,
}

impl Networks {
    /// Reads entries such as `192.0.2.0/24`, `2001:db8::/32` or a single address.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Networks, String> {
        let mut networks = Networks::default();
        for entry in entries {
            networks.insert(entry)?;
        }
        networks.four.iter_mut().for_each(|(_, bases)| sort(bases));
        networks.six.iter_mut().for_each(|(_, bases)| sort(bases));
        Ok(networks)
    }

    /// Whether an address is in one of them. IPv4-mapped addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(four) => {
                let bits = u32::from(four);
                self.four.iter().any(|(len, bases)| bases.binary_search(&(bits & mask_four(*len))).is_ok())
            }
            IpAddr::V6(six) => {
                let bits = u128::from(six);
                self.six.iter().any(|(len, bases)| bases.binary_search(&(bits & mask_six(*len))).is_ok())
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.four.is_empty() && self.six.is_empty()
    }

    fn insert(&mut self, entry: &str) -> Result<(), String> {
        let (address, len) = match entry.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (entry, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("`{entry}` is no IP address or network (write 192.0.2.0/24 or 2001:db8::/32)"))?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let len = match len {
            None => bits_max,
            Some(len) => len
                .parse()
                .ok()
                .filter(|len| *len <= bits_max)
                .ok_or_else(|| format!("`{entry}`: the prefix length must be 0 to {bits_max}"))?,
        };
        match address {
            IpAddr::V4(four) => {
                let base = u32::from(four) & mask_four(len);
                host_bits(entry, address, IpAddr::from(base.to_be_bytes()), len)?;
                bucket(&mut self.four, len).push(base);
            }
            IpAddr::V6(six) => {
                let base = u128::from(six) & mask_six(len);
                host_bits(entry, address, IpAddr::from(base.to_be_bytes()), len)?;
                bucket(&mut self.six, len).push(base);
            }
        }
        Ok(())
    }
}

impl TryFrom<Vec<String>> for Networks {
    type Error = String;

    fn try_from(entries: Vec<String>) -> Result<Networks, String> {
        Networks::parse(entries.iter().map(String::as_str))
    }
}

/// Whether an address can only be one of ours: loopback, private (RFC 1918, RFC 4193), link-local, shared (RFC 6598).
/// No public list has an opinion about these.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            let [a, b, ..] = four.octets();
            four.is_loopback()
                || four.is_private()
                || four.is_link_local()
                || four.is_unspecified()
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(six) => {
            let first = six.segments()[0];
            six.is_loopback() || six.is_unspecified() || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
        }
    }
}

/// An entry with bits behind its prefix is a mistake more often than not; say which network was meant.
fn host_bits(entry: &str, address: IpAddr, base: IpAddr, len: u8) -> Result<(), String> {
    if address == base {
        Ok(())
    } else {
        Err(format!("`{entry}` has bits set behind its prefix (write {base}/{len} for the network)"))
    }
}

fn bucket<T>(buckets: &mut Vec<(u8, Vec<T>)>, len: u8) -> &mut Vec<T> {
    let at = buckets.iter().position(|(have, _)| *have == len).unwrap_or_else(|| {
        buckets.push((len, Vec::new()));
        buckets.len() - 1
    });
    &mut buckets[at].1
}

fn sort<T: Ord>(bases: &mut Vec<T>) {
    bases.sort_unstable();
    bases.dedup();
}

fn mask_four(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

fn mask_six(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(entries: &[&str], address: &str) -> bool {
        Networks::parse(entries.iter().copied()).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn networks_hold_what_their_prefix_says() {
        assert!(holds(&["192.0.2.0/24"], "192.0.2.255"));
        assert!(!holds(&["192.0.2.0/24"], "192.0.3.0"));
        assert!(holds(&["10.0.0.0/8", "192.0.2.1"], "192.0.2.1"));
        assert!(holds(&["0.0.0.0/0"], "203.0.113.5"));
        assert!(!holds(&["0.0.0.0/0"], "2001:db8::1"));
        assert!(holds(&["2001:db8::/32"], "2001:db8:ffff::1"));
        assert!(!holds(&["2001:db8::/32"], "2001:db9::1"));
        assert!(holds(&["::/0"], "2001:db9::1"));
        assert!(!holds(&[], "192.0.2.1"));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert!(holds(&["192.0.2.0/24"], "::ffff:192.0.2.7"));
        assert!(!holds(&["::/0"], "::ffff:192.0.2.7"));
    }

    #[test]
    fn mistakes_name_the_remedy() {
        let error = |entry: &str| Networks::parse([entry]).unwrap_err();
        assert_eq!(
            error("192.0.2.1/24"),
            "`192.0.2.1/24` has bits set behind its prefix (write 192.0.2.0/24 for the network)"
        );
        assert_eq!(error("192.0.2.0/33"), "`192.0.2.0/33`: the prefix length must be 0 to 32");
        assert!(error("example.com").contains("is no IP address or network"));
        assert!(error("192.0.2").contains("is no IP address or network"));
        assert!(error("2001:db8::/-1").contains("0 to 128"));
    }

    #[test]
    fn private_space_is_known() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.9.9",
            "169.254.1.1",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "192.0.2.1"] {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }
}
