//! A table as `postmap` reads it: a key and, behind blanks, a value. A key that is an address or a network (`192.0.2.0/24`,
//! `2001:db8::/32`) is found by every address in it, the most specific network first.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use ahash::HashMap;
use waypost_types::Soon;
use waypost_types::port::{Found, Table, TableError};

use crate::network::Prefixes;
use crate::table::{Mistake, logical_lines, split_quoted};

/// A table in memory. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TextTable {
    rows: Arc<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    exact: HashMap<Box<str>, Box<str>>,
    networks: Prefixes<Box<str>>,
}

impl TextTable {
    /// Reads a table; on mistakes tells them all. Of two rows with one key the first counts, as with `postmap`. A key alone has an empty
    /// value.
    pub fn parse(text: &str) -> Result<TextTable, Vec<Mistake>> {
        let lines = logical_lines(text);
        let mut mistakes = Vec::new();
        let mut rows = Vec::with_capacity(lines.len());
        for (line, row) in &lines {
            match split_quoted(row, |c| c.is_ascii_whitespace()) {
                Ok((key, value)) => rows.push((*line, key, value.trim())),
                Err(text) => mistakes.push(Mistake { line: *line, text }),
            }
        }
        let table =
            TextTable::build(rows.iter().map(|(line, key, value)| (*line, key.as_str(), *value)), &mut mistakes);
        if mistakes.is_empty() { Ok(table) } else { Err(mistakes) }
    }

    /// A table of rows that stand in the configuration itself.
    pub fn of<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<TextTable, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let table = TextTable::build(rows.into_iter().map(|(key, value)| (0, key, value)), &mut mistakes);
        if mistakes.is_empty() { Ok(table) } else { Err(mistakes) }
    }

    fn build<'a>(rows: impl Iterator<Item = (u32, &'a str, &'a str)>, mistakes: &mut Vec<Mistake>) -> TextTable {
        let mut made = Rows::default();
        for (line, key, value) in rows {
            match crate::network::key_block(key) {
                Ok(Some(block)) => made.networks.insert(block, value.into()),
                Ok(None) => {}
                Err(text) => mistakes.push(Mistake { line, text }),
            }
            made.exact.entry(key.to_ascii_lowercase().into()).or_insert_with(|| value.into());
        }
        TextTable { rows: Arc::new(made) }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.exact.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.exact.is_empty()
    }

    /// The value for a key.
    pub fn find(&self, key: &str) -> Option<&str> {
        let exact = match key.bytes().any(|b| b.is_ascii_uppercase()) {
            true => self.rows.exact.get(key.to_ascii_lowercase().as_str()),
            false => self.rows.exact.get(key),
        };
        if let Some(value) = exact {
            return Some(value);
        }
        if self.rows.networks.is_empty() {
            return None;
        }
        self.rows.networks.find(key.parse().ok()?).map(|value| &**value)
    }
}

impl Table for TextTable {
    fn lookup<'a>(&'a self, key: &'a str) -> Soon<'a, Found<'a>> {
        Soon::Now(Ok(self.find(key).map(Cow::Borrowed)))
    }

    fn contains(&self, address: IpAddr) -> Soon<'_, Result<bool, TableError>> {
        Soon::Now(Ok(self.rows.networks.find(address).is_some()))
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# ours\n192.0.2.0/24  permit\n192.0.2.128/25 block\n2001:db8::/32 permit\n\
        10.0.0.1 one\nuser@Example.COM  two\n  words\n::/0 other\nalone\n";

    #[test]
    fn keys_in_any_case_and_values_over_lines() {
        let table = TextTable::parse(TEXT).unwrap();
        assert_eq!(table.find("USER@example.com"), Some("two words"));
        assert_eq!(table.find("nobody@example.com"), None);
        assert_eq!(table.find("alone"), Some(""));
        assert_eq!(table.len(), 7);
    }

    #[test]
    fn the_most_specific_network_wins_and_families_do_not_mix() {
        let table = TextTable::parse(TEXT).unwrap();
        assert_eq!(table.find("192.0.2.1"), Some("permit"));
        assert_eq!(table.find("192.0.2.200"), Some("block"));
        assert_eq!(table.find("2001:db8::1"), Some("permit"));
        assert_eq!(table.find("2001:db9::1"), Some("other"));
        assert_eq!(table.find("198.51.100.1"), None);
        let contains = |text: &str| matches!(table.contains(text.parse().unwrap()), Soon::Now(Ok(true)));
        assert!(contains("10.0.0.1") && !contains("10.0.0.2") && contains("::ffff:192.0.2.1"));
    }

    #[test]
    fn a_network_that_is_none_is_told_with_its_line() {
        let mistakes = TextTable::parse("a b\n192.0.2.1/24 x\n192.0.2.0/33 x\n\"open x\n").unwrap_err();
        assert_eq!(mistakes.iter().map(|mistake| mistake.line).collect::<Vec<_>>(), [4, 2, 3]);
        assert!(TextTable::parse("").unwrap().is_empty());
    }

    #[test]
    fn the_first_of_two_rows_counts() {
        let table = TextTable::of([("A", "1"), ("a", "2")]).unwrap();
        assert_eq!((table.len(), table.find("a")), (1, Some("1")));
    }
}
