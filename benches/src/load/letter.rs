//! A message of a given size: a plausible header and lines of text, ready for the wire.

use bytes::Bytes;

const HEADER: &str = "From: Source <SENDER>\r\nTo: Sink <RECIPIENT>\r\nSubject: a message from waypost-bench\r\n\
    Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <NUMBER@bench.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n";
const LINE: &[u8] = b"The quick brown fox jumps over the lazy dog, and the dog does not mind at all.\r\n";

/// Messages of one size, which differ in their Message-ID alone.
pub(crate) struct Letters {
    before: Bytes,
    after: Bytes,
}

impl Letters {
    /// `bytes` octets each, but for the final dot; at least a header.
    pub(crate) fn new(bytes: usize, sender: &str, recipient: &str) -> Letters {
        let header = HEADER.replace("SENDER", sender).replace("RECIPIENT", recipient);
        let (before, after) = header.split_once("NUMBER").expect("the header names it");
        let mut rest = after.as_bytes().to_vec();
        let body = bytes.saturating_sub(header.len());
        rest.extend(LINE.iter().cycle().take(body));
        if body > 2 && !rest.ends_with(b"\r\n") {
            let end = rest.len();
            rest[end - 2..].copy_from_slice(b"\r\n");
        }
        Letters { before: before.to_string().into(), after: rest.into() }
    }

    /// The parts of message `number`, without the final dot.
    pub(crate) fn parts(&self, number: u64) -> [Bytes; 3] {
        [self.before.clone(), format!("{number:06}").into(), self.after.clone()]
    }

    /// Octets of one.
    pub(crate) fn len(&self) -> usize {
        self.before.len() + 6 + self.after.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_their_size_and_proper_lines() {
        for bytes in [1000, 2048, 10_240, 10_241] {
            let letters = Letters::new(bytes, "a@b.example", "c@d.example");
            let text = letters.parts(7).concat();
            assert_eq!((text.len(), letters.len()), (bytes, bytes));
            assert!(text.ends_with(b"\r\n"));
            let bare = text.iter().enumerate().filter(|(at, b)| **b == b'\n' && text[at - 1] != b'\r').count();
            assert_eq!(bare, 0);
        }
    }
}
