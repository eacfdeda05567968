//! Keys for SCRAM-SHA-256 (RFC 5802 §3, RFC 7677): made from a password, written in the form of RFC 5803, read, and made up for
//! those who have none, so that nobody learns who has.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use waypost_types::login::ScramKeys;

/// Rounds for new keys. RFC 7677 §4 asks for 4096 at least; the client pays for them, some 50 ms.
pub const ITERATIONS: u32 = 100_000;
/// Octets of a new salt.
pub const SALT_BYTES: usize = 16;
const PREFIX: &str = "SCRAM-SHA-256$";

/// Makes the keys of a password, with a fresh salt. The password is prepared as RFC 4013 says, as clients do; one that cannot be
/// prepared is taken as it stands.
pub fn make(password: &str) -> ScramKeys {
    let mut salt = [0; SALT_BYTES];
    rand::fill(&mut salt).expect("the operating system has chance");
    derive(password, &salt, ITERATIONS)
}

/// The keys of a password, salted so.
pub fn derive(password: &str, salt: &[u8], iterations: u32) -> ScramKeys {
    let prepared = stringprep::saslprep(password).unwrap_or(password.into());
    let rounds = NonZeroU32::new(iterations).expect("at least one round");
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, prepared.as_bytes(), &mut salted);
    let client_key = sign(&salted, b"Client Key");
    let stored = digest::digest(&digest::SHA256, &client_key);
    ScramKeys {
        iterations,
        salt: salt.into(),
        stored_key: stored.as_ref().try_into().expect("SHA-256 has 32 octets"),
        server_key: sign(&salted, b"Server Key"),
    }
}

/// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`
pub fn write(keys: &ScramKeys) -> String {
    let ScramKeys { iterations, salt, stored_key, server_key } = keys;
    let [salt, stored, server] = [&**salt, stored_key, server_key].map(|bytes| BASE64.encode(bytes));
    format!("{PREFIX}{iterations}:{salt}${stored}:{server}")
}

/// Reads what [`write`] and PostgreSQL write.
pub fn read(text: &str) -> Option<ScramKeys> {
    let (salting, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
    let (iterations, salt) = salting.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let key = |text: &str| <[u8; 32]>::try_from(BASE64.decode(text).ok()?).ok();
    Some(ScramKeys {
        iterations: iterations.parse().ok().filter(|count| (1..=10_000_000).contains(count))?,
        salt: BASE64.decode(salt).ok().filter(|salt| !salt.is_empty() && salt.len() <= 64)?.into(),
        stored_key: key(stored)?,
        server_key: key(server)?,
    })
}

/// Keys for somebody who has none: the same for a name every time, like the others at sight, and nobody's.
pub fn made_up(secret: &[u8], name: &str, iterations: u32, salt_bytes: usize) -> ScramKeys {
    let of = |what: &[u8]| sign(secret, &[what, b"\0", name.as_bytes()].concat());
    let salt: Vec<u8> = [of(b"salt"), of(b"more salt")].concat();
    ScramKeys {
        iterations,
        salt: salt[..salt_bytes.min(salt.len())].into(),
        stored_key: of(b"stored key"),
        server_key: of(b"server key"),
    }
}

pub(crate) fn sign(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 octets")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The salted password of RFC 7677 §3, in PostgreSQL's form.
    #[test]
    fn keys_are_those_of_the_rfc_and_survive_being_written() {
        let keys = derive("pencil", &BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64"), 4096);
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(write(&keys), text);
        assert_eq!(read(text), Some(keys));
        assert_eq!(read("SCRAM-SHA-256$0:eA==$eA==:eA=="), None);
    }

    #[test]
    fn passwords_are_prepared_as_clients_prepare_them() {
        let salt = [1; SALT_BYTES];
        assert_eq!(derive("I\u{00AD}X", &salt, 1), derive("IX", &salt, 1));
        assert_eq!(derive("\u{2168}", &salt, 1), derive("IX", &salt, 1));
    }

    #[test]
    fn made_up_keys_are_constant_and_differ_by_name_and_secret() {
        let keys = |secret: &[u8], name: &str| made_up(secret, name, ITERATIONS, SALT_BYTES);
        assert_eq!(keys(b"s", "bob"), keys(b"s", "bob"));
        assert_ne!(keys(b"s", "bob").salt, keys(b"s", "bub").salt);
        assert_ne!(keys(b"s", "bob").salt, keys(b"t", "bob").salt);
        assert_eq!(keys(b"s", "bob").salt.len(), SALT_BYTES);
    }
}
