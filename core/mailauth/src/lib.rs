//! SPF, DKIM, DMARC (floor 2): wraps mail-auth for what comes in, aws-lc for what leaves.
//!
//! | page | what it holds |
//! |---|---|
//! | [`check`] | [`Verifier`]: every finding about a message, in bounded time |
//! | [`results`] | the `Authentication-Results` field (RFC 8601): writing ours, recognising forged ones |
//! | [`sign`] | [`Keys`]: a ring of private keys that signs (RFC 6376, RFC 8463) |
//! | [`canonical`] | the canonical forms of header and body, over a message's segments without joining them |
//! | [`spf`] | RFC 7208, evaluated by ourselves |
//! | [`key`] | making, reading and publishing keys |

pub mod canonical;
pub mod check;
pub mod key;
pub mod results;
pub mod sign;
pub mod spf;

#[cfg(test)]
mod zone;

pub use canonical::Form;
pub use check::{Verifier, VerifierError, VerifierOptions};
pub use key::{KeyError, KeyKind, SecretKey};
pub use results::{is_results_of, results_field};
pub use sign::{Keys, SigningKey};
pub use spf::{SpfAnswer, SpfQuestion, SpfResult};
