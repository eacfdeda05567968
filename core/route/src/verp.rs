//! Variable envelope return paths: a mailing leaves with another sender for each recipient, so that a bounce tells by its own address whom it is about,
//! whatever else it says or fails to say.
//!
//! `news@lists.example` to `joe@far.example` becomes `news+hhhhhh=joe=far.example@lists.example`: a subaddress, so that bounces reach the mailbox `news`.
//! `hhhhhh` is 30 bits of HMAC-SHA256 as in [`crate::srs`]: nobody else can make such an address, so what comes back to one is about a recipient that we wrote to.

use std::sync::Arc;

use waypost_types::{Address, Domain, Host, ReversePath};

use crate::srs::{HASH_LEN, LOCAL_BYTES_MAX, hash, is_same};

/// Whose mail leaves so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mailer {
    /// This sender's.
    Address(Address),
    /// That of every sender in this domain.
    Domain(Domain),
}

/// Who sends so, and the key. Clones share it.
#[derive(Clone)]
pub struct Verp {
    mailers: Arc<[Mailer]>,
    separator: char,
    key: Arc<[u8]>,
}

impl std::fmt::Debug for Verp {
    /// Never shows the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verp({:?})", self.mailers)
    }
}

impl Verp {
    /// `separator` begins a subaddress.
    pub fn new(mailers: Vec<Mailer>, separator: char, key: &[u8]) -> Verp {
        Verp { mailers: mailers.into(), separator, key: key.into() }
    }

    /// Whether mail of this sender leaves with a sender for each recipient.
    pub fn marks(&self, sender: &ReversePath) -> bool {
        let ReversePath::Mailbox(sender) = sender else { return false };
        self.mailers.iter().any(|mailer| match mailer {
            Mailer::Address(address) => {
                address.host() == sender.host() && address.local().eq_ignore_ascii_case(sender.local())
            }
            Mailer::Domain(domain) => sender.domain() == Some(domain),
        })
    }

    /// The sender under which this recipient is written to; `None` if that does not fit into a local part, and the mail leaves with its own.
    pub fn sender(&self, sender: &Address, recipient: &Address) -> Option<Address> {
        let to = format!("{}={}", recipient.local(), recipient.domain()?);
        let tag = self.tag(sender.local(), sender.host(), &to);
        let local = format!("{}{}{tag}={to}", sender.local(), self.separator);
        let fits = local.len() <= LOCAL_BYTES_MAX && !local.contains('"') && local.is_ascii();
        if fits { Address::new(&local, sender.host().clone()).ok() } else { None }
    }

    /// Whose mail to whom left with this sender; `None` for an address that we did not make.
    pub fn back(&self, address: &Address) -> Option<(Address, Address)> {
        if self.mailers.is_empty() {
            return None;
        }
        let local = address.local();
        let cut = |(at, _): (usize, &str)| {
            let (base, rest) = (&local[..at], &local[at + self.separator.len_utf8()..]);
            let (given, to) = rest.split_at_checked(HASH_LEN)?;
            let to = to.strip_prefix('=')?;
            if !is_same(&self.tag(base, address.host(), to), given) {
                return None;
            }
            let (user, domain) = to.rsplit_once('=')?;
            let recipient = Address::new(user, Host::Name(Domain::parse(domain).ok()?)).ok()?;
            Some((Address::new(base, address.host().clone()).ok()?, recipient))
        };
        local.match_indices(self.separator).find_map(cut)
    }

    /// Over everything in lower case: mailers on the way do not always keep it.
    fn tag(&self, local: &str, host: &Host, to: &str) -> String {
        hash(&self.key, &format!("verp {local}@{host} {to}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Address {
        Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn verp(key: &str) -> Verp {
        let lists = Domain::parse("lists.example").expect("a domain");
        Verp::new(vec![Mailer::Address(at("news@own.example")), Mailer::Domain(lists)], '+', key.as_bytes())
    }

    #[test]
    fn a_bounce_tells_by_its_address_whom_it_is_about() {
        let verp = verp("key");
        for (sender, recipient) in
            [("news@own.example", "joe@far.example"), ("a+b@lists.example", "joe+x=y@far.example")]
        {
            let (sender, recipient) = (at(sender), at(recipient));
            assert!(verp.marks(&ReversePath::Mailbox(sender.clone())));
            let made = verp.sender(&sender, &recipient).expect("it fits");
            assert_eq!(verp.back(&made), Some((sender.clone(), recipient.clone())), "{made}");
            let lower = at(&made.to_string().to_lowercase());
            assert_eq!(verp.back(&lower), Some((sender, recipient)));
        }
        assert!(!verp.marks(&ReversePath::Mailbox(at("joe@own.example"))) && !verp.marks(&ReversePath::Null));
    }

    #[test]
    fn what_we_did_not_make_tells_nothing() {
        let made = verp("key").sender(&at("news@own.example"), &at("joe@far.example")).expect("fits");
        assert_eq!(verp("other").back(&made), None);
        let changed = at(&made.to_string().replace("=joe=", "=eve="));
        assert_eq!(verp("key").back(&changed), None);
        for text in
            ["news@own.example", "news+@own.example", "news+aaaaaa=x@own.example", "news+a=joe=far.example@own.example"]
        {
            assert_eq!(verp("key").back(&at(text)), None, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_leaves_with_its_own_sender() {
        let long = at(&format!("{}@far.example", "a".repeat(60)));
        assert_eq!(verp("key").sender(&at("news@own.example"), &long), None);
        assert_eq!(verp("key").sender(&at("news@own.example"), &at("joe@[192.0.2.1]")), None);
        assert_eq!(verp("key").sender(&at("news@own.example"), &at("\"a b\"@far.example")), None);
    }
}
