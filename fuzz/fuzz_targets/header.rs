//! Header blocks: fields found, a message cut and lengthened as edits do it. Asserts: no panic; fields lie in the block, one behind the other;
//! a message is what its segments are, however it was cut.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use waypost_types::Message;
use waypost_types::header::{block_len, fields};

fuzz_target!(|input: &[u8]| {
    let [step, text @ ..] = input else { return };
    let block = block_len(text);
    assert!(block <= text.len());
    let mut last = 0;
    for field in fields(text) {
        assert!(last <= field.range.start && field.range.end <= block, "{:?} of {block}", field.range);
        assert!(!field.name.is_empty() && !field.name.contains(&b':'));
        let _ = (field.unfolded(), waypost_mailauth::is_results_of(field.value, "mx.example.com"));
        last = field.range.end;
    }
    let pieces = text.chunks(1 + usize::from(*step)).map(Bytes::copy_from_slice).collect();
    let mut message = Message::from_segments(pieces);
    assert_eq!((message.len(), &message.contiguous()[..]), (text.len(), text));
    assert_eq!(&message.header_block()[..], &text[..block]);
    message.prepend(Bytes::from_static(b"X: y\r\n"));
    let whole = [b"X: y\r\n", text].concat();
    assert_eq!(message.read(2, 9), whole[2..whole.len().min(11)]);
    let (from, to) = (usize::from(*step).min(whole.len()), (usize::from(*step) * 2).min(whole.len()));
    message.cut(from..to);
    assert_eq!(&message.contiguous()[..], [&whole[..from], &whole[to..]].concat());
});
