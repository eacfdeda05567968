//! SPF, DKIM, DMARC, ARC (floor 2): wraps mail-auth for what comes in, aws-lc for what leaves.
//!
//! | page | what it holds |
//! |---|---|
//! | [`check`] | [`Verifier`]: every finding about a message, in bounded time |
//! | [`results`] | the `Authentication-Results` field (RFC 8601): writing ours, recognising forged ones |
//! | [`sign`] | [`Keys`]: a ring of private keys that signs (RFC 6376, RFC 8463) |
//! | [`canonical`] | the canonical forms of header and body, over a message's segments without joining them |
//! | [`spf`] | RFC 7208, evaluated by ourselves |
//! | [`dmarc`] | RFC 9989, evaluated by ourselves: records, the tree walk, alignment |
//! | [`arc`] | RFC 8617, verified by ourselves; nothing is sealed |
//! | [`key`] | making, reading and publishing keys |

pub mod arc;
pub mod canonical;
pub mod check;
pub mod dmarc;
pub mod key;
pub mod results;
pub mod sign;
pub mod spf;
mod tags;

#[cfg(test)]
mod zone;

pub use canonical::Form;
pub use check::{Checked, Demand, Verifier, VerifierError, VerifierOptions};
pub use dmarc::Policy;
pub use key::{KeyError, KeyKind, SecretKey};
pub use results::{is_results_of, results_field};
pub use sign::{Keys, SigningKey};
pub use spf::{SpfAnswer, SpfQuestion, SpfResult};
