//! `types::port::KeyValue`: small values of others (plugins, greylisting, caches), in a family of their own.
//!
//! Writes go to the log without a sync of their own: the next message's sync covers them, and a crash of the machine may lose the last moments, as the trait
//! says. Expired values are absent at once and leave the disk at the next compaction. Reading, changing and writing back is atomic per key.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rocksdb::WriteBatch;
use waypost_types::port::{KeyValue, KvError, Pair, Row, pair_octets, pair_of};

use crate::open::unix_millis;
use crate::pairs::Pairs;
use crate::{Shared, key};

/// Octets of one key with its namespace.
const KEY_BYTES_MAX: usize = 1024;
/// Octets of one value.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The family's size is looked at once in so many writes.
const LOOK_EVERY: u64 = 256;

/// A handle on the key-value store. Clones share it.
#[derive(Clone)]
pub struct RocksKv {
    shared: Arc<Shared>,
}

/// What all handles of one store share.
#[derive(Default)]
pub(crate) struct State {
    locks: [Mutex<()>; 16],
    writes: AtomicU64,
    pairs: Pairs,
}

/// Whether a stored value's time has come. A value that is too short to have a time has been damaged: it goes.
pub(crate) fn is_expired(stored: &[u8], now: u64) -> bool {
    parse(stored).is_none_or(|(expiry, _)| expiry != 0 && expiry <= now)
}

/// Expiry in milliseconds since the epoch (0: never) and the value.
fn parse(stored: &[u8]) -> Option<(u64, &[u8])> {
    let (expiry, value) = stored.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*expiry), value))
}

fn failed(error: rocksdb::Error) -> KvError {
    KvError::Failed(error.into_string())
}

impl RocksKv {
    pub(crate) fn new(shared: Arc<Shared>) -> RocksKv {
        RocksKv { shared }
    }

    fn lock(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let locks = &self.shared.kv.locks;
        let lock = &locks[hasher.finish() as usize % locks.len()];
        lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The value and its expiry, unless it is absent or over.
    fn load(&self, key: &[u8]) -> Result<Option<(u64, Vec<u8>)>, KvError> {
        let stored = self.shared.db.get_pinned_cf(key::family(&self.shared.db, key::KV), key).map_err(failed)?;
        let live = stored.filter(|stored| !is_expired(stored, unix_millis()));
        Ok(live.and_then(|stored| parse(&stored).map(|(expiry, value)| (expiry, value.to_vec()))))
    }

    fn store(&self, key: &[u8], value: &[u8], expiry: u64) -> Result<(), KvError> {
        self.check_room(key.len(), value.len())?;
        let stored = [&expiry.to_le_bytes(), value].concat();
        self.shared.db.put_cf(key::family(&self.shared.db, key::KV), key, stored).map_err(failed)?;
        if let Some((prefix, number)) = key.split_last_chunk::<8>() {
            self.shared.kv.pairs.forget(prefix, u64::from_be_bytes(*number));
        }
        Ok(())
    }

    fn check_room(&self, key: usize, value: usize) -> Result<(), KvError> {
        if let Err(error) = self.shared.writable() {
            return Err(KvError::Failed(error.to_string()));
        }
        let fits = key <= KEY_BYTES_MAX && value <= VALUE_BYTES_MAX && !self.is_full();
        if fits { Ok(()) } else { Err(KvError::Quota) }
    }

    /// Pairs as they stand on disk, in the order of their numbers; `numbers` is sorted.
    fn load_pairs(&self, prefix: &[u8], numbers: &[u64]) -> Result<Vec<Pair>, KvError> {
        let keys: Vec<Vec<u8>> = numbers.iter().map(|number| waypost_types::port::numbered(prefix, *number)).collect();
        let family = key::family(&self.shared.db, key::KV);
        let now = unix_millis();
        let found = self.shared.db.batched_multi_get_cf(family, &keys, true);
        let pair = |stored: Result<Option<rocksdb::DBPinnableSlice<'_>>, rocksdb::Error>| {
            let live = stored.map_err(failed)?.filter(|stored| !is_expired(stored, now));
            Ok(live.and_then(|stored| parse(&stored).map(|(_, value)| pair_of(value))).unwrap_or_default())
        };
        found.into_iter().map(pair).collect()
    }

    fn is_full(&self) -> bool {
        if !self.shared.kv.writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY) {
            return false;
        }
        let family = key::family(&self.shared.db, key::KV);
        let size = self.shared.db.property_int_value_cf(family, "rocksdb.estimate-live-data-size");
        matches!(size, Ok(Some(bytes)) if bytes > self.shared.options.kv_bytes_max)
    }
}

