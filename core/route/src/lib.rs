//! Where an address leads (floor 1): pure tables, no I/O, no clock.
//!
//! | page | what it holds |
//! |---|---|
//! | [`tables`] | [`Tables`]: everything an operator says about addresses, checked whole and made into a [`Router`] |
//! | [`router`] | [`Router`]: [`Router::resolve`] when mail comes in, [`Router::next_hop`] when it goes out |
//! | [`table`] | the text formats: aliases(5) and Postfix tables, as `postalias` and `postmap` read them |
//! | [`transport`] | `mx`, `smtp:[host]:port`, `lmtp:host:port`, `fail:text`, by domain |
//! | [`network`] | [`Networks`]: sets of CIDR blocks, for who may relay |
//!
//! The local part of an address is looked up, never parsed: no `%`, `!` or second `@` in it ever leads anywhere. Look-ups ignore its
//! case (RFC 5321 §2.4 leaves that to the final host, which we are), what is delivered keeps it.

pub mod network;
pub mod router;
pub mod table;
pub mod tables;
pub mod transport;

pub use network::Networks;
pub use router::Router;
pub use table::{Alias, AliasKey, Mistake, Target, parse_aliases, parse_table, parse_virtual};
pub use tables::{RelayDomain, Tables};
pub use transport::{DomainMap, DomainPattern, Transport, parse_transports};

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
    /// Into a mailbox of ours. The name comes from our tables, never from the network.
    Mailbox(Box<str>),
    /// To the hosts that DNS names for this domain.
    Mx(Domain),
    /// To an address literal.
    Literal(std::net::IpAddr, u16),
    /// To one host by name, no MX lookup.
    Host(Host, u16),
    /// LMTP over TCP.
    Lmtp(SocketAddr),
    /// LMTP over a unix socket of this path.
    LmtpSocket(Box<str>),
    /// Nowhere: fail with these words, which may begin with an enhanced status.
    Fail(Box<str>),
}
