//! Questions to DNS. Answers as text (see [`DnsAnswer`]), with the proof of DNSSEC and a cache of both answers and denials.
//!
//! With [`Dnssec::Validate`] we check the signatures ourselves, from the root's key down, and need no trust in the servers that we
//! ask; but they must pass the signatures on. Those that do not would make every answer look forged, so
//! [`Resolver::check_dnssec`] tries at start, and if it does not get proof for the root's own keys, validation and with it DANE are off
//! until it does, and the caller is told to say so loudly.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_proto::dnssec::DnssecSummary;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as HickoryError, NetError};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use waypost_types::port::{Dns, DnsAnswer, DnsError, DnsType};
use waypost_types::{Domain, Task};

use crate::cache::Cache;
use crate::mta_sts::Policies;
use crate::plan::{Own, Plans};

/// Whether answers are proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dnssec {
    /// Nothing is ever secure; DANE is off.
    Off,
    /// Signatures are checked here.
    #[default]
    Validate,
}

/// The address families that this host can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6.
    #[default]
    Both,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

/// How to ask, and what we are ourselves.
#[derive(Clone, Debug)]
pub struct ResolverOptions {
    /// Servers to ask; those of the system (`/etc/resolv.conf`) if empty.
    pub servers: Vec<SocketAddr>,
    /// Whether answers are proved.
    pub dnssec: Dnssec,
    /// A file of trust anchors (DNSKEY or DS records as text) in place of the root's key.
    pub trust_anchor: Option<std::path::PathBuf>,
    /// Whether names in `/etc/hosts` count.
    pub hosts_file: bool,
    /// For one try at one server.
    pub timeout: Duration,
    /// Tries.
    pub attempts: usize,
    /// Answers kept.
    pub cache_entries_max: usize,
    /// The longest that an answer is kept, whatever it says.
    pub ttl_max: Duration,
    /// Families to look up.
    pub families: Families,
    /// Addresses in a plan (Postfix: `smtp_mx_address_limit` 5).
    pub addresses_max: usize,
    /// The port of SMTP between hosts. 25, but for tests.
    pub smtp_port: u16,
    /// Our own names and addresses, for loop detection.
    pub own: Own,
}

impl Default for ResolverOptions {
    fn default() -> ResolverOptions {
        ResolverOptions {
            servers: Vec::new(),
            dnssec: Dnssec::Validate,
            trust_anchor: None,
            hosts_file: true,
            timeout: Duration::from_secs(5),
            attempts: 2,
            cache_entries_max: 50_000,
            ttl_max: Duration::from_secs(3600),
            families: Families::Both,
            addresses_max: 5,
            smtp_port: 25,
            own: Own::default(),
        }
    }
}

/// Why there is no resolver.
#[derive(Debug)]
pub struct ResolveError(String);

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DNS: {}; name servers by address in the configuration, or repair /etc/resolv.conf", self.0)
    }
}

impl std::error::Error for ResolveError {}

/// A resolver with cache and DNSSEC validation. Also the server's [`Dns`]. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) options: ResolverOptions,
    validating: Option<TokioResolver>,
    plain: TokioResolver,
    validates: AtomicBool,
    answers: Cache<(Box<str>, DnsType), Result<Arc<Answer>, DnsError>>,
    pub(crate) plans: Plans,
    pub(crate) policies: OnceLock<Policies>,
}

/// What one question brought.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) answer: DnsAnswer,
    /// The name at the end of the chain of aliases, if there was one; without trailing dot.
    pub(crate) canonical: Option<String>,
    /// The first alias is proved, even if what it leads to is not.
    pub(crate) alias_secure: bool,
}

/// How long it is remembered that nobody answered.
const FAILURE_TTL: Duration = Duration::from_secs(5);
/// How long a denial without SOA record is remembered.
const DENIAL_TTL_DEFAULT: u32 = 30;
/// RFC 2308 §5 recommends a cap of one to three hours; a new host should not have to wait so long for its mail.
const DENIAL_TTL_MAX: u32 = 300;
/// Names that are tried for one address (RFC 8601 §3 leaves the count to us; ten is SPF's limit, RFC 7208 §4.6.4).
const PTR_NAMES_MAX: usize = 5;

impl Resolver {
    /// Sets up; asks nothing yet.
    pub fn new(options: ResolverOptions) -> Result<Resolver, ResolveError> {
        let validating = match options.dnssec {
            Dnssec::Validate => Some(build(&options, true)?),
            Dnssec::Off => None,
        };
        let shared = Shared {
            plain: build(&options, false)?,
            validates: AtomicBool::new(validating.is_some()),
            validating,
            answers: Cache::new(options.cache_entries_max),
            plans: Plans::new(options.cache_entries_max),
            policies: OnceLock::new(),
            options,
        };
        Ok(Resolver { shared: Arc::new(shared) })
    }

    /// From now on MTA-STS counts. Once: later calls change nothing.
    pub fn with_policies(&self, policies: Policies) {
        if self.shared.policies.set(policies).is_ok() {
            self.shared.plans.clear();
        }
    }

