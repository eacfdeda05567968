//! DMARC (RFC 9989): whether the author's domain stands behind a message, and what it asks for if not.
//!
//! Policies and organisational domains are found by the tree walk (§4.10), eight questions for a name at most, every name asked once for a
//! message. Nothing here knows a list of public suffixes. Reports are not made.

mod record;

use std::collections::HashMap;

use waypost_types::port::{Dns, DnsError, DnsType};

use self::record::{Psd, Record, Whose};

pub use self::record::Policy;

/// Names asked for one message: an author's walk, SPF's and ten signatures', mostly the same.
const NAMES_MAX: usize = 64;

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmarcResult {
    /// An aligned identifier passed.
    Pass,
    /// None did.
    Fail,
    /// The domain has no policy.
    None,
    /// DNS does not answer now.
    TempError,
    /// There is no one author's domain.
    PermError,
}

impl DmarcResult {
    /// The word of RFC 8601.
    pub fn word(self) -> &'static str {
        match self {
            DmarcResult::Pass => "pass",
            DmarcResult::Fail => "fail",
            DmarcResult::None => "none",
            DmarcResult::TempError => "temperror",
            DmarcResult::PermError => "permerror",
        }
    }
}

/// A verdict about one author's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dmarc {
    /// The result.
    pub result: DmarcResult,
    /// What the domain asks for; `None` where it asks for nothing at all.
    pub policy: Option<Policy>,
}

/// What is known of the message's identifiers.
#[derive(Clone, Copy, Debug)]
pub struct Identifiers<'a> {
    /// The domain that SPF passed for.
    pub spf: Option<&'a str>,
    /// The domains whose signatures passed.
    pub dkim: &'a [&'a str],
    /// Domains that DNS did not let be judged, SPF's and signatures': had one of these passed, so might the message.
    pub unsure: &'a [&'a str],
}

/// Judges a message of this author's domain.
pub async fn evaluate(dns: &dyn Dns, author: &str, identifiers: Identifiers<'_>) -> Dmarc {
    let author = author.trim_end_matches('.').to_ascii_lowercase();
    let mut tree = Tree { dns, known: HashMap::new() };
    match tree.judge(&author, identifiers).await {
        Ok(dmarc) => dmarc,
        Err(Unsure) => Dmarc { result: DmarcResult::TempError, policy: None },
    }
}

/// DNS did not answer.
struct Unsure;

/// What has been asked so far.
struct Tree<'a> {
    dns: &'a dyn Dns,
    known: HashMap<String, Option<Record>>,
}

impl Tree<'_> {
    async fn judge(&mut self, author: &str, identifiers: Identifiers<'_>) -> Result<Dmarc, Unsure> {
        let Some((record, whose)) = self.record_for(author).await? else {
            return Ok(Dmarc { result: DmarcResult::None, policy: None });
        };
        let Some(policy) = record.policy(whose) else {
            return Ok(Dmarc { result: DmarcResult::None, policy: None });
        };
        let spf = identifiers.spf.map(|domain| (domain, record.strict_spf));
        let dkim = identifiers.dkim.iter().map(|domain| (*domain, record.strict_dkim));
        for (domain, strict) in spf.into_iter().chain(dkim) {
            if self.is_aligned(author, domain, strict).await? {
                return Ok(Dmarc { result: DmarcResult::Pass, policy: Some(policy) });
            }
        }
        for domain in identifiers.unsure {
            if self.is_aligned(author, domain, false).await? {
                return Err(Unsure);
            }
        }
        Ok(Dmarc { result: DmarcResult::Fail, policy: Some(policy) })
    }

    /// The record whose policy counts: the author domain's own, its organisational domain's, or its public suffix's (§4.10.1).
    async fn record_for(&mut self, author: &str) -> Result<Option<(Record, Whose)>, Unsure> {
        if let Some(record) = self.record(author).await? {
            return Ok(Some((record, Whose::Own)));
        }
        let walk = self.walk(author).await?;
        let above = organisational(author, &walk);
        let found = match walk.iter().find(|(name, _)| *name == above) {
            Some((_, record)) => Some(record),
            None => walk.iter().find(|(_, record)| record.psd == Psd::Yes).map(|(_, record)| record),
        };
        let Some(record) = found.cloned() else { return Ok(None) };
        let whose = if self.exists(author).await? { Whose::Below } else { Whose::Absent };
        Ok(Some((record, whose)))
    }

    /// §4.4: the same domain, or one of the same organisation.
    async fn is_aligned(&mut self, author: &str, domain: &str, strict: bool) -> Result<bool, Unsure> {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        if domain == author {
            return Ok(true);
        }
        // Domains that do not share their last label are of no one organisation: no question is needed.
        if strict || author.rsplit('.').next() != domain.rsplit('.').next() {
            return Ok(false);
        }
        let one = organisational(author, &self.walk(author).await?);
        Ok(one == organisational(&domain, &self.walk(&domain).await?))
    }

    /// The records that the walk finds (§4.10), from the name upwards.
    async fn walk(&mut self, start: &str) -> Result<Vec<(String, Record)>, Unsure> {
        let mut found = Vec::new();
        let mut target = Some(start);
        while let Some(name) = target {
            if let Some(record) = self.record(name).await? {
                let ends = record.psd != Psd::Unsaid;
                found.push((name.to_string(), record));
                if ends {
                    break;
                }
            }
            target = next(name);
        }
        Ok(found)
    }

    /// The one record at a name; several are none.
    async fn record(&mut self, name: &str) -> Result<Option<Record>, Unsure> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.clone());
        }
        if self.known.len() >= NAMES_MAX {
            return Ok(None);
        }
        let texts = match self.dns.lookup(&format!("_dmarc.{name}"), DnsType::Txt).await {
            Ok(answer) => answer.records,
            Err(error) if error.is_transient() => return Err(Unsure),
            Err(_) => Vec::new(),
        };
        let mut records = texts.iter().filter_map(|text| Record::parse(text));
        let only = records.next().filter(|_| records.next().is_none());
        self.known.insert(name.to_string(), only.clone());
        Ok(only)
    }

    /// Whether a name has addresses or mail hosts: `np` is for those that have not.
    async fn exists(&self, name: &str) -> Result<bool, Unsure> {
        for kind in [DnsType::Mx, DnsType::A, DnsType::Aaaa] {
            match self.dns.lookup(name, kind).await {
                Ok(_) => return Ok(true),
                // No other question would find anything.
                Err(DnsError::NxDomain) => return Ok(false),
                Err(error) if error.is_transient() => return Err(Unsure),
                Err(_) => {}
            }
        }
        Ok(false)
    }
}

/// The next name of a walk: one label less, or seven if there are many.
fn next(name: &str) -> Option<&str> {
    let labels = name.split('.').count();
    let skip = if labels < 8 { 1 } else { labels - 7 };
    name.splitn(skip + 1, '.').nth(skip)
}

/// §4.10.2: where the walk says that an organisation begins.
fn organisational(start: &str, walk: &[(String, Record)]) -> String {
    for (name, record) in walk {
        match record.psd {
            Psd::No => return name.clone(),
            Psd::Yes if name != start => {
                let below = start.len() - name.len() - 1;
                let from = start[..below].rfind('.').map_or(0, |dot| dot + 1);
                return start[from..].to_string();
            }
            _ => {}
        }
    }
    walk.last().map_or_else(|| start.to_string(), |(name, _)| name.clone())
}

#[cfg(test)]
mod tests;
