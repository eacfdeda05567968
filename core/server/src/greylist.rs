//! Greylisting (RFC 6647): a sender that nobody here has seen is asked to come back, which mail servers do and most senders of spam do
//! not.
//!
//! Remembered in the key-value store, and so on disk: a triplet of client network (/24 of IPv4, /64 of IPv6, since large senders
//! try again from a neighbour), sender and recipient. It passes once it comes again after [`Greylist::delay`] and within
//! [`Greylist::window`], and from then on for [`Greylist::lifetime`]. A network of which [`KNOWN_AFTER`] triplets have passed
//! is known whole. The null sender's triplet has no recipient, so that whoever sends a bounce or asks whether an address exists
//! waits once. A store that fails makes nobody wait.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use waypost_types::port::{KeyValue, KvError};
use waypost_types::{Address, Domain, Enhanced, Reply, ReversePath, Timestamp};

use crate::admission::Prefix;

/// What is put in front of every key.
const NAMESPACE: &str = "greylist/";
/// Networks are made of this much of an address.
const NETWORK: Prefix = Prefix { v4: 24, v6: 64 };
/// So many triplets make a network known.
const KNOWN_AFTER: i64 = 5;

/// How long strangers wait, and who does not.
#[derive(Clone)]
pub struct Greylist {
    /// Where triplets are kept.
    pub store: Arc<dyn KeyValue>,
    /// A triplet is put off for this long after it was first seen.
    pub delay: Duration,
    /// A triplet that does not come back within this is forgotten.
    pub window: Duration,
    /// A triplet that has passed is remembered for this long after it was last seen.
    pub lifetime: Duration,
    /// Senders that pass, by address or domain (and what is below it).
    pub senders: Arc<[Sender]>,
    /// Clients that pass.
    pub networks: Arc<[IpNet]>,
}

/// A sender who is not made to wait. The sender is what the client claims: a name here is known to whoever reads our mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// One address.
    Address(Address),
    /// A domain and what is below it.
    Domain(Domain),
}

impl Sender {
    fn is(&self, sender: &Address) -> bool {
        match self {
            Sender::Address(address) => address == sender,
            Sender::Domain(domain) => sender.domain().is_some_and(|of| {
                let front = of.as_str().strip_suffix(domain.as_str());
                front.is_some_and(|front| front.is_empty() || front.ends_with('.'))
            }),
        }
    }
}

impl Greylist {
    /// Whether this recipient may be taken now; the reply if it may not.
    pub(crate) fn check(
        &self,
        client: IpAddr,
        sender: &ReversePath,
        recipient: &Address,
        now: Timestamp,
    ) -> Result<(), Reply> {
        if self.passes(client, sender) {
            return Ok(());
        }
        match self.look_up(client, sender, recipient, now) {
            Ok(None) | Err(KvError::Quota | KvError::Failed(_)) => Ok(()),
            Ok(Some(wait)) => {
                let text = format!("you are not known here yet, please come back in {} seconds", wait.as_secs().max(1));
                Err(Reply::new(450, Enhanced(4, 7, 1), text))
            }
        }
    }

    fn passes(&self, client: IpAddr, sender: &ReversePath) -> bool {
        self.networks.iter().any(|network| network.contains(&client))
            || sender.address().is_some_and(|sender| self.senders.iter().any(|known| known.is(sender)))
    }

    /// How long there still is to wait, if at all.
    fn look_up(
        &self,
        client: IpAddr,
        sender: &ReversePath,
        recipient: &Address,
        now: Timestamp,
    ) -> Result<Option<Duration>, KvError> {
        let network = NETWORK.of(client);
        let known = format!("{NAMESPACE}n/{network}");
        if self.store.get(known.as_bytes())?.is_some_and(|count| number(&count) >= KNOWN_AFTER) {
            return Ok(None);
        }
        let triplet = triplet(network, sender, recipient);
        let Some(entry) = self.store.get(triplet.as_bytes())?.as_deref().and_then(Entry::read) else {
            self.store.set(triplet.as_bytes(), &Entry { passed: false, at: now }.write(), Some(self.window))?;
            return Ok(Some(self.delay));
        };
        let age = now.since(entry.at);
        if !entry.passed && age < self.delay {
            return Ok(Some(self.delay - age));
        }
        // Refreshed now and then, not with every message.
        if !entry.passed || age > self.lifetime / 8 {
            self.store.set(triplet.as_bytes(), &Entry { passed: true, at: now }.write(), Some(self.lifetime))?;
        }
        if !entry.passed {
            self.store.add(known.as_bytes(), 1, Some(self.lifetime))?;
        }
        Ok(None)
    }
}

fn triplet(network: IpAddr, sender: &ReversePath, recipient: &Address) -> String {
    match sender.address() {
        Some(sender) => format!("{NAMESPACE}t/{network} {sender} {recipient}").to_lowercase(),
        None => format!("{NAMESPACE}t/{network} <>"),
    }
}

fn number(value: &[u8]) -> i64 {
    value.try_into().map_or(0, i64::from_le_bytes)
}

/// What is known of a triplet.
struct Entry {
    passed: bool,
    /// First seen, or, once it has passed, last refreshed.
    at: Timestamp,
}

impl Entry {
    fn read(value: &[u8]) -> Option<Entry> {
        let (passed, at) = value.split_first()?;
        Some(Entry { passed: *passed == 1, at: Timestamp(u64::from_le_bytes(at.try_into().ok()?)) })
    }

