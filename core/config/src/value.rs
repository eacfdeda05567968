//! From what was written to what it means: one value at a time, by its [`Kind`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use waypost_types::Domain;

use crate::mistake::{Mistake, Place, nearest};
use crate::raw::{Item, Raw, Table};
use crate::setting::Kind;

/// Largest weight, and smallest.
const WEIGHT_MAX: f64 = 1000.0;

/// A value that has been understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Flag(bool),
    /// Counts and sizes.
    Number(u64),
    Span(Duration),
    Weight(f64),
    Word(&'static str),
    Text(String),
    Domain(Domain),
    Socket(SocketAddr),
    Network(IpNet),
    Path(PathBuf),
    List(Vec<Value>),
    Map(Vec<(String, Vec<Value>, Place)>),
    /// JSON.
    Free(String),
}

/// Understands values; keeps the mistakes.
pub(crate) struct Reader<'a> {
    /// Paths in the file are relative to this folder.
    pub(crate) file_base: &'a Path,
    /// Paths in `--set` are relative to this one.
    pub(crate) override_base: &'a Path,
    /// What was wrong so far.
    pub(crate) mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    /// The value of `name`, or `None` after a mistake.
    pub(crate) fn read(&mut self, name: &str, kind: Kind, item: &Item) -> Option<Value> {
        match kind {
            Kind::List(inner) => self.read_list(name, *inner, item).map(Value::List),
            Kind::Map(inner) => self.read_map(name, *inner, item),
            Kind::Free => match &item.raw {
                Raw::Table(_) => {
                    let mut json = String::new();
                    item.raw.write_json(&mut json);
                    Some(Value::Free(json))
                }
                _ => self.wrong(name, kind, item),
            },
            kind => self.read_one(name, kind, item),
        }
    }

    fn read_list(&mut self, name: &str, kind: Kind, item: &Item) -> Option<Vec<Value>> {
        let Raw::List(items) = &item.raw else {
            return self.read_several(name, kind, item);
        };
        let read: Vec<_> = items.iter().map(|item| self.read_several(name, kind, item)).collect();
        Some(read.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// One element; `*:25` is two sockets.
    fn read_several(&mut self, name: &str, kind: Kind, item: &Item) -> Option<Vec<Value>> {
        if let (Kind::Socket(port), Raw::Text(text)) = (kind, &item.raw)
            && let Some(rest) = text.strip_prefix('*')
            && let Some(port) = any_port(rest, port)
        {
            let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
            return Some(any.map(|ip| Value::Socket(SocketAddr::new(ip, port))).to_vec());
        }
        self.read_one(name, kind, item).map(|value| vec![value])
    }

    fn read_map(&mut self, name: &str, kind: Kind, item: &Item) -> Option<Value> {
        let Raw::Table(table) = &item.raw else { return self.wrong(name, Kind::Map(&Kind::Text), item) };
        let entries: Vec<_> = table
            .iter()
            .map(|(key, entry)| {
                let values = self.read_list(&format!("{name}.\"{key}\""), kind, &entry.item)?;
                Some((key.clone(), values, entry.key_place.clone()))
            })
            .collect();
        entries.into_iter().collect::<Option<Vec<_>>>().map(Value::Map)
    }

    fn read_one(&mut self, name: &str, kind: Kind, item: &Item) -> Option<Value> {
        match (kind, &item.raw) {
            (Kind::Flag, Raw::Flag(flag)) => Some(Value::Flag(*flag)),
            (Kind::Count(min, max), Raw::Number(number)) => {
                self.bounded(name, item, u64::try_from(*number).ok(), min, max, |n| n.to_string()).map(Value::Number)
            }
            (Kind::Size(min, max), Raw::Number(number)) => {
                self.bounded(name, item, u64::try_from(*number).ok(), min, max, size_text).map(Value::Number)
            }
            (Kind::Weight, Raw::Number(number)) => self.weight(name, item, *number as f64),
            (Kind::Weight, Raw::Float(number)) => self.weight(name, item, *number),
            (Kind::Span(0, _), Raw::Number(0)) => Some(Value::Span(Duration::ZERO)),
            (kind, Raw::Text(text)) => self.read_text(name, kind, item, text),
            _ => self.wrong(name, kind, item),
        }
    }

    fn read_text(&mut self, name: &str, kind: Kind, item: &Item, text: &str) -> Option<Value> {
        match kind {
            Kind::Text => Some(Value::Text(text.to_string())),
            Kind::Name if is_name(text) => Some(Value::Text(text.to_string())),
            Kind::Word(words) => self.word(name, item, words, text),
            Kind::Domain => match Domain::parse(text) {
                Ok(domain) => Some(Value::Domain(domain)),
                Err(_) => self.wrong(name, kind, item),
            },
            Kind::Size(min, max) => match parse_size(text) {
                Some(size) => self.bounded(name, item, Some(size), min, max, size_text).map(Value::Number),
                None => self.wrong(name, kind, item),
            },
            Kind::Span(min, max) => match parse_span(text) {
                Some(span) => self.span(name, item, span, min, max),
                None => self.wrong(name, kind, item),
            },
            Kind::Socket(port) => match parse_socket(text, port) {
                Some(socket) => Some(Value::Socket(socket)),
                None => self.wrong(name, kind, item),
            },
            Kind::Network => match parse_network(text) {
                Ok(network) => Some(Value::Network(network)),
                Err(Some(meant)) => self.mistake(
                    item,
                    format!("`{name}`: {text} has bits set behind its prefix"),
                    format!("write {meant}"),
                ),
                Err(None) => self.wrong(name, kind, item),
            },
            Kind::Path if !text.is_empty() => Some(Value::Path(self.path(item, text))),
            Kind::File if !text.is_empty() => self.file(name, item, text),
            kind => self.wrong(name, kind, item),
        }
    }

    fn word(&mut self, name: &str, item: &Item, words: &'static [&'static str], text: &str) -> Option<Value> {
        if let Some(word) = words.iter().find(|word| **word == text) {
            return Some(Value::Word(word));
        }
        let remedy = match nearest(text, words.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"? The choices are {}", words.join(", ")),
            None => format!("the choices are {}", words.join(", ")),
        };
        self.mistake(item, format!("`{name}` cannot be \"{text}\""), remedy)
    }

    fn bounded(
        &mut self,
        name: &str,
        item: &Item,
        number: Option<u64>,
        min: u64,
        max: u64,
        text: impl Fn(u64) -> String,
    ) -> Option<u64> {
        if let Some(number) = number.filter(|number| (min..=max).contains(number)) {
            return Some(number);
        }
        self.mistake(item, format!("`{name}` is out of bounds"), format!("it may be {} to {}", text(min), text(max)))
    }

    fn span(&mut self, name: &str, item: &Item, span: Duration, min: u64, max: u64) -> Option<Value> {
        if (Duration::from_secs(min)..=Duration::from_secs(max)).contains(&span) {
            return Some(Value::Span(span));
        }
        let bounds = format!("it may be {} to {}", span_text(min), span_text(max));
        self.mistake(item, format!("`{name}` is out of bounds"), bounds)
    }

    fn weight(&mut self, name: &str, item: &Item, weight: f64) -> Option<Value> {
        match (-WEIGHT_MAX..=WEIGHT_MAX).contains(&weight) {
            true => Some(Value::Weight(weight)),
            false => self.wrong(name, Kind::Weight, item),
        }
    }

    fn path(&self, item: &Item, text: &str) -> PathBuf {
        match item.place {
            Place::File { .. } => self.file_base.join(text),
            _ => self.override_base.join(text),
        }
    }

    fn file(&mut self, name: &str, item: &Item, text: &str) -> Option<Value> {
        let path = self.path(item, text);
        match std::fs::File::open(&path).and_then(|file| file.metadata()) {
            Ok(about) if about.is_file() => Some(Value::Path(path)),
            Ok(_) => self.mistake(item, format!("`{name}`: {} is no file", path.display()), "name a file"),
            Err(error) => self.mistake(
                item,
                format!("`{name}`: cannot read {}: {}", path.display(), plain_error(&error)),
                "correct the path (it is relative to the file that names it), or the file's owner and mode",
            ),
        }
    }

    fn wrong<T>(&mut self, name: &str, kind: Kind, item: &Item) -> Option<T> {
        let written = match &item.raw {
            Raw::Text(text) => format!("\"{text}\""),
            Raw::Number(number) => number.to_string(),
            Raw::Float(number) => number.to_string(),
            raw => raw.word().to_string(),
        };
        self.mistake(item, format!("`{name}` cannot be {written}"), format!("write {}", expected(kind)))
    }

    fn mistake<T>(&mut self, item: &Item, problem: impl Into<String>, remedy: impl Into<String>) -> Option<T> {
        self.mistakes.push(Mistake::new(item.place.clone(), problem, remedy));
        None
    }
}

