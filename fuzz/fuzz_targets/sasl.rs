//! SASL mechanisms, server side: the first octet chooses one, the rest are messages, each with its length in front. Asserts: no panic; an
//! exchange ends; nobody is asked about after a rule was broken; SCRAM asks about nobody who has not proved to know the keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waypost_smtp::sasl::{Mechanism, NONCE_BYTES, Step, Surroundings, begin};
use waypost_types::TlsFacts;
use waypost_types::login::{Proof, ScramKeys};

fuzz_target!(|input: &[u8]| {
    let [knobs, rest @ ..] = input else { return };
    let mechanism = Mechanism::ALL[usize::from(knobs & 15) % Mechanism::ALL.len()];
    let tls = TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384".into(),
        server_name: None,
        client_certificate: None,
        exporter: Some([7; 32].into()),
        resumed: false,
    };
    let at = Surroundings {
        tls: (knobs & 16 != 0).then_some(&tls),
        plus_offered: knobs & 32 != 0,
        relayed: knobs & 64 != 0,
    };
    if mechanism == Mechanism::ScramSha256Plus && at.tls.is_none() {
        return;
    }
    let mut exchange = begin(mechanism, at);
    let mut messages = pieces(rest).into_iter();
    let mut next = if knobs & 128 != 0 { messages.next() } else { None };
    for _ in 0..16 {
        let mut step = exchange.handle(next);
        if let Step::Keys(_) = step {
            let keys = ScramKeys {
                iterations: 4096,
                salt: b"salt".as_slice().into(),
                stored_key: [1; 32],
                server_key: [2; 32],
            };
            step = exchange.handle_keys(keys, [b'n'; NONCE_BYTES]);
        }
        match step {
            Step::Challenge(_) => next = Some(messages.next().unwrap_or_default()),
            Step::Ask(credentials, _) => {
                if let Proof::Token(token) = &credentials.proof {
                    assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
                }
                assert!(!credentials.identity.contains('\0'));
                return;
            }
            Step::Pass(..) | Step::Malformed => return,
            Step::Keys(_) => panic!("keys twice"),
        }
    }
    panic!("{mechanism:?} does not end");
});

fn pieces(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let [length, after @ ..] = rest {
        let (piece, remains) = after.split_at(usize::from(*length).min(after.len()));
        all.push(piece);
        rest = remains;
    }
    all
}
