//! Signatures, checked by the other implementation at hand: mail-auth, through [`crate::Verifier`]'s oracle.

use std::sync::Arc;

use bytes::Bytes;
use waypost_types::port::DnsType;
use waypost_types::{Envelope, Finding, SessionFacts, SessionId, Transport};

use super::*;
use crate::key::KeyKind;
use crate::zone::Zone;
use crate::{Verifier, VerifierOptions};

const NAMES: [&str; 6] = ["From", "To", "Subject", "Date", "Message-ID", "X-Multi"];

/// Odd messages, each of which broke somebody's signatures once.
const ODD: [&str; 12] = [
    "From: a@example.com\r\nSubject: plain\r\n\r\nHello\r\n",
    "From: a@example.com\r\nSubject: no body\r\n\r\n",
    "From: a@example.com\r\nSubject: no empty line\r\n",
    "From: a@example.com\r\nSubject: blank lines at the end\r\n\r\nHello\r\n\r\n \r\n\t\r\n\r\n",
    "From: a@example.com\r\nSubject: only blanks\r\n\r\n \t \r\n\r\n",
    "From: a@example.com\r\nSubject:   folded\r\n\t  subject \r\n with  blanks  \r\n\r\nHello  \t world \r\n",
    "From: a@example.com\r\nX-Multi: 1\r\nx-multi: 2\r\nX-MULTI: 3\r\n\r\n.dots\r\n..more\r\n",
    "From: a@example.com\r\nSubject:\r\n\r\nempty subject\r\n",
    "From: \"b \\\" c\" <a@example.com>\r\nSubject: j\u{fc}rgen\r\n\r\n\u{e4}\u{f6}\u{fc}\r\n",
    "From: a@example.com\r\nSubject: no line end\r\n\r\nlast line",
    "From: a@example.com\r\nSubject: bare\r\n\r\na\nb\rc\r\r\n",
    "From: a@example.com\r\n\r\n\r\n\r\nbegins with empty lines\r\n",
];

fn names() -> Vec<String> {
    NAMES.map(str::to_string).to_vec()
}

fn key(kind: KeyKind, header_form: Form, body_form: Form) -> SigningKey {
    let domain = Domain::parse("example.com").expect("a domain");
    let mut key = SigningKey::new(domain, "s1", SecretKey::generate(kind));
    (key.header_form, key.body_form) = (header_form, body_form);
    key
}

fn signed(key: &SigningKey, text: &str) -> String {
    let message = Message::new(Bytes::copy_from_slice(text.as_bytes()));
    let value = key.sign(&names(), &message, 1_790_000_000).expect("signed");
    format!("DKIM-Signature: {value}\r\n{text}")
}

async fn findings(record: &str, text: &str) -> Vec<Finding> {
    let mut zone = Zone::default();
    zone.add("s1._domainkey.example.com", DnsType::Txt, record);
    let verifier = Verifier::new(VerifierOptions::new(Arc::new(zone), "mx.example.net")).expect("a verifier");
    let session = SessionFacts {
        id: SessionId::new(1),
        transport: Transport::Mx,
        peer: "192.0.2.1:25".parse().expect("an address"),
        local: "192.0.2.2:25".parse().expect("an address"),
        peer_name: None,
        helo: "a.example".into(),
        esmtp: true,
        tls: None,
        user: None,
        trusted: false,
    };
    let message = Message::new(Bytes::copy_from_slice(text.as_bytes()));
    let all = verifier.check(&session, &Envelope::default(), &message).await.findings;
    all.into_iter().filter(|finding| finding.method == "dkim").collect()
}

#[tokio::test]
async fn every_odd_message_verifies_in_every_form() {
    for kind in [KeyKind::Rsa, KeyKind::Ed25519] {
        let secrets = [(Form::Relaxed, Form::Relaxed), (Form::Simple, Form::Simple), (Form::Relaxed, Form::Simple)];
        for (header_form, body_form) in secrets {
            let key = key(kind, header_form, body_form);
            for text in ODD {
                let message = signed(&key, text);
                let found = findings(&key.secret.record(), &message).await;
                assert_eq!(found.len(), 1, "{message}");
                assert_eq!(found[0].result, "pass", "{found:?} {kind:?} {header_form:?}/{body_form:?}\n{message}");
            }
        }
    }
}

