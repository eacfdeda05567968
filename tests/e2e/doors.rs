//! What an operator can set up at a port beyond the demonstration: balancers and proxies in front, LMTP behind, extensions masked and
//! offered, strangers put off, and clients that are too many, too fast or too wrong.

use std::time::{Duration, Instant};

use waypost_tests::waypost::field;
use waypost_tests::{Waypost, Wire, free_port};

/// Reads a reply and wants this code of it; gives its text.
pub(crate) fn expect(wire: &mut Wire, code: u16) -> String {
    let reply = wire.reply().unwrap_or_else(|error| panic!("{error}\n{}", wire.transcript));
    let reply = reply.unwrap_or_else(|| panic!("closed instead of {code}\n{}", wire.transcript));
    assert_eq!(reply.code, code, "\n{}", wire.transcript);
    reply.lines.join("\n")
}

pub(crate) fn say(wire: &mut Wire, line: &str, code: u16) -> String {
    wire.send(format!("{line}\r\n").as_bytes());
    expect(wire, code)
}

fn greeted(mut wire: Wire) -> Wire {
    expect(&mut wire, 220);
    say(&mut wire, "EHLO client.example", 250);
    wire
}

fn deliver(wire: &mut Wire, sender: &str, recipient: &str, subject: &str) {
    say(wire, &format!("MAIL FROM:<{sender}>"), 250);
    say(wire, &format!("RCPT TO:<{recipient}>"), 250);
    say(wire, "DATA", 354);
    say(wire, &format!("Subject: {subject}\r\n\r\nx\r\n."), 250);
}

fn closed(wire: &mut Wire) {
    wire.ends().unwrap_or_else(|error| panic!("{error}\n{}", wire.transcript));
}

#[test]
fn a_balancer_says_who_its_client_is() {
    let server = Waypost::start(&[
        "listener.mx.proxy-protocol=[\"127.0.0.2\"]",
        "listener.mx.connections-per-address=1",
        "listener.submissions.proxy-protocol=[\"127.0.0.2\"]",
    ]);
    let version_1 = |client: &str| format!("PROXY TCP4 {client} 192.0.2.25 4711 25\r\n").into_bytes();
    let mut version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    version_2.extend([198, 51, 100, 8, 192, 0, 2, 25, 0x12, 0x67, 0, 25]);
    for (client, header) in [("198.51.100.7", version_1("198.51.100.7")), ("198.51.100.8", version_2)] {
        let mut wire = Wire::connect_from([127, 0, 0, 2], server.mx);
        wire.send(&header);
        expect(&mut wire, 220);
        say(&mut wire, "EHLO client.example", 250);
        deliver(&mut wire, "joe@client.example", "alice@waypost.test", client);
        // The balancer's clients are counted one by one: a second one of this address is one too many.
        let mut second = Wire::connect_from([127, 0, 0, 2], server.mx);
        second.send(&version_1(client));
        assert!(expect(&mut second, 421).starts_with("4.7.0"));
        closed(&mut second);
    }
    let mail = server.wait_for_mail("alice", 2);
    for client in ["198.51.100.7", "198.51.100.8"] {
        let one = mail.iter().find(|mail| mail.contains(&format!("Subject: {client}"))).expect("it arrived");
        assert!(one.contains(&format!("[{client}]")), "{one}");
    }
    // Whoever else sends the header speaks no SMTP, and a balancer that sends none is not served.
    let mut stranger = Wire::connect_from([127, 0, 0, 3], server.mx);
    expect(&mut stranger, 220);
    say(&mut stranger, "PROXY TCP4 198.51.100.9 192.0.2.25 4711 25", 500);
    let mut silent = Wire::connect_from([127, 0, 0, 2], server.mx);
    silent.send(b"EHLO client.example\r\n");
    closed(&mut silent);
    // In front of TLS.
    let mut inside = Wire::connect_from([127, 0, 0, 2], server.submissions);
    inside.send(&version_1("198.51.100.7"));
    inside.start_tls().unwrap_or_else(|error| panic!("{error}"));
    expect(&mut inside, 220);
}

