//! The product's own plugins in the host: loaded from their components, in the order of the default chain.

use std::sync::Arc;

use waypost_plugin::{Grants, Host, Isolation, PluginOptions, Source};
use waypost_types::{Edit, Judge, Question, Stage, StageSet, Transport, Verdict};

use crate::bench::*;

fn shipped(name: &str, config: &str, grants: Grants) -> PluginOptions {
    PluginOptions {
        config: config.into(),
        grants,
        isolation: Isolation::Pooled,
        ..PluginOptions::new(name, Source::Bytes(guest(name)))
    }
}

fn chain(world: &World) -> Host {
    let keys = Grants { keys: vec!["ours".into()], ..Grants::default() };
    world.host(vec![
        shipped("whitelist", r#"{"permit": {"clients": ["192.0.2.0/24"]}}"#, Grants::default()),
        shipped("dns-lists", r#"{"deny": [{"zone": "rbl.example"}]}"#, Grants { dns: true, ..Grants::default() }),
        shipped("dkim-sign", r#"{"keys": [{"domain": "b.example", "key": "ours"}]}"#, keys),
    ])
}

fn from(client: &str) -> Question {
    let mut asked = rcpt_question("to@test.example");
    Arc::make_mut(&mut asked.session).peer = format!("{client}:4025").parse().unwrap();
    asked
}

#[tokio::test]
async fn a_listed_client_is_refused_and_a_permitted_one_is_not_even_looked_up() {
    let world = World::default();
    let host = chain(&world);
    let refused = host.open().judge(from("203.0.113.9")).await;
    assert!(matches!(refused.verdict, Verdict::Refuse(_)), "{refused:?}");
    assert_eq!(refused.by.as_deref(), Some("dns-lists"));
    assert!(!world.dns.asked.lock().unwrap().is_empty());
    world.dns.asked.lock().unwrap().clear();
    let mut jury = host.open();
    for stage in [Stage::Connect, Stage::Helo, Stage::Mail, Stage::Rcpt] {
        let permitted = jury.judge(Question { stage, ..from("192.0.2.7") }).await;
        assert!(matches!(permitted.verdict, Verdict::Pass | Verdict::Accept), "{permitted:?}");
    }
    assert!(world.dns.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn mail_of_our_users_is_signed_with_the_granted_key() {
    let world = World::default();
    let host = chain(&world);
    assert_eq!(host.plugins()[2].stages, StageSet::EMPTY.with(Stage::Queue));
    let mut asked = queue_question();
    assert!(host.open().judge(asked.clone()).await.edits.is_empty(), "not from outside");
    let session = Arc::make_mut(&mut asked.session);
    (session.transport, session.user) = (Transport::Submission, Some("alice".into()));
    let judgement = host.open().judge(asked).await;
    let [Edit::PrependHeader { name, value }] = &judgement.edits[..] else { panic!("{judgement:?}") };
    assert_eq!(name, "DKIM-Signature");
    assert!(value.starts_with("k=ours; h=From"), "{value}");
}
