//! What each template promises, on the wire and in the mailbox.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use waypost_tests::zone::{Faults, Record, Zone};
use waypost_tests::{Dialog, Waypost, tool};

use crate::toolchain::{ASSEMBLYSCRIPT, Built, C, GO, JAVASCRIPT, PYTHON, ZIG, rust};

const BODY: &str = "From: Joe <joe@client.example>\r\nTo: alice@waypost.test\r\nSubject: Hello\r\n\r\nHi.\r\n";

/// A site whose clients on loopback are strangers, with this plugin alone. What takes long to compile is compiled before it listens.
fn site(built: &Built, name: &str, names: Option<u16>, section: &str) -> (TempDir, Waypost) {
    let chain = format!("plugins.chain=[\"{name}\"]");
    let plugin = format!("plugin.{name}={{path=\"{}\",{section}}}", built.component.display());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sets = ["relay.networks=[]", &chain, &plugin];
    precompile(&folder.path().join("data/plugin-cache"), &built.component);
    let server = Waypost::start_in(Some(folder.path()), names, &sets);
    (folder, server)
}

/// Compiles it into the server's cache: Python takes half a minute, on a busy machine more than a start may.
fn precompile(cache: &Path, component: &Path) {
    let program = waypost_tests::waypost::binary().to_string_lossy().into_owned();
    tool::succeed(&program, &["precompile", &cache.to_string_lossy(), &component.to_string_lossy()]);
}

fn mail(dialog: &mut Dialog, sender: &str, code: u16) -> String {
    let text = dialog.say(&format!("MAIL FROM:<{sender}>"), code);
    dialog.say("RSET", 250);
    text
}

/// One message to the end; gives the text of the last reply.
fn send(dialog: &mut Dialog, message: &str, code: u16) -> String {
    dialog.say("MAIL FROM:<joe@client.example>", 250);
    dialog.say("RCPT TO:<alice@waypost.test>", 250);
    dialog.say("DATA", 354);
    dialog.send(message.as_bytes());
    dialog.say(".", code)
}

#[test]
fn go_puts_off_a_sender_that_nobody_knows_and_knows_it_when_it_comes_back() {
    let Some(built) = GO.build() else { return };
    let section = "grants=[\"kv\"],isolation=\"pooled\",config={wait-seconds=1}";
    let (_folder, server) = site(&built, "greylist", None, section);
    let mut dialog = Dialog::greeted(server.mx);
    dialog.say("MAIL FROM:<joe@client.example>", 250);
    let text = dialog.say("RCPT TO:<alice@waypost.test>", 450);
    assert!(text.starts_with("4.7.1 New here: please try again in 1 second"), "{text}");
    dialog.say("RSET", 250);
    // The clock of the world: nothing else makes a triplet older.
    std::thread::sleep(Duration::from_millis(2100));
    dialog.deliver("joe@client.example", &["alice@waypost.test"], BODY);
    assert!(server.wait_for_mail("alice", 1)[0].contains("Subject: Hello"));
    dialog.deliver("joe@client.example", &["alice@waypost.test"], BODY);
    dialog.say("MAIL FROM:<joe@client.example>", 250);
    dialog.say("RCPT TO:<bob@waypost.test>", 450);
}

#[test]
fn go_tells_of_a_mistaken_setting() {
    let Some(built) = GO.build() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plugin =
        format!("plugin.greylist={{path=\"{}\",grants=[\"kv\"],config={{wait-secnds=1}}}}", built.component.display());
    let server = Waypost::stopped_in(folder.path(), &["plugins.chain=[\"greylist\"]", &plugin]);
    let (status, text) = server.command(&["run"]);
    assert!(!status.success() && text.contains("unknown field \"wait-secnds\""), "{text}");
}

