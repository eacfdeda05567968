//! The body of DATA. Asserts, against a naive reading of the same octets: the end is the first CRLF "." CRLF and no other; the
//! text has CRLF line ends only; cutting changes nothing; stuffing what came out and decoding it again gives the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use waypost_smtp::data::{Decoder, End, LineEnds, stuff};
use waypost_types::Message;

fuzz_target!(|input: &[u8]| {
    let Some((&step, wire)) = input.split_first() else { return };
    let (text, rest) = decode(wire, usize::MAX);
    assert_eq!(
        (&text, &rest),
        (&decode(wire, 1 + usize::from(step % 8)).0, &decode(wire, 1 + usize::from(step % 8)).1)
    );
    assert_eq!(rest.as_deref(), naive_rest(wire));
    proper(&text);
    if rest.is_some() {
        let stuffed = stuff(&Message::new(Bytes::from(text.clone()))).concat();
        let whole = text.is_empty() || text.ends_with(b"\r\n");
        let (again, behind) = decode(&stuffed, usize::MAX);
        assert!(whole && again == text && behind.as_deref() == Some(b""));
    }
    // Anything at all may have come by BDAT: what leaves has one end.
    let parts = wire.chunks(1 + usize::from(step)).map(Bytes::copy_from_slice).collect();
    let (_, behind) = decode(&stuff(&Message::from_segments(parts)).concat(), usize::MAX);
    assert_eq!(behind.as_deref(), Some(&b""[..]));
    let mut ends = LineEnds::default();
    let mut text: Vec<u8> =
        wire.chunks(1 + usize::from(step)).flat_map(|piece| ends.push(BytesMut::from(piece))).collect();
    text.extend_from_slice(&ends.finish());
    proper(&text);
});

fn decode(wire: &[u8], piece: usize) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut decoder, mut input, mut text) = (Decoder::default(), BytesMut::new(), Vec::new());
    let mut at = 0;
    while at < wire.len() {
        let next = at.saturating_add(piece).min(wire.len());
        input.extend_from_slice(&wire[at..next]);
        at = next;
        let (part, end) = decoder.decode(&mut input);
        text.extend_from_slice(&part);
        assert!(end == End::Dot || input.len() <= 2);
        if end == End::Dot {
            input.extend_from_slice(&wire[at..]);
            return (text, Some(input.to_vec()));
        }
    }
    (text, None)
}

fn naive_rest(wire: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = wire.strip_prefix(b".\r\n") {
        return Some(rest);
    }
    let at = wire.windows(5).position(|window| window == b"\r\n.\r\n")?;
    Some(&wire[at + 5..])
}

fn proper(text: &[u8]) {
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(text.get(at + 1), Some(&b'\n')),
            b'\n' => assert!(at > 0 && text[at - 1] == b'\r'),
            _ => {}
        }
    }
}
