//! What surrounds a case: canned DNS, tables, keys and clock, a store in memory; and ears for what the plugin says.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use waypost_mailauth::{KeyKind, SecretKey, SigningKey};
use waypost_plugin::Ports;
use waypost_route::lookup::TextTable;
use waypost_types::port::{Dns, DnsAnswer, DnsError, DnsType, KeyValue, KvError, Sign, Table};
use waypost_types::{Domain, Event, Message, Observer, Task, Timestamp};

use super::case::{Answers, Case};

/// When the first case plays: 24 November 2026, so that what a plugin does with the time is the same every time.
const BEGIN: Timestamp = Timestamp(1_795_500_670_000);

/// Everything outside the plugin, kept from case to case of a file.
pub(super) struct World {
    clock: Arc<AtomicU64>,
    kv: Arc<Kept>,
    keys: Arc<AnyKey>,
    /// What the current case's plugin asked and said.
    pub(super) zone: Arc<Zone>,
    pub(super) heard: Arc<Heard>,
}

impl World {
    pub(super) fn new() -> Result<World> {
        let clock = Arc::new(AtomicU64::new(BEGIN.0));
        Ok(World {
            kv: Arc::new(Kept { clock: clock.clone(), rows: Mutex::default() }),
            clock,
            keys: Arc::new(AnyKey { secret: SecretKey::generate(KeyKind::Ed25519).to_pem() }),
            zone: Arc::default(),
            heard: Arc::default(),
        })
    }

    /// Sets the scene for a case, and gives the ports through which the plugin sees it.
    pub(super) fn stage(&mut self, case: &Case, plugin: &str) -> Result<Ports> {
        if let Some(at) = case.at {
            self.clock.store(at, Ordering::SeqCst);
        }
        self.clock.fetch_add(u64::try_from(case.wait.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        for (key, value) in &case.kv {
            let full = [b"p", plugin.as_bytes(), b"\0", key.as_bytes()].concat();
            self.kv.set(&full, value.as_bytes(), None).map_err(|error| anyhow!("{error:?}"))?;
        }
        self.zone = Arc::new(Zone::of(case)?);
        self.heard = Arc::default();
        let clock = self.clock.clone();
        Ok(Ports {
            dns: self.zone.clone(),
            kv: Some(self.kv.clone()),
            sign: Some(self.keys.clone()),
            tables: tables(case)?,
            fetch: None,
            recorder: None,
            observer: self.heard.clone(),
            now: Arc::new(move || Timestamp(clock.load(Ordering::SeqCst))),
        })
    }
}

fn tables(case: &Case) -> Result<BTreeMap<String, Arc<dyn Table>>> {
    let table = |(name, rows): (&String, &BTreeMap<String, String>)| {
        let rows = TextTable::of(rows.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let rows = rows.map_err(|mistakes| anyhow!("table {name}: {}", mistakes[0].text))?;
        Ok((name.clone(), Arc::new(rows) as Arc<dyn Table>))
    };
    case.tables.iter().map(table).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Canned answers. What is not among them does not exist.
#[derive(Default)]
pub(super) struct Zone {
    answers: HashMap<(String, DnsType), Result<DnsAnswer, DnsError>>,
    client: Option<(IpAddr, Domain)>,
    asked: Mutex<Vec<String>>,
}

impl Zone {
    fn of(case: &Case) -> Result<Zone> {
        let mut zone = Zone::default();
        for (key, answers) in &case.dns {
            let (name, kind) = key.rsplit_once(' ').ok_or_else(|| anyhow!("dns: `{key}` is not NAME TYPE"))?;
            let answer = match answers {
                Answers::Records(records) if records.is_empty() => Err(DnsError::NoData),
                Answers::Records(records) => Ok(DnsAnswer { records: records.clone(), ttl: 300, secure: false }),
                Answers::Failure(word) => Err(failure(word)?),
            };
            zone.answers.insert((plain(name), kind_of(kind)?), answer);
        }
        let name = case.client_name.as_deref().map(Domain::parse).transpose();
        zone.client = name.map_err(|error| anyhow!("client-name: {error}"))?.map(|name| (case.client, name));
        Ok(zone)
    }

    /// Names that were asked for, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }
}

fn plain(name: &str) -> String {
    name.trim().trim_end_matches('.').to_ascii_lowercase()
}

fn kind_of(word: &str) -> Result<DnsType> {
    Ok(match word.to_ascii_uppercase().as_str() {
        "A" => DnsType::A,
        "AAAA" => DnsType::Aaaa,
        "MX" => DnsType::Mx,
        "TXT" => DnsType::Txt,
        "PTR" => DnsType::Ptr,
        "TLSA" => DnsType::Tlsa,
        "CNAME" => DnsType::Cname,
        "NS" => DnsType::Ns,
        "SRV" => DnsType::Srv,
        _ => bail!("dns: `{word}` is no type that can be asked for: A, AAAA, MX, TXT, PTR, TLSA, CNAME, NS or SRV"),
    })
}

fn failure(word: &str) -> Result<DnsError> {
    Ok(match word {
        "nxdomain" => DnsError::NxDomain,
        "nodata" => DnsError::NoData,
        "servfail" => DnsError::ServFail,
        "timeout" => DnsError::Timeout,
        "refused" => DnsError::Refused,
        _ => bail!("dns: `{word}` is none of nxdomain, nodata, servfail, timeout, refused; records are a list"),
    })
}

impl Dns for Zone {
    fn lookup<'a>(&'a self, name: &'a str, kind: DnsType) -> Task<'a, Result<DnsAnswer, DnsError>> {
        let name = plain(name);
        lock(&self.asked).push(name.clone());
        // A name that has anything exists (RFC 2308 §2.2).
        let exists = || self.answers.iter().any(|((there, _), answer)| *there == name && answer.is_ok());
        let nothing = || Err(if exists() { DnsError::NoData } else { DnsError::NxDomain });
        let answer = self.answers.get(&(name.clone(), kind)).cloned().unwrap_or_else(nothing);
        Box::pin(std::future::ready(answer))
    }

    fn confirmed_name(&self, address: IpAddr) -> Task<'_, Result<Option<Domain>, DnsError>> {
        let name = self.client.as_ref().filter(|(client, _)| *client == address).map(|(_, name)| name.clone());
        Box::pin(std::future::ready(Ok(name)))
    }
}

/// A store in memory, by the case's clock.
struct Kept {
    clock: Arc<AtomicU64>,
    rows: Mutex<HashMap<Vec<u8>, Row>>,
}

/// A value and its end.
type Row = (Vec<u8>, Timestamp);

impl Kept {
    fn end(&self, ttl: Option<Duration>) -> Timestamp {
        ttl.map_or(Timestamp::NEVER, |ttl| self.now().after(ttl))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::SeqCst))
    }

    fn live(&self, key: &[u8]) -> Option<Row> {
        lock(&self.rows).get(key).filter(|(_, end)| *end > self.now()).cloned()
    }
}

impl KeyValue for Kept {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.live(key).map(|(value, _)| value))
    }

    fn set(&self, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Result<(), KvError> {
        lock(&self.rows).insert(key.to_vec(), (value.to_vec(), self.end(ttl)));
        Ok(())
    }

    fn add(&self, key: &[u8], delta: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
        let before = self.live(key);
        let end = before.as_ref().map_or_else(|| self.end(ttl), |(_, end)| *end);
        let count = before.and_then(|(value, _)| Some(i64::from_le_bytes(value.as_slice().try_into().ok()?)));
        let sum = count.unwrap_or(0).saturating_add(delta);
        lock(&self.rows).insert(key.to_vec(), (sum.to_le_bytes().to_vec(), end));
        Ok(sum)
    }

    fn swap(&self, key: &[u8], old: &[u8], new: &[u8], ttl: Option<Duration>) -> Result<bool, KvError> {
        let same = self.live(key).map_or(old.is_empty(), |(value, _)| value == old);
        if same {
            self.set(key, new, ttl)?;
        }
        Ok(same)
    }
}

