//! What a connection costs while its client thinks: resident octets of the server, by the thousands.
//!
//! The numbers stand for a machine with 20 000 idle clients: `WAYPOST_IDLE=20000 cargo test … memory -- --nocapture` measures just that.
//! By default fewer are opened, so that a laptop's limits and patience suffice; what each costs is the same.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use waypost_tests::{Waypost, Wire};

/// Goals per idle connection.
const PLAINTEXT_BYTES_MAX: u64 = 8 * 1024;
const TLS_BYTES_MAX: u64 = 24 * 1024;

fn resident(server: &Waypost) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the process lives");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") * 1024
}

#[test]
fn a_first_start_does_not_keep_the_compilers_memory() {
    let mut server = Waypost::start_uncompiled();
    let first = resident(&server);
    assert!(server.stop().success());
    server.run();
    let second = resident(&server);
    println!("resident after a first start {} MiB, after a second {} MiB", first >> 20, second >> 20);
    // What remains is Argon2's, which has made the demonstration user's hash.
    assert!(first < second + (24 << 20), "{first} octets after a first start, {second} after a second");
}

/// How many connections this machine allows, at most `wanted`.
fn allowed(wanted: usize) -> usize {
    let text = waypost_tests::tool::succeed("sh", &["-c", "ulimit -Hn"]);
    let hard: usize = text.trim().parse().unwrap_or(1 << 20);
    let pid = std::process::id().to_string();
    waypost_tests::tool::succeed("prlimit", &["--pid", &pid, &format!("--nofile={hard}:{hard}")]);
    let wanted = std::env::var("WAYPOST_IDLE").ok().and_then(|n| n.parse().ok()).unwrap_or(wanted);
    wanted.min(hard.saturating_sub(500))
}

fn source(number: usize) -> [u8; 4] {
    [127, 1, (number / 200 % 250) as u8, 1 + (number % 200) as u8]
}

fn site() -> Waypost {
    Waypost::start(&["listener.mx.connections=40000", "listener.submissions.connections=40000"])
}

/// Opens `count` connections, several at a time, and keeps them.
fn crowd<T: Send>(count: usize, open: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(count)));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let one = open(number);
                    all.lock().expect("nobody panics here").push(one);
                }
            });
        }
    });
    all.into_inner().expect("nobody panics here")
}

fn judge(server: &Waypost, before: u64, count: usize, what: &str, bytes_max: u64) {
    std::thread::sleep(std::time::Duration::from_secs(2));
    let each = resident(server).saturating_sub(before) / count as u64;
    println!("{count} idle {what} connections: {each} octets resident each");
    assert!(each < bytes_max, "{each} octets for an idle {what} connection");
}

#[test]
fn idle_plaintext_connections_after_ehlo_are_small() {
    let count = allowed(10_000);
    let server = site();
    drop(crowd(200, |number| hello(number, server.mx)));
    let before = resident(&server);
    let all = crowd(count, |number| hello(number, server.mx));
    judge(&server, before, count, "plaintext", PLAINTEXT_BYTES_MAX);
    drop(all);
}

/// A connection after EHLO, without anything of ours that is large.
fn hello(number: usize, port: u16) -> TcpStream {
    let mut stream = waypost_tests::wire::connect_from(source(number), port).expect("accepted");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("a timeout can be set");
    until(&mut stream, b"220 ");
    stream.write_all(b"EHLO client.example\r\n").expect("written");
    until(&mut stream, b"250 ");
    stream
}

/// Reads until a line that begins so is whole.
fn until(stream: &mut TcpStream, front: &[u8]) {
    let mut said = Vec::new();
    let mut space = [0; 1024];
    while !(said.ends_with(b"\r\n") && said.split(|b| *b == b'\n').any(|line| line.starts_with(front))) {
        let count = stream.read(&mut space).expect("an answer");
        assert!(count > 0, "closed: {}", said.escape_ascii());
        said.extend_from_slice(&space[..count]);
    }
}

#[test]
fn idle_tls_connections_after_ehlo_are_small() {
    let count = allowed(3_000);
    let server = site();
    let open = |number: usize| {
        let mut wire = Wire::connect_from(source(number), server.submissions);
        wire.start_tls().unwrap_or_else(|error| panic!("{number}: {error}"));
        for code in [220, 250] {
            let reply = wire.reply().unwrap_or_else(|error| panic!("{number}: {error}")).expect("an answer");
            assert_eq!(reply.code, code);
            if code == 220 {
                wire.send(b"EHLO client.example\r\n");
            }
        }
        wire
    };
    drop(crowd(200, open));
    let before = resident(&server);
    let all = crowd(count, open);
    judge(&server, before, count, "TLS", TLS_BYTES_MAX);
    drop(all);
}
