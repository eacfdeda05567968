//! What a table says: the actions of Postfix's access(5), as far as they mean something here.
//!
//! | value | meaning |
//! |---|---|
//! | `OK`, `PERMIT`, digits alone | permit |
//! | `REJECT [text]` | block, 550 5.7.1 |
//! | `5NN [x.y.z] text`, `4NN [x.y.z] text` | block with that reply |
//! | `DUNNO`, nothing | no opinion, and the search ends |
//!
//! Anything else is told in the log and taken as no opinion: a table that also serves another program must not refuse mail here.

use std::net::IpAddr;

use waypost_sdk::addresses::host_keys;
use waypost_sdk::{Host, Reply};

/// What is said about one client or address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing.
    None,
    /// Permitted, and why.
    Permit(String),
    /// Blocked, with this reply.
    Block(Reply),
}

/// Asks a table for all keys at once; the first that is there speaks.
pub fn look_up(host: &Host, table: &str, keys: impl Iterator<Item = String>) -> Rule {
    let keys: Vec<String> = keys.collect();
    let values = host.tables().lookup_many(table, &keys);
    let Some((key, value)) = keys.iter().zip(values).find_map(|(key, value)| Some((key, value?))) else {
        return Rule::None;
    };
    parse(&value, &format!("{table}: {key}")).unwrap_or_else(|| {
        host.env().warn(&format!(
            "table {table}, key {key}: `{value}` is no action here (OK, REJECT text, 5NN text, DUNNO); ignored"
        ));
        Rule::None
    })
}

/// Keys of a client, in the order of access(5): its name and parent domains, its address, the networks that octets make.
pub fn client_keys(address: IpAddr, name: Option<&str>) -> impl Iterator<Item = String> {
    let names = name.map(host_keys).into_iter().flatten();
    let text = address.to_string();
    let (separator, networks) = if address.is_ipv4() { ('.', 3) } else { (':', 7) };
    let shorter: Vec<String> =
        text.rmatch_indices(separator).take(networks).map(|(at, _)| text[..at].to_string()).collect();
    names.chain(std::iter::once(text)).chain(shorter).filter(|key| !key.is_empty())
}

/// Reads one value; `None` if it has no meaning here.
fn parse(value: &str, why: &str) -> Option<Rule> {
    let (word, rest) = value.trim().split_once([' ', '\t']).unwrap_or((value.trim(), ""));
    let rest = rest.trim();
    if word.len() == 3
        && matches!(word.as_bytes()[0], b'4' | b'5')
        && word.bytes().all(|byte| byte.is_ascii_digit())
        && !rest.is_empty()
    {
        return Some(Rule::Block(reply(word.parse().ok()?, rest)));
    }
    match word.to_ascii_uppercase().as_str() {
        "" | "DUNNO" => Some(Rule::None),
        "OK" | "PERMIT" => Some(Rule::Permit(why.to_string())),
        "REJECT" => Some(Rule::Block(reply(550, if rest.is_empty() { "blocked here" } else { rest }))),
        _ if word.bytes().all(|byte| byte.is_ascii_digit()) => Some(Rule::Permit(why.to_string())),
        _ => None,
    }
}

/// A reply from its text, which may begin with an enhanced status.
fn reply(code: u16, text: &str) -> Reply {
    let class = (code / 100) as u8;
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    match enhanced(first).filter(|status| status.0 == class) {
        Some(status) => Reply::new(code, status, rest.trim()),
        None => Reply::new(code, (class, 7, 1), text),
    }
}

fn enhanced(word: &str) -> Option<(u8, u8, u16)> {
    let mut numbers = word.split('.');
    let status = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    numbers.next().is_none().then_some(status)
}

/// A reply on one line, to be kept until RCPT.
pub fn to_text(reply: &Reply) -> String {
    let (class, subject, detail) = reply.enhanced;
    format!("{} {class}.{subject}.{detail} {}", reply.code, reply.text)
}

/// Such a line read back; nothing for an empty one.
pub fn from_text(text: &[u8]) -> Option<Reply> {
    let text = std::str::from_utf8(text).ok()?;
    let (code, rest) = text.split_once(' ')?;
    Some(reply(code.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_survive_being_kept() {
        for reply in [
            Reply::new(550, (5, 7, 1), "a b"),
            Reply::new(450, (4, 2, 0), "x"),
            Reply::new(554, (5, 7, 0), "5.1.1 odd"),
        ] {
            assert_eq!(from_text(to_text(&reply).as_bytes()), Some(reply));
        }
        assert_eq!(from_text(b""), None);
    }

    #[test]
    fn keys_of_a_client() {
        let keys = |address: &str, name| client_keys(address.parse().unwrap(), name).collect::<Vec<_>>();
        assert_eq!(
            keys("192.0.2.9", Some("mx.example.org")),
            ["mx.example.org", ".example.org", ".org", "192.0.2.9", "192.0.2", "192.0", "192"]
        );
        assert_eq!(keys("2001:db8::1", None)[..3], ["2001:db8::1", "2001:db8:", "2001:db8"]);
    }

    #[test]
    fn values_of_access_5() {
        let block = |code, status, text: &str| Some(Rule::Block(Reply::new(code, status, text)));
        assert_eq!(parse("OK", "w"), Some(Rule::Permit("w".into())));
        assert_eq!(parse("12345", "w"), Some(Rule::Permit("w".into())));
        assert_eq!(parse("reject", "w"), block(550, (5, 7, 1), "blocked here"));
        assert_eq!(parse("REJECT 5.1.8 no such domain", "w"), block(550, (5, 1, 8), "no such domain"));
        assert_eq!(parse("554 5.7.1 no", "w"), block(554, (5, 7, 1), "no"));
        assert_eq!(parse("421 4.7.0 later", "w"), block(421, (4, 7, 0), "later"));
        assert_eq!(parse("554 4.7.1 confused", "w"), block(554, (5, 7, 1), "4.7.1 confused"));
        assert_eq!(parse("DUNNO", "w"), Some(Rule::None));
        assert_eq!(parse("HOLD", "w"), None);
    }
}
