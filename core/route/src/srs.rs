//! The Sender Rewriting Scheme: mail that an alias forwards to another site leaves with a sender of ours, so that SPF passes there, and
//! a bounce to that sender finds its way back through us.
//!
//! | who | sender | becomes |
//! |---|---|---|
//! | first forwarder | `joe@home.example` | `SRS0=hhhhhh=tt=home.example=joe@us.example` |
//! | second forwarder | `SRS0=…@first.example` | `SRS1=hhhhhh=first.example==…@us.example`: the bounce goes to the first, past all in between |
//! | any later one | `SRS1=h=first.example=…@second.example` | `SRS1=` with a hash of ours in place of theirs |
//!
//! `tt` is the day modulo 1024 in base 32; `hhhhhh` is 30 bits of HMAC-SHA256 in base 32, so that neither depends on case, which mailers on
//! the way do not always keep. Addresses are taken back for [`Srs::days_max`] days. Only what we signed is taken back: otherwise
//! anybody could bounce off us. The date is an argument, the key comes from a file that the daemon makes.

use sha2::{Digest, Sha256};
use waypost_types::{Address, Domain, Host, Timestamp};

/// Keys and names. The first key signs; the others, older ones, are still taken.
#[derive(Clone)]
pub struct Srs {
    /// Where rewritten senders stand: a domain of our own.
    pub domain: Domain,
    /// At least one.
    pub keys: Vec<Box<[u8]>>,
    /// How long a bounce is taken back.
    pub days_max: u16,
}

impl std::fmt::Debug for Srs {
    /// Never shows a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Srs({}, {} keys)", self.domain, self.keys.len())
    }
}

/// Why a rewritten sender does not lead back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not of the form, or we did not make it.
    Forged,
    /// We made it too long ago.
    Old,
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Characters of the hash.
pub(crate) const HASH_LEN: usize = 6;
/// Octets of a local part that everybody takes.
pub(crate) const LOCAL_BYTES_MAX: usize = 64;
/// Two characters of base 32.
const DAYS: u16 = 1024;

impl Srs {
    /// The sender under which mail of `sender` is forwarded; `None` if that does not fit into a local part (RFC 5321 §4.5.3.1.1), which is
    /// then forwarded as it is.
    pub fn forward(&self, sender: &Address, now: Timestamp) -> Option<Address> {
        let local = sender.mailbox();
        let host = sender.domain()?;
        let text = match tag(&local) {
            Some((0, rest)) => self.second(host.as_str(), rest),
            Some((_, rest)) => {
                let (_, rest) = rest.get(1..)?.split_once('=')?;
                let (first, rest) = rest.split_once('=')?;
                self.second(first, rest)
            }
            None => {
                let stamped = format!("{}={host}={local}", stamp(day(now)));
                format!("SRS0={}={stamped}", hash(&self.keys[0], &stamped))
            }
        };
        // Whatever we take ourselves: others need take no more (RFC 5321 §4.5.3.1.1).
        if text.len() > LOCAL_BYTES_MAX { None } else { address(&text, &self.domain) }
    }

    fn second(&self, first: &str, rest: &str) -> String {
        let behind = format!("{first}={rest}");
        format!("SRS1={}={behind}", hash(&self.keys[0], &behind))
    }

    /// Whether this is an address that only we could have made.
    pub fn is_ours(&self, address: &Address) -> bool {
        address.domain() == Some(&self.domain) && tag(&address.mailbox()).is_some()
    }

    /// Where a bounce to `recipient` belongs; `None` if it is no rewritten sender of ours at all.
    pub fn back(&self, recipient: &Address, now: Timestamp) -> Option<Result<Address, Refused>> {
        if recipient.domain() != Some(&self.domain) {
            return None;
        }
        let local = recipient.mailbox();
        let (kind, rest) = tag(&local)?;
        Some(self.undo(kind, rest, now))
    }

    fn undo(&self, kind: u8, rest: &str, now: Timestamp) -> Result<Address, Refused> {
        let (given, signed) = rest.get(1..).and_then(|rest| rest.split_once('=')).ok_or(Refused::Forged)?;
        if !self.keys.iter().any(|key| is_same(&hash(key, signed), given)) {
            return Err(Refused::Forged);
        }
        let (front, behind) = signed.split_once('=').ok_or(Refused::Forged)?;
        let parse = |host: &str, local: &str| {
            Domain::parse(host).ok().and_then(|host| address(local, &host)).ok_or(Refused::Forged)
        };
        if kind == 1 {
            return parse(front, &format!("SRS0{behind}"));
        }
        let made = unstamp(front).ok_or(Refused::Forged)?;
        let age = (day(now) + DAYS - made) % DAYS;
        if age > self.days_max {
            return Err(Refused::Old);
        }
        let (host, local) = behind.split_once('=').ok_or(Refused::Forged)?;
        parse(host, local)
    }
}

/// Which of the two forms a local part has, and what stands behind the four letters: a separator and the rest.
fn tag(local: &str) -> Option<(u8, &str)> {
    let (head, rest) = local.split_at_checked(4)?;
    let kind = if head.eq_ignore_ascii_case("SRS0") {
        0
    } else if head.eq_ignore_ascii_case("SRS1") {
        1
    } else {
        return None;
    };
    rest.starts_with(['=', '-', '+']).then_some((kind, rest))
}

