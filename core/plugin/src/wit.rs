//! The contract's types as the component model hands them over, and what they mean in the nouns of `waypost-types`.
//!
//! Written by hand beside `sdk/wit/*.wit` instead of generated: the host wants each import as a closure over its store (counted
//! and limited in one place) and each export both with and without a fiber, and generated code compiles for minutes. wasmtime
//! compares these types with the component's own when a plugin is loaded, so a slip is a load error, never a misread value.

use std::borrow::Cow;
use wasmtime::component::{ComponentType, Lift, Lower, flags};

use waypost_types::login::Credentials;
use waypost_types::port::{DnsAnswer, DnsError, DnsType, FetchRequest, FetchResponse};
use waypost_types::{
    Address, Enhanced, Finding, Host, Notify, Recipient, Reply, SessionFacts, Stage, Transport, Verdict,
};

/// The contract's package, with the version that this host serves.
pub(crate) const VERSION: &str = "0.1.0";

/// Longest reply text, octets: one line of 512 (RFC 5321 §4.5.3.1.5) with its codes has room for it.
const REPLY_TEXT_MAX: usize = 400;

/// `types.reply`
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct WitReply {
    pub(crate) code: u16,
    pub(crate) enhanced: (u8, u8, u16),
    pub(crate) text: String,
}

/// `types.action`
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum Action {
    #[component(name = "next")]
    Next,
    #[component(name = "accept")]
    Accept,
    #[component(name = "reject")]
    Reject(WitReply),
    #[component(name = "tempfail")]
    Tempfail(WitReply),
    #[component(name = "discard")]
    Discard,
    #[component(name = "quarantine")]
    Quarantine(String),
    #[component(name = "disconnect")]
    Disconnect(WitReply),
    #[component(name = "defer")]
    Defer(u32),
    #[component(name = "extension")]
    Extension((String, Vec<u8>)),
}

/// `types.outcome`
pub(crate) type WitOutcome = Result<Action, String>;

impl Action {
    /// What the action means at `stage`, with its codes brought into the range that is legal there.
    pub(crate) fn verdict(self, stage: Stage) -> Verdict {
        match self {
            Action::Next | Action::Extension(_) => Verdict::Pass,
            Action::Accept => Verdict::Accept,
            Action::Discard => Verdict::Discard,
            Action::Quarantine(reason) => Verdict::Hold(clip(&reason, REPLY_TEXT_MAX).into()),
            Action::Reject(reply) => Verdict::Refuse(reply.permanent(stage)),
            Action::Tempfail(reply) => Verdict::Defer(reply.transient(stage)),
            Action::Disconnect(reply) if reply.code / 100 == 5 => Verdict::Disconnect(reply.permanent(stage)),
            Action::Disconnect(reply) => Verdict::Disconnect(reply.build(421, 4)),
            Action::Defer(seconds) => Verdict::Defer(Reply::new(
                if stage == Stage::Connect { 421 } else { 451 },
                Enhanced(4, 7, 1),
                format!("try again in {seconds} seconds"),
            )),
        }
    }
}

impl WitReply {
    fn permanent(self, stage: Stage) -> Reply {
        let code = match (stage, self.code) {
            // RFC 5321 §3.1 and RFC 7504: the only refusals that a greeting can be.
            (Stage::Connect, 521 | 554) => self.code,
            (Stage::Connect, _) => 554,
            (Stage::Auth, _) => 535,
            (_, 500..=504 | 521 | 530..=599) => self.code,
            _ => 550,
        };
        self.build(code, 5)
    }

    fn transient(self, stage: Stage) -> Reply {
        let code = match (stage, self.code) {
            (Stage::Connect, _) => 421,
            (Stage::Auth, _) => 454,
            // 421 means that the connection closes; `disconnect` says that.
            (_, 450..=455) => self.code,
            _ => 451,
        };
        self.build(code, 4)
    }

    fn build(self, code: u16, class: u8) -> Reply {
        let (_, subject, detail) = self.enhanced;
        let text = clip(&self.text, REPLY_TEXT_MAX);
        let text = if text.is_empty() { "refused by policy".to_string() } else { text };
        Reply::new(code, Enhanced(class, u16::from(subject), detail.min(999)), text)
    }
}

/// `on-auth.credentials`
#[derive(Clone, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct WitCredentials {
    mechanism: String,
    identity: String,
    secret: Option<String>,
}

impl WitCredentials {
    /// The secret is only for plugins that were granted it.
    pub(crate) fn new(shown: &Credentials, secret: bool) -> WitCredentials {
        WitCredentials {
            mechanism: shown.mechanism.into(),
            identity: shown.identity.clone(),
            secret: shown.password().filter(|_| secret).map(str::to_string),
        }
    }
}

/// `on-auth.auth-result`
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum AuthResult {
    #[component(name = "pass-on")]
    PassOn,
    #[component(name = "ok")]
    Ok(String),
    #[component(name = "denied")]
    Denied(String),
    #[component(name = "temporary")]
    Temporary(String),
}