/// Signs by every name, with one key that nobody has published.
struct AnyKey {
    secret: String,
}

impl AnyKey {
    fn key(&self, name: &str) -> Result<SigningKey, String> {
        let secret = SecretKey::from_pem(&self.secret).map_err(|error| error.to_string())?;
        let domain = Domain::parse("example.org").map_err(|error| error.to_string())?;
        Ok(SigningKey::new(domain, name, secret))
    }
}

impl Sign for AnyKey {
    fn sign(&self, key: &str, digest: &[u8]) -> Result<Vec<u8>, String> {
        self.key(key)?.secret.sign(digest)
    }

    fn dkim(&self, key: &str, headers: &[String], message: &Message) -> Result<String, String> {
        self.key(key)?.sign(headers, message, BEGIN.seconds())
    }
}

/// Keeps what would be logged.
#[derive(Default)]
pub(super) struct Heard(Mutex<Vec<String>>);

impl Heard {
    pub(super) fn lines(&self) -> Vec<String> {
        lock(&self.0).clone()
    }
}

impl Observer for Heard {
    fn observe(&self, event: Event<'_>) {
        let line = match event {
            Event::PluginLog { level, message, .. } => format!("{level}: {message}"),
            Event::PluginFault { stage, error, .. } => format!("fault at {}: {error}", stage.word()),
            Event::PluginBreaker { state, .. } => format!("the breaker is {state}"),
            Event::PluginMetric { name, delta, .. } => format!("metric {name} {delta:+}"),
            _ => return,
        };
        lock(&self.0).push(line);
    }
}
