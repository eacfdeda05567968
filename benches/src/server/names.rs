//! A name server that knows nothing and says so at once, so that no figure depends on somebody else's.

use std::net::UdpSocket;

/// Starts it on a free port of loopback; it ends with the process.
pub(crate) fn start() -> std::io::Result<u16> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port();
    std::thread::Builder::new().name("names".into()).spawn(move || {
        let mut packet = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut packet) {
            if len < 12 {
                continue;
            }
            // A response, recursion available, NXDOMAIN; no records, not even the question's EDNS.
            packet[2] = 0x80 | (packet[2] & 0x79);
            packet[3] = 0x83;
            packet[6..12].fill(0);
            let end = question_end(&packet[..len]);
            let _ = socket.send_to(&packet[..end], from);
        }
    })?;
    Ok(port)
}

/// Behind the one question's name, type and class.
fn question_end(packet: &[u8]) -> usize {
    let mut at = 12;
    while let Some(label) = packet.get(at).filter(|label| **label != 0) {
        at += usize::from(*label) + 1;
    }
    (at + 5).min(packet.len())
}
