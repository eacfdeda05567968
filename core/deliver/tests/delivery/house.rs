//! A courier with everything around it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::Notify;
use waypost_deliver::{Courier, Options, Planner, Services};
use waypost_net::{ClientTls, ClientTlsOptions};
use waypost_queue::schedule::Backoff;
use waypost_queue::{Claim, Delivery, Entry, Handoff, Kind, MemoryStore, Origin, Store};
use waypost_resolve::{Hop, Plan};
use waypost_route::NextHop;
use waypost_types::{
    Address, Domain, Event, Message, MessageId, Observer, Recipient, Reply, ReversePath, Security, Soon, Task,
    Timestamp, Transport,
};

/// Remembers events as lines.
#[derive(Default)]
pub struct Ear {
    heard: Mutex<Vec<String>>,
    changed: Notify,
}

impl Observer for Ear {
    fn observe(&self, event: Event<'_>) {
        let line = match event {
            Event::Attempted { recipient, outcome, target, security, attempt, .. } => {
                let reply = outcome.reply().map(ToString::to_string).unwrap_or_default();
                format!(
                    "{} {recipient} attempt={attempt} via={target} security={security} reply={reply}",
                    outcome.word()
                )
            }
            Event::Removed { .. } => "removed".into(),
            Event::Noticed { kind, to, .. } => format!("noticed {kind} {to}"),
            other => format!("{other:?}"),
        };
        self.heard.lock().unwrap().push(line);
        self.changed.notify_waiters();
    }
}

/// Hosts by domain.
#[derive(Default)]
pub struct Atlas {
    plans: Mutex<HashMap<String, Result<Plan, Reply>>>,
}

impl Planner for Atlas {
    fn plan<'a>(&'a self, next_hop: &'a NextHop) -> Task<'a, Result<Plan, Reply>> {
        let NextHop::Mx(domain) = next_hop else { panic!("{next_hop:?}") };
        let plan = self.plans.lock().unwrap().get(domain.as_str()).cloned();
        Box::pin(async move { plan.expect("the test knows the domain") })
    }
}

pub struct House {
    pub store: Arc<MemoryStore>,
    pub courier: Courier,
    pub ear: Arc<Ear>,
    pub atlas: Arc<Atlas>,
    pub dir: TempDir,
    lmtp: Arc<Mutex<Option<NextHop>>>,
    ids: Mutex<u64>,
}

pub const TEXT: &str = "From: a@example.org\r\nSubject: test\r\n\r\nhello\r\n.dot\r\n";

pub fn now() -> Timestamp {
    Timestamp(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64)
}

pub fn address(text: &str) -> Address {
    text.parse().unwrap()
}

pub fn hop(address: SocketAddr, security: Security) -> Hop {
    Hop { host: "mx.peer.test".into(), addresses: vec![address.ip()], port: address.port(), security }
}

impl House {
    pub fn new() -> House {
        House::with(|_| {})
    }

    /// Mail for `waypost.test` goes to Maildirs, for `lmtp.test` to [`House::set_lmtp`], for `nowhere.test` nowhere, the rest to the atlas.
    pub fn with(change: impl FnOnce(&mut Options)) -> House {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(Domain::parse("mx.waypost.test").unwrap(), dir.path().join("mail"));
        options.backoff =
            Backoff { first: Duration::from_millis(30), max: Duration::from_millis(200), jitter_percent: 0 };
        options.drain_max = Duration::from_secs(5);
        change(&mut options);
        let (store, ear, atlas) =
            (Arc::new(MemoryStore::default()), Arc::new(Ear::default()), Arc::new(Atlas::default()));
        let lmtp: Arc<Mutex<Option<NextHop>>> = Arc::default();
        let of_route = lmtp.clone();
        let route = move |address: &Address| match address.domain().map(Domain::as_str) {
            Some("waypost.test") => NextHop::Mailbox(address.mailbox().into()),
            Some("lmtp.test") => of_route.lock().unwrap().clone().expect("the test has an LMTP server"),
            Some("nowhere.test") => NextHop::Fail("there is no such place".into()),
            _ => NextHop::Mx(address.domain().unwrap().clone()),
        };
        let services = Services {
            store: store.clone(),
            observer: ear.clone(),
            route: Arc::new(move |address: &Address| Soon::Now(route(address))),
            expand: Arc::new(|address: &Address| Soon::Now(vec![address.clone()])),
            planner: atlas.clone(),
            tls: ClientTls::new(ClientTlsOptions::default()).unwrap(),
        };
        let courier = Courier::start(options, services);
        House { store, courier, ear, atlas, dir, lmtp, ids: Mutex::new(0) }
    }

    pub fn set_lmtp(&self, address: SocketAddr) {
        *self.lmtp.lock().unwrap() = Some(NextHop::Lmtp(address));
    }

    pub fn set_lmtp_socket(&self, path: &str) {
        *self.lmtp.lock().unwrap() = Some(NextHop::LmtpSocket(path.into()));
    }

    /// The hosts of a domain. Its name is its provider.
    pub fn mx(&self, domain: &str, hops: Vec<Hop>) {
        self.plan(domain, Ok(Plan { hops, provider: domain.into(), applied: None }));
    }

    pub fn plan(&self, domain: &str, plan: Result<Plan, Reply>) {
        self.atlas.plans.lock().unwrap().insert(domain.into(), plan);
    }

    pub fn entry(&self, recipients: &[&str]) -> Entry {
        let mut ids = self.ids.lock().unwrap();
        *ids += 1;
        let accepted = now();
        Entry {
            id: MessageId::new(accepted, *ids),
            kind: Kind::Mail,
            accepted,
            expires: accepted.after(Duration::from_secs(86_400)),
            origin: Origin {
                transport: Transport::Submission,
                session: None,
                peer: None,
                helo: "client".into(),
                user: Some("alice".into()),
            },
            sender: ReversePath::Mailbox(address("a@waypost.test")),
            parameters: Default::default(),
            recipients: recipients.iter().map(|text| Delivery::new(Recipient::new(address(text)), accepted)).collect(),
            size: 0,
            held: None,
            route: None,
            why: None,
        }
    }

    /// Accepts and hands over, as the server does.
    pub async fn send(&self, entry: Entry) -> MessageId {
        let claim = self.accept(entry).await;
        let id = claim.entry.id;
        self.courier.offer(claim);
        id
    }

    pub async fn accept(&self, entry: Entry) -> Claim {
        self.store.accept(entry, Message::new(Bytes::from_static(TEXT.as_bytes()))).await.unwrap()
    }

    pub fn heard(&self) -> Vec<String> {
        self.ear.heard.lock().unwrap().clone()
    }

    pub fn count(&self, start: &str) -> usize {
        self.heard().iter().filter(|line| line.starts_with(start)).count()
    }

    /// Waits until so many events begin so.
    #[track_caller]
    pub fn until(&self, start: &'static str, count: usize) -> impl Future<Output = ()> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            let wait = async {
                loop {
                    let changed = self.ear.changed.notified();
                    tokio::pin!(changed);
                    changed.as_mut().enable();
                    if self.count(start) >= count {
                        return;
                    }
                    changed.await;
                }
            };
            if tokio::time::timeout(Duration::from_secs(10), wait).await.is_err() {
                panic!("{caller}: no {count} events {start:?} in {:#?}", self.heard());
            }
        }
    }

    /// Files in a mailbox.
    pub fn mailbox(&self, name: &str) -> Vec<String> {
        let Ok(files) = std::fs::read_dir(self.dir.path().join("mail").join(name).join("new")) else {
            return Vec::new();
        };
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.store.counts().entries == 0
    }
}
