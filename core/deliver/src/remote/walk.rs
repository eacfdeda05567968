//! From host to host: which one is tried next, and what an attempt has come to so far.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use waypost_net::Stream;
use waypost_resolve::{Applied, Hop, Plan, mta_sts};
use waypost_smtp::client::{Client, Failure, Options as ClientOptions};
use waypost_types::{Enhanced, Reply, Security};

use super::line::{Key, Line};
use super::security::{demanded, tls_use};
use crate::courier::Shared;
use crate::tls_report::{self, Fault};

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
pub(crate) async fn open(
    shared: &Shared,
    hop: &Hop,
    address: IpAddr,
    wish: Wish,
    applied: Option<&Arc<Applied>>,
) -> Result<Line, Setback> {
    let security = demanded(&hop.security, wish.require_tls);
    let peer = SocketAddr::new(address, hop.port);
    let secret = shared.options.credentials.contains_key(&hop.host);
    let may_fall_back = security == Security::Opportunistic && !secret;
    let known = may_fall_back && shared.broken.is_known(peer, Instant::now());
    let mut way = Dial { shared, hop, peer, security: &security, wish, applied, fallback: known, classic: false };
    let mut outcome = way.dial().await;
    if let Err((_, Handshake::Stalled)) = outcome {
        // Perhaps something on the way swallows first messages of more than one packet, as those with a post-quantum key are.
        way.classic = true;
        outcome = way.dial().await;
    }
    match outcome {
        Err((setback, Handshake::Failed | Handshake::Stalled)) if may_fall_back => {
            shared.broken.note(peer, Instant::now());
            if !wish.later {
                return Err(setback);
            }
            way.fallback = true;
            way.dial().await.map_err(|(setback, _)| setback)
        }
        other => other.map_err(|(setback, _)| setback),
    }
}

/// Whether it was the handshake that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    /// It was something else.
    Untouched,
    Failed,
    /// Without a word.
    Stalled,
}

/// How one connection is made.
struct Dial<'a> {
    shared: &'a Shared,
    hop: &'a Hop,
    peer: SocketAddr,
    security: &'a Security,
    wish: Wish,
    applied: Option<&'a Arc<Applied>>,
    /// TLS is known to be broken there and not tried.
    fallback: bool,
    /// A short first message: no post-quantum key.
    classic: bool,
}

impl Dial<'_> {
    async fn dial(&self) -> Result<Line, (Setback, Handshake)> {
        let Dial { shared, hop, security, .. } = *self;
        let options = &shared.options;
        let untouched = |reply| (self.setback(reply, true, security.word()), Handshake::Untouched);
        let source = self.source().map_err(untouched)?;
        let connected = match is_socket(hop) {
            true => waypost_net::connect_socket(&hop.host, options.connect_timeout).await.map(boxed),
            false => self.connect(source).await.map(boxed),
        };
        let stream = connected.map_err(|error| untouched(Reply::new(451, Enhanced(4, 4, 1), error.to_string())))?;
        let mut line = self.line(stream);
        let tls = if self.classic { &shared.classic_tls } else { &shared.services.tls };
        let greeted = line.greet(tls, self.wish.until).await;
        self.tell(&line, source, greeted.as_ref().err());
        match greeted {
            Ok(()) => Ok(line),
            Err((Failure { reply, try_next, .. }, failed)) => {
                let setback = self.setback(reply, try_next, &line.security);
                let handshake = match (failed, line.stalled && !self.classic) {
                    (false, _) => Handshake::Untouched,
                    (true, false) => Handshake::Failed,
                    (true, true) => Handshake::Stalled,
                };
                line.quit().await;
                Err((setback, handshake))
            }
        }
    }

    /// To the peer, or through what stands between.
    async fn connect(&self, source: Option<IpAddr>) -> std::io::Result<tokio::net::TcpStream> {
        let options = &self.shared.options;
        match self.wish.source.and_then(|at| options.sources.get(at).egress) {
            Some(egress) => waypost_net::connect_through(egress, self.peer, source, options.connect_timeout).await,
            None => waypost_net::connect(self.peer, source, options.connect_timeout).await,
        }
    }

    fn setback(&self, reply: Reply, try_next: bool, security: &str) -> Setback {
        Setback { reply, target: target(self.hop, self.peer), security: security.to_string(), try_next }
    }

    /// Where it leaves from.
    fn source(&self) -> Result<Option<IpAddr>, Reply> {
        let (options, peer) = (&self.shared.options, self.peer);
        match self.wish.source.map(|at| options.sources.get(at)) {
            // The address is the proxy's business where a proxy chooses it.
            Some(source) if source.egress.is_some() => Ok(source.towards(peer.ip())),
            Some(source) => source.towards(peer.ip()).map(Some).ok_or_else(|| {
                let text = format!("source {} has no address to reach {peer} from", source.name);
                Reply::new(451, Enhanced(4, 4, 4), text)
            }),
            None if peer.is_ipv4() => Ok(options.source_v4),
            None => Ok(options.source_v6),
        }
    }

    fn line(&self, stream: Box<dyn Stream>) -> Line {
        let Dial { shared, hop, peer, security, wish, .. } = *self;
        let options = &shared.options;
        let pooled = wish.source.map(|at| options.sources.get(at));
        let client = Client::new(
            ClientOptions {
                name: pooled.map_or_else(|| options.name.clone(), |source| source.name.clone()),
                lmtp: wish.lmtp,
                tls: tls_use(security, self.fallback),
                credentials: options.credentials.get(&hop.host).cloned(),
                loopback: peer.ip().is_loopback(),
                // At another port there may well be another server of the same name: a filter, a sink.
                detect_loop: hop.port == 25 && !wish.lmtp,
                timeout_divisor: options.timeout_divisor,
            },
            Instant::now(),
        );
        let host = hop.host.clone();
        let key = Key { host, address: peer, security: security.clone(), lmtp: wish.lmtp, source: wish.source };
        let mut line = Line::new(key, target(hop, peer).into(), stream, client, options.timeout_divisor);
        line.looks = *security == Security::Opportunistic && self.tested().is_some();
        line
    }

    /// The MTA-STS policy that is being tested, if there is one and somebody is told.
    fn tested(&self) -> Option<&mta_sts::Policy> {
        self.shared.options.tls_sessions.as_ref()?;
        self.applied?.sts.as_deref().filter(|policy| policy.mode == mta_sts::Mode::Testing)
    }

    /// Tells what became of TLS, for the reports.
    fn tell(&self, line: &Line, source: Option<IpAddr>, failed: Option<&(Failure, bool)>) {
        let missing = || Some((Fault::StarttlsNotSupported, String::new()));
        let elsewhere = |policy: &&mta_sts::Policy| !policy.allows(&self.hop.host);
        let fault = match failed {
            _ if self.fallback || self.applied.is_none() => return,
            Some((_, true)) => line.fault.clone(),
            // Anything else that went wrong before TLS came up says nothing about it.
            Some((failure, false)) if !failure.is_without_starttls() => return,
            Some(_) => missing(),
            None if !line.encrypted => missing(),
            None => self
                .tested()
                .filter(elsewhere)
                .map(|_| (Fault::ValidationFailure, "the host is not among those of the policy".to_string()))
                .or_else(|| line.fault.clone()),
        };
        let sessions = self.shared.options.tls_sessions.as_ref();
        tls_report::tell(sessions, self.applied, self.security, &self.hop.host, (self.peer.ip(), source), fault);
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
            applied: None,
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
