//! Rules over the session and over what mail authentication found.

use waypost_sdk::Host;
use waypost_sdk::types::AuthFinding;

use crate::body_rules::Body;
use crate::letter::Headers;
use crate::rules::{Hits, Rule};

/// Hits every rule about where the message comes from.
pub fn apply(host: &Host, headers: &Headers, _body: &Body, hits: &mut Hits) {
    findings(&host.auth_results().entries(), hits);
    let session = host.session();
    let helo = session.helo();
    let name = session.ptr_name();
    let bare = helo.trim_matches(['[', ']']);
    hits.add_if(
        Rule::HELO_ODD,
        !helo.is_empty()
            && (!helo.contains('.') && !helo.starts_with('[') || bare.parse::<std::net::Ipv4Addr>().is_ok()),
    );
    hits.add_if(Rule::CLIENT_DYNAMIC, name.as_deref().is_some_and(is_dynamic));
    let report =
        headers.get("content-type").is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/report"));
    let automatic = headers.has("auto-submitted") || report;
    hits.add_if(Rule::NULL_SENDER_ODD, host.envelope().sender().is_empty() && !automatic);
}

fn findings(entries: &[AuthFinding], hits: &mut Hits) {
    let has = |method: &str, result: &str| entries.iter().any(|entry| entry.method == method && entry.result == result);
    hits.add_if(Rule::SPF_FAIL, has("spf", "fail"));
    hits.add_if(Rule::SPF_SOFTFAIL, has("spf", "softfail"));
    hits.add_if(Rule::SPF_PASS, has("spf", "pass"));
    hits.add_if(Rule::DKIM_PASS, has("dkim", "pass"));
    hits.add_if(Rule::DKIM_FAIL, (has("dkim", "fail") || has("dkim", "permerror")) && !has("dkim", "pass"));
    hits.add_if(Rule::DMARC_FAIL, has("dmarc", "fail"));
    hits.add_if(Rule::DMARC_PASS, has("dmarc", "pass"));
    hits.add_if(Rule::CLIENT_UNNAMED, has("iprev", "fail") || has("iprev", "permerror"));
}

/// `host-1-2-3-4.dyn.example`, `dsl-…`, `pool-…`: at least four groups of digits, or two and a word of the trade.
fn is_dynamic(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let groups = lower.split(|c: char| !c.is_ascii_digit()).filter(|group| !group.is_empty()).count();
    const WORDS: [&str; 8] = ["dyn", "dsl", "dial", "pool", "ppp", "cable", "dhcp", "broadband"];
    groups >= 4 || (groups >= 2 && WORDS.iter().any(|word| lower.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::is_dynamic;

    #[test]
    fn home_lines_are_told_from_mail_servers() {
        for name in ["1-2-3-4.example.net", "dsl-81-12.example.net", "pool-7-21.dyn.example"] {
            assert!(is_dynamic(name), "{name}");
        }
        for name in ["mx1.example.com", "mail-eopbgr80120.outbound.example.com", "a2.b3.example.org"] {
            assert!(!is_dynamic(name), "{name}");
        }
    }
}