    /// Asks for the root's keys with proof. Without it validation is switched off (otherwise every answer would look forged) and the error
    /// says why; with it, on. Ask at start, and now and then after a failure.
    pub async fn check_dnssec(&self) -> Result<(), String> {
        let Some(validating) = &self.shared.validating else { return Ok(()) };
        let outcome = match validating.lookup(Name::root(), RecordType::DNSKEY).await {
            Ok(lookup) if DnssecSummary::from_records(lookup.answers().iter()) == DnssecSummary::Secure => Ok(()),
            Ok(_) => Err("the root's keys came without proof".to_string()),
            Err(error) => Err(error.to_string()),
        };
        let before = self.shared.validates.swap(outcome.is_ok(), Ordering::Relaxed);
        if before != outcome.is_ok() {
            self.forget();
        }
        outcome.map_err(|error| {
            format!(
                "the name servers do not pass DNSSEC on ({error}): DANE is off. Use a resolver that does, such as unbound on this host"
            )
        })
    }

    /// Whether answers are being validated now.
    pub fn is_validating(&self) -> bool {
        self.shared.validates.load(Ordering::Relaxed)
    }

    /// Empties the caches.
    pub fn forget(&self) {
        self.shared.answers.clear();
        self.shared.plans.clear();
    }

    /// Asks, through the cache.
    pub(crate) async fn ask(&self, name: &str, kind: DnsType) -> Result<Arc<Answer>, DnsError> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let key = (name.into_boxed_str(), kind);
        self.shared.answers.get(&key, self.ask_servers(&key.0, kind)).await
    }

    async fn ask_servers(&self, name: &str, kind: DnsType) -> (Result<Arc<Answer>, DnsError>, Duration) {
        // A name that DNS cannot carry does not exist.
        let Ok(mut absolute) = Name::from_ascii(name) else { return (Err(DnsError::NxDomain), FAILURE_TTL) };
        absolute.set_fqdn(true);
        let validating = self.shared.validating.as_ref().filter(|_| self.is_validating());
        let found = validating.unwrap_or(&self.shared.plain).lookup(absolute, record_type(kind)).await;
        match found {
            Ok(lookup) => self.positive(&lookup, name, kind),
            Err(error) => {
                let (error, ttl) = negative(&error);
                (Err(error), ttl)
            }
        }
    }

    fn positive(&self, lookup: &Lookup, name: &str, kind: DnsType) -> (Result<Arc<Answer>, DnsError>, Duration) {
        let mut wanted = lookup.answers().iter().filter(|record| record.record_type() == record_type(kind));
        let records: Vec<String> = wanted.clone().filter_map(|record| text(&record.data)).collect();
        let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(DENIAL_TTL_DEFAULT);
        let keep = Duration::from_secs(u64::from(ttl)).min(self.shared.options.ttl_max);
        if records.is_empty() {
            return (Err(DnsError::NoData), keep);
        }
        let secure = DnssecSummary::from_records(lookup.answers().iter()) == DnssecSummary::Secure;
        let last = wanted.next_back().map(|record| plain_name(&record.name));
        let answer = Answer {
            answer: DnsAnswer { records, ttl, secure },
            canonical: last.filter(|last| last != name),
            alias_secure: alias_is_secure(lookup, name),
        };
        (Ok(Arc::new(answer)), keep)
    }
}

/// Whether the records that stand at the very name that was asked for are all proved.
fn alias_is_secure(lookup: &Lookup, name: &str) -> bool {
    let first = lookup.answers().iter().filter(|record| plain_name(&record.name) == name);
    DnssecSummary::from_records(first) == DnssecSummary::Secure
}

fn build(options: &ResolverOptions, validate: bool) -> Result<TokioResolver, ResolveError> {
    let failed = |error: NetError| ResolveError(error.to_string());
    let mut builder = if options.servers.is_empty() {
        TokioResolver::builder_tokio().map_err(failed)?
    } else {
        explicit(&options.servers)
    };
    let settings = builder.options_mut();
    settings.validate = validate;
    settings.timeout = options.timeout;
    settings.attempts = options.attempts;
    settings.edns0 = true;
    settings.try_tcp_on_error = true;
    settings.use_hosts_file = if options.hosts_file { ResolveHosts::Always } else { ResolveHosts::Never };
    // Ours in front keeps denials too, which hickory's does not while it validates.
    settings.cache_size = 1024;
    settings.trust_anchor = options.trust_anchor.clone().filter(|_| validate);
    if let Some(path) = settings.trust_anchor.clone() {
        let anchors = hickory_proto::dnssec::TrustAnchors::from_file(&path)
            .map_err(|error| ResolveError(format!("trust anchors in {}: {error}", path.display())))?;
        builder = builder.with_trust_anchor(Arc::new(anchors));
    }
    builder.build().map_err(failed)
}

fn explicit(servers: &[SocketAddr]) -> ResolverBuilder<TokioRuntimeProvider> {
    let with_port = |server: &SocketAddr| {
        let mut config = NameServerConfig::udp_and_tcp(server.ip());
        config.connections.iter_mut().for_each(|connection| connection.port = server.port());
        config
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(with_port).collect());
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
}

