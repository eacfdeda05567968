//! A session that never was: what every stage would say, without a socket and without a message.
//!
//! The very [`Session`] and [`Pipeline`] of a connection are driven with the commands of a client, so an explanation cannot differ from what the
//! server does. What a client cannot be asked for is assumed: TLS where the door demands it, a login by name. Nothing is stored; whatever
//! plugins and checks would write goes into the services that the caller hands in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use waypost_route::{Class, Leaf, Resolution};
use waypost_smtp::server::{Action, Ask, Session, TlsMode};
use waypost_types::{Address, SessionFacts, SessionId, Stage, TlsFacts, Transport};

use crate::check::relay::Target;
use crate::options::{Options, Rules, Services};
use crate::pipeline::Pipeline;
use crate::shared::{Shared, wall_clock};

/// Who would come, and with what.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The client's address.
    pub peer: IpAddr,
    /// Its confirmed name; looked up if `None`.
    pub name: Option<String>,
    /// Our end.
    pub local: SocketAddr,
    /// The argument of EHLO.
    pub helo: String,
    /// The argument of MAIL: an address, or nothing for the null sender.
    pub sender: String,
    /// The arguments of RCPT.
    pub recipients: Vec<String>,
    /// Who has logged in.
    pub user: Option<String>,
}

/// What a check, an access row or a plugin said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub stage: Stage,
    /// Who, by the name in configuration and log.
    pub by: String,
    /// `pass`, `refuse`, `warn`, `ok`, `hold`, … or a plugin's verdict.
    pub word: &'static str,
    /// Why.
    pub detail: String,
}

/// Where an accepted recipient leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The final recipient.
    pub address: Address,
    /// `own`, `relay`, `foreign`, or `unknown` for one that will bounce.
    pub class: &'static str,
    /// The envelope sender that it leaves with; empty for the null sender.
    pub sender: String,
    /// The last step, in words.
    pub next_hop: String,
}

/// One command and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the client does: `connect`, `EHLO …`, `MAIL …`, `RCPT …`.
    pub command: String,
    /// What it is told, without the list of extensions; empty if the connection was closed before.
    pub reply: String,
    /// Who was asked, in order.
    pub notes: Vec<Note>,
    /// After an accepted RCPT: every step through aliases, in words.
    pub trail: Vec<String>,
    /// After an accepted RCPT: where it leads.
    pub leads: Vec<Lead>,
}

impl Step {
    /// Whether the reply is positive.
    pub fn is_accepted(&self) -> bool {
        self.reply.starts_with('2')
    }
}

/// Plays the visit through. Ends early when the server would close the connection.
pub async fn explain(options: Options, mut rules: Rules, services: Services, visit: Visit) -> Vec<Step> {
    let shared = Arc::new(Shared::new(options, services));
    let mut policy = (*rules.policy).clone();
    policy.greeting_delay = Duration::ZERO;
    rules.policy = Arc::new(policy);
    let rules = Arc::new(rules);
    let facts = facts(&rules, &visit);
    let mut pipeline = Pipeline::new(shared.clone(), rules.clone(), &facts);
    pipeline.keep_journal();
    let mut session = Session::new(rules.policy.clone(), facts, Instant::now());
    if let Some(name) = &visit.name {
        pipeline.name_is_known();
        session.set_peer_name(name.as_str().into());
    }
    let mut play = Play { session, pipeline, closed: false };
    let mut steps = vec![play.step("connect", "").await];
    let hello = if rules.policy.transport == Transport::Lmtp { "LHLO" } else { "EHLO" };
    let hello = format!("{hello} {}", visit.helo);
    let utf8 = !visit.sender.is_ascii() || visit.recipients.iter().any(|address| !address.is_ascii());
    let mail = format!("MAIL FROM:<{}>{}", visit.sender, if utf8 { " SMTPUTF8" } else { "" });
    for command in [hello, mail] {
        if !play.closed {
            steps.push(play.step(&command, &command).await);
        }
    }
    for recipient in &visit.recipients {
        if !play.closed {
            let command = format!("RCPT TO:<{recipient}>");
            let mut step = play.step(&command, &command).await;
            if step.is_accepted() {
                play.lead(&shared, &mut step).await;
            }
            steps.push(step);
        }
    }
    steps
}

