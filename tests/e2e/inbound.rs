//! Port 25: mail for own domains, nothing else.

use std::time::Duration;

use waypost_tests::sink::header;
use waypost_tests::waypost::field;
use waypost_tests::{Dialog, Waypost, tool, wait_for};

const BODY: &str = "From: sender@client.example\r\nTo: alice@waypost.test\r\nSubject: first\r\nMessage-ID: <1@client.example>\r\n\
                    Authentication-Results: waypost.test; spf=pass smtp.mailfrom=forged.example\r\n\r\nHello\r\n";

#[test]
fn a_message_arrives_with_its_trace() {
    let server = Waypost::start(&[]);
    let swaks = tool::succeed(
        "swaks",
        &[
            "--server",
            &format!("127.0.0.1:{}", server.mx),
            "--to",
            "alice@waypost.test",
            "--from",
            "joe@client.example",
            "--tls",
        ],
    );
    let mail = server.wait_for_mail("alice", 1).remove(0);
    let get = |name| header(&mail, name).unwrap_or_else(|| panic!("no {name} in\n{mail}"));
    assert_eq!(get("Return-Path"), "<joe@client.example>");
    assert_eq!(get("Delivered-To"), "alice@waypost.test");
    let received = get("Received");
    let accepted = wait_for("the log line", Duration::from_secs(5), || server.events("accepted").pop());
    let id = field(&accepted, "id").expect("the event has the id").to_string();
    for part in ["127.0.0.1", "with ESMTPS", &id, "for <alice@waypost.test>", "TLS"] {
        assert!(received.contains(part), "no {part} in {received}");
    }
    assert!(swaks.contains(&id), "the reply names the queue id\n{swaks}");
    assert!(get("Authentication-Results").contains("spf="), "{mail}");
    assert!(!mail.contains('\r'), "Maildir files have LF line ends");
}

#[test]
fn a_forged_authentication_results_field_is_gone() {
    let server = Waypost::start(&["hostname=waypost.test"]);
    Dialog::greeted(server.mx).deliver("sender@client.example", &["alice@waypost.test"], BODY);
    let mail = server.wait_for_mail("alice", 1).remove(0);
    assert!(!mail.contains("forged.example"), "{mail}");
}

#[test]
fn postmaster_and_bob_receive_in_any_case() {
    let server = Waypost::start(&[]);
    let mut dialog = Dialog::greeted(server.mx);
    dialog.deliver("a@client.example", &["PostMaster", "bob@WAYPOST.test"], BODY);
    server.wait_for_mail("bob", 1);
    server.wait_for_mail("alice", 1);
    dialog.say("QUIT", 221);
    dialog.expect_close();
}

#[test]
fn nobody_is_relayed() {
    let server = Waypost::start(&[]);
    let mut dialog = Dialog::greeted(server.mx);
    dialog.say("MAIL FROM:<alice@waypost.test>", 250);
    for path in [
        "<user@elsewhere.example>",
        "<@waypost.test:user@elsewhere.example>",
        "<\"alice@waypost.test\"@elsewhere.example>",
        "<user@[192.0.2.1]>",
    ] {
        let text = dialog.say(&format!("RCPT TO:{path}"), 550);
        assert!(text.starts_with("5.7.1"), "{path}: {text}");
    }
    // Tricks inside the local part make no other domain of it: there is no such user.
    for path in [
        "<user%elsewhere.example@waypost.test>",
        "<elsewhere.example!user@waypost.test>",
        "<\"user@elsewhere.example\"@waypost.test>",
        "<nobody@waypost.test>",
    ] {
        let text = dialog.say(&format!("RCPT TO:{path}"), 550);
        assert!(text.starts_with("5.1.1"), "{path}: {text}");
    }
    dialog.say("DATA", 554);
}

#[test]
fn auth_is_not_to_be_had() {
    let server = Waypost::start(&[]);
    let mut dialog = Dialog::connect(server.mx);
    dialog.expect(220);
    let ehlo = dialog.say("EHLO client.example", 250);
    assert!(!ehlo.contains("AUTH"), "{ehlo}");
    for keyword in ["STARTTLS", "PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "DSN"]
    {
        assert!(ehlo.contains(keyword), "no {keyword} in {ehlo}");
    }
    let (code, _) = {
        dialog.send(b"AUTH PLAIN AGFsaWNlAHg=\r\n");
        dialog.reply().expect("an answer")
    };
    assert!(matches!(code, 502 | 503), "{code}");
}

#[test]
fn a_smuggled_end_of_data_is_none() {
    let server = Waypost::start(&[]);
    for end in ["\n.\r\n", "\r\n.\n", "\n.\n", "\r\n.\r\r\n", "\r.\r\n"] {
        let mut dialog = Dialog::greeted(server.mx);
        dialog.say("MAIL FROM:<a@client.example>", 250);
        dialog.say("RCPT TO:<alice@waypost.test>", 250);
        dialog.say("DATA", 354);
        let smuggled = format!(
            "Subject: outer\r\n\r\nx{end}MAIL FROM:<b@client.example>\r\nRCPT TO:<bob@waypost.test>\r\nDATA\r\nSubject: inner\r\n\r\ny\r\n.\r\n"
        );
        dialog.send(smuggled.as_bytes());
        // One reply: accepted as one message, or refused and closed.
        let _ = dialog.reply();
        dialog.send(b"QUIT\r\n");
        while let Some((code, text)) = dialog.reply() {
            assert!(code == 221 || code >= 400, "{end:?}: {code} {text}");
        }
    }
    assert!(server.mailbox("bob").is_empty());
    for accepted in server.events("accepted") {
        let recipients = &accepted.get("recipients").or_else(|| accepted["fields"].get("recipients"));
        assert_eq!(recipients.and_then(|n| n.as_u64()), Some(1), "{accepted}");
    }
}

#[test]
fn what_is_refused_is_logged_with_its_reason() {
    let server = Waypost::start(&[]);
    let mut dialog = Dialog::greeted(server.mx);
    dialog.say("MAIL FROM:<a@client.example>", 250);
    dialog.say("RCPT TO:<user@elsewhere.example>", 550);
    dialog.say("QUIT", 221);
    let rejected =
        waypost_tests::wait_for("the log line", std::time::Duration::from_secs(5), || server.events("rejected").pop());
    assert_eq!(field(&rejected, "stage"), Some("rcpt"));
    assert_eq!(field(&rejected, "recipient"), Some("user@elsewhere.example"));
    let connected = server.events("connected").pop().expect("a connection was logged");
    assert!(field(&connected, "session").is_some());
}
