//! One connection: a socket and the protocol machine on it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use waypost_net::{ClientTls, Stream};
use waypost_resolve::Hop;
use waypost_smtp::client::{Action, Client, Failure, Report, Transaction};
use waypost_smtp::timer::Wait;
use waypost_types::{Enhanced, Reply, Security};

use crate::tls_report::Fault;

/// What the connections of two errands must share for one to use the other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The host's name: certificates and logins hang on it.
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
    pub(crate) security: Security,
    pub(crate) lmtp: bool,
    /// Which of the pool it comes from.
    pub(crate) source: Option<usize>,
}

/// A connection.
pub(crate) struct Line {
    pub(crate) key: Key,
    /// `mx.example[192.0.2.1]:25`, for logs and reports.
    pub(crate) target: Arc<str>,
    /// `TLSv1.3 opportunistic`.
    pub(crate) security: Arc<str>,
    /// Transactions so far.
    pub(crate) used: u32,
    /// What was wrong with TLS: why it did not come up, or what would have been wrong under the policy that is being tested.
    pub(crate) fault: Option<(Fault, String)>,
    /// TLS is up.
    pub(crate) encrypted: bool,
    /// The certificate is looked at although it need not be good.
    pub(crate) looks: bool,
    /// A handshake with a smaller first message might come through.
    pub(crate) stalled: bool,
    stream: Option<Box<dyn Stream>>,
    client: Client,
    input: BytesMut,
    write_timeout: Duration,
}

/// What the machine has come to.
pub(crate) enum Step {
    Ready,
    Done(Report),
    Failed(Failure),
}

/// How many pieces one write takes; the kernel's bound is 1024.
const SLICES_MAX: usize = 64;

impl Line {
    pub(crate) fn new(key: Key, target: Arc<str>, stream: Box<dyn Stream>, client: Client, divisor: u32) -> Line {
        let security = format!("plaintext {}", key.security.word()).into();
        let write_timeout = Wait::DataBlock.duration() / divisor.max(1);
        let input = BytesMut::with_capacity(4096);
        Line {
            key,
            target,
            security,
            used: 0,
            fault: None,
            encrypted: false,
            looks: false,
            stalled: false,
            stream: Some(stream),
            client,
            input,
            write_timeout,
        }
    }

    /// Whether another transaction may begin.
    pub(crate) fn is_ready(&self) -> bool {
        self.stream.is_some() && self.client.is_idle()
    }

    /// Whether mail for `hop`, secured so, could go over this connection.
    pub(crate) fn leads_to(&self, hop: &Hop, security: &Security, lmtp: bool, source: Option<usize>) -> bool {
        let Key { host, address, security: own, lmtp: own_lmtp, source: own_source } = &self.key;
        hop.port == address.port()
            && *own_lmtp == lmtp
            && *own_source == source
            && own == security
            && hop.host == *host
            && hop.addresses.contains(&address.ip())
    }

    /// From the greeting until a transaction may begin. The flag tells whether it was the handshake that failed.
    pub(crate) async fn greet(&mut self, tls: &ClientTls, until: Instant) -> Result<(), (Failure, bool)> {
        let mut handshake_failed = false;
        loop {
            match self.step(until).await {
                Some(Step::Ready) => return Ok(()),
                Some(Step::Failed(failure)) => return Err((failure, handshake_failed)),
                Some(Step::Done(_)) => unreachable!("no transaction has begun"),
                None => handshake_failed = !self.secure(tls).await,
            }
        }
    }

    /// Negotiates TLS. False: it did not come up, which the machine has been told.
    async fn secure(&mut self, tls: &ClientTls) -> bool {
        assert!(self.input.is_empty(), "no octet read before TLS survives it");
        let stream = self.stream.take().expect("the machine asks for TLS on a connection that is there");
        let connected = match self.looks {
            true => tls.connect_and_look(stream, &self.key.host).await,
            false => tls.connect(stream, &self.key.host, &self.key.security).await.map(|(s, facts)| (s, facts, None)),
        };
        match connected {
            Ok((stream, facts, seen)) => {
                self.fault = seen.map(|error| (Fault::of_handshake(&error, &self.key.security), error.to_string()));
                self.encrypted = true;
                self.stream = Some(stream);
                self.security = format!("{} {}", facts.version, self.key.security.word()).into();
                self.client.handle_tls(Instant::now());
                true
            }
            Err(error) => {
                self.fault = Some((Fault::of_handshake(&error, &self.key.security), error.to_string()));
                self.stalled = is_silence(&error);
                self.client.handle_lost(Instant::now(), &error.to_string());
                false
            }
        }
    }

