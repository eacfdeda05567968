//! Mail that arrives elsewhere.

use std::time::Duration;

use bytes::Bytes;
use waypost_deliver::Options;
use waypost_queue::{Claim, Handoff, Store};
use waypost_types::Message;
use waypost_types::Security::Plain;

use crate::house::{House, hop};
use crate::peer::{Act, Peer};

#[tokio::test]
async fn a_message_arrives_once_and_leaves_the_queue() {
    let peer = Peer::new(|_, _, _| None).await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    house.send(house.entry(&["b@peer.test"])).await;
    house.until("removed", 1).await;
    assert_eq!(peer.messages(), ["From: a@example.org\r\nSubject: test\r\n\r\nhello\r\n..dot\r\n"]);
    let heard = house.heard();
    let target = format!("mx.peer.test[127.0.0.1]:{}", peer.address.port());
    assert_eq!(
        heard[0],
        format!("relayed b@peer.test attempt=1 via={target} security=plaintext plain reply=250 2.0.0 taken")
    );
    assert!(house.is_empty());
    assert!(house.courier.shutdown().await);
}

#[tokio::test]
async fn a_connection_is_used_again_until_it_is_idle() {
    let peer = Peer::new(|_, _, _| None).await;
    let house = House::with(|options| options.connection_idle_max = Duration::from_millis(200));
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    for count in 1..=5 {
        house.send(house.entry(&["b@peer.test"])).await;
        house.until("removed", count).await;
    }
    assert_eq!(peer.said("EHLO"), 1, "{:?}", peer.log());
    assert_eq!(peer.said("RSET"), 0);
    while peer.said("QUIT") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    house.send(house.entry(&["b@peer.test"])).await;
    house.until("removed", 6).await;
    assert_eq!(peer.said("EHLO"), 2);
}

#[tokio::test]
async fn a_connection_carries_no_more_than_so_many() {
    let peer = Peer::new(|_, _, _| None).await;
    let house = House::with(|options| options.connection_messages_max = 2);
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    for count in 1..=5 {
        house.send(house.entry(&["b@peer.test"])).await;
        house.until("removed", count).await;
    }
    assert_eq!(peer.said("EHLO"), 3);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_attempt() {
    for close in [|| Act::Close, || Act::SayAndClose("421 4.4.2 idle too long")] {
        let peer = Peer::new(move |connection, transaction, heard| {
            ((connection, transaction) == (0, 1) && heard.starts_with("MAIL")).then(close)
        })
        .await;
        let house = House::new();
        house.mx("peer.test", vec![hop(peer.address, Plain)]);
        for count in 1..=2 {
            house.send(house.entry(&["b@peer.test"])).await;
            house.until("removed", count).await;
        }
        assert_eq!((house.count("relayed b@peer.test attempt=1"), house.count("delayed")), (2, 0));
        assert_eq!((peer.messages().len(), peer.said("EHLO")), (2, 2));
    }
}

#[tokio::test]
async fn an_idle_connection_closed_by_the_peer_is_forgotten() {
    let peer = Peer::new(|_, transaction, heard| {
        (heard == "idle" && transaction == 0).then_some(Act::SayAndClose("421 4.4.2 bye"))
    })
    .await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    for count in 1..=3 {
        house.send(house.entry(&["b@peer.test"])).await;
        house.until("removed", count).await;
    }
    assert_eq!((house.count("relayed b@peer.test attempt=1"), house.count("delayed")), (3, 0));
    assert_eq!(peer.messages().len(), 3);
}

#[tokio::test]
async fn recipients_with_different_next_hops_go_their_own_ways_and_the_entry_ends_once() {
    let (one, two) = (Peer::new(|_, _, _| None).await, Peer::new(|_, _, _| None).await);
    let house = House::new();
    house.mx("one.test", vec![hop(one.address, Plain)]);
    house.mx("two.test", vec![hop(two.address, Plain)]);
    house.send(house.entry(&["a@one.test", "b@two.test", "c@one.test", "bob@waypost.test"])).await;
    house.until("removed", 1).await;
    assert_eq!((one.messages().len(), two.messages().len(), house.mailbox("bob").len()), (1, 1, 1));
    assert_eq!((one.said("RCPT"), two.said("RCPT")), (2, 1));
    assert_eq!((house.count("relayed"), house.count("delivered"), house.count("removed")), (3, 1, 1));
    assert!(house.is_empty());
}

#[tokio::test]
async fn recipients_beyond_the_peers_room_go_at_once_in_a_further_transaction() {
    let peer = Peer::new(|_, transaction, heard| {
        let late = ["<c@", "<d@"].iter().any(|who| heard.contains(who));
        (transaction == 0 && late && heard.starts_with("RCPT")).then_some(Act::Say("452 4.5.3 too many recipients"))
    })
    .await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    house.send(house.entry(&["a@peer.test", "b@peer.test", "c@peer.test", "d@peer.test"])).await;
    house.until("removed", 1).await;
    assert_eq!((peer.messages().len(), peer.said("EHLO")), (2, 1));
    assert_eq!((house.count("relayed"), house.count("delayed")), (4, 0));
}

#[tokio::test]
async fn lmtp_settles_each_recipient_by_its_own_reply() {
    let peer = Peer::with(&["PIPELINING"], None, true, {
        let dots = std::sync::atomic::AtomicUsize::new(0);
        move |_, transaction, heard| {
            let second = heard == "." && dots.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1;
            (second && transaction == 0).then_some(Act::Say("452 4.2.2 mailbox full"))
        }
    })
    .await;
    let house = House::new();
    house.set_lmtp(peer.address);
    house.send(house.entry(&["a@lmtp.test", "b@lmtp.test", "c@lmtp.test"])).await;
    house.until("removed", 1).await;
    assert_eq!((peer.said("LHLO"), peer.messages().len()), (1, 2));
    assert_eq!(house.count("delayed b@lmtp.test attempt=1"), 1);
    assert_eq!(house.count("delivered b@lmtp.test attempt=2"), 1);
    assert_eq!(house.count("delivered"), 3);
    assert_eq!(
        peer.log().iter().filter(|line| line.contains("<a@lmtp.test>")).count(),
        1,
        "only the rest is tried again"
    );
}

#[tokio::test]
async fn lmtp_over_a_unix_socket_settles_each_recipient_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lmtp");
    let dots = std::sync::atomic::AtomicUsize::new(0);
    let peer = Peer::at_socket(&path, move |_, _, line| {
        let second = line == "." && dots.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1;
        second.then_some(Act::Say("550 5.2.2 mailbox full"))
    })
    .await;
    let house = House::new();
    house.set_lmtp_socket(path.to_str().unwrap());
    house.send(house.entry(&["a@lmtp.test", "b@lmtp.test", "c@lmtp.test"])).await;
    house.until("noticed", 1).await;
    assert_eq!((house.count("delivered"), house.count("failed b@lmtp.test"), peer.messages().len()), (2, 1, 1));
    assert!(house.heard()[0].contains(&format!("via={}", path.display())), "{:?}", house.heard());
}