#[test]
fn javascript_marks_mail_that_shows_the_name_of_our_own() {
    let Some(built) = JAVASCRIPT.build() else { return };
    let section =
        "memory=\"64 MiB\",isolation=\"pooled\",config={people=[\"Ada Lovelace\"],domains=[\"waypost.test\"]}";
    let (_folder, server) = site(&built, "impostor", None, section);
    let mut dialog = Dialog::greeted(server.mx);
    send(&mut dialog, &BODY.replace("Joe", "\"ADA  Lovelace\""), 250);
    send(&mut dialog, BODY, 250);
    let mail = server.wait_for_mail("alice", 2);
    let marked = mail.iter().find(|m| m.contains("ADA")).expect("delivered");
    assert!(
        marked.contains("\r\nSubject: [Not from us] Hello\r\n") || marked.contains("\nSubject: [Not from us] Hello\n"),
        "{marked}"
    );
    assert!(marked.contains("X-Impostor: Ada Lovelace does not write from client.example"), "{marked}");
    assert!(!marked.contains("\nSubject: Hello"), "{marked}");
    let plain = mail.iter().find(|m| m.contains("From: Joe")).expect("delivered");
    assert!(plain.contains("\nSubject: Hello") && !plain.contains("X-Impostor"), "{plain}");
}

#[test]
fn python_refuses_a_script_inside_a_zip() {
    let Some(built) = PYTHON.build() else { return };
    let section = "memory=\"128 MiB\",isolation=\"pooled\",cpu=\"200ms\"";
    let (_folder, server) = site(&built, "attachment-types", None, section);
    let mut dialog = Dialog::greeted(server.mx);
    let with = |name: &str, data: &str| {
        format!(
            "From: joe@client.example\r\nSubject: invoice\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n\
             Content-Disposition: attachment; filename=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{data}\r\n"
        )
    };
    let text = send(&mut dialog, &with("invoice.pdf.exe", "TVqQAAMAAAA="), 550);
    assert_eq!(text, "5.7.1 Attachments of the type .exe are not accepted here");
    let text = send(&mut dialog, &with("invoice.zip", ZIP), 550);
    assert_eq!(text, "5.7.1 Attachments of the type .js are not accepted here");
    send(&mut dialog, &with("invoice.pdf", "JVBERi0xLjQ="), 250);
    send(&mut dialog, &with("no-archive.zip", "JVBERi0xLjQ="), 250);
    server.wait_for_mail("alice", 2);
}

/// An archive with the one file `invoice/invoice.js`.
const ZIP: &str = "UEsDBBQAAAAAAAAAIQCfFO+eDwAAAA8AAAASAAAAaW52b2ljZS9pbnZvaWNlLmpzV1NjcmlwdC5FY2hvKDEpUEsBAhQDFAAAAAAAAAAhAJ8U754PAAAADwAAABIAAAAAAAAAAAAAAIABAAAAAGludm9pY2UvaW52b2ljZS5qc1BLBQYAAAAAAQABAEAAAAA/AAAAAAA=";

#[test]
fn assemblyscript_refuses_senders_whose_domain_cannot_get_an_answer() {
    let Some(built) = ASSEMBLYSCRIPT.build() else { return };
    let zone = Zone::start(
        &[
            ("good.example", Record::Mx(10, "mx.good.example".into())),
            ("address.example", Record::A([192, 0, 2, 1].into())),
            ("null.example", Record::Mx(0, ".".into())),
            ("nothing.example", Record::Txt("v=spf1 -all".into())),
            ("broken.example", Record::Failing),
        ],
        Faults::default(),
    );
    let (_folder, server) = site(&built, "sender-domain", Some(zone.port), "grants=[\"dns\"]");
    let mut dialog = Dialog::greeted(server.mx);
    for sender in ["joe@good.example", "joe@address.example", "", "joe@[192.0.2.1]"] {
        mail(&mut dialog, sender, 250);
    }
    assert_eq!(mail(&mut dialog, "joe@absent.example", 550), "5.1.8 The sender's domain absent.example does not exist");
    let text = mail(&mut dialog, "joe@nothing.example", 550);
    assert_eq!(text, "5.1.8 The sender's domain nothing.example has neither a mail host nor an address");
    let text = mail(&mut dialog, "joe@null.example", 550);
    assert_eq!(text, "5.7.27 The sender's domain null.example says that it takes no mail");
    assert!(mail(&mut dialog, "joe@broken.example", 451).starts_with("4.4.3 DNS does not answer"));
}

