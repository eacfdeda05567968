//! A password file: `user:hash` lines, or `user:hash:keys` with keys for SCRAM-SHA-256; `#` comments.
//!
//! A verification costs some 20 ms of CPU and 19 MiB by design, so it runs on the blocking pool, as many at once as there are
//! processors, with a bounded number waiting. A good login is remembered for a few minutes under a keyed hash (never the password),
//! so that clients that log in for every message cost next to nothing. Names are compared without regard to ASCII case. An unknown
//! name is put through the verification of a known one, chosen by the name, so its cost is a cost that is to be seen anyway.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use waypost_types::login::{AuthError, Authenticator, Credentials, Judged, Proof, ScramKeys};
use waypost_types::{SessionFacts, Task};

use crate::{hash, scram};

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

/// The line of a user with this password: the hash for mechanisms that show the password, the keys for SCRAM.
pub fn line(name: &str, password: &str) -> String {
    format!("{name}:{}:{}", hash::make(password), scram::write(&scram::make(password)))
}

/// Users and their hashes, from a file. Cheap to clone.
#[derive(Clone)]
pub struct PasswordFile {
    path: PathBuf,
    /// Decides what those who are not here seem to have. Kept from start to start, so that it does not change with one.
    secret: Arc<[u8]>,
    users: Arc<Users>,
    verifications: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    remembered: Arc<Mutex<HashMap<u64, Instant>>>,
    keys: RandomState,
}

#[derive(Debug)]
struct Users {
    /// By name in lower case.
    by_name: HashMap<Box<str>, User>,
    /// Everybody's hash: what unknown names are verified against.
    hashes: Vec<Arc<str>>,
    /// Iterations and octets of salt that most SCRAM keys of the file have.
    usual: (u32, usize),
}

#[derive(Debug)]
struct User {
    name: Arc<str>,
    hash: Arc<str>,
    keys: Option<ScramKeys>,
}

/// What unknown names are verified against while there are no users.
static NOBODY: LazyLock<Arc<str>> = LazyLock::new(|| hash::make("").into());

impl PasswordFile {
    /// Reads the file. `secret` should be the same at every start and known to nobody.
    pub fn open(path: &Path, secret: &[u8]) -> Result<PasswordFile, PasswordFileError> {
        let users = read(path)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(PasswordFile {
            path: path.to_path_buf(),
            secret: secret.into(),
            users: Arc::new(users),
            verifications: Arc::new(Semaphore::new(processors)),
            waiting: Arc::default(),
            remembered: Arc::default(),
            keys: RandomState::new(),
        })
    }

