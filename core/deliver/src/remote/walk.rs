//! From host to host: which one is tried next, and what an attempt has come to so far.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use waypost_net::Stream;
use waypost_resolve::{Hop, Plan};
use waypost_smtp::client::{Client, Failure, Options as ClientOptions};
use waypost_types::{Enhanced, Reply, Security};

use super::line::{Key, Line};
use super::security::{demanded, tls_use};
use crate::courier::Shared;

/// The addresses of a plan, best host first, at most so many.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    plan: &'a Plan,
    hop: usize,
    address: usize,
    left: u32,
    skip: Option<SocketAddr>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(plan: &'a Plan, addresses_max: u32) -> Walk<'a> {
        Walk { plan, hop: 0, address: 0, left: addresses_max.max(1), skip: None }
    }

    /// The next one to try.
    pub(crate) fn next(&mut self) -> Option<(&'a Hop, IpAddr)> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let hop = self.plan.hops.get(self.hop)?;
            let Some(address) = hop.addresses.get(self.address) else {
                (self.hop, self.address) = (self.hop + 1, 0);
                continue;
            };
            self.address += 1;
            if self.skip != Some(SocketAddr::new(*address, hop.port)) {
                return Some((hop, *address));
            }
        }
    }

    /// This one has been asked already, over a connection that was there.
    pub(crate) fn skip(&mut self, address: SocketAddr) {
        self.skip = Some(address);
    }

    /// No more than `count` further ones.
    pub(crate) fn limit(&mut self, count: u32) {
        self.left = self.left.min(count);
    }

    /// Whether there is another one.
    pub(crate) fn has_next(&self) -> bool {
        let rest = self.plan.hops.iter().skip(self.hop).map(|hop| hop.addresses.len()).sum::<usize>();
        self.left > 0 && rest > self.address
    }
}

/// Why there was no transaction, so far.
#[derive(Debug)]
pub(crate) struct Setback {
    pub(crate) reply: Reply,
    pub(crate) target: String,
    pub(crate) security: String,
    /// Another host may do better.
    pub(crate) try_next: bool,
}

/// What an errand asks of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) lmtp: bool,
    pub(crate) require_tls: bool,
    /// All recipients have been tried before: a peer with broken TLS may get them in the clear, where policy allows that.
    pub(crate) later: bool,
    /// When it must be over.
    pub(crate) until: Instant,
    /// Which of the pool it leaves from.
    pub(crate) source: Option<usize>,
}

/// Connects to one address and gets ready for transactions.
pub(crate) async fn open(shared: &Shared, hop: &Hop, address: IpAddr, wish: Wish) -> Result<Line, Setback> {
    let security = demanded(&hop.security, wish.require_tls);
    let peer = SocketAddr::new(address, hop.port);
    let secret = shared.options.credentials.contains_key(&hop.host);
    let may_fall_back = security == Security::Opportunistic && !secret;
    let known = may_fall_back && shared.broken.is_known(peer, Instant::now());
    match dial(shared, hop, peer, &security, wish, known).await {
        Err((setback, true)) if may_fall_back => {
            shared.broken.note(peer, Instant::now());
            if !wish.later {
                return Err(setback);
            }
            dial(shared, hop, peer, &security, wish, true).await.map_err(|(setback, _)| setback)
        }
        other => other.map_err(|(setback, _)| setback),
    }
}

