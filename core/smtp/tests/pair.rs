//! A [`Client`] and a [`Session`] joined in virtual time, over a network that cuts, delays and breaks.
//!
//! What matters most stands in `a_connection_lost_anywhere_loses_nothing`: whatever octet is the last to arrive, the client never
//! believes that a message was taken which was not, and knows when it cannot know.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use waypost_smtp::client::{self, Client, Options, Report, TlsUse, Transaction};
use waypost_smtp::extension::Extension;
use waypost_smtp::server::{Action, Answer, Ask, Policy, Session, Ticket};
use waypost_types::envelope::DeliverBy;
use waypost_types::{
    Body, Enhanced, MailParameters, Message, Notify, Recipient, Reply, ReversePath, SessionFacts, SessionId, TlsFacts,
    Transport,
};

#[path = "support/chance.rs"]
#[allow(unreachable_pub)]
mod chance;

use chance::Chance;

/// What the server got, whole.
#[derive(Debug, PartialEq)]
struct Taken {
    sender: String,
    recipients: Vec<Recipient>,
    parameters: MailParameters,
    text: String,
}

struct Pair {
    client: Client,
    session: Session,
    now: Instant,
    chance: Chance,
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    server_input: BytesMut,
    client_input: BytesMut,
    client_wants_tls: bool,
    server_wants_tls: bool,
    client_closed: bool,
    server_closed: bool,
    /// After so many octets, in both directions together, the connection breaks.
    octets_left: usize,
    /// How long the server thinks about a message.
    thinks: Duration,
    question: Option<(Instant, Ticket, Ask)>,
    queue: VecDeque<Transaction>,
    body: Vec<u8>,
    taken: Vec<Taken>,
    reports: Vec<Report>,
    failures: Vec<client::Failure>,
}

