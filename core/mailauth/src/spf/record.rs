//! The grammar of an SPF record (RFC 7208 §4.5, §5, §6, §12): text in, terms out. A record is good as a whole or not at all. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::expand::MacroString;
use super::{Problem, SpfResult};

/// A record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) directives: Vec<Directive>,
    pub(super) redirect: Option<MacroString>,
    pub(super) exp: Option<MacroString>,
}

/// A mechanism and what follows from its match.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) result: SpfResult,
    pub(super) mechanism: Mechanism,
}

/// Prefix lengths of a dual-stack mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) v4: u8,
    pub(super) v6: u8,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    All,
    Include(MacroString),
    A(Option<MacroString>, Cidr),
    Mx(Option<MacroString>, Cidr),
    Ptr(Option<MacroString>),
    Ip4(Ipv4Addr, u8),
    Ip6(Ipv6Addr, u8),
    Exists(MacroString),
}

/// Whether a TXT record is meant to be SPF: `v=spf1` and then a blank or nothing.
pub(super) fn is_spf(text: &str) -> bool {
    let version = text.get(..6).is_some_and(|version| version.eq_ignore_ascii_case("v=spf1"));
    version && matches!(text.as_bytes().get(6), None | Some(b' '))
}

impl Record {
    pub(super) fn parse(text: &str) -> Result<Record, Problem> {
        if !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(Problem("a character that no record may hold"));
        }
        let mut record = Record::default();
        for term in text[6..].split(' ').filter(|term| !term.is_empty()) {
            record.term(term)?;
        }
        Ok(record)
    }

    fn term(&mut self, term: &str) -> Result<(), Problem> {
        // A modifier's name ends at `=`; a mechanism's at `:`, `/` or the end.
        let end = term.find(['=', ':', '/']).unwrap_or(term.len());
        if term.as_bytes().get(end) == Some(&b'=') {
            return self.modifier(&term[..end], &term[end + 1..]);
        }
        self.directives.push(directive(term)?);
        Ok(())
    }

    fn modifier(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        let mut letters = name.bytes();
        let named = letters.next().is_some_and(|b| b.is_ascii_alphabetic())
            && letters.all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !named {
            return Err(Problem("a modifier without a proper name"));
        }
        let slot = match name.to_ascii_lowercase().as_str() {
            "redirect" => &mut self.redirect,
            "exp" => &mut self.exp,
            // Unknown ones are ignored if they are well-formed (§6).
            _ => return MacroString::parse(value, false).map(drop),
        };
        if slot.is_some() {
            return Err(Problem("a modifier that stands there twice"));
        }
        *slot = Some(MacroString::parse_domain(value)?);
        Ok(())
    }
}

fn directive(term: &str) -> Result<Directive, Problem> {
    let (result, rest) = match term.as_bytes()[0] {
        b'+' => (SpfResult::Pass, &term[1..]),
        b'-' => (SpfResult::Fail, &term[1..]),
        b'~' => (SpfResult::SoftFail, &term[1..]),
        b'?' => (SpfResult::Neutral, &term[1..]),
        _ => (SpfResult::Pass, term),
    };
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let mechanism = mechanism(&rest[..end].to_ascii_lowercase(), &rest[end..])?;
    Ok(Directive { result, mechanism })
}

/// `argument` begins with `:` or `/`, or is empty.
fn mechanism(name: &str, argument: &str) -> Result<Mechanism, Problem> {
    let domain = argument.strip_prefix(':');
    match name {
        "all" if argument.is_empty() => Ok(Mechanism::All),
        "include" => Ok(Mechanism::Include(required(domain)?)),
        "exists" => Ok(Mechanism::Exists(required(domain)?)),
        "ptr" if argument.is_empty() => Ok(Mechanism::Ptr(None)),
        "ptr" => Ok(Mechanism::Ptr(Some(required(domain)?))),
        "a" => dual(argument).map(|(domain, cidr)| Mechanism::A(domain, cidr)),
        "mx" => dual(argument).map(|(domain, cidr)| Mechanism::Mx(domain, cidr)),
        "ip4" => {
            let (address, length) = network(domain, 32)?;
            address.parse().map(|address| Mechanism::Ip4(address, length)).map_err(|_| Problem("a bad IPv4 address"))
        }
        "ip6" => {
            let (address, length) = network(domain, 128)?;
            address.parse().map(|address| Mechanism::Ip6(address, length)).map_err(|_| Problem("a bad IPv6 address"))
        }
        _ => Err(Problem("an unknown mechanism")),
    }
}

fn required(domain: Option<&str>) -> Result<MacroString, Problem> {
    MacroString::parse_domain(domain.ok_or(Problem("a mechanism without its domain"))?)
}

/// `[":" domain-spec] [dual-cidr-length]`.
fn dual(argument: &str) -> Result<(Option<MacroString>, Cidr), Problem> {
    let Some(rest) = argument.strip_prefix(':') else {
        return Ok((None, cidr(argument)?));
    };
    let start = cidr_start(rest);
    Ok((Some(MacroString::parse_domain(&rest[..start])?), cidr(&rest[start..])?))
}

/// Where `/24`, `//64` or `/24//64` begins at the end of `text`. Only there: a domain-spec may hold slashes itself.
fn cidr_start(text: &str) -> usize {
    let without_digits = |text: &str| text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let mut start = text.len();
    let v6 = without_digits(text);
    if v6 < text.len() && text[..v6].ends_with("//") {
        start = v6 - 2;
    }
    let v4 = without_digits(&text[..start]);
    if v4 < start && text[..v4].ends_with('/') && !text[..v4].ends_with("//") {
        start = v4 - 1;
    }
    start
}

fn cidr(text: &str) -> Result<Cidr, Problem> {
    let mut cidr = Cidr { v4: 32, v6: 128 };
    let (v4, v6) = match text.split_once("//") {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (text, None),
    };
    if !v4.is_empty() {
        cidr.v4 = length(v4.strip_prefix('/').ok_or(Problem("a bad prefix length"))?, 32)?;
    }
    if let Some(v6) = v6 {
        cidr.v6 = length(v6, 128)?;
    }
    Ok(cidr)
}

fn network(domain: Option<&str>, length_max: u8) -> Result<(&str, u8), Problem> {
    let text = domain.ok_or(Problem("a network without an address"))?;
    match text.split_once('/') {
        Some((address, digits)) => Ok((address, length(digits, length_max)?)),
        None => Ok((text, length_max)),
    }
}

/// No sign, no leading zero, no blank.
fn length(digits: &str, max: u8) -> Result<u8, Problem> {
    let plain = digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()));
    let value = digits.parse::<u8>().ok().filter(|value| plain && *value <= max);
    value.ok_or(Problem("a bad prefix length"))
}
