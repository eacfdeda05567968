//! The server side of one connection.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use waypost_types::verdict::Credentials;
use waypost_types::{Envelope, MailParameters, Recipient, Reply, ReversePath, SessionFacts, TlsFacts};

pub use self::policy::{AuthMode, BareNewline, Impatience, Policy, TlsMode};

pub mod policy;

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
    /// HELO, EHLO or LHLO; the name stands in [`Session::facts`].
    Helo,
    /// Are these credentials good? Answer with [`Answer::Granted`], [`Answer::Denied`] or a 4yz refusal.
    Auth(Credentials),
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
    /// Auth: who it is.
    Granted(Arc<str>),
    /// Auth: wrong. The reply is 535 5.7.8.
    Denied,
    /// Message over LMTP: one reply for each accepted recipient, in order.
    Each(Vec<Reply>),
}

/// One connection, server side.
#[derive(Debug)]
pub struct Session {}

#[allow(unused_variables)]
impl Session {
    /// A session with a client that has just connected (on an implicit-TLS port: finished its handshake; `facts.tls` says so).
    pub fn new(policy: Arc<Policy>, facts: SessionFacts, now: Instant) -> Session {
        todo!()
    }
    /// Takes what was read. Whatever is not understood yet stays in `input`.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) {
        todo!()
    }
    /// The peer has closed its side.
    pub fn handle_eof(&mut self, now: Instant) {
        todo!()
    }
    /// The answer to the open question. Call [`Session::handle_input`] again afterwards: pipelined commands may be waiting in the buffer.
    pub fn handle_answer(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        todo!()
    }
    /// TLS is up after [`Action::StartTls`].
    pub fn handle_tls(&mut self, now: Instant, tls: Arc<TlsFacts>) {
        todo!()
    }
    /// [`Session::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
    /// The server is going down: 421 as soon as no transaction is cut off by it.
    pub fn handle_shutdown(&mut self, now: Instant) {
        todo!()
    }
    /// The client's forward-confirmed name has become known.
    pub fn set_peer_name(&mut self, name: Arc<str>) {
        todo!()
    }
    /// What to do next; `None` until something is handed in.
    pub fn poll_action(&mut self) -> Option<Action> {
        todo!()
    }
    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// Whether reading more makes sense now (`false` while a question is open or after the end).
    pub fn wants_input(&self) -> bool {
        todo!()
    }
    /// While a body is being received: how many more octets the client announced by SIZE= or BDAT, for sizing the read buffer
    /// so that the message stays in one piece. Never above the policy's maximum.
    pub fn body_hint(&self) -> Option<usize> {
        todo!()
    }
    /// Who this is, as known now.
    pub fn facts(&self) -> &Arc<SessionFacts> {
        todo!()
    }
    /// The transaction so far.
    pub fn envelope(&self) -> &Arc<Envelope> {
        todo!()
    }
}
