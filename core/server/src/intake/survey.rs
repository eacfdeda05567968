//! One walk over the header block of a message as it arrived: how many hops it has made, what in it only we may say, what a
//! submission lacks. Pure.

use std::ops::Range;

use waypost_mailauth::is_results_of;
use waypost_types::header::{self, Field};

/// What the walk found. Ranges are offsets into the message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey<'m> {
    /// Octets of the header block.
    pub(crate) block_bytes: usize,
    /// `Received` fields (RFC 5321 §6.3).
    pub(crate) hops: usize,
    pub(crate) has_date: bool,
    /// The value of `Message-ID`.
    pub(crate) message_id: Option<&'m [u8]>,
    /// What must go: results and other fields forged in our name, `Return-Path` (RFC 5321 §4.4: only the last hop writes it), an
    /// mbox `From ` line. In order.
    pub(crate) unwanted: Vec<Range<usize>>,
    /// The message begins with neither a field nor an empty line: whatever is put in front must end with an empty line, or the
    /// first line of the body would become part of the header.
    pub(crate) headless: bool,
}

/// Walks. `authserv_id` is our name in `Authentication-Results`, `reserved` the further fields that only we may write.
pub(crate) fn survey<'m>(message: &'m [u8], authserv_id: &str, reserved: &[Box<str>]) -> Survey<'m> {
    let mut found = Survey::default();
    let start = mbox_line_len(message);
    if start > 0 {
        found.unwanted.push(0..start);
    }
    let message = &message[start..];
    found.block_bytes = start + header::block_len(message);
    found.headless = !message.is_empty() && !message.starts_with(b"\r\n");
    for field in header::fields(message) {
        found.headless = false;
        found.note(&field);
        if is_unwanted(&field, authserv_id, reserved) {
            found.unwanted.push(start + field.range.start..start + field.range.end);
        }
    }
    found
}

impl<'m> Survey<'m> {
    fn note(&mut self, field: &Field<'m>) {
        // By length first: most fields are none of these.
        match field.name.len() {
            8 if field.is("Received") => self.hops += 1,
            4 if field.is("Date") => self.has_date = true,
            10 if field.is("Message-ID") && self.message_id.is_none() => {
                self.message_id = Some(field.value.trim_ascii())
            }
            _ => {}
        }
    }
}

fn is_unwanted(field: &Field<'_>, authserv_id: &str, reserved: &[Box<str>]) -> bool {
    if field.is("Return-Path") {
        return true;
    }
    if field.is("Authentication-Results") {
        return is_results_of(field.value, authserv_id);
    }
    reserved.iter().any(|name| field.is(name))
}

/// `From ` of an mbox, with or without quoting, in front of the header: some programs leave it there.
fn mbox_line_len(message: &[u8]) -> usize {
    if message.starts_with(b"From ") || message.starts_with(b">From ") {
        return memchr::memchr(b'\n', message).map_or(0, |end| end + 1);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> Survey<'_> {
        survey(message.as_bytes(), "mx.example.com", &["X-Spam-Score".into()])
    }

    fn cut<'a>(message: &'a str, found: &Survey<'_>) -> Vec<&'a str> {
        found.unwanted.iter().map(|range| &message[range.clone()]).collect()
    }

    #[test]
    fn only_what_is_forged_in_our_name_goes() {
        let message = "Authentication-Results: mx.example.com; spf=pass\r\n\
                       Authentication-Results: other.example; spf=pass\r\n\
                       AUTHENTICATION-RESULTS:\r\n\tMX.Example.COM ;\r\n dkim=pass\r\n\
                       X-SPAM-score: -99\r\nX-Spam-Scoreboard: 1\r\nReturn-Path: <a@b>\r\nSubject: x\r\n\r\n\
                       X-Spam-Score: body\r\n";
        let found = of(message);
        assert_eq!(
            cut(message, &found),
            [
                "Authentication-Results: mx.example.com; spf=pass\r\n",
                "AUTHENTICATION-RESULTS:\r\n\tMX.Example.COM ;\r\n dkim=pass\r\n",
                "X-SPAM-score: -99\r\n",
                "Return-Path: <a@b>\r\n",
            ]
        );
    }

    #[test]
    fn hops_and_identity_are_found() {
        let message = "Received: a\r\nreceived: b\r\nMessage-Id :\r\n <x@y>\r\nDate: now\r\n\r\nReceived: no\r\n";
        let found = of(message);
        assert_eq!((found.hops, found.has_date, found.headless), (2, true, false));
        assert_eq!(found.message_id, Some(&b"<x@y>"[..]));
    }

    #[test]
    fn a_body_without_a_header_is_known_as_one() {
        assert!(of("Hello\r\nthere: you\r\n").headless);
        assert!(!of("\r\nHello\r\n").headless);
        assert!(!of("").headless);
        assert!(!of("A: b\r\n").headless);
    }

    #[test]
    fn an_mbox_line_does_not_hide_the_header() {
        let message = "From a@b Tue Nov 24\r\nReceived: a\r\n\r\nx";
        let found = of(message);
        assert_eq!((found.hops, found.headless, cut(message, &found)), (1, false, vec!["From a@b Tue Nov 24\r\n"]));
        assert_eq!(found.block_bytes, message.len() - 3);
    }
}
