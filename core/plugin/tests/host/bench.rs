//! What the tests stand on: the built test plugins, a world of fakes, and short ways to put questions.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::Semaphore;
use waypost_plugin::{Grants, Host, LoadError, Options, PluginOptions, Ports, Source};
use waypost_route::TextTable;
use waypost_types::port::{
    Dns, DnsAnswer, DnsError, DnsType, Fetch, FetchRequest, FetchResponse, KeyValue, KvError, Sign, Table,
};
use waypost_types::{
    Address, Domain, Envelope, Event, Judge, Judgement, Jury, Message, MessageId, Observer, Question, Recipient,
    ReversePath, SessionFacts, SessionId, Stage, Task, Timestamp, Transport, Verdict,
};

pub(crate) const NOW: Timestamp = Timestamp(1_795_500_670_123);

/// The octets of a plugin of the tests or of the product, built first if it is older than its source.
pub(crate) fn guest(name: &str) -> Bytes {
    static BUILT: OnceLock<Mutex<HashMap<String, Bytes>>> = OnceLock::new();
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap();
    built.entry(name.to_string()).or_insert_with(|| build(name)).clone()
}

fn build(name: &str) -> Bytes {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = here.join("tests/guests").join(name);
    let (package, folder) = match own.exists() {
        true => (format!("waypost-plugin-test-{name}"), own),
        false => (format!("waypost-plugin-{name}"), here.join("../../plugins").join(name)),
    };
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap();
    let wasm = target.join("wasm32-wasip2/debug").join(format!("{}.wasm", package.replace('-', "_")));
    let sources = [folder, here.join("../../sdk/wit"), here.join("../../sdk/rust")];
    let newest = sources.iter().map(|path| newest(path)).max().unwrap();
    if fs::metadata(&wasm).and_then(|meta| meta.modified()).map_or(true, |built| built < newest) {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let args = ["build", "--quiet", "--target", "wasm32-wasip2", "--package", &package, "--target-dir"];
        let status = Command::new(cargo).args(args).arg(target).current_dir(here).status().unwrap();
        assert!(status.success(), "the plugin {name} does not build; is the target wasm32-wasip2 installed?");
    }
    fs::read(&wasm).unwrap().into()
}

fn newest(path: &Path) -> SystemTime {
    let meta = fs::metadata(path).unwrap();
    let below = fs::read_dir(path).into_iter().flatten().map(|entry| newest(&entry.unwrap().path()));
    below.chain([meta.modified().unwrap()]).max().unwrap()
}

/// Everything outside.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) events: Arc<Mutex<Vec<String>>>,
    pub(crate) kv: Arc<MemoryKv>,
    pub(crate) dns: Arc<Zone>,
    pub(crate) signed: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub(crate) fn ports(&self) -> Ports {
        let table = |text| Arc::new(TextTable::parse(text).unwrap()) as Arc<dyn Table>;
        Ports {
            dns: self.dns.clone(),
            kv: Some(self.kv.clone()),
            sign: Some(Arc::new(Ring(self.signed.clone()))),
            tables: [
                ("people".to_string(), table("alice yes\n192.0.2.0/24 ours\n")),
                ("secrets".to_string(), table("alice hidden\n")),
            ]
            .into(),
            fetch: Some(Arc::new(Web)),
            recorder: None,
            observer: Arc::new(Recorder(self.events.clone())),
            now: Arc::new(|| NOW),
        }
    }

    pub(crate) fn load(&self, plugins: Vec<PluginOptions>) -> Result<Host, Vec<LoadError>> {
        Host::load(Options { plugins, cache_dir: Some(cache_dir()) }, self.ports())
    }

    pub(crate) fn host(&self, plugins: Vec<PluginOptions>) -> Host {
        self.load(plugins).unwrap()
    }

    /// The recorded events that hold `word`.
    pub(crate) fn told(&self, word: &str) -> Vec<String> {
        self.events.lock().unwrap().iter().filter(|line| line.contains(word)).cloned().collect()
    }
}

/// Shared by the tests, so that the large plugin is compiled once.
pub(crate) fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache")
}

pub(crate) fn probe() -> PluginOptions {
    PluginOptions::new("probe", Source::Bytes(guest("probe")))
}

pub(crate) fn granted(grants: Grants) -> PluginOptions {
    PluginOptions { grants, ..probe() }
}

pub(crate) fn session() -> SessionFacts {
    SessionFacts {
        id: SessionId::new(7),
        transport: Transport::Mx,
        peer: "192.0.2.7:4025".parse().unwrap(),
        local: "198.51.100.1:25".parse().unwrap(),
        peer_name: Some("client.example".into()),
        helo: "client.example".into(),
        esmtp: true,
        tls: None,
        user: None,
        trusted: false,
    }
}

