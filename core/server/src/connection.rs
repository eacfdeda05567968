//! One connection: bytes between a socket and a [`Session`], actions between the session and its [`Pipeline`].
//!
//! It promises: one write per group of replies; one timer; a bound on every wait; no read buffer while a client is idle (what comes
//! in is read onto the stack first and only then given memory); that a client who vanishes takes its open question with it, except
//! that a message on its way into the store is never let go of half-way. It knows no SMTP.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep_until, timeout};
use waypost_net::Stream;
use waypost_net::listen::Accepted;
use waypost_net::proxy_header::{self, Proxied};
use waypost_smtp::server::{Action, Ask, CloseReason, Session, Ticket};
use waypost_types::{Event, SessionFacts, SessionId, TlsFacts, limits};

use crate::listener::Guest;
use crate::options::Rules;
use crate::pipeline::Pipeline;
use crate::shared::{Shared, wall_clock};

/// What one read takes at most while it is not known to be worth a buffer of its own. A message of 10 KB fits, and then has exactly
/// the memory that it needs, for one copy of it.
const STACK_READ_BYTES: usize = 16 * 1024;
/// One read of a large message goes straight into a buffer of this size or less.
const BODY_READ_BYTES_MAX: usize = 256 * 1024;
/// How long a client may leave us waiting with replies that it does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);
/// Closing is a courtesy: TLS's close_notify, the last reply on its way.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is read and forgotten while closing.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;

/// Serves one client from the handshake to the end. `told` resolves when the server is going down.
pub(crate) async fn run(
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    accepted: Accepted,
    told: oneshot::Receiver<()>,
    mut guest: Guest,
) {
    let begun = Instant::now();
    let mut accepted = accepted;
    if rules.is_balancer(accepted.peer.ip()) {
        let introduced = Box::pin(introduce(&shared, &mut accepted)).await;
        if !introduced || !guest.becomes(&rules, &accepted) {
            return;
        }
    }
    let Accepted { stream, peer, local, .. } = accepted;
    let id = shared.session_id();
    let observer = shared.services.observer.clone();
    let transport = rules.policy.transport;
    observer.observe(Event::Connected { session: id, transport, peer, local });
    let mut facts = SessionFacts {
        id,
        transport,
        peer,
        local,
        peer_name: None,
        helo: "".into(),
        esmtp: false,
        tls: None,
        user: None,
        trusted: rules.trusts(peer.ip()),
    };
    let mut stream: Box<dyn Stream> = Box::new(stream);
    if rules.begins_with_tls() {
        match handshake(&shared, &rules, id, stream).await {
            Some((inside, tls)) => {
                stream = inside;
                facts.tls = Some(tls);
            }
            None => {
                let duration = begun.elapsed();
                return observer.observe(Event::Disconnected { session: id, reason: "tls", messages: 0, duration });
            }
        }
    }
    let pipeline = Pipeline::new(shared.clone(), rules.clone(), &facts);
    let now = Instant::now();
    let mut session = Session::new(rules.policy.clone(), facts, now);
    session.set_clock(now, wall_clock());
    let is_proxy = rules.is_proxy(peer.ip());
    session.offer(rules.extensions(peer.ip(), is_proxy));
    session.set_pressed(guest.is_pressed());
    let mut connection = Connection {
        stream,
        session,
        pipeline,
        shared,
        rules,
        guest,
        is_proxy,
        input: BytesMut::new(),
        output: Output::default(),
        gone: false,
        hungry: false,
    };
    let reason = connection.serve(told).await;
    let messages = connection.pipeline.messages();
    observer.observe(Event::Disconnected { session: id, reason, messages, duration: begun.elapsed() });
}

/// Reads who a balancer's client is. A balancer that does not say is not served: its client would pass for one of our hosts.
async fn introduce(shared: &Shared, accepted: &mut Accepted) -> bool {
    let balancer = accepted.peer.ip();
    match timeout(shared.options.handshake_timeout, proxy_header::read(&mut accepted.stream)).await {
        Ok(Ok(Proxied::Client { source, target })) => {
            (accepted.peer, accepted.local) = (source, target);
            true
        }
        Ok(Ok(Proxied::Unchanged)) => true,
        Ok(Err(error)) => {
            let remedy = "send the PROXY protocol from there, or take the address out of proxy-protocol";
            shared.notice("warn", &format!("connection from balancer {balancer} refused: {error}; {remedy}"));
            false
        }
        Err(_) => false,
    }
}

