//! What a step of a batch puts and deletes, and the tally that goes with it.
//!
//! Two kinds of deletes. `body` and `due` keys are put once between deletes, which is what *single deletes* demand and why those two vanish
//! without a trace; an `entry` may be put many times over, so it is deleted in the ordinary way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{ColumnFamily, DB, WriteBatch};
use waypost_queue::{Counts, Entry, codec};
use waypost_types::{Message, MessageId, Timestamp};

use crate::key;

/// A message that comes into being.
pub(crate) struct Insert {
    pub(crate) entry: Arc<Entry>,
    pub(crate) message: Message,
    pub(crate) due: Timestamp,
    bytes: Vec<u8>,
}

impl Insert {
    pub(crate) fn new(entry: Arc<Entry>, message: Message) -> Insert {
        let due = entry.due().expect("an entry comes in with somebody pending");
        let mut bytes = Vec::new();
        codec::encode(&entry, &mut bytes);
        Insert { entry, message, due, bytes }
    }

    pub(crate) fn size(&self) -> usize {
        self.message.len() + self.bytes.len() + 128
    }
}

/// An entry that gives way to its successor, or to nothing.
pub(crate) struct Replace {
    pub(crate) id: MessageId,
    due: Timestamp,
    chunks: u32,
    after: Option<(Vec<u8>, Timestamp)>,
}

impl Replace {
    pub(crate) fn new(before: &Entry, after: Option<&Entry>, chunk_bytes: usize) -> Replace {
        let encoded = after.map(|entry| {
            let mut bytes = Vec::new();
            codec::encode(entry, &mut bytes);
            (bytes, entry.due().expect("an entry that stays has somebody pending"))
        });
        Replace {
            id: before.id,
            due: before.due().expect("an entry in the store has somebody pending"),
            chunks: key::chunks(before.size, chunk_bytes),
            after: encoded,
        }
    }

    /// When the successor is due.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.after.as_ref().map(|(_, due)| *due)
    }

    pub(crate) fn size(&self) -> usize {
        self.after.as_ref().map_or(0, |(bytes, _)| bytes.len()) + 128
    }
}

/// One part of a batch.
pub(crate) enum Step {
    Insert(Insert),
    Replace(Replace),
    /// Bytes that are no entry move to where they harm nobody. The due key goes along if it is known.
    Aside {
        id: MessageId,
        bytes: Vec<u8>,
        due: Option<Timestamp>,
    },
    /// A due key whose entry is gone or set aside.
    Undue {
        id: MessageId,
        due: Timestamp,
    },
}

/// The families that batches touch, and the batch.
pub(crate) struct Writer<'a> {
    pub(crate) batch: WriteBatch,
    pub(crate) change: Change,
    entry: &'a ColumnFamily,
    body: &'a ColumnFamily,
    due: &'a ColumnFamily,
    corrupt: &'a ColumnFamily,
    meta: &'a ColumnFamily,
    chunk_bytes: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(db: &'a DB, chunk_bytes: usize, capacity: usize) -> Writer<'a> {
        Writer {
            batch: WriteBatch::with_capacity_bytes(capacity),
            change: Change::default(),
            entry: key::family(db, key::ENTRY),
            body: key::family(db, key::BODY),
            due: key::family(db, key::DUE),
            corrupt: key::family(db, key::CORRUPT),
            meta: key::family(db, key::META),
            chunk_bytes,
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Insert(insert) => self.insert(insert),
            Step::Replace(replace) => self.replace(replace),
            Step::Aside { id, bytes, due } => {
                self.batch.put_cf(self.corrupt, id.to_bytes(), bytes);
                self.batch.delete_cf(self.entry, id.to_bytes());
                due.iter().for_each(|due| self.undue(*due, *id));
                self.change.entries -= 1;
                self.change.corrupt += 1;
            }
            Step::Undue { id, due } => self.undue(*due, *id),
        }
    }

    pub(crate) fn insert(&mut self, insert: &Insert) {
        let id = insert.entry.id;
        self.batch.put_cf(self.entry, id.to_bytes(), &insert.bytes);
        self.body(id, &insert.message);
        self.set_due(insert.due, id);
        self.change.entries += 1;
    }

    fn body(&mut self, id: MessageId, message: &Message) {
        if message.len() <= self.chunk_bytes {
            if !message.is_empty() {
                self.batch.put_cf(self.body, key::body(id, 0), message.contiguous());
            }
            return;
        }
        for index in 0..key::chunks(message.len() as u64, self.chunk_bytes) {
            let chunk = message.read(index as usize * self.chunk_bytes, self.chunk_bytes);
            self.batch.put_cf(self.body, key::body(id, index), chunk);
        }
    }

    fn replace(&mut self, replace: &Replace) {
        let id = replace.id;
        if replace.due() != Some(replace.due) {
            self.undue(replace.due, id);
            replace.due().into_iter().for_each(|due| self.set_due(due, id));
        }
        match &replace.after {
            Some((bytes, _)) => self.batch.put_cf(self.entry, id.to_bytes(), bytes),
            None => {
                self.batch.delete_cf(self.entry, id.to_bytes());
                (0..replace.chunks).for_each(|index| self.batch.single_delete_cf(self.body, key::body(id, index)));
                self.change.entries -= 1;
            }
        }
    }

    fn set_due(&mut self, due: Timestamp, id: MessageId) {
        self.batch.put_cf(self.due, key::due(due, id), b"");
        self.change.held += i64::from(due == Timestamp::NEVER);
    }

    fn undue(&mut self, due: Timestamp, id: MessageId) {
        self.batch.single_delete_cf(self.due, key::due(due, id));
        self.change.held -= i64::from(due == Timestamp::NEVER);
    }

    /// The tally as it is after this batch, written with it.
    pub(crate) fn tally(&mut self, tally: &Tally) {
        if self.change != Change::default() {
            self.batch.put_cf(self.meta, key::TALLY, tally.encode(self.change));
        }
    }
}

/// What a batch does to the tally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    entries: i64,
    held: i64,
    corrupt: i64,
}

/// How many there are: kept on disk with each batch, because counting ten million at start-up takes too long.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    entries: AtomicU64,
    held: AtomicU64,
    corrupt: AtomicU64,
}

impl Tally {
    pub(crate) fn decode(bytes: Option<&[u8]>) -> Tally {
        let number = |at: usize| {
            let bytes = bytes.and_then(|bytes| bytes.get(at * 8..at * 8 + 8));
            AtomicU64::new(bytes.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight octets"))))
        };
        Tally { entries: number(0), held: number(1), corrupt: number(2) }
    }

    fn parts(&self, change: Change) -> [(&AtomicU64, u64); 3] {
        let after = |number: &AtomicU64, by: i64| number.load(Ordering::Relaxed).saturating_add_signed(by);
        [
            (&self.entries, after(&self.entries, change.entries)),
            (&self.held, after(&self.held, change.held)),
            (&self.corrupt, after(&self.corrupt, change.corrupt)),
        ]
    }

    fn encode(&self, change: Change) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (chunk, (_, value)) in bytes.chunks_exact_mut(8).zip(self.parts(change)) {
            chunk.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// A batch is on disk. Only the committer calls this.
    pub(crate) fn on_written(&self, change: Change) {
        self.parts(change).iter().for_each(|(number, value)| number.store(*value, Ordering::Relaxed));
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            entries: self.entries(),
            held: self.held.load(Ordering::Relaxed),
            corrupt: self.corrupt.load(Ordering::Relaxed),
            claimed: 0,
        }
    }
}
