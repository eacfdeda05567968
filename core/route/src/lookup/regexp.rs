//! Postfix's pcre_table(5) and regexp_table(5): patterns in order, the first that matches gives the value.
//!
//! ```text
//! /^(.*)@old\.example$/      $1@new.example
//! !/@/                       REJECT no domain
//! if /^abuse@/i
//! /\.example$/               OK
//! endif
//! ```
//!
//! Any punctuation may stand for the slashes. Flags switch: `i` (matches both cases; on unless switched off), `m` (`^` and `$` match at
//! every line), `s` (`.` matches line ends), `x` (blanks and comments in the pattern), `U` (short matches first), and are otherwise
//! refused. The engine is the `regex` crate: time is linear in key and pattern whatever is written, and for that price **look-around
//! (`(?=…)`, `(?!…)`, `(?<=…)`, `(?<!…)`) and back-references (`\1`) do not exist**; a row that uses them is a mistake, told with its line.

use std::borrow::Cow;
use std::sync::Arc;

use regex::{Captures, Regex, RegexBuilder};
use waypost_types::Soon;
use waypost_types::port::{Found, Table};

use super::Blocks;
use crate::table::{Mistake, logical_lines};

/// Octets of one compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Keys longer than any address, header or name that is looked up are not matched.
const KEY_BYTES_MAX: usize = 4096;

/// Which of Postfix's two manuals the flags follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// pcre_table(5): `.` matches line ends, `m` is off.
    #[default]
    Pcre,
    /// regexp_table(5): `x` is on and means what extended POSIX expressions are; `m` is off.
    Posix,
}

/// Patterns in order. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RegexpTable {
    rows: Arc<Rows>,
}

#[derive(Debug)]
struct Rows {
    rows: Vec<Row>,
    blocks: Blocks<Pattern>,
}

#[derive(Debug)]
struct Row {
    pattern: Pattern,
    value: Template,
    block: Option<usize>,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    negated: bool,
}

impl Pattern {
    fn matches(&self, key: &str) -> bool {
        self.regex.is_match(key) != self.negated
    }
}

/// A value with places for what the pattern caught.
#[derive(Debug)]
enum Template {
    Plain(Box<str>),
    /// Text, then the number of a group, and so on; the last text has no group.
    Parts(Vec<(Box<str>, Option<usize>)>),
}

impl RegexpTable {
    /// Reads a table; on mistakes tells them all.
    pub fn parse(text: &str, dialect: Dialect) -> Result<RegexpTable, Vec<Mistake>> {
        let mut rows = Rows { rows: Vec::new(), blocks: Blocks::new() };
        let mut mistakes = Vec::new();
        for (line, row) in logical_lines(text) {
            if let Err(text) = rows.read(line, &row, dialect) {
                mistakes.push(Mistake { line, text });
            }
        }
        mistakes.extend(rows.blocks.unclosed());
        if mistakes.is_empty() { Ok(RegexpTable { rows: Arc::new(rows) }) } else { Err(mistakes) }
    }

    /// The value for a key.
    pub fn find(&self, key: &str) -> Option<Cow<'_, str>> {
        if key.len() > KEY_BYTES_MAX {
            return None;
        }
        let rows = &*self.rows;
        let fits = |row: &&Row| {
            row.pattern.matches(key) && rows.blocks.hold(row.block, &mut |pattern: &Pattern| pattern.matches(key))
        };
        let row = rows.rows.iter().find(fits)?;
        Some(row.value.fill(|| row.pattern.regex.captures(key)))
    }
}

impl Table for RegexpTable {
    fn lookup<'a>(&'a self, key: &'a str) -> Soon<'a, Found<'a>> {
        Soon::Now(Ok(self.find(key)))
    }

    fn takes_parts(&self) -> bool {
        false
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}

impl Rows {
    fn read(&mut self, line: u32, row: &str, dialect: Dialect) -> Result<(), String> {
        let word = row.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or("");
        if word.eq_ignore_ascii_case("endif") {
            return self.blocks.end();
        }
        if word.eq_ignore_ascii_case("if") {
            let (pattern, rest) = pattern(row[2..].trim_start(), dialect)?;
            if !rest.trim().is_empty() {
                return Err(format!(
                    "{:?} stands behind the pattern of an `if`: put it on a line of its own",
                    rest.trim()
                ));
            }
            return self.blocks.begin(line, pattern);
        }
        let (pattern, rest) = pattern(row, dialect)?;
        if rest.trim().is_empty() {
            return Err("there is no value behind the pattern; write /pattern/ value".to_string());
        }
        let value = Template::parse(rest.trim(), &pattern)?;
        self.rows.push(Row { pattern, value, block: self.blocks.current() });
        Ok(())
    }
}