/// Negotiates TLS in bounded time; says what came of it.
async fn handshake(
    shared: &Shared,
    rules: &Rules,
    session: SessionId,
    stream: Box<dyn Stream>,
) -> Option<(Box<dyn Stream>, Arc<TlsFacts>)> {
    let observer = &shared.services.observer;
    let fail = |error: &str| observer.observe(Event::TlsFailed { session, error });
    let Some(tls) = &rules.tls else {
        fail("this door has no certificate: set one, or switch TLS off here");
        return None;
    };
    // Boxed: a handshake is rare and its future large, and every idle session would carry its size.
    match timeout(shared.options.handshake_timeout, Box::pin(tls.accept(stream))).await {
        Ok(Ok((stream, facts))) => {
            observer.observe(Event::TlsStarted { session, tls: &facts });
            Some((stream, facts))
        }
        Ok(Err(error)) => {
            fail(&error.to_string());
            None
        }
        Err(_) => {
            fail("the client did not finish the handshake in time");
            None
        }
    }
}

struct Connection {
    stream: Box<dyn Stream>,
    session: Session,
    pipeline: Pipeline,
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    guest: Guest,
    /// The host that is connected may speak for others.
    is_proxy: bool,
    /// Read and not yet understood.
    input: BytesMut,
    output: Output,
    /// The client has closed its side (it may still be listening).
    gone: bool,
    /// The last read filled its buffer: the next one deserves a larger one.
    hungry: bool,
}

/// The connection cannot go on; the word for the log.
struct End(&'static str);

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End("lost")
    }
}

impl Connection {
    /// Until the end; why it ended.
    async fn serve(&mut self, told: oneshot::Receiver<()>) -> &'static str {
        let mut told = Some(told);
        let mut alarm = Alarm::default();
        loop {
            if let Err(End(reason)) = self.step(&mut told, &mut alarm).await {
                return reason;
            }
        }
    }

    /// Does what the session wants, then waits for whatever comes first.
    async fn step(&mut self, told: &mut Option<oneshot::Receiver<()>>, alarm: &mut Alarm) -> Result<(), End> {
        self.act().await?;
        self.flush().await?;
        if self.input.is_empty() {
            // Also lets go of the memory that the buffer shares with the message just taken.
            self.input = BytesMut::new();
        }
        if self.gone {
            self.session.handle_eof(Instant::now());
            self.act().await?;
            self.flush().await?;
            return Err(End("lost"));
        }
        let hint = self.session.body_hint();
        let (stream, input, hungry) = (&mut *self.stream, &mut self.input, &mut self.hungry);
        tokio::select! {
            biased;
            read = poll_fn(|cx| poll_read(stream, input, hungry, hint, cx)), if self.session.wants_input() => {
                match read? {
                    0 => self.gone = true,
                    _ => self.session.handle_input(Instant::now(), &mut self.input),
                }
            }
            () = alarm.wait(self.session.poll_timeout()) => self.session.handle_timeout(Instant::now()),
            () = until_told(told) => {
                *told = None;
                self.session.handle_shutdown(Instant::now());
            }
        }
        Ok(())
    }

    /// Carries out actions until there are none.
    async fn act(&mut self) -> Result<(), End> {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(bytes) => {
                    self.output.push(bytes);
                    if self.output.len() > limits::OUTPUT_BYTES_MAX {
                        self.flush().await?;
                    }
                }
                Action::Body(piece) => self.pipeline.take_body(piece),
                Action::Ask(_, Ask::Reset) => self.pipeline.reset(),
                Action::Ask(ticket, ask) => self.answer(ticket, ask).await?,
                Action::StartTls => self.start_tls().await?,
                // Boxed: rare.
                Action::Pause(span) => Box::pin(self.pause(span)).await?,
                Action::Close(reason) => return Err(self.close(reason).await),
            }
        }
        Ok(())
    }

    /// Has the pipeline answer, and gives up if the connection breaks meanwhile.
    async fn answer(&mut self, ticket: Ticket, ask: Ask) -> Result<(), End> {
        let commits = matches!(ask, Ask::Message);
        if matches!(ask, Ask::Proxied) {
            self.begin_again();
        }
        let answer = {
            let mut asking = pin!(self.pipeline.answer(ask, &mut self.session));
            if commits {
                asking.await
            } else {
                let broken = watch(&mut *self.stream, &mut self.input, &mut self.gone);
                tokio::select! {
                    biased;
                    answer = &mut asking => answer,
                    () = broken => return Err(End("lost")),
                }
            }
        };
        let now = Instant::now();
        self.session.set_pressed(self.guest.is_pressed());
        self.session.handle_answer(now, ticket, answer);
        self.session.handle_input(now, &mut self.input);
        Ok(())
    }

    /// The client is another one: nothing that was found out about the last one holds.
    fn begin_again(&mut self) {
        let peer = self.session.facts().peer.ip();
        self.session.set_trusted(self.rules.trusts(peer));
        self.session.offer(self.rules.extensions(peer, self.is_proxy));
        self.pipeline = Pipeline::new(self.shared.clone(), self.rules.clone(), self.session.facts());
    }

    /// Has a client wait. Nothing is held meanwhile but its own connection.
    async fn pause(&mut self, span: Duration) -> Result<(), End> {
        self.flush().await?;
        let broken = watch(&mut *self.stream, &mut self.input, &mut self.gone);
        tokio::select! {
            () = broken => Err(End("lost")),
            () = tokio::time::sleep(span) => Ok(()),
        }
    }

    async fn start_tls(&mut self) -> Result<(), End> {
        self.flush().await?;
        assert!(self.input.is_empty(), "bytes read before TLS must not survive it (CVE-2011-0411)");
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let id = self.session.facts().id;
        let (stream, tls) = handshake(&self.shared, &self.rules, id, plain).await.ok_or(End("tls"))?;
        self.stream = stream;
        self.session.handle_tls(Instant::now(), tls);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.output.len() == 0 {
            return Ok(());
        }
        let write = async {
            self.stream.write_all_buf(&mut self.output).await?;
            self.stream.flush().await
        };
        let written = timeout(WRITE_TIMEOUT, write).await;
        written.map_err(|_| End("timeout"))?.map_err(End::from)
    }

    /// The last replies, then an orderly end of the stream.
    async fn close(&mut self, reason: CloseReason) -> End {
        let _ = timeout(CLOSE_TIMEOUT, async {
            let _ = self.flush().await;
            let _ = self.stream.shutdown().await;
            // Only those who are cut short are likely to be sending still.
            if !self.gone && matches!(reason, CloseReason::Limit | CloseReason::Refused) {
                drain(&mut *self.stream).await;
            }
        })
        .await;
        End(word(reason))
    }
}

