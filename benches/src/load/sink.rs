//! The sink: takes mail and forgets it, as politely or rudely as a real receiver.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use clap::Args;
use memchr::memmem;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use waypost_net::{ServerTls, ServerTlsOptions};

use super::wire::{Lines, Wire};
use crate::Failure;

/// Takes mail and forgets it; prints how many messages came, twenty times a second while they come.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Where to listen: ADDRESS:PORT
    pub(crate) at: SocketAddr,
    /// Offer STARTTLS, with a certificate of its own making
    #[arg(long)]
    pub(crate) starttls: bool,
    /// Answer 421 to connections beyond so many
    #[arg(long)]
    pub(crate) connections_max: Option<usize>,
    /// Answer 421 after so many messages on a connection
    #[arg(long)]
    pub(crate) messages_max: Option<u64>,
    /// Defer every envelope once with 451
    #[arg(long)]
    pub(crate) greylist: bool,
    /// Wait before each final reply, milliseconds
    #[arg(long, default_value_t = 0)]
    pub(crate) delay: u64,
}

/// What the connections share. One thread.
struct Shared {
    arguments: Arguments,
    tls: Option<ServerTls>,
    open: Cell<usize>,
    taken: Cell<u64>,
    seen: RefCell<HashSet<Box<[u8]>>>,
}

/// `waypost-bench sink`: until it is killed.
pub(crate) async fn main(arguments: Arguments) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let tls = match arguments.starttls {
        true => {
            Some(ServerTls::from_self_signed(folder.path(), &["sink.example".into()], ServerTlsOptions::default())?)
        }
        false => None,
    };
    let listener = TcpListener::bind(arguments.at).await?;
    let shared = Rc::new(Shared { arguments, tls, open: Cell::new(0), taken: Cell::new(0), seen: RefCell::default() });
    LocalSet::new().run_until(serve(listener, shared)).await
}

async fn serve(listener: TcpListener, shared: Rc<Shared>) -> Result<(), Failure> {
    tokio::task::spawn_local(count(shared.clone()));
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(connection(stream, shared.clone()));
    }
}

async fn count(shared: Rc<Shared>) {
    let mut said = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if shared.taken.get() != said {
            said = shared.taken.get();
            println!("{said}");
            let _ = std::io::stdout().flush();
        }
    }
}

async fn connection(stream: TcpStream, shared: Rc<Shared>) {
    shared.open.set(shared.open.get() + 1);
    let _ = stream.set_nodelay(true);
    // A peer that goes away is no concern of a sink.
    let _ = talk(Wire::Plain(stream), &shared).await;
    shared.open.set(shared.open.get() - 1);
}

/// Where a session stands.
#[derive(Default)]
struct State {
    envelope: Vec<u8>,
    messages: u64,
    secret: bool,
}

