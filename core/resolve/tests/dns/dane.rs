//! Each case of RFC 7671 and RFC 7672 that is decided by names and records, against a signed zone. What a certificate must look like for each record is
//! `waypost-net`'s `tests/tls.rs`.

use crate::zone::Zone;
use waypost_resolve::Resolver;
use waypost_route::NextHop;
use waypost_types::{Domain, Host, Security};

/// One case: where it is laid down, what the zone holds, what is asked, what each hop then demands. `@` stands for the case's own label, so that all live in one
/// zone; below `open.test` nothing is signed.
struct Case(&'static str, &'static str, &'static str, &'static str);

const A: &str = "A 192.0.2.1";
const SHA256: &str = "abababababababababababababababababababababababababababababababab";
const SHA512: &str = "abababababababababababababababababababababababababababababababababababababababababababababababababababababababababababababababab";

const CASES: &[Case] = &[
    Case(
        "7672 2.2.1: a secure MX, a secure host, records",
        "@ MX 10 mx.@\nmx.@ {A}\n_25._tcp.mx.@ TLSA 3 1 1 {256}",
        "@",
        "mx.@: dane 1",
    ),
    Case(
        "7672 2.2.1: each host for itself",
        "@ MX 10 one.@\n@ MX 20 two.@\none.@ {A}\ntwo.@ {A}\n_25._tcp.one.@ TLSA 3 1 1 {256}",
        "@",
        "one.@: dane 1, two.@: opportunistic",
    ),
    Case("7672 2.2.1: no MX, the domain itself is the host", "@ {A}\n_25._tcp.@ TLSA 3 1 1 {256}", "@", "@: dane 1"),
    Case(
        "7672 2.2.1: the MX is not signed, the host is",
        "x@.open.test MX 10 mx.@\nmx.@ {A}\n_25._tcp.mx.@ TLSA 3 1 1 {256}",
        "x@.open.test",
        "mx.@: opportunistic",
    ),
    Case(
        "7672 2.1.1: the host's addresses are not signed",
        "@ MX 10 h@.open.test\nh@.open.test {A}\n_25._tcp.h@.open.test TLSA 3 1 1 {256}",
        "@",
        "h@.open.test: opportunistic",
    ),
    Case("7672 2.1.1: proof that there are no records", "@ MX 10 mx.@\nmx.@ {A}", "@", "mx.@: opportunistic"),
    Case(
        "7672 2.2.2: a host named by the operator",
        "host.@ {A}\n_25._tcp.host.@ TLSA 3 1 1 {256}",
        "host.@:25",
        "host.@: dane 1",
    ),
    Case(
        "7672 2.2.3: the records are those of the port",
        "host.@ {A}\n_25._tcp.host.@ TLSA 3 1 1 {256}",
        "host.@:587",
        "host.@: opportunistic",
    ),
    Case(
        "7672 2.2.3: of another port",
        "host.@ {A}\n_587._tcp.host.@ TLSA 3 1 1 {256}",
        "host.@:587",
        "host.@: dane 1",
    ),
    Case(
        "7672 2.2.2: an aliased host, records at its end",
        "@ MX 10 mx.@\nmx.@ CNAME real.@\nreal.@ {A}\n_25._tcp.real.@ TLSA 3 1 1 {256}",
        "@",
        "real.@: dane 1",
    ),
    Case(
        "7672 2.2.2: records at the name that was asked for",
        "@ MX 10 mx.@\nmx.@ CNAME real.@\nreal.@ {A}\n_25._tcp.mx.@ TLSA 3 1 1 {256}",
        "@",
        "mx.@: dane 1",
    ),
    Case(
        "7672 2.2.2: the alias leads out of what is signed",
        "@ MX 10 mx.@\nmx.@ CNAME r@.open.test\nr@.open.test {A}\n_25._tcp.mx.@ TLSA 3 1 1 {256}",
        "@",
        "mx.@: dane 1",
    ),
    Case("7671 5.1: DANE-EE, key, SHA-256", "@ {A}\n_25._tcp.@ TLSA 3 1 1 {256}", "@", "@: dane 1"),
    Case("7671 5.1: DANE-EE, certificate, SHA-512", "@ {A}\n_25._tcp.@ TLSA 3 0 2 {512}", "@", "@: dane 1"),
    Case("7671 5.1: DANE-EE, whole", "@ {A}\n_25._tcp.@ TLSA 3 1 0 {256}{256}", "@", "@: dane 1"),
    Case("7671 5.2: DANE-TA", "@ {A}\n_25._tcp.@ TLSA 2 0 1 {256}", "@", "@: dane 1"),
    Case(
        "7671 8: usages two and three together",
        "@ {A}\n_25._tcp.@ TLSA 3 1 1 {256}\n_25._tcp.@ TLSA 2 1 1 {256}",
        "@",
        "@: dane 2",
    ),
    Case(
        "7671 8.1: a key that is rolled over",
        "@ {A}\n_25._tcp.@ TLSA 3 1 1 {256}\n_25._tcp.@ TLSA 3 1 2 {512}",
        "@",
        "@: dane 2",
    ),
    Case(
        "7672 3.1.3: PKIX-EE is not usable: TLS, whoever it is",
        "@ {A}\n_25._tcp.@ TLSA 1 1 1 {256}",
        "@",
        "@: encrypted",
    ),
    Case("7672 3.1.3: PKIX-TA likewise", "@ {A}\n_25._tcp.@ TLSA 0 0 1 {256}", "@", "@: encrypted"),
    Case("7671 4.1: an unknown usage", "@ {A}\n_25._tcp.@ TLSA 9 1 1 {256}", "@", "@: encrypted"),
    Case("7671 4.1: an unknown selector", "@ {A}\n_25._tcp.@ TLSA 3 7 1 {256}", "@", "@: encrypted"),
    Case("7671 4.1: an unknown matching type", "@ {A}\n_25._tcp.@ TLSA 3 1 7 {256}", "@", "@: encrypted"),
    Case("7671 4.1: a digest of the wrong length", "@ {A}\n_25._tcp.@ TLSA 3 1 1 abab", "@", "@: encrypted"),
    Case(
        "7672 2.2: usable ones among others",
        "@ {A}\n_25._tcp.@ TLSA 1 1 1 {256}\n_25._tcp.@ TLSA 3 1 1 {256}\n_25._tcp.@ TLSA 3 1 1 abab",
        "@",
        "@: dane 1",
    ),
];

