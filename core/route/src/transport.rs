//! Transports: which way mail for a domain leaves, where DNS is not to decide.
//!
//! | text | meaning |
//! |---|---|
//! | `mx` (or `smtp`) | by the MX records of the recipient's domain: takes a domain out of a wider rule |
//! | `smtp:example.net` | by the MX records of `example.net` |
//! | `smtp:[relay.example.net]`, `smtp:[relay.example.net]:587` | to that host, no MX look-up; port 25 if none is said |
//! | `smtp:relay.example.net:587`, `smtp:192.0.2.1:25` | the same: who names a port names a host |
//! | `lmtp:127.0.0.1:24` | LMTP over TCP; an address, or `localhost` |
//! | `lmtp:unix:/run/dovecot/lmtp` | LMTP over a unix socket |
//! | `post:NAME` | over HTTP, as `[post.NAME]` says |
//! | `pipe:NAME` | to a program, as `[pipe.NAME]` says |
//! | `fail:5.1.2 we do not write to them` | no way: returned with these words |
//!
//! Rules are found by `user@example.com` (with its extension, then without), `example.com`, then `.example.com`, `.com` (every name below, at any depth), then `*`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ahash::HashMap;
use waypost_types::{Address, Domain, Host};

use crate::NextHop;
use crate::table::{Mistake, parse_table};

/// The port of SMTP between hosts.
pub const SMTP_PORT: u16 = 25;

/// One rule's right-hand side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By the MX records of the recipient's own domain.
    Mx,
    /// Always this way.
    To(NextHop),
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Transport, String> {
        let (kind, rest) = text.split_once(':').map_or((text, ""), |(kind, rest)| (kind, rest.trim()));
        match kind.trim() {
            "mx" | "smtp" if rest.is_empty() => Ok(Transport::Mx),
            "mx" => Err(format!("{text:?}: mx takes no host; write smtp:{rest}")),
            "smtp" | "relay" => smtp(rest).map(Transport::To),
            "lmtp" => lmtp(rest).map(Transport::To),
            "pipe" if is_section(rest) => Ok(Transport::To(NextHop::Pipe(rest.into()))),
            "pipe" => Err(format!("{text:?}: write pipe:NAME, where [pipe.NAME] has the command")),
            "post" if is_section(rest) => Ok(Transport::To(NextHop::Post(rest.into()))),
            "post" => Err(format!("{text:?}: write post:NAME, where [post.NAME] says where to")),
            "fail" | "error" if !rest.is_empty() => Ok(Transport::To(NextHop::Fail(rest.into()))),
            "fail" | "error" => {
                Err("fail: needs the words to return mail with, such as fail:5.1.2 no such network".into())
            }
            _ => Err(format!(
                "{text:?} is no transport: write mx, smtp:[host]:port, smtp:domain, lmtp:address:port, post:name, pipe:name or fail:text"
            )),
        }
    }
}

/// The name of a section of the configuration.
fn is_section(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// What follows `smtp:`.
fn smtp(rest: &str) -> Result<NextHop, String> {
    if let Some(inner) = rest.strip_prefix('[') {
        let (host, behind) = inner.split_once(']').ok_or_else(|| format!("{rest:?}: the bracket is not closed"))?;
        let port = match behind.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if behind.is_empty() => SMTP_PORT,
            None => return Err(format!("{rest:?}: behind the bracket only :port may follow")),
        };
        return one_host(host.strip_prefix("IPv6:").unwrap_or(host), port);
    }
    // An IPv6 address without brackets has colons of its own.
    if let Ok(address) = rest.parse::<IpAddr>() {
        return Ok(NextHop::Literal(address, SMTP_PORT));
    }
    match rest.rsplit_once(':') {
        Some((host, port)) => one_host(host, parse_port(port)?),
        None => Domain::parse(rest).map(NextHop::Mx).map_err(|error| format!("{rest:?}: {error}")),
    }
}

