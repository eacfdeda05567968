//! The suite of RFC 7208 (openspf.org, release 2014.04; see `rfc7208.json.LICENSE`), every case through [`super::evaluate`].

use serde_json::Value;
use waypost_types::port::DnsType;

use super::*;
use crate::zone::Zone;

const SUITE: &str = include_str!("rfc7208.json");

/// The suite's zone: SPF records (type 99) stand for TXT records where a name has no TXT of its own.
fn zone(data: &Value) -> Zone {
    let mut zone = Zone::default();
    for (name, records) in data.as_object().expect("a map of names") {
        let records = records.as_array().expect("a list of records");
        zone.touch(name);
        let has_text = records.iter().any(|record| record.get("TXT").is_some());
        for record in records {
            if record.as_str() == Some("TIMEOUT") {
                zone.silent.push(name.trim_end_matches('.').to_lowercase());
                continue;
            }
            for (kind, value) in record.as_object().expect("type and value") {
                add(&mut zone, name, kind, value, has_text);
            }
        }
    }
    zone
}

fn add(zone: &mut Zone, name: &str, kind: &str, value: &Value, has_text: bool) {
    let text = match value {
        Value::Array(parts) if kind == "MX" => {
            format!("{} {}", parts[0].as_str().expect("preference"), parts[1].as_str().expect("host"))
        }
        Value::Array(parts) => parts.iter().map(|part| part.as_str().expect("a string")).collect(),
        value => value.as_str().expect("a string").to_string(),
    };
    let kind = match kind {
        "TXT" if text == "NONE" => return,
        "TXT" => DnsType::Txt,
        "SPF" if !has_text => DnsType::Txt,
        // Type 99 is asked for by nobody any more.
        "SPF" => return,
        "A" => DnsType::A,
        "AAAA" => DnsType::Aaaa,
        "MX" => DnsType::Mx,
        "PTR" => DnsType::Ptr,
        "CNAME" => DnsType::Cname,
        other => panic!("a record type that the suite does not have: {other}"),
    };
    if text == "TIMEOUT" {
        zone.silent.push(name.to_lowercase());
        return;
    }
    zone.add(name, kind, &text);
}

async fn answer(zone: &Zone, case: &Value) -> SpfAnswer {
    let text = |key: &str| case[key].as_str().unwrap_or_default();
    let (local, domain) = match text("mailfrom").rsplit_once('@') {
        Some(parts) => parts,
        None if text("mailfrom").is_empty() => ("", text("helo")),
        None => ("", text("mailfrom")),
    };
    let ip = text("host").parse().expect("the suite's clients have addresses");
    let receiver = "receiver.example";
    evaluate(zone, SpfQuestion { ip, helo: text("helo"), local, domain, receiver }).await
}

fn is_expected(case: &Value, answer: &SpfAnswer) -> bool {
    let result = match &case["result"] {
        Value::Array(any) => any.iter().any(|one| one == answer.result.word()),
        one => one == answer.result.word(),
    };
    let explanation = match case["explanation"].as_str() {
        None => true,
        Some("DEFAULT") => answer.explanation.is_none(),
        Some(words) => answer.explanation.as_deref() == Some(words),
    };
    result && explanation
}

#[tokio::test]
async fn every_case_of_the_rfc_7208_suite() {
    let suite: Value = serde_json::from_str(SUITE).expect("the suite is JSON");
    let mut failed = Vec::new();
    let mut count = 0;
    for scenario in suite.as_array().expect("a list of scenarios") {
        let zone = zone(&scenario["zonedata"]);
        for (name, case) in scenario["tests"].as_object().expect("a map of cases") {
            count += 1;
            let answer = answer(&zone, case).await;
            if !is_expected(case, &answer) {
                failed.push(format!("{name}: wanted {} {}, got {answer:?}", case["result"], case["explanation"]));
            }
        }
    }
    assert_eq!(count, 203);
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test]
async fn a_mapped_client_is_an_ipv4_client() {
    let mut zone = Zone::default();
    zone.add("example.com", DnsType::Txt, "v=spf1 ip4:192.0.2.0/24 -all");
    let question = SpfQuestion {
        ip: "::ffff:192.0.2.7".parse().expect("an address"),
        helo: "x.example",
        local: "u",
        domain: "example.com",
        receiver: "r.example",
    };
    assert_eq!(evaluate(&zone, question).await.result, SpfResult::Pass);
}
