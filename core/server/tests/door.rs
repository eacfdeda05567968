//! The door itself: TLS, logins, limits, rude and vanishing clients, reload, shutdown.

mod harness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Client, Court, Plan, mx};
use waypost_server::Rules;
use waypost_smtp::server::Policy;
use waypost_types::{Judgement, Stage};

const TEXT: &str = "From: alice@waypost.test\r\nSubject: x\r\n\r\nHello";

fn submission() -> Rules {
    Rules::new(Arc::new(Policy::submission("mx.waypost.test")), Court::none())
}

fn submissions() -> Rules {
    Rules::new(Arc::new(Policy::submissions("mx.waypost.test")), Court::none())
}

/// `\0alice\0secret` and `\0alice\0wrong!` in base 64.
const GOOD: &str = "AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n";
const BAD: &str = "AUTH PLAIN AGFsaWNlAHdyb25nIQ==\r\n";

#[tokio::test]
async fn starttls_is_negotiated_and_shown_in_the_trace() {
    let house = Plan::one(mx()).start().await;
    let mut client = Client::ready(&house).await.start_tls().await;
    client.ehlo().await;
    client.message("a@client.example", &["alice@waypost.test"], TEXT).await;
    let (_, text) = house.message().await;
    assert!(text.contains("with ESMTPS id ") && text.contains("\r\n\t(TLSv1.3 TLS_"), "{text}");
    assert_eq!(house.log.count("TlsStarted"), 1);
}

#[tokio::test]
async fn what_was_said_before_tls_is_void_inside_it() {
    let house = Plan::one(mx()).start().await;
    let mut client = Client::ready(&house).await;
    client.send("STARTTLS\r\nMAIL FROM:<evil@client.example>\r\n").await;
    // Either way of dealing with it is sound; what must not happen is that MAIL is answered inside TLS.
    let reply = client.line().await.unwrap_or_default();
    if reply.starts_with("220") {
        let mut client = client.tls().await;
        client.ask("RCPT TO:<alice@waypost.test>\r\n", "503").await;
    }
}

#[tokio::test]
async fn a_user_logs_in_inside_tls_and_relays() {
    let house = Plan::one(submission()).start().await;
    let mut client = Client::ready(&house).await;
    client.ask("MAIL FROM:<alice@waypost.test>\r\n", "530 5.7.0").await;
    let mut client = client.start_tls().await;
    let offer = client.ehlo().await;
    assert!(offer.contains("AUTH PLAIN"), "{offer}");
    client.ask("MAIL FROM:<alice@waypost.test>\r\n", "530 5.7.0").await;
    client.ask(GOOD, "235 2.7.0").await;
    client.message("alice@waypost.test", &["x@elsewhere.test"], "Subject: no date\r\n\r\nHello").await;
    let (entry, text) = house.message().await;
    assert_eq!(entry.origin.user.as_deref(), Some("alice"));
    assert!(text.contains("with ESMTPSA id "), "{text}");
    assert!(
        text.contains("\r\nDate: ") && text.contains(&format!("\r\nMessage-ID: <{}@mx.waypost.test>\r\n", entry.id))
    );
    assert_eq!(house.log.count("Authenticated"), 1);
}

#[tokio::test]
async fn a_wrong_password_costs_time() {
    let house = Plan::one(submissions()).start().await;
    let mut client = house.connect().await.tls().await;
    client.expect("220").await;
    client.ehlo().await;
    let begun = Instant::now();
    client.ask(BAD, "535 5.7.8").await;
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!(house.log.count("AuthenticationFailed"), 1);
    client.ask(GOOD, "235").await;
}

#[tokio::test]
async fn implicit_tls_greets_nobody_in_plain() {
    let house = Plan::one(submissions()).start().await;
    let mut client = house.connect().await;
    client.send("EHLO client.example\r\n").await;
    let said = client.rest().await;
    assert!(!said.contains("220") && !said.contains("250"), "{said:?}");
    house.until("Disconnected", 1).await;
    assert_eq!(house.log.count("TlsFailed"), 1);
}

