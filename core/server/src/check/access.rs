//! Access tables: what an operator says about a client, a HELO name, a sender or a recipient, row by row.
//!
//! | value | meaning |
//! |---|---|
//! | `OK` | the checks of this kind are passed: client and HELO, or sender, or recipient. Relay control is never passed so |
//! | `DUNNO` | as if the row were not there |
//! | `REJECT words`, `DEFER words`, `554 5.7.1 words` | no |
//! | `HOLD words` | taken, and kept until an operator releases it |
//! | `DISCARD` | taken and dropped |
//! | `PREPEND Name: value` | a header field in front |
//! | `REDIRECT address` | to this address instead of all recipients |
//!
//! Looked for are, in this order: addresses of clients whole and by network (`192.0.2`, in text tables any prefix); names whole and by
//! parent (`example.com`, `.example.com`); mail addresses as `user+ext@domain`, `user@domain`, the domain and its parents, `user@`. Patterns
//! see what is whole. The null sender is `<>`.

use std::net::IpAddr;

use waypost_route::Lists;
use waypost_types::port::TableError;
use waypost_types::{Address, Domain, Edit, Enhanced, Reply, ReversePath};

/// The tables of a port.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// By the client's address, at connect, and by its confirmed name, at MAIL.
    pub client: Lists,
    /// By the name in HELO or EHLO.
    pub helo: Lists,
    /// By envelope sender.
    pub sender: Lists,
    /// By recipient.
    pub recipient: Lists,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Nothing,
    Pass,
    No(Reply),
    Hold(Box<str>),
    Discard,
    Edit(Edit),
    Redirect(Address),
}

/// The row could not be found or understood; for the log.
#[derive(Debug)]
pub(crate) struct Trouble(pub(crate) String);

impl From<TableError> for Trouble {
    fn from(error: TableError) -> Trouble {
        Trouble(error.0)
    }
}

type Said = Result<Word, Trouble>;

/// About a client's address.
pub(crate) async fn client(tables: &Lists, address: IpAddr) -> Said {
    let key = address.to_string();
    if let Some(value) = tables.whole(&key).await? {
        return word(&value);
    }
    // `192.0.2`, `192.0`, `192`: how networks were written before prefixes.
    let mut name = key.as_str();
    while let (true, Some((front, _))) = (address.is_ipv4(), name.rsplit_once('.')) {
        if let Some(value) = tables.part(front).await? {
            return word(&value);
        }
        name = front;
    }
    Ok(Word::Nothing)
}

/// About a name: a client's, or what it says in HELO.
pub(crate) async fn name(tables: &Lists, name: &str) -> Said {
    if let Some(value) = tables.whole(name).await? {
        return word(&value);
    }
    match Domain::parse(name) {
        Ok(domain) => parents(tables, &domain).await,
        Err(_) => Ok(Word::Nothing),
    }
}

/// About a sender.
pub(crate) async fn sender(tables: &Lists, sender: &ReversePath, separators: &str) -> Said {
    match sender.address() {
        Some(sender) => address(tables, sender, separators).await,
        None => match tables.whole("<>").await? {
            Some(value) => word(&value),
            None => Ok(Word::Nothing),
        },
    }
}

/// About a mail address.
pub(crate) async fn address(tables: &Lists, address: &Address, separators: &str) -> Said {
    if let Some(value) = tables.whole(&address.to_string()).await? {
        return word(&value);
    }
    let local = address.local();
    let plain = local.find(|c| separators.contains(c)).filter(|at| *at > 0).map(|at| &local[..at]);
    if let Some(plain) = plain
        && let Some(value) = tables.part(&format!("{plain}@{}", address.host())).await?
    {
        return word(&value);
    }
    if let Some(value) = tables.part(&address.host().to_string()).await? {
        return word(&value);
    }
    if let Some(domain) = address.domain() {
        match parents(tables, domain).await? {
            Word::Nothing => {}
            said => return Ok(said),
        }
    }
    for name in [Some(local), plain].into_iter().flatten() {
        if let Some(value) = tables.part(&format!("{name}@")).await? {
            return word(&value);
        }
    }
    Ok(Word::Nothing)
}

/// The parents of a domain, as `.example.com` and as `example.com`.
async fn parents(tables: &Lists, domain: &Domain) -> Said {
    let mut name = domain.as_str();
    while let Some(at) = name.find('.') {
        for key in [&name[at..], &name[at + 1..]] {
            if let Some(value) = tables.part(key).await? {
                return word(&value);
            }
        }
        name = &name[at + 1..];
    }
    Ok(Word::Nothing)
}

