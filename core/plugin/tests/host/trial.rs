//! New versions: swapped in and rolled back under open sessions, judging without effect, judging a share.

use bytes::Bytes;
use waypost_plugin::{Grants, Host, PluginOptions, Source};
use waypost_types::{Judge, Verdict};

use crate::bench::*;

/// The plugin `narrow` under the name of the probe, and the other way round: two versions that say different things.
fn narrow_as(name: &str) -> PluginOptions {
    PluginOptions::new(name, Source::Bytes(guest("narrow")))
}

fn new_version() -> Bytes {
    guest("narrow")
}

const ADDRESS: &str = "ok@narrow.example";

async fn verdict(host: &Host) -> &'static str {
    host.open().judge(rcpt_question(ADDRESS)).await.verdict.word()
}

#[tokio::test]
async fn a_swap_is_for_sessions_that_begin_and_can_be_rolled_back() {
    let host = World::default().host(vec![probe()]);
    let view = host.select(&["probe".to_string()]);
    let mut under_way = host.open();
    assert_eq!(under_way.judge(rcpt_question(ADDRESS)).await.verdict, Verdict::Pass);
    let info = host.swap("probe", new_version()).unwrap();
    assert_eq!((info.name.as_str(), info.version.as_str()), ("probe", "1.2.3"));
    assert_eq!((verdict(&host).await, verdict(&view).await), ("refuse", "refuse"), "new sessions, at every port");
    assert_eq!(
        under_way.judge(rcpt_question(ADDRESS)).await.verdict,
        Verdict::Pass,
        "the old session has the old version"
    );
    host.roll_back("probe").unwrap();
    assert_eq!((verdict(&host).await, verdict(&view).await), ("pass", "pass"));
    assert!(host.roll_back("probe").unwrap_err().contains("no swap of `probe`"));
}

#[tokio::test]
async fn what_does_not_load_changes_nothing() {
    let host = World::default().host(vec![probe()]);
    assert!(host.swap("probe", Bytes::from_static(b"no component")).unwrap_err().starts_with("plugin probe: "));
    assert!(host.swap("other", new_version()).unwrap_err().contains("no plugin `other`"));
    assert_eq!(verdict(&host).await, "pass");
}

#[tokio::test]
async fn a_shadow_s_disagreements_are_counted_and_have_no_effect() {
    let host = World::default().host(vec![probe()]);
    host.shadow("probe", Some(new_version())).unwrap();
    for _ in 0..3 {
        assert_eq!(verdict(&host).await, "pass");
    }
    assert_eq!(once(&host, "reject").await.verdict.word(), "refuse");
    let report = loop {
        let report = host.trials().0.expect("a shadow");
        if report.asked == 4 {
            break report;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((report.differed, report.left_out, report.version.as_str()), (4, 0, "1.2.3"));
    assert_eq!(
        (report.kept[0].now.as_str(), report.kept[0].then.as_str()),
        ("pass", "refuse narrow saw ok@narrow.example")
    );
    assert!(report.kept[3].now.starts_with("refuse no") && report.kept[3].then == "pass");
    host.shadow("probe", None).unwrap();
    assert_eq!(host.trials(), (None, None));
}

#[tokio::test]
async fn a_shadow_stores_nothing_and_is_no_event() {
    let world = World::default();
    let host =
        world.host(vec![PluginOptions { grants: Grants { kv: true, ..Grants::default() }, ..narrow_as("probe") }]);
    host.shadow("probe", Some(guest("probe"))).unwrap();
    for what in ["kv-set", "kv-count", "panic", "log"] {
        host.open().judge(rcpt_question(&format!("{what}@narrow.example"))).await;
    }
    while host.trials().0.expect("a shadow").asked < 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(host.trials().0.unwrap().counts.faults, 1, "its fault is its own");
    assert!(world.kv.0.lock().unwrap().is_empty());
    assert!(
        world.events.lock().unwrap().iter().all(|event| !event.contains("PluginFault") && !event.contains("PluginLog"))
    );
}

#[tokio::test]
async fn a_canary_takes_its_share_of_sessions_and_no_more() {
    let host = World::default().host(vec![probe()]);
    let view = host.select(&["probe".to_string()]);
    host.canary("probe", Some(new_version()), 100).unwrap();
    for host in [&host, &view] {
        let mut refused = 0;
        for _ in 0..100 {
            refused += usize::from(verdict(host).await == "refuse");
        }
        assert_eq!(refused, 10, "100 of 1000");
    }
    let report = host.trials().1.expect("a canary");
    assert_eq!((report.now.asked, report.then.asked, report.then.refused, report.share), (180, 20, 20, 100));
    host.canary("probe", None, 0).unwrap();
    assert_eq!(verdict(&host).await, "pass");
}
