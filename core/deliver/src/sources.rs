//! Where connections come from: a pool of source addresses, each with the name that it gives in EHLO.
//!
//! The choice is sticky: a sender's mail to one provider always leaves from the same address, or a host that greylists would never see the same one twice. Among all
//! senders it follows the weights (weighted rendezvous hashing: a source that comes or goes moves only its own share). A source that names
//! users is theirs alone, and theirs are the only ones that they use.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use waypost_net::Egress;
use waypost_queue::Entry;
use waypost_types::Timestamp;
use waypost_types::port::KeyValue;

/// One source.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in EHLO, and in the choice.
    pub name: Arc<str>,
    /// For IPv4 peers; without it they are not reached from here.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6 peers.
    pub v6: Option<Ipv6Addr>,
    /// Its share, beside the others'.
    pub weight: u32,
    /// Whose it is; everybody's who has none of their own if empty.
    pub users: Vec<Box<str>>,
    /// What stands between it and the peers.
    pub egress: Option<Egress>,
    /// How much may leave from it while it is new.
    pub warm_up: Option<WarmUp>,
}

/// A schedule for an address that nobody knows yet: receivers mistrust one that sends much on its first day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// Midnight, UTC, of its first day.
    pub begins: Timestamp,
    /// Recipients on the first day, the second, …; behind the last day there is no bound.
    pub by_day: Vec<u32>,
}

const DAY: u64 = 86_400_000;

impl WarmUp {
    /// What may leave today; `None`: as much as comes. Before its first day nothing does.
    fn today(&self, now: Timestamp) -> Option<u32> {
        let Some(since) = now.millis().checked_sub(self.begins.millis()) else { return Some(0) };
        self.by_day.get(usize::try_from(since / DAY).unwrap_or(usize::MAX)).copied()
    }
}

/// What has left today, on disk, so that a restart does not begin the day anew.
#[derive(Clone)]
struct Counter {
    store: Arc<dyn KeyValue>,
    name: Arc<str>,
}

/// In front of the keys. No plugin's keys begin with a NUL.
const PREFIX: &[u8] = b"\0warm-up/";
/// How long a day's count is kept.
const KEEP: Duration = Duration::from_secs(2 * 86_400);

impl Counter {
    fn key(&self, now: Timestamp) -> Vec<u8> {
        [PREFIX, self.name.as_bytes(), b"/", (now.millis() / DAY).to_string().as_bytes()].concat()
    }

    /// A store that fails holds back no mail.
    fn today(&self, now: Timestamp) -> u64 {
        let stored = self.store.get(&self.key(now)).ok().flatten();
        stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, |bytes| i64::from_le_bytes(bytes).unsigned_abs())
    }

    fn add(&self, count: u32, now: Timestamp) {
        let _ = self.store.add(&self.key(now), i64::from(count), Some(KEEP));
    }
}

/// The choice for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// There is no pool.
    Free,
    /// From this one.
    From(usize),
    /// None of those whose it could be may send more today.
    UsedUp,
}

impl Source {
    /// The address for a peer, if there is one of its family.
    pub(crate) fn towards(&self, peer: IpAddr) -> Option<IpAddr> {
        if peer.is_ipv4() { self.v4.map(IpAddr::V4) } else { self.v6.map(IpAddr::V6) }
    }
}

/// The pool.
#[derive(Clone, Default)]
pub struct Sources {
    all: Arc<[Source]>,
    counters: Option<Arc<dyn KeyValue>>,
}

impl Sources {
    /// Of these.
    pub fn new(sources: Vec<Source>) -> Sources {
        Sources { all: sources.into(), counters: None }
    }

    /// What leaves from sources that are warming up is counted in `store`.
    #[must_use]
    pub fn counted_in(mut self, store: Arc<dyn KeyValue>) -> Sources {
        self.counters = Some(store);
        self
    }

    fn counter(&self, source: &Source) -> Option<Counter> {
        source.warm_up.as_ref()?;
        Some(Counter { store: self.counters.clone()?, name: source.name.clone() })
    }

    /// Whether a source may send more today.
    fn has_room(&self, source: &Source, now: Timestamp) -> bool {
        let Some(limit) = source.warm_up.as_ref().and_then(|plan| plan.today(now)) else { return true };
        self.counter(source).map_or(0, |counter| counter.today(now)) < u64::from(limit)
    }

    /// So many recipients have been taken from this one.
    pub(crate) fn note(&self, at: usize, count: u32, now: Timestamp) {
        let source = &self.all[at];
        if source.warm_up.as_ref().is_some_and(|plan| plan.today(now).is_some())
            && let Some(counter) = self.counter(source)
        {
            counter.add(count, now);
        }
    }

    pub(crate) fn get(&self, at: usize) -> &Source {
        &self.all[at]
    }

