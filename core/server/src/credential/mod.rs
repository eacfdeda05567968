//! Who knows passwords, and what guessing costs.
//!
//! | page | what it holds |
//! |---|---|
//! | this | [`Authenticator`]: what every back end is |
//! | [`password_file`] | [`PasswordFile`]: `user:hash` lines with argon2id, verified off the event loop |
//! | `throttle` | failures per address: they cost time, and many of them the connection |

pub mod password_file;
pub(crate) mod throttle;

pub use password_file::PasswordFile;

use std::sync::Arc;

use waypost_types::Task;
use waypost_types::verdict::Credentials;

/// Why credentials could not be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// More logins wait than can be verified in time: 454 4.7.0.
    Busy,
    /// The back end does not answer: 454 4.7.0, and the words for the log.
    Unavailable(String),
}

/// A back end for logins.
pub trait Authenticator: Send + Sync + 'static {
    /// The user's name if the credentials are good, `None` if they are not. Takes as long for unknown users as for wrong passwords.
    fn authenticate<'a>(&'a self, credentials: &'a Credentials) -> Task<'a, Result<Option<Arc<str>>, AuthError>>;
}
