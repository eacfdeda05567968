//! The counters of TLS reports: by UTC day, policy domain and policy; in memory, and on disk every now and then and at the end.
//!
//! Promises: bounded ([`DOMAINS_MAX`] domains a day, [`DETAILS_MAX`] different failures of a policy, [`POLICIES_MAX`] policies of a domain); what a crash costs is what came since
//! the last [`Ledger::save`]; days are kept until they are taken away with [`Ledger::forget`], and no longer than [`KEEP`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use waypost_types::port::{KeyValue, KvError};
use waypost_types::{Domain, Timestamp};

use super::{Fault, Session};

/// Domains of one day; further ones are not counted.
pub const DOMAINS_MAX: usize = 10_000;
/// Policies of one domain on one day: they change now and then.
pub const POLICIES_MAX: usize = 8;
/// Different failures of one policy; further ones are counted without detail.
pub const DETAILS_MAX: usize = 100;
/// How long a day stays on disk.
pub const KEEP: Duration = Duration::from_secs(8 * 86_400);
/// Octets of a reason.
const REASON_BYTES_MAX: usize = 200;
/// In front of the keys. No plugin's keys begin with a NUL.
const PREFIX: &[u8] = b"\0tls-report/";

/// A policy in the words of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `tlsa`, `sts` or `no-policy-found`.
    pub kind: &'static str,
    /// Its text: TLSA records, or the lines of an MTA-STS policy.
    pub strings: Vec<String>,
    /// The host patterns of an MTA-STS policy.
    pub hosts: Vec<String>,
}

/// One domain on one day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// `2026-11-24`, UTC.
    pub day: String,
    /// The policy domain.
    pub domain: String,
}

impl Key {
    /// The domain today.
    pub fn of(domain: &Domain, now: Timestamp) -> Key {
        Key { day: day(now), domain: domain.to_string() }
    }

    fn stored(&self) -> Vec<u8> {
        [PREFIX, self.day.as_bytes(), b"/", self.domain.as_bytes()].concat()
    }

    fn read(stored: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(stored.strip_prefix(PREFIX)?).ok()?;
        let (day, domain) = text.split_once('/')?;
        Some(Key { day: day.into(), domain: domain.into() })
    }
}

/// The UTC day of a time.
pub fn day(now: Timestamp) -> String {
    now.rfc3339().split('T').next().unwrap_or_default().to_string()
}

/// One kind of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Detail {
    fault: Fault,
    sending: Option<IpAddr>,
    host: String,
    receiving: Option<IpAddr>,
    reason: String,
    count: u64,
}

/// What was counted under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    policy: Policy,
    good: u64,
    failed: u64,
    details: Vec<Detail>,
}

impl Count {
    fn add(&mut self, session: Session) {
        let Some((fault, reason)) = session.fault else {
            self.good += 1;
            return;
        };
        self.failed += 1;
        let Session { sending, host, receiving, .. } = session;
        let reason = reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_string();
        let detail = Detail { fault, sending, host, receiving, reason, count: 0 };
        let same = |one: &&mut Detail| Detail { count: 0, ..(**one).clone() } == detail;
        if let Some(known) = self.details.iter_mut().find(same) {
            known.count += 1;
        } else if self.details.len() < DETAILS_MAX {
            self.details.push(Detail { count: 1, ..detail });
        }
    }

    /// As RFC 8460 §4.4 has it.
    pub fn json(&self, domain: &str) -> Value {
        let mut policy = json!({ "policy-type": self.policy.kind, "policy-domain": domain });
        if !self.policy.strings.is_empty() {
            policy["policy-string"] = json!(self.policy.strings);
        }
        if !self.policy.hosts.is_empty() {
            policy["mx-host"] = json!(self.policy.hosts);
        }
        let summary =
            json!({ "total-successful-session-count": self.good, "total-failure-session-count": self.failed });
        let mut whole = json!({ "policy": policy, "summary": summary });
        if !self.details.is_empty() {
            whole["failure-details"] = self.details.iter().map(Detail::json).collect();
        }
        whole
    }

