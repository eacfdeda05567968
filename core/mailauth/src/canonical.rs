//! The canonical forms of RFC 6376 §3.4, fed piece by piece into whatever takes bytes: a message is hashed as the list of segments that
//! it is, without being joined first.

use aws_lc_rs::digest;
use waypost_types::Message;
use waypost_types::header::Field;

/// The hash takes this much at once: canonical bodies come in words and lines.
const HASH_BUFFER_BYTES: usize = 8 * 1024;

/// `simple` or `relaxed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As it stands, but for empty lines at the end of the body.
    Simple,
    /// Blanks folded, names in lower case: survives most of what relays do.
    #[default]
    Relaxed,
}

impl Form {
    /// The word in `c=`.
    pub fn word(self) -> &'static str {
        match self {
            Form::Simple => "simple",
            Form::Relaxed => "relaxed",
        }
    }
}

/// Appends the canonical form of a header field, with its CRLF.
pub fn header(form: Form, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match form {
        Form::Simple => {
            out.extend_from_slice(name);
            out.push(b':');
            out.extend_from_slice(value);
        }
        Form::Relaxed => relaxed_header(name, value, out),
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 6376 §3.4.2.
fn relaxed_header(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let start = out.len();
    let mut blank = false;
    for &byte in value {
        match byte {
            // Folds vanish; only their blanks count.
            b'\r' | b'\n' => {}
            b' ' | b'\t' => blank = true,
            byte => {
                if std::mem::take(&mut blank) && out.len() > start {
                    out.push(b' ');
                }
                out.push(byte);
            }
        }
    }
}

/// The field as it stands in the block, for `simple`: the name with whatever blanks stood before the colon.
pub fn simple_parts<'a>(block: &'a [u8], field: &Field<'a>) -> (&'a [u8], &'a [u8]) {
    let whole = &block[field.range.clone()];
    let colon = memchr::memchr(b':', whole).expect("a field has a colon");
    (&whole[..colon], field.value)
}

/// Brings a body into its canonical form, piece by piece. `sink` gets the octets in order.
pub struct BodyCanon {
    form: Form,
    /// Empty lines not yet passed on: they may be the last.
    empty_lines: usize,
    /// Blanks not yet passed on: they may be the last of their line.
    blank: bool,
    /// A CR not yet passed on: an LF may follow.
    cr: bool,
    /// Whether the line at hand has content.
    in_line: bool,
    /// Whether anything was passed on.
    any: bool,
}

impl BodyCanon {
    /// Begins a body.
    pub fn new(form: Form) -> BodyCanon {
        BodyCanon { form, empty_lines: 0, blank: false, cr: false, in_line: false, any: false }
    }

    /// The next piece.
    pub fn feed(&mut self, piece: &[u8], sink: &mut impl FnMut(&[u8])) {
        let mut rest = piece;
        while let Some(&byte) = rest.first() {
            if std::mem::take(&mut self.cr) {
                if byte == b'\n' {
                    self.end_line(sink);
                    rest = &rest[1..];
                    continue;
                }
                self.content(b"\r", sink);
            }
            match byte {
                b'\r' => {
                    self.cr = true;
                    rest = &rest[1..];
                }
                b' ' | b'\t' if self.form == Form::Relaxed => {
                    self.blank = true;
                    rest = &rest[1..];
                }
                _ => {
                    let end = self.run_len(rest);
                    self.content(&rest[..end], sink);
                    rest = &rest[end..];
                }
            }
        }
    }

    /// How far content goes that can be passed on as it stands. In `relaxed` a single blank between words does: runs are lines, mostly.
    fn run_len(&self, rest: &[u8]) -> usize {
        if self.form == Form::Simple {
            return memchr::memchr(b'\r', rest).unwrap_or(rest.len());
        }
        let mut from = 0;
        while let Some(at) = memchr::memchr3(b'\r', b' ', b'\t', &rest[from..]).map(|at| from + at) {
            let single = rest[at] == b' ' && rest.get(at + 1).is_some_and(|next| !matches!(next, b' ' | b'\t' | b'\r'));
            if !single {
                return at;
            }
            from = at + 1;
        }
        rest.len()
    }

    fn content(&mut self, bytes: &[u8], sink: &mut impl FnMut(&[u8])) {
        for _ in 0..std::mem::take(&mut self.empty_lines) {
            sink(b"\r\n");
        }
        if std::mem::take(&mut self.blank) {
            sink(b" ");
        }
        sink(bytes);
        self.in_line = true;
        self.any = true;
    }

    fn end_line(&mut self, sink: &mut impl FnMut(&[u8])) {
        // Blanks at the end of a line are ignored (only `relaxed` notes any).
        self.blank = false;
        if std::mem::take(&mut self.in_line) {
            sink(b"\r\n");
        } else {
            self.empty_lines += 1;
        }
    }

    /// The end of the body.
    pub fn finish(mut self, sink: &mut impl FnMut(&[u8])) {
        if std::mem::take(&mut self.cr) {
            self.content(b"\r", sink);
        }
        // A line without an end gets one; of nothing, `simple` makes one empty line and `relaxed` nothing (§3.4.3, §3.4.4).
        if self.in_line || (!self.any && self.form == Form::Simple) {
            sink(b"\r\n");
        }
    }
}

/// The SHA-256 of a message's canonical body, segment by segment.
pub(crate) fn hash_body(form: Form, message: &Message, header_bytes: usize) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = Vec::with_capacity(HASH_BUFFER_BYTES * 2);
    let mut sink = |bytes: &[u8]| {
        buffer.extend_from_slice(bytes);
        if buffer.len() >= HASH_BUFFER_BYTES {
            context.update(&buffer);
            buffer.clear();
        }
    };
    let mut canon = BodyCanon::new(form);
    // The empty line between header and body belongs to neither.
    let mut skip = header_bytes + 2;
    for segment in message.segments() {
        let from = skip.min(segment.len());
        skip -= from;
        canon.feed(&segment[from..], &mut sink);
    }
    canon.finish(&mut sink);
    context.update(&buffer);
    context.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body cut at every place must give the same as the body whole.
    fn body(form: Form, text: &str) -> String {
        let whole = pieces(form, &[text]);
        for at in 0..=text.len() {
            assert_eq!(pieces(form, &[&text[..at], &text[at..]]), whole, "cut at {at}");
        }
        whole
    }

    fn pieces(form: Form, pieces: &[&str]) -> String {
        let mut out = Vec::new();
        let mut sink = |bytes: &[u8]| out.extend_from_slice(bytes);
        let mut canon = BodyCanon::new(form);
        pieces.iter().for_each(|piece| canon.feed(piece.as_bytes(), &mut sink));
        canon.finish(&mut sink);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_example_of_rfc_6376_section_3_4_5() {
        let (block, text) = ("A: X\r\nB : Y\t\r\n\tZ  \r\n", " C \r\nD \t E\r\n\r\n\r\n");
        let mut relaxed = Vec::new();
        let mut simple = Vec::new();
        for field in waypost_types::header::fields(block.as_bytes()) {
            header(Form::Relaxed, field.name, field.value, &mut relaxed);
            let (name, value) = simple_parts(block.as_bytes(), &field);
            header(Form::Simple, name, value, &mut simple);
        }
        assert_eq!(relaxed, b"a:X\r\nb:Y Z\r\n");
        assert_eq!(simple, block.as_bytes());
        assert_eq!(body(Form::Relaxed, text), " C\r\nD E\r\n");
        assert_eq!(body(Form::Simple, text), " C \r\nD \t E\r\n");
    }

    #[test]
    fn empty_bodies_and_missing_line_ends() {
        for text in ["", "\r\n", "\r\n\r\n"] {
            assert_eq!(body(Form::Simple, text), "\r\n", "{text:?}");
            assert_eq!(body(Form::Relaxed, text), "", "{text:?}");
        }
        assert_eq!(body(Form::Relaxed, " \t\r\n \r\n"), "", "lines of blanks at the end are empty lines");
        assert_eq!(body(Form::Simple, "a"), "a\r\n");
        assert_eq!(body(Form::Relaxed, "a \r\n\r\n  b\t c  "), "a\r\n\r\n b c\r\n");
        assert_eq!(body(Form::Simple, "a\rb\r\r\n\r"), "a\rb\r\r\n\r\r\n");
    }
}
