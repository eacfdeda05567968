//! Private keys for DKIM: made, read, written, and what of them goes into DNS.
//!
//! RSA of 2048 bits and Ed25519, PKCS#8 or PKCS#1 in PEM. A domain should publish and sign with both: large receivers fail mail that
//! bears an Ed25519 signature alone.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// There is no private key in PEM.
    Pem,
    /// It is neither RSA of at least 1024 bits (RFC 8301 §3.2) nor Ed25519.
    Kind,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyError::Pem => "no private key in PEM found; `waypost dkim new` makes one",
            KeyError::Kind => {
                "the key is neither RSA of 1024 bits or more nor Ed25519; `waypost dkim new` makes either"
            }
        })
    }
}

impl std::error::Error for KeyError {}

/// The kinds of keys that DKIM knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RFC 6376, 2048 bits when made here.
    Rsa,
    /// RFC 8463.
    Ed25519,
}

/// A private key. Never printed.
pub enum SecretKey {
    /// RSA.
    Rsa(RsaKeyPair),
    /// Ed25519.
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({:?})", self.kind())
    }
}

impl SecretKey {
    /// Makes a key.
    pub fn generate(kind: KeyKind) -> SecretKey {
        // Fails only if the system has no randomness, and then nothing else works either.
        match kind {
            KeyKind::Rsa => SecretKey::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("randomness")),
            KeyKind::Ed25519 => SecretKey::Ed25519(Ed25519KeyPair::generate().expect("randomness")),
        }
    }

    /// Reads the first private key of a PEM text.
    pub fn from_pem(pem: &str) -> Result<SecretKey, KeyError> {
        match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)? {
            PrivateKeyDer::Pkcs1(der) => {
                RsaKeyPair::from_der(der.secret_pkcs1_der()).map(SecretKey::Rsa).map_err(|_| KeyError::Kind)
            }
            PrivateKeyDer::Pkcs8(der) => from_pkcs8(der.secret_pkcs8_der()),
            _ => Err(KeyError::Kind),
        }
    }

    /// The key as PKCS#8 in PEM.
    pub fn to_pem(&self) -> String {
        let der = match self {
            SecretKey::Rsa(key) => {
                AsDer::<Pkcs8V1Der<'_>>::as_der(key).expect("our keys can be written").as_ref().to_vec()
            }
            SecretKey::Ed25519(key) => key.to_pkcs8v1().expect("our keys can be written").as_ref().to_vec(),
        };
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        let text = STANDARD.encode(der);
        // Base 64 is ASCII, so every cut is between characters.
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().map(|&b| char::from(b)));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        pem
    }

    /// RSA or Ed25519.
    pub fn kind(&self) -> KeyKind {
        match self {
            SecretKey::Rsa(_) => KeyKind::Rsa,
            SecretKey::Ed25519(_) => KeyKind::Ed25519,
        }
    }

    /// `a=` of a signature.
    pub fn algorithm(&self) -> &'static str {
        match self {
            SecretKey::Rsa(_) => "rsa-sha256",
            SecretKey::Ed25519(_) => "ed25519-sha256",
        }
    }

    /// The text of the TXT record at `selector._domainkey.domain` (RFC 6376 §3.6.1, RFC 8463 §4). Longer than 255 octets for RSA: in a
    /// zone file it is written as several strings, see [`zone_line`].
    pub fn record(&self) -> String {
        match self {
            SecretKey::Rsa(key) => {
                let public = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).expect("our keys can be written");
                format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(public.as_ref()))
            }
            SecretKey::Ed25519(key) => {
                format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(key.public_key().as_ref()))
            }
        }
    }

    /// Signs a SHA-256 digest: PKCS#1 v1.5 for RSA, PureEdDSA over the digest for Ed25519 (RFC 8463 §3).
    pub fn sign(&self, sha256: &[u8]) -> Result<Vec<u8>, String> {
        if sha256.len() != digest::SHA256_OUTPUT_LEN {
            return Err(format!("a SHA-256 digest has {} octets, not {}", digest::SHA256_OUTPUT_LEN, sha256.len()));
        }
        match self {
            SecretKey::Rsa(key) => {
                let digest = digest::Digest::import_less_safe(sha256, &digest::SHA256).map_err(|e| e.to_string())?;
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign_digest(&RSA_PKCS1_SHA256, &digest, &mut signature).map_err(|e| e.to_string())?;
                Ok(signature)
            }
            SecretKey::Ed25519(key) => Ok(key.sign(sha256).as_ref().to_vec()),
        }
    }
}

fn from_pkcs8(der: &[u8]) -> Result<SecretKey, KeyError> {
    if let Ok(key) = RsaKeyPair::from_pkcs8(der) {
        return Ok(SecretKey::Rsa(key));
    }
    // OpenSSL writes version 1, without the public half.
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(SecretKey::Ed25519).map_err(|_| KeyError::Kind)
}

/// A record as a line of a zone file, cut into strings of at most 255 octets.
pub fn zone_line(domain: &str, selector: &str, record: &str) -> String {
    let strings: Vec<String> =
        record.as_bytes().chunks(250).map(|part| format!("\"{}\"", String::from_utf8_lossy(part))).collect();
    format!("{selector}._domainkey.{domain}. IN TXT ( {} )", strings.join(" "))
}

/// Randomness for those above who need some and do not want a library for it.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::SecureRandom::fill(&SystemRandom::new(), &mut bytes).expect("the system has randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_being_written_and_read() {
        for kind in [KeyKind::Rsa, KeyKind::Ed25519] {
            let key = SecretKey::generate(kind);
            let again = SecretKey::from_pem(&key.to_pem()).expect("what was just written");
            assert_eq!((again.kind(), again.record()), (kind, key.record()));
            assert!(again.sign(&[7; 32]).is_ok() && again.sign(b"short").is_err());
        }
        assert_eq!(SecretKey::from_pem("nonsense").map(|_| ()), Err(KeyError::Pem));
    }

    #[test]
    fn a_long_record_is_cut_for_the_zone_file_and_nothing_is_lost() {
        let record = SecretKey::generate(KeyKind::Rsa).record();
        let line = zone_line("example.com", "s1", &record);
        assert!(line.starts_with("s1._domainkey.example.com. IN TXT ( \"v=DKIM1; k=rsa; p="));
        let strings: Vec<_> = line.split('"').skip(1).step_by(2).collect();
        assert!(strings.iter().all(|string| string.len() <= 255) && strings.len() == 2);
        assert_eq!(strings.concat(), record);
    }
}
