//! DMARC: the first line is the author's domain, the second those that passed, all others are what DNS says. Asserts: no panic; the walk up
//! the tree ends after eight names (RFC 9989 §4.10).
#![no_main]

use libfuzzer_sys::fuzz_target;
use waypost_fuzz::{Answers, run};
use waypost_mailauth::dmarc::{DmarcResult, Identifiers, evaluate};

fuzz_target!(|input: &str| {
    let mut lines = input.splitn(3, '\n');
    let (Some(author), Some(passed), Some(rest)) = (lines.next(), lines.next(), lines.next()) else { return };
    let passed: Vec<&str> = passed.split(' ').take(3).collect();
    let dns = Answers::of(rest);
    let identifiers =
        Identifiers { spf: passed.first().copied(), dkim: passed.get(1..).unwrap_or_default(), unsure: &[] };
    let dmarc = run(evaluate(&dns, author, identifiers));
    assert!(dns.asked() <= 9 * (1 + passed.len()), "{} questions", dns.asked());
    if dmarc.result == DmarcResult::None {
        assert_eq!(dmarc.policy, None);
    }
});
