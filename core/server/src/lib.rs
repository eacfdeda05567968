//! Mail coming in (floor 3): drives `waypost-smtp`'s server session over sockets, asks the checks, the router and the judges, and puts
//! what is accepted into the queue before it is acknowledged.
//!
//! ```text
//! listener → connection ⇄ smtp::server::Session
//!                │ Ask
//!                ▼
//!             pipeline → check/* · route · Jury · credential/*
//!                │ final dot
//!                ▼
//!              intake → mailauth · Jury · trace_header → Store::accept → 250 → Handoff
//! ```

pub mod credential;
pub mod options;

pub use credential::{AuthError, Authenticator};
pub use options::{Listener, Options, Rules, Services};

use std::time::Duration;

/// The doors, open.
pub struct Server {}

#[allow(unused_variables)]
impl Server {
    /// Opens the doors. Must be called inside a runtime.
    pub fn start(options: Options, listeners: Vec<Listener>, services: Services) -> std::io::Result<Server> {
        todo!()
    }
    /// New rules for a door; sessions that have begun keep theirs. `false` if there is no door of that name.
    pub fn reload(&self, name: &str, rules: Rules) -> bool {
        todo!()
    }
    /// Sessions open now, at all doors.
    pub fn sessions(&self) -> usize {
        todo!()
    }
    /// Closes the doors, lets sessions finish their transaction for up to `patience`, then cuts them off. Returns how many were
    /// cut off.
    pub async fn shutdown(&self, patience: Duration) -> usize {
        todo!()
    }
}
