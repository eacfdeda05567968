//! Logins: what clients show, and the traits of whoever can judge it.
//!
//! A mechanism (`waypost-smtp`'s `sasl`) is a machine that asks; [`Authenticator`]s answer: password files, directories, other
//! programs' sockets. What both speak of stands here. None of these types shows a secret when it is printed.

use std::fmt;
use std::sync::Arc;

use crate::{SessionFacts, Task};

/// How a client proves who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// By the password itself: PLAIN, LOGIN.
    Password(String),
    /// By a bearer token: OAUTHBEARER (RFC 7628), XOAUTH2.
    Token(String),
    /// By the certificate of its TLS session: EXTERNAL (RFC 4422 appendix A).
    Certificate,
    /// By an exchange that the mechanism has carried out with the user's [`ScramKeys`]; whether it came out right.
    Exchanged(bool),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Proof::Password(_) => "Password",
            Proof::Token(_) => "Token",
            Proof::Certificate => "Certificate",
            Proof::Exchanged(true) => "Exchanged, good",
            Proof::Exchanged(false) => "Exchanged, bad",
        })
    }
}

/// Credentials shown by a client.
#[derive(Clone)]
pub struct Credentials {
    /// `PLAIN`, `LOGIN`, …
    pub mechanism: &'static str,
    /// Who the client says that it is. Empty where the proof alone says it (a certificate, a token).
    pub identity: String,
    /// The proof.
    pub proof: Proof,
}

impl Credentials {
    /// The password, for mechanisms that send it.
    pub fn password(&self) -> Option<&str> {
        if let Proof::Password(password) = &self.proof { Some(password) } else { None }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} {})", self.mechanism, self.identity)
    }
}

/// What a server keeps of a password for SCRAM-SHA-256 (RFC 5802 §3): enough to check a proof and to give one, not enough to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// Rounds of PBKDF2 that the client goes through.
    pub iterations: u32,
    /// The salt.
    pub salt: Arc<[u8]>,
    /// `H(HMAC(SaltedPassword, "Client Key"))`
    pub stored_key: [u8; 32],
    /// `HMAC(SaltedPassword, "Server Key")`
    pub server_key: [u8; 32],
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramKeys({} iterations)", self.iterations)
    }
}

/// Why credentials could not be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// More logins wait than can be verified in time: 454 4.7.0.
    Busy,
    /// The back end does not answer, or cannot do this: 454 4.7.0, and the words for the log.
    Unavailable(String),
}

/// A user's name, as everybody else is to know it; `None` if the credentials are not good.
pub type Judged = Result<Option<Arc<str>>, AuthError>;

/// A back end for logins. No answer tells whether a user exists: not by its words, not by its time.
pub trait Authenticator: Send + Sync + 'static {
    /// Judges credentials. Takes as long for unknown users as for wrong passwords.
    fn authenticate<'a>(&'a self, credentials: &'a Credentials, client: &'a SessionFacts) -> Task<'a, Judged>;

    /// The SCRAM-SHA-256 keys of a user. For one who is unknown, or has none, keys that look the same every time and that nobody can
    /// satisfy.
    fn scram_keys<'a>(&'a self, _identity: &'a str) -> Task<'a, Result<ScramKeys, AuthError>> {
        let words = "this back end keeps no keys for SCRAM: take SCRAM out of auth.mechanisms";
        Box::pin(std::future::ready(Err(AuthError::Unavailable(words.into()))))
    }

    /// Begins an exchange that the back end carries out itself, round by round.
    fn begin(&self, _mechanism: &'static str, _client: &Arc<SessionFacts>) -> Result<Box<dyn Rounds>, AuthError> {
        let words = "this back end cannot carry out a mechanism of its own: take it out of auth.mechanisms";
        Err(AuthError::Unavailable(words.into()))
    }
}

/// What a back end says to a client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Round {
    /// Send this, and bring the answer.
    Challenge(Vec<u8>),
    /// It is this user.
    Granted(Arc<str>),
    /// It is not; whom the client claimed to be, where the back end says so.
    Denied(Option<String>),
}

/// An exchange under way inside a back end. Dropped before its end, it is off.
pub trait Rounds: Send {
    /// Takes the client's message, decoded; `None` at the beginning if there was no initial response.
    fn handle(&mut self, response: Option<Vec<u8>>) -> Task<'_, Result<Round, AuthError>>;
}
