//! Connecting to one address. Which address, in which order and whether again is decided by `waypost-deliver`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// Connects to `address`, from `source` if given, within `timeout` (an error of kind `TimedOut` then). Errors name the address.
pub async fn connect(address: SocketAddr, source: Option<IpAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("connect to {address}: {error}"));
    let socket = open(address, source)?;
    let stream = match tokio::time::timeout(timeout, socket.connect(address)).await {
        Ok(connected) => connected.map_err(named)?,
        Err(_) => return Err(named(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {timeout:?}")))),
    };
    if is_self_connect(&stream) {
        return Err(named(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "connected to itself; nobody listens there",
        )));
    }
    Ok(stream)
}

/// Connects to a unix socket. Errors name it.
pub async fn connect_socket(path: &str, timeout: Duration) -> io::Result<UnixStream> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("connect to {path}: {error}"));
    match tokio::time::timeout(timeout, UnixStream::connect(path)).await {
        Ok(connected) => connected.map_err(named),
        Err(_) => Err(named(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {timeout:?}")))),
    }
}

fn open(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    if let Some(source) = source {
        if source.is_ipv4() != address.is_ipv4() {
            let text = format!("source address {source} and target {address} are of different families");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        // The port is chosen here and not at connect (`IP_BIND_ADDRESS_NO_PORT` is out of reach without unsafe code): one source
        // address can hold about 28 000 connections in all, instead of as many to each target.
        socket.bind(SocketAddr::new(source, 0)).map_err(|error| {
            let text = format!("source address {source}: {error}; `ip address` lists the addresses of this host");
            io::Error::new(error.kind(), text)
        })?;
    }
    Ok(socket)
}

/// TCP's simultaneous open: a client on loopback that happens to be given the port it connects to talks to itself.
fn is_self_connect(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ListenOptions, Listener};

    #[tokio::test]
    async fn connects_from_the_source_asked_for() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let listener = Listener::listen(any, &ListenOptions::default()).expect("a free port");
        let source = "127.0.0.9".parse().expect("an address");
        let stream = connect(listener.local_address(), Some(source), Duration::from_secs(5)).await.expect("connected");
        assert_eq!(stream.local_addr().expect("local").ip(), source);
    }

    #[tokio::test]
    async fn refused_and_wrong_family_name_the_address() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let closed = Listener::listen(any, &ListenOptions::default()).expect("a free port").local_address();
        let error = connect(closed, None, Duration::from_secs(5)).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&closed.to_string()), "{error}");
        let source = "::1".parse().expect("an address");
        let error = connect(closed, Some(source), Duration::from_secs(5)).await.expect_err("families differ");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
