//! The shipped rules for large receivers: each row against a host that answers as that receiver does. Times are those of the rules, an hour for a
//! second.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use waypost_config::shaping::{Provider, ReplyAction, shipped};
use waypost_deliver::courier::Glance;
use waypost_deliver::shaping::{Action, Pattern, Shape, Shaping};
use waypost_net::{ServerTls, ServerTlsOptions};
use waypost_queue::schedule::{Limits, WindowLimits};
use waypost_resolve::Hop;
use waypost_types::Security;

use crate::house::House;
use crate::peer::{Act, Peer};

/// An hour of the rules.
const HOUR: Duration = Duration::from_secs(1);

fn scaled(span: Duration) -> Duration {
    span / 3600
}

fn shape(provider: &Provider) -> Shape {
    let action = |action| match action {
        ReplyAction::Slow(span) => Action::Slow(scaled(span)),
        ReplyAction::Suspend(span) => Action::Suspend(scaled(span)),
        ReplyAction::Connections(count, span) => Action::Connections(count, scaled(span)),
        ReplyAction::Bounce => Action::Bounce,
        ReplyAction::FewerMessages => Action::FewerMessages,
    };
    let rule = |rule: &waypost_config::shaping::ReplyRule| {
        (Pattern { code: rule.code, text: rule.text.as_str().into() }, action(rule.action))
    };
    let (initial, max) = (provider.connections.min(5), provider.connections);
    let window = WindowLimits { initial, max, ..WindowLimits::default() };
    let hosts = provider.hosts.iter().map(|host| host.as_str().into()).collect();
    let replies = provider.replies.iter().map(rule).collect();
    Shape::new(&provider.name, hosts, Limits { window, rate: None }, provider.messages, provider.tls, replies)
}

const TLS: &[&str] = &["STARTTLS", "PIPELINING"];

/// A receiver's host under its own name, and a house whose mail for `big.test` goes there.
struct Row {
    house: House,
    peer: Peer,
    _dir: TempDir,
}

impl Row {
    async fn new(host: &str, script: impl Fn(usize, usize, &str) -> Option<Act> + Send + Sync + 'static) -> Row {
        let dir = tempfile::tempdir().unwrap();
        let tls = ServerTls::from_self_signed(dir.path(), &[host.to_string()], ServerTlsOptions::default()).unwrap();
        let peer = Peer::with(TLS, Some(tls), false, script).await;
        let house = House::with(|options| options.shaping = Shaping::new(shipped().iter().map(shape).collect()));
        let (addresses, port) = (vec![peer.address.ip()], peer.address.port());
        house.mx("big.test", vec![Hop { host: host.into(), addresses, port, security: Security::Opportunistic }]);
        Row { house, peer, _dir: dir }
    }

    async fn send(&self, count: usize) {
        for _ in 0..count {
            self.house.send(self.house.entry(&["b@big.test"])).await;
        }
    }

    /// What the schedule thinks of the provider.
    fn glance(&self, provider: &str) -> Glance {
        let all = self.house.courier.glances();
        all.iter().find(|it| it.destination == provider).cloned().unwrap_or_else(|| panic!("no {provider} in {all:?}"))
    }

    /// Waits until everything has left the queue.
    async fn drained(&self) {
        let wait = async {
            while !self.house.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, wait).await.unwrap_or_else(|_| panic!("{:#?}", self.house.heard()));
    }
}

/// Says `reply` when `verb` is heard the first `times` times.
fn at_first(
    verb: &'static str,
    times: usize,
    reply: &'static str,
) -> impl Fn(usize, usize, &str) -> Option<Act> + Send + Sync {
    let heard = AtomicUsize::new(0);
    move |_, _, line| {
        let now = line.starts_with(verb) && heard.fetch_add(1, Ordering::Relaxed) < times;
        now.then_some(if reply.starts_with("421") { Act::SayAndClose(reply) } else { Act::Say(reply) })
    }
}

