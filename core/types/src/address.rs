//! Mail addresses: `Mailbox` of RFC 5321 §4.1.2 with the UTF-8 forms of RFC 6531 §3.3.
//!
//! A parsed address is a value that can be compared: the domain is folded to lower-case A-labels (so that `Bücher.example`
//! and `XN--BCHER-KVA.example` are one), a quoted local part that need not be quoted has lost its quotes, the case of the local
//! part is kept. Source routes are not addresses; `waypost-smtp` strips them from paths. Nothing here ever looks inside a local
//! part for `%`, `!` or a second `@`: that is how relays were opened.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use crate::limits;

/// A domain name in lower-case A-label form, without a trailing dot. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

impl Domain {
    /// Parses a domain: letters, digits, hyphens and (tolerated, as DNS does) underscores, or U-labels, which become A-labels.
    /// At most 255 octets, labels of 1–63. A trailing dot is refused (RFC 5321 §2.3.5).
    pub fn parse(text: &str) -> Result<Domain, InvalidAddress> {
        if text.is_ascii() {
            return Domain::from_ascii(text);
        }
        let ascii = idna::domain_to_ascii(text).map_err(|_| InvalidAddress::Domain)?;
        Domain::from_ascii(&ascii)
    }

    fn from_ascii(text: &str) -> Result<Domain, InvalidAddress> {
        if text.is_empty() || text.len() > limits::DOMAIN_BYTES_MAX {
            return Err(InvalidAddress::Domain);
        }
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !text.split('.').all(label_ok) {
            return Err(InvalidAddress::Domain);
        }
        Ok(Domain(if text.bytes().any(|b| b.is_ascii_uppercase()) {
            text.to_ascii_lowercase().into()
        } else {
            text.into()
        }))
    }

    /// The A-label form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The U-label form, for people.
    pub fn to_unicode(&self) -> String {
        idna::domain_to_unicode(&self.0).0
    }

    /// Whether there is at least one dot.
    pub fn is_qualified(&self) -> bool {
        self.0.contains('.')
    }

    /// The domain above: `example.com` of `mail.example.com`.
    pub fn parent(&self) -> Option<Domain> {
        self.0.split_once('.').map(|(_, parent)| Domain(parent.into()))
    }

    /// Whether this is `other` or lies below it.
    pub fn is_within(&self, other: &Domain) -> bool {
        self.0.strip_suffix(&*other.0).is_some_and(|front| front.is_empty() || front.ends_with('.'))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Domain, InvalidAddress> {
        Domain::parse(text)
    }
}

/// What stands behind the `@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name.
    Name(Domain),
    /// An address literal, `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    Literal(IpAddr),
}

impl Host {
    /// Parses a domain or an address literal of RFC 5321 §4.1.3. General address literals (other tags) are refused.
    pub fn parse(text: &str) -> Result<Host, InvalidAddress> {
        let Some(inner) = text.strip_prefix('[') else {
            return Domain::parse(text).map(Host::Name);
        };
        let inner = inner.strip_suffix(']').ok_or(InvalidAddress::Domain)?;
        let tagged = inner.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
        let address = if tagged {
            inner[5..].parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| InvalidAddress::Domain)
        } else {
            inner.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| InvalidAddress::Domain)
        };
        address.map(Host::Literal)
    }

    /// The name, unless it is an address literal.
    pub fn domain(&self) -> Option<&Domain> {
        match self {
            Host::Name(domain) => Some(domain),
            Host::Literal(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(domain) => domain.fmt(f),
            Host::Literal(IpAddr::V4(address)) => write!(f, "[{address}]"),
            Host::Literal(IpAddr::V6(address)) => write!(f, "[IPv6:{address}]"),
        }
    }
}

/// A mailbox: `local-part@host`. Equal if the local parts are equal (case matters, needless quoting does not) and the hosts are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// In its shortest wire form: quoted only if it must be.
    local: Arc<str>,
    host: Host,
}

