//! `kill -9`: a child process accepts, settles and defers in a loop and says what was acknowledged; after its death everything must be as it was told.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use waypost_queue::conformance::{all_relayed, body_of, later, mail, news};
use waypost_queue::{Settlement, Store, StoreError};
use waypost_store_rocks::{Options, RocksStore};
use waypost_types::event::Deaf;
use waypost_types::{Outcome, Timestamp};

const FOLDER: &str = "WAYPOST_CRASH_FOLDER";
const FIRST: &str = "WAYPOST_CRASH_FIRST";
/// Deferred entries are due then.
const LATER: Timestamp = Timestamp(4_000_000_000_000);

fn open(folder: &Path) -> Arc<RocksStore> {
    // Small buffers, so that flushes and log changes happen between kills.
    let options = Options { memtable_bytes: 256 * 1024, ..Options::new(folder.join("queue")) };
    Arc::new(RocksStore::open(options, Arc::new(Deaf)).unwrap())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Not a test: what the child process runs. Without the folder it has nothing to do.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = open(Path::new(&folder));
    runtime().block_on(async {
        let tasks: Vec<_> = (0..8).map(|lane| tokio::spawn(work(store.clone(), first + lane))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Says `a n` when message n is accepted, `s n` when it is settled for all, `d n` when it is put off; `S n` and `D n` before trying to.
async fn work(store: Arc<RocksStore>, first: u64) {
    for n in (first..).step_by(8) {
        let (entry, message) = mail(n, &["u@b.example"]);
        let claim = store.accept(entry, message).await.unwrap();
        say('a', n);
        let settlement = match n / 8 % 3 {
            0 => continue,
            1 => all_relayed(&claim),
            _ => Settlement {
                recipients: vec![news(0, Outcome::Delayed(later()), LATER)],
                children: Vec::new(),
                release: true,
            },
        };
        let word = if n / 8 % 3 == 1 { 's' } else { 'd' };
        say(word.to_ascii_uppercase(), n);
        store.settle(&claim, settlement).await.unwrap();
        say(word, n);
    }
}

fn say(what: char, n: u64) {
    // One write a line: lines of several threads do not mix.
    std::io::stdout().write_all(format!("\n{what} {n}\n").as_bytes()).unwrap();
}

/// Runs a child until it has said `lines` lines, kills it, and returns the last that was said of each message.
fn run_and_kill(folder: &Path, first: u64, lines: usize, told: &mut HashMap<u64, char>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut heard = 0;
    let mut hear = |line: String| {
        let Some((what, n)) = line.split_once(' ') else { return 0 };
        let (Ok(what), Ok(n)) = (what.parse::<char>(), n.parse()) else { return 0 };
        told.insert(n, what);
        1
    };
    while heard < lines {
        heard += hear(output.next().expect("the child goes on until it is killed").unwrap());
    }
    child.kill().unwrap();
    output.map_while(Result::ok).for_each(|line| {
        hear(line);
    });
    child.wait().unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_nine() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = HashMap::new();
    // A different moment each time: this run's own.
    let chance = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos() as usize;
    for round in 0..6 {
        run_and_kill(folder.path(), round * 1_000_000, 200 + chance.wrapping_mul(round as usize + 7) % 700, &mut told);
        verify(folder.path(), &told);
    }
    assert!(told.values().filter(|what| **what == 's').count() > 100);
}

/// Not a test: a child that may not write files beyond a size, accepts until that fails, and says what was acknowledged.
#[test]
fn limited_child() {
    let Some(folder) = std::env::var_os(FOLDER).filter(|_| std::env::var_os(FIRST).is_none()) else { return };
    let store = open(Path::new(&folder));
    runtime().block_on(async {
        let mut claims = Vec::new();
        let error = loop {
            let (entry, message) = mail(claims.len() as u64, &["u@b.example"]);
            match store.accept(entry, message).await {
                Ok(claim) => claims.push(claim),
                Err(error) => break error,
            }
            say('a', claims.len() as u64 - 1);
        };
        assert!(matches!(error, StoreError::Failed(_)), "{error:?}");
        assert!(store.failure().is_some());
        let (entry, message) = mail(1_000_000, &["u@b.example"]);
        assert!(matches!(store.accept(entry, message).await, Err(StoreError::Failed(_))), "never again");
        let settled = store.settle(&claims[0], all_relayed(&claims[0])).await;
        assert!(matches!(settled, Err(StoreError::Failed(_))));
        store.release(claims[0].clone()).await.unwrap();
        let again = store.claim(LATER, Duration::from_secs(1), 10_000).await.unwrap();
        assert_eq!(again.len(), 0, "nothing that cannot be settled is handed out twice");
        assert!(store.get(claims[0].entry.id).await.unwrap().is_some(), "reads go on");
        assert!(matches!(store.close().await, Err(StoreError::Failed(_))));
        say('f', claims.len() as u64);
    });
}

#[test]
fn a_failed_write_is_the_last_and_what_was_acknowledged_before_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" --exact limited_child --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, folder.path())
        .env_remove(FIRST)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let told: HashMap<u64, char> =
        text.lines().filter_map(|line| line.strip_prefix("a ")).map(|n| (n.parse().unwrap(), 'a')).collect();
    assert!(output.status.success() && text.contains("\nf "), "{text} {}", String::from_utf8_lossy(&output.stderr));
    assert!(told.len() > 20, "{} accepted before the limit", told.len());
    verify(folder.path(), &told);
}

fn verify(folder: &Path, told: &HashMap<u64, char>) {
    let store = open(folder);
    runtime().block_on(async {
        assert_eq!(store.check().await.unwrap(), []);
        let mut present = 0;
        for (&n, &what) in told {
            let (entry, message) = mail(n, &["u@b.example"]);
            let found = store.get(entry.id).await.unwrap();
            let attempts = found.as_ref().map(|entry| entry.recipients[0].attempts);
            match what {
                'a' => assert_eq!(found.as_ref(), Some(&entry), "accepted {n}"),
                's' => assert_eq!(found, None, "settled {n}"),
                'd' => assert_eq!(attempts, Some(1), "put off {n}"),
                'S' => assert!(found.is_none() || attempts == Some(0), "being settled {n}"),
                'D' => assert!(matches!(attempts, Some(0 | 1)), "being put off {n}"),
                _ => unreachable!("the child says nothing else"),
            }
            if found.is_some() {
                assert_eq!(body_of(&*store, entry.id).await.unwrap(), message.contiguous(), "body of {n}");
                present += 1;
            }
        }
        // Eight lanes may each have had one more on its way to the disk in each life.
        let entries = store.counts().entries;
        assert!((present..=present + 8 * 6).contains(&entries), "{entries} entries, {present} known");
        assert!(store.next_due().await.unwrap().is_some(), "what was accepted is due");
    });
}
