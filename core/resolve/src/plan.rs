//! From a next hop to the hosts to try: RFC 5321 §5.1, RFC 7505 (null MX), RFC 7672 §2.2 (which hosts are asked for TLSA).
//!
//! | what DNS says | what the mail gets |
//! |---|---|
//! | no MX, but an address | the domain itself is its host (implicit MX) |
//! | `MX 0 .`, or nothing but `localhost` | 556 5.1.10 |
//! | the domain does not exist | 550 5.1.2 |
//! | a server failed or did not answer, or the answer is forged | 451 4.4.3 |
//! | MX, but no host of them has an address | 451 4.4.4, never the domain's own address |
//! | we are the best host ourselves | 554 5.4.6; the tables should have known the domain |
//! | better hosts than we exist but have no address now | 451 4.4.4 |
//! | no host is among those that the domain's MTA-STS policy names | 451 4.7.5 |
//!
//! Hosts of equal preference are shuffled for every plan. Addresses of a host alternate between the families, so that a dead IPv6 network
//! does not use up the tries. What is the same for all messages is kept for a minute.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use waypost_route::NextHop;
use waypost_types::port::{DnsError, DnsType};
use waypost_types::{Domain, Enhanced, Host, Reply, Security};

use crate::cache::Cache;
use crate::client::{Answer, Families, Resolver, addresses};
use crate::mta_sts::Policy;

/// One host to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its name, for SNI, certificates and the log; the address as text if it has none.
    pub host: String,
    /// Its addresses, in the order in which to try them. Never empty.
    pub addresses: Vec<IpAddr>,
    /// Port.
    pub port: u16,
    /// How it must be secured.
    pub security: Security,
}

/// The hosts for a next hop, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Never empty.
    pub hops: Vec<Hop>,
    /// Names the group of hosts: domains that share it share budgets and connections.
    pub provider: Arc<str>,
    /// Whose policy it follows; `None` for hosts that were not found by a domain's MX records.
    pub applied: Option<Arc<Applied>>,
}

/// The policy behind a plan, for TLS reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The recipients' domain.
    pub domain: Domain,
    /// Its MTA-STS policy, enforced or being tested.
    pub sts: Option<Arc<Policy>>,
}

/// What we are ourselves: mail that would come back is not sent (RFC 5321 §5.1).
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Names that we answer to: an MX record with one of them is ours.
    pub names: Vec<Domain>,
    /// Our addresses, also those that a translator shows outside. Loopback counts without being named.
    pub addresses: Vec<IpAddr>,
    /// The ports at which we take mail from other hosts. An address is ours only together with one of them, so that a sink or a
    /// filter beside us is not.
    pub ports: Vec<u16>,
}

impl Own {
    fn is_name(&self, host: &str) -> bool {
        self.names.iter().any(|name| name.as_str() == host)
    }

    fn is_endpoint(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        self.ports.contains(&port) && (address.is_loopback() || self.addresses.contains(&address))
    }
}

/// Plans by domain, as they are before shuffling.
pub(crate) struct Plans {
    cache: Cache<Domain, Result<Arc<Ranked>, Reply>>,
}

/// The hosts of a domain with their preferences, in ascending order.
#[derive(Debug)]
struct Ranked {
    hops: Vec<(u16, Hop)>,
    provider: Arc<str>,
    applied: Arc<Applied>,
}

/// How long a plan is kept. Short, so that no record is believed much longer than it says.
const PLAN_TTL: Duration = Duration::from_secs(60);
/// How long the lack of one is kept: while that lasts, mail for the domain costs no look-ups.
const FAILURE_TTL: Duration = Duration::from_secs(15);
/// Hosts of a domain that are looked up; the best ones.
const HOSTS_MAX: usize = 20;
/// Octets of a provider's name before it is shortened to a hash.
const PROVIDER_BYTES_MAX: usize = 128;

impl Plans {
    pub(crate) fn new(entries_max: usize) -> Plans {
        Plans { cache: Cache::new(entries_max) }
    }

    pub(crate) fn clear(&self) {
        self.cache.clear();
    }
}

impl Resolver {
    /// The hosts for a next hop; an error is the reply to settle the recipients with (4yz: later, 5yz: never).
    pub async fn plan(&self, next_hop: &NextHop) -> Result<Plan, Reply> {
        match next_hop {
            NextHop::Mx(domain) => self.plan_mx(domain).await,
            NextHop::Host(Host::Name(name), port) => self.plan_host(name, *port).await,
            NextHop::Host(Host::Literal(address), port) | NextHop::Literal(address, port) => {
                self.plan_address(*address, *port)
            }
            NextHop::Lmtp(address) => Ok(plan_lmtp(*address)),
            NextHop::LmtpSocket(path) => {
                Err(Reply::new(451, Enhanced(4, 3, 5), format!("{path} is not reached over the network")))
            }
            NextHop::Post(name) | NextHop::Pipe(name) => {
                Err(Reply::new(451, Enhanced(4, 3, 5), format!("{name} is not reached by SMTP")))
            }
            NextHop::Fail(text) => Err(failure(text)),
            NextHop::Later(text) => Err(Reply::new(451, Enhanced(4, 3, 0), text.to_string())),
            NextHop::Mailbox(name) => {
                Err(Reply::new(451, Enhanced(4, 3, 5), format!("mailbox {name} is not reached over the network")))
            }
        }
    }

