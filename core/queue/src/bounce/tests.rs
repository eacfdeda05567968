//! What others write when mail comes back, and what we read in it.

use super::*;

const OWN: &str = "mx.sender.example";

fn lines(text: &str) -> Message {
    Message::new(Bytes::from(text.replace('\n', "\r\n")))
}

fn told(text: &str) -> Report {
    read(&lines(text), true, OWN).unwrap_or_else(|| panic!("not recognised:\n{text}"))
}

fn one(report: &Report) -> (&str, &str, String, &str) {
    let [about] = report.about.as_slice() else { panic!("one recipient: {report:?}") };
    let status = about.status.map(|status| status.to_string()).unwrap_or_default();
    (about.recipient.as_deref().unwrap_or_default(), about.what.word(), status, &about.diagnosis)
}

const DSN: &str = "From: MAILER-DAEMON@far.example
To: news@sender.example
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary=\"9B095B5ADSN=_/far\"

This is a MIME-encapsulated message.

--9B095B5ADSN=_/far
Content-Type: text/plain

<user@far.example>: host mx[192.0.2.1] said: 550 5.1.1 unknown

--9B095B5ADSN=_/far
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.far.example
Original-Envelope-Id: QQ314159
Arrival-Date: Mon, 2 Nov 2026 10:00:00 +0000

Original-Recipient: rfc822;User@far.example
Final-Recipient: rfc822; inner@far.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.inner.example
Diagnostic-Code: smtp; 550 5.1.1
 <inner@far.example>: Recipient address rejected:
 User unknown

Final-Recipient: rfc822;<slow@far.example>
Action: delayed
Status: 4.4.1

--9B095B5ADSN=_/far
Content-Type: message/rfc822

Return-Path: <news+x=y@sender.example>
Received: from mx.sender.example (mx.sender.example [192.0.2.9])
\tby mx.far.example (Postfix) with ESMTP id 4F00000
\tfor <user@far.example>; Mon, 2 Nov 2026 10:00:00 +0000
Received: from app (app [192.0.2.10])
\tby mx.sender.example with ESMTPS id 01h8zk4q7n2m5v9x3c6t
\t(TLSv1.3 X); Mon, 2 Nov 2026 09:59:59 +0000
Message-ID: <abc.1@sender.example>
Subject: News

text
--9B095B5ADSN=_/far--
";

#[test]
fn a_delivery_report_is_read_whole() {
    let report = told(DSN);
    assert_eq!(report.form, "dsn");
    assert_eq!(report.about.len(), 2);
    assert_eq!(report.about[0].recipient.as_deref(), Some("User@far.example"), "the original one");
    assert_eq!((report.about[0].what, report.about[0].status), (What::Failed, Some(Enhanced(5, 1, 1))));
    assert!(report.about[0].diagnosis.ends_with("Recipient address rejected: User unknown"), "{report:?}");
    assert_eq!((report.about[1].recipient.as_deref(), report.about[1].what), (Some("slow@far.example"), What::Delayed));
    assert_eq!(report.envelope_id.as_deref(), Some("QQ314159"));
    assert_eq!(report.message_id.as_deref(), Some("<abc.1@sender.example>"));
    assert_eq!(report.sender.as_deref(), Some("news+x=y@sender.example"));
    assert_eq!(report.queue_id.map(|id| id.to_string()).as_deref(), Some("01h8zk4q7n2m5v9x3c6t"));
}

#[test]
fn delivery_reports_that_are_not_quite_right_are_read() {
    // No empty line between the groups; the status in base64, as one gateway sends it; no action; header of the original alone.
    let status = "UmVwb3J0aW5nLU1UQTogZG5zOyB4DQpGaW5hbC1SZWNpcGllbnQ6IHJmYzgyMjt1QGZhci5leGFtcGxlDQpTdGF0dXM6IDUuMi4yIChmdWxsKQ0KRGlhZ25vc3RpYy1Db2RlOiBYLVVuaXg7IDEyMQ0K";
    let text = format!(
        "Subject: x\nContent-Type: MULTIPART/REPORT; BOUNDARY=b\n\n--b\nContent-Type: message/delivery-status\nContent-Transfer-Encoding: base64\n\n{status}\n--b\nContent-Type: text/rfc822-headers\n\nMessage-Id: <q@sender.example>\nSubject: x\n--b--\n"
    );
    let report = told(&text);
    assert_eq!(one(&report), ("u@far.example", "failed", "5.2.2".into(), "121"));
    assert_eq!(report.message_id.as_deref(), Some("<q@sender.example>"));
    let cut = &DSN.replace('\n', "\r\n")[..1150];
    let report = read(&Message::new(Bytes::copy_from_slice(cut.as_bytes())), true, OWN).expect("a report cut short");
    assert_eq!(report.about[0].recipient.as_deref(), Some("User@far.example"));
}

