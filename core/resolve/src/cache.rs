//! A small cache: bounded, each value with its own time to live, and one maker per key at a time, so that a thousand messages to one
//! domain ask once.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahash::HashMap;
use tokio::sync::OnceCell;

pub(crate) struct Cache<K, V> {
    slots: Mutex<HashMap<K, Arc<Slot<V>>>>,
    entries_max: usize,
}

struct Slot<V> {
    cell: OnceCell<(Instant, V)>,
}

impl<V> Slot<V> {
    /// A slot that is still being filled is as good as a fresh one.
    fn is_fresh(&self, now: Instant) -> bool {
        self.cell.get().is_none_or(|(until, _)| now < *until)
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(entries_max: usize) -> Cache<K, V> {
        Cache { slots: Mutex::default(), entries_max: entries_max.max(1) }
    }

    /// The cached value, or what `make` makes, kept as long as it says. Who comes while it is being made waits for it; if the maker is
    /// dropped half-way, the next one makes it.
    pub(crate) async fn get<F>(&self, key: &K, make: F) -> V
    where
        F: Future<Output = (V, Duration)>,
    {
        let slot = self.slot(key, Instant::now());
        let filled = slot.cell.get_or_init(|| async {
            let (value, ttl) = make.await;
            (Instant::now() + ttl, value)
        });
        filled.await.1.clone()
    }

    fn slot(&self, key: &K, now: Instant) -> Arc<Slot<V>> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(key).filter(|slot| slot.is_fresh(now)) {
            return slot.clone();
        }
        if slots.len() >= self.entries_max {
            slots.retain(|_, slot| slot.is_fresh(now));
        }
        // Nothing has expired: start anew. Rare, and cheaper for everybody else than keeping the order of use.
        if slots.len() >= self.entries_max {
            slots.clear();
        }
        let slot = Arc::new(Slot { cell: OnceCell::new() });
        slots.insert(key.clone(), slot.clone());
        slot
    }

    /// Forgets one.
    pub(crate) fn forget(&self, key: &K) {
        self.lock().remove(key);
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// No code panics while it holds the lock, and a map is whole after every call anyway.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Slot<V>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn values_are_made_once_while_fresh_and_again_when_not() {
        let cache = Cache::new(10);
        assert_eq!(cache.get(&"a", async { (1, LONG) }).await, 1);
        assert_eq!(cache.get(&"a", async { (2, LONG) }).await, 1);
        assert_eq!(cache.get(&"b", async { (3, Duration::ZERO) }).await, 3);
        assert_eq!(cache.get(&"b", async { (4, LONG) }).await, 4);
        cache.clear();
        assert_eq!(cache.get(&"a", async { (5, LONG) }).await, 5);
    }

    #[tokio::test]
    async fn those_who_come_meanwhile_wait_for_the_first() {
        let cache = Cache::new(10);
        let gate = tokio::sync::Notify::new();
        let slow = cache.get(&"a", async {
            gate.notified().await;
            (1, LONG)
        });
        let second = async {
            gate.notify_one();
            cache.get(&"a", async { (2, LONG) }).await
        };
        assert_eq!(tokio::join!(slow, second), (1, 1));
    }

    #[tokio::test]
    async fn a_maker_that_is_dropped_leaves_the_place_to_the_next() {
        let cache = Cache::new(10);
        let never = cache.get(&"a", std::future::pending());
        tokio::select! {
            biased;
            _ = never => unreachable!("it never ends"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(cache.get(&"a", async { (2, LONG) }).await, 2);
    }

    #[tokio::test]
    async fn it_never_holds_more_than_its_bound() {
        let cache = Cache::new(3);
        for key in 0..100 {
            cache.get(&key, async { (key, LONG) }).await;
            assert!(cache.lock().len() <= 3);
        }
    }
}