pub(crate) fn question(stage: Stage) -> Question {
    let envelope = Envelope { sender: ReversePath::Mailbox(address("sender@test.example")), ..Envelope::default() };
    Question {
        stage,
        session: Arc::new(session()),
        envelope: Arc::new(envelope),
        recipient: None,
        credentials: None,
        message: None,
        findings: Arc::new([]),
        queue_id: None,
    }
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub(crate) fn rcpt_question(recipient: &str) -> Question {
    Question { recipient: Some(Recipient::new(address(recipient))), ..question(Stage::Rcpt) }
}

pub(crate) fn message_question(message: impl Into<Bytes>) -> Question {
    let mut asked = Question { message: Some(Message::new(message.into())), ..question(Stage::Message) };
    Arc::make_mut(&mut asked.envelope).recipients.push(Recipient::new(address("to@test.example")));
    asked
}

pub(crate) fn mail(subject: &str) -> String {
    format!(
        "Received: one\r\nReceived: two\r\nFrom: a@b.example\r\nSubject: {subject}\r\n\
         Content-Type: text/plain\r\n\r\nbuy cheap pills now\r\n"
    )
}

pub(crate) fn queue_question() -> Question {
    let id = MessageId::new(NOW, 1);
    Question { stage: Stage::Queue, queue_id: Some(id), ..message_question(mail("x")) }
}

/// Tells the probe, in one session, what to do with a recipient.
pub(crate) async fn rcpt(jury: &mut Box<dyn Jury>, what: &str) -> Judgement {
    jury.judge(rcpt_question(&format!("{what}@test.example"))).await
}

/// The same in a session of its own.
pub(crate) async fn once(host: &Host, what: &str) -> Judgement {
    rcpt(&mut host.open(), what).await
}

pub(crate) async fn subject(host: &Host, subject: &str) -> Judgement {
    host.open().judge(message_question(mail(subject))).await
}

/// The text of a refusal: what the probe found out.
pub(crate) fn said(judgement: &Judgement) -> &str {
    match &judgement.verdict {
        Verdict::Refuse(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply) => &reply.text,
        other => panic!("{other:?} {:?}", judgement.opinions),
    }
}

/// The fault that the last opinion tells.
pub(crate) fn fault(judgement: &Judgement) -> &str {
    let opinion = judgement.opinions.last().expect("somebody was asked");
    assert_eq!(opinion.verdict, "fault", "{opinion:?}");
    opinion.detail.as_deref().unwrap()
}

struct Recorder(Arc<Mutex<Vec<String>>>);

impl Observer for Recorder {
    fn observe(&self, event: Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// `listed.example` has a record, `slow.example` answers when it is let, `silent.example` never; everything below
/// `rbl.example` is listed; the others do not exist.
pub(crate) struct Zone {
    pub(crate) gate: Semaphore,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Default for Zone {
    fn default() -> Zone {
        Zone { gate: Semaphore::new(0), asked: Mutex::default() }
    }
}

impl Dns for Zone {
    fn lookup<'a>(&'a self, name: &'a str, _: DnsType) -> Task<'a, Result<DnsAnswer, DnsError>> {
        Box::pin(async move {
            match name {
                "listed.example" => {}
                "slow.example" => self.gate.acquire().await.unwrap().forget(),
                name if name.ends_with(".rbl.example") => self.asked.lock().unwrap().push(name.to_string()),
                "silent.example" => std::future::pending().await,
                _ => return Err(DnsError::NxDomain),
            }
            Ok(DnsAnswer { records: vec!["127.0.0.2".into()], ttl: 60, secure: false })
        })
    }

    fn confirmed_name(&self, _: IpAddr) -> Task<'_, Result<Option<Domain>, DnsError>> {
        Box::pin(async { Ok(None) })
    }
}

#[derive(Default)]
pub(crate) struct MemoryKv(pub(crate) Mutex<HashMap<Vec<u8>, Vec<u8>>>);

impl KeyValue for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn set(&self, key: &[u8], value: &[u8], _: Option<Duration>) -> Result<(), KvError> {
        self.0.lock().unwrap().insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn add(&self, key: &[u8], delta: i64, _: Option<Duration>) -> Result<i64, KvError> {
        let mut rows = self.0.lock().unwrap();
        let row = rows.entry(key.to_vec()).or_insert_with(|| vec![0; 8]);
        let sum = i64::from_le_bytes(row.as_slice().try_into().unwrap()) + delta;
        *row = sum.to_le_bytes().to_vec();
        Ok(sum)
    }

    fn swap(&self, key: &[u8], old: &[u8], new: &[u8], _: Option<Duration>) -> Result<bool, KvError> {
        let mut rows = self.0.lock().unwrap();
        let same = rows.get(key).map_or(old.is_empty(), |there| there == old);
        if same {
            rows.insert(key.to_vec(), new.to_vec());
        }
        Ok(same)
    }
}

struct Ring(Arc<Mutex<Vec<String>>>);

impl Sign for Ring {
    fn sign(&self, key: &str, digest: &[u8]) -> Result<Vec<u8>, String> {
        Ok([key.as_bytes(), &digest[..2]].concat())
    }

    fn dkim(&self, key: &str, headers: &[String], message: &Message) -> Result<String, String> {
        self.0.lock().unwrap().push(String::from_utf8(message.contiguous().to_vec()).unwrap());
        Ok(format!("k={key}; h={}", headers.join(":")))
    }
}

struct Web;

impl Fetch for Web {
    fn fetch<'a>(&'a self, _: &'a FetchRequest) -> Task<'a, Result<FetchResponse, String>> {
        Box::pin(async { Ok(FetchResponse { status: 204, headers: vec![], body: vec![] }) })
    }
}
