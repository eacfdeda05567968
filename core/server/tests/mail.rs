//! Mail through real sockets: what is accepted, what it looks like in the queue, what is refused and how.

mod harness;

use std::sync::Arc;

use harness::{Client, Court, House, Names, PATIENCE, Plan, address, mx};
use waypost_queue::Store;
use waypost_queue::{MemoryStore, StoreError};
use waypost_server::Rules;
use waypost_smtp::server::Policy;
use waypost_types::{Edit, Enhanced, Judgement, Reply, ReversePath, Stage, Transport, Verdict};

const TEXT: &str = "From: a@client.example\r\nSubject: x\r\n\r\nHello";

fn court(stages: &[Stage], verdict: Verdict) -> Arc<Court> {
    Court::at(stages, move |_| Judgement { verdict: verdict.clone(), by: Some("plug".into()), ..Judgement::default() })
}

fn judged(court: Arc<Court>) -> Rules {
    Rules { judge: court, ..mx() }
}

async fn house(rules: Rules) -> House {
    Plan::one(rules).start().await
}

#[tokio::test]
async fn a_message_is_in_the_queue_before_its_250() {
    let house = house(mx()).await;
    let mut client = Client::ready(&house).await;
    let reply = client.message("a@client.example", &["alice@waypost.test"], TEXT).await;
    let (entry, text) = house.message().await;
    assert_eq!(reply, format!("250 2.0.0 queued as {}\r\n", entry.id));
    assert_eq!(entry.sender, ReversePath::Mailbox(address("a@client.example")));
    assert_eq!(entry.size, text.len() as u64);
    assert_eq!(entry.origin.transport, Transport::Mx);
    let lines: Vec<_> = text.split("\r\n").collect();
    assert_eq!(lines[0], "Received: from client.example ([127.0.0.1])");
    assert_eq!(lines[1], format!("\tby mx.waypost.test with ESMTP id {}", entry.id));
    assert_eq!(lines[2], "\tfor <alice@waypost.test>;");
    assert!(lines[3].ends_with(" +0000"));
    assert_eq!(lines[4..].join("\r\n"), format!("{TEXT}\r\n"));
    assert_eq!(house.hands.0.lock().expect("hands").len(), 1, "handed over to delivery");
    client.ask("QUIT\r\n", "221").await;
    house.until("Disconnected", 1).await;
    let event = house.log.find("Disconnected").expect("it was said");
    assert!(event.contains("\"quit\"") && event.contains("messages: 1"), "{event}");
}

#[tokio::test]
async fn nobody_relays_through_us_by_any_trick() {
    let house = house(mx()).await;
    let mut client = Client::ready(&house).await;
    client.ask("MAIL FROM:<a@client.example>\r\n", "250").await;
    for (to, start) in [
        ("<x@elsewhere.test>", "550 5.7.1"),
        ("<x%elsewhere.test@waypost.test>", "550 5.1.1"),
        ("<elsewhere.test!x@waypost.test>", "550 5.1.1"),
        ("<\"x@elsewhere.test\"@waypost.test>", "550 5.1.1"),
        ("<x%elsewhere.test@relay.test>", "550 5.7.1"),
        ("<@waypost.test:x@elsewhere.test>", "550 5.7.1"),
        ("<x@[192.0.2.1]>", "550 5.7.1"),
        ("<nobody@waypost.test>", "550 5.1.1"),
        ("<ok@relay.test>", "250"),
        ("<Postmaster>", "250"),
    ] {
        client.ask(&format!("RCPT TO:{to}\r\n"), start).await;
    }
    assert_eq!(house.log.count("Rejected"), 8);
}

#[tokio::test]
async fn an_alias_leads_to_its_members_once_each() {
    let house = house(mx()).await;
    let mut client = Client::ready(&house).await;
    client.message("a@client.example", &["alice@waypost.test", "all@waypost.test"], TEXT).await;
    let mut entries = house.entries().await;
    // Both came in the same millisecond perhaps: their ids say nothing about their order.
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.recipients.len()));
    let got = |at: usize| -> Vec<_> {
        let deliveries = entries[at].recipients.iter();
        deliveries.map(|d| (d.recipient.address.to_string(), d.recipient.original.clone())).collect()
    };
    let was: Option<Box<str>> = Some("rfc822;all@waypost.test".into());
    assert_eq!(got(0), [("alice@waypost.test".to_string(), None), ("bob@waypost.test".to_string(), was.clone())]);
    assert_eq!(
        got(1),
        [("x@elsewhere.test".to_string(), was)],
        "what is sent on to another site is an entry of its own"
    );
    assert_eq!(entries.len(), 2);
    let stays = String::from_utf8_lossy(&house.store.read(entries[0].id, 0).await.expect("a message")).into_owned();
    let leaves = String::from_utf8_lossy(&house.store.read(entries[1].id, 0).await.expect("a message")).into_owned();
    assert!(!stays.contains("\tfor <"), "several recipients are not shown to each other");
    assert!(leaves.starts_with("Delivered-To: all@waypost.test\r\n") && !stays.contains("Delivered-To:"), "{leaves}");
    // It has come back.
    let again = format!("Delivered-To: all@waypost.test\r\n{TEXT}");
    let reply = client.message("a@client.example", &["all@waypost.test"], &again).await;
    assert!(reply.starts_with("554 5.4.6 mail forwarding loop for all@waypost.test"), "{reply}");
    let reply = client.message("a@client.example", &["alice@waypost.test"], &again).await;
    assert!(reply.starts_with("250"), "what ends in a mailbox cannot loop: {reply}");
}

