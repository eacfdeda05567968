//! Answers the library's questions to DNS without letting it ask.
//!
//! mail-auth looks into a cache before it asks. This is that cache: what it does not know it notes, and says "not now"; the caller then has the
//! notes answered through [`Dns`] and puts the same question to the library again. Verification is cheap and the rounds are few: one
//! for the keys, mostly.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;

use mail_auth::common::cache::NoCache;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::hickory_resolver::TokioResolver;
use mail_auth::hickory_resolver::config::ResolverConfig;
use mail_auth::hickory_resolver::net::runtime::TokioRuntimeProvider;
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::{
    DnsError as LibraryDnsError, Error, MX, MessageAuthenticator, Parameters, RecordSet, ResolverCache, Txt,
};
use waypost_types::Task;
use waypost_types::port::{Dns, DnsAnswer, DnsError, DnsType};

/// Names asked for one message: ten keys, and where they point.
const NAMES_MAX: usize = 24;

/// The library, with a resolver that knows no server.
pub(super) fn library() -> Result<MessageAuthenticator, String> {
    let config = ResolverConfig::from_name_servers(Vec::new());
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build();
    resolver.map(MessageAuthenticator).map_err(|error| error.to_string())
}

/// What the library is handed along with each question.
pub(super) type With<'x, P> = Parameters<
    'x,
    P,
    Texts,
    NoCache<Box<str>, RecordSet<MX>>,
    NoCache<Box<str>, RecordSet<Ipv4Addr>>,
    NoCache<Box<str>, RecordSet<Ipv6Addr>>,
    NoCache<IpAddr, RecordSet<Box<str>>>,
>;

/// Answers for one message.
#[derive(Default)]
pub(super) struct Oracle {
    texts: Texts,
}

impl Oracle {
    pub(super) fn parameters<P>(&self, params: P) -> With<'_, P> {
        Parameters {
            params,
            cache_txt: Some(&self.texts),
            cache_mx: None,
            cache_ptr: None,
            cache_ipv4: None,
            cache_ipv6: None,
        }
    }

    /// Notes a key before the library asks for it.
    pub(super) fn want_key(&self, selector: &str, domain: &str) {
        let name = format!("{selector}._domainkey.{domain}.").to_lowercase();
        self.texts.0.look_up(&name);
    }

    /// Whether the library was told "not now".
    pub(super) fn has_questions(&self) -> bool {
        self.texts.0.has_wanted()
    }

    /// Asks everything that was noted, side by side.
    pub(super) async fn answer(&self, dns: &dyn Dns) {
        let texts = ask_all(dns, self.texts.0.take_wanted(), DnsType::Txt).await;
        for (name, answer) in texts {
            let text = parse(answer);
            self.texts.0.learn(name, text);
        }
    }
}

type Answered = (Box<str>, Result<DnsAnswer, DnsError>);

