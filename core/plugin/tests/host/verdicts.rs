//! Answers become verdicts; order, accept and narrowing decide who is asked.

use std::sync::Arc;

use waypost_plugin::{FaultPolicy, Grants, Host, OnFault, PluginOptions, Source};
use waypost_types::login::{Credentials, Proof};
use waypost_types::{Finding, Judge, MailParameters, Notify, Question, Recipient, Stage, StageSet, Transport, Verdict};

use crate::bench::*;

fn narrow() -> PluginOptions {
    PluginOptions::new("narrow", Source::Bytes(guest("narrow")))
}

#[tokio::test]
async fn each_action_becomes_its_verdict() {
    let host = World::default().host(vec![probe()]);
    let mut jury = host.open();
    let mut verdict = async |what: &str| match rcpt(&mut jury, what).await.verdict {
        Verdict::Refuse(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply) => reply.to_string(),
        other => other.word().to_string(),
    };
    assert_eq!(verdict("ok").await, "pass");
    assert_eq!(verdict("extension").await, "pass");
    assert_eq!(verdict("accept").await, "accept");
    assert_eq!(verdict("reject").await, "550 5.7.1 no");
    assert_eq!(verdict("tempfail").await, "450 4.7.1 later");
    assert_eq!(verdict("discard").await, "discard");
    assert_eq!(verdict("quarantine").await, "hold");
    assert_eq!(verdict("disconnect").await, "421 4.7.1 bye");
    assert_eq!(verdict("defer").await, "451 4.7.1 try again in 60 seconds");
}

#[tokio::test]
async fn a_plugin_is_asked_at_the_stages_that_it_exports_and_nowhere_else() {
    let world = World::default();
    let everywhere = Stage::ALL.iter().fold(StageSet::EMPTY, |set, stage| set.with(*stage));
    assert_eq!(world.host(vec![probe()]).stages(), everywhere);
    let host = world.host(vec![narrow()]);
    assert_eq!(host.stages(), StageSet::EMPTY.with(Stage::Rcpt));
    assert_eq!(host.open().stages(), host.stages());
    assert!(host.open().judge(question(Stage::Mail)).await.opinions.is_empty());
    assert_eq!(world.host(vec![]).stages(), StageSet::EMPTY);
    let info = &host.plugins()[0];
    assert_eq!((info.registered_name.as_str(), info.version.as_str()), ("narrow", "1.2.3"));
}

#[tokio::test]
async fn accept_ends_the_stage_and_the_first_refusal_wins() {
    let second = PluginOptions { name: "second".into(), ..probe() };
    let host = World::default().host(vec![probe(), second]);
    let judgement = once(&host, "accept").await;
    assert_eq!((judgement.opinions.len(), judgement.by.as_deref()), (1, Some("probe")));
    let judgement = once(&host, "ok").await;
    assert_eq!((judgement.opinions.len(), judgement.by), (2, None));
    let judgement = once(&host, "reject").await;
    assert_eq!(judgement.opinions.len(), 1);
}

#[tokio::test]
async fn accept_at_the_headers_spares_the_body() {
    let host = World::default().host(vec![probe()]);
    assert_eq!(subject(&host, "headers accept").await.verdict, Verdict::Accept);
    let judgement = subject(&host, "forbidden").await;
    assert_eq!(said(&judgement), "on-message was asked");
    assert_eq!(judgement.opinions.len(), 2);
}

#[tokio::test]
async fn a_registration_narrows_who_asks() {
    let host = World::default().host(vec![narrow()]);
    let mut jury = host.open();
    let ask = |recipient: &str| rcpt_question(recipient);
    assert_eq!(said(&jury.judge(ask("a@narrow.example")).await), "narrow saw a@narrow.example");
    assert_eq!(said(&jury.judge(ask("a@deep.below.example")).await), "narrow saw a@deep.below.example");
    for other in ["a@wide.example", "a@x.narrow.example", "a@[192.0.2.1]"] {
        assert!(jury.judge(ask(other)).await.opinions.is_empty(), "{other}");
    }
    let mut outbound = ask("a@narrow.example");
    Arc::make_mut(&mut outbound.session).transport = Transport::Submission;
    assert!(jury.judge(outbound).await.opinions.is_empty());
    let mut known = ask("a@narrow.example");
    Arc::make_mut(&mut known.session).user = Some("alice".into());
    assert!(jury.judge(known).await.opinions.is_empty());
}

#[tokio::test]
async fn a_message_larger_than_the_plugin_wants_is_not_shown_to_it() {
    let host = World::default().host(vec![probe()]);
    let large = format!("Subject: forbidden\r\n\r\n{}", "x".repeat(1 << 20));
    let judgement = host.open().judge(message_question(large)).await;
    assert!(judgement.opinions.is_empty());
}

#[tokio::test]
async fn credentials_are_judged_and_secrets_need_a_grant() {
    let world = World::default();
    let auth = async |host: &Host, identity: &str, secret: &str| {
        let credentials =
            Credentials { mechanism: "PLAIN", identity: identity.into(), proof: Proof::Password(secret.into()) };
        let judgement = host.open().judge(Question { credentials: Some(credentials), ..question(Stage::Auth) }).await;
        let reply = match &judgement.verdict {
            Verdict::Refuse(reply) | Verdict::Defer(reply) => reply.to_string(),
            other => other.word().to_string(),
        };
        (reply, judgement.identity)
    };
    let host = world.host(vec![granted(Grants { credentials: true, ..Grants::default() })]);
    assert_eq!(auth(&host, "alice", "secret").await, ("accept".into(), Some("alice@waypost.test".into())));
    assert_eq!(auth(&host, "bob", "x").await, ("535 5.7.8 wrong".into(), None));
    assert_eq!(auth(&host, "carol", "x").await, ("pass".into(), None));
    let blind = world.host(vec![probe()]);
    assert_eq!(auth(&blind, "alice", "secret").await, ("454 4.7.0 no secret shown".into(), None));
}

