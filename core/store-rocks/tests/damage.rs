//! Torn logs, damaged records, full disks, failure: what the store does when the world is not as it should be.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocksdb::DB;
use tempfile::TempDir;
use waypost_queue::conformance::{NOW, all_relayed, body_of, mail};
use waypost_queue::{Change, Claim, Store, StoreError};
use waypost_store_rocks::{OpenError, Options, RocksStore};
use waypost_types::event::Deaf;
use waypost_types::port::KeyValue;
use waypost_types::{Event, MessageId, Observer};

const LEASE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Ear(Mutex<Vec<String>>);

impl Observer for Ear {
    fn observe(&self, event: Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

fn open(options: Options) -> RocksStore {
    RocksStore::open(options, Arc::new(Deaf)).unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn accept(store: &RocksStore, n: u64) -> Claim {
    let (entry, message) = mail(n, &["u@b.example"]);
    run(store.accept(entry, message)).unwrap()
}

/// A copy of the folder of an open store: what a crash of the program leaves.
fn crashed(from: &Path, folder: &TempDir, name: &str) -> PathBuf {
    let to = folder.path().join(name);
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    to
}

fn last_log(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "log")).max().unwrap()
}

fn names(store: &RocksStore) -> Vec<MessageId> {
    run(store.list(None, 100)).unwrap().into_iter().map(|entry| entry.id).collect()
}

#[test]
fn a_torn_tail_loses_the_torn_batch_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("queue");
    let store = open(Options::new(&path));
    let ids: Vec<_> = (0..5).map(|n| accept(&store, n).entry.id).collect();
    for cut in [1, 20, 200] {
        let copy = crashed(&path, &folder, &format!("cut-{cut}"));
        let log = std::fs::File::options().write(true).open(last_log(&copy)).unwrap();
        log.set_len(log.metadata().unwrap().len() - cut).unwrap();
        let found = open(Options::new(&copy));
        assert_eq!(names(&found), ids[..4], "{cut} octets cut off");
        assert_eq!(run(found.check()).unwrap(), []);
        assert_eq!(found.counts().entries, 4);
        accept(&found, 9);
    }
}

#[test]
fn damage_inside_the_log_refuses_to_open_instead_of_losing_mail() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("queue");
    let store = open(Options::new(&path));
    let ids: Vec<_> = (0..50).map(|n| accept(&store, n).entry.id).collect();
    let copy = crashed(&path, &folder, "damaged");
    let log = last_log(&copy);
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&log, bytes).unwrap();
    let refused = RocksStore::open(Options::new(&copy), Arc::new(Deaf)).map(drop);
    assert!(matches!(&refused, Err(OpenError::Damaged(_))), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("salvage"), "the remedy is named");
    let found = open(Options { salvage: true, ..Options::new(&copy) });
    let left = names(&found);
    assert!(!left.is_empty() && left.len() < 50 && left == ids[..left.len()]);
}

#[test]
fn a_second_program_is_told_that_the_queue_is_in_use() {
    let folder = TempDir::new().unwrap();
    let _store = open(Options::new(folder.path()));
    let second = RocksStore::open(Options::new(folder.path()), Arc::new(Deaf)).map(drop);
    assert!(matches!(second, Err(OpenError::Locked(_))), "{second:?}");
}

/// Writes into a closed queue past the store.
fn raw_put(path: &Path, family: &str, key: &[u8], value: &[u8]) {
    let options = rocksdb::Options::default();
    let all = DB::list_cf(&options, path).unwrap();
    let db = DB::open_cf(&options, path, all).unwrap();
    db.put_cf(db.cf_handle(family).unwrap(), key, value).unwrap();
}

fn raw_get(path: &Path, family: &str, key: &[u8]) -> Option<Vec<u8>> {
    let options = rocksdb::Options::default();
    let all = DB::list_cf(&options, path).unwrap();
    let db = DB::open_cf_for_read_only(&options, path, all, false).unwrap();
    db.get_cf(db.cf_handle(family).unwrap(), key).unwrap()
}

