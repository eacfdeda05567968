//! LOGIN (draft-murchison-sasl-login): user and password, each for its own prompt. An initial response is the user.

use waypost_types::login::{Credentials, Proof};

use super::{Ending, Exchange, Step};

/// The user, once known.
#[derive(Debug, Default)]
pub(super) struct Login {
    identity: Option<String>,
}

impl Exchange for Login {
    fn handle(&mut self, response: Option<&[u8]>) -> Step {
        let Some(response) = response else { return Step::Challenge(b"Username:".to_vec()) };
        let text = match std::str::from_utf8(response) {
            Ok(text) if !text.is_empty() && !text.contains('\0') => text.to_string(),
            _ => return Step::Malformed,
        };
        match self.identity.take() {
            None => {
                self.identity = Some(text);
                Step::Challenge(b"Password:".to_vec())
            }
            Some(identity) => {
                Step::Ask(Credentials { mechanism: "LOGIN", identity, proof: Proof::Password(text) }, Ending::default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_user_then_password() {
        let mut login = Login::default();
        assert!(matches!(login.handle(None), Step::Challenge(c) if c == b"Username:"));
        assert!(matches!(login.handle(Some(b"alice")), Step::Challenge(c) if c == b"Password:"));
        match login.handle(Some(b"pencil")) {
            Step::Ask(c, _) => assert_eq!((&*c.identity, c.password()), ("alice", Some("pencil"))),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_initial_response_is_the_user() {
        let mut login = Login::default();
        assert!(matches!(login.handle(Some(b"alice")), Step::Challenge(c) if c == b"Password:"));
        assert!(matches!(login.handle(Some(b"")), Step::Malformed));
    }
}
