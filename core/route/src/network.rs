//! Sets of CIDR blocks: who may relay, who may say PROXY or XCLIENT.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ahash::HashMap;
use ipnet::IpNet;

/// A set of addresses, kept as sorted ranges that do not touch: a look-up is one binary search. IPv4-mapped IPv6 addresses count as IPv4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    /// Reads blocks (`192.0.2.0/24`, `2001:db8::/32`) and single addresses. All mistakes are told at once. A block with bits set behind
    /// its prefix is a mistake, since nobody can tell whether the address or the length is the typing error.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Networks, Vec<String>> {
        let mut networks = Networks::default();
        let mut mistakes = Vec::new();
        for text in texts {
            match parse_block(text.trim()) {
                Ok(block) => networks.add(block),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        networks.v4 = merged(networks.v4);
        networks.v6 = merged(networks.v6);
        if mistakes.is_empty() { Ok(networks) } else { Err(mistakes) }
    }

    /// The loopback networks of both families.
    pub fn loopback() -> Networks {
        Networks::parse(["127.0.0.0/8", "::1"]).expect("both are valid blocks")
    }

    /// Whether an address is in the set.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => within(&self.v4, u32::from(v4)),
            IpAddr::V6(v6) => within(&self.v6, u128::from(v6)),
        }
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn add(&mut self, block: IpNet) {
        match block {
            IpNet::V4(net) => self.v4.push((u32::from(net.network()), u32::from(net.broadcast()))),
            IpNet::V6(net) => self.v6.push((u128::from(net.network()), u128::from(net.broadcast()))),
        }
    }
}

