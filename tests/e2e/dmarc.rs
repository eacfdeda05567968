//! Mail in a domain's name that the domain does not stand behind: told, refused, marked or held, as the operator and the domain say.

use serde_json::Value;
use tempfile::TempDir;
use waypost_tests::zone::{Faults, Record, Zone};
use waypost_tests::{Dialog, Waypost};

const ARC_SUITE: &str = include_str!("../../core/mailauth/src/arc/suite.json");

fn zone() -> Zone {
    let text = |text: &str| Record::Txt(text.to_string());
    let records = [
        ("_dmarc.strict.example", text("v=DMARC1; p=reject; np=reject; sp=quarantine")),
        ("strict.example", text("v=spf1 -all")),
        ("sub.strict.example", Record::A([192, 0, 2, 1].into())),
        ("honest.example", text("v=spf1 ip4:127.0.0.1 -all")),
        ("_dmarc.honest.example", text("v=DMARC1; p=reject")),
    ];
    Zone::start(&records, Faults::default())
}

fn send(server: &Waypost, sender: &str, author: &str, reply: u16) -> String {
    let head = format!(
        "From: {author}\r\nX-Waypost-Quarantine: forged\r\nAuthentication-Results: (x) MX.waypost.test; dmarc=pass"
    );
    transmit(server, sender, &format!("{head}\r\nSubject: {author}\r\n\r\nhello\r\n"), reply)
}

/// A message without leading dots, and what is said to it.
fn transmit(server: &Waypost, sender: &str, message: &str, reply: u16) -> String {
    let mut dialog = Dialog::connect(server.mx);
    dialog.expect(220);
    dialog.say("EHLO client.example", 250);
    dialog.say(&format!("MAIL FROM:<{sender}>"), 250);
    dialog.say("RCPT TO:<alice@waypost.test>", 250);
    dialog.say("DATA", 354);
    dialog.say(&format!("{message}."), reply)
}

fn server(folder: &TempDir, zone: &Zone, sets: &[&str]) -> Waypost {
    Waypost::start_in(Some(folder.path()), Some(zone.port), sets)
}

#[test]
fn a_report_refuses_nothing() {
    let (folder, zone) = (TempDir::new().expect("a folder"), zone());
    let server = server(&folder, &zone, &[]);
    send(&server, "a@honest.example", "boss@strict.example", 250);
    let mail = server.wait_for_mail("alice", 1).remove(0);
    assert!(mail.contains("dmarc=fail (p=reject) header.from=strict.example"), "{mail}");
    assert!(mail.contains("iprev=fail") && mail.contains("spf=pass") && mail.contains("arc=none"), "{mail}");
    assert_eq!(mail.matches("Quarantine").count(), 0, "a forged mark is removed: {mail}");
}

#[test]
fn what_a_domain_demands_is_carried_out() {
    let (folder, zone) = (TempDir::new().expect("a folder"), zone());
    let server = server(&folder, &zone, &["dmarc.policy=enforce"]);
    let refused = send(&server, "a@honest.example", "boss@strict.example", 550);
    assert!(
        refused.contains("5.7.1") && refused.contains("strict.example") && refused.contains("p=reject"),
        "{refused}"
    );
    send(&server, "a@honest.example", "boss@made-up.strict.example", 550);
    send(&server, "a@honest.example", "boss@honest.example", 250);
    send(&server, "a@honest.example", "boss@sub.strict.example", 250);
    let mail = server.wait_for_mail("alice", 2);
    let marked: Vec<_> = mail.iter().filter(|mail| mail.contains("X-Waypost-Quarantine: ")).collect();
    assert_eq!(marked.len(), 1, "{mail:?}");
    assert!(
        marked[0].contains("X-Waypost-Quarantine: DMARC policy of sub.strict.example: p=quarantine"),
        "{}",
        marked[0]
    );
}

#[test]
fn a_sealer_that_is_trusted_vouches_for_mail_that_a_list_has_changed() {
    // A message of the public ARC suite, sealed by example.org, which saw DMARC pass; here it comes from a host that no SPF record knows.
    let suite: Value = serde_json::from_str(ARC_SUITE).expect("JSON");
    let message = suite[0]["tests"]["cv_pass_i1_1"]["message"].as_str().expect("a message").replace('\n', "\r\n");
    let key = &suite[0]["txt-records"]["dummy._domainkey.example.org"];
    let key = Record::Txt(key.as_str().expect("a key").to_string());
    let policy = Record::Txt("v=DMARC1; p=reject".into());
    let zone =
        Zone::start(&[("dummy._domainkey.example.org", key), ("_dmarc.d1.example.org", policy)], Faults::default());
    for (sets, changed, code) in [
        (&["dmarc.policy=enforce"][..], false, 550),
        (&["dmarc.policy=enforce", "dmarc.trusted-sealers=[\"other.example\"]"], false, 550),
        (&["dmarc.policy=enforce", "dmarc.trusted-sealers=[\"example.org\"]"], false, 250),
        // Changed behind the seal: the chain does not hold, and nobody vouches.
        (&["dmarc.policy=enforce", "dmarc.trusted-sealers=[\"example.org\"]"], true, 550),
    ] {
        let folder = TempDir::new().expect("a folder");
        let server = server(&folder, &zone, sets);
        let text = if changed { message.replace("Hey gang", "Hey bang") } else { message.clone() };
        let reply = transmit(&server, "list@lists.example", &text, code);
        if code == 250 {
            let mail = server.wait_for_mail("alice", 1).remove(0);
            assert!(mail.contains("arc=pass") && mail.contains("dmarc=fail"), "{mail}");
        } else {
            assert!(reply.contains("5.7.1") && reply.contains("d1.example.org"), "{reply}");
        }
    }
}

#[test]
fn suspected_mail_can_be_held() {
    let (folder, zone) = (TempDir::new().expect("a folder"), zone());
    let server = server(&folder, &zone, &["dmarc.policy=enforce", "dmarc.quarantine=hold"]);
    send(&server, "a@honest.example", "boss@sub.strict.example", 250);
    send(&server, "a@honest.example", "boss@honest.example", 250);
    let mail = server.wait_for_mail("alice", 1);
    assert!(mail[0].contains("boss@honest.example"), "{mail:?}");
    let (status, text) = server.command(&["queue", "list"]);
    assert!(status.success() && text.contains("held"), "{text}");
}
