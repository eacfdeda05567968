//! The client side of one connection: many transactions, SMTP (RFC 5321) and LMTP (RFC 2033).
//!
//! Hand in what was read and the time, carry out what [`Client::poll_action`] gives, in order, until it gives nothing more. The life of
//! a connection is greeting, EHLO, STARTTLS, EHLO, AUTH, `Ready`; then transactions, each begun by [`Client::begin`] and ended by
//! one [`Action::Done`]; every connection ends with [`Action::Close`].
//!
//! Promised: a recipient's 2yz in a [`Report`] was said by the peer after it had the whole message. A 421 or a loss at any moment turns
//! into a 4yz for whoever had no such answer. Nothing learned before TLS survives it. Passwords leave only inside TLS or over
//! loopback. Left to the caller: sockets, the handshake, write timeouts (the machine's timer runs from [`Client::handle_written`]), and
//! what a reply means for the queue.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use waypost_types::{Enhanced, MailParameters, Message, Recipient, Reply, ReversePath};

use self::pipeline::{Flight, Step};
use self::state::State;
use crate::response::ReplyReader;

pub use self::offers::Offers;

mod offers;
mod pipeline;
mod state;
#[cfg(test)]
mod tests;

/// Whether TLS is used on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsUse {
    /// Never STARTTLS.
    Never,
    /// STARTTLS if offered.
    Opportunistic,
    /// STARTTLS or nothing.
    Required,
    /// The connection began with TLS.
    Implicit,
}

/// How to speak to a peer.
#[derive(Clone)]
pub struct Options {
    /// Our name in EHLO.
    pub name: Arc<str>,
    /// LHLO and a reply per recipient (RFC 2033).
    pub lmtp: bool,
    /// STARTTLS.
    pub tls: TlsUse,
    /// AUTH with these, only inside TLS unless the peer is loopback: user and password.
    pub credentials: Option<(Arc<str>, Arc<str>)>,
    /// The peer is on this host: a password in the clear goes nowhere.
    pub loopback: bool,
    /// A peer that calls itself by our name in its answer to EHLO is ourselves: 5.4.6.
    pub detect_loop: bool,
    /// Shorter or longer timeouts: RFC 5321 §4.5.3.2 divided by this; 1 in production.
    pub timeout_divisor: u32,
}

impl Options {
    /// Plain SMTP under the given name: STARTTLS if offered, no login.
    pub fn new(name: Arc<str>) -> Options {
        Options {
            name,
            lmtp: false,
            tls: TlsUse::Opportunistic,
            credentials: None,
            loopback: false,
            detect_loop: false,
            timeout_divisor: 1,
        }
    }
}

impl fmt::Debug for Options {
    /// Never shows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.credentials.as_ref().map(|(user, _)| user);
        write!(f, "Options({} lmtp={} tls={:?} user={user:?})", self.name, self.lmtp, self.tls)
    }
}

/// One transaction to carry out.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// MAIL.
    pub sender: ReversePath,
    /// Its parameters; what the peer does not offer is left out, or the transaction fails where it must (SMTPUTF8, REQUIRETLS).
    pub parameters: MailParameters,
    /// RCPT, in order. At least one.
    pub recipients: Vec<Recipient>,
    /// DATA or BDAT.
    pub message: Message,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Action {
    /// Write these, in order: one vectored write. Then tell [`Client::handle_written`]. Message segments are the caller's own, unless
    /// stuffing forced a copy.
    Send(Vec<Bytes>),
    /// Flush, negotiate TLS, then [`Client::handle_tls`], or [`Client::handle_lost`] if it does not come up.
    StartTls,
    /// Greeted, secured, logged in: [`Client::begin`] may be called.
    Ready,
    /// The transaction has ended; the connection is `Ready` again if `reusable`.
    Done(Report),
    /// The connection cannot be used: no transaction was harmed, or `Done` came before.
    Failed(Failure),
    /// Flush and close.
    Close,
}