/// Reads a block or a single address.
pub(crate) fn parse_block(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = IpAddr::from_str(text) {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let block = IpNet::from_str(text)
        .map_err(|_| format!("{text:?} is no network: write 192.0.2.0/24, 2001:db8::/32 or one address"))?;
    if block.addr() != block.network() {
        return Err(format!("{text:?} has bits set behind its prefix: did you mean {}?", block.trunc()));
    }
    Ok(unmapped(block))
}

/// `::ffff:192.0.2.0/120` is 192.0.2.0/24.
fn unmapped(block: IpNet) -> IpNet {
    let IpNet::V6(net) = block else { return block };
    match (net.addr().to_ipv4_mapped(), net.prefix_len().checked_sub(96)) {
        (Some(v4), Some(prefix)) => IpNet::new(IpAddr::V4(v4), prefix).expect("128 - 96 is the longest prefix of IPv4"),
        _ => block,
    }
}

/// Ranges of integers of one family.
trait Bits: Copy + Ord {
    fn next(self) -> Option<Self>;
}

impl Bits for u32 {
    fn next(self) -> Option<u32> {
        self.checked_add(1)
    }
}

impl Bits for u128 {
    fn next(self) -> Option<u128> {
        self.checked_add(1)
    }
}

/// Sorts, and joins what overlaps or touches.
fn merged<T: Bits>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut out: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(open) if open.1.next().is_none_or(|next| first <= next) => open.1 = open.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

fn within<T: Bits>(ranges: &[(T, T)], value: T) -> bool {
    let behind = ranges.partition_point(|range| range.0 <= value);
    behind > 0 && value <= ranges[behind - 1].1
}

/// The block that a table's key is, if it is one. What looks like a network must be one.
pub(crate) fn key_block(key: &str) -> Result<Option<IpNet>, String> {
    let front = key.split_once('/').map_or(key, |(front, _)| front);
    let bare = front.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(front);
    if bare.parse::<IpAddr>().is_err() {
        return Ok(None);
    }
    parse_block(&key.replace(['[', ']'], "")).map(Some)
}

/// Values by network: a look-up costs one hash for each prefix length in use. IPv4-mapped IPv6 addresses count as IPv4.
#[derive(Clone, Debug)]
pub(crate) struct Prefixes<T> {
    /// By family (`true` is IPv6) and length, the longest first.
    by_length: Vec<(bool, u8, HashMap<u128, T>)>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Prefixes<T> {
        Prefixes { by_length: Vec::new() }
    }
}

impl<T> Prefixes<T> {
    /// Sets a value; the first for a network stays.
    pub(crate) fn insert(&mut self, block: IpNet, value: T) {
        let (v6, length) = (block.addr().is_ipv6(), block.prefix_len());
        let at = self.by_length.iter().position(|(family, of, _)| (*family, *of) == (v6, length));
        let at = at.unwrap_or_else(|| {
            let at = self.by_length.partition_point(|(_, of, _)| *of > length);
            self.by_length.insert(at, (v6, length, HashMap::default()));
            at
        });
        self.by_length[at].2.entry(bits(block.network())).or_insert(value);
    }

    /// The values of all networks that hold the address, the most specific first.
    pub(crate) fn all(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let address = address.to_canonical();
        let width: u8 = if address.is_ipv4() { 32 } else { 128 };
        let family = self.by_length.iter().filter(move |(v6, ..)| *v6 == address.is_ipv6());
        family.filter_map(move |(_, length, rows)| rows.get(&(bits(address) & !low_bits(width - length))))
    }

    /// The value of the most specific network that holds the address.
    pub(crate) fn find(&self, address: IpAddr) -> Option<&T> {
        self.all(address).next()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_length.is_empty()
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The lowest `count` bits.
fn low_bits(count: u8) -> u128 {
    1u128.checked_shl(u32::from(count)).map_or(u128::MAX, |bit| bit - 1)
}

/// The name under which an address is asked for in DNS lists and for PTR, without the zone: `2.0.0.127`, or 32 nibbles (RFC 5782 §2).
pub fn reversed(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => reversed_v4(v4),
        IpAddr::V6(v6) => reversed_v6(v6),
    }
}

fn reversed_v4(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}")
}

fn reversed_v6(address: Ipv6Addr) -> String {
    let mut text = String::with_capacity(63);
    for octet in address.octets().iter().rev() {
        for nibble in [octet & 0xf, octet >> 4] {
            if !text.is_empty() {
                text.push('.');
            }
            text.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is a hex digit"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn blocks_hold_their_first_and_last_address_and_no_more() {
        let set = Networks::parse(["192.0.2.0/25", "192.0.2.128/25", "198.51.100.7", "2001:db8::/32"]).expect("valid");
        for inside in ["192.0.2.0", "192.0.2.255", "198.51.100.7", "2001:db8::", "2001:db8:ffff::1", "::ffff:192.0.2.9"]
        {
            assert!(set.contains(ip(inside)), "{inside}");
        }
        for outside in ["192.0.1.255", "192.0.3.0", "198.51.100.6", "198.51.100.8", "2001:db9::", "::1"] {
            assert!(!set.contains(ip(outside)), "{outside}");
        }
        assert_eq!(set.v4.len(), 2, "touching blocks became one range");
    }

    #[test]
    fn everything_is_a_network_too() {
        let set = Networks::parse(["0.0.0.0/0", "10.0.0.0/8", "::/0"]).expect("valid");
        assert!(set.contains(ip("255.255.255.255")) && set.contains(ip("ffff::")));
        assert!(Networks::default().is_empty() && !Networks::default().contains(ip("127.0.0.1")));
    }

    #[test]
    fn all_mistakes_are_told_with_their_remedy() {
        let mistakes = Networks::parse(["192.0.2.1/24", "example.com", "10.0.0.0/33"]).expect_err("three mistakes");
        assert_eq!(mistakes.len(), 3);
        assert!(mistakes[0].contains("did you mean 192.0.2.0/24"), "{}", mistakes[0]);
    }

    #[test]
    fn mapped_blocks_are_blocks_of_ipv4() {
        let set = Networks::parse(["::ffff:192.0.2.0/120"]).expect("valid");
        assert!(set.contains(ip("192.0.2.200")) && !set.contains(ip("192.0.3.1")));
    }

    #[test]
    fn reversed_names_follow_rfc_5782() {
        assert_eq!(reversed(ip("127.0.0.2")), "2.0.0.127");
        assert_eq!(reversed(ip("::ffff:127.0.0.2")), "2.0.0.127");
        assert_eq!(
            reversed(ip("2001:db8:1:2:3:4:567:89ab")),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2"
        );
    }
}
