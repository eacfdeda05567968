//! Counters that were read lately, in memory: a classifier asks for a thousand a message, and words repeat.
//!
//! A table of so many places without locks: each place holds the counters and, mixed with them, whose they are, so that a place
//! that two threads write at the same time is nobody's. It is made when the first counter is asked for, and emptied once an hour,
//! so that what has expired is not remembered for longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use waypost_types::port::Pair;

/// 4 MiB. Much of what a classifier asks about ordinary mail is found here once some hundred messages have passed.
const PLACES: usize = 1 << 18;
const HOUR_MILLIS: u64 = 3_600_000;

/// The table.
#[derive(Default)]
pub(crate) struct Pairs {
    places: OnceLock<Vec<Place>>,
    /// Counts writes, begun and done: what was read from disk around one is not remembered.
    writes: AtomicU64,
    hour: AtomicU64,
    writing: Mutex<()>,
}

#[derive(Default)]
struct Place {
    /// Owner xor counters.
    check: AtomicU64,
    counters: AtomicU64,
}

/// One writer at a time, so that no counter loses an addition.
pub(crate) struct Writing<'a> {
    pairs: &'a Pairs,
    _alone: MutexGuard<'a, ()>,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.pairs.writes.fetch_add(1, Ordering::AcqRel);
    }
}

impl Pairs {
    /// Before reading: how many writes there were. Empties the table when a new hour has come.
    pub(crate) fn begin(&self, now_millis: u64) -> u64 {
        let hour = now_millis / HOUR_MILLIS;
        if self.hour.swap(hour, Ordering::Relaxed) != hour {
            self.places.get().into_iter().flatten().for_each(Place::clear);
        }
        self.writes.load(Ordering::Acquire)
    }

    /// The counters, if they are remembered.
    pub(crate) fn get(&self, prefix: &[u8], number: u64) -> Option<Pair> {
        let owner = owner(prefix, number);
        let place = &self.places.get()?[owner as usize % PLACES];
        let counters = place.counters.load(Ordering::Relaxed);
        let ours = place.check.load(Ordering::Relaxed) ^ counters == owner;
        ours.then_some((counters as u32, (counters >> 32) as u32))
    }

    /// Remembers counters that were read from disk after `seen` was taken.
    pub(crate) fn put(&self, prefix: &[u8], number: u64, (first, second): Pair, seen: u64) {
        if self.writes.load(Ordering::Acquire) != seen {
            return;
        }
        let owner = owner(prefix, number);
        let places = self.places.get_or_init(|| (0..PLACES).map(|_| Place::default()).collect());
        let place = &places[owner as usize % PLACES];
        let counters = u64::from(first) | u64::from(second) << 32;
        place.counters.store(counters, Ordering::Relaxed);
        place.check.store(owner ^ counters, Ordering::Relaxed);
    }

    /// Forgets counters that were changed.
    pub(crate) fn forget(&self, prefix: &[u8], number: u64) {
        if let Some(places) = self.places.get() {
            places[owner(prefix, number) as usize % PLACES].clear();
        }
    }

    /// Begins to write.
    pub(crate) fn write(&self) -> Writing<'_> {
        let alone = self.writing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.writes.fetch_add(1, Ordering::AcqRel);
        Writing { pairs: self, _alone: alone }
    }
}

impl Place {
    fn clear(&self) {
        self.check.store(0, Ordering::Relaxed);
        self.counters.store(0, Ordering::Relaxed);
    }
}

/// Never 0, which is an empty place.
fn owner(prefix: &[u8], number: u64) -> u64 {
    let prefix = prefix
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (prefix ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29) | 1 << 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_remembered_until_they_change_or_the_hour_ends() {
        let pairs = Pairs::default();
        let seen = pairs.begin(0);
        assert_eq!(pairs.get(b"a", 1), None);
        pairs.put(b"a", 1, (2, 3), seen);
        pairs.put(b"a", 9, (0, 0), seen);
        assert_eq!((pairs.get(b"a", 1), pairs.get(b"b", 1), pairs.get(b"a", 9)), (Some((2, 3)), None, Some((0, 0))));
        pairs.forget(b"a", 1);
        assert_eq!(pairs.get(b"a", 1), None);
        pairs.begin(HOUR_MILLIS);
        assert_eq!(pairs.get(b"a", 9), None);
    }

    #[test]
    fn what_was_read_around_a_write_is_not_remembered() {
        let pairs = Pairs::default();
        let seen = pairs.begin(0);
        drop(pairs.write());
        pairs.put(b"a", 1, (2, 3), seen);
        assert_eq!(pairs.get(b"a", 1), None);
    }
}