    /// The source for a message to a provider. One that has sent what it may today is passed over: its senders go to the one that is
    /// next in their order, and come back tomorrow.
    pub(crate) fn pick(&self, entry: &Entry, provider: &str, now: Timestamp) -> Choice {
        if self.all.is_empty() {
            return Choice::Free;
        }
        let user = entry.origin.user.as_deref();
        let own = |source: &Source| user.is_some_and(|user| source.users.iter().any(|one| **one == *user));
        let any_own = self.all.iter().any(own);
        let candidates = self
            .all
            .iter()
            .enumerate()
            .filter(|(_, source)| if any_own { own(source) } else { source.users.is_empty() });
        let score = |source: &Source| {
            let mut hasher = DefaultHasher::new();
            (&*source.name, entry.sender.address().map(ToString::to_string), provider).hash(&mut hasher);
            let uniform = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
            -uniform.max(f64::MIN_POSITIVE).ln() / f64::from(source.weight.max(1))
        };
        let candidates: Vec<(usize, &Source)> = candidates.collect();
        let with_room = candidates.iter().filter(|(_, source)| self.has_room(source, now));
        match with_room.min_by(|(_, a), (_, b)| score(a).total_cmp(&score(b))) {
            Some((at, _)) => Choice::From(*at),
            None if candidates.is_empty() => Choice::Free,
            None => Choice::UsedUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_queue::conformance::mail;
    use waypost_types::ReversePath;
    use waypost_types::port::KvError;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn source(name: &str, weight: u32, users: &[&str]) -> Source {
        let users = users.iter().map(|user| (*user).into()).collect();
        let (v4, v6) = (Some(Ipv4Addr::LOCALHOST), None);
        Source { name: name.into(), v4, v6, weight, users, egress: None, warm_up: None }
    }

    fn entry(sender: &str, user: Option<&str>) -> Entry {
        let (mut entry, _) = mail(1, &["u@b.example"]);
        entry.sender = ReversePath::Mailbox(sender.parse().unwrap());
        entry.origin.user = user.map(Into::into);
        entry
    }

    #[test]
    fn the_choice_is_sticky_and_follows_the_weights() {
        let pool = Sources::new(vec![source("a.example", 1, &[]), source("b.example", 3, &[])]);
        let mut count = [0; 2];
        for n in 0..4000 {
            let entry = entry(&format!("s{n}@x.example"), None);
            let Choice::From(at) = pool.pick(&entry, "p", NOW) else { panic!("there is a pool") };
            assert_eq!(pool.pick(&entry, "p", NOW), Choice::From(at));
            count[at] += 1;
        }
        assert!((900..1100).contains(&count[0]), "{count:?}");
        assert_eq!(Sources::default().pick(&entry("s@x.example", None), "p", NOW), Choice::Free);
    }

    #[test]
    fn users_have_sources_of_their_own() {
        let pool = Sources::new(vec![source("a.example", 1, &[]), source("b.example", 1, &["shop"])]);
        for n in 0..50 {
            let of = |user| pool.pick(&entry(&format!("s{n}@x.example"), user), "p", NOW);
            let (own, shared) = (Choice::From(1), Choice::From(0));
            assert_eq!((of(Some("shop")), of(Some("alice")), of(None)), (own, shared, shared));
        }
    }

    /// Counts, and nothing else.
    #[derive(Default)]
    struct Tally(std::sync::Mutex<std::collections::HashMap<Vec<u8>, i64>>);

    impl KeyValue for Tally {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
            Ok(self.0.lock().unwrap().get(key).map(|count| count.to_le_bytes().to_vec()))
        }

        fn set(&self, _: &[u8], _: &[u8], _: Option<Duration>) -> Result<(), KvError> {
            Err(KvError::Quota)
        }

        fn add(&self, key: &[u8], delta: i64, _: Option<Duration>) -> Result<i64, KvError> {
            let mut tally = self.0.lock().unwrap();
            let count = tally.entry(key.to_vec()).or_default();
            *count += delta;
            Ok(*count)
        }

        fn swap(&self, _: &[u8], _: &[u8], _: &[u8], _: Option<Duration>) -> Result<bool, KvError> {
            Err(KvError::Quota)
        }
    }

    #[test]
    fn a_new_source_sends_more_from_day_to_day_and_what_it_may_not_send_goes_elsewhere() {
        let tally = Arc::new(Tally::default());
        let begins = Timestamp(NOW.0 - NOW.0 % DAY);
        let new = Source { warm_up: Some(WarmUp { begins, by_day: vec![2, 5] }), ..source("new.example", 1, &[]) };
        let alone = Sources::new(vec![new.clone()]).counted_in(tally.clone());
        let from = entry("s@x.example", None);
        assert_eq!(alone.pick(&from, "p", Timestamp(begins.0 - 1)), Choice::UsedUp, "its first day has not come");
        assert_eq!(alone.pick(&from, "p", NOW), Choice::From(0));
        alone.note(0, 2, NOW);
        assert_eq!(alone.pick(&from, "p", NOW), Choice::UsedUp);
        // Another process with the same counters.
        let pool = Sources::new(vec![new, source("old.example", 1, &[])]).counted_in(tally);
        assert_eq!(pool.pick(&from, "p", NOW), Choice::From(1));
        let tomorrow = Timestamp(begins.0 + DAY);
        pool.note(0, 4, tomorrow);
        assert_eq!(alone.pick(&from, "p", tomorrow), Choice::From(0));
        pool.note(0, 1, tomorrow);
        assert_eq!(alone.pick(&from, "p", tomorrow), Choice::UsedUp);
        assert_eq!(alone.pick(&from, "p", Timestamp(begins.0 + 2 * DAY)), Choice::From(0), "it is warm");
    }
}
