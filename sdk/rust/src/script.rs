//! The scripted host behind a [`Bench`](crate::Bench): what a plugin is told, and what it said.
//!
//! One field per interface of the contract, so that a test reads and writes them plainly (`bench.script().session.helo = …`).
//! Every function answers as the server's would, as far as one plugin alone can tell: unscripted DNS names do not exist,
//! ungranted keys fail, headers are read by the server's own rules.

use std::collections::{BTreeMap, HashMap};

use mail_parser::{MessageParser, MimeHeaders, PartType};
use sha2::{Digest, Sha256};
use waypost_types::header;

use crate::Networks;
use crate::types::{
    AuthFinding, DnsAnswer, DnsError, DnsQuery, HttpRequest, HttpResponse, Level, Part, Recipient, RecordType,
    TransportKind,
};

/// Everything that a plugin can ask about, and everything that it said.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Script {
    pub session: Session,
    pub envelope: Envelope,
    pub message: Message,
    pub auth_results: AuthResults,
    pub scores: Scores,
    pub dns: Dns,
    pub tables: Tables,
    pub kv: Kv,
    pub crypto: Crypto,
    pub http: Http,
    pub env: Env,
    /// What was asked for in the order it was asked for; dropped again when a hook fails.
    pub edits: Vec<Edit>,
}

/// A change that a plugin asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Edit {
    AddHeader { name: String, value: String },
    PrependHeader { name: String, value: String },
    RemoveHeader { name: String, nth: Option<u32> },
    ReplaceBody(Vec<u8>),
    AddRecipient(String),
    RemoveRecipient(String),
    SetSender(String),
}

/// Who is connected.
#[allow(missing_docs)]
pub struct Session {
    pub id: String,
    pub transport: TransportKind,
    pub client_ip: String,
    pub client_port: u16,
    pub helo: String,
    pub ptr_name: Option<String>,
    pub tls: Option<String>,
    pub tls_client_cert_sha256: Option<String>,
    pub auth_user: Option<String>,
    pub vars: HashMap<String, Vec<u8>>,
}

impl Default for Session {
    fn default() -> Session {
        Session {
            id: "s1".into(),
            transport: TransportKind::Smtp,
            client_ip: "192.0.2.1".into(),
            client_port: 40_000,
            helo: String::new(),
            ptr_name: None,
            tls: None,
            tls_client_cert_sha256: None,
            auth_user: None,
            vars: HashMap::new(),
        }
    }
}

#[allow(missing_docs)]
impl Session {
    pub fn id(&self) -> String {
        self.id.clone()
    }
    pub fn transport(&self) -> TransportKind {
        self.transport
    }
    pub fn client_ip(&self) -> String {
        self.client_ip.clone()
    }
    pub fn client_port(&self) -> u16 {
        self.client_port
    }
    pub fn helo(&self) -> String {
        self.helo.clone()
    }
    pub fn ptr_name(&self) -> Option<String> {
        self.ptr_name.clone()
    }
    pub fn tls(&self) -> Option<String> {
        self.tls.clone()
    }
    pub fn tls_client_cert_sha256(&self) -> Option<String> {
        self.tls_client_cert_sha256.clone()
    }
    pub fn auth_user(&self) -> Option<String> {
        self.auth_user.clone()
    }
    pub fn get_var(&self, key: &str) -> Option<Vec<u8>> {
        self.vars.get(key).cloned()
    }
    pub fn set_var(&mut self, key: &str, value: &[u8]) {
        self.vars.insert(key.into(), value.into());
    }
}

/// The envelope so far.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Envelope {
    pub sender: String,
    pub sender_params: Vec<(String, Option<String>)>,
    pub recipients: Vec<Recipient>,
    pub edits: Vec<Edit>,
}

