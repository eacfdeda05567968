//! Rules over the session and over what mail authentication found.

use waypost_sdk::Host;
use waypost_sdk::mailbox;
use waypost_sdk::types::AuthFinding;

use crate::body_rules::Body;
use crate::client::{self, Client};
use crate::header_rules::is_freemail;
use crate::letter::Headers;
use crate::link::organisation;
use crate::rules::{Hits, Rule};

/// Hits every rule about where the message comes from.
pub fn apply(host: &Host, headers: &Headers, body: &Body, hits: &mut Hits) {
    findings(&host.auth_results().entries(), hits);
    let author = headers.get("from").map(mailbox::parse).and_then(|all| all.into_iter().next()).unwrap_or_default();
    let domain = author.domain();
    if let Some(client) = client::find(host, headers) {
        on_client(&client, &domain, headers, hits);
    }
    let home = organisation(domain.as_bytes());
    let leads_home = !home.is_empty() && body.links.hosts.iter().any(|host| organisation(host) == home);
    let honest = body.links.misleading + body.links.masked + body.links.numeric == 0;
    hits.add_if(Rule::LINKS_HOME, leads_home && honest && body.links.count >= 3);
    let report =
        headers.get("content-type").is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/report"));
    let automatic = headers.has("auto-submitted") || report;
    hits.add_if(Rule::NULL_SENDER_ODD, host.envelope().sender().is_empty() && !automatic);
}

fn on_client(client: &Client, domain: &str, headers: &Headers, hits: &mut Hits) {
    let (helo, name) = (client.helo.as_str(), client.name.as_deref());
    let bare = helo.trim_matches(['[', ']']);
    hits.add_if(
        Rule::HELO_ODD,
        !helo.is_empty()
            && (!helo.contains('.') && !helo.starts_with('[') || bare.parse::<std::net::Ipv4Addr>().is_ok()),
    );
    hits.add_if(Rule::CLIENT_DYNAMIC, name.is_some_and(is_dynamic));
    let same = |host: &str| !domain.is_empty() && organisation(host.as_bytes()) == organisation(domain.as_bytes());
    hits.add_if(Rule::CLIENT_OF_AUTHOR, name.is_some_and(|name| same(name) && !is_dynamic(name)));
    hits.add_if(Rule::HELO_UNPROVEN, name.is_none() && same(helo));
    // Lists and forwarders hand in what others have written.
    let passed_on = FORWARDED.iter().any(|field| headers.has(field));
    let foreign = name.is_some_and(|name| !same(name));
    hits.add_if(Rule::FREEMAIL_FORGED, is_freemail(domain) && foreign && !passed_on);
    let id = headers.get("message-id").unwrap_or_default();
    hits.add_if(Rule::MID_BY_RELAY, !passed_on && headers.all("received").any(|field| gave_id(field, id)));
}

/// Marks of lists and forwarders.
const FORWARDED: [&str; 8] = [
    "list-id",
    "list-post",
    "list-unsubscribe",
    "mailing-list",
    "x-mailing-list",
    "sender",
    "resent-from",
    "x-forwarded-for",
];

/// Whether the Message-ID holds the name under which a relay knew the message: it had none before.
fn gave_id(received: &str, id: &str) -> bool {
    let known_as = received.split(" id ").nth(1).and_then(|tail| tail.split([' ', ';', ')']).next());
    known_as.is_some_and(|known_as| known_as.len() >= 6 && id.contains(known_as))
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
