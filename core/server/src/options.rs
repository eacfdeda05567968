//! What the server is given: its doors, the rules of each, and the services that it leans on.
//!
//! Nothing here knows a configuration file. `daemon/assemble` fills these values, and fills [`Rules`] again on reload.

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use ipnet::IpNet;
use waypost_mailauth::Verifier;
use waypost_net::ServerTls;
use waypost_queue::bounce::Table;
use waypost_queue::suppress::{Sent, Suppression};
use waypost_queue::{Handoff, Store};
use waypost_route::{Router, Verp};
use waypost_smtp::extension::{Extension, ExtensionSet};
use waypost_smtp::server::{Policy, TlsMode};
use waypost_types::checks::Actions;
use waypost_types::login::Authenticator;
use waypost_types::port::Dns;
use waypost_types::{Judge, Observer, Transport, limits};

pub use crate::admission::Prefix;
use crate::check::access::Access;
use crate::check::sender::ExtraSenders;
use crate::decide::{self, Decisions};
pub use crate::greylist::{Greylist, Sender};
use crate::intake::QUARANTINE;

/// One door: a name for the log and for reloads, the sockets behind it, and its first rules.
pub struct Listener {
    /// Its name in the configuration.
    pub name: Box<str>,
    /// Bound and listening (`waypost_net::listen::bind`), so that privileges can be dropped before the server starts.
    pub sockets: Vec<TcpListener>,
    /// What it allows.
    pub rules: Rules,
}

/// What is done with mail whose author's domain does not stand behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DmarcMode {
    /// It is said in `Authentication-Results` and to judges.
    #[default]
    Report,
    /// What the domain's policy demands: `550` for reject, a mark in the header for quarantine.
    Enforce,
    /// The same, and quarantine means that the message is held until an operator releases it.
    EnforceAndHold,
}

/// What a door allows. Swapped whole on reload; a session keeps the rules that it began with.
#[derive(Clone)]
pub struct Rules {
    /// The protocol's rules; the kind of door and whether it begins with TLS stand there.
    pub policy: Arc<Policy>,
    /// Certificates; without them STARTTLS must not be offered by `policy`.
    pub tls: Option<ServerTls>,
    /// Clients that may relay to anywhere without logging in, whose names are not looked up and whose mail is not put to
    /// mail authentication. Empty on doors to the world.
    pub relay_networks: Arc<[IpNet]>,
    /// Whether users who have logged in may relay to anywhere.
    pub relay_users: bool,
    /// If set, users who have logged in send only as themselves, or as this table says.
    pub senders: Option<Arc<ExtraSenders>>,
    /// Whether SPF, DKIM and DMARC are checked for clients that are neither logged in nor in `relay_networks`.
    pub authenticate_mail: bool,
    /// What DMARC's verdicts lead to where they are made.
    pub dmarc: DmarcMode,
    /// Whether missing `Date` and `Message-ID` fields are added (RFC 6409 §8). For doors of users and of our own hosts.
    pub complete_headers: bool,
    /// Header fields that only we may write: removed from what arrives, by name in any case, before any plugin sees it.
    /// `Authentication-Results` of our own name is always removed.
    pub reserved_headers: Arc<[Box<str>]>,
    /// Who is asked at this door. A judge that wants no stage costs nothing.
    pub judge: Arc<dyn Judge>,
    /// What becomes of the built-in checks.
    pub checks: Arc<Actions>,
    /// Tables that say more about clients, names, senders and recipients.
    pub access: Arc<Access>,
    /// The characters that begin an extension (`user+extension`), for access tables.
    pub separators: Arc<str>,
    /// Sessions at this door.
    pub sessions_max: usize,
    /// Sessions from one client network at this door.
    pub sessions_per_address_max: u32,
    /// What a client may do in a minute.
    pub rates: Rates,
    /// What a client network is, for the two above.
    pub prefix: Prefix,
    /// Connections run short when this much of `sessions_max` is in use, in percent: then clients get less time and may make
    /// fewer mistakes. 100: never.
    pub pressed_percent: u8,
    /// Balancers that say by the PROXY protocol who their client is. They must, and nobody else may.
    pub balancers: Arc<[IpNet]>,
    /// Hosts that may use XCLIENT and XFORWARD: they can be anybody.
    pub proxies: Arc<[IpNet]>,
    /// Extensions that are not offered to clients of a network.
    pub masks: Arc<[(IpNet, ExtensionSet)]>,
    /// Whether strangers are asked to come back.
    pub greylist: Option<Greylist>,
    /// What follows from the facts that judges state.
    pub decisions: Arc<Decisions>,
}

/// How much a client network may do in a minute; zero is no limit. Own hosts are not counted, nor is what logged-in users send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Connections.
    pub connections: u32,
    /// Messages: MAIL.
    pub messages: u32,
    /// Recipients that are accepted.
    pub recipients: u32,
}