#[tokio::test]
async fn many_messages_share_a_bounded_number_of_connections() {
    let peer = Peer::new(|_, _, _| None).await;
    let house = House::with(|options| options.schedule.limits.window.max = 5);
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    for _ in 0..300 {
        house.send(house.entry(&["b@peer.test"])).await;
    }
    house.until("removed", 300).await;
    assert_eq!(peer.messages().len(), 300);
    assert!(peer.said("EHLO") <= 5 + 3, "{} connections of at most 100 messages", peer.said("EHLO"));
    assert!(house.is_empty() && house.courier.in_hand() == 0);
}

#[tokio::test]
async fn what_is_in_the_queue_is_found_without_being_offered() {
    let peer = Peer::new(|_, _, _| None).await;
    let house = House::new();
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    let claim = house.accept(house.entry(&["b@peer.test"])).await;
    house.store.release(claim).await.unwrap();
    house.courier.wake();
    house.until("removed", 1).await;
    assert_eq!(peer.messages().len(), 1);
}

#[tokio::test]
async fn a_message_of_many_chunks_is_read_whole() {
    let peer = Peer::new(|_, _, _| None).await;
    let house = House::with(|_| {});
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    let body = format!("Subject: long\r\n\r\n{}", "0123456789abcdef\r\n".repeat(20_000));
    let message = Message::new(Bytes::from(body.clone()));
    let claim = house.store.accept(house.entry(&["b@peer.test"]), message).await.unwrap();
    assert!(claim.message.as_ref().unwrap().len() > 5 * house.store.limits().chunk_bytes);
    let claim = Claim { message: None, ..claim };
    house.courier.offer(claim);
    house.until("removed", 1).await;
    assert!(peer.messages() == [body]);
}

#[tokio::test]
async fn many_recipients_go_in_several_transactions() {
    let peer = Peer::new(|_, _, _| None).await;
    let house = House::with(|options| options.recipients_max = 10);
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    let names: Vec<String> = (0..45).map(|n| format!("u{n}@peer.test")).collect();
    house.send(house.entry(&names.iter().map(String::as_str).collect::<Vec<_>>())).await;
    house.until("removed", 1).await;
    assert_eq!((house.count("relayed"), peer.messages().len()), (45, 5));
}

#[tokio::test]
async fn draining_lets_what_runs_end_and_gives_the_rest_back() {
    let peer = Peer::new(|_, _, heard| (heard == ".").then_some(Act::Dally(Duration::from_millis(100)))).await;
    let house = House::with(one_at_a_time);
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    for _ in 0..3 {
        house.send(house.entry(&["b@peer.test"])).await;
    }
    peer.until("DATA", 1).await;
    assert!(house.courier.shutdown().await);
    let counts = house.store.counts();
    assert_eq!((house.count("removed"), counts.entries, counts.claimed), (1, 2, 0));
    // After the end nothing is taken any more.
    let claim = house.accept(house.entry(&["b@peer.test"])).await;
    house.courier.offer(claim);
    house.courier.shutdown().await;
    assert_eq!((house.count("removed"), peer.messages().len()), (1, 1));
}

#[tokio::test]
async fn draining_has_an_end() {
    let peer = Peer::new(|_, _, heard| (heard == ".").then_some(Act::Hang)).await;
    let house = House::with(|options| options.drain_max = Duration::from_millis(100));
    house.mx("peer.test", vec![hop(peer.address, Plain)]);
    house.send(house.entry(&["b@peer.test"])).await;
    peer.until("DATA", 1).await;
    assert!(!house.courier.shutdown().await);
    assert_eq!((house.courier.in_hand(), house.store.counts().entries), (1, 1));
}

fn one_at_a_time(options: &mut Options) {
    options.schedule.limits.window.initial = 1;
    options.schedule.limits.window.max = 1;
}
