//! What dns-lists does with a zone of canned answers.

use waypost_sdk::Bench;

use super::*;

const LISTS: &str = r#"{
    "allow": [{"zone": "list.dnswl.example", "replies": ["127.0.*.1-3"]}],
    "deny": [{"zone": "zen.example.org", "replies": ["127.0.0.[2..11]"]}, {"zone": "bl.example.net"}]
}"#;

fn bench(settings: &str) -> Bench<DnsLists> {
    let mut bench = Bench::start(settings).unwrap();
    bench.client("198.51.100.7");
    bench
}

fn listed(bench: &mut Bench<DnsLists>, zone: &str, answer: &str) {
    bench.dns(&format!("7.100.51.198.{zone}"), RecordType::A, &[answer]);
}

fn text(outcome: Outcome) -> String {
    match outcome {
        Ok(Action::Reject(reply)) => format!("{} {:?} {}", reply.code, reply.enhanced, reply.text),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn an_unlisted_client_costs_two_rounds_and_then_none() {
    let mut bench = bench(LISTS);
    assert_eq!(bench.rcpt("a@example.com"), Ok(Action::Next));
    assert_eq!(
        bench.dns_asked(),
        ["7.100.51.198.list.dnswl.example", "7.100.51.198.zen.example.org", "7.100.51.198.bl.example.net"]
    );
    assert_eq!(bench.script().dns.rounds, 2);
    bench.rcpt("b@example.com").unwrap();
    bench.reset();
    bench.rcpt("c@example.com").unwrap();
    assert_eq!(bench.script().dns.rounds, 2, "the answer holds for the connection");
    assert!(bench.facts().is_empty());
}

#[test]
fn a_listed_client_is_refused_with_the_reason_in_postfixs_words() {
    let mut bench = bench(LISTS);
    listed(&mut bench, "zen.example.org", "127.0.0.4");
    bench.dns("7.100.51.198.zen.example.org", RecordType::Txt, &["https://example.org/query/198.51.100.7\u{7}"]);
    let refusal = "554 (5, 7, 1) Service unavailable; client [198.51.100.7] blocked using zen.example.org; https://example.org/query/198.51.100.7";
    assert_eq!(text(bench.rcpt("a@example.com")), refusal);
    assert_eq!(bench.facts(), ["DNSL_ZEN_EXAMPLE_ORG 1"]);
    assert_eq!(text(bench.rcpt("b@example.com")), refusal, "and again, from memory");
    assert_eq!(bench.facts().len(), 1, "facts add up, so they are stated once");
    bench.reset();
    bench.rcpt("c@example.com").unwrap();
    assert_eq!(bench.facts().len(), 1, "once in each transaction");
    assert_eq!(bench.script().dns.rounds, 3);
}

#[test]
fn a_refusal_without_txt_names_the_list_alone() {
    let mut bench = bench(LISTS);
    listed(&mut bench, "bl.example.net", "127.0.0.2");
    assert_eq!(
        text(bench.rcpt("a@example.com")),
        "554 (5, 7, 1) Service unavailable; client [198.51.100.7] blocked using bl.example.net"
    );
}

#[test]
fn a_permitted_client_asks_no_block_list() {
    let mut bench = bench(LISTS);
    listed(&mut bench, "list.dnswl.example", "127.0.15.2");
    listed(&mut bench, "zen.example.org", "127.0.0.2");
    assert_eq!(bench.rcpt("a@example.com"), Ok(Action::Accept));
    assert_eq!(bench.dns_asked(), ["7.100.51.198.list.dnswl.example"]);
    assert_eq!(bench.facts(), ["DNSL_LIST_DNSWL_EXAMPLE 0"]);
    // Trust "none" (127.0.x.0) is outside the mask.
    let mut bench = self::bench(LISTS);
    listed(&mut bench, "list.dnswl.example", "127.0.15.0");
    assert_eq!(bench.rcpt("a@example.com"), Ok(Action::Next));
}

#[test]
fn whitelisted_own_and_private_clients_are_not_looked_up() {
    let mut bench = bench(LISTS);
    bench.fact_of_session(WHITELISTED, 0.0);
    assert_eq!(bench.rcpt("a@example.com"), Ok(Action::Next));
    bench.client("198.51.100.7").logged_in("alice");
    assert_eq!(bench.rcpt("a@example.com"), Ok(Action::Next));
    for private in ["127.0.0.1", "10.0.0.1", "fd00::1", "::1", "192.168.1.1"] {
        bench.client(private);
        assert_eq!(bench.rcpt("a@example.com"), Ok(Action::Next));
    }
    assert!(bench.dns_asked().is_empty());
}

#[test]
fn a_listed_client_that_logs_in_is_a_user() {
    let mut bench = bench(LISTS);
    listed(&mut bench, "zen.example.org", "127.0.0.2");
    assert!(matches!(bench.rcpt("a@example.com"), Ok(Action::Reject(_))));
    bench.reset();
    bench.logged_in("alice");
    assert_eq!(bench.rcpt("a@example.com"), Ok(Action::Next));
    assert!(bench.facts().is_empty());
}

#[test]
fn postmaster_is_reachable_for_the_listed() {
    let mut bench = bench(LISTS);
    listed(&mut bench, "zen.example.org", "127.0.0.2");
    assert_eq!(bench.rcpt("Postmaster@example.com"), Ok(Action::Next));
    assert_eq!(bench.rcpt("postmaster"), Ok(Action::Next));
    assert!(bench.dns_asked().is_empty());
    assert!(matches!(bench.rcpt("a@example.com"), Ok(Action::Reject(_))));
}

#[test]
fn lists_that_fail_or_do_not_serve_us_have_no_opinion() {
    for error in [DnsError::Servfail, DnsError::Timeout, DnsError::Refused, DnsError::Budget, DnsError::Nodata] {
        let mut bench = bench(LISTS);
        for zone in ["list.dnswl.example", "zen.example.org", "bl.example.net"] {
            bench.dns_fails(&format!("7.100.51.198.{zone}"), RecordType::A, error);
        }
        assert_eq!(bench.rcpt("a@example.com"), Ok(Action::Next));
    }
    let mut bench = bench(LISTS);
    listed(&mut bench, "list.dnswl.example", "127.0.0.255");
    listed(&mut bench, "zen.example.org", "127.255.255.254");
    listed(&mut bench, "bl.example.net", "203.0.113.80");
    assert_eq!(bench.rcpt("a@example.com"), Ok(Action::Next));
    assert!(bench.logs().iter().any(|line| line.contains("zen.example.org answers 127.255.255.254")));
    assert!(
        bench.logs().iter().any(|line| line.contains("bl.example.net answers 203.0.113.80")),
        "a wildcarded dead list"
    );
}

#[test]
fn weights_add_up_and_absolute_lists_decide_alone() {
    let settings = r#"{"refuse-at": 3, "allow": [{"zone": "wl.example", "weight": -2}],
        "deny": [{"zone": "a.example", "weight": 2}, {"zone": "b.example", "weight": 1}, {"zone": "c.example"}]}"#;
    let outcome = |zones: &[&str]| {
        let mut bench = bench(settings);
        zones.iter().for_each(|zone| listed(&mut bench, zone, "127.0.0.2"));
        (bench.rcpt("a@example.com"), bench.facts())
    };
    assert_eq!(outcome(&["a.example"]), (Ok(Action::Next), vec!["DNSL_A_EXAMPLE 2".to_string()]));
    assert!(text(outcome(&["a.example", "b.example"]).0).ends_with("blocked using a.example"), "the heaviest is named");
    assert_eq!(outcome(&["a.example", "b.example", "wl.example"]).0, Ok(Action::Next));
    assert!(text(outcome(&["c.example", "a.example"]).0).ends_with("blocked using c.example"));
}

#[test]
fn ipv6_is_asked_by_nibbles_where_the_list_knows_it() {
    let mut bench =
        Bench::<DnsLists>::start(r#"{"deny": [{"zone": "four.example", "ipv6": false}, {"zone": "six.example"}]}"#)
            .unwrap();
    bench.client("2001:db8::567:89ab");
    let name = "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.six.example";
    bench.dns(name, RecordType::A, &["127.0.0.2"]);
    assert!(text(bench.rcpt("a@example.com")).contains("client [2001:db8::567:89ab] blocked using six.example"));
    assert_eq!(bench.dns_asked(), [name, name], "A, then TXT");
}

#[test]
fn a_key_in_the_zone_is_not_told() {
    let mut bench = bench(
        r#"{"deny": [{"zone": "secretkey.zen.dq.example", "name": "zen.example", "reason": "see example.org/{ip}"}]}"#,
    );
    listed(&mut bench, "secretkey.zen.dq.example", "127.0.0.2");
    let told = text(bench.rcpt("a@example.com"));
    assert!(told.ends_with("blocked using zen.example; see example.org/198.51.100.7"), "{told}");
    let all = format!("{told} {:?} {:?} {:?}", bench.logs(), bench.facts(), bench.script().scores.facts);
    assert!(!all.contains("secretkey"));
}

#[test]
fn nothing_is_asked_unless_configured() {
    let mut bench = bench("");
    assert_eq!(bench.rcpt("a@example.com"), Ok(Action::Next));
    assert!(bench.dns_asked().is_empty());
}

#[test]
fn mistakes_in_the_settings_name_place_and_remedy() {
    let error = |settings: &str| Bench::<DnsLists>::start(settings).err().unwrap();
    assert!(
        error(r#"{"deny": [{"zone": "zen.example.org."}]}"#).starts_with("deny[0].zone: `zen.example.org.` is no zone")
    );
    assert!(
        error(r#"{"deny": [{"zone": "a.b", "replies": ["127.0.0"]}]}"#)
            .starts_with("deny[0].replies[0]: `127.0.0` is no reply mask")
    );
    assert!(error(r#"{"allow": [{"zone": "a.b", "weight": 2}]}"#).contains("allow[0].weight: must be negative"));
    assert!(error(r#"{"deny": [{"zone": "a.b", "weight": -2}]}"#).contains("deny[0].weight: must be positive"));
    assert!(error(r#"{"refuse-at": 0}"#).contains("refuse-at: must be positive"));
    assert!(error(r#"{"deny": [{"zones": "a.b"}]}"#).contains("unknown field `zones`"));
    assert!(error(r#"{"deny": [{"zone": "a.b", "reason": "x\ny"}]}"#).contains("deny[0].reason"));
}
