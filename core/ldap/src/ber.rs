//! The little of BER (X.690) that LDAP needs (RFC 4511 §5.1): definite lengths, tags of one octet.

/// Writes values.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A value with this tag.
    pub fn octets(&mut self, tag: u8, value: &[u8]) {
        self.0.push(tag);
        self.length(value.len());
        self.0.extend_from_slice(value);
    }

    /// An OCTET STRING.
    pub fn text(&mut self, value: &str) {
        self.octets(0x04, value.as_bytes());
    }

    /// A small number that is not negative.
    pub fn number(&mut self, tag: u8, value: u32) {
        let bytes = value.to_be_bytes();
        let skip = bytes.iter().position(|byte| *byte != 0).unwrap_or(3);
        let mut short = bytes[skip..].to_vec();
        if short[0] & 0x80 != 0 {
            short.insert(0, 0);
        }
        self.octets(tag, &short);
    }

    /// A value that is made of others.
    pub fn nest(&mut self, tag: u8, fill: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::default();
        fill(&mut inner);
        self.octets(tag, &inner.0);
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn length(&mut self, length: usize) {
        if length < 0x80 {
            return self.0.push(length as u8);
        }
        let bytes = length.to_be_bytes();
        let skip = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
        self.0.push(0x80 | (bytes.len() - skip) as u8);
        self.0.extend_from_slice(&bytes[skip..]);
    }
}

/// Reads values off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next value: tag and content.
    #[allow(clippy::should_implement_trait, reason = "a reader of mixed values, not a sequence of one kind")]
    pub fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let size = whole(self.0)?;
        let (value, rest) = self.0.split_at_checked(size)?;
        let head = head(value)?.0;
        self.0 = rest;
        Some((value[0], &value[head..]))
    }

    /// The next value, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The next value, an OCTET STRING that is UTF-8.
    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.expect(0x04)?).ok()
    }

    /// The next value, a number that is not negative and fits.
    pub fn number(&mut self, tag: u8) -> Option<u32> {
        let bytes = self.expect(tag)?;
        let fits = matches!(bytes.len(), 1..=5) && bytes[0] & 0x80 == 0;
        let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        fits.then(|| u32::try_from(value).ok()).flatten()
    }
}

/// Octets of head and content of the value that a buffer begins with; `None` while that cannot be told.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let (_, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    if first & 0x80 == 0 {
        return Some((2, usize::from(*first)));
    }
    let count = usize::from(first & 0x7f);
    if !(1..=4).contains(&count) {
        // An indefinite or absurd length: as if there were no end.
        return Some((2, usize::MAX - 2));
    }
    let length = rest.get(..count)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    Some((2 + count, length))
}

/// Octets of the whole value that a buffer begins with, once its head is there.
pub fn whole(bytes: &[u8]) -> Option<usize> {
    head(bytes).map(|(head, content)| head.saturating_add(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        let long = "x".repeat(300);
        writer.nest(0x30, |w| {
            w.number(0x02, 0);
            w.number(0x02, 200);
            w.number(0x0a, 70_000);
            w.text(&long);
        });
        let bytes = writer.finish();
        assert_eq!(whole(&bytes[..3]), None);
        assert_eq!(whole(&bytes), Some(bytes.len()));
        let mut reader = Reader(Reader(&bytes).expect(0x30).expect("a sequence"));
        assert_eq!((reader.number(2), reader.number(2), reader.number(0x0a)), (Some(0), Some(200), Some(70_000)));
        assert_eq!(reader.text(), Some(long.as_str()));
        assert!(reader.next().is_none());
    }

    #[test]
    fn nonsense_is_none() {
        for bytes in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 0x84, 1], &[0x30, 5, 1], &[0x30, 0xff, 1, 1]] {
            assert!(Reader(bytes).next().is_none(), "{bytes:?}");
        }
    }
}
