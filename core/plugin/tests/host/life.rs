//! From the file to the grave: loading, caching, isolation, reload, breaker, sessions that vanish.

use std::fs;
use std::time::Duration;

use waypost_plugin::{Grants, Host, Isolation, Limits, Options, Origin, PluginOptions, Source};
use waypost_types::{Judge, Stage, StageSet, Verdict};

use crate::bench::*;

fn with_cache(dir: &std::path::Path, plugin: PluginOptions) -> Host {
    Host::load(Options { plugins: vec![plugin], cache_dir: Some(dir.into()) }, World::default().ports()).unwrap()
}

fn narrow() -> PluginOptions {
    PluginOptions::new("narrow", Source::Bytes(guest("narrow")))
}

#[tokio::test]
async fn compiled_code_is_cached_and_a_changed_octet_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let origin = || with_cache(&cache, narrow()).plugins()[0].origin;
    assert_eq!(origin(), Origin::Compiled);
    assert_eq!(origin(), Origin::Cached);
    let is_code = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|ext| ext == "cwasm");
    let file = fs::read_dir(&cache).unwrap().map(Result::unwrap).find(is_code).unwrap().path();
    let good = fs::read(&file).unwrap();
    for at in [0, 40, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file, &bad).unwrap();
        assert_eq!(origin(), Origin::Refused, "octet {at}");
        assert_eq!(origin(), Origin::Cached, "it was compiled and written anew");
    }
    fs::write(&file, &good[..10]).unwrap();
    assert_eq!(origin(), Origin::Refused);
    // Code that another installation has sealed is not ours.
    fs::remove_file(cache.join("secret")).unwrap();
    assert_eq!(origin(), Origin::Refused);
}

#[test]
fn the_cache_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    with_cache(&cache, narrow());
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&cache), mode(&cache.join("secret"))), (0o700, 0o600));
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let options = Options { plugins: vec![narrow()], cache_dir: Some(cache) };
    let errors = Host::load(options, World::default().ports()).unwrap_err();
    assert!(errors[0].to_string().contains("chmod 700"), "{}", errors[0]);
}