impl Address {
    /// Puts an address together from a local part in wire form (quoted if need be) and a host.
    pub fn new(local: &str, host: Host) -> Result<Address, InvalidAddress> {
        Ok(Address { local: normal_local(local)?, host })
    }

    /// Parses `local@host`, without angle brackets. The last `@` outside quotes parts them.
    pub fn parse(text: &str) -> Result<Address, InvalidAddress> {
        let at = local_end(text)?;
        if text.as_bytes().get(at) != Some(&b'@') {
            return Err(InvalidAddress::NoDomain);
        }
        Address::new(&text[..at], Host::parse(&text[at + 1..])?)
    }

    /// The local part as it goes on the wire.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The local part as a mailbox name: without quotes and backslashes.
    pub fn mailbox(&self) -> String {
        unquote(&self.local)
    }

    /// What stands behind the `@`.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The domain, unless the host is an address literal.
    pub fn domain(&self) -> Option<&Domain> {
        self.host.domain()
    }

    /// Whether every octet is ASCII: otherwise the address needs SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii()
    }

    /// The same mailbox name at another host.
    pub fn at(&self, host: Host) -> Address {
        Address { local: self.local.clone(), host }
    }

    /// Whether the local part is `postmaster` in any case (RFC 5321 §4.5.1).
    pub fn is_postmaster(&self) -> bool {
        self.local.eq_ignore_ascii_case("postmaster")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.host)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Address, InvalidAddress> {
        Address::parse(text)
    }
}

/// The argument of MAIL: a mailbox, or `<>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: notices that must not be answered.
    #[default]
    Null,
    /// Who gets the notices.
    Mailbox(Address),
}

impl ReversePath {
    /// The mailbox, if there is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            ReversePath::Null => None,
            ReversePath::Mailbox(address) => Some(address),
        }
    }
}

impl fmt::Display for ReversePath {
    /// Without angle brackets; the null path is the empty string.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReversePath::Null => Ok(()),
            ReversePath::Mailbox(address) => address.fmt(f),
        }
    }
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidAddress {
    /// Nothing in front of the `@`, or more than [`limits::LOCAL_PART_BYTES_MAX`] octets.
    LocalLength,
    /// The local part is neither a dot-string nor a quoted string.
    Local,
    /// There is no `@host`.
    NoDomain,
    /// What follows the `@` is neither a domain nor an IPv4 or IPv6 literal.
    Domain,
}

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidAddress::LocalLength => "local part must have 1 to 255 octets",
            InvalidAddress::Local => "bad local part syntax",
            InvalidAddress::NoDomain => "domain missing",
            InvalidAddress::Domain => "bad domain syntax",
        })
    }
}

impl std::error::Error for InvalidAddress {}

/// Where the local part at the front of `text` ends: a quoted string or a run of atom characters and dots.
fn local_end(text: &str) -> Result<usize, InvalidAddress> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return Ok(bytes.iter().position(|&b| b == b'@').unwrap_or(bytes.len()));
    }
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return Ok(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Err(InvalidAddress::Local)
}

/// Checks a local part and brings it into its shortest form.
fn normal_local(local: &str) -> Result<Arc<str>, InvalidAddress> {
    if local.is_empty() || local.len() > limits::LOCAL_PART_BYTES_MAX {
        return Err(InvalidAddress::LocalLength);
    }
    if is_dot_string(local) {
        return Ok(local.into());
    }
    let inner = local
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|_| local.len() >= 2)
        .ok_or(InvalidAddress::Local)?;
    if !is_quoted_content(inner) {
        return Err(InvalidAddress::Local);
    }
    let plain = unquote(local);
    if is_dot_string(&plain) {
        return Ok(plain.into());
    }
    let mut shortest = String::with_capacity(local.len());
    shortest.push('"');
    for c in plain.chars() {
        if matches!(c, '"' | '\\') {
            shortest.push('\\');
        }
        shortest.push(c);
    }
    shortest.push('"');
    Ok(shortest.into())
}

