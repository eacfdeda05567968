//! Everything that is found out about a message (SPF, DKIM, DMARC, ARC): what DNS says, a NUL, a message. Asserts: no panic; what is found
//! makes one header field that cannot be broken out of, and that is recognised as ours.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use waypost_fuzz::{Answers, halves, run};
use waypost_mailauth::{Verifier, VerifierOptions, is_results_of, results_field};
use waypost_types::{Address, Envelope, Message, ReversePath, SessionFacts};

fuzz_target!(|input: &[u8]| {
    let Some((records, message)) = halves(input) else { return };
    let verifier = Verifier::new(VerifierOptions::new(Arc::new(Answers::of(records)), "mx.example.com")).expect("one");
    let sender = Address::parse("a@example.com").expect("an address");
    let envelope = Envelope { sender: ReversePath::Mailbox(sender), ..Envelope::default() };
    let message = Message::new(Bytes::copy_from_slice(message));
    let checked = run(verifier.check(&SessionFacts::nobody(), &envelope, &message));
    let field = results_field("mx.example.com", &checked.findings);
    let (name, value) = field.split_once(':').expect("a field");
    assert_eq!(name, "Authentication-Results");
    assert!(is_results_of(value.as_bytes(), "MX.example.com"), "{field:?}");
    for line in field.trim_end_matches("\r\n").split("\r\n").skip(1) {
        assert!(line.starts_with([' ', '\t']), "{field:?}");
    }
    assert!(!field.replace("\r\n", "").contains(['\r', '\n', '\0']), "{field:?}");
});
