//! Time and chance: what the lower floors take as arguments.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use waypost_types::{MessageId, Timestamp};

/// Now, as entries keep it.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// 64 random bits at a time: a counter through SipHash with a key from the system.
#[derive(Debug, Default)]
pub(crate) struct Dice {
    key: RandomState,
    thrown: AtomicU64,
}

impl Dice {
    pub(crate) fn throw(&self) -> u64 {
        self.key.hash_one(self.thrown.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn message_id(&self, now: Timestamp) -> MessageId {
        MessageId::new(now, self.throw())
    }
}
