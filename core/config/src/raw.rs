//! Text in: TOML as a tree whose every leaf knows where it was written.
//!
//! Two things can say what a setting is: the file and `--set key=value`. Both become the same tree; a `--set` is parsed as the TOML
//! document that it is (`listener.mx.bind = "…"`), and where its value is no TOML it is taken as a string, so that a shell needs no
//! quotes inside quotes. Every syntax error is reported, not only the first.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::mistake::{Mistake, Place};

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    Flag(bool),
    Number(i64),
    Float(f64),
    Text(String),
    Date(String),
    List(Vec<Item>),
    Table(Table),
}

impl Raw {
    /// What it is, for people.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Raw::Flag(_) => "true or false",
            Raw::Number(_) => "a number",
            Raw::Float(_) => "a number with a fraction",
            Raw::Text(_) => "a text",
            Raw::Date(_) => "a date",
            Raw::List(_) => "a list",
            Raw::Table(_) => "a section",
        }
    }

    /// As JSON, for a plugin's own section.
    pub(crate) fn write_json(&self, out: &mut String) {
        match self {
            Raw::Flag(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Raw::Number(number) => out.push_str(&number.to_string()),
            Raw::Float(number) if number.is_finite() => out.push_str(&format!("{number:?}")),
            Raw::Float(_) => out.push_str("null"),
            Raw::Text(text) | Raw::Date(text) => write_json_text(text, out),
            Raw::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.raw.write_json(out);
                }
                out.push(']');
            }
            Raw::Table(table) => write_json_table(table, out),
        }
    }
}

fn write_json_table(table: &Table, out: &mut String) {
    out.push('{');
    for (index, (key, entry)) in table.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_json_text(key, out);
        out.push(':');
        entry.item.raw.write_json(out);
    }
    out.push('}');
}

fn write_json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) raw: Raw,
    pub(crate) place: Place,
}

/// A key's value and where the key stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key_place: Place,
    pub(crate) item: Item,
}

/// A section.
pub(crate) type Table = BTreeMap<String, Entry>;

/// Reads a file's text. What cannot be understood is reported and left out.
pub(crate) fn parse_file(name: &str, text: &str, mistakes: &mut Vec<Mistake>) -> Table {
    let lines = Lines::new(text);
    let place = |span: Range<usize>| lines.place(name, span.start);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(Place::file(name, 1, 1), &place);
        mistakes.push(Mistake::new(at, error.message().trim().replace('\n', ", "), syntax_remedy(error.message())));
    }
    take_table(table.into_inner(), &place)
}

fn syntax_remedy(message: &str) -> &'static str {
    if message.contains("duplicate") {
        "keep one of the two"
    } else {
        "write it as TOML: `key = value`, texts in \"quotes\", lists in [brackets]; see https://toml.io"
    }
}

/// Reads one `--set key=value`.
pub(crate) fn parse_override(text: &str, mistakes: &mut Vec<Mistake>) -> Table {
    let place = |_: Range<usize>| Place::Override(text.to_string());
    let Some(equals) = equals_sign(text) else {
        mistakes.push(Mistake::new(
            place(0..0),
            "there is no `=`".to_string(),
            "write --set key=value, such as --set queue.lifetime=3d",
        ));
        return Table::new();
    };
    let (key, value) = (text[..equals].trim(), text[equals + 1..].trim());
    let as_written = format!("{key} = {value}");
    if let Ok(table) = DeTable::parse(&as_written) {
        return take_table(table.into_inner(), &place);
    }
    let as_text = format!("{key} = {}", toml::Value::String(value.to_string()));
    match DeTable::parse(&as_text) {
        Ok(table) if !value.starts_with(['[', '{', '"', '\'']) => take_table(table.into_inner(), &place),
        Ok(_) => {
            let error = DeTable::parse(&as_written).expect_err("it was no TOML a moment ago");
            let why = error.message().trim().replace('\n', ", ");
            mistakes.push(Mistake::new(
                place(0..0),
                format!("the value is no TOML: {why}"),
                "close every quote and bracket; the shell takes away quotes that are not inside others",
            ));
            Table::new()
        }
        Err(_) => {
            let problem = format!("`{key}` is no setting's name");
            mistakes.push(Mistake::new(place(0..0), problem, "names are listed by `waypost help settings`"));
            Table::new()
        }
    }
}

/// The `=` that ends the key: the first outside quotes.
fn equals_sign(text: &str) -> Option<usize> {
    let mut quoted = None;
    text.char_indices().find_map(|(at, c)| {
        match (quoted, c) {
            (None, '=') => return Some(at),
            (None, '"' | '\'') => quoted = Some(c),
            (Some(open), c) if open == c => quoted = None,
            _ => {}
        }
        None
    })
}