/// Understands a value.
pub(crate) fn word(value: &str) -> Said {
    let (head, rest) = value.trim().split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((value.trim(), ""));
    let rest = rest.trim();
    let words = |otherwise: &str| if rest.is_empty() { otherwise.to_string() } else { rest.to_string() };
    let trouble = |why: &str| Err(Trouble(format!("access row {value:?}: {why}")));
    match head.to_ascii_uppercase().as_str() {
        "OK" | "PERMIT" => Ok(Word::Pass),
        "DUNNO" => Ok(Word::Nothing),
        "REJECT" => Ok(Word::No(reply(554, Enhanced(5, 7, 1), &words("access denied")))),
        "DEFER" => Ok(Word::No(reply(450, Enhanced(4, 7, 1), &words("access denied for now, try again later")))),
        "HOLD" => Ok(Word::Hold(words("held by an access table").into())),
        "DISCARD" => Ok(Word::Discard),
        "PREPEND" => match rest.split_once(':') {
            Some((name, value)) if waypost_types::edit::field(name.trim(), value).is_some() => {
                Ok(Word::Edit(Edit::PrependHeader { name: name.trim().into(), value: value.trim().into() }))
            }
            _ => trouble("PREPEND needs `Name: value`"),
        },
        "REDIRECT" => match Address::parse(rest) {
            Ok(address) => Ok(Word::Redirect(address)),
            Err(error) => trouble(&format!("REDIRECT needs an address: {error}")),
        },
        code => match code.parse::<u16>() {
            Ok(code @ 400..=599) => {
                let class = (code / 100) as u8;
                Ok(Word::No(reply(code, Enhanced(class, 7, 1), &words("access denied"))))
            }
            _ => trouble("write OK, DUNNO, REJECT, DEFER, HOLD, DISCARD, PREPEND, REDIRECT or a reply code"),
        },
    }
}

/// The words may begin with an enhanced status of their own.
fn reply(code: u16, enhanced: Enhanced, words: &str) -> Reply {
    match Enhanced::parse_prefix(words) {
        Some((own, rest)) if own.0 == enhanced.0 => Reply::new(code, own, rest.to_string()),
        _ => Reply::new(code, enhanced, words.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use waypost_route::TextTable;
    use waypost_types::port::Table;

    fn list(text: &str) -> Lists {
        Lists::from(vec![Arc::new(TextTable::parse(text).expect("a table")) as Arc<dyn Table>])
    }

    fn no(said: Said) -> String {
        match said {
            Ok(Word::No(reply)) => reply.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_word_is_understood() {
        let of = |text| word(text).unwrap_or_else(|trouble| panic!("{trouble:?}"));
        assert_eq!((of("ok"), of("DUNNO"), of("Discard")), (Word::Pass, Word::Nothing, Word::Discard));
        assert_eq!(no(word("REJECT")), "554 5.7.1 access denied");
        assert_eq!(no(word("reject 5.7.9 go  away")), "554 5.7.9 go  away");
        assert_eq!(no(word("DEFER later")), "450 4.7.1 later");
        assert_eq!(no(word("521 5.3.2 no")), "521 5.3.2 no");
        assert_eq!(of("HOLD look at it"), Word::Hold("look at it".into()));
        let field = Edit::PrependHeader { name: "X-Seen".into(), value: "a: b".into() };
        assert_eq!(of("PREPEND X-Seen: a: b"), Word::Edit(field));
        assert_eq!(of("REDIRECT a@b.test"), Word::Redirect(Address::parse("a@b.test").expect("an address")));
        for wrong in ["", "MAYBE", "200 fine", "PREPEND x", "PREPEND a b: c", "REDIRECT nobody"] {
            assert!(word(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn the_nearest_row_counts() {
        let tables = list("192.0.2 REJECT net\n192.0.2.7 OK\n2001:db8::/32 REJECT six\n");
        let ip = |text: &str| text.parse().expect("an address");
        assert_eq!(client(&tables, ip("192.0.2.7")).await.expect("said"), Word::Pass);
        assert!(no(client(&tables, ip("192.0.2.8")).await).ends_with("net"));
        assert!(no(client(&tables, ip("2001:db8::1")).await).ends_with("six"));
        assert_eq!(client(&tables, ip("198.51.100.1")).await.expect("said"), Word::Nothing);
        let tables = list("bad.test REJECT\nok.bad.test OK\n.sub.test DEFER\n");
        assert!(no(name(&tables, "mx.BAD.test").await).starts_with("554"));
        assert_eq!(name(&tables, "ok.bad.test").await.expect("said"), Word::Pass);
        assert!(no(name(&tables, "a.b.sub.test").await).starts_with("450"));
        assert_eq!(name(&tables, "sub.test").await.expect("said"), Word::Nothing);
    }

    #[tokio::test]
    async fn addresses_are_found_by_their_parts() {
        let tables = list("joe@a.test 550 one\nb.test 550 two\nroot@ 550 three\n<> HOLD\n");
        let of = async |text: &str| no(address(&tables, &Address::parse(text).expect("an address"), "+").await);
        assert!(of("joe+x@a.test").await.ends_with("one"));
        assert!(of("who@mx.b.test").await.ends_with("two"));
        assert!(of("root+x@c.test").await.ends_with("three"));
        assert!(matches!(sender(&tables, &ReversePath::Null, "+").await, Ok(Word::Hold(_))));
        let ann = Address::parse("ann@a.test").expect("an address");
        assert_eq!(address(&tables, &ann, "+").await.expect("said"), Word::Nothing);
    }
}
