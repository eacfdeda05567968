//! What a queue store promises.
//!
//! Rules that keep a replicated engine possible behind [`Store`]: callers make ids; every read is bounded and has a cursor; claims
//! are leases with a fencing token; one batch says everything that must be true together; no method assumes that it is the only
//! writer. `conformance` holds the tests that every store must pass.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waypost_types::{Message, MessageId, Outcome, Timestamp};

use crate::{Attempt, Entry};

/// How long the claim that [`Store::accept`] gives lasts, from the entry's accept time: longer than any first attempt (RFC 5321
/// §4.5.3.2 adds up to about half an hour), so that it only ends when its holder has lost it.
pub const FRESH_LEASE: Duration = Duration::from_secs(3600);

/// What a store's methods return.
pub type Task<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store did not do what was asked. Nothing was changed, unless the variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Too much is waiting to be written: 451, try again.
    Busy,
    /// Disk space, inodes or the configured bound on messages are used up: 452.
    Full,
    /// A write or sync failed: the store takes no writes any more and must be opened anew. The write that met it may or may not be
    /// on disk. Never acknowledge after this.
    Failed(String),
    /// The claim's lease has been given to somebody else, or the entry is gone.
    Fenced,
    /// No such entry or chunk.
    Missing,
    /// The entry is there but cannot be read; it has been set aside.
    Corrupt(String),
    /// The entry or its message is beyond [`StoreLimits`].
    TooLarge,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Busy => f.write_str("the queue is busy"),
            StoreError::Full => f.write_str("the queue's disk or bound is full"),
            StoreError::Failed(error) => write!(f, "the queue cannot be written: {error}"),
            StoreError::Fenced => f.write_str("the claim is no longer ours"),
            StoreError::Missing => f.write_str("no such entry"),
            StoreError::Corrupt(error) => write!(f, "the entry cannot be read: {error}"),
            StoreError::TooLarge => f.write_str("beyond the store's limits"),
        }
    }
}

impl std::error::Error for StoreError {}

/// What one write may hold. Replicated engines have such bounds; callers refuse larger mail at SIZE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Octets of one chunk of a message, the unit of [`Store::read`].
    pub chunk_bytes: usize,
    /// Octets of a message.
    pub message_bytes_max: u64,
    /// Octets of one atomic batch, message included.
    pub batch_bytes_max: u64,
}

/// The right to work on an entry for a while. Dropping it does nothing: give it back with [`Store::settle`] or [`Store::release`],
/// or let the lease run out.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The entry as it was when claimed; [`Store::settle`] returns its successor.
    pub entry: Arc<Entry>,
    /// The message itself, when it was accepted a moment ago; otherwise read it with [`Store::read`].
    pub message: Option<Message>,
    /// Fencing token: a later claim of the same entry has a higher one.
    pub token: u64,
}

/// What became of some recipients of a claimed entry.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Index into [`Entry::recipients`].
    pub index: u32,
    /// Final, or delayed.
    pub outcome: Outcome,
    /// What was tried, for `queue show`; `None` if nothing was (expiry, suspension): then the attempt is not counted.
    pub attempt: Option<Attempt>,
    /// When it is due again; only looked at for `Delayed`.
    pub due: Timestamp,
    /// A delay report is among the children of this settlement.
    pub delay_reported: bool,
}

/// One atomic change to a claimed entry.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// Recipients with news.
    pub recipients: Vec<Settled>,
    /// Reports and other messages that come into being with this change.
    pub children: Vec<(Entry, Message)>,
    /// Give the claim back with it. An entry whose recipients are all done is removed, body and all, and its claim ends anyway.
    pub release: bool,
}