/// One connection; the flag of an error tells whether it was the handshake that failed.
async fn dial(
    shared: &Shared,
    hop: &Hop,
    peer: SocketAddr,
    security: &Security,
    wish: Wish,
    fallback: bool,
) -> Result<Line, (Setback, bool)> {
    let options = &shared.options;
    let target = target(hop, peer);
    let setback = |reply, try_next, security: &str| Setback {
        reply,
        target: target.clone(),
        security: security.to_string(),
        try_next,
    };
    let pooled = wish.source.map(|at| options.sources.get(at));
    let source = match pooled {
        Some(source) => Some(source.towards(peer.ip()).ok_or_else(|| {
            let text = format!("source {} has no address to reach {peer} from", source.name);
            (setback(Reply::new(451, Enhanced(4, 4, 4), text), true, security.word()), false)
        })?),
        None if peer.is_ipv4() => options.source_v4,
        None => options.source_v6,
    };
    let connected = match is_socket(hop) {
        true => waypost_net::connect_socket(&hop.host, options.connect_timeout).await.map(boxed),
        false => waypost_net::connect(peer, source, options.connect_timeout).await.map(boxed),
    };
    let stream = connected.map_err(|error| {
        (setback(Reply::new(451, Enhanced(4, 4, 1), error.to_string()), true, security.word()), false)
    })?;
    let client = Client::new(
        ClientOptions {
            name: pooled.map_or_else(|| options.name.clone(), |source| source.name.clone()),
            lmtp: wish.lmtp,
            tls: tls_use(security, fallback),
            credentials: options.credentials.get(&hop.host).cloned(),
            loopback: peer.ip().is_loopback(),
            // At another port there may well be another server of the same name: a filter, a sink.
            detect_loop: hop.port == 25 && !wish.lmtp,
            timeout_divisor: options.timeout_divisor,
        },
        Instant::now(),
    );
    let key =
        Key { host: hop.host.clone(), address: peer, security: security.clone(), lmtp: wish.lmtp, source: wish.source };
    let mut line = Line::new(key, target.as_str().into(), stream, client, options.timeout_divisor);
    match line.greet(&shared.services.tls, wish.until).await {
        Ok(()) => Ok(line),
        Err((Failure { reply, try_next, .. }, handshake)) => {
            let setback = setback(reply, try_next, &line.security);
            line.quit().await;
            Err((setback, handshake))
        }
    }
}

fn boxed(stream: impl Stream) -> Box<dyn Stream> {
    Box::new(stream)
}

/// A unix socket stands at no address; its path is its name.
fn is_socket(hop: &Hop) -> bool {
    hop.host.starts_with('/')
}

fn target(hop: &Hop, peer: SocketAddr) -> String {
    if is_socket(hop) {
        return hop.host.clone();
    }
    let (ip, port) = (peer.ip(), peer.port());
    match hop.host.parse::<IpAddr>() {
        Ok(_) => format!("[{ip}]:{port}"),
        Err(_) => format!("{}[{ip}]:{port}", hop.host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(host: &str, addresses: &[&str]) -> Hop {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Hop { host: host.into(), addresses, port: 25, security: Security::Opportunistic }
    }

    #[test]
    fn hosts_come_in_order_and_not_too_many() {
        let plan = Plan {
            hops: vec![hop("a", &["192.0.2.1", "192.0.2.2"]), hop("b", &["192.0.2.3"]), hop("c", &["192.0.2.4"])],
            provider: "p".into(),
        };
        let mut walk = Walk::new(&plan, 3);
        let mut seen = Vec::new();
        while walk.has_next() {
            let (hop, address) = walk.next().unwrap();
            seen.push(format!("{} {address}", hop.host));
        }
        assert_eq!(seen, ["a 192.0.2.1", "a 192.0.2.2", "b 192.0.2.3"]);
        assert!(walk.next().is_none());
        let mut walk = Walk::new(&plan, 9);
        walk.limit(1);
        assert!(walk.next().is_some() && !walk.has_next() && walk.next().is_none());
        let mut walk = Walk::new(&plan, 9);
        assert_eq!(std::iter::from_fn(|| walk.next()).count(), 4);
        assert!(!walk.has_next());
    }

    #[test]
    fn targets_read_well() {
        let peer = "192.0.2.1:25".parse().unwrap();
        assert_eq!(target(&hop("mx.test", &[]), peer), "mx.test[192.0.2.1]:25");
        assert_eq!(target(&hop("192.0.2.1", &[]), peer), "[192.0.2.1]:25");
    }
}