/// All questions at once: the wait is that of the slowest.
async fn ask_all(dns: &dyn Dns, names: Vec<Box<str>>, kind: DnsType) -> Vec<Answered> {
    let mut asked: Vec<(&Box<str>, Task<'_, _>)> = names.iter().map(|name| (name, dns.lookup(name, kind))).collect();
    let mut answered = Vec::with_capacity(asked.len());
    std::future::poll_fn(|cx| {
        asked.retain_mut(|(name, task)| match task.as_mut().poll(cx) {
            std::task::Poll::Ready(answer) => {
                answered.push(((*name).clone(), answer));
                false
            }
            std::task::Poll::Pending => true,
        });
        if asked.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    answered
}

fn error(error: DnsError) -> Error {
    Error::Dns(match error {
        DnsError::NxDomain => LibraryDnsError::RecordNotFound(ResponseCode::NXDomain),
        DnsError::NoData => LibraryDnsError::RecordNotFound(ResponseCode::NoError),
        transient => LibraryDnsError::Resolver(transient.to_string()),
    })
}

/// The key that the library wants.
fn parse(answer: Result<DnsAnswer, DnsError>) -> Txt {
    let records = match answer {
        Ok(answer) => answer.records,
        Err(failed) => return Txt::Error(error(failed)),
    };
    let parsed = records.iter().map(|text| DomainKey::parse(text.as_bytes()));
    parsed.reduce(|first, next| first.or(next)).unwrap_or_else(none).into()
}

fn none<T>() -> mail_auth::Result<T> {
    Err(Error::Dns(LibraryDnsError::InvalidRecordType))
}

/// Names with what is known, and those that are wanted.
struct Notes<V>(Mutex<Lists<V>>);

struct Lists<V> {
    known: HashMap<Box<str>, V>,
    wanted: Vec<Box<str>>,
    asked: usize,
}

impl<V> Default for Notes<V> {
    fn default() -> Notes<V> {
        Notes(Mutex::new(Lists { known: HashMap::new(), wanted: Vec::new(), asked: 0 }))
    }
}

impl<V: Clone> Notes<V> {
    fn lists(&self) -> std::sync::MutexGuard<'_, Lists<V>> {
        self.0.lock().expect("no panic under this lock")
    }

    /// What is known; otherwise the name is noted.
    fn look_up(&self, name: &str) -> Option<V> {
        let mut lists = self.lists();
        if let Some(value) = lists.known.get(name) {
            return Some(value.clone());
        }
        if lists.asked < NAMES_MAX && lists.wanted.iter().all(|wanted| &**wanted != name) {
            lists.asked += 1;
            lists.wanted.push(name.into());
        }
        None
    }

    fn learn(&self, name: Box<str>, value: V) {
        self.lists().known.insert(name, value);
    }

    fn has_wanted(&self) -> bool {
        !self.lists().wanted.is_empty()
    }

    fn take_wanted(&self) -> Vec<Box<str>> {
        std::mem::take(&mut self.lists().wanted)
    }
}

/// The library's cache of TXT records.
#[derive(Default)]
pub(super) struct Texts(Notes<Txt>);

impl ResolverCache<Box<str>, Txt> for Texts {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some(name) = spelled(name) else { return Some(Txt::Error(Error::ParseError)) };
        // Reports about failures (RFC 6651) and third-party signatures (RFC 6541) are nothing that we follow up.
        if !name.contains("._domainkey.") || name.starts_with("_report.") {
            return Some(Txt::Error(Error::Dns(LibraryDnsError::InvalidRecordType)));
        }
        let not_now = || Txt::Error(Error::Dns(LibraryDnsError::Resolver("not asked yet".to_string())));
        Some(self.0.look_up(&name).unwrap_or_else(not_now))
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: std::time::Instant) {}
}

/// The text of a key of which the trait tells only that it can be hashed as `str` is: what it feeds a hasher are its octets and a
/// closing 0xff.
fn spelled<Q: Hash + ?Sized>(name: &Q) -> Option<String> {
    #[derive(Default)]
    struct Speller(Vec<u8>);
    impl Hasher for Speller {
        fn write(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut speller = Speller::default();
    name.hash(&mut speller);
    let bytes = speller.0.strip_suffix(&[0xff])?;
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_can_be_spelled_out() {
        assert_eq!(spelled("_dmarc.example.com.").as_deref(), Some("_dmarc.example.com."));
        assert_eq!(spelled("").as_deref(), Some(""));
    }

    #[test]
    fn names_are_noted_once_and_not_without_end() {
        let texts = Texts::default();
        for n in 0..2 * NAMES_MAX {
            texts.get::<str>(&format!("s{n}._domainkey.example.com."));
            texts.get::<str>("s0._domainkey.example.com.");
        }
        assert_eq!(texts.0.take_wanted().len(), NAMES_MAX);
        texts.get::<str>("_report._domainkey.example.com.");
        assert!(!texts.0.has_wanted());
    }
}
