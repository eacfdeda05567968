//! A server on loopback with a store in memory, and a client that says what it is told to.

#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use waypost_net::{ClientTls, ClientTlsOptions, ListenOptions, ServerTls, ServerTlsOptions, Stream, bind};
use waypost_queue::{Claim, Entry, Handoff, MemoryStore, Store};
use waypost_route::{Alias, AliasKey, RelayDomain, Router, Tables, Target};
use waypost_server::{Listener, Options, Rules, Server, Services};
use waypost_smtp::server::Policy;
use waypost_types::login::{Authenticator, Credentials, Judged};
use waypost_types::port::{Dns, DnsAnswer, DnsError, DnsType};
use waypost_types::{
    Address, Domain, Event, Host, Judge, Judgement, Jury, Observer, Question, Security, SessionFacts, Stage, StageSet,
    Task,
};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers what happened, by the variant's name and the text of it.
#[derive(Default)]
pub struct Log(pub Mutex<Vec<String>>);

impl Observer for Log {
    fn observe(&self, event: Event<'_>) {
        self.0.lock().expect("log").push(format!("{event:?}"));
    }
}

impl Log {
    pub fn count(&self, start: &str) -> usize {
        self.0.lock().expect("log").iter().filter(|line| line.starts_with(start)).count()
    }

    pub fn find(&self, start: &str) -> Option<String> {
        self.0.lock().expect("log").iter().find(|line| line.starts_with(start)).cloned()
    }
}

/// Keeps what it is handed.
#[derive(Default)]
pub struct Hands(pub Mutex<Vec<Claim>>);

impl Handoff for Hands {
    fn offer(&self, claim: Claim) {
        self.0.lock().expect("hands").push(claim);
    }
}

/// Knows one name.
pub struct Names(pub Option<&'static str>);

impl Dns for Names {
    /// Every domain has a mail host, or no sender would be believed.
    fn lookup<'a>(&'a self, _: &'a str, kind: DnsType) -> Task<'a, Result<DnsAnswer, DnsError>> {
        let records = vec!["10 mx.client.example.".to_string()];
        let answer = DnsAnswer { records, ttl: 60, secure: false };
        Box::pin(async move { if kind == DnsType::Mx { Ok(answer) } else { Err(DnsError::NxDomain) } })
    }

    fn confirmed_name(&self, _: std::net::IpAddr) -> Task<'_, Result<Option<Domain>, DnsError>> {
        let name = self.0.map(|name| Domain::parse(name).expect("a name"));
        Box::pin(async move { Ok(name) })
    }
}

/// One user with one password.
pub struct Alice;

impl Authenticator for Alice {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials, _: &'a SessionFacts) -> Task<'a, Judged> {
        let good = credentials.identity == "alice" && credentials.password() == Some("secret");
        Box::pin(async move { Ok(good.then(|| Arc::from("alice"))) })
    }
}

type Opinion = dyn Fn(&Question) -> Judgement + Send + Sync;

/// A judge that is a function.
pub struct Court {
    pub stages: StageSet,
    pub opinion: Arc<Opinion>,
    /// The stages it was asked at, and what message it saw.
    pub asked: Arc<Mutex<Vec<(Stage, String)>>>,
}

impl Court {
    pub fn none() -> Arc<Court> {
        Court::at(&[], |_| Judgement::default())
    }

    pub fn at(stages: &[Stage], opinion: impl Fn(&Question) -> Judgement + Send + Sync + 'static) -> Arc<Court> {
        let stages = stages.iter().fold(StageSet::EMPTY, |set, stage| set.with(*stage));
        Arc::new(Court { stages, opinion: Arc::new(opinion), asked: Arc::default() })
    }
}

impl Judge for Court {
    fn stages(&self) -> StageSet {
        self.stages
    }

    fn open(&self) -> Box<dyn Jury> {
        Box::new(Bench { stages: self.stages, opinion: self.opinion.clone(), asked: self.asked.clone() })
    }
}

struct Bench {
    stages: StageSet,
    opinion: Arc<Opinion>,
    asked: Arc<Mutex<Vec<(Stage, String)>>>,
}

impl Jury for Bench {
    fn stages(&self) -> StageSet {
        self.stages
    }

    fn judge(&mut self, question: Question) -> Task<'_, Judgement> {
        let seen = question
            .message
            .as_ref()
            .map_or(String::new(), |message| String::from_utf8_lossy(&message.contiguous()).into_owned());
        self.asked.lock().expect("asked").push((question.stage, seen));
        let judgement = (self.opinion)(&question);
        Box::pin(async move { judgement })
    }

    fn reset(&mut self) {}
}

/// A running server and everything that it leans on.
pub struct House {
    pub server: Server,
    pub store: Arc<MemoryStore>,
    pub hands: Arc<Hands>,
    pub log: Arc<Log>,
    pub certificates: tempfile::TempDir,
}

pub fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

pub fn router() -> Router {
    let host = |name: &str| Host::parse(name).expect("a host");
    let alias = |name: &str, targets: &[&str]| Alias {
        line: 1,
        key: AliasKey::Address(address(name)),
        targets: targets.iter().map(|target| Target::Address(address(target))).collect(),
    };
    let tables = Tables {
        own: vec![host("waypost.test")],
        users: vec!["alice".into(), "bob".into()],
        aliases: vec![alias("all@waypost.test", &["alice@waypost.test", "bob@waypost.test", "x@elsewhere.test"])],
        relay: vec![RelayDomain { pattern: "relay.test".parse().expect("a domain"), recipients: None }],
        postmaster: Some("alice".into()),
        ..Tables::default()
    };
    tables.build().expect("good tables")
}