const ARF: &str = "From: feedback@provider.example
To: abuse@sender.example
Subject: FW: News
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary=\"part\"

--part
Content-Type: text/plain

This is an email abuse report.

--part
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <news@sender.example>
Original-Rcpt-To: <reader@provider.example>
Source-IP: 192.0.2.9
Reported-Domain: sender.example

--part
Content-Type: message/rfc822

From: <news@sender.example>
Received: from app ([192.0.2.10]) by mx.sender.example with ESMTP id 01h8zk4q7n2m5v9x3c6t; Mon, 2 Nov 2026 09:59:59 +0000
Message-ID: <8787@sender.example>
Subject: News

Buy.
--part--
";

#[test]
fn complaints_are_read() {
    let report = read(&lines(ARF), false, OWN).expect("recognised without a null sender");
    assert_eq!(report.form, "arf");
    assert_eq!(one(&report), ("reader@provider.example", "complaint", String::new(), "abuse SomeGenerator/1.0"));
    assert_eq!(report.message_id.as_deref(), Some("<8787@sender.example>"));
    assert_eq!(report.queue_id.map(|id| id.to_string()).as_deref(), Some("01h8zk4q7n2m5v9x3c6t"));
    let redacted = ARF.replace("Original-Rcpt-To: <reader@provider.example>\n", "");
    let report = read(&lines(&redacted), false, OWN).expect("recognised");
    assert_eq!((report.about.len(), report.about[0].recipient.as_deref()), (1, None));
    let praise = ARF.replace("Feedback-Type: abuse", "Feedback-Type: not-spam");
    assert_eq!(read(&lines(&praise), false, OWN).expect("recognised").about[0].what, What::Feedback);
}

#[test]
fn qmail_tells_in_its_own_words() {
    let report = told(
        "From: MAILER-DAEMON@far.example\nTo: a@sender.example\nSubject: failure notice\n\nHi. This is the qmail-send program at far.example.\nI'm afraid I wasn't able to deliver your message to the following addresses.\nThis is a permanent error; I've given up. Sorry it didn't work out.\n\n<gone@far.example>:\n192.0.2.7 does not like recipient.\nRemote host said: 550 5.1.1 sorry, no mailbox here by that name\nGiving up on 192.0.2.7.\n\n<two@far.example>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n--- Below this line is a copy of the message.\n\nReturn-Path: <a@sender.example>\nReceived: (qmail 1 invoked)\nMessage-ID: <m1@sender.example>\nSubject: x\n\nbody <not@this.example>: x\n",
    );
    assert_eq!((report.form, report.about.len()), ("words", 2), "{report:?}");
    assert_eq!(report.about[0].recipient.as_deref(), Some("gone@far.example"));
    assert_eq!(report.about[0].status, Some(Enhanced(5, 1, 1)));
    assert!(report.about[0].diagnosis.contains("no mailbox here"), "{report:?}");
    assert_eq!(report.about[1].status, Some(Enhanced(5, 1, 1)));
    assert_eq!(report.message_id.as_deref(), Some("<m1@sender.example>"));
    assert_eq!(report.sender.as_deref(), Some("a@sender.example"));
}

#[test]
fn old_exim_names_its_recipients_in_a_field() {
    let report = told(
        "X-Failed-Recipients: gone@far.example\nFrom: Mail Delivery System <Mailer-Daemon@far.example>\nSubject: Mail delivery failed: returning message to sender\n\nThis message was created automatically by mail delivery software.\n\nA message that you sent could not be delivered to one or more of its\nrecipients. This is a permanent error. The following address(es) failed:\n\n  gone@far.example\n    host mx.far.example [192.0.2.1]\n    SMTP error from remote mail server after RCPT TO:<gone@far.example>:\n    550 5.2.1 account disabled\n\n------ This is a copy of the message, including all the headers. ------\n\nReturn-path: <a@sender.example>\nMessage-ID: <m2@sender.example>\n\nx\n",
    );
    let (who, what, status, diagnosis) = one(&report);
    assert_eq!((who, what, status.as_str()), ("gone@far.example", "failed", "5.2.1"));
    assert!(diagnosis.contains("account disabled"), "{diagnosis}");
    assert_eq!(report.message_id.as_deref(), Some("<m2@sender.example>"));
}

