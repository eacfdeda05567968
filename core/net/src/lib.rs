//! Sockets and TLS (floor 2): wraps tokio's net and rustls.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use waypost_types::{Security, TlsFacts};

/// A connection, plain or inside TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Our certificates and the rules of one kind of door; reloadable while in use.
#[derive(Clone)]
pub struct ServerTls {}

#[allow(unused_variables)]
impl ServerTls {
    /// Negotiates TLS as a server.
    pub async fn accept(&self, stream: Box<dyn Stream>) -> std::io::Result<(Box<dyn Stream>, Arc<TlsFacts>)> {
        todo!()
    }
}

/// TLS towards peers; keeps sessions for resumption.
#[derive(Clone)]
pub struct ClientTls {}

#[allow(unused_variables)]
impl ClientTls {
    /// Negotiates TLS as a client; `name` is sent as SNI and checked as `security` says.
    pub async fn connect(
        &self,
        stream: Box<dyn Stream>,
        name: &str,
        security: &Security,
    ) -> std::io::Result<(Box<dyn Stream>, Arc<TlsFacts>)> {
        todo!()
    }
}
