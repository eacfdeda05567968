//! TLS as a server: certificates chosen by SNI, swapped while sessions go on, one policy per port.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ParsedCertificate, ProducesTickets, ResolvesServerCert,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, ServerConnection, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsAcceptor;
use waypost_types::TlsFacts;

use super::client_certificate::Trust;
use super::files::{CertificateFiles, TlsError, load_pair, self_signed};
use super::{EXPORTER_BYTES, EXPORTER_LABEL, SERVER_PROVIDER, TlsVersion, facts, server_provider};
use crate::Stream;

/// Whether clients are asked for a certificate. [`TlsFacts`] say which it is and whether it is to be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Not asked for: some senders stumble over the request.
    #[default]
    None,
    /// Asked for, not needed; one that is not believed does no harm.
    Ask,
    /// No session without one that is believed, if anybody is; otherwise any will do.
    Require,
}

/// The TLS policy of one kind of door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsOptions {
    /// At least one. A client that names no host, or none of ours, gets the first.
    pub certificates: Vec<CertificateFiles>,
    /// The lowest version.
    pub version_min: TlsVersion,
    /// Cipher suites by their IANA names, see [`cipher_suites`](super::cipher_suites); all of them if empty.
    pub cipher_suites: Vec<String>,
    /// Protocols that clients may name by ALPN (RFC 7301), the preferred first. A client that names others only is refused, one that names none
    /// is served. Empty: ALPN is not looked at.
    pub alpn: Vec<String>,
    /// Whether sessions can be resumed. Some Microsoft senders drop the connection over TLS 1.3 tickets (golang #70232).
    pub tickets: bool,
    /// Whether clients are asked for certificates.
    pub client_certificates: ClientCertificates,
    /// PEM files of the authorities whose client certificates are believed.
    pub client_authorities: Vec<PathBuf>,
    /// SHA-256 fingerprints of client certificates that are believed, whoever gave them.
    pub client_fingerprints: Vec<String>,
    /// The handshake must be over by then.
    pub handshake_timeout: Duration,
}

impl Default for ServerTlsOptions {
    fn default() -> ServerTlsOptions {
        ServerTlsOptions {
            certificates: Vec::new(),
            version_min: TlsVersion::V1_2,
            cipher_suites: Vec::new(),
            alpn: Vec::new(),
            tickets: true,
            client_certificates: ClientCertificates::None,
            client_authorities: Vec::new(),
            client_fingerprints: Vec::new(),
            handshake_timeout: Duration::from_secs(30),
        }
    }
}

/// Our certificates and the rules of one kind of door; reloadable while in use, cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    shared: Arc<Shared>,
}

struct Shared {
    options: ServerTlsOptions,
    config: ArcSwap<(Arc<ServerConfig>, Arc<Trust>)>,
    /// Outlives reloads, so that tickets of before are honoured after.
    ticketer: Option<Arc<dyn ProducesTickets>>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServerTls").field(&self.shared.options).finish()
    }
}

impl ServerTls {
    /// Reads all files; fails on the first that is not right.
    pub fn new(options: ServerTlsOptions) -> Result<ServerTls, TlsError> {
        let ticketer = if options.tickets {
            Some(rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| TlsError::Settings(error.to_string()))?)
        } else {
            None
        };
        let config = ArcSwap::from_pointee(build(&options, ticketer.clone())?);
        Ok(ServerTls { shared: Arc::new(Shared { options, config, ticketer }) })
    }

    /// With the self-signed certificate in `directory`, which is made on first start (see [`self_signed`]); `options.certificates`
    /// is replaced by it.
    pub fn from_self_signed(
        directory: &Path,
        names: &[String],
        mut options: ServerTlsOptions,
    ) -> Result<ServerTls, TlsError> {
        options.certificates = vec![self_signed(directory, names)?];
        ServerTls::new(options)
    }

    /// Reads the files again. New sessions get the new certificates, old ones go on; on an error everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = build(&self.shared.options, self.shared.ticketer.clone())?;
        self.shared.config.store(Arc::new(config));
        Ok(())
    }

    /// The same with the files as they are now, while this one stays as it is. Both honour each other's tickets.
    pub fn renewed(&self) -> Result<ServerTls, TlsError> {
        let Shared { options, ticketer, .. } = &*self.shared;
        let config = ArcSwap::from_pointee(build(options, ticketer.clone())?);
        Ok(ServerTls { shared: Arc::new(Shared { options: options.clone(), config, ticketer: ticketer.clone() }) })
    }

    /// What it was made from.
    pub fn options(&self) -> &ServerTlsOptions {
        &self.shared.options
    }

    /// Negotiates TLS as a server.
    pub async fn accept(&self, stream: Box<dyn Stream>) -> io::Result<(Box<dyn Stream>, Arc<TlsFacts>)> {
        let (config, trust) = (*self.shared.config.load_full()).clone();
        let acceptor = TlsAcceptor::from(config);
        let timeout = self.shared.options.handshake_timeout;
        let stream = tokio::time::timeout(timeout, acceptor.accept(stream)).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("TLS handshake not finished in {timeout:?}"))
        })??;
        let facts = server_facts(stream.get_ref().1, &trust);
        Ok((Box::new(stream), facts))
    }
}

