//! Every finding about a message that came in.
//!
//! SPF, DMARC and ARC are ours (`crate::spf`, `crate::dmarc`, `crate::arc`). DKIM is mail-auth's, but it asks no DNS: its questions are noted by
//! `oracle`, answered through [`Dns`] like everybody else's, and put to it again. So there is one resolver, one cache and one clock, and tests need no
//! network. What RFC 8301 forbids (rsa-sha1) is not taken for a pass, whatever the library says; a body length (`l=`) makes a signature
//! worthless here. The whole check ends in bounded time.

mod oracle;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mail_auth::common::crypto::{Algorithm, HashAlgorithm};
use mail_auth::dkim::Canonicalization;
use mail_auth::{AuthenticatedMessage, DkimOutput, DkimResult, MessageAuthenticator};
use waypost_types::header::{self, Field};
use waypost_types::port::Dns;
use waypost_types::{Domain, Envelope, Finding, Message, SessionFacts};

use self::oracle::Oracle;
use crate::arc;
use crate::canonical::{Form, hash_body};
use crate::dmarc::{self, Dmarc, DmarcResult, Identifiers, Policy};
use crate::spf::{self, SpfAnswer, SpfQuestion, SpfResult};

/// Signatures looked at; the rest are left alone. Each costs a question and a public-key operation.
const SIGNATURES_MAX: usize = 10;

/// How to check.
#[derive(Clone)]
pub struct VerifierOptions {
    /// Who answers questions to DNS.
    pub dns: Arc<dyn Dns>,
    /// Our name: `%{r}` of SPF explanations.
    pub hostname: Arc<str>,
    /// For the whole check; what is not known by then is `temperror`.
    pub timeout: Duration,
    /// Domains whose ARC seals are believed: where they saw the author authenticated, his domain's DMARC policy is not applied.
    pub trusted_sealers: Vec<String>,
}

impl VerifierOptions {
    /// Twenty seconds, as RFC 7208 §4.6.4 asks at least for SPF alone, would hold a client long; ten are enough for honest names.
    pub fn new(dns: Arc<dyn Dns>, hostname: &str) -> VerifierOptions {
        VerifierOptions {
            dns,
            hostname: hostname.into(),
            timeout: Duration::from_secs(10),
            trusted_sealers: Vec::new(),
        }
    }
}

/// Why there is no verifier.
#[derive(Debug)]
pub struct VerifierError(String);

impl fmt::Display for VerifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mail authentication cannot be set up: {}", self.0)
    }
}

impl std::error::Error for VerifierError {}

/// Checks what comes in.
pub struct Verifier {
    options: VerifierOptions,
    library: MessageAuthenticator,
}

impl Verifier {
    /// A verifier.
    pub fn new(options: VerifierOptions) -> Result<Verifier, VerifierError> {
        let library = oracle::library().map_err(VerifierError)?;
        Ok(Verifier { options, library })
    }

    /// Everything about a message. Looks at it as it came: check before anything is changed.
    pub async fn check(&self, session: &SessionFacts, envelope: &Envelope, message: &Message) -> Checked {
        let raw = straight(message);
        // Strict: signatures with `l=` are no signatures, and at most four body hashes are ever needed.
        let mut parsed = AuthenticatedMessage::parse_with_opts(&raw, None, true);
        if let Some(parsed) = &mut parsed {
            hash_bodies(parsed, message);
            parsed.dkim_headers.truncate(SIGNATURES_MAX);
            parsed.errors.truncate(SIGNATURES_MAX);
        }
        let identity = Identity::of(session, envelope);
        let author = parsed.as_ref().map_or(Author::Unclear, Author::of);
        let mut checked = Checked { findings: vec![iprev(session)], demand: None };
        let work = self.gather(session, message, parsed.as_ref(), &identity, &author, &mut checked);
        if tokio::time::timeout(self.options.timeout, work).await.is_err() {
            late(&mut checked.findings, parsed.as_ref(), &identity, &author);
        }
        checked
    }

