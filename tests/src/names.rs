//! A name server that knows no name, so that no test asks the world or waits for it.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Answers NXDOMAIN to everything, on loopback. Stops when dropped.
pub struct NoNames {
    /// Its UDP port on 127.0.0.1.
    pub port: u16,
    stop: Arc<AtomicBool>,
}

impl NoNames {
    /// Listens on a free port.
    pub fn start() -> NoNames {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout can be set");
        let port = socket.local_addr().expect("bound").port();
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = stop.clone();
        std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while !theirs.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut packet) else { continue };
                let _ = socket.send_to(&no_such_name(&packet[..len]), from);
            }
        });
        NoNames { port, stop }
    }
}

impl Drop for NoNames {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The query's header and question with QR, RA and RCODE 3 set and every other section empty (RFC 1035 §4.1).
fn no_such_name(query: &[u8]) -> Vec<u8> {
    let mut at = 12;
    while query.get(at).is_some_and(|&len| len != 0) {
        at += 1 + usize::from(query[at]);
    }
    let mut answer = query.get(..at + 5).unwrap_or_default().to_vec();
    if answer.len() >= 12 {
        answer[2] |= 0x80;
        answer[3] = 0x83;
        answer[6..12].fill(0);
    }
    answer
}
