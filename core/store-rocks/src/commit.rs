//! The committer: one thread, one batch, one sync for everything that waits.
//!
//! Callers leave a [`Piece`] in the [`Queue`] and wait for its answer. The committer takes all that is there (up to a batch's worth), writes
//! it as one batch with one sync, applies the consequences (claims end, due times move), then gives all answers. Whoever comes while a sync
//! runs shares the next one. RocksDB's own group commit is not relied on: it stops growing a group at 1 MiB.
//!
//! A sync costs the same CPU whatever it writes, a good quarter of a millisecond. So when the last batch shows that many are at work, the
//! committer sleeps [`Options::gather`](crate::Options::gather) before it takes the next (PostgreSQL's `commit_delay`): the answers come a
//! little later, and a third of the syncs do.
//!
//! The first write that fails is the last: see `Shared::fail`. A caller that has gone away changes nothing of this; its claim is released.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use rocksdb::WriteOptions;
use tokio::sync::oneshot;
use waypost_queue::{Claim, Entry, StoreError};

use crate::write::{Insert, Step, Writer};
use crate::{Accepted, Durability, SettledAnswer, Shared};

/// Pieces in a batch from which on the next one is given time to gather: a stream of one message after the other never waits.
const COMPANY_MIN: usize = 4;

/// A fresh claim on its way to whoever asked for it. If it never gets there, the message is released for `claim`.
pub(crate) struct Parcel {
    claim: Option<Claim>,
    shared: Arc<Shared>,
}

impl Parcel {
    pub(crate) fn new(claim: Claim, shared: Arc<Shared>) -> Parcel {
        Parcel { claim: Some(claim), shared }
    }

    pub(crate) fn open(mut self) -> Claim {
        self.claim.take().expect("a parcel is opened once")
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            // Fenced if it was never written.
            let _ = self.shared.release(&claim);
        }
    }
}

/// Who waits, and for what.
pub(crate) enum Answer {
    Accept(oneshot::Sender<Accepted>, Parcel),
    Settle(oneshot::Sender<SettledAnswer>, Option<Arc<Entry>>),
    Change(oneshot::Sender<Result<(), StoreError>>),
    Nobody,
}

impl Answer {
    /// A caller that has gone is no concern: what was written stays written.
    fn give(self, outcome: Result<(), StoreError>) {
        match self {
            Answer::Accept(sender, parcel) => drop(sender.send(outcome.map(|()| parcel))),
            Answer::Settle(sender, left) => drop(sender.send(outcome.map(|()| left))),
            Answer::Change(sender) => drop(sender.send(outcome)),
            Answer::Nobody => {}
        }
    }
}

/// What becomes true together.
pub(crate) struct Piece {
    step: Step,
    children: Vec<Insert>,
    answer: Answer,
    bytes: usize,
}

impl Piece {
    pub(crate) fn new(step: Step, answer: Answer) -> Piece {
        let bytes = match &step {
            Step::Insert(insert) => insert.size(),
            Step::Replace(replace) => replace.size(),
            Step::Aside { bytes, .. } => bytes.len() + 128,
            Step::Undue { .. } => 64,
        };
        Piece { step, children: Vec::new(), answer, bytes }
    }

    pub(crate) fn add_children(&mut self, children: Vec<Insert>) {
        self.bytes += children.iter().map(Insert::size).sum::<usize>();
        self.children = children;
    }

    fn is_accept(&self) -> bool {
        matches!(self.answer, Answer::Accept(..))
    }
}

