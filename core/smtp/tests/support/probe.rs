//! Talks to a session with any bytes, cut in any way, answers its questions by a rule that depends on the question alone, and keeps
//! watch over what must always hold. Shared by the tests of this crate and the fuzz target `session`.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use waypost_smtp::extension::{Extension, ExtensionSet};
use waypost_smtp::server::{Action, Answer, Ask, AuthMode, BareNewline, Impatience, Policy, Session};
use waypost_types::{Enhanced, Reply, SessionFacts, SessionId, Timestamp, Transport};

/// What came out, with what may differ between two ways of cutting the input taken out: which replies shared a write, and
/// how the body was cut.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub sent: String,
    pub asked: Vec<String>,
    pub closed: Option<String>,
}

/// A policy for each number: every switch that does not judge by haste is tried.
pub fn policy(knobs: u8) -> Policy {
    let preset = if knobs & 1 == 0 { Policy::relay } else { Policy::lmtp };
    Policy {
        bare_newline: if knobs & 2 == 0 { BareNewline::Normalise } else { BareNewline::Refuse },
        auth: if knobs & 4 == 0 { AuthMode::Off } else { AuthMode::DangerouslyOfferedInClear },
        message_bytes_max: if knobs & 8 == 0 { 100_000 } else { 40 },
        errors_max: if knobs & 16 == 0 { 100 } else { 4 },
        recipients_max: if knobs & 32 == 0 { 10 } else { 1 },
        strict_paths: knobs & 64 != 0,
        helo_required: knobs & 128 != 0,
        pregreet: Impatience::Ignore,
        unauthorised_pipelining: Impatience::Ignore,
        ..preset("mx.example.com")
    }
}

/// Talks to a fresh session: `pieces` are the reads. Ends with the client closing its side.
pub fn talk<'a>(policy: Policy, pieces: impl IntoIterator<Item = &'a [u8]>) -> Trace {
    let mut probe = Probe::new(policy);
    let mut input = BytesMut::new();
    probe.drive(&mut input);
    for piece in pieces {
        input.extend_from_slice(piece);
        probe.drive(&mut input);
    }
    probe.session.handle_eof(probe.now);
    probe.drive(&mut input);
    assert!(probe.trace.closed.is_some(), "a session whose client has gone ends");
    probe.trace
}

struct Probe {
    session: Session,
    now: Instant,
    trace: Trace,
    /// Ask::Mail was put, and neither an answered Ask::Message nor Ask::Reset has come.
    open: bool,
    recipients: usize,
    body: Vec<u8>,
}

impl Probe {
    fn new(policy: Policy) -> Probe {
        let peer = "192.0.2.1:40000".parse().unwrap();
        let facts = SessionFacts {
            id: SessionId::new(1),
            transport: Transport::Mx,
            peer,
            local: peer,
            peer_name: None,
            helo: "".into(),
            esmtp: false,
            tls: None,
            user: None,
            trusted: false,
        };
        let now = Instant::now();
        let mut session = Session::new(Arc::new(policy), facts, now);
        session.set_clock(now, Timestamp(1_795_500_670_000));
        // Everything but STARTTLS: whether something follows it in its group is a matter of cuts.
        let all = Extension::ALL.into_iter().fold(ExtensionSet::EMPTY, ExtensionSet::with);
        session.offer(all.without(Extension::StartTls));
        Probe { session, now, trace: Trace::default(), open: false, recipients: 0, body: Vec::new() }
    }

    fn drive(&mut self, input: &mut BytesMut) {
        loop {
            self.session.handle_input(self.now, input);
            let mut answered = false;
            while let Some(action) = self.session.poll_action() {
                assert!(self.trace.closed.is_none(), "nothing comes after the end: {action:?}");
                answered |= self.act(action);
            }
            if !answered {
                break;
            }
        }
        assert!(self.session.wants_input() || self.trace.closed.is_some(), "no question is open");
        assert!(
            input.len() <= 12_288 || self.trace.closed.is_some(),
            "what is not understood is bounded: {}",
            input.len()
        );
    }

    fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Send(bytes) => self.trace.sent.push_str(std::str::from_utf8(&bytes).expect("replies are text")),
            Action::Body(bytes) => {
                assert!(self.open && self.recipients > 0 && !bytes.is_empty(), "a body has recipients");
                self.body.extend_from_slice(&bytes);
            }
            Action::Close(reason) => {
                assert!(!self.open, "no transaction is left behind");
                self.trace.closed = Some(format!("{reason:?}"));
            }
            Action::Pause(_) => {}
            Action::StartTls => unreachable!("not offered without TLS"),
            Action::Ask(_, Ask::Reset) => {
                assert!(std::mem::take(&mut self.open), "only what was begun is void");
                self.body.clear();
                self.trace.asked.push("reset".to_string());
            }
            Action::Ask(ticket, ask) => {
                assert!(!self.session.wants_input(), "input waits for the answer");
                let answer = self.answer(&ask);
                self.session.handle_answer(self.now, ticket, answer);
                return true;
            }
        }
        false
    }

    /// The length of an address decides.
    fn answer(&mut self, ask: &Ask) -> Answer {
        let (name, weight) = match ask {
            Ask::Mail(sender, _) => {
                assert!(!std::mem::replace(&mut self.open, true), "one transaction at a time");
                self.recipients = 0;
                (format!("mail {sender}"), sender.to_string().len())
            }
            Ask::Rcpt(recipient) => (format!("rcpt {recipient:?}"), recipient.address.to_string().len()),
            Ask::Message => {
                assert!(self.recipients > 0 && std::mem::take(&mut self.open), "a message has recipients");
                let text = String::from_utf8_lossy(&std::mem::take(&mut self.body)).into_owned();
                (format!("message {text:?}"), text.len())
            }
            Ask::Auth(credentials) => (format!("auth {}", credentials.identity), credentials.identity.len()),
            other => (format!("{other:?}"), 1),
        };
        self.trace.asked.push(name);
        let no = |code, class| Answer::Reply(Reply::new(code, Enhanced(class, 7, 1), "no"));
        let yes = weight % 5 != 0;
        match ask {
            Ask::Auth(_) if yes => Answer::Granted("alice".into()),
            Ask::Auth(_) => Answer::Denied,
            Ask::Rcpt(_) if yes => {
                self.recipients += 1;
                Answer::Yes
            }
            _ if yes => Answer::Yes,
            _ if weight % 3 == 0 => no(450, 4),
            _ if weight % 7 == 0 => no(421, 4),
            _ => no(550, 5),
        }
    }
}
