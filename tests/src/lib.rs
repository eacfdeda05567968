//! The harness: starts the real binary on ports of its own, speaks to it over real sockets, and stands in for the rest of the
//! mail world (a receiving host that can be scripted). Nothing here knows Waypost's code; what is tested is what an operator gets.
//!
//! | page | what it holds |
//! |---|---|
//! | [`waypost`] | [`Waypost`]: the process, its settings, its Maildirs, its log |
//! | [`dialog`] | [`Dialog`]: an SMTP conversation, line by line, that fails with the whole transcript |
//! | [`sink`] | [`Sink`]: a receiving host on loopback that can be rude |
//! | [`names`] | [`NoNames`](names::NoNames): a name server that knows no name, so that no test asks the world |
//! | [`zone`] | [`Zone`](zone::Zone): a name server that knows a few names and has bad days |
//! | [`wire`] | [`Wire`]: a client that does exactly what it is told, octet by octet, with and without TLS |
//! | [`tool`] | other people's programs: swaks, Python, Postfix's load generator |
//! | [`peer`] | [`Peer`]: other people's servers |
//! | [`authority`] | [`Authority`]: certificates |

pub mod authority;
pub mod dialog;
pub mod names;
pub mod peer;
pub mod sink;
pub mod tool;
pub mod waypost;
pub mod wire;
pub mod zone;

pub use authority::Authority;
pub use dialog::Dialog;
pub use peer::Peer;
pub use sink::{Manner, Received, Sink};
pub use waypost::Waypost;
pub use wire::Wire;

use std::time::{Duration, Instant};

/// Calls `probe` until it gives something, for at most `span`; panics with `what` otherwise.
pub fn wait_for<T>(what: &str, span: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + span;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "waited {span:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Says something that must not be lost in a test that passes: past the capture of `cargo test`.
pub fn say_aloud(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A TCP port on loopback that was free a moment ago, and that no other test of this process is given. Below the range from which the
/// kernel takes the source ports of the thousands of connections that tests make.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..20_000 {
        let port = 12_000 + (start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 12000 and 32000");
}