#[tokio::test]
async fn trusted_networks_relay_and_strangers_do_not() {
    let ours = Rules {
        relay_networks: Arc::from(["127.0.0.0/8".parse().expect("a network")]),
        ..Rules::new(Arc::new(Policy::relay("mx.waypost.test")), Court::none())
    };
    let house = house(ours).await;
    let mut client = Client::ready(&house).await;
    let reply = client.message("a@client.example", &["x@elsewhere.test"], TEXT).await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
}

#[tokio::test]
async fn a_looping_message_is_refused() {
    let house = house(mx()).await;
    let mut client = Client::ready(&house).await;
    let hops = "Received: x\r\n".repeat(50);
    let reply = client.message("a@client.example", &["alice@waypost.test"], &format!("{hops}{TEXT}")).await;
    assert!(reply.starts_with("250"), "fifty are allowed: {reply}");
    let reply =
        client.message("a@client.example", &["alice@waypost.test"], &format!("{hops}received: y\r\n{TEXT}")).await;
    assert!(reply.starts_with("554 5.4.6"), "{reply}");
}

#[tokio::test]
async fn forged_fields_are_gone_before_anybody_looks() {
    let court = Court::at(&[Stage::Message], |_| Judgement::default());
    let house = house(judged(court.clone())).await;
    let mut client = Client::ready(&house).await;
    let forged = format!(
        "Return-Path: <x@y>\r\nAuthentication-Results:\r\n\tMX.waypost.test; dkim=pass\r\nX-Spam-Score: -5\r\n\
         Authentication-Results: other; spf=pass\r\n{TEXT}"
    );
    client.message("a@client.example", &["alice@waypost.test"], &forged).await;
    let clean = format!("Authentication-Results: other; spf=pass\r\n{TEXT}\r\n");
    assert_eq!(court.asked.lock().expect("asked")[0], (Stage::Message, clean.clone()));
    let (_, text) = house.message().await;
    assert!(text.ends_with(&clean) && !text.contains("dkim=pass") && !text.contains("Return-Path"), "{text}");
}

#[tokio::test]
async fn a_body_without_a_header_does_not_become_one() {
    let house = house(mx()).await;
    let mut client = Client::ready(&house).await;
    client.message("a@client.example", &["alice@waypost.test"], "Just some words\r\nSubject: no").await;
    let (_, text) = house.message().await;
    assert!(text.ends_with("+0000\r\n\r\nJust some words\r\nSubject: no\r\n"), "{text}");
}

#[tokio::test]
async fn an_empty_message_is_a_message() {
    let house = house(mx()).await;
    let mut client = Client::ready(&house).await;
    client.envelope("", &["alice@waypost.test"]).await;
    client.ask("DATA\r\n", "354").await;
    client.ask(".\r\n", "250 2.0.0").await;
    let (entry, _) = house.message().await;
    assert_eq!(entry.sender, ReversePath::Null);
}

#[tokio::test]
async fn a_store_that_says_no_is_never_a_250() {
    let house = house(mx()).await;
    let mut client = Client::ready(&house).await;
    for (fault, start) in [
        (StoreError::Busy, "451 4.3.0"),
        (StoreError::Full, "452 4.3.1"),
        (StoreError::Failed("disk on fire".into()), "452 4.3.0"),
    ] {
        house.store.set_fault(Some(fault));
        let reply = client.message("a@client.example", &["alice@waypost.test"], TEXT).await;
        assert!(reply.starts_with(start), "{reply}");
    }
    assert_eq!((house.log.count("StoreFailed"), house.log.count("Accepted")), (1, 0));
    house.store.set_fault(None);
    let reply = client.message("a@client.example", &["alice@waypost.test"], TEXT).await;
    assert!(reply.starts_with("250"), "the session goes on: {reply}");
}

