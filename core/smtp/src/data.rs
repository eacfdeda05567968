//! The body of a message on the wire: finding its end, taking out and putting in the dots.
//!
//! [`Decoder`] promises: a message ends at CRLF "." CRLF (or "." CRLF at its very beginning) and nowhere else, whatever bare CRs
//! and LFs surround a dot (RFC 5321 §4.1.1.4; CVE-2023-51764, 51765, 51766); the text handed out has CRLF line ends only; and
//! ordinary text is split off the input buffer without being copied. The same text comes out however the input was cut.
//! [`stuff`] is the other direction, and as strict: what it gives holds one end of data, its own, and every line ends in CRLF.
//!
//! Ordinary text costs two passes of `memchr`. Stuffed dots cost moving what follows the first of them in the same read; a bare
//! CR or LF costs a copy of that read.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr_iter, memchr2, memmem};
use waypost_types::Message;

/// Where in a line the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Behind CRLF, or at the very beginning.
    LineStart,
    /// Behind a bare LF.
    BareStart,
    /// Inside a line.
    Middle,
}

/// What [`Decoder::decode`] found besides text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The message goes on: read more.
    NotYet,
    /// The final dot; the input now begins behind it.
    Dot,
}

/// Reads the body of DATA.
#[derive(Clone, Debug)]
pub struct Decoder {
    at: At,
    bare: bool,
    smuggled: bool,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { at: At::LineStart, bare: false, smuggled: false }
    }
}

impl Decoder {
    /// Whether a bare CR or LF was seen.
    pub fn saw_bare(&self) -> bool {
        self.bare
    }

    /// Whether there was a line that a lax reader takes for the end: a dot alone, with a bare CR or LF on one of its sides.
    pub fn saw_smuggled_end(&self) -> bool {
        self.smuggled
    }

    /// Takes from `input` what can be decided and gives it as text: dots unstuffed, bare LF become CRLF, bare CR become blanks.
    /// Up to two octets (`.`, `.` CR or CR) may stay in `input` until more is there.
    pub fn decode(&mut self, input: &mut BytesMut) -> (BytesMut, End) {
        let scan = self.scan(input);
        let mut text = input.split_to(scan.read);
        text.truncate(scan.written);
        if scan.end == End::Dot {
            input.advance(b".\r\n".len());
        }
        if scan.bare_lf || memchr_iter(b'\r', &text).count() != scan.crlfs {
            self.bare = true;
            text = normalise(&text);
        }
        (text, scan.end)
    }

    /// Goes through `input` line by line and closes the gaps that removed dots leave.
    fn scan(&mut self, input: &mut [u8]) -> Scan {
        let mut scan = Scan { read: 0, written: 0, crlfs: 0, bare_lf: false, end: End::NotYet };
        while scan.read < input.len() {
            let stuffed = match self.front(&input[scan.read..]) {
                Front::Undecided => break,
                Front::End => {
                    scan.end = End::Dot;
                    break;
                }
                Front::Stuffed => 1,
                Front::Text => 0,
            };
            let from = scan.read + stuffed;
            let to = self.line_end(input, from, &mut scan);
            if scan.written != from {
                input.copy_within(from..to, scan.written);
            }
            scan.written += to - from;
            scan.read = to;
            if self.at == At::Middle {
                break;
            }
        }
        scan
    }

    /// Where the line that goes on at `from` ends, as far as it is here.
    fn line_end(&mut self, input: &[u8], from: usize, scan: &mut Scan) -> usize {
        let Some(lf) = memchr(b'\n', &input[from..]).map(|found| from + found) else {
            self.at = At::Middle;
            // The last octet may be half of a CRLF.
            return input.len() - usize::from(input.ends_with(b"\r"));
        };
        // A CR at the end of an earlier input was left there, so the octet before this LF is here or is no CR.
        if lf > from && input[lf - 1] == b'\r' {
            self.at = At::LineStart;
            scan.crlfs += 1;
        } else {
            self.at = At::BareStart;
            scan.bare_lf = true;
        }
        lf + 1
    }

    /// What stands at the front of `rest`. Behind a bare LF only a doubled dot is taken for a stuffed one: a client that does not
    /// stuff there loses nothing by it, and one that does never sends a single dot there.
    fn front(&mut self, rest: &[u8]) -> Front {
        if self.at == At::Middle || rest[0] != b'.' {
            return Front::Text;
        }
        match (&rest[1..], self.at == At::LineStart) {
            ([] | [b'\r'], _) => Front::Undecided,
            ([b'\r', b'\n', ..], true) => Front::End,
            // ". LF", ". CR" with anything but LF, or a lone dot behind a bare LF.
            ([b'\r' | b'\n', ..], strict) => {
                self.smuggled = true;
                if strict { Front::Stuffed } else { Front::Text }
            }
            (_, true) | ([b'.', ..], false) => Front::Stuffed,
            (_, false) => Front::Text,
        }
    }
}

