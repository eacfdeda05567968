//! One line, one [`Command`], borrowing from it; and the table of verbs, which says what is true of each (RFC 5321 §4.1).
//!
//! A command is taken apart no further than verb and argument here: `path`, `parameter` and `bdat` read the arguments.

/// What a verb asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Helo,
    Ehlo,
    Lhlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    XClient,
    XForward,
    /// Known, and not implemented: 502.
    Absent,
    /// A word of another protocol: HTTP.
    Foreign,
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Verb {
    /// As it is written.
    pub word: &'static str,
    /// What it asks for.
    pub kind: Kind,
    /// Whether it may, must or must not have an argument.
    pub argument: Argument,
    /// Answered before TLS where TLS is required.
    pub before_tls: bool,
    /// Nothing may follow it in its group (RFC 2920 §3.1): what comes after depends on its answer.
    pub ends_group: bool,
    /// Carries no mail: too many of these without a message are counted against the client.
    pub idle: bool,
}

/// Whether a verb takes an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// 501 if there is one.
    Never,
    /// Either way.
    May,
    /// 501 if there is none.
    Must,
}

const fn verb(word: &'static str, kind: Kind, argument: Argument) -> Verb {
    let before_tls = matches!(
        kind,
        Kind::Helo
            | Kind::Ehlo
            | Kind::Lhlo
            | Kind::StartTls
            | Kind::Noop
            | Kind::Rset
            | Kind::Help
            | Kind::Quit
            | Kind::XClient
            | Kind::XForward
    );
    let ends_group =
        matches!(kind, Kind::Helo | Kind::Ehlo | Kind::Lhlo | Kind::StartTls | Kind::Auth | Kind::Data | Kind::XClient);
    let idle = matches!(
        kind,
        Kind::Helo | Kind::Ehlo | Kind::Lhlo | Kind::Noop | Kind::Rset | Kind::Vrfy | Kind::Help | Kind::Absent
    );
    Verb { word, kind, argument, before_tls, ends_group, idle }
}

/// Every verb that is known. The frequent ones stand first.
pub static VERBS: [Verb; 34] = [
    verb("RCPT", Kind::Rcpt, Argument::Must),
    verb("MAIL", Kind::Mail, Argument::Must),
    verb("DATA", Kind::Data, Argument::Never),
    verb("BDAT", Kind::Bdat, Argument::Must),
    verb("EHLO", Kind::Ehlo, Argument::Must),
    verb("RSET", Kind::Rset, Argument::Never),
    verb("QUIT", Kind::Quit, Argument::May),
    verb("STARTTLS", Kind::StartTls, Argument::Never),
    verb("AUTH", Kind::Auth, Argument::Must),
    verb("HELO", Kind::Helo, Argument::Must),
    verb("LHLO", Kind::Lhlo, Argument::Must),
    verb("NOOP", Kind::Noop, Argument::May),
    verb("VRFY", Kind::Vrfy, Argument::Must),
    verb("HELP", Kind::Help, Argument::May),
    verb("EXPN", Kind::Absent, Argument::May),
    verb("ETRN", Kind::Absent, Argument::May),
    verb("ATRN", Kind::Absent, Argument::May),
    verb("TURN", Kind::Absent, Argument::May),
    verb("SEND", Kind::Absent, Argument::May),
    verb("SOML", Kind::Absent, Argument::May),
    verb("SAML", Kind::Absent, Argument::May),
    verb("BURL", Kind::Absent, Argument::May),
    verb("XCLIENT", Kind::XClient, Argument::Must),
    verb("XFORWARD", Kind::XForward, Argument::Must),
    verb("GET", Kind::Foreign, Argument::May),
    verb("POST", Kind::Foreign, Argument::May),
    verb("PUT", Kind::Foreign, Argument::May),
    verb("HEAD", Kind::Foreign, Argument::May),
    verb("DELETE", Kind::Foreign, Argument::May),
    verb("OPTIONS", Kind::Foreign, Argument::May),
    verb("CONNECT", Kind::Foreign, Argument::May),
    verb("TRACE", Kind::Foreign, Argument::May),
    verb("PATCH", Kind::Foreign, Argument::May),
    verb("PRI", Kind::Foreign, Argument::May),
];

/// What every line of another protocol is taken for whose verb is not in the table.
static FOREIGN: Verb = verb("", Kind::Foreign, Argument::May);

/// A line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Its row in the table.
    pub verb: &'static Verb,
    /// What follows the verb, without the blanks around it.
    pub argument: &'a str,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// CR, NUL or octets that are not UTF-8.
    Unclean,
    /// No such verb.
    Unknown,
    /// The verb must have an argument, or must not.
    Argument(&'static Verb),
}

/// Reads one line, without its end.
pub fn parse(line: &[u8]) -> Result<Command<'_>, Refused> {
    if crate::line::is_unclean(line) {
        return Err(Refused::Unclean);
    }
    let text = std::str::from_utf8(line).map_err(|_| Refused::Unclean)?;
    let text = text.trim_end_matches([' ', '\t']);
    let (word, argument) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    // Known verbs come first, as nearly every line has one.
    let verb = match lookup(word) {
        Some(verb) if !is_request(argument.as_bytes()) => verb,
        None if !is_foreign(line) => return Err(Refused::Unknown),
        _ => &FOREIGN,
    };
    let argument = argument.trim_start_matches([' ', '\t']);
    match (verb.argument, argument.is_empty()) {
        (Argument::Must, true) | (Argument::Never, false) => Err(Refused::Argument(verb)),
        _ => Ok(Command { verb, argument }),
    }
}

