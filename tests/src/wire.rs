//! A client that does exactly what it is told, octet by octet, with and without TLS: for conversations that no decent client has.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// How long an answer may take. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection.
pub struct Wire {
    stream: Stream,
    /// Read and not yet looked at.
    input: Vec<u8>,
    closed: bool,
    /// What was said by whom.
    pub transcript: String,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// While TLS is being negotiated.
    None,
}

impl Wire {
    /// Connects to a port of 127.0.0.1.
    pub fn connect(port: u16) -> Wire {
        Wire::connect_from([127, 0, 0, 1], port)
    }

    /// Connects from another address of this machine.
    pub fn connect_from(source: [u8; 4], port: u16) -> Wire {
        let stream = connect_from(source, port).expect("the listener accepts");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Wire { stream: Stream::Plain(stream), input: Vec::new(), closed: false, transcript: String::new() }
    }

    /// Negotiates TLS; the reason if it cannot be had.
    pub fn start_tls(&mut self) -> Result<(), String> {
        let Stream::Plain(mut stream) = std::mem::replace(&mut self.stream, Stream::None) else {
            return Err("TLS twice".into());
        };
        if !self.input.is_empty() {
            return Err(format!("bytes in front of TLS: {}", self.input.escape_ascii()));
        }
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        let name = ServerName::try_from("waypost.test").expect("a name");
        let mut connection = ClientConnection::new(any_certificate(), name).map_err(|error| error.to_string())?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(|error| format!("handshake: {error}"))?;
        }
        self.transcript.push_str("-- TLS\n");
        self.stream = Stream::Tls(Box::new(StreamOwned::new(connection, stream)));
        Ok(())
    }

    /// Whether TLS is up.
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Sends octets in one write. That the other side has closed is found out by reading.
    pub fn send(&mut self, bytes: &[u8]) {
        let shown = if bytes.len() > 300 { &bytes[..300] } else { bytes };
        self.transcript.push_str(&format!("C: {}\n", shown.escape_ascii()));
        let _ = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Stream::None => Ok(()),
        };
    }

    /// One whole reply; `None` at the end of the connection; an error if neither comes.
    pub fn reply(&mut self) -> Result<Option<Reply>, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(reply) = self.take_reply()? {
                return Ok(Some(reply));
            }
            if self.closed {
                return if self.input.is_empty() {
                    Ok(None)
                } else {
                    Err(format!("cut off: {}", self.input.escape_ascii()))
                };
            }
            if Instant::now() >= end || !self.read(end.saturating_duration_since(Instant::now())) {
                return Err("no answer".into());
            }
        }
    }

    /// Whether nothing comes for a while.
    pub fn is_quiet(&mut self, span: Duration) -> bool {
        !self.read(span) && self.input.is_empty()
    }

    /// Closes our side.
    pub fn finish(&mut self) {
        let socket = match &mut self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &mut stream.sock,
            Stream::None => return,
        };
        let _ = socket.shutdown(std::net::Shutdown::Write);
        self.transcript.push_str("C: FIN\n");
    }

    fn take_reply(&mut self) -> Result<Option<Reply>, String> {
        let (mut lines, mut at) = (Vec::new(), 0);
        while let Some(length) = self.input[at..].windows(2).position(|pair| pair == b"\r\n") {
            let line = String::from_utf8_lossy(&self.input[at..at + length]).into_owned();
            at += length + 2;
            let more = match line.as_bytes() {
                [a, b, c, rest @ ..] if [a, b, c].iter().all(|d| d.is_ascii_digit()) => rest.first() == Some(&b'-'),
                _ => return Err(format!("no reply: {line:?}")),
            };
            self.transcript.push_str(&format!("S: {line}\n"));
            lines.push(line);
            if !more {
                self.input.drain(..at);
                return Reply::of(lines).map(Some);
            }
        }
        Ok(None)
    }

    /// Reads what comes within `span`; `false` if nothing does. The end counts as something.
    fn read(&mut self, span: Duration) -> bool {
        let mut space = [0; 16 * 1024];
        let span = span.max(Duration::from_millis(1));
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.set_read_timeout(Some(span)).and_then(|()| stream.read(&mut space)),
            Stream::Tls(stream) => stream.sock.set_read_timeout(Some(span)).and_then(|()| stream.read(&mut space)),
            Stream::None => Ok(0),
        };
        match read {
            Ok(0) => self.closed = true,
            Ok(count) => self.input.extend_from_slice(&space[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
            // An alert, a reset, a missing close_notify: the end.
            Err(_) => self.closed = true,
        }
        true
    }

    /// Whether what is read next is the end, and nothing in front of it.
    pub fn ends(&mut self) -> Result<(), String> {
        match self.reply()? {
            None => {
                self.transcript.push_str("S: FIN\n");
                Ok(())
            }
            Some(reply) => Err(format!("not closed but {}", reply.code)),
        }
    }

    /// Octets read and not understood as a reply, when the connection has ended.
    pub fn rest(&mut self) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        while !self.closed && Instant::now() < end {
            self.read(Duration::from_millis(100));
        }
        std::mem::take(&mut self.input)
    }
}

/// A reply as it was said.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its code.
    pub code: u16,
    /// The enhanced status of its first line, if it has one.
    pub status: Option<String>,
    /// Its lines without the code.
    pub lines: Vec<String>,
}

impl Reply {
    fn of(lines: Vec<String>) -> Result<Reply, String> {
        let code = |line: &String| line[..3].parse().expect("looked at");
        let first: u16 = code(&lines[0]);
        if lines.iter().any(|line| code(line) != first) {
            return Err(format!("codes differ: {lines:?}"));
        }
        let lines: Vec<String> = lines.iter().map(|line| line.get(4..).unwrap_or("").to_string()).collect();
        let status = lines[0].split(' ').next().filter(|word| is_status(word)).map(str::to_string);
        Ok(Reply { code: first, status, lines })
    }

    /// Whether the reply has an enhanced status of its own class.
    pub fn has_status(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.as_bytes()[0] == b'0' + (self.code / 100) as u8)
    }
}

/// `5.7.1`
fn is_status(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// TLS as mail clients do it between strangers: any certificate will do.
fn any_certificate() -> Arc<ClientConfig> {
    static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(make_config);
    CONFIG.clone()
}

fn make_config() -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider knows both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Arc::new(config)
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Connects from an address of this machine to 127.0.0.1.
pub fn connect_from(source: [u8; 4], port: u16) -> std::io::Result<TcpStream> {
    let target = SocketAddr::from(([127, 0, 0, 1], port));
    if source == [127, 0, 0, 1] {
        return TcpStream::connect_timeout(&target, Duration::from_secs(10));
    }
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&target.into(), Duration::from_secs(10))?;
    Ok(socket.into())
}
