//! The source: sessions that send, and what they saw.
//!
//! Closed loop: each session sends its next message when the last one is answered. Open loop (`rate`): message *n* is due at *n/rate*, and its
//! latency counts from then, whether or not a session was free; a server that stalls is charged for everything that had to wait
//! (no coordinated omission).

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use hdrhistogram::Histogram;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;
use waypost_net::{ClientTls, ClientTlsOptions};

use super::letter::Letters;
use super::wire::{Lines, Wire};
use crate::Failure;

/// Sends messages from many sessions and tells how long each took.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Where to: ADDRESS:PORT
    pub(crate) to: SocketAddr,
    /// Sessions at the same time
    #[arg(long, default_value_t = 50)]
    pub(crate) sessions: usize,
    /// Messages in all
    #[arg(long, default_value_t = 5000)]
    pub(crate) messages: u64,
    /// Octets of a message
    #[arg(long, default_value_t = 10_240)]
    pub(crate) bytes: usize,
    /// Messages on one connection; 0 for as many as there are
    #[arg(long, default_value_t = 0)]
    pub(crate) per_connection: u64,
    /// Recipients of each message
    #[arg(long, default_value_t = 1)]
    pub(crate) recipients: usize,
    /// Envelope sender
    #[arg(long, default_value = "source@client.example")]
    pub(crate) from: String,
    /// Recipient; a `%` becomes the number of the recipient
    #[arg(long, default_value = "user@elsewhere.example")]
    pub(crate) recipient: String,
    /// Wait for each reply, as if PIPELINING were not offered
    #[arg(long)]
    pub(crate) no_pipelining: bool,
    /// Send by BDAT instead of DATA
    #[arg(long)]
    pub(crate) chunking: bool,
    /// STARTTLS before mail
    #[arg(long)]
    pub(crate) starttls: bool,
    /// TLS from the first octet
    #[arg(long)]
    pub(crate) tls: bool,
    /// Log in by PLAIN: NAME:PASSWORD
    #[arg(long)]
    pub(crate) login: Option<String>,
    /// Open loop: messages that become due in a second
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Client addresses to come from, 127.1.0.1 and up
    #[arg(long, default_value_t = 1)]
    pub(crate) addresses: u32,
}

/// What came of a run.
pub(crate) struct Outcome {
    /// Accepted with 250.
    pub(crate) accepted: u64,
    /// Anything else, by reply code; 0 for lost connections.
    pub(crate) failures: Vec<(u16, u64)>,
    /// From due (or begun) to the last reply, microseconds.
    pub(crate) latency: Histogram<u64>,
    /// From the first connection to the last reply.
    pub(crate) took: Duration,
}

/// What the sessions share. One thread.
struct Shared {
    arguments: Arguments,
    letters: Letters,
    tls: ClientTls,
    begun: Instant,
    next: Cell<u64>,
    accepted: Cell<u64>,
    failures: RefCell<Vec<(u16, u64)>>,
    latency: RefCell<Histogram<u64>>,
}

