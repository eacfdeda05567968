//! One claim in hand.
//!
//! The recipients of an entry may part into groups with different next hops, and each group is settled when it is through. The store
//! would refuse a settlement that comes after the one which gives the claim back, so at most one settlement of a claim is under way at
//! any time; what comes meanwhile waits and goes together. The last one gives the claim back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, OnceCell, OwnedSemaphorePermit, Semaphore};
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
    message: OnceCell<(Message, Option<OwnedSemaphorePermit>)>,
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
            message: OnceCell::new_with(claim.message.clone().map(|message| (message, None))),
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

    /// The message: from memory, or read once for all groups. `Busy` if there is no room for it at present.
    pub(crate) async fn message(&self, store: &dyn Store, memory: &Memory) -> Result<&Message, StoreError> {
        let load = || async {
            let room = memory.take(self.entry().size).await?;
            Ok((read(store, self.entry()).await?, Some(room)))
        };
        self.message.get_or_try_init(load).await.map(|(message, _)| message)
    }

    /// The message, which has been asked for by [`Held::message`] before.
    pub(crate) fn loaded(&self) -> &Message {
        &self.message.get().expect("the message was loaded before it was used").0
    }

    /// The message, if it is in memory.
    pub(crate) fn in_memory(&self) -> Option<&Message> {
        self.message.get().map(|(message, _)| message)
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

/// Room for messages read from the store.
#[derive(Debug)]
pub(crate) struct Memory {
    kib_free: Arc<Semaphore>,
    kib_max: u32,
}

/// How long to wait for room. Not for ever: who has it may be waiting for the place that we hold.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);

impl Memory {
    pub(crate) fn new(mib_max: u16) -> Memory {
        let kib_max = u32::from(mib_max.max(1)) * 1024;
        Memory { kib_free: Arc::new(Semaphore::new(kib_max as usize)), kib_max }
    }

    /// Room for so many octets; all there is for a message larger than that.
    async fn take(&self, octets: u64) -> Result<OwnedSemaphorePermit, StoreError> {
        let kib = octets.div_ceil(1024).clamp(1, u64::from(self.kib_max)) as u32;
        let permit = self.kib_free.clone().acquire_many_owned(kib);
        match tokio::time::timeout(ROOM_PATIENCE, permit).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(StoreError::Busy),
        }
    }
}

/// A message from the store, chunk by chunk; the chunks become its ranges.
pub(crate) async fn read(store: &dyn Store, entry: &Entry) -> Result<Message, StoreError> {
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