/// Takes what the client still sends, up to a bound: closing a socket with unread bytes resets the connection, and the reset overtakes
/// the reply that says why.
async fn drain(stream: &mut dyn Stream) {
    let mut left = DRAIN_BYTES_MAX;
    let mut scrap = BytesMut::new();
    while left > 0 {
        match poll_fn(|cx| poll_read_by_stack(stream, &mut scrap, None, cx)).await {
            Ok(0) | Err(_) => return,
            Ok(read) => left = left.saturating_sub(read),
        }
        scrap.clear();
    }
}

fn word(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Quit => "quit",
        CloseReason::Lost => "lost",
        CloseReason::Timeout => "timeout",
        CloseReason::Limit => "limit",
        CloseReason::Refused => "refused",
        CloseReason::Shutdown => "shutdown",
    }
}

async fn until_told(told: &mut Option<oneshot::Receiver<()>>) {
    match told {
        // An error is a dropped sender, which is how the register tells.
        Some(told) => drop(told.await),
        None => std::future::pending().await,
    }
}

/// Reads what there is. Bytes land on the stack first, so that waiting costs no memory; once reads come back full, they go straight
/// into a buffer that the message keeps.
fn poll_read(
    stream: &mut dyn Stream,
    input: &mut BytesMut,
    hungry: &mut bool,
    hint: Option<usize>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let read = if *hungry {
        let room = hint.unwrap_or(2 * STACK_READ_BYTES).clamp(STACK_READ_BYTES, BODY_READ_BYTES_MAX);
        if input.capacity() - input.len() < STACK_READ_BYTES {
            input.reserve(room);
        }
        std::task::ready!(pin!(stream.read_buf(input)).poll(cx))?
    } else {
        std::task::ready!(poll_read_by_stack(stream, input, hint, cx))?
    };
    *hungry = read >= STACK_READ_BYTES;
    Poll::Ready(Ok(read))
}