/// Takes a pattern with its flags off the front.
fn pattern(text: &str, dialect: Dialect) -> Result<(Pattern, &str), String> {
    let (negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest.trim_start()));
    let delimiter = text.chars().next().filter(|c| c.is_ascii_punctuation() && *c != '\\');
    let delimiter = delimiter.ok_or("a row begins with a pattern between slashes: /pattern/ value")?;
    let (source, rest) =
        split_pattern(&text[1..], delimiter).ok_or(format!("the pattern is not closed by a second {delimiter}"))?;
    let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
    let (flags, rest) = rest.split_at(end);
    let regex = compile(&source, flags, dialect)?;
    Ok((Pattern { regex, negated }, rest))
}

/// Up to the delimiter; one behind a backslash belongs to the pattern.
fn split_pattern(text: &str, delimiter: char) -> Option<(String, &str)> {
    let mut source = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == delimiter {
            return Some((source, &text[at + c.len_utf8()..]));
        }
        if c == '\\' {
            let (_, next) = chars.next()?;
            // `\/` stands for the delimiter alone, unless that is a special character, which stays escaped.
            if next != delimiter || regex_syntax_is_special(next) {
                source.push(c);
            }
            source.push(next);
        } else {
            source.push(c);
        }
    }
    None
}

fn regex_syntax_is_special(c: char) -> bool {
    matches!(c, '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' | '#' | '&' | '-' | '~')
}

fn compile(source: &str, flags: &str, dialect: Dialect) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(source);
    let (mut case, mut lines, mut dot, mut blanks, mut short) = (true, false, true, false, false);
    for flag in flags.chars() {
        match flag {
            'i' => case = !case,
            'm' => lines = !lines,
            's' if dialect == Dialect::Pcre => dot = !dot,
            'x' if dialect == Dialect::Pcre => blanks = !blanks,
            // Extended expressions are the only ones there are here.
            'x' => {}
            'U' if dialect == Dialect::Pcre => short = !short,
            'A' | 'E' | 'X' => {
                return Err(format!("the flag {flag} is not supported: write ^ or $ in the pattern instead"));
            }
            other => return Err(format!("{other:?} is no flag; put a blank between the pattern and its value")),
        }
    }
    builder.case_insensitive(case).multi_line(lines).dot_matches_new_line(dot).ignore_whitespace(blanks);
    builder.swap_greed(short).size_limit(PATTERN_BYTES_MAX);
    builder.build().map_err(|error| explain(source, &error.to_string()))
}

/// The engine's last line says what is wrong; ours says what to do about the two things that people miss.
fn explain(source: &str, error: &str) -> String {
    let said = error.lines().last().unwrap_or(error).trim().trim_start_matches("error: ");
    let remedy = if said.contains("look-around") {
        "; use `if !/…/` … `endif` around the row, or a `!/…/` row in front of it"
    } else if said.contains("backreferences") {
        "; write the repeated text out"
    } else if error.contains("size limit") {
        "; write a shorter pattern or several rows"
    } else {
        ""
    };
    format!("/{source}/: {said}{remedy}")
}

impl Template {
    fn parse(text: &str, pattern: &Pattern) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut open = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('$') {
            open.push_str(before);
            if let Some(behind) = behind.strip_prefix('$') {
                open.push('$');
                rest = behind;
                continue;
            }
            let (group, behind) = group(behind)?;
            if pattern.negated {
                return Err(format!("${group} in a row whose pattern is negated: nothing was caught"));
            }
            if group >= pattern.regex.captures_len() {
                return Err(format!("${group}: the pattern has only {} groups", pattern.regex.captures_len() - 1));
            }
            parts.push((std::mem::take(&mut open).into(), Some(group)));
            rest = behind;
        }
        open.push_str(rest);
        if parts.is_empty() {
            return Ok(Template::Plain(open.into()));
        }
        parts.push((open.into(), None));
        Ok(Template::Parts(parts))
    }

    fn fill<'t, 'k>(&'t self, captures: impl FnOnce() -> Option<Captures<'k>>) -> Cow<'t, str> {
        let parts = match self {
            Template::Plain(text) => return Cow::Borrowed(text),
            Template::Parts(parts) => parts,
        };
        let captures = captures();
        let caught = |group: usize| captures.as_ref()?.get(group).map(|found| found.as_str());
        let mut value = String::new();
        for (text, group) in parts {
            value.push_str(text);
            value.push_str(group.and_then(caught).unwrap_or(""));
        }
        Cow::Owned(value)
    }
}