#[test]
fn every_mistake_is_told_at_once_with_its_remedy() {
    let world = World::default();
    let bytes = |text: &'static [u8]| Source::Bytes(text.into());
    let plugins = vec![
        PluginOptions { name: "Bad Name".into(), config: "{".into(), ..narrow() },
        PluginOptions::new("missing", Source::File("/nonexistent/x.wasm".into())),
        PluginOptions::new("rubbish", bytes(b"rubbish")),
        PluginOptions::new("empty", bytes(b"\0asm\x0d\0\x01\0")),
        PluginOptions { grants: Grants { tables: vec!["nowhere".into()], ..Grants::default() }, ..narrow() },
        PluginOptions { config: r#"{"bad-init":true}"#.into(), ..probe() },
        narrow(),
    ];
    let errors: Vec<_> = world.load(plugins).unwrap_err().iter().map(ToString::to_string).collect();
    let told = |part: &str| assert!(errors.iter().any(|error| error.contains(part)), "{part}: {errors:#?}");
    told("plugin Bad Name: the name is not allowed: use at most 32");
    told("plugin Bad Name: its configuration is no JSON");
    told("plugin missing: /nonexistent/x.wasm: No such file");
    told("plugin rubbish: ");
    told("plugin empty: it does not export `waypost:plugin/lifecycle@0.1.0`");
    told("plugin narrow: there is no table `nowhere`");
    told("plugin probe: could not be started: the configuration says so");
    told("plugin narrow: the name is given twice");
    assert_eq!(errors.len(), 8, "{errors:#?}");
}

#[tokio::test]
async fn a_fresh_instance_for_each_transaction_connection_or_none_of_both() {
    let world = World::default();
    let with = |isolation| world.host(vec![PluginOptions { isolation, ..probe() }]);
    let counts = async |host: &Host| {
        let mut jury = host.open();
        let mut seen = vec![];
        for reset in [false, true, false] {
            if reset {
                jury.reset();
            }
            seen.push(said(&rcpt(&mut jury, "count").await).to_string());
        }
        seen.push(said(&once(host, "count").await).to_string());
        seen.join(" ")
    };
    assert_eq!(counts(&with(Isolation::Transaction)).await, "1 1 2 1");
    assert_eq!(counts(&with(Isolation::Connection)).await, "1 2 3 1");
    assert_eq!(counts(&with(Isolation::Pooled)).await, "1 2 3 4");
}

#[tokio::test]
async fn a_pooled_instance_is_replaced_after_a_fault_and_after_its_uses() {
    let limits = Limits { uses: 3, breaker_faults: u32::MAX, ..Limits::default() };
    let host = World::default().host(vec![PluginOptions { isolation: Isolation::Pooled, limits, ..probe() }]);
    let mut counts = vec![];
    for _ in 0..4 {
        counts.push(said(&once(&host, "count").await).to_string());
    }
    assert_eq!(counts.join(" "), "1 2 3 1");
    once(&host, "panic").await;
    assert_eq!(said(&once(&host, "count").await), "1");
    once(&host, "err").await;
    assert_eq!(said(&once(&host, "count").await), "3", "an orderly failure keeps the instance");
}

#[tokio::test]
async fn a_session_keeps_the_plugins_it_began_with() {
    let world = World::default();
    let host = world.host(vec![probe()]);
    let all = host.select(&["probe".into(), "narrow".into()]);
    let mut old = all.open();
    assert_eq!(said(&rcpt(&mut old, "count").await), "1");
    let options = Options { plugins: vec![narrow()], cache_dir: Some(cache_dir()) };
    host.reload(options, world.ports()).unwrap();
    assert_eq!(said(&rcpt(&mut old, "count").await), "2", "the swap changes nothing for it");
    for host in [&host, &all] {
        assert_eq!(host.stages(), StageSet::EMPTY.with(Stage::Rcpt), "whoever comes now gets the new set");
    }
    let broken = Options { plugins: vec![PluginOptions { config: "{".into(), ..probe() }], cache_dir: None };
    host.reload(broken, world.ports()).unwrap_err();
    assert_eq!(host.plugins()[0].name, "narrow", "a set that does not load changes nothing");
}

#[test]
fn a_port_may_ask_fewer() {
    let host = World::default().host(vec![probe(), narrow()]);
    let few = host.select(&["narrow".into(), "unknown".into()]);
    assert_eq!(few.plugins().len(), 1);
    assert_eq!(few.stages(), StageSet::EMPTY.with(Stage::Rcpt));
    assert_eq!(host.plugins().len(), 2);
    assert_eq!(host.select(&[]).stages(), StageSet::EMPTY);
}

#[tokio::test]
async fn a_plugin_that_keeps_failing_is_taken_out_and_tried_again() {
    let world = World::default();
    let limits = Limits { breaker_faults: 3, breaker_pause: Duration::from_millis(50), ..Limits::default() };
    let host = world.host(vec![PluginOptions { limits, ..probe() }]);
    for _ in 0..3 {
        once(&host, "panic").await;
    }
    assert_eq!(host.plugins()[0].breaker, "open");
    let judgement = once(&host, "ok").await;
    assert_eq!(fault(&judgement), "its breaker is open after several faults");
    assert_eq!(judgement.verdict.word(), "defer");
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(once(&host, "ok").await.verdict, Verdict::Pass);
    assert_eq!(host.plugins()[0].breaker, "closed");
    let told = world.told("PluginBreaker");
    let states: Vec<_> = ["open", "half-open", "closed"].iter().map(|s| format!("state: \"{s}\"")).collect();
    assert!(told.len() == 3 && told.iter().zip(&states).all(|(line, state)| line.contains(state)), "{told:?}");
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let world = World::default();
    let limits = Limits { instances: 1, ..Limits::default() };
    let grants = Grants { dns: true, ..Grants::default() };
    let host = world.host(vec![PluginOptions { isolation: Isolation::Pooled, limits, ..granted(grants) }]);
    let mut jury = host.open();
    {
        let mut asked = jury.judge(rcpt_question("slow@test.example"));
        let waiting = std::future::poll_fn(|cx| std::task::Poll::Ready(asked.as_mut().poll(cx).is_pending())).await;
        assert!(waiting);
    }
    assert_eq!(rcpt(&mut jury, "ok").await.verdict, Verdict::Pass, "the same jury answers again");
    drop(jury);
    assert_eq!(once(&host, "ok").await.verdict, Verdict::Pass, "and the only instance was given back");
}

#[test]
fn there_is_no_dns_while_a_plugin_starts() {
    let world = World::default();
    let grants = Grants { dns: true, ..Grants::default() };
    let host = world.host(vec![PluginOptions { config: r#"{"dns-in-init":true}"#.into(), ..granted(grants) }]);
    assert_eq!(host.plugins()[0].registered_name, "probe");
}
