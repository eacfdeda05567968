//! OAUTHBEARER (RFC 7628) and XOAUTH2, Google's forerunner: a token in one message. A refusal is explained in JSON as one more challenge, which the
//! client answers before it is told 535.

use waypost_types::login::{Credentials, Proof};

use super::{Ending, Exchange, Step, saslname};

/// Which of the two.
#[derive(Debug)]
pub(super) enum Bearer {
    OAuthBearer,
    XOAuth2,
}

impl Exchange for Bearer {
    fn handle(&mut self, response: Option<&[u8]>) -> Step {
        let Some(response) = response else { return Step::Challenge(Vec::new()) };
        let Ok(text) = std::str::from_utf8(response) else { return Step::Malformed };
        let (parsed, mechanism, refusal) = match self {
            Bearer::OAuthBearer => (oauthbearer(text), "OAUTHBEARER", r#"{"status":"invalid_token"}"#),
            Bearer::XOAuth2 => (xoauth2(text), "XOAUTH2", r#"{"status":"400","schemes":"Bearer"}"#),
        };
        let Some((identity, token)) = parsed else { return Step::Malformed };
        let credentials = Credentials { mechanism, identity, proof: Proof::Token(token.to_string()) };
        Step::Ask(credentials, Ending { granted: None, denied: Some(refusal.into()) })
    }
}

/// `n,a=user,^Ahost=…^Aport=…^Aauth=Bearer token^A^A` (RFC 7628 §3.1). The channel cannot be bound.
fn oauthbearer(text: &str) -> Option<(String, &str)> {
    let mut parts = text.splitn(3, ',');
    let (flag, authzid, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let identity = match authzid.strip_prefix("a=") {
        Some(name) => saslname(name)?,
        None if authzid.is_empty() => String::new(),
        None => return None,
    };
    let pairs = rest.strip_prefix('\x01')?.strip_suffix("\x01\x01")?;
    matches!(flag, "n" | "y").then_some(())?;
    Some((identity, token(pairs)?))
}

/// `user=…^Aauth=Bearer token^A^A`
fn xoauth2(text: &str) -> Option<(String, &str)> {
    let (user, pairs) = text.strip_prefix("user=")?.split_once('\x01')?;
    (!user.is_empty() && !user.contains('\0')).then_some(())?;
    Some((user.to_string(), token(pairs.strip_suffix("\x01\x01")?)?))
}

/// The token of `auth=Bearer token`, which stands once (RFC 6750 §2.1: its alphabet).
fn token(pairs: &str) -> Option<&str> {
    let mut values = pairs.split('\x01').filter_map(|pair| pair.strip_prefix("auth="));
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(fine)).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(mut machine: Bearer, response: &str) -> Option<(String, Proof)> {
        match machine.handle(Some(response.as_bytes())) {
            Step::Ask(c, ending) => {
                assert!(ending.granted.is_none() && ending.denied.is_some());
                Some((c.identity, c.proof))
            }
            _ => None,
        }
    }

    #[test]
    fn the_examples_of_rfc_7628_are_read() {
        let message = "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        let token = Proof::Token("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==".into());
        assert_eq!(asked(Bearer::OAuthBearer, message), Some(("user@example.com".into(), token)));
        let anonymous = asked(Bearer::OAuthBearer, "n,,\x01auth=bearer t\x01\x01");
        assert_eq!(anonymous, Some((String::new(), Proof::Token("t".into()))));
        let google = asked(Bearer::XOAuth2, "user=a@b.c\x01auth=Bearer ya29.x\x01\x01");
        assert_eq!(google, Some(("a@b.c".into(), Proof::Token("ya29.x".into()))));
        assert!(matches!(Bearer::XOAuth2.handle(None), Step::Challenge(c) if c.is_empty()));
    }

    #[test]
    fn nothing_else_is_taken() {
        for text in [
            "",
            "n,,",
            "n,,\x01\x01",
            "n,,\x01auth=Bearer \x01\x01",
            "n,,\x01auth=Basic eDp5\x01\x01",
            "n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
            "p=tls-exporter,,\x01auth=Bearer a\x01\x01",
            "n,b,\x01auth=Bearer a\x01\x01",
            "n,,\x01auth=Bearer a\nb\x01\x01",
        ] {
            assert_eq!(asked(Bearer::OAuthBearer, text), None, "{text:?}");
        }
        for user in ["", "a\0b"] {
            assert_eq!(asked(Bearer::XOAuth2, &format!("user={user}\x01auth=Bearer a\x01\x01")), None);
        }
    }
}