fn one_host(host: &str, port: u16) -> Result<NextHop, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(NextHop::Literal(address, port));
    }
    let name = Domain::parse(host).map_err(|error| format!("{host:?}: {error}"))?;
    Ok(NextHop::Host(Host::Name(name), port))
}

/// What follows `lmtp:`. Names are not looked up: which of its addresses would be the mail store's?
fn lmtp(rest: &str) -> Result<NextHop, String> {
    if let Some(path) = rest.strip_prefix("unix:") {
        let absolute = path.starts_with('/') && !path.contains('\0');
        return if absolute {
            Ok(NextHop::LmtpSocket(path.into()))
        } else {
            Err(format!("{rest:?}: a socket is named by its whole path, such as lmtp:unix:/run/dovecot/lmtp"))
        };
    }
    let rest = rest.strip_prefix("inet:").unwrap_or(rest);
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| format!("{rest:?}: lmtp needs address:port"))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = if bare.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { bare };
    let address: IpAddr = address
        .parse()
        .map_err(|_| format!("{host:?}: lmtp needs an IP address (or localhost), or unix:/path of a socket"))?;
    Ok(NextHop::Lmtp(SocketAddr::new(address, parse_port(port)?)))
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.trim().parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is no port: write a number from 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

/// What a rule is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportKey {
    /// One recipient.
    Address(Address),
    /// A domain, or what is below it.
    Domain(DomainPattern),
    /// `*`: whatever is not ours.
    All,
}

impl FromStr for TransportKey {
    type Err = String;

    fn from_str(text: &str) -> Result<TransportKey, String> {
        if text == "*" {
            return Ok(TransportKey::All);
        }
        if text.contains('@') {
            return Address::parse(text).map(TransportKey::Address).map_err(|error| format!("{text:?}: {error}"));
        }
        text.parse().map(TransportKey::Domain)
    }
}

impl fmt::Display for TransportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransportKey::Address(address) => address.fmt(f),
            TransportKey::Domain(pattern) => write!(f, "{}{}", if pattern.below { "." } else { "" }, pattern.domain),
            TransportKey::All => f.write_str("*"),
        }
    }
}

/// `example.com`, or `.example.com` for every name below.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DomainPattern {
    /// The domain.
    pub domain: Domain,
    /// It stands for the names below, not for itself.
    pub below: bool,
}

impl FromStr for DomainPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<DomainPattern, String> {
        let (below, name) = text.strip_prefix('.').map_or((false, text), |name| (true, name));
        let domain = Domain::parse(name).map_err(|error| format!("{text:?}: {error}"))?;
        Ok(DomainPattern { domain, below })
    }
}

/// Values by domain, nearest first: the domain itself, then its parents' `.patterns`.
#[derive(Clone, Debug)]
pub struct DomainMap<T> {
    exact: HashMap<Domain, T>,
    below: HashMap<Box<str>, T>,
}

impl<T> Default for DomainMap<T> {
    fn default() -> DomainMap<T> {
        DomainMap { exact: HashMap::default(), below: HashMap::default() }
    }
}

impl<T> DomainMap<T> {
    /// Sets a value; gives the one that stood there before.
    pub fn insert(&mut self, pattern: DomainPattern, value: T) -> Option<T> {
        if pattern.below {
            self.below.insert(pattern.domain.as_str().into(), value)
        } else {
            self.exact.insert(pattern.domain, value)
        }
    }

    /// The nearest value.
    pub fn find(&self, domain: &Domain) -> Option<&T> {
        if let Some(value) = self.exact.get(domain) {
            return Some(value);
        }
        if self.below.is_empty() {
            return None;
        }
        let mut name = domain.as_str();
        while let Some((_, parent)) = name.split_once('.') {
            if let Some(value) = self.below.get(parent) {
                return Some(value);
            }
            name = parent;
        }
        None
    }
}

