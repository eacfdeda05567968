//! Replies of a peer, RFC 5321 §4.2, read as they come: whole or in crumbs, on one line or many, well formed or not.
//!
//! [`ReplyReader`] consumes complete lines and remembers what a reply has said so far, so nothing is scanned twice. It is lenient
//! where leniency is harmless (bare LF, missing text, differing codes on continuation lines: the last line decides, text without a code
//! in the middle of a reply) and strict where a guess would be dangerous: a reply that does not begin with a code from 200 to 599
//! is an error, and so is one beyond the bounds of `limits`. Over-long lines are cut, not refused: only their code matters.

use std::fmt;

use bytes::{Buf, BytesMut};
use memchr::memchr;
use waypost_types::limits::{REPLY_LINE_BYTES_MAX, REPLY_LINES_MAX};
use waypost_types::{Enhanced, Reply};

/// Octets of one reply, cut parts included: beyond it the peer is not answering but flooding.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// Reads replies from a growing buffer.
#[derive(Debug, Default)]
pub struct ReplyReader {
    /// Text of the lines before the last, each ending in `\n`.
    text: Vec<u8>,
    /// Lines seen of this reply.
    lines: usize,
    /// Octets consumed of this reply.
    taken: usize,
    /// The rest of an over-long line is being dropped; what was kept of its front.
    cut: Option<Vec<u8>>,
}

/// The peer does not speak SMTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidReply {
    /// No code from 200 to 599 where a reply must begin, or on its last line.
    Code,
    /// More lines or octets than any reply needs.
    TooLong,
}

impl fmt::Display for InvalidReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidReply::Code => "reply without a valid code",
            InvalidReply::TooLong => "reply without end",
        })
    }
}

impl std::error::Error for InvalidReply {}

impl ReplyReader {
    /// Takes one reply off the front of `input`. `None`: it is not complete; whole lines have been consumed nevertheless.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, InvalidReply> {
        while let Some(end) = memchr(b'\n', input) {
            let raw = input.split_to(end + 1);
            self.taken += raw.len();
            let reply = match self.cut.take() {
                Some(front) => self.on_line(trim_cr(&front))?,
                None => self.on_line(trim_line(&raw))?,
            };
            if reply.is_some() {
                *self = ReplyReader { text: std::mem::take(&mut self.text), ..ReplyReader::default() };
                self.text.clear();
                return Ok(reply);
            }
        }
        self.cut_long_line(input)?;
        Ok(None)
    }

    /// Whether a reply has begun that is not complete.
    pub fn is_midway(&self) -> bool {
        self.lines > 0 || self.cut.is_some()
    }

    /// A line without end must not fill the buffer.
    fn cut_long_line(&mut self, input: &mut BytesMut) -> Result<(), InvalidReply> {
        if self.cut.is_some() || input.len() > REPLY_LINE_BYTES_MAX {
            self.taken += input.len();
            let front = &input[..input.len().min(REPLY_LINE_BYTES_MAX)];
            self.cut.get_or_insert_with(|| front.to_vec());
            input.advance(input.len());
        }
        if self.taken > REPLY_BYTES_MAX { Err(InvalidReply::TooLong) } else { Ok(()) }
    }

    fn on_line(&mut self, line: &[u8]) -> Result<Option<Reply>, InvalidReply> {
        self.lines += 1;
        if self.lines > REPLY_LINES_MAX || self.taken > REPLY_BYTES_MAX {
            return Err(InvalidReply::TooLong);
        }
        let line = &line[..line.len().min(REPLY_LINE_BYTES_MAX)];
        let Some((code, last, text)) = parse_line(line) else {
            if self.lines == 1 {
                return Err(InvalidReply::Code);
            }
            // Text without a code inside a reply: some content filters wrap their reasons so.
            self.keep(line);
            return Ok(None);
        };
        if !last {
            self.keep(text);
            return Ok(None);
        }
        if !(200..600).contains(&code) {
            return Err(InvalidReply::Code);
        }
        Ok(Some(if self.text.is_empty() {
            one_line(code, text)
        } else {
            self.text.extend_from_slice(text);
            many_lines(code, &String::from_utf8_lossy(&self.text))
        }))
    }

    fn keep(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
        self.text.push(b'\n');
    }
}

/// Without LF and the CRs in front of it.
fn trim_line(raw: &[u8]) -> &[u8] {
    trim_cr(&raw[..raw.len() - 1])
}

fn trim_cr(mut line: &[u8]) -> &[u8] {
    while let [front @ .., b'\r'] = line {
        line = front;
    }
    line
}

/// Code, whether this is the last line, and the text. Whatever is no hyphen behind the code ends the reply, as Postfix reads it.
fn parse_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = line else {
        return None;
    };
    let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    Some(match rest {
        [b'-', text @ ..] => (code, false, text),
        [b' ' | b'\t', text @ ..] => (code, true, text),
        text => (code, true, text),
    })
}

fn one_line(code: u16, text: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(text);
    match enhanced(code, &text) {
        Some((enhanced, rest)) => Reply::new(code, enhanced, rest.to_string()),
        None => Reply::plain(code, text.into_owned()),
    }
}

