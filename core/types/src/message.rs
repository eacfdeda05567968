//! A message as a list of shared byte ranges.
//!
//! What the client sent is never rewritten: headers that we add stand in front as ranges of their own, and removing a forged
//! header leaves a gap between two ranges of the original. Cloning costs a reference count per range; writing the message to a
//! socket or a store is one vectored write of [`Message::segments`].
//!
//! Lines end in CRLF everywhere; dot-stuffing exists only on the wire.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

/// Header block and body, in order, as ranges.
#[derive(Clone, Debug, Default)]
pub struct Message {
    segments: Vec<Bytes>,
    len: usize,
}

impl Message {
    /// A message that is one range: as received, or as read back from the store.
    pub fn new(original: Bytes) -> Message {
        Message::from_segments(vec![original])
    }

    /// A message from ranges in order; empty ones are dropped.
    pub fn from_segments(mut segments: Vec<Bytes>) -> Message {
        segments.retain(|segment| !segment.is_empty());
        let len = segments.iter().map(Bytes::len).sum();
        Message { segments, len }
    }

    /// The ranges, in order, none of them empty.
    pub fn segments(&self) -> &[Bytes] {
        &self.segments
    }

    /// Octets in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing, not even a header.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts complete header lines (each ending in CRLF) in front of everything.
    pub fn prepend(&mut self, lines: Bytes) {
        if !lines.is_empty() {
            self.len += lines.len();
            self.segments.insert(0, lines);
        }
    }

    /// Takes out the octets of `range`, counted from the front of the message as it is now. Out-of-range parts are ignored.
    pub fn cut(&mut self, range: Range<usize>) {
        let mut kept = Vec::with_capacity(self.segments.len() + 1);
        let mut start = 0;
        for segment in self.segments.drain(..) {
            let end = start + segment.len();
            let from = range.start.clamp(start, end) - start;
            let to = range.end.clamp(start, end) - start;
            if from >= to {
                kept.push(segment);
            } else {
                kept.push(segment.slice(..from));
                kept.push(segment.slice(to..));
            }
            start = end;
        }
        *self = Message::from_segments(kept);
    }

    /// Puts `lines` in at `at` octets from the front: header fields appended at the end of the header block.
    pub fn insert(&mut self, at: usize, lines: Bytes) {
        let mut parted = Vec::with_capacity(self.segments.len() + 2);
        let mut start = 0;
        let mut pending = Some(lines);
        for segment in self.segments.drain(..) {
            let end = start + segment.len();
            if pending.is_some() && at <= end {
                let split = at.saturating_sub(start);
                parted.push(segment.slice(..split));
                parted.extend(pending.take());
                parted.push(segment.slice(split..));
            } else {
                parted.push(segment);
            }
            start = end;
        }
        parted.extend(pending);
        *self = Message::from_segments(parted);
    }

    /// The whole message as one range: free if it is one already, one copy otherwise.
    pub fn contiguous(&self) -> Bytes {
        match self.segments.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }

    /// The header block, up to and without the empty line that ends it, as one range.
    pub fn header_block(&self) -> Bytes {
        if let [one] = self.segments.as_slice() {
            return one.slice(..crate::header::block_len(one));
        }
        const END: &[u8] = b"\r\n\r\n";
        let mut block = Vec::new();
        for segment in &self.segments {
            // Only what belongs to the block is copied, however long the body behind it is.
            let seam = block.len();
            let end = memmem::find(segment, END).map_or(segment.len(), |at| at + END.len());
            block.extend_from_slice(&segment[..end]);
            if block.starts_with(b"\r\n") {
                return Bytes::new();
            }
            // The end may straddle two ranges, so look again from a little before the seam.
            let from = seam.saturating_sub(END.len() - 1);
            if let Some(at) = memmem::find(&block[from..], END) {
                block.truncate(from + at + 2);
                return block.into();
            }
        }
        block.into()
    }

    /// Copies up to `len` octets from `offset` on; fewer at the end.
    pub fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len.min(self.len.saturating_sub(offset)));
        let mut start = 0;
        for segment in &self.segments {
            let end = start + segment.len();
            let from = offset.clamp(start, end) - start;
            let to = offset.saturating_add(len).clamp(start, end) - start;
            out.extend_from_slice(&segment[from..to]);
            start = end;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(parts: &[&'static str]) -> Message {
        Message::from_segments(parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect())
    }

    fn text(message: &Message) -> String {
        String::from_utf8(message.contiguous().to_vec()).unwrap()
    }

    #[test]
    fn cut_and_insert_work_across_ranges_and_keep_the_length_right() {
        let mut m = message(&["abc", "def", "ghi"]);
        m.cut(2..7);
        assert_eq!((text(&m).as_str(), m.len()), ("abhi", 4));
        m.insert(2, Bytes::from_static(b"XY"));
        assert_eq!((text(&m).as_str(), m.len()), ("abXYhi", 6));
        m.prepend(Bytes::from_static(b">"));
        m.insert(99, Bytes::from_static(b"<"));
        assert_eq!(text(&m), ">abXYhi<");
        m.cut(90..99);
        assert_eq!(m.len(), 8);
    }

    #[test]
    fn reading_crosses_seams_and_stops_at_the_end() {
        let m = message(&["abc", "def"]);
        assert_eq!(m.read(2, 2), b"cd");
        assert_eq!(m.read(4, 100), b"ef");
        assert_eq!(m.read(100, usize::MAX), b"");
    }

    #[test]
    fn the_header_block_is_found_across_a_seam() {
        for parts in [
            &["A: b\r\n\r\nbody"][..],
            &["A: b\r", "\n\r\n", "body"],
            &["A: b\r\n", "\r\nbody"],
            &["A: b\r\n\r", "\nbody\r\n\r\n"],
        ] {
            assert_eq!(&message(parts).header_block()[..], b"A: b\r\n");
        }
        assert_eq!(&message(&["A: b\r\n"]).header_block()[..], b"A: b\r\n");
        assert_eq!(&message(&["\r\nbody"]).header_block()[..], b"");
    }
}
