//! Where an address leads (floor 1): no I/O, no clock. What is in memory answers at once; tables that somebody else keeps come in as
//! `types::port::Table`, and the answer is then a future.
//!
//! | page | what it holds |
//! |---|---|
//! | [`tables`] | [`Tables`]: everything an operator says about addresses, checked whole and made into a [`Router`] |
//! | [`router`] | [`Router`]: [`Router::resolve`] when mail comes in, [`Router::next_hop`] when it goes out |
//! | `expand` | one address on its way through the aliases |
//! | [`roles`] | [`Lists`]: the tables of one role, asked in order |
//! | [`srs`] | [`Srs`]: senders of forwarded mail, and their way back |
//! | [`verp`] | [`Verp`]: a sender for each recipient, and back |
//! | [`table`] | the text formats: aliases(5) and Postfix tables, as `postalias` and `postmap` read them |
//! | [`lookup`] | [`TextTable`], [`CidrTable`], [`RegexpTable`]: what is looked up in memory |
//! | [`transport`] | `mx`, `smtp:[host]:port`, `lmtp:host:port`, `fail:text`, by domain |
//! | [`network`] | [`Networks`]: sets of CIDR blocks, for who may relay |
//!
//! The local part of an address is looked up, never parsed: no `%`, `!` or second `@` in it ever leads anywhere. Look-ups ignore its
//! case (RFC 5321 §2.4 leaves that to the final host, which we are), what is delivered keeps it.

mod expand;
pub mod lookup;
pub mod network;
pub mod roles;
pub mod router;
pub mod srs;
pub mod table;
pub mod tables;
pub mod transport;
pub mod verp;

pub use lookup::{CidrTable, Dialect, RegexpTable, TextTable};
pub use network::Networks;
pub use roles::Lists;
pub use router::Router;
pub use srs::Srs;
pub use table::{Alias, AliasKey, Mistake, Target, parse_aliases, parse_table, parse_targets, parse_virtual};
pub use tables::{Canonical, RelayDomain, Tables};
pub use transport::{DomainMap, DomainPattern, Transport, TransportKey, parse_transports};
pub use verp::Verp;

use std::net::SocketAddr;

use waypost_types::{Address, Domain, Host};

/// What an address is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// In a domain of ours, and somebody has that name.
    Own,
    /// In a domain that we relay for.
    Relay,
    /// Somebody else's: only those who may relay.
    Foreign,
    /// In a domain of ours, but nobody has that name: 550 5.1.1.
    Unknown,
    /// The tables are wrong (a loop, too deep, too many): 451 4.3.5, with words for the log.
    Broken(String),
    /// A table could not be asked: 451 4.3.0, with words for the log.
    Unsure(String),
}

/// A final recipient behind another address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Who.
    pub address: Address,
    /// What it is to us: [`Class::Own`], [`Class::Relay`], [`Class::Foreign`], or [`Class::Unknown`] for one of several targets that does
    /// not exist, which fails at delivery, with a report.
    pub class: Class,
    /// `owner-NAME` of the list that led here: the sender of what is sent on.
    pub owner: Option<Address>,
}

/// What an address is to us, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// What it is.
    pub class: Class,
    /// The final recipients after canonical tables, aliases, subaddresses and catch-alls; empty if that is the address itself.
    pub leads: Vec<Leaf>,
}

impl Resolution {
    /// The address itself.
    pub(crate) fn of(class: Class) -> Resolution {
        Resolution { class, leads: Vec::new() }
    }
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
    /// Over HTTP, by the name of its settings.
    Post(Box<str>),
    /// To a program, by the name of its settings.
    Pipe(Box<str>),
    /// Nowhere: fail with these words, which may begin with an enhanced status.
    Fail(Box<str>),
    /// Not known now, with words for the log: a table could not be asked, or is wrong.
    Later(Box<str>),
}
