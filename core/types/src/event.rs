//! What happened, said once.
//!
//! The log line, the counter and the span of an occurrence are all made from the same [`Event`] by `daemon/observe`, so they cannot
//! disagree, and nothing below the daemon writes log lines about mail. Events borrow: making one costs next to nothing when nobody
//! listens.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::{
    Address, Domain, Enhanced, Fact, MessageId, Opinion, Outcome, Reply, ReversePath, SessionId, Stage, TlsFacts,
    Transport,
};

/// Something a mail administrator greps for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A client was let in.
    Connected {
        /// Session.
        session: SessionId,
        /// Kind of door.
        transport: Transport,
        /// Client.
        peer: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
    /// A client was turned away before a session began: too many connections.
    TurnedAway {
        /// Client.
        peer: IpAddr,
        /// What it was told.
        reply: &'a Reply,
        /// The limit that was reached, by its name in the configuration.
        limit: &'static str,
    },
    /// TLS is up.
    TlsStarted {
        /// Session.
        session: SessionId,
        /// What was negotiated.
        tls: &'a TlsFacts,
    },
    /// TLS did not come up.
    TlsFailed {
        /// Session.
        session: SessionId,
        /// Why.
        error: &'a str,
    },
    /// A user logged in.
    Authenticated {
        /// Session.
        session: SessionId,
        /// SASL mechanism.
        mechanism: &'a str,
        /// Who.
        user: &'a str,
    },
    /// A login failed.
    AuthenticationFailed {
        /// Session.
        session: SessionId,
        /// SASL mechanism.
        mechanism: &'a str,
        /// Who was claimed.
        user: &'a str,
        /// Client.
        peer: IpAddr,
    },
    /// A client was told no.
    Rejected {
        /// Session.
        session: SessionId,
        /// At which stage.
        stage: Stage,
        /// What it was told.
        reply: &'a Reply,
        /// Which check or plugin said so.
        by: &'a str,
        /// Client.
        peer: IpAddr,
        /// Envelope sender, once known.
        sender: Option<&'a ReversePath>,
        /// The recipient in question.
        recipient: Option<&'a Address>,
    },
    /// A message is ours: it is on disk and the client is being told so.
    Accepted {
        /// Session.
        session: SessionId,
        /// Queue id.
        id: MessageId,
        /// Envelope sender.
        sender: &'a ReversePath,
        /// How many recipients after aliases.
        recipients: usize,
        /// Octets.
        size: usize,
        /// The client's `Message-ID` field, if it has one.
        message_id: Option<&'a str>,
        /// Who was asked and said what: the *why* of the message.
        opinions: &'a [Opinion],
        /// What was stated of it.
        facts: &'a [Fact],
    },
    /// What plugins stated was weighed, and something follows from it.
    Decided {
        /// Session.
        session: SessionId,
        /// `header`, `subject`, `greylist`, `hold` or `refuse`.
        word: &'static str,
        /// The sum of the weights.
        score: f64,
        /// Whose thresholds: the section's name in the configuration.
        by: &'a str,
        /// What was stated.
        facts: &'a [Fact],
    },
    /// A plugin had a message dropped.
    Discarded {
        /// Session.
        session: SessionId,
        /// Which plugin.
        by: &'a str,
    },
    /// A session ended.
    Disconnected {
        /// Session.
        session: SessionId,
        /// `quit`, `lost`, `timeout`, `limit`, `refused`, `shutdown`, `tls`.
        reason: &'static str,
        /// Messages accepted.
        messages: u32,
        /// How long it lasted.
        duration: Duration,
    },
    /// A limit was reached inside a session.
    LimitReached {
        /// Session.
        session: SessionId,
        /// By its name in the configuration.
        limit: &'static str,
    },
    /// An attempt for one recipient ended.
    Attempted {
        /// Queue id.
        id: MessageId,
        /// Who.
        recipient: &'a Address,
        /// How.
        outcome: &'a Outcome,
        /// Host and address, or mailbox.
        target: &'a str,
        /// TLS towards the peer and why it was (not) required, such as `TLSv1.3 opportunistic`.
        security: &'a str,
        /// Which attempt, from 1.
        attempt: u32,
        /// Since the message was accepted.
        age: Duration,
        /// When it will be tried again, for `Delayed`.
        retry_in: Option<Duration>,
        /// What the reply means, by the table of categories; `None` for success.
        category: Option<&'a str>,
    },
    /// The MTA-STS policy that a domain announces could not be had.
    PolicyFailed {
        /// Whose.
        domain: &'a Domain,
        /// `sts-policy-fetch-error`, `sts-policy-invalid`, `sts-webpki-invalid` (RFC 8460 §4.3.2.2).
        fault: &'static str,
        /// Why.
        error: &'a str,
    },
    /// A bounce or complaint about mail of ours has come in, and is a message like others from here on. One for each recipient that it names.
    Bounced {
        /// The session that brought it.
        session: SessionId,
        /// Its own queue id.
        id: MessageId,
        /// `dsn`, `arf`, or `words` for the forms from before them.
        form: &'static str,
        /// `failed`, `delayed`, `delivered`, `complaint`, `feedback`.
        what: &'static str,
        /// Whom the original was sent to, as far as that is told.
        recipient: Option<&'a str>,
        /// RFC 3463.
        status: Option<Enhanced>,
        /// By the table; `None` for what went well.
        category: Option<&'a str>,
        /// Our queue id of the original.
        about: Option<MessageId>,
        /// The original's `Message-ID`.
        message_id: Option<&'a str>,
        /// It is certain that we wrote to this recipient: anybody can write a bounce.
        proven: bool,
        /// It has put the recipient on the suppression list.
        suppressed: bool,
        /// What the last host said.
        diagnosis: &'a str,
    },
    /// A message has left the queue: nobody is pending any more.
    Removed {
        /// Queue id.
        id: MessageId,
        /// Since it was accepted.
        age: Duration,
    },
    /// A report to a sender was put into the queue.
    Noticed {
        /// Queue id of the report.
        id: MessageId,
        /// Queue id of the message it is about.
        about: MessageId,
        /// `failure`, `delay`, `success`.
        kind: &'static str,
        /// To whom.
        to: &'a Address,
    },
    /// A plugin failed: it trapped, ran out of a limit, or said so itself.
    PluginFault {
        /// Session, where there is one.
        session: Option<SessionId>,
        /// Which plugin.
        plugin: &'a str,
        /// When.
        stage: Stage,
        /// What went wrong.
        error: &'a str,
        /// What its fault policy made of it.
        policy: &'static str,
    },
    /// A plugin was taken out of the chain or put back (`closed`, `open`, `half-open`).
    PluginBreaker {
        /// Which plugin.
        plugin: &'a str,
        /// The breaker's new state.
        state: &'static str,
    },
    /// A plugin's own log line.
    PluginLog {
        /// Session, where there is one.
        session: Option<SessionId>,
        /// Which plugin.
        plugin: &'a str,
        /// `trace`, `debug`, `info`, `warn`, `error`.
        level: &'static str,
        /// What it says.
        message: &'a str,
    },
    /// A plugin's own counter.
    PluginMetric {
        /// Which plugin.
        plugin: &'a str,
        /// Lower-case letters, digits and underscores, at most 64.
        name: &'a str,
        /// What to add.
        delta: f64,
    },
    /// The store cannot be written any more; new mail is refused with 452 until the server is restarted.
    StoreFailed {
        /// What the operating system or RocksDB said.
        error: &'a str,
    },
    /// An entry could not be read; it was set aside.
    EntryCorrupt {
        /// Its id, if that much is known.
        id: Option<MessageId>,
        /// What is wrong with it.
        error: &'a str,
    },
    /// The program itself: `started`, `reloaded`, `draining`, `stopped`, and things to know about the configuration.
    Notice {
        /// `info`, `warn` or `error`.
        level: &'static str,
        /// What.
        message: &'a str,
    },
}

/// Whoever listens to events. Called on hot paths: must not block.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: Event<'_>);
}

/// Listens to nothing: for tests and tools.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deaf;

impl Observer for Deaf {
    fn observe(&self, _: Event<'_>) {}
}
