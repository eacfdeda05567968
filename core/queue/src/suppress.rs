//! Who is not written to any more, and what was sent lately, so that a bounce can be believed.
//!
//! [`Suppression`] is the list: an address, since when, and why. Reasons come from our own failures, from bounces and complaints that are *proven*, and from an operator.
//! [`Sent`] remembers messages for a while by our id, their `Message-ID` and their envelope id, with a trace of each recipient: a report proves something only if it is about a message that
//! we sent to that recipient; anybody can write a bounce. Both keep everything in a [`KeyValue`] store; a list that is empty costs one look at a flag.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use waypost_types::port::{KeyValue, KvError};
use waypost_types::{Address, Enhanced, MessageId, Reply, Timestamp};

/// In front of the keys of the list. No plugin's keys begin with a NUL.
const LISTED: &[u8] = b"\0suppressed/";
const SENT: &[u8] = b"\0sent/";
/// Octets of a reason's words.
const WORDS_BYTES_MAX: usize = 300;
/// Recipients of one message that are remembered.
const TRACES_MAX: usize = 1000;

/// Why an address is on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// Since when.
    pub since: Timestamp,
    /// A category of the table, `complaint`, or `operator`.
    pub category: Box<str>,
    /// What was said, on one line.
    pub words: Box<str>,
}

impl Suppressed {
    /// What a sender is told.
    pub fn reply(&self, address: &Address) -> Reply {
        let since = self.since.rfc3339();
        let day = since.split('T').next().unwrap_or_default();
        let words = if self.words.is_empty() { String::new() } else { format!(" ({})", self.words) };
        let text = format!(
            "<{address}> is on this server's suppression list since {day}: {}{words}; the postmaster can take it off",
            self.category
        );
        Reply::new(550, Enhanced(5, 7, 1), text)
    }

    fn encode(&self) -> Vec<u8> {
        format!("{}\t{}\t{}", self.since.millis(), self.category, self.words).into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Suppressed> {
        let mut parts = std::str::from_utf8(bytes).ok()?.splitn(3, '\t');
        let since = Timestamp(parts.next()?.parse().ok()?);
        Some(Suppressed { since, category: parts.next()?.into(), words: parts.next()?.into() })
    }
}

/// The list. Clones share it.
#[derive(Clone)]
pub struct Suppression {
    store: Arc<dyn KeyValue>,
    any: Arc<AtomicBool>,
    lifetime: Option<Duration>,
    categories: Arc<[Box<str>]>,
}

impl std::fmt::Debug for Suppression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Suppression({:?})", self.categories)
    }
}

impl Suppression {
    /// The list in `store`. Addresses stay on it for `lifetime`, for ever without one; `categories` are those that put an address on it by themselves.
    pub fn open(
        store: Arc<dyn KeyValue>,
        lifetime: Option<Duration>,
        categories: Vec<Box<str>>,
    ) -> Result<Suppression, KvError> {
        let any = !store.list(LISTED, b"", 1)?.is_empty();
        Ok(Suppression { store, any: Arc::new(any.into()), lifetime, categories: categories.into() })
    }

    /// Whether this category puts an address on the list.
    pub fn is_fed_by(&self, category: &str) -> bool {
        self.categories.iter().any(|one| &**one == category)
    }

    /// Why this address is not written to. A store that fails stops no mail.
    pub fn find(&self, address: &Address) -> Option<Suppressed> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        Suppressed::decode(&self.store.get(&listed(&address.to_string())).ok()??)
    }

    /// Puts an address on the list; whoever stands there already keeps the first reason. Says whether it is new.
    pub fn add(&self, address: &str, category: &str, words: &str, now: Timestamp) -> Result<bool, KvError> {
        let end = words.floor_char_boundary(WORDS_BYTES_MAX);
        let words: String = words[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let entry = Suppressed { since: now, category: category.into(), words: words.into() };
        let new = self.store.swap(&listed(address), b"", &entry.encode(), self.lifetime)?;
        self.any.store(true, Ordering::Relaxed);
        Ok(new)
    }

    /// Takes an address off the list. Says whether it was there.
    pub fn remove(&self, address: &str) -> Result<bool, KvError> {
        self.store.remove(&listed(address))
    }

    /// Up to `count_max` addresses behind `after`, in order, with their reasons.
    pub fn list(&self, after: &str, count_max: usize) -> Result<Vec<(String, Suppressed)>, KvError> {
        let after = after.to_lowercase();
        let rows = self.store.list(LISTED, after.as_bytes(), count_max)?;
        let row = |(key, value): (Vec<u8>, Vec<u8>)| {
            let address = String::from_utf8(key.get(LISTED.len()..)?.to_vec()).ok()?;
            Some((address, Suppressed::decode(&value)?))
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }
}

/// Case does not matter: who has asked for peace as `Joe@` has it as `joe@`, too.
fn listed(address: &str) -> Vec<u8> {
    [LISTED, address.to_lowercase().as_bytes()].concat()
}

/// What was sent lately. Clones share it.
#[derive(Clone)]
pub struct Sent {
    store: Arc<dyn KeyValue>,
    span: Duration,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sent({:?})", self.span)
    }
}

impl Sent {
    /// Messages are remembered for `span`.
    pub fn new(store: Arc<dyn KeyValue>, span: Duration) -> Sent {
        Sent { store, span }
    }

