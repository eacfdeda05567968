//! Whole checks against a zone in memory.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use waypost_types::port::DnsType;
use waypost_types::{Address, Domain, ReversePath, SessionId, Transport};

use super::*;
use crate::key::{KeyKind, SecretKey};
use crate::results_field;
use crate::sign::SigningKey;
use crate::zone::Zone;

fn session() -> SessionFacts {
    SessionFacts {
        id: SessionId::new(1),
        transport: Transport::Mx,
        peer: "192.0.2.1:25".parse().expect("an address"),
        local: "192.0.2.2:25".parse().expect("an address"),
        peer_name: Some("mail.example.com".into()),
        helo: "mail.example.com".into(),
        esmtp: true,
        tls: None,
        user: None,
        trusted: false,
    }
}

fn from(sender: &str) -> Envelope {
    let sender = Address::parse(sender).map_or(ReversePath::Null, ReversePath::Mailbox);
    Envelope { sender, ..Envelope::default() }
}

fn verifier(zone: Zone) -> Verifier {
    Verifier::new(VerifierOptions::new(Arc::new(zone), "mx.example.net")).expect("a verifier")
}

async fn check(zone: Zone, sender: &str, text: &str) -> Vec<Finding> {
    let message = Message::new(Bytes::copy_from_slice(text.as_bytes()));
    verifier(zone).check(&session(), &from(sender), &message).await.findings
}

fn result<'a>(findings: &'a [Finding], method: &str) -> &'a str {
    findings.iter().find(|finding| finding.method == method).map_or("absent", |finding| finding.result)
}

fn spf_zone(record: &str) -> Zone {
    let mut zone = Zone::default();
    zone.add("example.com", DnsType::Txt, record);
    zone.add("_dmarc.example.com", DnsType::Txt, "v=DMARC1; p=reject; np=quarantine");
    zone
}

const MESSAGE: &str = "From: a@example.com\r\nTo: b@example.net\r\nSubject: x\r\n\r\nHello\r\n";

#[tokio::test]
async fn aligned_spf_passes_dmarc() {
    let findings = check(spf_zone("v=spf1 ip4:192.0.2.1 -all"), "a@example.com", MESSAGE).await;
    let field = results_field("mx.example.net", &findings);
    assert_eq!(
        field,
        "Authentication-Results: mx.example.net;\r\n\tiprev=pass (mail.example.com) policy.iprev=192.0.2.1;\r\n\
         \tspf=pass smtp.mailfrom=a@example.com;\r\n\tdkim=none;\r\n\tdmarc=pass (p=reject) header.from=example.com;\r\n\tarc=none\r\n"
    );
}

#[tokio::test]
async fn a_stranger_in_an_authors_name_fails_dmarc() {
    let mut zone = spf_zone("v=spf1 -all");
    zone.add("evil.example", DnsType::Txt, "v=spf1 +all");
    let findings = check(zone, "x@evil.example", MESSAGE).await;
    assert_eq!((result(&findings, "spf"), result(&findings, "dmarc")), ("pass", "fail"));
}

#[tokio::test]
async fn what_a_domain_demands_is_said_unless_a_trusted_sealer_saw_it_pass() {
    let mut zone = spf_zone("v=spf1 -all");
    zone.add("evil.example", DnsType::Txt, "v=spf1 +all");
    let message = Message::new(Bytes::from_static(MESSAGE.as_bytes()));
    let checked = verifier(zone).check(&session(), &from("x@evil.example"), &message).await;
    let demand = checked.demand.expect("a demand");
    assert_eq!((demand.domain.as_str(), demand.policy, demand.excused), ("example.com", Policy::Reject, false));
    let honest = verifier(spf_zone("v=spf1 ip4:192.0.2.1 -all"));
    assert_eq!(honest.check(&session(), &from("a@example.com"), &message).await.demand, None);
}

#[tokio::test]
async fn two_authors_domains_are_nobodys() {
    let message = MESSAGE.replace("a@example.com", "a@example.com, b@example.org");
    let findings = check(spf_zone("v=spf1 +all"), "a@example.com", &message).await;
    assert_eq!(result(&findings, "dmarc"), "permerror", "{findings:?}");
    let same = MESSAGE.replace("a@example.com", "a@example.com, b@Example.com");
    assert_eq!(result(&check(spf_zone("v=spf1 +all"), "a@example.com", &same).await, "dmarc"), "pass");
}

#[tokio::test]
async fn an_author_behind_a_blank_is_judged_like_any_other() {
    let mut zone = spf_zone("v=spf1 -all");
    zone.add("evil.example", DnsType::Txt, "v=spf1 +all");
    let findings = check(zone, "x@evil.example", &MESSAGE.replace("From:", "From \t:")).await;
    assert_eq!(result(&findings, "dmarc"), "fail", "{findings:?}");
}

