//! Mail going out (floor 3): from a claimed entry to a mailbox, another host, or a report to the sender.
//!
//! [`Courier::start`] takes [`Options`] and [`Services`] and runs until [`Courier::shutdown`]. Fresh claims come in by
//! [`Handoff`](waypost_queue::Handoff), everything else is claimed from the store when it is due.
//!
//! | page | what it holds |
//! |---|---|
//! | [`courier`] | [`Courier`]: takes claims, groups recipients by next hop, claims what is due, drains |
//! | `desk` | what waits, who is idle, who starts next: `queue::schedule` under one lock |
//! | `held` | one claim in hand: its message, its groups, its settlements in order |
//! | [`plan`] | [`Planner`]: from a next hop to hosts, kept for a moment |
//! | `remote` | one task per connection: it carries errand after errand to the same provider |
//! | [`local`] | Maildir, mbox, HTTP, programs |
//! | [`shaping`] | what each large receiver wants: connections, rates, and what its replies mean |
//! | [`sources`] | where connections come from: a pool of addresses, each with its name |
//! | [`suspended`] | what an operator has suspended |
//! | [`tls_report`] | what became of TLS, counted and told (RFC 8460) |
//! | `verdict` | what a reply means for a recipient, and when to try again |
//! | `notice` | who is told what became of the mail |
//!
//! Promises: a recipient is settled only by what really happened to it; a crash at any moment may deliver twice and never loses; reports
//! and the state that they report become durable together; everything in hand is bounded. It leaves durability to the store,
//! order and budgets to the schedule, names and TLS policy to the resolver, and the protocol to `waypost-smtp`.

mod chance;
pub mod courier;
mod desk;
mod held;
pub mod local;
mod notice;
pub mod options;
pub mod plan;
mod remote;
pub mod shaping;
pub mod sources;
pub mod suspended;
pub mod tls_report;
mod verdict;

pub use courier::Courier;
pub use options::{Credentials, Options, Services};
pub use plan::Planner;
