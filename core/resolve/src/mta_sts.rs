//! MTA-STS (RFC 8461): which hosts a domain's mail may go to, and that their certificates must be good.
//!
//! A policy is announced in DNS, fetched over HTTPS, and kept (in memory, and on disk through [`KeyValue`]) for as long as it says: neither an outage of DNS nor one of
//! the web server switches it off (§5.1). A new `id` in DNS, or a day, has it fetched again; a fetch that fails changes nothing and is not repeated for
//! a few minutes. DANE comes first (§2): a policy never softens what TLSA records demand. Policies belong to recipient domains, not to hosts: two domains
//! with the same hosts may have different ones (`plan` asks for each domain, and connections are shared only between equal demands).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use waypost_types::port::{DnsError, DnsType, Fetch, FetchRequest, KeyValue};
use waypost_types::{Domain, Enhanced, Reply, Security};

use crate::cache::Cache;
use crate::client::Resolver;
use crate::plan::Hop;

/// What a policy asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Mail goes nowhere else, and never in the clear.
    Enforce,
    /// As if there was no policy, but failures are reported.
    Testing,
    /// There is no policy any more.
    None,
}

/// A policy, as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What it asks for.
    pub mode: Mode,
    /// Patterns of host names.
    pub hosts: Vec<String>,
    /// How long it may be kept.
    pub max_age: Duration,
}

/// A policy with where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    id: String,
    /// Seconds since 1970.
    fetched: u64,
    policy: Policy,
}

/// Why a policy that is announced could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFault {
    /// Its host does not answer, or not with a policy.
    Fetch,
    /// What came cannot be read.
    Invalid,
    /// The certificate of its host is no good.
    Certificate,
}

/// Whoever is told of policies that could not be had, with words for people.
pub type Listener = dyn Fn(&Domain, FetchFault, &str) + Send + Sync;

/// Where policies come from and where they are kept.
pub struct Policies {
    listener: Option<Arc<Listener>>,
    fetch: Arc<dyn Fetch>,
    disk: Option<Arc<dyn KeyValue>>,
    /// Looked up a moment ago.
    recent: Cache<Domain, Option<Arc<Kept>>>,
}

/// How long a look at DNS counts.
const RECENT: Duration = Duration::from_secs(300);
/// Octets of a policy (§3.3 leaves the bound to us; it suggests 64 KiB).
const POLICY_BYTES_MAX: usize = 64 * 1024;
/// §3.3 suggests a minute.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long mail waits for it. A fetch that takes longer goes on, for the mail that comes after it; what a host that does not answer would have said
/// cannot be known (§3.3: then there is no policy, or the one that is kept).
const PATIENCE: Duration = Duration::from_secs(5);
/// A policy of this age is fetched again although its id is the same.
const REFRESH: u64 = 86_400;
/// A year (§3.2).
const MAX_AGE_MAX: u64 = 31_557_600;
/// Domains remembered at once.
const DOMAINS_MAX: usize = 10_000;
/// Host patterns of a policy.
const HOSTS_MAX: usize = 100;

impl Policies {
    /// Fetches with `fetch`, keeps on `disk` if there is one.
    pub fn new(fetch: Arc<dyn Fetch>, disk: Option<Arc<dyn KeyValue>>) -> Policies {
        Policies { listener: None, fetch, disk, recent: Cache::new(DOMAINS_MAX) }
    }

    /// Failures are told to `listener`.
    #[must_use]
    pub fn told_to(mut self, listener: Arc<Listener>) -> Policies {
        self.listener = Some(listener);
        self
    }

    fn stored(&self, domain: &Domain, now: u64) -> Option<Kept> {
        let bytes = self.disk.as_ref()?.get(&key(domain)).ok()??;
        let kept = Kept::read(std::str::from_utf8(&bytes).ok()?)?;
        kept.is_valid(now).then_some(kept)
    }