impl AuthResult {
    /// The verdict, and the identity that is vouched for.
    pub(crate) fn verdict(self) -> (Verdict, Option<String>) {
        let reply = |code, enhanced, text: &str| Reply::new(code, enhanced, clip(text, REPLY_TEXT_MAX));
        match self {
            AuthResult::PassOn => (Verdict::Pass, None),
            AuthResult::Ok(identity) => (Verdict::Accept, Some(identity)),
            AuthResult::Denied(text) => (Verdict::Refuse(reply(535, Enhanced(5, 7, 8), &text)), None),
            AuthResult::Temporary(text) => (Verdict::Defer(reply(454, Enhanced(4, 7, 0), &text)), None),
        }
    }
}

/// `envelope.rcpt`
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Rcpt {
    address: String,
    domain: String,
    orcpt: Option<String>,
    notify: Option<String>,
}

impl From<&Recipient> for Rcpt {
    fn from(recipient: &Recipient) -> Rcpt {
        Rcpt {
            address: written(&recipient.address),
            domain: host(recipient.address.host()).into_owned(),
            orcpt: recipient.original.as_deref().map(str::to_string),
            notify: recipient.notify.given.then(|| notify_words(recipient.notify)),
        }
    }
}

/// An address as text, without the formatting machinery: this is done for every recipient and plugin.
fn written(address: &Address) -> String {
    let host = host(address.host());
    let mut text = String::with_capacity(address.local().len() + 1 + host.len());
    text.push_str(address.local());
    text.push('@');
    text.push_str(&host);
    text
}

fn host(host: &Host) -> Cow<'_, str> {
    match host {
        Host::Name(domain) => domain.as_str().into(),
        Host::Literal(_) => host.to_string().into(),
    }
}

/// NOTIFY= as it is written, RFC 3461 §4.1.
fn notify_words(notify: Notify) -> String {
    let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    let given: Vec<_> = words.into_iter().filter_map(|(on, word)| on.then_some(word)).collect();
    if given.is_empty() { "NEVER".into() } else { given.join(",") }
}

/// `session.transport-kind`
#[derive(Clone, Copy, Debug, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum TransportKind {
    #[component(name = "smtp")]
    Smtp,
    #[component(name = "smtps")]
    Smtps,
    #[component(name = "submission")]
    Submission,
    #[component(name = "lmtp")]
    Lmtp,
    #[component(name = "local")]
    Local,
}

impl From<&SessionFacts> for TransportKind {
    /// Hosts of our own are `local` whatever port they use: what plugins spare, they spare for them too.
    fn from(session: &SessionFacts) -> TransportKind {
        match session.transport {
            _ if session.trusted => TransportKind::Local,
            Transport::Mx | Transport::Relay => TransportKind::Smtp,
            Transport::Submissions => TransportKind::Smtps,
            Transport::Submission => TransportKind::Submission,
            Transport::Lmtp => TransportKind::Lmtp,
            Transport::Local => TransportKind::Local,
        }
    }
}

/// `message.part`
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct WitPart {
    pub(crate) path: String,
    #[component(name = "mime-type")]
    pub(crate) mime_type: String,
    pub(crate) filename: Option<String>,
    pub(crate) size: u64,
    pub(crate) disposition: Option<String>,
}

/// `auth-results.entry`
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct AuthEntry {
    method: String,
    result: String,
    domain: Option<String>,
    selector: Option<String>,
    detail: Option<String>,
}

impl From<&Finding> for AuthEntry {
    fn from(finding: &Finding) -> AuthEntry {
        AuthEntry {
            method: finding.method.into(),
            result: finding.result.into(),
            domain: finding.domain.clone(),
            selector: finding.selector.clone(),
            detail: finding.detail.clone(),
        }
    }
}

/// `dns.rtype`
#[derive(Clone, Copy, Debug, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "guests make them")]
pub(crate) enum RecordType {
    #[component(name = "a")]
    A,
    #[component(name = "aaaa")]
    Aaaa,
    #[component(name = "mx")]
    Mx,
    #[component(name = "txt")]
    Txt,
    #[component(name = "ptr")]
    Ptr,
    #[component(name = "tlsa")]
    Tlsa,
    #[component(name = "cname")]
    Cname,
    #[component(name = "ns")]
    Ns,
    #[component(name = "srv")]
    Srv,
}

impl From<RecordType> for DnsType {
    fn from(kind: RecordType) -> DnsType {
        match kind {
            RecordType::A => DnsType::A,
            RecordType::Aaaa => DnsType::Aaaa,
            RecordType::Mx => DnsType::Mx,
            RecordType::Txt => DnsType::Txt,
            RecordType::Ptr => DnsType::Ptr,
            RecordType::Tlsa => DnsType::Tlsa,
            RecordType::Cname => DnsType::Cname,
            RecordType::Ns => DnsType::Ns,
            RecordType::Srv => DnsType::Srv,
        }
    }
}

/// `dns.query`
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Query {
    pub(crate) name: String,
    #[component(name = "rtype")]
    pub(crate) kind: RecordType,
}

/// `dns.answer`
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Answer {
    records: Vec<String>,
    ttl: u32,
    dnssec: bool,
}