#[test]
fn a_corrupt_entry_is_set_aside_and_reported_and_its_bytes_are_kept() {
    let folder = TempDir::new().unwrap();
    let store = open(Options::new(folder.path()));
    let ids: Vec<_> = (0..3).map(|n| accept(&store, n).entry.id).collect();
    run(store.close()).unwrap();
    drop(store);
    raw_put(folder.path(), "entry", &ids[1].to_bytes(), b"\x01nonsense");

    let ear = Arc::new(Ear::default());
    let store = RocksStore::open(Options::new(folder.path()), ear.clone()).unwrap();
    let problems = run(store.check()).unwrap();
    assert!(problems.iter().any(|p| p.id == Some(ids[1])), "{problems:?}");
    let claims = run(store.claim(NOW.after(LEASE), LEASE, 10)).unwrap();
    assert_eq!(claims.iter().map(|c| c.entry.id).collect::<Vec<_>>(), [ids[0], ids[2]]);
    assert!(ear.0.lock().unwrap().iter().any(|event| event.starts_with("EntryCorrupt")));
    run(store.settle(&claims[0], all_relayed(&claims[0]))).unwrap(); // Written behind the setting aside.
    let counts = store.counts();
    assert_eq!((counts.entries, counts.corrupt), (1, 1));
    assert_eq!(run(store.get(ids[1])), Ok(None));
    let problems = run(store.check()).unwrap();
    assert!(matches!(&problems[..], [p] if p.id == Some(ids[1]) && p.text.starts_with("set aside")), "{problems:?}");
    assert_eq!(body_of_id(&store, ids[1]), mail(1, &["u@b.example"]).1.contiguous(), "its body stays");
    drop(store);
    assert_eq!(raw_get(folder.path(), "corrupt", &ids[1].to_bytes()).unwrap(), b"\x01nonsense");
    let store = open(Options::new(folder.path()));
    assert_eq!(store.counts().corrupt, 1);
    assert_eq!(names(&store), [ids[2]]);
}

fn body_of_id(store: &RocksStore, id: MessageId) -> Vec<u8> {
    run(body_of(store, id)).unwrap()
}

#[test]
fn get_and_list_set_aside_too() {
    for by_list in [false, true] {
        let folder = TempDir::new().unwrap();
        let store = open(Options::new(folder.path()));
        let id = accept(&store, 1).entry.id;
        drop(store);
        raw_put(folder.path(), "entry", &id.to_bytes(), b"");
        let store = open(Options::new(folder.path()));
        if by_list {
            assert_eq!(names(&store), []);
        } else {
            assert!(matches!(run(store.get(id)), Err(StoreError::Corrupt(_))));
        }
        accept(&store, 2);
        assert_eq!(store.counts().corrupt, 1);
        // The due key that was left is met by a scan, and goes.
        let claims = run(store.claim(NOW.after(LEASE), LEASE, 10)).unwrap();
        assert_eq!(claims.len(), 0);
        accept(&store, 3);
        assert!(run(store.next_due()).unwrap().is_none_or(|due| due > NOW.after(LEASE)));
    }
}

#[test]
fn check_finds_what_does_not_add_up() {
    let folder = TempDir::new().unwrap();
    let store = open(Options::new(folder.path()));
    let id = accept(&store, 1).entry.id;
    drop(store);
    let stray = MessageId::new(NOW, 99);
    raw_put(folder.path(), "body", &[&stray.to_bytes()[..], &[0; 4]].concat(), b"stray");
    raw_put(folder.path(), "body", &[&id.to_bytes()[..], &[0; 4]].concat(), b"short");
    raw_put(folder.path(), "due", &[&[0; 8][..], &stray.to_bytes()].concat(), b"");
    raw_put(folder.path(), "due", &[&[0; 8][..], &id.to_bytes()].concat(), b"");
    let store = open(Options::new(folder.path()));
    let texts: Vec<_> = run(store.check()).unwrap().into_iter().map(|p| p.text).collect();
    let has = |part: &str| assert!(texts.iter().any(|text| text.contains(part)), "{part}: {texts:?}");
    has("octets instead of");
    has("where it is not due");
    has("there is no entry");
    has("a body without an entry");
    assert_eq!(texts.len(), 4, "{texts:?}");
}

