//! ARC's public validation suite (see `suite.json.LICENSE`), every case through [`super::verify`].
//!
//! The suite was written for the drafts. Where RFC 8617 came to another answer, or where we are stricter on purpose, the case stands in
//! [`OTHERWISE`] with its reason, and must give just that answer.

use bytes::Bytes;
use serde_json::Value;
use waypost_types::Message;
use waypost_types::port::DnsType;

use crate::zone::Zone;

const SUITE: &str = include_str!("suite.json");

/// Case, our answer, why.
const OTHERWISE: &[(&str, &str, &str)] = &[
    ("ams_fields_a_sha1", "fail", "RFC 8301 §3.1: rsa-sha1 verifies nothing any more"),
    ("as_fields_a_sha1", "fail", "RFC 8301 §3.1: rsa-sha1 verifies nothing any more"),
    ("ams_fields_h_empty", "fail", "RFC 6376 §3.5: `h=` must not be empty, and must name From"),
    ("ams_fields_h_mis_hdr", "fail", "RFC 6376 §3.5: a name between two colons is a name, not nothing"),
    (
        "as_fields_t_na",
        "pass",
        "RFC 8617 §4.1.3: `t=` means what it does in RFC 6376 §3.5, where it is recommended and not required",
    ),
];

#[tokio::test]
async fn every_case_of_the_arc_suite() {
    let suite: Value = serde_json::from_str(SUITE).expect("the suite is JSON");
    let mut failed = Vec::new();
    let mut count = 0;
    for scenario in suite.as_array().expect("a list of scenarios") {
        let mut zone = Zone::default();
        for (name, record) in scenario["txt-records"].as_object().expect("a map of names") {
            zone.add(name, DnsType::Txt, record.as_str().expect("a text"));
        }
        for (name, case) in scenario["tests"].as_object().expect("a map of cases") {
            count += 1;
            let text = case["message"].as_str().expect("a message").replace('\n', "\r\n");
            let arc = super::verify(&zone, &Message::new(Bytes::from(text))).await;
            let wanted = wanted(name, case);
            if arc.result != wanted {
                failed.push(format!("{name}: wanted {wanted}, got {} ({:?})", arc.result, arc.problem));
            }
        }
    }
    assert_eq!(count, 174);
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
}

/// The suite's answer, unless ours is another. No answer means a chain that a sealer had found broken: for RFC 8617 §5.2 that is `fail`.
fn wanted(name: &str, case: &Value) -> String {
    let theirs = match case["cv"].as_str().expect("a result") {
        "" => "fail".to_string(),
        result => result.to_lowercase(),
    };
    match OTHERWISE.iter().find(|(one, ..)| *one == name) {
        Some((_, ours, _)) => {
            assert_ne!(theirs, *ours, "{name} needs no exception");
            (*ours).to_string()
        }
        None => theirs,
    }
}
