//! TLS reports on their way: counted while mail goes out, written down every minute, and sent once a day is over, some time within `tls-report.delay-max`, so that not the whole
//! world reports at midnight (RFC 8460 §4.1, §5.5).
//!
//! Mail carries the DKIM signature of a key of the sender's domain (§3: a report without one counts for nothing); a site without a key can only report over HTTPS. A report that
//! cannot be handed over is tried again every hour until its day is a week old.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use waypost_config::model;
use waypost_deliver::Courier;
use waypost_deliver::tls_report::document::{self, Document, Reporter, Wanted};
use waypost_deliver::tls_report::{Fault, Key, Ledger, Policy, Session, ledger};
use waypost_mailauth::Keys;
use waypost_queue::{Delivery, Entry, Handoff, Kind, Origin, Store};
use waypost_resolve::Resolver;
use waypost_resolve::mta_sts::FetchFault;
use waypost_types::port::{Dns, DnsError, DnsType, Fetch, FetchRequest, Sign};
use waypost_types::{
    Address, Body, Domain, Event, Message, MessageId, Notify, Observer, Recipient, ReversePath, Timestamp, Transport,
};

use crate::fetch::Https;
use crate::observe::{Observe, now};

/// How often counters go to disk.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// How often what could not be sent is tried again.
const RETRY: Duration = Duration::from_secs(3600);
const POST_TIMEOUT: Duration = Duration::from_secs(60);

/// Who counts and reports.
pub(crate) struct TlsReports {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) options: model::TlsReport,
    pub(crate) reporter: Reporter,
    pub(crate) keys: Keys,
    /// The key that signs, by name.
    pub(crate) key: Option<String>,
    pub(crate) from: Address,
    pub(crate) lifetime: Duration,
    pub(crate) resolver: Resolver,
    pub(crate) fetch: Https,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) courier: Courier,
    pub(crate) observe: Arc<Observe>,
}

/// An MTA-STS policy that could not be had is a failure of its own.
pub(crate) fn policy_failure(domain: &Domain, fault: FetchFault, words: &str) -> Session {
    Session {
        domain: domain.clone(),
        policy: Policy { kind: "sts", strings: Vec::new(), hosts: Vec::new() },
        host: format!("mta-sts.{domain}"),
        receiving: None,
        sending: None,
        fault: Some((Fault::from(fault), words.to_string())),
    }
}

