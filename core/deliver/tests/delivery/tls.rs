//! TLS on the way out.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use waypost_deliver::tls_report::{Fault, Session};
use waypost_net::{ServerTls, ServerTlsOptions};
use waypost_resolve::mta_sts::{Mode, Policy};
use waypost_resolve::{Applied, Plan};
use waypost_types::Security;

use crate::house::{House, hop};
use crate::peer::{Act, Peer};

fn certificate() -> (TempDir, ServerTls) {
    let dir = tempfile::tempdir().unwrap();
    let options = ServerTlsOptions::default();
    let tls = ServerTls::from_self_signed(dir.path(), &["mx.peer.test".to_string()], options).unwrap();
    (dir, tls)
}

const TLS: &[&str] = &["STARTTLS", "PIPELINING"];

async fn attempt(address: SocketAddr, security: Security) -> House {
    let house = House::new();
    house.mx("peer.test", vec![hop(address, security)]);
    house.send(house.entry(&["b@peer.test"])).await;
    house
}

#[tokio::test]
async fn tls_is_used_when_offered_whatever_the_certificate() {
    let (_dir, tls) = certificate();
    for (security, word) in [(Security::Opportunistic, "opportunistic"), (Security::Encrypted, "encrypted")] {
        let peer = Peer::with(TLS, Some(tls.clone()), false, |_, _, _| None).await;
        let house = attempt(peer.address, security).await;
        house.until("removed", 1).await;
        assert!(house.heard()[0].contains(&format!("security=TLSv1.3 {word}")), "{:?}", house.heard());
        assert_eq!((peer.said("EHLO"), peer.messages().len()), (2, 1));
    }
}

#[tokio::test]
async fn without_tls_only_opportunism_goes_on() {
    for (security, start) in [
        (Security::Opportunistic, "relayed"),
        (Security::Encrypted, "delayed"),
        (Security::Verified, "delayed"),
        (Security::Dane([].into()), "delayed"),
    ] {
        let peer = Peer::new(|_, _, _| None).await;
        let house = attempt(peer.address, security).await;
        house.until(start, 1).await;
        assert_eq!(peer.messages().len(), usize::from(start == "relayed"));
    }
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_does_not_do_for_a_verified_hop() {
    let (_dir, tls) = certificate();
    let peer = Peer::with(TLS, Some(tls), false, |_, _, _| None).await;
    let house = attempt(peer.address, Security::Verified).await;
    house.until("delayed b@peer.test attempt=3", 1).await;
    assert!(house.heard()[0].contains("4.7.5 TLS handshake failed"), "{:?}", house.heard());
    assert_eq!((peer.messages().len(), peer.said("MAIL")), (0, 0));
}

/// Says 220 to STARTTLS and then something that is no handshake.
async fn broken() -> Peer {
    Peer::with(TLS, None, false, |_, _, heard| heard.starts_with("STARTTLS").then_some(Act::SayAndClose("220 go")))
        .await
}

#[tokio::test]
async fn a_broken_handshake_sends_mail_to_another_host_with_tls() {
    let (_dir, tls) = certificate();
    let (bad, good) = (broken().await, Peer::with(TLS, Some(tls), false, |_, _, _| None).await);
    let house = House::new();
    house.mx("peer.test", vec![hop(bad.address, Security::Opportunistic), hop(good.address, Security::Opportunistic)]);
    house.send(house.entry(&["b@peer.test"])).await;
    house.until("removed", 1).await;
    assert!(house.heard()[0].contains("TLSv1.3") && good.messages().len() == 1);
    assert_eq!(bad.said("MAIL"), 0);
}

#[tokio::test]
async fn a_handshake_that_ends_without_a_word_is_tried_once_more_with_a_shorter_hello() {
    let (_dir, tls) = certificate();
    let cut = |connection: usize, _: usize, heard: &str| {
        (connection == 0 && heard.starts_with("STARTTLS")).then_some(Act::SayAndClose("220 go"))
    };
    let peer = Peer::with(TLS, Some(tls), false, cut).await;
    let house = attempt(peer.address, Security::Encrypted).await;
    house.until("removed", 1).await;
    let heard = house.heard();
    assert!(heard[0].starts_with("relayed b@peer.test attempt=1") && heard[0].contains("TLSv1.3"), "{heard:?}");
    assert_eq!(peer.messages().len(), 1);
}

#[tokio::test]
async fn in_the_clear_only_on_a_later_attempt_and_never_against_policy() {
    let peer = broken().await;
    let house = attempt(peer.address, Security::Opportunistic).await;
    house.until("removed", 1).await;
    let heard = house.heard();
    assert!(heard[0].starts_with("delayed b@peer.test attempt=1") && heard[0].contains("handshake"), "{heard:?}");
    assert!(heard[1].starts_with("relayed b@peer.test attempt=2") && heard[1].contains("plaintext"), "{heard:?}");

    let peer = broken().await;
    let house = attempt(peer.address, Security::Encrypted).await;
    house.until("delayed b@peer.test attempt=3", 1).await;
    assert_eq!(peer.said("MAIL"), 0);
}

#[tokio::test]
async fn octets_behind_the_reply_to_starttls_end_the_attempt() {
    let (_dir, tls) = certificate();
    let inject =
        |_: usize, _: usize, heard: &str| heard.starts_with("STARTTLS").then_some(Act::Say("220 go\r\n250 injected"));
    let peer = Peer::with(TLS, Some(tls), false, inject).await;
    let house = attempt(peer.address, Security::Opportunistic).await;
    house.until("delayed b@peer.test attempt=2", 1).await;
    assert!(house.heard()[0].contains("injecting"), "{:?}", house.heard());
    assert_eq!(peer.messages().len(), 0);
}

#[tokio::test]
async fn requiretls_is_refused_by_a_peer_that_does_not_offer_it_and_never_dropped() {
    let peer = Peer::new(|_, _, _| None).await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Security::Opportunistic)]);
    let mut entry = house.entry(&["b@peer.test"]);
    entry.parameters.require_tls = true;
    house.send(entry).await;
    house.until("delayed", 1).await;
    assert_eq!(peer.said("MAIL"), 0);
}