/// What a kind looks like, for remedies and the manual.
pub(crate) fn expected(kind: Kind) -> String {
    match kind {
        Kind::Flag => "true or false".into(),
        Kind::Count(min, max) => format!("a whole number from {min} to {max}"),
        Kind::Weight => format!("a number such as 5 or 7.5, -{WEIGHT_MAX} to {WEIGHT_MAX}"),
        Kind::Size(min, max) => format!("a size such as \"50 MiB\", {} to {}", size_text(min), size_text(max)),
        Kind::Span(min, max) => {
            format!("a time such as \"90s\", \"5m\", \"4h\" or \"5d\", {} to {}", span_text(min), span_text(max))
        }
        Kind::Word(words) => {
            format!("one of {}", words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", "))
        }
        Kind::Text => "a text".into(),
        Kind::Name => "a name of letters, digits, `.`, `-` and `_`, not beginning with a dot".into(),
        Kind::Domain => "a domain such as \"example.com\"".into(),
        Kind::Socket(0) => "an address with a port: \"127.0.0.1:25\", \"[::1]:25\", or \"*:25\" for all".into(),
        Kind::Socket(port) => {
            format!("an address, with a port if it is not {port}: \"192.0.2.1\", \"[2001:db8::1]:{port}\"")
        }
        Kind::Network => "a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", or one address".into(),
        Kind::File => "the path of a file that is there".into(),
        Kind::Path => "a path".into(),
        Kind::List(inner) => format!("a list: {}, or several in [brackets]", expected(*inner)),
        Kind::Map(_) => "a section of `key = \"value\"` lines".into(),
        Kind::Free => "a section".into(),
    }
}