fn expiry(ttl: Option<Duration>) -> u64 {
    let millis = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    ttl.map_or(0, |ttl| unix_millis().saturating_add(millis(ttl)).max(1))
}

impl KeyValue for RocksKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.load(key)?.map(|(_, value)| value))
    }

    fn set(&self, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Result<(), KvError> {
        let _one_at_a_time = self.lock(key);
        self.store(key, value, expiry(ttl))
    }

    fn add(&self, key: &[u8], delta: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
        let _one_at_a_time = self.lock(key);
        let (expiry, old) = match self.load(key)? {
            // What is no number counts from 0, as if it were absent, but keeps its time.
            Some((expiry, value)) => (expiry, value.try_into().map_or(0, i64::from_le_bytes)),
            None => (expiry(ttl), 0),
        };
        let new = old.saturating_add(delta);
        self.store(key, &new.to_le_bytes(), expiry)?;
        Ok(new)
    }

    fn swap(&self, key: &[u8], old: &[u8], new: &[u8], ttl: Option<Duration>) -> Result<bool, KvError> {
        let _one_at_a_time = self.lock(key);
        if self.load(key)?.map_or(Vec::new(), |(_, value)| value) != old {
            return Ok(false);
        }
        self.store(key, new, expiry(ttl))?;
        Ok(true)
    }

    fn remove(&self, key: &[u8]) -> Result<bool, KvError> {
        let _one_at_a_time = self.lock(key);
        if let Err(error) = self.shared.writable() {
            return Err(KvError::Failed(error.to_string()));
        }
        let found = self.load(key)?.is_some();
        self.shared.db.delete_cf(key::family(&self.shared.db, key::KV), key).map_err(failed)?;
        if let Some((prefix, number)) = key.split_last_chunk::<8>() {
            self.shared.kv.pairs.forget(prefix, u64::from_be_bytes(*number));
        }
        Ok(found)
    }

    fn list(&self, prefix: &[u8], after: &[u8], count_max: usize) -> Result<Vec<Row>, KvError> {
        let mut rows = self.shared.db.raw_iterator_cf(key::family(&self.shared.db, key::KV));
        let (from, now) = ([prefix, after].concat(), unix_millis());
        rows.seek(&from);
        let mut found = Vec::with_capacity(count_max.min(1024));
        while found.len() < count_max {
            let Some((key, stored)) = rows.item().filter(|(key, _)| key.starts_with(prefix)) else { break };
            if key != from
                && !is_expired(stored, now)
                && let Some((_, value)) = parse(stored)
            {
                found.push((key.to_vec(), value.to_vec()));
            }
            rows.next();
        }
        rows.status().map(|()| found).map_err(failed)
    }

    fn pairs(&self, prefix: &[u8], numbers: &[u64]) -> Result<Vec<Pair>, KvError> {
        let seen = self.shared.kv.pairs.begin(unix_millis());
        let mut pairs = vec![(0, 0); numbers.len()];
        let mut missing = Vec::new();
        for (at, number) in numbers.iter().enumerate() {
            match self.shared.kv.pairs.get(prefix, *number) {
                Some(pair) => pairs[at] = pair,
                None => missing.push((*number, at)),
            }
        }
        missing.sort_unstable();
        let wanted: Vec<u64> = missing.iter().map(|(number, _)| *number).collect();
        for ((number, at), pair) in missing.into_iter().zip(self.load_pairs(prefix, &wanted)?) {
            pairs[at] = pair;
            self.shared.kv.pairs.put(prefix, number, pair, seen);
        }
        Ok(pairs)
    }

    /// One batch for all: training reads and writes a thousand counters a message.
    fn add_pairs(&self, prefix: &[u8], numbers: &[u64], by: (i32, i32), ttl: Option<Duration>) -> Result<(), KvError> {
        self.check_room(prefix.len() + 8, 8)?;
        let mut numbers = numbers.to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        let writing = self.shared.kv.pairs.write();
        let old = self.load_pairs(prefix, &numbers)?;
        let family = key::family(&self.shared.db, key::KV);
        let expiry = expiry(ttl);
        let mut batch = WriteBatch::default();
        for (number, old) in numbers.iter().zip(old) {
            let key = waypost_types::port::numbered(prefix, *number);
            let new = (old.0.saturating_add_signed(by.0), old.1.saturating_add_signed(by.1));
            match new {
                (0, 0) => batch.delete_cf(family, key),
                new => batch.put_cf(family, key, [expiry.to_le_bytes(), pair_octets(new)].concat()),
            }
        }
        self.shared.db.write(batch).map_err(failed)?;
        numbers.iter().for_each(|number| self.shared.kv.pairs.forget(prefix, *number));
        drop(writing);
        Ok(())
    }
}