#[tokio::test]
async fn no_more_connections_and_messages_than_each_receiver_wants() {
    for (provider, host) in [
        ("google", "gmail-smtp-in.l.google.com"),
        ("google", "aspmx2.googlemail.com"),
        ("yahoo", "mta5.am0.yahoodns.net"),
        ("outlook", "outlook-com.olc.protection.outlook.com"),
        ("microsoft365", "contoso-com.mail.protection.outlook.com"),
        ("microsoft365", "contoso-com.n-v1.mx.microsoft"),
        ("icloud", "mx01.mail.icloud.com"),
        ("comcast", "mx1.comcast.net"),
        ("orange", "smtp-in.orange.fr"),
        ("gmx", "mx00.emig.gmx.net"),
    ] {
        let rule = shipped().into_iter().find(|rule| rule.name == provider).unwrap();
        let (active, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let seen = most.clone();
        let row = Row::new(host, move |_, _, line| {
            if line.starts_with("MAIL") {
                seen.fetch_max(active.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            let end = line == ".";
            if end {
                active.fetch_sub(1, Ordering::Relaxed);
            }
            (line == "DATA").then_some(Act::Dally(Duration::from_millis(2)))
        })
        .await;
        row.send(120).await;
        row.drained().await;
        assert!(most.load(Ordering::Relaxed) <= rule.connections as usize, "{provider}: {most:?} at once");
        let mut each: HashMap<String, u32> = HashMap::new();
        for line in row.peer.log().iter().filter(|line| line.contains(": MAIL")) {
            *each.entry(line.split(':').next().unwrap().to_string()).or_default() += 1;
        }
        assert!(each.values().all(|count| *count <= rule.messages), "{provider}: {each:?}");
        assert_eq!(row.peer.messages().len(), 120);
        assert_eq!(row.glance(provider).destination, provider);
    }
}

#[tokio::test]
async fn those_who_require_tls_get_nothing_in_the_clear() {
    for host in ["gmail-smtp-in.l.google.com", "mx1.comcast.net", "smtp-in.orange.fr"] {
        let peer = Peer::new(|_, _, _| None).await;
        let house = House::with(|options| options.shaping = Shaping::new(shipped().iter().map(shape).collect()));
        let (addresses, port) = (vec![peer.address.ip()], peer.address.port());
        house.mx("big.test", vec![Hop { host: host.into(), addresses, port, security: Security::Opportunistic }]);
        house.send(house.entry(&["b@big.test"])).await;
        house.until("delayed", 2).await;
        assert_eq!(peer.said("MAIL"), 0, "{host}");
    }
}

#[tokio::test]
async fn who_asks_for_less_gets_less_and_then_more_again() {
    for (provider, host, verb, reply) in [
        (
            "google",
            "gmail-smtp-in.l.google.com",
            ".",
            "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail",
        ),
        ("google", "gmail-smtp-in.l.google.com", "MAIL", "450 4.7.28 Our system has detected an unusual rate"),
        (
            "outlook",
            "x.olc.protection.outlook.com",
            "MAIL",
            "451 4.7.500 Server busy. Please try again later. (S77719)",
        ),
        (
            "outlook",
            "x.olc.protection.outlook.com",
            "MAIL",
            "451 4.7.650 The mail server has been temporarily rate limited due to IP reputation",
        ),
        ("comcast", "mx1.comcast.net", "MAIL", "421 4.1.0 192.0.2.1 Throttled RL000001"),
    ] {
        let row = Row::new(host, at_first(verb, 1, reply)).await;
        row.send(1).await;
        row.house.until("delayed", 1).await;
        let interval = row.glance(provider).interval;
        assert!(interval.is_some(), "{reply}: {:?}", row.glance(provider));
        row.send(3).await;
        row.drained().await;
        assert_eq!(row.house.count("relayed"), 4, "{reply}");
    }
    let row = Row::new("gmail-smtp-in.l.google.com", at_first("MAIL", 1, "421 4.7.28 unusual rate")).await;
    row.send(1).await;
    row.house.until("delayed", 1).await;
    let begun = Instant::now();
    while row.glance("google").interval.is_some() {
        row.send(1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", row.glance("google"));
    }
}

#[tokio::test]
async fn who_wants_to_be_left_alone_is_left_alone_for_the_time() {
    for (provider, host, verb, reply, hours) in [
        (
            "yahoo",
            "mta5.am0.yahoodns.net",
            "connect",
            "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred",
            2.0,
        ),
        (
            "yahoo",
            "mta5.am0.yahoodns.net",
            "MAIL",
            "421 4.7.0 [IPTS04] Messages from 192.0.2.1 temporarily deferred",
            2.0,
        ),
        (
            "yahoo",
            "mta5.am0.yahoodns.net",
            "MAIL",
            "421 4.7.0 [TSS05] Messages from 192.0.2.1 temporarily deferred",
            4.0,
        ),
        ("icloud", "mx01.mail.icloud.com", "MAIL", "450 4.7.0 [HCM1] Message rejected due to local policy", 0.25),
        ("icloud", "mx01.mail.icloud.com", "MAIL", "450 4.7.0 [BS02] Blocked - see https://support.apple.com", 0.25),
        ("comcast", "mx1.comcast.net", "MAIL", "421 4.1.0 192.0.2.1 Throttled RL000010", 0.5),
    ] {
        let row = Row::new(host, at_first(verb, 1, reply)).await;
        let begun = Instant::now();
        row.send(1).await;
        row.house.until("delayed", 1).await;
        assert!(row.glance(provider).dead_until.is_some(), "{reply}: {:?}", row.glance(provider));
        row.send(2).await;
        row.drained().await;
        assert!(begun.elapsed() >= HOUR.mul_f64(hours), "{reply}: after {:?}", begun.elapsed());
        assert_eq!(row.house.count("relayed"), 3);
    }
}

#[tokio::test]
async fn a_block_fails_the_message_and_spares_the_others_for_a_while() {
    for (provider, host, reply) in [
        (
            "outlook",
            "x.olc.protection.outlook.com",
            "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your provider since part of their network is on our block list (S3150).",
        ),
        ("gmx", "mx00.emig.gmx.net", "554 Transaction failed. Reject due to policy restrictions."),
    ] {
        let row = Row::new(host, at_first("MAIL", 1, reply)).await;
        let begun = Instant::now();
        row.send(1).await;
        row.house.until("failed", 1).await;
        assert!(row.glance(provider).dead_until.is_some(), "{reply}");
        row.send(2).await;
        row.drained().await;
        assert!(begun.elapsed() >= HOUR * 2, "{reply}: {:?}", begun.elapsed());
        assert_eq!((row.house.count("relayed"), row.house.count("noticed failure")), (2, 1));
    }
}

#[tokio::test]
async fn too_many_connections_are_fewer_for_a_while() {
    for (provider, host, reply) in [
        (
            "microsoft365",
            "x.mail.protection.outlook.com",
            "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel IB007",
        ),
        ("gmx", "mx00.emig.gmx.net", "421 gmx.net Too many connections from your host"),
    ] {
        let row = Row::new(host, at_first("connect", 1, reply)).await;
        row.send(1).await;
        row.house.until("delayed", 1).await;
        let (max, until) = row.glance(provider).cap.unwrap_or_else(|| panic!("{reply}: {:?}", row.glance(provider)));
        let left = until.saturating_duration_since(Instant::now());
        assert!(max == 1 && left <= HOUR && left > HOUR / 4, "{reply}: {max} for {left:?}");
        row.send(5).await;
        row.drained().await;
        assert_eq!(row.house.count("relayed"), 6);
    }
}

#[tokio::test]
async fn a_421_that_means_never_is_a_failure() {
    let row = Row::new(
        "mta5.am0.yahoodns.net",
        at_first("MAIL", 1, "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred"),
    )
    .await;
    row.send(1).await;
    row.house.until("delivered", 1).await;
    let [report] = &row.house.mailbox("a")[..] else { panic!("{:?}", row.house.heard()) };
    assert!(report.contains("Status: 5.7.1") && report.contains("[TS03]"), "{report}");
    assert_eq!(row.house.count("delayed"), 0);
}

#[tokio::test]
async fn a_connection_takes_one_message_fewer_than_the_one_that_was_cut() {
    let row = Row::new("mta5.am0.yahoodns.net", |_, transaction, line| {
        let full = transaction >= 6 && line.starts_with("MAIL");
        full.then_some(Act::SayAndClose("421 4.5.0 Max message per connection reached, closing transmission channel"))
    })
    .await;
    row.send(150).await;
    row.drained().await;
    let cut = row.house.count("delayed");
    row.send(150).await;
    row.drained().await;
    assert_eq!(row.house.count("delayed"), cut, "it was learned");
    assert_eq!(row.peer.messages().len(), 300);
}

#[tokio::test]
async fn a_refusal_for_want_of_authentication_fails_as_it_says() {
    for (host, reply) in [
        ("gmail-smtp-in.l.google.com", "550 5.7.26 Your email has been blocked because the sender is unauthenticated"),
        (
            "x.olc.protection.outlook.com",
            "550 5.7.515 Access denied, sending domain does not meet the required authentication level",
        ),
    ] {
        let row = Row::new(host, at_first(".", 1, reply)).await;
        row.send(1).await;
        row.house.until("failed", 1).await;
        row.send(1).await;
        row.house.until("relayed", 1).await;
    }
}

#[tokio::test]
async fn too_many_recipients_are_split_at_once() {
    let row = Row::new("gmail-smtp-in.l.google.com", |_, transaction, line| {
        let excess = transaction == 0 && line.starts_with("RCPT") && !line.contains("b1@") && !line.contains("b2@");
        excess.then_some(Act::Say("452 4.5.3 Too many recipients"))
    })
    .await;
    row.house.send(row.house.entry(&["b1@big.test", "b2@big.test", "b3@big.test", "b4@big.test"])).await;
    row.drained().await;
    assert_eq!((row.house.count("delayed"), row.peer.messages().len()), (0, 2));
}
