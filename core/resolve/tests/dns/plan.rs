//! Plans from an unsigned zone, asked of a real server: RFC 5321 §5.1, RFC 7505.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::zone::{Server, Zone};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use waypost_resolve::{Families, Own, Plan, Resolver, ResolverOptions};
use waypost_route::NextHop;
use waypost_types::port::{Dns, DnsError, DnsType};
use waypost_types::{Domain, Host, Reply, Security};

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

async fn plan(resolver: &Resolver, text: &str) -> Result<Plan, Reply> {
    resolver.plan(&NextHop::Mx(domain(text))).await
}

async fn hosts(resolver: &Resolver, text: &str) -> Vec<String> {
    let plan = plan(resolver, text).await.unwrap_or_else(|reply| panic!("{text}: {reply}"));
    plan.hops.into_iter().map(|hop| hop.host).collect()
}

/// `550 5.1.2`
async fn refusal(resolver: &Resolver, text: &str) -> String {
    let reply = plan(resolver, text).await.expect_err(text);
    format!("{} {}", reply.code, reply.status())
}

fn owning(server: &Server, names: &[&str], addresses: &[&str]) -> Resolver {
    let own = Own {
        names: names.iter().map(|name| domain(name)).collect(),
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
        ports: vec![25],
    };
    Resolver::new(ResolverOptions { own, ..server.options() }).expect("valid options")
}

#[tokio::test]
async fn hosts_come_by_preference_and_equals_are_shuffled() {
    let server = Zone::new()
        .with("a.test MX 20 back.test\na.test MX 10 one.test\na.test MX 10 two.test\na.test MX 10 three.test")
        .with("back.test A 192.0.2.9\none.test A 192.0.2.1\ntwo.test A 192.0.2.2\nthree.test A 192.0.2.3")
        .serve()
        .await;
    let resolver = server.resolver();
    let mut first = BTreeSet::new();
    for _ in 0..200 {
        let hosts = hosts(&resolver, "a.test").await;
        assert_eq!(hosts.len(), 4);
        assert_eq!(hosts[3], "back.test");
        first.insert(hosts[0].clone());
    }
    assert_eq!(first.len(), 3, "each of the equals came first at some time");
    assert_eq!(server.times_asked("a.test. MX"), 1, "plans are cached");
}

#[tokio::test]
async fn many_messages_at_once_ask_once() {
    let server = Zone::new().with("a.test MX 10 mx.test\nmx.test A 192.0.2.1").serve().await;
    let resolver = server.resolver();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let resolver = resolver.clone();
        tasks.spawn(async move { plan(&resolver, "a.test").await.expect("a plan") });
    }
    assert_eq!(tasks.join_all().await.len(), 50);
    assert_eq!(server.times_asked("a.test. MX"), 1);
    assert_eq!(server.times_asked("mx.test. A"), 1);
}

#[tokio::test]
async fn without_mx_the_domain_is_its_own_host() {
    let server = Zone::new()
        .with("a.test A 192.0.2.1\na.test AAAA 2001:db8::1\nbare.test TXT nothing else\nalias.test CNAME a.test")
        .serve()
        .await;
    let resolver = server.resolver();
    let plan = plan(&resolver, "a.test").await.expect("a plan");
    let addresses: Vec<IpAddr> = ["2001:db8::1", "192.0.2.1"].map(|text| text.parse().expect("an address")).to_vec();
    assert_eq!((plan.hops[0].host.as_str(), plan.hops[0].port), ("a.test", 25));
    assert_eq!(plan.hops[0].addresses, addresses);
    assert_eq!(plan.hops[0].security, Security::Opportunistic);
    assert_eq!(hosts(&resolver, "alias.test").await, ["alias.test"]);
    assert_eq!(refusal(&resolver, "bare.test").await, "550 5.1.2");
}

#[tokio::test]
async fn null_mx_and_localhost_take_no_mail() {
    let server = Zone::new()
        .with("null.test MX 0 .\nnull.test A 192.0.2.1\nlocal.test MX 10 localhost\nmixed.test MX 0 .")
        .with("mixed.test MX 10 mx.test\nmx.test A 192.0.2.1")
        .serve()
        .await;
    let resolver = server.resolver();
    assert_eq!(refusal(&resolver, "null.test").await, "556 5.1.10");
    assert_eq!(refusal(&resolver, "local.test").await, "556 5.1.10");
    assert_eq!(hosts(&resolver, "mixed.test").await, ["mx.test"]);
}