    /// A disk that does not take it costs a fetch after the next start.
    fn store(&self, domain: &Domain, kept: &Kept) {
        if let Some(disk) = &self.disk {
            let _ = disk.set(&key(domain), kept.write().as_bytes(), Some(kept.policy.max_age));
        }
    }

    async fn fetched(&self, domain: &Domain, id: &str, now: u64) -> Option<Kept> {
        match self.try_fetch(domain, id, now).await {
            Ok(kept) => Some(kept),
            Err((fault, words)) => {
                if let Some(listener) = &self.listener {
                    listener(domain, fault, &words);
                }
                None
            }
        }
    }

    async fn try_fetch(&self, domain: &Domain, id: &str, now: u64) -> Result<Kept, (FetchFault, String)> {
        let request = FetchRequest {
            method: "GET".into(),
            url: format!("https://mta-sts.{domain}/.well-known/mta-sts.txt"),
            headers: vec![("Accept".into(), "text/plain".into())],
            body: Vec::new(),
            timeout: FETCH_TIMEOUT,
        };
        let failed = |error: String| {
            // What rustls says of them.
            let certificate = error.contains("invalid peer certificate");
            (if certificate { FetchFault::Certificate } else { FetchFault::Fetch }, error)
        };
        let response = self.fetch.fetch(&request).await.map_err(failed)?;
        let plain = |(name, value): &(String, String)| {
            name.eq_ignore_ascii_case("content-type") && value.to_ascii_lowercase().starts_with("text/plain")
        };
        if response.status != 200 {
            return Err((FetchFault::Fetch, format!("HTTP {}", response.status)));
        }
        if response.body.len() > POLICY_BYTES_MAX || !response.headers.iter().any(plain) {
            return Err((FetchFault::Invalid, "too long, or no text/plain".into()));
        }
        let policy = std::str::from_utf8(&response.body).ok().and_then(parse);
        let policy = policy.ok_or_else(|| (FetchFault::Invalid, "no policy of version STSv1".to_string()))?;
        Ok(Kept { id: id.into(), fetched: now, policy })
    }
}

fn key(domain: &Domain) -> Vec<u8> {
    format!("mta-sts/{domain}").into_bytes()
}

impl Resolver {
    /// The policy that holds for mail to `domain` now.
    pub async fn policy(&self, domain: &Domain) -> Option<Policy> {
        let policies = self.shared.policies.get()?;
        let make = async {
            let kept = self.look_for_policy(policies, domain).await;
            (kept.map(Arc::new), RECENT)
        };
        let kept = policies.recent.get(domain, make).await;
        kept.map(|kept| kept.policy.clone()).filter(|policy| policy.mode != Mode::None)
    }

    async fn look_for_policy(&self, policies: &Policies, domain: &Domain) -> Option<Kept> {
        let now = now();
        let stored = policies.stored(domain, now);
        let id = match self.ask(&format!("_mta-sts.{domain}"), DnsType::Txt).await {
            Ok(found) => announced(&found.answer.records),
            Err(DnsError::NxDomain | DnsError::NoData) => None,
            // It cannot be known: what is kept holds.
            Err(_) => return stored,
        };
        match (id, stored) {
            // Nobody announces it any more, but it was promised for a time (§5.1).
            (None, stored) => stored,
            (Some(id), Some(stored)) if stored.id == id && now.saturating_sub(stored.fetched) < REFRESH => Some(stored),
            (Some(id), stored) => self.fetch_patiently(domain, id, now).await.or(stored),
        }
    }

    /// The policy, if it comes before patience ends; it is kept in any case.
    async fn fetch_patiently(&self, domain: &Domain, id: String, now: u64) -> Option<Kept> {
        let (resolver, whose) = (self.clone(), domain.clone());
        let fetching = tokio::spawn(async move {
            let policies = resolver.shared.policies.get()?;
            let kept = policies.fetched(&whose, &id, now).await?;
            policies.store(&whose, &kept);
            if now.saturating_add(PATIENCE.as_secs()) <= self::now() {
                policies.recent.forget(&whose);
            }
            Some(kept)
        });
        tokio::time::timeout(PATIENCE, fetching).await.ok()?.ok()?
    }