impl Dns for Resolver {
    fn lookup<'a>(&'a self, name: &'a str, kind: DnsType) -> Task<'a, Result<DnsAnswer, DnsError>> {
        Box::pin(async move { self.ask(name, kind).await.map(|found| found.answer.clone()) })
    }

    fn confirmed_name(&self, address: IpAddr) -> Task<'_, Result<Option<Domain>, DnsError>> {
        Box::pin(self.confirm(address.to_canonical()))
    }
}

impl Resolver {
    async fn confirm(&self, address: IpAddr) -> Result<Option<Domain>, DnsError> {
        let zone = if address.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
        let reverse = format!("{}.{zone}", waypost_route::network::reversed(address));
        let names = match self.ask(&reverse, DnsType::Ptr).await {
            Ok(names) => names,
            Err(error) if error.is_transient() => return Err(error),
            Err(_) => return Ok(None),
        };
        let kind = if address.is_ipv4() { DnsType::A } else { DnsType::Aaaa };
        let mut unsure = None;
        for name in names.answer.records.iter().take(PTR_NAMES_MAX) {
            let Ok(domain) = Domain::parse(name.trim_end_matches('.')) else { continue };
            match self.ask(domain.as_str(), kind).await {
                Ok(found) if addresses(&found.answer).any(|found| found == address) => return Ok(Some(domain)),
                Err(error) if error.is_transient() => unsure = Some(error),
                _ => {}
            }
        }
        unsure.map_or(Ok(None), Err)
    }
}

/// The addresses of an answer to A or AAAA.
pub(crate) fn addresses(answer: &DnsAnswer) -> impl Iterator<Item = IpAddr> + '_ {
    answer.records.iter().filter_map(|record| record.parse().ok())
}

fn record_type(kind: DnsType) -> RecordType {
    match kind {
        DnsType::A => RecordType::A,
        DnsType::Aaaa => RecordType::AAAA,
        DnsType::Mx => RecordType::MX,
        DnsType::Txt => RecordType::TXT,
        DnsType::Ptr => RecordType::PTR,
        DnsType::Tlsa => RecordType::TLSA,
        DnsType::Cname => RecordType::CNAME,
        DnsType::Ns => RecordType::NS,
        DnsType::Srv => RecordType::SRV,
    }
}

/// A record as text, as [`DnsAnswer`] documents it. Names end with a dot.
fn text(data: &RData) -> Option<String> {
    Some(match data {
        RData::A(address) => address.0.to_string(),
        RData::AAAA(address) => address.0.to_string(),
        RData::MX(mx) => format!("{} {}", mx.preference, dotted(&mx.exchange)),
        RData::TXT(txt) => txt.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect(),
        RData::PTR(name) => dotted(&name.0),
        RData::CNAME(name) => dotted(&name.0),
        RData::NS(name) => dotted(&name.0),
        RData::TLSA(tlsa) => tlsa_text(tlsa),
        RData::SRV(srv) => format!("{} {} {} {}", srv.priority, srv.weight, srv.port, dotted(&srv.target)),
        _ => return None,
    })
}

fn tlsa_text(tlsa: &hickory_proto::rr::rdata::TLSA) -> String {
    let numbers = (u8::from(tlsa.cert_usage), u8::from(tlsa.selector), u8::from(tlsa.matching));
    let hex: String = tlsa.cert_data.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} {} {} {hex}", numbers.0, numbers.1, numbers.2)
}

fn dotted(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

fn plain_name(name: &Name) -> String {
    dotted(name).trim_end_matches('.').to_string()
}

/// What an error means, and how long to believe it.
fn negative(error: &NetError) -> (DnsError, Duration) {
    let denial = |code: ResponseCode, ttl: Option<u32>| {
        let kind = if code == ResponseCode::NXDomain { DnsError::NxDomain } else { DnsError::NoData };
        let ttl = ttl.unwrap_or(DENIAL_TTL_DEFAULT).min(DENIAL_TTL_MAX);
        (kind, Duration::from_secs(u64::from(ttl)))
    };
    match error {
        NetError::Dns(HickoryError::NoRecordsFound(none)) => {
            let soa = none.soa.as_ref().map(|soa| soa.ttl.min(soa.data.minimum));
            denial(none.response_code, none.negative_ttl.or(soa))
        }
        // A denial of an unsigned zone; forged ones come as DnssecBogus.
        NetError::Dns(HickoryError::Nsec { response, .. }) => {
            denial(response.response_code, negative_ttl(&response.authorities))
        }
        NetError::Dns(HickoryError::ResponseCode(ResponseCode::Refused)) => (DnsError::Refused, FAILURE_TTL),
        NetError::Timeout | NetError::NoConnections | NetError::Io(_) => (DnsError::Timeout, FAILURE_TTL),
        _ => (DnsError::ServFail, FAILURE_TTL),
    }
}

/// RFC 2308 §5: the lower of the SOA record's own TTL and its last field.
fn negative_ttl(authorities: &[Record]) -> Option<u32> {
    authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    })
}