    /// One transaction.
    pub(crate) async fn transact(&mut self, transaction: Transaction, until: Instant) -> Report {
        self.used += 1;
        let count = transaction.recipients.len();
        self.client.begin(Instant::now(), transaction);
        match self.step(until).await {
            Some(Step::Done(report)) => report,
            // The machine promises one `Done` for each `begin`; should it break its word, nothing was delivered.
            Some(Step::Ready | Step::Failed(_)) | None => {
                self.stream = None;
                let reply = Reply::new(451, Enhanced(4, 3, 0), "the client lost track of the transaction");
                Report {
                    replies: vec![reply; count],
                    ambiguous: true,
                    excess: Vec::new(),
                    reusable: false,
                    try_next: false,
                    untried: false,
                    dsn: false,
                }
            }
        }
    }

    /// Carries out actions until something is decided; `None`: TLS is asked for.
    async fn step(&mut self, until: Instant) -> Option<Step> {
        loop {
            while let Some(action) = self.client.poll_action() {
                match action {
                    Action::Send(pieces) => self.send(pieces).await,
                    Action::StartTls => return None,
                    Action::Ready => return Some(Step::Ready),
                    Action::Done(report) => return Some(Step::Done(report)),
                    Action::Failed(failure) => return Some(Step::Failed(failure)),
                    Action::Close => self.stream = None,
                }
            }
            self.receive(until).await;
        }
    }

    async fn receive(&mut self, until: Instant) {
        let Some(stream) = self.stream.as_mut() else {
            return self.client.handle_lost(Instant::now(), "the connection is closed");
        };
        let deadline = self.client.poll_timeout().map_or(until, |at| at.min(until));
        self.input.reserve(2048);
        let read = tokio::time::timeout_at(deadline.into(), stream.read_buf(&mut self.input)).await;
        let now = Instant::now();
        match read {
            Ok(Ok(0)) => self.lose("the peer has closed it"),
            Ok(Ok(_)) => self.client.handle_input(now, &mut self.input),
            Ok(Err(error)) => self.lose(&error.to_string()),
            Err(_) if now >= until => self.lose("there is no time left for this attempt"),
            Err(_) => self.client.handle_timeout(now),
        }
    }

    fn lose(&mut self, error: &str) {
        self.stream = None;
        self.client.handle_lost(Instant::now(), error);
    }

    async fn send(&mut self, pieces: Vec<Bytes>) {
        let Some(stream) = self.stream.as_mut() else { return };
        match write_all(stream, &pieces, self.write_timeout).await {
            Ok(()) => self.client.handle_written(Instant::now()),
            Err(error) => self.hear_last_words(&error).await,
        }
    }

    /// The peer has stopped reading. It may have said why (552 in the middle of a message, 421): what it said counts.
    async fn hear_last_words(&mut self, error: &io::Error) {
        for _ in 0..16 {
            let Some(stream) = self.stream.as_mut() else { break };
            self.input.reserve(2048);
            match timeout(Duration::from_secs(1), stream.read_buf(&mut self.input)).await {
                Ok(Ok(count)) if count > 0 => self.client.handle_input(Instant::now(), &mut self.input),
                _ => break,
            }
        }
        self.lose(&error.to_string());
    }

    /// Returns when the peer says something between transactions or closes: either way the connection is over.
    pub(crate) async fn disturbed(&mut self) {
        if let Some(stream) = self.stream.as_mut() {
            let mut octet = [0];
            let _ = stream.read(&mut octet).await;
        }
        self.stream = None;
    }

    /// QUIT, without waiting for its answer.
    pub(crate) async fn quit(mut self) {
        self.client.quit(Instant::now());
        let Some(stream) = self.stream.as_mut() else { return };
        while let Some(Action::Send(pieces)) = self.client.poll_action() {
            let polite = async {
                write_all(stream, &pieces, Duration::from_secs(1)).await?;
                stream.shutdown().await
            };
            let _ = timeout(Duration::from_secs(1), polite).await;
        }
    }
}

/// Whether a handshake failed without a word, as it does when something on the way swallows a first message that is longer than one packet.
fn is_silence(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    matches!(error.kind(), TimedOut | ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)
}

/// Writes all pieces with as few calls as they need. `patience` is for each call: as long as the peer reads, it may be slow.
async fn write_all(stream: &mut Box<dyn Stream>, pieces: &[Bytes], patience: Duration) -> io::Result<()> {
    let (mut at, mut offset) = (0, 0);
    while at < pieces.len() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = (pieces.len() - at).min(SLICES_MAX);
        for (slice, piece) in slices.iter_mut().zip(&pieces[at..at + count]) {
            *slice = IoSlice::new(piece);
        }
        slices[0] = IoSlice::new(&pieces[at][offset..]);
        let mut written =
            timeout(patience, stream.write_vectored(&slices[..count])).await.map_err(|_| too_slow(patience))??;
        if written == 0 && offset < pieces[at].len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while at < pieces.len() && written >= pieces[at].len() - offset {
            written -= pieces[at].len() - offset;
            (at, offset) = (at + 1, 0);
        }
        offset += written;
    }
    timeout(patience, stream.flush()).await.map_err(|_| too_slow(patience))?
}

fn too_slow(patience: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the peer has read nothing for {} s", patience.as_secs()))
}
