//! The message as plugins see it: parsed at most once, by the host, and shared along the chain.
//!
//! Nothing is done before somebody asks. Contents that need no decoding are ranges of the message; the others are decoded once.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use mail_parser::{MessageParser, MessagePart, MimeHeaders, PartType};
use waypost_types::{Message, header};

use crate::tokens;
use crate::wit::WitPart;

/// Parts that are listed; a message with more is an attack, and its first ones say enough.
const PARTS_MAX: usize = 1000;
/// Nested messages that are looked into.
const DEPTH_MAX: usize = 8;
/// Decoded text that is searched for tokens.
const TOKEN_TEXT_MAX: usize = 256 << 10;

/// One message, lazily understood.
pub(crate) struct Subject {
    message: Message,
    whole: OnceLock<Bytes>,
    fields: OnceLock<Vec<FieldAt>>,
    parts: OnceLock<Vec<Part>>,
}

struct FieldAt {
    name: Range<usize>,
    value: Range<usize>,
}

/// One MIME part: its description and its decoded content.
pub(crate) struct Part {
    pub(crate) info: WitPart,
    pub(crate) content: Bytes,
    is_text: bool,
}

impl Subject {
    pub(crate) fn new(message: Message) -> Subject {
        Subject { message, whole: OnceLock::new(), fields: OnceLock::new(), parts: OnceLock::new() }
    }

    pub(crate) fn message(&self) -> &Message {
        &self.message
    }

    /// The whole message as one range.
    pub(crate) fn whole(&self) -> &Bytes {
        self.whole.get_or_init(|| self.message.contiguous())
    }

    /// Name and unfolded value of each field, in order.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&[u8], String)> {
        self.fields().iter().map(|field| (self.slice(&field.name), unfold(self.slice(&field.value))))
    }

    /// The unfolded values of the fields with this name.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let named = |field: &&FieldAt| self.slice(&field.name).eq_ignore_ascii_case(name.as_bytes());
        self.fields().iter().filter(named).map(|field| unfold(self.slice(&field.value))).collect()
    }

    /// The header block without the empty line that ends it.
    pub(crate) fn header_block(&self) -> Bytes {
        self.message.header_block()
    }

    /// The leaves of the MIME tree and the nested messages, in order.
    pub(crate) fn parts(&self) -> &[Part] {
        self.parts.get_or_init(|| parse(self.whole()))
    }

    /// The part with this path.
    pub(crate) fn part(&self, path: &str) -> Option<&Part> {
        self.parts().iter().find(|part| part.info.path == path)
    }

    /// The decoded text parts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &Bytes> {
        self.parts().iter().filter(|part| part.is_text).map(|part| &part.content)
    }

    /// Hashed tokens of subject and text, at most `max`, each once.
    pub(crate) fn token_hashes(&self, max: usize) -> Vec<u64> {
        let mut tokens = tokens::Tokens::new(max);
        for subject in self.header("Subject") {
            tokens.add(&subject);
        }
        let mut left = TOKEN_TEXT_MAX;
        for text in self.texts() {
            let piece = &text[..text.len().min(left)];
            left -= piece.len();
            tokens.add(&String::from_utf8_lossy(piece));
        }
        tokens.finish()
    }

    fn fields(&self) -> &[FieldAt] {
        self.fields.get_or_init(|| {
            let whole = self.whole();
            let start = whole.as_ptr() as usize;
            let range = |slice: &[u8]| {
                let from = slice.as_ptr() as usize - start;
                from..from + slice.len()
            };
            header::fields(whole).map(|field| FieldAt { name: range(field.name), value: range(field.value) }).collect()
        })
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        &self.whole()[range.clone()]
    }
}

fn unfold(value: &[u8]) -> String {
    header::Field { name: b"", value, range: 0..0 }.unfolded()
}

fn parse(whole: &Bytes) -> Vec<Part> {
    let mut parts = Vec::new();
    if let Some(message) = MessageParser::default().parse(whole) {
        collect(whole, message, String::new(), 0, &mut parts);
    }
    parts
}

/// Takes the parts of a parsed message, numbered as IMAP numbers them (RFC 3501 §6.4.5), into `out`.
fn collect(whole: &Bytes, message: mail_parser::Message<'_>, prefix: String, depth: usize, out: &mut Vec<Part>) {
    let mut paths = vec![String::new(); message.parts.len()];
    number(&message, 0, &prefix, &mut paths);
    for (part, path) in message.parts.into_iter().zip(paths) {
        if out.len() >= PARTS_MAX || path.is_empty() {
            continue;
        }
        let described = describe(&part, path);
        let is_text = matches!(part.body, PartType::Text(_) | PartType::Html(_));
        let content = match part.body {
            PartType::Text(text) | PartType::Html(text) => shared(whole, into_bytes(text)),
            PartType::Binary(data) | PartType::InlineBinary(data) => shared(whole, data),
            PartType::Message(nested) => {
                let raw = shared(whole, own_octets(&nested));
                let path = described.path.clone();
                out.push(Part { info: WitPart { size: raw.len() as u64, ..described }, content: raw, is_text: false });
                if depth < DEPTH_MAX {
                    collect(whole, nested, path, depth + 1, out);
                }
                continue;
            }
            PartType::Multipart(_) => continue,
        };
        out.push(Part { info: WitPart { size: content.len() as u64, ..described }, content, is_text });
    }
}

