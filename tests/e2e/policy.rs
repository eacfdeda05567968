//! MTA-STS against a real web server and a real receiver: policies found, kept to, and kept through an outage. Needs ports 443 and 25 of loopback, and so root.

use std::time::Duration;

use waypost_tests::zone::{Faults, Record, Zone};
use waypost_tests::{Authority, Dialog, Peer, Waypost, say_aloud, wait_for};

const BODY: &str = "From: alice@waypost.test\r\nTo: alice@sts.example\r\nSubject: out\r\n\r\nHello\r\n";
const RECEIVER: &str = "127.0.0.25:25";
const WEB: &str = "127.0.0.26:443";

/// A web server with one page.
const PAGE: &str = "\
import http.server, ssl, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path == '/.well-known/mta-sts.txt' and self.headers['Host'] == 'mta-sts.sts.example'
        page = open(sys.argv[1], 'rb').read() if good else b''
        self.send_response(200 if good else 404)
        self.send_header('Content-Type', 'text/plain')
        self.send_header('Content-Length', str(len(page)))
        self.end_headers()
        self.wfile.write(page)
server = http.server.HTTPServer(('127.0.0.26', 443), Page)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

/// Starts it, with the policy in this file.
fn web(authority: &Authority, policy: &str) -> Peer {
    let (certificate, key) = authority.host("mta-sts.sts.example");
    let peer = Peer::python(PAGE, &[policy, &certificate, &key]);
    wait_for("the web server", Duration::from_secs(10), || std::net::TcpStream::connect(WEB).ok());
    peer
}

/// A receiver for `sts.example`, with this certificate or one that it has made itself.
fn receiver(certificate: Option<&(String, String)>) -> Waypost {
    let mut sets = vec![
        "hostname=mx.sts.example".to_string(),
        "domains.own=[\"sts.example\"]".to_string(),
        "listener.in.preset=mx".to_string(),
        format!("listener.in.bind=[\"{RECEIVER}\"]"),
    ];
    if let Some((chain, key)) = certificate {
        sets.push(format!("tls.certificate={chain}"));
        sets.push(format!("tls.key={key}"));
    }
    Waypost::start(&sets.iter().map(String::as_str).collect::<Vec<_>>())
}

fn records(announced: Option<&str>) -> Vec<(&'static str, Record)> {
    let mut records = vec![
        ("sts.example", Record::Mx(10, "mx.sts.example".into())),
        ("mx.sts.example", Record::A([127, 0, 0, 25].into())),
        ("mta-sts.sts.example", Record::A([127, 0, 0, 26].into())),
    ];
    records.extend(announced.map(|id| ("_mta-sts.sts.example", Record::Txt(format!("v=STSv1; id={id};")))));
    records
}

/// What became of one more message.
fn attempt(sender: &Waypost) -> serde_json::Value {
    let before = sender.events("attempted").len();
    Dialog::greeted(sender.mx).deliver("alice@waypost.test", &["alice@sts.example"], BODY);
    wait_for("an attempt", Duration::from_secs(20), || sender.events("attempted").get(before).cloned())
}

#[test]
fn policies_are_kept_to_and_outlast_an_outage() {
    if std::net::TcpListener::bind(RECEIVER).is_err() || std::net::TcpListener::bind(WEB).is_err() {
        return say_aloud("NOT TESTED: ports 25 and 443 of loopback cannot be had here (root can)");
    }
    let authority = Authority::new();
    let policy = authority.file("policy");
    let write = |mode: &str, host: &str| {
        std::fs::write(&policy, format!("version: STSv1\r\nmode: {mode}\r\nmx: {host}\r\nmax_age: 604800\r\n"))
            .expect("writable");
    };
    write("enforce", "*.sts.example");
    let page = web(&authority, &policy);
    let zone = Zone::start(&records(Some("1")), Faults::default());
    let roots = format!("delivery.roots={}", authority.certificate());
    let sets = [
        "listener.mx.preset=relay",
        "relay.networks=[\"127.0.0.0/8\"]",
        "queue.retry-first=1h",
        "queue.retry-max=1h",
        &roots,
    ];

    // A good certificate, and a host that the policy names.
    let good = receiver(Some(&authority.host("mx.sts.example")));
    let mut sender = Waypost::start_in(None, Some(zone.port), &sets);
    let event = attempt(&sender);
    assert_eq!(event["outcome"], "relayed", "{event}");
    assert!(event["tls"].as_str().is_some_and(|tls| tls.contains("verified")), "{event}");
    drop(good);

    // The web server and the announcement go; after a restart the policy still holds: a certificate that nobody vouches for gets no mail.
    drop(page);
    zone.set(&records(None));
    assert!(sender.stop().success());
    let bad = receiver(None);
    sender.run();
    let event = attempt(&sender);
    assert_eq!(event["outcome"], "delayed", "{event}");
    drop(sender);

    // Testing changes nothing for the mail; a host that the policy does not name gets none.
    for (id, mode, host, outcome) in
        [("2", "testing", "other.example", "relayed"), ("3", "enforce", "other.example", "delayed")]
    {
        write(mode, host);
        zone.set(&records(Some(id)));
        let _page = web(&authority, &policy);
        let sender = Waypost::start_in(None, Some(zone.port), &sets);
        let event = attempt(&sender);
        assert_eq!(event["outcome"], outcome, "{mode} {event}");
        if outcome == "delayed" {
            assert!(
                event["reply"].as_str().is_some_and(|reply| reply.contains("4.7.5") && reply.contains("MTA-STS")),
                "{event}"
            );
        }
    }
    assert_eq!(bad.wait_for_mail("alice", 1).len(), 1);
}