#[test]
fn a_proxy_speaks_for_others_and_nobody_else_does() {
    let server = Waypost::start(&["listener.mx.xclient=[\"127.0.0.2\"]", "relay.networks=[\"198.51.100.77\"]"]);
    let mut wire = Wire::connect_from([127, 0, 0, 2], server.mx);
    expect(&mut wire, 220);
    let offer = say(&mut wire, "EHLO proxy.example", 250);
    assert!(offer.contains("XCLIENT NAME ADDR") && offer.contains("XFORWARD NAME ADDR"), "{offer}");
    say(&mut wire, "XCLIENT ADDR=198.51.100.7 NAME=spike.example PORT=4711", 220);
    say(&mut wire, "EHLO spike.example", 250);
    deliver(&mut wire, "joe@client.example", "alice@waypost.test", "spiked");
    say(&mut wire, "MAIL FROM:<joe@client.example>", 250);
    say(&mut wire, "RCPT TO:<user@elsewhere.example>", 550);
    say(&mut wire, "RSET", 250);
    // Trust follows who the client is now.
    say(&mut wire, "XCLIENT ADDR=198.51.100.77", 220);
    say(&mut wire, "EHLO own.example", 250);
    say(&mut wire, "MAIL FROM:<joe@client.example>", 250);
    say(&mut wire, "RCPT TO:<user@elsewhere.example>", 250);
    let mail = server.wait_for_mail("alice", 1).remove(0);
    assert!(mail.contains("from spike.example (spike.example [198.51.100.7])"), "{mail}");
    let mut stranger = greeted(Wire::connect_from([127, 0, 0, 3], server.mx));
    say(&mut stranger, "XCLIENT ADDR=198.51.100.77", 502);
}

#[test]
fn a_filter_forwards_where_mail_came_from() {
    let server = Waypost::start(&[
        "listener.mx.xclient=[\"127.0.0.2\"]",
        "transport.\"elsewhere.example\"=\"smtp:[127.0.0.1]:1\"",
        "relay.networks=[\"127.0.0.2\"]",
    ]);
    let mut wire = greeted(Wire::connect_from([127, 0, 0, 2], server.mx));
    say(&mut wire, "XFORWARD ADDR=198.51.100.7 HELO=origin.example SOURCE=REMOTE", 250);
    deliver(&mut wire, "joe@client.example", "user@elsewhere.example", "filtered");
    let (_, shown) = server.command(&["queue", "list"]);
    let id = shown.split_whitespace().find(|word| word.len() > 12 && word.chars().all(|c| c.is_ascii_alphanumeric()));
    let (_, shown) = server.command(&["queue", "show", id.unwrap_or_else(|| panic!("no id in {shown}"))]);
    assert!(shown.contains("198.51.100.7") && shown.contains("origin.example"), "{shown}");
}

#[test]
fn extensions_are_masked_for_whom_and_where_they_do_harm() {
    let server = Waypost::start(&[
        "listener.mx.mask=[\"SMTPUTF8\"]",
        "listener.mx.mask-for.\"127.0.0.2\"=[\"CHUNKING\", \"PIPELINING\"]",
    ]);
    let offer = |source| {
        let mut wire = Wire::connect_from(source, server.mx);
        expect(&mut wire, 220);
        (say(&mut wire, "EHLO client.example", 250), wire)
    };
    let (all, _) = offer([127, 0, 0, 1]);
    assert!(all.contains("CHUNKING") && all.contains("PIPELINING") && !all.contains("SMTPUTF8"), "{all}");
    let (some, mut wire) = offer([127, 0, 0, 2]);
    assert!(!some.contains("CHUNKING") && !some.contains("BINARYMIME") && !some.contains("PIPELINING"), "{some}");
    // What is masked is not there: its octets are dropped all the same.
    wire.send(b"BDAT 6 LAST\r\nNOOP\r\n");
    expect(&mut wire, 502);
    say(&mut wire, "MAIL FROM:<joe@client.example> SMTPUTF8", 555);
    say(&mut wire, "NOOP", 250);
}

