//! A large backlog costs disk, not memory, and does not delay the start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use waypost_queue::conformance::{NOW, later, mail, news};
use waypost_queue::{Settlement, Store};
use waypost_store_rocks::{Options, RocksStore};
use waypost_types::event::Deaf;
use waypost_types::{Outcome, Timestamp};

const ENTRIES: u64 = 200_000;

fn open(folder: &std::path::Path) -> Arc<RocksStore> {
    Arc::new(RocksStore::open(Options::new(folder), Arc::new(Deaf)).unwrap())
}

/// Anonymous memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn defer(store: Arc<RocksStore>, lane: u64) {
    for n in (lane..ENTRIES).step_by(100) {
        let (entry, message) = mail(n, &["u@b.example"]);
        let claim = store.accept(entry, message).await.unwrap();
        let due = Timestamp(NOW.0 + 300_000 + n * 7919 % 1_000_000);
        let recipients = vec![news(0, Outcome::Delayed(later()), due)];
        store.settle(&claim, Settlement { recipients, children: Vec::new(), release: true }).await.unwrap();
    }
}

#[test]
#[ignore = "takes a minute: run it by name when the store's memory or start-up is touched"]
fn a_backlog_stays_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let before = resident();
    let store = open(folder.path());
    runtime.block_on(async {
        let lanes: Vec<_> = (0..100).map(|lane| tokio::spawn(defer(store.clone(), lane))).collect();
        for lane in lanes {
            lane.await.unwrap();
        }
    });
    let full = resident();
    println!("{ENTRIES} put off: {} KiB more than before", full.saturating_sub(before));
    assert!(full.saturating_sub(before) < 80 * 1024, "the backlog is not in memory");
    drop(store);

    let begun = Instant::now();
    let store = open(folder.path());
    let opened = begun.elapsed();
    let claims =
        runtime.block_on(store.claim(NOW.after(Duration::from_secs(400)), Duration::from_secs(60), 1000)).unwrap();
    println!("opened in {opened:?}, the first {} claimed after {:?}", claims.len(), begun.elapsed());
    assert_eq!((claims.len(), store.counts().entries), (1000, ENTRIES));
    assert!(claims.is_sorted_by_key(|claim| claim.entry.due()));
    assert!(begun.elapsed() < Duration::from_secs(5));

    // Working it off: each claim finds the next ones without wading through what went before.
    let mut done = 0;
    let mut slowest = Duration::ZERO;
    runtime.block_on(async {
        let mut claims = claims;
        while !claims.is_empty() && done < 20_000 {
            let settles: Vec<_> = claims
                .iter()
                .map(|claim| store.settle(claim, waypost_queue::conformance::all_relayed(claim)))
                .collect();
            for settle in settles {
                assert_eq!(settle.await.unwrap(), None);
                done += 1;
            }
            let begun = Instant::now();
            claims = store.claim(NOW.after(Duration::from_secs(400)), Duration::from_secs(60), 1000).await.unwrap();
            slowest = slowest.max(begun.elapsed());
        }
        assert_eq!(store.counts().entries, ENTRIES - done);
        assert_eq!(store.check().await.unwrap(), []);
    });
    println!("{done} worked off, the slowest claim of 1000 took {slowest:?}");
    assert!(slowest < Duration::from_secs(1));
}
