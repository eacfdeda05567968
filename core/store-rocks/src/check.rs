//! Everything read and held against the law of `queue/INTERNALS.md`; and setting aside what cannot be read.

use std::collections::HashSet;

use rocksdb::DBRawIteratorWithThreadMode;
use waypost_queue::{Entry, Problem, StoreError, codec};
use waypost_types::{Event, MessageId, Timestamp};

use crate::commit::{Answer, Piece};
use crate::write::Step;
use crate::{Shared, key, read_failed};

impl Shared {
    /// Moves bytes that are no entry out of the way, unchanged. Leaves them if somebody holds the entry, or if they can be read after all.
    pub(crate) fn set_aside(&self, id: MessageId, due: Option<Timestamp>) {
        if self.table().reserve(id, None).is_none() {
            return;
        }
        let entries = key::family(&self.db, key::ENTRY);
        let step = match (self.read_entry(id), self.db.get_cf(entries, id.to_bytes())) {
            (Err(StoreError::Corrupt(error)), Ok(Some(bytes))) => {
                self.observer.observe(Event::EntryCorrupt { id: Some(id), error: &error });
                Some(Step::Aside { id, bytes, due })
            }
            // The block that holds it is damaged: there is nothing to move. Reported, and left for `check`.
            (Err(StoreError::Corrupt(error)), _) => {
                self.observer.observe(Event::EntryCorrupt { id: Some(id), error: &error });
                None
            }
            _ => None,
        };
        let pushed = step.is_some_and(|step| self.push(Piece::new(step, Answer::Nobody)).is_ok());
        if !pushed {
            self.table().forget(id);
        }
    }

    /// A due key was found without an entry, and the caller has reserved its id. If it is still there, it goes: it says nothing.
    pub(crate) fn drop_due(&self, id: MessageId, due: Timestamp) {
        let still = self.db.get_pinned_cf(key::family(&self.db, key::DUE), key::due(due, id));
        let dangling = matches!(still, Ok(Some(_)));
        if !dangling || self.push(Piece::new(Step::Undue { id, due }, Answer::Nobody)).is_err() {
            self.table().forget(id);
        }
    }
}

/// `Store::check`: one consistent view, so that mail that comes and goes meanwhile is no problem.
pub(crate) fn check(shared: &Shared) -> Result<Vec<Problem>, StoreError> {
    let view = shared.db.snapshot();
    let rows = |name| {
        let mut rows = view.raw_iterator_cf(key::family(&shared.db, name));
        rows.seek_to_first();
        rows
    };
    let mut problems = Problems::default();
    each(rows(key::ENTRY), |key, bytes| {
        let Some(id) = MessageId::from_bytes(key) else { return problems.add(None, "a key that is no id") };
        match codec::decode(bytes) {
            Err(error) => problems.add(Some(id), &error.to_string()),
            Ok(entry) if entry.id != id => problems.add(Some(id), &format!("names another entry, {}", entry.id)),
            Ok(entry) => {
                let due = entry.due().unwrap_or(Timestamp::NEVER);
                if !matches!(view.get_pinned_cf(key::family(&shared.db, key::DUE), key::due(due, id)), Ok(Some(_))) {
                    problems.add(Some(id), &format!("not in the due index at {due}"));
                }
                body(shared, &view, &entry, &mut problems);
            }
        }
    })?;
    let known = |id: MessageId| {
        [key::ENTRY, key::CORRUPT]
            .iter()
            .any(|name| matches!(view.get_pinned_cf(key::family(&shared.db, name), id.to_bytes()), Ok(Some(_))))
    };
    each(rows(key::DUE), |key, _| match key::parse_due(key) {
        None => problems.add(None, "a key of the due index that cannot be read"),
        Some((due, id)) => match view.get_pinned_cf(key::family(&shared.db, key::ENTRY), id.to_bytes()) {
            Ok(Some(bytes)) => {
                if codec::decode(&bytes).is_ok_and(|entry| entry.due() != Some(due)) {
                    problems.add(Some(id), &format!("in the due index at {due}, where it is not due"));
                }
            }
            _ if known(id) => {}
            _ => problems.add(Some(id), "in the due index, but there is no entry"),
        },
    })?;
    let mut orphans = HashSet::new();
    each(rows(key::BODY), |key, _| match key::parse_body(key) {
        None => problems.add(None, "a key of the bodies that cannot be read"),
        Some((id, _)) if known(id) || !orphans.insert(id) => {}
        Some((id, _)) => problems.add(Some(id), "a body without an entry"),
    })?;
    each(rows(key::CORRUPT), |key, bytes| {
        let why = codec::decode(bytes).map_or_else(|error| error.to_string(), |_| "readable by now".into());
        problems.add(MessageId::from_bytes(key), &format!("set aside: {why}"));
    })?;
    Ok(problems.found)
}

fn body(shared: &Shared, view: &rocksdb::Snapshot<'_>, entry: &Entry, problems: &mut Problems) {
    let family = key::family(&shared.db, key::BODY);
    let mut len = 0;
    for index in 0..key::chunks(entry.size, shared.options.chunk_bytes) {
        match view.get_pinned_cf(family, key::body(entry.id, index)) {
            Ok(Some(chunk)) => len += chunk.len() as u64,
            Ok(None) => problems.add(Some(entry.id), &format!("chunk {index} of its body is missing")),
            Err(error) => problems.add(Some(entry.id), &format!("chunk {index} of its body: {error}")),
        }
    }
    if len != entry.size {
        problems.add(Some(entry.id), &format!("its body has {len} octets instead of {}", entry.size));
    }
}

fn each<'a, D: rocksdb::DBAccess>(
    mut rows: DBRawIteratorWithThreadMode<'a, D>,
    mut look: impl FnMut(&[u8], &[u8]),
) -> Result<(), StoreError> {
    while let Some((key, value)) = rows.item() {
        look(key, value);
        rows.next();
    }
    rows.status().map_err(read_failed)
}

/// More are of the same kind: whoever has so many restores a copy.
const PROBLEMS_MAX: usize = 10_000;

#[derive(Default)]
struct Problems {
    found: Vec<Problem>,
}

impl Problems {
    fn add(&mut self, id: Option<MessageId>, text: &str) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(Problem { id, text: text.into() });
        }
    }
}