/// The end of a transaction.
#[derive(Clone, Debug)]
pub struct Report {
    /// One for each recipient, in order. A 2yz means that the peer has taken the message for it.
    pub replies: Vec<Reply>,
    /// The connection was lost after the final dot and before its reply: the peer may have the message.
    pub ambiguous: bool,
    /// Recipients the peer had no room for in this transaction (452 4.5.3 after others were accepted): to be sent at once in another.
    pub excess: Vec<usize>,
    /// Another transaction may follow.
    pub reusable: bool,
    /// Nobody was decided about and another host may do better: MAIL was put off, or the connection ended before the final dot, or
    /// the peer lacks an extension that the message needs.
    pub try_next: bool,
    /// The peer had kept this connection open from an earlier transaction and closed it without a word about this one: repeat it
    /// on a fresh connection, it does not count as an attempt.
    pub untried: bool,
    /// The peer offers DSN (RFC 3461), so success reports are its business.
    pub dsn: bool,
}

/// What is said of a peer without STARTTLS where there must be TLS.
const NO_STARTTLS: &str = "TLS is required, but the peer does not offer STARTTLS";

/// Why a connection could not be used.
#[derive(Clone, Debug)]
pub struct Failure {
    /// At which step: `greeting`, `ehlo`, `starttls`, `auth`, `idle`.
    pub step: &'static str,
    /// What the peer said, or our words (4yz) for a loss or timeout.
    pub reply: Reply,
    /// Trying the next host makes sense.
    pub try_next: bool,
}

impl Failure {
    /// Whether it is that TLS must be and the peer does not offer it.
    pub fn is_without_starttls(&self) -> bool {
        self.reply.text == NO_STARTTLS
    }
}

/// One connection, client side.
#[derive(Debug)]
pub struct Client {
    options: Options,
    state: State,
    offers: Offers,
    encrypted: bool,
    reader: ReplyReader,
    actions: VecDeque<Action>,
    deadline: Option<Instant>,
    flight: Option<Flight>,
    /// Transactions that have ended.
    transactions: u32,
    /// The peer still holds a transaction that came to nothing.
    needs_reset: bool,
}

impl Client {
    /// A client on a connection that has just been made ([`TlsUse::Implicit`]: whose handshake is over).
    pub fn new(options: Options, now: Instant) -> Client {
        let encrypted = options.tls == TlsUse::Implicit;
        let mut client = Client {
            options,
            state: State::Greeting,
            offers: Offers::default(),
            encrypted,
            reader: ReplyReader::default(),
            actions: VecDeque::with_capacity(4),
            deadline: None,
            flight: None,
            transactions: 0,
            needs_reset: false,
        };
        client.arm(now);
        client
    }