/// `dns.error`
#[derive(Clone, Copy, Debug, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum LookupError {
    #[component(name = "nxdomain")]
    NxDomain,
    #[component(name = "nodata")]
    NoData,
    #[component(name = "servfail")]
    ServFail,
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "refused")]
    Refused,
    #[component(name = "budget")]
    Budget,
}

/// What `dns.lookup` gives.
pub(crate) type Looked = Result<Answer, LookupError>;

/// Turns a resolver's answer into the contract's.
pub(crate) fn looked(answer: Result<DnsAnswer, DnsError>) -> Looked {
    match answer {
        Ok(answer) => Ok(Answer { records: answer.records, ttl: answer.ttl, dnssec: answer.secure }),
        Err(DnsError::NxDomain) => Err(LookupError::NxDomain),
        Err(DnsError::NoData) => Err(LookupError::NoData),
        Err(DnsError::ServFail) => Err(LookupError::ServFail),
        Err(DnsError::Timeout) => Err(LookupError::Timeout),
        Err(DnsError::Refused) => Err(LookupError::Refused),
    }
}

/// `http.request`
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct WitRequest {
    method: String,
    pub(crate) url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    #[component(name = "timeout-ms")]
    timeout_ms: u32,
}

impl From<WitRequest> for FetchRequest {
    fn from(request: WitRequest) -> FetchRequest {
        FetchRequest {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body: request.body,
            timeout: std::time::Duration::from_millis(u64::from(request.timeout_ms)),
        }
    }
}

/// `http.response`
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct WitResponse {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl From<FetchResponse> for WitResponse {
    fn from(response: FetchResponse) -> WitResponse {
        WitResponse { status: response.status, headers: response.headers, body: response.body }
    }
}

/// `env.level`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "guests make them")]
pub(crate) enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl Level {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

flags! {
    BodyNeed {
        #[component(name = "none")]
        const NONE;
        #[component(name = "headers")]
        const HEADERS;
        #[component(name = "preview")]
        const PREVIEW;
        #[component(name = "full")]
        const FULL;
    }
}

/// `lifecycle.registration`. How much of the body a plugin wants is advice to a host that streams; this one has the message
/// whole and shares it, so it does not look at `body` and `preview-bytes`.
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Registration {
    pub(crate) name: String,
    pub(crate) version: String,
    #[component(name = "rcpt-domains")]
    pub(crate) rcpt_domains: Vec<String>,
    #[component(name = "only-inbound")]
    pub(crate) only_inbound: bool,
    #[component(name = "only-authenticated")]
    pub(crate) only_authenticated: bool,
    #[component(name = "max-size")]
    pub(crate) max_size: Option<u64>,
    pub(crate) body: BodyNeed,
    #[component(name = "preview-bytes")]
    pub(crate) preview_bytes: u32,
}

/// `text` as one line without control characters, at most `max` octets.
pub(crate) fn clip(text: &str, max: usize) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = line.len().min(max);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16) -> WitReply {
        WitReply { code, enhanced: (9, 7, 1), text: "no\r\n250 yes".into() }
    }

    #[test]
    fn codes_are_brought_into_the_range_that_the_stage_allows() {
        let code = |action: Action, stage| match action.verdict(stage) {
            Verdict::Refuse(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply) => reply.code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(Action::Reject(reply(250)), Stage::Rcpt), 550);
        assert_eq!(code(Action::Reject(reply(571)), Stage::Rcpt), 571);
        assert_eq!(code(Action::Reject(reply(550)), Stage::Connect), 554);
        assert_eq!(code(Action::Tempfail(reply(421)), Stage::Rcpt), 451);
        assert_eq!(code(Action::Tempfail(reply(452)), Stage::Rcpt), 452);
        assert_eq!(code(Action::Tempfail(reply(450)), Stage::Connect), 421);
        assert_eq!(code(Action::Disconnect(reply(250)), Stage::Mail), 421);
        assert_eq!(code(Action::Disconnect(reply(554)), Stage::Mail), 554);
        assert_eq!(code(Action::Defer(30), Stage::Mail), 451);
    }

    #[test]
    fn a_reply_is_one_line_with_the_class_of_its_code() {
        let Verdict::Refuse(reply) = Action::Reject(reply(550)).verdict(Stage::Mail) else { panic!() };
        assert_eq!(reply.to_string(), "550 5.7.1 no  250 yes");
        let long = WitReply { code: 550, enhanced: (5, 0, 0), text: "ä".repeat(300) };
        let Verdict::Refuse(reply) = Action::Reject(long).verdict(Stage::Mail) else { panic!() };
        assert_eq!(reply.text.len(), 400);
    }

    #[test]
    fn an_unknown_extension_is_no_opinion() {
        assert_eq!(Action::Extension(("x".into(), vec![1])).verdict(Stage::Mail), Verdict::Pass);
    }

    #[test]
    fn notify_is_written_as_rfc_3461_writes_it() {
        assert_eq!(notify_words(Notify::NEVER), "NEVER");
        assert_eq!(notify_words(Notify { given: true, success: true, failure: true, delay: false }), "SUCCESS,FAILURE");
    }
}
