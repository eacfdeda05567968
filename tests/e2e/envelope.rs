//! What MAIL and RCPT say is kept for each recipient, through the queue, to the next hop or the report.

use std::time::Duration;

use waypost_tests::{Manner, Sink, Waypost, Wire};

use crate::doors::{expect, say};

/// Alice, logged in on the port inside TLS.
fn alice(server: &Waypost) -> Wire {
    use base64::Engine;
    let mut wire = Wire::connect(server.submissions);
    wire.start_tls().unwrap_or_else(|error| panic!("{error}"));
    expect(&mut wire, 220);
    say(&mut wire, "EHLO client.example", 250);
    let login = format!("\0alice@waypost.test\0{}", server.password());
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    say(&mut wire, &format!("AUTH PLAIN {login}"), 235);
    wire
}

fn send(wire: &mut Wire, mail: &str, recipients: &[&str]) {
    say(wire, &format!("MAIL FROM:<alice@waypost.test> {mail}"), 250);
    for recipient in recipients {
        say(wire, &format!("RCPT TO:{recipient}"), 250);
    }
    say(wire, "DATA", 354);
    say(wire, "Subject: original\r\nX-Mark: in the header\r\n\r\nonly in the body\r\n.", 250);
}

#[test]
fn a_report_tells_of_each_recipient_what_its_sender_asked_for() {
    let server = Waypost::start(&["transport.\"elsewhere.example\"=\"fail:nobody lives here\""]);
    let mut wire = alice(&server);
    send(
        &mut wire,
        "RET=HDRS ENVID=QQ+2B314",
        &[
            "<one@elsewhere.example> ORCPT=rfc822;First+2Btag@origin.example",
            "<two@elsewhere.example> NOTIFY=NEVER",
            "<three@elsewhere.example> NOTIFY=SUCCESS",
            "<four@elsewhere.example> NOTIFY=FAILURE ORCPT=utf-8;j\\x{FC}rgen@origin.example",
            "<bob@waypost.test> NOTIFY=SUCCESS ORCPT=rfc822;robert@origin.example",
        ],
    );
    let end = std::time::Instant::now() + Duration::from_secs(30);
    let wanted = ["one@elsewhere", "four@elsewhere", "bob@waypost"];
    let reports = loop {
        let all = server.mailbox("alice").join("\n");
        if wanted.iter().all(|who| all.contains(&format!("Final-Recipient: rfc822; {who}"))) {
            break all;
        }
        assert!(std::time::Instant::now() < end, "{all}\n{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    };
    for part in [
        "Original-Envelope-Id: QQ+314",
        "Original-Recipient: rfc822; First+tag@origin.example",
        "Original-Recipient: utf-8; j\\x{FC}rgen@origin.example",
        "Original-Recipient: rfc822; robert@origin.example",
        "Action: failed",
        "Action: delivered",
        "X-Mark: in the header",
    ] {
        assert!(reports.contains(part), "no {part} in\n{reports}");
    }
    assert!(!reports.contains("only in the body"), "RET=HDRS\n{reports}");
    for silent in ["two@elsewhere.example", "three@elsewhere.example"] {
        assert!(!reports.contains(&format!("Final-Recipient: rfc822; {silent}")), "{reports}");
    }
}

#[test]
fn a_demand_for_tls_is_never_dropped() {
    let sink = Sink::start(Manner::Polite);
    let server = Waypost::start(&[&format!("transport.\"elsewhere.example\"=\"smtp:[127.0.0.1]:{}\"", sink.port)]);
    let mut wire = alice(&server);
    send(&mut wire, "REQUIRETLS", &["<user@elsewhere.example>"]);
    send(&mut wire, "", &["<other@elsewhere.example>"]);
    let got = waypost_tests::wait_for("the other message", Duration::from_secs(30), || {
        sink.received().into_iter().find(|message| message.rcpt == ["<other@elsewhere.example>"])
    });
    assert!(!got.mail.contains("REQUIRETLS"));
    // The next hop has no TLS: what demanded it waits or comes back, and does not arrive.
    std::thread::sleep(Duration::from_secs(2));
    assert!(sink.received().iter().all(|message| message.rcpt != ["<user@elsewhere.example>"]));
}

#[test]
fn what_is_passed_on_ends_its_lines_properly_whatever_came_in() {
    let sink = Sink::start(Manner::Polite);
    let server = Waypost::start(&[&format!("transport.\"elsewhere.example\"=\"smtp:[127.0.0.1]:{}\"", sink.port)]);
    let tricks = [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r\n.\r\r\n",
        "\r.\r\n",
        "\r.\r",
        "\r\n.\r",
        "\r\n\0.\r\n",
        "\n..\n",
        "\r",
        "\n",
        "\r\r\n",
        "\r\n..\r\n",
        "\n\r",
    ];
    let mut wire = alice(&server);
    for (number, trick) in tricks.iter().enumerate() {
        for bdat in [false, true] {
            let text = format!("Subject: trick {number} {bdat}\r\n\r\nbefore{trick}QUIT{trick}after\r\n");
            say(&mut wire, "MAIL FROM:<alice@waypost.test>", 250);
            say(&mut wire, "RCPT TO:<user@elsewhere.example>", 250);
            if bdat {
                wire.send(format!("BDAT {} LAST\r\n{text}", text.len()).as_bytes());
                expect(&mut wire, 250);
            } else {
                say(&mut wire, "DATA", 354);
                wire.send(text.as_bytes());
                say(&mut wire, ".", 250);
            }
        }
    }
    let received = waypost_tests::wait_for("all of them", Duration::from_secs(60), || {
        Some(sink.received()).filter(|received| received.len() >= 2 * tricks.len())
    });
    assert_eq!(received.len(), 2 * tricks.len(), "one message is one message");
    for message in received {
        let bytes = message.message.as_bytes();
        let lone = |at: usize| match bytes[at] {
            b'\n' => at == 0 || bytes[at - 1] != b'\r',
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        assert!(!(0..bytes.len()).any(lone), "{}", message.message.escape_debug());
        assert!(message.message.contains("before") && message.message.contains("after"), "{}", message.message);
    }
}