impl TlsReports {
    /// Saves and sends until dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ready = self.lateness();
        let mut today = ledger::day(now());
        loop {
            tokio::time::sleep(SAVE_EVERY).await;
            self.save();
            let day = ledger::day(now());
            if day != today {
                (today, ready) = (day, self.lateness());
            }
            if tokio::time::Instant::now() >= ready {
                ready = tokio::time::Instant::now() + RETRY;
                for key in self.ledger.keys().into_iter().filter(|key| key.day < today) {
                    let _ = self.send(&key).await;
                }
            }
        }
    }

    fn lateness(&self) -> tokio::time::Instant {
        let span = self.options.delay_max.as_millis().max(1);
        let random = u128::from(random());
        tokio::time::Instant::now() + Duration::from_millis((random % span) as u64)
    }

    /// Writes the counters down.
    pub(crate) fn save(&self) {
        if let Err(error) = self.ledger.save() {
            self.say("warn", &format!("the counters of TLS reports cannot be kept: {error:?}"));
        }
    }

    fn say(&self, level: &'static str, message: &str) {
        self.observe.observe(Event::Notice { level, message });
    }

    /// What has been counted, as reports would say it.
    pub(crate) fn shown(&self) -> Value {
        let one = |key: &Key| document::json(&self.reporter, key, &self.ledger.get(key), "");
        self.ledger.keys().iter().map(one).collect()
    }

    /// Sends what was counted for a domain on a day. How many places got it; an error says why it stays here.
    pub(crate) async fn send(&self, key: &Key) -> Result<usize, String> {
        let records = match self.resolver.lookup(&format!("_smtp._tls.{}", key.domain), DnsType::Txt).await {
            Ok(answer) => answer.records,
            Err(DnsError::NxDomain | DnsError::NoData) => Vec::new(),
            Err(error) => return Err(format!("_smtp._tls.{}: {error}", key.domain)),
        };
        let places = document::wanted(&records);
        let document = Document::new(&self.reporter, key, &self.ledger.get(key), random());
        let (mut told, mut failed) = (0, Vec::new());
        for place in &places {
            let sent = match place {
                Wanted::Mail(to) => self.mail(&document, to).await,
                Wanted::Post(url) => self.post(&document, url).await,
            };
            match sent {
                Ok(()) => told += 1,
                Err(error) => failed.push(error),
            }
        }
        // One place that has it is enough (§3): it is not sent to the others a second time.
        if told == 0 && !failed.is_empty() {
            let error = failed.join("; ");
            self.say("warn", &format!("the TLS report on {} for {} cannot be sent: {error}", key.domain, key.day));
            return Err(error);
        }
        if told > 0 {
            self.say("info", &format!("sent the TLS report on {} for {} to {told} places", key.domain, key.day));
        }
        self.ledger.forget(key);
        Ok(told)
    }

    async fn post(&self, document: &Document, url: &str) -> Result<(), String> {
        let request = FetchRequest {
            method: "POST".into(),
            url: url.into(),
            headers: vec![("Content-Type".into(), "application/tlsrpt+gzip".into())],
            body: document.gzip.clone(),
            timeout: POST_TIMEOUT,
        };
        let answer = self.fetch.fetch(&request).await?;
        if (200..300).contains(&answer.status) { Ok(()) } else { Err(format!("{url}: HTTP {}", answer.status)) }
    }

    async fn mail(&self, document: &Document, to: &Address) -> Result<(), String> {
        let Some(key) = &self.key else {
            return Err(format!(
                "there is no DKIM key of {}, and reports by mail must be signed: add a section [dkim.NAME]",
                self.from.host()
            ));
        };
        let at = now();
        let mut message = document.message(&self.from, to, at);
        let fields = [
            "From",
            "To",
            "Date",
            "Subject",
            "Message-ID",
            "TLS-Report-Domain",
            "TLS-Report-Submitter",
            "Content-Type",
        ];
        let signature = self.keys.dkim(key, &fields.map(String::from), &message)?;
        message.prepend(format!("DKIM-Signature: {signature}\r\n").into());
        let entry = self.entry(to, &message, at);
        let claim = self.store.accept(entry, message).await.map_err(|error| error.to_string())?;
        self.courier.offer(claim);
        Ok(())
    }

    fn entry(&self, to: &Address, message: &Message, at: Timestamp) -> Entry {
        let mut recipient = Recipient::new(to.clone());
        recipient.notify = Notify::NEVER;
        let mut entry = Entry {
            id: MessageId::new(at, random()),
            kind: Kind::Notice,
            accepted: at,
            expires: at.after(self.lifetime),
            origin: Origin {
                transport: Transport::Local,
                session: None,
                peer: None,
                helo: self.reporter.host.as_str().into(),
                user: None,
            },
            sender: ReversePath::Null,
            parameters: Default::default(),
            recipients: vec![Delivery::new(recipient, at)],
            size: message.len() as u64,
            held: None,
            route: None,
            why: None,
        };
        entry.parameters.body = Body::SevenBit;
        entry
    }

    /// Answers the admin interface: sends now, today's too, what has been counted for a domain, or for all.
    pub(crate) async fn send_now(&self, domain: Option<&str>) -> Value {
        let mut told = Vec::new();
        for key in self.ledger.keys().into_iter().filter(|key| domain.is_none_or(|domain| key.domain == domain)) {
            let outcome = self.send(&key).await;
            told.push(
                json!({ "day": key.day, "domain": key.domain, "sent": outcome.as_ref().ok(), "error": outcome.err() }),
            );
        }
        told.into()
    }
}

fn random() -> u64 {
    u64::from_be_bytes(waypost_mailauth::key::random())
}
