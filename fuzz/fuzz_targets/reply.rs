//! Replies of a peer. Asserts: no panic; what is read is a code from 200 to 599 and lines without CR; cutting changes nothing; what is
//! printed is read back.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use waypost_smtp::response::ReplyReader;
use waypost_types::Reply;

fuzz_target!(|input: &[u8]| {
    let Some((&step, wire)) = input.split_first() else { return };
    let whole = read(wire, usize::MAX);
    assert_eq!(whole, read(wire, 1 + usize::from(step % 8)));
    for reply in &whole {
        assert!((200..600).contains(&reply.code) && !reply.text.contains('\r'));
        let mut printed = Vec::new();
        reply.write_to(&mut printed);
        assert_eq!(read(&printed, usize::MAX).first().map(|again| again.code), Some(reply.code));
    }
});

fn read(wire: &[u8], piece: usize) -> Vec<Reply> {
    let (mut reader, mut input, mut replies) = (ReplyReader::default(), BytesMut::new(), Vec::new());
    for bytes in wire.chunks(piece.min(wire.len().max(1))) {
        input.extend_from_slice(bytes);
        loop {
            match reader.take(&mut input) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(_) => return replies,
            }
        }
    }
    replies
}
