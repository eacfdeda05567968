//! Mail in a domain's name that the domain does not stand behind: told, refused, marked or held, as the operator and the domain say.

use tempfile::TempDir;
use waypost_tests::zone::{Faults, Record, Zone};
use waypost_tests::{Dialog, Waypost};

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
    let mut dialog = Dialog::connect(server.mx);
    dialog.expect(220);
    dialog.say("EHLO client.example", 250);
    dialog.say(&format!("MAIL FROM:<{sender}>"), 250);
    dialog.say("RCPT TO:<alice@waypost.test>", 250);
    dialog.say("DATA", 354);
    let head = format!(
        "From: {author}\r\nX-Waypost-Quarantine: forged\r\nAuthentication-Results: (x) MX.waypost.test; dmarc=pass"
    );
    dialog.say(&format!("{head}\r\nSubject: {author}\r\n\r\nhello\r\n."), reply)
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