#[allow(missing_docs)]
impl Envelope {
    pub fn sender(&self) -> String {
        self.sender.clone()
    }
    pub fn sender_params(&self) -> Vec<(String, Option<String>)> {
        self.sender_params.clone()
    }
    pub fn recipients(&self) -> Vec<Recipient> {
        self.recipients.clone()
    }
    pub fn recipient_count(&self) -> u32 {
        self.recipients.len() as u32
    }
    pub fn add_recipient(&mut self, address: &str) -> Result<(), String> {
        self.edit(address, Edit::AddRecipient)
    }
    pub fn remove_recipient(&mut self, address: &str) -> Result<(), String> {
        self.edit(address, Edit::RemoveRecipient)
    }
    pub fn set_sender(&mut self, address: &str) -> Result<(), String> {
        self.edit(address, Edit::SetSender)
    }

    fn edit(&mut self, address: &str, edit: fn(String) -> Edit) -> Result<(), String> {
        if !address.is_empty() && !address.contains('@') {
            return Err(format!("`{address}` is no address"));
        }
        self.edits.push(edit(address.into()));
        Ok(())
    }
}

/// The message, as it came.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Message {
    pub octets: Vec<u8>,
    pub found: HashMap<String, Vec<(u32, u64)>>,
    pub tokens: Vec<u64>,
    /// Octets that were read, headers included.
    pub octets_read: u64,
    pub edits: Vec<Edit>,
    parts: Option<Vec<(Part, Vec<u8>)>>,
}

#[allow(missing_docs)]
impl Message {
    /// A message from its octets.
    pub fn new(octets: impl Into<Vec<u8>>) -> Message {
        Message { octets: octets.into(), ..Message::default() }
    }
    pub fn size(&self) -> u64 {
        self.octets.len() as u64
    }
    pub fn header(&self, name: &str) -> Vec<String> {
        header::fields(&self.octets).filter(|field| field.is(name)).map(|field| field.unfolded()).collect()
    }
    pub fn headers(&self) -> Vec<(String, String)> {
        header::fields(&self.octets)
            .map(|field| (String::from_utf8_lossy(field.name).into_owned(), field.unfolded()))
            .collect()
    }
    pub fn raw_headers(&mut self) -> Vec<u8> {
        let block = self.octets[..header::block_len(&self.octets)].to_vec();
        self.octets_read += block.len() as u64;
        block
    }
    pub fn read(&mut self, offset: u64, len: u32) -> Vec<u8> {
        let got = window(&self.octets, offset, len);
        self.octets_read += got.len() as u64;
        got
    }
    pub fn parts(&mut self) -> Vec<Part> {
        self.parsed().iter().map(|(part, _)| part.clone()).collect()
    }
    pub fn read_part(&mut self, path: &str, offset: u64, len: u32) -> Vec<u8> {
        let got =
            self.parsed().iter().find(|(part, _)| part.path == path).map(|(_, content)| window(content, offset, len));
        let got = got.unwrap_or_default();
        self.octets_read += got.len() as u64;
        got
    }
    pub fn find(&self, set: &str) -> Vec<(u32, u64)> {
        self.found.get(set).cloned().unwrap_or_default()
    }
    pub fn digest(&mut self, algorithm: &str, part: Option<&str>) -> Vec<u8> {
        assert_eq!(algorithm, "sha256", "the server has no other digest");
        match part {
            None => Sha256::digest(&self.octets).to_vec(),
            Some(path) => {
                let content = self
                    .parsed()
                    .iter()
                    .find(|(part, _)| part.path == path)
                    .map(|(_, content)| Sha256::digest(content).to_vec());
                content.unwrap_or_default()
            }
        }
    }
    pub fn token_hashes(&self, max: u32) -> Vec<u64> {
        self.tokens.iter().copied().take(max as usize).collect()
    }
    pub fn add_header(&mut self, name: &str, value: &str) {
        self.edits.push(Edit::AddHeader { name: name.into(), value: value.into() });
    }
    pub fn prepend_header(&mut self, name: &str, value: &str) {
        self.edits.push(Edit::PrependHeader { name: name.into(), value: value.into() });
    }
    pub fn remove_header(&mut self, name: &str, nth: Option<u32>) {
        self.edits.push(Edit::RemoveHeader { name: name.into(), nth });
    }
    pub fn replace_body(&mut self, data: &[u8]) -> Result<(), String> {
        self.edits.push(Edit::ReplaceBody(data.into()));
        Ok(())
    }

