//! Client certificates: who is trusted, and what a trusted one says of its holder.
//!
//! A handshake proves that the client holds the key. Whether that means anything is decided here: the certificate leads to one of the
//! operator's authorities (and is for client authentication), or its fingerprint is on the operator's list. Names are read only then.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{DistinguishedName, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use waypost_types::ClientCertificate;

use super::files::{TlsError, add_roots};
use super::{SERVER_PROVIDER, fingerprint};

/// Who is trusted.
#[derive(Debug)]
pub(super) struct Trust {
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    hints: Vec<DistinguishedName>,
    fingerprints: Vec<String>,
}

impl Trust {
    /// Reads the authorities' files. `fingerprints` are SHA-256 in hex, with or without colons.
    pub(super) fn new(authorities: &[PathBuf], fingerprints: &[String]) -> Result<Trust, TlsError> {
        let mut roots = RootCertStore::empty();
        for path in authorities {
            add_roots(&mut roots, path)?;
        }
        let hints = roots.subjects();
        let verifier = (!roots.is_empty()).then(|| {
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), SERVER_PROVIDER.clone());
            builder.build().map_err(|error| TlsError::Settings(error.to_string()))
        });
        let fingerprints = fingerprints.iter().map(|text| text.replace(':', "").to_ascii_lowercase()).collect();
        Ok(Trust { authorities: verifier.transpose()?, hints, fingerprints })
    }

    /// Whether anybody is: otherwise any certificate does where one is required.
    pub(super) fn is_empty(&self) -> bool {
        self.authorities.is_none() && self.fingerprints.is_empty()
    }

    /// What clients are told, so that they choose the right one of several.
    pub(super) fn hints(&self) -> &[DistinguishedName] {
        &self.hints
    }

    /// Whether a certificate of whose key the client has given proof is to be believed.
    pub(super) fn covers(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        let print = fingerprint(leaf);
        self.fingerprints.contains(&print)
            || self
                .authorities
                .as_ref()
                .is_some_and(|verifier| verifier.verify_client_cert(leaf, intermediates, now).is_ok())
    }

    /// What is known of the client by its certificate.
    pub(super) fn describe(&self, chain: &[CertificateDer<'_>]) -> Option<Arc<ClientCertificate>> {
        let leaf = chain.first()?;
        let verified = self.covers(chain, UnixTime::now());
        let names = if verified { names(leaf).unwrap_or_default() } else { ClientCertificate::default() };
        Some(Arc::new(ClientCertificate { fingerprint: fingerprint(leaf), verified, ..names }))
    }
}

/// Common name and alternative names (RFC 5280 §4.1). The walk is over DER that a verifier has accepted, and bounds-checked anyway.
fn names(certificate: &[u8]) -> Option<ClientCertificate> {
    let mut tbs = Der(Der(Der(certificate).expect(0x30)?).expect(0x30)?);
    let mut found = ClientCertificate::default();
    if tbs.peek() == Some(0xa0) {
        tbs.next()?;
    }
    // Serial number, algorithm, issuer, validity.
    (0..4).try_for_each(|_| tbs.next().map(|_| ()))?;
    let mut subject = Der(tbs.expect(0x30)?);
    while let Some((0x31, set)) = subject.next() {
        let mut attribute = Der(Der(set).expect(0x30)?);
        if attribute.expect(0x06)? == COMMON_NAME
            && let Some((0x0c | 0x13 | 0x14 | 0x16, value)) = attribute.next()
        {
            found.common_name = String::from_utf8_lossy(value).into_owned();
        }
    }
    tbs.next()?;
    while let Some((tag, content)) = tbs.next() {
        if tag == 0xa3 {
            alternative_names(content, &mut found)?;
        }
    }
    Some(found)
}

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

fn alternative_names(extensions: &[u8], found: &mut ClientCertificate) -> Option<()> {
    let mut extensions = Der(Der(extensions).expect(0x30)?);
    while let Some((0x30, extension)) = extensions.next() {
        let mut extension = Der(extension);
        if extension.expect(0x06)? != ALTERNATIVE_NAME {
            continue;
        }
        if extension.peek() == Some(0x01) {
            extension.next()?;
        }
        let mut names = Der(Der(extension.expect(0x04)?).expect(0x30)?);
        while let Some((tag, value)) = names.next() {
            let Ok(text) = std::str::from_utf8(value) else { continue };
            match tag {
                0x81 => found.emails.push(text.to_string()),
                0x82 => found.names.push(text.to_string()),
                _ => {}
            }
        }
    }
    Some(())
}

/// Values off the front of a slice.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = if first & 0x80 == 0 {
            (usize::from(*first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            let (bytes, rest) = rest.split_at_checked(count).filter(|_| (1..=3).contains(&count))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    #[test]
    fn names_are_read_from_a_certificate() {
        let mut parameters = CertificateParams::new(vec!["laptop.test".to_string()]).expect("a name");
        parameters.distinguished_name.push(DnType::OrganizationName, "Own");
        parameters.distinguished_name.push(DnType::CommonName, "alice");
        parameters.subject_alt_names.push(SanType::Rfc822Name("alice@own.test".try_into().expect("ASCII")));
        let certificate = parameters.self_signed(&KeyPair::generate().expect("a key")).expect("signed");
        let found = names(certificate.der()).expect("names");
        assert_eq!(
            (found.common_name.as_str(), found.emails, found.names),
            ("alice", vec!["alice@own.test".to_string()], vec!["laptop.test".to_string()])
        );
        for cut in 0..certificate.der().len() {
            let _ = names(&certificate.der()[..cut]);
        }
        let trust = Trust::new(&[], &[fingerprint(certificate.der()).to_uppercase()]).expect("usable");
        let known = trust.describe(&[certificate.der().clone()]).expect("a certificate");
        assert!(known.verified && known.common_name == "alice");
        let nobody = Trust::new(&[], &[]).expect("usable");
        let unknown = nobody.describe(&[certificate.der().clone()]).expect("a certificate");
        assert!(!unknown.verified && unknown.common_name.is_empty(), "names of strangers are not read");
    }
}