#[tokio::test]
async fn a_notice_is_judged_by_helo() {
    let mut zone = spf_zone("v=spf1 -all");
    zone.add("mail.example.com", DnsType::Txt, "v=spf1 a -all");
    zone.add("mail.example.com", DnsType::A, "192.0.2.1");
    let findings = check(zone, "", MESSAGE).await;
    let spf = findings.iter().find(|finding| finding.method == "spf").expect("there is one");
    assert_eq!((spf.result, spf.property, spf.domain.as_deref()), ("pass", "smtp.helo", Some("mail.example.com")));
    assert_eq!(result(&findings, "dmarc"), "pass", "relaxed alignment by the tree walk");
}

#[tokio::test]
async fn an_aligned_signature_passes_dmarc_without_spf() {
    let key =
        SigningKey::new(Domain::parse("mail.example.com").expect("name"), "s1", SecretKey::generate(KeyKind::Ed25519));
    let mut zone = spf_zone("v=spf1 -all");
    zone.add("s1._domainkey.mail.example.com", DnsType::Txt, &key.secret.record());
    let message = Message::new(Bytes::from_static(MESSAGE.as_bytes()));
    let value = key.sign(&["From".to_string()], &message, 1_790_000_000).expect("signed");
    let findings = check(zone, "x@other.example", &format!("DKIM-Signature: {value}\r\n{MESSAGE}")).await;
    assert_eq!((result(&findings, "dkim"), result(&findings, "dmarc")), ("pass", "pass"), "{findings:?}");
}

#[tokio::test]
async fn a_missing_key_and_a_silent_server_are_told_apart() {
    let key = SigningKey::new(Domain::parse("example.com").expect("name"), "s1", SecretKey::generate(KeyKind::Ed25519));
    let message = Message::new(Bytes::from_static(MESSAGE.as_bytes()));
    let value = key.sign(&["From".to_string()], &message, 1_790_000_000).expect("signed");
    let text = format!("DKIM-Signature: {value}\r\n{MESSAGE}");
    let findings = check(spf_zone("v=spf1 -all"), "x@other.example", &text).await;
    assert_eq!(result(&findings, "dkim"), "permerror", "{findings:?}");
    let mut zone = spf_zone("v=spf1 -all");
    zone.silent.push("s1._domainkey.example.com".into());
    let findings = check(zone, "x@other.example", &text).await;
    assert_eq!(result(&findings, "dkim"), "temperror", "{findings:?}");
    assert_eq!(result(&findings, "dmarc"), "temperror", "nobody knows whether it would have passed: {findings:?}");
}

#[tokio::test]
async fn a_body_length_makes_a_signature_worthless() {
    let text = format!(
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=s1; l=3; h=from; bh=AAAA; b=AAAA\r\n{MESSAGE}"
    );
    let findings = check(spf_zone("v=spf1 -all"), "x@other.example", &text).await;
    assert_ne!(result(&findings, "dkim"), "pass");
    assert_eq!(result(&findings, "dmarc"), "fail");
}

#[tokio::test]
async fn a_resolver_that_hangs_costs_the_timeout_and_no_more() {
    let zone = Zone { hangs: true, ..Zone::default() };
    let mut options = VerifierOptions::new(Arc::new(zone), "mx.example.net");
    options.timeout = Duration::from_millis(20);
    let verifier = Verifier::new(options).expect("a verifier");
    let message = Message::new(Bytes::from_static(MESSAGE.as_bytes()));
    let findings = verifier.check(&session(), &from("a@example.com"), &message).await.findings;
    let field = results_field("mx.example.net", &findings);
    assert_eq!(
        field,
        "Authentication-Results: mx.example.net;\r\n\tiprev=pass (mail.example.com) policy.iprev=192.0.2.1;\r\n\
         \tspf=temperror (not known in time) smtp.mailfrom=a@example.com;\r\n\tdkim=none;\r\n\
         \tdmarc=temperror (not known in time) header.from=example.com;\r\n\tarc=fail (not known in time)\r\n"
    );
}

#[tokio::test]
async fn many_signatures_do_not_buy_many_questions() {
    let mut text = String::new();
    for n in 0..200 {
        text += &format!("DKIM-Signature: v=1; a=rsa-sha256; d=d{n}.example; s=s; h=from; bh=AAAA; b=AAAA\r\n");
    }
    let zone = Arc::new(spf_zone("v=spf1 -all"));
    let verifier = Verifier::new(VerifierOptions::new(zone.clone(), "mx.example.net")).expect("a verifier");
    let message = Message::new(Bytes::from(text + MESSAGE));
    verifier.check(&session(), &from("a@example.com"), &message).await;
    assert!(zone.asked.load(Ordering::Relaxed) <= 1 + SIGNATURES_MAX + 8, "{:?}", zone.asked);
}

#[tokio::test]
async fn garbage_is_no_reason_to_fall_over() {
    for text in ["", "\r\n", "no header", "From: \r\n\r\n", "\0\u{ff}\r\n: x\r\n", "DKIM-Signature:\r\nFrom: @\r\n\r\n"]
    {
        let findings = check(Zone::default(), "a@example.com", text).await;
        assert_eq!(result(&findings, "spf"), "none", "{text:?}");
    }
}