    /// What a policy leaves of the hosts, and with which demands. An error is the reply to settle with.
    pub(crate) fn under_policy(
        policy: Option<&Policy>,
        domain: &Domain,
        hops: Vec<(u16, Hop)>,
    ) -> Result<Vec<(u16, Hop)>, Reply> {
        match policy {
            Some(policy) if policy.mode == Mode::Enforce => enforce(policy, domain, hops),
            _ => Ok(hops),
        }
    }
}

fn enforce(policy: &Policy, domain: &Domain, hops: Vec<(u16, Hop)>) -> Result<Vec<(u16, Hop)>, Reply> {
    let demand = |(preference, mut hop): (u16, Hop)| {
        if let Security::Opportunistic | Security::Encrypted = hop.security {
            hop.security = Security::Verified;
        }
        (preference, hop)
    };
    // A host with TLSA records is DANE's business alone.
    let allowed = |hop: &Hop| matches!(hop.security, Security::Dane(_)) || policy.allows(&hop.host);
    let left: Vec<_> = hops.into_iter().filter(|(_, hop)| allowed(hop)).map(demand).collect();
    if left.is_empty() {
        let text = format!("no mail host of {domain} is among those that its MTA-STS policy names");
        return Err(Reply::new(451, Enhanced(4, 7, 5), text));
    }
    Ok(left)
}

impl Policy {
    /// Its lines, as reports repeat them (RFC 8460 §4.4).
    pub fn lines(&self) -> Vec<String> {
        let mode = match self.mode {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        };
        let head = ["version: STSv1".to_string(), format!("mode: {mode}")];
        let hosts = self.hosts.iter().map(|host| format!("mx: {host}"));
        head.into_iter().chain(hosts).chain([format!("max_age: {}", self.max_age.as_secs())]).collect()
    }

    /// Whether mail may go to this host (§4.1): a star stands for one label.
    pub fn allows(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(base) => host.split_once('.').is_some_and(|(_, rest)| rest == base),
            None => host == pattern,
        })
    }
}

/// The id of the one record of version 1 (§3.1); with several of them there is no policy.
fn announced(records: &[String]) -> Option<String> {
    let mut ours =
        records.iter().filter(|record| record.split(';').next().is_some_and(|field| field.trim() == "v=STSv1"));
    let record = ours.next().filter(|_| ours.next().is_none())?;
    let id = record
        .split(';')
        .filter_map(|field| field.trim().split_once('='))
        .find(|(name, _)| name.trim() == "id")?
        .1
        .trim();
    ((1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| id.to_string())
}

/// A policy's text (§3.2). Unknown fields are passed over; of known ones but `mx` the first counts.
fn parse(text: &str) -> Option<Policy> {
    let fields: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim())).collect();
    let field = |wanted: &str| fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    if field("version") != Some("STSv1") {
        return None;
    }
    let mode = match field("mode")? {
        "enforce" => Mode::Enforce,
        "testing" => Mode::Testing,
        "none" => Mode::None,
        _ => return None,
    };
    let max_age = field("max_age")?.parse::<u64>().ok()?.min(MAX_AGE_MAX);
    let hosts = fields
        .iter()
        .filter(|(name, _)| *name == "mx")
        .map(|(_, host)| host.trim_end_matches('.').to_ascii_lowercase());
    let hosts: Vec<String> = hosts.take(HOSTS_MAX).collect();
    (mode == Mode::None || !hosts.is_empty()).then_some(Policy { mode, hosts, max_age: Duration::from_secs(max_age) })
}

impl Kept {
    fn is_valid(&self, now: u64) -> bool {
        now < self.fetched.saturating_add(self.policy.max_age.as_secs())
    }

    fn write(&self) -> String {
        let mode = match self.policy.mode {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        };
        let hosts: String = self.policy.hosts.iter().map(|host| format!("mx: {host}\n")).collect();
        let age = self.policy.max_age.as_secs();
        format!("{} {}\nversion: STSv1\nmode: {mode}\nmax_age: {age}\n{hosts}", self.fetched, self.id)
    }

