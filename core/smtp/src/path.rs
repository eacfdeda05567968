//! The paths of MAIL and RCPT (RFC 5321 §4.1.2), as they are sent and as they ought to be.
//!
//! Blanks before the bracket are borne, missing brackets too where the policy says so. A source route is taken off unread
//! (appendix F.2). `<postmaster>` needs no domain (§4.5.1). What is left is an [`Address`], which never looks inside a local part.

use waypost_types::address::InvalidAddress;
use waypost_types::{Address, ReversePath};

/// Who gets a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardPath {
    /// `<postmaster>`, in any case: ours.
    Postmaster,
    /// A mailbox.
    Mailbox(Address),
}

/// A path and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<'a, P> {
    /// The path.
    pub path: P,
    /// The parameters, not yet read.
    pub parameters: &'a str,
    /// Whether the path as sent was ASCII: otherwise it needs SMTPUTF8 (RFC 6531 §3.2).
    pub ascii: bool,
}

/// Why an argument holds no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPath {
    /// It does not begin with `FROM:` or `TO:`.
    Keyword,
    /// Brackets are missing or do not match.
    Brackets,
    /// `<>` as a recipient.
    Null,
    /// What stands between the brackets.
    Address(InvalidAddress),
}

/// Reads the argument of MAIL: `FROM:<path> parameters`. `strict` demands brackets.
pub fn reverse(argument: &str, strict: bool) -> Result<Parsed<'_, ReversePath>, InvalidPath> {
    let (inner, parameters) = bracketed(argument, "FROM:", strict)?;
    let path = match inner {
        "" => ReversePath::Null,
        inner => ReversePath::Mailbox(mailbox(inner)?),
    };
    Ok(Parsed { path, parameters, ascii: inner.is_ascii() })
}

/// Reads the argument of RCPT: `TO:<path> parameters`.
pub fn forward(argument: &str, strict: bool) -> Result<Parsed<'_, ForwardPath>, InvalidPath> {
    let (inner, parameters) = bracketed(argument, "TO:", strict)?;
    let path = match inner {
        "" => return Err(InvalidPath::Null),
        inner if inner.eq_ignore_ascii_case("postmaster") => ForwardPath::Postmaster,
        inner => ForwardPath::Mailbox(mailbox(inner)?),
    };
    Ok(Parsed { path, parameters, ascii: inner.is_ascii() })
}

/// Takes `keyword` and the brackets off, and parts what was inside from what follows.
fn bracketed<'a>(argument: &'a str, keyword: &str, strict: bool) -> Result<(&'a str, &'a str), InvalidPath> {
    let front = argument.get(..keyword.len()).ok_or(InvalidPath::Keyword)?;
    if !front.eq_ignore_ascii_case(keyword) {
        return Err(InvalidPath::Keyword);
    }
    let rest = argument[keyword.len()..].trim_start_matches(' ');
    let (inner, rest) = match rest.strip_prefix('<') {
        Some(open) => {
            let end = unquoted(open, b'>').ok_or(InvalidPath::Brackets)?;
            (&open[..end], &open[end + 1..])
        }
        None if strict || rest.is_empty() => return Err(InvalidPath::Brackets),
        None => rest.split_at(unquoted(rest, b' ').unwrap_or(rest.len())),
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(InvalidPath::Brackets);
    }
    Ok((inner, rest.trim_matches(' ')))
}

/// Where `byte` first stands outside a quoted string.
fn unquoted(text: &str, byte: u8) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|b| {
        let found = b == byte && !quoted;
        if escaped {
            escaped = false;
        } else if b == b'"' {
            quoted = !quoted;
        } else {
            escaped = quoted && b == b'\\';
        }
        found
    })
}

fn mailbox(inner: &str) -> Result<Address, InvalidPath> {
    let inner = if inner.starts_with('@') { route_end(inner)? } else { inner };
    Address::parse(inner).map_err(InvalidPath::Address)
}