/// A nested message by itself: the parser gives it with everything that stands before it.
fn own_octets<'m>(nested: &mail_parser::Message<'m>) -> std::borrow::Cow<'m, [u8]> {
    let (from, to) =
        nested.parts.first().map_or((0, 0), |root| (root.offset_header as usize, root.offset_end as usize));
    match &nested.raw_message {
        std::borrow::Cow::Borrowed(raw) => raw.get(from..to).unwrap_or_default().into(),
        std::borrow::Cow::Owned(raw) => raw.get(from..to).unwrap_or_default().to_vec().into(),
    }
}

/// Gives each part its path. `1` is the only part of a message that is no multipart.
fn number(message: &mail_parser::Message<'_>, index: usize, prefix: &str, paths: &mut [String]) {
    let below = |n: usize| if prefix.is_empty() { n.to_string() } else { format!("{prefix}.{n}") };
    // Children that the parser lists are parts of the same message; each is visited once, so this ends.
    let mut pending = vec![(index, below(1), true)];
    while let Some((index, path, root)) = pending.pop() {
        let Some(part) = message.parts.get(index).filter(|_| paths[index].is_empty()) else { continue };
        if let PartType::Multipart(children) = &part.body {
            let child_path = |n: usize| if root { below(n + 1) } else { format!("{path}.{}", n + 1) };
            pending.extend(children.iter().enumerate().map(|(n, child)| (*child as usize, child_path(n), false)).rev());
        }
        paths[index] = path;
    }
}

fn describe(part: &MessagePart<'_>, path: String) -> WitPart {
    let mime_type = part.content_type().map_or_else(
        || "text/plain".to_string(),
        |kind| {
            let kind = format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("plain"));
            kind.to_ascii_lowercase()
        },
    );
    let disposition = part.content_disposition().map(|kind| kind.ctype().to_ascii_lowercase());
    WitPart { path, mime_type, filename: part.attachment_name().map(str::to_string), size: 0, disposition }
}

fn into_bytes(text: std::borrow::Cow<'_, str>) -> std::borrow::Cow<'_, [u8]> {
    match text {
        std::borrow::Cow::Borrowed(text) => text.as_bytes().into(),
        std::borrow::Cow::Owned(text) => text.into_bytes().into(),
    }
}

/// What was borrowed from the message stays a range of it.
fn shared(whole: &Bytes, data: std::borrow::Cow<'_, [u8]>) -> Bytes {
    match data {
        std::borrow::Cow::Owned(data) => data.into(),
        std::borrow::Cow::Borrowed(data) => {
            let within = whole.as_ptr_range();
            let part = data.as_ptr_range();
            if within.start <= part.start && part.end <= within.end {
                whole.slice_ref(data)
            } else {
                // Inside a nested message that had to be decoded first.
                Bytes::copy_from_slice(data)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] = b"From: a@b.example\r\nSubject: one\r\n two\r\nReceived: x\r\nReceived: y\r\n\
        Content-Type: multipart/mixed; boundary=B\r\n\r\n\
        --B\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n\
        --B\r\nContent-Type: multipart/alternative; boundary=C\r\n\r\n\
        --C\r\nContent-Type: text/html\r\n\r\n<b>hi</b>\r\n\
        --C--\r\n\
        --B\r\nContent-Type: application/octet-stream; name=x.bin\r\nContent-Disposition: attachment\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\n\
        --B--\r\n";

    fn subject() -> Subject {
        Subject::new(Message::new(Bytes::from_static(MAIL)))
    }

    #[test]
    fn headers_are_found_in_any_case_and_unfolded() {
        assert_eq!(subject().header("SUBJECT"), ["one two"]);
        assert_eq!(subject().header("received"), ["x", "y"]);
        assert_eq!(subject().header("none"), Vec::<String>::new());
        assert_eq!(subject().headers().count(), 5);
    }

    #[test]
    fn parts_are_numbered_and_decoded() {
        let subject = subject();
        let seen: Vec<_> = subject.parts().iter().map(|p| (p.info.path.as_str(), p.info.mime_type.as_str())).collect();
        assert_eq!(seen, [("1", "text/plain"), ("2.1", "text/html"), ("3", "application/octet-stream")]);
        assert_eq!(subject.part("1").unwrap().content.trim_ascii(), "Grüße".as_bytes());
        let binary = subject.part("3").unwrap();
        assert_eq!(&binary.content[..], [0, 1, 2]);
        assert_eq!(binary.info.filename.as_deref(), Some("x.bin"));
        assert_eq!(binary.info.disposition.as_deref(), Some("attachment"));
        assert!(subject.part("9").is_none());
    }

    #[test]
    fn a_message_without_mime_is_one_part() {
        let subject = Subject::new(Message::new(Bytes::from_static(b"Subject: x\r\n\r\nhello\r\n")));
        assert_eq!(subject.parts().len(), 1);
        assert_eq!(&subject.part("1").unwrap().content[..5], b"hello");
    }

    #[test]
    fn a_nested_message_is_a_part_and_has_parts() {
        let mail = b"Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: message/rfc822\r\n\r\n\
            Subject: inner\r\n\r\ntext inside\r\n--B--\r\n";
        let subject = Subject::new(Message::new(Bytes::from_static(mail)));
        let paths: Vec<_> = subject.parts().iter().map(|p| p.info.path.as_str()).collect();
        assert_eq!(paths, ["1", "1.1"]);
        assert_eq!(subject.part("1.1").unwrap().content.trim_ascii(), b"text inside");
        assert_eq!(subject.part("1").unwrap().content.trim_ascii(), b"Subject: inner\r\n\r\ntext inside");
    }

    #[test]
    fn no_octets_at_all_are_no_parts() {
        let subject = Subject::new(Message::default());
        assert!(subject.header("x").is_empty());
        assert!(subject.parts().len() <= 1);
        assert!(subject.token_hashes(10).is_empty());
    }
}
