//! Small traits for foreign needs, so that a crate can ask a question of DNS, a key-value store or a key ring without linking what
//! answers it. `daemon/assemble` fills them.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::{Domain, Message, Soon, Task};

/// Record types that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DnsType {
    A,
    Aaaa,
    Mx,
    Txt,
    Ptr,
    Tlsa,
    Cname,
    Ns,
    Srv,
}

/// A set of records, each as text: addresses, `10 mx.example.`, TXT strings joined, TLSA as `3 1 1 hex`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsAnswer {
    /// At least one.
    pub records: Vec<String>,
    /// The lowest time to live, seconds.
    pub ttl: u32,
    /// Whether the whole chain validated by DNSSEC.
    pub secure: bool,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// The name does not exist.
    NxDomain,
    /// The name exists without such records.
    NoData,
    /// A server failed, or validation did (bogus).
    ServFail,
    /// Nobody answered in time.
    Timeout,
    /// A server would not answer.
    Refused,
}

impl DnsError {
    /// Whether asking later may help.
    pub fn is_transient(self) -> bool {
        matches!(self, DnsError::ServFail | DnsError::Timeout | DnsError::Refused)
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DnsError::NxDomain => "name does not exist",
            DnsError::NoData => "no such record",
            DnsError::ServFail => "server failure",
            DnsError::Timeout => "timeout",
            DnsError::Refused => "query refused",
        })
    }
}

impl std::error::Error for DnsError {}

/// A resolver.
pub trait Dns: Send + Sync + 'static {
    /// Asks one question. `name` may lack its trailing dot; it is always taken as absolute.
    fn lookup<'a>(&'a self, name: &'a str, kind: DnsType) -> Task<'a, Result<DnsAnswer, DnsError>>;
    /// The forward-confirmed name of an address: PTR, then A or AAAA of it must hold the address. At most a few names are tried.
    fn confirmed_name(&self, address: IpAddr) -> Task<'_, Result<Option<Domain>, DnsError>>;
}

/// Why a key-value store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvError {
    /// The namespace's quota is used up.
    Quota,
    /// The store failed.
    Failed(String),
}

/// A small durable key-value store with expiry. Keys carry their owner's namespace. Writes are not synced one by one: a crash
/// may lose the last moments.
pub trait KeyValue: Send + Sync + 'static {
    /// The value, unless it is absent or has expired.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;
    /// Sets a value.
    fn set(&self, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Result<(), KvError>;
    /// Adds to a counter and gives its new value; an absent one counts from 0 and gets `ttl`.
    fn add(&self, key: &[u8], delta: i64, ttl: Option<Duration>) -> Result<i64, KvError>;
    /// Sets a value if the old one is `old` (empty: absent); says whether it did.
    fn swap(&self, key: &[u8], old: &[u8], new: &[u8], ttl: Option<Duration>) -> Result<bool, KvError>;

    /// Takes a value away; says whether there was one.
    fn remove(&self, key: &[u8]) -> Result<bool, KvError> {
        let _ = key;
        Err(KvError::Failed("this key-value store takes nothing away".into()))
    }
    /// Up to `count_max` keys that begin with `prefix` and come behind `prefix` and `after` together, in order, with their values.
    fn list(&self, prefix: &[u8], after: &[u8], count_max: usize) -> Result<Vec<Row>, KvError> {
        let _ = (prefix, after, count_max);
        Err(KvError::Failed("this key-value store cannot be listed".into()))
    }

    /// Pairs of counters under numbers: the key is `prefix` and the number, eight octets, big end first. Absent ones are (0, 0).
    /// May be behind by what was written at the same moment, and by an hour about what has expired.
    fn pairs(&self, prefix: &[u8], numbers: &[u64]) -> Result<Vec<Pair>, KvError> {
        numbers
            .iter()
            .map(|number| Ok(self.get(&numbered(prefix, *number))?.map_or((0, 0), |value| pair_of(&value))))
            .collect()
    }
    /// Adds to pairs of counters, each of which has `ttl` from now on. Sums stay within 0 and the largest number.
    fn add_pairs(
        &self,
        prefix: &[u8],
        numbers: &[u64],
        (a, b): (i32, i32),
        ttl: Option<Duration>,
    ) -> Result<(), KvError> {
        numbers.iter().try_for_each(|number| {
            let key = numbered(prefix, *number);
            for _ in 0..SWAPS_MAX {
                let old = self.get(&key)?.unwrap_or_default();
                let (first, second) = pair_of(&old);
                let new = pair_octets((first.saturating_add_signed(a), second.saturating_add_signed(b)));
                if self.swap(&key, &old, &new, ttl)? {
                    return Ok(());
                }
            }
            Err(KvError::Failed("a counter of the key-value store is contended".into()))
        })
    }
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);
/// Two counters.
pub type Pair = (u32, u32);

/// Attempts at a counter that others write to at the same time.
const SWAPS_MAX: u32 = 16;

/// The key of a number.
pub fn numbered(prefix: &[u8], number: u64) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

/// The counters in a stored value; what is too short for them counts as 0.
pub fn pair_of(value: &[u8]) -> Pair {
    let word = |at: usize| value.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    (word(0), word(4))
}

/// Counters as they are stored.
pub fn pair_octets((first, second): Pair) -> [u8; 8] {
    (u64::from(first) | u64::from(second) << 32).to_le_bytes()
}

/// A ring of private keys that never leave it.
pub trait Sign: Send + Sync + 'static {
    /// A raw signature over a SHA-256 digest with the named key.
    fn sign(&self, key: &str, digest: &[u8]) -> Result<Vec<u8>, String>;
    /// The value of a `DKIM-Signature` field for `message` with the named key, over `headers` (each name once; over-signing as
    /// the ring's key is set up). The field is folded and ends without CRLF.
    fn dkim(&self, key: &str, headers: &[String], message: &Message) -> Result<String, String>;
}

/// A table did not answer. The text names the table and says why, for the log; whoever asked answers 451 4.3.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError(pub String);

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TableError {}

/// What a table says of a key: a value, nothing, or that it cannot say.
pub type Found<'a> = Result<Option<Cow<'a, str>>, TableError>;

/// A table that answers a key with a value: a map file, a list of networks, patterns, a database, a directory.
pub trait Table: Send + Sync + 'static {
    /// The value for `key`, which is compared without regard to ASCII case. Tables in memory answer at once, others within a deadline
    /// of their own. A key that is an IP address is looked for among networks, too.
    fn lookup<'a>(&'a self, key: &'a str) -> Soon<'a, Found<'a>>;

    /// Whether a row holds `address`.
    fn contains(&self, address: IpAddr) -> Soon<'_, Result<bool, TableError>> {
        Soon::Later(Box::pin(async move {
            let key = address.to_canonical().to_string();
            self.lookup(&key).get().await.map(|value| value.is_some())
        }))
    }

    /// Whether a part of a key may be looked up, such as the domain of an address. Not in patterns: what is meant for whole addresses
    /// would match it by accident.
    fn takes_parts(&self) -> bool {
        true
    }

    /// Whether every answer is there at once.
    fn is_in_memory(&self) -> bool {
        false
    }
}

/// An HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// Absolute.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Vec<u8>,
    /// How long to wait for the whole exchange.
    pub timeout: Duration,
}

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse {
    /// 200, 404, …
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// What came back, bounded by the client.
    pub body: Vec<u8>,
}

/// An HTTP client. Follows no redirects: where a plugin may fetch from is checked before.
pub trait Fetch: Send + Sync + 'static {
    /// Makes one exchange; the error is for people.
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> Task<'a, Result<FetchResponse, String>>;
}