impl Pair {
    fn new(policy: Policy, options: Options, seed: u64) -> Pair {
        let now = Instant::now();
        let peer = "192.0.2.1:40000".parse().unwrap();
        let facts = SessionFacts {
            id: SessionId::new(1),
            transport: policy.transport,
            peer,
            local: peer,
            peer_name: None,
            helo: "".into(),
            esmtp: false,
            tls: (options.tls == TlsUse::Implicit).then(tls),
            user: None,
            trusted: false,
        };
        Pair {
            client: Client::new(options, now),
            session: Session::new(Arc::new(policy), facts, now),
            now,
            chance: Chance(seed),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            server_input: BytesMut::new(),
            client_input: BytesMut::new(),
            client_wants_tls: false,
            server_wants_tls: false,
            client_closed: false,
            server_closed: false,
            octets_left: usize::MAX,
            thinks: Duration::ZERO,
            question: None,
            queue: VecDeque::new(),
            body: Vec::new(),
            taken: Vec::new(),
            reports: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Runs until both sides have closed.
    fn run(mut self, transactions: impl IntoIterator<Item = Transaction>) -> Pair {
        self.queue.extend(transactions);
        for _ in 0..1_000_000 {
            self.client_acts();
            self.server_acts();
            if self.client_closed && self.server_closed {
                return self;
            }
            if !self.shake_hands() && !self.carry() && !self.answer() {
                self.pass_time();
            }
        }
        panic!("it never ends: {:?} {:?}", self.client, self.session);
    }

    fn client_acts(&mut self) {
        while let Some(action) = self.client.poll_action() {
            assert!(!self.client_closed, "nothing comes after the end: {action:?}");
            match action {
                client::Action::Send(pieces) => {
                    pieces.iter().for_each(|piece| self.to_server.extend(piece.iter()));
                    self.client.handle_written(self.now);
                }
                client::Action::StartTls => self.client_wants_tls = true,
                client::Action::Ready => self.next(),
                client::Action::Done(report) => {
                    let reusable = report.reusable;
                    self.reports.push(report);
                    if reusable {
                        self.next();
                    }
                }
                client::Action::Failed(failure) => self.failures.push(failure),
                client::Action::Close => self.client_closed = true,
            }
        }
    }

    fn next(&mut self) {
        match self.queue.pop_front() {
            Some(transaction) => self.client.begin(self.now, transaction),
            None => self.client.quit(self.now),
        }
    }

    fn server_acts(&mut self) {
        while let Some(action) = self.session.poll_action() {
            assert!(!self.server_closed, "nothing comes after the end: {action:?}");
            match action {
                Action::Send(bytes) => self.to_client.extend(bytes.iter()),
                Action::Body(bytes) => self.body.extend_from_slice(&bytes),
                Action::StartTls => self.server_wants_tls = true,
                Action::Pause(_) => {}
                Action::Close(_) => self.server_closed = true,
                Action::Ask(_, Ask::Reset) => self.body.clear(),
                Action::Ask(ticket, ask) => {
                    let wait = if matches!(ask, Ask::Message) { self.thinks } else { Duration::ZERO };
                    self.question = Some((self.now + wait, ticket, ask));
                }
            }
        }
    }

    /// Answers the open question if its time has come. A mailbox `no…` does not exist, `full…` is full when it comes to it.
    fn answer(&mut self) -> bool {
        let Some((_, ticket, ask)) = self.question.take_if(|(due, ..)| *due <= self.now) else { return false };
        let answer = match &ask {
            Ask::Rcpt(recipient) if recipient.address.local().starts_with("no") => {
                Answer::Reply(Reply::new(550, Enhanced(5, 1, 1), "no such user"))
            }
            Ask::Auth(credentials) if credentials.password() == Some("pencil") => {
                Answer::Granted(credentials.identity.as_str().into())
            }
            Ask::Auth(_) => Answer::Denied,
            Ask::Message => self.take(),
            _ => Answer::Yes,
        };
        self.session.handle_answer(self.now, ticket, answer);
        self.session.handle_input(self.now, &mut self.server_input);
        true
    }

    fn take(&mut self) -> Answer {
        let envelope = self.session.envelope().clone();
        self.taken.push(Taken {
            sender: envelope.sender.to_string(),
            recipients: envelope.recipients.clone(),
            parameters: envelope.parameters.clone(),
            text: String::from_utf8(std::mem::take(&mut self.body)).unwrap(),
        });
        let lmtp = self.session.facts().transport == Transport::Lmtp;
        let reply = |recipient: &Recipient| match recipient.address.local().starts_with("full") {
            true => Reply::new(452, Enhanced(4, 2, 2), "mailbox full"),
            false => Reply::new(250, Enhanced(2, 1, 5), "delivered"),
        };
        if lmtp { Answer::Each(envelope.recipients.iter().map(reply).collect()) } else { Answer::Yes }
    }

    /// Both sides have flushed and wait for the handshake.
    fn shake_hands(&mut self) -> bool {
        let both = self.client_wants_tls && self.server_wants_tls;
        if both {
            assert!(self.to_client.is_empty() && self.to_server.is_empty() && self.server_input.is_empty());
            (self.client_wants_tls, self.server_wants_tls) = (false, false);
            self.session.handle_tls(self.now, tls());
            self.client.handle_tls(self.now);
        }
        both
    }

    /// Brings some octets across.
    fn carry(&mut self) -> bool {
        let piece = self.chance.one(&[1, 7, 100, 1460, 65536]);
        let up = piece.min(self.to_server.len()).min(self.octets_left);
        let mut moved = false;
        if up > 0 && !self.server_closed && self.session.wants_input() {
            self.octets_left -= up;
            self.server_input.extend(self.to_server.drain(..up));
            self.session.handle_input(self.now, &mut self.server_input);
            moved = true;
        }
        let down = piece.min(self.to_client.len()).min(self.octets_left);
        if down > 0 && !self.client_closed {
            self.octets_left -= down;
            self.client_input.extend(self.to_client.drain(..down));
            self.client.handle_input(self.now, &mut self.client_input);
            moved = true;
        }
        moved || self.hang_up()
    }

    /// One side has closed and everything it said has arrived, or the connection is broken.
    fn hang_up(&mut self) -> bool {
        let broken = self.octets_left == 0;
        if !self.server_closed
            && self.question.is_none()
            && (broken || (self.client_closed && self.to_server.is_empty()))
        {
            self.session.handle_eof(self.now);
            return true;
        }
        if !self.client_closed && (broken || (self.server_closed && self.to_client.is_empty())) {
            self.client.handle_lost(self.now, "connection reset by peer");
            return true;
        }
        false
    }

    /// Nothing moves: on to the next deadline, or to when the server has thought enough.
    fn pass_time(&mut self) {
        let server = self.session.poll_timeout().filter(|_| !self.server_closed);
        let client = self.client.poll_timeout().filter(|_| !self.client_closed);
        let thought = self.question.as_ref().map(|(due, ..)| *due);
        let next = [server, client, thought].into_iter().flatten().min().expect("somebody waits for something");
        self.now = self.now.max(next);
        self.session.handle_timeout(self.now);
        self.client.handle_timeout(self.now);
    }

    fn codes(&self) -> Vec<Vec<u16>> {
        self.reports.iter().map(|report| report.replies.iter().map(|reply| reply.code).collect()).collect()
    }

    fn texts(&self) -> Vec<&str> {
        self.taken.iter().map(|taken| taken.text.as_str()).collect()
    }
}

fn tls() -> Arc<TlsFacts> {
    Arc::new(TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384".to_string(),
        server_name: None,
        client_certificate: None,
        exporter: None,
        resumed: false,
    })
}

fn mx() -> Policy {
    Policy::mx("mx.example.com")
}

fn options() -> Options {
    Options { tls: TlsUse::Never, ..Options::new("client.example".into()) }
}

fn to(recipients: &[&str], parts: &[&'static str]) -> Transaction {
    Transaction {
        sender: ReversePath::Mailbox("a@client.example".parse().unwrap()),
        parameters: MailParameters::default(),
        recipients: recipients.iter().map(|text| Recipient::new(text.parse().unwrap())).collect(),
        message: Message::from_segments(parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect()),
    }
}

const ALICE: &[&str] = &["alice@example.com"];

#[test]
fn every_text_arrives_as_it_was_sent() {
    let texts: [&[&'static str]; 7] = [
        &["Subject: x\r\n\r\nhello\r\n"],
        &["Received: y\r\n", "Subject: x\r\n\r\n", "..\r\n.\r\n.x\r\n"],
        &["a\r", "\n.\r\n", ".", "\r\n"],
        &["\r\n\r\n.\r\n\r\n"],
        &[".\r\n"],
        &["x\r\n.\r\nMAIL FROM:<evil@client.example>\r\n"],
        &[],
    ];
    for seed in 0..50 {
        let pair = Pair::new(mx(), options(), seed).run(texts.map(|parts| to(ALICE, parts)));
        assert_eq!(pair.texts(), texts.map(|parts| parts.concat()), "seed {seed}");
        assert_eq!(pair.codes(), vec![vec![250]; 7]);
    }
}

#[test]
fn what_leaves_has_proper_line_ends_whatever_was_given() {
    let pair = Pair::new(mx(), options(), 1).run([to(ALICE, &["a\n.\nb\rc", "\n.", "\r"])]);
    assert_eq!(pair.texts(), ["a\r\n.\r\nb c\r\n. \r\n"]);
}

#[test]
fn without_pipelining_it_is_the_same() {
    let policy = Policy { extensions: mx().extensions.without(Extension::Pipelining), ..mx() };
    let pair = Pair::new(policy, options(), 1).run([to(&["no1@example.com", "alice@example.com"], &["x\r\n"])]);
    assert_eq!((pair.codes(), pair.texts()), (vec![vec![550, 250]], vec!["x\r\n"]));
}

#[test]
fn refused_recipients_are_told_from_accepted_ones() {
    let nobody = ["no1@example.com", "no2@example.com"];
    let some = ["alice@example.com", "no@example.com", "bob@example.com"];
    let pair =
        Pair::new(mx(), options(), 1).run([to(&nobody, &["x\r\n"]), to(&some, &["y\r\n"]), to(ALICE, &["z\r\n"])]);
    assert_eq!(pair.codes(), [vec![550, 550], vec![250, 550, 250], vec![250]]);
    assert_eq!(pair.texts(), ["y\r\n", "z\r\n"]);
}

#[test]
fn recipients_above_the_servers_limit_are_named() {
    let policy = Policy { recipients_max: 2, ..mx() };
    let pair = Pair::new(policy, options(), 1).run([to(&["a@b.example", "c@b.example", "d@b.example"], &["x\r\n"])]);
    assert_eq!(pair.reports[0].excess, [2]);
    assert_eq!(pair.taken[0].recipients.len(), 2);
}

#[test]
fn parameters_arrive() {
    let mut transaction = to(ALICE, &["j\u{fc}rgen\r\n"]);
    transaction.sender = ReversePath::Mailbox("jürgen@bücher.example".parse().unwrap());
    transaction.parameters = MailParameters {
        smtputf8: true,
        body: Body::EightBitMime,
        ret: Some(waypost_types::Return::Headers),
        envelope_id: Some("a+b=c".into()),
        priority: -2,
        deliver_by: Some(DeliverBy { seconds: 120, return_when_late: true, trace: true }),
        ..MailParameters::default()
    };
    transaction.recipients[0].notify = Notify { given: true, success: true, failure: true, delay: false };
    transaction.recipients[0].original = Some("rfc822;old+x@example.com".into());
    let extensions = mx().extensions.with(Extension::MtPriority).with(Extension::DeliverBy);
    let pair = Pair::new(Policy { extensions, ..mx() }, options(), 1).run([transaction.clone()]);
    let taken = &pair.taken[0];
    assert_eq!(taken.sender, "jürgen@xn--bcher-kva.example");
    assert_eq!(taken.recipients, transaction.recipients);
    let size = taken.parameters.size.expect("SIZE was offered");
    assert_eq!(taken.parameters, MailParameters { size: Some(size), ..transaction.parameters });
}

#[test]
fn binary_mail_goes_by_bdat_and_stays_as_it_is() {
    let mut transaction = to(ALICE, &["a\n.\r\nb\r", "\0"]);
    transaction.parameters.body = Body::BinaryMime;
    for seed in 0..20 {
        let pair = Pair::new(mx(), options(), seed).run([transaction.clone(), to(ALICE, &["x\r\n"])]);
        assert_eq!(pair.texts(), ["a\n.\r\nb\r\0", "x\r\n"]);
    }
}

#[test]
fn submission_by_starttls_and_login() {
    for mechanism in [waypost_smtp::sasl::Mechanism::Plain, waypost_smtp::sasl::Mechanism::Login] {
        let policy = Policy { auth_mechanisms: vec![mechanism], ..Policy::submission("mx.example.com") };
        let credentials = Some(("alice".into(), "pencil".into()));
        let options = Options { tls: TlsUse::Required, credentials, ..options() };
        let pair = Pair::new(policy, options, 1).run([to(ALICE, &["x\r\n"])]);
        assert_eq!(pair.codes(), [[250]]);
        assert_eq!(pair.session.facts().user.as_deref(), Some("alice"));
        assert_eq!(pair.session.facts().protocol(false), "ESMTPSA");
    }
}

#[test]
fn a_wrong_password_sends_nothing() {
    let options = Options { tls: TlsUse::Implicit, credentials: Some(("alice".into(), "pen".into())), ..options() };
    let pair = Pair::new(Policy::submissions("mx.example.com"), options, 1).run([to(ALICE, &["x\r\n"])]);
    assert_eq!((pair.failures[0].step, pair.taken.len(), pair.reports.len()), ("auth", 0, 0));
}

#[test]
fn lmtp_reports_each_recipient() {
    let options = Options { lmtp: true, ..options() };
    let three = ["alice@example.com", "full@example.com", "no@example.com"];
    let pair =
        Pair::new(Policy::lmtp("mx.example.com"), options, 1).run([to(&three, &["x\r\n"]), to(ALICE, &["y\r\n"])]);
    assert_eq!(pair.codes(), [vec![250, 452, 550], vec![250]]);
}

#[test]
fn a_message_above_the_size_limit_is_refused_before_or_after_it_was_sent() {
    let text: &'static str = "0123456789\r\n";
    let small = Policy { message_bytes_max: 10, ..mx() };
    let deaf = Policy { extensions: small.extensions.without(Extension::Size), ..small.clone() };
    for policy in [small, deaf] {
        let pair = Pair::new(policy, options(), 1).run([to(ALICE, &[text]), to(ALICE, &["x\r\n"])]);
        assert_eq!((pair.codes(), pair.texts()), (vec![vec![552], vec![250]], vec!["x\r\n"]));
    }
}

#[test]
fn the_client_waits_as_long_as_the_server_may_think() {
    let mut pair = Pair::new(mx(), options(), 1);
    pair.thinks = Duration::from_secs(599);
    let pair = pair.run([to(ALICE, &["x\r\n"])]);
    assert_eq!((pair.codes(), pair.reports[0].ambiguous), (vec![vec![250]], false));

    let mut pair = Pair::new(mx(), options(), 1);
    pair.thinks = Duration::from_secs(601);
    let pair = pair.run([to(ALICE, &["x\r\n"])]);
    assert!(pair.reports[0].ambiguous && pair.reports[0].replies[0].is_transient() && pair.taken.len() == 1);
}

#[test]
fn a_connection_lost_anywhere_loses_nothing() {
    let transactions = || [to(ALICE, &["one\r\n..\r\n"]), to(ALICE, &["two\r\n"])];
    let whole = Pair::new(mx(), options(), 7).run(transactions());
    let octets = usize::MAX - whole.octets_left;
    assert_eq!(whole.texts(), ["one\r\n..\r\n", "two\r\n"]);
    let mut doubts = 0;
    for last in 0..octets {
        let mut pair = Pair::new(mx(), options(), 7);
        pair.octets_left = last;
        let pair = pair.run(transactions());
        for (index, report) in pair.reports.iter().enumerate() {
            let was_taken = pair.taken.len() > index;
            match &report.replies[0] {
                reply if reply.is_positive() => assert!(was_taken, "believed taken at {last}"),
                _ if was_taken => assert!(report.ambiguous, "taken, and no doubt about it at {last}"),
                reply => assert!(reply.is_transient(), "nothing was refused at {last}: {reply}"),
            }
            doubts += usize::from(report.ambiguous);
        }
        assert!(pair.taken.len() <= pair.reports.len(), "a message without a report at {last}");
    }
    assert!(doubts > 0, "the gap between the final dot and its reply was hit");
}