/// Verifies what stands in the files given, `record` first, and prints one word for each.
const DKIMPY: &str = "
import sys, dkim
record = open(sys.argv[1], 'rb').read()
for name in sys.argv[2:]:
    message = open(name, 'rb').read()
    print('pass' if dkim.verify(message, dnsfunc=lambda name, timeout=5: record) else 'fail')
";

/// The reference implementation, where there is one (`pip install dkimpy pynacl`).
#[test]
fn dkimpy_agrees() {
    let has_it = std::process::Command::new("python3").args(["-c", "import dkim, nacl"]).output();
    if !has_it.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: python3 has no dkimpy and pynacl here");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    for kind in [KeyKind::Rsa, KeyKind::Ed25519] {
        for (header_form, body_form) in [(Form::Relaxed, Form::Relaxed), (Form::Simple, Form::Simple)] {
            let key = key(kind, header_form, body_form);
            let record = dir.path().join("record");
            std::fs::write(&record, key.secret.record()).expect("written");
            // dkimpy makes CRLF of bare LF before it hashes; on the wire there is none.
            let texts: Vec<_> = ODD.into_iter().filter(|text| !text.contains("bare")).collect();
            let paths = texts.iter().enumerate().map(|(at, text)| {
                let path = dir.path().join(at.to_string());
                std::fs::write(&path, signed(&key, text)).expect("written");
                path
            });
            let output = std::process::Command::new("python3").args(["-c", DKIMPY]).arg(&record).args(paths).output();
            let output = output.expect("python3 runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(said, "pass\n".repeat(texts.len()), "{kind:?} {header_form:?}/{body_form:?}\n{output:?}");
        }
    }
}

#[tokio::test]
async fn a_changed_message_or_an_added_header_does_not_verify() {
    let key = key(KeyKind::Ed25519, Form::Relaxed, Form::Relaxed);
    let message = signed(&key, ODD[0]);
    for (from, to) in [("Hello", "Hallo"), ("Subject: plain", "Subject: other"), ("From:", "From: evil@x\r\nFrom:")] {
        let changed = message.replace(from, to);
        assert_ne!(changed, message);
        let found = findings(&key.secret.record(), &changed).await;
        assert_ne!(found[0].result, "pass", "{changed}");
    }
    // Over-signed: a Date where there was none breaks it.
    let added = message.replace("Subject: plain", "Date: today\r\nSubject: plain");
    assert_ne!(findings(&key.secret.record(), &added).await[0].result, "pass");
}

#[test]
fn the_field_is_folded_and_names_what_it_covers() {
    let key = key(KeyKind::Rsa, Form::Relaxed, Form::Relaxed);
    let field = signed(&key, ODD[6]);
    let field = field.split("\r\nFrom").next().expect("the field stands in front");
    assert!(field.split("\r\n").all(|line| line.len() <= 78), "{field}");
    assert!(!field.contains(" l=") && field.contains("a=rsa-sha256; c=relaxed/relaxed;"));
    let flat = field.replace("\r\n\t ", "");
    assert!(flat.contains("h=from:from:to:subject:date:message-id:x-multi:x-multi:x-multi:x-multi;"), "{flat}");
}

#[test]
fn a_message_in_pieces_signs_like_the_whole() {
    let key = key(KeyKind::Ed25519, Form::Relaxed, Form::Relaxed);
    let text = ODD[3].as_bytes();
    let whole = key.sign(&names(), &Message::new(Bytes::from_static(text)), 7).expect("signed");
    for at in 0..text.len() {
        let parts = vec![Bytes::from_static(&text[..at]), Bytes::from_static(&text[at..])];
        // Ed25519 is deterministic.
        assert_eq!(key.sign(&names(), &Message::from_segments(parts), 7), Ok(whole.clone()), "cut at {at}");
    }
}

#[test]
fn an_unknown_key_is_named() {
    let error = Keys::new().dkim("s9", &[], &Message::default()).expect_err("there is none");
    assert!(error.contains("s9"), "{error}");
}
