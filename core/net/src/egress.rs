//! Connections that leave from another machine: through a SOCKS5 server (RFC 1928), or through a proxy that is told by a PROXY header, version 2, from which address
//! to go on to whom. For pools of sources that are spread over hosts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connect::connect;

/// What stands between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Egress {
    /// A SOCKS5 server that asks for no login.
    Socks(SocketAddr),
    /// A proxy that expects a PROXY header: source is where it is to come from, destination where to.
    Proxy(SocketAddr),
}

impl Egress {
    /// Where it stands.
    pub fn address(&self) -> SocketAddr {
        match self {
            Egress::Socks(address) | Egress::Proxy(address) => *address,
        }
    }
}

/// Connects to `peer` through `egress`, within `timeout`. `source` is the address that the peer is to see, for those who can choose it.
pub async fn connect_through(
    egress: Egress,
    peer: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let way = async {
        let mut stream = connect(egress.address(), None, timeout).await?;
        match egress {
            Egress::Socks(_) => socks(&mut stream, peer).await?,
            Egress::Proxy(_) => stream.write_all(&header(peer, source)).await?,
        }
        Ok(stream)
    };
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("connect to {peer} through {}: {error}", egress.address()))
    };
    match tokio::time::timeout(timeout, way).await {
        Ok(connected) => connected.map_err(named),
        Err(_) => Err(named(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {timeout:?}")))),
    }
}

/// Greeting without login, CONNECT, and what came of it.
async fn socks(stream: &mut TcpStream, peer: SocketAddr) -> io::Result<()> {
    let bad = |what: String| io::Error::new(io::ErrorKind::ConnectionRefused, what);
    stream.write_all(&[5, 1, 0]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    if chosen != [5, 0] {
        return Err(bad("it is no SOCKS5 server, or wants a login".into()));
    }
    let mut request = vec![5, 1, 0];
    match peer.ip() {
        IpAddr::V4(address) => request.extend([&[1][..], &address.octets()].concat()),
        IpAddr::V6(address) => request.extend([&[4][..], &address.octets()].concat()),
    }
    request.extend(peer.port().to_be_bytes());
    stream.write_all(&request).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    if head[1] != 0 {
        return Err(bad(refusal(head[1]).into()));
    }
    // The address that it has bound, and its port: read past, or they would stand in front of the greeting.
    let len = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        other => return Err(bad(format!("an answer with address type {other}"))),
    };
    let mut bound = vec![0; len + 2];
    stream.read_exact(&mut bound).await.map(drop)
}

/// RFC 1928 §6.
fn refusal(code: u8) -> &'static str {
    match code {
        2 => "not allowed by the proxy's rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "no answer",
        8 => "the proxy has no addresses of this family",
        _ => "the proxy failed",
    }
}

/// Version 2 of the PROXY protocol, §2.2; without a source of the peer's family, one that leaves the choice to the proxy.
fn header(peer: SocketAddr, source: Option<IpAddr>) -> Vec<u8> {
    let mut out = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    match peer.ip() {
        IpAddr::V4(address) => {
            let source =
                source.map_or([0; 4], |source| if let IpAddr::V4(source) = source { source.octets() } else { [0; 4] });
            out.extend([0x21, 0x11, 0, 12]);
            out.extend(source);
            out.extend(address.octets());
        }
        IpAddr::V6(address) => {
            let source = source
                .map_or([0; 16], |source| if let IpAddr::V6(source) = source { source.octets() } else { [0; 16] });
            out.extend([0x21, 0x21, 0, 36]);
            out.extend(source);
            out.extend(address.octets());
        }
    }
    out.extend([0, 0]);
    out.extend(peer.port().to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::proxy_header::{Proxied, parse};

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn the_header_is_what_our_own_listeners_read() {
        for (peer, source) in [("192.0.2.1:25", "198.51.100.7"), ("[2001:db8::1]:25", "2001:db8::7")] {
            let (peer, source): (SocketAddr, IpAddr) =
                (peer.parse().expect("a peer"), source.parse().expect("a source"));
            let bytes = header(peer, Some(source));
            let (told, len) = parse(&bytes).expect("a header");
            assert_eq!(len, bytes.len());
            let Proxied::Client { source: from, target } = told else { panic!("{told:?}") };
            assert_eq!((from.ip(), target), (source, peer));
        }
    }

    /// A SOCKS5 server that answers so.
    async fn server(answers: &'static [&'static [u8]]) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut heard = Vec::new();
            for answer in answers {
                let mut buffer = [0; 64];
                let len = stream.read(&mut buffer).await.expect("a request");
                heard.extend_from_slice(&buffer[..len]);
                stream.write_all(answer).await.expect("written");
            }
            heard
        });
        (address, task)
    }

    #[tokio::test]
    async fn socks_is_spoken_and_nothing_of_it_is_left_in_front_of_the_greeting() {
        let (address, task) = server(&[&[5, 0], b"\x05\0\0\x03\x04host\x12\x34220 hello\r\n"]).await;
        let peer = "192.0.2.1:25".parse().expect("a peer");
        let mut stream = connect_through(Egress::Socks(address), peer, None, PATIENCE).await.expect("connected");
        let mut greeting = Vec::new();
        stream.read_to_end(&mut greeting).await.expect("read");
        assert_eq!(greeting, b"220 hello\r\n");
        assert_eq!(task.await.expect("done"), [5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0, 25]);
    }

    #[tokio::test]
    async fn refusals_are_told_in_words() {
        let peer = "[2001:db8::1]:25".parse().expect("a peer");
        const CASES: [(&[&[u8]], &str); 3] = [
            (&[&[5, 0], &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]], "connection refused"),
            (&[&[5, 0xff]], "wants a login"),
            (&[&[5, 0], &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]], "rules"),
        ];
        for (answers, words) in CASES {
            let (address, _task) = server(answers).await;
            let error = connect_through(Egress::Socks(address), peer, None, PATIENCE).await.expect_err("refused");
            assert!(error.to_string().contains(words) && error.to_string().contains("through"), "{error}");
        }
    }
}