    /// Takes what was read; what is not a whole reply yet stays in `input`.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) {
        while self.state != State::Closed && self.state != State::Handshake {
            match self.reader.take(input) {
                Ok(Some(reply)) => self.on_reply(now, reply, !input.is_empty()),
                Ok(None) => break,
                Err(_) => self.confused(now),
            }
        }
        if self.state == State::Closed {
            input.clear();
        }
    }

    fn on_reply(&mut self, now: Instant, reply: Reply, more: bool) {
        match self.state {
            State::Greeting => self.on_greeting(now, reply),
            State::Ehlo => self.on_ehlo(now, reply),
            State::Helo => self.on_helo(now, reply),
            State::StartTls => self.on_starttls(now, reply, more),
            State::Auth(step) => self.on_auth(now, step, reply),
            State::Envelope => self.on_envelope_reply(now, reply, more),
            State::Dot => self.on_dot_reply(now, reply, more),
            State::LoneDot => self.finish(now, reply.code != 421 && !more),
            // `421 4.4.2 idle too long`, or the peer has lost count: nobody was harmed.
            State::Idle => self.fail(now, reply, false),
            State::Quit => self.close(),
            State::Handshake | State::Closed => unreachable!("no input is taken now"),
        }
    }

    fn on_envelope_reply(&mut self, now: Instant, reply: Reply, more: bool) {
        if reply.code == 421 {
            return self.cut_off(now, reply, false);
        }
        match self.flight_mut().on_reply(reply) {
            Step::Go => self.send_commands(now),
            Step::Body => self.send_body(now),
            Step::LoneDot => {
                self.send_line(now, State::LoneDot, Bytes::from_static(b".\r\n"));
                if self.options.lmtp {
                    // RFC 2033 answers per accepted recipient, and there is none.
                    self.finish(now, false);
                }
            }
            Step::Finished => {
                self.needs_reset = self.flight_mut().leaves_residue();
                self.finish(now, !more);
            }
            Step::Confused => self.confused(now),
        }
    }

    fn on_dot_reply(&mut self, now: Instant, reply: Reply, more: bool) {
        match reply.code / 100 {
            _ if reply.code == 421 => self.cut_off(now, reply, false),
            3 => self.confused(now),
            _ => {
                let lmtp = self.options.lmtp;
                if self.flight_mut().on_dot_reply(reply, lmtp) {
                    self.finish(now, !more);
                } else {
                    self.arm(now);
                }
            }
        }
    }

    /// TLS is up after [`Action::StartTls`]. RFC 3207 §4.2: everything learned before is forgotten.
    pub fn handle_tls(&mut self, now: Instant) {
        assert_eq!(self.state, State::Handshake, "TLS comes up when it was asked for");
        self.encrypted = true;
        self.reader = ReplyReader::default();
        self.send_hello(now);
    }

    /// What [`Action::Send`] gave has left: the wait for the answer begins now.
    pub fn handle_written(&mut self, now: Instant) {
        self.arm(now);
    }

    /// The connection is gone; `error` says how, for the log and the reply.
    pub fn handle_lost(&mut self, now: Instant, error: &str) {
        let lost = match self.state {
            State::Handshake => Reply::new(454, Enhanced(4, 7, 5), format!("TLS handshake failed: {error}")),
            _ => Reply::new(
                451,
                Enhanced(4, 4, 2),
                format!("lost connection while waiting for {}: {error}", self.awaited()),
            ),
        };
        self.give_up(now, lost);
    }

    /// [`Client::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            let text = format!("timed out while waiting for {}", self.awaited());
            self.give_up(now, Reply::new(451, Enhanced(4, 4, 2), text));
        }
    }

    /// Starts a transaction; only after `Ready` or a reusable `Done`. If the peer has closed the connection since, in words that came
    /// with those of the last answer, the transaction ends at once.
    pub fn begin(&mut self, now: Instant, transaction: Transaction) {
        let mut flight = Flight::new(transaction, self.offers, self.needs_reset);
        if self.state == State::Closed {
            return self.begin_too_late(flight);
        }
        assert_eq!(self.state, State::Idle, "a transaction begins on a connection that is ready");
        let objection = flight.check(self.encrypted, self.options.lmtp).err();
        if let Some(reply) = &objection {
            flight.cut_off(reply);
        }
        self.flight = Some(flight);
        if objection.is_some() {
            self.finish_with(now, true, |report| report.try_next = true);
        } else {
            self.needs_reset = false;
            self.wait(now, State::Envelope);
            self.send_commands(now);
        }
    }

    /// The transaction's report takes the place of the connection's failure, if nobody has heard of that yet.
    fn begin_too_late(&mut self, mut flight: Flight) {
        let at = self.actions.iter().position(|action| matches!(action, Action::Failed(_)));
        let said = match at.and_then(|at| self.actions.remove(at)) {
            Some(Action::Failed(failure)) if failure.reply.is_transient() => failure.reply,
            _ => Reply::new(451, Enhanced(4, 4, 2), "the connection was closed before the transaction"),
        };
        flight.cut_off(&said);
        let report = Report { try_next: true, untried: self.transactions > 0, ..flight.into_report() };
        self.transactions += 1;
        self.actions.push_front(Action::Done(report));
    }

    fn send_commands(&mut self, now: Instant) {
        let mut group = Vec::new();
        self.flight_mut().write_commands(&mut group);
        if !group.is_empty() {
            self.actions.push_back(Action::Send(vec![group.into()]));
        }
        self.arm(now);
    }

    fn send_body(&mut self, now: Instant) {
        let flight = self.flight_mut();
        let message = &flight.transaction.message;
        let pieces = if flight.sends_bdat() {
            let mut pieces = Vec::with_capacity(message.segments().len() + 1);
            pieces.push(format!("BDAT {} LAST\r\n", message.len()).into());
            pieces.extend(message.segments().iter().cloned());
            pieces
        } else {
            crate::data::stuff(message)
        };
        self.wait(now, State::Dot);
        self.actions.push_back(Action::Send(pieces));
    }

    /// QUIT, politely.
    pub fn quit(&mut self, now: Instant) {
        match self.state {
            State::Closed | State::Quit => {}
            State::Idle => self.send_line(now, State::Quit, Bytes::from_static(b"QUIT\r\n")),
            _ => self.give_up(now, Reply::new(451, Enhanced(4, 3, 2), "the transaction was broken off")),
        }
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Client::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether a transaction may begin.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Whether the connection is inside TLS.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// What the peer offers, as known now.
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    fn flight_mut(&mut self) -> &mut Flight {
        self.flight.as_mut().expect("there is a transaction in flight in this state")
    }

    fn awaited(&self) -> String {
        match self.flight.as_ref().and_then(Flight::awaited) {
            Some(command) if self.state == State::Envelope => format!("the reply to {}", command.word()),
            _ => self.state.awaited().to_string(),
        }
    }

    fn finish(&mut self, now: Instant, reusable: bool) {
        self.finish_with(now, reusable, |_| {});
    }

    /// Ends the transaction in flight; `amend` has the last word on its report.
    fn finish_with(&mut self, now: Instant, reusable: bool, amend: impl FnOnce(&mut Report)) {
        let flight = self.flight.take().expect("there is a transaction to end");
        let mut report = flight.into_report();
        report.reusable = reusable;
        amend(&mut report);
        self.transactions += 1;
        self.actions.push_back(Action::Done(report));
        if reusable {
            self.wait(now, State::Idle);
        } else {
            self.say_goodbye();
        }
    }

    /// The peer closes (421), or makes no sense any more, while a transaction is in flight.
    fn cut_off(&mut self, now: Instant, reply: Reply, ambiguous: bool) {
        // A 421 that answers our first command on a kept connection was on its way before we spoke.
        let fresh = self.transactions == 0;
        let before_dot = self.state == State::Envelope;
        let flight = self.flight_mut();
        let untried = !fresh && before_dot && flight.heard == 0;
        flight.cut_off(&reply);
        self.finish_with(now, false, |report| {
            report.ambiguous = ambiguous;
            report.untried = untried;
            report.try_next = before_dot;
        });
    }

    /// The connection is lost or too slow.
    fn give_up(&mut self, now: Instant, reply: Reply) {
        match self.state {
            State::Closed => return,
            State::Quit => {}
            State::Envelope | State::Dot => self.cut_off(now, reply, self.state == State::Dot),
            State::LoneDot => self.finish(now, false),
            state => self.actions.push_back(Action::Failed(Failure { step: state.step(), reply, try_next: true })),
        }
        // Nobody is there to hear QUIT.
        self.actions.retain(|action| !matches!(action, Action::Send(_) | Action::Close | Action::StartTls));
        self.close();
    }

    /// What came is no answer to what was said.
    fn confused(&mut self, now: Instant) {
        let text =
            format!("the peer does not keep to the protocol: no valid reply while waiting for {}", self.awaited());
        let reply = Reply::new(451, Enhanced(4, 5, 0), text);
        match self.state {
            State::Closed => {}
            State::Quit => self.close(),
            State::Envelope => self.cut_off(now, reply, false),
            // Whatever it tried to say, it may have the message.
            State::Dot => self.cut_off(now, reply, true),
            State::LoneDot => self.finish(now, false),
            _ => self.fail(now, reply, true),
        }
    }

    /// The peer will not have us, or we not it.
    fn fail(&mut self, _now: Instant, reply: Reply, try_next: bool) {
        let failure = Failure { step: self.state.step(), reply, try_next };
        self.actions.push_back(Action::Failed(failure));
        self.say_goodbye();
    }

    /// The last action of a connection that says no goodbye.
    fn end(&mut self, action: Action) {
        self.actions.push_back(action);
        self.close();
    }

    /// QUIT without waiting for its reply: RFC 5321 §4.1.1.10 wants the word, nobody needs the answer.
    fn say_goodbye(&mut self) {
        self.actions.push_back(Action::Send(vec![Bytes::from_static(b"QUIT\r\n")]));
        self.close();
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.deadline = None;
        self.actions.push_back(Action::Close);
    }
}
