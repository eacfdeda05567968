//! The way out: retries, reports, per-recipient outcomes.

use std::time::Duration;

use waypost_tests::{Dialog, Manner, Sink, Waypost, wait_for};

const BODY: &str =
    "From: alice@waypost.test\r\nTo: user@elsewhere.example\r\nSubject: out\r\n\r\nHello\r\n..stuffed\r\n";

/// A site whose `mx` listener relays for loopback, with everything foreign going to the sink.
fn relay(sink: &Sink, more: &[&str]) -> Waypost {
    let route = format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port);
    let mut sets = vec!["listener.mx.preset=relay", "relay.networks=[\"127.0.0.0/8\"]", &route];
    sets.extend(more);
    Waypost::start(&sets)
}

#[test]
fn a_message_reaches_the_next_hop_octet_by_octet() {
    let sink = Sink::start(Manner::Polite);
    let server = relay(&sink, &[]);
    Dialog::greeted(server.mx).deliver("alice@waypost.test", &["one@elsewhere.example", "two@elsewhere.example"], BODY);
    let received = wait_for("the message", Duration::from_secs(20), || sink.received().pop());
    assert_eq!(received.rcpt.len(), 2, "one transaction for both recipients: {received:?}");
    assert!(received.message.ends_with("\r\n\r\nHello\r\n.stuffed\r\n"), "{}", received.message);
    assert!(received.header("X-Spam-Status").is_none(), "mail of our own hosts is not scored\n{}", received.message);
    wait_for("the queue to be empty", Duration::from_secs(10), || server.events("removed").pop());
}

#[test]
fn a_greylisted_message_is_tried_again_after_a_restart() {
    let sink = Sink::start(Manner::Greylist);
    let mut server = relay(&sink, &["queue.retry-first=3s", "queue.retry-max=3s"]);
    Dialog::greeted(server.mx).deliver("alice@waypost.test", &["user@elsewhere.example"], BODY);
    wait_for("the first attempt", Duration::from_secs(20), || server.events("attempted").pop());
    let (_, list) = server.command(&["queue", "list"]);
    assert!(list.contains("user@elsewhere.example") || list.contains("alice@waypost.test"), "{list}");
    assert!(server.stop().success());
    server.run();
    wait_for("the message", Duration::from_secs(30), || sink.received().pop());
}

#[test]
fn a_refused_recipient_is_reported_to_the_sender_once() {
    let sink = Sink::start(Manner::Refuse);
    let server = relay(&sink, &[]);
    Dialog::greeted(server.mx).deliver("alice@waypost.test", &["user@elsewhere.example"], BODY);
    let report = server.wait_for_mail("alice", 1).remove(0);
    for part in [
        "Return-Path: <>",
        "multipart/report",
        "report-type=delivery-status",
        "message/delivery-status",
        "Final-Recipient: rfc822;",
        "user@elsewhere.example",
        "Action: failed",
        "Status: 5.1.1",
        "Diagnostic-Code: smtp;",
        "no such user here",
        "Auto-Submitted: auto-replied",
    ] {
        assert!(report.contains(part), "no {part} in\n{report}");
    }
    assert_eq!(server.mailbox("alice").len(), 1);
}

#[test]
fn a_report_that_cannot_be_delivered_is_not_reported() {
    let sink = Sink::start(Manner::Refuse);
    let server = relay(&sink, &[]);
    Dialog::greeted(server.mx).deliver("", &["user@elsewhere.example"], BODY);
    wait_for("the end of the message", Duration::from_secs(20), || server.events("removed").pop());
    Dialog::greeted(server.mx).deliver("gone@elsewhere.example", &["user@elsewhere.example"], BODY);
    // The report itself is refused by the sink, and that is the end of it: three messages leave the queue.
    wait_for("the end of all three", Duration::from_secs(20), || (server.events("removed").len() == 3).then_some(()));
    assert_eq!(server.events("noticed").len(), 1);
}

#[test]
fn a_connection_lost_behind_the_dot_is_tried_again() {
    let sink = Sink::start(Manner::DropAfterDot);
    let server = relay(&sink, &["queue.retry-first=1s", "queue.retry-max=1s"]);
    Dialog::greeted(server.mx).deliver("alice@waypost.test", &["user@elsewhere.example"], BODY);
    wait_for("the second attempt to be taken", Duration::from_secs(30), || sink.received().pop());
    assert_eq!(sink.received().len(), 1);
}

#[test]
fn a_message_given_up_is_reported() {
    let sink = Sink::start(Manner::Defer);
    let server = relay(&sink, &["queue.lifetime=1m", "queue.retry-first=1s", "queue.retry-max=2s"]);
    Dialog::greeted(server.mx).deliver("alice@waypost.test", &["user@elsewhere.example"], BODY);
    wait_for("a retry", Duration::from_secs(30), || (server.events("attempted").len() >= 2).then_some(()));
    let (status, text) = server.command(&["queue", "list"]);
    assert!(status.success(), "{text}");
    sink.set_manner(Manner::Polite);
    wait_for("the message", Duration::from_secs(30), || sink.received().pop());
}
