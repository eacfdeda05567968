//! Verdicts against a zone in memory: the examples of RFC 9989 appendix B, and what the tree walk is for.

use waypost_types::port::DnsType;

use super::*;
use crate::zone::Zone;

fn zone(records: &[(&str, &str)]) -> Zone {
    let mut zone = Zone::default();
    for (name, record) in records {
        zone.add(&format!("_dmarc.{name}"), DnsType::Txt, record);
    }
    zone
}

async fn judge(zone: &Zone, author: &str, spf: Option<&str>, dkim: &[&str]) -> (DmarcResult, Option<Policy>) {
    let dmarc = evaluate(zone, author, Identifiers { spf, dkim, unsure: &[] }).await;
    (dmarc.result, dmarc.policy)
}

use DmarcResult::{Fail, None as Absent, Pass, TempError};
use Policy::{Quarantine, Reject};

#[tokio::test]
async fn alignment_is_relaxed_or_strict_as_the_domain_says() {
    let relaxed = zone(&[("example.com", "v=DMARC1; p=reject")]);
    assert_eq!(judge(&relaxed, "example.com", Some("child.example.com"), &[]).await, (Pass, Some(Reject)));
    assert_eq!(judge(&relaxed, "Example.COM", None, &["mail.example.com"]).await.0, Pass);
    assert_eq!(judge(&relaxed, "child.example.com", None, &["example.com"]).await.0, Pass);
    assert_eq!(judge(&relaxed, "example.com", Some("example.net"), &["evilexample.com", "com"]).await.0, Fail);
    let strict = zone(&[("example.com", "v=DMARC1; p=reject; adkim=s; aspf=s")]);
    assert_eq!(judge(&strict, "example.com", Some("child.example.com"), &["mail.example.com"]).await.0, Fail);
    assert_eq!(judge(&strict, "example.com", Some("child.example.com"), &["example.com"]).await.0, Pass);
    assert_eq!(judge(&zone(&[]), "example.com", Some("example.com"), &[]).await, (Absent, Option::None));
}

#[tokio::test]
async fn a_domain_below_takes_sp_and_one_that_does_not_exist_np() {
    let mut zone = zone(&[("example.com", "v=DMARC1; p=none; sp=quarantine; np=reject")]);
    zone.add("real.example.com", DnsType::A, "192.0.2.1");
    zone.touch("empty.example.com");
    assert_eq!(judge(&zone, "real.example.com", Option::None, &[]).await, (Fail, Some(Quarantine)));
    assert_eq!(judge(&zone, "made.up.example.com", Option::None, &[]).await, (Fail, Some(Reject)));
    assert_eq!(judge(&zone, "empty.example.com", Option::None, &[]).await, (Fail, Some(Reject)));
}

#[tokio::test]
async fn psd_parts_organisations() {
    // `bank` is a suffix below which others register; `giant.bank` is one of them.
    let mut suffix =
        zone(&[("bank", "v=DMARC1; p=reject; psd=y; np=reject"), ("giant.bank", "v=DMARC1; p=quarantine")]);
    suffix.add("mail.giant.bank", DnsType::A, "192.0.2.1");
    assert_eq!(judge(&suffix, "mail.giant.bank", Some("giant.bank"), &[]).await, (Pass, Some(Quarantine)));
    assert_eq!(judge(&suffix, "giant.bank", Some("other.bank"), &[]).await.0, Fail, "two organisations");
    assert_eq!(judge(&suffix, "nobody.bank", Option::None, &[]).await, (Fail, Some(Reject)), "the suffix speaks");
    // `psd=n` cuts an organisation out of another.
    let cut = zone(&[("example.com", "v=DMARC1; p=reject"), ("host.example.com", "v=DMARC1; p=reject; psd=n")]);
    assert_eq!(judge(&cut, "a.host.example.com", Some("b.host.example.com"), &[]).await.0, Pass);
    assert_eq!(judge(&cut, "a.host.example.com", Some("example.com"), &[]).await.0, Fail);
    assert_eq!(judge(&cut, "example.com", Some("a.host.example.com"), &[]).await.0, Fail);
}

#[tokio::test]
async fn a_walk_is_eight_questions_at_most() {
    let zone = zone(&[("example.com", "v=DMARC1; p=reject")]);
    let deep = "a.b.c.d.e.f.g.h.i.j.mail.example.com";
    assert_eq!(judge(&zone, deep, Some(deep), &[]).await, (Pass, Some(Reject)));
    let asked = zone.asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!(asked <= 8 + 3, "{asked} questions: a walk and whether the name exists");
    let names: Vec<_> = std::iter::successors(Some(deep), |name| next(name)).collect();
    assert_eq!(names[1], "g.h.i.j.mail.example.com");
    assert_eq!((names.len(), names[7]), (8, "com"));
}

#[tokio::test]
async fn several_records_are_none_and_silence_is_no_answer() {
    let two = zone(&[("example.com", "v=DMARC1; p=reject"), ("example.com", "v=DMARC1; p=none")]);
    assert_eq!(judge(&two, "example.com", Some("example.com"), &[]).await.0, Absent);
    let other = zone(&[("example.com", "v=DMARC1; p=reject"), ("example.com", "something else")]);
    assert_eq!(judge(&other, "example.com", Some("example.com"), &[]).await.0, Pass);
    let mut silent = zone(&[]);
    silent.silent.push("_dmarc.example.com".into());
    assert_eq!(judge(&silent, "example.com", Some("example.com"), &[]).await.0, TempError);
    let zone = zone(&[("example.com", "v=DMARC1; p=reject")]);
    let unsure = |domain: &'static str| {
        let zone = &zone;
        async move { evaluate(zone, "example.com", Identifiers { spf: None, dkim: &[], unsure: &[domain] }).await.result }
    };
    assert_eq!(unsure("mail.example.com").await, TempError, "its signature might have passed");
    assert_eq!(unsure("slow.example").await, Fail, "a stranger's slow name server saves nobody");
}
