//! Destinations that an operator has suspended: nothing is sent there until a time comes, over a restart too.
//!
//! As long as nothing is suspended, it costs one look at a flag for each message.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use waypost_queue::Entry;
use waypost_types::port::KeyValue;
use waypost_types::{Host, Timestamp};

use crate::chance;

/// What is suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Recipients at this domain.
    Domain(String),
    /// Mail hosts of this name, or below it if it begins with a dot.
    Host(String),
}

impl Scope {
    fn is_host(&self, host: &str) -> bool {
        let Scope::Host(name) = self else { return false };
        crate::shaping::host_matches(name, host)
    }

    fn is_domain(&self, domain: &Host) -> bool {
        match (self, domain) {
            (Scope::Domain(name), Host::Name(domain)) => domain.as_str() == name,
            _ => false,
        }
    }
}

/// Suspensions at once: an operator makes them by hand.
const SUSPENSIONS_MAX: usize = 1000;

/// All of them.
#[derive(Default)]
pub(crate) struct Suspensions {
    any: AtomicBool,
    list: Mutex<Vec<(Scope, Instant)>>,
    /// Where they outlive the process. It holds until when each is, as milliseconds since 1970.
    store: Option<Arc<dyn KeyValue>>,
}

/// In front of the keys. No plugin's keys begin with a NUL.
const PREFIX: &[u8] = b"\0suspended/";

fn key(scope: &Scope) -> Vec<u8> {
    let (kind, name) = match scope {
        Scope::Domain(name) => (b'd', name),
        Scope::Host(name) => (b'h', name),
    };
    [PREFIX, &[kind], name.as_bytes()].concat()
}

fn scope(key: &[u8]) -> Option<Scope> {
    let (kind, name) = key.strip_prefix(PREFIX)?.split_first()?;
    let name = std::str::from_utf8(name).ok()?.to_string();
    match kind {
        b'd' => Some(Scope::Domain(name)),
        b'h' => Some(Scope::Host(name)),
        _ => None,
    }
}

impl Suspensions {
    /// Those of an earlier life. A store that cannot be read has none: mail goes out.
    pub(crate) fn open(store: Option<Arc<dyn KeyValue>>) -> Suspensions {
        let rows = store.as_ref().and_then(|store| store.list(PREFIX, b"", SUSPENSIONS_MAX).ok()).unwrap_or_default();
        let (now, wall) = (Instant::now(), chance::now());
        let row = |(key, value): (Vec<u8>, Vec<u8>)| {
            let until = Timestamp(u64::from_be_bytes(value.try_into().ok()?));
            Some((scope(&key)?, now + until.since(wall)))
        };
        let list: Vec<_> = rows.into_iter().filter_map(row).collect();
        Suspensions { any: AtomicBool::new(!list.is_empty()), list: Mutex::new(list), store }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Scope, Instant)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Suspends, or changes the time of a suspension. False: there are too many.
    pub(crate) fn add(&self, scope: Scope, until: Instant) -> bool {
        let mut list = self.lock();
        list.retain(|(other, until)| *other != scope && *until > Instant::now());
        if list.len() >= SUSPENSIONS_MAX {
            return false;
        }
        if let Some(store) = &self.store {
            let span = until.saturating_duration_since(Instant::now());
            // What the disk does not take holds until the process ends.
            let _ = store.set(&key(&scope), &chance::now().after(span).millis().to_be_bytes(), Some(span));
        }
        list.push((scope, until));
        self.any.store(true, Ordering::Relaxed);
        true
    }

    /// Takes one back. False: there was none.
    pub(crate) fn remove(&self, scope: &Scope) -> bool {
        let mut list = self.lock();
        let before = list.len();
        list.retain(|(other, _)| other != scope);
        if let Some(store) = &self.store {
            let _ = store.remove(&key(scope));
        }
        self.any.store(!list.is_empty(), Ordering::Relaxed);
        list.len() < before
    }

    pub(crate) fn list(&self) -> Vec<(Scope, Instant)> {
        let now = Instant::now();
        self.lock().iter().filter(|(_, until)| *until > now).cloned().collect()
    }

    fn until(&self, which: impl Fn(&Scope) -> bool) -> Option<Instant> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let now = Instant::now();
        let mut list = self.lock();
        list.retain(|(_, until)| *until > now);
        self.any.store(!list.is_empty(), Ordering::Relaxed);
        list.iter().filter(|(scope, _)| which(scope)).map(|(_, until)| *until).max()
    }

    /// Until when a host is.
    pub(crate) fn host(&self, host: &str) -> Option<Instant> {
        self.until(|scope| scope.is_host(host))
    }

    /// Takes those out of `recipients` whose domain is suspended, with the time.
    pub(crate) fn cut(&self, entry: &Entry, recipients: &mut Vec<u32>) -> Vec<(u32, Instant)> {
        if !self.any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut late = Vec::new();
        recipients.retain(|index| {
            let host = entry.recipients[*index as usize].recipient.address.host();
            let until = self.until(|scope| scope.is_domain(host));
            late.extend(until.map(|until| (*index, until)));
            until.is_none()
        });
        late
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn suspensions_end_by_time_and_by_word() {
        let all = Suspensions::default();
        let until = Instant::now() + Duration::from_secs(60);
        assert_eq!(all.host("mx1.b.example"), None);
        assert!(all.add(Scope::Host(".b.example".into()), until));
        assert!(all.add(Scope::Host("mx.c.example".into()), Instant::now()));
        assert_eq!(
            (all.host("mx1.b.example"), all.host("b.example"), all.host("mx.c.example")),
            (Some(until), None, None)
        );
        assert!(all.remove(&Scope::Host(".b.example".into())) && !all.remove(&Scope::Domain("b.example".into())));
        assert_eq!(all.host("mx1.b.example"), None);
    }
}
