//! A receiving host on loopback, one thread a connection, that can be told to be rude.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// How the sink treats its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Takes everything.
    Polite,
    /// The first attempt for each recipient gets 451.
    Greylist,
    /// Every recipient gets 550.
    Refuse,
    /// Every recipient gets 450.
    Defer,
    /// Every connection is greeted with 421 and closed.
    Busy,
    /// Closes behind the final dot, without a reply, the first time; takes it the second time.
    DropAfterDot,
    /// Takes its time for every reply, and half a second for a message.
    Slow,
    /// Does by turns everything that a host under strain does: turns connections away, defers, hangs up at any point, and now and then
    /// behind a message that it has taken.
    Moody,
    /// Takes so many connections at once, and 25 ms for a message; greets every further connection with 421.
    Limited(u32),
}

/// A message that the sink took.
#[derive(Clone, Debug)]
pub struct Received {
    /// The argument of MAIL, angle brackets and parameters included.
    pub mail: String,
    /// The arguments of RCPT.
    pub rcpt: Vec<String>,
    /// The message, dots unstuffed, CRLF kept.
    pub message: String,
    /// When it was taken.
    pub at: SystemTime,
    /// Whether the client knows: it said something behind our answer.
    pub answered: bool,
}

impl Received {
    /// The first field of this name, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.message, name)
    }
}

/// The first field of this name in a message with LF or CRLF line ends, unfolded.
pub fn header(message: &str, name: &str) -> Option<String> {
    let text = message.replace("\r\n", "\n");
    let block = text.split("\n\n").next()?.replace("\n\t", " ").replace("\n ", " ");
    block.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_string())
    })
}

/// The host. Stops when dropped.
pub struct Sink {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    manner: Mutex<Manner>,
    received: Mutex<Vec<Received>>,
    seen: Mutex<HashMap<String, u32>>,
    connections: Mutex<u32>,
    open: AtomicU32,
    turned_away: AtomicU32,
    stop: AtomicBool,
    mood: AtomicU64,
}

impl Shared {
    /// One of `sides`, the same sequence in each run.
    fn throw(&self, sides: u64) -> u64 {
        let mut x = self.mood.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % sides
    }
}