fn poll_read_by_stack(
    mut stream: &mut dyn Stream,
    input: &mut BytesMut,
    hint: Option<usize>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut space = [const { MaybeUninit::<u8>::uninit() }; STACK_READ_BYTES];
    let mut space = ReadBuf::uninit(&mut space);
    std::task::ready!(Pin::new(&mut stream).poll_read(cx, &mut space))?;
    let read = space.filled();
    // Full, so that more will come: room for all of a small announced message at once.
    if read.len() == STACK_READ_BYTES {
        input.reserve(hint.unwrap_or(2 * STACK_READ_BYTES).clamp(read.len(), BODY_READ_BYTES_MAX));
    }
    input.extend_from_slice(read);
    Poll::Ready(Ok(read.len()))
}

/// Resolves when the connection breaks. Reads ahead meanwhile, up to one group of commands; an orderly end of the client's side is
/// only noted, since it may have sent all its commands and be listening for the replies.
async fn watch(stream: &mut dyn Stream, input: &mut BytesMut, gone: &mut bool) {
    loop {
        if *gone || input.len() >= limits::INPUT_BYTES_MAX {
            return std::future::pending().await;
        }
        match poll_fn(|cx| poll_read_by_stack(stream, input, None, cx)).await {
            Ok(0) => *gone = true,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Replies on their way out. One reply, the usual case, is not copied.
#[derive(Default)]
struct Output {
    one: Bytes,
    more: BytesMut,
}

impl Output {
    fn push(&mut self, bytes: Bytes) {
        if self.len() == 0 {
            self.one = bytes;
            return;
        }
        if self.more.is_empty() {
            self.more.extend_from_slice(&std::mem::take(&mut self.one));
        }
        self.more.extend_from_slice(&bytes);
    }

    fn len(&self) -> usize {
        self.one.len() + self.more.len()
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.one.is_empty() { &self.more } else { &self.one }
    }

    fn advance(&mut self, count: usize) {
        if self.one.is_empty() {
            self.more.advance(count)
        } else {
            self.one.advance(count)
        }
        if self.len() == 0 {
            *self = Output::default();
        }
    }
}

/// The one timer. A session's deadline moves later with every command; the timer is left where it stands until it rings, and set
/// anew only then, so that the runtime's timer wheel is touched once in minutes and not once per command.
#[derive(Default)]
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    set_for: Option<Instant>,
}

impl Alarm {
    /// Until `deadline`.
    async fn wait(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        loop {
            if self.set_for.is_none_or(|set_for| deadline < set_for) {
                self.set(deadline);
            }
            self.sleep.as_mut().expect("it has just been set").await;
            self.set_for = None;
            if tokio::time::Instant::now() >= deadline.into() {
                return;
            }
        }
    }

    fn set(&mut self, deadline: Instant) {
        self.set_for = Some(deadline);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline.into()),
            None => self.sleep = Some(Box::pin(sleep_until(deadline.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_order_whether_one_or_many() {
        let mut output = Output::default();
        output.push(Bytes::from_static(b"250 a\r\n"));
        output.push(Bytes::from_static(b"250 b\r\n"));
        output.push(Bytes::from_static(b"354 c\r\n"));
        let all = output.copy_to_bytes(output.remaining());
        assert_eq!(&all[..], b"250 a\r\n250 b\r\n354 c\r\n");
        output.push(Bytes::from_static(b"221 d\r\n"));
        output.advance(4);
        output.push(Bytes::from_static(b"!"));
        assert_eq!(&output.copy_to_bytes(output.remaining())[..], b"d\r\n!");
    }

    #[tokio::test]
    async fn the_alarm_rings_at_the_last_deadline_asked_for_and_not_before() {
        let begun = Instant::now();
        let at = |millis| Some(begun + Duration::from_millis(millis));
        let mut alarm = Alarm::default();
        for millis in [40, 80, 120] {
            let ring = timeout(Duration::from_millis(1), alarm.wait(at(millis))).await;
            assert!(ring.is_err() || begun.elapsed() >= Duration::from_millis(millis));
        }
        alarm.wait(at(120)).await;
        assert!(begun.elapsed() >= Duration::from_millis(120), "not when it was first set for");
        let _ = timeout(Duration::from_millis(1), alarm.wait(at(60_000))).await;
        alarm.wait(at(200)).await;
        assert!(begun.elapsed() < Duration::from_secs(30), "a nearer deadline moves it forward");
    }
}