/// `Permission denied` instead of `Permission denied (os error 13)`.
pub(crate) fn plain_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Whether a text can name a user, a section, a folder.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    Some((text[..end].replace('_', "").parse().ok()?, text[end..].trim()))
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn parse_span(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let millis: u64 = match unit {
        "" if number == 0 => 1,
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

pub(crate) fn size_text(size: u64) -> String {
    match size {
        0 => "0".into(),
        s if s % (1 << 30) == 0 => format!("{} GiB", s >> 30),
        s if s % (1 << 20) == 0 => format!("{} MiB", s >> 20),
        s if s % (1 << 10) == 0 => format!("{} KiB", s >> 10),
        s => format!("{s} octets"),
    }
}

fn span_text(seconds: u64) -> String {
    match seconds {
        0 => "0".into(),
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// The port of `*` and `*:25`.
fn any_port(rest: &str, default: u16) -> Option<u16> {
    match rest.strip_prefix(':') {
        Some(port) => port.parse().ok(),
        None => (rest.is_empty() && default != 0).then_some(default),
    }
}

/// An address and port; `localhost` is 127.0.0.1.
pub(crate) fn parse_socket(text: &str, default_port: u16) -> Option<SocketAddr> {
    let numeric = match text.strip_prefix("localhost") {
        Some(rest) => format!("127.0.0.1{rest}"),
        None => text.to_string(),
    };
    if let Ok(socket) = numeric.parse() {
        return Some(socket);
    }
    let bare = numeric.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&numeric);
    let address: IpAddr = bare.parse().ok()?;
    (default_port != 0).then(|| SocketAddr::new(address, default_port))
}

/// A network without host bits; `Err(Some)` is what was probably meant.
pub(crate) fn parse_network(text: &str) -> Result<IpNet, Option<IpNet>> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| None)?;
    if network.trunc() == network { Ok(network) } else { Err(Some(network.trunc())) }
}

/// A section's entry whose value is a section.
pub(crate) fn subsection<'a>(table: &'a Table, key: &str) -> Option<&'a Table> {
    match &table.get(key)?.item.raw {
        Raw::Table(inner) => Some(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_as_people_write_them() {
        assert_eq!(parse_size("50 MiB"), Some(50 << 20));
        assert_eq!(parse_size("10MB"), Some(10_000_000));
        assert_eq!(parse_size("50 apples"), None);
        assert_eq!(parse_span("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_span("5 d"), Some(Duration::from_secs(432_000)));
        assert_eq!(parse_span("10ms"), Some(Duration::from_millis(10)));
        assert_eq!(parse_span("5"), None);
        assert_eq!(parse_span("99999999999999999999d"), None);
    }

    #[test]
    fn sockets_need_a_port_unless_one_is_known() {
        assert_eq!(parse_socket("127.0.0.1:25", 0), Some("127.0.0.1:25".parse().unwrap()));
        assert_eq!(parse_socket("localhost:25", 0), Some("127.0.0.1:25".parse().unwrap()));
        assert_eq!(parse_socket("127.0.0.1", 0), None);
        assert_eq!(parse_socket("::1", 53), Some("[::1]:53".parse().unwrap()));
        assert_eq!(parse_socket("[::1]", 53), Some("[::1]:53".parse().unwrap()));
    }

    #[test]
    fn a_network_with_host_bits_is_a_slip() {
        assert_eq!(parse_network("192.0.2.0/24"), Ok("192.0.2.0/24".parse().unwrap()));
        assert_eq!(parse_network("192.0.2.7"), Ok("192.0.2.7/32".parse().unwrap()));
        assert_eq!(parse_network("192.0.2.7/24"), Err(Some("192.0.2.0/24".parse().unwrap())));
        assert_eq!(parse_network("192.0.2/24"), Err(None));
    }
}