fn lookup(word: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.word.eq_ignore_ascii_case(word))
}

/// Whether this line, or the front of it, comes from another protocol: a request of HTTP, whatever its method; or `Name: value`, a
/// header field of HTTP or of a message that got out of its DATA. A browser that is led to a mail port sends these in front of
/// what its master wants executed, so nothing behind them is looked at.
pub fn is_foreign(line: &[u8]) -> bool {
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let method = !rest.is_empty()
        && VERBS.iter().any(|verb| verb.kind == Kind::Foreign && verb.word.as_bytes().eq_ignore_ascii_case(word));
    method || is_field(word) || is_request(rest)
}

/// `Name:` with or without something behind it; `MAILFROM:<a@b>` is only a slip.
fn is_field(word: &[u8]) -> bool {
    let Some(colon) = word.iter().position(|b| *b == b':') else { return false };
    let name = &word[..colon];
    let slip = word.get(colon + 1) == Some(&b'<');
    !slip && !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// `/path HTTP/1.1`
fn is_request(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_end();
    let version = rest.iter().rposition(|b| *b == b' ').map_or(rest, |blank| &rest[blank + 1..]);
    version.len() >= 6 && version[..5].eq_ignore_ascii_case(b"HTTP/") && version[5].is_ascii_digit()
}

/// Whether the octets where a command should be are the beginning of TLS (RFC 8446 §5.1: a handshake record of version 3.x).
/// `None` while there are too few to say.
pub fn is_tls_hello(input: &[u8]) -> Option<bool> {
    match input {
        [] | [0x16] => None,
        [0x16, 0x03, ..] => Some(true),
        _ => Some(false),
    }
}

/// Whether the argument of HELO, EHLO or LHLO can be meant as a name: a domain (underscores, a single label, a trailing dot and any
/// length are borne, as they are sent) or an address literal, with or without the tag of IPv6. Whether the name is any good is
/// for checks to say.
pub fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[') {
        let tagged = inner.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
        let address = if tagged { &inner[5..] } else { inner };
        return address.strip_suffix(']').is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let long = name.len() > 63 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    text.is_ascii() && (long || waypost_types::Domain::parse(name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(line: &str) -> Result<(Kind, &str), Refused> {
        parse(line.as_bytes()).map(|command| (command.verb.kind, command.argument))
    }

    #[test]
    fn verbs_are_known_in_any_case_and_blanks_are_borne() {
        assert_eq!(kind("mail FROM:<a@b>"), Ok((Kind::Mail, "FROM:<a@b>")));
        assert_eq!(kind("MaIl   FROM:<a@b> SIZE=1  "), Ok((Kind::Mail, "FROM:<a@b> SIZE=1")));
        assert_eq!(kind("NOOP"), Ok((Kind::Noop, "")));
        assert_eq!(kind("NOOP a b"), Ok((Kind::Noop, "a b")));
        assert_eq!(kind("STARTTLS "), Ok((Kind::StartTls, "")));
    }

    #[test]
    fn arguments_are_demanded_and_refused() {
        for line in ["DATA x", "RSET x", "STARTTLS x", "MAIL", "EHLO ", "BDAT"] {
            assert!(matches!(kind(line), Err(Refused::Argument(_))), "{line}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for line in ["", " ", "HELOx", "XYZZY", "MAILFROM:<a@b>", " EHLO a", ":"] {
            assert_eq!(kind(line), Err(Refused::Unknown), "{line}");
        }
        for line in [&b"NO\rOP"[..], b"NOOP\0", b"NOOP \xff"] {
            assert_eq!(parse(line), Err(Refused::Unclean), "{line:?}");
        }
    }

    #[test]
    fn other_protocols_are_known() {
        for line in [
            "GET / HTTP/1.1",
            "get /",
            "POST / HTTP/1.0",
            "CONNECT a:25 HTTP/1.1",
            "PRI * HTTP/2.0",
            "BREW /pot HTTP/1.1",
            "DATA / HTTP/1.1",
            "Host: a",
            "Host:a",
            "User-Agent: x",
        ] {
            assert_eq!(kind(line).unwrap().0, Kind::Foreign, "{line}");
        }
        for line in
            ["MAIL FROM:<a@b>", "RCPT TO:<a@b>", "HELP HTTP/", "NOOP a:b", "BDAT 10", "EHLO [IPv6:::1]", "HELO a"]
        {
            assert_ne!(kind(line).unwrap().0, Kind::Foreign, "{line}");
        }
        assert_eq!(is_tls_hello(&[0x16, 3, 1]), Some(true));
        assert_eq!((is_tls_hello(&[0x16]), is_tls_hello(b"EHLO")), (None, Some(false)));
    }

    #[test]
    fn hosts_are_names_and_literals() {
        for text in [
            "a.example",
            "a",
            "my_host.example",
            "a.example.",
            "[1.2.3.4]",
            "[IPv6:::1]",
            "[ipv6:2001:db8::1]",
            "1.2.3.4",
        ] {
            assert!(is_host(text), "{text}");
        }
        for text in ["", "[", "[]", "[1.2.3]", "<script>", "a b", "a\u{1}", "-a.example", "é.example", "a..b", "."] {
            assert!(!is_host(text), "{text}");
        }
    }
}