    async fn gather(
        &self,
        session: &SessionFacts,
        message: &Message,
        parsed: Option<&AuthenticatedMessage<'_>>,
        identity: &Identity<'_>,
        author: &Author,
        checked: &mut Checked,
    ) {
        let answer = self.spf(session, identity).await;
        checked.findings.push(identity.finding(&answer));
        let Some(parsed) = parsed else { return };
        let oracle = Oracle::default();
        let signatures = self.dkim(parsed, &oracle).await;
        checked.findings.extend(signatures.iter().map(dkim_finding));
        if signatures.is_empty() {
            checked.findings.push(plain("dkim", "none"));
        }
        let passed =
            signatures.iter().filter(|output| matches!(output.result(), DkimResult::Pass) && is_acceptable(output));
        let passed: Vec<&str> = passed.filter_map(|output| Some(output.signature()?.d.as_str())).collect();
        let spf = (answer.result == SpfResult::Pass).then_some(identity.domain);
        let slow = signatures.iter().filter(|output| matches!(output.result(), DkimResult::TempError(_)));
        let slow = slow.filter_map(|output| Some(output.signature()?.d.as_str()));
        let unsure: Vec<&str> =
            slow.chain((answer.result == SpfResult::TempError).then_some(identity.domain)).collect();
        let dmarc = match author {
            Author::Domain(domain) => {
                dmarc::evaluate(&*self.options.dns, domain, Identifiers { spf, dkim: &passed, unsure: &unsure }).await
            }
            Author::Unclear => Dmarc { result: DmarcResult::PermError, policy: None },
        };
        checked.findings.push(author.finding(&dmarc));
        let arc = arc::verify(&*self.options.dns, message).await;
        checked.findings.push(arc_finding(&arc));
        if let (DmarcResult::Fail, Some(policy), Author::Domain(domain)) = (dmarc.result, dmarc.policy, author) {
            let excused = arc.vouches(&self.options.trusted_sealers);
            checked.demand = Some(Demand { domain: domain.clone(), policy, excused });
        }
    }

    async fn spf(&self, session: &SessionFacts, identity: &Identity<'_>) -> SpfAnswer {
        let question = SpfQuestion {
            ip: session.peer.ip(),
            helo: &session.helo,
            local: identity.local,
            domain: identity.domain,
            receiver: &self.options.hostname,
        };
        spf::evaluate(&*self.options.dns, question).await
    }

    async fn dkim<'m>(&self, parsed: &'m AuthenticatedMessage<'m>, oracle: &'m Oracle) -> Vec<DkimOutput<'m>> {
        if parsed.dkim_headers.is_empty() && parsed.errors.is_empty() {
            return Vec::new();
        }
        // All keys are asked for at once; only what points elsewhere takes another round.
        for signature in &parsed.dkim_headers {
            oracle.want_key(&signature.header.s, &signature.header.d);
        }
        loop {
            oracle.answer(&*self.options.dns).await;
            let outputs = self.library.verify_dkim(oracle.parameters(parsed)).await;
            if !oracle.has_questions() {
                return outputs;
            }
        }
    }
}

/// What is known of a message's authenticity.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Every finding, in the order of the `Authentication-Results` field.
    pub findings: Vec<Finding>,
    /// What the author's domain demands, if DMARC failed.
    pub demand: Option<Demand>,
}

/// What a domain demands to be done with mail in its name that is not authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The author's domain.
    pub domain: String,
    /// Its policy.
    pub policy: Policy,
    /// A sealer that we trust saw the author authenticated.
    pub excused: bool,
}

/// Whose domain DMARC asks about.
enum Author {
    Domain(String),
    /// None, or several domains (RFC 9989 §4.5.1: nobody can be asked).
    Unclear,
}

impl Author {
    fn of(parsed: &AuthenticatedMessage<'_>) -> Author {
        let mut domains = parsed.froms().iter().map(|from| from.rsplit_once('@').map(|(_, domain)| domain));
        let Some(Some(first)) = domains.next() else { return Author::Unclear };
        // A form that can be asked for in DNS.
        match Domain::parse(first) {
            Ok(domain) if domains.all(|domain| domain == Some(first)) => Author::Domain(domain.as_str().to_string()),
            _ => Author::Unclear,
        }
    }

    fn finding(&self, dmarc: &Dmarc) -> Finding {
        let policy = dmarc.policy.map(|policy| format!("p={}", policy.word()));
        Finding { detail: policy, ..self.plain(dmarc.result.word()) }
    }

    fn plain(&self, result: &'static str) -> Finding {
        let domain = if let Author::Domain(domain) = self { Some(domain.clone()) } else { None };
        Finding { domain, property: "header.from", ..plain("dmarc", result) }
    }
}

/// The message as the library reads it. It does not find `From : x` (RFC 5322 §4.5.8, obsolete but shown to people all the same), which
/// would keep DMARC from looking at the author; so the blanks go.
fn straight(message: &Message) -> Bytes {
    let block = message.header_block();
    let has_blank = |field: &Field<'_>| block[field.range.start + field.name.len()] != b':';
    if !header::fields(&block).any(|field| has_blank(&field)) {
        return message.contiguous();
    }
    let raw = message.contiguous();
    let mut straight = Vec::with_capacity(raw.len());
    let mut end = 0;
    for field in header::fields(&block) {
        straight.extend_from_slice(field.name);
        straight.push(b':');
        end = field.range.end;
        let whole = &block[field.range.clone()];
        let colon = memchr::memchr(b':', whole).expect("a field has a colon");
        straight.extend_from_slice(&whole[colon + 1..]);
    }
    straight.extend_from_slice(&raw[end..]);
    straight.into()
}

