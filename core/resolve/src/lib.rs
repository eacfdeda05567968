//! From a domain to the hosts that take its mail (floor 2): wraps hickory.

use std::net::IpAddr;
use std::sync::Arc;

use waypost_route::NextHop;
use waypost_types::{Reply, Security};

/// One host to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its name, for SNI and the log.
    pub host: String,
    /// Its addresses, in the order in which to try them.
    pub addresses: Vec<IpAddr>,
    /// Port.
    pub port: u16,
    /// How it must be secured.
    pub security: Security,
}

/// The hosts for a next hop, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Never empty.
    pub hops: Vec<Hop>,
    /// Names the group of hosts: domains that share it share budgets and connections.
    pub provider: Arc<str>,
}

/// A resolver with cache and DNSSEC validation. Also the server's `types::port::Dns`.
#[derive(Clone)]
pub struct Resolver {}

#[allow(unused_variables)]
impl Resolver {
    /// The hosts for a next hop; an error is the reply to settle the recipients with (4yz: later, 5yz: never).
    /// `own` tells which host names and addresses are ours, for loop detection (RFC 5321 §5.1).
    pub async fn plan(&self, next_hop: &NextHop) -> Result<Plan, Reply> {
        todo!()
    }
}
