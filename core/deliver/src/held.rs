//! One claim in hand.
//!
//! The recipients of an entry may part into groups with different next hops, and each group is settled when it is through. The store
//! would refuse a settlement that comes after the one which gives the claim back, so at most one settlement of a claim is under way at
//! any time; what comes meanwhile waits and goes together. The last one gives the claim back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, OnceCell};
use waypost_queue::{Claim, Entry, Settled, Store, StoreError};
use waypost_types::Message;

/// News of one recipient.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) settled: Settled,
    /// The next host takes care of success reports (RFC 3461 §5.2.2).
    pub(crate) dsn_passed: bool,
}

/// How many claims are in hand, and who waits for room or for the end.
#[derive(Debug, Default)]
pub(crate) struct Count {
    count: AtomicUsize,
    pub(crate) changed: Notify,
}

impl Count {
    pub(crate) fn now(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Place(Arc<Count>);

impl Drop for Place {
    fn drop(&mut self) {
        let before = self.0.count.fetch_sub(1, Ordering::Relaxed);
        // Somebody may wait for the last one, or for there to be room again after there was none.
        if before == 1 || before.is_multiple_of(64) {
            self.0.changed.notify_waiters();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) claim: Claim,
    message: OnceCell<Message>,
    /// No transaction begins after this moment.
    pub(crate) start_by: Instant,
    /// Whatever is under way then is broken off: the lease runs out.
    pub(crate) end: Instant,
    state: Mutex<State>,
    _place: Place,
}

#[derive(Debug)]
struct State {
    /// Groups that are not through.
    left: usize,
    news: Vec<News>,
    settling: bool,
    given_back: bool,
}

/// How long before the end of a lease nothing new begins: the RFC's timeouts from MAIL to the reply to the final dot.
const LONGEST: Duration = Duration::from_secs(20 * 60);

impl Held {
    pub(crate) fn new(claim: Claim, groups: usize, lease_end: Instant, count: &Arc<Count>) -> Arc<Held> {
        count.count.fetch_add(1, Ordering::Relaxed);
        let end = lease_end.checked_sub(Duration::from_secs(30)).unwrap_or(lease_end);
        Arc::new(Held {
            message: OnceCell::new_with(claim.message.clone()),
            claim,
            start_by: end.checked_sub(LONGEST).unwrap_or(end),
            end,
            state: Mutex::new(State { left: groups, news: Vec::new(), settling: false, given_back: false }),
            _place: Place(count.clone()),
        })
    }

    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.claim.entry
    }

    /// The message: from memory, or read once for all groups.
    pub(crate) async fn message(&self, store: &dyn Store) -> Result<&Message, StoreError> {
        self.message.get_or_try_init(|| read(store, self.entry())).await
    }

    /// The message, which has been asked for by [`Held::message`] before.
    pub(crate) fn loaded(&self) -> &Message {
        self.message.get().expect("the message was loaded before it was used")
    }

    /// A group is through. True: nobody is settling this claim, so the caller has to.
    pub(crate) fn add(&self, news: Vec<News>) -> bool {
        let mut state = self.state();
        state.left = state.left.checked_sub(1).expect("each group is through once");
        state.news.extend(news);
        let begin = !state.settling && (state.left == 0 || !state.news.is_empty());
        state.settling |= begin;
        begin
    }

    /// What is to be settled next, and whether the claim is given back with it. `None`: nothing for now.
    pub(crate) fn next_settlement(&self) -> Option<(Vec<News>, bool)> {
        let mut state = self.state();
        let last = state.left == 0 && !state.given_back;
        if state.news.is_empty() && !last {
            state.settling = false;
            return None;
        }
        state.given_back |= last;
        Some((std::mem::take(&mut state.news), last))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message from the store, chunk by chunk; the chunks become its ranges.
async fn read(store: &dyn Store, entry: &Entry) -> Result<Message, StoreError> {
    let chunk_bytes = store.limits().chunk_bytes.max(1) as u64;
    let count = entry.size.div_ceil(chunk_bytes);
    let mut chunks: Vec<Bytes> = Vec::with_capacity(count as usize);
    for index in 0..count {
        chunks.push(store.read(entry.id, index as u32).await?);
    }
    let message = Message::from_segments(chunks);
    if message.len() as u64 == entry.size {
        Ok(message)
    } else {
        Err(StoreError::Corrupt(format!("{} octets are stored of {}", message.len(), entry.size)))
    }
}