#[tokio::test]
async fn session_and_envelope_are_seen_as_they_are() {
    let host = World::default().host(vec![probe()]);
    assert_eq!(said(&once(&host, "session").await), "4025 TransportKind::Smtp Some(\"client.example\") None None");
    let mut helo = question(Stage::Helo);
    Arc::make_mut(&mut helo.session).helo = "bad.example".into();
    let judgement = host.open().judge(helo).await;
    assert!(matches!(judgement.verdict, Verdict::Disconnect(_)));
    assert_eq!(said(&judgement), "esmtp=true bad.example");

    let mut asked = rcpt_question("params@test.example");
    asked.recipient = Some(Recipient {
        address: address("params@test.example"),
        original: Some("rfc822;x@y.example".into()),
        notify: Notify::NEVER,
    });
    assert_eq!(said(&host.open().judge(asked).await), r#"Some("rfc822;x@y.example") Some("NEVER")"#);

    let mut from = question(Stage::Mail);
    let envelope = Arc::make_mut(&mut from.envelope);
    envelope.sender = waypost_types::ReversePath::Mailbox(address("params@test.example"));
    envelope.parameters = MailParameters { size: Some(10), smtputf8: true, ..MailParameters::default() };
    assert_eq!(said(&host.open().judge(from).await), r#"[("SIZE", Some("10")), ("SMTPUTF8", None)]"#);
}

#[tokio::test]
async fn facts_of_the_session_stay_and_those_of_a_transaction_go() {
    let host = World::default().host(vec![probe()]);
    let mut jury = host.open();
    let judgement = jury.judge(question(Stage::Connect)).await;
    assert_eq!(judgement.facts[0].symbol, "CONNECTED");
    assert_eq!(judgement.facts[0].detail.as_deref(), Some("192.0.2.7"));
    let edited = jury.judge(message_question(mail("edit"))).await;
    assert_eq!(edited.facts.len(), 1);
    assert_eq!(said(&rcpt(&mut jury, "facts").await), r#"[("CONNECTED", 1.0), ("EDITED", 2.5)] 3.5"#);
    jury.reset();
    assert_eq!(said(&rcpt(&mut jury, "facts").await), r#"[("CONNECTED", 1.0)] 1"#);
}

#[tokio::test]
async fn variables_last_for_the_session_and_belong_to_it() {
    let host = World::default().host(vec![probe()]);
    let mut jury = host.open();
    rcpt(&mut jury, "var-set").await;
    jury.reset();
    assert_eq!(said(&rcpt(&mut jury, "var-get").await), r#"Some("kept")"#);
    assert_eq!(said(&once(&host, "var-get").await), "None");
}

#[tokio::test]
async fn findings_reach_the_plugin() {
    let host = World::default().host(vec![probe()]);
    let finding = Finding {
        method: "spf",
        result: "pass",
        domain: None,
        property: "smtp.mailfrom",
        selector: None,
        detail: None,
    };
    let asked = Question { findings: Arc::new([finding]), ..rcpt_question("findings@test.example") };
    assert_eq!(said(&host.open().judge(asked).await), "1");
}

#[tokio::test]
async fn an_orderly_failure_is_a_fault_by_policy() {
    let world = World::default();
    let judgement = once(&world.host(vec![probe()]), "err").await;
    assert_eq!(judgement.verdict.word(), "defer");
    assert!(said(&judgement).starts_with("temporary failure"), "the client is not told what went wrong inside");
    assert_eq!(fault(&judgement), "it said so");
    assert_eq!(world.told("PluginFault").len(), 1);

    let lenient = PluginOptions { on_fault: OnFault::all(FaultPolicy::Pass), ..probe() };
    let judgement = once(&world.host(vec![lenient]), "err").await;
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert_eq!(judgement.facts[0].symbol, "PLUGIN_FAULT");

    let mixed = OnFault { default: FaultPolicy::Tempfail, stages: vec![(Stage::Rcpt, FaultPolicy::Pass)] };
    let host = world.host(vec![PluginOptions { on_fault: mixed, ..probe() }]);
    assert_eq!(once(&host, "err").await.verdict, Verdict::Pass);
    assert_eq!(subject(&host, "no part").await.verdict.word(), "defer");
}

#[tokio::test]
async fn what_an_opinion_says_is_enough_to_tell_why() {
    let host = World::default().host(vec![granted(Grants { dns: true, ..Grants::default() })]);
    let judgement = once(&host, "dns").await;
    let opinion = &judgement.opinions[0];
    assert_eq!(
        (&*opinion.plugin, opinion.stage, opinion.verdict, opinion.dns_asked),
        ("probe", Stage::Rcpt, "refuse", 1)
    );
    let judgement = subject(&host, "read").await;
    assert!(judgement.opinions[1].bytes_read > 50);
}
