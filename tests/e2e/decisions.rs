//! `[decision.*]`: what plugins state is weighed in one place, and the whole why of a message is one record.

use std::time::Duration;

use waypost_tests::{Dialog, Waypost, wait_for};

/// Something that spam-score states facts about, whatever the day's weights: the other facts come from weights set here.
const LETTER: &str = "From: \"Big Bank\" <a@example.net>\r\nSubject: Hello there\r\nTo: alice@waypost.test\r\n\
    Date: Mon, 01 Jan 2001 00:00:00 +0000\r\n\r\nHello\r\n";

/// Sends the letter; gives the reply to its final dot.
fn send(waypost: &Waypost, recipients: &[&str]) -> String {
    let mut client = Dialog::greeted(waypost.mx);
    client.say("MAIL FROM:<a@example.net>", 250);
    for recipient in recipients {
        client.say(&format!("RCPT TO:<{recipient}>"), 250);
    }
    client.say("DATA", 354);
    client.send(format!("{LETTER}.\r\n").as_bytes());
    let (code, text) = client.reply().expect("a reply to the final dot");
    format!("{code} {text}")
}

fn server(sets: &[&str]) -> Waypost {
    Waypost::start(&[&["domains.own=[\"waypost.test\", \"strict.test\"]"], sets].concat())
}

#[test]
fn a_sum_above_the_threshold_marks_the_message_and_its_subject() {
    let waypost = server(&["decision.all.header-at=0.1", "decision.all.subject-at=0.1", "decision.all.tag=\"[JUNK]\""]);
    assert!(send(&waypost, &["alice@waypost.test"]).starts_with("250"));
    let mail = waypost.wait_for_mail("alice", 1).remove(0);
    assert!(
        mail.contains("\r\nSubject: [JUNK] Hello there\r\n") || mail.contains("\nSubject: [JUNK] Hello there\n"),
        "{mail}"
    );
    assert!(mail.contains("X-Waypost-Decision: subject; score=") && mail.contains("by=all"), "{mail}");
    assert_eq!(mail.matches("X-Spam-Flag: YES").count(), 1, "{mail}");
    assert!(mail.contains("required=0.1"), "spam-score calls spam what the decision marks: {mail}");
}

#[test]
fn the_strictest_domain_refuses_for_itself_alone() {
    let waypost = server(&[
        "decision.strict.domains=strict.test",
        "decision.strict.refuse-at=0.1",
        "decision.strict.text=not here",
    ]);
    let reply = send(&waypost, &["alice@strict.test"]);
    assert!(reply.starts_with("550 5.7.1 not here"), "{reply}");
    let decided = || Some(waypost.events("decided").len()).filter(|count| *count > 0);
    assert_eq!(waypost_tests::wait_for("the log line", Duration::from_secs(5), decided), 1);
    assert!(waypost.log().contains("\"by\":\"decision\""), "the refusal names who refused");
    assert!(send(&waypost, &["alice@strict.test", "alice@waypost.test"]).starts_with("250"));
}

#[test]
fn what_is_held_tells_its_whole_why_in_the_queue() {
    let waypost = server(&["decision.all.hold-at=0.1"]);
    let reply = send(&waypost, &["alice@waypost.test"]);
    let id = reply.trim().rsplit(' ').next().expect("an id").to_string();
    let (done, text) = waypost.command(&["queue", "show", &id]);
    assert!(done.success(), "{text}");
    assert!(text.contains("held      score ") && text.contains("by [decision.all]"), "{text}");
    assert!(text.contains("why       decision hold score="), "{text}");
    assert!(text.contains("spam-score@message=pass(") && text.contains(" octets)"), "{text}");
    assert!(text.contains("spam-score: "), "each fact with its weight: {text}");
    let accepted = waypost.events("accepted");
    let facts = waypost_tests::waypost::field(&accepted[0], "facts").expect("facts are in the log").to_string();
    assert!(facts.contains('='), "{facts}");
}

#[test]
fn strangers_that_look_like_spam_are_asked_to_come_back() {
    let waypost = server(&["decision.all.greylist-at=0.1", "greylist.delay=1s"]);
    let reply = send(&waypost, &["alice@waypost.test"]);
    assert!(reply.starts_with("450 4.7.1"), "{reply}");
    wait_for("the greylist to let it pass", Duration::from_secs(20), || {
        send(&waypost, &["alice@waypost.test"]).starts_with("250").then_some(())
    });
    assert_eq!(waypost.wait_for_mail("alice", 1).len(), 1);
}
