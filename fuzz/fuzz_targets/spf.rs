//! SPF: the first line is the sender, all others are what DNS says. Asserts: no panic; the bounds of RFC 7208 §4.6.4 hold whatever the
//! records say; an explanation is text that may stand in a reply.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waypost_fuzz::{Answers, run};
use waypost_mailauth::spf::{SpfQuestion, evaluate};

/// One for each term that asks, ten names for each `mx`, and what explains.
const QUESTIONS_MAX: usize = 11 * 11 + 10;

fuzz_target!(|input: &str| {
    let Some((sender, rest)) = input.split_once('\n') else { return };
    let (local, domain) = sender.rsplit_once('@').unwrap_or(("", sender));
    for ip in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"] {
        let dns = Answers::of(rest);
        let ip = ip.parse().expect("an address");
        let question = SpfQuestion { ip, helo: domain, local, domain, receiver: "mx.example.com" };
        let answer = run(evaluate(&dns, question));
        assert!(dns.asked() <= QUESTIONS_MAX, "{} questions", dns.asked());
        if let Some(text) = &answer.explanation {
            assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
        }
    }
});
