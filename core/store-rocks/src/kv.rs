//! `types::port::KeyValue`: small values of others (plugins, greylisting, caches), in a family of their own.
//!
//! Writes go to the log without a sync of their own: the next message's sync covers them, and a crash of the machine may lose the last moments, as the trait
//! says. Expired values are absent at once and leave the disk at the next compaction. Reading, changing and writing back is atomic per key.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use waypost_types::port::{KeyValue, KvError};

use crate::open::unix_millis;
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
    locks: Arc<[Mutex<()>; 16]>,
    writes: Arc<AtomicU64>,
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
        RocksKv { shared, locks: Arc::default(), writes: Arc::default() }
    }

    fn lock(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let lock = &self.locks[hasher.finish() as usize % self.locks.len()];
        lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The value and its expiry, unless it is absent or over.
    fn load(&self, key: &[u8]) -> Result<Option<(u64, Vec<u8>)>, KvError> {
        let stored = self.shared.db.get_pinned_cf(key::family(&self.shared.db, key::KV), key).map_err(failed)?;
        let live = stored.filter(|stored| !is_expired(stored, unix_millis()));
        Ok(live.and_then(|stored| parse(&stored).map(|(expiry, value)| (expiry, value.to_vec()))))
    }

    fn store(&self, key: &[u8], value: &[u8], expiry: u64) -> Result<(), KvError> {
        if let Err(error) = self.shared.writable() {
            return Err(KvError::Failed(error.to_string()));
        }
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX || self.is_full() {
            return Err(KvError::Quota);
        }
        let stored = [&expiry.to_le_bytes(), value].concat();
        self.shared.db.put_cf(key::family(&self.shared.db, key::KV), key, stored).map_err(failed)
    }

    fn is_full(&self) -> bool {
        if !self.writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY) {
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
}
