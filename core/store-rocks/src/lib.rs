//! `queue::Store` and `types::port::KeyValue` on RocksDB (floor 2).
//!
//! It keeps the law of `queue/INTERNALS.md`. One thread, the committer, does all writing: it takes everything that waits, builds one batch,
//! writes it with one sync, then releases all answers. So an idle server pays one sync a message and a busy one far less. Reads go past it.
//!
//! | page | what it holds |
//! |---|---|
//! | [`key`] | the keyspaces and their keys |
//! | [`open`] | [`Options`], opening, and how RocksDB is tuned |
//! | [`commit`] | the committer: the queue in front of it, batches, failure |
//! | [`write`] | what a step of a batch puts and deletes |
//! | [`lease`] | who holds which claim, and when the next entry is due: the part of the store that a restart forgets |
//! | [`scan`] | claims from the due index, lists, reads |
//! | [`check`] | everything read and held against the law; setting aside |
//! | [`space`] | when the disk is too full for new mail |
//! | [`kv`], `pairs` | the key-value store; counters that were read lately |
//! | [`metrics`] | what the committer has done |

mod check;
mod commit;
mod key;
mod kv;
mod lease;
mod metrics;
mod open;
mod pairs;
mod scan;
mod space;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rocksdb::DB;
use tokio::sync::oneshot;
use waypost_queue::{
    Change, Claim, Counts, Entry, FRESH_LEASE, Problem, Settlement, Store, StoreError, StoreLimits, Task, codec,
};
use waypost_types::{Event, Message, MessageId, Observer, Timestamp};

pub use kv::RocksKv;
pub use metrics::Snapshot;
pub use open::{Durability, OPEN_FILES_MAX, OpenError, Options};

use commit::{Answer, Parcel, Piece, Queue};
use lease::Table;
use metrics::Metrics;
use write::{Insert, Replace, Step, Tally};

/// A queue in a folder. Dropping it waits for what is being written.
pub struct RocksStore {
    shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// What the store's handles and its committer have in common.
pub(crate) struct Shared {
    pub(crate) db: DB,
    pub(crate) options: Options,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) queue: Queue,
    pub(crate) tally: Tally,
    pub(crate) metrics: Metrics,
    pub(crate) space: space::Gauge,
    table: Mutex<Table>,
    /// Held while the due index is scanned: one scan at a time.
    scanning: Mutex<()>,
    failed: OnceLock<String>,
    kv: kv::State,
}

impl RocksStore {
    /// Opens the queue in `options.path`, making it if there is none, and starts its committer. `observer` hears of failure and corruption.
    pub fn open(options: Options, observer: Arc<dyn Observer>) -> Result<RocksStore, OpenError> {
        let (db, tally) = open::open(&options)?;
        let shared = Arc::new(Shared {
            queue: Queue::new(options.pending_count_max, options.pending_bytes_max),
            space: space::Gauge::new(&options),
            table: Mutex::new(Table::new(scan::first_due(&db))),
            scanning: Mutex::default(),
            kv: kv::State::default(),
            failed: OnceLock::new(),
            metrics: Metrics::default(),
            tally,
            observer,
            options,
            db,
        });
        let for_thread = shared.clone();
        let committer = std::thread::Builder::new()
            .name("waypost-commit".into())
            .spawn(move || commit::run(&for_thread))
            .map_err(|error| OpenError::Failed(format!("cannot start the committing thread: {error}")))?;
        Ok(RocksStore { shared, committer: Mutex::new(Some(committer)) })
    }

    /// The key-value store beside the queue.
    pub fn kv(&self) -> RocksKv {
        RocksKv::new(self.shared.clone())
    }

    /// What the committer has done so far.
    pub fn metrics(&self) -> Snapshot {
        self.shared.metrics.snapshot(&self.shared)
    }