#[test]
fn full_refuses_new_mail_and_still_settles() {
    let folder = TempDir::new().unwrap();
    let store = open(Options { messages_max: 2, ..Options::new(folder.path()) });
    let claims: Vec<_> = (0..2).map(|n| accept(&store, n)).collect();
    let (entry, message) = mail(3, &["u@b.example"]);
    assert_eq!(run(store.accept(entry, message)).map(drop), Err(StoreError::Full));
    run(store.settle(&claims[0], all_relayed(&claims[0]))).unwrap();
    accept(&store, 4);
    drop(store);

    let store = open(Options { disk_reserve_bytes: u64::MAX, ..Options::new(folder.path()) });
    let (entry, message) = mail(5, &["u@b.example"]);
    assert_eq!(run(store.accept(entry, message)).map(drop), Err(StoreError::Full));
    let claims = run(store.claim(NOW.after(LEASE), LEASE, 10)).unwrap();
    assert_eq!(claims.len(), 2);
    let mut settlement = all_relayed(&claims[0]);
    settlement.children.push(mail(6, &["alice@a.example"]));
    run(store.settle(&claims[0], settlement)).unwrap();
    run(store.change(mail(6, &[]).0.id, Change::Remove)).unwrap();
}

#[test]
fn too_much_waiting_is_busy_and_not_memory() {
    let folder = TempDir::new().unwrap();
    let store = open(Options { pending_bytes_max: 10, pending_count_max: 1, ..Options::new(folder.path()) });
    let outcomes = run(async {
        let mut waiting = Vec::new();
        let mut refused = 0;
        for n in 0..200 {
            let (entry, message) = mail(n, &["u@b.example"]);
            let mut accept = store.accept(entry, message);
            let first = std::future::poll_fn(|cx| std::task::Poll::Ready(accept.as_mut().poll(cx))).await;
            match first {
                std::task::Poll::Ready(Err(StoreError::Busy)) => refused += 1,
                std::task::Poll::Ready(outcome) => drop(outcome.unwrap()),
                std::task::Poll::Pending => waiting.push(accept),
            }
        }
        let kept = waiting.len();
        for accept in waiting {
            accept.await.unwrap();
        }
        (kept, refused)
    });
    assert!(outcomes.1 > 0, "{outcomes:?}");
    assert_eq!(store.counts().entries as usize + outcomes.1, 200, "each was taken or refused: {outcomes:?}");
    assert_eq!(run(store.check()).unwrap(), []);
    assert_eq!(store.metrics().busy as usize, outcomes.1);
}

#[test]
fn an_abandoned_accept_is_claimable_at_once() {
    let folder = TempDir::new().unwrap();
    let store = open(Options::new(folder.path()));
    let (entry, message) = mail(1, &["u@b.example"]);
    run(async {
        let mut accept = store.accept(entry.clone(), message);
        std::future::poll_fn(|cx| std::task::Poll::Ready(accept.as_mut().poll(cx).is_ready())).await;
        drop(accept);
        // A later write ends after the abandoned one.
        let (other, message) = mail(2, &["u@b.example"]);
        let claim = store.accept(other, message).await.unwrap();
        store.settle(&claim, all_relayed(&claim)).await.unwrap();
        let claims = store.claim(NOW.after(LEASE), LEASE, 10).await.unwrap();
        assert_eq!(claims.iter().map(|c| c.entry.id).collect::<Vec<_>>(), [entry.id]);
    });
}