fn facts(rules: &Rules, visit: &Visit) -> SessionFacts {
    let assumed = TlsFacts {
        version: "TLSv1.3",
        cipher: "assumed".into(),
        server_name: None,
        client_certificate: None,
        exporter: None,
        resumed: false,
    };
    let inside = matches!(rules.policy.tls, TlsMode::Required | TlsMode::Implicit) || visit.user.is_some();
    SessionFacts {
        id: SessionId::new(1),
        transport: rules.policy.transport,
        peer: SocketAddr::new(visit.peer.to_canonical(), 0),
        local: visit.local,
        peer_name: None,
        helo: "".into(),
        esmtp: false,
        tls: inside.then(|| Arc::new(assumed)),
        user: visit.user.as_deref().map(Arc::from),
        trusted: rules.trusts(visit.peer),
    }
}

/// The session and who answers it.
struct Play {
    session: Session,
    pipeline: Pipeline,
    closed: bool,
}

impl Play {
    /// Says a line, or nothing to be greeted.
    async fn step(&mut self, command: &str, line: &str) -> Step {
        let mut input = BytesMut::new();
        if !line.is_empty() {
            input.extend_from_slice(line.as_bytes());
            input.extend_from_slice(b"\r\n");
            self.session.handle_input(Instant::now(), &mut input);
        }
        let mut said = Vec::new();
        loop {
            while let Some(action) = self.session.poll_action() {
                match action {
                    Action::Send(bytes) => said.extend_from_slice(&bytes),
                    Action::Ask(_, Ask::Reset) => self.pipeline.reset(),
                    Action::Ask(ticket, ask) => {
                        let answer = self.pipeline.answer(ask, &mut self.session).await;
                        let now = Instant::now();
                        self.session.handle_answer(now, ticket, answer);
                        self.session.handle_input(now, &mut input);
                    }
                    // Nobody waits in a session that never was.
                    Action::Body(_) | Action::StartTls | Action::Pause(_) => {}
                    Action::Close(_) => self.closed = true,
                }
            }
            // A greeting may still be waiting for its time.
            match self.session.poll_timeout() {
                Some(deadline) if said.is_empty() && !self.closed && deadline <= Instant::now() => {
                    self.session.handle_timeout(Instant::now());
                }
                _ => break,
            }
        }
        let reply = first_line(&said);
        let (notes, trail, leads) = (self.pipeline.take_journal(), Vec::new(), Vec::new());
        Step { command: command.to_string(), reply, notes, trail, leads }
    }

    /// Where the recipient that was just accepted leads.
    async fn lead(&self, shared: &Shared, step: &mut Step) {
        let Some((address, target)) = self.pipeline.transaction.targets.last() else { return };
        let router = shared.services.router.load_full();
        let now = wall_clock();
        let (Resolution { class, .. }, trail) = router.explain(address, now).get().await;
        step.trail = trail;
        let itself = [Leaf { address: address.clone(), class, owner: None }];
        let leaves = match target {
            Target::Itself => &itself[..],
            Target::Others(leaves) => leaves,
        };
        let sender = &self.session.envelope().sender;
        let sends_on = matches!(target, Target::Others(_));
        for leaf in leaves {
            let new = if sends_on { router.forwarding_sender(sender, leaf, now).get().await } else { None };
            let sender = new.map_or_else(|| sender.to_string(), |address| address.to_string());
            let next_hop = in_words(&router.next_hop(&leaf.address).get().await);
            step.leads.push(Lead { address: leaf.address.clone(), class: word(&leaf.class), sender, next_hop });
        }
    }
}

fn word(class: &Class) -> &'static str {
    match class {
        Class::Own => "own",
        Class::Relay => "relay",
        Class::Foreign => "foreign",
        Class::Unknown => "unknown",
        Class::Broken(_) | Class::Unsure(_) => "unresolved",
    }
}

/// The first line of a reply: what follows an EHLO's is the list of extensions.
fn first_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().next().unwrap_or("");
    match (line.get(..3), line.get(4..)) {
        (Some(code), Some(rest)) => format!("{code} {rest}"),
        _ => line.to_string(),
    }
}

/// A next hop for people.
pub fn in_words(hop: &waypost_route::NextHop) -> String {
    use waypost_route::NextHop;
    match hop {
        NextHop::Mailbox(name) => format!("mailbox {name}"),
        NextHop::Mx(domain) => format!("the mail hosts of {domain} (MX)"),
        NextHop::Literal(address, port) => format!("[{address}]:{port}"),
        NextHop::Host(host, port) => format!("{host}:{port}"),
        NextHop::Lmtp(address) => format!("LMTP at {address}"),
        NextHop::Pipe(name) => format!("to the program of [pipe.{name}]"),
        NextHop::Post(name) => format!("over HTTP, as [post.{name}] says"),
        NextHop::LmtpSocket(path) => format!("LMTP at {path}"),
        NextHop::Fail(text) => format!("nowhere: {text}"),
        NextHop::Later(text) => format!("not known now: {text}"),
    }
}
