//! The built-in checks. What they say is a [`Refusal`], or an answer of the pipeline's, and names itself for the log.
//!
//! | page | stage | what it says |
//! |---|---|---|
//! | this | MAIL, RCPT | `553 5.6.7` to an address beyond ASCII without SMTPUTF8 (RFC 6531 §3.5) |
//! | `sender` | MAIL | `553 5.7.1` to a user who sends as somebody else |
//! | `stage` | connect, HELO, MAIL, RCPT | names, domains and access tables, in their order, as the port's rules want |
//! | `access` | | what the rows of access tables mean |
//! | `dns` | | what is asked of DNS |
//! | `relay` | RCPT | `550 5.7.1` to whoever may not send there, `550 5.1.1` for names that nobody has |

pub(crate) mod access;
mod dns;
pub(crate) mod relay;
pub(crate) mod sender;
pub(crate) mod stage;

use waypost_types::{Address, Enhanced, Reply};

/// A check's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The check's name in the log.
    pub(crate) by: &'static str,
    pub(crate) reply: Reply,
}

impl Refusal {
    pub(crate) fn new(by: &'static str, code: u16, enhanced: Enhanced, text: &'static str) -> Refusal {
        Refusal { by, reply: Reply::new(code, enhanced, text) }
    }
}

/// An address beyond ASCII is only for transactions that announced it: whoever did not may be unable to read our bounce.
pub(crate) fn utf8_announced(address: &Address, smtputf8: bool) -> Result<(), Refusal> {
    if smtputf8 || address.is_ascii() {
        return Ok(());
    }
    Err(Refusal::new("smtputf8", 553, Enhanced(5, 6, 7), "address needs SMTPUTF8, which MAIL did not announce"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_addresses_need_smtputf8() {
        let address = Address::parse("jürgen@example.com").expect("an address");
        assert_eq!(utf8_announced(&address, true), Ok(()));
        assert_eq!(utf8_announced(&address, false).map_err(|r| r.reply.code), Err(553));
        let ascii = Address::parse("u@Bücher.example").expect("an address");
        assert_eq!(utf8_announced(&ascii, false), Ok(()), "a domain is kept in its ASCII form");
    }
}
