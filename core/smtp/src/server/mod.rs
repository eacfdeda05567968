//! The server side of one connection (RFC 5321, RFC 2033).
//!
//! Hand in what was read and the time, carry out what [`Session::poll_action`] gives, in order, until it gives nothing more:
//!
//! ```
//! # use std::{sync::Arc, time::Instant};
//! # use bytes::BytesMut;
//! # use waypost_smtp::server::*;
//! # use waypost_types::{SessionFacts, SessionId, Transport};
//! # let local = "127.0.0.1:25".parse().unwrap();
//! # let facts = SessionFacts { id: SessionId::new(1), transport: Transport::Mx, peer: local, local, peer_name: None, helo: "".into(),
//! #     esmtp: false, tls: None, user: None, trusted: false };
//! let now = Instant::now();
//! let mut session = Session::new(Arc::new(Policy::mx("mx.example.com")), facts, now);
//! let Some(Action::Ask(ticket, Ask::Connect)) = session.poll_action() else { panic!() };
//! session.handle_answer(now, ticket, Answer::Yes);
//! let Some(Action::Send(greeting)) = session.poll_action() else { panic!() };
//! assert_eq!(greeting, "220 mx.example.com ESMTP Waypost\r\n");
//! let mut input = BytesMut::from("QUIT\r\n");
//! session.handle_input(now, &mut input);
//! ```
//!
//! Promised: at most one question is open, and input waits for its answer; replies of a pipelined group leave in one write; only
//! CRLF "." CRLF ends a message; no octet read before TLS is looked at after it; every transaction that was asked about ends
//! with an answered [`Ask::Message`] or with [`Ask::Reset`]; every session ends with [`Action::Close`]. The same bytes give
//! the same actions however they were cut, but for what is judged by haste ([`Policy::pregreet`],
//! [`Policy::unauthorised_pipelining`]). Left to the caller: sockets, the handshake, write timeouts, and whatever is asked.
//!
//! `state` holds the states and the commands, `body` what follows DATA and BDAT, `answer` what answers lead to, `greeting` the
//! offers of EHLO, `proxied` XCLIENT and XFORWARD, `words` every reply that the session gives of its own accord.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use waypost_types::login::{Credentials, ScramKeys};
use waypost_types::{Envelope, MailParameters, Recipient, Reply, ReversePath, SessionFacts, Timestamp, TlsFacts};

use self::state::{About, State, Transaction};
use crate::extension::ExtensionSet;
use crate::sasl::NONCE_BYTES;

pub use self::proxied::Forwarded;

pub use self::policy::{AuthMode, BareNewline, Impatience, Policy, TlsMode};

mod answer;
mod body;
mod greeting;
pub mod policy;
mod proxied;
mod state;
mod words;

/// Names an [`Ask`] until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// What the session wants done.
#[derive(Debug)]
pub enum Action {
    /// Write these bytes. Replies of a pipelined group come as one.
    Send(Bytes),
    /// Answer this with [`Session::handle_answer`]. At most one is open at any time; input waits meanwhile.
    Ask(Ticket, Ask),
    /// A piece of the message, dot-unstuffed (DATA) or verbatim (BDAT), split off the input buffer without a copy. In order; the
    /// message is complete when `Ask::Message` comes, and void when `Ask::Reset` does.
    Body(BytesMut),
    /// Everything sent so far has to be flushed, then TLS negotiated, then [`Session::handle_tls`] called. No byte read before is
    /// left over: the session has seen to it.
    StartTls,
    /// Wait this long before the next action: this client has made many mistakes, and each costs it more.
    Pause(Duration),
    /// Flush and close.
    Close(CloseReason),
}

/// Why a session ends: the word in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// QUIT.
    Quit,
    /// The peer closed.
    Lost,
    /// A timeout.
    Timeout,
    /// Too many errors, too many messages, a line without end.
    Limit,
    /// Refused by a check or plugin, or it speaks another protocol.
    Refused,
    /// We are going down.
    Shutdown,
}