/// What one pass found.
struct Scan {
    read: usize,
    written: usize,
    crlfs: usize,
    bare_lf: bool,
    end: End,
}

/// What stands at the front of what is left.
enum Front {
    Undecided,
    End,
    Stuffed,
    Text,
}

/// Makes CRLF of bare LFs and blanks of bare CRs. `text` never ends in the first half of a CRLF.
fn normalise(text: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(text.len() + text.len() / 16 + 16);
    let mut rest = text;
    while let Some(at) = memchr2(b'\r', b'\n', rest) {
        let crlf = rest[at..].starts_with(b"\r\n");
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(if crlf || rest[at] == b'\n' { b"\r\n" } else { b" " });
        rest = &rest[at + 1 + usize::from(crlf)..];
    }
    out.extend_from_slice(rest);
    out
}

/// Whether every CR is followed by LF and every LF preceded by CR.
fn is_proper(text: &[u8]) -> bool {
    let mut lfs = 0;
    for at in memchr_iter(b'\n', text) {
        if at == 0 || text[at - 1] != b'\r' {
            return false;
        }
        lfs += 1;
    }
    memchr_iter(b'\r', text).count() == lfs
}

/// Brings text that came by BDAT, which has no dots to take out, to CRLF line ends. A CR may be the last octet of one piece and
/// its LF the first of the next.
#[derive(Clone, Debug, Default)]
pub struct LineEnds {
    cr: bool,
    bare: bool,
}

impl LineEnds {
    /// Whether a bare CR or LF was seen.
    pub fn saw_bare(&self) -> bool {
        self.bare
    }

    /// Gives `text` with CRLF line ends. A CR at its very end is kept back until [`LineEnds::push`] or [`LineEnds::finish`].
    pub fn push(&mut self, mut text: BytesMut) -> BytesMut {
        if text.is_empty() {
            return text;
        }
        if std::mem::take(&mut self.cr) {
            let mut joined = BytesMut::with_capacity(text.len() + 1);
            joined.extend_from_slice(b"\r");
            joined.extend_from_slice(&text);
            text = joined;
        }
        if text.ends_with(b"\r") {
            self.cr = true;
            text.truncate(text.len() - 1);
        }
        if is_proper(&text) {
            return text;
        }
        self.bare = true;
        normalise(&text)
    }

    /// What was kept back, once no more comes.
    pub fn finish(&mut self) -> BytesMut {
        let kept = std::mem::take(&mut self.cr);
        self.bare |= kept;
        BytesMut::from(if kept { " " } else { "" })
    }
}

/// The message as it follows `354`: dots doubled, every line ended by CRLF, and the final dot. Nothing is copied: where a dot has to
/// be doubled the range is cut and a static one put between. Only a range with bare CRs or LFs in it is rewritten.
pub fn stuff(message: &Message) -> Vec<Bytes> {
    let mut ranges = Vec::with_capacity(message.segments().len() + 1);
    let mut line_start = true;
    let mut cr = false;
    for segment in message.segments() {
        let mut rest = segment.clone();
        if std::mem::take(&mut cr) {
            line_start = rest[0] == b'\n';
            ranges.push(Bytes::from_static(if line_start { b"\r\n" } else { b" " }));
            rest.advance(usize::from(line_start));
        }
        if rest.ends_with(b"\r") {
            cr = true;
            rest.truncate(rest.len() - 1);
        }
        if !is_proper(&rest) {
            rest = normalise(&rest).freeze();
        }
        stuff_range(rest, &mut line_start, &mut ranges);
    }
    if cr {
        ranges.push(Bytes::from_static(b" "));
        line_start = false;
    }
    ranges.push(Bytes::from_static(if line_start { b".\r\n" } else { b"\r\n.\r\n" }));
    ranges
}

/// Dots of a range that are doubled by cutting it. A body of nothing but dots would make two ranges of every line, each ten times its size: what is
/// behind is copied.
const CUTS_MAX: usize = 32;