impl Rules {
    /// Rules with the defaults of the policy's kind of door: nobody relays but users on submission doors, mail is authenticated
    /// on `mx` doors.
    pub fn new(policy: Arc<Policy>, judge: Arc<dyn Judge>) -> Rules {
        let transport = policy.transport;
        let submission = matches!(transport, Transport::Submission | Transport::Submissions);
        Rules {
            policy,
            tls: None,
            relay_networks: Arc::from([]),
            relay_users: submission,
            senders: submission.then(Arc::default),
            authenticate_mail: transport == Transport::Mx,
            dmarc: DmarcMode::Report,
            complete_headers: submission,
            reserved_headers: [QUARANTINE, decide::FIELD, "X-Spam-Score", "X-Spam-Status", "X-Spam-Flag"]
                .map(Box::<str>::from)
                .into(),
            judge,
            checks: Arc::new(Actions::preset(transport)),
            access: Arc::default(),
            separators: "+".into(),
            sessions_max: 20_000,
            sessions_per_address_max: 50,
            rates: Rates::default(),
            prefix: Prefix::default(),
            pressed_percent: 90,
            balancers: Arc::from([]),
            proxies: Arc::from([]),
            masks: Arc::from([]),
            greylist: None,
            decisions: Arc::default(),
        }
    }

    /// Whether TLS comes before the greeting (RFC 8314).
    pub(crate) fn begins_with_tls(&self) -> bool {
        self.policy.tls == TlsMode::Implicit
    }

    /// Whether this client is one of our own hosts.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        holds(&self.relay_networks, peer)
    }

    /// Whether this connection begins with a PROXY header.
    pub(crate) fn is_balancer(&self, peer: IpAddr) -> bool {
        holds(&self.balancers, peer)
    }

    /// Whether this host may speak for others.
    pub(crate) fn is_proxy(&self, peer: IpAddr) -> bool {
        holds(&self.proxies, peer)
    }

    /// What is offered to a client.
    pub(crate) fn extensions(&self, peer: IpAddr, is_proxy: bool) -> ExtensionSet {
        let masks = self.masks.iter().filter(|(network, _)| network.contains(&peer));
        let offered = masks.fold(self.policy.extensions, |offered, (_, mask)| offered.minus(*mask));
        if is_proxy { offered.with(Extension::XClient).with(Extension::XForward) } else { offered }
    }

    /// How many sessions at this door mean that connections run short.
    pub(crate) fn pressed_at(&self) -> usize {
        match self.pressed_percent {
            100.. => usize::MAX,
            percent => (self.sessions_max / 100).saturating_mul(usize::from(percent)).max(1),
        }
    }
}

fn holds(networks: &[IpNet], peer: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&peer))
}

/// What holds for all doors.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our name: in `Received` and in generated `Message-ID`s.
    pub hostname: Arc<str>,
    /// Our name in `Authentication-Results` (RFC 8601 §2.5); usually the host name.
    pub authserv_id: Arc<str>,
    /// How long a message is tried.
    pub lifetime: Duration,
    /// Octets of messages that all sessions together may hold while receiving; beyond it mail is answered with 452.
    pub intake_bytes_max: usize,
    /// Files that are left to the rest of the program (queue, deliveries): new clients are told to come back later when all
    /// doors together hold this many sessions. `None`: no common bound.
    pub sessions_max: Option<usize>,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// `Received` fields before a message counts as looping.
    pub hops_max: usize,
    /// How long a session waits for the client's name.
    pub name_timeout: Duration,
    /// What is done with what others tell us of our mail.
    pub bounces: Bounces,
}

/// Bounces and complaints, and what they lead to.
#[derive(Clone, Debug, Default)]
pub struct Bounces {
    /// Reports that come in are read, and judged by this table.
    pub table: Option<Table>,
    /// Addresses of ours that only true bounces come to.
    pub verp: Option<Verp>,
    /// What was sent lately.
    pub sent: Option<Sent>,
    /// Who is not written to any more.
    pub suppression: Option<Suppression>,
}

impl Options {
    /// The defaults for a host of this name.
    pub fn new(hostname: &str) -> Options {
        Options {
            hostname: hostname.into(),
            authserv_id: hostname.into(),
            lifetime: limits::LIFETIME,
            intake_bytes_max: 512 * 1024 * 1024,
            sessions_max: None,
            handshake_timeout: Duration::from_secs(30),
            hops_max: limits::HOPS_MAX,
            name_timeout: Duration::from_secs(3),
            bounces: Bounces::default(),
        }
    }
}

/// What the server leans on.
#[derive(Clone)]
pub struct Services {
    /// Where messages go before they are acknowledged.
    pub store: Arc<dyn Store>,
    /// Where fresh claims go after that.
    pub handoff: Arc<dyn Handoff>,
    /// Where addresses lead. Shared with delivery and swapped whole on reload.
    pub router: Arc<ArcSwap<Router>>,
    /// Who knows passwords. `None`: AUTH is answered with 454, whatever the policy offers.
    pub credentials: Option<Arc<dyn Authenticator>>,
    /// SPF, DKIM, DMARC and ARC. `None`: nothing is checked on any door. Swapped whole on reload.
    pub verifier: Arc<ArcSwapOption<Verifier>>,
    /// For clients' names.
    pub dns: Arc<dyn Dns>,
    /// Who hears what happens.
    pub observer: Arc<dyn Observer>,
}
