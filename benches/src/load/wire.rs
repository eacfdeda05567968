//! A connection that may be plain or inside TLS, and the replies on it.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use waypost_net::{ClientTls, ServerTls};
use waypost_types::Security;

/// Plain connections are not boxed: they are what is measured most.
pub(crate) enum Wire {
    Plain(TcpStream),
    Secret(Box<dyn waypost_net::Stream>),
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Wire> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Wire::Plain(stream))
    }

    fn boxed(self) -> Box<dyn waypost_net::Stream> {
        match self {
            Wire::Plain(stream) => Box::new(stream),
            Wire::Secret(stream) => stream,
        }
    }

    /// TLS as a client; any certificate will do.
    pub(crate) async fn secure(self, tls: &ClientTls) -> io::Result<Wire> {
        let (stream, _) = tls.connect(self.boxed(), "localhost", &Security::Opportunistic).await?;
        Ok(Wire::Secret(stream))
    }

    /// TLS as a server.
    pub(crate) async fn accept(self, tls: &ServerTls) -> io::Result<Wire> {
        let (stream, _) = tls.accept(self.boxed()).await?;
        Ok(Wire::Secret(stream))
    }

    /// All parts, in as few writes as the system takes.
    pub(crate) async fn send(&mut self, parts: &mut [Bytes]) -> io::Result<()> {
        let mut first = 0;
        while first < parts.len() {
            if parts[first].is_empty() {
                first += 1;
                continue;
            }
            let slices: Vec<IoSlice<'_>> = parts[first..].iter().map(|part| IoSlice::new(part)).collect();
            let mut written = self.write_vectored(&slices).await?;
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            while written > 0 {
                let step = written.min(parts[first].len());
                parts[first].advance(step);
                written -= step;
                first += usize::from(parts[first].is_empty());
            }
        }
        self.flush().await
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Secret(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Secret(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Wire::Secret(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Secret(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Secret(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Lines as they come in.
#[derive(Default)]
pub(crate) struct Lines {
    buffer: BytesMut,
}

impl Lines {
    /// A line without its end, if one is there.
    pub(crate) fn next(&mut self) -> Option<BytesMut> {
        let end = memchr(b'\n', &self.buffer)?;
        let mut line = self.buffer.split_to(end + 1);
        line.truncate(end - usize::from(end > 0 && line[end - 1] == b'\r'));
        Some(line)
    }

    /// Reads more. False at the end of the stream.
    pub(crate) async fn fill(&mut self, wire: &mut Wire) -> io::Result<bool> {
        self.buffer.reserve(16 * 1024);
        Ok(wire.read_buf(&mut self.buffer).await? > 0)
    }

    /// What has come in and is no line yet.
    pub(crate) fn rest(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// A whole reply, its code; the lines are shown to `look`.
    pub(crate) async fn reply(&mut self, wire: &mut Wire, mut look: impl FnMut(&[u8])) -> io::Result<u16> {
        loop {
            while let Some(line) = self.next() {
                look(&line);
                if line.get(3) != Some(&b'-') {
                    let code = std::str::from_utf8(line.get(..3).unwrap_or_default()).ok();
                    let code = code.and_then(|code| code.parse().ok());
                    return code.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no reply of SMTP"));
                }
            }
            if !self.fill(wire).await? {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server has closed the connection"));
            }
        }
    }
}
