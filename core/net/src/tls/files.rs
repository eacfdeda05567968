//! Certificates and keys on disk: PEM in, and the self-signed pair of a first start out. Every error names the file and the remedy.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, then its intermediates.
    pub chain: PathBuf,
    /// PEM: the private key (PKCS #8, PKCS #1 or SEC 1). May be the same file.
    pub key: PathBuf,
}

/// Why TLS could not be set up.
#[derive(Debug)]
pub enum TlsError {
    /// A file could not be read or written.
    File(PathBuf, io::Error),
    /// A file holds nothing of what was looked for.
    Empty(PathBuf, &'static str),
    /// A file holds no valid PEM.
    Pem(PathBuf, String),
    /// Certificate and key do not fit together, or the key is of an unknown kind.
    Key(CertificateFiles, String),
    /// There is no certificate at all.
    NoCertificate,
    /// Making a certificate failed.
    Generate(String),
    /// rustls does not accept the combination of settings.
    Settings(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::File(path, error) => {
                write!(f, "{}: {error}; check that it exists and that Waypost's user may use it", path.display())
            }
            TlsError::Empty(path, what) => {
                write!(f, "{}: no {what} in it; it must hold PEM blocks (-----BEGIN …-----)", path.display())
            }
            TlsError::Pem(path, error) => write!(f, "{}: not valid PEM: {error}", path.display()),
            TlsError::Key(files, error) => write!(
                f,
                "{} and {} do not work together: {error}; the chain must begin with the certificate of this key",
                files.chain.display(),
                files.key.display()
            ),
            TlsError::NoCertificate => f.write_str("TLS needs at least one certificate and key"),
            TlsError::Generate(error) => write!(f, "cannot make a self-signed certificate: {error}"),
            TlsError::Settings(error) => write!(f, "TLS settings: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// Reads and checks one pair.
pub(super) fn load_pair(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = load_certificates(&files.chain)?;
    let key_text = read(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&key_text).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => TlsError::Empty(files.key.clone(), "private key"),
        other => TlsError::Pem(files.key.clone(), other.to_string()),
    })?;
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(|error| TlsError::Key(files.clone(), error.to_string()))
}

/// Reads a file of certificates; at least one.
fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem(path.to_path_buf(), error.to_string()))?;
    if certificates.is_empty() {
        return Err(TlsError::Empty(path.to_path_buf(), "certificate"));
    }
    Ok(certificates)
}

/// Adds the certificates of a PEM file to the roots that are trusted.
pub(super) fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    for certificate in load_certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::Pem(path.to_path_buf(), error.to_string()))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::File(path.to_path_buf(), error))
}

/// The self-signed pair in `directory`: made if it is not there, kept if it is. Files `self-signed.crt` and `self-signed.key`
/// (mode 0600 from its first byte). `names` become the subject alternative names; the first is the common name.
pub fn self_signed(directory: &Path, names: &[String]) -> Result<CertificateFiles, TlsError> {
    let files = CertificateFiles { chain: directory.join("self-signed.crt"), key: directory.join("self-signed.key") };
    if files.chain.exists() && files.key.exists() {
        return Ok(files);
    }
    let failed = |error: rcgen::Error| TlsError::Generate(error.to_string());
    let mut parameters = rcgen::CertificateParams::new(names).map_err(failed)?;
    if let Some(name) = names.first() {
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name.as_str());
    }
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    fs::create_dir_all(directory).map_err(|error| TlsError::File(directory.to_path_buf(), error))?;
    // The key first: a crash in between leaves a key without a certificate, and both are made anew.
    write_new(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
    write_new(&files.chain, certificate.pem().as_bytes(), 0o644)?;
    Ok(files)
}

/// Writes beside, syncs, then renames: never half a file under the final name.
fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), TlsError> {
    let beside = path.with_extension("new");
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        let _ = fs::remove_file(&beside);
        let mut file = options.open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(|error| TlsError::File(path.to_path_buf(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_self_signed_pair_is_made_once_and_its_key_is_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let names = ["mail.example.test".to_string()];
        let files = self_signed(&directory.path().join("tls"), &names).expect("made");
        let key = fs::read(&files.key).expect("readable");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&files.key).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(self_signed(&directory.path().join("tls"), &names).expect("kept"), files);
        assert_eq!(fs::read(&files.key).expect("readable"), key);
        load_pair(&files, &super::super::SERVER_PROVIDER).expect("usable");
    }

    #[test]
    fn errors_name_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = self_signed(&directory.path().join("a"), &["a.test".to_string()]).expect("made");
        let second = self_signed(&directory.path().join("b"), &["b.test".to_string()]).expect("made");
        let load = |chain: &Path, key: &Path| {
            let files = CertificateFiles { chain: chain.to_path_buf(), key: key.to_path_buf() };
            load_pair(&files, &super::super::SERVER_PROVIDER).expect_err("must fail")
        };
        assert!(matches!(load(&first.chain, &second.key), TlsError::Key(..)), "another's key");
        assert!(matches!(load(&first.key, &first.key), TlsError::Empty(_, "certificate")));
        assert!(matches!(load(&first.chain, &first.chain), TlsError::Empty(_, "private key")));
        let absent = directory.path().join("absent.pem");
        assert!(load(&absent, &absent).to_string().contains("absent.pem"));
    }
}