#[test]
fn mail_to_be_sent_later_waits_in_the_queue() {
    let server = Waypost::start(&[
        "transport.\"elsewhere.example\"=\"smtp:[127.0.0.1]:1\"",
        "relay.networks=[\"127.0.0.1\"]",
        "listener.mx.offer=[\"FUTURERELEASE\", \"DELIVERBY\", \"MT-PRIORITY\"]",
        "listener.mx.hold-max=1d",
    ]);
    let mut wire = Wire::connect(server.mx);
    expect(&mut wire, 220);
    let offer = say(&mut wire, "EHLO client.example", 250);
    assert!(
        offer.contains("FUTURERELEASE 86400 2") && offer.contains("DELIVERBY") && offer.contains("MT-PRIORITY"),
        "{offer}"
    );
    say(&mut wire, "MAIL FROM:<joe@client.example> HOLDFOR=86401", 501);
    say(&mut wire, "MAIL FROM:<joe@client.example> HOLDFOR=3", 250);
    say(&mut wire, "RCPT TO:<alice@waypost.test>", 250);
    say(&mut wire, "DATA", 354);
    let sent = Instant::now();
    say(&mut wire, "Subject: later\r\n\r\nx\r\n.", 250);
    deliver(&mut wire, "joe@client.example", "alice@waypost.test", "at once");
    assert!(server.wait_for_mail("alice", 1)[0].contains("at once"));
    let both = server.wait_for_mail("alice", 2);
    assert!(both.iter().any(|mail| mail.contains("Subject: later")) && sent.elapsed() >= Duration::from_secs(3));
    // Mail that would be late comes back: RFC 2852, mode R.
    say(&mut wire, "MAIL FROM:<bob@waypost.test> BY=2;R", 250);
    say(&mut wire, "RCPT TO:<user@elsewhere.example>", 250);
    say(&mut wire, "DATA", 354);
    say(&mut wire, "Subject: urgent\r\n\r\nx\r\n.", 250);
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let port = free_port();
    let bind = format!("listener.inside.bind=[\"127.0.0.1:{port}\"]");
    let server = Waypost::start(&["listener.inside.preset=lmtp", &bind]);
    let mut wire = Wire::connect(port);
    assert!(expect(&mut wire, 220).contains("LMTP"));
    say(&mut wire, "EHLO client.example", 500);
    say(&mut wire, "LHLO client.example", 250);
    wire.send(b"MAIL FROM:<joe@client.example>\r\nRCPT TO:<alice@waypost.test>\r\nRCPT TO:<nobody@waypost.test>\r\nRCPT TO:<bob@waypost.test>\r\nDATA\r\n");
    for code in [250, 250, 550, 250, 354] {
        expect(&mut wire, code);
    }
    wire.send(b"Subject: lmtp\r\n\r\nx\r\n.\r\n");
    expect(&mut wire, 250);
    expect(&mut wire, 250);
    say(&mut wire, "NOOP", 250);
    server.wait_for_mail("alice", 1);
    server.wait_for_mail("bob", 1);
}

#[test]
fn strangers_come_back_and_are_remembered_across_a_restart() {
    let sets = [
        "greylist.enabled=true",
        "greylist.delay=2s",
        "greylist.senders=[\"friend.example\"]",
        "relay.networks=[\"127.0.9.0/24\"]",
    ];
    let mut server = Waypost::start(&sets);
    let rcpt = |server: &Waypost, sender: &str, code: u16| {
        let mut wire = greeted(Wire::connect_from([127, 0, 7, 1], server.mx));
        say(&mut wire, &format!("MAIL FROM:<{sender}>"), 250);
        let text = say(&mut wire, "RCPT TO:<alice@waypost.test>", code);
        assert!(code == 250 || text.starts_with("4.7.1"), "{text}");
    };
    rcpt(&server, "joe@client.example", 450);
    rcpt(&server, "joe@client.example", 450);
    rcpt(&server, "joe@friend.example", 250);
    let mut own = greeted(Wire::connect_from([127, 0, 9, 1], server.mx));
    deliver(&mut own, "new@client.example", "alice@waypost.test", "from a host of our own");
    rcpt(&server, "", 450);
    std::thread::sleep(Duration::from_millis(2100));
    server.stop();
    server.run();
    rcpt(&server, "joe@client.example", 250);
    rcpt(&server, "", 250);
    rcpt(&server, "jim@client.example", 450);
    let rejected = server.events("rejected");
    assert!(rejected.iter().any(|event| field(event, "by") == Some("greylist")), "{rejected:?}");
}

