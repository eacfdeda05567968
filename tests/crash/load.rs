//! The load: who writes to whom, and the ledger of what was promised.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// What a message's number says about its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    /// A mailbox here.
    Local,
    /// A host that takes everything.
    Polite,
    /// A host that takes its time.
    Slow,
    /// A host under strain.
    Moody,
    /// A host that refuses.
    Refused,
    /// One recipient at a host that takes it, one at a host that refuses.
    Split,
}

impl Class {
    pub(crate) fn of(number: u32) -> Class {
        match number % 32 {
            0 => Class::Slow,
            1..4 => Class::Moody,
            4..6 => Class::Refused,
            6..8 => Class::Split,
            8..18 => Class::Polite,
            _ => Class::Local,
        }
    }

    fn recipients(self) -> &'static [&'static str] {
        match self {
            Class::Local => &["alice@waypost.test"],
            Class::Polite => &["user@polite.example"],
            Class::Slow => &["user@slow.example"],
            Class::Moody => &["user@moody.example"],
            Class::Refused => &["user@refusing.example"],
            Class::Split => &["user@polite.example", "user@refusing.example"],
        }
    }
}

/// Between two messages of one client, so that the slow receiver keeps up.
const PAUSE: Duration = Duration::from_millis(3);

/// One session: messages until the server goes away. Each `250` is noted at once.
pub(crate) fn send_until_lost(
    port: u16,
    next: &AtomicU32,
    ledger: &Mutex<Vec<u32>>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
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
        out.write_all(b"MAIL FROM:<bob@waypost.test>\r\n")?;
        expect(&mut input, "250")?;
        for recipient in Class::of(number).recipients() {
            out.write_all(format!("RCPT TO:<{recipient}>\r\n").as_bytes())?;
            expect(&mut input, "250")?;
        }
        out.write_all(b"DATA\r\n")?;
        expect(&mut input, "354")?;
        let filler = "0123456789abcdef\r\n".repeat(number as usize % 200);
        out.write_all(format!("Subject: ledger {number}.\r\n\r\n{filler}.\r\n").as_bytes())?;
        expect(&mut input, "250")?;
        ledger.lock().expect("no panic while held").push(number);
        std::thread::sleep(PAUSE);
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

/// The number in a message, or in the header that a report returns.
pub(crate) fn number(message: &str) -> Option<u32> {
    message.split("Subject: ledger ").nth(1)?.split('.').next()?.parse().ok()
}
