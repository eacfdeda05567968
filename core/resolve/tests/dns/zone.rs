//! A name server on loopback with a zone of the tests' own: everything stands in the root zone, signed or not.
//!
//! Signed zones deny by NSEC made for each question (RFC 4470 in spirit, RFC 9824 in form: a name that does not exist has no data).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::dnssec::crypto::EcdsaSigningKey;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, NSEC, RRSIG};
use hickory_proto::dnssec::{Algorithm, DnssecSigner, SigningKey};
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, TLSA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordSet, RecordType};
use tokio::net::UdpSocket;
use waypost_resolve::{Dnssec, Resolver, ResolverOptions};

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a name");
    name.set_fqdn(true);
    name
}

/// What the server knows.
#[derive(Default)]
pub(crate) struct Zone {
    records: HashMap<(Name, RecordType), Vec<RData>>,
    codes: HashMap<(Name, Option<RecordType>), ResponseCode>,
    silent: HashSet<Name>,
    unsigned: Vec<Name>,
    forged: HashSet<Name>,
    signer: Option<DnssecSigner>,
}

impl Zone {
    pub(crate) fn new() -> Zone {
        Zone::default()
    }

    /// A zone whose every record is signed with a key of its own.
    pub(crate) fn signed() -> Zone {
        let algorithm = Algorithm::ECDSAP256SHA256;
        let pkcs8 = EcdsaSigningKey::generate_pkcs8(algorithm).expect("a key");
        let key = EcdsaSigningKey::from_pkcs8(&pkcs8, algorithm).expect("a key");
        let dnskey = DNSKEY::from_key(&key.to_public_key().expect("public"));
        let signer = DnssecSigner::new(dnskey.clone(), Box::new(key), Name::root(), Duration::from_secs(86_400));
        let mut zone = Zone { signer: Some(signer), ..Zone::default() };
        zone.add(Name::root(), RData::DNSSEC(DNSSECRData::DNSKEY(dnskey)));
        zone.add(Name::root(), RData::NS(NS(name("ns.test"))));
        zone
    }

    fn add(&mut self, owner: Name, data: RData) {
        self.records.entry((owner, data.record_type())).or_default().push(data);
    }

