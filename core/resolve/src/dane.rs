//! TLSA records of a mail host: when they are looked up (RFC 7672 §2.2), and which of them count (§3.1).

use std::sync::Arc;

use waypost_types::port::{DnsError, DnsType};
use waypost_types::{Security, Tlsa};

use crate::client::{Answer, Resolver};

/// Records of one host that are taken into account.
const RECORDS_MAX: usize = 32;

/// What a host demands, and the name under which it demands it.
pub(crate) struct Demand {
    pub(crate) security: Security,
    /// The TLSA base domain, if it is another name than the host's own: it is sent as SNI and is what a certificate must bear
    /// (RFC 7672 §3.2.2).
    pub(crate) base: Option<String>,
}

impl Resolver {
    /// Looks for TLSA records of `host`, whose address look-ups brought `addresses`. An error that may pass means that the host must not
    /// be used now (RFC 7672 §2.1.2): whoever can suppress the answer could otherwise switch DANE off.
    pub(crate) async fn demand(&self, host: &str, port: u16, addresses: &[Arc<Answer>]) -> Result<Demand, DnsError> {
        for base in bases(host, addresses) {
            match self.ask(&format!("_{port}._tcp.{base}"), DnsType::Tlsa).await {
                Ok(found) if found.answer.secure => {
                    let base = Some(base).filter(|base| base != host);
                    return Ok(Demand { security: security(&found.answer.records), base });
                }
                Ok(_) => {}
                Err(error) if error.is_transient() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(Demand { security: Security::Opportunistic, base: None })
    }
}

/// Where to look, in order (RFC 7672 §2.2.2): at the end of a chain of aliases that is proved all through, then at the host's own name if
/// that much is proved; nowhere in an unsigned zone.
fn bases(host: &str, addresses: &[Arc<Answer>]) -> Vec<String> {
    let all_secure = !addresses.is_empty() && addresses.iter().all(|found| found.answer.secure);
    let own_secure = !addresses.is_empty() && addresses.iter().all(|found| found.alias_secure);
    let canonical = addresses.iter().find_map(|found| found.canonical.clone()).filter(|_| all_secure);
    canonical.into_iter().chain(own_secure.then(|| host.to_string())).collect()
}

/// DANE if any record is usable, otherwise TLS without authentication (RFC 7672 §2.2).
fn security(records: &[String]) -> Security {
    let usable: Vec<Tlsa> = records.iter().take(RECORDS_MAX).filter_map(|record| parse(record)).collect();
    if usable.is_empty() { Security::Encrypted } else { Security::Dane(usable.into()) }
}

/// A usable record: usage 2 or 3 (RFC 7672 §3.1.3), known selector and matching, and as much data as the matching makes.
fn parse(text: &str) -> Option<Tlsa> {
    let mut fields = text.split(' ');
    let mut number = || fields.next()?.parse::<u8>().ok();
    let (usage, selector, matching) = (number()?, number()?, number()?);
    let data = from_hex(fields.next()?)?;
    let length_ok = match matching {
        0 => !data.is_empty(),
        1 => data.len() == 32,
        2 => data.len() == 64,
        _ => false,
    };
    (matches!(usage, 2 | 3) && matches!(selector, 0 | 1) && length_ok).then_some(Tlsa {
        usage,
        selector,
        matching,
        data,
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_types::port::DnsAnswer;

    fn found(secure: bool, alias_secure: bool, canonical: Option<&str>) -> Arc<Answer> {
        let answer = DnsAnswer { records: vec!["192.0.2.1".into()], ttl: 60, secure };
        Arc::new(Answer { answer, canonical: canonical.map(str::to_string), alias_secure })
    }

    #[test]
    fn the_base_domain_follows_proved_aliases() {
        let none: [&str; 0] = [];
        assert_eq!(bases("mx.test", &[found(true, true, None)]), ["mx.test"]);
        assert_eq!(bases("mx.test", &[found(true, true, Some("real.test"))]), ["real.test", "mx.test"]);
        assert_eq!(bases("mx.test", &[found(false, true, Some("real.test"))]), ["mx.test"]);
        assert_eq!(bases("mx.test", &[found(false, false, None)]), none);
        assert_eq!(bases("mx.test", &[found(true, true, None), found(false, false, None)]), none);
        assert_eq!(bases("mx.test", &[]), none);
    }

    #[test]
    fn unusable_records_demand_encryption_alone() {
        let sha256 = "ab".repeat(32);
        let of = |records: &[String]| security(records);
        assert_eq!(
            of(&[format!("1 1 1 {sha256}"), "3 1 1 abcd".into(), format!("3 2 1 {sha256}")]),
            Security::Encrypted
        );
        let Security::Dane(records) = of(&["3 1 9 00".into(), format!("3 1 1 {sha256}"), format!("2 0 1 {sha256}")])
        else {
            panic!("two are usable")
        };
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].data, vec![0xab; 32]);
    }
}
