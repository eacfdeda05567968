//! Names of facts that several plugins know. Anybody may state them; see `sdk/wit/CHANGES.md` for how long a fact lives.

/// The client, or the sender of this transaction, is permitted by somebody who has the say: no list is asked, nothing is scored.
/// Weight 0.
pub const WHITELISTED: &str = "WHITELISTED";