#[test]
fn others_write_a_sentence_and_an_address() {
    let exchange = told(
        "From: System Administrator <postmaster@far.example>\nSubject: Undeliverable: News\n\nYour message did not reach some or all of the intended recipients.\n\n      Subject:  News\n      Sent:     11/2/2026 10:00 AM\n\nThe following recipient(s) could not be reached:\n\n      'gone@far.example' on 11/2/2026 10:01 AM\n            The e-mail account does not exist at the organization this message was sent to.\n            <mail.far.example #5.1.1 smtp;550 5.1.1 unknown>\n",
    );
    assert_eq!((one(&exchange).0, one(&exchange).2.as_str()), ("gone@far.example", "5.1.1"));
    let late = told(
        "From: MAILER-DAEMON@far.example\nSubject: Warning: could not send message for past 4 hours\n\n   ** THIS IS A WARNING MESSAGE ONLY **\n\n<slow@far.example>... Deferred: Connection timed out with mx.far.example.\nWill keep trying until message is 5 days old\n",
    );
    assert_eq!((one(&late).0, one(&late).1), ("slow@far.example", "delayed"));
}

#[test]
fn what_is_no_report_is_none() {
    for (text, null_sender) in [
        ("From: joe@far.example\nSubject: Hello\n\n<user@far.example>: 550 5.1.1 x\n", true),
        ("From: MAILER-DAEMON@far.example\nSubject: failure notice\n\n<user@far.example>: 550 5.1.1 x\n", false),
        (
            "From: joe@far.example\nSubject: Out of office\nAuto-Submitted: auto-replied\n\nI am away. Write to bob@far.example.\n",
            true,
        ),
        (
            "Subject: x\nContent-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/disposition-notification\n\nFinal-Recipient: rfc822;u@far.example\nDisposition: manual-action/MDN-sent-manually; displayed\n--b--\n",
            false,
        ),
        (
            "Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\nContent-Type: message/feedback-report\n\nVersion: 1\n--b--\n",
            false,
        ),
        ("", true),
        ("Content-Type: multipart/report", true),
    ] {
        assert_eq!(read(&lines(text), null_sender, OWN), None, "{text}");
    }
}

#[test]
fn reports_of_our_own_are_read_back() {
    use crate::conformance::mail;
    use crate::dsn::{Making, Reason, Reporter, report};
    use waypost_types::{Domain, Outcome, Reply, Timestamp};
    let (mut entry, message) = mail(7, &["gone@far.example"]);
    entry.recipients[0].state = crate::State::Done(Outcome::Failed(Reply::new(550, Enhanced(5, 1, 1), "user unknown")));
    let reporter = Reporter::new(Domain::parse(OWN).expect("a domain"));
    let making = Making { id: MessageId::new(Timestamp(1), 2), now: Timestamp(1), random: 3 };
    let (_, made) = report(&reporter, &entry, Reason::Failure, &[0], &message, making);
    let got = read(&made, true, OWN).expect("recognised");
    assert_eq!((got.form, one(&got).0, one(&got).2.as_str()), ("dsn", "gone@far.example", "5.1.1"));
}

#[test]
fn nothing_is_too_long_or_too_strange_to_be_read() {
    let mut many = String::from(
        "Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n",
    );
    for n in 0..10_000 {
        many.push_str(&format!("Final-Recipient: rfc822;u{n}@far.example\nAction: failed\nStatus: 5.1.1\n\n"));
    }
    assert_eq!(told(&many).about.len(), RECIPIENTS_MAX);
    let mut words = String::from("From: MAILER-DAEMON\nSubject: failure notice\n\n");
    words.push_str(&"<a@b.example>: no\n".repeat(10_000));
    assert!(told(&words).about.len() <= RECIPIENTS_MAX);
    // Every prefix of a report is something.
    let whole = DSN.replace('\n', "\r\n");
    for end in 0..whole.len() {
        let _ = read(&Message::new(Bytes::copy_from_slice(&whole.as_bytes()[..end])), true, OWN);
    }
}

#[test]
fn statuses_are_no_parts_of_addresses_or_versions() {
    let of = |text: &str| words::status(text).map(|status| status.to_string());
    assert_eq!(of("550 5.1.1 <u@x>: unknown").as_deref(), Some("5.1.1"));
    assert_eq!(of("(#5.1.1)").as_deref(), Some("5.1.1"));
    assert_eq!(of("192.0.2.5.1.1 said no"), None);
    assert_eq!(of("at 5.9.8.7: no"), None);
    assert_eq!(of("host 4.5.6.7 said: 4.2.2 full.").as_deref(), Some("4.2.2"));
    assert_eq!(of("see 5.7.1.").as_deref(), Some("5.7.1"));
    assert_eq!(of("v5.1.1"), None);
}
