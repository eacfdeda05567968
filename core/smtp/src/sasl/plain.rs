//! PLAIN, RFC 4616: `authorization NUL authentication NUL password` in one message.

use waypost_types::login::{Credentials, Proof};

use super::{Ending, Exchange, Step};

/// Holds nothing: everything comes in one message.
#[derive(Debug)]
pub(super) struct Plain;

impl Exchange for Plain {
    fn handle(&mut self, response: Option<&[u8]>) -> Step {
        let Some(response) = response else { return Step::Challenge(Vec::new()) };
        parse(response).map_or(Step::Malformed, |credentials| Step::Ask(credentials, Ending::default()))
    }
}

/// An authorization identity is taken only if it is the authentication identity: nobody acts for another here.
fn parse(response: &[u8]) -> Option<Credentials> {
    let text = std::str::from_utf8(response).ok()?;
    let mut parts = text.split('\0');
    let (authorization, identity, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let proper = parts.next().is_none() && !identity.is_empty() && !secret.is_empty();
    let own = authorization.is_empty() || authorization == identity;
    (proper && own).then(|| Credentials {
        mechanism: "PLAIN",
        identity: identity.to_string(),
        proof: Proof::Password(secret.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(response: &[u8]) -> Option<(String, String)> {
        match Plain.handle(Some(response)) {
            Step::Ask(c, _) => Some((c.identity.clone(), c.password().expect("a password").to_string())),
            _ => None,
        }
    }

    #[test]
    fn takes_user_and_password() {
        let alice = Some(("alice".to_string(), "pencil".to_string()));
        assert_eq!(asked(b"\0alice\0pencil"), alice);
        assert_eq!(asked(b"alice\0alice\0pencil"), alice);
        assert!(matches!(Plain.handle(None), Step::Challenge(c) if c.is_empty()));
    }

    #[test]
    fn nothing_else_is_taken() {
        for response in [
            &b""[..],
            b"alice",
            b"\0alice",
            b"\0\0pencil",
            b"\0alice\0",
            b"\0a\0b\0c",
            b"bob\0alice\0pencil",
            b"\0\xff\0x",
        ] {
            assert_eq!(asked(response), None, "{response:?}");
        }
    }
}
