//! The resolver against real name servers on loopback.

mod dane;
mod dnssec;
mod plan;
mod zone;