    fn parsed(&mut self) -> &[(Part, Vec<u8>)] {
        let octets = &self.octets;
        self.parts.get_or_insert_with(|| parse(octets))
    }
}

fn window(data: &[u8], offset: u64, len: u32) -> Vec<u8> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
    data[from..from.saturating_add(len as usize).min(data.len())].to_vec()
}

/// The leaves of the MIME tree, with their contents. A nested message is one, and its own follow it.
fn parse(octets: &[u8]) -> Vec<(Part, Vec<u8>)> {
    let mut out = Vec::new();
    if let Some(message) = MessageParser::default().parse(octets) {
        collect(&message, "", &mut out);
    }
    out
}

fn collect(message: &mail_parser::Message<'_>, prefix: &str, out: &mut Vec<(Part, Vec<u8>)>) {
    for (index, raw) in message.parts.iter().enumerate() {
        let path = format!("{prefix}{}", index + 1);
        let content = match &raw.body {
            PartType::Text(text) | PartType::Html(text) => text.as_bytes().to_vec(),
            PartType::Binary(data) | PartType::InlineBinary(data) => data.to_vec(),
            PartType::Message(nested) => {
                let (from, to) = nested.parts.first().map_or((0, 0), |root| (root.offset_header, root.offset_end));
                nested.raw_message.get(from as usize..to as usize).unwrap_or_default().to_vec()
            }
            PartType::Multipart(_) => continue,
        };
        let mime_type = raw.content_type().map_or_else(
            || "text/plain".into(),
            |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("plain")).to_ascii_lowercase(),
        );
        let part = Part {
            path: path.clone(),
            mime_type,
            filename: raw.attachment_name().map(str::to_string),
            size: content.len() as u64,
            disposition: raw.content_disposition().map(|kind| kind.ctype().to_ascii_lowercase()),
        };
        out.push((part, content));
        if let PartType::Message(nested) = &raw.body {
            collect(nested, &format!("{path}."), out);
        }
    }
}

/// What mail authentication found.
#[derive(Default)]
#[allow(missing_docs)]
pub struct AuthResults {
    pub entries: Vec<AuthFinding>,
}

#[allow(missing_docs)]
impl AuthResults {
    pub fn entries(&self) -> Vec<AuthFinding> {
        self.entries.clone()
    }
}

/// A fact that was stated.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Fact {
    pub symbol: String,
    pub weight: f64,
    pub detail: Option<String>,
    /// Whether it lives as long as the session.
    pub of_session: bool,
}

/// Facts, this plugin's and others'.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Scores {
    pub facts: Vec<Fact>,
    /// Set by the bench before each hook.
    pub of_session: bool,
}

#[allow(missing_docs)]
impl Scores {
    pub fn add(&mut self, symbol: &str, weight: f64, detail: Option<&str>) {
        self.facts.push(Fact {
            symbol: symbol.into(),
            weight,
            detail: detail.map(str::to_string),
            of_session: self.of_session,
        });
    }
    pub fn total(&self) -> f64 {
        self.facts.iter().map(|fact| fact.weight).sum()
    }
    pub fn symbols(&self) -> Vec<(String, f64)> {
        self.facts.iter().map(|fact| (fact.symbol.clone(), fact.weight)).collect()
    }
}

/// A zone of canned answers. What is not in it does not exist.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Dns {
    pub answers: HashMap<(String, u8), Result<DnsAnswer, DnsError>>,
    /// Names that were asked for, in order.
    pub asked: Vec<String>,
    /// How often the plugin waited: a batch counts once.
    pub rounds: u32,
}

