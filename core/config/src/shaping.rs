//! How large receivers want their mail: the shipped rules, and a file of the operator's over them.
//!
//! [`SHIPPED`] explains its own form; every mistake in a file is told with its line, as everywhere.

use std::path::Path;
use std::time::Duration;

use crate::mistake::{Mistake, Mistakes, nearest};
use crate::raw::{Item, Raw, Table, parse_file};
use crate::setting::Kind;
use crate::value::{Reader, Value, subsection};

/// The rules that come with the program.
pub const SHIPPED: &str = include_str!("shaping.toml");

/// One `[provider.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// The section's name.
    pub name: String,
    /// `mx`.
    pub hosts: Vec<String>,
    /// `connections`.
    pub connections: u32,
    /// `messages`.
    pub messages: u32,
    /// `per-minute`.
    pub per_minute: Option<u32>,
    /// `tls = "required"`.
    pub tls: bool,
    /// `replies`.
    pub replies: Vec<ReplyRule>,
}

/// One of a provider's `replies`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyRule {
    /// `code`, or its first digit.
    pub code: Option<u16>,
    /// `text`.
    pub text: String,
    /// `do`, with what belongs to it.
    pub action: ReplyAction,
}

/// What a reply asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyAction {
    /// `slow`, `for`.
    Slow(Duration),
    /// `suspend`, `for`.
    Suspend(Duration),
    /// `connections`, how many, `for`.
    Connections(u32, Duration),
    /// `bounce`.
    Bounce,
    /// `fewer-messages`.
    FewerMessages,
}

const DAY: u64 = 86_400;

const PROVIDER: &[(&str, Kind)] = &[
    ("mx", Kind::List(&Kind::Text)),
    ("connections", Kind::Count(1, 10_000)),
    ("messages", Kind::Count(1, 1_000_000)),
    ("per-minute", Kind::Count(1, 1_000_000)),
    ("tls", Kind::Word(&["offered", "required"])),
];

const REPLY: &[(&str, Kind)] = &[
    ("code", Kind::Count(2, 599)),
    ("text", Kind::Text),
    ("do", Kind::Word(&["slow", "suspend", "connections", "bounce", "fewer-messages"])),
    ("for", Kind::Span(1, 7 * DAY)),
    ("connections", Kind::Count(1, 10_000)),
];

/// The shipped rules.
///
/// # Panics
/// Never: a test reads them.
pub fn shipped() -> Vec<Provider> {
    parse("shaping.toml", SHIPPED).expect("the shipped rules are read by a test")
}

/// Rules as text.
pub fn parse(name: &str, text: &str) -> Result<Vec<Provider>, Mistakes> {
    let mut mistakes = Vec::new();
    let providers = read(name, text, &mut mistakes);
    if mistakes.is_empty() { Ok(providers) } else { Err(Mistakes(mistakes)) }
}

/// The shipped rules with those of a file over them.
pub(crate) fn with_file(file: Option<&Path>, mistakes: &mut Vec<Mistake>) -> Vec<Provider> {
    let mut all = shipped();
    let Some(file) = file else { return all };
    // That it can be read was checked with the setting that names it.
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let own = read(&file.display().to_string(), &text, mistakes);
    all.retain(|shipped| own.iter().all(|provider| provider.name != shipped.name));
    // The operator's own rules are looked at first.
    own.into_iter().chain(all).collect()
}

fn read(name: &str, text: &str, mistakes: &mut Vec<Mistake>) -> Vec<Provider> {
    let table = parse_file(name, text, mistakes);
    let base = Path::new("");
    let mut page = Page { reader: Reader { file_base: base, override_base: base, mistakes: Vec::new() } };
    page.only(&table, &["provider"], "a file of rules holds sections [provider.NAME]");
    let sections = subsection(&table, "provider");
    let providers =
        sections.into_iter().flatten().filter_map(|(name, entry)| page.provider(name, &entry.item)).collect();
    mistakes.append(&mut page.reader.mistakes);
    providers
}

/// A file of rules, being read.
pub(crate) struct Page<'a> {
    pub(crate) reader: Reader<'a>,
}