/// The first line's enhanced status counts; where the others repeat it, it goes.
fn many_lines(code: u16, text: &str) -> Reply {
    let Some((status, _)) = enhanced(code, text.lines().next().unwrap_or_default()) else {
        return Reply::plain(code, text.to_string());
    };
    let strip = |line| enhanced(code, line).filter(|(own, _)| *own == status).map_or(line, |(_, rest)| rest);
    let lines: Vec<&str> = text.split('\n').map(strip).collect();
    Reply::new(code, status, lines.join("\n"))
}

/// RFC 2034 §4: the classes must agree; a status that contradicts its code is only text.
fn enhanced(code: u16, line: &str) -> Option<(Enhanced, &str)> {
    Enhanced::parse_prefix(line).filter(|(enhanced, _)| u16::from(enhanced.0) == code / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Option<Reply>, InvalidReply> {
        ReplyReader::default().take(&mut BytesMut::from(text))
    }

    fn reply(text: &str) -> Reply {
        read(text.as_bytes()).expect("valid").expect("complete")
    }

    #[test]
    fn replies_of_every_shape_are_read() {
        assert_eq!(reply("250 2.1.0 Ok\r\n"), Reply::new(250, Enhanced(2, 1, 0), "Ok"));
        assert_eq!(reply("250 Ok\n"), Reply::plain(250, "Ok"));
        assert_eq!(reply("250\r\n"), Reply::plain(250, ""));
        assert_eq!(reply("250 \r\n"), Reply::plain(250, ""));
        assert_eq!(reply("250Ok\r\n"), Reply::plain(250, "Ok"));
        assert_eq!(reply("250 2.1.0\r\n"), Reply::new(250, Enhanced(2, 1, 0), ""));
        assert_eq!(reply("250-a\r\n250-b\n250 c\r\r\n"), Reply::plain(250, "a\nb\nc"));
        assert_eq!(reply("250-a\r\n250\r\n"), Reply::plain(250, "a\n"));
    }

    #[test]
    fn the_last_line_of_a_reply_decides() {
        assert_eq!(reply("250-fine so far\r\n550 no\r\n"), Reply::plain(550, "fine so far\nno"));
        assert_eq!(reply("550-5.7.1 reason:\r\nsee our page\r\n550 bye\r\n").text, "reason:\nsee our page\nbye");
    }

    #[test]
    fn an_enhanced_status_must_agree_with_its_code() {
        assert_eq!(reply("550 4.7.1 odd\r\n"), Reply::plain(550, "4.7.1 odd"));
        let both = reply("550-5.7.26 one\r\n550-5.7.26 two\r\n550 5.7.1 three\r\n");
        assert_eq!(both, Reply::new(550, Enhanced(5, 7, 26), "one\ntwo\n5.7.1 three"));
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for text in ["hello\r\n", "\r\n", "25 x\r\n", "100 x\r\n", "600 x\r\n", "250-a\r\n999 x\r\n", "SSH-2.0-x\r\n"] {
            assert_eq!(read(text.as_bytes()), Err(InvalidReply::Code), "{text}");
        }
    }

    #[test]
    fn crumbs_add_up_and_the_rest_stays() {
        let wire = b"250-2.0.0 a\r\n250 2.0.0 b\r\n354 go\r\n";
        let (mut reader, mut input, mut got) = (ReplyReader::default(), BytesMut::new(), Vec::new());
        for byte in wire {
            input.extend_from_slice(&[*byte]);
            got.extend(reader.take(&mut input).unwrap());
        }
        assert_eq!(got, [Reply::new(250, Enhanced(2, 0, 0), "a\nb"), Reply::plain(354, "go")]);
        let mut both = BytesMut::from(&wire[..]);
        reader.take(&mut both).unwrap().unwrap();
        assert_eq!(&both[..], b"354 go\r\n");
    }

    #[test]
    fn long_lines_are_cut_and_endless_ones_refused() {
        let long = format!("250 {}\r\n250 next\r\n", "x".repeat(9000));
        let (mut reader, mut input) = (ReplyReader::default(), BytesMut::new());
        let mut got = Vec::new();
        for piece in long.as_bytes().chunks(1000) {
            input.extend_from_slice(piece);
            while let Some(reply) = reader.take(&mut input).unwrap() {
                got.push(reply);
            }
            assert!(input.len() <= REPLY_LINE_BYTES_MAX);
        }
        assert_eq!(got.len(), 2);
        assert!(got[0].text.len() <= REPLY_LINE_BYTES_MAX && got[0].code == 250);
        let endless = (0..200).find_map(|_| {
            input.extend_from_slice(&[b'9'; 1000]);
            reader.take(&mut input).err()
        });
        assert_eq!(endless, Some(InvalidReply::TooLong));
        assert_eq!(read("250-x\r\n".repeat(1000).as_bytes()), Err(InvalidReply::TooLong));
    }

    #[test]
    fn octets_that_are_no_text_do_no_harm() {
        assert_eq!(read(b"550 \xff\x00\x1b[31m\r\n").unwrap().unwrap().text, "\u{fffd}??[31m");
    }
}