    fn write(&self) -> [u8; 9] {
        let mut value = [0; 9];
        value[0] = u8::from(self.passed);
        value[1..].copy_from_slice(&self.at.0.to_le_bytes());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::Mutex;

    /// A store whose time stands still: what the law does with the store's own expiry is the store's business.
    #[derive(Default)]
    struct Shelf(Mutex<HashMap<Vec<u8>, Vec<u8>>>);

    impl KeyValue for Shelf {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
            Ok(self.0.lock().expect("lock").get(key).cloned())
        }

        fn set(&self, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Result<(), KvError> {
            assert!(ttl.is_some(), "nothing is kept for ever");
            self.0.lock().expect("lock").insert(key.to_vec(), value.to_vec());
            Ok(())
        }

        fn add(&self, key: &[u8], delta: i64, _: Option<Duration>) -> Result<i64, KvError> {
            let mut shelf = self.0.lock().expect("lock");
            let new = shelf.get(key).map_or(0, |value| number(value)) + delta;
            shelf.insert(key.to_vec(), new.to_le_bytes().to_vec());
            Ok(new)
        }

        fn swap(&self, _: &[u8], _: &[u8], _: &[u8], _: Option<Duration>) -> Result<bool, KvError> {
            Err(KvError::Quota)
        }
    }

    struct Full;

    impl KeyValue for Full {
        fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
            Ok(None)
        }

        fn set(&self, _: &[u8], _: &[u8], _: Option<Duration>) -> Result<(), KvError> {
            Err(KvError::Quota)
        }

        fn add(&self, _: &[u8], _: i64, _: Option<Duration>) -> Result<i64, KvError> {
            Err(KvError::Quota)
        }

        fn swap(&self, _: &[u8], _: &[u8], _: &[u8], _: Option<Duration>) -> Result<bool, KvError> {
            Err(KvError::Quota)
        }
    }

    fn greylist(store: Arc<dyn KeyValue>) -> Greylist {
        Greylist {
            store,
            delay: Duration::from_secs(300),
            window: Duration::from_secs(86_400),
            lifetime: Duration::from_secs(35 * 86_400),
            senders: Arc::from([Sender::Domain(Domain::parse("friend.example").expect("a domain"))]),
            networks: Arc::from(["203.0.113.0/24".parse::<IpNet>().expect("a network")]),
        }
    }

    fn ask(greylist: &Greylist, client: &str, sender: &str, recipient: &str, seconds: u64) -> bool {
        let sender = match sender {
            "" => ReversePath::Null,
            sender => ReversePath::Mailbox(Address::parse(sender).expect("an address")),
        };
        let recipient = Address::parse(recipient).expect("an address");
        let now = Timestamp(1_700_000_000_000 + seconds * 1000);
        let answer = greylist.check(client.parse().expect("an address"), &sender, &recipient, now);
        if let Err(reply) = &answer {
            assert_eq!((reply.code, reply.enhanced), (450, Some(Enhanced(4, 7, 1))));
        }
        answer.is_ok()
    }

    #[test]
    fn who_comes_back_later_is_let_in_and_stays_known() {
        let list = greylist(Arc::new(Shelf::default()));
        let from = |client, seconds| ask(&list, client, "a@b.example", "u@own.example", seconds);
        assert!(!from("192.0.2.1", 0) && !from("192.0.2.1", 299));
        assert!(from("192.0.2.77", 300), "a neighbour of the first try");
        assert!(from("192.0.2.1", 301) && from("192.0.2.1", 20 * 86_400));
        assert!(!from("192.0.3.1", 301), "another network is another stranger");
        assert!(!ask(&list, "192.0.2.1", "c@b.example", "u@own.example", 301), "so is another sender");
        assert!(!from("2001:db8::1", 0) && from("2001:db8::ffff", 300) && !from("2001:db8:0:1::1", 300));
    }

    #[test]
    fn case_makes_no_stranger() {
        let list = greylist(Arc::new(Shelf::default()));
        assert!(!ask(&list, "192.0.2.1", "A@B.example", "U@own.example", 0));
        assert!(ask(&list, "192.0.2.1", "a@b.example", "u@OWN.example", 300));
    }

    #[test]
    fn the_null_sender_waits_once_for_all_recipients() {
        let list = greylist(Arc::new(Shelf::default()));
        assert!(!ask(&list, "192.0.2.1", "", "u@own.example", 0));
        assert!(ask(&list, "192.0.2.1", "", "v@own.example", 300) && ask(&list, "192.0.2.1", "", "w@own.example", 301));
    }

    #[test]
    fn a_network_of_known_senders_is_known() {
        let list = greylist(Arc::new(Shelf::default()));
        for at in [0, 300] {
            for name in ["a", "b", "c", "d", "e"] {
                assert_eq!(ask(&list, "192.0.2.1", &format!("{name}@b.example"), "u@own.example", at), at == 300);
            }
        }
        assert!(ask(&list, "192.0.2.1", "f@b.example", "u@own.example", 301));
        assert!(!ask(&list, "192.0.9.1", "f@b.example", "u@own.example", 301));
    }

    #[test]
    fn friends_and_known_networks_do_not_wait() {
        let list = greylist(Arc::new(Shelf::default()));
        assert!(ask(&list, "192.0.2.1", "a@friend.example", "u@own.example", 0));
        assert!(ask(&list, "192.0.2.1", "a@lists.friend.example", "u@own.example", 0));
        assert!(!ask(&list, "192.0.2.1", "a@notfriend.example", "u@own.example", 0));
        assert!(ask(&list, "203.0.113.9", "a@b.example", "u@own.example", 0));
    }

    #[test]
    fn a_store_that_fails_makes_nobody_wait() {
        let list = greylist(Arc::new(Full));
        assert!(ask(&list, "192.0.2.1", "a@b.example", "u@own.example", 0));
    }
}