/// A question to whoever knows about people.
#[derive(Debug)]
pub enum Ask {
    /// May this client be served? A refusal becomes the greeting (554 or 421) and the end.
    Connect,
    /// XCLIENT: the client is somebody else, as [`Session::facts`] say now. Forget what was found out about the other one, say by
    /// [`Session::set_trusted`] whether this one is ours, then answer as [`Ask::Connect`].
    Proxied,
    /// HELO, EHLO or LHLO; the name stands in [`Session::facts`].
    Helo,
    /// Are these credentials good? Answer with [`Answer::Granted`], [`Answer::Denied`] or a 4yz refusal.
    Auth(Credentials),
    /// What are this user's SCRAM keys? Answer with [`Answer::Keys`] or a 4yz refusal.
    Keys(String),
    /// What does the back end say to this message of the mechanism of that name? Answer with [`Answer::Challenge`],
    /// [`Answer::Granted`], [`Answer::Denied`] or a 4yz refusal. With `true` an exchange begins.
    Round(bool, &'static str, Option<Vec<u8>>),
    /// MAIL.
    Mail(ReversePath, MailParameters),
    /// RCPT.
    Rcpt(Recipient),
    /// DATA or the first BDAT: a last word before the body comes.
    Data,
    /// The message is complete. A positive answer means that it is durable.
    Message,
    /// The transaction is void (RSET, EHLO, a refusal, the end): forget body, recipients and whatever was remembered. Needs no answer
    /// and is not waited for; its ticket is never used.
    Reset,
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// Yes, with the session's own words.
    Yes,
    /// Yes with these words (2yz), or no (4yz, 5yz). 421 and 521 close the connection.
    Reply(Reply),
    /// No, and close the connection after this reply whatever its code.
    Close(Reply),
    /// Auth, Round: who it is.
    Granted(Arc<str>),
    /// Auth, Round: wrong. The reply is 535 5.7.8.
    Denied,
    /// Round: send this and bring the answer.
    Challenge(Vec<u8>),
    /// Keys: these, and chance for our part of the nonce.
    Keys(ScramKeys, [u8; NONCE_BYTES]),
    /// Message over LMTP: one reply for each accepted recipient, in order.
    Each(Vec<Reply>),
}

/// No transaction.
static EMPTY: LazyLock<Arc<Envelope>> = LazyLock::new(Arc::default);

/// One connection, server side.
#[derive(Debug)]
pub struct Session {
    policy: Arc<Policy>,
    facts: Arc<SessionFacts>,
    envelope: Arc<Envelope>,
    state: State,
    transaction: Option<Transaction>,
    /// The open question: its ticket, and what it is about.
    asked: Option<(Ticket, About)>,
    tickets: u64,
    actions: VecDeque<Action>,
    /// Replies that have not become an action: the group goes on.
    out: Vec<u8>,
    deadline: Option<Instant>,
    /// Octets of body since the deadline was set.
    drip: usize,
    /// What `handle_input` left behind, so that answers know whether the group goes on.
    input_left: bool,
    /// Octets of an overlong line that were dropped.
    skipped: usize,
    eof: bool,
    draining: bool,
    errors: u32,
    idle: u32,
    messages: u32,
    failed_logins: u32,
    /// The wall clock at a moment, for HOLDUNTIL.
    clock: Option<(Instant, Timestamp)>,
    /// What is offered to this client, if not what the policy says.
    extensions: ExtensionSet,
    /// By XFORWARD, for the next transaction.
    forwarded: Option<Box<Forwarded>>,
    /// Connections run short: less patience.
    pressed: bool,
    /// Errors that the client has been made to wait for.
    paused: u32,
}

impl Session {
    /// A session with a client that has just connected (on an implicit-TLS port: finished its handshake; `facts.tls` says so).
    pub fn new(policy: Arc<Policy>, facts: SessionFacts, _now: Instant) -> Session {
        assert!(policy.tls != TlsMode::Implicit || facts.tls.is_some(), "the handshake comes first on this port");
        let mut session = Session {
            extensions: policy.extensions,
            forwarded: None,
            pressed: false,
            paused: 0,
            policy,
            facts: Arc::new(facts),
            envelope: EMPTY.clone(),
            state: State::Connecting,
            transaction: None,
            asked: None,
            tickets: 0,
            actions: VecDeque::with_capacity(4),
            out: Vec::new(),
            deadline: None,
            drip: 0,
            input_left: false,
            skipped: 0,
            eof: false,
            draining: false,
            errors: 0,
            idle: 0,
            messages: 0,
            failed_logins: 0,
            clock: None,
        };
        session.ask(About::Connect, Ask::Connect);
        session
    }

