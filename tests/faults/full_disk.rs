//! There is no room: new mail is refused while there is still enough to settle what is there, and nothing acknowledged is lost.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use waypost_tests::{Dialog, Manner, Sink, Waypost, say_aloud, wait_for};

use crate::disk::Disk;
use crate::{borrowed, number, offer, queued, settings};

const OTHERS: &str = "user@elsewhere.example";

/// Five messages wait; the disk fills up to the reserve: 452 for new mail, the five are delivered and leave the queue; with room again,
/// mail is taken again.
fn refused_early_and_settled(disk: &Disk, fill: impl Fn(&Disk) -> std::path::PathBuf) {
    let sink = Sink::start(Manner::Defer);
    let sets = settings(&sink, &["queue.free-space=32 MiB"]);
    let server = Waypost::start_in(Some(&disk.path()), None, &borrowed(&sets));
    let mut dialog = Dialog::greeted(server.mx);
    (0..5).for_each(|n| assert_eq!(offer(&mut dialog, OTHERS, n, 10_000), 250));
    let filler = fill(disk);
    let refused = || (offer(&mut dialog, "alice@waypost.test", 99, 1000) == 452).then_some(());
    wait_for("452 for new mail", Duration::from_secs(10), refused);
    sink.set_manner(Manner::Polite);
    wait_for("what was there to leave", Duration::from_secs(30), || (sink.received().len() == 5).then_some(()));
    wait_for("the queue to be settled", Duration::from_secs(30), || {
        (server.events("removed").len() >= 5 && queued(&server) == 0).then_some(())
    });
    assert!(server.events("store_failed").is_empty(), "{}", server.log());
    remove(&filler);
    let taken = || (offer(&mut dialog, "alice@waypost.test", 100, 1000) == 250).then_some(());
    wait_for("250 again", Duration::from_secs(10), taken);
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.expect("what was made can be removed");
}

#[test]
fn with_little_space_new_mail_is_refused_and_old_mail_is_settled() {
    let Some(disk) = Disk::tmpfs(128, 20_000) else { return };
    refused_early_and_settled(&disk, |disk| disk.fill(24 * 1024));
}

#[test]
fn with_few_inodes_new_mail_is_refused_and_old_mail_is_settled() {
    let Some(disk) = Disk::tmpfs(128, 5000) else { return };
    refused_early_and_settled(&disk, |disk| disk.fill_inodes(500));
}

/// Without a reserve the disk does become full. Then writing ends for good, and what was acknowledged is there after a restart.
#[test]
fn on_a_disk_that_is_full_nothing_acknowledged_is_lost() {
    let Some(disk) = Disk::tmpfs(128, 20_000) else { return };
    let sink = Sink::start(Manner::Defer);
    let sets = settings(&sink, &["queue.free-space=0"]);
    let mut server = Waypost::start_in(Some(&disk.path()), None, &borrowed(&sets));
    let filler = disk.fill(8 * 1024);
    let mut dialog = Dialog::greeted(server.mx);
    let mut promised = HashSet::new();
    for n in 0..200 {
        match offer(&mut dialog, OTHERS, n, 1_000_000) {
            250 => assert!(promised.insert(n)),
            code => {
                assert_eq!(code, 452);
                break;
            }
        }
    }
    assert!(promised.len() < 200, "8 MiB held {} messages of 1 MB", promised.len());
    assert_eq!(offer(&mut dialog, OTHERS, 500, 1000), 452);
    server.kill();
    remove(&filler);
    sink.set_manner(Manner::Polite);
    server.run();
    let arrived = || sink.received().iter().filter_map(|received| number(&received.message)).collect::<HashSet<_>>();
    wait_for("what was acknowledged", Duration::from_secs(60), || arrived().is_superset(&promised).then_some(()));
    say_aloud(&format!("a full disk: {} acknowledged, all arrived", promised.len()));
}