#[tokio::test]
async fn a_host_with_a_login_gets_it_and_one_that_takes_none_gets_no_mail() {
    for (keywords, start) in [(&["PIPELINING", "AUTH PLAIN"][..], "relayed"), (&["PIPELINING"], "delayed")] {
        let peer = Peer::with(keywords, None, false, |_, _, _| None).await;
        let house = House::with(|options| {
            options.credentials.insert("mx.peer.test".into(), ("user".into(), "secret".into()));
        });
        house.mx("peer.test", vec![hop(peer.address, Security::Opportunistic)]);
        house.send(house.entry(&["b@peer.test"])).await;
        house.until(start, 1).await;
        assert_eq!(peer.said("AUTH PLAIN AHVzZXIAc2VjcmV0"), usize::from(start == "relayed"));
        assert_eq!(peer.said("MAIL"), usize::from(start == "relayed"));
    }
}

/// Whose policy, and what was wrong.
type Heard = Vec<(String, Option<Fault>)>;

/// What is told of one message's connections to a host with this certificate, under a policy of this mode.
async fn told(mode: Mode, hosts: &[&str], tls: Option<ServerTls>) -> Heard {
    let keywords: &'static [&'static str] = if tls.is_some() { TLS } else { &["PIPELINING"] };
    let peer = Peer::with(keywords, tls, false, |_, _, _| None).await;
    let heard: Arc<Mutex<Heard>> = Arc::default();
    let ears = heard.clone();
    let house = House::with(move |options| {
        options.tls_sessions = Some(Arc::new(move |session: Session| {
            let fault = session.fault.map(|(fault, _)| fault);
            ears.lock().unwrap().push((format!("{} {}", session.domain, session.policy.kind), fault));
        }));
    });
    let policy =
        Policy { mode, hosts: hosts.iter().map(ToString::to_string).collect(), max_age: Duration::from_secs(60) };
    let applied = Applied { domain: "peer.test".parse().unwrap(), sts: Some(Arc::new(policy)) };
    let security = if mode == Mode::Enforce { Security::Verified } else { Security::Opportunistic };
    let hops = vec![hop(peer.address, security)];
    house.plan("peer.test", Ok(Plan { hops, provider: "peer.test".into(), applied: Some(Arc::new(applied)) }));
    house.send(house.entry(&["b@peer.test"])).await;
    house.until(if mode == Mode::Enforce { "delayed" } else { "removed" }, 1).await;
    let mut heard = heard.lock().unwrap().clone();
    heard.truncate(1);
    heard
}

#[tokio::test]
async fn what_would_be_wrong_under_a_policy_that_is_tested_is_told_and_the_mail_goes_out() {
    let of = |fault| vec![("peer.test sts".to_string(), Some(fault))];
    let (_dir, tls) = certificate();
    assert_eq!(told(Mode::Testing, &["mx.peer.test"], Some(tls.clone())).await, of(Fault::CertificateNotTrusted));
    assert_eq!(told(Mode::Testing, &["other.test"], Some(tls.clone())).await, of(Fault::ValidationFailure));
    assert_eq!(told(Mode::Testing, &["mx.peer.test"], None).await, of(Fault::StarttlsNotSupported));
    assert_eq!(told(Mode::Enforce, &["mx.peer.test"], Some(tls)).await, of(Fault::CertificateNotTrusted));
    assert_eq!(told(Mode::Enforce, &["mx.peer.test"], None).await, of(Fault::StarttlsNotSupported));
}
