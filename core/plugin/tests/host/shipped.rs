//! The product's own plugins in the host: loaded from their components, in the order of the default chain.

use std::sync::Arc;

use waypost_plugin::{Grants, Host, Isolation, PluginOptions, Source};
use waypost_types::{Edit, Judge, Message, Question, Stage, StageSet, Transport, Verdict};

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

/// Letters of two kinds that share no words.
fn lesson(spam: bool, number: usize) -> Message {
    let words: [&str; 8] = if spam {
        ["cheap", "pills", "casino", "bonus", "winner", "replica", "loans", "jackpot"]
    } else {
        ["compiler", "patch", "kernel", "meeting", "minutes", "branch", "thesis", "garden"]
    };
    let name: String = format!("1{number}").bytes().map(|digit| char::from(digit - b'0' + b'k')).collect();
    let text: Vec<&str> = (0..40).map(|at| words[(at * 3 + number + at / 5) % 8]).collect();
    let text = text.join(" ");
    let letter = format!(
        "From: Ann <a@b.example>\r\nTo: to@test.example\r\nSubject: hello\r\nMessage-ID: <a@b.example>\r\n\r\nHi {name}\r\n{text}\r\n"
    );
    Message::new(letter.into())
}

#[tokio::test]
async fn a_plugin_is_taught_by_commands_and_keeps_it_in_the_store() {
    let world = World::default();
    let config = r#"{"learned-min": 15}"#;
    let with = |kv| shipped("spam-score", config, Grants { kv, ..Grants::default() });
    let host = world.host(vec![with(true)]);
    for number in 0..20 {
        for (spam, name) in [(true, "learn-spam"), (false, "learn-ham")] {
            assert_eq!(
                host.command("spam-score", name, "", Some(lesson(spam, number))).await.as_deref(),
                Ok("learned")
            );
        }
    }
    assert_eq!(host.command("spam-score", "learn-spam", "", Some(lesson(true, 3))).await.as_deref(), Ok("nothing"));
    let stats = host.command("spam-score", "stats", "", None).await.unwrap();
    assert!(stats.contains(r#""spam":20,"ham":20,"in_use":true"#), "{stats}");
    // Another instance, as after a restart, knows it too.
    let host = world.host(vec![with(true)]);
    for (spam, fact) in [(true, "BAYES_SPAM"), (false, "BAYES_HAM")] {
        let asked = Question { message: Some(lesson(spam, 99)), ..message_question("") };
        let judgement = host.open().judge(asked).await;
        assert!(judgement.facts.iter().any(|stated| &*stated.symbol == fact), "{judgement:?}");
    }
    let error = host.command("spam-score", "fly", "", None).await.unwrap_err();
    assert!(error.contains("no command `fly`"), "{error}");
    assert!(host.command("whitelist", "stats", "", None).await.unwrap_err().contains("plugins.chain"));
    let without = world.host(vec![with(false), shipped("whitelist", "{}", Grants::default())]);
    assert!(without.command("spam-score", "stats", "", None).await.unwrap_err().contains("grant `kv`"));
    assert!(without.command("whitelist", "stats", "", None).await.unwrap_err().contains("takes no commands"));
    let judged = without.open().judge(Question { message: Some(lesson(true, 99)), ..message_question("") }).await;
    assert!(judged.opinions.iter().all(|opinion| opinion.verdict == "pass"), "{judged:?}");
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