/// Doubles the dots at the front of the lines of one range with proper line ends.
fn stuff_range(range: Bytes, line_start: &mut bool, ranges: &mut Vec<Bytes>) {
    let (Some(&first), Some(&last)) = (range.first(), range.last()) else { return };
    if *line_start && first == b'.' {
        ranges.push(Bytes::from_static(b"."));
    }
    *line_start = last == b'\n';
    let mut from = 0;
    for at in memmem::find_iter(&range, b"\n.").take(CUTS_MAX) {
        ranges.push(range.slice(from..=at));
        ranges.push(Bytes::from_static(b"."));
        from = at + 1;
    }
    let rest = if from == 0 { range } else { range.slice(from..) };
    let is_through = ranges.len() < CUTS_MAX || memmem::find(&rest, b"\n.").is_none();
    ranges.push(if is_through { rest } else { with_dots_doubled(&rest) });
}

/// A copy; the dot that it may begin with has been seen to.
fn with_dots_doubled(text: &[u8]) -> Bytes {
    let mut doubled = Vec::with_capacity(text.len() + text.len() / 8);
    let mut from = 0;
    for at in memmem::find_iter(text, b"\n.") {
        doubled.extend_from_slice(&text[from..=at]);
        doubled.push(b'.');
        from = at + 1;
    }
    doubled.extend_from_slice(&text[from..]);
    doubled.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `wire` cut into pieces of `piece` octets; gives the text, what is left behind the end, and the decoder.
    fn decode(wire: &[u8], piece: usize) -> (String, Option<String>, Decoder) {
        let mut decoder = Decoder::default();
        let (mut input, mut text) = (BytesMut::new(), Vec::new());
        let mut pieces = wire.chunks(piece);
        while let Some(bytes) = pieces.next() {
            input.extend_from_slice(bytes);
            let (part, end) = decoder.decode(&mut input);
            text.extend_from_slice(&part);
            if end == End::Dot {
                pieces.by_ref().for_each(|bytes| input.extend_from_slice(bytes));
                let rest = String::from_utf8(input.to_vec()).unwrap();
                return (String::from_utf8(text).unwrap(), Some(rest), decoder);
            }
        }
        (String::from_utf8(text).unwrap(), None, decoder)
    }

    #[track_caller]
    fn ends(wire: &str, text: &str, rest: &str) {
        for piece in 1..=wire.len() {
            let (got, behind, _) = decode(wire.as_bytes(), piece);
            assert_eq!((got.as_str(), behind.as_deref()), (text, Some(rest)), "in pieces of {piece}");
        }
    }

    #[test]
    fn the_final_dot_ends_it_and_nothing_else_is_touched() {
        ends("a\r\nb\r\n.\r\nMAIL", "a\r\nb\r\n", "MAIL");
        ends(".\r\n", "", "");
        ends("\r\n.\r\n", "\r\n", "");
        ends("a\r\n\r\n.\r\n.\r\n", "a\r\n\r\n", ".\r\n");
    }

    #[test]
    fn stuffed_dots_go() {
        ends("..a\r\n..\r\n...b\r\n.c\r\nd.\r\n.\r\n", ".a\r\n.\r\n..b\r\nc\r\nd.\r\n", "");
    }

    #[test]
    fn no_smuggled_end_is_an_end() {
        for (wire, text) in [
            ("x\n.\nM\r\n.\r\n", "x\r\n.\r\nM\r\n"),
            ("x\n.\r\nM\r\n.\r\n", "x\r\n.\r\nM\r\n"),
            ("x\r\n.\nM\r\n.\r\n", "x\r\n\r\nM\r\n"),
            ("x\r\n.\r\r\nM\r\n.\r\n", "x\r\n \r\nM\r\n"),
            ("x\r.\r\nM\r\n.\r\n", "x .\r\nM\r\n"),
            ("x\r.\rM\r\n.\r\n", "x . M\r\n"),
            ("x\r\n.\rM\r\n.\r\n", "x\r\n M\r\n"),
            ("x\r\n\0.\r\nM\r\n.\r\n", "x\r\n\0.\r\nM\r\n"),
            ("x\r\n.\0\r\nM\r\n.\r\n", "x\r\n\0\r\nM\r\n"),
            ("x\n..\nM\r\n.\r\n", "x\r\n.\r\nM\r\n"),
            ("x\n.y\r\n.\r\n", "x\r\n.y\r\n"),
        ] {
            ends(wire, text, "");
        }
    }

    #[test]
    fn smuggled_ends_are_noticed_and_ordinary_text_is_not() {
        let seen = |wire: &str| {
            let (_, _, decoder) = decode(wire.as_bytes(), wire.len());
            (decoder.saw_bare(), decoder.saw_smuggled_end())
        };
        for wire in ["x\n.\n", "x\n.\r\n", "x\r\n.\n", "x\r\n.\r\r\n", ".\n"] {
            assert_eq!(seen(&format!("{wire}a\r\n.\r\n")), (true, true), "{wire:?}");
        }
        for wire in ["x\ny", "x\ry", "x\r.\r\n", "\n"] {
            assert_eq!(seen(&format!("{wire}a\r\n.\r\n")), (true, false), "{wire:?}");
        }
        assert_eq!(seen("a\r\n..\r\n.b\r\n.\r\n"), (false, false));
    }

    #[test]
    fn ordinary_text_is_not_copied() {
        let mut input = BytesMut::from(&b"Subject: a\r\n\r\nhello\r\n.\r\n"[..]);
        let before = input.as_ptr();
        let (text, end) = Decoder::default().decode(&mut input);
        assert_eq!((text.as_ptr(), &text[..], end), (before, &b"Subject: a\r\n\r\nhello\r\n"[..], End::Dot));
    }

    #[test]
    fn bdat_text_gets_proper_line_ends_across_pieces() {
        let joined = |pieces: &[&str]| {
            let mut ends = LineEnds::default();
            let mut out = Vec::new();
            for piece in pieces {
                out.extend_from_slice(&ends.push(BytesMut::from(*piece)));
            }
            out.extend_from_slice(&ends.finish());
            (String::from_utf8(out).unwrap(), ends.saw_bare())
        };
        assert_eq!(joined(&["a\r", "\nb\r\n"]), ("a\r\nb\r\n".into(), false));
        assert_eq!(joined(&["a\r", "", "\nb\r\n"]), ("a\r\nb\r\n".into(), false));
        assert_eq!(joined(&["a\r", "b\n", "\nc"]), ("a b\r\n\r\nc".into(), true));
        assert_eq!(joined(&["a\r"]), ("a ".into(), true));
        assert_eq!(joined(&["\r", "\r", "\n"]), (" \r\n".into(), true));
    }

    fn wire(parts: &[&'static str]) -> String {
        let parts = parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect();
        String::from_utf8(stuff(&Message::from_segments(parts)).concat()).unwrap()
    }

    #[test]
    fn dots_at_the_front_of_lines_are_doubled_across_seams() {
        for parts in
            [&["a\r\n.\r\n..b\r\n.c"][..], &["a\r\n", ".\r\n", "..b\r", "\n", ".c"], &["a\r", "\n.\r\n.", ".b\r\n.c"]]
        {
            assert_eq!(wire(parts), "a\r\n..\r\n...b\r\n..c\r\n.\r\n");
        }
        assert_eq!(wire(&[]), ".\r\n");
        assert_eq!(wire(&["."]), "..\r\n.\r\n");
    }

    #[test]
    fn what_leaves_has_no_bare_cr_or_lf() {
        assert_eq!(wire(&[".a\n.b\rc\r\n"]), "..a\r\n..b c\r\n.\r\n");
        assert_eq!(wire(&["a\r", "b\r"]), "a b \r\n.\r\n");
        assert_eq!(wire(&["a\n", ".\n"]), "a\r\n..\r\n.\r\n");
        assert_eq!(wire(&["a\r", ".\r\n"]), "a .\r\n.\r\n");
    }

    #[test]
    fn what_needs_no_stuffing_is_not_copied_or_cut() {
        let text = Bytes::from_static(b"a\r\nb.\r\n");
        let ranges = stuff(&Message::new(text.clone()));
        assert_eq!((ranges.len(), ranges[0].as_ptr()), (2, text.as_ptr()));
    }

    #[test]
    fn a_body_of_dots_stays_in_few_pieces() {
        let text = ".\r\n".repeat(10_000);
        let ranges = stuff(&Message::new(Bytes::from(text.clone())));
        assert!(ranges.len() < 3 * CUTS_MAX, "{}", ranges.len());
        assert_eq!(String::from_utf8(ranges.concat()).unwrap(), "..\r\n".repeat(10_000) + ".\r\n");
        ends(&wire(&[Box::leak(text.clone().into_boxed_str())]), &text, "");
    }

    #[test]
    fn stuffing_and_decoding_are_inverse() {
        for text in ["", "a\r\n", ".\r\n", "..\r\n\r\n.a\r\n", "\r\n\r\n"] {
            ends(&wire(&[Box::leak(text.to_string().into_boxed_str())]), text, "");
        }
    }
}
