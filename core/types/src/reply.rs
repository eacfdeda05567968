//! SMTP replies: code, enhanced status and text (RFC 5321 §4.2, RFC 2034, RFC 3463).

use std::borrow::Cow;
use std::fmt;

/// An enhanced mail system status code, RFC 3463: class, subject, detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Enhanced {
    /// Reads `5.7.1` from the front of `text` and gives the rest behind the blank; `None` if there is no such code.
    pub fn parse_prefix(text: &str) -> Option<(Enhanced, &str)> {
        let end = text.find(' ').unwrap_or(text.len());
        let mut parts = text[..end].split('.');
        let class = parts.next()?;
        if !matches!(class, "2" | "4" | "5") {
            return None;
        }
        let subject = number(parts.next()?)?;
        let detail = number(parts.next()?)?;
        if parts.next().is_some() {
            return None;
        }
        Some((Enhanced(class.as_bytes()[0] - b'0', subject, detail), text[end..].trim_start_matches(' ')))
    }
}

/// One to three digits, as RFC 3463 §2 allows.
fn number(text: &str) -> Option<u16> {
    (matches!(text.len(), 1..=3) && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// One answer, ours or a peer's. `text` may hold several lines, parted by `\n`; it never holds CR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200–599.
    pub code: u16,
    /// Absent on greetings, EHLO answers, 354 and 334 (RFC 2034 §4), and where a peer sent none.
    pub enhanced: Option<Enhanced>,
    /// Human-readable, without the codes.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with an enhanced status. Line ends inside `text` are kept as `\n`, any other control byte becomes `?`.
    pub fn new(code: u16, enhanced: Enhanced, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { code, enhanced: Some(enhanced), text: clean(text.into()) }
    }

    /// A reply without an enhanced status: greeting, EHLO, 334, 354.
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { code, enhanced: None, text: clean(text.into()) }
    }

    /// 2yz.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4yz: try again later.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5yz: do not try again.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// The enhanced status, or the one that the code's class implies (`x.0.0`).
    pub fn status(&self) -> Enhanced {
        self.enhanced.unwrap_or(Enhanced((self.code / 100) as u8, 0, 0))
    }

    /// Appends the reply as it goes on the wire: every line with the code, the enhanced status on each (RFC 2034 §4),
    /// `-` on all but the last.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let separator = if lines.peek().is_some() { b'-' } else { b' ' };
            out.extend_from_slice(&[
                b'0' + (self.code / 100 % 10) as u8,
                b'0' + (self.code / 10 % 10) as u8,
                b'0' + (self.code % 10) as u8,
                separator,
            ]);
            if let Some(enhanced) = self.enhanced {
                out.extend_from_slice(enhanced.to_string().as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    /// One line, for logs and delivery reports: `550 5.7.1 relaying denied`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for line in self.text.split('\n') {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

/// Nothing that a reply repeats (a peer's HELO, a DNS list's text) may break the line structure.
fn clean(text: Cow<'static, str>) -> Cow<'static, str> {
    if !text.bytes().any(|b| b.is_ascii_control() && b != b'\n') {
        return text;
    }
    let cleaned = text.replace("\r\n", "\n");
    Cow::Owned(cleaned.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_lines_repeat_both_codes() {
        let mut out = Vec::new();
        Reply::new(550, Enhanced(5, 7, 1), "refused\nsee https://example.net").write_to(&mut out);
        assert_eq!(out, b"550-5.7.1 refused\r\n550 5.7.1 see https://example.net\r\n");
    }

    #[test]
    fn control_bytes_cannot_split_a_reply() {
        let reply = Reply::plain(250, "hello \r\0x\r\n250 y".to_string());
        assert_eq!(reply.text, "hello ??x\n250 y");
    }

    #[test]
    fn enhanced_status_is_read_from_the_front_only() {
        assert_eq!(Enhanced::parse_prefix("5.7.1 no"), Some((Enhanced(5, 7, 1), "no")));
        assert_eq!(Enhanced::parse_prefix("5.7.1"), Some((Enhanced(5, 7, 1), "")));
        for text in ["5.7", "6.7.1 x", "5.7.1.2 x", "5.7000.1 x", "no 5.7.1", "5..1 x"] {
            assert_eq!(Enhanced::parse_prefix(text), None, "{text}");
        }
    }
}
