//! Who goes first, and how many at once: measured at a receiver that is slow, and at one that limits connections.

use std::time::{Duration, Instant};

use waypost_tests::{Dialog, Manner, Sink, Waypost, say_aloud, wait_for};

const BODY: &str = "From: list@waypost.test\r\nTo: user@elsewhere.example\r\nSubject: mailing\r\n\r\nHello\r\n";

fn relay(sink: &Sink, more: &[&str]) -> Waypost {
    let route = format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port);
    let mut sets = vec!["listener.mx.preset=relay", "relay.networks=[\"127.0.0.0/8\"]", &route];
    sets.extend(more);
    Waypost::start(&sets)
}

/// So many messages from the list, over four connections.
fn mailing(server: &Waypost, count: usize) {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut dialog = Dialog::greeted(server.mx);
                (0..count / 4)
                    .for_each(|_| drop(dialog.deliver("list@waypost.test", &["user@elsewhere.example"], BODY)));
            });
        }
    });
}

/// Twenty connections that take half a second a message are kept busy for a minute; a single message of somebody else's is not.
#[test]
fn a_single_message_overtakes_a_mailing_to_the_same_host() {
    let sink = Sink::start(Manner::Slow);
    let server = relay(&sink, &[]);
    mailing(&server, 2000);
    let before = sink.count();
    let begun = Instant::now();
    let urgent = BODY.replace("mailing", "urgent");
    Dialog::greeted(server.mx).deliver("alice@waypost.test", &["user@elsewhere.example"], &urgent);
    let arrived =
        || sink.received().iter().any(|received| received.header("Subject").as_deref() == Some("urgent")).then_some(());
    wait_for("the urgent message", Duration::from_secs(15), arrived);
    say_aloud(&format!("an urgent message behind {} of a mailing: {:.1?}", 2000 - before, begun.elapsed()));
    assert!(sink.count() < 1500, "the mailing was through anyway");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

/// A receiver that takes five connections at once and greets every further one with 421. The feedback finds that out: few connections are
/// refused, the five are busy, and the destination is not taken for dead.
#[test]
fn a_limit_of_connections_told_by_421_is_found_and_used() {
    const LIMIT: u32 = 5;
    const COUNT: usize = 1000;
    let sink = Sink::start(Manner::Limited(LIMIT));
    let server = relay(&sink, &["queue.retry-first=1s", "queue.retry-max=2s"]);
    let begun = Instant::now();
    mailing(&server, COUNT);
    wait_for("the mailing", Duration::from_secs(120), || (sink.count() == COUNT).then_some(()));
    let took = begun.elapsed();
    // Each message keeps a connection of the sink's for 25 ms.
    let ideal = Duration::from_millis(25) * COUNT as u32 / LIMIT;
    let (turned_away, deferred) =
        (sink.turned_away(), server.events("attempted").iter().filter(|e| e["outcome"] == "delayed").count());
    say_aloud(&format!(
        "{COUNT} messages at a host that takes {LIMIT} connections: {took:.1?} (at best {ideal:.1?}), {turned_away} connections turned away, {deferred} attempts deferred ({:.1} %)",
        deferred as f64 * 100.0 / COUNT as f64
    ));
    assert!(deferred * 10 < COUNT, "{deferred} of {COUNT} deferred");
    // A machine that is busy otherwise gives less; a destination taken for dead would cost a minute.
    assert!(took < ideal * 10, "{took:?}");
}