/// What follows `@a,@b:`. The hosts of the route are looked at only as far as telling them from a bad address needs.
fn route_end(inner: &str) -> Result<&str, InvalidPath> {
    let bad = InvalidPath::Address(InvalidAddress::Local);
    let (route, rest) = inner.split_once(':').ok_or(bad)?;
    let hop_ok = |hop: &str| hop.strip_prefix('@').is_some_and(|host| waypost_types::Domain::parse(host).is_ok());
    if route.split(',').all(hop_ok) { Ok(rest) } else { Err(bad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(argument: &str) -> Result<(String, &str), InvalidPath> {
        reverse(argument, false).map(|parsed| (parsed.path.to_string(), parsed.parameters))
    }

    fn to(argument: &str) -> Result<ForwardPath, InvalidPath> {
        forward(argument, false).map(|parsed| parsed.path)
    }

    #[test]
    fn paths_are_parted_from_parameters() {
        assert_eq!(from("FROM:<a@b.example>"), Ok(("a@b.example".into(), "")));
        assert_eq!(from("from: <a@b.example>  SIZE=1 "), Ok(("a@b.example".into(), "SIZE=1")));
        assert_eq!(from("FROM:<> RET=HDRS"), Ok((String::new(), "RET=HDRS")));
        assert_eq!(from("FROM:<\"a> b\"@b.example> X"), Ok(("\"a> b\"@b.example".into(), "X")));
        assert_eq!(from("FROM:<\"a\\\">\"@b.example>"), Ok(("\"a\\\">\"@b.example".into(), "")));
    }

    #[test]
    fn missing_brackets_are_borne_or_not() {
        assert_eq!(from("FROM:a@b.example SIZE=1"), Ok(("a@b.example".into(), "SIZE=1")));
        assert_eq!(reverse("FROM:a@b.example", true).unwrap_err(), InvalidPath::Brackets);
        for argument in ["FROM:", "FROM: ", "FROM:<a@b.example", "FROM:<a@b.example>SIZE=1", "FROM:<\"a>@b.example>"] {
            assert_eq!(from(argument), Err(InvalidPath::Brackets), "{argument}");
        }
        for argument in ["<a@b.example>", "FROM <a@b.example>", "TO:<a@b.example>", "", "FRÖM:<a@b>"] {
            assert_eq!(from(argument), Err(InvalidPath::Keyword), "{argument}");
        }
        assert!(from("FROM:a@b.example>").is_err());
    }

    #[test]
    fn source_routes_are_taken_off() {
        assert_eq!(from("FROM:<@x.example,@y.example:a@b.example>"), Ok(("a@b.example".into(), "")));
        for argument in ["FROM:<@x.example>", "FROM:<@:a@b.example>", "FROM:<@x,y:a@b.example>", "FROM:<@x.example:>"] {
            assert!(from(argument).is_err(), "{argument}");
        }
    }

    #[test]
    fn postmaster_needs_no_domain_and_nobody_else_goes_without() {
        assert_eq!(to("TO:<PostMaster>"), Ok(ForwardPath::Postmaster));
        assert_eq!(to("TO:<>"), Err(InvalidPath::Null));
        assert_eq!(to("TO:<alice>"), Err(InvalidPath::Address(InvalidAddress::NoDomain)));
        assert!(matches!(to("TO:<u@[127.0.0.1]>"), Ok(ForwardPath::Mailbox(_))));
        assert!(matches!(to("TO:<u@[IPv6:::1]>"), Ok(ForwardPath::Mailbox(_))));
    }

    #[test]
    fn paths_beyond_ascii_are_marked() {
        assert!(!forward("TO:<jürgen@b.example>", false).unwrap().ascii);
        assert!(!forward("TO:<a@bücher.example>", false).unwrap().ascii);
        assert!(forward("TO:<a@b.example> ORCPT=utf-8;jürgen", false).unwrap().ascii);
    }
}
