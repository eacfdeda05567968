//! What every session of every door shares: services, sources of ids and time, the memory bound, the register of sessions.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use ahash::AHashMap;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use waypost_types::{MessageId, SessionId, Timestamp};

use crate::credential::throttle::Throttle;
use crate::meter::Meter;
use crate::options::{Options, Services};

/// Shared by all sessions.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) services: Services,
    pub(crate) entropy: Entropy,
    pub(crate) memory: Memory,
    pub(crate) throttle: Throttle,
    pub(crate) register: Register,
    /// By client network, over all doors.
    pub(crate) meters: Meters,
}

/// What clients did lately.
#[derive(Default)]
pub(crate) struct Meters {
    pub(crate) connections: Meter,
    pub(crate) messages: Meter,
    pub(crate) recipients: Meter,
}

impl Shared {
    pub(crate) fn new(options: Options, services: Services) -> Shared {
        let memory = Memory::new(options.intake_bytes_max);
        Shared {
            options,
            services,
            entropy: Entropy::new(),
            memory,
            throttle: Throttle::default(),
            register: Register::default(),
            meters: Meters::default(),
        }
    }

    pub(crate) fn message_id(&self, now: Timestamp) -> MessageId {
        MessageId::new(now, self.entropy.next())
    }

    pub(crate) fn session_id(&self) -> SessionId {
        SessionId::new(self.entropy.next())
    }
}

/// The wall clock.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Numbers that nobody outside can guess: a counter through SipHash under keys that the operating system gave at start. No system
/// call and no lock per number; two numbers of one process differ unless SipHash collides.
pub(crate) struct Entropy {
    keys: RandomState,
    count: AtomicU64,
}

impl Entropy {
    fn new() -> Entropy {
        Entropy { keys: RandomState::new(), count: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self) -> u64 {
        self.keys.hash_one(self.count.fetch_add(1, Ordering::Relaxed))
    }
}

/// Octets of messages being received, over all sessions.
pub(crate) struct Memory {
    used: AtomicUsize,
    bytes_max: usize,
}

impl Memory {
    fn new(bytes_max: usize) -> Memory {
        Memory { used: AtomicUsize::new(0), bytes_max }
    }

    /// Takes `bytes`; `false`, and nothing taken, if that would pass the bound.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.bytes_max;
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "more intake memory given back than was taken");
    }

    /// Whether a new message may begin: the last eighth is left to those that have begun.
    pub(crate) fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) <= self.bytes_max - self.bytes_max / 8
    }
}

/// Every open session, so that they can be told about the end, and cut off if they do not heed it.
#[derive(Default)]
pub(crate) struct Register {
    open: Mutex<Open>,
    emptied: Notify,
}

#[derive(Default)]
struct Open {
    closing: bool,
    last: u64,
    sessions: AHashMap<u64, Seat>,
}

struct Seat {
    /// Told when the server goes down. One channel per session: polling it touches nothing that sessions share.
    tell: Option<oneshot::Sender<()>>,
    task: AbortHandle,
}

impl Register {
    /// Starts a session's task. The register's lock is held while the task is made, so that it cannot leave before it has come.
    /// What `make` gives must leave the register by dropping a [`Leave`] with the number that it was given.
    pub(crate) fn enter<F>(&self, make: impl FnOnce(u64, oneshot::Receiver<()>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let mut open = self.open.lock().expect("no panic under this lock");
        open.last += 1;
        let number = open.last;
        let task = tokio::spawn(make(number, told)).abort_handle();
        // While closing, dropping the sender tells it at once.
        let tell = (!open.closing).then_some(tell);
        open.sessions.insert(number, Seat { tell, task });
    }

    pub(crate) fn leave(&self, number: u64) {
        let mut open = self.open.lock().expect("no panic under this lock");
        open.sessions.remove(&number);
        if open.sessions.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.lock().expect("no panic under this lock").sessions.len()
    }

    /// Tells every session, and every later one.
    pub(crate) fn close(&self) {
        let mut open = self.open.lock().expect("no panic under this lock");
        open.closing = true;
        open.sessions.values_mut().for_each(|seat| drop(seat.tell.take()));
    }

    /// Waits until nobody is left.
    pub(crate) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Cuts off whoever is left; how many that were.
    pub(crate) fn cut_off(&self) -> usize {
        let open = self.open.lock().expect("no panic under this lock");
        open.sessions.values().for_each(|seat| seat.task.abort());
        open.sessions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_repeat() {
        let entropy = Entropy::new();
        let mut seen: Vec<u64> = (0..10_000).map(|_| entropy.next() & ((1 << 52) - 1)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10_000);
        assert_ne!(Entropy::new().next(), Entropy::new().next(), "every process has its own keys");
    }

    #[test]
    fn memory_is_never_passed_and_always_given_back() {
        let memory = Memory::new(1000);
        assert!(memory.take(900) && !memory.take(101) && memory.take(100));
        assert!(!memory.has_room());
        memory.give_back(900);
        assert!(memory.has_room() && memory.take(900));
    }
}