#[allow(missing_docs)]
impl Dns {
    /// Cans an answer; no records at all is "no data".
    pub fn answer(&mut self, name: &str, rtype: RecordType, records: &[&str]) {
        let records: Vec<String> = records.iter().map(|record| record.to_string()).collect();
        let answer =
            if records.is_empty() { Err(DnsError::Nodata) } else { Ok(DnsAnswer { records, ttl: 300, dnssec: false }) };
        self.answers.insert((name.to_ascii_lowercase(), rtype as u8), answer);
    }
    /// Cans a failure.
    pub fn fail(&mut self, name: &str, rtype: RecordType, error: DnsError) {
        self.answers.insert((name.to_ascii_lowercase(), rtype as u8), Err(error));
    }
    pub fn lookup(&mut self, query: &DnsQuery) -> Result<DnsAnswer, DnsError> {
        self.rounds += 1;
        self.one(query)
    }
    pub fn lookup_many(&mut self, queries: &[DnsQuery]) -> Vec<Result<DnsAnswer, DnsError>> {
        self.rounds += 1;
        queries.iter().map(|query| self.one(query)).collect()
    }

    fn one(&mut self, query: &DnsQuery) -> Result<DnsAnswer, DnsError> {
        let name = query.name.trim_end_matches('.').to_ascii_lowercase();
        self.asked.push(name.clone());
        self.answers.get(&(name, query.rtype as u8)).cloned().unwrap_or(Err(DnsError::Nxdomain))
    }
}

/// Tables of the configuration.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Tables {
    pub tables: HashMap<String, HashMap<String, String>>,
    /// How often the plugin asked: a batch counts once.
    pub rounds: u32,
}

#[allow(missing_docs)]
impl Tables {
    /// Fills a table from the text that `postmap` reads: a key, blanks, a value; `#` comments; lines that begin with a blank
    /// continue the one before.
    pub fn load(&mut self, table: &str, text: &str) {
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            match lines.last_mut() {
                Some(last) if line.starts_with([' ', '\t']) => last.push_str(line),
                _ => lines.push(line.to_string()),
            }
        }
        let entries = lines.iter().map(|line| {
            let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            (key.to_lowercase(), value.trim().to_string())
        });
        self.tables.entry(table.into()).or_default().extend(entries);
    }
    pub fn lookup(&mut self, table: &str, key: &str) -> Option<String> {
        self.rounds += 1;
        self.tables.get(table)?.get(&key.to_lowercase()).cloned()
    }
    pub fn lookup_many(&mut self, table: &str, keys: &[String]) -> Vec<Option<String>> {
        self.rounds += 1;
        keys.iter().map(|key| self.tables.get(table)?.get(&key.to_lowercase()).cloned()).collect()
    }
    pub fn contains_cidr(&mut self, table: &str, ip: &str) -> bool {
        self.rounds += 1;
        let Some(table) = self.tables.get(table) else { return false };
        let holds = |key: &String| {
            Networks::parse([key.as_str()]).ok().zip(ip.parse().ok()).is_some_and(|(net, ip)| net.contains(ip))
        };
        table.keys().any(holds)
    }
}

/// The plugin's storage. Nothing expires.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Kv {
    pub values: BTreeMap<Vec<u8>, Vec<u8>>,
    pub counters: HashMap<(String, u64), (u32, u32)>,
}

#[allow(missing_docs)]
impl Kv {
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.values.get(key).cloned()
    }
    pub fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }
    pub fn get_many_u64(&self, prefix: &str, keys: &[u64]) -> Vec<(u32, u32)> {
        keys.iter().map(|key| self.counters.get(&(prefix.into(), *key)).copied().unwrap_or_default()).collect()
    }
    pub fn set(&mut self, key: &[u8], value: &[u8], _ttl_s: Option<u32>) {
        self.values.insert(key.into(), value.into());
    }
    pub fn incr(&mut self, key: &[u8], delta: i64, _ttl_s: Option<u32>) -> i64 {
        let old = self.values.get(key).and_then(|value| value.as_slice().try_into().ok()).map_or(0, i64::from_le_bytes);
        let new = old.saturating_add(delta);
        self.values.insert(key.into(), new.to_le_bytes().into());
        new
    }
    pub fn incr_many_u64(&mut self, prefix: &str, keys: &[u64], a: i32, b: i32) {
        for key in keys {
            let pair = self.counters.entry((prefix.into(), *key)).or_default();
            *pair = (pair.0.saturating_add_signed(a), pair.1.saturating_add_signed(b));
        }
    }
    pub fn add_many_u64(&mut self, prefix: &str, keys: &[u64], a: i32, b: i32, _ttl_s: Option<u32>) {
        self.incr_many_u64(prefix, keys, a, b);
    }
    pub fn cas(&mut self, key: &[u8], old: Option<&[u8]>, new: &[u8], _ttl_s: Option<u32>) -> bool {
        let same = self.values.get(key).map(Vec::as_slice) == old;
        if same {
            self.values.insert(key.into(), new.into());
        }
        same
    }
}

