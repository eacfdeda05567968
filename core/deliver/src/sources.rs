//! Where connections come from: a pool of source addresses, each with the name that it gives in EHLO.
//!
//! The choice is sticky: a sender's mail to one provider always leaves from the same address, or a host that greylists would never see the same one twice. Among all
//! senders it follows the weights (weighted rendezvous hashing: a source that comes or goes moves only its own share). A source that names
//! users is theirs alone, and theirs are the only ones that they use.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use waypost_queue::Entry;

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
}

impl Source {
    /// The address for a peer, if there is one of its family.
    pub(crate) fn towards(&self, peer: IpAddr) -> Option<IpAddr> {
        if peer.is_ipv4() { self.v4.map(IpAddr::V4) } else { self.v6.map(IpAddr::V6) }
    }
}

/// The pool.
#[derive(Clone, Debug, Default)]
pub struct Sources(Arc<[Source]>);

impl Sources {
    /// Of these.
    pub fn new(sources: Vec<Source>) -> Sources {
        Sources(sources.into())
    }

    pub(crate) fn get(&self, at: usize) -> &Source {
        &self.0[at]
    }

    /// The source for a message to a provider; `None` if there is no pool.
    pub(crate) fn pick(&self, entry: &Entry, provider: &str) -> Option<usize> {
        let user = entry.origin.user.as_deref();
        let own = |source: &Source| user.is_some_and(|user| source.users.iter().any(|one| **one == *user));
        let any_own = self.0.iter().any(own);
        let candidates =
            self.0.iter().enumerate().filter(|(_, source)| if any_own { own(source) } else { source.users.is_empty() });
        let score = |source: &Source| {
            let mut hasher = DefaultHasher::new();
            (&*source.name, entry.sender.address().map(ToString::to_string), provider).hash(&mut hasher);
            let uniform = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
            -uniform.max(f64::MIN_POSITIVE).ln() / f64::from(source.weight.max(1))
        };
        candidates.min_by(|(_, a), (_, b)| score(a).total_cmp(&score(b))).map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_queue::conformance::mail;
    use waypost_types::ReversePath;

    fn source(name: &str, weight: u32, users: &[&str]) -> Source {
        let users = users.iter().map(|user| (*user).into()).collect();
        Source { name: name.into(), v4: Some(Ipv4Addr::LOCALHOST), v6: None, weight, users }
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
            let at = pool.pick(&entry, "p").unwrap();
            assert_eq!(pool.pick(&entry, "p"), Some(at));
            count[at] += 1;
        }
        assert!((900..1100).contains(&count[0]), "{count:?}");
        assert_eq!(Sources::default().pick(&entry("s@x.example", None), "p"), None);
    }

    #[test]
    fn users_have_sources_of_their_own() {
        let pool = Sources::new(vec![source("a.example", 1, &[]), source("b.example", 1, &["shop"])]);
        for n in 0..50 {
            let of = |user| pool.pick(&entry(&format!("s{n}@x.example"), user), "p");
            assert_eq!((of(Some("shop")), of(Some("alice")), of(None)), (Some(1), Some(0), Some(0)));
        }
    }
}
