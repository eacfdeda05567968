//! Lists in the DNS (RFC 5782): a client on a permit list (DNSWL) is let by, a client on a block list (RBL) is refused, or
//! the lists' weights are added up.
//!
//! The order is kept and nothing is asked in vain: who is permitted already (fact `WHITELISTED`), logged in or of our own networks
//! is not looked up; then all permit lists are asked at once; only if none permits, all block lists at once; only if they refuse,
//! the reason. The answer holds for the connection: its next recipients and messages cost no question. A list that does not
//! answer, or answers that *we* are not welcome, has no opinion.

pub mod config;
pub mod mask;
pub mod verdict;

use std::net::IpAddr;

use config::{Config, List};
use verdict::Verdict;
use waypost_sdk::facts::WHITELISTED;
use waypost_sdk::types::DnsError;
use waypost_sdk::{Action, DnsQuery, Host, Outcome, Plugin, Recipient, RecordType, Registration, Reply, networks};

/// Where the verdict about a client is kept for the rest of its connection.
const KEPT: &str = "verdict";
/// Octets of a list's reason in a reply.
const REASON_MAX: usize = 200;

/// The plugin.
pub struct DnsLists {
    config: Config,
}

impl Plugin for DnsLists {
    fn init(host: &Host) -> Result<(Self, Registration), String> {
        let config: Config = waypost_sdk::settings(host)?;
        config.check()?;
        Ok((DnsLists { config }, Registration::new("dns-lists", env!("CARGO_PKG_VERSION")).only_inbound()))
    }

    fn rcpt(&mut self, host: &Host, recipient: &Recipient) -> Outcome {
        let config = &self.config;
        if (config.allow.is_empty() && config.deny.is_empty()) || config.is_exempt(&recipient.address) {
            return Ok(Action::Next);
        }
        let known = host.scores().symbols();
        let is_known = |symbol: &str| known.iter().any(|(name, _)| name == symbol);
        if is_known(WHITELISTED) {
            return Ok(Action::Next);
        }
        let session = host.session();
        let verdict = match session.get_var(KEPT).and_then(|kept| Verdict::from_bytes(&kept)) {
            Some(verdict) => verdict,
            None => {
                let verdict =
                    self.client_to_ask_about(host).map(|address| self.judge(host, address)).unwrap_or_default();
                session.set_var(KEPT, &verdict.to_bytes());
                verdict
            }
        };
        // Kept before the client logged in, it no longer holds.
        if verdict.refusal.is_some() && session.is_own() {
            return Ok(Action::Next);
        }
        // Once a transaction: facts add up.
        for fact in verdict.facts.iter().filter(|fact| !is_known(&fact.symbol)) {
            host.scores().add(&fact.symbol, fact.weight, Some(&fact.detail));
        }
        Ok(verdict.action())
    }
}

impl DnsLists {
    /// The client's address, unless no list can have a say about it.
    fn client_to_ask_about(&self, host: &Host) -> Option<IpAddr> {
        let session = host.session();
        let address = session.client_address()?;
        let spared = networks::is_private(address) || self.config.skip_networks.contains(address) || session.is_own();
        (!spared).then_some(address)
    }

    fn judge(&self, host: &Host, address: IpAddr) -> Verdict {
        let config = &self.config;
        let mut verdict = Verdict::default();
        let listed = ask(host, address, &config.allow);
        let permitting = listed.iter().any(|hit| hit.list.weight.is_none());
        verdict.facts.extend(listed.iter().map(|hit| hit.fact(hit.list.weight.unwrap_or(0.0))));
        if permitting {
            verdict.permits = true;
            return verdict;
        }
        let blocking = ask(host, address, &config.deny);
        verdict.facts.extend(blocking.iter().map(|hit| hit.fact(hit.list.weight.unwrap_or(config.refuse_at))));
        let sum: f64 = verdict.facts.iter().map(|fact| fact.weight).sum();
        // Sums of decimal weights: 0.1 + 0.2 must reach 0.3.
        if !blocking.is_empty() && sum + 1e-9 >= config.refuse_at {
            verdict.refusal = Some(self.refusal(host, address, &blocking));
        }
        verdict
    }