/// `waypost-bench source`.
pub(crate) async fn main(arguments: Arguments) -> Result<(), Failure> {
    let outcome = send(arguments).await?;
    let at = |quantile| Duration::from_micros(outcome.latency.value_at_quantile(quantile));
    println!(
        "{} accepted in {:.2?}: {:.0} messages/s; latency 50 % {:.1?}, 99 % {:.1?}, most {:.1?}",
        outcome.accepted,
        outcome.took,
        outcome.accepted as f64 / outcome.took.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    outcome.failures.iter().for_each(|(code, count)| println!("{count} answered {code}"));
    if outcome.failures.is_empty() { Ok(()) } else { Err("not every message was accepted".into()) }
}

/// Sends everything.
pub(crate) async fn send(arguments: Arguments) -> Result<Outcome, Failure> {
    let sessions = arguments.sessions.max(1);
    let shared = Rc::new(Shared {
        letters: Letters::new(arguments.bytes, &arguments.from, &arguments.recipient.replace('%', "0")),
        tls: ClientTls::new(ClientTlsOptions::default())?,
        begun: Instant::now(),
        next: Cell::new(0),
        accepted: Cell::new(0),
        failures: RefCell::default(),
        latency: RefCell::new(Histogram::new_with_bounds(1, 3_600_000_000, 3)?),
        arguments,
    });
    let local = LocalSet::new();
    for number in 0..sessions {
        local.spawn_local(session(shared.clone(), number));
    }
    local.await;
    let took = shared.begun.elapsed();
    let Ok(shared) = Rc::try_unwrap(shared) else { return Err("a session is still at work".into()) };
    Ok(Outcome {
        accepted: shared.accepted.get(),
        failures: shared.failures.into_inner(),
        latency: shared.latency.into_inner(),
        took,
    })
}

/// Connections one after the other until there is nothing more to send. A connection that fails costs the message on it, and a moment.
async fn session(shared: Rc<Shared>, number: usize) {
    while shared.next.get() < shared.arguments.messages {
        let before = shared.next.get();
        if let Err(code) = connection(&shared, number).await {
            shared.fail(code);
            if shared.next.get() == before {
                // Nothing was taken: the connection itself failed, and counts as one message.
                shared.next.set(before + 1);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Shared {
    fn fail(&self, code: u16) {
        let mut failures = self.failures.borrow_mut();
        match failures.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => failures.push((code, 1)),
        }
    }

    /// The next message, and when it was due.
    async fn take(&self) -> Option<(u64, Instant)> {
        let number = self.next.get();
        if number >= self.arguments.messages {
            return None;
        }
        self.next.set(number + 1);
        let Some(rate) = self.arguments.rate else { return Some((number, Instant::now())) };
        let due = self.begun + Duration::from_secs_f64(number as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        Some((number, due))
    }

    fn done(&self, due: Instant, code: u16) {
        if code == 250 {
            self.accepted.set(self.accepted.get() + 1);
            let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.latency.borrow_mut().saturating_record(micros);
        } else {
            self.fail(code);
        }
    }
}

async fn connect(shared: &Shared, number: usize) -> std::io::Result<Wire> {
    if shared.arguments.addresses <= 1 {
        return Wire::connect(shared.arguments.to).await;
    }
    let step = number as u32 % shared.arguments.addresses;
    let from = IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + step));
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream: TcpStream = socket.connect(shared.arguments.to).await?;
    stream.set_nodelay(true)?;
    Ok(Wire::Plain(stream))
}

/// One connection's life. The error is the code that ended it, 0 if none did.
async fn connection(shared: &Shared, number: usize) -> Result<(), u16> {
    let arguments = &shared.arguments;
    let lost = |_: std::io::Error| 0u16;
    let mut wire = connect(shared, number).await.map_err(lost)?;
    if arguments.tls {
        wire = wire.secure(&shared.tls).await.map_err(lost)?;
    }
    let mut lines = Lines::default();
    expect(&mut lines, &mut wire, 220).await?;
    hello(&mut lines, &mut wire).await?;
    if arguments.starttls {
        say(&mut lines, &mut wire, "STARTTLS\r\n", 220).await?;
        wire = wire.secure(&shared.tls).await.map_err(lost)?;
        hello(&mut lines, &mut wire).await?;
    }
    if let Some((name, password)) = arguments.login.as_deref().and_then(|login| login.split_once(':')) {
        let response = STANDARD.encode(format!("\0{name}\0{password}"));
        say(&mut lines, &mut wire, &format!("AUTH PLAIN {response}\r\n"), 235).await?;
    }
    let mut sent = 0;
    while arguments.per_connection == 0 || sent < arguments.per_connection {
        let Some((message, due)) = shared.take().await else { break };
        let code = transaction(shared, &mut lines, &mut wire, message).await?;
        shared.done(due, code);
        sent += 1;
    }
    say(&mut lines, &mut wire, "QUIT\r\n", 221).await
}

async fn expect(lines: &mut Lines, wire: &mut Wire, wanted: u16) -> Result<(), u16> {
    let code = lines.reply(wire, |_| ()).await.map_err(|_| 0u16)?;
    if code == wanted { Ok(()) } else { Err(code) }
}

async fn say(lines: &mut Lines, wire: &mut Wire, text: &str, wanted: u16) -> Result<(), u16> {
    wire.send(&mut [Bytes::copy_from_slice(text.as_bytes())]).await.map_err(|_| 0u16)?;
    expect(lines, wire, wanted).await
}

async fn hello(lines: &mut Lines, wire: &mut Wire) -> Result<(), u16> {
    say(lines, wire, "EHLO client.example\r\n", 250).await
}

/// One message; the code of its last reply.
async fn transaction(shared: &Shared, lines: &mut Lines, wire: &mut Wire, number: u64) -> Result<u16, u16> {
    let arguments = &shared.arguments;
    let mut commands = vec![format!("MAIL FROM:<{}>\r\n", arguments.from)];
    let to = |n: usize| format!("RCPT TO:<{}>\r\n", arguments.recipient.replace('%', &n.to_string()));
    commands.extend((0..arguments.recipients.max(1)).map(to));
    if arguments.chunking {
        return by_bdat(shared, lines, wire, commands, number).await;
    }
    commands.push("DATA\r\n".into());
    let wanted = |at: usize| if at + 1 == commands.len() { 354 } else { 250 };
    if arguments.no_pipelining {
        for (at, command) in commands.iter().enumerate() {
            say(lines, wire, command, wanted(at)).await?;
        }
    } else {
        wire.send(&mut [commands.concat().into()]).await.map_err(|_| 0u16)?;
        for at in 0..commands.len() {
            expect(lines, wire, wanted(at)).await?;
        }
    }
    let [before, middle, after] = shared.letters.parts(number);
    wire.send(&mut [before, middle, after, Bytes::from_static(b".\r\n")]).await.map_err(|_| 0u16)?;
    lines.reply(wire, |_| ()).await.map_err(|_| 0)
}

/// Envelope and message in one write (RFC 3030 and RFC 2920 together).
async fn by_bdat(
    shared: &Shared,
    lines: &mut Lines,
    wire: &mut Wire,
    mut commands: Vec<String>,
    number: u64,
) -> Result<u16, u16> {
    let replies = commands.len();
    commands.push(format!("BDAT {} LAST\r\n", shared.letters.len()));
    let [before, middle, after] = shared.letters.parts(number);
    wire.send(&mut [commands.concat().into(), before, middle, after]).await.map_err(|_| 0u16)?;
    for _ in 0..replies {
        expect(lines, wire, 250).await?;
    }
    lines.reply(wire, |_| ()).await.map_err(|_| 0)
}
