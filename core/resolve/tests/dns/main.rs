//! The resolver against real name servers on loopback.

mod dnssec;
mod plan;
mod zone;
