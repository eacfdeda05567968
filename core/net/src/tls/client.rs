//! TLS as a client: does what a [`Security`] demands, and no more.
//!
//! Sessions are kept for resumption, apart for each demand: rustls resumes a session only under the verifier that it was made with, and
//! each [`Security`] has its own, so what an opportunistic handshake accepted never passes for verified.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use waypost_types::{Security, TlsFacts, Tlsa};

use super::files::{TlsError, add_roots};
use super::{CLASSIC_PROVIDER, CLIENT_PROVIDER, EXPORTER_BYTES, EXPORTER_LABEL, TlsVersion, dane, facts};
use crate::Stream;

/// How many TLSA sets have a configuration (and sessions) kept at a time.
const DANE_CONFIGS_MAX: usize = 1024;

/// TLS towards peers.
#[derive(Clone, Debug)]
pub struct ClientTlsOptions {
    /// A PEM file of further roots for [`Security::Verified`], beside those of Mozilla's programme.
    pub extra_roots: Option<PathBuf>,
    /// The lowest version for hops that must be encrypted; opportunistic ones always take 1.2.
    pub version_min: TlsVersion,
    /// Sessions kept for resumption, per demand.
    pub sessions_max: usize,
    /// The handshake must be over by then.
    pub handshake_timeout: Duration,
}

impl Default for ClientTlsOptions {
    fn default() -> ClientTlsOptions {
        ClientTlsOptions {
            extra_roots: None,
            version_min: TlsVersion::V1_2,
            sessions_max: 4096,
            handshake_timeout: Duration::from_secs(30),
        }
    }
}

/// TLS towards peers; keeps sessions for resumption. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    shared: Arc<Shared>,
}

struct Shared {
    options: ClientTlsOptions,
    opportunistic: Arc<ClientConfig>,
    encrypted: Arc<ClientConfig>,
    verified: Arc<ClientConfig>,
    public: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    dane: Mutex<HashMap<Arc<[Tlsa]>, Arc<ClientConfig>>>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientTls").field(&self.shared.options).finish()
    }
}

impl ClientTls {
    /// Sets up all demands but DANE's, whose records come with the hop.
    pub fn new(options: ClientTlsOptions) -> Result<ClientTls, TlsError> {
        ClientTls::with_provider(options, CLIENT_PROVIDER.clone())
    }

    /// The same with a first message that is as short as it can be, for peers that a longer one does not reach.
    #[must_use]
    pub fn classic(&self) -> ClientTls {
        // Roots that could be read a moment ago: if they cannot any more, there is one way less.
        let classic = ClientTls::with_provider(self.shared.options.clone(), CLASSIC_PROVIDER.clone());
        classic.unwrap_or_else(|_| self.clone())
    }

    fn with_provider(options: ClientTlsOptions, provider: Arc<CryptoProvider>) -> Result<ClientTls, TlsError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = &options.extra_roots {
            add_roots(&mut roots, path)?;
        }
        let public = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| TlsError::Settings(error.to_string()))?;
        let lax = ClientTlsOptions { version_min: TlsVersion::V1_2, ..options.clone() };
        let shared = Shared {
            opportunistic: config(&provider, &lax, Arc::new(AnyCertificate)),
            encrypted: config(&provider, &options, Arc::new(AnyCertificate)),
            verified: config(&provider, &options, public.clone()),
            public,
            dane: Mutex::default(),
            provider,
            options,
        };
        Ok(ClientTls { shared: Arc::new(shared) })
    }

    /// Negotiates TLS as a client; `name` is sent as SNI and checked as `security` says. [`Security::Plain`] is an error: who asks for
    /// TLS on such a hop has lost track of its policy.
    pub async fn connect(
        &self,
        stream: Box<dyn Stream>,
        name: &str,
        security: &Security,
    ) -> io::Result<(Box<dyn Stream>, Arc<TlsFacts>)> {
        let config = self.config_for(security)?;
        self.handshake(config, stream, name, security).await
    }

    async fn handshake(
        &self,
        config: Arc<ClientConfig>,
        stream: Box<dyn Stream>,
        name: &str,
        security: &Security,
    ) -> io::Result<(Box<dyn Stream>, Arc<TlsFacts>)> {
        let name = server_name(name, security)?;
        let sent = matches!(&name, ServerName::DnsName(_)).then(|| name.to_str().into_owned());
        let timeout = self.shared.options.handshake_timeout;
        let handshake = TlsConnector::from(config).connect(name, stream);
        let stream = tokio::time::timeout(timeout, handshake).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("TLS handshake not finished in {timeout:?}"))
        })??;
        let facts = client_facts(stream.get_ref().1, sent);
        Ok((Box::new(stream), facts))
    }

    /// Like [`ClientTls::connect`] for an opportunistic hop, and tells what would have been wrong with the certificate if it had to be good: for
    /// MTA-STS policies that are being tested (RFC 8461 §3.2). No session is resumed, or nothing would be seen.
    pub async fn connect_and_look(
        &self,
        stream: Box<dyn Stream>,
        name: &str,
    ) -> io::Result<(Box<dyn Stream>, Arc<TlsFacts>, Option<io::Error>)> {
        let looker = Arc::new(Looker { strict: self.shared.public.clone(), seen: Mutex::default() });
        let lax = ClientTlsOptions { version_min: TlsVersion::V1_2, sessions_max: 0, ..self.shared.options.clone() };
        let config = config(&self.shared.provider, &lax, looker.clone());
        let (stream, facts) = self.handshake(config, stream, name, &Security::Opportunistic).await?;
        let seen = looker.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok((stream, facts, seen.map(|error| io::Error::new(io::ErrorKind::InvalidData, error))))
    }

    fn config_for(&self, security: &Security) -> io::Result<Arc<ClientConfig>> {
        match security {
            Security::Plain => Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS was asked for on a plaintext hop")),
            Security::Opportunistic => Ok(self.shared.opportunistic.clone()),
            Security::Encrypted => Ok(self.shared.encrypted.clone()),
            Security::Verified => Ok(self.shared.verified.clone()),
            Security::Dane(records) => Ok(self.dane_config(records)),
        }
    }

    /// The configuration of a set of records. Kept, because the sessions to resume live in it.
    fn dane_config(&self, records: &Arc<[Tlsa]>) -> Arc<ClientConfig> {
        // A poisoned lock only means that another task panicked between two map operations, each of which is whole.
        let mut configs = self.shared.dane.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(records) {
            return config.clone();
        }
        if configs.len() >= DANE_CONFIGS_MAX {
            configs.clear();
        }
        // One host shows up under few names: a handful of sessions each.
        let options = ClientTlsOptions { sessions_max: 8, ..self.shared.options.clone() };
        let config = config(&self.shared.provider, &options, Arc::new(DaneVerifier { records: records.clone() }));
        configs.insert(records.clone(), config.clone());
        config
    }
}

