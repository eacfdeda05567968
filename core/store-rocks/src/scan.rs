//! Reading: claims from the due index, lists, chunks. On blocking threads, past the committer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rocksdb::DB;
use waypost_queue::{Claim, Entry, StoreError, codec};
use waypost_types::{MessageId, Timestamp};

use crate::{Shared, key, read_failed};

/// The first due time in the index; `NEVER` if there is none.
pub(crate) fn first_due(db: &DB) -> Timestamp {
    let mut rows = db.raw_iterator_cf(key::family(db, key::DUE));
    rows.seek_to_first();
    rows.key().and_then(key::parse_due).map_or(Timestamp::NEVER, |(due, _)| due)
}

/// `Store::claim`.
pub(crate) fn claim(
    shared: &Arc<Shared>,
    now: Timestamp,
    lease: Duration,
    count_max: usize,
) -> Result<Vec<Claim>, StoreError> {
    let _one_at_a_time = shared.scanning();
    let Some(from) = shared.table().begin_scan(now) else { return Ok(Vec::new()) };
    let mut claims = Vec::new();
    let (mut first, mut next) = (None, Timestamp::NEVER);
    let mut rows = shared.db.raw_iterator_cf(key::family(&shared.db, key::DUE));
    rows.seek(key::due(from, MessageId::MIN));
    while let Some((due, id)) = rows.key().and_then(key::parse_due) {
        first.get_or_insert(due);
        if due > now || due == Timestamp::NEVER || claims.len() == count_max {
            next = due;
            break;
        }
        claims.extend(take(shared, due, id, now, lease));
        rows.next();
    }
    let read = rows.status().map_err(read_failed);
    // What was not read may be due: the next scan begins where this one did.
    let (first, next) = if read.is_ok() { (first.unwrap_or(Timestamp::NEVER), next) } else { (from, from) };
    shared.table().end_scan(first, next);
    if claims.is_empty() { read.map(|()| claims) } else { Ok(claims) }
}

/// Claims one entry, unless somebody has it or it is not what the index says.
fn take(shared: &Arc<Shared>, due: Timestamp, id: MessageId, now: Timestamp, lease: Duration) -> Option<Claim> {
    shared.table().reserve(id, None)?;
    match shared.read_entry(id) {
        // The index was read a moment before: the entry may have been put off or removed since.
        Ok(Some(entry)) if entry.due().is_some_and(|due| due <= now) => {
            let entry = Arc::new(entry);
            let token = shared.table().lease(id, entry.clone(), now.after(lease));
            Some(Claim { entry, message: None, token })
        }
        Ok(Some(_)) => {
            shared.table().forget(id);
            None
        }
        Ok(None) => {
            shared.drop_due(id, due);
            None
        }
        Err(_) => {
            shared.table().forget(id);
            shared.set_aside(id, Some(due));
            None
        }
    }
}

/// `Store::claim_one`.
pub(crate) fn claim_one(
    shared: &Arc<Shared>,
    id: MessageId,
    now: Timestamp,
    lease: Duration,
) -> Result<Option<Claim>, StoreError> {
    let reserved = {
        let mut table = shared.table();
        table.sweep(now);
        table.reserve(id, None)
    };
    reserved.ok_or(StoreError::Busy)?;
    match shared.read_entry(id) {
        Ok(Some(entry)) => {
            let entry = Arc::new(entry);
            let token = shared.table().lease(id, entry.clone(), now.after(lease));
            Ok(Some(Claim { entry, message: None, token }))
        }
        Ok(None) => {
            shared.table().forget(id);
            Ok(None)
        }
        Err(error) => {
            shared.table().forget(id);
            shared.set_aside(id, None);
            Err(error)
        }
    }
}

/// `Store::list`.
pub(crate) fn list(shared: &Shared, after: Option<MessageId>, count_max: usize) -> Result<Vec<Entry>, StoreError> {
    let mut rows = shared.db.raw_iterator_cf(key::family(&shared.db, key::ENTRY));
    match after {
        None => rows.seek_to_first(),
        Some(id) => {
            rows.seek(id.to_bytes());
            if rows.key() == Some(&id.to_bytes()) {
                rows.next();
            }
        }
    }
    let mut entries = Vec::with_capacity(count_max.min(1024));
    while entries.len() < count_max {
        let Some((id, bytes)) = rows.item() else { break };
        match codec::decode(bytes) {
            Ok(entry) => entries.push(entry),
            Err(_) => MessageId::from_bytes(id).into_iter().for_each(|id| shared.set_aside(id, None)),
        }
        rows.next();
    }
    rows.status().map(|()| entries).map_err(read_failed)
}

/// `Store::read`.
pub(crate) fn read(shared: &Shared, id: MessageId, index: u32) -> Result<Bytes, StoreError> {
    let found = shared.db.get_cf(key::family(&shared.db, key::BODY), key::body(id, index)).map_err(read_failed)?;
    found.map(Bytes::from).ok_or(StoreError::Missing)
}
