//! SASL mechanisms as machines (RFC 4422): they take lines, they ask, they never look anything up.
//!
//! A mechanism is begun with [`begin`] and fed decoded lines; it says when it has enough to ask whether the credentials are good.
//! A mechanism that proves the password without sending it (SCRAM) asks for a verifier first and goes on with it: that is
//! why [`Step::Ask`] does not end the exchange but the machine says so itself.

mod login;
mod plain;

use waypost_types::verdict::Credentials;

/// A mechanism that Waypost can offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The obsolete but lively draft-murchison-sasl-login: some clients know nothing else.
    Login,
}

impl Mechanism {
    /// Every mechanism.
    pub const ALL: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }

    /// The mechanism with this name, in any case.
    pub fn from_name(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

/// What an exchange wants next.
#[derive(Debug)]
pub enum Step {
    /// Send this challenge (not yet in base64) and hand in the answer.
    Challenge(Vec<u8>),
    /// Are these good? With a yes the exchange is over.
    Ask(Credentials),
    /// The client broke the rules of the mechanism: 501 5.5.2.
    Malformed,
}

/// One exchange, server side.
pub trait Exchange: Send + std::fmt::Debug {
    /// Takes the client's next message, decoded. The first call has the initial response, or `None` if there was none.
    fn handle(&mut self, response: Option<&[u8]>) -> Step;
}

/// Starts an exchange.
pub fn begin(mechanism: Mechanism) -> Box<dyn Exchange> {
    match mechanism {
        Mechanism::Plain => Box::new(plain::Plain),
        Mechanism::Login => Box::new(login::Login::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Mechanism::from_name("plain"), Some(Mechanism::Plain));
        assert_eq!(Mechanism::from_name("CRAM-MD5"), None);
    }
}