    /// Whether a write has failed, and how: nothing is accepted any more.
    pub fn failure(&self) -> Option<&str> {
        self.shared.failed.get().map(String::as_str)
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        let thread = self.committer.lock().map(|mut slot| slot.take()).unwrap_or_default();
        if let Some(thread) = thread {
            // A panic of the committer has been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder of the table's lock panics half-way through a change")
    }

    pub(crate) fn scanning(&self) -> MutexGuard<'_, ()> {
        self.scanning.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The error of every write after one has failed.
    pub(crate) fn writable(&self) -> Result<(), StoreError> {
        self.failed.get().map_or(Ok(()), |error| Err(StoreError::Failed(error.clone())))
    }

    /// A write has failed. Nothing is written, and so nothing acknowledged, from here on.
    pub(crate) fn fail(&self, error: String) {
        if self.failed.set(error).is_ok() {
            self.table().freeze();
            self.observer.observe(Event::StoreFailed { error: &self.failed.get().expect("set above")[..] });
        }
    }

    fn fits(&self, message: &Message) -> Result<(), StoreError> {
        if message.len() as u64 > self.options.message_bytes_max { Err(StoreError::TooLarge) } else { Ok(()) }
    }

    fn accept(self: &Arc<Self>, mut entry: Entry, message: Message) -> Result<oneshot::Receiver<Accepted>, StoreError> {
        self.writable()?;
        self.fits(&message)?;
        if self.tally.entries() >= self.options.messages_max || self.space.is_full() {
            return Err(StoreError::Full);
        }
        entry.size = message.len() as u64;
        let insert = Insert::new(Arc::new(entry), message);
        let entry = insert.entry.clone();
        let end = entry.accepted.after(FRESH_LEASE);
        let token = self.table().reserve(entry.id, Some((entry.clone(), end))).ok_or(StoreError::Fenced)?;
        let (sender, receiver) = oneshot::channel();
        let claim = Claim { entry: entry.clone(), message: Some(insert.message.clone()), token };
        let parcel = Parcel::new(claim, self.clone());
        let pushed = self.exists(entry.id).and_then(|exists| {
            if exists {
                Err(StoreError::Fenced)
            } else {
                self.push(Piece::new(Step::Insert(insert), Answer::Accept(sender, parcel)))
            }
        });
        if let Err(error) = pushed {
            self.table().forget(entry.id);
            return Err(error);
        }
        Ok(receiver)
    }

    fn exists(&self, id: MessageId) -> Result<bool, StoreError> {
        let entries = key::family(&self.db, key::ENTRY);
        self.db.get_pinned_cf(entries, id.to_bytes()).map(|found| found.is_some()).map_err(read_failed)
    }

    pub(crate) fn push(&self, piece: Piece) -> Result<(), StoreError> {
        self.writable()?;
        self.queue.push(piece).inspect_err(|error| {
            if *error == StoreError::Busy {
                self.metrics.on_busy();
            }
        })
    }

    fn settle(&self, claim: &Claim, settlement: Settlement) -> Result<oneshot::Receiver<SettledAnswer>, StoreError> {
        self.writable()?;
        let mut children = self.children(&settlement)?;
        loop {
            let before = self.table().entry(claim)?;
            let after = Arc::new(before.settled(&settlement));
            let replace = Replace::new(&before, (!after.is_done()).then_some(&*after), self.options.chunk_bytes);
            let mut table = self.table();
            if !Arc::ptr_eq(&table.entry(claim)?, &before) {
                continue; // Another settlement of the same claim came first: build on its outcome.
            }
            let (sender, receiver) = oneshot::channel();
            let left = (!after.is_done()).then(|| after.clone());
            let mut piece = Piece::new(Step::Replace(replace), Answer::Settle(sender, left));
            piece.add_children(std::mem::take(&mut children));
            self.push(piece)?;
            table.on_settle(claim.entry.id, after, settlement.release);
            return Ok(receiver);
        }
    }

    fn children(&self, settlement: &Settlement) -> Result<Vec<Insert>, StoreError> {
        let insert = |(entry, message): &(Entry, Message)| {
            self.fits(message)?;
            if self.exists(entry.id)? {
                return Err(StoreError::Fenced);
            }
            let entry = Entry { size: message.len() as u64, ..entry.clone() };
            Ok(Insert::new(Arc::new(entry), message.clone()))
        };
        settlement.children.iter().map(insert).collect()
    }

    pub(crate) fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        self.table().release(claim)
    }

    fn change(&self, id: MessageId, change: &Change) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        self.writable()?;
        self.table().reserve(id, None).ok_or(StoreError::Busy)?;
        let outcome = self.read_entry(id).and_then(|found| {
            let before = found.ok_or(StoreError::Missing)?;
            let after = before.changed(change);
            let (sender, receiver) = oneshot::channel();
            let replace = Replace::new(&before, after.as_ref(), self.options.chunk_bytes);
            self.push(Piece::new(Step::Replace(replace), Answer::Change(sender)))?;
            Ok(receiver)
        });
        if let Err(error) = &outcome {
            self.table().forget(id);
            if let StoreError::Corrupt(_) = error {
                self.set_aside(id, None);
            }
        }
        outcome
    }

    /// An entry as it is on disk. Does not set aside.
    pub(crate) fn read_entry(&self, id: MessageId) -> Result<Option<Entry>, StoreError> {
        let found = self.db.get_pinned_cf(key::family(&self.db, key::ENTRY), id.to_bytes()).map_err(read_failed)?;
        let decode = |bytes: rocksdb::DBPinnableSlice<'_>| {
            let entry = codec::decode(&bytes).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            if entry.id == id {
                Ok(entry)
            } else {
                Err(StoreError::Corrupt(format!("stands at {id} but names {}", entry.id)))
            }
        };
        found.map(decode).transpose()
    }
}

