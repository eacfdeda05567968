//! The client side of one connection: many transactions, SMTP and LMTP.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use waypost_types::{MailParameters, Message, Recipient, Reply, ReversePath};

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
#[derive(Clone, Debug)]
pub struct Options {
    /// Our name in EHLO.
    pub name: Arc<str>,
    /// LHLO and a reply per recipient (RFC 2033).
    pub lmtp: bool,
    /// STARTTLS.
    pub tls: TlsUse,
    /// AUTH with these, only inside TLS unless the peer is loopback: user and password.
    pub credentials: Option<(Arc<str>, Arc<str>)>,
    /// Shorter or longer timeouts: RFC 5321 §4.5.3.2 divided by this; 1 in production.
    pub timeout_divisor: u32,
}

/// One transaction to carry out.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// MAIL.
    pub sender: ReversePath,
    /// Its parameters; what the peer does not offer is left out, or the transaction fails where it must (SMTPUTF8, REQUIRETLS).
    pub parameters: MailParameters,
    /// RCPT, in order.
    pub recipients: Vec<Recipient>,
    /// DATA or BDAT.
    pub message: Message,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Action {
    /// Write these, in order: one vectored write. Message segments are the caller's own, unless stuffing forced a copy.
    Send(Vec<Bytes>),
    /// Flush, negotiate TLS, then [`Client::handle_tls`].
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
}

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

/// One connection, client side.
#[derive(Debug)]
pub struct Client {}

#[allow(unused_variables)]
impl Client {
    /// A client on a connection that has just been made.
    pub fn new(options: Options, now: Instant) -> Client {
        todo!()
    }
    /// Takes what was read; what is not a whole reply yet stays in `input`.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) {
        todo!()
    }
    /// TLS is up after [`Action::StartTls`].
    pub fn handle_tls(&mut self, now: Instant) {
        todo!()
    }
    /// The connection is gone; `error` says how, for the log and the reply.
    pub fn handle_lost(&mut self, now: Instant, error: &str) {
        todo!()
    }
    /// [`Client::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
    /// Starts a transaction; only after `Ready` or a reusable `Done`.
    pub fn begin(&mut self, now: Instant, transaction: Transaction) {
        todo!()
    }
    /// QUIT, politely.
    pub fn quit(&mut self, now: Instant) {
        todo!()
    }
    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        todo!()
    }
    /// When [`Client::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
}
