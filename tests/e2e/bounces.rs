//! What others tell us of our mail: bounces and complaints in the log, and the suppression list that they feed.

use std::time::Duration;

use waypost_tests::waypost::field;
use waypost_tests::{Dialog, Manner, Sink, Waypost, wait_for};

const NEWS: &str =
    "From: news@waypost.test\r\nTo: you\r\nMessage-ID: <n1@waypost.test>\r\nSubject: News\r\n\r\nHello\r\n";

fn site(sink: &Sink, more: &[&str]) -> Waypost {
    let route = format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port);
    let mut sets = vec![
        "listener.mx.preset=relay",
        "relay.networks=[\"127.0.0.0/8\"]",
        "queue.retry-first=1h",
        "users.mailboxes=[\"alice\",\"bob\",\"news\"]",
        &route,
    ];
    sets.extend_from_slice(more);
    Waypost::start(&sets)
}

fn told(server: &Waypost, count: usize) -> Vec<serde_json::Value> {
    wait_for("bounced", Duration::from_secs(20), || {
        let events = server.events("bounced");
        (events.len() >= count).then_some(events)
    })
}

/// A bounce as another Postfix writes it.
fn bounce(recipient: &str, status: &str, said: &str, message_id: &str) -> String {
    format!(
        "From: MAILER-DAEMON@far.example\r\nSubject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; far.example\r\n\r\n\
         Final-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: {status}\r\nDiagnostic-Code: smtp; {said}\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {message_id}\r\nSubject: News\r\n\r\n--b--\r\n"
    )
}

#[test]
fn a_bounce_to_a_sender_of_its_own_names_and_suppresses_the_recipient() {
    let sink = Sink::start(Manner::Polite);
    let server = site(&sink, &["bounces.verp=[\"news@waypost.test\"]", "bounces.suppress=[\"hard\"]"]);
    let recipients = ["joe@far.example", "ann@far.example"];
    Dialog::greeted(server.mx).deliver("news@waypost.test", &recipients, NEWS);
    let received =
        wait_for("one for each", Duration::from_secs(20), || Some(sink.received()).filter(|got| got.len() == 2));
    let joe = received.iter().find(|got| got.rcpt == ["<joe@far.example>"]).expect("Joe's");
    let sender = joe.mail.split(['<', '>']).nth(1).expect("a path").to_string();
    assert!(sender.starts_with("news+") && sender.ends_with("=joe=far.example@waypost.test"), "{sender}");
    // It comes back from behind a forwarder, about an address that we never wrote to.
    let text = bounce("inner@elsewhere.example", "5.1.1", "550 5.1.1 user unknown", "<n1@waypost.test>");
    Dialog::greeted(server.mx).deliver("", &[&sender], &text);
    let event = told(&server, 1).remove(0);
    assert_eq!(field(&event, "recipient"), Some("joe@far.example"), "{event}");
    assert_eq!((field(&event, "category"), field(&event, "form")), (Some("bad-mailbox"), Some("dsn")), "{event}");
    assert_eq!(server.wait_for_mail("news", 1).len(), 1, "it is delivered all the same");
    let (_, list) = server.command(&["suppress", "list"]);
    assert!(list.contains("joe@far.example") && list.contains("bad-mailbox"), "{list}");
    let mut dialog = Dialog::greeted(server.mx);
    dialog.say("EHLO client.example", 250);
    dialog.say("MAIL FROM:<news@waypost.test>", 250);
    let refused = dialog.say("RCPT TO:<JOE@far.example>", 550);
    assert!(refused.contains("5.7.1") && refused.contains("suppression list since"), "{refused}");
    dialog.say("RCPT TO:<ann@far.example>", 250);
    let (status, text) = server.command(&["suppress", "remove", "joe@far.example"]);
    assert!(status.success(), "{text}");
    dialog.say("RCPT TO:<joe@far.example>", 250);
}

