//! A server with a long queue: how long until it takes mail and delivers, and how much memory it needs. `benches/backlog.sh` runs it with figures; in CI
//! it is run small.
//!
//! The queue holds deferred mail for thousands of domains, each with a mail host of its own in DNS, all of them on this machine's loopback. That needs port
//! 25, and so root; elsewhere the test says so aloud.

use std::time::{Duration, Instant};

use waypost_tests::zone::{Faults, Record, Zone};
use waypost_tests::{Dialog, Manner, Sink, Waypost, say_aloud, tool, wait_for};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

/// A line of `/proc/PID/status`, in MiB.
fn mib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") / 1024
}

#[test]
fn a_long_queue_is_no_burden() {
    let (messages, destinations) = (number("WAYPOST_BACKLOG", 20_000), number("WAYPOST_BACKLOG_DESTINATIONS", 2000));
    let (octets, due_percent) = (number("WAYPOST_BACKLOG_OCTETS", 1024), number("WAYPOST_BACKLOG_DUE", 20));
    let Some(sink) = Sink::start_at("127.0.0.27:25", Manner::Polite) else {
        return say_aloud("NOT TESTED: port 25 of loopback cannot be had here (root can)");
    };
    let folder =
        tempfile::TempDir::new_in(std::env::var("WAYPOST_BACKLOG_DIR").unwrap_or("/tmp".into())).expect("a folder");
    let zone = Zone::start(&[("*", Record::Own), ("mx.*", Record::A([127, 0, 0, 27].into()))], Faults::default());
    let bound = format!("queue.messages={}", messages * 2);
    let sets = ["queue.free-space=100 MiB", "plugins.chain=[]", &bound];
    // The first start makes keys and certificates, which has nothing to do with the queue.
    let mut server = Waypost::start_in(Some(folder.path()), Some(zone.port), &sets);
    assert!(server.stop().success());
    let fill = waypost_tests::waypost::binary().with_file_name("examples").join("fill");
    let queue = folder.path().join("data/queue");
    let all = [messages, destinations, octets, due_percent].map(|number| number.to_string());
    let mut arguments = vec![queue.to_str().expect("a path")];
    arguments.extend(all.iter().map(String::as_str));
    say_aloud(tool::succeed(&fill.to_string_lossy(), &arguments).trim());
    say_aloud(&format!("on disk: {}", tool::succeed("du", &["-sh", &queue.to_string_lossy()]).trim()));

    let begun = Instant::now();
    let server = Waypost::start_in(Some(folder.path()), Some(zone.port), &sets);
    let greeting = begun.elapsed();
    let mut dialog = Dialog::greeted(server.mx);
    dialog.deliver("a@client.example", &["alice@waypost.test"], "Subject: x\r\n\r\nx\r\n");
    let accepted = begun.elapsed();
    wait_for("the first of the backlog", Duration::from_secs(60), || (sink.count() > 0).then_some(()));
    let delivering = begun.elapsed();
    server.wait_for_mail("alice", 1);
    let local = begun.elapsed();
    let due = messages * due_percent / 100;
    let end = Instant::now() + Duration::from_secs(number("WAYPOST_BACKLOG_SECONDS", 20));
    let mut most = 0;
    while Instant::now() < end && sink.count() < due as usize * 95 / 100 {
        most = most.max(mib(server.pid(), "VmRSS"));
        std::thread::sleep(Duration::from_millis(200));
    }
    let sent = sink.count();
    say_aloud(&format!(
        "{messages} deferred messages, {destinations} destinations: greeting after {greeting:.2?}, 250 after {accepted:.2?}, local delivery after {local:.2?}, \
         first of the backlog after {delivering:.2?}; {sent} of {due} due delivered in {:.1?}; resident {} MiB, at most {} MiB",
        begun.elapsed(),
        mib(server.pid(), "VmRSS"),
        mib(server.pid(), "VmHWM"),
    ));
    assert!(most < 1024, "{most} MiB resident");
    assert!(sent > 0 && delivering < Duration::from_secs(20), "nothing moves");
}
