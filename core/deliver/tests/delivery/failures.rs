//! Mail that does not arrive, or not at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use waypost_queue::{Claim, Handoff, Kind, Store, StoreError};
use waypost_resolve::Plan;
use waypost_types::{Enhanced, Notify, Reply, ReversePath, Security::Plain};

use crate::house::{House, hop, now};
use crate::peer::{Act, Peer};

type Line = fn(usize, usize, &str) -> Option<Act>;

#[tokio::test]
async fn greylisting_is_survived() {
    let tries = AtomicUsize::new(0);
    let peer = Peer::new(move |_, _, heard| {
        let early = heard.starts_with("RCPT") && tries.fetch_add(1, Ordering::Relaxed) < 2;
        early.then_some(Act::Say("450 4.7.1 greylisted, come back later"))
    })
    .await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    house.send(house.entry(&["b@peer.test"])).await;
    house.until("removed", 1).await;
    let starts = ["delayed b@peer.test attempt=1", "delayed b@peer.test attempt=2", "relayed b@peer.test attempt=3"];
    for (heard, start) in house.heard().iter().zip(starts) {
        assert!(heard.starts_with(start), "{heard}");
    }
    assert_eq!(peer.messages().len(), 1);
}

#[tokio::test]
async fn a_refusal_comes_back_as_one_report() {
    let peer = Peer::new(|_, _, heard| {
        let refuse = heard.starts_with("RCPT") && !heard.contains("<good@");
        refuse.then_some(Act::Say("550 5.1.1 no such user"))
    })
    .await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    house.send(house.entry(&["bad@peer.test", "good@peer.test", "worse@peer.test"])).await;
    house.until("removed", 2).await;
    assert_eq!((house.count("failed"), house.count("relayed"), house.count("noticed failure")), (2, 1, 1));
    let [report] = &house.mailbox("a")[..] else { panic!("one report") };
    assert!(report.starts_with("Return-Path: <>\n"));
    for text in ["bad@peer.test", "worse@peer.test", "Status: 5.1.1", "Subject: test", "no such user"] {
        assert!(report.contains(text), "{text} in {report}");
    }
    assert!(!report.contains("rfc822;good@peer.test") && house.is_empty());
}

#[tokio::test]
async fn nobody_is_told_who_did_not_ask_or_cannot_be_asked() {
    let peer = Peer::new(|_, _, heard| heard.starts_with("RCPT").then_some(Act::Say("550 no"))).await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    let mut never = house.entry(&["b@peer.test"]);
    never.recipients[0].recipient.notify = Notify::NEVER;
    let mut null = house.entry(&["b@peer.test"]);
    null.sender = ReversePath::Null;
    let mut notice = house.entry(&["b@peer.test"]);
    notice.kind = Kind::Notice;
    for entry in [never, null, notice] {
        house.send(entry).await;
    }
    house.until("removed", 3).await;
    assert_eq!((house.count("failed"), house.count("noticed")), (3, 0));
    assert!(house.is_empty());
}

#[tokio::test]
async fn nowhere_is_a_failure_with_the_operators_words() {
    let house = House::new();
    house.send(house.entry(&["b@nowhere.test"])).await;
    house.until("removed", 2).await;
    assert!(house.heard()[0].contains("550 5.0.0 there is no such place"));
}

#[tokio::test]
async fn the_resolvers_word_settles() {
    let house = House::new();
    house.plan("gone.test", Err(Reply::new(550, Enhanced(5, 1, 2), "domain gone.test does not exist")));
    house.send(house.entry(&["b@gone.test"])).await;
    house.until("failed b@gone.test attempt=1 via=gone.test", 1).await;
    house.plan("slow.test", Err(Reply::new(451, Enhanced(4, 4, 3), "no answer")));
    house.send(house.entry(&["b@slow.test"])).await;
    house.until("delayed b@slow.test attempt=2", 1).await;
    house.plan("slow.test", Err(Reply::new(550, Enhanced(5, 1, 2), "gone as well")));
    house.until("failed b@slow.test", 1).await;
}

#[tokio::test]
async fn what_is_tried_too_long_is_given_up() {
    let peer = Peer::new(|_, _, heard| heard.starts_with("MAIL").then_some(Act::Say("451 4.3.0 not today"))).await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    let mut entry = house.entry(&["b@peer.test"]);
    entry.expires = now().after(Duration::from_millis(250));
    house.send(entry).await;
    house.until("failed b@peer.test", 1).await;
    house.until("noticed failure a@waypost.test", 1).await;
    let last = house.heard().into_iter().find(|line| line.starts_with("failed")).unwrap();
    assert!(last.contains("554 5.4.7") && last.contains("not today"), "{last}");
    assert!(house.count("delayed") >= 2);
}

