//! How a connection to another host must be secured, and by whose word.

use std::sync::Arc;

/// A TLSA record, RFC 6698 §2.1, of a usage that mail knows (RFC 7672 §3.1: 2 and 3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// 2: trust anchor, 3: end entity.
    pub usage: u8,
    /// 0: certificate, 1: public key.
    pub selector: u8,
    /// 0: whole, 1: SHA-256, 2: SHA-512.
    pub matching: u8,
    /// What must match.
    pub data: Vec<u8>,
}

/// What a hop demands. Ordered by strength only in prose: DANE wins over MTA-STS, and both over opportunism.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Security {
    /// Plaintext, TLS never tried: local sockets, or the operator's rule.
    Plain,
    /// STARTTLS if offered, any certificate; plaintext otherwise (RFC 7435).
    #[default]
    Opportunistic,
    /// TLS or nothing, certificate not checked: TLSA records exist but none is usable (RFC 7672 §2.2), or the operator's rule.
    Encrypted,
    /// TLS or nothing, and one of these records must match (RFC 7672).
    Dane(Arc<[Tlsa]>),
    /// TLS or nothing, with a chain to a public root and the host's name: MTA-STS (RFC 8461), or the operator's rule.
    Verified,
}

impl Security {
    /// Whether the message may leave without TLS.
    pub fn allows_plaintext(&self) -> bool {
        matches!(self, Security::Plain | Security::Opportunistic)
    }

    /// One word for logs.
    pub fn word(&self) -> &'static str {
        match self {
            Security::Plain => "plain",
            Security::Opportunistic => "opportunistic",
            Security::Encrypted => "encrypted",
            Security::Dane(_) => "dane",
            Security::Verified => "verified",
        }
    }
}
