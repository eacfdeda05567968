//! Listening sockets. Promises the options a mail server wants and an error that says what to do; leaves limits per client,
//! sessions and policy to `waypost-server`.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// How a door is opened.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Connections that the kernel completes before we accept them. It caps this at `net.core.somaxconn`.
    pub backlog: u32,
    /// `SO_REUSEPORT`: several sockets (or processes) share one port and the kernel spreads connections over them.
    pub reuse_port: bool,
    /// An IPv6 door takes no IPv4 connections. On by default, so that `[::]:25` and `0.0.0.0:25` can both be opened.
    pub v6_only: bool,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions { backlog: 1024, reuse_port: false, v6_only: true }
    }
}

/// Why a door could not be opened: names the address and the remedy.
#[derive(Debug)]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}; {}", self.address, self.source, self.remedy())
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl BindError {
    fn remedy(&self) -> String {
        let port = self.address.port();
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "another program has this port: `ss -ltnp 'sport = :{port}'` shows which; stop it or choose another port"
                )
            }
            io::ErrorKind::PermissionDenied => format!(
                "ports below 1024 need root or CAP_NET_BIND_SERVICE: start as root (Waypost drops it later) or choose a port above {}",
                port.max(1023)
            ),
            io::ErrorKind::AddrNotAvailable => {
                "this host has no such address: `ip address` lists those it has".to_string()
            }
            _ => "check the address and the limits of the system (open files, memory)".to_string(),
        }
    }
}

/// Opens a door. Does not need a runtime, so that ports can be bound before privileges are dropped.
pub fn bind(address: SocketAddr, options: &ListenOptions) -> Result<std::net::TcpListener, BindError> {
    open(address, options).map_err(|source| BindError { address, source })
}

fn open(address: SocketAddr, options: &ListenOptions) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it a restart fails for a minute while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(options.v6_only)?;
    }
    // Inherited by accepted sockets on Linux: one system call per door instead of one per connection. Replies are written whole,
    // so waiting to fill a segment only costs a round trip.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// An open door.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    local: SocketAddr,
}

/// Someone at the door. Addresses are unmapped: an IPv4 client of a dual-stack door shows its IPv4 address.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// The client.
    pub peer: SocketAddr,
    /// Our end; the address that the client connected to, also when the door listens on all.
    pub local: SocketAddr,
}

impl Listener {
    /// Binds and listens; must be called inside a runtime.
    pub fn listen(address: SocketAddr, options: &ListenOptions) -> Result<Listener, BindError> {
        let listener = bind(address, options)?;
        Listener::from_std(listener).map_err(|source| BindError { address, source })
    }

    /// Takes over a socket of [`bind`] or of socket activation; must be called inside a runtime.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        let inner = TcpListener::from_std(listener)?;
        let local = inner.local_addr()?;
        Ok(Listener { inner, local })
    }

    /// Where it listens; the port is the real one when 0 was asked for.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the next client. Errors of a single connection (it was gone before we took it) are passed over; what is returned
    /// concerns the door or the whole process ([`is_exhaustion`]). Safe to drop half-way.
    pub async fn accept(&self) -> io::Result<Accepted> {
        loop {
            match self.inner.accept().await {
                Ok((stream, peer)) => {
                    // A client that is gone already has no local address any more.
                    let Ok(local) = stream.local_addr() else { continue };
                    return Ok(Accepted { stream, peer: unmapped(peer), local: unmapped(local) });
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What accept(2) reports about the connection at the head of the queue, not about the listener.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
    };
    use io::ErrorKind::{NetworkUnreachable, TimedOut};
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    )
}

/// Whether the process or the system has run out of files or memory: wait a moment, close something, then accept again.
pub fn is_exhaustion(error: &io::Error) -> bool {
    // EMFILE 24, ENFILE 23, ENOBUFS 105, ENOMEM 12.
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

/// `::ffff:192.0.2.1` is 192.0.2.1: limits and tables must not be dodged by the other spelling.
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), address.port()),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[tokio::test]
    async fn a_client_is_let_in_with_both_addresses() {
        let listener = Listener::listen(loopback(), &ListenOptions::default()).expect("a free port");
        let client = TcpStream::connect(listener.local_address());
        let (accepted, client) = tokio::join!(listener.accept(), client);
        let (mut accepted, mut client) = (accepted.expect("accepted"), client.expect("connected"));
        assert_eq!(accepted.peer, client.local_addr().expect("local"));
        assert_eq!(accepted.local, listener.local_address());
        assert!(accepted.stream.nodelay().expect("nodelay"), "inherited from the door");
        client.write_all(b"EHLO").await.expect("written");
        let mut read = [0; 4];
        accepted.stream.read_exact(&mut read).await.expect("read");
        assert_eq!(&read, b"EHLO");
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_remedy() {
        let first = Listener::listen(loopback(), &ListenOptions::default()).expect("a free port");
        let error = bind(first.local_address(), &ListenOptions::default()).expect_err("taken");
        let text = error.to_string();
        assert!(text.contains(&first.local_address().to_string()), "{text}");
        assert!(text.contains("another program has this port"), "{text}");
    }

    #[tokio::test]
    async fn reuse_port_lets_two_doors_share() {
        let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let first = Listener::listen(loopback(), &options).expect("a free port");
        Listener::listen(first.local_address(), &options).expect("shared");
    }

    #[test]
    fn mapped_addresses_are_unmapped() {
        let of = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(unmapped(of("[::ffff:192.0.2.1]:25")), of("192.0.2.1:25"));
        assert_eq!(unmapped(of("[2001:db8::1]:25")), of("[2001:db8::1]:25"));
    }
}
