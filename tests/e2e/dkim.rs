//! `waypost dkim`: keys made, published, compared with DNS, and changed with an overlap.

use waypost_tests::Waypost;
use waypost_tests::zone::{Faults, Record, Zone};

fn txt(line: &str) -> String {
    // `name IN TXT ( "…" "…" )`: the strings joined, as verifiers do.
    line.split('"').skip(1).step_by(2).collect()
}

#[test]
fn a_key_is_made_published_checked_and_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let zone = Zone::start(&[], Faults::default());
    let sets = ["dkim.main.domain=sign.test", "dkim.main.selector=s1", "dkim.main.algorithm=ed25519"];
    let waypost = Waypost::stopped_with_names(folder.path(), zone.port, &sets);
    let run = |arguments: &[&str]| waypost.command(&[&["dkim"], arguments].concat());

    let (done, text) = run(&["new", "main", "--domain", "sign.test", "--selector", "s1", "--algorithm", "ed25519"]);
    assert!(done.success() && text.contains("[dkim.main]") && text.contains("algorithm = \"ed25519\""), "{text}");
    let (done, text) = run(&["new", "main", "--domain", "sign.test"]);
    assert!(!done.success() && text.contains("is there already"), "{text}");

    let (done, line) = run(&["publish", "main"]);
    assert!(done.success() && line.starts_with("s1._domainkey.sign.test. IN TXT"), "{line}");
    let (done, text) = run(&["check", "main"]);
    assert!(!done.success() && text.contains("s1._domainkey.sign.test: not published"), "{text}");
    let old = txt(&line);
    zone.set(&[("s1._domainkey.sign.test", Record::Txt(old.clone()))]);
    let (done, text) = run(&["check", "main"]);
    assert!(done.success() && text.contains("s1._domainkey.sign.test: published"), "{text}");

    let (done, text) = run(&["rotate", "main", "--selector", "s2"]);
    assert!(done.success() && text.contains("still signs with the old key") && text.contains("12 days"), "{text}");
    let line = text.lines().find(|line| line.contains("s2._domainkey")).expect("the new record").to_string();
    let (done, text) = run(&["check", "main"]);
    assert!(done.success() && text.contains("main (next): s2._domainkey.sign.test: not published"), "{text}");
    zone.set(&[
        ("s1._domainkey.sign.test", Record::Txt(old.clone())),
        ("s2._domainkey.sign.test", Record::Txt(txt(&line))),
    ]);
    let (_, text) = run(&["check", "main"]);
    assert!(text.contains("main (next): s2._domainkey.sign.test: published"), "{text}");
    let (done, text) = run(&["rotate", "main", "--selector", "s1"]);
    assert!(!done.success() && text.contains("in use"), "{text}");
}
