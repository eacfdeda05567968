//! The message as it goes on the wire after 354.

use bytes::Bytes;
use memchr::memmem;
use waypost_types::Message;

/// Segments with a further dot in front of every line that begins with one (behind a bare LF too: some peer may take it for a line
/// end), and the final dot.
pub(super) fn stuff(message: &Message) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(message.segments().len() + 1);
    let mut before = [b'\r', b'\n'];
    for segment in message.segments() {
        let mut rest = segment.clone();
        if before[1] == b'\n' && rest[0] == b'.' {
            pieces.push(Bytes::from_static(b"."));
        }
        before = [if rest.len() > 1 { rest[rest.len() - 2] } else { before[1] }, rest[rest.len() - 1]];
        while let Some(at) = memmem::find(&rest, b"\n.") {
            pieces.push(rest.split_to(at + 1));
            pieces.push(Bytes::from_static(b"."));
        }
        pieces.push(rest);
    }
    pieces.push(Bytes::from_static(if before == *b"\r\n" { b".\r\n" } else { b"\r\n.\r\n" }));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(parts: &[&'static str]) -> String {
        let parts = parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect();
        String::from_utf8(stuff(&Message::from_segments(parts)).concat()).unwrap()
    }

    #[test]
    fn dots_at_the_front_of_lines_are_doubled_also_across_seams() {
        for parts in
            [&["a\r\n.\r\n..b\r\n.c"][..], &["a\r\n", ".\r\n", "..b\r", "\n", ".c"], &["a\r", "\n.\r\n.", ".b\r\n.c"]]
        {
            assert_eq!(wire(parts), "a\r\n..\r\n...b\r\n..c\r\n.\r\n");
        }
        assert_eq!(wire(&[".a\n.b\r\n"]), "..a\n..b\r\n.\r\n");
        assert_eq!(wire(&[]), ".\r\n");
        assert_eq!(wire(&["a\r", "\n"]), "a\r\n.\r\n");
        assert_eq!(wire(&["a\n"]), "a\n\r\n.\r\n");
    }
}
