//! How a decision is asked for and given.
//!
//! The server puts a [`Question`] at each [`Stage`]; whoever implements [`Judge`] (the plugin host, in the product) answers with a
//! [`Judgement`]. Nothing here knows what a plugin is.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

pub use crate::login::Credentials;
use crate::{Address, Envelope, Finding, Message, MessageId, Recipient, Reply, ReversePath, SessionFacts, Task};

/// A moment of a transaction at which plugins are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stage {
    /// Before the greeting.
    Connect,
    /// After HELO, EHLO or LHLO.
    Helo,
    /// When credentials were shown.
    Auth,
    /// After MAIL.
    Mail,
    /// After each RCPT.
    Rcpt,
    /// After DATA, before 354.
    Data,
    /// After the final dot, before its reply.
    Message,
    /// After the message was given its queue id and before it is stored: signing.
    Queue,
}

impl Stage {
    /// All stages, in the order of a transaction.
    pub const ALL: [Stage; 8] =
        [Stage::Connect, Stage::Helo, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Message, Stage::Queue];

    /// The word used in configuration and logs.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Connect => "connect",
            Stage::Helo => "helo",
            Stage::Auth => "auth",
            Stage::Mail => "mail",
            Stage::Rcpt => "rcpt",
            Stage::Data => "data",
            Stage::Message => "message",
            Stage::Queue => "queue",
        }
    }
}

/// A set of stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageSet(u16);

impl StageSet {
    /// No stage.
    pub const EMPTY: StageSet = StageSet(0);

    /// This set and `stage`.
    #[must_use]
    pub fn with(self, stage: Stage) -> StageSet {
        StageSet(self.0 | 1 << stage as u8)
    }

    /// Either set's stages.
    #[must_use]
    pub fn union(self, other: StageSet) -> StageSet {
        StageSet(self.0 | other.0)
    }

    /// Whether `stage` is in it.
    pub fn contains(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u8 != 0
    }
}

/// What is put to the chain. Owned, and cheap to make: everything large is shared.
#[derive(Clone, Debug)]
pub struct Question {
    /// When.
    pub stage: Stage,
    /// Who is connected.
    pub session: Arc<SessionFacts>,
    /// The transaction so far. At `Mail` it holds the new sender, at `Rcpt` the recipients accepted before this one.
    pub envelope: Arc<Envelope>,
    /// At `Rcpt`: the recipient in question.
    pub recipient: Option<Recipient>,
    /// At `Auth`: what the client showed.
    pub credentials: Option<Credentials>,
    /// At `Message` and `Queue`: the message, forged headers of ours already removed, our trace headers not yet added
    /// (`Message`) or in front (`Queue`).
    pub message: Option<Message>,
    /// At `Message` and `Queue`: what mail authentication found.
    pub findings: Arc<[Finding]>,
    /// At `Queue`: the id the message will have.
    pub queue_id: Option<MessageId>,
}

/// The decision of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// No opinion: go on.
    #[default]
    Pass,
    /// Yes, and nobody further down this stage's chain is asked. Never overrides relay control or limits.
    Accept,
    /// 4yz.
    Defer(Reply),
    /// 5yz.
    Refuse(Reply),
    /// The reply, then the connection is closed.
    Disconnect(Reply),
    /// Say yes to the client and drop the message.
    Discard,
    /// Take the message and keep it in the queue until an operator releases it.
    Hold(Cow<'static, str>),
}

impl Verdict {
    /// One word for logs.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Accept => "accept",
            Verdict::Defer(_) => "defer",
            Verdict::Refuse(_) => "refuse",
            Verdict::Disconnect(_) => "disconnect",
            Verdict::Discard => "discard",
            Verdict::Hold(_) => "hold",
        }
    }
}

/// A change that a judge asks for. Applied in order, after the whole chain has passed the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Put a field in front of everything.
    PrependHeader {
        /// Field name.
        name: String,
        /// Field value; may hold folds (`\r\n` followed by a blank).
        value: String,
    },
    /// Put a field at the end of the header block.
    AppendHeader {
        /// Field name.
        name: String,
        /// Field value.
        value: String,
    },
    /// Take fields out.
    RemoveHeader {
        /// Field name, any case.
        name: String,
        /// Which occurrence, counted from the front from 0; all if `None`.
        index: Option<u32>,
    },
    /// A further recipient.
    AddRecipient(Address),
    /// One recipient less.
    RemoveRecipient(Address),
    /// Another envelope sender.
    SetSender(ReversePath),
    /// Another body behind the same header block.
    ReplaceBody(Bytes),
}

/// A fact stated along the way: a symbol with a weight, for whoever weighs them.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Who says so.
    pub plugin: Arc<str>,
    /// Its name, such as `RBL_LISTED`.
    pub symbol: String,
    /// Positive speaks for spam.
    pub weight: f64,
    /// Why.
    pub detail: Option<String>,
}

/// What one plugin did at one stage: a line of the *why* of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Opinion {
    /// Which plugin.
    pub plugin: Arc<str>,
    /// When.
    pub stage: Stage,
    /// [`Verdict::word`], or `fault`.
    pub verdict: &'static str,
    /// The reply's text or the fault's.
    pub detail: Option<String>,
    /// Time from question to answer, microseconds.
    pub micros: u32,
    /// Octets of the message that it read.
    pub bytes_read: u64,
    /// DNS questions that it asked.
    pub dns_asked: u32,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// What to do.
    pub verdict: Verdict,
    /// Who decided, if anybody did.
    pub by: Option<Arc<str>>,
    /// At `Auth`: the identity that a judge vouches for.
    pub identity: Option<String>,
    /// What to change.
    pub edits: Vec<Edit>,
    /// What was stated at this stage.
    pub facts: Vec<Fact>,
    /// Who was asked and said what.
    pub opinions: Vec<Opinion>,
}

/// Whoever decides: one for the whole server, reloaded as a whole.
pub trait Judge: Send + Sync + 'static {
    /// The stages at which anybody wants to be asked now. The others cost nothing.
    fn stages(&self) -> StageSet;
    /// A jury for one session: it keeps what judges remember between the stages, and stays with the judges it began with even
    /// when the set is swapped meanwhile.
    fn open(&self) -> Box<dyn Jury>;
}

/// The judges of one session.
pub trait Jury: Send {
    /// The stages at which this session's judges want to be asked.
    fn stages(&self) -> StageSet;
    /// Puts a question. Always answers, within the time limits of `limits.rs`; faults have become verdicts by policy.
    /// Safe to drop half-way (the client has gone).
    fn judge(&mut self, question: Question) -> Task<'_, Judgement>;
    /// The transaction is over (stored, refused, reset): forget it, keep the session.
    fn reset(&mut self);
}