    async fn plan_mx(&self, domain: &Domain) -> Result<Plan, Reply> {
        let make = async {
            let ranked = self.rank(domain).await.map(Arc::new);
            let keep = if ranked.is_ok() { PLAN_TTL } else { FAILURE_TTL };
            (ranked, keep)
        };
        let ranked = self.shared.plans.cache.get(domain, make).await?;
        Ok(shuffled(&ranked))
    }

    /// One host by name: its addresses, no MX. DANE applies all the same (RFC 7672 §2.2.1, last paragraph).
    async fn plan_host(&self, name: &Domain, port: u16) -> Result<Plan, Reply> {
        let mut found = self.host_addresses(name.as_str().to_string()).await;
        if let Some(error) = found.error {
            return Err(no_address(name.as_str(), error));
        }
        if found.addresses.iter().any(|address| self.shared.options.own.is_endpoint(*address, port)) {
            return Err(loops_back(name.as_str()));
        }
        found.addresses.truncate(self.shared.options.addresses_max);
        let provider = format!("{name}:{port}").into();
        let hop = self.hop(found, port, true).await.map_err(|error| dane_failed(name.as_str(), error))?;
        Ok(Plan { hops: vec![hop], provider, applied: None })
    }

    fn plan_address(&self, address: IpAddr, port: u16) -> Result<Plan, Reply> {
        if self.shared.options.own.is_endpoint(address, port) {
            return Err(loops_back(&address.to_string()));
        }
        Ok(plan_of_address(address, port, Security::Opportunistic))
    }

    async fn rank(&self, domain: &Domain) -> Result<Ranked, Reply> {
        let own = &self.shared.options.own;
        let port = self.shared.options.smtp_port;
        let Exchanges { mut hosts, implicit, secure } = self.exchanges(domain).await?;
        let provider = provider(hosts.iter().map(|(_, host)| host.as_str()));
        let mut ours = hosts.iter().filter(|(_, host)| own.is_name(host)).map(|(preference, _)| *preference).min();
        let best = hosts[0].0;
        hosts.retain(|(preference, _)| ours.is_none_or(|ours| *preference < ours));
        hosts.truncate(HOSTS_MAX);

        let mut found = self.all_addresses(hosts).await;
        let at_us = |found: &Found| found.addresses.iter().any(|address| own.is_endpoint(*address, port));
        let by_address = found.iter().filter(|(_, found)| at_us(found)).map(|(preference, _)| *preference).min();
        ours = ours.into_iter().chain(by_address).min();
        if ours == Some(best) {
            return Err(loops_back(domain.as_str()));
        }
        found.retain(|(preference, _)| ours.is_none_or(|ours| *preference < ours));

        if found.iter().all(|(_, found)| found.addresses.is_empty()) {
            return Err(unreachable(domain, implicit, found.iter().filter_map(|(_, found)| found.error)));
        }
        found.retain(|(_, found)| !found.addresses.is_empty());
        share_addresses(&mut found, self.shared.options.addresses_max);
        let hops = self.hops(found, port, secure).await.map_err(|error| dane_failed(domain.as_str(), error))?;
        let sts = self.policy(domain).await.map(Arc::new);
        let hops = Resolver::under_policy(sts.as_deref(), domain, hops)?;
        Ok(Ranked { hops, provider, applied: Arc::new(Applied { domain: domain.clone(), sts }) })
    }

    /// The MX records, best first, without those that mean nobody; never empty.
    async fn exchanges(&self, domain: &Domain) -> Result<Exchanges, Reply> {
        let found = match self.ask(domain.as_str(), DnsType::Mx).await {
            Ok(found) => found,
            Err(DnsError::NoData) => {
                // The denial of a signed zone was proved, or it would have been an error; whether the zone is signed shows with the address.
                let hosts = vec![(0, domain.as_str().to_string())];
                return Ok(Exchanges { hosts, implicit: true, secure: true });
            }
            Err(DnsError::NxDomain) => {
                return Err(Reply::new(550, Enhanced(5, 1, 2), format!("domain {domain} does not exist")));
            }
            Err(error) => return Err(lookup_failed("MX", domain.as_str(), error)),
        };
        let mut hosts: Vec<(u16, String)> = found.answer.records.iter().filter_map(|record| exchange(record)).collect();
        if hosts.is_empty() {
            return Err(Reply::new(556, Enhanced(5, 1, 10), format!("domain {domain} takes no mail (null MX)")));
        }
        hosts.sort();
        hosts.dedup_by(|later, earlier| later.1 == earlier.1);
        Ok(Exchanges { hosts, implicit: false, secure: found.answer.secure })
    }

