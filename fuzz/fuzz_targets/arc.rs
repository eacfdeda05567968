//! ARC: what DNS says, a NUL, a message. Asserts: no panic; seals are told of a chain that passes and of no other; a message without ARC
//! fields has no chain.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use waypost_fuzz::{Answers, halves, run};
use waypost_mailauth::arc::verify;
use waypost_types::Message;

fuzz_target!(|input: &[u8]| {
    let Some((records, message)) = halves(input) else { return };
    let dns = Answers::of(records);
    let arc = run(verify(&dns, &Message::new(Bytes::copy_from_slice(message))));
    assert!(dns.asked() <= 51, "{} questions", dns.asked());
    assert!(["none", "pass", "fail"].contains(&arc.result));
    assert_eq!(arc.result == "fail", arc.problem.is_some());
    assert_eq!(arc.result == "pass", !arc.seals.is_empty());
    if !message.to_ascii_lowercase().windows(4).any(|four| four == b"arc-") {
        assert_eq!(arc.result, "none");
    }
});
