//! The accept loops. Promises that the doors' limits hold, that running out of files or memory pauses a door instead of ending or
//! spinning it, and that closing a door is immediate. What happens on a connection is `connection`'s.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::sync::watch;
use waypost_net::listen::Accepted;
use waypost_types::{Enhanced, Event, Reply};

use crate::admission::{Admission, Full, Place};
use crate::connection;
use crate::options::Rules;
use crate::shared::Shared;

/// One door at work.
pub(crate) struct Door {
    pub(crate) name: Box<str>,
    pub(crate) rules: ArcSwap<Rules>,
    pub(crate) shared: Arc<Shared>,
    admission: Arc<Admission>,
}

/// What a session holds of its door while it lasts: dropped whole, in whichever way the session ends.
pub(crate) struct Guest {
    door: Arc<Door>,
    number: u64,
    place: Place,
    /// So many sessions at the door mean that connections run short.
    pressed_at: usize,
}

impl Guest {
    /// Whether connections run short.
    pub(crate) fn is_pressed(&self) -> bool {
        self.place.total() >= self.pressed_at
    }

    /// The client behind a balancer is known now, and counted; `false` if it is told to go away.
    pub(crate) fn becomes(&mut self, rules: &Rules, accepted: &Accepted) -> bool {
        let client = accepted.peer.ip();
        let entered = self
            .door
            .within_rate(rules, client)
            .and_then(|()| self.place.move_to(rules.prefix.of(client), address_max(rules, client)));
        if let Err(full) = entered {
            self.door.turn_away(rules, accepted, full);
        }
        entered.is_ok()
    }
}

/// Our own hosts pool their connections: the bound per address is for strangers.
fn address_max(rules: &Rules, client: IpAddr) -> u32 {
    if rules.trusts(client) { u32::MAX } else { rules.sessions_per_address_max }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.door.shared.register.leave(self.number);
    }
}

impl Door {
    pub(crate) fn new(name: Box<str>, rules: Rules, shared: Arc<Shared>) -> Door {
        Door { name, rules: ArcSwap::from_pointee(rules), shared, admission: Arc::default() }
    }

    /// Takes clients until `closing` changes.
    pub(crate) async fn serve(self: Arc<Self>, socket: waypost_net::Listener, mut closing: watch::Receiver<bool>) {
        let mut pause = Duration::ZERO;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = closing.changed() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    pause = Duration::ZERO;
                    self.welcome(accepted);
                }
                Err(error) => {
                    // Without a pause an exhausted process would spin: the client stays in the backlog and accept fails again.
                    pause = (pause * 2).clamp(Duration::from_millis(50), Duration::from_secs(2));
                    self.complain(&socket.local_address(), &error);
                    tokio::select! {
                        _ = closing.changed() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    fn complain(&self, local: &SocketAddr, error: &std::io::Error) {
        let remedy = match waypost_net::listen::is_exhaustion(error) {
            true => "raise the limit of open files (LimitNOFILE=) or lower `listener.*.connections`",
            false => "the door stays open",
        };
        let message = format!("door {} ({local}) cannot take a client: {error}; {remedy}", self.name);
        self.shared.services.observer.observe(Event::Notice { level: "error", message: &message });
    }

    fn welcome(self: &Arc<Self>, accepted: Accepted) {
        let rules = self.rules.load_full();
        match self.admit(&rules, &accepted) {
            Ok(place) => self.seat(rules, accepted, place),
            Err(full) => self.turn_away(&rules, &accepted, full),
        }
    }

    fn admit(&self, rules: &Rules, accepted: &Accepted) -> Result<Place, Full> {
        let all_max = self.shared.options.sessions_max.unwrap_or(usize::MAX);
        if self.shared.register.len() >= all_max {
            return Err(Full::Door);
        }
        let peer = accepted.peer.ip();
        // A balancer's client is counted once it is known.
        let balancer = rules.is_balancer(peer);
        if !balancer {
            self.within_rate(rules, peer)?;
        }
        let address_max = if balancer { u32::MAX } else { address_max(rules, peer) };
        self.admission.enter(rules.prefix.of(peer), rules.sessions_max, address_max)
    }

    fn within_rate(&self, rules: &Rules, client: IpAddr) -> Result<(), Full> {
        let meter = &self.shared.meters.connections;
        let within =
            rules.trusts(client) || meter.allows(rules.prefix.of(client), rules.rates.connections, Instant::now());
        if within { Ok(()) } else { Err(Full::Rate) }
    }

    fn seat(self: &Arc<Self>, rules: Arc<Rules>, accepted: Accepted, place: Place) {
        let shared = &self.shared;
        shared.register.enter(|number, told| {
            let guest = Guest { door: self.clone(), number, place, pressed_at: rules.pressed_at() };
            connection::run(shared.clone(), rules, accepted, told, guest)
        });
    }

    /// 421 in one attempt: whoever floods us gets no task, no buffer and no second packet.
    fn turn_away(&self, rules: &Rules, accepted: &Accepted, full: Full) {
        let text = match full {
            Full::Door => "too many sessions here, try again later",
            Full::Address => "too many sessions from your address, try again later",
            Full::Rate => "too many connections from your address, try again later",
        };
        let reply = Reply::new(421, Enhanced(4, 7, 0), text);
        let event = Event::TurnedAway { peer: accepted.peer.ip(), reply: &reply, limit: full.limit() };
        self.shared.services.observer.observe(event);
        if !rules.begins_with_tls() {
            let mut line = Vec::new();
            reply.write_to(&mut line);
            send_once(&accepted.stream, &line);
        }
    }
}

/// Writes what fits into the socket's buffer, which is empty: all of it, in practice.
fn send_once(stream: &TcpStream, line: &[u8]) {
    let _ = stream.try_write(line);
}
