//! Sockets and TLS (floor 2): wraps tokio's net, socket2 and rustls, so that nobody above names them.
//!
//! | page | what it holds |
//! |---|---|
//! | [`listen`] | [`bind`], [`Listener`]: a door with the socket options that a mail server wants |
//! | [`connect`] | [`connect()`]: one address, an optional source address, a deadline |
//! | [`tls`] | [`ServerTls`], [`ClientTls`]: both sides of TLS, what was negotiated as [`waypost_types::TlsFacts`] |
//! | [`proxy_header`] | the PROXY protocol, versions 1 and 2 |
//!
//! It promises that every handshake and every connect has a deadline, that errors name what was tried and the remedy, and
//! that vectored writes reach the socket. It leaves all of SMTP, and the choice of hosts, to others.

pub mod connect;
mod egress;
pub mod listen;
pub mod proxy_header;
pub mod tls;

pub use connect::{connect, connect_socket};
pub use egress::{Egress, connect_through};
pub use listen::{BindError, ListenOptions, Listener, bind};
pub use tls::{
    CertificateFault, CertificateFiles, ClientCertificates, ClientTls, ClientTlsOptions, ServerTls, ServerTlsOptions,
    TlsError, TlsVersion, certificate_fault, cipher_suites, self_signed,
};

use tokio::io::{AsyncRead, AsyncWrite};

/// A connection, plain or inside TLS. `poll_write_vectored` and `is_write_vectored` pass through the box and through TLS, so a
/// message leaves as a list of segments without being joined.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}
