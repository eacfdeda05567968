//! As much of MIME (RFC 2045, RFC 2046) as reports use: parts, their types, and their contents with encodings undone.

use std::borrow::Cow;

use memchr::memmem;
use waypost_types::header;

/// Parts of one message, nested ones among them.
const PARTS_MAX: usize = 32;
/// Multiparts inside multiparts.
const DEPTH_MAX: u8 = 4;

/// A header block and what stands below it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    whole: &'a [u8],
    body: usize,
}

impl<'a> Part<'a> {
    pub(super) fn new(whole: &'a [u8]) -> Part<'a> {
        let block = header::block_len(whole);
        Part { whole, body: (block + 2).min(whole.len()) }
    }

    fn body(&self) -> &'a [u8] {
        &self.whole[self.body..]
    }

    pub(super) fn field(&self, name: &str) -> Option<String> {
        header::fields(self.whole).find(|field| field.is(name)).map(|field| field.unfolded())
    }

    fn content_type(&self) -> String {
        self.field("Content-Type").unwrap_or_else(|| "text/plain".into())
    }

    /// Whether it is of this type.
    pub(super) fn is(&self, kind: &str) -> bool {
        let own = self.content_type();
        own.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind)
    }

    /// The contents, transfer encoding undone.
    pub(super) fn text(&self) -> Cow<'a, [u8]> {
        let encoding = self.field("Content-Transfer-Encoding").unwrap_or_default();
        match encoding.trim().to_ascii_lowercase().as_str() {
            "base64" => Cow::Owned(base64(self.body())),
            "quoted-printable" => Cow::Owned(quoted_printable(self.body())),
            _ => Cow::Borrowed(self.body()),
        }
    }

    /// Every part below a multipart, in order, multiparts themselves left out. One that is no multipart has itself alone.
    pub(super) fn parts(&self) -> Vec<Part<'a>> {
        let mut found = Vec::new();
        self.collect(&mut found, 0);
        found
    }

    fn collect(&self, found: &mut Vec<Part<'a>>, depth: u8) {
        let kind = self.content_type();
        let boundary = parameter(&kind, "boundary").filter(|_| depth < DEPTH_MAX);
        let Some(boundary) = boundary.filter(|_| kind.trim_start().to_ascii_lowercase().starts_with("multipart/"))
        else {
            if found.len() < PARTS_MAX {
                found.push(*self);
            }
            return;
        };
        for part in split(self.body(), &boundary) {
            Part::new(part).collect(found, depth + 1);
        }
    }
}

/// What stands between the lines `--boundary`; what comes before the first is left out, and what the end was cut from is a part, too.
fn split<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mark = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut open: Option<usize> = None;
    for at in memmem::find_iter(body, mark.as_bytes()) {
        if at != 0 && body[at - 1] != b'\n' {
            continue;
        }
        let behind = at + mark.len();
        let line_end = memchr::memchr(b'\n', &body[behind..]).map_or(body.len(), |end| behind + end + 1);
        let tail = body[behind..line_end].trim_ascii();
        if !tail.is_empty() && tail != b"--" {
            continue;
        }
        if let Some(start) = open.take() {
            parts.push(body[start..at].strip_suffix(b"\r\n").unwrap_or(&body[start..at]));
        }
        if tail == b"--" || parts.len() >= PARTS_MAX {
            return parts;
        }
        open = Some(line_end);
    }
    parts.extend(open.map(|start| &body[start..]));
    parts
}

/// The value of a parameter of a structured field, quotes removed; a quoted one may hold a semicolon.
fn parameter(field: &str, name: &str) -> Option<String> {
    let mut rest = field.split_once(';')?.1;
    loop {
        let (before, after) = rest.split_once('=')?;
        let key = before.rsplit(';').next().unwrap_or_default().trim();
        let (value, more) = match after.trim_start().strip_prefix('"') {
            Some(inner) => inner.split_once('"').unwrap_or((inner, "")),
            None => after.split_once(';').map_or((after.trim(), ""), |(value, more)| (value.trim(), more)),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_string());
        }
        rest = more;
    }
}

/// Groups of fields, parted by empty lines.
pub(super) fn groups(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while let Some(more) = rest.strip_prefix(b"\r\n") {
            rest = more;
        }
        if rest.is_empty() {
            return None;
        }
        let end = memmem::find(rest, b"\r\n\r\n").map_or(rest.len(), |at| at + 2);
        let (group, more) = rest.split_at(end);
        rest = more;
        Some(group)
    })
}

/// Whether `part` stands in `text`, in any case.
pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).map(|digit| digit as u8);
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte != b'=' {
            out.push(byte);
        } else if text[at..].starts_with(b"\r\n") {
            at += 2;
        } else if let (Some(high), Some(low)) = (digit(text.get(at)), digit(text.get(at + 1))) {
            out.push(high << 4 | low);
            at += 2;
        } else {
            out.push(byte);
        }
    }
    out
}

fn base64(text: &[u8]) -> Vec<u8> {
    let (mut out, mut bits, mut count) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 1;
        if count % 4 != 1 {
            let shift = [0, 0, 4, 2][count % 4];
            out.push((bits >> shift) as u8);
        }
        if count % 4 == 0 {
            bits = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_undone() {
        assert_eq!(base64(b"SGVsbG8s\r\nIHdvcmxkIQ=="), b"Hello, world!");
        assert_eq!(base64(b"TQ=="), b"M");
        assert_eq!(base64(b"TWE="), b"Ma");
        assert_eq!(quoted_printable(b"a=3Db=\r\nc=ZZ="), b"a=bc=ZZ=");
    }

    #[test]
    fn parts_are_found_whatever_stands_around_them() {
        let text = b"Content-Type: multipart/mixed; boundary=\"a;b\"\r\n\r\npreamble --a;b\r\n--a;b\r\n\r\none\r\n--a;b  \r\n\
            Content-Type: multipart/alternative;\r\n boundary=in\r\n\r\n--in\r\nContent-Type: text/html\r\n\r\ntwo\r\n--in--\r\n\r\n--a;bc\r\n--a;b\r\n\r\nopen end";
        let parts = Part::new(text).parts();
        let texts: Vec<_> = parts.iter().map(|part| String::from_utf8_lossy(&part.text()).into_owned()).collect();
        assert_eq!(texts, ["one", "two", "open end"]);
        assert!(parts[1].is("TEXT/html") && parts[0].is("text/plain"));
    }

    #[test]
    fn nesting_and_number_are_bounded() {
        let mut text = String::from("Content-Type: multipart/mixed; boundary=x\r\n\r\n");
        for _ in 0..1000 {
            text.push_str("--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n");
        }
        assert!(Part::new(text.as_bytes()).parts().len() <= PARTS_MAX);
    }
}
