//! Macros (RFC 7208 §7): parsed with the record, expanded when they are needed. Pure; the one macro that needs DNS, `%{p}`, is looked up by
//! the evaluator beforehand, if [`MacroString::uses`] says so.

use std::net::IpAddr;

use super::Problem;

/// A domain-spec or a text with macros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MacroString(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(String),
    Macro { letter: u8, escape: bool, keep: usize, reverse: bool, delimiters: Vec<u8> },
}

/// What macros stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    pub(super) local: &'a str,
    pub(super) sender_domain: &'a str,
    /// The domain whose record is being evaluated.
    pub(super) domain: &'a str,
    pub(super) ip: IpAddr,
    pub(super) helo: &'a str,
    /// The client's validated name, or `unknown`.
    pub(super) name: &'a str,
    /// Who checks.
    pub(super) receiver: &'a str,
    pub(super) now: u64,
}

impl MacroString {
    /// A domain-spec: must end in a macro or in a proper top label (§7.1).
    pub(super) fn parse_domain(text: &str) -> Result<MacroString, Problem> {
        let parsed = MacroString::parse(text, false)?;
        let ends_well = match parsed.0.last() {
            Some(Token::Macro { .. }) => true,
            Some(Token::Literal(literal)) => ends_in_top_label(literal),
            None => false,
        };
        if ends_well { Ok(parsed) } else { Err(Problem("a domain that cannot be one")) }
    }

    /// A text with macros; in explanations three more letters and blanks are allowed.
    pub(super) fn parse(text: &str, explains: bool) -> Result<MacroString, Problem> {
        let mut tokens = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            if c != '%' {
                let plain = ('!'..='~').contains(&c) || (explains && c == ' ');
                if !plain {
                    return Err(Problem("a character that no domain may hold"));
                }
                literal.push(c);
                continue;
            }
            let next = rest.chars().next().ok_or(Problem("a lone %"))?;
            rest = &rest[next.len_utf8()..];
            match next {
                '%' => literal.push('%'),
                '_' => literal.push(' '),
                '-' => literal.push_str("%20"),
                '{' => {
                    let end = rest.find('}').ok_or(Problem("a macro without an end"))?;
                    if !literal.is_empty() {
                        tokens.push(Token::Literal(std::mem::take(&mut literal)));
                    }
                    tokens.push(parse_macro(&rest.as_bytes()[..end], explains)?);
                    rest = &rest[end + 1..];
                }
                _ => return Err(Problem("a lone %")),
            }
        }
        if !literal.is_empty() {
            tokens.push(Token::Literal(literal));
        }
        Ok(MacroString(tokens))
    }

    /// Whether a macro letter occurs.
    pub(super) fn uses(&self, wanted: u8) -> bool {
        self.0.iter().any(|token| matches!(token, Token::Macro { letter, .. } if *letter == wanted))
    }

    /// The text.
    pub(super) fn expand(&self, values: &Values<'_>) -> String {
        let mut out = String::new();
        for token in &self.0 {
            match token {
                Token::Literal(literal) => out.push_str(literal),
                Token::Macro { letter, escape, keep, reverse, delimiters } => {
                    let value = transform(&values.of(*letter), *keep, *reverse, delimiters);
                    if *escape { escape_url(&value, &mut out) } else { out.push_str(&value) }
                }
            }
        }
        out
    }

    /// The name: labels are taken off the front until it fits (§7.3); no trailing dot.
    pub(super) fn expand_name(&self, values: &Values<'_>) -> String {
        let whole = self.expand(values);
        let mut name = whole.trim_end_matches('.');
        while name.len() > 253 {
            match name.split_once('.') {
                Some((_, rest)) => name = rest,
                None => return String::new(),
            }
        }
        name.to_string()
    }
}

/// `"{" letter digits ["r"] *delimiter "}"`, without the braces.
fn parse_macro(text: &[u8], explains: bool) -> Result<Token, Problem> {
    let (&first, mut rest) = text.split_first().ok_or(Problem("an empty macro"))?;
    let letter = first.to_ascii_lowercase();
    if !(b"slodiphv".contains(&letter) || explains && b"crt".contains(&letter)) {
        return Err(Problem("an unknown macro"));
    }
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let keep = if digits == 0 {
        usize::MAX
    } else {
        let number = std::str::from_utf8(&rest[..digits]).expect("digits are ASCII");
        // More labels than there are is all of them; none makes no sense.
        number.parse::<usize>().unwrap_or(usize::MAX)
    };
    if keep == 0 {
        return Err(Problem("a macro that keeps nothing"));
    }
    rest = &rest[digits..];
    let reverse = rest.first().is_some_and(|b| b.eq_ignore_ascii_case(&b'r'));
    if reverse {
        rest = &rest[1..];
    }
    if !rest.iter().all(|b| b".-+,/_=".contains(b)) {
        return Err(Problem("a bad delimiter in a macro"));
    }
    let delimiters = if rest.is_empty() { vec![b'.'] } else { rest.to_vec() };
    Ok(Token::Macro { letter, escape: first.is_ascii_uppercase(), keep, reverse, delimiters })
}

impl Values<'_> {
    fn of(&self, letter: u8) -> String {
        match letter {
            b's' => format!("{}@{}", self.local, self.sender_domain),
            b'l' => self.local.to_string(),
            b'o' => self.sender_domain.to_string(),
            b'd' => self.domain.to_string(),
            b'i' => dotted(self.ip),
            b'p' => self.name.to_string(),
            b'v' => if self.ip.is_ipv4() { "in-addr" } else { "ip6" }.to_string(),
            b'h' => self.helo.to_string(),
            b'c' => self.ip.to_string(),
            b'r' => self.receiver.to_string(),
            b't' => self.now.to_string(),
            _ => unreachable!("the parser knows the letters"),
        }
    }
}

/// `192.0.2.1`, or the nibbles of an IPv6 address with dots between.
fn dotted(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            let digits: Vec<String> = nibbles.map(|nibble| format!("{nibble:X}")).collect();
            digits.join(".")
        }
    }
}

fn transform(value: &str, keep: usize, reverse: bool, delimiters: &[u8]) -> String {
    let mut parts: Vec<&str> = value.split(|c: char| u8::try_from(c).is_ok_and(|b| delimiters.contains(&b))).collect();
    if reverse {
        parts.reverse();
    }
    parts[parts.len().saturating_sub(keep)..].join(".")
}

fn escape_url(value: &str, out: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// `"." toplabel ["."]`.
fn ends_in_top_label(literal: &str) -> bool {
    let text = literal.strip_suffix('.').unwrap_or(literal);
    let Some((_, label)) = text.rsplit_once('.') else { return false };
    !label.is_empty()
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
        && !label.bytes().all(|b| b.is_ascii_digit())
}