    fn read(value: &Value) -> Option<Count> {
        let list = |value: &Value| {
            let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_string).collect::<Vec<_>>()
        };
        let kind =
            ["tlsa", "sts", "no-policy-found"].into_iter().find(|kind| value["policy"]["policy-type"] == *kind)?;
        let policy =
            Policy { kind, strings: list(&value["policy"]["policy-string"]), hosts: list(&value["policy"]["mx-host"]) };
        let details = value["failure-details"].as_array().into_iter().flatten().filter_map(Detail::read).collect();
        Some(Count {
            policy,
            good: value["summary"]["total-successful-session-count"].as_u64()?,
            failed: value["summary"]["total-failure-session-count"].as_u64()?,
            details,
        })
    }
}

impl Detail {
    fn json(&self) -> Value {
        let mut detail = json!({ "result-type": self.fault.word(), "failed-session-count": self.count });
        let mut say = |name: &str, text: Option<String>| {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                detail[name] = text.into();
            }
        };
        say("sending-mta-ip", self.sending.map(|address| address.to_string()));
        say("receiving-mx-hostname", Some(self.host.clone()));
        say("receiving-ip", self.receiving.map(|address| address.to_string()));
        say("failure-reason-code", Some(self.reason.clone()));
        detail
    }

    fn read(value: &Value) -> Option<Detail> {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_string();
        Some(Detail {
            fault: Fault::from_word(value["result-type"].as_str()?)?,
            sending: text("sending-mta-ip").parse().ok(),
            host: text("receiving-mx-hostname"),
            receiving: text("receiving-ip").parse().ok(),
            reason: text("failure-reason-code"),
            count: value["failed-session-count"].as_u64()?,
        })
    }
}

/// All counters.
pub struct Ledger {
    store: Arc<dyn KeyValue>,
    days: Mutex<Days>,
}

#[derive(Default)]
struct Days {
    counts: BTreeMap<Key, Vec<Count>>,
    /// What the disk does not have yet.
    changed: std::collections::BTreeSet<Key>,
}

/// Keys read from disk at once.
const PAGE: usize = 1000;

impl Ledger {
    /// The counters in `store`.
    pub fn open(store: Arc<dyn KeyValue>) -> Result<Ledger, KvError> {
        let (mut days, mut after) = (Days::default(), Vec::new());
        loop {
            let page = store.list(PREFIX, &after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = last[PREFIX.len()..].to_vec();
            for (key, value) in &page {
                let counts: Option<Vec<Count>> = serde_json::from_slice::<Value>(value)
                    .ok()
                    .and_then(|value| value.as_array().map(|all| all.iter().filter_map(Count::read).collect()));
                days.counts.extend(Key::read(key).zip(counts));
            }
        }
        Ok(Ledger { store, days: Mutex::new(days) })
    }

    fn lock(&self) -> MutexGuard<'_, Days> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a session.
    pub fn count(&self, session: Session, now: Timestamp) {
        let key = Key::of(&session.domain, now);
        let mut days = self.lock();
        if !days.counts.contains_key(&key) {
            let today = days.counts.keys().filter(|known| known.day == key.day).count();
            if today >= DOMAINS_MAX {
                return;
            }
        }
        let counts = days.counts.entry(key.clone()).or_default();
        let at = match counts.iter().position(|count| count.policy == session.policy) {
            Some(at) => at,
            None if counts.len() < POLICIES_MAX => {
                let policy = session.policy.clone();
                counts.push(Count { policy, good: 0, failed: 0, details: Vec::new() });
                counts.len() - 1
            }
            None => return,
        };
        counts[at].add(session);
        days.changed.insert(key);
    }

    /// Writes down what has changed.
    pub fn save(&self) -> Result<(), KvError> {
        let mut days = self.lock();
        let changed = std::mem::take(&mut days.changed);
        for key in &changed {
            let Some(counts) = days.counts.get(key) else { continue };
            let value: Value = counts.iter().map(|count| count.json(&key.domain)).collect();
            if let Err(error) = self.store.set(&key.stored(), value.to_string().as_bytes(), Some(KEEP)) {
                days.changed = changed;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Every domain of every day.
    pub fn keys(&self) -> Vec<Key> {
        self.lock().counts.keys().cloned().collect()
    }

    /// What was counted for a domain on a day.
    pub fn get(&self, key: &Key) -> Vec<Count> {
        self.lock().counts.get(key).cloned().unwrap_or_default()
    }

    /// It has been told.
    pub fn forget(&self, key: &Key) {
        let mut days = self.lock();
        days.counts.remove(key);
        days.changed.remove(key);
        // What stays on disk ends with its time.
        let _ = self.store.remove(&key.stored());
    }
}