/// What differs from the usual.
pub struct Plan {
    pub rules: Vec<(&'static str, Rules)>,
    pub options: Options,
    pub dns: Names,
    pub store: Arc<MemoryStore>,
}

impl Plan {
    pub fn one(rules: Rules) -> Plan {
        let mut options = Options::new("mx.waypost.test");
        options.name_timeout = Duration::from_secs(2);
        Plan { rules: vec![("door", rules)], options, dns: Names(None), store: Arc::default() }
    }

    pub async fn start(self) -> House {
        let certificates = tempfile::tempdir().expect("a folder");
        let tls = ServerTls::from_self_signed(
            certificates.path(),
            &["mx.waypost.test".to_string()],
            ServerTlsOptions::default(),
        )
        .expect("a certificate");
        let listeners = self.rules.into_iter().map(|(name, mut rules)| {
            rules.tls.get_or_insert_with(|| tls.clone());
            let socket = bind("127.0.0.1:0".parse().expect("loopback"), &ListenOptions::default()).expect("a port");
            Listener { name: name.into(), sockets: vec![socket], rules }
        });
        let (hands, log) = (Arc::new(Hands::default()), Arc::new(Log::default()));
        let services = Services {
            store: self.store.clone(),
            handoff: hands.clone(),
            router: Arc::new(ArcSwap::from_pointee(router())),
            credentials: Some(Arc::new(Alice)),
            verifier: Arc::default(),
            dns: Arc::new(self.dns),
            observer: log.clone(),
        };
        let server = Server::start(self.options, listeners.collect(), services).expect("started");
        House { server, store: self.store, hands, log, certificates }
    }
}

pub fn mx() -> Rules {
    Rules::new(Arc::new(Policy::mx("mx.waypost.test")), Court::none())
}

impl House {
    pub fn address(&self) -> SocketAddr {
        self.server.addresses()[0].1
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// Entries in the queue, oldest first.
    pub async fn entries(&self) -> Vec<Entry> {
        self.store.list(None, 10_000).await.expect("readable")
    }

    /// The only message in the queue.
    pub async fn message(&self) -> (Entry, String) {
        let entries = self.entries().await;
        let [entry] = entries.as_slice() else { panic!("{} entries", entries.len()) };
        let mut text = Vec::new();
        for index in 0.. {
            match self.store.read(entry.id, index).await {
                Ok(chunk) => text.extend_from_slice(&chunk),
                Err(_) => break,
            }
        }
        (entry.clone(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Waits until an event has come so often.
    pub async fn until(&self, start: &str, count: usize) {
        let wait = async {
            while self.log.count(start) < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{start} did not happen: {:?}", self.log.0));
    }
}

/// A client that speaks lines.
pub struct Client {
    stream: Box<dyn Stream>,
    input: VecDeque<u8>,
    /// The connection did not end but break.
    pub broken: bool,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("nodelay");
        Client { stream: Box::new(stream), input: VecDeque::new(), broken: false }
    }

    /// Connected and greeted, EHLO said.
    pub async fn ready(house: &House) -> Client {
        let mut client = house.connect().await;
        client.expect("220").await;
        client.ehlo().await;
        client
    }

    pub async fn ehlo(&mut self) -> String {
        self.ask("EHLO client.example\r\n", "250").await
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("sent");
        self.stream.flush().await.expect("flushed");
    }

    /// Sends and reads one reply, which must begin so.
    pub async fn ask(&mut self, text: &str, start: &str) -> String {
        self.send(text).await;
        self.expect(start).await
    }

    /// Reads one reply, all its lines.
    pub async fn expect(&mut self, start: &str) -> String {
        let mut reply = String::new();
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("closed instead of {start}; had {reply:?}"));
            reply += &line;
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        assert!(reply.starts_with(start), "wanted {start}, got {reply:?}");
        reply
    }

    /// A line, or `None` at the end of the stream.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.iter().position(|&b| b == b'\n') {
                return Some(String::from_utf8_lossy(&self.input.drain(..=end).collect::<Vec<_>>()).into_owned());
            }
            let mut space = [0; 4096];
            let read = timeout(PATIENCE, self.stream.read(&mut space)).await.expect("an answer in time");
            match read {
                Ok(0) => return None,
                Err(_) => {
                    self.broken = true;
                    return None;
                }
                Ok(read) => self.input.extend(&space[..read]),
            }
        }
    }

    /// The rest, to the end of the stream.
    pub async fn rest(&mut self) -> String {
        let mut rest = String::new();
        while let Some(line) = self.line().await {
            rest += &line;
        }
        rest
    }

    pub async fn close_write(&mut self) {
        self.stream.shutdown().await.expect("closed");
    }

    /// Negotiates TLS, with any certificate.
    pub async fn tls(self) -> Client {
        let tls = ClientTls::new(ClientTlsOptions::default()).expect("a client");
        let (stream, _) = tls.connect(self.stream, "mx.waypost.test", &Security::Encrypted).await.expect("TLS");
        Client { stream, input: VecDeque::new(), broken: false }
    }

    pub async fn start_tls(mut self) -> Client {
        self.ask("STARTTLS\r\n", "220").await;
        self.tls().await
    }

    /// MAIL and RCPT, which must be accepted.
    pub async fn envelope(&mut self, from: &str, to: &[&str]) {
        self.ask(&format!("MAIL FROM:<{from}>\r\n"), "250").await;
        for to in to {
            self.ask(&format!("RCPT TO:<{to}>\r\n"), "250").await;
        }
    }

    /// A whole message; the reply to its final dot.
    pub async fn message(&mut self, from: &str, to: &[&str], text: &str) -> String {
        self.envelope(from, to).await;
        self.ask("DATA\r\n", "354").await;
        self.ask(&format!("{text}\r\n.\r\n"), "").await
    }
}