/// `1`, `{1}` or `(1)` behind a dollar.
fn group(text: &str) -> Result<(usize, &str), String> {
    let wrong = || "a $ stands for a group, as in $1 or ${1}; a dollar is written $$".to_string();
    let (digits, rest) = match text.chars().next() {
        Some('{') => text[1..].split_once('}').ok_or_else(wrong)?,
        Some('(') => text[1..].split_once(')').ok_or_else(wrong)?,
        _ => text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())),
    };
    Ok((digits.parse().map_err(|_| wrong())?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> RegexpTable {
        RegexpTable::parse(text, Dialect::Pcre).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
    }

    fn told(text: &str) -> String {
        let mistakes = RegexpTable::parse(text, Dialect::Pcre).expect_err("a mistake");
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_was_caught_goes_into_the_value() {
        let table = table("/^(.*)\\+(.*)@old\\.example$/ $1@new.example, ${2}$$@$(1).example\n/./ rest\n");
        assert_eq!(table.find("a+b@OLD.example").as_deref(), Some("a@new.example, b$@a.example"));
        assert_eq!(table.find("x").as_deref(), Some("rest"));
        assert_eq!(table.find(""), None);
        assert_eq!(table.find(&"x".repeat(5000)), None, "a key longer than anything that is looked up");
    }

    #[test]
    fn case_counts_only_when_asked_for() {
        let table = table("/^Abc$/i exact\n/^abc$/ any\n|^a/b$| other slashes\n");
        assert_eq!(table.find("Abc").as_deref(), Some("exact"));
        assert_eq!(table.find("ABC").as_deref(), Some("any"));
        assert_eq!(table.find("a/b").as_deref(), Some("other slashes"));
    }

    #[test]
    fn conditions_and_negations() {
        let text = "if /@example\\.com$/\n/^root@/ admin\nif !/^info@/\n/^/ not info\nendif\nendif\n!/@/ no domain\n/^info@/ info\n";
        let table = table(text);
        assert_eq!(table.find("root@example.com").as_deref(), Some("admin"));
        assert_eq!(table.find("a@example.com").as_deref(), Some("not info"));
        assert_eq!(table.find("info@example.com").as_deref(), Some("info"));
        assert_eq!(table.find("alone").as_deref(), Some("no domain"));
        assert_eq!(table.find("a@other.example"), None);
    }

    #[test]
    fn look_around_and_back_references_are_refused_with_their_line_and_a_remedy() {
        let text = told("/^a/ ok\n/^(?!a)b/ x\n/(?<=a)b/ x\n/(a)\\1/ x\n");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("line 2: ") && lines[0].contains("look-around"), "{text}");
        assert!(lines[0].contains("use `if !/…/`"), "{text}");
        assert!(lines[1].starts_with("line 3: ") && lines[1].contains("look-around"), "{text}");
        assert!(lines[2].starts_with("line 4: ") && lines[2].contains("backreferences"), "{text}");
    }

    #[test]
    fn every_other_mistake_has_its_line() {
        for (text, problem) in [
            ("abc x", "between slashes"),
            ("/abc x", "not closed"),
            ("/abc/", "no value"),
            ("/abc/q x", "no flag"),
            ("/(/ x", "unclosed group"),
            ("/a/ $1", "only 0 groups"),
            ("!/a/ $0", "negated"),
            ("/a/ $x", "written $$"),
            ("if /a/", "no `endif`"),
            ("endif", "without an `if`"),
            ("if /a/ x\nendif", "line of its own"),
        ] {
            assert!(told(text).contains(problem), "{text}: {}", told(text));
        }
    }

    #[test]
    fn a_pattern_that_would_take_for_ever_elsewhere_does_not_here() {
        let table = table("/^(a+)+$/ x\n");
        assert_eq!(table.find(&format!("{}b", "a".repeat(4000))), None);
    }
}
