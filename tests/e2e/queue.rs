//! An operator at the queue: what is told, and what is done, with the server running and stopped.

use std::time::{Duration, Instant};

use waypost_tests::{Dialog, Manner, Sink, Waypost, wait_for};

const BODY: &str = "From: alice@waypost.test\r\nTo: user@elsewhere.example\r\nSubject: out\r\n\r\nHello\r\n";

/// A site that relays to the sink and comes back after an hour at the earliest.
fn patient(sink: &Sink) -> Waypost {
    let route = format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port);
    Waypost::start(&[
        "listener.mx.preset=relay",
        "relay.networks=[\"127.0.0.0/8\"]",
        "queue.retry-first=1h",
        "queue.retry-max=1h",
        &route,
    ])
}

fn send(server: &Waypost, recipients: &[&str]) -> String {
    let text = Dialog::greeted(server.mx).deliver("alice@waypost.test", recipients, BODY);
    text.split_whitespace().last().expect("the reply ends with the id").to_string()
}

/// Runs `waypost queue …`, which must succeed.
fn queue(server: &Waypost, arguments: &[&str]) -> String {
    let mut all = vec!["queue"];
    all.extend_from_slice(arguments);
    let (status, text) = server.command(&all);
    assert!(status.success(), "{arguments:?}: {text}");
    text
}

fn attempts(server: &Waypost, count: usize) {
    wait_for("attempts", Duration::from_secs(20), || (server.events("attempted").len() >= count).then_some(()));
}

#[test]
fn what_is_retried_or_released_goes_at_once() {
    let sink = Sink::start(Manner::Defer);
    let server = patient(&sink);
    let first = send(&server, &["user@elsewhere.example"]);
    attempts(&server, 1);
    sink.set_manner(Manner::Polite);
    queue(&server, &["hold", &first]);
    queue(&server, &["retry", &first]);
    let begun = Instant::now();
    queue(&server, &["release", &first]);
    wait_for("the message", Duration::from_secs(3), || (sink.received().len() == 1).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(queue(&server, &["list", "--json"]), "");
}

#[test]
fn the_whole_story_of_a_message_is_told() {
    let sink = Sink::start(Manner::Defer);
    let server = patient(&sink);
    let id = send(&server, &["user@elsewhere.example"]);
    for count in 1..4 {
        attempts(&server, count);
        wait_for("the pause", Duration::from_secs(5), || {
            queue(&server, &["show", &id]).contains("pause after").then_some(())
        });
        queue(&server, &["retry", &id]);
    }
    attempts(&server, 4);
    let story = wait_for("four attempts", Duration::from_secs(5), || {
        let story = queue(&server, &["show", &id]);
        (story.matches("450 4.2.1 mailbox busy").count() == 5).then_some(story)
    });
    for part in [
        "alice@waypost.test",
        "user@elsewhere.example",
        "4 attempts",
        "[127.0.0.1]:",
        "plaintext",
        "next at",
        "pause after attempt 4",
    ] {
        assert!(story.contains(part), "no {part} in\n{story}");
    }
}

#[test]
fn messages_are_chosen_by_domain_reply_sender_age_and_hold() {
    let sink = Sink::start(Manner::Defer);
    let mut server = patient(&sink);
    for recipient in ["one@a.example", "two@b.example", "three@b.example"] {
        send(&server, &[recipient]);
    }
    attempts(&server, 3);
    wait_for("three deferred", Duration::from_secs(5), || {
        (queue(&server, &["list", "--reply", "MAILBOX busy", "--json"]).lines().count() == 3).then_some(())
    });
    assert!(queue(&server, &["hold", "--domain", "b.example"]).contains("2 messages"));
    assert_eq!(queue(&server, &["list", "--held", "yes", "--json"]).lines().count(), 2);
    assert_eq!(queue(&server, &["list", "--held", "no", "--sender", "alice@", "--json"]).lines().count(), 1);
    assert_eq!(queue(&server, &["list", "--older", "1h", "--json"]), "");
    let (status, text) = server.command(&["queue", "remove"]);
    assert!(!status.success() && text.contains("--all"), "{text}");
    assert!(server.stop().success());
    // The same with the server stopped.
    assert!(queue(&server, &["release", "--held", "yes"]).contains("2 messages"));
    assert_eq!(queue(&server, &["list", "--held", "yes", "--json"]), "");
    assert!(queue(&server, &["check"]).contains("no problems"));
}

#[test]
fn mail_is_sent_another_way() {
    let (sink, other) = (Sink::start(Manner::Defer), Sink::start(Manner::Polite));
    let server = patient(&sink);
    send(&server, &["one@a.example"]);
    send(&server, &["two@b.example"]);
    attempts(&server, 2);
    let to = format!("smtp:[127.0.0.1]:{}", other.port);
    wait_for("the reroute", Duration::from_secs(5), || {
        queue(&server, &["reroute", "--domain", "b.example", "--to", &to]).contains("1 messages").then_some(())
    });
    queue(&server, &["retry", "--all"]);
    wait_for("the message", Duration::from_secs(10), || (other.received().len() == 1).then_some(()));
    assert_eq!(other.received()[0].rcpt, ["<two@b.example>"]);
}

#[test]
fn mail_is_given_up_with_a_report() {
    let sink = Sink::start(Manner::Defer);
    let server = patient(&sink);
    send(&server, &["one@a.example", "two@b.example"]);
    send(&server, &["three@c.example"]);
    attempts(&server, 3);
    wait_for("the bounce", Duration::from_secs(5), || {
        queue(&server, &["bounce", "--domain", "b.example"]).contains("1 messages").then_some(())
    });
    let report = server.wait_for_mail("alice", 1).remove(0);
    assert!(report.contains("returned by the postmaster") && report.contains("two@b.example"), "{report}");
    assert!(!report.contains("Final-Recipient: rfc822; one@a.example"), "{report}");
    queue(&server, &["expire", "--domain", "c.example"]);
    let reports = server.wait_for_mail("alice", 2);
    assert!(reports.iter().any(|report| report.contains("Status: 5.4.7") && report.contains("three@c.example")));
    assert_eq!(queue(&server, &["list", "--json"]).lines().count(), 1, "one@a.example still waits");
}

#[test]
fn a_suspended_domain_gets_nothing_until_it_is_resumed() {
    let sink = Sink::start(Manner::Polite);
    let mut server = patient(&sink);
    queue(&server, &["suspend", "--domain", "b.example", "--for", "2h"]);
    queue(&server, &["suspend", "--mx", "127.0.0.9", "--for", "1h"]);
    // It outlives the server.
    assert!(server.stop().success());
    server.run();
    send(&server, &["one@a.example", "two@b.example"]);
    wait_for("one of the two", Duration::from_secs(10), || sink.received().pop());
    let (_, list) = server.command(&["queue", "destinations"]);
    assert!(list.contains("domain b.example") && list.contains("hosts 127.0.0.9"), "{list}");
    attempts(&server, 2);
    assert_eq!(sink.received().len(), 1);
    let (_, list) = server.command(&["queue", "list"]);
    assert!(list.contains("two@b.example"), "{list}");
    queue(&server, &["resume", "--domain", "b.example"]);
    queue(&server, &["retry", "--all"]);
    wait_for("the other", Duration::from_secs(10), || (sink.received().len() == 2).then_some(()));
}
