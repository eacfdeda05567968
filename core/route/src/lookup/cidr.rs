//! Postfix's cidr_table(5): networks in the order in which they are written; the first that holds the address gives the value.
//!
//! ```text
//! 192.0.2.0/28      REJECT
//! !10.0.0.0/8       not ours
//! if 2001:db8::/32
//! 2001:db8::1       OK
//! endif
//! ```
//!
//! Rows without `!` and outside of `if` are found by their prefix, so that a long list costs one look-up for each prefix length in use.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use waypost_types::Soon;
use waypost_types::port::{Found, Table, TableError};

use super::Blocks;
use crate::network::{Prefixes, parse_block};
use crate::table::{Mistake, logical_lines};

/// Networks in order. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CidrTable {
    rows: Arc<Rows>,
}

#[derive(Debug)]
struct Rows {
    values: Vec<Box<str>>,
    /// Places in `values` of rows that are nothing but a network.
    plain: Prefixes<usize>,
    /// The other rows, in order: place, pattern, block around it.
    special: Vec<(usize, Pattern, Option<usize>)>,
    blocks: Blocks<Pattern>,
}

/// `192.0.2.0/24` or `!192.0.2.0/24`.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    block: IpNet,
    negated: bool,
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, String> {
        let (negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest.trim_start()));
        let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let block = match bare {
            Some((address, length)) => parse_block(&format!("{address}{length}"))?,
            None => parse_block(text)?,
        };
        Ok(Pattern { block, negated })
    }

    /// A negated pattern speaks of its own family only: `!10.0.0.0/8` says nothing about IPv6.
    fn matches(&self, address: IpAddr) -> bool {
        let same_family = self.block.addr().is_ipv4() == address.is_ipv4();
        same_family && (self.block.contains(&address) != self.negated)
    }
}

impl CidrTable {
    /// Reads a table; on mistakes tells them all.
    pub fn parse(text: &str) -> Result<CidrTable, Vec<Mistake>> {
        let mut rows =
            Rows { values: Vec::new(), plain: Prefixes::default(), special: Vec::new(), blocks: Blocks::new() };
        let mut mistakes = Vec::new();
        for (line, row) in logical_lines(text) {
            if let Err(text) = rows.read(line, &row) {
                mistakes.push(Mistake { line, text });
            }
        }
        mistakes.extend(rows.blocks.unclosed());
        if mistakes.is_empty() { Ok(CidrTable { rows: Arc::new(rows) }) } else { Err(mistakes) }
    }

    /// The value for an address.
    pub fn find(&self, address: IpAddr) -> Option<&str> {
        let rows = &*self.rows;
        let address = address.to_canonical();
        let plain = rows.plain.all(address).copied().min();
        let earlier = rows.special.iter().take_while(|(place, ..)| plain.is_none_or(|plain| *place < plain));
        let special = earlier
            .filter(|(_, pattern, _)| pattern.matches(address))
            .find(|(_, _, block)| rows.blocks.hold(*block, &mut |pattern| pattern.matches(address)));
        let place = special.map(|(place, ..)| *place).or(plain)?;
        Some(&rows.values[place])
    }
}

impl Rows {
    fn read(&mut self, line: u32, row: &str) -> Result<(), String> {
        let (head, rest) = row.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((row, ""));
        let rest = rest.trim();
        match head {
            "if" => self.blocks.begin(line, Pattern::parse(rest)?),
            "endif" => self.blocks.end(),
            _ if rest.is_empty() => Err(format!("{head}: there is no value behind the network; write both")),
            _ => {
                let pattern = Pattern::parse(head)?;
                let (place, block) = (self.values.len(), self.blocks.current());
                self.values.push(rest.into());
                if pattern.negated || block.is_some() {
                    self.special.push((place, pattern, block));
                } else {
                    self.plain.insert(pattern.block, place);
                }
                Ok(())
            }
        }
    }
}

impl Table for CidrTable {
    fn lookup<'a>(&'a self, key: &'a str) -> Soon<'a, Found<'a>> {
        Soon::Now(Ok(key.parse().ok().and_then(|address| self.find(address)).map(Cow::Borrowed)))
    }

    fn contains(&self, address: IpAddr) -> Soon<'_, Result<bool, TableError>> {
        Soon::Now(Ok(self.find(address).is_some()))
    }

    fn takes_parts(&self) -> bool {
        false
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(table: &'a CidrTable, address: &str) -> Option<&'a str> {
        table.find(address.parse().expect("an address"))
    }

    #[test]
    fn the_first_row_that_holds_the_address_wins() {
        let table = CidrTable::parse("192.0.2.0/24 net\n192.0.2.1 host\n2001:db8::/32\tsix words\n0.0.0.0/0 rest\n");
        let table = table.expect("valid");
        assert_eq!(of(&table, "192.0.2.1"), Some("net"), "in order, not by length");
        assert_eq!(of(&table, "::ffff:192.0.2.9"), Some("net"));
        assert_eq!(of(&table, "2001:db8::5"), Some("six words"));
        assert_eq!(of(&table, "198.51.100.1"), Some("rest"));
        assert_eq!(of(&table, "2001:db9::1"), None);
    }

    #[test]
    fn conditions_and_negations() {
        let text = "if 10.0.0.0/8\n10.1.0.0/16 one\nif !10.2.0.0/16\n10.0.0.0/8 not two\nendif\nendif\n10.2.0.0/16 two\n!192.0.2.0/24 other\n192.0.2.7 seven\n";
        let table = CidrTable::parse(text).expect("valid");
        assert_eq!(of(&table, "10.1.2.3"), Some("one"));
        assert_eq!(of(&table, "10.3.0.1"), Some("not two"));
        assert_eq!(of(&table, "10.2.0.1"), Some("two"));
        assert_eq!(of(&table, "203.0.113.1"), Some("other"));
        assert_eq!(of(&table, "192.0.2.7"), Some("seven"));
        assert_eq!(of(&table, "192.0.2.8"), None);
        assert_eq!(of(&table, "2001:db8::1"), None, "a negated IPv4 network says nothing about IPv6");
    }

    #[test]
    fn every_mistake_has_its_line() {
        let mistakes =
            CidrTable::parse("192.0.2.0/24\n192.0.2.1/24 x\nendif\nnonsense y\nif 10.0.0.0/8\n").expect_err("five");
        assert_eq!(mistakes.iter().map(|mistake| mistake.line).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }
}
