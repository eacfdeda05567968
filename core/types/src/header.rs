//! Walking a header block (RFC 5322 §2.2) without building anything.
//!
//! Lines end in CRLF; a bare LF is no line end here. A line that is neither a field nor a continuation ends the block, as other
//! agents see it, so that nobody can hide a header behind it.

use std::ops::Range;

use memchr::memchr;
use memchr::memmem;

/// How many octets the header block at the front of `message` has: up to and without the empty line that ends it.
pub fn block_len(message: &[u8]) -> usize {
    if message.starts_with(b"\r\n") {
        return 0;
    }
    memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 2)
}

/// One field as it stands in the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Without the colon, trailing blanks removed.
    pub name: &'a [u8],
    /// From behind the colon to before the final CRLF, folds included.
    pub value: &'a [u8],
    /// The whole field with its final CRLF, as offsets into the block.
    pub range: Range<usize>,
}

impl Field<'_> {
    /// Whether the field has this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value with folds undone and blanks around it removed; octets that are no UTF-8 become U+FFFD.
    pub fn unfolded(&self) -> String {
        let text = String::from_utf8_lossy(self.value);
        text.replace("\r\n", "").trim_matches([' ', '\t']).to_string()
    }
}

/// The fields of a header block, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

/// Walks the fields at the front of `message`, which may be a block alone or a whole message.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { block: &message[..block_len(message)], at: 0 }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.at;
        let rest = &self.block[start..];
        if rest.is_empty() {
            return None;
        }
        let len = field_len(rest);
        let line = &rest[..len];
        let content = line.strip_suffix(b"\r\n").unwrap_or(line);
        let colon = memchr(b':', content);
        let name = colon.map(|at| content[..at].trim_ascii_end());
        let Some((colon, name)) = colon.zip(name).filter(|(_, name)| is_name(name)) else {
            self.at = self.block.len();
            return None;
        };
        self.at = start + len;
        Some(Field { name, value: &content[colon + 1..], range: start..start + len })
    }
}

/// Length of the first field of `rest` with its continuation lines.
fn field_len(rest: &[u8]) -> usize {
    let mut from = 0;
    while let Some(at) = memmem::find(&rest[from..], b"\r\n") {
        let end = from + at + 2;
        if !matches!(rest.get(end), Some(b' ' | b'\t')) {
            return end;
        }
        from = end;
    }
    rest.len()
}

/// `ftext` of RFC 5322 §3.6.8: printable ASCII without the colon.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| (33..=126).contains(b) && *b != b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_fields_are_one_field() {
        let block = b"Subject: a\r\n b\r\n\tc\r\nTo : x\r\n\r\nBody: no\r\n";
        let got: Vec<_> = fields(block).collect();
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].unfolded(), "a b\tc");
        assert!(got[1].is("TO"));
        assert_eq!(&block[got[1].range.clone()], b"To : x\r\n");
    }

    #[test]
    fn a_line_that_is_no_field_ends_the_block() {
        let names: Vec<_> = fields(b"A: 1\r\nnonsense\r\nB: 2\r\n").map(|f| f.name.to_vec()).collect();
        assert_eq!(names, [b"A"]);
        assert_eq!(fields(b" continued: first\r\n").count(), 0);
    }

    #[test]
    fn a_field_without_a_line_end_still_counts() {
        assert_eq!(fields(b"A: 1").map(|f| f.value.to_vec()).collect::<Vec<_>>(), [b" 1"]);
    }
}
