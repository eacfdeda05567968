//! Mail that leaves from another machine, and from sources that are still new.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use waypost_tests::{Dialog, Manner, Sink, Waypost, free_port, wait_for};

const BODY: &str = "From: alice@waypost.test\r\nTo: user@far.example\r\nSubject: out\r\n\r\nHello\r\n";

fn site(more: &[&str]) -> Waypost {
    let mut sets = vec!["listener.mx.preset=relay", "relay.networks=[\"127.0.0.0/8\"]", "queue.retry-first=1h"];
    sets.extend_from_slice(more);
    Waypost::start(&sets)
}

fn send(server: &Waypost, to: &str) {
    Dialog::greeted(server.mx).deliver("alice@waypost.test", &[to], BODY);
}

/// Debian's SOCKS server. Ends when dropped.
struct Socks(Child, u16);

impl Socks {
    fn start() -> Option<Socks> {
        let port = free_port();
        let mut command = Command::new("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().ok()?;
        wait_for("the SOCKS server", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Some(Socks(child, port))
    }
}

impl Drop for Socks {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_source_behind_socks_reaches_its_peers_through_it_alone() {
    let Some(socks) = Socks::start() else {
        return eprintln!("skipped: microsocks is not installed");
    };
    let sink = Sink::start(Manner::Polite);
    let route = format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port);
    let through = format!("source.a.socks=\"127.0.0.1:{}\"", socks.1);
    // An address that this machine does not have: it is the other one's.
    let server = site(&["source.a.address=192.0.2.77", "source.a.name=out.waypost.test", &route, &through]);
    send(&server, "user@far.example");
    let got = wait_for("the message", Duration::from_secs(20), || sink.received().pop());
    assert_eq!(got.rcpt, ["<user@far.example>"]);
    drop(socks);
    send(&server, "later@far.example");
    let event = wait_for("the failure", Duration::from_secs(20), || {
        server.events("attempted").into_iter().find(|event| event["recipient"] == "later@far.example")
    });
    assert_eq!(event["outcome"], "delayed", "{event}");
    assert_eq!(sink.count(), 1, "never past the proxy");
}

#[test]
fn a_proxy_is_told_where_to_come_from() {
    let behind = waypost_tests::free_port();
    let there = Waypost::start(&[
        "domains.own=[\"far.example\"]",
        "listener.behind.preset=mx",
        "listener.behind.proxy-protocol=[\"127.0.0.0/8\"]",
        &format!("listener.behind.bind=[\"127.0.0.1:{behind}\"]"),
    ]);
    let route = format!("transport.\"far.example\"=\"smtp:[127.0.0.1]:{behind}\"");
    let through = format!("source.a.proxy=\"127.0.0.1:{behind}\"");
    let server = site(&["source.a.address=192.0.2.77", "source.a.name=out.waypost.test", &route, &through]);
    send(&server, "alice@far.example");
    there.wait_for_mail("alice", 1);
    let connected = there.events("connected");
    assert!(
        connected.iter().any(|event| event["peer"].as_str().is_some_and(|peer| peer.starts_with("192.0.2.77:"))),
        "{connected:#?}"
    );
}

#[test]
fn a_new_source_sends_what_its_day_allows_also_over_a_restart() {
    let sink = Sink::start(Manner::Polite);
    let route = format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port);
    let since = format!("source.a.since=\"{}\"", waypost_tests::tool::succeed("date", &["-u", "+%F"]).trim());
    let mut server = site(&[
        "source.a.address=127.0.0.1",
        "source.a.name=out.waypost.test",
        "source.a.warm-up=[2, 1000]",
        &since,
        &route,
    ]);
    for n in 0..2 {
        send(&server, &format!("u{n}@far.example"));
        wait_for("a message", Duration::from_secs(20), || (sink.count() > n).then_some(()));
    }
    wait_for("both settled", Duration::from_secs(10), || (server.events("removed").len() == 2).then_some(()));
    assert!(server.stop().success());
    server.run();
    send(&server, "u3@far.example");
    let event = wait_for("the third", Duration::from_secs(20), || {
        server.events("attempted").into_iter().find(|event| event["recipient"] == "u3@far.example")
    });
    assert!(
        event["outcome"] == "delayed" && event["reply"].as_str().is_some_and(|reply| reply.contains("today")),
        "{event}"
    );
    assert_eq!(sink.count(), 2);
}

#[test]
fn a_smarthost_is_logged_in_to_and_relays() {
    let sink = Sink::start(Manner::Polite);
    let there = Waypost::start(&[&format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port)]);
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, there.password()).expect("written");
    let route = format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", there.submission);
    let password = format!("smarthost.provider.password-file=\"{}\"", secret.display());
    let settings = ["smarthost.provider.host=127.0.0.1", "smarthost.provider.user=alice@waypost.test", &password];
    let server = site(&[&settings[..], &[&route]].concat());
    send(&server, "user@far.example");
    let got = wait_for("the message", Duration::from_secs(20), || sink.received().pop());
    assert_eq!(got.rcpt, ["<user@far.example>"]);
    let login = wait_for("the log line", Duration::from_secs(5), || there.events("authenticated").pop());
    assert_eq!(login["user"], "alice", "{login}");
    // A wrong password loses nothing, and is told.
    std::fs::write(&secret, "wrong").expect("written");
    let server = site(&[&settings[..], &[&route]].concat());
    send(&server, "later@far.example");
    let event = wait_for("the failure", Duration::from_secs(20), || server.events("attempted").pop());
    assert_eq!(event["outcome"], "delayed", "{event}");
    assert!(event["reply"].as_str().is_some_and(|reply| reply.contains("535")), "{event}");
}
