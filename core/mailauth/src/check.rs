//! Every finding about a message that came in.
//!
//! SPF is ours (`crate::spf`). DKIM and DMARC (RFC 9989, tree walk) are mail-auth's, but it asks no DNS: its questions are noted by
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
use mail_auth::dmarc::Policy;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::{AuthenticatedMessage, DkimOutput, DkimResult, DmarcOutput, DmarcResult, MessageAuthenticator};
use waypost_types::header::{self, Field};
use waypost_types::port::Dns;
use waypost_types::{Envelope, Finding, Message, SessionFacts};

use self::oracle::Oracle;
use crate::canonical::{Form, hash_body};
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
}

impl VerifierOptions {
    /// Twenty seconds, as RFC 7208 §4.6.4 asks at least for SPF alone, would hold a client long; ten are enough for honest names.
    pub fn new(dns: Arc<dyn Dns>, hostname: &str) -> VerifierOptions {
        VerifierOptions { dns, hostname: hostname.into(), timeout: Duration::from_secs(10) }
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

    /// Every finding about a message, in the order of the `Authentication-Results` field. Looks at the message as it came: check before anything
    /// is changed.
    pub async fn check(&self, session: &SessionFacts, envelope: &Envelope, message: &Message) -> Vec<Finding> {
        let mut findings = Vec::with_capacity(4);
        let finished =
            tokio::time::timeout(self.options.timeout, self.gather(session, envelope, message, &mut findings)).await;
        if finished.is_err() {
            for method in ["spf", "dkim", "dmarc"] {
                if findings.iter().all(|finding| finding.method != method) {
                    findings.push(late(method));
                }
            }
        }
        findings
    }

    async fn gather(
        &self,
        session: &SessionFacts,
        envelope: &Envelope,
        message: &Message,
        findings: &mut Vec<Finding>,
    ) {
        if let Some(name) = &session.peer_name {
            findings.push(iprev(session, name));
        }
        let identity = Identity::of(session, envelope);
        let answer = self.spf(session, &identity).await;
        findings.push(identity.finding(&answer));
        let raw = straight(message);
        // Strict: signatures with `l=` are no signatures, and at most four body hashes are ever needed.
        let Some(mut parsed) = AuthenticatedMessage::parse_with_opts(&raw, None, true) else { return };
        hash_bodies(&mut parsed, message);
        parsed.dkim_headers.truncate(SIGNATURES_MAX);
        parsed.errors.truncate(SIGNATURES_MAX);
        let oracle = Oracle::default();
        let signatures = self.dkim(&parsed, &oracle).await;
        findings.extend(signatures.iter().map(dkim_finding));
        if signatures.is_empty() {
            findings.push(plain("dkim", "none"));
        }
        let passed: Vec<DkimOutput<'_>> = signatures.into_iter().filter(is_acceptable).collect();
        let dmarc = self.dmarc(&parsed, &passed, &identity, &answer, &oracle).await;
        findings.push(dmarc_finding(&dmarc));
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

    async fn dmarc(
        &self,
        parsed: &AuthenticatedMessage<'_>,
        dkim: &[DkimOutput<'_>],
        identity: &Identity<'_>,
        spf: &SpfAnswer,
        oracle: &Oracle,
    ) -> DmarcOutput {
        let spf = mail_auth::SpfOutput::new(identity.domain.to_string()).with_result(library_result(spf.result));
        loop {
            let parameters = DmarcParameters {
                message: parsed,
                dkim_output: dkim,
                dkim2_output: None,
                rfc5321_mail_from_domain: identity.domain,
                spf_output: &spf,
            };
            let output = self.library.verify_dmarc(oracle.parameters(parameters)).await;
            if !oracle.has_questions() {
                return output;
            }
            oracle.answer(&*self.options.dns).await;
        }
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

fn late(method: &'static str) -> Finding {
    Finding { detail: Some("not known in time".to_string()), ..plain(method, "temperror") }
}

fn iprev(session: &SessionFacts, name: &str) -> Finding {
    Finding {
        method: "iprev",
        result: "pass",
        domain: Some(session.peer.ip().to_string()),
        property: "policy.iprev",
        selector: None,
        detail: Some(name.to_string()),
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

fn dmarc_finding(output: &DmarcOutput) -> Finding {
    let result = match output.result() {
        DmarcResult::Pass => "pass",
        DmarcResult::Fail(_) => "fail",
        DmarcResult::TempError(_) => "temperror",
        DmarcResult::PermError(_) => "permerror",
        DmarcResult::None => "none",
    };
    let policy = match output.policy() {
        Policy::Reject => Some("p=reject"),
        Policy::Quarantine => Some("p=quarantine"),
        Policy::None => Some("p=none"),
        Policy::Unspecified => None,
    };
    Finding {
        method: "dmarc",
        result,
        domain: Some(output.domain().to_string()).filter(|domain| !domain.is_empty()),
        property: "header.from",
        selector: None,
        detail: policy.filter(|_| result != "none").map(str::to_string),
    }
}

fn library_result(result: SpfResult) -> mail_auth::SpfResult {
    match result {
        SpfResult::None => mail_auth::SpfResult::None,
        SpfResult::Neutral => mail_auth::SpfResult::Neutral,
        SpfResult::Pass => mail_auth::SpfResult::Pass,
        SpfResult::Fail => mail_auth::SpfResult::Fail,
        SpfResult::SoftFail => mail_auth::SpfResult::SoftFail,
        SpfResult::TempError => mail_auth::SpfResult::TempError,
        SpfResult::PermError => mail_auth::SpfResult::PermError,
    }
}

#[cfg(test)]
mod tests;