pub(crate) type Accepted = Result<Parcel, StoreError>;
pub(crate) type SettledAnswer = Result<Option<Arc<Entry>>, StoreError>;

/// A read that RocksDB could not make: the entry's block is damaged, or the disk is. Writing goes on.
pub(crate) fn read_failed(error: rocksdb::Error) -> StoreError {
    StoreError::Corrupt(error.into_string())
}

async fn answered<T>(receiver: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    receiver.await.unwrap_or_else(|_| Err(StoreError::Failed("the committing thread has ended".into())))
}

impl RocksStore {
    /// Runs what may wait for the disk where waiting harms nobody.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Shared>) -> Result<T, StoreError> + Send + 'static,
    ) -> Task<'_, T> {
        let shared = self.shared.clone();
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || work(&shared)).await {
                Ok(outcome) => outcome,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(StoreError::Failed("the program is ending".into())),
            }
        })
    }
}

impl Store for RocksStore {
    fn limits(&self) -> StoreLimits {
        let options = &self.shared.options;
        StoreLimits {
            chunk_bytes: options.chunk_bytes,
            message_bytes_max: options.message_bytes_max,
            batch_bytes_max: options.message_bytes_max + (1 << 20),
        }
    }

    fn accept(&self, entry: Entry, message: Message) -> Task<'_, Claim> {
        Box::pin(async move {
            let receiver = self.shared.accept(entry, message)?;
            Ok(answered(receiver).await?.open())
        })
    }

    fn claim(&self, now: Timestamp, lease: Duration, count_max: u32) -> Task<'_, Vec<Claim>> {
        if !self.shared.table().may_be_due(now) {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        self.blocking(move |shared| scan::claim(shared, now, lease, count_max as usize))
    }

    fn claim_one(&self, id: MessageId, now: Timestamp, lease: Duration) -> Task<'_, Option<Claim>> {
        self.blocking(move |shared| scan::claim_one(shared, id, now, lease))
    }

    fn next_due(&self) -> Task<'_, Option<Timestamp>> {
        Box::pin(std::future::ready(Ok(self.shared.table().next_due())))
    }

    fn read(&self, id: MessageId, index: u32) -> Task<'_, Bytes> {
        self.blocking(move |shared| scan::read(shared, id, index))
    }

    fn settle(&self, claim: &Claim, settlement: Settlement) -> Task<'_, Option<Arc<Entry>>> {
        let receiver = self.shared.settle(claim, settlement);
        Box::pin(async move { answered(receiver?).await })
    }

    fn release(&self, claim: Claim) -> Task<'_, ()> {
        Box::pin(std::future::ready(self.shared.release(&claim)))
    }

    fn get(&self, id: MessageId) -> Task<'_, Option<Entry>> {
        self.blocking(move |shared| {
            shared.read_entry(id).inspect_err(|error| {
                if let StoreError::Corrupt(_) = error {
                    shared.set_aside(id, None);
                }
            })
        })
    }

    fn list(&self, after: Option<MessageId>, count_max: u32) -> Task<'_, Vec<Entry>> {
        self.blocking(move |shared| scan::list(shared, after, count_max as usize))
    }

    fn change(&self, id: MessageId, change: Change) -> Task<'_, ()> {
        let receiver = self.blocking(move |shared| shared.change(id, &change));
        Box::pin(async move { answered(receiver.await?).await })
    }

    fn counts(&self) -> Counts {
        Counts { claimed: self.shared.table().claimed(), ..self.shared.tally.counts() }
    }

    fn check(&self) -> Task<'_, Vec<Problem>> {
        self.blocking(|shared| check::check(shared))
    }

    fn close(&self) -> Task<'_, ()> {
        let receiver = self.shared.queue.close_and_tell();
        Box::pin(async move { answered(receiver).await })
    }
}
