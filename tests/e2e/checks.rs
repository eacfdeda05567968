//! The built-in checks and access tables on a real port, against a name server with good and bad names; and `waypost explain`, which must say
//! what the port says.

use serde_json::Value;
use waypost_tests::zone::{Faults, Record, Zone};
use waypost_tests::{Dialog, Waypost, free_port, wait_for};

const BODY: &str = "From: a@good.example\r\nSubject: x\r\n\r\nHello\r\n";

fn zone() -> Zone {
    Zone::start(
        &[
            ("good.example", Record::Mx(10, "mx.good.example".into())),
            ("host.example", Record::A([192, 0, 2, 1].into())),
            ("null.example", Record::Mx(0, ".".into())),
            ("broken.example", Record::Failing),
        ],
        Faults::default(),
    )
}

/// One dialog's replies to EHLO, MAIL and RCPT, as `explain` gives them.
fn said(port: u16, helo: &str, mail: &str, rcpt: &[&str]) -> Vec<String> {
    let mut dialog = Dialog::connect(port);
    let mut replies = Vec::new();
    let mut take = |dialog: &mut Dialog| {
        let (code, text) = dialog.reply()?;
        replies.push(format!("{code} {}", text.lines().next().unwrap_or("")));
        Some(())
    };
    let rcpt = rcpt.iter().map(|to| format!("RCPT TO:<{to}>"));
    if take(&mut dialog).is_some() {
        for line in [format!("EHLO {helo}"), format!("MAIL FROM:<{mail}>")].into_iter().chain(rcpt) {
            dialog.send(format!("{line}\r\n").as_bytes());
            if take(&mut dialog).is_none() {
                break;
            }
        }
    }
    replies
}