#[tokio::test]
async fn what_does_not_exist_and_what_cannot_be_known() {
    let server = Zone::new()
        .with("lame.test MX 10 mx.lame.test\nmx.lame.test A 192.0.2.1\nquiet.test MX 10 mx.quiet.test")
        .with("half.test MX 10 dead.half.test\nhalf.test MX 20 mx.half.test\nmx.half.test A 192.0.2.1")
        .failing("lame.test", Some(RecordType::MX), ResponseCode::ServFail)
        .failing("refused.test", None, ResponseCode::Refused)
        .failing("dead.half.test", None, ResponseCode::ServFail)
        .silent("quiet.test")
        .serve()
        .await;
    let resolver = server.resolver();
    assert_eq!(refusal(&resolver, "absent.test").await, "550 5.1.2");
    assert_eq!(refusal(&resolver, "lame.test").await, "451 4.4.3");
    assert_eq!(refusal(&resolver, "refused.test").await, "451 4.4.3");
    assert_eq!(refusal(&resolver, "quiet.test").await, "451 4.4.3");
    assert_eq!(hosts(&resolver, "half.test").await, ["mx.half.test"], "one host that fails does not stop the other");
}

#[tokio::test]
async fn mx_without_addresses_never_falls_to_the_domain_itself() {
    let server = Zone::new()
        .with("a.test MX 10 gone.test\na.test MX 20 empty.test\na.test A 192.0.2.1\nempty.test TXT x")
        .with("b.test MX 10 lame.test\nb.test A 192.0.2.1")
        .failing("lame.test", None, ResponseCode::ServFail)
        .serve()
        .await;
    let resolver = server.resolver();
    assert_eq!(refusal(&resolver, "a.test").await, "451 4.4.4");
    assert_eq!(refusal(&resolver, "b.test").await, "451 4.4.3");
}

#[tokio::test]
async fn our_own_place_in_the_list_ends_it() {
    let server = Zone::new()
        .with("a.test MX 10 better.test\na.test MX 20 us.test\na.test MX 20 peer.test\na.test MX 30 worse.test")
        .with("us.test A 192.0.2.20\nbetter.test A 192.0.2.10\npeer.test A 192.0.2.21\nworse.test A 192.0.2.30")
        .with("best.test MX 10 us.test\nbest.test MX 20 worse.test")
        .with("down.test MX 10 gone.test\ndown.test MX 20 us.test")
        .with("implicit.test A 192.0.2.20")
        .serve()
        .await;
    let by_name = owning(&server, &["us.test"], &[]);
    let by_address = owning(&server, &[], &["192.0.2.20"]);
    for resolver in [&by_name, &by_address] {
        assert_eq!(hosts(resolver, "a.test").await, ["better.test"]);
        assert_eq!(refusal(resolver, "best.test").await, "554 5.4.6");
        assert_eq!(refusal(resolver, "down.test").await, "451 4.4.4");
    }
    assert_eq!(refusal(&by_address, "implicit.test").await, "554 5.4.6");
    assert_eq!(hosts(&server.resolver(), "best.test").await, ["us.test", "worse.test"]);
}

#[tokio::test]
async fn dead_ipv6_does_not_use_up_the_tries() {
    let many: String = (1..=8).map(|n| format!("mx.test AAAA 2001:db8::{n}\n")).collect();
    let server = Zone::new()
        .with("a.test MX 10 mx.test\nmx.test A 192.0.2.1\nmx.test A 192.0.2.2")
        .with(&many)
        .with("two.test MX 10 mx.test\ntwo.test MX 20 back.test\nback.test A 192.0.2.3")
        .serve()
        .await;
    let resolver = server.resolver();
    let hops = plan(&resolver, "a.test").await.expect("a plan").hops;
    assert_eq!(hops[0].addresses.len(), 5);
    assert_eq!(hops[0].addresses.iter().filter(|address| address.is_ipv4()).count(), 2);
    let hops = plan(&resolver, "two.test").await.expect("a plan").hops;
    assert_eq!((hops[0].addresses.len(), hops[1].addresses.len()), (4, 1), "the second host keeps its place");
    let v4_alone = Resolver::new(ResolverOptions { families: Families::V4, ..server.options() }).expect("valid");
    let hops = plan(&v4_alone, "a.test").await.expect("a plan").hops;
    assert!(hops[0].addresses.iter().all(IpAddr::is_ipv4));
}

#[tokio::test]
async fn domains_with_the_same_hosts_have_one_provider() {
    let server = Zone::new()
        .with("a.test MX 10 mx1.test\na.test MX 20 mx2.test\nb.test MX 5 mx2.test\nb.test MX 7 mx1.test")
        .with("c.test MX 10 mx1.test\nmx1.test A 192.0.2.1\nmx2.test A 192.0.2.2")
        .serve()
        .await;
    let resolver = server.resolver();
    let mut providers = Vec::new();
    for name in ["a.test", "b.test", "c.test"] {
        providers.push(plan(&resolver, name).await.expect("a plan").provider);
    }
    assert_eq!(providers[0], providers[1]);
    assert_ne!(providers[0], providers[2]);
}

