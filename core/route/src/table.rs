//! Tables as text: aliases(5) as `postalias` reads it, and `key value` tables as `postmap` reads them.
//!
//! Lines that begin with a blank continue the one before; lines that begin with `#` and empty lines do not count, also in the middle
//! of a continued line. Every mistake of a text is told, with its line. Reading files is left to whoever calls.

use std::fmt;

use waypost_types::{Address, Host};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1; 0 if it concerns no single line.
    pub line: u32,
    /// What, and the remedy.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.text),
            line => write!(f, "line {line}: {}", self.text),
        }
    }
}

/// A row of a `key value` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it begins.
    pub line: u32,
    /// The key, without quotes.
    pub key: String,
    /// Everything behind the blank that follows the key.
    pub value: String,
}

/// Whom an alias stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A name in the domain of the address that is being expanded.
    Name(Box<str>),
    /// A whole address.
    Address(Address),
    /// `\name`: the mailbox itself, no further aliases.
    Mailbox(Box<str>),
    /// `@domain`: the same name in another domain.
    At(Host),
}

/// What an alias is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AliasKey {
    /// A local part in every domain of ours.
    Name(Box<str>),
    /// One address.
    Address(Address),
    /// `@domain`: whatever nobody else takes.
    CatchAll(Host),
}

/// One alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Where it stands.
    pub line: u32,
    /// What it is found by.
    pub key: AliasKey,
    /// Never empty.
    pub targets: Vec<Target>,
}

/// Files within `:include:` files.
const INCLUDE_DEPTH_MAX: usize = 5;

/// Reads a Postfix text table: `key whitespace value`. A key with blanks stands in double quotes.
pub fn parse_table(text: &str) -> Result<Vec<Row>, Vec<Mistake>> {
    each(logical_lines(text), |line, text| {
        let (key, rest) = split_quoted(&text, |c| c.is_ascii_whitespace())?;
        let value = rest.trim();
        if value.is_empty() {
            return Err(format!("{key:?} has no value; write the key, a blank and the value"));
        }
        Ok(Row { line, key, value: value.to_string() })
    })
}

/// Reads a table of virtual aliases: `user@domain`, `@domain` or `user`, then one or more targets.
pub fn parse_virtual(text: &str) -> Result<Vec<Alias>, Vec<Mistake>> {
    let rows = parse_table(text)?;
    each(rows.into_iter().map(|row| (row.line, row)), |line, row| {
        let key = alias_key(&row.key)?;
        Ok(Alias { line, key, targets: targets(&row.value, 0, &mut no_include)? })
    })
}

/// Reads aliases(5): `name: target, target`. `include` gives the text of a `:include:` file, or why it cannot.
pub fn parse_aliases(
    text: &str,
    mut include: impl FnMut(&str) -> Result<String, String>,
) -> Result<Vec<Alias>, Vec<Mistake>> {
    each(logical_lines(text), |line, text| {
        let (name, rest) = split_quoted(&text, |c| c == ':' || c.is_ascii_whitespace())?;
        let Some(value) = rest.trim_start().strip_prefix(':') else {
            return Err(format!("{name:?} is not followed by a colon; write `name: target, target`"));
        };
        let key = AliasKey::Name(local_part(&name)?);
        Ok(Alias { line, key, targets: targets(value, 0, &mut include)? })
    })
}

/// Reads the targets of one alias, as a table gives them.
pub fn parse_targets(text: &str) -> Result<Vec<Target>, String> {
    targets(text, 0, &mut no_include)
}

/// Reads a `.forward` file: targets on lines of their own or parted by commas, comments behind `#`. None in a file that is empty.
pub fn parse_forward(text: &str) -> Result<Vec<Target>, String> {
    let lines = logical_lines(text);
    let each = lines
        .iter()
        .map(|(number, line)| targets(line, 0, &mut no_include).map_err(|problem| format!("line {number}: {problem}")));
    each.collect::<Result<Vec<_>, _>>().map(|lists| lists.into_iter().flatten().collect())
}