#[test]
fn too_many_and_too_fast_is_put_off_by_network() {
    let server = Waypost::start(&[
        "listener.mx.connections-per-minute=3",
        "listener.mx.messages-per-minute=2",
        "listener.mx.recipients-per-minute=3",
        "listener.mx.client-prefix-v4=24",
        // The first is where the harness looks whether the server is up.
        "relay.networks=[\"127.0.0.1\", \"127.0.9.0/24\"]",
    ]);
    let mut wires: Vec<Wire> = (1..=3).map(|host| greeted(Wire::connect_from([127, 0, 8, host], server.mx))).collect();
    let mut fourth = Wire::connect_from([127, 0, 8, 4], server.mx);
    assert!(expect(&mut fourth, 421).starts_with("4.7.0"));
    closed(&mut fourth);
    let wire = &mut wires[0];
    say(wire, "MAIL FROM:<joe@client.example>", 250);
    for _ in 0..3 {
        say(wire, "RCPT TO:<alice@waypost.test>", 250);
    }
    assert!(say(wire, "RCPT TO:<bob@waypost.test>", 450).starts_with("4.7.1"));
    say(wire, "RSET", 250);
    say(&mut wires[1], "MAIL FROM:<joe@client.example>", 250);
    assert!(say(&mut wires[2], "MAIL FROM:<joe@client.example>", 450).starts_with("4.7.1"));
    for _ in 0..10 {
        let mut own = greeted(Wire::connect_from([127, 0, 9, 1], server.mx));
        say(&mut own, "MAIL FROM:<joe@client.example>", 250);
    }
}

#[test]
fn the_limit_of_open_files_is_kept_by_answering_421() {
    // A quarter of 400, because deliveries alone could take them all.
    let server = Waypost::start_with_open_files(400, &["listener.mx.connections-per-address=1000"]);
    let warned = |text: &str| server.log().contains(text);
    assert!(warned("the limit of 400 open files leaves room for 100 sessions"), "{}", server.log());
    let mut all: Vec<Wire> = (0..130).map(|_| Wire::connect(server.mx)).collect();
    let codes: Vec<u16> = all.iter_mut().map(|wire| wire.reply().expect("a reply").expect("not closed").code).collect();
    assert!(codes[..95].iter().all(|code| *code == 220) && codes[101..].iter().all(|code| *code == 421), "{codes:?}");
    assert!(!warned("cannot take a client"), "{}", server.log());
    // Who is in goes on, deliveries too; and when they leave there is room again.
    say(&mut all[0], "EHLO client.example", 250);
    deliver(&mut all[0], "joe@client.example", "alice@waypost.test", "in");
    server.wait_for_mail("alice", 1);
    drop(all);
    waypost_tests::wait_for("room", Duration::from_secs(10), || {
        Wire::connect(server.mx).reply().ok().flatten().filter(|reply| reply.code == 220)
    });
}

#[test]
fn clients_of_one_address_are_counted() {
    let server = Waypost::start(&["listener.mx.connections-per-address=2"]);
    let two: Vec<Wire> = (0..2).map(|_| greeted(Wire::connect_from([127, 0, 6, 1], server.mx))).collect();
    let mut third = Wire::connect_from([127, 0, 6, 1], server.mx);
    assert!(expect(&mut third, 421).starts_with("4.7.0"));
    closed(&mut third);
    greeted(Wire::connect_from([127, 0, 6, 2], server.mx));
    drop(two);
    waypost_tests::wait_for("a place", Duration::from_secs(10), || {
        let mut again = Wire::connect_from([127, 0, 6, 1], server.mx);
        again.reply().ok().flatten().filter(|reply| reply.code == 220)
    });
}

#[test]
fn when_connections_run_short_patience_does_too() {
    let server = Waypost::start(&["listener.mx.connections=10", "listener.mx.pressure=50"]);
    let calm = greeted(Wire::connect(server.mx));
    let crowd: Vec<Wire> = (0..6).map(|_| greeted(Wire::connect(server.mx))).collect();
    let mut wrong = greeted(Wire::connect(server.mx));
    wrong.send(b"A\r\nB\r\nC\r\nNOOP\r\n");
    for code in [500, 500, 500, 421] {
        expect(&mut wrong, code);
    }
    closed(&mut wrong);
    let mut idle = greeted(Wire::connect(server.mx));
    let since = Instant::now();
    assert!(expect(&mut idle, 421).starts_with("4.4.2"), "ten seconds, not five minutes");
    assert!(since.elapsed() < Duration::from_secs(15));
    drop((crowd, calm));
}