#[tokio::test]
async fn a_message_beyond_the_stores_limits_is_refused_for_good() {
    let mut limits = waypost_queue::Store::limits(&MemoryStore::default());
    limits.message_bytes_max = 1000;
    let plan = Plan { store: Arc::new(MemoryStore::new(limits)), ..Plan::one(mx()) };
    let house = plan.start().await;
    let mut client = Client::ready(&house).await;
    let reply =
        client.message("a@client.example", &["alice@waypost.test"], &format!("{TEXT}{}", "x".repeat(900))).await;
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
}

#[tokio::test]
async fn judges_refuse_defer_and_disconnect_at_every_stage() {
    let no = Reply::new(550, Enhanced(5, 7, 1), "not you");
    for (stage, before, command) in [
        (Stage::Helo, "", "EHLO client.example\r\n"),
        (Stage::Mail, "EHLO client.example\r\n", "MAIL FROM:<a@client.example>\r\n"),
        (Stage::Rcpt, "EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n", "RCPT TO:<alice@waypost.test>\r\n"),
    ] {
        let defer = Verdict::Defer(Reply::new(451, Enhanced(4, 7, 1), "later"));
        for (verdict, start) in [(Verdict::Refuse(no.clone()), "550 5.7.1 not you"), (defer, "451 4.7.1 later")] {
            let house = house(judged(court(&[stage], verdict))).await;
            let mut client = house.connect().await;
            client.expect("220").await;
            for line in before.split_inclusive("\r\n") {
                client.ask(line, "250").await;
            }
            client.ask(command, start).await;
            assert_eq!(house.log.count("Rejected"), 1);
            assert!(house.log.find("Rejected").expect("it was said").contains("plug"));
        }
        let house = house(judged(court(&[stage], Verdict::Disconnect(no.clone())))).await;
        let mut client = house.connect().await;
        client.expect("220").await;
        for line in before.split_inclusive("\r\n") {
            client.ask(line, "250").await;
        }
        client.ask(command, "550 5.7.1 not you").await;
        assert_eq!(client.line().await, None, "closed");
    }
}

#[tokio::test]
async fn a_judge_at_the_door_turns_the_greeting_into_a_refusal() {
    let no = Reply::new(554, Enhanced(5, 7, 1), "listed");
    let house = house(judged(court(&[Stage::Connect], Verdict::Refuse(no)))).await;
    let mut client = house.connect().await;
    client.expect("554").await;
}

#[tokio::test]
async fn accept_at_a_stage_opens_no_relay() {
    let house = house(judged(court(&[Stage::Connect, Stage::Mail, Stage::Rcpt], Verdict::Accept))).await;
    let mut client = Client::ready(&house).await;
    client.ask("MAIL FROM:<a@client.example>\r\n", "250").await;
    client.ask("RCPT TO:<x@elsewhere.test>\r\n", "550 5.7.1").await;
}

#[tokio::test]
async fn judges_see_the_clients_confirmed_name_and_so_does_the_trace() {
    // Loopback is never looked up, so what is tested is that nobody waits for it.
    let court = Court::at(&[Stage::Rcpt], |question| {
        assert!(question.session.peer_name.is_none());
        assert_eq!(question.recipient.as_ref().map(|r| r.address.to_string()).as_deref(), Some("alice@waypost.test"));
        Judgement::default()
    });
    let plan = Plan { dns: Names(Some("wrong.example")), ..Plan::one(judged(court)) };
    let house = plan.start().await;
    let mut client = Client::ready(&house).await;
    client.message("a@client.example", &["alice@waypost.test"], TEXT).await;
}

#[tokio::test]
async fn a_discarded_message_looks_accepted_and_a_held_one_waits() {
    let house = house(judged(court(&[Stage::Message], Verdict::Discard))).await;
    let mut client = Client::ready(&house).await;
    let reply = client.message("a@client.example", &["alice@waypost.test"], TEXT).await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    assert_eq!((house.entries().await.len(), house.log.count("Discarded"), house.log.count("Accepted")), (0, 1, 0));

    let house = self::house(judged(court(&[Stage::Rcpt], Verdict::Hold("look at it".into())))).await;
    let mut client = Client::ready(&house).await;
    client.message("a@client.example", &["alice@waypost.test"], TEXT).await;
    assert_eq!(house.message().await.0.held.as_deref(), Some("look at it"));
    // The next transaction is judged by itself.
    client.ask("RSET\r\n", "250").await;
}