    /// Adds records written as in a zone file: `owner TYPE data`, one a line.
    pub(crate) fn with(mut self, text: &str) -> Zone {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut fields = line.splitn(3, ' ');
            let mut field = || fields.next().unwrap_or_else(|| panic!("{line}: a field is missing"));
            let (owner, kind, data) = (name(field()), field(), field());
            self.add(owner, parse(kind, data));
        }
        self
    }

    /// Answers with an error, to one kind of question or to all.
    pub(crate) fn failing(mut self, owner: &str, kind: Option<RecordType>, code: ResponseCode) -> Zone {
        self.codes.insert((name(owner), kind), code);
        self
    }

    /// Never answers about a name.
    pub(crate) fn silent(mut self, owner: &str) -> Zone {
        self.silent.insert(name(owner));
        self
    }

    /// Makes a name and all below an unsigned delegation.
    pub(crate) fn unsigned(mut self, owner: &str) -> Zone {
        self.unsigned.push(name(owner));
        self.add(name(owner), RData::NS(NS(name("ns.test"))));
        self
    }

    /// Spoils the signatures at a name.
    pub(crate) fn forged(mut self, owner: &str) -> Zone {
        self.forged.insert(name(owner));
        self
    }

    /// Starts serving.
    pub(crate) async fn serve(self) -> Server {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = socket.local_addr().expect("bound");
        let anchor = self.signer.as_ref().map(|signer| write_anchor(signer.dnskey()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(run(socket, self, asked.clone()));
        Server { address, anchor, asked, task }
    }

    fn answer(&self, query: &Query, id: u16) -> Message {
        let mut message = Message::response(id, OpCode::Query);
        message.add_query(query.clone());
        let code = self.codes.get(&(query.name.clone(), Some(query.query_type)));
        if let Some(code) = code.or_else(|| self.codes.get(&(query.name.clone(), None))) {
            message.metadata.response_code = *code;
            return message;
        }
        let mut owner = query.name.clone();
        for _ in 0..8 {
            let cname = self.set(&owner, RecordType::CNAME);
            if let Some(set) = self.set(&owner, query.query_type) {
                message.add_answers(self.sealed(set));
                return message;
            }
            let Some(set) = cname else { break };
            let Some(RData::CNAME(target)) = set.records_without_rrsigs().next().map(|record| record.data.clone())
            else {
                unreachable!("a CNAME set holds CNAME records")
            };
            message.add_answers(self.sealed(set));
            owner = target.0;
        }
        self.deny(&owner, query.query_type, message)
    }

    fn deny(&self, owner: &Name, kind: RecordType, mut message: Message) -> Message {
        let soa = SOA::new(name("ns.test"), name("root.test"), 1, 60, 60, 60, 60);
        let mut set = RecordSet::with_ttl(Name::root(), RecordType::SOA, 60);
        set.add_rdata(RData::SOA(soa));
        message.add_authorities(self.sealed(set));
        let signed_here = self.signer.is_some() && (!self.is_unsigned(owner) || kind == RecordType::DS);
        if signed_here {
            let next = owner.prepend_label(&b"\0"[..]).expect("short");
            let mut set = RecordSet::with_ttl(owner.clone(), RecordType::NSEC, 60);
            set.add_rdata(RData::DNSSEC(DNSSECRData::NSEC(NSEC::new_cover_self(next, self.types(owner)))));
            message.add_authorities(self.sealed_always(set));
        } else if !self.exists(owner) {
            message.metadata.response_code = ResponseCode::NXDomain;
        }
        message
    }

    fn exists(&self, owner: &Name) -> bool {
        self.records.keys().any(|(held, _)| owner.zone_of(held))
    }

    fn types(&self, owner: &Name) -> BTreeSet<RecordType> {
        self.records.keys().filter(|(held, _)| held == owner).map(|(_, kind)| *kind).collect()
    }

    fn is_unsigned(&self, owner: &Name) -> bool {
        self.unsigned.iter().any(|cut| cut.zone_of(owner))
    }

    fn set(&self, owner: &Name, kind: RecordType) -> Option<RecordSet> {
        let data = self.records.get(&(owner.clone(), kind))?;
        let mut set = RecordSet::with_ttl(owner.clone(), kind, 300);
        data.iter().for_each(|data| assert!(set.add_rdata(data.clone()), "a record twice"));
        Some(set)
    }

    fn sealed(&self, set: RecordSet) -> Vec<Record> {
        if self.is_unsigned(set.name()) {
            set.records_without_rrsigs().cloned().collect()
        } else {
            self.sealed_always(set)
        }
    }

    fn sealed_always(&self, set: RecordSet) -> Vec<Record> {
        let mut records: Vec<Record> = set.records_without_rrsigs().cloned().collect();
        let Some(signer) = &self.signer else { return records };
        let since = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
        let mut signature = RRSIG::from_rrset(&set, DNSClass::IN, since, signer).expect("signed");
        if self.forged.contains(set.name()) {
            let mut bytes = signature.sig().to_vec();
            bytes[0] ^= 1;
            signature = RRSIG::from_sig(signature.input().clone(), bytes);
        }
        let data = RData::DNSSEC(DNSSECRData::RRSIG(signature));
        records.push(Record::from_rdata(set.name().clone(), 300, data));
        records
    }
}

fn parse(kind: &str, data: &str) -> RData {
    let address = "an address";
    match kind {
        "A" => RData::A(A(data.parse().expect(address))),
        "AAAA" => RData::AAAA(AAAA(data.parse().expect(address))),
        "CNAME" => RData::CNAME(CNAME(name(data))),
        "PTR" => RData::PTR(PTR(name(data))),
        "NS" => RData::NS(NS(name(data))),
        "TXT" => RData::TXT(TXT::new(data.split('|').map(str::to_string).collect())),
        "MX" => {
            let (preference, host) = data.split_once(' ').expect("two fields");
            let host = if host == "." { Name::root() } else { name(host) };
            RData::MX(MX::new(preference.parse().expect("a number"), host))
        }
        "TLSA" => {
            let fields: Vec<&str> = data.split(' ').collect();
            let number = |at: usize| u8::from_str(fields[at]).expect("a number");
            let hex = fields[3].as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
            let bytes = hex.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect();
            let (usage, selector) = (CertUsage::from(number(0)), Selector::from(number(1)));
            RData::TLSA(TLSA::new(usage, selector, Matching::from(number(2)), bytes))
        }
        _ => panic!("{kind}: not known to the tests"),
    }
}

fn write_anchor(key: &DNSKEY) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("root.key");
    std::fs::write(&path, format!(". 172800 IN DNSKEY {key}\n")).expect("written");
    (directory, path)
}

async fn run(socket: UdpSocket, zone: Zone, asked: Arc<Mutex<Vec<String>>>) {
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { return };
        let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
        let Some(query) = question.queries.first() else { continue };
        let folded = Query::query(query.name.to_lowercase(), query.query_type);
        asked.lock().expect("no panic").push(format!("{} {}", folded.name, folded.query_type));
        if zone.silent.contains(&folded.name) {
            continue;
        }
        let answer = zone.answer(&folded, question.metadata.id).to_vec().expect("encodable");
        let _ = socket.send_to(&answer, peer).await;
    }
}

/// A running server; stops when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    anchor: Option<(tempfile::TempDir, PathBuf)>,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Options that ask this server, and trust its key if the zone is signed.
    pub(crate) fn options(&self) -> ResolverOptions {
        let trust_anchor = self.anchor.as_ref().map(|(_, path)| path.clone());
        ResolverOptions {
            servers: vec![self.address],
            dnssec: if trust_anchor.is_some() { Dnssec::Validate } else { Dnssec::Off },
            trust_anchor,
            hosts_file: false,
            timeout: Duration::from_millis(500),
            attempts: 1,
            ..ResolverOptions::default()
        }
    }

    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::new(self.options()).expect("valid options")
    }

    /// How often a question was asked, such as `example.test. MX`.
    pub(crate) fn times_asked(&self, question: &str) -> usize {
        self.asked.lock().expect("no panic").iter().filter(|asked| *asked == question).count()
    }
}
