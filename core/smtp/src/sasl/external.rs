//! EXTERNAL (RFC 4422 appendix A): the client says at most who it wants to be; its certificate says who it is.

use waypost_types::login::{Credentials, Proof};

use super::{Ending, Exchange, Step};

/// Holds nothing: the certificate is among the session's facts.
#[derive(Debug)]
pub(super) struct External;

impl Exchange for External {
    fn handle(&mut self, response: Option<&[u8]>) -> Step {
        let Some(response) = response else { return Step::Challenge(Vec::new()) };
        match std::str::from_utf8(response) {
            Ok(identity) if !identity.contains('\0') => {
                let credentials =
                    Credentials { mechanism: "EXTERNAL", identity: identity.to_string(), proof: Proof::Certificate };
                Step::Ask(credentials, Ending::default())
            }
            _ => Step::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_may_be_asked_for_or_left_away() {
        assert!(matches!(External.handle(None), Step::Challenge(c) if c.is_empty()));
        assert!(matches!(External.handle(Some(b"")), Step::Ask(c, _) if c.identity.is_empty()));
        assert!(matches!(External.handle(Some(b"alice")), Step::Ask(c, _) if c.identity == "alice"));
        assert!(matches!(External.handle(Some(b"a\0b")), Step::Malformed));
    }
}