/// A key ring whose signatures can be told apart but prove nothing.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Crypto {
    /// Keys that were granted.
    pub keys: Vec<String>,
    /// What `dkim_sign` was asked: key and headers.
    pub dkim_asked: Vec<(String, Vec<String>)>,
    pub drawn: u8,
}

#[allow(missing_docs)]
impl Crypto {
    pub fn sign(&self, key_id: &str, digest: &[u8]) -> Result<Vec<u8>, String> {
        self.granted(key_id).map(|()| Sha256::digest([key_id.as_bytes(), digest].concat()).to_vec())
    }
    pub fn dkim_sign(&mut self, key_id: &str, headers: &[String]) -> Result<String, String> {
        self.granted(key_id)?;
        self.dkim_asked.push((key_id.into(), headers.to_vec()));
        Ok(format!("v=1; s={key_id}; h={}; b=bench", headers.join(":")))
    }
    pub fn hmac(&self, key_id: &str, data: &[u8]) -> Result<Vec<u8>, String> {
        self.sign(key_id, data)
    }
    pub fn sha256(&self, data: &[u8]) -> Vec<u8> {
        Sha256::digest(data).to_vec()
    }
    /// Counts up, so that tests repeat.
    pub fn random(&mut self, n: u32) -> Vec<u8> {
        let first = self.drawn;
        self.drawn = first.wrapping_add(n as u8);
        (0..n).map(|at| first.wrapping_add(at as u8)).collect()
    }

    fn granted(&self, key_id: &str) -> Result<(), String> {
        if self.keys.iter().any(|key| key == key_id) { Ok(()) } else { Err(format!("key `{key_id}` is not granted")) }
    }
}

/// Canned responses by URL.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Http {
    pub responses: HashMap<String, Result<HttpResponse, String>>,
}

#[allow(missing_docs)]
impl Http {
    pub fn fetch(&self, request: &HttpRequest) -> Result<HttpResponse, String> {
        self.responses.get(&request.url).cloned().unwrap_or_else(|| Err(format!("`{}` is not granted", request.url)))
    }
    pub fn fetch_many(&self, requests: &[HttpRequest]) -> Vec<Result<HttpResponse, String>> {
        requests.iter().map(|request| self.fetch(request)).collect()
    }
}

/// Settings, clock, log.
#[allow(missing_docs)]
pub struct Env {
    pub config: String,
    pub now_ms: u64,
    pub logs: Vec<(Level, String)>,
    pub metrics: BTreeMap<String, f64>,
    /// Interfaces that were not granted.
    pub denied: Vec<String>,
}

impl Default for Env {
    fn default() -> Env {
        // 2026-01-01T00:00:00Z: tests have no clock.
        Env {
            config: String::new(),
            now_ms: 1_767_225_600_000,
            logs: Vec::new(),
            metrics: BTreeMap::new(),
            denied: Vec::new(),
        }
    }
}

#[allow(missing_docs)]
impl Env {
    pub fn log(&mut self, level: Level, text: &str) {
        self.logs.push((level, text.into()));
    }
    pub fn log_enabled(&self, _level: Level) -> bool {
        true
    }
    pub fn metric_add(&mut self, name: &str, delta: f64) {
        *self.metrics.entry(name.into()).or_default() += delta;
    }
    pub fn config(&self) -> String {
        self.config.clone()
    }
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }
    pub fn budget_us(&self) -> u32 {
        10_000
    }
    pub fn granted(&self, name: &str) -> bool {
        !self.denied.iter().any(|denied| denied == name)
    }
}