#[test]
fn the_key_value_store_counts_swaps_expires_and_stays() {
    let folder = TempDir::new().unwrap();
    let store = open(Options::new(folder.path()));
    let kv = store.kv();
    assert_eq!(kv.get(b"a/x"), Ok(None));
    kv.set(b"a/x", b"1", None).unwrap();
    kv.set(b"a/gone", b"1", Some(Duration::ZERO)).unwrap();
    assert_eq!(kv.get(b"a/gone"), Ok(None));
    assert_eq!((kv.add(b"n", 5, None), kv.add(b"n", -7, None)), (Ok(5), Ok(-2)));
    assert_eq!(kv.swap(b"a/x", b"2", b"3", None), Ok(false));
    assert_eq!(kv.swap(b"a/x", b"1", b"3", Some(LEASE)), Ok(true));
    assert_eq!(kv.swap(b"a/new", b"", b"1", None), Ok(true));
    assert!(kv.set(&[0; 2000], b"", None).is_err() && kv.set(b"k", &[0; 100_000], None).is_err());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    kv.add(b"c", 1, Some(LEASE)).unwrap();
                }
            });
        }
    });
    drop((kv, store));
    let kv = open(Options::new(folder.path())).kv();
    assert_eq!(kv.get(b"a/x"), Ok(Some(b"3".to_vec())));
    assert_eq!(kv.get(b"c"), Ok(Some(400i64.to_le_bytes().to_vec())));
}

#[test]
fn many_callers_share_few_syncs() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(open(Options::new(folder.path())));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..50)
            .map(|lane| {
                let store = store.clone();
                tokio::spawn(async move {
                    for n in 0..20 {
                        let (entry, message) = mail(lane * 1000 + n, &["u@b.example"]);
                        let claim = store.accept(entry, message).await.unwrap();
                        store.settle(&claim, all_relayed(&claim)).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let metrics = store.metrics();
    assert_eq!((metrics.pieces, store.counts().entries), (2000, 0));
    assert!(metrics.batches * 5 < metrics.pieces, "{metrics:?}");
    run(async { assert_eq!(store.check().await.unwrap(), []) });
}

#[test]
fn one_message_after_the_other_never_waits_for_company() {
    let folder = TempDir::new().unwrap();
    let store = open(Options { gather: Duration::from_secs(600), ..Options::new(folder.path().join("queue")) });
    for n in 1..=20 {
        let claim = accept(&store, n);
        let settled = run(store.settle(&claim, all_relayed(&claim))).unwrap();
        assert!(settled.is_none(), "everybody has it");
    }
}

#[test]
fn pairs_of_counters_add_up_whoever_adds_and_expire() {
    let folder = TempDir::new().unwrap();
    let store = open(Options::new(folder.path()));
    let numbers: Vec<u64> = (0..500).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // Handles of one store share what they remember.
            let (kv, numbers) = (store.kv(), &numbers);
            scope.spawn(move || {
                for _ in 0..25 {
                    kv.add_pairs(b"t", numbers, (1, 2), Some(LEASE)).unwrap();
                    kv.pairs(b"t", numbers).unwrap();
                }
            });
        }
    });
    let kv = store.kv();
    assert_eq!(kv.pairs(b"t", &numbers).unwrap(), vec![(100, 200); 500]);
    assert_eq!(kv.pairs(b"t", &[3, 9999, 3]).unwrap(), [(100, 200), (0, 0), (100, 200)]);
    kv.add_pairs(b"t", &[3, 3], (-200, -1), Some(LEASE)).unwrap();
    assert_eq!(kv.pairs(b"t", &[3, 4]).unwrap(), [(0, 199), (100, 200)], "each once, and never below 0");
    kv.add_pairs(b"t", &[5], (-100, -200), None).unwrap();
    assert_eq!(kv.get(&waypost_types::port::numbered(b"t", 5)), Ok(None), "nothing left is no row");
    kv.set(&waypost_types::port::numbered(b"t", 6), &[1, 0, 0, 0, 2, 0, 0, 0], None).unwrap();
    assert_eq!(kv.pairs(b"t", &[6]).unwrap(), [(1, 2)], "whoever writes it");
    kv.add_pairs(b"gone", &[1], (1, 1), Some(Duration::ZERO)).unwrap();
    assert_eq!(kv.pairs(b"gone", &[1]).unwrap(), [(0, 0)]);
    drop((kv, store));
    let kv = open(Options::new(folder.path())).kv();
    assert_eq!(kv.pairs(b"t", &[4]).unwrap(), [(100, 200)]);
}