    /// Takes what was read. Whatever is not understood yet stays in `input`.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) {
        while self.wants_input() && !self.go_down_if_idle() && self.advance(now, input) {}
        if matches!(self.state, State::Closed | State::Handshake) {
            // RFC 3207 §4.2, CVE-2011-0411: nothing read before TLS survives it.
            input.clear();
        }
        self.input_left = !input.is_empty();
        self.settle_down();
    }

    /// The peer has closed its side. What it sent before is still served.
    pub fn handle_eof(&mut self, _now: Instant) {
        self.eof = true;
        self.settle_down();
    }

    /// The answer to the open question. Call [`Session::handle_input`] again afterwards: pipelined commands may be waiting in the buffer.
    pub fn handle_answer(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        let (open, about) = self.asked.take().expect("an answer belongs to an open question");
        assert_eq!(open, ticket, "an answer belongs to the open question");
        self.arm(now);
        self.on_answer(now, about, answer);
        self.go_down_if_idle();
        if !self.input_left {
            self.settle_down();
        }
    }

    /// TLS is up after [`Action::StartTls`]. RFC 3207 §4.2: what was said before is forgotten.
    pub fn handle_tls(&mut self, now: Instant, tls: Arc<TlsFacts>) {
        assert!(matches!(self.state, State::Handshake), "TLS comes up when it was asked for");
        let facts = Arc::make_mut(&mut self.facts);
        facts.tls = Some(tls);
        facts.helo = "".into();
        facts.esmtp = false;
        self.state = State::Command;
        self.arm(now);
    }

    /// [`Session::poll_timeout`] has passed. Called too early it does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Waiting(_) => self.greet(now),
            State::Handshake => self.close(CloseReason::Timeout),
            _ => self.close_with(&words::TIMED_OUT, CloseReason::Timeout),
        }
        self.settle_down();
    }

    /// The server is going down: 421 as soon as no transaction is cut off by it.
    pub fn handle_shutdown(&mut self, _now: Instant) {
        self.draining = true;
        self.go_down_if_idle();
    }

    /// The client's forward-confirmed name has become known.
    pub fn set_peer_name(&mut self, name: Arc<str>) {
        Arc::make_mut(&mut self.facts).peer_name = Some(name);
    }

    /// What time it is for people. Without this FUTURERELEASE is not offered, as HOLDUNTIL (RFC 4865) names a date.
    pub fn set_clock(&mut self, now: Instant, clock: Timestamp) {
        self.clock = Some((now, clock));
    }

    /// Offers this client other extensions than the policy does: some masked, or XCLIENT and XFORWARD in addition.
    pub fn offer(&mut self, extensions: ExtensionSet) {
        self.extensions = extensions;
    }

    /// Whether the client is a host of our own: it may be hasty, and its bare newlines are borne.
    pub fn set_trusted(&mut self, trusted: bool) {
        Arc::make_mut(&mut self.facts).trusted = trusted;
    }

    /// Whether connections run short. While they do, clients get less time and may make fewer mistakes; deadlines that
    /// are set already stand.
    pub fn set_pressed(&mut self, pressed: bool) {
        self.pressed = pressed;
    }

    /// Where the message at hand came from, as its client says by XFORWARD.
    pub fn forwarded(&self) -> Option<&Forwarded> {
        self.forwarded.as_deref()
    }

    /// What to do next; `None` until something is handed in.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Session::handle_timeout`] wants to be called. Nothing while a question is open.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.asked.is_none())
    }

    /// Whether reading more makes sense now (`false` while a question is open, during the handshake, and after the end).
    pub fn wants_input(&self) -> bool {
        self.asked.is_none() && !matches!(self.state, State::Closed | State::Handshake)
    }

    /// While a body is being received: how many more octets the client announced by SIZE= or BDAT, for sizing the read buffer
    /// so that the message stays in one piece. Never above the policy's maximum.
    pub fn body_hint(&self) -> Option<usize> {
        let more = match &self.state {
            State::Data(_) => {
                let received = self.transaction.as_ref()?.received;
                self.envelope.parameters.size?.checked_sub(received).filter(|more| *more > 0)?
            }
            State::Chunk(chunk, _) => chunk.left,
            _ => return None,
        };
        Some(usize::try_from(more).unwrap_or(usize::MAX).min(self.policy.message_bytes_max))
    }

    /// Who this is, as known now.
    pub fn facts(&self) -> &Arc<SessionFacts> {
        &self.facts
    }

    /// The transaction so far.
    pub fn envelope(&self) -> &Arc<Envelope> {
        &self.envelope
    }
}
