//! Logins (floor 3): everything that can judge what a client shows, behind [`waypost_types::login::Authenticator`].
//!
//! | page | what it holds |
//! |---|---|
//! | [`password_file`] | [`PasswordFile`]: `user:hash` lines, verified off the event loop |
//! | [`hash`] | the hashes that such lines may hold: argon2id, bcrypt, sha512-crypt |
//! | [`dovecot`] | [`Dovecot`]: its authentication socket, and with it every mechanism that it knows |
//! | [`saslauthd`] | [`Saslauthd`]: its socket, and with it PAM and Kerberos |
//! | [`token`] | [`Tokens`](token::Tokens): bearer tokens, by the keys of a file or by asking who gave them |
//! | [`scram`] | keys for SCRAM-SHA-256: made, written, read, and made up for those who have none |
//!
//! It promises that every wait has an end, that memory is bounded, and that neither words nor time tell whether a user exists.
//! It leaves mechanisms to `waypost-smtp`, directories to `waypost-ldap`, counting and delaying failures to `waypost-server`.

pub mod dovecot;
pub mod hash;
pub mod password_file;
pub mod saslauthd;
pub mod scram;
pub mod token;

pub use dovecot::{Dovecot, DovecotOptions};
pub use password_file::{PasswordFile, PasswordFileError};
pub use saslauthd::Saslauthd;
