//! SPF (RFC 7208), evaluated by ourselves over [`Dns`]: the library's own evaluator fails a quarter of the RFC's suite.
//!
//! | page | what it holds |
//! |---|---|
//! | this | [`evaluate`]: `check_host()` with its limits on lookups |
//! | `record` | the grammar |
//! | `expand` | macros |

mod expand;
mod record;

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use waypost_types::Task;
use waypost_types::port::{Dns, DnsError, DnsType};

use self::expand::{MacroString, Values};
use self::record::{Cidr, Directive, Mechanism, Record, is_spf};

/// Terms that cost a lookup (§4.6.4).
const LOOKUPS_MAX: u32 = 10;
/// Lookups without an answer (§4.6.4).
const VOID_LOOKUPS_MAX: u32 = 2;
/// Hosts of one `mx` and names of one `ptr` (§4.6.4).
const HOSTS_MAX: usize = 10;

/// The result of a check (§2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SpfResult {
    None,
    Neutral,
    Pass,
    Fail,
    SoftFail,
    TempError,
    PermError,
}

impl SpfResult {
    /// The word of RFC 8601.
    pub fn word(self) -> &'static str {
        match self {
            SpfResult::None => "none",
            SpfResult::Neutral => "neutral",
            SpfResult::Pass => "pass",
            SpfResult::Fail => "fail",
            SpfResult::SoftFail => "softfail",
            SpfResult::TempError => "temperror",
            SpfResult::PermError => "permerror",
        }
    }
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Problem(&'static str);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct SpfQuestion<'a> {
    /// The client.
    pub ip: IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// The local part of the identity; empty means `postmaster` (§4.3).
    pub local: &'a str,
    /// The domain of the identity: of MAIL FROM, or HELO's name.
    pub domain: &'a str,
    /// Who we are, for `%{r}`.
    pub receiver: &'a str,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpfAnswer {
    /// The result.
    pub result: SpfResult,
    /// What is wrong with the record, for `permerror`.
    pub problem: Option<&'static str>,
    /// The domain's own words for a `fail` (§6.2). Written by strangers.
    pub explanation: Option<String>,
}

/// Checks an identity. The number of questions to DNS is bounded; time is the caller's to bound.
pub async fn evaluate(dns: &dyn Dns, question: SpfQuestion<'_>) -> SpfAnswer {
    let mut check = Check { dns, ip: question.ip.to_canonical(), question, lookups: 0, voids: 0 };
    let ended = check.host(question.domain.trim_end_matches('.').to_string()).await;
    let (result, problem) = match ended {
        Ok(Ended { result, .. }) => (result, None),
        Err(Stop::Temporary) => (SpfResult::TempError, None),
        Err(Stop::Permanent(problem)) => (SpfResult::PermError, Some(problem)),
    };
    let explanation = match ended {
        Ok(Ended { result: SpfResult::Fail, exp: Some((exp, domain)) }) => check.explain(&exp, &domain).await,
        _ => None,
    };
    SpfAnswer { result, problem, explanation }
}

/// The end of an evaluation before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Temporary,
    Permanent(&'static str),
}

impl From<Problem> for Stop {
    fn from(Problem(problem): Problem) -> Stop {
        Stop::Permanent(problem)
    }
}

struct Ended {
    result: SpfResult,
    /// The explanation's place and the domain whose record named it.
    exp: Option<(MacroString, String)>,
}

impl Ended {
    fn with(result: SpfResult) -> Ended {
        Ended { result, exp: None }
    }
}

struct Check<'a> {
    dns: &'a dyn Dns,
    /// Unmapped: an IPv4 client is one whichever way its address is written.
    ip: IpAddr,
    question: SpfQuestion<'a>,
    lookups: u32,
    voids: u32,
}