    /// Remembers a message. Without it a bounce is less believed, and nothing else is lost.
    pub fn note<'a>(
        &self,
        id: MessageId,
        message_id: Option<&str>,
        envelope_id: Option<&str>,
        recipients: impl Iterator<Item = &'a Address>,
    ) -> Result<(), KvError> {
        let traces: Vec<u8> = recipients.take(TRACES_MAX).flat_map(|one| trace(&one.to_string())).collect();
        let name = id.to_bytes();
        self.store.set(&key(b"i", &name), &traces, Some(self.span))?;
        for (kind, text) in [(b"m", message_id), (b"e", envelope_id)] {
            if let Some(text) = text {
                self.store.set(&key(kind, &digest(text)), &name, Some(self.span))?;
            }
        }
        Ok(())
    }

    /// Our id of the message that a report is about.
    pub fn find(&self, message_id: Option<&str>, envelope_id: Option<&str>) -> Option<MessageId> {
        let by =
            |kind: &[u8], text: Option<&str>| MessageId::from_bytes(&self.store.get(&key(kind, &digest(text?))).ok()??);
        by(b"m", message_id).or_else(|| by(b"e", envelope_id))
    }

    /// Whether we sent this message to this recipient.
    pub fn went_to(&self, id: MessageId, recipient: &str) -> bool {
        let wanted = trace(recipient);
        let traces = self.store.get(&key(b"i", &id.to_bytes())).ok().flatten().unwrap_or_default();
        traces.chunks_exact(wanted.len()).any(|one| one == wanted)
    }
}

fn key(kind: &[u8], name: &[u8]) -> Vec<u8> {
    [SENT, kind, name].concat()
}

/// SipHash with its fixed key: a table of strangers' ids cannot be filled from outside faster than mail comes in.
fn digest(text: &str) -> [u8; 8] {
    let mut hasher = DefaultHasher::new();
    text.trim().hash(&mut hasher);
    hasher.finish().to_be_bytes()
}

fn trace(recipient: &str) -> [u8; 4] {
    let [a, b, c, d, ..] = digest(&recipient.to_lowercase());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use waypost_types::port::Row;

    use super::*;

    #[derive(Default)]
    struct Shelf(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

    impl KeyValue for Shelf {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
            Ok(self.0.lock().expect("lock").get(key).cloned())
        }

        fn set(&self, key: &[u8], value: &[u8], _: Option<Duration>) -> Result<(), KvError> {
            self.0.lock().expect("lock").insert(key.to_vec(), value.to_vec());
            Ok(())
        }

        fn add(&self, _: &[u8], _: i64, _: Option<Duration>) -> Result<i64, KvError> {
            Err(KvError::Quota)
        }

        fn swap(&self, key: &[u8], old: &[u8], new: &[u8], ttl: Option<Duration>) -> Result<bool, KvError> {
            let same = self.get(key)?.unwrap_or_default() == old;
            if same {
                self.set(key, new, ttl)?;
            }
            Ok(same)
        }

        fn remove(&self, key: &[u8]) -> Result<bool, KvError> {
            Ok(self.0.lock().expect("lock").remove(key).is_some())
        }

        fn list(&self, prefix: &[u8], after: &[u8], count_max: usize) -> Result<Vec<Row>, KvError> {
            let shelf = self.0.lock().expect("lock");
            let from = [prefix, after].concat();
            let rows = shelf.range(from.clone()..).filter(|(key, _)| **key != from && key.starts_with(prefix));
            Ok(rows.take(count_max).map(|(key, value)| (key.clone(), value.clone())).collect())
        }
    }

    fn at(text: &str) -> Address {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_stays_until_it_is_taken_off() {
        let shelf: Arc<dyn KeyValue> = Arc::new(Shelf::default());
        let open = || Suppression::open(shelf.clone(), None, vec!["bad-mailbox".into()]).expect("open");
        let list = open();
        assert_eq!(list.find(&at("joe@far.example")), None);
        let now = Timestamp(1_795_000_000_000);
        assert!(list.add("Joe@far.example", "bad-mailbox", "550 5.1.1\tno such user", now).expect("added"));
        assert!(!list.add("joe@far.example", "full", "", now).expect("there already"));
        for list in [list.clone(), open()] {
            let why = list.find(&at("JOE@far.example")).expect("on the list");
            assert_eq!((&*why.category, &*why.words, why.since), ("bad-mailbox", "550 5.1.1 no such user", now));
            let reply = why.reply(&at("joe@far.example"));
            assert!(reply.is_permanent() && reply.text.contains("suppression list since 2026-"), "{reply}");
        }
        list.add("ann@far.example", "operator", "", now).expect("added");
        let names = |after: &str| -> Vec<String> {
            list.list(after, 10).expect("a list").into_iter().map(|(address, _)| address).collect()
        };
        assert_eq!(names(""), ["ann@far.example", "joe@far.example"]);
        assert_eq!(names("ann@far.example"), ["joe@far.example"]);
        assert!(list.remove("joe@far.example").expect("gone") && !list.remove("joe@far.example").expect("gone"));
        assert_eq!(list.find(&at("joe@far.example")), None);
        assert!(list.is_fed_by("bad-mailbox") && !list.is_fed_by("full"));
    }

    #[test]
    fn only_what_was_sent_is_known() {
        let sent = Sent::new(Arc::new(Shelf::default()), Duration::from_secs(60));
        let id = MessageId::new(Timestamp(1_795_000_000_000), 9);
        sent.note(id, Some("<a@b>"), Some("env"), [at("Joe@far.example")].iter()).expect("noted");
        assert_eq!(sent.find(Some("<a@b>"), None), Some(id));
        assert_eq!(sent.find(Some("<x@b>"), Some("env")), Some(id));
        assert_eq!(sent.find(Some("<x@b>"), None), None);
        assert!(sent.went_to(id, "joe@FAR.example") && !sent.went_to(id, "eve@far.example"));
        assert!(!sent.went_to(MessageId::new(Timestamp(5), 1), "joe@far.example"));
    }
}
