//! Tables for plugins, read from text as `postmap` reads it.
//!
//! One row a line: a key and, behind blanks, a value; `#` begins a comment; a line that begins with a blank continues the last.
//! A key that is an address or a network (`192.0.2.0/24`, `2001:db8::/32`) is also found by [`Table::contains`]. The most specific
//! network wins.

use std::collections::HashMap;
use std::net::IpAddr;

use waypost_types::port::Table;

/// A table in memory.
#[derive(Clone, Debug, Default)]
pub struct TextTable {
    rows: HashMap<Box<str>, Box<str>>,
    networks: Networks,
}

impl TextTable {
    /// Reads a table. The first row with a key wins, as with `postmap`. The error names the line.
    pub fn parse(text: &str) -> Result<TextTable, String> {
        let mut table = TextTable::default();
        for (number, row) in logical_lines(text) {
            let (key, value) = row.split_once([' ', '\t']).unwrap_or((&row, ""));
            if let Some((address, bits)) = network(key).map_err(|problem| format!("line {number}: {problem}"))? {
                table.networks.insert(address, bits, value.trim());
            }
            table.rows.entry(key.to_ascii_lowercase().into()).or_insert_with(|| value.trim().into());
        }
        Ok(table)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Table for TextTable {
    fn lookup(&self, key: &str) -> Option<String> {
        let exact = match key.bytes().any(|b| b.is_ascii_uppercase()) {
            true => self.rows.get(key.to_ascii_lowercase().as_str()),
            false => self.rows.get(key),
        };
        let network = || self.networks.find(key.parse::<IpAddr>().ok()?.to_canonical());
        exact.map(|value| &**value).or_else(network).map(str::to_string)
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.networks.find(address.to_canonical()).is_some()
    }
}

/// Rows with the numbers of their first lines, continuations joined.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut rows: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim_end())) {
        if line.trim_start().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        match rows.last_mut().filter(|_| line.starts_with([' ', '\t'])) {
            Some((_, row)) => {
                row.push(' ');
                row.push_str(line.trim_start());
            }
            None => rows.push((number, line.trim_start().to_string())),
        }
    }
    rows
}

/// The network that a key is, if it is one. What looks like a network must be one.
fn network(key: &str) -> Result<Option<(IpAddr, u32)>, String> {
    let (address, bits) = match key.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (key, None),
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let Ok(address) = bare.parse::<IpAddr>() else { return Ok(None) };
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => width,
        Some(bits) => {
            bits.parse().ok().filter(|bits| *bits <= width).ok_or(format!("`{key}` has a wrong prefix length"))?
        }
    };
    if number(address) & !mask(width - bits) != number(address) {
        return Err(format!("`{key}` has bits set behind its prefix"));
    }
    Ok(Some((address, bits)))
}

/// Networks by family and prefix length: a lookup costs one hash for each length in use.
#[derive(Clone, Debug, Default)]
struct Networks {
    by_length: Vec<(bool, u32, HashMap<u128, Box<str>>)>,
}

impl Networks {
    fn insert(&mut self, address: IpAddr, bits: u32, value: &str) {
        let family = address.is_ipv6();
        let at = self.by_length.iter().position(|(v6, length, _)| (*v6, *length) == (family, bits));
        let at = at.unwrap_or_else(|| {
            // Longest first.
            let at = self.by_length.partition_point(|(_, length, _)| *length > bits);
            self.by_length.insert(at, (family, bits, HashMap::new()));
            at
        });
        self.by_length[at].2.entry(number(address)).or_insert_with(|| value.into());
    }

    fn find(&self, address: IpAddr) -> Option<&str> {
        let width = if address.is_ipv4() { 32 } else { 128 };
        let family = self.by_length.iter().filter(|(v6, ..)| *v6 == address.is_ipv6());
        family
            .map(|(_, bits, rows)| rows.get(&(number(address) & !mask(width - bits))))
            .find_map(|row| row.map(|value| &**value))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The lowest `bits` bits.
fn mask(bits: u32) -> u128 {
    1u128.checked_shl(bits).map_or(u128::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# ours\n192.0.2.0/24  permit\n192.0.2.128/25 block\n2001:db8::/32 permit\n\
        10.0.0.1 one\nuser@Example.COM  two\n  words\n::/0 other\n";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn keys_in_any_case_and_values_over_lines() {
        let table = TextTable::parse(TEXT).unwrap();
        assert_eq!(table.lookup("USER@example.com").as_deref(), Some("two words"));
        assert_eq!(table.lookup("nobody@example.com"), None);
        assert_eq!(table.len(), 6);
    }

    #[test]
    fn the_most_specific_network_wins_and_families_do_not_mix() {
        let table = TextTable::parse(TEXT).unwrap();
        assert_eq!(table.lookup("192.0.2.1").as_deref(), Some("permit"));
        assert_eq!(table.lookup("192.0.2.200").as_deref(), Some("block"));
        assert_eq!(table.lookup("2001:db8::1").as_deref(), Some("permit"));
        assert_eq!(table.lookup("2001:db9::1").as_deref(), Some("other"));
        assert_eq!(table.lookup("198.51.100.1"), None);
        assert!(table.contains(address("10.0.0.1")) && !table.contains(address("10.0.0.2")));
        assert!(table.contains(address("::ffff:192.0.2.1")));
    }

    #[test]
    fn a_network_that_is_none_is_told_with_its_line() {
        assert!(TextTable::parse("a b\n192.0.2.1/24 x\n").unwrap_err().starts_with("line 2"));
        assert!(TextTable::parse("192.0.2.0/33 x\n").is_err());
        assert!(TextTable::parse("").unwrap().is_empty());
    }
}