/// Reads a transport table in Postfix's text form.
pub fn parse_transports(text: &str) -> Result<Vec<(TransportKey, Transport)>, Vec<Mistake>> {
    let mut rules = Vec::new();
    let mut mistakes = Vec::new();
    for entry in parse_table(text)? {
        match (entry.key.parse(), entry.value.parse()) {
            (Ok(key), Ok(transport)) => rules.push((key, transport)),
            (key, transport) => {
                let told = key.err().into_iter().chain(transport.err());
                mistakes.extend(told.map(|text| Mistake { line: entry.line, text }));
            }
        }
    }
    if mistakes.is_empty() { Ok(rules) } else { Err(mistakes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).expect("a domain")
    }

    #[test]
    fn every_form_is_read() {
        let to = |text: &str| match text.parse::<Transport>() {
            Ok(Transport::To(hop)) => hop,
            other => panic!("{text}: {other:?}"),
        };
        let v4: IpAddr = "192.0.2.1".parse().expect("an address");
        let v6: IpAddr = "2001:db8::1".parse().expect("an address");
        let host = |name, port| NextHop::Host(Host::Name(domain(name)), port);
        assert_eq!("mx".parse(), Ok(Transport::Mx));
        assert_eq!("smtp:".parse(), Ok(Transport::Mx));
        assert_eq!(to("smtp:Example.net"), NextHop::Mx(domain("example.net")));
        assert_eq!(to("smtp:[relay.example.net]"), host("relay.example.net", 25));
        assert_eq!(to("smtp:[relay.example.net]:587"), host("relay.example.net", 587));
        assert_eq!(to("smtp:relay.example.net:587"), host("relay.example.net", 587));
        assert_eq!(to("smtp:192.0.2.1:2525"), NextHop::Literal(v4, 2525));
        assert_eq!(to("smtp:[192.0.2.1]:2525"), NextHop::Literal(v4, 2525));
        assert_eq!(to("smtp:[IPv6:2001:db8::1]:2525"), NextHop::Literal(v6, 2525));
        assert_eq!(to("smtp:2001:db8::1"), NextHop::Literal(v6, 25));
        assert_eq!(to("lmtp:localhost:24"), NextHop::Lmtp("127.0.0.1:24".parse().expect("an address")));
        assert_eq!(to("lmtp:unix:/run/dovecot/lmtp"), NextHop::LmtpSocket("/run/dovecot/lmtp".into()));
        assert_eq!(to("lmtp:[::1]:24"), NextHop::Lmtp("[::1]:24".parse().expect("an address")));
        assert_eq!(to("fail:5.1.2 no: never"), NextHop::Fail("5.1.2 no: never".into()));
    }

    #[test]
    fn what_is_no_transport_is_told() {
        for text in [
            "",
            "uucp:x",
            "mx:host",
            "smtp:[a",
            "smtp:[a]b",
            "smtp:a:0",
            "smtp:a:b",
            "lmtp:a",
            "lmtp:mail.test:24",
            "fail:",
            "smtp:-a-",
        ] {
            assert!(text.parse::<Transport>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_nearest_rule_wins() {
        let mut map = DomainMap::default();
        for (pattern, value) in [("example.com", 1), (".example.com", 2), (".com", 3)] {
            assert_eq!(map.insert(pattern.parse().expect("a pattern"), value), None);
        }
        let find = |name| map.find(&domain(name)).copied();
        assert_eq!(find("example.com"), Some(1));
        assert_eq!(find("a.b.example.com"), Some(2));
        assert_eq!(find("other.com"), Some(3));
        assert_eq!(find("com"), None);
        assert_eq!(find("notexample.org"), None);
    }

    #[test]
    fn a_table_of_rules_is_read_and_its_mistakes_are_numbered() {
        let rules = parse_transports("# ours\nexample.com  smtp:[a.test]\n*\tmx\n").expect("valid");
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[1], (TransportKey::All, Transport::Mx));
        let mistakes = parse_transports("ok.test mx\n-bad- nowhere:x\n").expect_err("both sides are wrong");
        assert_eq!(mistakes.iter().map(|mistake| mistake.line).collect::<Vec<_>>(), [2, 2]);
    }
}