/// Lays `over` on top of `base`: sections are joined, everything else is replaced.
pub(crate) fn merge(base: &mut Table, over: Table) {
    for (key, entry) in over {
        match (base.get_mut(&key).map(|old| &mut old.item.raw), entry.item.raw) {
            (Some(Raw::Table(old)), Raw::Table(new)) => merge(old, new),
            (_, raw) => {
                let item = Item { raw, place: entry.item.place };
                base.insert(key, Entry { key_place: entry.key_place, item });
            }
        }
    }
}

fn take_table(table: DeTable<'_>, place: &impl Fn(Range<usize>) -> Place) -> Table {
    let mut taken = Table::new();
    for (key, value) in table {
        let key_place = place(key.span());
        taken.insert(key.into_inner().into_owned(), Entry { key_place, item: take_item(value, place) });
    }
    taken
}

fn take_item(value: Spanned<DeValue<'_>>, place: &impl Fn(Range<usize>) -> Place) -> Item {
    let at = place(value.span());
    let raw = match value.into_inner() {
        DeValue::Boolean(flag) => Raw::Flag(flag),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Raw::Float(f64::INFINITY), Raw::Number)
        }
        DeValue::Float(number) => Raw::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::String(text) => Raw::Text(text.into_owned()),
        DeValue::Datetime(date) => Raw::Date(date.to_string()),
        DeValue::Array(values) => Raw::List(values.into_iter().map(|value| take_item(value, place)).collect()),
        DeValue::Table(table) => Raw::Table(take_table(table, place)),
    };
    Item { raw, place: at }
}

/// Turns byte offsets into lines and columns.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Lines { text, starts: std::iter::once(0).chain(ends).collect() }
    }

    fn place(&self, name: &str, offset: usize) -> Place {
        let line = self.starts.partition_point(|&start| start <= offset);
        let start = self.starts[line - 1];
        let column = self.text.get(start..offset).map_or(1, |front| front.chars().count() + 1);
        Place::file(name, line as u32, column as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overridden(text: &str) -> (Table, Vec<Mistake>) {
        let mut mistakes = Vec::new();
        let table = parse_override(text, &mut mistakes);
        (table, mistakes)
    }

    fn leaf<'a>(table: &'a Table, path: &[&str]) -> &'a Raw {
        let raw = &table[path[0]].item.raw;
        match raw {
            Raw::Table(inner) if path.len() > 1 => leaf(inner, &path[1..]),
            raw => raw,
        }
    }

    #[test]
    fn every_leaf_knows_its_line_and_column() {
        let mut mistakes = Vec::new();
        let table = parse_file("w.toml", "# ä\nhostname = \"a\"\n[queue]\n  lifetime = 5\n", &mut mistakes);
        assert_eq!(table["hostname"].key_place, Place::file("w.toml", 2, 1));
        assert_eq!(table["hostname"].item.place, Place::file("w.toml", 2, 12));
        let Raw::Table(queue) = &table["queue"].item.raw else { panic!("a section") };
        assert_eq!(queue["lifetime"].key_place, Place::file("w.toml", 4, 3));
        assert!(mistakes.is_empty());
    }

    #[test]
    fn all_syntax_errors_are_told() {
        let mut mistakes = Vec::new();
        let table = parse_file("w.toml", "a = \nb = 1\nc = [\"x\nd = 2\n", &mut mistakes);
        assert!(mistakes.len() >= 2, "{mistakes:?}");
        assert_eq!(leaf(&table, &["b"]), &Raw::Number(1));
    }

    #[test]
    fn bare_words_need_no_quotes_in_an_override() {
        assert_eq!(leaf(&overridden("queue.lifetime=5d").0, &["queue", "lifetime"]), &Raw::Text("5d".into()));
        assert_eq!(leaf(&overridden("listener.mx.bind=127.0.0.1:25").0, &["listener", "mx", "bind"]).word(), "a text");
        assert_eq!(leaf(&overridden("a=3").0, &["a"]), &Raw::Number(3));
        assert_eq!(leaf(&overridden("transport.\"a=b.c\"=mx").0, &["transport", "a=b.c"]), &Raw::Text("mx".into()));
        assert_eq!(leaf(&overridden("a=[\"x\", \"y\"]").0, &["a"]).word(), "a list");
    }

    #[test]
    fn a_bad_override_says_what_is_wrong() {
        for text in ["a", "a=[\"x\"", "a b=3", "=3"] {
            let (table, mistakes) = overridden(text);
            assert!(table.is_empty() && mistakes.len() == 1, "{text}: {mistakes:?}");
        }
    }

    #[test]
    fn overrides_replace_leaves_and_join_sections() {
        let mut mistakes = Vec::new();
        let mut base = parse_file("w", "[a]\nx = 1\ny = [1, 2]", &mut mistakes);
        merge(&mut base, overridden("a.y=[3]").0);
        merge(&mut base, overridden("a.z.w=4").0);
        let mut json = String::new();
        write_json_table(&base, &mut json);
        assert_eq!(json, r#"{"a":{"x":1,"y":[3],"z":{"w":4}}}"#);
    }
}
