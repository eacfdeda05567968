//! Canonical addresses in header fields, in mail of our own users and hosts: what is rewritten in the envelope is rewritten where people
//! read it, before anybody signs. Everything else in a field, names, comments, folds, stays as it was written.

use std::ops::Range;

use bytes::Bytes;
use waypost_route::Router;
use waypost_types::{Address, Message, header};

/// Addresses looked up in one message; a field with more is left from there on.
const ADDRESSES_MAX: usize = 2000;

/// Fields with senders, fields with recipients (RFC 5322 §3.6.2, §3.6.3, §3.6.6).
const SENDERS: [&str; 6] = ["From", "Sender", "Reply-To", "Resent-From", "Resent-Sender", "Errors-To"];
const RECIPIENTS: [&str; 6] = ["To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"];

/// Rewrites. The error is for the log: a table could not be asked.
pub(crate) async fn headers(router: &Router, message: &mut Message) -> Result<(), String> {
    let block = message.header_block();
    let mut changes = Vec::new();
    let mut left = ADDRESSES_MAX;
    for field in header::fields(&block) {
        let sender = SENDERS.iter().any(|name| field.is(name));
        if !sender && !RECIPIENTS.iter().any(|name| field.is(name)) {
            continue;
        }
        let Ok(value) = std::str::from_utf8(field.value) else { continue };
        if let Some(new) = rewritten(router, value, sender, &mut left).await? {
            let name = String::from_utf8_lossy(field.name);
            changes.push((field.range, format!("{name}:{new}\r\n")));
        }
    }
    // From the back, so that the ranges in front stay where they are.
    for (range, line) in changes.into_iter().rev() {
        let start = range.start;
        message.cut(range);
        message.insert(start, Bytes::from(line));
    }
    Ok(())
}

async fn rewritten(router: &Router, value: &str, sender: bool, left: &mut usize) -> Result<Option<String>, String> {
    let mut new = String::new();
    let mut done = 0;
    for span in addresses(value) {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let Ok(address) = Address::parse(&value[span.clone()]) else { continue };
        if let Some(canonical) = router.rewrite(&address, sender).get().await? {
            new.push_str(&value[done..span.start]);
            new.push_str(&canonical.to_string());
            done = span.end;
        }
    }
    if done == 0 {
        return Ok(None);
    }
    new.push_str(&value[done..]);
    Ok(Some(new))
}

/// Where the addresses of an address list stand (RFC 5322 §3.4): in angle brackets, or bare between commas. Comments and quoted strings are
/// stepped over, except a quoted local part, which belongs to its address.
fn addresses(value: &str) -> Vec<Range<usize>> {
    let bytes = value.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'(' => at = behind_comment(bytes, at),
            b'<' => {
                let start = at + 1;
                at = behind_bracket(bytes, start);
                let end = if bytes.get(at - 1) == Some(&b'>') { at - 1 } else { at };
                // A source route is history (RFC 5321 appendix C).
                let inner = value[start..end].rsplit_once(':').filter(|(route, _)| route.starts_with('@'));
                found.push(inner.map_or(start, |(route, _)| start + route.len() + 1)..end);
            }
            b',' | b';' | b':' | b' ' | b'\t' | b'\r' | b'\n' | b'>' | b')' => at += 1,
            _ => {
                let start = at;
                at = behind_word(bytes, at);
                if value[start..at].contains('@') {
                    found.push(start..at);
                }
            }
        }
    }
    found
}

fn behind_comment(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at.min(bytes.len())
}

fn behind_bracket(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = behind_quoted(bytes, at),
            b'>' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

fn behind_quoted(bytes: &[u8], mut at: usize) -> usize {
    at += 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn behind_word(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = behind_quoted(bytes, at),
            b',' | b';' | b':' | b' ' | b'\t' | b'\r' | b'\n' | b'<' | b'(' | b'>' | b')' => break,
            // `[IPv6:…]` has colons of its own.
            b'[' => at = bytes[at..].iter().position(|b| *b == b']').map_or(bytes.len(), |end| at + end + 1),
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use waypost_route::{Canonical, Lists, Tables, TextTable};
    use waypost_types::Host;
    use waypost_types::port::Table;

    fn list(text: &str) -> Lists {
        Lists::from(vec![Arc::new(TextTable::parse(text).expect("a table")) as Arc<dyn Table>])
    }

    async fn after(message: &'static str) -> String {
        let canonical = Canonical {
            sender: list("alice@a.test Alice.Lee@a.test\n"),
            recipient: list("old@a.test new@a.test\n"),
            headers: true,
            ..Canonical::default()
        };
        let own = vec![Host::parse("a.test").expect("a host")];
        let router = Tables { own, canonical, ..Tables::default() }.build().expect("right");
        let mut message = Message::new(Bytes::from_static(message.as_bytes()));
        headers(&router, &mut message).await.expect("in memory");
        String::from_utf8(message.contiguous().to_vec()).expect("text")
    }

    #[tokio::test]
    async fn addresses_change_and_nothing_else() {
        let message = "Received: from alice@a.test\r\nFrom: \"Lee, Alice <x>\" (me) <alice@a.test>\r\n\
             To: old@a.test,\r\n\tgroup: <old@a.test>, other@b.test;\r\nSubject: alice@a.test\r\n\r\nalice@a.test\r\n";
        assert_eq!(
            after(message).await,
            "Received: from alice@a.test\r\nFrom: \"Lee, Alice <x>\" (me) <Alice.Lee@a.test>\r\n\
             To: new@a.test,\r\n\tgroup: <new@a.test>, other@b.test;\r\nSubject: alice@a.test\r\n\r\nalice@a.test\r\n"
        );
        let same = "From: old@a.test\r\nTo: alice@a.test (old@a.test)\r\n\r\n";
        assert_eq!(after(same).await, same, "senders' tables are for senders");
    }

    #[test]
    fn the_grammar_is_walked_without_falling_over() {
        let of = |text: &'static str| addresses(text).into_iter().map(|span| &text[span]).collect::<Vec<_>>();
        assert_eq!(
            of(" \"a b\"@c.test, <\"x>y\"@d.test>, u@[IPv6:::1]"),
            ["\"a b\"@c.test", "\"x>y\"@d.test", "u@[IPv6:::1]"]
        );
        assert_eq!(of("<@route.test:a@b.test>"), ["a@b.test"]);
        for text in ["<", "(", "\"", "a@", "<a@b", "\\", "((", "[", "a@[", "é@ü, <ö", "\"\\"] {
            addresses(text);
        }
    }
}
