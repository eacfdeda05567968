//! SPF, DKIM, DMARC and ARC (floor 2): wraps mail-auth.

use waypost_types::{Envelope, Finding, Message, SessionFacts};

/// Checks what comes in.
pub struct Verifier {}

#[allow(unused_variables)]
impl Verifier {
    /// Every finding about a message, in the order of the `Authentication-Results` field.
    pub async fn check(&self, session: &SessionFacts, envelope: &Envelope, message: &Message) -> Vec<Finding> {
        todo!()
    }
}

/// The `Authentication-Results` field (RFC 8601), folded, with its final CRLF.
pub fn results_field(authserv_id: &str, findings: &[Finding]) -> String {
    let _ = (authserv_id, findings);
    todo!()
}