/// An operator's change to an entry that is not claimed (waits for the claim to end otherwise).
#[derive(Clone, Debug)]
pub enum Change {
    /// Keep it until released.
    Hold(Box<str>),
    /// Undo a hold.
    Release,
    /// Make every pending recipient due at this time.
    Due(Timestamp),
    /// Give it up: it is tried once more at this time, and whoever does not take it then has failed, with a report.
    Expire(Timestamp),
    /// Send it this way, a transport's text, from the next attempt on; `None`: as the tables say.
    Reroute(Option<Box<str>>),
    /// Remove the entry without any report.
    Remove,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries in all, set-aside ones not counted.
    pub entries: u64,
    /// Of them claimed now.
    pub claimed: u64,
    /// Of them held.
    pub held: u64,
    /// Set aside as unreadable.
    pub corrupt: u64,
}

/// An entry that was set aside or does not add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its id, if that much is known.
    pub id: Option<MessageId>,
    /// What is wrong with it.
    pub text: String,
}

/// A durable queue. Object-safe; every method can be called from many tasks at once.
pub trait Store: Send + Sync + 'static {
    /// What one write may hold.
    fn limits(&self) -> StoreLimits;

    /// Takes a message. When this returns `Ok`, entry and message are durable together, and the caller holds the claim, which ends
    /// [`FRESH_LEASE`] after [`Entry::accepted`]. The same id twice is one message (the second call changes nothing and gets
    /// `Fenced`). [`Entry::size`] is set to the message's length. Somebody must be pending.
    fn accept(&self, entry: Entry, message: Message) -> Task<'_, Claim>;

    /// Claims up to `count_max` entries that are due at `now` and unclaimed, earliest first. The claims end at `now + lease`.
    fn claim(&self, now: Timestamp, lease: Duration, count_max: u32) -> Task<'_, Vec<Claim>>;

    /// Claims this entry, due or not, held or not; `None` if there is none. `Busy` while somebody else has it.
    fn claim_one(&self, id: MessageId, now: Timestamp, lease: Duration) -> Task<'_, Option<Claim>>;

    /// When the earliest unclaimed entry is due; `None` if there is none (held ones never are). May be earlier than the truth,
    /// never later; [`Store::claim`] makes it true again.
    fn next_due(&self) -> Task<'_, Option<Timestamp>>;

    /// The `index`th chunk of a message, [`StoreLimits::chunk_bytes`] long except for the last; `Missing` behind the end.
    fn read(&self, id: MessageId, index: u32) -> Task<'_, Bytes>;

    /// Applies a settlement: recipients and children are one atomic durable write. Returns the entry as it is afterwards, `None`
    /// when it has been removed because nobody is pending. `Fenced` changes nothing. Children are unclaimed, due as they say.
    fn settle(&self, claim: &Claim, settlement: Settlement) -> Task<'_, Option<Arc<Entry>>>;

    /// Gives a claim back unchanged. Costs no write.
    fn release(&self, claim: Claim) -> Task<'_, ()>;

    /// One entry.
    fn get(&self, id: MessageId) -> Task<'_, Option<Entry>>;

    /// Up to `count_max` entries with ids above `after`, in id order (oldest first).
    fn list(&self, after: Option<MessageId>, count_max: u32) -> Task<'_, Vec<Entry>>;

    /// An operator's change. `Missing` if there is no such entry, `Busy` while it is claimed.
    fn change(&self, id: MessageId, change: Change) -> Task<'_, ()>;

    /// How much there is.
    fn counts(&self) -> Counts;

    /// Reads everything and tells what does not add up. Slow; works while the store is in use.
    fn check(&self) -> Task<'_, Vec<Problem>>;

    /// Waits until everything written is durable and refuses further writes. For an orderly end.
    fn close(&self) -> Task<'_, ()>;
}

/// Where fresh claims go, so that a message just accepted is delivered from memory. Floor 3's `deliver` implements it and `server`
/// calls it; they meet only here.
pub trait Handoff: Send + Sync + 'static {
    /// Takes over a claim. Never blocks: if there is no room, the claim is released and the message comes round through
    /// [`Store::claim`].
    fn offer(&self, claim: Claim);
}