impl Alias {
    /// An alias written as key and targets. `include` gives the text of a `:include:` file, or why it cannot.
    pub fn parse(
        key: &str,
        text: &str,
        mut include: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<Alias, String> {
        Ok(Alias { line: 0, key: alias_key(key)?, targets: targets(text, 0, &mut include)? })
    }
}

/// For tables in which files make no sense.
fn no_include(_path: &str) -> Result<String, String> {
    Err(":include: belongs into an aliases(5) file".to_string())
}

/// Runs over all items, gathers what went well or else all mistakes.
fn each<I, T>(
    items: impl IntoIterator<Item = (u32, I)>,
    mut read: impl FnMut(u32, I) -> Result<T, String>,
) -> Result<Vec<T>, Vec<Mistake>> {
    let mut rows = Vec::new();
    let mut mistakes = Vec::new();
    for (line, item) in items {
        match read(line, item) {
            Ok(row) => rows.push(row),
            Err(text) => mistakes.push(Mistake { line, text }),
        }
    }
    if mistakes.is_empty() { Ok(rows) } else { Err(mistakes) }
}

/// Joins continuation lines, drops comments; gives the number of each first line.
pub(crate) fn logical_lines(text: &str) -> Vec<(u32, String)> {
    let mut lines: Vec<(u32, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some((_, open)) if line.starts_with([' ', '\t']) => {
                open.push(' ');
                open.push_str(trimmed);
            }
            _ => lines.push((number, trimmed.to_string())),
        }
    }
    lines
}

/// Takes the key off the front: up to the first `end`, or a quoted string, whose quotes are kept only if it is a whole address's
/// local part that needs them.
pub(crate) fn split_quoted(text: &str, end: impl Fn(char) -> bool) -> Result<(String, &str), String> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if !quoted && end(c) => return Ok((text[..at].to_string(), &text[at..])),
            _ => {}
        }
    }
    if quoted {
        return Err("a quoted string is not closed".to_string());
    }
    Ok((text.to_string(), ""))
}

/// `user@domain`, `@domain` or `user`.
fn alias_key(text: &str) -> Result<AliasKey, String> {
    if let Some(host) = text.strip_prefix('@') {
        return Host::parse(host).map(AliasKey::CatchAll).map_err(|error| format!("{text:?}: {error}"));
    }
    match Address::parse(text) {
        Ok(address) => Ok(AliasKey::Address(address)),
        Err(waypost_types::address::InvalidAddress::NoDomain) => local_part(text).map(AliasKey::Name),
        Err(error) => Err(format!("{text:?}: {error}")),
    }
}

/// A local part in its shortest wire form.
fn local_part(text: &str) -> Result<Box<str>, String> {
    let host = Host::parse("[127.0.0.1]").expect("a valid literal");
    Address::new(text, host).map(|address| address.local().into()).map_err(|error| format!("{text:?}: {error}"))
}

/// The targets of an alias: parted by commas, or by blanks as virtual tables allow.
fn targets(
    text: &str,
    depth: usize,
    include: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Vec<Target>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        if rest.is_empty() {
            break;
        }
        let (item, behind) = split_quoted(rest, |c| c == ',' || c.is_ascii_whitespace())?;
        rest = behind;
        match item.strip_prefix(":include:").map(|path| path.trim_matches('"')) {
            Some("") => return Err(":include: needs the path of a file right behind it".to_string()),
            Some(path) => found.extend(included(path, depth, include)?),
            None => found.push(target(&item)?),
        }
    }
    if found.is_empty() { Err("there is no target".to_string()) } else { Ok(found) }
}