impl Check<'_> {
    /// `check_host()` for a domain; boxed, since `include` and `redirect` come back here.
    fn host(&mut self, domain: String) -> Task<'_, Result<Ended, Stop>> {
        Box::pin(async move {
            if !is_host_name(&domain) {
                return Ok(Ended::with(SpfResult::None));
            }
            let Some(text) = self.record(&domain).await? else { return Ok(Ended::with(SpfResult::None)) };
            let record = Record::parse(&text)?;
            for Directive { result, mechanism } in &record.directives {
                if self.matches(mechanism, &domain).await? {
                    return Ok(Ended { result: *result, exp: record.exp.map(|exp| (exp, domain)) });
                }
            }
            match &record.redirect {
                Some(target) => self.redirect(target, &domain).await,
                None => Ok(Ended::with(SpfResult::Neutral)),
            }
        })
    }

    async fn redirect(&mut self, target: &MacroString, domain: &str) -> Result<Ended, Stop> {
        self.count_lookup()?;
        let target = self.name(target, domain).await?;
        let ended = self.host(target).await?;
        match ended.result {
            SpfResult::None => Err(Stop::Permanent("redirect leads to a domain without SPF")),
            _ => Ok(ended),
        }
    }

    /// The one SPF record of a domain.
    async fn record(&mut self, domain: &str) -> Result<Option<String>, Stop> {
        let texts = match self.dns.lookup(domain, DnsType::Txt).await {
            Ok(answer) => answer.records,
            Err(error) if error.is_transient() => return Err(Stop::Temporary),
            Err(_) => return Ok(None),
        };
        let mut records = texts.into_iter().filter(|text| is_spf(text));
        let first = records.next();
        match records.next() {
            Some(_) => Err(Stop::Permanent("several SPF records")),
            None => Ok(first),
        }
    }

    async fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Result<bool, Stop> {
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4(network, length) => Ok(in_network(self.ip, IpAddr::V4(*network), *length)),
            Mechanism::Ip6(network, length) => Ok(in_network(self.ip, IpAddr::V6(*network), *length)),
            Mechanism::Include(target) => self.include(target, domain).await,
            Mechanism::A(target, cidr) => self.a(target.as_ref(), *cidr, domain).await,
            Mechanism::Mx(target, cidr) => self.mx(target.as_ref(), *cidr, domain).await,
            Mechanism::Ptr(target) => self.ptr(target.as_ref(), domain).await,
            Mechanism::Exists(target) => {
                self.count_lookup()?;
                let name = self.name(target, domain).await?;
                // Always A, whatever the client's family (§5.7).
                Ok(!self.ask(&name, DnsType::A).await?.is_empty())
            }
        }
    }

    async fn include(&mut self, target: &MacroString, domain: &str) -> Result<bool, Stop> {
        self.count_lookup()?;
        let target = self.name(target, domain).await?;
        match self.host(target).await?.result {
            SpfResult::Pass => Ok(true),
            SpfResult::None => Err(Stop::Permanent("include leads to a domain without SPF")),
            _ => Ok(false),
        }
    }

    async fn a(&mut self, target: Option<&MacroString>, cidr: Cidr, domain: &str) -> Result<bool, Stop> {
        self.count_lookup()?;
        let name = self.name_or(target, domain).await?;
        self.has_address(&name, cidr).await
    }

    async fn mx(&mut self, target: Option<&MacroString>, cidr: Cidr, domain: &str) -> Result<bool, Stop> {
        self.count_lookup()?;
        let name = self.name_or(target, domain).await?;
        let hosts = self.ask(&name, DnsType::Mx).await?;
        if hosts.len() > HOSTS_MAX {
            return Err(Stop::Permanent("more than ten MX hosts"));
        }
        for host in &hosts {
            // `10 mx.example.`
            let host = host.rsplit(' ').next().unwrap_or(host).trim_end_matches('.');
            if !host.is_empty() && self.has_address(host, cidr).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn ptr(&mut self, target: Option<&MacroString>, domain: &str) -> Result<bool, Stop> {
        self.count_lookup()?;
        let name = self.name_or(target, domain).await?;
        let names = self.validated_names().await;
        Ok(names.iter().any(|validated| is_within(validated, &name)))
    }

    async fn has_address(&mut self, name: &str, cidr: Cidr) -> Result<bool, Stop> {
        let (kind, length) = if self.ip.is_ipv4() { (DnsType::A, cidr.v4) } else { (DnsType::Aaaa, cidr.v6) };
        let addresses = self.ask(name, kind).await?;
        let ip = self.ip;
        Ok(addresses.iter().filter_map(|text| text.parse().ok()).any(|address| in_network(ip, address, length)))
    }

    /// The client's names that lead back to it (§5.5). DNS errors make names fewer, not the check fail.
    async fn validated_names(&mut self) -> Vec<String> {
        let reverse = reverse_name(self.ip);
        let Ok(answer) = self.dns.lookup(&reverse, DnsType::Ptr).await else { return Vec::new() };
        let mut validated = Vec::new();
        for name in answer.records.iter().take(HOSTS_MAX) {
            let name = name.trim_end_matches('.');
            let kind = if self.ip.is_ipv4() { DnsType::A } else { DnsType::Aaaa };
            let Ok(addresses) = self.dns.lookup(name, kind).await else { continue };
            if addresses.records.iter().any(|text| text.parse() == Ok(self.ip)) {
                validated.push(name.to_ascii_lowercase());
            }
        }
        validated
    }

    /// What `%{p}` stands for: the domain itself if it is among the names, else one below it, else any.
    async fn validated_name(&mut self, domain: &str) -> String {
        let names = self.validated_names().await;
        let same = names.iter().find(|name| name.eq_ignore_ascii_case(domain));
        let below = names.iter().find(|name| is_within(name, domain));
        same.or(below).or(names.first()).cloned().unwrap_or_else(|| "unknown".to_string())
    }

    async fn name_or(&mut self, target: Option<&MacroString>, domain: &str) -> Result<String, Stop> {
        match target {
            Some(target) => self.name(target, domain).await,
            None => Ok(domain.to_string()),
        }
    }

    async fn name(&mut self, target: &MacroString, domain: &str) -> Result<String, Stop> {
        let name = if target.uses(b'p') { self.validated_name(domain).await } else { String::new() };
        Ok(target.expand_name(&self.values(domain, &name)))
    }

    fn values<'v>(&'v self, domain: &'v str, name: &'v str) -> Values<'v> {
        let SpfQuestion { local, helo, receiver, domain: sender_domain, .. } = self.question;
        let local = if local.is_empty() { "postmaster" } else { local };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Values { local, sender_domain, domain, ip: self.ip, helo, name, receiver, now }
    }

    /// A question whose empty answer counts.
    async fn ask(&mut self, name: &str, kind: DnsType) -> Result<Vec<String>, Stop> {
        // What cannot be a name has no records (§4.3, §4.8).
        let answer = if is_askable(name) { self.dns.lookup(name, kind).await } else { Err(DnsError::NxDomain) };
        match answer {
            Ok(answer) => Ok(answer.records),
            Err(error) if error.is_transient() => Err(Stop::Temporary),
            Err(_) => {
                self.voids += 1;
                if self.voids > VOID_LOOKUPS_MAX {
                    return Err(Stop::Permanent("more than two lookups without an answer"));
                }
                Ok(Vec::new())
            }
        }
    }

    fn count_lookup(&mut self) -> Result<(), Stop> {
        self.lookups += 1;
        if self.lookups > LOOKUPS_MAX {
            return Err(Stop::Permanent("more than ten lookups"));
        }
        Ok(())
    }

    /// The domain's words for a failure. Whatever is wrong with them, there are none (§6.2).
    async fn explain(&mut self, exp: &MacroString, domain: &str) -> Option<String> {
        let target = self.name(exp, domain).await.ok()?;
        let answer = self.dns.lookup(&target, DnsType::Txt).await.ok()?;
        let [text] = answer.records.as_slice() else { return None };
        let text = MacroString::parse(text, true).ok()?;
        let name = if text.uses(b'p') { self.validated_name(domain).await } else { String::new() };
        let words = text.expand(&self.values(domain, &name));
        // §6.2: printable ASCII. What the macros brought in (a sender's name, say) need not be.
        words.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()).then_some(words)
    }
}

/// A name that can have an SPF record: several labels, each of 1 to 63 octets (§4.3).
fn is_host_name(domain: &str) -> bool {
    domain.contains('.') && is_askable(domain)
}

fn is_askable(name: &str) -> bool {
    !name.is_empty() && name.len() <= 253 && name.split('.').all(|label| (1..=63).contains(&label.len()))
}

fn is_within(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.to_ascii_lowercase(), domain.to_ascii_lowercase());
    name.strip_suffix(&domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// Families never match each other.
fn in_network(ip: IpAddr, network: IpAddr, length: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            ip.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            ip.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            let mut name: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            name.push_str("ip6.arpa");
            name
        }
    }
}

#[cfg(test)]
mod tests;
