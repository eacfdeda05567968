//! A password file: `user:hash` lines, hashes in PHC form (`$argon2id$…`), `#` comments.
//!
//! A verification costs some 20 ms of CPU and 19 MiB by design, so it runs on the blocking pool, as many at once as there are
//! processors, with a bounded number waiting. A good login is remembered for a few minutes under a keyed hash (never the password),
//! so that clients that log in for every message cost next to nothing. Names are compared without regard to ASCII case. An unknown name costs
//! the same verification as a known one.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use waypost_types::Task;
use waypost_types::verdict::Credentials;

use super::{AuthError, Authenticator};

/// How long a good login is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How many are.
const REMEMBERED_MAX: usize = 10_000;
/// Logins that may wait for a verification. At 20 ms each and two processors the last waits about three seconds.
const WAITING_MAX: usize = 256;

/// Why a password file cannot be used.
#[derive(Debug)]
pub enum PasswordFileError {
    /// It cannot be read.
    Read(PathBuf, io::Error),
    /// A line is wrong: its number, counted from 1, and what is wrong with it.
    Line(PathBuf, usize, &'static str),
}

impl fmt::Display for PasswordFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordFileError::Read(path, error) => {
                write!(f, "{}: {error}; make it with `waypost user add NAME`", path.display())
            }
            PasswordFileError::Line(path, line, what) => {
                write!(f, "{}:{line}: {what}; `waypost user add NAME` writes such lines", path.display())
            }
        }
    }
}

impl std::error::Error for PasswordFileError {}

/// Users and their hashes, from a file that can be read anew at any time.
pub struct PasswordFile {
    path: PathBuf,
    users: Arc<ArcSwap<Users>>,
    verifications: Arc<Semaphore>,
    waiting: AtomicUsize,
    remembered: Mutex<HashMap<u64, Instant>>,
    keys: RandomState,
}

#[derive(Debug)]
struct Users {
    /// By name in lower case.
    by_name: HashMap<Box<str>, User>,
    /// What unknown names are verified against: as dear as the real ones, and nobody's.
    decoy: Arc<str>,
}

#[derive(Debug)]
struct User {
    name: Arc<str>,
    hash: Arc<str>,
}

impl PasswordFile {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<PasswordFile, PasswordFileError> {
        let users = read(path)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(PasswordFile {
            path: path.to_path_buf(),
            users: Arc::new(ArcSwap::from_pointee(users)),
            verifications: Arc::new(Semaphore::new(processors)),
            waiting: AtomicUsize::new(0),
            remembered: Mutex::default(),
            keys: RandomState::new(),
        })
    }

    /// Reads the file again; on an error the users stay as they were.
    pub fn reload(&self) -> Result<(), PasswordFileError> {
        self.users.store(Arc::new(read(&self.path)?));
        Ok(())
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.load().by_name.len()
    }

    /// Whether there is no user.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn check(&self, name: &str, secret: &str) -> Result<Option<Arc<str>>, AuthError> {
        let users = self.users.load_full();
        let user = users.by_name.get(name.to_ascii_lowercase().as_str());
        let hash = user.map_or(&users.decoy, |user| &user.hash).clone();
        // The hash is part of what is remembered: a changed password forgets the old one.
        let key = self.keys.hash_one((name, &*hash, secret));
        if self.remembers(key) {
            return Ok(user.map(|user| user.name.clone()));
        }
        if !self.verify(hash, secret).await? {
            return Ok(None);
        }
        let Some(user) = user else { return Ok(None) };
        self.remember(key);
        Ok(Some(user.name.clone()))
    }

    async fn verify(&self, hash: Arc<str>, secret: &str) -> Result<bool, AuthError> {
        let _waiting = Waiting::enter(&self.waiting).ok_or(AuthError::Busy)?;
        let permit = self.verifications.clone().acquire_owned().await.expect("never closed");
        let secret = secret.to_string();
        let verified = tokio::task::spawn_blocking(move || {
            // Held by the work itself: a client that goes away does not make room for another verification.
            let _permit = permit;
            matches(&hash, &secret)
        });
        verified.await.map_err(|error| AuthError::Unavailable(error.to_string()))
    }

    fn remembers(&self, key: u64) -> bool {
        let remembered = self.remembered.lock().expect("no panic under this lock");
        remembered.get(&key).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    fn remember(&self, key: u64) {
        let mut remembered = self.remembered.lock().expect("no panic under this lock");
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, at| at.elapsed() < REMEMBERED);
        }
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(key, Instant::now());
        }
    }
}

impl Authenticator for PasswordFile {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials) -> Task<'a, Result<Option<Arc<str>>, AuthError>> {
        Box::pin(async move {
            match &credentials.secret {
                Some(secret) => self.check(&credentials.identity, secret).await,
                // A mechanism that does not show the password cannot be checked against its hash.
                None => Ok(None),
            }
        })
    }
}

