//! Which messages an operator means: predicates over entries, as a query string, the same for the admin interface and the command line.
//!
//! Entries are looked at one by one as they are read from the disk; nothing is collected, so that millions cost no memory.

use std::time::Duration;

use waypost_queue::{Delivery, Entry};
use waypost_types::{Host, Timestamp};

/// Everything that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// A pending recipient is at this domain.
    pub(crate) domain: Option<String>,
    /// Its last attempt was at this mail host, or below it if the name begins with a dot.
    pub(crate) mx: Option<String>,
    /// Its last reply has this in it.
    pub(crate) reply: Option<String>,
    /// The envelope sender has this in it.
    pub(crate) sender: Option<String>,
    /// This user sent it.
    pub(crate) user: Option<String>,
    /// It has been here so long.
    pub(crate) older: Option<Duration>,
    /// It is held, or is not.
    pub(crate) held: Option<bool>,
    /// Whoever gives nothing else says that all are meant.
    pub(crate) all: bool,
}

impl Filter {
    /// From a query; keys that are not ours are left to the caller. The error says what is wrong with which.
    pub(crate) fn parse(query: &Query) -> Result<Filter, String> {
        let text = |key| query.get(key).filter(|text| !text.is_empty()).map(str::to_string);
        let lower = |key| text(key).map(|text| text.to_lowercase());
        Ok(Filter {
            domain: lower("domain"),
            mx: lower("mx"),
            reply: lower("reply"),
            sender: lower("sender"),
            user: text("user"),
            older: text("older")
                .map(|text| span(&text).ok_or(format!("older={text}: write 90s, 5m, 4h or 3d")))
                .transpose()?,
            held: text("held").map(|text| flag(&text).ok_or(format!("held={text}: yes or no"))).transpose()?,
            all: text("all").is_some_and(|text| flag(&text) == Some(true)),
        })
    }

    /// As a query, for the command line's own requests.
    pub(crate) fn query(&self) -> String {
        let mut out = String::new();
        let texts = [
            ("domain", &self.domain),
            ("mx", &self.mx),
            ("reply", &self.reply),
            ("sender", &self.sender),
            ("user", &self.user),
        ];
        for (key, value) in texts {
            value.iter().for_each(|value| out.push_str(&format!("&{key}={}", encode(value))));
        }
        self.older.iter().for_each(|span| out.push_str(&format!("&older={}s", span.as_secs())));
        self.held.iter().for_each(|held| out.push_str(if *held { "&held=yes" } else { "&held=no" }));
        if self.all {
            out.push_str("&all=yes");
        }
        out
    }

    /// Whether anything was said.
    pub(crate) fn is_given(&self) -> bool {
        *self != Filter::default()
    }

    /// Whether an entry is meant.
    pub(crate) fn matches(&self, entry: &Entry, now: Timestamp) -> bool {
        let sender = |part: &String| entry.sender.to_string().to_lowercase().contains(part.as_str());
        self.held.is_none_or(|held| entry.held.is_some() == held)
            && self.older.is_none_or(|span| now.since(entry.accepted) >= span)
            && self.user.as_ref().is_none_or(|user| entry.origin.user.as_deref() == Some(user.as_str()))
            && self.sender.as_ref().is_none_or(sender)
            && entry.recipients.iter().any(|delivery| delivery.is_pending() && self.hits(delivery))
    }

    /// Whether a recipient is one of those for whom the entry is meant.
    pub(crate) fn hits(&self, delivery: &Delivery) -> bool {
        let at = |domain: &String| match delivery.recipient.address.host() {
            Host::Name(name) => name.as_str() == domain,
            literal => literal.to_string() == *domain,
        };
        let last = delivery.last.as_ref();
        let host = |host: &String| last.is_some_and(|last| host_matches(host, host_of(&last.target)));
        let said =
            |part: &String| last.is_some_and(|last| last.reply.to_string().to_lowercase().contains(part.as_str()));
        self.domain.as_ref().is_none_or(at) && self.mx.as_ref().is_none_or(host) && self.reply.as_ref().is_none_or(said)
    }
}

/// `mx.example` of `mx.example[192.0.2.1]:25`.
fn host_of(target: &str) -> &str {
    target.split('[').next().unwrap_or(target)
}

fn host_matches(pattern: &str, host: &str) -> bool {
    if pattern.starts_with('.') { host.ends_with(pattern) } else { host == pattern }
}

/// `90s`, `5m`, `4h`, `3d`.
pub(crate) fn span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).map(Duration::from_secs)
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "yes" | "true" | "1" => Some(true),
        "no" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// The part of an address behind its `?`, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Query(pairs.map(|(key, value)| (decode(key), decode(value))).collect())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }
}

/// What stands behind `%` in hexadecimal (RFC 3986 §2.1).
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex =
            (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(hex.unwrap_or(byte));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The reverse of [`decode`], for everything but letters and digits.
pub(crate) fn encode(text: &str) -> String {
    let octet = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(octet).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_queue::conformance::{NOW, mail};
    use waypost_queue::{Attempt, State};
    use waypost_types::{Outcome, Reply};

    fn entry() -> Entry {
        let (mut entry, _) = mail(1, &["x@c.example", "y@d.example"]);
        entry.recipients[1].state = State::Done(Outcome::Expanded);
        let reply = Reply::plain(451, "4.7.500 Server busy");
        let target = "mx1.prot.example[192.0.2.1]:25".into();
        entry.recipients[0].last = Some(Attempt { at: NOW, target, security: "".into(), reply });
        entry
    }

    #[test]
    fn predicates_look_at_what_is_pending() {
        let now = NOW.after(Duration::from_secs(7201));
        let by = |query: &str| Filter::parse(&Query::parse(query)).unwrap().matches(&entry(), now);
        for fits in [
            "",
            "domain=C.example",
            "mx=mx1.prot.example",
            "mx=.prot.example",
            "reply=server%20busy",
            "sender=alice@",
            "older=2h",
            "held=no",
        ] {
            assert!(by(fits), "{fits}");
        }
        for fails in [
            "domain=d.example",
            "domain=example",
            "mx=prot.example",
            "reply=greylisted",
            "sender=bob",
            "older=3h",
            "held=yes",
            "user=alice",
        ] {
            assert!(!by(fails), "{fails}");
        }
        assert!(!by("domain=c.example&reply=greylisted"), "everything that is given must fit");
    }

    #[test]
    fn what_the_command_line_writes_is_read_back() {
        let filter = Filter {
            domain: Some("c.example".into()),
            reply: Some("a b&c=%ä".into()),
            older: Some(Duration::from_secs(86_400)),
            held: Some(false),
            all: true,
            ..Filter::default()
        };
        assert_eq!(Filter::parse(&Query::parse(&filter.query())), Ok(filter));
        assert!(Filter::parse(&Query::parse("older=soon")).is_err_and(|error| error.contains("4h")));
    }
}
