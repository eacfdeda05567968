//! An entry: everything the queue knows about a message except its octets.

use std::net::IpAddr;

use waypost_types::{
    MailParameters, MessageId, Outcome, Recipient, Reply, ReversePath, SessionId, Timestamp, Transport,
};

use crate::{Change, Settled, Settlement};

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
    /// How the way there was secured, as the log says it: `TLSv1.3 opportunistic`, `local`; empty if it never came to that.
    pub security: Box<str>,
    /// What was answered.
    pub reply: Reply,
}

/// Attempts kept beside the last one. What is in between says the same again and again, and would make an old entry long.
pub const EARLIER_MAX: usize = 8;

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
    /// Those before it, oldest first: the first one and the latest, [`EARLIER_MAX`] in all.
    pub earlier: Vec<Attempt>,
    /// A delay report was sent.
    pub delay_reported: bool,
}

impl Delivery {
    /// A recipient that has not been tried, due at `due`.
    pub fn new(recipient: Recipient, due: Timestamp) -> Delivery {
        Delivery {
            recipient,
            state: State::Pending,
            attempts: 0,
            due,
            last: None,
            earlier: Vec::new(),
            delay_reported: false,
        }
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
    /// The way that an operator has sent it instead of the one that the tables name, as a transport's text.
    pub route: Option<Box<str>>,
    /// What plugins stated and what was decided when it was accepted, a line each, for people; bounded by whoever writes it.
    pub why: Option<Box<str>>,
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

impl Entry {
    /// The entry as it is after `settlement`. Children are the store's business.
    ///
    /// # Panics
    /// If an index is out of range or its recipient is done with already: a worker's mistake that must not reach the disk.
    #[must_use]
    pub fn settled(&self, settlement: &Settlement) -> Entry {
        let mut entry = self.clone();
        for news in &settlement.recipients {
            entry.recipients[news.index as usize].settle(news);
        }
        entry
    }

    /// The entry as it is after an operator's change; `None` when it is to be removed.
    #[must_use]
    pub fn changed(&self, change: &Change) -> Option<Entry> {
        let mut entry = self.clone();
        match change {
            Change::Hold(reason) => entry.held = Some(reason.clone()),
            Change::Release => entry.held = None,
            Change::Due(due) => {
                entry.recipients.iter_mut().filter(|d| d.is_pending()).for_each(|d| d.due = *due);
            }
            Change::Expire(now) => {
                entry.expires = entry.expires.min(*now);
                entry.recipients.iter_mut().filter(|d| d.is_pending()).for_each(|d| d.due = d.due.min(*now));
            }
            Change::Reroute(route) => entry.route = route.clone(),
            Change::Remove => return None,
        }
        Some(entry)
    }
}

impl Delivery {
    fn settle(&mut self, news: &Settled) {
        assert!(self.is_pending(), "recipient {} settled twice", self.recipient.address);
        if let Some(attempt) = &news.attempt {
            self.attempts = self.attempts.saturating_add(1);
            self.earlier.extend(self.last.replace(attempt.clone()));
            if self.earlier.len() > EARLIER_MAX {
                self.earlier.remove(1);
            }
        }
        self.delay_reported |= news.delay_reported;
        if news.outcome.is_final() {
            self.state = State::Done(news.outcome.clone());
        } else {
            self.due = news.due;
        }
    }
}