    async fn all_addresses(&self, hosts: Vec<(u16, String)>) -> Vec<(u16, Found)> {
        if let [(preference, host)] = hosts.as_slice() {
            return vec![(*preference, self.host_addresses(host.clone()).await)];
        }
        let mut tasks = JoinSet::new();
        for (at, (preference, host)) in hosts.into_iter().enumerate() {
            let resolver = self.clone();
            tasks.spawn(async move { (at, preference, resolver.host_addresses(host).await) });
        }
        let mut found = tasks.join_all().await;
        found.sort_by_key(|(at, ..)| *at);
        found.into_iter().map(|(_, preference, found)| (preference, found)).collect()
    }

    /// Both families of one host, alternating, IPv6 first.
    async fn host_addresses(&self, host: String) -> Found {
        let skipped = async |_: &str| Err(DnsError::NoData);
        let (v4, v6) = match self.shared.options.families {
            Families::Both => tokio::join!(self.ask(&host, DnsType::A), self.ask(&host, DnsType::Aaaa)),
            Families::V4 => tokio::join!(self.ask(&host, DnsType::A), skipped(&host)),
            Families::V6 => tokio::join!(skipped(&host), self.ask(&host, DnsType::Aaaa)),
        };
        found(host, v4, v6)
    }

    async fn hops(&self, found: Vec<(u16, Found)>, port: u16, secure: bool) -> Result<Vec<(u16, Hop)>, DnsError> {
        let mut hops = Vec::with_capacity(found.len());
        let mut failed = None;
        for (preference, found) in found {
            // A host whose TLSA records cannot be had is passed over now (RFC 7672 §2.1.2); the others serve.
            match self.hop(found, port, secure).await {
                Ok(hop) => hops.push((preference, hop)),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if hops.is_empty() => Err(error),
            _ => Ok(hops),
        }
    }

    /// Finds out what a host demands. DANE comes first; MTA-STS has its say where DANE has none (`under_policy`).
    async fn hop(&self, found: Found, port: u16, secure: bool) -> Result<Hop, DnsError> {
        let Found { host, addresses, answers, .. } = found;
        if !secure || !self.is_validating() {
            return Ok(Hop { host, addresses, port, security: Security::Opportunistic });
        }
        let demand = self.demand(&host, port, &answers).await?;
        Ok(Hop { host: demand.base.unwrap_or(host), addresses, port, security: demand.security })
    }
}

/// The hosts that a domain names.
struct Exchanges {
    hosts: Vec<(u16, String)>,
    implicit: bool,
    secure: bool,
}

/// What is known about one host.
struct Found {
    host: String,
    addresses: Vec<IpAddr>,
    answers: Vec<Arc<Answer>>,
    /// Why there are no addresses.
    error: Option<DnsError>,
}

type Asked = Result<Arc<Answer>, DnsError>;

fn found(host: String, v4: Asked, v6: Asked) -> Found {
    let of =
        |asked: &Asked| asked.as_ref().map(|found| addresses(&found.answer).collect::<Vec<_>>()).unwrap_or_default();
    let addresses = alternating(of(&v6), of(&v4));
    let error = addresses.is_empty().then(|| worse(v4.as_ref().err(), v6.as_ref().err()));
    Found { host, addresses, answers: v4.into_iter().chain(v6).collect(), error }
}

/// Of two failures the one that leaves hope; `NoData` says more than `NxDomain` of the other family could.
fn worse(one: Option<&DnsError>, other: Option<&DnsError>) -> DnsError {
    let both = || [one, other].into_iter().flatten().copied();
    both().find(|error| error.is_transient()).or_else(|| both().next()).unwrap_or(DnsError::NoData)
}

/// Each family in random order, taking turns.
fn alternating(mut first: Vec<IpAddr>, mut second: Vec<IpAddr>) -> Vec<IpAddr> {
    fastrand::shuffle(&mut first);
    fastrand::shuffle(&mut second);
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = (first.next(), second.next());
        if pair == (None, None) {
            return mixed;
        }
        mixed.extend(pair.0.into_iter().chain(pair.1));
    }
}

