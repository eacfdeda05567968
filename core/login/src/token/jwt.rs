//! JWTs (RFC 7519) by the keys of a JWKS file (RFC 7517): signatures only; what the claims must be is judged elsewhere.
//!
//! Asymmetric algorithms alone, from a list that the operator can shorten: `none` and HMAC with a public key for a secret (RFC 8725
//! §2.1) do not exist here. A key is used only with the algorithms of its kind.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::Value;

/// What can be verified.
pub const ALGORITHMS: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
/// Keys of a file that are looked at.
const KEYS_MAX: usize = 64;

/// Why a JWKS file cannot be used.
#[derive(Debug)]
pub enum JwksError {
    /// It cannot be read.
    Read(PathBuf, std::io::Error),
    /// It is no JWKS.
    Form(PathBuf, String),
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JwksError::Read(path, error) => write!(f, "{}: {error}", path.display()),
            JwksError::Form(path, what) => {
                write!(f, "{}: {what}; put in what the identity provider shows at its jwks_uri", path.display())
            }
        }
    }
}

impl std::error::Error for JwksError {}

/// The keys of a file.
pub struct Jwks {
    keys: Vec<Key>,
    algorithms: Vec<String>,
}

struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    public: Public,
}

enum Public {
    Rsa(PublicKeyComponents<Vec<u8>>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Jwks {
    /// Reads a file; tokens may be signed by `algorithms` only.
    pub fn open(path: &Path, algorithms: &[String]) -> Result<Jwks, JwksError> {
        let text = std::fs::read(path).map_err(|error| JwksError::Read(path.to_path_buf(), error))?;
        Jwks::parse(&text, algorithms).map_err(|what| JwksError::Form(path.to_path_buf(), what))
    }

    /// Keys of kinds that are not known are passed over, as RFC 7517 §5 wants.
    fn parse(text: &[u8], algorithms: &[String]) -> Result<Jwks, String> {
        let set: Value = serde_json::from_slice(text).map_err(|error| format!("no JSON: {error}"))?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("there is no list `keys`")?;
        let keys: Vec<Key> = keys.iter().take(KEYS_MAX).filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err("there is no key for signatures of a known kind (RSA, EC P-256 or P-384, Ed25519)".into());
        }
        Ok(Jwks { keys, algorithms: algorithms.to_vec() })
    }

    /// The claims of a token that one of the keys has signed.
    pub(super) fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64URL.decode(header).ok()?).ok()?;
        let algorithm = header.get("alg")?.as_str()?;
        // RFC 7515 §4.1.11: what must be understood is not.
        if header.get("crit").is_some() || !self.algorithms.iter().any(|known| known == algorithm) {
            return None;
        }
        let id = header.get("kid").and_then(Value::as_str);
        let signature = BASE64URL.decode(signature).ok()?;
        let fits = |key: &&Key| {
            id.is_none_or(|id| key.id.as_deref().is_none_or(|own| own == id))
                && key.algorithm.as_deref().is_none_or(|own| own == algorithm)
        };
        let good =
            self.keys.iter().filter(fits).any(|key| key.public.verifies(algorithm, signed.as_bytes(), &signature));
        good.then(|| serde_json::from_slice(&BASE64URL.decode(claims).ok()?).ok()).flatten()
    }
}

impl Key {
    fn read(key: &Value) -> Option<Key> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let octets = |name: &str| BASE64URL.decode(text(name)?).ok();
        if text("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        let point = |size: usize| {
            let (x, y) = (octets("x")?, octets("y")?);
            (x.len() == size && y.len() == size).then(|| [&[4][..], &x, &y].concat())
        };
        let public = match (text("kty")?, text("crv")) {
            ("RSA", _) => Public::Rsa(PublicKeyComponents { n: octets("n")?, e: octets("e")? }),
            ("EC", Some("P-256")) => Public::P256(point(32)?),
            ("EC", Some("P-384")) => Public::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Public::Ed25519(octets("x")?),
            _ => return None,
        };
        Some(Key { id: text("kid").map(str::to_string), algorithm: text("alg").map(str::to_string), public })
    }
}

