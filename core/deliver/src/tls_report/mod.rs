//! TLS reports (RFC 8460): what became of TLS towards each domain, counted by day, kept on disk, told to whoever asks for it.
//!
//! | page | what it holds |
//! |---|---|
//! | this | [`Session`]: one connection's outcome, as the carrier sees it; [`Fault`]: the result types of §4.3 |
//! | [`ledger`] | [`Ledger`]: the counters by policy domain and UTC day, bounded, on disk |
//! | [`document`] | the JSON of §4.4, and the message of §5.3 that carries it |
//!
//! It leaves to the daemon when a day's reports go out, whom DNS names for them, and the signature.

pub mod document;
pub mod ledger;

use std::net::IpAddr;
use std::sync::Arc;

use waypost_resolve::Applied;
use waypost_resolve::mta_sts::{FetchFault, Mode};
use waypost_types::{Domain, Security, Tlsa};

pub use ledger::{Key, Ledger, Policy};

/// What went wrong: the result types of RFC 8460 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The host does not offer STARTTLS.
    StarttlsNotSupported,
    /// The certificate bears another name.
    CertificateHostMismatch,
    /// It has expired.
    CertificateExpired,
    /// Nobody whom we trust vouches for it.
    CertificateNotTrusted,
    /// Anything else that failed.
    ValidationFailure,
    /// No TLSA record fits what the host shows.
    TlsaInvalid,
    /// DNSSEC did not validate.
    DnssecInvalid,
    /// The MTA-STS policy could not be had.
    StsPolicyFetchError,
    /// It was there and could not be read.
    StsPolicyInvalid,
    /// The policy host's certificate is no good.
    StsWebpkiInvalid,
}

/// All of them with their words in reports.
const FAULTS: [(Fault, &str); 10] = [
    (Fault::StarttlsNotSupported, "starttls-not-supported"),
    (Fault::CertificateHostMismatch, "certificate-host-mismatch"),
    (Fault::CertificateExpired, "certificate-expired"),
    (Fault::CertificateNotTrusted, "certificate-not-trusted"),
    (Fault::ValidationFailure, "validation-failure"),
    (Fault::TlsaInvalid, "tlsa-invalid"),
    (Fault::DnssecInvalid, "dnssec-invalid"),
    (Fault::StsPolicyFetchError, "sts-policy-fetch-error"),
    (Fault::StsPolicyInvalid, "sts-policy-invalid"),
    (Fault::StsWebpkiInvalid, "sts-webpki-invalid"),
];

impl Fault {
    /// The word of a report.
    pub fn word(self) -> &'static str {
        FAULTS.iter().find(|(fault, _)| *fault == self).expect("all faults are listed").1
    }

    /// The other way round.
    pub fn from_word(word: &str) -> Option<Fault> {
        FAULTS.iter().find(|(_, known)| *known == word).map(|(fault, _)| *fault)
    }

    /// What a failed handshake means.
    pub fn of_handshake(error: &std::io::Error, security: &Security) -> Fault {
        use waypost_net::CertificateFault as Shown;
        let dane = matches!(security, Security::Dane(_));
        match waypost_net::certificate_fault(error) {
            Some(Shown::Name) => Fault::CertificateHostMismatch,
            Some(Shown::Expired) => Fault::CertificateExpired,
            Some(_) if dane => Fault::TlsaInvalid,
            Some(Shown::Untrusted) => Fault::CertificateNotTrusted,
            Some(Shown::Other) | None => Fault::ValidationFailure,
        }
    }
}

impl From<FetchFault> for Fault {
    fn from(fault: FetchFault) -> Fault {
        match fault {
            FetchFault::Fetch => Fault::StsPolicyFetchError,
            FetchFault::Invalid => Fault::StsPolicyInvalid,
            FetchFault::Certificate => Fault::StsWebpkiInvalid,
        }
    }
}

/// What was tried and how it ended.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose policy it follows: the recipients' domain.
    pub domain: Domain,
    /// By whose word.
    pub policy: Policy,
    /// The host.
    pub host: String,
    /// Its address; `None` if it did not come to a connection.
    pub receiving: Option<IpAddr>,
    /// Ours.
    pub sending: Option<IpAddr>,
    /// `None`: TLS as the policy wants it.
    pub fault: Option<(Fault, String)>,
}

/// Whoever counts sessions. Called once for each connection: must not block.
pub type Sessions = dyn Fn(Session) + Send + Sync;

/// The policy under which a hop is reached, in the words of a report.
pub(crate) fn policy(applied: &Applied, security: &Security) -> Policy {
    if let Security::Dane(records) = security {
        return Policy { kind: "tlsa", strings: records.iter().map(tlsa).collect(), hosts: Vec::new() };
    }
    match applied.sts.as_deref() {
        Some(sts) if sts.mode != Mode::None => Policy { kind: "sts", strings: sts.lines(), hosts: sts.hosts.clone() },
        _ => Policy { kind: "no-policy-found", strings: Vec::new(), hosts: Vec::new() },
    }
}

fn tlsa(record: &Tlsa) -> String {
    let hex: String = record.data.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} {} {} {hex}", record.usage, record.selector, record.matching)
}

/// Tells of one session, if anybody listens and it follows the policy of a domain.
pub(crate) fn tell(
    sessions: Option<&Arc<Sessions>>,
    applied: Option<&Arc<Applied>>,
    security: &Security,
    host: &str,
    (receiving, sending): (IpAddr, Option<IpAddr>),
    fault: Option<(Fault, String)>,
) {
    let (Some(sessions), Some(applied)) = (sessions, applied) else { return };
    sessions(Session {
        domain: applied.domain.clone(),
        policy: policy(applied, security),
        host: host.to_string(),
        receiving: Some(receiving),
        sending,
        fault,
    });
}