    /// The file as it is now, while this one stays as it is. Both share what is remembered of good logins, and the bounds.
    pub fn renewed(&self) -> Result<PasswordFile, PasswordFileError> {
        Ok(PasswordFile { users: Arc::new(read(&self.path)?), ..self.clone() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.by_name.len()
    }

    /// Whether there is no user.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The user of this name, as the file writes it.
    pub fn user(&self, name: &str) -> Option<Arc<str>> {
        self.users.by_name.get(name.to_ascii_lowercase().as_str()).map(|user| user.name.clone())
    }

    async fn check(&self, name: &str, password: &str) -> Judged {
        let users = &*self.users;
        let folded = name.to_ascii_lowercase();
        let user = users.by_name.get(folded.as_str());
        let hash = user.map_or_else(|| self.somebodys(users, &folded), |user| user.hash.clone());
        // The hash is part of what is remembered: a changed password forgets the old one.
        let key = self.keys.hash_one((&folded, &*hash, password));
        if user.is_some() && self.remembers(key) {
            return Ok(user.map(|user| user.name.clone()));
        }
        let good = self.verify(hash, password).await?;
        let Some(user) = user.filter(|_| good) else { return Ok(None) };
        self.remember(key);
        Ok(Some(user.name.clone()))
    }

    /// A hash for a name that nobody has; that it may even match means nothing.
    fn somebodys(&self, users: &Users, folded: &str) -> Arc<str> {
        let number = scram::sign(&self.secret, &[b"decoy\0", folded.as_bytes()].concat());
        let number = usize::from_le_bytes(number[..size_of::<usize>()].try_into().expect("as many octets"));
        match users.hashes.len() {
            0 => NOBODY.clone(),
            count => users.hashes[number % count].clone(),
        }
    }

    fn keys_of(&self, name: &str) -> ScramKeys {
        let users = &*self.users;
        let folded = name.to_ascii_lowercase();
        let (iterations, salt_bytes) = users.usual;
        // Made up in any case: known and unknown names cost the same.
        let made_up = scram::made_up(&self.secret, &folded, iterations, salt_bytes);
        users.by_name.get(folded.as_str()).and_then(|user| user.keys.clone()).unwrap_or(made_up)
    }

    async fn verify(&self, hash: Arc<str>, password: &str) -> Result<bool, AuthError> {
        let _waiting = Waiting::enter(&self.waiting).ok_or(AuthError::Busy)?;
        let permit = self.verifications.clone().acquire_owned().await.expect("never closed");
        let password = password.to_string();
        let verified = tokio::task::spawn_blocking(move || {
            // Held by the work itself: a client that goes away does not make room for another verification.
            let _permit = permit;
            hash::matches(&hash, &password)
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
    fn authenticate<'a>(&'a self, credentials: &'a Credentials, _client: &'a SessionFacts) -> Task<'a, Judged> {
        Box::pin(async move {
            match &credentials.proof {
                Proof::Password(password) => self.check(&credentials.identity, password).await,
                // Nobody can have satisfied keys that were made up.
                Proof::Exchanged(true) => Ok(self.user(&credentials.identity)),
                Proof::Exchanged(false) | Proof::Token(_) | Proof::Certificate => Ok(None),
            }
        })
    }

    fn scram_keys<'a>(&'a self, identity: &'a str) -> Task<'a, Result<ScramKeys, AuthError>> {
        Box::pin(async move { Ok(self.keys_of(identity)) })
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
        let user = parse_user(line).map_err(|what| (number, what))?;
        if by_name.insert(user.name.to_ascii_lowercase().into_boxed_str(), user).is_some() {
            return Err((number, "the user stands here twice"));
        }
    }
    let usual = usual(by_name.values().filter_map(|user| user.keys.as_ref()));
    let mut hashes: Vec<_> = by_name.values().map(|user| user.hash.clone()).collect();
    // In an order that does not change from reading to reading.
    hashes.sort_unstable();
    Ok(Users { by_name, hashes, usual })
}

fn parse_user(line: &str) -> Result<User, &'static str> {
    let mut fields = line.splitn(3, ':');
    let (name, hash) = fields.next().zip(fields.next()).ok_or("not `user:hash`")?;
    if name.is_empty() {
        return Err("the user's name is empty");
    }
    hash::check(hash)?;
    let keys = fields.next().map(|keys| scram::read(keys).ok_or("what follows the hash are no SCRAM-SHA-256 keys"));
    Ok(User { name: name.into(), hash: hash.into(), keys: keys.transpose()? })
}

fn usual<'a>(keys: impl Iterator<Item = &'a ScramKeys>) -> (u32, usize) {
    let mut counts: HashMap<(u32, usize), usize> = HashMap::new();
    keys.for_each(|keys| *counts.entry((keys.iterations, keys.salt.len())).or_default() += 1);
    let most = counts.into_iter().max_by_key(|(shape, count)| (*count, *shape));
    most.map_or((scram::ITERATIONS, scram::SALT_BYTES), |(shape, _)| shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap hashes: what is tested is not argon2. `password` in bcrypt, cost 4.
    const BCRYPT: &str = "$2b$04$";

    fn line(name: &str, password: &str) -> String {
        format!("{name}:{}\n", bcrypt::hash(password, 4).expect("a hash"))
    }

    fn open(text: &str) -> (tempfile::TempDir, PasswordFile) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users");
        std::fs::write(&path, text).expect("written");
        let file = PasswordFile::open(&path, b"secret of the site").expect("a good file");
        (folder, file)
    }

    async fn who(file: &PasswordFile, identity: &str, password: &str) -> Option<Arc<str>> {
        let shown =
            Credentials { mechanism: "PLAIN", identity: identity.into(), proof: Proof::Password(password.into()) };
        file.authenticate(&shown, &SessionFacts::nobody()).await.expect("a verdict")
    }

    #[tokio::test]
    async fn the_right_password_and_nothing_else_lets_in() {
        let (_folder, file) = open(&format!("# users\n\n{}", line("alice@waypost.test", "tr0ub4dor")));
        for _ in 0..2 {
            assert_eq!(who(&file, "Alice@waypost.test", "tr0ub4dor").await.as_deref(), Some("alice@waypost.test"));
            assert_eq!(who(&file, "alice@waypost.test", "tr0ub4dor ").await, None);
            assert_eq!(who(&file, "alice@waypost.test", "").await, None);
            assert_eq!(who(&file, "bob", "tr0ub4dor").await, None, "bob is put through alice's hash");
        }
        std::fs::write(&file.path, line("alice@waypost.test", "new")).expect("written");
        let file = file.renewed().expect("a good file");
        let old = who(&file, "alice@waypost.test", "tr0ub4dor").await;
        assert_eq!(old, None, "remembered logins end with the password");
        assert!(who(&file, "alice@waypost.test", "new").await.is_some());
    }

    #[tokio::test]
    async fn scram_keys_are_the_users_or_made_up_and_look_alike() {
        let keys = scram::derive("secret", &[9; 16], 4096);
        let text = format!("alice:{}:{}\n{}", BCRYPT_OF_X, scram::write(&keys), line("old", "x"));
        let (folder, file) = open(&text);
        assert_eq!(file.scram_keys("ALICE").await, Ok(keys));
        let made_up = file.scram_keys("old").await.expect("keys");
        assert_eq!((made_up.iterations, made_up.salt.len()), (4096, 16), "as the others of the file");
        let again = PasswordFile::open(&folder.path().join("users"), b"secret of the site").expect("a good file");
        assert_eq!(again.scram_keys("Old").await, Ok(made_up), "a restart changes nothing");
        for (proof, user) in [(true, Some("alice")), (false, None)] {
            let shown =
                Credentials { mechanism: "SCRAM-SHA-256", identity: "alice".into(), proof: Proof::Exchanged(proof) };
            let judged = file.authenticate(&shown, &SessionFacts::nobody()).await.expect("a verdict");
            assert_eq!(judged.as_deref(), user);
        }
    }

    const BCRYPT_OF_X: &str = "$2b$04$abcdefghijklmnopqrstuuKk1kSQvTTWqQ/PhQPXtvRZ1IRUt4fE6";

    #[test]
    fn mistakes_are_told_with_their_line() {
        let good = line("a", "x");
        assert!(good.contains(BCRYPT));
        for (text, at) in [
            (format!("{good}nonsense\n"), 2),
            (format!("{good}{good}"), 2),
            ("a:plaintext\n".to_string(), 1),
            (format!("{}:SCRAM-SHA-1$x\n", good.trim()), 1),
            (format!("#\n{}", good.replacen('a', "", 1)), 2),
        ] {
            assert_eq!(parse(&text).map(|_| ()).map_err(|(line, _)| line), Err(at), "{text}");
        }
    }

    #[test]
    fn our_own_line_holds_hash_and_keys() {
        let user = parse_user(&super::line("alice", "pencil12")).expect("a good line");
        let keys = user.keys.expect("keys");
        assert_eq!(keys, scram::derive("pencil12", &keys.salt, keys.iterations));
        assert!(hash::matches(&user.hash, "pencil12"));
    }
}
