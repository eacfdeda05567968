//! A zone in memory, for tests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use waypost_types::port::{Dns, DnsAnswer, DnsError, DnsType};
use waypost_types::{Domain, Task};

/// Names with their records; what is not there does not exist.
#[derive(Default)]
pub(crate) struct Zone {
    pub(crate) names: HashMap<String, HashMap<DnsType, Vec<String>>>,
    /// Names that nobody answers for, but for the records that they have here.
    pub(crate) silent: Vec<String>,
    /// Never answers at all.
    pub(crate) hangs: bool,
    pub(crate) asked: AtomicUsize,
}

impl Zone {
    pub(crate) fn add(&mut self, name: &str, kind: DnsType, record: &str) {
        let name = self.names.entry(name.trim_end_matches('.').to_lowercase()).or_default();
        name.entry(kind).or_default().push(record.to_string());
    }

    /// A name without records of its own.
    pub(crate) fn touch(&mut self, name: &str) {
        self.names.entry(name.trim_end_matches('.').to_lowercase()).or_default();
    }

    fn find(&self, name: &str, kind: DnsType, depth: usize) -> Result<DnsAnswer, DnsError> {
        let name = name.trim_end_matches('.').to_lowercase();
        let silent = self.silent.contains(&name);
        let missing = if silent { DnsError::Timeout } else { DnsError::NxDomain };
        let records = self.names.get(&name).ok_or(missing)?;
        if let Some(found) = records.get(&kind) {
            return Ok(DnsAnswer { records: found.clone(), ttl: 60, secure: false });
        }
        if silent {
            return Err(DnsError::Timeout);
        }
        match records.get(&DnsType::Cname).filter(|_| depth < 8) {
            Some(target) => self.find(&target[0], kind, depth + 1),
            None => Err(DnsError::NoData),
        }
    }
}

impl Dns for Zone {
    fn lookup<'a>(&'a self, name: &'a str, kind: DnsType) -> Task<'a, Result<DnsAnswer, DnsError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            self.find(name, kind, 0)
        })
    }

    fn confirmed_name(&self, _: IpAddr) -> Task<'_, Result<Option<Domain>, DnsError>> {
        Box::pin(async { Ok(None) })
    }
}
