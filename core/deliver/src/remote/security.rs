//! How a hop is secured in practice: what the policy asks, what the message asks, and what is known about the peer.
//!
//! A peer whose TLS is broken gets mail in the clear only where policy allows plaintext at all, only when no password is at stake, and only
//! on a later attempt or when it has been known to be broken for a while (Postfix's `PLAINTEXT_FALLBACK_OK_LATER_DELIVERY`): an attacker
//! who can break one handshake does not get the message with the next packet.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use waypost_smtp::client::TlsUse;
use waypost_types::Security;

/// What a hop must have when the sender asked for REQUIRETLS (RFC 8689 §4.2.1): a name or a record that is checked.
pub(crate) fn demanded(hop: &Security, require_tls: bool) -> Security {
    match hop {
        Security::Opportunistic | Security::Encrypted if require_tls => Security::Verified,
        other => other.clone(),
    }
}

/// How TLS comes up.
pub(crate) fn tls_use(security: &Security, fallback: bool) -> TlsUse {
    match security {
        Security::Plain => TlsUse::Never,
        Security::Opportunistic if fallback => TlsUse::Never,
        Security::Opportunistic => TlsUse::Opportunistic,
        Security::Encrypted | Security::Dane(_) | Security::Verified => TlsUse::Required,
    }
}

/// Before mail goes in the clear to a peer whose handshake has failed.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long it is remembered; then TLS gets another chance.
const MEMORY: Duration = Duration::from_secs(6 * 3600);
/// Peers remembered at once.
const BROKEN_MAX: usize = 10_000;

/// Peers whose opportunistic handshake has failed.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    since: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Broken {
    /// The handshake has failed now.
    pub(crate) fn note(&self, peer: SocketAddr, now: Instant) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.len() >= BROKEN_MAX {
            since.retain(|_, since| now.saturating_duration_since(*since) < MEMORY);
        }
        if since.len() < BROKEN_MAX {
            since.entry(peer).or_insert(now);
        }
    }

    /// Whether it has been known long enough that TLS need not be tried.
    pub(crate) fn is_known(&self, peer: SocketAddr, now: Instant) -> bool {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(age) = since.get(&peer).map(|since| now.saturating_duration_since(*since)) else { return false };
        if age >= MEMORY {
            since.remove(&peer);
        }
        (PATIENCE..MEMORY).contains(&age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_peer_is_believed_after_a_while_and_forgiven_after_a_longer_one() {
        let (broken, start) = (Broken::default(), Instant::now());
        let peer: SocketAddr = "192.0.2.1:25".parse().unwrap();
        broken.note(peer, start);
        broken.note(peer, start + PATIENCE / 2);
        assert!(!broken.is_known(peer, start));
        assert!(broken.is_known(peer, start + PATIENCE));
        assert!(!broken.is_known(peer, start + MEMORY));
        assert!(!broken.is_known(peer, start + PATIENCE), "it was forgotten");
    }

    #[test]
    fn only_opportunism_ever_falls_back() {
        assert_eq!(tls_use(&Security::Opportunistic, true), TlsUse::Never);
        for security in [Security::Encrypted, Security::Verified, Security::Dane([].into())] {
            assert_eq!(tls_use(&security, true), TlsUse::Required);
            assert_eq!(demanded(&security, false), security);
        }
        assert_eq!(demanded(&Security::Opportunistic, true), Security::Verified);
        assert_eq!(demanded(&Security::Opportunistic, false), Security::Opportunistic);
    }
}