/// What follows a command.
enum Step {
    Say(&'static str),
    Data,
    Bdat(usize, bool),
    Tls,
    Quit,
}

async fn talk(mut wire: Wire, shared: &Shared) -> std::io::Result<()> {
    if shared.arguments.connections_max.is_some_and(|max| shared.open.get() > max) {
        return wire.send(&mut [Bytes::from_static(b"421 4.7.0 too many connections from you\r\n")]).await;
    }
    let mut lines = Lines::default();
    let mut state = State::default();
    let mut replies = BytesMut::from("220 sink.example ESMTP\r\n");
    loop {
        // Replies of a group leave together.
        while let Some(line) = lines.next() {
            match step(&line, &mut state, shared) {
                Step::Say(text) => replies.extend_from_slice(text.as_bytes()),
                Step::Data => {
                    replies.extend_from_slice(b"354 go on\r\n");
                    wire.send(&mut [replies.split().freeze()]).await?;
                    if !body(&mut lines, &mut wire).await? {
                        return Ok(());
                    }
                    take(shared, &mut state, &mut replies).await;
                }
                Step::Bdat(octets, last) => {
                    if !skip(&mut lines, &mut wire, octets).await? {
                        return Ok(());
                    }
                    match last {
                        true => take(shared, &mut state, &mut replies).await,
                        false => replies.extend_from_slice(b"250 2.0.0 ok\r\n"),
                    }
                }
                Step::Tls => {
                    replies.extend_from_slice(b"220 2.0.0 go on\r\n");
                    wire.send(&mut [replies.split().freeze()]).await?;
                    wire = wire.accept(shared.tls.as_ref().expect("STARTTLS is only known with it")).await?;
                    state = State { secret: true, ..State::default() };
                }
                Step::Quit => {
                    replies.extend_from_slice(b"221 2.0.0 bye\r\n");
                    return wire.send(&mut [replies.split().freeze()]).await;
                }
            }
        }
        if !replies.is_empty() {
            wire.send(&mut [replies.split().freeze()]).await?;
        }
        if !lines.fill(&mut wire).await? {
            return Ok(());
        }
    }
}

fn step(line: &[u8], state: &mut State, shared: &Shared) -> Step {
    let verb = line.get(..4).unwrap_or(line).to_ascii_uppercase();
    match verb.as_slice() {
        b"EHLO" if shared.tls.is_some() && !state.secret => Step::Say(
            "250-sink.example\r\n250-PIPELINING\r\n250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-STARTTLS\r\n250 CHUNKING\r\n",
        ),
        b"EHLO" => Step::Say(
            "250-sink.example\r\n250-PIPELINING\r\n250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 CHUNKING\r\n",
        ),
        b"MAIL" if shared.arguments.messages_max.is_some_and(|max| state.messages >= max) => {
            Step::Say("421 4.7.0 too many messages on this connection\r\n")
        }
        b"MAIL" => {
            state.envelope = line.to_vec();
            Step::Say("250 2.1.0 ok\r\n")
        }
        b"RCPT" => {
            state.envelope.extend_from_slice(line);
            match shared.arguments.greylist && shared.seen.borrow_mut().insert(state.envelope.as_slice().into()) {
                true => Step::Say("451 4.7.1 greylisted, come back later\r\n"),
                false => Step::Say("250 2.1.5 ok\r\n"),
            }
        }
        b"DATA" => Step::Data,
        b"BDAT" => {
            let mut words = line.split(|byte| *byte == b' ').skip(1);
            let octets = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse().ok()).unwrap_or(0);
            Step::Bdat(octets, words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"LAST")))
        }
        b"STAR" if shared.tls.is_some() => Step::Tls,
        b"QUIT" => Step::Quit,
        b"HELO" | b"RSET" | b"NOOP" => Step::Say("250 2.0.0 ok\r\n"),
        _ => Step::Say("502 5.5.1 this is a sink\r\n"),
    }
}

async fn take(shared: &Shared, state: &mut State, replies: &mut BytesMut) {
    if shared.arguments.delay > 0 {
        tokio::time::sleep(Duration::from_millis(shared.arguments.delay)).await;
    }
    state.messages += 1;
    shared.taken.set(shared.taken.get() + 1);
    replies.extend_from_slice(b"250 2.0.0 gone\r\n");
}

const END: &[u8] = b"\r\n.\r\n";

/// Reads to the final dot, looking at no octet twice. False if the stream ends before.
async fn body(lines: &mut Lines, wire: &mut Wire) -> std::io::Result<bool> {
    let mut at_start = true;
    loop {
        let buffer = lines.rest();
        if at_start && buffer.starts_with(b".\r\n") {
            buffer.advance(3);
            return Ok(true);
        }
        if let Some(at) = memmem::find(buffer, END) {
            buffer.advance(at + END.len());
            return Ok(true);
        }
        if buffer.len() > END.len() {
            buffer.advance(buffer.len() - (END.len() - 1));
            at_start = false;
        }
        if !lines.fill(wire).await? {
            return Ok(false);
        }
    }
}

async fn skip(lines: &mut Lines, wire: &mut Wire, mut octets: usize) -> std::io::Result<bool> {
    loop {
        let buffer = lines.rest();
        let step = octets.min(buffer.len());
        buffer.advance(step);
        octets -= step;
        if octets == 0 {
            return Ok(true);
        }
        if !lines.fill(wire).await? {
            return Ok(false);
        }
    }
}