fn included(
    path: &str,
    depth: usize,
    include: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Vec<Target>, String> {
    if depth >= INCLUDE_DEPTH_MAX {
        return Err(format!("{path}: included files are nested deeper than {INCLUDE_DEPTH_MAX}"));
    }
    let text = include(path).map_err(|error| format!(":include:{path}: {error}"))?;
    let lines = logical_lines(&text);
    let nested = lines.iter().map(|(_, line)| targets(line, depth + 1, include)).collect::<Result<Vec<_>, _>>();
    nested.map(|lists| lists.into_iter().flatten().collect()).map_err(|error| format!(":include:{path}: {error}"))
}

/// One target.
fn target(text: &str) -> Result<Target, String> {
    let inner = text.trim_start_matches('"');
    if inner.starts_with('|') {
        return Err(format!("{text}: an alias cannot start a program; deliver to a mailbox or forward to an address"));
    }
    if inner.starts_with('/') {
        return Err(format!("{text}: an alias cannot name a file; deliver to a mailbox of that name"));
    }
    if let Some(name) = text.strip_prefix('\\') {
        return local_part(name).map(Target::Mailbox);
    }
    if let Some(host) = text.strip_prefix('@') {
        return Host::parse(host).map(Target::At).map_err(|error| format!("{text:?}: {error}"));
    }
    match Address::parse(text) {
        Ok(address) => Ok(Target::Address(address)),
        Err(waypost_types::address::InvalidAddress::NoDomain) => local_part(text).map(Target::Name),
        Err(error) => Err(format!("{text:?}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(text: &str) -> Result<Vec<Alias>, Vec<Mistake>> {
        parse_aliases(text, |path| match path {
            "/etc/list" => Ok("# members\nann@a.test\n  bob@b.test, carol\n".to_string()),
            "/etc/loop" => Ok(":include:/etc/loop".to_string()),
            _ => Err("no such file".to_string()),
        })
    }

    fn names(alias: &Alias) -> Vec<String> {
        let word = |target: &Target| match target {
            Target::Name(name) => name.to_string(),
            Target::Address(address) => address.to_string(),
            Target::Mailbox(name) => format!("\\{name}"),
            Target::At(host) => format!("@{host}"),
        };
        alias.targets.iter().map(word).collect()
    }

    #[test]
    fn aliases_with_comments_continuations_and_quotes() {
        let text = "# head\nroot: alice,\n  # between\n\tbob@b.test\n\nPostmaster:root\n\"john doe\": \\john\n";
        let read = aliases(text).expect("valid");
        assert_eq!(read.iter().map(|alias| alias.line).collect::<Vec<_>>(), [2, 6, 7]);
        assert_eq!(names(&read[0]), ["alice", "bob@b.test"]);
        assert_eq!(read[1].key, AliasKey::Name("Postmaster".into()));
        assert_eq!(read[2].key, AliasKey::Name("\"john doe\"".into()));
        assert_eq!(names(&read[2]), ["\\john"]);
    }

    #[test]
    fn included_files_are_read_through_the_caller() {
        let read = aliases("list: :include:/etc/list, dave\n").expect("valid");
        assert_eq!(names(&read[0]), ["ann@a.test", "bob@b.test", "carol", "dave"]);
        let mistakes = aliases("list: :include:/etc/loop\nother: :include:/absent\n").expect_err("both are wrong");
        assert!(mistakes[0].text.contains("nested deeper"), "{}", mistakes[0]);
        assert!(mistakes[1].text.contains("/absent: no such file"), "{}", mistakes[1]);
    }

    #[test]
    fn every_mistake_has_its_line() {
        let text = "good: a\nno colon\nempty:\npipe: \"|/bin/sh\"\nfile: /var/mail/x\nbad: a@b@c\nopen: \"a\n";
        let mistakes = aliases(text).expect_err("six mistakes");
        assert_eq!(mistakes.iter().map(|mistake| mistake.line).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn virtual_tables_know_three_kinds_of_key() {
        let read = parse_virtual("info@a.test alice bob@b.test\n@a.test\tcatch\nroot alice\n").expect("valid");
        assert_eq!(read[0].key, AliasKey::Address(Address::parse("info@a.test").expect("an address")));
        assert_eq!(names(&read[0]), ["alice", "bob@b.test"]);
        assert_eq!(read[1].key, AliasKey::CatchAll(Host::parse("a.test").expect("a host")));
        assert_eq!(read[2].key, AliasKey::Name("root".into()));
        assert!(parse_virtual("info@a.test\n").is_err(), "a key alone");
    }
}
