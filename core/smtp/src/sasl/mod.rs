//! SASL mechanisms as machines (RFC 4422): they take lines, they ask, they never look anything up.
//!
//! A mechanism is begun with [`begin`] and fed decoded lines; it says when it has enough to ask whether the credentials are good.
//! A mechanism that proves the password without sending it (SCRAM) asks for the user's keys first and goes on with them. One that
//! is somebody else's to carry out (`relayed`) hands every message on. Chance and channel bindings come in as arguments.

mod bearer;
mod external;
mod login;
mod plain;
mod relayed;
mod scram;

use waypost_types::TlsFacts;
use waypost_types::login::{Credentials, ScramKeys};

/// A mechanism that Waypost can offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 5802, RFC 7677, with the channel bound by `tls-exporter` (RFC 9266).
    ScramSha256Plus,
    /// RFC 5802, RFC 7677.
    ScramSha256,
    /// RFC 4616.
    Plain,
    /// The obsolete but lively draft-murchison-sasl-login: some clients know nothing else.
    Login,
    /// RFC 7628.
    OAuthBearer,
    /// Google's forerunner of it.
    XOAuth2,
    /// RFC 4422 appendix A: the TLS client certificate.
    External,
    /// Carried out by the back end alone.
    CramMd5,
    /// Carried out by the back end alone.
    DigestMd5,
    /// Carried out by the back end alone.
    ScramSha1,
    /// Carried out by the back end alone: Kerberos, RFC 4752.
    GssApi,
    /// Carried out by the back end alone.
    GssSpnego,
    /// Carried out by the back end alone.
    Ntlm,
}

impl Mechanism {
    /// Every mechanism, the strongest first.
    pub const ALL: [Mechanism; 13] = [
        Mechanism::ScramSha256Plus,
        Mechanism::ScramSha256,
        Mechanism::Plain,
        Mechanism::Login,
        Mechanism::OAuthBearer,
        Mechanism::XOAuth2,
        Mechanism::External,
        Mechanism::CramMd5,
        Mechanism::DigestMd5,
        Mechanism::ScramSha1,
        Mechanism::GssApi,
        Mechanism::GssSpnego,
        Mechanism::Ntlm,
    ];

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::OAuthBearer => "OAUTHBEARER",
            Mechanism::XOAuth2 => "XOAUTH2",
            Mechanism::External => "EXTERNAL",
            Mechanism::CramMd5 => "CRAM-MD5",
            Mechanism::DigestMd5 => "DIGEST-MD5",
            Mechanism::ScramSha1 => "SCRAM-SHA-1",
            Mechanism::GssApi => "GSSAPI",
            Mechanism::GssSpnego => "GSS-SPNEGO",
            Mechanism::Ntlm => "NTLM",
        }
    }

    /// The mechanism with this name, in any case.
    pub fn from_name(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// Whether a session with these TLS facts can use it. Where the handshake gave nothing to bind to (TLS 1.2: RFC 9266 §3), -PLUS
    /// is not offered, and without a verified client certificate EXTERNAL is not.
    pub fn is_usable(self, tls: Option<&TlsFacts>) -> bool {
        match self {
            Mechanism::ScramSha256Plus => tls.is_some_and(|tls| tls.exporter.is_some()),
            Mechanism::External => tls.and_then(|tls| tls.client_certificate.as_ref()).is_some_and(|c| c.verified),
            _ => true,
        }
    }

    /// Whether only a back end can carry it out.
    pub fn is_foreign(self) -> bool {
        use Mechanism::{CramMd5, DigestMd5, GssApi, GssSpnego, Ntlm, ScramSha1};
        matches!(self, CramMd5 | DigestMd5 | ScramSha1 | GssApi | GssSpnego | Ntlm)
    }
}

/// What an exchange wants next.
#[derive(Debug)]
pub enum Step {
    /// Send this challenge (not yet in base64) and hand in the answer.
    Challenge(Vec<u8>),
    /// Fetch this user's keys and hand them in with [`Exchange::handle_keys`].
    Keys(String),
    /// Are these good? That ends the exchange, but for what the [`Ending`] still has to say.
    Ask(Credentials, Ending),
    /// Hand this to the back end; it says what comes next.
    Pass(&'static str, Option<Vec<u8>>),
    /// The client broke the rules of the mechanism: 501 5.5.2.
    Malformed,
}

/// What is sent, as one more challenge (RFC 4954 §4), before the reply that ends the exchange. The client's answer to it is empty
/// or without meaning.
#[derive(Debug, Default)]
pub struct Ending {
    /// Before 235.
    pub granted: Option<Vec<u8>>,
    /// Before 535.
    pub denied: Option<Vec<u8>>,
}

/// Octets of our part of a nonce.
pub const NONCE_BYTES: usize = 18;

/// One exchange, server side.
pub trait Exchange: Send + std::fmt::Debug {
    /// Takes the client's next message, decoded. The first call has the initial response, or `None` if there was none.
    fn handle(&mut self, response: Option<&[u8]>) -> Step;

    /// Takes the keys asked for by [`Step::Keys`], and chance.
    fn handle_keys(&mut self, _keys: ScramKeys, _nonce: [u8; NONCE_BYTES]) -> Step {
        panic!("{self:?} has not asked for keys");
    }
}

/// Where an exchange takes place.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// What TLS says.
    pub tls: Option<&'a TlsFacts>,
    /// Whether SCRAM-SHA-256-PLUS is offered in this session: a client that thinks otherwise has been lied to.
    pub plus_offered: bool,
    /// Whether the back end carries out what goes beyond passwords.
    pub relayed: bool,
}

/// Starts an exchange.
pub fn begin(mechanism: Mechanism, at: Surroundings<'_>) -> Box<dyn Exchange> {
    let scram = |plus| {
        let exporter = at.tls.and_then(|tls| tls.exporter.clone());
        Box::new(scram::Scram::new(plus, at.plus_offered, exporter))
    };
    match mechanism {
        Mechanism::Plain => Box::new(plain::Plain),
        Mechanism::Login => Box::new(login::Login::default()),
        Mechanism::External => Box::new(external::External),
        foreign if foreign.is_foreign() || at.relayed => Box::new(relayed::Relayed(foreign.name())),
        Mechanism::ScramSha256 => scram(false),
        Mechanism::ScramSha256Plus => scram(true),
        Mechanism::OAuthBearer => Box::new(bearer::Bearer::OAuthBearer),
        Mechanism::XOAuth2 => Box::new(bearer::Bearer::XOAuth2),
        other => unreachable!("{other:?} is foreign"),
    }
}

/// A `saslname` (RFC 5802 §7): `=2C` is a comma and `=3D` an equals sign; nothing else may follow `=`, and NUL stands nowhere.
fn saslname(text: &str) -> Option<String> {
    if text.contains('\0') {
        return None;
    }
    if !text.contains('=') {
        return Some(text.to_string());
    }
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (c, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        name.push(c);
        name.push_str(rest);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Mechanism::from_name("plain"), Some(Mechanism::Plain));
        assert_eq!(Mechanism::from_name("scram-sha-256-plus"), Some(Mechanism::ScramSha256Plus));
        assert_eq!(Mechanism::from_name("ANONYMOUS"), None);
    }

    #[test]
    fn sasl_names_are_decoded() {
        assert_eq!(saslname("a=2Cb=3Dc").as_deref(), Some("a,b=c"));
        assert_eq!(saslname("alice").as_deref(), Some("alice"));
        assert_eq!(saslname("a=2cb"), None);
        assert_eq!(saslname("a="), None);
        assert_eq!(saslname("a\0b"), None);
    }
}
