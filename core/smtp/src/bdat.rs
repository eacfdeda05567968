//! The argument of BDAT (RFC 3030 §2) and the octets that follow it.
//!
//! Whatever becomes of a chunk, its octets are taken off the connection before the next command is looked for: a payload is never
//! executed. A size that cannot be counted therefore ends the connection.

use bytes::BytesMut;

/// Larger chunks than this are not even read to be dropped.
pub const CHUNK_BYTES_MAX: u64 = u32::MAX as u64;

/// A chunk, announced and not yet read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Octets announced.
    pub size: u64,
    /// Octets still to come.
    pub left: u64,
    /// The message ends with it.
    pub last: bool,
}

impl Chunk {
    /// Reads `size [LAST]`; `None` if it is anything else, a size above `u64` among it.
    pub fn parse(argument: &str) -> Option<Chunk> {
        let mut words = argument.split_ascii_whitespace();
        let digits = words.next()?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let size = digits.parse().ok()?;
        let last = match words.next() {
            None => false,
            Some(word) if word.eq_ignore_ascii_case("LAST") => true,
            Some(_) => return None,
        };
        words.next().is_none().then_some(Chunk { size, left: size, last })
    }

    /// Splits off what is here of it.
    pub fn take(&mut self, input: &mut BytesMut) -> BytesMut {
        let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        self.left -= here as u64;
        input.split_to(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_or_refused_never_guessed() {
        assert_eq!(Chunk::parse("10"), Some(Chunk { size: 10, left: 10, last: false }));
        assert_eq!(Chunk::parse("0 last"), Some(Chunk { size: 0, left: 0, last: true }));
        for argument in ["", "LAST", "-1", "+1", "1 2", "1 LAST x", "99999999999999999999999", "0x10"] {
            assert_eq!(Chunk::parse(argument), None, "{argument}");
        }
    }

    #[test]
    fn a_chunk_ends_where_it_was_announced_to_end() {
        let mut chunk = Chunk::parse("5").unwrap();
        assert_eq!(&chunk.take(&mut BytesMut::from("abc"))[..], b"abc");
        let mut input = BytesMut::from("deQUIT");
        assert_eq!(&chunk.take(&mut input)[..], b"de");
        assert_eq!((chunk.left, &input[..]), (0, &b"QUIT"[..]));
    }
}