/// The plan's hops with what they demand; or the reply.
async fn demands(resolver: &Resolver, asked: &str) -> String {
    let next_hop = match asked.split_once(':') {
        Some((host, port)) => {
            NextHop::Host(Host::Name(Domain::parse(host).expect("a host")), port.parse().expect("a port"))
        }
        None => NextHop::Mx(Domain::parse(asked).expect("a domain")),
    };
    let plan = match resolver.plan(&next_hop).await {
        Ok(plan) => plan,
        Err(reply) => return reply.to_string(),
    };
    let demand = |security: &Security| match security {
        Security::Dane(records) => format!("dane {}", records.len()),
        other => other.word().to_string(),
    };
    plan.hops.iter().map(|hop| format!("{}: {}", hop.host, demand(&hop.security))).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn every_case_of_rfc_7671_and_7672_that_names_and_records_decide() {
    let own = |at: usize, text: &str| {
        let text = text.replace("{A}", A).replace("{256}", SHA256).replace("{512}", SHA512);
        // A label, not a whole name, where a letter stands in front.
        let inside = text
            .replace("x@.", &format!("x{at}."))
            .replace("h@.", &format!("h{at}."))
            .replace("r@.", &format!("r{at}."));
        inside.replace('@', &format!("case{at}.test"))
    };
    let zone = Zone::signed().unsigned("open.test");
    let zone = CASES.iter().enumerate().fold(zone, |zone, (at, case)| zone.with(&own(at, case.1)));
    let server = zone.serve().await;
    let resolver = server.resolver();
    let mut wrong = Vec::new();
    for (at, Case(clause, _, asked, wanted)) in CASES.iter().enumerate() {
        let got = demands(&resolver, &own(at, asked)).await;
        let wanted = own(at, wanted);
        if got != wanted {
            wrong.push(format!("{clause}:\n  wanted {wanted}\n  got    {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
