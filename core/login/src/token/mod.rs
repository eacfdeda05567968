//! Bearer tokens (RFC 6750) for OAUTHBEARER and XOAUTH2: whose are they, and may they be used here?
//!
//! Either a token is a JWT that one of the keys of a file has signed (`jwt`), or the server that gave it is asked (`introspect`,
//! RFC 7662). What it claims is judged alike in both cases, by [`Claims`]: issuer, audience, time, and who the user is.

mod introspect;
mod jwt;

pub use introspect::{Introspection, IntrospectionOptions};
pub use jwt::{ALGORITHMS, Jwks};

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use waypost_types::login::AuthError;

/// How far clocks may differ.
const LEEWAY_SECONDS: i64 = 60;
/// Longer tokens do not fit into a line of AUTH anyway.
const TOKEN_BYTES_MAX: usize = 12 * 1024;

/// What a token must say.
#[derive(Clone, Debug)]
pub struct Claims {
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// `aud` must hold one of these.
    pub audiences: Vec<String>,
    /// The claim that names the user.
    pub user: String,
    /// `scope` must hold this word.
    pub scope: Option<String>,
}

impl Claims {
    /// The user, if everything is as it must be. A token must say when it ends unless the server that gave it vouches for it now.
    fn user<'a>(&self, claims: &'a Value, now: i64, must_end: bool) -> Option<&'a str> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if self.issuer.as_deref().is_some_and(|issuer| text("iss") != Some(issuer)) {
            return None;
        }
        if !self.audiences.is_empty() && !self.is_for_us(claims.get("aud")?) {
            return None;
        }
        if let Some(scope) = &self.scope
            && !text("scope")?.split(' ').any(|word| word == scope)
        {
            return None;
        }
        match claims.get("exp").map(seconds) {
            Some(end) if now < end?.saturating_add(LEEWAY_SECONDS) => {}
            None if !must_end => {}
            _ => return None,
        }
        match claims.get("nbf").map(seconds) {
            Some(begin) if now < begin?.saturating_sub(LEEWAY_SECONDS) => return None,
            _ => {}
        }
        text(&self.user).filter(|user| !user.is_empty())
    }

    fn is_for_us(&self, audience: &Value) -> bool {
        let ours =
            |audience: &Value| audience.as_str().is_some_and(|name| self.audiences.iter().any(|our| our == name));
        match audience {
            Value::Array(several) => several.iter().any(ours),
            one => ours(one),
        }
    }
}

/// RFC 7519 §2: a NumericDate, which may have a fraction.
fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
}

/// Who can tell what a token is worth.
pub enum Tokens {
    /// By the keys of a file.
    Jwks(Jwks, Claims),
    /// By asking the server that gave it.
    Introspection(Introspection, Claims),
}

impl Tokens {
    /// The user that a token names; `None` if it is not good.
    pub async fn user(&self, token: &str) -> Result<Option<String>, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        match self {
            Tokens::Jwks(keys, claims) => {
                let said = keys.verify(token);
                Ok(said.as_ref().and_then(|said| claims.user(said, now, true)).map(str::to_string))
            }
            Tokens::Introspection(server, claims) => {
                let said = server.ask(token).await?;
                Ok(said.as_ref().and_then(|said| claims.user(said, now, false)).map(str::to_string))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wanted() -> Claims {
        Claims {
            issuer: Some("https://id.test".into()),
            audiences: vec!["mail".into()],
            user: "email".into(),
            scope: None,
        }
    }

    #[test]
    fn a_token_says_everything_or_is_worth_nothing() {
        let good =
            json!({ "iss": "https://id.test", "aud": ["web", "mail"], "exp": 1000, "nbf": 100, "email": "a@b.test" });
        assert_eq!(wanted().user(&good, 500, true), Some("a@b.test"));
        for (name, value) in [
            ("iss", json!("https://evil.test")),
            ("aud", json!("web")),
            ("aud", json!(null)),
            ("exp", json!(400)),
            ("exp", json!("1000")),
            ("exp", json!(null)),
            ("nbf", json!(700)),
            ("email", json!("")),
            ("email", json!(7)),
        ] {
            let mut bad = good.clone();
            bad[name] = value.clone();
            assert_eq!(wanted().user(&bad, 500, true), None, "{name}: {value}");
        }
        let mut endless = good.clone();
        endless.as_object_mut().expect("an object").remove("exp");
        assert_eq!(wanted().user(&endless, 500, true), None);
        assert_eq!(wanted().user(&endless, 500, false), Some("a@b.test"), "an introspected token may leave it away");
        assert_eq!(wanted().user(&good, 1000 + LEEWAY_SECONDS - 1, true), Some("a@b.test"));
    }

    #[test]
    fn a_scope_is_a_word_of_the_list() {
        let claims = Claims { issuer: None, audiences: vec![], user: "sub".into(), scope: Some("smtp".into()) };
        assert_eq!(claims.user(&json!({ "sub": "a", "scope": "imap smtp", "exp": 9 }), 1, true), Some("a"));
        assert_eq!(claims.user(&json!({ "sub": "a", "scope": "smtpx", "exp": 9 }), 1, true), None);
    }
}