#[tokio::test]
async fn a_handshake_that_never_comes_ends() {
    let mut plan = Plan::one(submissions());
    plan.options.handshake_timeout = Duration::from_millis(100);
    let house = plan.start().await;
    let _client = house.connect().await;
    house.until("TlsFailed", 1).await;
    house.until("Disconnected", 1).await;
    assert_eq!(house.server.sessions(), 0);
}

#[tokio::test]
async fn more_sessions_than_allowed_are_told_to_come_back() {
    let house = Plan::one(Rules { sessions_per_address_max: 2, ..mx() }).start().await;
    let first = Client::ready(&house).await;
    let _second = Client::ready(&house).await;
    let mut third = house.connect().await;
    third.expect("421 4.7.0").await;
    assert_eq!(third.line().await, None);
    assert!(house.log.find("TurnedAway").expect("it was said").contains("sessions_per_address_max"));
    drop(first);
    house.until("Disconnected", 1).await;
    Client::ready(&house).await;
}

#[tokio::test]
async fn our_own_hosts_are_not_counted_by_address() {
    let rules = Rules {
        sessions_per_address_max: 1,
        relay_networks: Arc::from(["127.0.0.1/32".parse().expect("a network")]),
        ..mx()
    };
    let house = Plan::one(rules).start().await;
    let _first = Client::ready(&house).await;
    let _second = Client::ready(&house).await;
}

#[tokio::test]
async fn a_client_that_says_everything_and_hangs_up_is_served() {
    let rules = Rules::new(Arc::new(Policy::relay("mx.waypost.test")), Court::none());
    let house = Plan::one(rules).start().await;
    let mut client = house.connect().await;
    client
        .send(&format!(
            "EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<alice@waypost.test>\r\nDATA\r\n{TEXT}\r\n.\r\nQUIT\r\n"
        ))
        .await;
    client.close_write().await;
    let said = client.rest().await;
    assert!(
        said.contains("\r\n354 ") && said.contains("\r\n250 2.0.0 queued as ") && said.contains("\r\n221 "),
        "{said}"
    );
}

#[tokio::test]
async fn a_client_that_vanishes_while_a_judge_thinks_is_let_go() {
    struct Slow;
    impl waypost_types::Judge for Slow {
        fn stages(&self) -> waypost_types::StageSet {
            waypost_types::StageSet::EMPTY.with(Stage::Mail)
        }
        fn open(&self) -> Box<dyn waypost_types::Jury> {
            Box::new(SlowJury)
        }
    }
    struct SlowJury;
    impl waypost_types::Jury for SlowJury {
        fn stages(&self) -> waypost_types::StageSet {
            waypost_types::StageSet::EMPTY.with(Stage::Mail)
        }
        fn judge(&mut self, _: waypost_types::Question) -> waypost_types::Task<'_, Judgement> {
            Box::pin(std::future::pending())
        }
        fn reset(&mut self) {}
    }
    let house = Plan::one(Rules { judge: Arc::new(Slow), ..mx() }).start().await;
    let stream = std::net::TcpStream::connect(house.address()).expect("connected");
    stream.set_nonblocking(true).expect("set");
    let stream = tokio::net::TcpStream::from_std(stream).expect("a stream");
    let say = async |text: &str| {
        stream.writable().await.expect("writable");
        stream.try_write(text.as_bytes()).expect("sent");
    };
    say("EHLO client.example\r\n").await;
    // Wait for the greeting and the offer, then ask the question that is never answered.
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("250 ") {
        stream.readable().await.expect("readable");
        let mut space = [0; 4096];
        if let Ok(read) = stream.try_read(&mut space) {
            seen.extend_from_slice(&space[..read]);
        }
        if String::from_utf8_lossy(&seen).contains("554") {
            panic!("{}", String::from_utf8_lossy(&seen));
        }
    }
    say("MAIL FROM:<a@client.example>\r\n").await;
    // A reset, not an orderly end.
    stream.set_zero_linger().expect("linger");
    drop(stream);
    house.until("Disconnected", 1).await;
    assert!(house.log.find("Disconnected").expect("it was said").contains("\"lost\""));
}