/// What waits for the committer.
pub(crate) struct Queue {
    pending: Mutex<Pending>,
    wake: Condvar,
    count_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Pending {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// The committer waits on `wake`: nobody else needs to be woken, and nobody needs to wake it twice.
    asleep: bool,
    closed: bool,
    ended: bool,
    closers: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Queue {
    pub(crate) fn new(count_max: usize, bytes_max: usize) -> Queue {
        Queue { pending: Mutex::default(), wake: Condvar::new(), count_max, bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("no holder of the queue's lock panics")
    }

    /// Leaves a piece. New mail is `Busy` at the bounds, settlements only at twice the bounds: finishing work makes room.
    pub(crate) fn push(&self, piece: Piece) -> Result<(), StoreError> {
        let mut pending = self.lock();
        if pending.closed {
            return Err(StoreError::Failed("the store is closed".into()));
        }
        let slack = if piece.is_accept() { 1 } else { 2 };
        let crowded = pending.pieces.len() >= self.count_max * slack
            || (pending.bytes + piece.bytes > self.bytes_max * slack && !pending.pieces.is_empty());
        if crowded {
            return Err(StoreError::Busy);
        }
        pending.bytes += piece.bytes;
        pending.pieces.push_back(piece);
        if std::mem::take(&mut pending.asleep) {
            self.wake.notify_one();
        }
        Ok(())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.lock().pieces.len()
    }

    /// No more pieces; the committer ends when it has written those that wait.
    pub(crate) fn close(&self) {
        let mut pending = self.lock();
        pending.closed = true;
        pending.asleep = false;
        self.wake.notify_one();
    }

    /// As [`Queue::close`], and says when the committer has ended.
    pub(crate) fn close_and_tell(&self) -> oneshot::Receiver<Result<(), StoreError>> {
        let (sender, receiver) = oneshot::channel();
        let mut pending = self.lock();
        if pending.ended {
            drop(sender.send(Ok(())));
        } else {
            pending.closers.push(sender);
        }
        drop(pending);
        self.close();
        receiver
    }

    /// Waits for pieces and takes a batch's worth; none once the queue is closed and empty.
    fn take(&self, batch_bytes: usize, taken: &mut Vec<Piece>) {
        let mut pending = self.lock();
        while pending.pieces.is_empty() && !pending.closed {
            pending.asleep = true;
            pending = self.wake.wait(pending).expect("no holder of the queue's lock panics");
        }
        let mut bytes = 0;
        while let Some(piece) = pending.pieces.pop_front() {
            pending.bytes -= piece.bytes;
            bytes += piece.bytes;
            taken.push(piece);
            if bytes >= batch_bytes {
                break;
            }
        }
    }
}

/// The committer's life.
pub(crate) fn run(shared: &Shared) {
    let mut sync = WriteOptions::default();
    sync.set_sync(shared.options.durability == Durability::Sync);
    let mut pieces = Vec::new();
    let mut company = 0;
    loop {
        if company >= COMPANY_MIN && !shared.options.gather.is_zero() {
            std::thread::sleep(shared.options.gather);
        }
        shared.queue.take(shared.options.batch_bytes, &mut pieces);
        company = pieces.len();
        if pieces.is_empty() {
            return end(shared);
        }
        let outcome = shared.writable().and_then(|()| write(shared, &pieces, &sync));
        apply(shared, &pieces, outcome.is_ok());
        pieces.drain(..).for_each(|piece| piece.answer.give(outcome.clone()));
    }
}

fn write(shared: &Shared, pieces: &[Piece], sync: &WriteOptions) -> Result<(), StoreError> {
    let bytes: usize = pieces.iter().map(|piece| piece.bytes).sum();
    let mut writer = Writer::new(&shared.db, shared.options.chunk_bytes, bytes + 1024);
    for piece in pieces {
        writer.step(&piece.step);
        piece.children.iter().for_each(|child| writer.insert(child));
    }
    writer.tally(&shared.tally);
    let begun = Instant::now();
    let change = writer.change;
    if let Err(error) = shared.db.write_opt(writer.batch, sync) {
        shared.fail(error.into_string());
        return shared.writable();
    }
    shared.metrics.on_batch(pieces.len(), bytes, begun.elapsed());
    shared.tally.on_written(change);
    Ok(())
}

/// What follows in memory from a batch that is on disk (or, `written` being false, is not).
fn apply(shared: &Shared, pieces: &[Piece], written: bool) {
    let mut table = shared.table();
    for piece in pieces {
        match &piece.step {
            Step::Insert(insert) if written => table.on_inserted(insert.entry.id, insert.due),
            Step::Insert(insert) => table.forget(insert.entry.id),
            Step::Replace(replace) => match piece.answer {
                Answer::Settle(..) => table.on_settled(replace.id, replace.due()),
                _ => table.on_changed(replace.id, replace.due()),
            },
            Step::Aside { id, .. } | Step::Undue { id, .. } => table.forget(*id),
        }
        if written {
            piece.children.iter().for_each(|child| table.on_child(child.due));
        }
    }
}

/// Everything taken is written; whatever was written without a sync (the key-value store's, or all of it with `Durability::Os`) is
/// synced now.
fn end(shared: &Shared) {
    let outcome = shared.writable().and_then(|()| {
        shared.db.flush_wal(true).map_err(|error| {
            shared.fail(error.into_string());
            shared.writable().expect_err("failed just now")
        })
    });
    let mut pending = shared.queue.lock();
    pending.ended = true;
    pending.closers.drain(..).for_each(|closer| drop(closer.send(outcome.clone())));
}
