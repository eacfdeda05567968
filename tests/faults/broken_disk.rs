//! The disk fails: the kernel's errors are put in the server's way by strace.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use waypost_tests::{Dialog, Manner, Sink, Waypost, say_aloud, tool, wait_for};

use crate::{borrowed, number, offer, settings};

/// strace between the server and the kernel; detaches when dropped.
struct Injection(Child);

impl Injection {
    /// From now on these calls of the server fail; only those that touch `path`, if there is one. `None`, said aloud, where nobody may trace.
    fn start(server: &Waypost, calls: &str, error: &str, path: Option<&Path>) -> Option<Injection> {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:error={error}"), "-p", &server.pid().to_string()]);
        if let Some(path) = path {
            command.arg("-P").arg(path);
        }
        let mut child = command.stderr(Stdio::null()).spawn().expect("strace: `make setup-tests` installs it");
        for _ in 0..500 {
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                say_aloud(&format!("NOT TESTED: strace cannot trace here: {status}"));
                return None;
            }
            if all_traced(server.pid()) {
                return Some(Injection(child));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("strace did not get hold of all threads");
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        tool::run("kill", &["-INT", &self.0.id().to_string()]);
        let _ = self.0.wait();
    }
}

fn all_traced(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs");
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0\n")
    })
}

/// Three messages are taken; then the calls fail: the next one gets 452, and so does everything after it, also when the disk is well again. After
/// a restart the three are there.
fn a_failing_disk_ends_all_writing(calls: &str, error: &str, path: Option<&dyn Fn(&Waypost) -> PathBuf>) {
    let sink = Sink::start(Manner::Defer);
    let sets = settings(&sink, &[]);
    let mut server = Waypost::start(&borrowed(&sets));
    let mut dialog = Dialog::greeted(server.mx);
    for n in 0..3 {
        assert_eq!(offer(&mut dialog, "user@elsewhere.example", n, 1000), 250);
    }
    let path = path.map(|path| path(&server));
    let Some(injection) = Injection::start(&server, calls, error, path.as_deref()) else { return };
    assert_eq!(offer(&mut dialog, "user@elsewhere.example", 3, 1000), 452, "{}", server.log());
    assert_eq!(offer(&mut Dialog::greeted(server.mx), "alice@waypost.test", 4, 1000), 452);
    drop(injection);
    assert_eq!(
        offer(&mut dialog, "user@elsewhere.example", 5, 1000),
        452,
        "what a failed sync left behind is not known"
    );
    let health = format!("http://127.0.0.1:{}/healthz", server.admin);
    assert!(!tool::run("curl", &["-sf", &health]).status.success(), "a probe sees it");
    assert!(!server.events("store_failed").is_empty(), "{}", server.log());
    server.kill();
    sink.set_manner(Manner::Polite);
    server.run();
    let arrived = || sink.received().iter().filter_map(|received| number(&received.message)).collect::<HashSet<_>>();
    wait_for("what was acknowledged", Duration::from_secs(30), || {
        arrived().is_superset(&[0, 1, 2].into()).then_some(())
    });
    assert_eq!(offer(&mut Dialog::greeted(server.mx), "alice@waypost.test", 6, 1000), 250, "opened anew, it writes");
    server.wait_for_mail("alice", 1);
    // Whoever got a 452 was told nothing: such a message may have been written all the same.
    say_aloud(&format!("{calls} fail with {error}: 3 acknowledged, {} arrived", arrived().len()));
}

#[test]
fn a_failed_sync_is_never_acknowledged() {
    a_failing_disk_ends_all_writing("fdatasync,fsync", "EIO", None);
}

#[test]
fn a_failed_write_to_the_log_is_never_acknowledged() {
    for error in ["EIO", "ENOSPC"] {
        a_failing_disk_ends_all_writing("write,writev,pwrite64", error, Some(&log_file));
    }
}

/// The write-ahead log that is written now.
fn log_file(server: &Waypost) -> PathBuf {
    let files = std::fs::read_dir(server.data().join("queue")).expect("the queue's folder").flatten();
    let logs = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|kind| kind == "log"));
    logs.max().expect("there is a log")
}
