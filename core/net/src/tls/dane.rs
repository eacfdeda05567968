//! TLSA records against the chain that a host showed: RFC 7671 §5, RFC 7672 §3.1.
//!
//! * 3 (DANE-EE): the certificate's match is everything; its names, dates and issuer mean nothing (RFC 7672 §3.1.1).
//! * 2 (DANE-TA): a certificate that matches becomes the only trust anchor; the chain must lead to it, be in date and bear the
//!   host's name (RFC 7672 §3.1.2). The anchor may come in the chain or, with `2 0 0`, from the record itself. A bare public key
//!   (`2 1 0`) matches a certificate of the chain by its key.
//! * 0 and 1 are unusable for mail (RFC 7672 §3.1.3) and never get here.
//!
//! One matching record is enough.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use waypost_types::Tlsa;

use super::CLIENT_PROVIDER;

/// Checks a chain against the records.
pub fn verify(
    records: &[Tlsa],
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    if records.iter().any(|record| record.usage == 3 && matches(record, end_entity)) {
        return Ok(());
    }
    let anchors = anchors(records, intermediates);
    if anchors.is_empty() {
        return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), CLIENT_PROVIDER.clone())
        .build()
        .map_err(|_| Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
    verifier.verify_server_cert(end_entity, intermediates, name, &[], now).map(|_| ())
}

/// The certificates that a usage 2 record makes trust anchors.
fn anchors(records: &[Tlsa], intermediates: &[CertificateDer<'_>]) -> RootCertStore {
    let mut anchors = RootCertStore::empty();
    for record in records.iter().filter(|record| record.usage == 2) {
        let shown = intermediates.iter().filter(|certificate| matches(record, certificate));
        anchors.add_parsable_certificates(shown.cloned().map(CertificateDer::into_owned));
        if record.selector == 0 && record.matching == 0 {
            anchors.add_parsable_certificates([CertificateDer::from(record.data.clone())]);
        }
    }
    anchors
}

/// Whether a certificate is what a record describes, whatever its usage (RFC 6698 §2.1.2 to §2.1.4).
fn matches(record: &Tlsa, certificate: &CertificateDer<'_>) -> bool {
    match record.selector {
        0 => digest_matches(record, certificate),
        1 => ParsedCertificate::try_from(certificate)
            .is_ok_and(|parsed| digest_matches(record, parsed.subject_public_key_info().as_ref())),
        _ => false,
    }
}

fn digest_matches(record: &Tlsa, selected: &[u8]) -> bool {
    use aws_lc_rs::digest::{SHA256, SHA512, digest};
    match record.matching {
        0 => record.data == selected,
        1 => record.data == digest(&SHA256, selected).as_ref(),
        2 => record.data == digest(&SHA512, selected).as_ref(),
        _ => false,
    }
}
