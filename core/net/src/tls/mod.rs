//! TLS on both sides, over rustls with aws-lc-rs.
//!
//! * [`server`]: certificates by SNI, reloaded while in use, a policy per port;
//! * [`client`]: what a [`waypost_types::Security`] demands, sessions kept for resumption;
//! * `client_certificate`: whose certificates are believed, and what they say;
//! * [`dane`]: TLSA records against a chain (RFC 7671, RFC 7672);
//! * [`files`]: PEM in and out, the self-signed certificate of a first start.
//!
//! The provider is named in every configuration. The process default of rustls is never read, so no other crate can change what
//! we negotiate. Lowest version is TLS 1.2; whoever speaks less gets plaintext where policy allows (RFC 7435) and nothing
//! where it does not.

pub mod client;
mod client_certificate;
pub mod dane;
pub mod files;
pub mod server;

pub use client::{CertificateFault, ClientTls, ClientTlsOptions, certificate_fault, is_certificate_error};
pub use files::{CertificateFiles, TlsError, self_signed};
pub use server::{ClientCertificates, ServerTls, ServerTlsOptions};

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CommonState, HandshakeKind, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};
use waypost_types::TlsFacts;

/// The lowest version that a side agrees to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    V1_2,
    /// TLS 1.3 alone.
    V1_3,
}

/// Newest first.
static ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

impl TlsVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            TlsVersion::V1_2 => ALL_VERSIONS,
            TlsVersion::V1_3 => &ALL_VERSIONS[..1],
        }
    }
}

/// A server takes the hybrid post-quantum share when a client sends it.
static SERVER_PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| provider([kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1]));

/// A client sends a classical share first: the ML-KEM share makes the hello longer than a segment, and middleboxes drop those
/// (openssl #27557, golang #80573). Peers that insist on ML-KEM ask for it in one more round trip.
static CLIENT_PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| provider([kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1, kx_group::X25519MLKEM768]));

/// For peers behind something that drops even the second hello of those who would take ML-KEM: it is not spoken of at all.
static CLASSIC_PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| provider([kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1]));

fn provider<const N: usize>(groups: [&'static dyn SupportedKxGroup; N]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: groups.to_vec(), ..default_provider() })
}

/// The cipher suites that there are, by IANA name, the preferred first.
pub fn cipher_suites() -> Vec<String> {
    SERVER_PROVIDER.cipher_suites.iter().map(suite_name).collect()
}

/// As [`SERVER_PROVIDER`] with these suites only, in the order they are named in; all of them if none is named.
fn server_provider(suites: &[String]) -> Result<Arc<CryptoProvider>, TlsError> {
    if suites.is_empty() {
        return Ok(SERVER_PROVIDER.clone());
    }
    let find = |name: &String| {
        let known = SERVER_PROVIDER.cipher_suites.iter().find(|suite| suite_name(suite) == *name);
        known.copied().ok_or_else(|| {
            TlsError::Settings(format!("there is no cipher suite {name}; there are {}", cipher_suites().join(", ")))
        })
    };
    let cipher_suites = suites.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(CryptoProvider { cipher_suites, ..CryptoProvider::clone(&SERVER_PROVIDER) }))
}

/// What both sides say about a finished handshake.
fn facts(connection: &CommonState, server_name: Option<String>, exporter: Option<Arc<[u8]>>) -> Arc<TlsFacts> {
    Arc::new(TlsFacts {
        version: version_word(connection.protocol_version()),
        cipher: cipher_name(connection),
        server_name,
        client_certificate: None,
        exporter,
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
    })
}

/// `TLSv1.3`, as OpenSSL and every mail log write it.
fn version_word(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "unknown",
    }
}

/// rustls calls TLS 1.3 suites `TLS13_…`; IANA calls them `TLS_…`.
fn cipher_name(connection: &CommonState) -> String {
    connection.negotiated_cipher_suite().map_or_else(|| "unknown".to_string(), |suite| suite_name(&suite))
}

fn suite_name(suite: &SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}

/// Label and length of RFC 9266 §2. Only for TLS 1.3: with 1.2 the value is unique only under extended master secrets
/// (RFC 9266 §3), which rustls does not report.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
const EXPORTER_BYTES: usize = 32;

/// SHA-256 in lower-case hex, the usual fingerprint of a certificate.
fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    })
}