impl Page<'_> {
    pub(crate) fn wrong(&mut self, item: &Item, problem: String, remedy: &str) {
        self.reader.mistakes.push(Mistake::new(item.place.clone(), problem, remedy));
    }

    pub(crate) fn only(&mut self, table: &Table, known: &[&str], otherwise: &str) {
        for (key, entry) in table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let remedy = nearest(key, known.iter().copied())
                .map_or_else(|| otherwise.to_string(), |meant| format!("did you mean `{meant}`?"));
            self.reader.mistakes.push(Mistake::new(
                entry.key_place.clone(),
                format!("`{key}` is not known here"),
                remedy,
            ));
        }
    }

    /// The values of a section, in the order of `rows`.
    pub(crate) fn values(&mut self, name: &str, table: &Table, rows: &[(&str, Kind)]) -> Vec<Option<Value>> {
        let mut read = |(leaf, kind): &(&str, Kind)| {
            table.get(*leaf).and_then(|entry| self.reader.read(&format!("{name}.{leaf}"), *kind, &entry.item))
        };
        rows.iter().map(&mut read).collect()
    }

    fn provider(&mut self, name: &str, item: &Item) -> Option<Provider> {
        let path = format!("provider.{name}");
        let Raw::Table(table) = &item.raw else {
            self.wrong(item, format!("`{path}` is no section"), "write [provider.NAME]");
            return None;
        };
        let known: Vec<&str> = PROVIDER.iter().map(|(leaf, _)| *leaf).chain(["replies"]).collect();
        self.only(table, &known, &format!("a provider has {}", known.join(", ")));
        let values = self.values(&path, table, PROVIDER);
        let hosts: Vec<String> = values[0].iter().flat_map(texts).map(|host| host.to_lowercase()).collect();
        if hosts.is_empty() {
            self.wrong(item, format!("`{path}` has no hosts"), "name them: mx = [\".mail.example.com\"]");
        }
        let replies = table.get("replies").map_or_else(Vec::new, |entry| self.replies(&path, &entry.item));
        Some(Provider {
            name: name.to_string(),
            hosts,
            connections: number(values[1].as_ref()).unwrap_or(10),
            messages: number(values[2].as_ref()).unwrap_or(100),
            per_minute: number(values[3].as_ref()),
            tls: values[4] == Some(Value::Word("required")),
            replies,
        })
    }

    fn replies(&mut self, path: &str, item: &Item) -> Vec<ReplyRule> {
        let Raw::List(items) = &item.raw else {
            self.wrong(
                item,
                format!("`{path}.replies` is no list"),
                "write [ { text = \"…\", do = \"slow\", for = \"30m\" } ]",
            );
            return Vec::new();
        };
        items.iter().filter_map(|item| self.reply(path, item)).collect()
    }

    fn reply(&mut self, path: &str, item: &Item) -> Option<ReplyRule> {
        let Raw::Table(table) = &item.raw else {
            self.wrong(item, "this is no rule".into(), "write { text = \"…\", do = \"slow\", for = \"30m\" }");
            return None;
        };
        let known: Vec<&str> = REPLY.iter().map(|(leaf, _)| *leaf).collect();
        self.only(table, &known, &format!("a rule has {}", known.join(", ")));
        let values = self.values(&format!("{path}.replies"), table, REPLY);
        let span = if let Some(Value::Span(span)) = values[3] { Some(span) } else { None };
        let word = if let Some(Value::Word(word)) = values[2] { word } else { "" };
        let action = match (word, span, number(values[4].as_ref())) {
            ("slow", Some(span), None) => ReplyAction::Slow(span),
            ("suspend", Some(span), None) => ReplyAction::Suspend(span),
            ("connections", Some(span), Some(count)) => ReplyAction::Connections(count, span),
            ("bounce", None, None) => ReplyAction::Bounce,
            ("fewer-messages", None, None) => ReplyAction::FewerMessages,
            _ => {
                let remedy = "slow and suspend take `for`, connections takes `connections` and `for`, bounce and fewer-messages take nothing";
                self.wrong(item, format!("a rule of `{path}` does not say what to do"), remedy);
                return None;
            }
        };
        let text = values[1].iter().flat_map(texts).next().unwrap_or_default();
        let code = number(values[0].as_ref()).and_then(|code| u16::try_from(code).ok());
        if text.is_empty() && code.is_none() {
            self.wrong(item, format!("a rule of `{path}` fits every reply"), "give it a code or a text");
        }
        Some(ReplyRule { code, text, action })
    }
}

fn number(value: Option<&Value>) -> Option<u32> {
    match value {
        Some(Value::Number(number)) => u32::try_from(*number).ok(),
        _ => None,
    }
}

/// The texts of a text or of a list.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Text(text) => vec![text.clone()],
        Value::List(values) => values.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_rules_are_read() {
        let all = shipped();
        let names: Vec<_> = all.iter().map(|provider| provider.name.as_str()).collect();
        for name in ["google", "yahoo", "outlook", "microsoft365", "icloud", "comcast", "orange", "gmx"] {
            assert!(names.contains(&name), "{name}");
        }
        let google = &all[names.iter().position(|name| *name == "google").unwrap()];
        assert_eq!((google.connections, google.messages, google.tls), (5, 50, true));
        let slow = ReplyAction::Slow(Duration::from_secs(1800));
        assert_eq!(google.replies[0], ReplyRule { code: Some(421), text: "4.7.28".into(), action: slow });
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let text = "[provider.a]\nmx = []\nconections = 5\n[provider.b]\nmx = \".b.example\"\nreplies = [\n  { text = \"x\", do = \"slow\" },\n  { do = \"bounce\" },\n]\n[rovider.c]\n";
        let Err(Mistakes(mistakes)) = parse("rules.toml", text) else { panic!("five mistakes") };
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        for part in
            ["did you mean `connections`", "no hosts", "rules.toml:7:", "fits every reply", "did you mean `provider`"]
        {
            assert!(told.iter().any(|mistake| mistake.contains(part)), "no {part} in {told:#?}");
        }
        assert_eq!(told.len(), 5, "{told:#?}");
    }

    #[test]
    fn a_file_takes_the_place_of_shipped_rules_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[provider.google]\nmx = \".google.com\"\nconnections = 20\nper-minute = 600\n")
            .unwrap();
        let mut mistakes = Vec::new();
        let all = with_file(Some(file.path()), &mut mistakes);
        assert!(mistakes.is_empty());
        let google: Vec<_> = all.iter().filter(|provider| provider.name == "google").collect();
        assert_eq!(google.len(), 1);
        assert_eq!((google[0].connections, google[0].per_minute, google[0].tls), (20, Some(600), false));
        assert_eq!(all.len(), shipped().len());
    }
}
