//! The client's forward-confirmed name (RFC 8601 §2.7.3): looked up beside the session, so that nobody waits for it who does not need it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::shared::Shared;

/// The client's forward-confirmed name. Looked up beside the session from its start, so that by the time somebody wants it, it is there.
pub(crate) enum PeerName {
    /// Being looked up since.
    Asked(Lookup, Instant),
    /// Nobody waits for it any more; it is taken if it comes.
    Late(Lookup),
    /// Known, or not to be known.
    Settled,
}

impl PeerName {
    pub(crate) fn ask(shared: &Arc<Shared>, peer: IpAddr) -> PeerName {
        // Names of our own loopback say nothing.
        if peer.is_loopback() {
            return PeerName::Settled;
        }
        let dns = shared.services.dns.clone();
        let patience = shared.options.name_timeout * 4;
        let lookup = async move {
            let name = timeout(patience, dns.confirmed_name(peer)).await;
            name.ok()?.ok()?.map(|name| name.as_str().into())
        };
        PeerName::Asked(Lookup(tokio::spawn(lookup)), Instant::now())
    }

    /// Whether nothing more is to be learned.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self, PeerName::Settled)
    }

    /// The name, if it has become known with this call.
    pub(crate) async fn settle(&mut self, patience: Duration) -> Option<Arc<str>> {
        match std::mem::replace(self, PeerName::Settled) {
            PeerName::Settled => None,
            PeerName::Asked(mut lookup, since) => {
                let left = patience.saturating_sub(since.elapsed());
                match timeout(left, &mut lookup.0).await {
                    Ok(name) => name.ok().flatten(),
                    Err(_) => {
                        *self = PeerName::Late(lookup);
                        None
                    }
                }
            }
            PeerName::Late(mut lookup) if lookup.0.is_finished() => (&mut lookup.0).await.ok().flatten(),
            PeerName::Late(lookup) => {
                *self = PeerName::Late(lookup);
                None
            }
        }
    }
}

/// A lookup that ends with whoever wanted it.
pub(crate) struct Lookup(JoinHandle<Option<Arc<str>>>);

impl Drop for Lookup {
    fn drop(&mut self) {
        self.0.abort();
    }
}