/// `10 mx.example.` in parts, unless it means nobody: the root (RFC 7505), or a name that every host gives to itself.
fn exchange(record: &str) -> Option<(u16, String)> {
    let (preference, host) = record.split_once(' ')?;
    let host = host.trim_end_matches('.');
    let nobody =
        host.is_empty() || host == "localhost" || host.ends_with(".localhost") || host == "localhost.localdomain";
    (!nobody).then(|| preference.parse().ok().map(|preference| (preference, host.to_string()))).flatten()
}

/// Cuts the addresses down to the limit: the first host may not use it all up while others wait, so each gets one, then the better ones
/// get a second, and so on.
fn share_addresses(found: &mut Vec<(u16, Found)>, addresses_max: usize) {
    let limit = addresses_max.max(1);
    found.truncate(limit);
    let mut shares = vec![0_usize; found.len()];
    let mut left = limit;
    loop {
        let before = left;
        for (share, (_, found)) in shares.iter_mut().zip(found.iter()) {
            if left > 0 && *share < found.addresses.len() {
                *share += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    for (share, (_, found)) in shares.into_iter().zip(found.iter_mut()) {
        found.addresses.truncate(share);
    }
}

/// A plan in which hosts of equal preference stand in random order.
fn shuffled(ranked: &Ranked) -> Plan {
    let mut hops: Vec<(u16, Hop)> = ranked.hops.clone();
    if hops.len() > 1 {
        hops.chunk_by_mut(|a, b| a.0 == b.0).for_each(fastrand::shuffle);
    }
    Plan {
        hops: hops.into_iter().map(|(_, hop)| hop).collect(),
        provider: ranked.provider.clone(),
        applied: Some(ranked.applied.clone()),
    }
}

/// The names of all hosts, sorted: domains with the same hosts have the same provider. Long lists end in a hash.
fn provider<'a>(hosts: impl Iterator<Item = &'a str>) -> Arc<str> {
    let mut names: Vec<&str> = hosts.collect();
    names.sort_unstable();
    let joined = names.join(",");
    if joined.len() <= PROVIDER_BYTES_MAX {
        return joined.into();
    }
    // FNV-1a: the same in every process and version, since names of providers end up in logs and rules.
    let hash = joined
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{}+{}#{hash:016x}", names[0], names.len() - 1).into()
}

fn plan_of_address(address: IpAddr, port: u16, security: Security) -> Plan {
    let hop = Hop { host: address.to_string(), addresses: vec![address], port, security };
    Plan { hops: vec![hop], provider: SocketAddr::new(address, port).to_string().into(), applied: None }
}

/// LMTP is spoken to our own store, on this host or in our own network.
fn plan_lmtp(address: SocketAddr) -> Plan {
    plan_of_address(address.ip(), address.port(), Security::Plain)
}

/// The operator's words, with their own status if they begin with one.
fn failure(text: &str) -> Reply {
    let (status, words) = Enhanced::parse_prefix(text).unwrap_or((Enhanced(5, 4, 4), text));
    let code = if status.0 == 4 { 450 } else { 550 };
    let status = if status.0 == 2 { Enhanced(5, 4, 4) } else { status };
    Reply::new(code, status, words.to_string())
}

fn loops_back(what: &str) -> Reply {
    let text = format!("mail for {what} loops back to this host; if it is ours, add it to the domains of our own");
    Reply::new(554, Enhanced(5, 4, 6), text)
}

fn lookup_failed(kind: &str, name: &str, error: DnsError) -> Reply {
    Reply::new(451, Enhanced(4, 4, 3), format!("{kind} lookup of {name}: {error}"))
}

/// A host that the operator or the domain itself names has no address.
fn no_address(host: &str, error: DnsError) -> Reply {
    match error {
        DnsError::NxDomain => Reply::new(550, Enhanced(5, 1, 2), format!("host {host} does not exist")),
        DnsError::NoData => Reply::new(550, Enhanced(5, 1, 2), format!("{host} has neither MX nor address")),
        error => lookup_failed("address", host, error),
    }
}

/// No host has an address: never again if there was only the domain itself, otherwise later.
fn unreachable(domain: &Domain, implicit: bool, errors: impl Iterator<Item = DnsError>) -> Reply {
    let errors: Vec<DnsError> = errors.collect();
    match errors.iter().find(|error| error.is_transient()) {
        Some(error) => lookup_failed("address of the mail hosts", domain.as_str(), *error),
        None if implicit => no_address(domain.as_str(), errors.first().copied().unwrap_or(DnsError::NoData)),
        None => Reply::new(451, Enhanced(4, 4, 4), format!("no mail host of {domain} has an address")),
    }
}

fn dane_failed(name: &str, error: DnsError) -> Reply {
    Reply::new(451, Enhanced(4, 7, 5), format!("TLSA lookup for {name}: {error}; its security cannot be known now"))
}
