//! What plugins see of a message and ask to be changed.

use waypost_plugin::{Grants, PatternSet, PluginOptions};
use waypost_types::{Edit, Judge, Verdict};

use crate::bench::*;

fn searching(decoded: bool) -> PluginOptions {
    let patterns = vec!["pills".to_string(), "cheap pills".to_string()];
    let set = PatternSet { patterns, ignore_case: true, decoded };
    PluginOptions { patterns: [("bad-words".to_string(), set)].into(), ..probe() }
}

#[tokio::test]
async fn headers_body_and_parts_are_read() {
    let host = World::default().host(vec![probe()]);
    assert_eq!(said(&subject(&host, "read").await), "5 true Received 2");
    assert_eq!(said(&subject(&host, "parts").await), "1 text/plain buy cheap pills now");
    assert!(fault(&subject(&host, "no part").await).contains("no part `7.7`"));
}

#[tokio::test]
async fn patterns_are_found_by_the_host_overlapping_ones_too() {
    let world = World::default();
    let raw = said(&subject(&world.host(vec![searching(false)]), "find").await).to_string();
    assert_eq!(raw.matches("(0, ").count() + raw.matches("(1, ").count(), 2, "{raw}");
    assert_eq!(said(&subject(&world.host(vec![searching(true)]), "find").await), "[(1, 4), (0, 10)]");
    assert!(fault(&subject(&world.host(vec![probe()]), "find none").await).contains("no pattern set `unknown`"));
}

#[tokio::test]
async fn digests_and_tokens_are_made_by_the_host() {
    let host = World::default().host(vec![probe()]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, mail("digest").as_bytes());
    let expected = format!("{:02x?}", &digest.as_ref()[..4]);
    assert_eq!(said(&subject(&host, "digest").await), expected);
    assert!(fault(&subject(&host, "bad digest").await).contains("no digest `crc32`"));
    // tokens, buy, cheap, pills, now, and six pairs.
    assert_eq!(said(&subject(&host, "tokens").await), "11");
}

#[tokio::test]
async fn edits_and_facts_count_when_the_hook_returns() {
    let host = World::default().host(vec![probe()]);
    let judgement = subject(&host, "edit").await;
    assert_eq!(
        judgement.edits,
        [
            Edit::AppendHeader { name: "X-Last".into(), value: "b".into() },
            Edit::PrependHeader { name: "X-First".into(), value: "a;\r\n\tfolded".into() },
            Edit::RemoveHeader { name: "Received".into(), index: Some(0) },
        ]
    );
    assert_eq!(judgement.facts[0].symbol, "EDITED");
    let judgement = subject(&host, "edit then panic").await;
    assert!(judgement.edits.is_empty());
    let mut jury = host.open();
    assert!(rcpt(&mut jury, "fact-then-panic").await.facts.is_empty());
    assert_eq!(said(&rcpt(&mut jury, "facts").await), "[] 0");
}

#[tokio::test]
async fn later_plugins_see_the_edits_of_earlier_ones() {
    let world = World::default();
    let keys = Grants { keys: vec!["*".into()], ..Grants::default() };
    let second = PluginOptions { name: "second".into(), ..granted(keys.clone()) };
    let host = world.host(vec![granted(keys), second]);
    let judgement = host.open().judge(queue_question()).await;
    assert_eq!(judgement.edits.len(), 2);
    let signed = world.signed.lock().unwrap();
    assert!(signed[0].starts_with("Received: one"));
    assert!(
        signed[1].starts_with("X-Signed: "),
        "the second signature is over what the first has added: {}",
        signed[1]
    );
}

#[tokio::test]
async fn a_body_is_replaced_with_the_grant() {
    let host = World::default().host(vec![granted(Grants { rewrite: true, ..Grants::default() })]);
    let judgement = subject(&host, "replace").await;
    assert_eq!(judgement.edits, [Edit::ReplaceBody("new body\r\n".into())]);
}

#[tokio::test]
async fn messages_are_held_and_dropped() {
    let host = World::default().host(vec![probe()]);
    assert_eq!(subject(&host, "quarantine").await.verdict, Verdict::Hold("look at it".into()));
    assert_eq!(subject(&host, "discard").await.verdict, Verdict::Discard);
}
