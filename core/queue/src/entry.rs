//! An entry: everything the queue knows about a message except its octets.

use std::net::IpAddr;

use waypost_types::{
    MailParameters, MessageId, Outcome, Recipient, Reply, ReversePath, SessionId, Timestamp, Transport,
};

/// Why a message exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Somebody sent it.
    Mail,
    /// We made it: a delivery report. Never answered by another report.
    Notice,
}

/// Where a message came from; kept for logs, reports and per-tenant rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The kind of door.
    pub transport: Transport,
    /// The session that brought it, if one did.
    pub session: Option<SessionId>,
    /// The client's address.
    pub peer: Option<IpAddr>,
    /// What it called itself.
    pub helo: Box<str>,
    /// The user who logged in.
    pub user: Option<Box<str>>,
}

/// Whether a recipient is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// To be tried at or after [`Delivery::due`].
    Pending,
    /// Done with; never [`Outcome::Delayed`].
    Done(Outcome),
}

/// The last thing that was tried for a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it ended.
    pub at: Timestamp,
    /// Host, address or mailbox.
    pub target: Box<str>,
    /// What was answered.
    pub reply: Reply,
}

/// One recipient of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Who, after aliases.
    pub recipient: Recipient,
    /// Whether it is done with.
    pub state: State,
    /// Attempts that have ended.
    pub attempts: u32,
    /// When it may be tried next.
    pub due: Timestamp,
    /// The last attempt.
    pub last: Option<Attempt>,
    /// A delay report was sent.
    pub delay_reported: bool,
}

impl Delivery {
    /// A recipient that has not been tried, due at `due`.
    pub fn new(recipient: Recipient, due: Timestamp) -> Delivery {
        Delivery { recipient, state: State::Pending, attempts: 0, due, last: None, delay_reported: false }
    }

    /// Whether it still has to be delivered.
    pub fn is_pending(&self) -> bool {
        self.state == State::Pending
    }
}

/// A message's entry in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: MessageId,
    /// Why it exists.
    pub kind: Kind,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// When it is given up.
    pub expires: Timestamp,
    /// Where it came from.
    pub origin: Origin,
    /// Envelope sender.
    pub sender: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// Every recipient, done or not.
    pub recipients: Vec<Delivery>,
    /// Octets of the message.
    pub size: u64,
    /// Why an operator or a plugin holds it; a held entry is never due.
    pub held: Option<Box<str>>,
}

impl Entry {
    /// The earliest time at which anything can be done; `NEVER` while held; `None` when no recipient is pending.
    pub fn due(&self) -> Option<Timestamp> {
        let earliest = self.recipients.iter().filter(|d| d.is_pending()).map(|d| d.due).min()?;
        Some(if self.held.is_some() { Timestamp::NEVER } else { earliest })
    }

    /// Whether every recipient is done with.
    pub fn is_done(&self) -> bool {
        self.recipients.iter().all(|d| !d.is_pending())
    }
}