/// `Dot-string` of RFC 5321 with the UTF-8 of RFC 6531.
fn is_dot_string(text: &str) -> bool {
    let atom_ok = |atom: &str| !atom.is_empty() && atom.chars().all(is_atext);
    text.split('.').all(atom_ok)
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

/// `QcontentSMTP`: printable characters and blanks, `"` and `\` only behind a backslash.
fn is_quoted_content(inner: &str) -> bool {
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let ok = match c {
            '\\' => chars.next().is_some_and(|escaped| (' '..='~').contains(&escaped)),
            '"' => false,
            c => c == ' ' || (!c.is_ascii_control() && !c.is_control()),
        };
        if !ok {
            return false;
        }
    }
    true
}

fn unquote(local: &str) -> String {
    let Some(inner) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return local.to_string();
    };
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> String {
        Address::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).to_string()
    }

    #[test]
    fn domains_fold_and_local_parts_keep_their_case() {
        assert_eq!(ok("John.Doe@EXAMPLE.Com"), "John.Doe@example.com");
        assert_eq!(ok("u@Bücher.example"), "u@xn--bcher-kva.example");
        assert_eq!(ok("u@XN--BCHER-KVA.example"), "u@xn--bcher-kva.example");
        assert_eq!(ok("jürgen@example.com"), "jürgen@example.com");
    }

    #[test]
    fn quotes_go_when_they_are_needless_and_stay_when_not() {
        assert_eq!(ok("\"john\"@example.com"), "john@example.com");
        assert_eq!(ok("\"j\\ohn\"@example.com"), "john@example.com");
        assert_eq!(ok("\"john doe\"@example.com"), "\"john doe\"@example.com");
        assert_eq!(ok("\"a@b\"@example.com"), "\"a@b\"@example.com");
        assert_eq!(ok("\"a\\\"b\"@example.com"), "\"a\\\"b\"@example.com");
        assert_eq!(Address::parse("\"a\\\"b\"@example.com").unwrap().mailbox(), "a\"b");
        assert_eq!(ok("\"\"@example.com"), "\"\"@example.com");
    }

    #[test]
    fn literals_parse() {
        assert_eq!(ok("u@[127.0.0.1]"), "u@[127.0.0.1]");
        assert_eq!(ok("u@[ipv6:::1]"), "u@[IPv6:::1]");
    }

    #[test]
    fn relay_tricks_stay_in_the_local_part() {
        assert_eq!(ok("a%b@example.com"), "a%b@example.com");
        assert_eq!(ok("host!a@example.com"), "host!a@example.com");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b.example",
            "a@b@c.example",
            ".a@b.example",
            "a.@b.example",
            "a..b@c.example",
            "a b@c.example",
            "\"a@c.example",
            "\"a\"b@c.example",
            "a@-b.example",
            "a@b..example",
            "a@b.example.",
            "a@[1.2.3]",
            "a@[::1]",
            "a@[IPv6:zz]",
            "a@b.exa mple",
            "a\u{0}@b.example",
            "\"a\u{7f}\"@b.example",
            "\"a\r\n\"@b.example",
            "\"",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Address::parse(&format!("{}@b.example", "a".repeat(256))), Err(InvalidAddress::LocalLength));
        assert_eq!(Address::parse(&format!("a@{}example", "abcdefgh.".repeat(32))), Err(InvalidAddress::Domain));
    }

    #[test]
    fn parsing_what_was_printed_gives_the_same() {
        for text in ["\"a b\"@c.example", "a@[IPv6:2001:db8::1]", "\"\\\\\"@c.example"] {
            let address = Address::parse(text).unwrap();
            assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }
    }

    #[test]
    fn a_domain_lies_within_itself_and_its_parents_only() {
        let of = |text| Domain::parse(text).unwrap();
        assert!(of("a.b.example").is_within(&of("b.example")));
        assert!(of("b.example").is_within(&of("b.example")));
        assert!(!of("ab.example").is_within(&of("b.example")));
        assert_eq!(of("a.b.example").parent(), Some(of("b.example")));
    }
}