fn explained(server: &Waypost, port: &str, helo: &str, mail: &str, rcpt: &[&str]) -> Value {
    let mut arguments =
        vec!["explain", "--json", "--client", "127.0.0.1", "--port", port, "--helo", helo, "--mail", mail];
    rcpt.iter().for_each(|to| arguments.extend(["--rcpt", to]));
    let (status, text) = server.command(&arguments);
    assert!(status.success(), "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn senders_are_checked_as_dns_has_them() {
    let zone = zone();
    let server =
        Waypost::start_in(None, Some(zone.port), &["checks.sender-domain=reject", "checks.sender-null-mx=reject"]);
    let mut dialog = Dialog::greeted(server.mx);
    for (sender, code, status) in [
        ("a@good.example", 250, "2."),
        ("a@host.example", 250, "2."),
        ("a@waypost.test", 250, "2."),
        ("", 250, "2."),
        ("a@null.example", 550, "5.7.27"),
        ("a@gone.example", 550, "5.1.8"),
        ("a@broken.example", 450, "4.1.8"),
    ] {
        let text = dialog.say(&format!("MAIL FROM:<{sender}>"), code);
        assert!(text.starts_with(status), "{sender}: {text}");
        dialog.say("RSET", 250);
    }
    wait_for("the log's word about the check", std::time::Duration::from_secs(10), || {
        server.events("rejected").iter().any(|event| event.to_string().contains("sender-null-mx")).then_some(())
    });
}

#[test]
fn every_port_has_its_own_checks_and_explain_says_what_the_port_says() {
    let (zone, other) = (zone(), free_port());
    let bind = format!("listener.other.bind=127.0.0.1:{other}");
    let server = Waypost::start_in(
        None,
        Some(zone.port),
        &[
            "checks.sender-domain=reject",
            "checks.sender-null-mx=reject",
            "listener.other.preset=mx",
            &bind,
            "listener.other.checks.helo-fqdn=554 5.7.0 tell me your whole name",
            "listener.other.checks.helo-resolvable=reject",
            "listener.other.checks.client-confirmed=defer",
            "listener.other.checks.sender-domain=warn",
            "listener.other.checks.relay=551 5.7.1 go elsewhere",
            "aliases.names.team=[\"alice\", \"bob\"]",
            "table.people.kind=inline",
            "table.people.rows={ \"bad@good.example\" = \"REJECT 5.7.9 not you\", \"<>\" = \"DEFER\", \"team@waypost.test\" = \"OK\" }",
            "checks.sender-access=people",
            "checks.recipient-access=people",
        ],
    );
    let everybody = ["team@waypost.test", "nobody@waypost.test", "x@else.example", "postmaster"];
    let visits = [
        ("mx.good.example", "a@good.example"),
        ("good.example", "a@good.example"),
        ("host.example", "bad@good.example"),
        ("single", "a@gone.example"),
        ("bad name", "a@good.example"),
        ("[192.0.2.1]", "a@null.example"),
        ("host.example", "a@broken.example"),
        ("broken.example", ""),
        ("host.example", "a@gone.example"),
    ];
    for (name, port) in [("mx", server.mx), ("other", other)] {
        for (helo, mail) in visits {
            let real = said(port, helo, mail, &everybody);
            let told = explained(&server, name, helo, mail, &everybody);
            let steps = told["steps"].as_array().expect("steps");
            let replies: Vec<&str> = steps.iter().map(|step| step["reply"].as_str().expect("a reply")).collect();
            assert_eq!(replies, real, "{name} {helo} {mail}\n{told:#}");
        }
    }
    // Each of them was told apart.
    assert!(said(other, "single", "", &[])[1].starts_with("554 5.7.0 tell me"), "helo-fqdn");
    assert!(said(server.mx, "single", "bad@good.example", &[])[2].starts_with("554 5.7.9 not you"), "sender-access");
    let nameless = server
        .command(&[
            "explain",
            "--client",
            "192.0.2.9",
            "--port",
            "other",
            "--helo",
            "host.example",
            "--mail",
            "a@good.example",
        ])
        .1;
    assert!(nameless.contains("= 450 4.7.25"), "{nameless}");
    let (_, text) = server.command(&[
        "explain",
        "--client",
        "192.0.2.9",
        "--name",
        "mx.good.example",
        "--mail",
        "a@good.example",
        "--rcpt",
        "team@waypost.test",
    ]);
    for part in [
        "listener mx (mx), client 192.0.2.9",
        "sender-domain      pass",
        "recipient-access   ok",
        "team@waypost.test is an alias for alice@waypost.test",
        "-> alice@waypost.test (own), sender <a@good.example>: mailbox alice",
        "whitelist",
        "not known here, and taken for nothing",
        "sessions: how many there are",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    // Our own name from outside: who is outside cannot be had on loopback, but can be explained.
    let told = |helo: &str| server.command(&["explain", "--client", "192.0.2.9", "--helo", helo]).1;
    assert!(told("waypost.test").contains("helo-own           refuse    550 5.7.1"), "{}", told("waypost.test"));
    assert!(told("[127.0.0.1]").contains("helo-own           refuse"), "{}", told("[127.0.0.1]"));
    let (_, text) = server.command(&[
        "explain",
        "--client",
        "192.0.2.9",
        "--login",
        "alice",
        "--mail",
        "alice@waypost.test",
        "--rcpt",
        "x@else.example",
    ]);
    assert!(text.contains("listener submission") && text.contains("the mail hosts of else.example (MX)"), "{text}");
}

#[test]
fn access_rows_hold_drop_mark_and_send_elsewhere() {
    let server = Waypost::start(&[
        "table.rows.kind=inline",
        "table.rows.rows={ \"hold@good.example\" = \"HOLD look at it\", \"drop@good.example\" = \"DISCARD\", \"mark@good.example\" = \"PREPEND X-Marked: yes\", \"else@good.example\" = \"REDIRECT bob@waypost.test\", \"odd@good.example\" = \"MAYBE\" }",
        "table.clients.kind=inline",
        "table.clients.rows={ \"127.0.0.0/8\" = \"PREPEND X-Client: local\" }",
        "checks.sender-access=rows",
        "checks.client-access=clients",
    ]);
    let mut dialog = Dialog::greeted(server.mx);
    for sender in ["hold", "drop", "mark", "else"] {
        dialog.deliver(&format!("{sender}@good.example"), &["alice@waypost.test"], BODY);
    }
    assert!(dialog.say("MAIL FROM:<odd@good.example>", 451).starts_with("4.3.5"));
    let marked = server.wait_for_mail("alice", 1).remove(0);
    assert!(marked.contains("X-Marked: yes") && marked.contains("X-Client: local"), "{marked}");
    server.wait_for_mail("bob", 1);
    wait_for("the held one", std::time::Duration::from_secs(10), || {
        server.command(&["queue", "list"]).1.contains("hold@good.example").then_some(())
    });
    assert_eq!(server.mailbox("alice").len(), 1, "one was dropped, one is held, one went to bob");
}