impl Public {
    fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let rsa = |key: &PublicKeyComponents<Vec<u8>>, parameters| key.verify(parameters, message, signature).is_ok();
        match (self, algorithm) {
            (Public::Rsa(key), "RS256") => rsa(key, &signature::RSA_PKCS1_2048_8192_SHA256),
            (Public::Rsa(key), "RS384") => rsa(key, &signature::RSA_PKCS1_2048_8192_SHA384),
            (Public::Rsa(key), "RS512") => rsa(key, &signature::RSA_PKCS1_2048_8192_SHA512),
            (Public::Rsa(key), "PS256") => rsa(key, &signature::RSA_PSS_2048_8192_SHA256),
            (Public::Rsa(key), "PS384") => rsa(key, &signature::RSA_PSS_2048_8192_SHA384),
            (Public::Rsa(key), "PS512") => rsa(key, &signature::RSA_PSS_2048_8192_SHA512),
            (Public::P256(key), "ES256") => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key).verify(message, signature).is_ok()
            }
            (Public::P384(key), "ES384") => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, key).verify(message, signature).is_ok()
            }
            (Public::Ed25519(key), "EdDSA") => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
    use serde_json::json;

    fn all() -> Vec<String> {
        ALGORITHMS.map(str::to_string).to_vec()
    }

    fn b64(bytes: impl AsRef<[u8]>) -> String {
        BASE64URL.encode(bytes)
    }

    fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = sign(signed.as_bytes());
        format!("{signed}.{}", b64(signature))
    }

    /// The key and token of RFC 8037 appendix A: its payload is no JSON, so the signature alone can be looked at.
    #[test]
    fn the_signature_of_rfc_8037_verifies() {
        let key = Public::Ed25519(BASE64URL.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").expect("base64"));
        let text = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = BASE64URL
            .decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
            .expect("base64");
        assert!(key.verifies("EdDSA", text, &signature));
        assert!(!key.verifies("RS256", text, &signature));
    }

    #[test]
    fn signed_by_a_key_of_the_file_or_not_at_all() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let other = Ed25519KeyPair::generate().expect("a key");
        let point = pair.public_key().as_ref();
        let set = json!({ "keys": [
            { "kty": "oct", "k": "c2VjcmV0" },
            { "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": b64(&point[1..33]), "y": b64(&point[33..]) },
        ] });
        let jwks = Jwks::parse(set.to_string().as_bytes(), &all()).expect("a set");
        let claims = json!({ "sub": "alice" });
        let sign = |text: &[u8]| pair.sign(&SystemRandom::new(), text).expect("signed").as_ref().to_vec();
        let with = |header: Value| jwks.verify(&token(&header, &claims, sign));
        assert_eq!(with(json!({ "alg": "ES256", "kid": "one" })), Some(claims.clone()));
        assert_eq!(with(json!({ "alg": "ES256" })), Some(claims.clone()));
        assert_eq!(with(json!({ "alg": "ES256", "kid": "two" })), None);
        assert_eq!(with(json!({ "alg": "ES384" })), None);
        assert_eq!(with(json!({ "alg": "none" })), None);
        assert_eq!(with(json!({ "alg": "HS256" })), None);
        assert_eq!(with(json!({ "alg": "ES256", "crit": ["x"] })), None);
        let foreign = |text: &[u8]| other.sign(text).as_ref().to_vec();
        assert_eq!(jwks.verify(&token(&json!({ "alg": "ES256" }), &claims, foreign)), None);
        let mut damaged = token(&json!({ "alg": "ES256" }), &claims, sign);
        damaged.insert(3, 'A');
        assert_eq!(jwks.verify(&damaged), None);
        for text in ["", ".", "..", "a.b", "a.b.c"] {
            assert_eq!(jwks.verify(text), None);
        }
        let narrow = Jwks::parse(set.to_string().as_bytes(), &["RS256".to_string()]).expect("a set");
        assert_eq!(narrow.verify(&token(&json!({ "alg": "ES256" }), &claims, sign)), None, "the operator wants RS256");
    }

    #[test]
    fn a_file_without_usable_keys_is_a_mistake() {
        for text in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"eA"}]}"#] {
            assert!(Jwks::parse(text.as_bytes(), &all()).is_err(), "{text}");
        }
    }
}
