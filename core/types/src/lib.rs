//! The nouns of mail that every other crate shares: floor 0.
//!
//! No I/O, no runtime, no clock, no `unsafe`; builds for `wasm32-unknown-unknown`. Time comes in as [`Timestamp`] or
//! `std::time::Instant` arguments, randomness as plain integers.
//!
//! | page | what it holds |
//! |---|---|
//! | [`address`] | [`Address`], [`Domain`], [`Host`], [`ReversePath`]: RFC 5321 §4.1.2 mailboxes, kept whole and comparable |
//! | [`envelope`] | [`Envelope`], [`Recipient`] and the parameters of MAIL and RCPT |
//! | [`message`] | [`Message`]: a message as a list of shared byte ranges, never copied to be edited |
//! | [`header`] | walking the header block without building anything |
//! | [`reply`] | [`Reply`], [`Enhanced`]: every answer of the protocol, RFC 5321 §4.2 and RFC 3463 |
//! | [`security`] | [`Security`], [`Tlsa`]: how a hop must be secured |
//! | [`checks`] | the built-in checks by name, and what a port makes of each |
//! | [`edit`] | carrying out what a judge wants changed |
//! | [`verdict`] | [`Stage`], [`Question`], [`Judgement`], [`Verdict`], [`Judge`]: how a decision is asked for and given |
//! | [`outcome`] | [`Outcome`]: what became of one recipient |
//! | [`peer`] | [`SessionFacts`], [`TlsFacts`]: who is at the other end |
//! | [`id`] | [`MessageId`], [`SessionId`], [`Timestamp`] |
//! | [`event`] | [`Event`], [`Observer`]: what happened, said once, from which log line, counter and span are made |
//! | [`login`] | [`login::Credentials`], [`login::Authenticator`]: what clients show, and who can judge it |
//! | [`port`] | small traits for foreign needs: DNS, key-value, signing |
//! | [`limits`] | every bound and the reason for it |

pub mod address;
pub mod checks;
pub mod edit;
pub mod envelope;
pub mod event;
pub mod header;
pub mod id;
pub mod limits;
pub mod login;
pub mod message;
pub mod outcome;
pub mod peer;
pub mod port;
pub mod reply;
pub mod security;
pub mod verdict;

pub use address::{Address, Domain, Host, ReversePath};
pub use envelope::{Body, Envelope, MailParameters, Notify, Recipient, Return};
pub use event::{Event, Observer};
pub use id::{MessageId, SessionId, Timestamp};
pub use message::Message;
pub use outcome::Outcome;
pub use peer::{ClientCertificate, Finding, SessionFacts, TlsFacts, Transport};
pub use reply::{Enhanced, Reply};
pub use security::{Security, Tlsa};
pub use verdict::{Edit, Fact, Judge, Judgement, Jury, Opinion, Question, Stage, StageSet, Verdict};

use std::future::Future;
use std::pin::Pin;

/// A boxed future: what the object-safe traits between the floors return.
pub type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An answer that is there already, or the work that brings it. What is in memory is answered without an allocation and without a
/// wait; what somebody else has to be asked for comes later, within that somebody's own deadline.
pub enum Soon<'a, T> {
    /// Here it is.
    Now(T),
    /// It will come.
    Later(Task<'a, T>),
}

impl<T> Soon<'_, T> {
    /// The answer, waited for if need be.
    pub async fn get(self) -> T {
        match self {
            Soon::Now(answer) => answer,
            Soon::Later(task) => task.await,
        }
    }
}

impl<T> std::fmt::Debug for Soon<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Soon::Now(_)) { "Now" } else { "Later" })
    }
}
