//! Where addresses lead: tables of several kinds, lists with owners, forwards that find their way back, canonical addresses.

use std::time::Duration;

use waypost_tests::sink::header;
use waypost_tests::{Dialog, Manner, Sink, Waypost, tool, wait_for};

const BODY: &str = "From: Joe <joe@home.example>\r\nTo: list@waypost.test\r\nSubject: hello\r\n\r\nHello\r\n";

fn refs(sets: &[String]) -> Vec<&str> {
    sets.iter().map(String::as_str).collect()
}

/// A database made by somebody else's program.
fn sqlite(file: &std::path::Path, sql: &str) {
    let script = format!(
        "import sqlite3; c = sqlite3.connect({:?}); c.executescript({sql:?}); c.commit()",
        file.display().to_string()
    );
    tool::succeed("python3", &["-c", &script]);
}

#[test]
fn tables_of_several_kinds_know_who_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let (db, patterns) = (folder.path().join("people.db"), folder.path().join("patterns"));
    sqlite(&db, "CREATE TABLE people (name TEXT, box TEXT); INSERT INTO people VALUES ('carl@waypost.test', 'carl')");
    std::fs::write(&patterns, "/^sales-(.*)@waypost\\.test$/ $1@waypost.test\n").expect("written");
    let sets = [
        "table.people.kind=sqlite".to_string(),
        format!("table.people.file={:?}", db.display().to_string()),
        "table.people.query=SELECT box FROM people WHERE name = ?1".to_string(),
        "users.mailbox-tables=people".to_string(),
        "table.patterns.kind=pcre".to_string(),
        format!("table.patterns.file={:?}", patterns.display().to_string()),
        "table.more.kind=inline".to_string(),
        "table.more.rows={ \"info@waypost.test\" = \"alice, carl\" }".to_string(),
        "aliases.tables=[\"patterns\", \"more\"]".to_string(),
    ];
    let server = Waypost::start(&refs(&sets));
    let mut dialog = Dialog::greeted(server.mx);
    dialog.deliver("joe@home.example", &["Carl@waypost.test", "info@waypost.test", "sales-bob@waypost.test"], BODY);
    server.wait_for_mail("carl", 1);
    server.wait_for_mail("alice", 1);
    server.wait_for_mail("bob", 1);
    dialog.say("MAIL FROM:<joe@home.example>", 250);
    assert!(dialog.say("RCPT TO:<dora@waypost.test>", 550).starts_with("5.1.1"));
    // A database is asked when it is needed: no reload.
    sqlite(&db, "INSERT INTO people VALUES ('dora@waypost.test', 'dora')");
    dialog.say("RCPT TO:<dora@waypost.test>", 250);
    // A file that is broken when the server reloads changes nothing.
    std::fs::write(&patterns, "/^(?!x)y/ z\n").expect("written");
    server.signal("HUP");
    wait_for("the word about it", Duration::from_secs(10), || {
        server.log().contains("not reloaded, everything stays as it was").then_some(())
    });
    assert!(server.log().contains("look-around"), "{}", server.log());
    dialog.say("RCPT TO:<sales-alice@waypost.test>", 250);
}

#[test]
fn a_table_that_does_not_answer_makes_mail_wait() {
    let server = Waypost::start(&[
        "table.far.kind=redis",
        "table.far.server=127.0.0.1:1",
        "table.far.timeout=1s",
        "users.mailbox-tables=far",
    ]);
    let mut dialog = Dialog::greeted(server.mx);
    dialog.say("MAIL FROM:<joe@home.example>", 250);
    assert!(dialog.say("RCPT TO:<carl@waypost.test>", 451).starts_with("4.3.0"));
    dialog.say("RCPT TO:<alice@waypost.test>", 250);
}

