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
//!
//! It promises that no `250` is said before the store has returned, that every wait has an end, and that memory is bounded per
//! session and in all. What the protocol is stands in `waypost-smtp`; who may do what comes in with [`Rules`] and [`Services`].

mod admission;
mod check;
mod connection;
mod credential;
mod decide;
pub mod explain;
mod greylist;
mod intake;
mod listener;
mod meter;
pub mod options;
mod peer_name;
mod pipeline;
mod shared;
mod trace_header;

pub use check::access::Access;
pub use check::sender::ExtraSenders;
pub use decide::{Decisions, Thresholds};
pub use options::{Bounces, DmarcMode, Greylist, Listener, Options, Prefix, Rates, Rules, Sender, Services};

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::listener::Door;
use crate::shared::Shared;

/// The doors, open.
pub struct Server {
    doors: Vec<Arc<Door>>,
    addresses: Vec<(Box<str>, SocketAddr)>,
    shared: Arc<Shared>,
    closing: watch::Sender<bool>,
}

impl Server {
    /// Opens the doors. Must be called inside a runtime. Fails only if a socket cannot be handed to the runtime.
    pub fn start(options: Options, listeners: Vec<Listener>, services: Services) -> io::Result<Server> {
        let shared = Arc::new(Shared::new(options, services));
        let (closing, watching) = watch::channel(false);
        let mut server = Server { doors: Vec::new(), addresses: Vec::new(), shared, closing };
        for Listener { name, sockets, rules } in listeners {
            let door = Arc::new(Door::new(name, rules, server.shared.clone()));
            for socket in sockets {
                let socket = waypost_net::Listener::from_std(socket)?;
                server.addresses.push((door.name.clone(), socket.local_address()));
                tokio::spawn(door.clone().serve(socket, watching.clone()));
            }
            server.doors.push(door);
        }
        Ok(server)
    }

    /// Where the doors are: name and address of each socket.
    pub fn addresses(&self) -> &[(Box<str>, SocketAddr)] {
        &self.addresses
    }

    /// New rules for a door; sessions that have begun keep theirs. `false` if there is no door of that name.
    pub fn reload(&self, name: &str, rules: Rules) -> bool {
        let door = self.doors.iter().find(|door| &*door.name == name);
        door.map(|door| door.rules.store(Arc::new(rules))).is_some()
    }

    /// Sessions open now, at all doors.
    pub fn sessions(&self) -> usize {
        self.shared.register.len()
    }

    /// Closes the doors, lets sessions finish their transaction for up to `patience`, then cuts them off. Returns how many were
    /// cut off; none of those had been told `250`.
    pub async fn shutdown(&self, patience: Duration) -> usize {
        self.closing.send_replace(true);
        self.shared.register.close();
        if tokio::time::timeout(patience, self.shared.register.empty()).await.is_ok() {
            return 0;
        }
        let cut_off = self.shared.register.cut_off();
        // An aborted task leaves the register when it is dropped, at its next await.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.shared.register.empty()).await;
        cut_off
    }
}