#[tokio::test]
async fn edits_of_all_stages_are_applied_and_the_signer_sees_the_result() {
    let court = Court::at(&[Stage::Mail, Stage::Message, Stage::Queue], |question| {
        let edit = match question.stage {
            Stage::Mail => Edit::AddRecipient(address("bob@waypost.test")),
            Stage::Message => Edit::AppendHeader { name: "X-Seen".into(), value: "yes".into() },
            _ => Edit::PrependHeader { name: "X-Signed".into(), value: question.queue_id.expect("known").to_string() },
        };
        Judgement { edits: vec![edit], ..Judgement::default() }
    });
    let house = house(judged(court.clone())).await;
    let mut client = Client::ready(&house).await;
    client.message("a@client.example", &["alice@waypost.test"], TEXT).await;
    let (entry, text) = house.message().await;
    assert_eq!(entry.recipients.len(), 2);
    assert!(text.starts_with(&format!("X-Signed: {}\r\nReceived: from ", entry.id)), "{text}");
    assert!(text.contains("Subject: x\r\nX-Seen: yes\r\n\r\nHello"), "{text}");
    let asked = court.asked.lock().expect("asked");
    let (stage, seen) = asked.last().expect("asked");
    assert_eq!(*stage, Stage::Queue);
    assert!(seen.starts_with("Received: ") && seen.contains("X-Seen: yes"), "{seen}");
}

#[tokio::test]
async fn lmtp_answers_for_each_recipient() {
    let house = house(Rules::new(Arc::new(Policy::lmtp("mx.waypost.test")), Court::none())).await;
    let mut client = house.connect().await;
    client.expect("220").await;
    client.ask("LHLO client.example\r\n", "250").await;
    client.envelope("a@client.example", &["alice@waypost.test", "bob@waypost.test"]).await;
    client.ask("DATA\r\n", "354").await;
    client.ask(&format!("{TEXT}\r\n.\r\n"), "250 2.0.0").await;
    client.expect("250 2.0.0").await;
    assert!(house.message().await.1.contains("with LMTP id"));
}

#[tokio::test]
async fn a_large_message_arrives_octet_by_octet_the_same() {
    let house = house(mx()).await;
    let mut client = Client::ready(&house).await;
    let mut text = String::from("Subject: large\r\n\r\n");
    for n in 0..40_000 {
        text += &format!(".{n} dots at the front are stuffed on the wire\r\n");
    }
    client.ask(&format!("MAIL FROM:<a@client.example> SIZE={}\r\n", text.len()), "250").await;
    client.ask("RCPT TO:<alice@waypost.test>\r\n", "250").await;
    client.ask("DATA\r\n", "354").await;
    client.ask(&format!("{}.\r\n", text.replace("\r\n.", "\r\n..")), "250").await;
    assert!(house.message().await.1.ends_with(&text));

    client.envelope("b@client.example", &["alice@waypost.test"]).await;
    let (first, second) = text.split_at(text.len() / 3);
    client.ask(&format!("BDAT {}\r\n{first}", first.len()), "250").await;
    client.ask(&format!("BDAT {} LAST\r\n{second}", second.len()), "250 2.0.0").await;
    assert_eq!(house.entries().await.len(), 2);
}

#[tokio::test]
async fn memory_for_messages_is_bounded_over_all_sessions() {
    let mut plan = Plan::one(mx());
    plan.options.intake_bytes_max = 100_000;
    let house = plan.start().await;
    let mut greedy = Client::ready(&house).await;
    greedy.envelope("a@client.example", &["alice@waypost.test"]).await;
    greedy.ask("DATA\r\n", "354").await;
    greedy.send(&"x\r\n".repeat(31_000)).await;
    // Give the server the time to read it: it says nothing meanwhile.
    let mut other = Client::ready(&house).await;
    other.envelope("b@client.example", &["alice@waypost.test"]).await;
    let refused = async {
        loop {
            let reply = other.ask("DATA\r\n", "").await;
            if reply.starts_with("452 4.3.1") {
                return;
            }
            other.ask(".\r\n", "250").await;
            other.envelope("b@client.example", &["alice@waypost.test"]).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("refused while the memory is taken");
    let reply = greedy.ask(&format!("{}.\r\n", "x\r\n".repeat(31_000)), "").await;
    assert!(reply.starts_with("452 4.3.1"), "too much for all: {reply}");
    let reply = greedy.message("a@client.example", &["alice@waypost.test"], TEXT).await;
    assert!(reply.starts_with("250"), "the memory is free again: {reply}");
}

#[tokio::test]
async fn addresses_beyond_ascii_need_smtputf8() {
    let house = house(mx()).await;
    let mut client = Client::ready(&house).await;
    client.ask("MAIL FROM:<j\u{fc}rgen@client.example>\r\n", "553 5.6.7").await;
    client.ask("MAIL FROM:<j\u{fc}rgen@client.example> SMTPUTF8\r\n", "250").await;
    client.ask("RCPT TO:<alice@waypost.test>\r\n", "250").await;
    client.ask("DATA\r\n", "354").await;
    client.ask(&format!("{TEXT}\r\n.\r\n"), "250").await;
    assert!(house.message().await.1.contains("with UTF8SMTP id"));
}