#[tokio::test]
async fn a_delay_is_reported_once() {
    let peer = Peer::new(|_, _, heard| heard.starts_with("MAIL").then_some(Act::Say("451 4.3.0 not today"))).await;
    let house = House::with(|options| options.reporter.delay_after = Duration::from_millis(50));
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    house.send(house.entry(&["b@peer.test"])).await;
    house.until("delayed", 5).await;
    assert_eq!(house.count("noticed delay a@waypost.test"), 1);
    house.until("removed", 1).await;
    assert!(house.mailbox("a")[0].contains("Action: delayed"));
}

#[tokio::test]
async fn the_next_host_is_tried_when_one_does_not_answer_or_puts_off() {
    let scripts: [Line; 5] = [
        |_, _, heard| (heard == "connect").then_some(Act::SayAndClose("421 4.3.2 busy")),
        |_, _, heard| (heard == "connect").then_some(Act::SayAndClose("554 5.7.1 go away")),
        |_, _, heard| heard.starts_with("EHLO").then_some(Act::Close),
        |_, _, heard| heard.starts_with("MAIL").then_some(Act::Say("451 4.3.0 later")),
        |_, _, heard| heard.starts_with("DATA").then_some(Act::Close),
    ];
    for script in scripts {
        let (bad, good) = (Peer::new(script).await, Peer::new(|_, _, _| None).await);
        let house = House::new();
        house.mx("peer.test", vec![hop(bad.address, Plain), hop(good.address, Plain)]);
        house.send(house.entry(&["b@peer.test"])).await;
        house.until("removed", 1).await;
        assert_eq!((house.count("relayed b@peer.test attempt=1"), house.count("delayed")), (1, 0));
        assert_eq!(good.messages().len(), 1);
    }
}

#[tokio::test]
async fn a_refusal_by_the_first_host_is_final_and_so_is_a_delay_of_a_recipient() {
    for (reply, word) in [("550 5.1.1 no", "failed"), ("450 4.2.1 later", "delayed")] {
        let bad = Peer::new(move |_, _, heard| heard.starts_with("RCPT").then_some(Act::Say(reply))).await;
        let good = Peer::new(|_, _, _| None).await;
        let house = House::new();
        house.mx("peer.test", vec![hop(bad.address, Plain), hop(good.address, Plain)]);
        house.send(house.entry(&["b@peer.test"])).await;
        house.until(word, 1).await;
        assert!(good.log().is_empty());
    }
}

#[tokio::test]
async fn lost_after_some_were_refused_only_the_rest_goes_to_the_next_host() {
    let bad = Peer::new(|_, _, heard| match heard {
        _ if heard.starts_with("RCPT") && heard.contains("<bad@") => Some(Act::Say("550 5.1.1 no such user")),
        _ if heard.starts_with("DATA") => Some(Act::Close),
        _ => None,
    })
    .await;
    let good = Peer::new(|_, _, _| None).await;
    let house = House::new();
    house.mx("peer.test", vec![hop(bad.address, Plain), hop(good.address, Plain)]);
    house.send(house.entry(&["bad@peer.test", "b@peer.test"])).await;
    house.until("relayed b@peer.test attempt=1", 1).await;
    assert_eq!((house.count("failed bad@peer.test"), good.said("RCPT")), (1, 1));
}

#[tokio::test]
async fn refused_by_every_greeting_is_a_failure_and_unreachable_is_a_delay() {
    let refuse =
        |_: usize, _: usize, heard: &str| (heard == "connect").then_some(Act::SayAndClose("554 5.7.1 go away"));
    let (one, two, three) = (Peer::new(refuse).await, Peer::new(refuse).await, Peer::new(|_, _, _| None).await);
    let house = House::new();
    house.mx("peer.test", vec![hop(one.address, Plain), hop(two.address, Plain), hop(three.address, Plain)]);
    house.send(house.entry(&["b@peer.test"])).await;
    house.until("failed b@peer.test", 1).await;
    assert!(three.log().is_empty(), "one second opinion is enough");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    house.mx("dead.test", vec![hop(closed, Plain)]);
    house.send(house.entry(&["b@dead.test"])).await;
    house.until("delayed b@dead.test attempt=1", 1).await;
}

#[tokio::test]
async fn lost_after_the_final_dot_is_tried_again() {
    let peer = Peer::new(|connection, _, heard| (heard == "." && connection == 0).then_some(Act::Close)).await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    house.send(house.entry(&["b@peer.test"])).await;
    house.until("removed", 1).await;
    assert_eq!(house.count("delayed b@peer.test attempt=1"), 1);
    assert_eq!(house.count("relayed b@peer.test attempt=2"), 1);
    assert_eq!(peer.messages().len(), 2, "twice is allowed, never is not");
}

#[tokio::test]
async fn a_421_instead_of_the_250_is_no_delivery() {
    let peer =
        Peer::new(|connection, _, heard| (heard == "." && connection == 0).then_some(Act::SayAndClose("421 4.3.0 no")))
            .await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    house.send(house.entry(&["b@peer.test"])).await;
    house.until("removed", 1).await;
    assert_eq!((house.count("delayed"), house.count("relayed b@peer.test attempt=2")), (1, 1));
}

