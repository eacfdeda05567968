//! The layers that lower values by hand (Go, C, AssemblyScript, Zig): whether each reads and writes the layouts of the contract. The filters of
//! `conformance/` say in header fields what the host told them; whoever is off by two octets says something else.

use std::path::Path;
use std::time::Duration;

use waypost_tests::zone::{Faults, Record, Zone};
use waypost_tests::{Dialog, Waypost, wait_for};

use crate::toolchain::{ASSEMBLYSCRIPT, C, GO, Language, ZIG};

const LETTER: &str = "From: Joe <joe@client.example>\r\nX-Old: gone\r\nSubject: Hello\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nHi you\r\n--x\r\n\
    Content-Type: application/x-y\r\nContent-Disposition: attachment; filename=a.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n\
    QUJDREVG\r\n--x--\r\n";

/// Builds the filter, sends it a message and two answers that it refuses; gives what it said.
fn said(language: &Language, source: &str, stages: &[&str]) -> Option<(Vec<String>, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages/conformance").join(source);
    let built = language.build_other(&source, stages)?;
    let zone = Zone::start(&[("good.example", Record::Mx(10, "mx.good.example".into()))], Faults::default());
    let plugin = format!(
        "plugin.conformance={{path=\"{}\",isolation=\"pooled\",grants=[\"kv\",\"dns\",\"crypto\",\"rewrite\"],tables=[\"people\"],\
         config={{text=\"a \\\"b\",number=1.5,truth=true}}}}",
        built.component.display()
    );
    let table = "table.people={kind=\"inline\",rows={\"ann\"=\"yes\"}}";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sets = ["relay.networks=[]", "plugins.chain=[\"conformance\"]", &plugin, table];
    let server = Waypost::start_in(Some(folder.path()), Some(zone.port), &sets);
    let mut dialog = Dialog::greeted(server.mx);
    assert_eq!(dialog.say("MAIL FROM:<defer@client.example>", 451), "4.3.250 not now");
    // An orderly failure: the fault policy speaks, and the instance lives on.
    dialog.say("MAIL FROM:<fail@client.example>", 451);
    wait_for("the fault's line", Duration::from_secs(10), || server.log().contains("as was wished").then_some(()));
    dialog.say("MAIL FROM:<joe@client.example>", 250);
    assert_eq!(dialog.say("RCPT TO:<bob@waypost.test>", 553), "5.1.250 not him");
    dialog.say("RCPT TO:<alice@waypost.test> ORCPT=rfc822;a@b.example NOTIFY=NEVER", 250);
    dialog.say("DATA", 354);
    dialog.send(LETTER.as_bytes());
    dialog.say(".", 250);
    let mail =
        server.wait_for_mail("alice", 1).remove(0).replace("\r\n", "\n").replace("\n\t", " ").replace("\n ", " ");
    let lines = mail.lines().filter_map(|line| line.strip_prefix("X-Conformance: ")).map(str::to_string);
    Some((lines.collect(), mail))
}

#[test]
fn go_reads_what_the_host_wrote() {
    let stages = ["helo", "mail", "rcpt", "data", "message", "queue"];
    let Some((lines, mail)) = said(&GO, "main.go", &stages) else { return };
    let expected = [
        "var helo client.example true true",
        "var mail joe@client.example true",
        "var rcpt alice@waypost.test waypost.test rfc822;a@b.example NEVER true",
        "var none  false",
        "session true 127.0.0.1 client.example true",
        "envelope joe@client.example 1 [{alice@waypost.test waypost.test rfc822;a@b.example NEVER}]",
        "change <nil> <nil>",
        "message true [Hello] 0",
        "read From:",
        "part text/plain  6  [i y]",
        "part application/x-y a.bin 6 attachment [BCD]",
        "finding spf joe@client.example",
        "facts true false 1.25",
        "kv \"v\\x00w\" true true \"v\\x00w\" 5 -2 true false",
        "big true",
        "dns [10 mx.good.example.] no such name []",
        "table yes true  false",
        "env true true false 9",
    ];
    assert_eq!(lines, expected, "{mail}");
    assert!(mail.contains("\nX-Queue: true\n") && mail.contains("X-First: yes\n") && !mail.contains("X-Old"), "{mail}");
}

#[test]
fn assemblyscript_reads_what_the_host_wrote() {
    let Some((lines, mail)) = said(&ASSEMBLYSCRIPT, "filter.ts", &["mail", "rcpt", "message"]) else { return };
    let expected = [
        "settings a \"b 1.5 true",
        "session 127.0.0.1 client.example []",
        "message joe@client.example 1 Hello 0",
        "read From:",
        "facts true false",
        "kv 5 -2",
        "dns 10 mx.good.example. 0 ",
        "table yes []",
        "env true",
    ];
    let lines: Vec<_> = lines.iter().map(|line| line.trim_end()).collect();
    assert_eq!(lines, expected.map(str::trim_end), "{mail}");
    assert!(!mail.contains("X-Old"), "{mail}");
}

#[test]
fn c_reads_what_the_host_wrote() {
    let Some((lines, mail)) = said(&C, "filter.c", &["mail", "rcpt", "message"]) else { return };
    let expected = [
        "session 127.0.0.1 client.example false false",
        "message joe@client.example Hello true true",
        "read From:",
        "kv true true",
        "table yes false",
        "tables true false yes",
        "env true",
    ];
    assert_eq!(lines, expected, "{mail}");
}

#[test]
fn zig_reads_what_the_host_wrote() {
    let Some((lines, mail)) = said(&ZIG, "filter.zig", &["mail", "rcpt", "message"]) else { return };
    let expected = [
        "session 127.0.0.1 false",
        "message joe@client.example Hello 0",
        "part text/plain  6  [i y]",
        "part application/x-y a.bin 6 attachment [BCD]",
        "kv 5 -2",
        "env true",
    ];
    assert_eq!(lines, expected, "{mail}");
}
