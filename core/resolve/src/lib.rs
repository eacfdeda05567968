//! From a domain to the hosts that take its mail, and every other question to DNS (floor 2): wraps hickory.
//!
//! | page | what it holds |
//! |---|---|
//! | [`client`] | [`Resolver`]: questions, answers as text, cache, DNSSEC; it is the server's [`waypost_types::port::Dns`] |
//! | [`plan`] | [`Resolver::plan`]: RFC 5321 §5.1 and everything that was learned since |
//! | [`dane`] | TLSA look-ups, RFC 7672 §2 and §3 |
//! | [`mta_sts`] | policies of RFC 8461: found, fetched, kept, applied |
//! | `cache` | bounded, by time to live, one question at a time per name |
//!
//! It never connects to a mail host and never decides whether to try again; it says "never" (5yz) or "not now" (4yz).
//! Where MTA-STS has a policy, it stands behind DANE and before opportunism.

mod cache;
pub mod client;
pub mod dane;
pub mod mta_sts;
pub mod plan;

pub use client::{Dnssec, Families, ResolveError, Resolver, ResolverOptions};
pub use mta_sts::Policies;
pub use plan::{Applied, Hop, Own, Plan};