fn config(
    provider: &Arc<CryptoProvider>,
    options: &ClientTlsOptions,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(options.version_min.versions())
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(options.sessions_max);
    Arc::new(config)
}

fn client_facts(connection: &ClientConnection, sent: Option<String>) -> Arc<TlsFacts> {
    let exporter = (connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3))
        .then(|| connection.export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, None).ok())
        .flatten()
        .map(|bytes| Arc::from(bytes.as_slice()));
    facts(connection, sent, exporter)
}

/// A name that SNI cannot carry must not keep an unauthenticated hop from being encrypted; the placeholder address makes rustls
/// leave SNI out.
fn server_name(name: &str, security: &Security) -> io::Result<ServerName<'static>> {
    let bare = name.trim_end_matches('.').trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    match DnsName::try_from(bare.to_string()) {
        Ok(name) => Ok(ServerName::DnsName(name)),
        Err(_) if matches!(security, Security::Opportunistic | Security::Encrypted) => {
            Ok(ServerName::IpAddress(IpAddr::from([0, 0, 0, 0]).into()))
        }
        Err(error) => {
            let text = format!("host name {name:?} cannot be verified by TLS: {error}");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// Whether a handshake failed because of the certificate that the host showed: what MTA-STS and DANE exist to find, and never a
/// reason to try with less.
pub fn is_certificate_error(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

/// What was wrong with the certificate that a host showed, as far as reports tell it apart (RFC 8460 §4.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// It bears another name.
    Name,
    /// Its time is over or has not come.
    Expired,
    /// Nobody whom we trust vouches for it.
    Untrusted,
    /// Anything else; no TLSA record that fits, among others.
    Other,
}

/// The fault of a certificate on which a handshake failed; `None` if it failed on something else.
pub fn certificate_fault(error: &io::Error) -> Option<CertificateFault> {
    use rustls::CertificateError as Wrong;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())?;
    match inner {
        rustls::Error::InvalidCertificate(wrong) => Some(match wrong {
            Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => CertificateFault::Name,
            Wrong::Expired | Wrong::ExpiredContext { .. } | Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
                CertificateFault::Expired
            }
            Wrong::UnknownIssuer => CertificateFault::Untrusted,
            _ => CertificateFault::Other,
        }),
        rustls::Error::NoCertificatesPresented => Some(CertificateFault::Other),
        _ => None,
    }
}

/// Lets every certificate pass like [`AnyCertificate`], and remembers what would have been wrong with it.
#[derive(Debug)]
struct Looker {
    strict: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<rustls::Error>>,
}

impl ServerCertVerifier for Looker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.strict.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = judged.err();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        AnyCertificate.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        AnyCertificate.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        AnyCertificate.supported_verify_schemes()
    }
}

/// Any certificate: encryption without authentication (RFC 7435). The handshake signature is not checked either. It would prove
/// possession of a key that nobody vouches for, and would turn away hosts whose certificates are too old to parse.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        CLIENT_PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

/// What the TLSA records say, see [`dane`].
#[derive(Debug)]
struct DaneVerifier {
    records: Arc<[Tlsa]>,
}

impl ServerCertVerifier for DaneVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        dane::verify(&self.records, end_entity, intermediates, name, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &CLIENT_PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &CLIENT_PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        CLIENT_PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