#[test]
fn who_speaks_first_is_turned_away() {
    let server = Waypost::start(&["listener.mx.greeting-delay=2s", "relay.networks=[\"127.0.0.9\"]"]);
    let mut hasty = Wire::connect(server.mx);
    let since = Instant::now();
    hasty.send(b"EHLO client.example\r\nMAIL FROM:<joe@client.example>\r\n");
    assert!(expect(&mut hasty, 554).starts_with("5.5.0"));
    closed(&mut hasty);
    assert!(since.elapsed() < Duration::from_secs(2), "nobody waits for what is known");
    let since = Instant::now();
    greeted(Wire::connect(server.mx));
    assert!(since.elapsed() >= Duration::from_secs(2));
    // Own hosts neither wait nor have to.
    let since = Instant::now();
    let mut own = Wire::connect_from([127, 0, 0, 9], server.mx);
    own.send(b"EHLO client.example\r\nMAIL FROM:<joe@client.example>\r\n");
    for code in [220, 250, 250] {
        expect(&mut own, code);
    }
    assert!(since.elapsed() < Duration::from_secs(2));
}

#[test]
fn errors_cost_time_and_then_the_session() {
    let server = Waypost::start(&["listener.mx.errors=13"]);
    let mut wire = greeted(Wire::connect(server.mx));
    let mut spans = Vec::new();
    for _ in 0..12 {
        let since = Instant::now();
        say(&mut wire, "XYZZY", 500);
        spans.push(since.elapsed());
    }
    assert!(spans[..10].iter().all(|span| *span < Duration::from_millis(190)), "{spans:?}");
    assert!(spans[10] >= Duration::from_millis(200) && spans[11] >= Duration::from_millis(400), "{spans:?}");
    say(&mut wire, "XYZZY", 500);
    expect(&mut wire, 421);
    closed(&mut wire);
}

#[test]
fn a_drip_does_not_stretch_the_time_of_a_command_nor_of_a_body() {
    let server = Waypost::start(&["listener.mx.command-timeout=2s", "listener.mx.data-timeout=2s"]);
    let drip = |wire: &mut Wire| {
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(6) {
            wire.send(b"x");
            if !wire.is_quiet(Duration::from_millis(100)) {
                return since.elapsed();
            }
        }
        panic!("it may drip for ever\n{}", wire.transcript);
    };
    let mut command = greeted(Wire::connect(server.mx));
    assert!(drip(&mut command) < Duration::from_secs(4));
    assert!(expect(&mut command, 421).starts_with("4.4.2"));
    closed(&mut command);
    let mut body = greeted(Wire::connect(server.mx));
    say(&mut body, "MAIL FROM:<joe@client.example>", 250);
    say(&mut body, "RCPT TO:<alice@waypost.test>", 250);
    say(&mut body, "DATA", 354);
    assert!(drip(&mut body) < Duration::from_secs(4));
    assert!(expect(&mut body, 421).starts_with("4.4.2"));
    closed(&mut body);
}

#[test]
fn bare_newlines_are_refused_where_the_operator_says_so() {
    let server = Waypost::start(&["listener.mx.bare-newlines=refuse"]);
    let mut wire = greeted(Wire::connect(server.mx));
    say(&mut wire, "MAIL FROM:<joe@client.example>", 250);
    say(&mut wire, "RCPT TO:<alice@waypost.test>", 250);
    say(&mut wire, "DATA", 354);
    wire.send(b"Subject: x\r\n\r\nx\n.\nMAIL FROM:<joe@client.example>\r\n");
    assert!(expect(&mut wire, 521).starts_with("5.5.2"));
    closed(&mut wire);
    assert!(server.mailbox("alice").is_empty());
}

#[test]
fn a_thousand_recipients_and_not_one_more() {
    let server = Waypost::start(&[]);
    let mut wire = greeted(Wire::connect(server.mx));
    say(&mut wire, "MAIL FROM:<joe@client.example>", 250);
    let group: String = (0..1001).map(|n| format!("RCPT TO:<alice+{n}@waypost.test>\r\n")).collect();
    wire.send(group.as_bytes());
    for _ in 0..1000 {
        expect(&mut wire, 250);
    }
    assert!(expect(&mut wire, 452).starts_with("4.5.3"));
    say(&mut wire, "DATA", 354);
    say(&mut wire, "Subject: to all\r\n\r\nx\r\n.", 250);
    server.wait_for_mail("alice", 1);
    say(&mut wire, "NOOP", 250);
}