fn address(local: &str, domain: &Domain) -> Option<Address> {
    let host = Host::Name(domain.clone());
    let quoted = || format!("\"{}\"", local.replace('\\', "\\\\").replace('"', "\\\""));
    Address::new(local, host.clone()).or_else(|_| Address::new(&quoted(), host)).ok()
}

fn day(now: Timestamp) -> u16 {
    ((now.0 / 86_400_000) % u64::from(DAYS)) as u16
}

fn stamp(day: u16) -> String {
    [day >> 5, day & 31].iter().map(|part| char::from(BASE32[usize::from(*part)])).collect()
}

fn unstamp(text: &str) -> Option<u16> {
    let digit = |byte: u8| BASE32.iter().position(|c| *c == byte.to_ascii_uppercase()).map(|at| at as u16);
    let [high, low] = text.as_bytes() else { return None };
    Some(digit(*high)? << 5 | digit(*low)?)
}

/// Of the text in lower case.
pub(crate) fn hash(key: &[u8], text: &str) -> String {
    let mac = hmac(key, text.to_lowercase().as_bytes());
    let bits = u64::from_be_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], mac[6], mac[7]]);
    (0..HASH_LEN).map(|at| char::from(BASE32[(bits >> (59 - 5 * at) & 31) as usize])).collect()
}

/// HMAC of RFC 2104 with SHA-256.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

/// In a time that does not depend on where they differ.
pub(crate) fn is_same(made: &str, given: &str) -> bool {
    let differ = made.bytes().zip(given.bytes()).fold(0, |all, (a, b)| all | (a ^ b.to_ascii_uppercase()));
    made.len() == given.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn srs(key: &str, domain: &str) -> Srs {
        Srs { domain: Domain::parse(domain).expect("a domain"), keys: vec![key.as_bytes().into()], days_max: 21 }
    }

    fn at(text: &str) -> Address {
        Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let mac = hmac(b"Jefe", b"what do ya want for nothing?");
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let mac = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(mac[..4], [0x60, 0xe4, 0x31, 0x59]);
    }

    #[test]
    fn a_bounce_finds_its_way_back_whatever_case_it_lost() {
        let srs = srs("key", "us.test");
        for sender in ["joe@home.test", "\"john doe\"@home.test", "a=b+c@home.test"] {
            let forwarded = srs.forward(&at(sender), NOW).expect("it fits");
            assert!(srs.is_ours(&forwarded), "{forwarded}");
            assert_eq!(srs.back(&forwarded, NOW), Some(Ok(at(sender))));
        }
        let lower = at(&srs.forward(&at("joe@home.test"), NOW).expect("fits").to_string().to_lowercase());
        assert_eq!(srs.back(&lower, NOW), Some(Ok(at("joe@home.test"))));
        assert_eq!(srs.back(&at("joe@us.test"), NOW), None);
    }

    #[test]
    fn forged_and_old_ones_do_not_lead_back() {
        let mine = srs("key", "us.test");
        let forwarded = mine.forward(&at("joe@home.test"), NOW).expect("fits");
        assert_eq!(srs("other", "us.test").back(&forwarded, NOW), Some(Err(Refused::Forged)));
        let changed = at(&forwarded.to_string().replace("=joe", "=eve"));
        assert_eq!(mine.back(&changed, NOW), Some(Err(Refused::Forged)));
        assert_eq!(mine.back(&forwarded, Timestamp(NOW.0 + 21 * DAY)), Some(Ok(at("joe@home.test"))));
        assert_eq!(mine.back(&forwarded, Timestamp(NOW.0 + 22 * DAY)), Some(Err(Refused::Old)));
        for text in ["SRS0=x@us.test", "SRS0=@us.test", "SRS1=a=b@us.test", "SRS0=aaaaaa=AA=b=c@us.test"] {
            assert_eq!(mine.back(&at(text), NOW), Some(Err(Refused::Forged)), "{text}");
        }
        let turned = Srs { keys: vec![b"new".as_slice().into(), b"key".as_slice().into()], ..mine };
        assert_eq!(turned.back(&forwarded, NOW), Some(Ok(at("joe@home.test"))), "an older key is still taken");
    }

    #[test]
    fn a_chain_of_forwarders_goes_back_to_the_first_and_stays_short() {
        let (first, second, third) = (srs("1", "first.test"), srs("2", "second.test"), srs("3", "third.test"));
        let once = first.forward(&at("joe@home.test"), NOW).expect("fits");
        let twice = second.forward(&once, NOW).expect("fits");
        let thrice = third.forward(&twice, NOW).expect("fits");
        assert!(thrice.local().starts_with("SRS1=") && thrice.local().len() == twice.local().len(), "{thrice}");
        assert_eq!(third.back(&thrice, NOW), Some(Ok(once.clone())), "past the second");
        assert_eq!(second.back(&twice, NOW), Some(Ok(once.clone())));
        assert_eq!(first.back(&once, NOW), Some(Ok(at("joe@home.test"))));
    }

    #[test]
    fn what_does_not_fit_is_left_as_it_is() {
        let long = at(&format!("{}@home.test", "a".repeat(60)));
        assert_eq!(srs("key", "us.test").forward(&long, NOW), None);
        assert_eq!(srs("key", "us.test").forward(&at("joe@[192.0.2.1]"), NOW), None);
    }
}