#[test]
fn what_is_sent_on_leaves_with_a_sender_that_leads_back() {
    let sink = Sink::start(Manner::Polite);
    let hop = format!("smtp:[127.0.0.1]:{}", sink.port);
    let sets = [
        "srs.enabled=true".to_string(),
        "aliases.names.forward=x@else.example".to_string(),
        "aliases.names.list=[\"alice\", \"y@else.example\"]".to_string(),
        "aliases.names.owner-list=bob".to_string(),
        format!("transport.\"else.example\"={hop}"),
        format!("transport.\"home.example\"={hop}"),
    ];
    let server = Waypost::start(&refs(&sets));
    let mut dialog = Dialog::greeted(server.mx);
    dialog.deliver("joe@home.example", &["forward@waypost.test", "list@waypost.test"], BODY);
    let received =
        wait_for("both copies", Duration::from_secs(20), || Some(sink.received()).filter(|all| all.len() == 2));
    let to = |rcpt: &str| received.iter().find(|one| one.rcpt.iter().any(|to| to.contains(rcpt))).expect(rcpt);
    let forwarded = to("x@else.example");
    assert!(forwarded.mail.starts_with("<SRS0=") && forwarded.mail.contains("@waypost.test>"), "{}", forwarded.mail);
    assert_eq!(forwarded.header("Delivered-To").as_deref(), Some("forward@waypost.test"));
    assert!(to("y@else.example").mail.starts_with("<owner-list@waypost.test>"), "{}", to("y@else.example").mail);
    assert_eq!(
        header(&server.wait_for_mail("alice", 1)[0], "Return-Path").as_deref(),
        Some("<owner-list@waypost.test>")
    );
    // The bounce.
    let srs = forwarded.mail.split(['<', '>']).nth(1).expect("a path").to_string();
    dialog.deliver("", &[&srs], "Subject: failed\r\n\r\nIt did\r\n");
    let back = wait_for("the bounce", Duration::from_secs(20), || {
        sink.received().into_iter().find(|one| one.rcpt.iter().any(|to| to.contains("joe@home.example")))
    });
    assert!(back.mail.starts_with("<>"), "{}", back.mail);
    dialog.say("MAIL FROM:<>", 250);
    let forged = srs.replace("joe", "eve");
    assert!(dialog.say(&format!("RCPT TO:<{forged}>"), 550).starts_with("5.1.1"));
    // And it is not sent on for ever.
    let mut dialog = Dialog::greeted(server.mx);
    dialog.say("MAIL FROM:<joe@home.example>", 250);
    dialog.say("RCPT TO:<forward@waypost.test>", 250);
    dialog.say("DATA", 354);
    dialog.send(format!("Delivered-To: forward@waypost.test\r\n{BODY}").as_bytes());
    assert!(dialog.say(".", 554).contains("5.4.6"));
}

#[test]
fn a_report_finds_whoever_stands_behind_an_alias_and_addresses_are_written_as_told() {
    let server = Waypost::start(&[
        "relay.networks=127.0.0.0/8",
        "aliases.names.team=alice",
        "transport.\"gone.example\"=fail:5.1.2 no such place",
        "table.written.kind=inline",
        "table.written.rows={ \"al@waypost.test\" = \"team\" }",
        "canonical.both=written",
        "canonical.headers=true",
    ]);
    let mut dialog = Dialog::greeted(server.mx);
    dialog.deliver(
        "al@waypost.test",
        &["x@gone.example", "bob@waypost.test"],
        "From: Al <al@waypost.test>\r\nTo: x@gone.example\r\n\r\nx\r\n",
    );
    let report = server.wait_for_mail("alice", 1).remove(0);
    assert!(report.contains("5.1.2") && report.contains("x@gone.example"), "{report}");
    let mail = server.wait_for_mail("bob", 1).remove(0);
    assert_eq!(header(&mail, "From").as_deref(), Some("Al <team@waypost.test>"), "{mail}");
    assert_eq!(header(&mail, "Return-Path").as_deref(), Some("<team@waypost.test>"));
}

#[test]
fn a_users_forward_file_says_where_the_mail_goes() {
    let sink = Sink::start(Manner::Polite);
    let hop = format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port);
    let server = Waypost::start(&[
        "users.forward=\"{mailbox}/.forward\"",
        "users.mailboxes=[\"alice\", \"bob\", \"carl\"]",
        &hop,
    ]);
    let home = server.data().join("mail/bob");
    std::fs::create_dir_all(&home).expect("made");
    let forward = home.join(".forward");
    std::fs::write(&forward, "# away until May\n\\bob, bob@far.example\ncarl\n").expect("written");
    tool::succeed("chmod", &["644", &forward.display().to_string()]);
    let mut dialog = Dialog::greeted(server.mx);
    dialog.deliver("joe@home.example", &["Bob+spring@waypost.test"], BODY);
    server.wait_for_mail("bob", 1);
    server.wait_for_mail("carl", 1);
    let there = wait_for("the forwarded one", Duration::from_secs(20), || sink.received().pop());
    assert_eq!(there.rcpt, ["<bob@far.example> ORCPT=rfc822;Bob+2Bspring@waypost.test"]);
    // What others could have written is not believed, and nobody's mail is lost over it.
    tool::succeed("chmod", &["666", &forward.display().to_string()]);
    dialog.say("MAIL FROM:<joe@home.example>", 250);
    dialog.say("RCPT TO:<bob@waypost.test>", 451);
    dialog.say("RCPT TO:<carl@waypost.test>", 250);
    dialog.say("RSET", 250);
    std::fs::write(&forward, "\"|/usr/bin/vacation bob\"\n").expect("written");
    tool::succeed("chmod", &["600", &forward.display().to_string()]);
    dialog.say("MAIL FROM:<joe@home.example>", 250);
    dialog.say("RCPT TO:<bob@waypost.test>", 451);
    std::fs::remove_file(&forward).expect("removed");
    dialog.say("RCPT TO:<bob@waypost.test>", 250);
    dialog.say("RSET", 250);
    wait_for("both reasons", Duration::from_secs(10), || {
        let log = server.log();
        (log.contains("chmod go-w") && log.contains("cannot start a program")).then_some(())
    });
}