    /// The reply that Postfix gives, which administrators search for; the heaviest list is the one that is named.
    fn refusal(&self, host: &Host, address: IpAddr, hits: &[Hit<'_>]) -> Reply {
        let weight = |hit: &Hit<'_>| hit.list.weight.unwrap_or(f64::INFINITY);
        let heaviest = hits
            .iter()
            .reduce(|best, hit| if weight(hit) > weight(best) { hit } else { best })
            .expect("asked with hits only");
        let list = heaviest.list;
        let reason = match &list.reason {
            Some(text) => Some(text.replace("{ip}", &address.to_string())),
            None => host.dns().records(&query_name(address, &list.zone), RecordType::Txt).into_iter().next(),
        };
        let reason = reason.map(|text| printable(&text)).filter(|text| !text.is_empty());
        let text = format!("Service unavailable; client [{address}] blocked using {}", list.shown());
        let text = reason.map(|reason| format!("{text}; {reason}")).unwrap_or(text);
        Reply::new(554, (5, 7, 1), text)
    }
}

/// A list that has the client.
struct Hit<'a> {
    list: &'a List,
    answer: String,
}

impl Hit<'_> {
    fn fact(&self, weight: f64) -> verdict::Fact {
        verdict::Fact { symbol: self.list.symbol(), weight, detail: format!("{} {}", self.list.shown(), self.answer) }
    }
}

/// Asks all lists at once and gives those that have the client.
fn ask<'a>(host: &Host, address: IpAddr, lists: &'a [List]) -> Vec<Hit<'a>> {
    let asked: Vec<&List> = lists.iter().filter(|list| list.ipv6 || address.is_ipv4()).collect();
    if asked.is_empty() {
        return Vec::new();
    }
    let queries: Vec<DnsQuery> =
        asked.iter().map(|list| DnsQuery::new(query_name(address, &list.zone), RecordType::A)).collect();
    let answers = host.dns().lookup_many(&queries);
    let hits = asked.into_iter().zip(answers).filter_map(|(list, answer)| match answer {
        Ok(answer) => hit(host, list, &answer.records),
        Err(DnsError::Nxdomain | DnsError::Nodata) => None,
        Err(error) => {
            host.env().metric_add("unanswered", 1.0);
            host.env().debug(|| format!("{} gave no answer: {error:?}", list.shown()));
            None
        }
    });
    hits.collect()
}

/// The first record that is a listing. Others are told apart, since they mean that the list does not serve us.
fn hit<'a>(host: &Host, list: &'a List, records: &[String]) -> Option<Hit<'a>> {
    for record in records {
        match mask::read(record, &list.replies) {
            mask::Reading::Listed => return Some(Hit { list, answer: record.clone() }),
            mask::Reading::NotMeant => {}
            mask::Reading::NotServed => {
                host.env().metric_add("refused", 1.0);
                host.env().warn(&format!(
                    "{} answers {record}: no listing, it does not serve this resolver (use your own resolver, or a key of the list)",
                    list.shown()
                ));
            }
        }
    }
    None
}

/// `2.0.0.127.zone`, or the nibbles of an IPv6 address (RFC 5782 §2.1, §2.4).
fn query_name(address: IpAddr, zone: &str) -> String {
    let mut name = String::with_capacity(72 + zone.len());
    match address {
        IpAddr::V4(four) => {
            for octet in four.octets().iter().rev() {
                name.push_str(&octet.to_string());
                name.push('.');
            }
        }
        IpAddr::V6(six) => {
            for octet in six.octets().iter().rev() {
                for nibble in [octet & 15, octet >> 4] {
                    name.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is a hex digit"));
                    name.push('.');
                }
            }
        }
    }
    name + zone
}

/// A list's text comes from outside: printable ASCII, and not too much of it.
fn printable(text: &str) -> String {
    text.trim().chars().filter(|c| matches!(c, ' '..='~')).take(REASON_MAX).collect()
}

waypost_sdk::export!(DnsLists: rcpt);

#[cfg(test)]
mod tests;