#[tokio::test]
async fn hops_that_need_no_mx() {
    let server = Zone::new().with("relay.test A 192.0.2.1\nrelay.test MX 10 other.test").serve().await;
    let resolver = owning(&server, &[], &["192.0.2.7"]);
    let host = |name: &str, port| NextHop::Host(Host::Name(domain(name)), port);
    let hops = resolver.plan(&host("relay.test", 587)).await.expect("a plan").hops;
    assert_eq!((hops[0].host.as_str(), hops[0].port), ("relay.test", 587));
    let reply = resolver.plan(&host("absent.test", 587)).await.expect_err("no such host");
    assert_eq!((reply.code, reply.status().to_string()), (550, "5.1.2".to_string()));

    let literal = |text: &str, port| NextHop::Literal(text.parse().expect("an address"), port);
    let hops = resolver.plan(&literal("127.0.0.1", 2626)).await.expect("a plan").hops;
    assert_eq!((hops[0].host.as_str(), hops[0].port), ("127.0.0.1", 2626));
    for own in [literal("127.0.0.1", 25), literal("192.0.2.7", 25)] {
        assert_eq!(resolver.plan(&own).await.expect_err("ourselves").status().to_string(), "5.4.6");
    }

    let lmtp = NextHop::Lmtp("127.0.0.1:24".parse().expect("an address"));
    assert_eq!(resolver.plan(&lmtp).await.expect("a plan").hops[0].security, Security::Plain);
    let fail = |text: &str| NextHop::Fail(text.into());
    for (text, shown) in
        [("no", "550 5.4.4 no"), ("5.1.2 never", "550 5.1.2 never"), ("4.3.2 later", "450 4.3.2 later")]
    {
        assert_eq!(resolver.plan(&fail(text)).await.expect_err("by order").to_string(), shown);
    }
}

#[tokio::test]
async fn every_kind_of_record_as_text() {
    let server = Zone::new()
        .with("a.test A 192.0.2.1\na.test AAAA 2001:db8::1\na.test MX 10 mx.test\na.test TXT one |two")
        .with("a.test NS ns.test\nalias.test CNAME a.test\n_25._tcp.a.test TLSA 3 1 1 00ff\n1.2.0.192.in-addr.arpa PTR a.test")
        .serve()
        .await;
    let resolver = server.resolver();
    let ask = async |name: &str, kind| resolver.lookup(name, kind).await.map(|answer| answer.records);
    let one = |text: &str| Ok(vec![text.to_string()]);
    assert_eq!(ask("A.test.", DnsType::A).await, one("192.0.2.1"));
    assert_eq!(ask("alias.test", DnsType::A).await, one("192.0.2.1"));
    assert_eq!(ask("a.test", DnsType::Aaaa).await, one("2001:db8::1"));
    assert_eq!(ask("a.test", DnsType::Mx).await, one("10 mx.test."));
    assert_eq!(ask("a.test", DnsType::Txt).await, one("one two"));
    assert_eq!(ask("a.test", DnsType::Ns).await, one("ns.test."));
    assert_eq!(ask("alias.test", DnsType::Cname).await, one("a.test."));
    assert_eq!(ask("_25._tcp.a.test", DnsType::Tlsa).await, one("3 1 1 00ff"));
    assert_eq!(ask("1.2.0.192.in-addr.arpa", DnsType::Ptr).await, one("a.test."));
    assert_eq!(ask("a.test", DnsType::Srv).await, Err(DnsError::NoData));
    for _ in 0..3 {
        assert_eq!(ask("absent.test", DnsType::A).await, Err(DnsError::NxDomain));
    }
    assert_eq!(server.times_asked("absent.test. A"), 1, "denials are cached");
    assert_eq!(ask(&"x".repeat(70), DnsType::A).await, Err(DnsError::NxDomain));
}

#[tokio::test]
async fn names_of_addresses_are_confirmed_forward() {
    let server = Zone::new()
        .with("1.2.0.192.in-addr.arpa PTR liar.test\n1.2.0.192.in-addr.arpa PTR real.test\nreal.test A 192.0.2.1")
        .with("liar.test A 192.0.2.99\n2.2.0.192.in-addr.arpa PTR liar.test\n4.2.0.192.in-addr.arpa PTR lame.test")
        .failing("lame.test", None, ResponseCode::ServFail)
        .failing("5.2.0.192.in-addr.arpa", None, ResponseCode::ServFail)
        .serve()
        .await;
    let resolver = server.resolver();
    let confirm = async |text: &str| resolver.confirmed_name(text.parse().expect("an address")).await;
    assert_eq!(confirm("192.0.2.1").await, Ok(Some(domain("real.test"))));
    assert_eq!(confirm("::ffff:192.0.2.1").await, Ok(Some(domain("real.test"))));
    assert_eq!(confirm("192.0.2.2").await, Ok(None), "the name does not lead back");
    assert_eq!(confirm("192.0.2.3").await, Ok(None), "no name");
    assert_eq!(confirm("192.0.2.4").await, Err(DnsError::ServFail));
    assert_eq!(confirm("192.0.2.5").await, Err(DnsError::ServFail));
}
