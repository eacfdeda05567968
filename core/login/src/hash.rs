//! Password hashes as they stand in files: argon2 in PHC form, bcrypt (`$2b$…`) and sha512-crypt (`$6$…`). New ones are argon2id.

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

/// What bcrypt reads of a password; longer ones would be cut without a word, so they are refused.
const BCRYPT_BYTES_MAX: usize = 72;

/// Makes the hash of a password, with a fresh salt: argon2id with the first parameters that OWASP recommends (19 MiB, two passes).
pub fn make(password: &str) -> String {
    let salt = SaltString::generate(&mut OsRng);
    let params = Params::new(19 * 1024, 2, 1, None).expect("parameters within the algorithm's range");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password.as_bytes(), &salt).expect("the output fits").to_string()
}

/// Whether the password is the hash's. Parameters and algorithm are those of the hash.
pub fn matches(hash: &str, password: &str) -> bool {
    match kind(hash) {
        Ok(Kind::Argon2) => PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
        Ok(Kind::Bcrypt) => {
            // The work comes first: how long a password may be is no secret, but time should not speak.
            let same = bcrypt::verify(password, hash).unwrap_or(false);
            same && password.len() <= BCRYPT_BYTES_MAX
        }
        Ok(Kind::Sha512) => sha_crypt::sha512_check(password, hash).is_ok(),
        Err(_) => false,
    }
}

/// Whether a text is a hash that [`matches`] understands; what is wrong with it otherwise.
pub fn check(hash: &str) -> Result<(), &'static str> {
    kind(hash).map(|_| ())
}

enum Kind {
    Argon2,
    Bcrypt,
    Sha512,
}

fn kind(hash: &str) -> Result<Kind, &'static str> {
    const UNKNOWN: &str = "the hash is none of $argon2id$…, $2b$… (bcrypt) and $6$… (sha512-crypt)";
    let (name, rest) = hash.strip_prefix('$').and_then(|rest| rest.split_once('$')).ok_or(UNKNOWN)?;
    match name {
        "argon2id" | "argon2i" | "argon2d" => {
            let whole = PasswordHash::new(hash).ok().filter(|hash| hash.hash.is_some());
            whole.map(|_| Kind::Argon2).ok_or("the argon2 hash is damaged")
        }
        "2a" | "2b" | "2y" => {
            let (cost, text) = rest.split_once('$').ok_or("the bcrypt hash is damaged")?;
            let cost = cost.parse::<u32>().ok().filter(|cost| (4..=16).contains(cost));
            match cost {
                Some(_) if text.len() == 53 => Ok(Kind::Bcrypt),
                Some(_) => Err("the bcrypt hash is damaged"),
                None => Err("the bcrypt hash costs less than 4 or more than 16"),
            }
        }
        "6" => {
            let digest = rest.rsplit('$').next().unwrap_or_default();
            let rounds =
                rest.strip_prefix("rounds=").map(|rest| rest.split('$').next().unwrap_or_default().parse::<u32>());
            match rounds {
                Some(Err(_)) => Err("the sha512-crypt hash is damaged"),
                Some(Ok(rounds)) if rounds > 2_000_000 => Err("the sha512-crypt hash has more than 2000000 rounds"),
                _ if digest.len() == 86 => Ok(Kind::Sha512),
                _ => Err("the sha512-crypt hash is damaged"),
            }
        }
        _ => Err(UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_hashes_are_argon2id_and_verify() {
        let hash = make("secret");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(matches(&hash, "secret") && !matches(&hash, "Secret"));
    }

    /// Made by `htpasswd -B` and `openssl passwd -6`.
    #[test]
    fn hashes_of_other_programs_verify() {
        let bcrypt = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";
        assert!(matches(bcrypt, "password") && !matches(bcrypt, "Password"));
        let sha512 =
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
        assert!(matches(sha512, "Hello world!") && !matches(sha512, "Hello world"));
        let rounds = "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.";
        assert!(matches(rounds, "Hello world!"));
    }

    #[test]
    fn what_is_no_hash_is_named() {
        for text in ["secret", "$1$x$y", "$argon2id$nonsense", "$2b$99$aaaa", "$6$short$x", "$6$rounds=99999999$s$x"] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
