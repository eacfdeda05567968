//! Whatever is thrown at a port: a clear answer or a close, no panic, bounded memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use waypost_tests::{Dialog, Waypost, wait_for};

/// Sends bytes and reads to the end, or for two seconds.
fn throw(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the listener accepts");
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout can be set");
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn rubbish_on_every_port_is_survived() {
    let server = Waypost::start(&[]);
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = Vec::new();
    for _ in 0..4096 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        random.extend_from_slice(&seed.to_le_bytes());
    }
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let long = vec![b'A'; 200_000];
    let throws: [&[u8]; 7] =
        [&random, hello, &long, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n\r\n", b"\0\0\0\0\r\n", b""];
    for port in [server.mx, server.submission, server.submissions] {
        std::thread::scope(|scope| {
            for bytes in throws {
                scope.spawn(move || throw(port, bytes));
            }
        });
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
    Dialog::greeted(server.mx).say("NOOP", 250);
}

#[test]
fn http_is_turned_away_at_once() {
    let server = Waypost::start(&[]);
    let mut dialog = Dialog::connect(server.mx);
    dialog.expect(220);
    dialog.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<alice@waypost.test>\r\n");
    let (code, _) = dialog.reply().expect("a clear answer");
    assert!(matches!(code, 421 | 500..=599), "{code}");
    dialog.expect_close();
}

#[test]
fn plaintext_on_the_tls_port_gets_no_banner() {
    let server = Waypost::start(&[]);
    let answer = throw(server.submissions, b"EHLO client.example\r\n");
    assert!(!answer.starts_with(b"220"), "{}", answer.escape_ascii());
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn ten_thousand_idle_connections_are_cheap() {
    let limit = raise_open_files();
    let count = if limit >= 12_000 { 10_000 } else { (limit as usize).saturating_sub(500) };
    let server = Waypost::start(&["listener.mx.connections-per-address=20000", "listener.mx.connections=20000"]);
    let before = resident_kib(server.pid());
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        // Every loopback address has ports of its own.
        let stream =
            TcpStream::connect(("127.0.0.1", server.mx)).unwrap_or_else(|e| panic!("connection {number}: {e}"));
        streams.push(stream);
    }
    let mut code = [0; 3];
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
        stream.read_exact(&mut code).expect("each is greeted");
        assert_eq!(&code, b"220");
    }
    let each = (resident_kib(server.pid()) - before) * 1024 / count as u64;
    println!("{count} idle connections: {each} octets resident each");
    assert!(each < 16 * 1024, "{each} octets for an idle connection");
    drop(streams);
    wait_for("a greeting after the crowd", Duration::from_secs(10), || {
        let mut dialog = Dialog::connect(server.mx);
        dialog.reply().filter(|(code, _)| *code == 220)
    });
}

fn raise_open_files() -> u64 {
    let text = waypost_tests::tool::succeed("sh", &["-c", "ulimit -Hn"]);
    let hard = text.trim().parse().unwrap_or(1 << 20);
    waypost_tests::tool::succeed(
        "prlimit",
        &["--pid", &std::process::id().to_string(), &format!("--nofile={hard}:{hard}")],
    );
    hard
}