/// Counts one login that waits, while it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Waiting<'a>> {
        let waiting = Waiting(count);
        (count.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes the hash of a password, with a fresh salt: argon2id with the first parameters that OWASP recommends (19 MiB, two passes).
pub fn hash_password(password: &str) -> String {
    let salt = SaltString::generate(&mut OsRng);
    let params = Params::new(19 * 1024, 2, 1, None).expect("parameters within the algorithm's range");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password.as_bytes(), &salt).expect("the output fits").to_string()
}

fn matches(hash: &str, secret: &str) -> bool {
    // Parameters and algorithm are those of the hash.
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(secret.as_bytes(), &hash).is_ok())
}

fn read(path: &Path) -> Result<Users, PasswordFileError> {
    let text = std::fs::read_to_string(path).map_err(|error| PasswordFileError::Read(path.to_path_buf(), error))?;
    parse(&text).map_err(|(line, what)| PasswordFileError::Line(path.to_path_buf(), line, what))
}

fn parse(text: &str) -> Result<Users, (usize, &'static str)> {
    let mut by_name = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, hash) = line.rsplit_once(':').ok_or((number, "not `user:hash`"))?;
        let parsed =
            PasswordHash::new(hash).map_err(|_| (number, "what follows the colon is no PHC hash ($argon2id$…)"))?;
        if !parsed.algorithm.as_str().starts_with("argon2") {
            return Err((number, "only argon2 hashes are understood"));
        }
        if name.is_empty() {
            return Err((number, "the user's name is empty"));
        }
        let user = User { name: name.into(), hash: hash.into() };
        if by_name.insert(name.to_ascii_lowercase().into_boxed_str(), user).is_some() {
            return Err((number, "the user stands here twice"));
        }
    }
    Ok(Users { decoy: decoy(by_name.values().next()), by_name })
}

/// A hash that costs what the file's hashes cost and that no password is known for.
fn decoy(example: Option<&User>) -> Arc<str> {
    let secret = SaltString::generate(&mut OsRng);
    let salt = SaltString::generate(&mut OsRng);
    let params =
        example.and_then(|user| PasswordHash::new(&user.hash).ok()).and_then(|hash| Params::try_from(&hash).ok());
    match params {
        Some(params) => {
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon2.hash_password(secret.as_str().as_bytes(), &salt).expect("the output fits").to_string().into()
        }
        None => hash_password(secret.as_str()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap parameters: what is tested is not argon2.
    fn line(name: &str, password: &str) -> String {
        let params = Params::new(8, 1, 1, None).expect("parameters");
        let salt = SaltString::generate(&mut OsRng);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        format!("{name}:{}\n", argon2.hash_password(password.as_bytes(), &salt).expect("hash"))
    }

    fn show(identity: &str, secret: &str) -> Credentials {
        Credentials { mechanism: "PLAIN", identity: identity.into(), secret: Some(secret.into()) }
    }

    async fn who(file: &PasswordFile, identity: &str, secret: &str) -> Option<Arc<str>> {
        file.authenticate(&show(identity, secret)).await.expect("a verdict")
    }

    #[tokio::test]
    async fn the_right_password_and_nothing_else_lets_in() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("users");
        std::fs::write(&path, format!("# users\n\n{}", line("alice@waypost.test", "tr0ub4dor"))).expect("written");
        let file = PasswordFile::open(&path).expect("a good file");
        for _ in 0..2 {
            assert_eq!(who(&file, "Alice@waypost.test", "tr0ub4dor").await.as_deref(), Some("alice@waypost.test"));
            assert_eq!(who(&file, "alice@waypost.test", "tr0ub4dor ").await, None);
            assert_eq!(who(&file, "alice@waypost.test", "").await, None);
            assert_eq!(who(&file, "bob", "tr0ub4dor").await, None);
        }
        std::fs::write(&path, line("alice@waypost.test", "new")).expect("written");
        file.reload().expect("a good file");
        assert_eq!(
            who(&file, "alice@waypost.test", "tr0ub4dor").await,
            None,
            "remembered logins end with the password"
        );
        assert!(who(&file, "alice@waypost.test", "new").await.is_some());
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let good = line("a", "x");
        for (text, at) in [
            (format!("{good}nonsense\n"), 2),
            (format!("{good}{good}"), 2),
            ("a:plaintext\n".to_string(), 1),
            (format!("#\n{}", good.replacen('a', "", 1)), 2),
        ] {
            assert_eq!(parse(&text).map(|_| ()).map_err(|(line, _)| line), Err(at), "{text}");
        }
    }

    #[test]
    fn our_own_hashes_are_argon2id_and_verify() {
        let hash = hash_password("secret");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(matches(&hash, "secret") && !matches(&hash, "Secret"));
    }

    #[test]
    fn the_decoy_costs_what_the_others_cost() {
        let users = parse(&line("a", "x")).expect("good");
        assert!(users.decoy.contains("$m=8,t=1,p=1$"), "{}", users.decoy);
    }
}
