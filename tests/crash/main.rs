//! SIGKILL under load, again and again: every message that got its `250` arrives.
//!
//! Clients send as fast as they can and note each `250` in a ledger before anything else. The server is killed at a random moment
//! and started again on the same data; at the end every noted message must be in the Maildir or at the next hop. Duplicates are
//! allowed only where the receiving side's answer may have been lost: they are counted and printed.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use waypost_tests::{Manner, Sink, Waypost};

const KILLS: u32 = 50;
const CLIENTS: u32 = 4;

/// One session: messages until the server goes away. Each `250` is noted at once.
fn send_until_lost(port: u16, next: &AtomicU32, ledger: &Mutex<Vec<u32>>, stop: &AtomicBool) -> std::io::Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    expect(&mut input, "220")?;
    out.write_all(b"EHLO load.example\r\n")?;
    expect(&mut input, "250")?;
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        // Every third message leaves for the next hop, every other stays.
        let recipient = if number.is_multiple_of(3) { "user@elsewhere.example" } else { "alice@waypost.test" };
        out.write_all(format!("MAIL FROM:<a@client.example>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n").as_bytes())?;
        for code in ["250", "250", "354"] {
            expect(&mut input, code)?;
        }
        let filler = "0123456789abcdef\r\n".repeat(number as usize % 200);
        out.write_all(format!("Subject: ledger {number}.\r\n\r\n{filler}.\r\n").as_bytes())?;
        expect(&mut input, "250")?;
        ledger.lock().expect("no panic while held").push(number);
    }
    Ok(())
}

fn expect(input: &mut impl BufRead, code: &str) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || !line.starts_with(code) {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        if line.as_bytes().get(3) == Some(&b' ') {
            return Ok(());
        }
    }
}

fn number(message: &str) -> Option<u32> {
    message.split("Subject: ledger ").nth(1)?.split('.').next()?.parse().ok()
}

#[test]
fn no_acknowledged_message_is_lost_by_sigkill() {
    let sink = Sink::start(Manner::Polite);
    let route = format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port);
    let mut server = Waypost::start(&[
        "listener.mx.preset=relay",
        "relay.networks=[\"127.0.0.0/8\"]",
        "queue.retry-first=1s",
        "queue.retry-max=2s",
        &route,
    ]);
    let (next, stop, ledger) = (AtomicU32::new(0), AtomicBool::new(false), Mutex::new(Vec::new()));
    let port = server.mx;
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = send_until_lost(port, &next, &ledger, &stop);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        let mut seed = 88_172_645_463_325_252_u64;
        for _ in 0..KILLS {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            std::thread::sleep(Duration::from_millis(20 + seed % 400));
            server.kill();
            server.run();
        }
        std::thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
    });
    let promised: HashSet<u32> = ledger.into_inner().expect("no panic while held").into_iter().collect();
    assert!(promised.len() as u32 > KILLS, "there was load: {}", promised.len());
    let arrived = wait_for_all(&server, &sink, &promised);
    let doubles = arrived.values().filter(|&&count| count > 1).count();
    println!("{KILLS} kills: {} promised, {} arrived, {doubles} more than once", promised.len(), arrived.len());
}

/// Number → how often it arrived; waits until every promised one has.
fn wait_for_all(server: &Waypost, sink: &Sink, promised: &HashSet<u32>) -> HashMap<u32, u32> {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let mut arrived = HashMap::new();
        let local = server.mailbox("alice");
        let remote = sink.received();
        for number in
            local.iter().map(String::as_str).chain(remote.iter().map(|r| r.message.as_str())).filter_map(number)
        {
            *arrived.entry(number).or_insert(0) += 1;
        }
        let missing: Vec<_> = promised.iter().filter(|n| !arrived.contains_key(n)).collect();
        if missing.is_empty() {
            return arrived;
        }
        assert!(Instant::now() < end, "{} of {} lost: {missing:?}", missing.len(), promised.len());
        std::thread::sleep(Duration::from_millis(500));
    }
}