#[tokio::test]
async fn a_dead_destination_is_left_alone_and_costs_no_attempts() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let house = House::with(|options| options.schedule.limits.window.initial = 1);
    house.mx("dead.test", vec![hop(closed, Plain)]);
    house.send(house.entry(&["b@dead.test"])).await;
    house.until("delayed b@dead.test attempt=1", 1).await;
    let id = house.send(house.entry(&["c@dead.test"])).await;
    house.until("delayed c@dead.test attempt=0 via=none", 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let entry = house.store.get(id).await.unwrap().unwrap();
    assert_eq!(entry.recipients[0].attempts, 0);
    assert!(entry.recipients[0].due > now().after(Duration::from_secs(30)));
}

#[tokio::test]
async fn a_busy_store_is_asked_again_and_a_failed_one_stops_the_courier() {
    let peer = Peer::new(|_, _, _| None).await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    let claim = house.accept(house.entry(&["b@peer.test"])).await;
    house.store.set_fault(Some(StoreError::Busy));
    house.courier.offer(claim);
    house.until("relayed", 1).await;
    assert_eq!(house.count("removed"), 0);
    house.store.set_fault(None);
    house.until("removed", 1).await;
    assert_eq!(peer.messages().len(), 1);

    let claim = house.accept(house.entry(&["b@peer.test"])).await;
    house.store.set_fault(Some(StoreError::Failed("input/output error".into())));
    house.courier.offer(claim);
    house.until("StoreFailed", 1).await;
    house.until("Notice", 1).await;
    house.store.set_fault(None);
    let next = house.accept(house.entry(&["c@peer.test"])).await;
    house.courier.offer(next);
    tokio::task::yield_now().await;
    assert_eq!(peer.messages().len(), 2, "nothing is sent that cannot be settled");
}

#[tokio::test]
async fn different_hosts_of_one_provider_do_not_mix_policies() {
    let peer = Peer::new(|_, _, _| None).await;
    let house = House::new();
    let plan = |security| Plan { hops: vec![hop(peer.address, security)], provider: "shared".into(), applied: None };
    house.plan("lax.test", Ok(plan(Plain)));
    house.plan("strict.test", Ok(plan(waypost_types::Security::Verified)));
    house.send(house.entry(&["b@lax.test"])).await;
    house.until("relayed b@lax.test", 1).await;
    house.send(house.entry(&["b@strict.test"])).await;
    house.until("delayed b@strict.test", 1).await;
    assert_eq!(peer.messages().len(), 1, "the kept connection is not good enough");
}

#[tokio::test]
async fn a_claim_that_was_lost_is_not_settled_and_not_repeated_by_its_old_holder() {
    let peer = Peer::new(|_, _, heard| (heard == ".").then_some(Act::Dally(Duration::from_millis(50)))).await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    let claim = house.accept(house.entry(&["b@peer.test"])).await;
    let stale = Claim { token: 0, ..claim.clone() };
    house.courier.offer(stale);
    house.until("Notice", 1).await;
    assert_eq!((house.count("relayed"), house.count("removed"), house.courier.in_hand()), (1, 0, 0));
    assert_eq!(house.store.get(claim.entry.id).await.unwrap().unwrap().recipients[0].attempts, 0);
}

#[tokio::test]
async fn what_is_held_is_not_delivered() {
    let house = House::new();
    let mut entry = house.entry(&["bob@waypost.test"]);
    entry.held = Some("an operator looks at it".into());
    house.send(entry).await;
    house.send(house.entry(&["carol@waypost.test"])).await;
    house.until("removed", 1).await;
    assert_eq!((house.mailbox("bob").len(), house.mailbox("carol").len(), house.store.counts().claimed), (0, 1, 0));
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up_in_time() {
    let mute = Peer::new(|_, _, heard| (heard == "connect").then_some(Act::Hang)).await;
    let slow = Peer::new(|connection, _, heard| (heard == "." && connection == 0).then_some(Act::Hang)).await;
    let house = House::with(|options| options.timeout_divisor = 2000);
    house.mx("mute.test", vec![hop(mute.address, Plain)]);
    house.mx("slow.test", vec![hop(slow.address, Plain)]);
    house.send(house.entry(&["b@mute.test"])).await;
    house.send(house.entry(&["b@slow.test"])).await;
    house.until("delayed b@mute.test attempt=1", 1).await;
    house.until("relayed b@slow.test attempt=2", 1).await;
    let heard = house.heard();
    let of = |who| heard.iter().find(|line| line.contains(who)).unwrap();
    assert!(of("b@mute.test").contains("timed out while waiting for the greeting"));
    assert!(of("b@slow.test").contains("timed out while waiting for the reply to the final dot"));
}