impl Sink {
    /// Listens on a free port.
    pub fn start(manner: Manner) -> Sink {
        Sink::on(TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"), manner)
    }

    /// Listens at this address, if it can be had.
    pub fn start_at(address: &str, manner: Manner) -> Option<Sink> {
        TcpListener::bind(address).ok().map(|listener| Sink::on(listener, manner))
    }

    fn on(listener: TcpListener, manner: Manner) -> Sink {
        let address = listener.local_addr().expect("bound");
        let port = address.port();
        let shared = Arc::new(Shared {
            manner: Mutex::new(manner),
            received: Mutex::default(),
            seen: Mutex::default(),
            connections: Mutex::default(),
            open: AtomicU32::new(0),
            turned_away: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            mood: AtomicU64::new(88_172_645_463_325_252),
        });
        let theirs = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if theirs.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = theirs.clone();
                std::thread::spawn(move || {
                    shared.open.fetch_add(1, Ordering::Relaxed);
                    let _ = stream.map(|stream| serve(stream, &shared));
                    shared.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Sink { port, address, shared }
    }

    /// Changes its manner from the next command on.
    pub fn set_manner(&self, manner: Manner) {
        *self.shared.manner.lock().expect("no panic while held") = manner;
    }

    /// Everything taken so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().expect("no panic while held").clone()
    }

    /// How many messages were taken so far.
    pub fn count(&self) -> usize {
        self.shared.received.lock().expect("no panic while held").len()
    }

    /// How many connections were turned away for being too many.
    pub fn turned_away(&self) -> u32 {
        self.shared.turned_away.load(Ordering::Relaxed)
    }

    /// How many connections were made.
    pub fn connections(&self) -> u32 {
        *self.shared.connections.lock().expect("no panic while held")
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

const EHLO: &str = "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 100000000\r\n250-SMTPUTF8\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n";

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    *shared.connections.lock().expect("no panic while held") += 1;
    let manner = || *shared.manner.lock().expect("no panic while held");
    let moody = |sides| manner() == Manner::Moody && shared.throw(sides) == 0;
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    let crowded = matches!(manner(), Manner::Limited(max) if shared.open.load(Ordering::Relaxed) > max);
    if crowded {
        shared.turned_away.fetch_add(1, Ordering::Relaxed);
    }
    if manner() == Manner::Busy || crowded || moody(12) {
        out.write_all(b"421 4.3.2 try later\r\n")?;
        return Ok(());
    }
    out.write_all(b"220 sink.example ESMTP\r\n")?;
    let mut current = nothing("");
    let mut line = String::new();
    let mut told: Option<usize> = None;
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(at) = told.take() {
            shared.received.lock().expect("no panic while held")[at].answered = true;
        }
        if manner() == Manner::Slow {
            std::thread::sleep(Duration::from_millis(20 + shared.throw(60)));
        }
        if moody(60) {
            return Ok(());
        }
        let command = line.trim_end();
        let upper = command.to_ascii_uppercase();
        let reply: &str = if upper.starts_with("EHLO") {
            EHLO
        } else if upper.starts_with("MAIL FROM:") {
            if moody(20) {
                out.write_all(b"421 4.7.0 enough for now\r\n")?;
                return Ok(());
            }
            current = nothing(command[10..].trim());
            "250 2.1.0 ok\r\n"
        } else if upper.starts_with("RCPT TO:") {
            rcpt(command[8..].trim(), manner(), shared, &mut current)
        } else if upper == "DATA" && current.rcpt.is_empty() {
            "554 5.5.1 no valid recipients\r\n"
        } else if upper == "DATA" && moody(20) {
            "451 4.3.2 not now\r\n"
        } else if upper == "DATA" {
            out.write_all(b"354 go\r\n")?;
            read_body(&mut input, &mut current)?;
            let first = shared.seen.lock().expect("no panic while held").insert("dropped".into(), 1).is_none();
            if (manner() == Manner::DropAfterDot && first) || moody(12) {
                return Ok(());
            }
            if moody(12) {
                out.write_all(b"452 4.3.1 no room\r\n")?;
                continue;
            }
            match manner() {
                Manner::Slow => std::thread::sleep(Duration::from_millis(500)),
                Manner::Limited(_) => std::thread::sleep(Duration::from_millis(25)),
                _ => {}
            }
            current.at = SystemTime::now();
            let mut received = shared.received.lock().expect("no panic while held");
            told = Some(received.len());
            received.push(current.clone());
            drop(received);
            if moody(12) {
                return Ok(());
            }
            "250 2.0.0 taken\r\n"
        } else if upper == "QUIT" {
            out.write_all(b"221 2.0.0 bye\r\n")?;
            return Ok(());
        } else {
            "250 2.0.0 ok\r\n"
        };
        out.write_all(reply.as_bytes())?;
    }
}

fn nothing(mail: &str) -> Received {
    Received {
        mail: mail.into(),
        rcpt: Vec::new(),
        message: String::new(),
        at: SystemTime::UNIX_EPOCH,
        answered: false,
    }
}

fn rcpt(recipient: &str, manner: Manner, shared: &Shared, current: &mut Received) -> &'static str {
    let mut seen = shared.seen.lock().expect("no panic while held");
    let times = seen.entry(recipient.to_string()).or_insert(0);
    *times += 1;
    match manner {
        Manner::Greylist if *times == 1 => "451 4.7.1 greylisted, come back\r\n",
        Manner::Refuse => "550 5.1.1 no such user here\r\n",
        Manner::Defer => "450 4.2.1 mailbox busy\r\n",
        Manner::Moody if shared.throw(10) == 0 => "450 4.2.1 mailbox busy\r\n",
        _ => {
            current.rcpt.push(recipient.to_string());
            "250 2.1.5 ok\r\n"
        }
    }
}

fn read_body(input: &mut BufReader<TcpStream>, current: &mut Received) -> std::io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(());
        }
        let text = if line.starts_with(b".") { &line[1..] } else { &line[..] };
        current.message.push_str(&String::from_utf8_lossy(text));
    }
}