/// Puts our body hashes in place of the library's, which counts lines of blanks at the end of a relaxed body where RFC 6376 §3.4.4 ignores
/// them (mail-auth #22, #62).
fn hash_bodies(parsed: &mut AuthenticatedMessage<'_>, message: &Message) {
    let header_bytes = message.header_block().len();
    for (form, algorithm, _, hash) in &mut parsed.body_hashes {
        if *algorithm == HashAlgorithm::Sha256 {
            let form = if *form == Canonicalization::Simple { Form::Simple } else { Form::Relaxed };
            *hash = hash_body(form, message, header_bytes).as_ref().to_vec();
        }
    }
}

/// The identity that SPF checks: MAIL FROM, or HELO where there is none (RFC 7208 §2.4).
struct Identity<'a> {
    property: &'static str,
    /// As shown in the field.
    shown: String,
    local: &'a str,
    domain: &'a str,
}

impl<'a> Identity<'a> {
    fn of(session: &'a SessionFacts, envelope: &'a Envelope) -> Identity<'a> {
        match envelope.sender.address() {
            Some(address) => Identity {
                property: "smtp.mailfrom",
                shown: address.to_string(),
                local: address.local(),
                domain: address.domain().map_or("", |domain| domain.as_str()),
            },
            None => {
                Identity { property: "smtp.helo", shown: session.helo.to_string(), local: "", domain: &session.helo }
            }
        }
    }

    fn finding(&self, answer: &SpfAnswer) -> Finding {
        Finding {
            method: "spf",
            result: answer.result.word(),
            domain: Some(self.shown.clone()).filter(|shown| !shown.is_empty()),
            property: self.property,
            selector: None,
            detail: answer.problem.map(str::to_string),
        }
    }
}

fn plain(method: &'static str, result: &'static str) -> Finding {
    Finding { method, result, domain: None, property: "", selector: None, detail: None }
}

/// What is not known in time: `temperror`, with whatever it would have been about.
fn late(
    findings: &mut Vec<Finding>,
    parsed: Option<&AuthenticatedMessage<'_>>,
    identity: &Identity<'_>,
    author: &Author,
) {
    let detail = || Some("not known in time".to_string());
    let missing = |findings: &Vec<Finding>, method: &str| findings.iter().all(|finding| finding.method != method);
    if missing(findings, "spf") {
        let (domain, property) = (Some(identity.shown.clone()).filter(|shown| !shown.is_empty()), identity.property);
        findings.push(Finding { domain, property, detail: detail(), ..plain("spf", "temperror") });
    }
    if missing(findings, "dkim") {
        let signatures = parsed.into_iter().flat_map(|parsed| &parsed.dkim_headers);
        let before = findings.len();
        findings.extend(signatures.map(|signature| Finding {
            domain: Some(signature.header.d.clone()),
            property: "header.d",
            selector: Some(signature.header.s.clone()),
            detail: detail(),
            ..plain("dkim", "temperror")
        }));
        if findings.len() == before {
            findings.push(plain("dkim", "none"));
        }
    }
    if missing(findings, "dmarc") {
        findings.push(Finding { detail: detail(), ..author.plain("temperror") });
    }
    if missing(findings, "arc") && parsed.is_some() {
        findings.push(Finding { detail: detail(), ..plain("arc", "fail") });
    }
}

/// RFC 8601 §2.7.3: whether the client's address has a name that leads back to it.
fn iprev(session: &SessionFacts) -> Finding {
    let (result, detail) = match &session.peer_name {
        Some(name) => ("pass", name.to_string()),
        None => ("fail", "no name that leads back is known".to_string()),
    };
    Finding {
        domain: Some(session.peer.ip().to_string()),
        property: "policy.iprev",
        detail: Some(detail),
        ..plain("iprev", result)
    }
}

/// The newest sealer is the one to know about.
fn arc_finding(arc: &arc::Arc) -> Finding {
    Finding {
        domain: arc.seals.last().map(|seal| seal.domain.clone()),
        property: "header.d",
        detail: arc.problem.map(str::to_string),
        ..plain("arc", arc.result)
    }
}

/// Whether a signature may count for DMARC.
fn is_acceptable(output: &DkimOutput<'_>) -> bool {
    !output.signature().is_some_and(|signature| signature.a == Algorithm::RsaSha1)
}

fn dkim_finding(output: &DkimOutput<'_>) -> Finding {
    let (result, detail) = match output.result() {
        DkimResult::Pass if !is_acceptable(output) => ("policy", Some("rsa-sha1 is obsolete".to_string())),
        DkimResult::Pass => ("pass", None),
        DkimResult::Neutral(error) => ("neutral", Some(error.to_string())),
        DkimResult::Fail(error) => ("fail", Some(error.to_string())),
        DkimResult::PermError(error) => ("permerror", Some(error.to_string())),
        DkimResult::TempError(error) => ("temperror", Some(error.to_string())),
        DkimResult::None => ("none", None),
    };
    let signature = output.signature();
    Finding {
        method: "dkim",
        result,
        domain: signature.map(|signature| signature.d.clone()),
        property: "header.d",
        selector: signature.map(|signature| signature.s.clone()),
        detail,
    }
}

#[cfg(test)]
mod tests;