#[tokio::test]
async fn other_protocols_get_a_clear_end() {
    let house = Plan::one(mx()).start().await;
    for said in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\u{1}\r\n", "\0\0\0\0\r\n"] {
        let mut client = house.connect().await;
        client.expect("220").await;
        client.send(said).await;
        client.send("QUIT\r\n").await;
        let said = client.rest().await;
        assert!(!said.contains("\r\n250"), "{said}");
    }
    house.until("Disconnected", 3).await;
}

#[tokio::test]
async fn the_last_reply_survives_whatever_the_client_still_sends() {
    let house = Plan::one(mx()).start().await;
    let mut client = house.connect().await;
    client.expect("220").await;
    client.send(&format!("GET / HTTP/1.1\r\n{}", "x".repeat(200_000))).await;
    client.expect("554").await;
    assert!(client.line().await.is_none() && !client.broken);
    // A reset would be here by now, and would have thrown away what a client has not read yet.
    client.send("x").await;
    client.send("x").await;
}

#[tokio::test]
async fn a_command_that_drips_in_ends_at_the_timeout() {
    let policy = Policy { command_timeout: Duration::from_millis(300), ..Policy::mx("mx.waypost.test") };
    let house = Plan::one(Rules { policy: Arc::new(policy), ..mx() }).start().await;
    let mut client = Client::ready(&house).await;
    let begun = Instant::now();
    for byte in ["N", "O", "O", "P", " ", "x", "x", "x", "x", "x", "x", "x"] {
        client.send(byte).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        if house.log.count("Disconnected") > 0 {
            break;
        }
    }
    client.expect("421 4.4.2").await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(house.log.find("Disconnected").is_none_or(|event| event.contains("\"timeout\"")));
}

#[tokio::test]
async fn reloaded_rules_are_for_new_sessions() {
    let house = Plan::one(mx()).start().await;
    let mut old = Client::ready(&house).await;
    assert!(!house.server.reload("nosuch", mx()));
    let policy = Policy { greeting: "ESMTP Other".into(), ..Policy::mx("mx.waypost.test") };
    assert!(house.server.reload("door", Rules { policy: Arc::new(policy), ..mx() }));
    let mut new = house.connect().await;
    assert!(new.expect("220").await.contains("Other"));
    old.ask("NOOP\r\n", "250").await;
}

#[tokio::test]
async fn shutdown_lets_a_transaction_finish_and_refuses_the_next() {
    let house = Plan::one(mx()).start().await;
    let mut idle = Client::ready(&house).await;
    let mut busy = Client::ready(&house).await;
    busy.envelope("a@client.example", &["alice@waypost.test"]).await;
    busy.ask("DATA\r\n", "354").await;
    let address = house.address();
    let ends = async {
        idle.expect("421").await;
        busy.ask(&format!("{TEXT}\r\n.\r\n"), "250 2.0.0").await;
        busy.expect("421").await;
    };
    let (cut_off, ()) = tokio::join!(house.server.shutdown(Duration::from_secs(10)), ends);
    assert_eq!((cut_off, house.server.sessions()), (0, 0));
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the door is closed");
}

#[tokio::test]
async fn shutdown_cuts_off_whoever_does_not_end() {
    let house = Plan::one(mx()).start().await;
    let mut stuck = Client::ready(&house).await;
    stuck.envelope("a@client.example", &["alice@waypost.test"]).await;
    stuck.ask("DATA\r\n", "354").await;
    assert_eq!(house.server.shutdown(Duration::from_millis(50)).await, 1);
    assert_eq!((house.server.sessions(), house.entries().await.len()), (0, 0));
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

/// Both ends of every connection live in this process, so what is measured is an upper bound: a client's socket and its task's
/// share are in it too.
#[tokio::test]
async fn an_idle_connection_costs_little() {
    const COUNT: usize = 400;
    let house = Plan::one(Rules { sessions_per_address_max: 100_000, ..mx() }).start().await;
    let mut clients = Vec::with_capacity(2 * COUNT);
    for _ in 0..COUNT {
        clients.push(Client::ready(&house).await);
    }
    let before = resident();
    for _ in 0..COUNT {
        clients.push(Client::ready(&house).await);
    }
    let each = resident().saturating_sub(before) / COUNT;
    assert_eq!(house.server.sessions(), 2 * COUNT);
    assert!(each < 12 * 1024, "{each} bytes for an idle connection and its client");
}