#[test]
fn c_tells_where_somebody_is_now() {
    let Some(built) = C.build() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plugin = format!("plugin.relocated={{path=\"{}\",tables=[\"relocated\"]}}", built.component.display());
    let table = "table.relocated={kind=\"inline\",rows={\"ann@waypost.test\"=\"ann@elsewhere.example\",\"bob@waypost.test\"=\"\"}}";
    let sets = ["relay.networks=[]", "plugins.chain=[\"relocated\"]", &plugin, table];
    let server = Waypost::start_in(Some(folder.path()), None, &sets);
    let mut dialog = Dialog::greeted(server.mx);
    dialog.say("MAIL FROM:<joe@client.example>", 250);
    let text = dialog.say("RCPT TO:<Bob@waypost.test>", 550);
    assert_eq!(text, "5.1.6 <Bob@waypost.test> has left without a new address");
    dialog.say("RCPT TO:<alice@waypost.test>", 250);
    dialog.say("DATA", 354);
    dialog.send(BODY.as_bytes());
    dialog.say(".", 250);
    server.wait_for_mail("alice", 1);
}

#[test]
fn zig_holds_what_a_user_sends_with_a_card_number_in_it() {
    let Some(built) = ZIG.build() else { return };
    let (_folder, server) = site(&built, "card-numbers", None, "config={refuse=false}");
    let send = |body: &str| {
        let (address, password) = (format!("127.0.0.1:{}", server.submission), server.password());
        let mut arguments = vec!["--server", &address, "--tls", "--auth", "PLAIN", "--auth-user", "alice@waypost.test"];
        arguments.extend(["--auth-password", &password, "--from", "alice@waypost.test", "--to", "bob@waypost.test"]);
        arguments.extend(["--body", body]);
        tool::succeed("swaks", &arguments)
    };
    // Longer than a piece, so that the number is behind the first.
    send(&format!("{}\nUse 4111 1111 1111 1111 please.", "Nothing to see here.\n".repeat(3000)));
    send("Order 4111 1111 1111 1112 is on its way.");
    assert!(server.wait_for_mail("bob", 1)[0].contains("Order 4111"));
    let (status, text) = server.command(&["queue", "list"]);
    assert!(status.success() && text.contains("held"), "{text}");
    assert_eq!(server.mailbox("bob").len(), 1);
}

#[test]
fn rust_puts_off_who_sends_too_much() {
    let built = rust();
    let plugin = format!("plugin.rate-limit={{path=\"{}\",grants=[\"kv\"],config={{messages=2}}}}", built.display());
    let sets = ["relay.networks=[]", "listener.mx.xclient=[\"127.0.0.1\"]", "plugins.chain=[\"rate-limit\"]", &plugin];
    let server = Waypost::start(&sets);
    let mut dialog = Dialog::greeted(server.mx);
    // Loopback is never counted: a proxy of ours speaks for somebody else.
    dialog.say("XCLIENT ADDR=198.51.100.7", 220);
    dialog.say("EHLO client.example", 250);
    for _ in 0..2 {
        mail(&mut dialog, "joe@client.example", 250);
    }
    // A minute may end in between; then two more are free, and the third is not.
    let refused = (0..3).any(|_| {
        dialog.send(b"MAIL FROM:<joe@client.example>\r\n");
        let (code, text) = dialog.reply().expect("an answer");
        dialog.say("RSET", 250);
        code == 450 && text.contains("Too many messages from [198.51.100.7]")
    });
    assert!(refused);
}
