//! What was not granted is refused, in the way that the function's type allows.

use std::borrow::Cow;
use std::sync::Arc;

use waypost_plugin::{Grants, Host, Limits, Options, PluginOptions};
use waypost_types::port::{Found, Table, TableError};
use waypost_types::{Judge, Soon, Verdict};

use crate::bench::*;

fn host_with(grants: Grants) -> Host {
    World::default().host(vec![granted(grants)])
}

#[tokio::test]
async fn without_grants_every_door_is_shut() {
    let world = World::default();
    let limits = Limits { breaker_faults: u32::MAX, ..Limits::default() };
    let host = world.host(vec![PluginOptions { limits, ..probe() }]);
    assert!(world.told("which it is not granted")[0].contains("crypto"));
    assert_eq!(said(&once(&host, "dns").await), "Err(Error { code: 4, name: \"refused\", message: \"\" })");
    assert_eq!(said(&once(&host, "dns-many").await), "nnn");
    assert_eq!(world.told("asks for DNS").len(), 1, "said once");
    for (what, why) in [
        ("kv-get", "the key-value store (grant `kv`)"),
        ("table", "the table `people`"),
        ("sha256", "the interface `crypto` (grant `crypto`)"),
        ("random", "the interface `crypto` (grant `crypto`)"),
    ] {
        assert_eq!(fault(&once(&host, what).await), format!("called what it was not granted: {why}"), "{what}");
    }
    for what in ["sign", "hmac"] {
        assert!(said(&once(&host, what).await).contains("the key `ours` is not granted"), "{what}");
    }
    assert!(said(&once(&host, "fetch").await).contains("the grant `http` is missing"));
    assert!(said(&once(&host, "rewrite").await).contains("the grant `rewrite` is missing"));
    assert_eq!(fault(&subject(&host, "replace").await), "the grant `rewrite` is missing");
}

#[tokio::test]
async fn no_files_no_environment_but_clocks() {
    let host = World::default().host(vec![probe()]);
    assert_eq!(said(&once(&host, "file").await), "true", "no file can be opened");
    assert_eq!(said(&once(&host, "environment").await), "0 0");
    assert_eq!(said(&once(&host, "clocks").await), format!("true {}", NOW.seconds()));
    assert_eq!(said(&once(&host, "now").await), "true");
}

#[tokio::test]
async fn dns_answers_and_many_questions_are_asked_at_once() {
    let world = World::default();
    let host = world.host(vec![granted(Grants { dns: true, ..Grants::default() })]);
    assert!(said(&once(&host, "dns").await).contains("127.0.0.2"));
    let asking = tokio::spawn({
        let host = host.clone();
        async move { said(&once(&host, "dns-many").await).to_string() }
    });
    world.dns.gate.add_permits(1);
    assert_eq!(asking.await.unwrap(), "yyn");
}

#[tokio::test]
async fn a_table_that_was_not_granted_is_not_there() {
    let host = host_with(Grants { tables: vec!["people".into()], ..Grants::default() });
    assert_eq!(said(&once(&host, "table").await), "Some(\"yes\") true");
    assert_eq!(fault(&once(&host, "other-table").await), "called what it was not granted: the table `secrets`");
}

/// A table that somebody else keeps, who says this to every key, or nothing in time.
struct Far(Option<&'static str>);

impl Table for Far {
    fn lookup<'a>(&'a self, _: &'a str) -> Soon<'a, Found<'a>> {
        let value = self.0;
        Soon::Later(Box::pin(async move {
            tokio::task::yield_now().await;
            value.map(|value| Some(Cow::Borrowed(value))).ok_or(TableError("table people: no answer in time".into()))
        }))
    }
}

#[tokio::test]
async fn a_table_that_somebody_else_keeps_is_waited_for_and_its_silence_is_a_fault() {
    let host = |value| {
        let mut ports = World::default().ports();
        ports.tables.insert("people".into(), Arc::new(Far(value)));
        let plugins = vec![granted(Grants { tables: vec!["people".into()], ..Grants::default() })];
        Host::load(Options { plugins, cache_dir: Some(cache_dir()) }, ports).unwrap()
    };
    assert_eq!(said(&once(&host(Some("late")), "table").await), "Some(\"late\") true");
    assert_eq!(fault(&once(&host(None), "table").await), "table people: no answer in time");
}

#[tokio::test]
async fn only_the_granted_keys_sign_and_none_is_seen() {
    let host = host_with(Grants { keys: vec!["ours".into()], ..Grants::default() });
    assert!(said(&once(&host, "sign").await).starts_with("Ok"));
    assert!(said(&once(&host, "sign-other").await).contains("the key `theirs` is not granted"));
    assert_eq!(said(&once(&host, "hmac").await), "Ok(32)");
    assert_eq!(said(&once(&host, "sha256").await), "[ba, 78, 16, bf]");
    assert_eq!(said(&once(&host, "random").await), "true");
}

#[tokio::test]
async fn the_namespace_of_one_plugin_is_closed_to_the_others() {
    let world = World::default();
    let grants = Grants { kv: true, ..Grants::default() };
    let one = world.host(vec![PluginOptions { name: "one".into(), ..granted(grants.clone()) }]);
    let two = world.host(vec![PluginOptions { name: "two".into(), ..granted(grants) }]);
    assert_eq!(once(&one, "kv-set").await.verdict, Verdict::Pass);
    assert_eq!(said(&once(&one, "kv-get").await), "Some([118, 97, 108, 117, 101])");
    assert_eq!(said(&once(&two, "kv-get").await), "None");
    assert_eq!(world.kv.0.lock().unwrap().keys().next().unwrap(), b"pone\0key");
    assert_eq!(said(&once(&one, "kv-count").await), "[(1, 0), (2, 3), (0, 0)] 5");
    assert_eq!(said(&once(&one, "kv-cas").await), "true false");
}

#[tokio::test]
async fn only_below_the_granted_urls_is_fetched() {
    let host = host_with(Grants { http: vec!["https://api.example.net/v1/".into()], ..Grants::default() });
    assert_eq!(said(&once(&host, "fetch").await), "Ok(204)");
    assert!(said(&once(&host, "fetch-other").await).contains("is not granted"));
}

#[tokio::test]
async fn recipients_can_be_changed_with_the_grant() {
    let host = host_with(Grants { rewrite: true, ..Grants::default() });
    let judgement = once(&host, "add-recipient").await;
    assert_eq!(judgement.edits, [waypost_types::Edit::AddRecipient(address("new@test.example"))]);
    assert_eq!(host.open().stages(), host.stages());
}