#[test]
fn only_a_bounce_of_what_was_sent_is_believed() {
    let sink = Sink::start(Manner::Polite);
    let server = site(&sink, &["bounces.remember=1d", "bounces.suppress=[\"hard\", \"complaint\"]"]);
    let reply = Dialog::greeted(server.mx).deliver("news@waypost.test", &["joe@far.example"], NEWS);
    let id = reply.split_whitespace().last().expect("the id").to_string();
    wait_for("the message", Duration::from_secs(20), || sink.received().pop());
    let say = |text: &str| Dialog::greeted(server.mx).deliver("", &["news@waypost.test"], text);
    say(&bounce("eve@far.example", "5.1.1", "550 no such user", "<n1@waypost.test>"));
    say(&bounce("joe@far.example", "5.1.1", "550 no such user", "<other@waypost.test>"));
    say(&bounce("joe@far.example", "5.2.2", "552 mailbox full", "<n1@waypost.test>"));
    say(&bounce("joe@far.example", "5.1.1", "550 no such user", "<n1@waypost.test>"));
    let events = told(&server, 4);
    let of = |event: &serde_json::Value| (event["proven"].as_bool(), event["suppressed"].as_bool());
    let wanted =
        [(Some(false), Some(false)), (Some(false), Some(false)), (Some(true), Some(false)), (Some(true), Some(true))];
    assert_eq!(events.iter().map(of).collect::<Vec<_>>(), wanted, "{events:#?}");
    assert_eq!(field(&events[3], "about"), Some(id.as_str()), "{events:#?}");
    let complaint = format!(
        "From: fbl@far.example\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: x/1\r\nVersion: 1\r\nOriginal-Rcpt-To: <ann@far.example>\r\n\
         --b\r\nContent-Type: message/rfc822\r\n\r\n{}\r\n--b--\r\n",
        NEWS.replace("n1@", "n2@")
    );
    Dialog::greeted(server.mx).deliver("news@waypost.test", &["ann@far.example"], &NEWS.replace("n1@", "n2@"));
    Dialog::greeted(server.mx).deliver("fbl@far.example", &["news@waypost.test"], &complaint);
    let event = told(&server, 5).remove(4);
    assert_eq!((field(&event, "what"), of(&event)), (Some("complaint"), (Some(true), Some(true))), "{event}");
}

#[test]
fn our_own_failures_are_put_into_words_and_suppress() {
    let sink = Sink::start(Manner::Refuse);
    let mut server = site(&sink, &["bounces.suppress=[\"bad-mailbox\"]"]);
    Dialog::greeted(server.mx).deliver("news@waypost.test", &["joe@far.example"], NEWS);
    // The report of it is delivered soon after, which is an attempt too.
    let event = wait_for("the attempt", Duration::from_secs(20), || {
        server.events("attempted").into_iter().find(|event| field(event, "recipient") == Some("joe@far.example"))
    });
    assert_eq!(field(&event, "category"), Some("bad-mailbox"), "{event}");
    let (_, list) = server.command(&["suppress", "list", "--json"]);
    assert!(list.contains("joe@far.example"), "{list}");
    // What is in the queue already is returned, naming the list.
    sink.set_manner(Manner::Defer);
    Dialog::greeted(server.mx).deliver("news@waypost.test", &["ann@far.example"], NEWS);
    wait_for("a deferral", Duration::from_secs(20), || {
        server.events("attempted").into_iter().find(|event| {
            field(event, "recipient") == Some("ann@far.example") && field(event, "outcome") == Some("delayed")
        })
    });
    let (_, shown) = server.command(&["queue", "list", "--json"]);
    let id: serde_json::Value =
        serde_json::from_str(shown.lines().find(|line| line.contains("ann@far.example")).expect("an entry"))
            .expect("JSON");
    let (_, story) = server.command(&["queue", "show", field(&id, "id").expect("an id")]);
    assert!(story.contains("mailbox busy ["), "{story}");
    let (status, text) = server.command(&["suppress", "add", "ann@far.example", "--reason", "asked by telephone"]);
    assert!(status.success(), "{text}");
    server.command(&["queue", "retry", "--all"]);
    let reports = server.wait_for_mail("news", 2);
    assert!(
        reports.iter().any(|report| report.contains("suppression list") && report.contains("asked by telephone")),
        "{reports:#?}"
    );
    // The list outlives the server, and can be changed without it.
    assert!(server.stop().success());
    let (_, list) = server.command(&["suppress", "list"]);
    assert!(list.contains("2 addresses"), "{list}");
}
