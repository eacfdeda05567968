//! DNSSEC and DANE against a signed zone: RFC 7672 §2.

use crate::zone::Zone;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use waypost_resolve::{Dnssec, Plan, Resolver, ResolverOptions};
use waypost_route::NextHop;
use waypost_types::port::{Dns, DnsError, DnsType};
use waypost_types::{Domain, Reply, Security};

async fn plan(resolver: &Resolver, text: &str) -> Result<Plan, Reply> {
    resolver.plan(&NextHop::Mx(Domain::parse(text).expect("a domain"))).await
}

/// `host: demand` of each hop.
async fn demands(resolver: &Resolver, text: &str) -> Vec<String> {
    let plan = plan(resolver, text).await.unwrap_or_else(|reply| panic!("{text}: {reply}"));
    plan.hops.iter().map(|hop| format!("{}: {}", hop.host, hop.security.word())).collect()
}

/// A host with an address and a TLSA record.
fn host(name: &str, usage: u8) -> String {
    format!("{name} A 192.0.2.1\n_25._tcp.{name} TLSA {usage} 1 1 {}", "ab".repeat(32))
}

#[tokio::test]
async fn proof_is_reported_and_forgery_is_a_failure() {
    let server = Zone::signed()
        .with("a.test A 192.0.2.1\nbad.test A 192.0.2.1\nalias.test CNAME a.test\nx.open.test A 192.0.2.1")
        .unsigned("open.test")
        .forged("bad.test")
        .serve()
        .await;
    let resolver = server.resolver();
    assert_eq!(resolver.check_dnssec().await, Ok(()));
    let secure = async |name: &str| resolver.lookup(name, DnsType::A).await.map(|answer| answer.secure);
    assert_eq!(secure("a.test").await, Ok(true));
    assert_eq!(secure("alias.test").await, Ok(true));
    assert_eq!(secure("x.open.test").await, Ok(false));
    assert_eq!(secure("bad.test").await, Err(DnsError::ServFail));
    assert_eq!(resolver.lookup("absent.test", DnsType::A).await, Err(DnsError::NoData));
    assert_eq!(resolver.lookup("absent.open.test", DnsType::A).await, Err(DnsError::NxDomain));
}

#[tokio::test]
async fn tlsa_records_decide_how_a_host_must_be_secured() {
    let server = Zone::signed()
        .with("dane.test MX 10 mx.dane.test")
        .with(&host("mx.dane.test", 3))
        .with("pkix.test MX 10 mx.pkix.test")
        .with(&host("mx.pkix.test", 1))
        .with("none.test MX 10 mx.none.test\nmx.none.test A 192.0.2.1")
        .with(&host("implicit.test", 2))
        .serve()
        .await;
    let resolver = server.resolver();
    assert_eq!(demands(&resolver, "dane.test").await, ["mx.dane.test: dane"]);
    assert_eq!(demands(&resolver, "pkix.test").await, ["mx.pkix.test: encrypted"]);
    assert_eq!(demands(&resolver, "none.test").await, ["mx.none.test: opportunistic"]);
    assert_eq!(demands(&resolver, "implicit.test").await, ["implicit.test: dane"]);
    let Security::Dane(records) = plan(&resolver, "dane.test").await.expect("a plan").hops[0].security.clone() else {
        panic!("DANE")
    };
    assert_eq!((records[0].usage, records[0].selector, records[0].matching), (3, 1, 1));
    assert_eq!(records[0].data, [0xab; 32]);
}

#[tokio::test]
async fn without_proof_of_the_way_there_is_no_dane() {
    let server = Zone::signed()
        .unsigned("open.test")
        .with("mx.open.test MX 10 mx.safe.test")
        .with(&host("mx.safe.test", 3))
        .with("a.test MX 10 host.open.test")
        .with(&host("host.open.test", 3))
        .serve()
        .await;
    let resolver = server.resolver();
    assert_eq!(demands(&resolver, "mx.open.test").await, ["mx.safe.test: opportunistic"], "the MX is not proved");
    assert_eq!(demands(&resolver, "a.test").await, ["host.open.test: opportunistic"], "the address is not proved");
}

#[tokio::test]
async fn a_tlsa_lookup_that_fails_takes_the_host_out_for_now() {
    let server = Zone::signed()
        .with("one.test MX 10 lame.test\ntwo.test MX 10 lame.test\ntwo.test MX 20 good.test")
        .with("forged.test MX 10 fake.test")
        .with(&host("lame.test", 3))
        .with(&host("good.test", 3))
        .with(&host("fake.test", 3))
        .failing("_25._tcp.lame.test", Some(RecordType::TLSA), ResponseCode::ServFail)
        .forged("_25._tcp.fake.test")
        .serve()
        .await;
    let resolver = server.resolver();
    assert_eq!(demands(&resolver, "two.test").await, ["good.test: dane"]);
    for name in ["one.test", "forged.test"] {
        let reply = plan(&resolver, name).await.expect_err("never without knowing");
        assert_eq!((reply.code, reply.status().to_string()), (451, "4.7.5".to_string()), "{name}");
    }
}

#[tokio::test]
async fn aliased_hosts_are_asked_at_the_end_of_the_chain_first() {
    let server = Zone::signed()
        .with("a.test MX 10 alias.test\nalias.test CNAME real.test")
        .with(&host("real.test", 3))
        .with("b.test MX 10 own.test\nown.test CNAME plain.test\nplain.test A 192.0.2.1")
        .with(&format!("_25._tcp.own.test TLSA 3 1 1 {}", "cd".repeat(32)))
        .unsigned("open.test")
        .with("c.test MX 10 half.test\nhalf.test CNAME x.open.test\nx.open.test A 192.0.2.1")
        .with(&format!("_25._tcp.half.test TLSA 3 1 1 {}", "cd".repeat(32)))
        .serve()
        .await;
    let resolver = server.resolver();
    assert_eq!(demands(&resolver, "a.test").await, ["real.test: dane"]);
    assert_eq!(demands(&resolver, "b.test").await, ["own.test: dane"]);
    assert_eq!(demands(&resolver, "c.test").await, ["half.test: dane"]);
}

#[tokio::test]
async fn servers_that_strip_signatures_switch_dane_off_and_not_all_mail() {
    let signed = Zone::signed().serve().await;
    let plain = Zone::new().with("a.test MX 10 mx.test").with(&host("mx.test", 3)).serve().await;
    let trust_anchor = signed.options().trust_anchor;
    let options = ResolverOptions { dnssec: Dnssec::Validate, trust_anchor, ..plain.options() };
    let resolver = Resolver::new(options).expect("valid options");
    assert!(plan(&resolver, "a.test").await.expect_err("nothing is proved").is_transient());
    let told = resolver.check_dnssec().await.expect_err("no keys").to_string();
    assert!(told.contains("DANE is off") && !resolver.is_validating(), "{told}");
    assert_eq!(demands(&resolver, "a.test").await, ["mx.test: opportunistic"]);
}
