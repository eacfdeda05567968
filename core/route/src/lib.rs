//! Where an address leads (floor 1).

use std::net::SocketAddr;

use waypost_types::{Address, Domain, Host};

/// What an address is to us, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Ours: these are the final recipients after aliases, subaddresses and catch-alls. Never empty.
    Deliver(Vec<Address>),
    /// In a domain of ours, but nobody has that name: 550 5.1.1.
    Unknown,
    /// In a domain that we relay for.
    Relay(Address),
    /// Somebody else's: only those who may relay.
    Foreign(Address),
    /// The tables are wrong (a loop, too deep, too many): 451 4.3.5, with words for the log.
    Broken(String),
}

/// How the last step to a recipient is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// Into a mailbox of ours.
    Mailbox(Box<str>),
    /// To the hosts that DNS names for this domain.
    Mx(Domain),
    /// To an address literal.
    Literal(std::net::IpAddr, u16),
    /// To one host by name, no MX lookup.
    Host(Host, u16),
    /// LMTP over TCP.
    Lmtp(SocketAddr),
    /// Nowhere: fail with these words.
    Fail(Box<str>),
}

/// The routing tables, swapped whole on reload.
#[derive(Clone, Debug, Default)]
pub struct Router {}

#[allow(unused_variables)]
impl Router {
    /// What an address is to us.
    pub fn resolve(&self, address: &Address) -> Resolution {
        todo!()
    }
    /// How to reach a final recipient. Asked at delivery time, so that queued mail follows a changed table.
    pub fn next_hop(&self, address: &Address) -> NextHop {
        todo!()
    }
    /// Whether mail for this domain ends here.
    pub fn is_own(&self, host: &Host) -> bool {
        todo!()
    }
}