    fn read(text: &str) -> Option<Kept> {
        let (head, policy) = text.split_once('\n')?;
        let (fetched, id) = head.split_once(' ')?;
        Some(Kept { id: id.into(), fetched: fetched.parse().ok()?, policy: parse(policy)? })
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: Mode, hosts: &[&str]) -> Policy {
        Policy { mode, hosts: hosts.iter().map(ToString::to_string).collect(), max_age: Duration::from_secs(86_400) }
    }

    #[test]
    fn policies_are_read_as_the_rfc_writes_them() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 86400\r\n";
        let all = ["mail.example.com", "*.example.net", "backupmx.example.com"];
        assert_eq!(parse(text), Some(policy(Mode::Enforce, &all)));
        assert_eq!(
            parse("mode: enforce\nversion: STSv1\nfuture: x\nmode: none\nmx: A.Example.\nmax_age: 86400"),
            Some(policy(Mode::Enforce, &["a.example"]))
        );
        for bad in [
            "",
            "version: STSv2\nmode: enforce\nmx: a\nmax_age: 1\n",
            "version: STSv1\nmode: enforce\nmax_age: 1\n",
            "version: STSv1\nmode: strict\nmx: a\nmax_age: 1\n",
            "version: STSv1\nmode: enforce\nmx: a\n",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(
            parse("version: STSv1\nmode: none\nmax_age: 99999999999\n")
                .is_some_and(|p| p.max_age.as_secs() == MAX_AGE_MAX)
        );
    }

    #[test]
    fn one_record_announces_it() {
        let id = |records: &[&str]| announced(&records.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(id(&["v=STSv1; id=20160831085700Z;"]), Some("20160831085700Z".into()));
        assert_eq!(id(&["v=spf1 -all", "v=STSv1;id=1"]), Some("1".into()));
        assert_eq!(id(&["v=STSv1; id=1", "v=STSv1; id=2"]), None);
        assert_eq!(id(&["v=STSv1; id=a-b"]), None);
        assert_eq!(id(&["v=STSv1;"]), None);
        assert_eq!(id(&["id=1; v=STSv1"]), None);
    }

    #[test]
    fn a_star_is_one_label() {
        let policy = policy(Mode::Enforce, &["mail.example.com", "*.example.net"]);
        assert!(policy.allows("mail.example.com") && policy.allows("mx1.example.net"));
        assert!(!policy.allows("example.net") && !policy.allows("a.b.example.net") && !policy.allows("x.example.com"));
    }

    #[test]
    fn enforcement_drops_other_hosts_and_asks_for_good_certificates_but_leaves_dane_alone() {
        let hop = |host: &str, security| {
            (10, Hop { host: host.into(), addresses: vec![[192, 0, 2, 1].into()], port: 25, security })
        };
        let domain = Domain::parse("example.com").unwrap();
        let dane = Security::Dane([].into());
        let hops = vec![
            hop("mx.example.com", Security::Opportunistic),
            hop("evil.example", Security::Opportunistic),
            hop("dane.example", dane.clone()),
        ];
        let policy = policy(Mode::Enforce, &["mx.example.com"]);
        let left = enforce(&policy, &domain, hops.clone()).unwrap();
        assert_eq!(left, [hop("mx.example.com", Security::Verified), hop("dane.example", dane)]);
        let none = enforce(&policy, &domain, hops[1..2].to_vec()).unwrap_err();
        assert!(none.is_transient() && none.text.contains("MTA-STS"), "{none}");
    }

    #[test]
    fn what_is_kept_is_read_back_until_it_has_aged() {
        let kept = Kept { id: "7".into(), fetched: 1000, policy: policy(Mode::Enforce, &["*.a.example"]) };
        assert_eq!(Kept::read(&kept.write()), Some(kept.clone()));
        assert!(kept.is_valid(1000 + 86_399) && !kept.is_valid(1000 + 86_400));
    }
}