fn server_facts(connection: &ServerConnection, trust: &Trust) -> Arc<TlsFacts> {
    let exporter = (connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3))
        .then(|| connection.export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, None).ok())
        .flatten()
        .map(|bytes| Arc::from(bytes.as_slice()));
    let mut facts = facts(connection, connection.server_name().map(str::to_string), exporter);
    if let Some(chain) = connection.peer_certificates() {
        Arc::make_mut(&mut facts).client_certificate = trust.describe(chain);
    }
    facts
}

fn build(
    options: &ServerTlsOptions,
    ticketer: Option<Arc<dyn ProducesTickets>>,
) -> Result<(Arc<ServerConfig>, Arc<Trust>), TlsError> {
    let trust = Arc::new(Trust::new(&options.client_authorities, &options.client_fingerprints)?);
    let provider = &server_provider(&options.cipher_suites)?;
    let keys = options.certificates.iter().map(|files| load_pair(files, provider)).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(options.version_min.versions())
        .map_err(|error| TlsError::Settings(error.to_string()))?
        .with_client_cert_verifier(client_verifier(options.client_certificates, trust.clone()))
        .with_cert_resolver(Arc::new(BySni { keys }));
    config.alpn_protocols = options.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    match ticketer {
        Some(ticketer) => {
            config.ticketer = ticketer;
            // rustls sends two; a mail client comes back with one connection.
            config.send_tls13_tickets = 1;
        }
        None => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }
    Ok((Arc::new(config), trust))
}

fn client_verifier(wanted: ClientCertificates, trust: Arc<Trust>) -> Arc<dyn ClientCertVerifier> {
    match wanted {
        ClientCertificates::None => Arc::new(NoClientAuth),
        ClientCertificates::Ask => Arc::new(HeldCertificate { mandatory: false, trust }),
        ClientCertificates::Require => Arc::new(HeldCertificate { mandatory: true, trust }),
    }
}

/// The first certificate that fits the name and the client's signature algorithms; then the first that fits the algorithms; then
/// the first. So a host may hold an ECDSA and an RSA certificate for one name.
#[derive(Debug)]
struct BySni {
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let [only] = self.keys.as_slice() {
            return Some(only.clone());
        }
        let signable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        name.and_then(|name| self.keys.iter().filter(signable).find(|key| is_for(key, &name)))
            .or_else(|| self.keys.iter().find(signable))
            .or_else(|| self.keys.first())
            .cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let Some(certificate) = key.cert.first() else { return false };
    ParsedCertificate::try_from(certificate).is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

/// Takes client certificates of whose key the client gives proof: any, unless one is required and somebody is believed.
#[derive(Debug)]
struct HeldCertificate {
    mandatory: bool,
    trust: Arc<Trust>,
}

impl ClientCertVerifier for HeldCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.hints()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        if self.mandatory && !self.trust.is_empty() && !self.trust.covers(&chain, now) {
            return Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &SERVER_PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &SERVER_PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SERVER_PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
