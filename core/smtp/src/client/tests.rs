//! A scripted peer in virtual time.

use std::time::Duration;

use waypost_types::envelope::DeliverBy;
use waypost_types::{Address, Body, Domain, Host, Notify, Return};

use super::*;

/// A client and the octets between it and whoever plays the peer.
struct Wire {
    client: Client,
    now: Instant,
    input: BytesMut,
    sent: Vec<u8>,
    events: Vec<Action>,
}

fn options() -> Options {
    Options::new("waypost.test".into())
}

impl Wire {
    fn new(options: Options) -> Wire {
        let now = Instant::now();
        Wire { client: Client::new(options, now), now, input: BytesMut::new(), sent: vec![], events: vec![] }
    }

    /// Greeted, with these keywords.
    fn ready(options: Options, keywords: &[&str]) -> Wire {
        let mut wire = Wire::new(options);
        wire.say("220 peer ESMTP\r\n");
        wire.expect(&format!("{} waypost.test\r\n", if wire.client.options.lmtp { "LHLO" } else { "EHLO" }));
        wire.say(&ehlo(keywords));
        assert!(matches!(wire.events.as_slice(), [Action::Ready]), "{:?}", wire.events);
        wire.events.clear();
        wire
    }

    fn pump(&mut self) {
        while let Some(action) = self.client.poll_action() {
            match action {
                Action::Send(pieces) => {
                    pieces.iter().for_each(|piece| self.sent.extend_from_slice(piece));
                    self.client.handle_written(self.now);
                }
                other => self.events.push(other),
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.input.extend_from_slice(text.as_bytes());
        self.client.handle_input(self.now, &mut self.input);
        self.pump();
    }

    fn begin(&mut self, transaction: Transaction) {
        self.client.begin(self.now, transaction);
        self.pump();
    }

    /// What was sent since the last look.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        self.pump();
        assert_eq!(String::from_utf8(std::mem::take(&mut self.sent)).unwrap(), text);
    }

    fn lose(&mut self) {
        self.client.handle_lost(self.now, "connection reset");
        self.pump();
    }

    #[track_caller]
    fn report(&mut self) -> Report {
        match self.events.remove(0) {
            Action::Done(report) => report,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn failure(&mut self) -> Failure {
        match self.events.remove(0) {
            Action::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn closed(&mut self) {
        assert!(matches!(self.events.as_slice(), [Action::Close]), "{:?}", self.events);
        assert_eq!(self.client.poll_timeout(), None);
    }
}

fn ehlo(keywords: &[&str]) -> String {
    let mut lines = vec!["peer.example"];
    lines.extend_from_slice(keywords);
    let mut out = Vec::new();
    Reply::plain(250, lines.join("\n")).write_to(&mut out);
    String::from_utf8(out).unwrap()
}

fn recipient(text: &str) -> Recipient {
    Recipient::new(text.parse().unwrap())
}

fn to(recipients: &[&str]) -> Transaction {
    Transaction {
        sender: ReversePath::Mailbox("a@example.org".parse().unwrap()),
        parameters: MailParameters::default(),
        recipients: recipients.iter().map(|text| recipient(text)).collect(),
        message: Message::new(Bytes::from_static(b"Subject: x\r\n\r\nhello\r\n")),
    }
}

fn codes(report: &Report) -> Vec<u16> {
    report.replies.iter().map(|reply| reply.code).collect()
}

const GROUP: &str = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n";
const MESSAGE: &str = "Subject: x\r\n\r\nhello\r\n.\r\n";

#[test]
fn a_group_leaves_at_once_and_the_connection_is_used_again() {
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    for _ in 0..3 {
        wire.begin(to(&["b@example.net"]));
        wire.expect(GROUP);
        wire.say("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n");
        wire.expect(MESSAGE);
        wire.say("250 2.0.0 queued as 1\r\n");
        let report = wire.report();
        assert!(report.reusable && !report.ambiguous && report.excess.is_empty() && !report.untried);
        assert_eq!(report.replies, [Reply::new(250, Enhanced(2, 0, 0), "queued as 1")]);
    }
    wire.client.quit(wire.now);
    wire.expect("QUIT\r\n");
    wire.say("221 bye\r\n");
    wire.closed();
}

#[test]
fn without_pipelining_one_command_waits_for_the_other() {
    let mut wire = Wire::ready(options(), &["SIZE"]);
    wire.begin(to(&["b@example.net", "c@example.net"]));
    wire.expect("MAIL FROM:<a@example.org> SIZE=21\r\n");
    wire.say("250 ok\r\n");
    wire.expect("RCPT TO:<b@example.net>\r\n");
    wire.say("250 ok\r\n");
    wire.expect("RCPT TO:<c@example.net>\r\n");
    wire.say("550 no\r\n");
    wire.expect("DATA\r\n");
    wire.say("354 go\r\n");
    wire.expect(MESSAGE);
    wire.say("250 ok\r\n");
    assert_eq!(codes(&wire.report()), [250, 550]);
}

#[test]
fn data_is_not_said_when_all_recipients_are_known_to_be_refused_and_rset_comes_before_the_next() {
    let mut wire = Wire::ready(options(), &[]);
    wire.begin(to(&["b@example.net"]));
    wire.say("250 ok\r\n");
    wire.say("550 no\r\n");
    wire.expect("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n");
    let report = wire.report();
    assert!(report.reusable && !report.try_next);
    wire.begin(to(&["b@example.net"]));
    wire.expect("RSET\r\n");
    wire.say("250 ok\r\n");
    wire.expect("MAIL FROM:<a@example.org>\r\n");
}

#[test]
fn refused_recipients_in_a_group_are_answered_each() {
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(to(&["b@example.net", "c@example.net"]));
    wire.say("250 ok\r\n550 5.1.1 b\r\n550 5.1.1 c\r\n554 5.5.1 no valid recipients\r\n");
    let report = wire.report();
    assert_eq!(codes(&report), [550, 550]);
    assert!(report.reusable);
    wire.sent.clear();
    wire.begin(to(&["b@example.net"]));
    wire.expect(&format!("RSET\r\n{GROUP}"));
}

#[test]
fn a_354_for_nobody_is_answered_by_a_lone_dot() {
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(to(&["b@example.net"]));
    wire.expect(GROUP);
    wire.say("250 ok\r\n550 no\r\n354 go\r\n");
    wire.expect(".\r\n");
    assert!(wire.events.is_empty());
    wire.say("554 no valid recipients\r\n");
    let report = wire.report();
    assert_eq!(codes(&report), [550]);
    assert!(report.reusable);
    wire.begin(to(&["b@example.net"]));
    wire.expect(GROUP);
}

#[test]
fn a_refused_mail_speaks_for_every_recipient() {
    for (code, try_next) in [(451, true), (550, false)] {
        let mut wire = Wire::ready(options(), &["PIPELINING"]);
        wire.begin(to(&["b@example.net", "c@example.net"]));
        wire.say(&format!("{code} no\r\n503 a\r\n503 b\r\n503 c\r\n"));
        let report = wire.report();
        assert_eq!(codes(&report), [code, code]);
        assert_eq!((report.try_next, report.reusable), (try_next, true));
    }
    // A peer that accepts recipients after it has refused MAIL gets no message.
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(to(&["b@example.net"]));
    wire.expect(GROUP);
    wire.say("550 no\r\n250 ok\r\n354 go\r\n");
    wire.expect(".\r\n");
    wire.say("250 ok\r\n");
    assert_eq!(codes(&wire.report()), [550]);
}

#[test]
fn a_refused_data_is_for_those_who_were_accepted() {
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(to(&["b@example.net", "c@example.net"]));
    wire.say("250 ok\r\n250 ok\r\n551 moved\r\n452 4.3.1 full\r\n");
    let report = wire.report();
    assert_eq!(codes(&report), [452, 551]);
    assert!(!report.try_next && report.reusable && report.excess.is_empty());
}

#[test]
fn recipients_beyond_the_peers_room_are_named() {
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(to(&["b@example.net", "c@example.net", "d@example.net", "e@example.net", "f@example.net"]));
    wire.say("250 ok\r\n250 ok\r\n452 4.5.3 too many\r\n452 too many\r\n452 4.2.2 mailbox full\r\n552 too many\r\n354 go\r\n");
    wire.say("250 ok\r\n");
    let report = wire.report();
    assert_eq!(report.excess, [1, 2, 4]);
    assert_eq!(codes(&report), [250, 452, 452, 452, 552]);
    // Without anybody accepted there is no excess: it would go round for ever.
    wire.begin(to(&["b@example.net"]));
    wire.say("250 ok\r\n452 4.5.3 too many\r\n554 none\r\n");
    assert!(wire.report().excess.is_empty());
}

#[test]
fn many_recipients_go_in_windows() {
    let addresses: Vec<String> = (0..300).map(|n| format!("u{n}@example.net")).collect();
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(to(&addresses.iter().map(String::as_str).collect::<Vec<_>>()));
    let lines = |wire: &mut Wire| {
        let text = String::from_utf8(std::mem::take(&mut wire.sent)).unwrap();
        (text.lines().count(), text.ends_with("DATA\r\n"))
    };
    assert_eq!(lines(&mut wire), (128, false));
    wire.say(&"250 ok\r\n".repeat(128));
    assert_eq!(lines(&mut wire), (128, false));
    wire.say(&"250 ok\r\n".repeat(128));
    assert_eq!(lines(&mut wire), (46, true));
    wire.say(&"250 ok\r\n".repeat(45));
    wire.say("354 go\r\n");
    wire.expect(MESSAGE);
    wire.say("250 ok\r\n");
    assert!(codes(&wire.report()).iter().all(|code| *code == 250));
}

#[test]
fn a_421_at_any_moment_puts_off_whoever_was_not_answered_for_good() {
    for (replies, want) in [
        ("421 4.3.2 down\r\n", [421, 421]),
        ("250 ok\r\n421 down\r\n", [421, 421]),
        ("250 ok\r\n550 no\r\n421 down\r\n", [550, 421]),
        ("250 ok\r\n250 ok\r\n550 no\r\n421 down\r\n", [421, 550]),
        ("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n421 4.3.0 after the dot\r\n", [421, 421]),
    ] {
        let mut wire = Wire::ready(options(), &["PIPELINING"]);
        wire.begin(to(&["b@example.net", "c@example.net"]));
        wire.say(replies);
        let report = wire.report();
        assert_eq!(codes(&report), want, "{replies}");
        assert!(!report.reusable && !report.ambiguous && !report.untried);
        assert_eq!(report.try_next, !replies.contains("354"));
        wire.closed();
    }
}

#[test]
fn a_kept_connection_that_closes_before_answering_was_no_attempt() {
    for close in ["421 4.4.2 idle\r\n", ""] {
        let mut wire = Wire::ready(options(), &["PIPELINING"]);
        wire.begin(to(&["b@example.net"]));
        wire.say("250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n");
        wire.report();
        wire.begin(to(&["b@example.net"]));
        match close {
            "" => wire.lose(),
            text => wire.say(text),
        }
        let report = wire.report();
        assert!(report.untried && report.try_next && report.replies[0].is_transient());
        wire.closed();
    }
}

/// Found by fuzzing: the answer that makes the connection ready, and the word that ends it, in one read.
#[test]
fn a_peer_that_changes_its_mind_before_the_transaction_is_heard() {
    for (last, said) in [("421 4.3.2 bye", 421), ("250 2.0.0 what", 451), ("nonsense", 451)] {
        let mut wire = Wire::new(options());
        wire.input.extend_from_slice(format!("220 x\r\n250 x\r\n{last}\r\n").as_bytes());
        wire.client.handle_input(wire.now, &mut wire.input);
        while !matches!(wire.client.poll_action(), Some(Action::Ready)) {}
        wire.begin(to(&["b@example.net"]));
        let report = wire.report();
        assert_eq!(report.replies[0].code, said, "{last}");
        assert!(report.try_next && !report.untried && !report.reusable && !report.ambiguous);
        wire.closed();
    }
}

#[test]
fn a_421_between_transactions_harms_nobody() {
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.say("421 4.4.2 idle too long\r\n");
    assert_eq!(wire.failure().step, "idle");
    wire.closed();
}

#[test]
fn lost_before_the_dot_is_a_delay_and_after_it_a_doubt() {
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(to(&["b@example.net", "c@example.net"]));
    wire.say("250 ok\r\n550 no\r\n");
    wire.lose();
    let report = wire.report();
    assert_eq!(codes(&report), [550, 451]);
    assert!(!report.ambiguous && report.try_next && !report.untried);
    assert!(report.replies[1].text.contains("the reply to RCPT"), "{}", report.replies[1]);
    wire.closed();

    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(to(&["b@example.net", "c@example.net"]));
    wire.say("250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n");
    wire.lose();
    let report = wire.report();
    assert_eq!(codes(&report), [550, 451]);
    assert!(report.ambiguous && !report.try_next && !report.reusable);
}

#[test]
fn the_wait_for_the_final_dot_lasts_ten_minutes_from_when_it_was_written() {
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    assert_eq!(wire.client.poll_timeout(), None);
    wire.begin(to(&["b@example.net"]));
    wire.say("250 ok\r\n250 ok\r\n354 go\r\n");
    wire.now += Duration::from_secs(400);
    wire.client.handle_written(wire.now);
    assert_eq!(wire.client.poll_timeout(), Some(wire.now + Duration::from_secs(600)));
    wire.client.handle_timeout(wire.now + Duration::from_secs(599));
    assert!(wire.client.poll_action().is_none());
    wire.client.handle_timeout(wire.now + Duration::from_secs(600));
    wire.pump();
    let report = wire.report();
    assert!(report.ambiguous && report.replies[0].is_transient());
    wire.closed();
}

#[test]
fn each_wait_lasts_as_long_as_the_table_says() {
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    let left = |wire: &Wire| (wire.client.poll_timeout().unwrap() - wire.now).as_secs();
    wire.begin(to(&["b@example.net"]));
    assert_eq!(left(&wire), 300);
    wire.say("250 ok\r\n");
    assert_eq!(left(&wire), 300);
    wire.say("250 ok\r\n");
    assert_eq!(left(&wire), 120, "DATA");
    let mut wire = Wire::new(options());
    assert_eq!(wire.client.poll_timeout(), Some(wire.now + Duration::from_secs(300)));
    wire.client.handle_timeout(wire.now + Duration::from_secs(300));
    wire.pump();
    let failure = wire.failure();
    assert!(failure.step == "greeting" && failure.try_next && failure.reply.is_transient());
    wire.closed();
    let hasty = Wire::new(Options { timeout_divisor: 100, ..options() });
    assert_eq!(hasty.client.poll_timeout(), Some(hasty.now + Duration::from_secs(3)));
}

#[test]
fn greetings_that_refuse_end_in_quit() {
    for code in [421, 450, 554] {
        let mut wire = Wire::new(options());
        wire.say(&format!("{code} go away\r\n"));
        wire.expect("QUIT\r\n");
        let failure = wire.failure();
        assert_eq!((failure.step, failure.reply.code, failure.try_next), ("greeting", code, true));
        wire.closed();
    }
    let mut wire = Wire::new(options());
    wire.say("SSH-2.0-OpenSSH_9.2\r\n");
    assert_eq!(wire.failure().reply.enhanced, Some(Enhanced(4, 5, 0)));
}

#[test]
fn helo_is_tried_once_and_421_to_ehlo_is_the_end() {
    let mut wire = Wire::new(options());
    wire.say("220 old\r\n");
    wire.expect("EHLO waypost.test\r\n");
    wire.say("502 what?\r\n");
    wire.expect("HELO waypost.test\r\n");
    wire.say("250 old\r\n");
    assert!(matches!(wire.events.remove(0), Action::Ready));

    let mut wire = Wire::new(options());
    wire.say("220 old\r\n500 what?\r\n500 what?\r\n");
    assert_eq!(wire.failure().step, "ehlo");
    let mut wire = Wire::new(options());
    wire.say("220 old\r\n421 busy\r\n");
    wire.expect("EHLO waypost.test\r\nQUIT\r\n");
    assert!(wire.failure().try_next);
}

#[test]
fn tls_comes_when_offered_and_everything_earlier_is_forgotten() {
    let mut wire = Wire::new(options());
    wire.say("220 peer\r\n");
    wire.say(&ehlo(&["STARTTLS", "PIPELINING", "SIZE 1", "AUTH PLAIN"]));
    wire.expect("EHLO waypost.test\r\nSTARTTLS\r\n");
    wire.say("220 go\r\n");
    assert!(matches!(wire.events.remove(0), Action::StartTls));
    wire.client.handle_tls(wire.now);
    wire.expect("EHLO waypost.test\r\n");
    assert_eq!(*wire.client.offers(), Offers::default());
    wire.say(&ehlo(&["STARTTLS", "8BITMIME"]));
    assert!(matches!(wire.events.remove(0), Action::Ready));
    assert!(wire.client.is_encrypted() && !wire.client.offers().pipelining);
}

#[test]
fn octets_behind_the_reply_to_starttls_end_the_connection() {
    for behind in ["250 injected\r\n", "2", "\r\n"] {
        let mut wire = Wire::new(options());
        wire.say("220 peer\r\n");
        wire.say(&ehlo(&["STARTTLS"]));
        wire.say(&format!("220 go\r\n{behind}"));
        let failure = wire.failure();
        assert!(failure.step == "starttls" && failure.try_next && failure.reply.is_transient());
        wire.closed();
    }
}

#[test]
fn a_refused_starttls_matters_only_where_tls_is_required() {
    for (tls, works) in [(TlsUse::Opportunistic, true), (TlsUse::Required, false)] {
        let mut wire = Wire::new(Options { tls, ..options() });
        wire.say("220 peer\r\n");
        wire.say(&ehlo(&["STARTTLS"]));
        wire.say("454 4.7.0 not now\r\n");
        assert_eq!(matches!(wire.events[0], Action::Ready), works);
    }
    let mut wire = Wire::new(Options { tls: TlsUse::Required, ..options() });
    wire.say("220 peer\r\n");
    wire.say(&ehlo(&[]));
    let failure = wire.failure();
    assert!(failure.try_next && failure.reply.enhanced == Some(Enhanced(4, 7, 4)));
    let mut wire = Wire::new(Options { tls: TlsUse::Never, ..options() });
    wire.say("220 peer\r\n");
    wire.say(&ehlo(&["STARTTLS"]));
    assert!(matches!(wire.events[0], Action::Ready));
}

#[test]
fn a_failed_handshake_is_a_failure_of_starttls() {
    let mut wire = Wire::new(options());
    wire.say("220 peer\r\n");
    wire.say(&ehlo(&["STARTTLS"]));
    wire.say("220 go\r\n");
    wire.events.clear();
    wire.lose();
    let failure = wire.failure();
    assert!(failure.step == "starttls" && failure.reply.text.contains("handshake"));
    wire.closed();
}

#[test]
fn passwords_are_shown_only_inside_tls_or_on_this_host() {
    let credentials = Some(("user".into(), "secret".into()));
    let mut wire = Wire::new(Options { credentials: credentials.clone(), ..options() });
    wire.say("220 peer\r\n");
    wire.say(&ehlo(&["AUTH PLAIN"]));
    let failure = wire.failure();
    assert!(failure.step == "ehlo" && failure.reply.is_transient(), "{failure:?}");
    wire.expect("EHLO waypost.test\r\nQUIT\r\n");
    assert!(!format!("{:?}", wire.client).contains("secret"));

    for setting in [
        Options { loopback: true, credentials: credentials.clone(), ..options() },
        Options { tls: TlsUse::Implicit, credentials, ..options() },
    ] {
        let mut wire = Wire::new(setting.clone());
        wire.say("220 peer\r\n");
        wire.say(&ehlo(&["AUTH PLAIN"]));
        wire.expect("EHLO waypost.test\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\n");
        wire.say("235 2.7.0 welcome\r\n");
        assert!(matches!(wire.events[0], Action::Ready));

        let mut wire = Wire::new(setting.clone());
        wire.say("220 peer\r\n");
        wire.say(&ehlo(&["AUTH LOGIN"]));
        wire.sent.clear();
        wire.say("334 VXNlcm5hbWU6\r\n");
        wire.expect("dXNlcg==\r\n");
        wire.say("334 UGFzc3dvcmQ6\r\n");
        wire.expect("c2VjcmV0\r\n");
        wire.say("535 5.7.8 wrong\r\n");
        let failure = wire.failure();
        assert!(failure.step == "auth" && failure.reply.is_transient() && failure.reply.text.contains("535"));
    }
}

#[test]
fn parameters_go_only_to_peers_that_offer_them() {
    let mut transaction = to(&["b@example.net", "c@example.net"]);
    transaction.parameters = MailParameters {
        body: Body::EightBitMime,
        ret: Some(Return::Headers),
        envelope_id: Some("a+b=c d".into()),
        priority: -3,
        smtputf8: true,
        ..MailParameters::default()
    };
    transaction.recipients[0].notify = Notify { given: true, success: true, failure: true, delay: false };
    transaction.recipients[0].original = Some("rfc822;x+y@example.com".into());
    transaction.recipients[1].notify = Notify::NEVER;
    transaction.recipients[1].original = Some("rfc822;bad\r\ny@example.com".into());
    let all = ["PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN", "MT-PRIORITY"];
    let mut wire = Wire::ready(options(), &all);
    wire.begin(transaction.clone());
    wire.expect(
        "MAIL FROM:<a@example.org> SIZE=21 BODY=8BITMIME SMTPUTF8 MT-PRIORITY=-3 RET=HDRS ENVID=a+2Bb+3Dc+20d\r\n\
         RCPT TO:<b@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x+2By@example.com\r\n\
         RCPT TO:<c@example.net> NOTIFY=NEVER ORCPT=rfc822;bad+0D+0Ay@example.com\r\nDATA\r\n",
    );
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(transaction);
    wire.expect("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n");
}

#[test]
fn what_the_peer_cannot_carry_is_refused_without_a_word() {
    let utf8 = Address::new("bücher", Host::Name(Domain::parse("example.net").unwrap())).unwrap();
    let late = |seconds| {
        let by = DeliverBy { seconds, return_when_late: true, trace: false };
        let parameters = MailParameters { deliver_by: Some(by), ..Default::default() };
        Transaction { parameters, ..to(&["b@example.net"]) }
    };
    let cases: [(Transaction, Enhanced); 6] = [
        (Transaction { recipients: vec![Recipient::new(utf8)], ..to(&[]) }, Enhanced(5, 6, 7)),
        (
            Transaction {
                parameters: MailParameters { smtputf8: true, ..Default::default() },
                message: Message::new("Subject: ü\r\n\r\n".into()),
                ..to(&["b@example.net"])
            },
            Enhanced(5, 6, 7),
        ),
        (
            Transaction {
                parameters: MailParameters { require_tls: true, ..Default::default() },
                ..to(&["b@example.net"])
            },
            Enhanced(5, 7, 30),
        ),
        (
            Transaction {
                parameters: MailParameters { body: Body::BinaryMime, ..Default::default() },
                ..to(&["b@example.net"])
            },
            Enhanced(5, 6, 3),
        ),
        (late(120), Enhanced(5, 3, 3)),
        (Transaction { message: Message::new(vec![b'x'; 2000].into()), ..to(&["b@example.net"]) }, Enhanced(5, 3, 4)),
    ];
    let mut wire = Wire::ready(options(), &["PIPELINING", "SIZE 1000", "CHUNKING"]);
    for (transaction, want) in cases {
        wire.begin(transaction);
        wire.expect("");
        let report = wire.report();
        assert_eq!(report.replies[0].enhanced, Some(want));
        assert!(report.reusable && report.try_next);
    }
    wire.begin(to(&["b@example.net"]));
    wire.expect("MAIL FROM:<a@example.org> SIZE=21\r\nRCPT TO:<b@example.net>\r\nDATA\r\n");
    // RFC 2852: who promises to see to it gets it, but not in less than the time that it names.
    let mut wire = Wire::ready(options(), &["DELIVERBY 60"]);
    wire.begin(late(59));
    assert_eq!(wire.report().replies[0].enhanced, Some(Enhanced(5, 3, 3)));
    wire.begin(late(60));
    wire.expect("MAIL FROM:<a@example.org> BY=60;R\r\n");
}

#[test]
fn binary_mail_goes_by_bdat_and_only_after_somebody_was_accepted() {
    let mut transaction = to(&["b@example.net"]);
    transaction.parameters.body = Body::BinaryMime;
    transaction.message = Message::new(Bytes::from_static(b"A: b\r\n\r\n.\n"));
    let mut wire = Wire::ready(options(), &["PIPELINING", "CHUNKING", "BINARYMIME"]);
    wire.begin(transaction.clone());
    wire.expect("MAIL FROM:<a@example.org> BODY=BINARYMIME\r\nRCPT TO:<b@example.net>\r\n");
    wire.say("250 ok\r\n250 ok\r\n");
    wire.expect("BDAT 10 LAST\r\nA: b\r\n\r\n.\n");
    wire.say("250 ok\r\n");
    assert_eq!(codes(&wire.report()), [250]);
    wire.begin(transaction);
    wire.sent.clear();
    wire.say("250 ok\r\n550 no\r\n");
    wire.expect("");
    assert_eq!(codes(&wire.report()), [550]);
}

#[test]
fn lmtp_answers_the_final_dot_for_each_accepted_recipient() {
    let lmtp = Options { lmtp: true, tls: TlsUse::Never, ..options() };
    let five = ["a@x.test", "b@x.test", "c@x.test", "d@x.test", "e@x.test"];
    let mut wire = Wire::ready(lmtp.clone(), &["PIPELINING"]);
    wire.begin(to(&five));
    wire.say("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    wire.say("250 a\r\n452 4.2.2 c full\r\n550 d\r\n");
    assert!(wire.events.is_empty());
    wire.say("250 e\r\n");
    let report = wire.report();
    assert_eq!(codes(&report), [250, 550, 452, 550, 250]);
    assert!(report.reusable && report.excess.is_empty());

    wire.begin(to(&five));
    wire.say("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 a\r\n421 down\r\n");
    assert_eq!(codes(&wire.report()), [250, 421, 421, 421, 421]);

    let mut wire = Wire::ready(lmtp.clone(), &["PIPELINING"]);
    wire.begin(to(&five));
    wire.say("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 a\r\n");
    wire.lose();
    let report = wire.report();
    assert_eq!(codes(&report), [250, 451, 451, 451, 451]);
    assert!(report.ambiguous);

    let mut wire = Wire::ready(lmtp, &["PIPELINING"]);
    wire.begin(to(&["b@example.net"]));
    wire.sent.clear();
    wire.say("250 ok\r\n550 no\r\n354 go\r\n");
    wire.expect(".\r\nQUIT\r\n");
    assert!(!wire.report().reusable);
    wire.closed();
}

#[test]
fn a_peer_that_says_more_than_it_was_asked_is_not_used_again() {
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(to(&["b@example.net"]));
    wire.say("250 ok\r\n250 ok\r\n354 go\r\n");
    wire.say("250 ok\r\n250 and more\r\n");
    let report = wire.report();
    assert_eq!((codes(&report), report.reusable), (vec![250], false));
    wire.closed();
}

#[test]
fn answers_that_make_no_sense_deliver_nothing() {
    for replies in ["354 go\r\n", "250 ok\r\n334 x\r\n", "250 ok\r\n250 ok\r\n250 ok\r\n", "nonsense\r\n"] {
        let mut wire = Wire::ready(options(), &["PIPELINING"]);
        wire.begin(to(&["b@example.net"]));
        wire.say(replies);
        let report = wire.report();
        assert!(report.replies[0].is_transient() && !report.reusable, "{replies}");
        wire.closed();
    }
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(to(&["b@example.net"]));
    wire.say("250 ok\r\n250 ok\r\n354 go\r\n354 go on\r\n");
    let report = wire.report();
    assert!(report.ambiguous && report.replies[0].is_transient());
}

#[test]
fn a_peer_with_our_own_name_is_a_loop() {
    let mut wire = Wire::new(Options { detect_loop: true, ..options() });
    wire.say("220 peer\r\n250 WAYPOST.test at your service\r\n");
    assert_eq!(wire.failure().reply.enhanced, Some(Enhanced(5, 4, 6)));
    wire.closed();
}

#[test]
fn message_octets_leave_in_the_callers_own_memory() {
    let body = Bytes::from(b"Subject: x\r\n\r\n.leading\r\nend\r\n".to_vec());
    let mut transaction = to(&["b@example.net"]);
    transaction.message = Message::new(body.clone());
    transaction.message.prepend(Bytes::from_static(b"Received: y\r\n"));
    let mut wire = Wire::ready(options(), &["PIPELINING"]);
    wire.begin(transaction);
    wire.client.handle_input(wire.now, &mut BytesMut::from("250 ok\r\n250 ok\r\n354 go\r\n"));
    let Some(Action::Send(pieces)) = wire.client.poll_action() else { panic!("a body") };
    assert_eq!(pieces.concat(), b"Received: y\r\nSubject: x\r\n\r\n..leading\r\nend\r\n.\r\n");
    let own = body.as_ptr_range();
    assert!(pieces.iter().any(|piece| own.contains(&piece.as_ptr()) && piece.len() > 10));
}

/// A peer that answers anything at any time. Whatever it says: one report for each transaction, a recipient is delivered only when the
/// message was sent, every connection ends in one `Close`, and nothing panics.
#[test]
fn whatever_a_peer_says_the_promises_hold() {
    const SAID: [&str; 24] = [
        "220 x\r\n",
        "220-x\r\n",
        "250 ok\r\n",
        "250 ok\r\n",
        "250 2.0.0 ok\r\n",
        "250-PIPELINING\r\n",
        "250-STARTTLS\r\n",
        "250-AUTH PLAIN LOGIN\r\n",
        "250-SIZE 5\r\n",
        "250-x\r\n",
        "354 go\r\n",
        "354 go\r\n",
        "334 \r\n",
        "235 in\r\n",
        "421 bye\r\n",
        "450 later\r\n",
        "452 4.5.3 many\r\n",
        "550 no\r\n",
        "554 no\r\n",
        "nonsense\r\n",
        "2",
        "\r\n",
        "250 ok\n",
        "250-CHUNKING\r\n",
    ];
    let mut seed = 1u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let (mut reports, mut delivered) = (0, 0);
    for round in 0..20_000 {
        let tls = [TlsUse::Never, TlsUse::Opportunistic, TlsUse::Required, TlsUse::Implicit][random(4)];
        let credentials = (random(4) == 0).then(|| ("user".into(), "secret".into()));
        let mut wire =
            Wire::new(Options { lmtp: random(4) == 0, tls, credentials, loopback: random(2) == 0, ..options() });
        if round % 2 == 0 {
            wire.say("220 x\r\n250-x\r\n250 PIPELINING\r\n");
        }
        let (mut begun, mut closed) = (0, 0);
        for _ in 0..random(40) {
            match random(60) {
                0 => wire.lose(),
                1 => {
                    wire.now += Duration::from_secs(601);
                    wire.client.handle_timeout(wire.now);
                }
                2 => wire.client.quit(wire.now),
                3..23 => wire.say(SAID[random(SAID.len())]),
                _ => wire.say(sensible(&wire.client)),
            }
            wire.pump();
            for event in std::mem::take(&mut wire.events) {
                match event {
                    Action::Done(report) => {
                        begun -= 1;
                        reports += 1;
                        assert_eq!(report.replies.len(), 2);
                        assert!(report.replies.iter().all(|reply| (200..600).contains(&reply.code)));
                        let taken = report.replies.iter().filter(|reply| reply.is_positive()).count();
                        let sent = wire.sent.windows(10).any(|part| part == b"hello\r\n.\r\n");
                        assert!(taken == 0 || sent, "{report:?}");
                        delivered += taken;
                        wire.sent.clear();
                        assert!(report.reusable || !wire.client.is_idle());
                    }
                    Action::StartTls => wire.client.handle_tls(wire.now),
                    Action::Close => closed += 1,
                    Action::Failed(failure) => assert!(!failure.reply.text.contains("secret")),
                    Action::Ready | Action::Send(_) => {}
                }
            }
            wire.pump();
            if wire.client.is_idle() {
                wire.begin(to(&["b@example.net", "c@example.net"]));
                begun += 1;
            }
            assert!(begun <= 1 && wire.input.len() <= 2048);
        }
        wire.lose();
        begun -= wire.events.iter().filter(|event| matches!(event, Action::Done(_))).count();
        closed += wire.events.iter().filter(|event| matches!(event, Action::Close)).count();
        assert_eq!((begun, closed, wire.client.poll_timeout()), (0, 1, None), "round {round}");
    }
    assert!(
        reports > 5_000 && delivered > 100,
        "{reports} reports, {delivered} deliveries: the peer is not imaginative enough"
    );
}

/// What a well-behaved peer would say now.
fn sensible(client: &Client) -> &'static str {
    match (client.state, client.flight.as_ref().and_then(Flight::awaited)) {
        (State::Idle, _) => "",
        (State::Greeting | State::StartTls, _) => "220 x\r\n",
        (State::Envelope, Some(pipeline::Command::Data)) => "354 go\r\n",
        (State::Auth(_), _) => "235 in\r\n",
        _ => "250 ok\r\n",
    }
}
