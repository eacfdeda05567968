//! Who handed the message in: the client of the session, or, where one of our own relays brought it, the client that relay wrote
//! down.
//!
//! Only the `Received` fields that private addresses put on top are passed over, so what a stranger wrote below its own is never
//! believed. Addresses for documentation count as private: they stand for nobody.

use std::net::{IpAddr, Ipv4Addr};

use waypost_sdk::Host;
use waypost_sdk::networks::is_private;

use crate::letter::Headers;

/// `Received` fields that are looked at.
const RECEIVED_MAX: usize = 12;

/// A client of the outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// What it greeted with, lower case.
    pub helo: String,
    /// The name of its address, as far as whoever took the message knew.
    pub name: Option<String>,
}

/// The client, if anybody knows one.
pub fn find(host: &Host, headers: &Headers) -> Option<Client> {
    let session = host.session();
    if session.client_address().is_some_and(|address| !is_ours(address)) {
        let name = session.ptr_name().map(|name| name.to_ascii_lowercase());
        return Some(Client { helo: session.helo().to_ascii_lowercase(), name });
    }
    headers.all("received").take(RECEIVED_MAX).find_map(written)
}

fn is_ours(address: IpAddr) -> bool {
    is_private(address) || matches!(address, IpAddr::V4(four) if four.is_documentation())
}

/// `from helo (name [address]) by …`, as Sendmail and Postfix write it, if the address is none of ours.
fn written(field: &str) -> Option<Client> {
    let rest = field.strip_prefix("from ")?;
    let (helo, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let before_by = rest.split(" by ").next().unwrap_or_default();
    let comment = before_by.trim_start().strip_prefix('(')?;
    let (inside, _) = comment.split_once(')').unwrap_or((comment, ""));
    let address = inside.split('[').nth(1).and_then(|tail| tail.split(']').next());
    let literal = || helo.strip_prefix('[').and_then(|tail| tail.strip_suffix(']'));
    let address: Ipv4Addr = address.or_else(literal)?.parse().ok()?;
    if is_ours(address.into()) {
        return None;
    }
    let name = inside.split(['[', ' ']).next().unwrap_or_default().trim();
    let name = name.rsplit('@').next().unwrap_or_default().trim_end_matches('.');
    let is_name = name.contains('.') && name != "unknown" && name.parse::<Ipv4Addr>().is_err();
    let forged = inside.contains("may be forged");
    Some(Client {
        helo: helo.trim_matches(['[', ']']).to_ascii_lowercase(),
        name: (is_name && !forged).then(|| name.to_ascii_lowercase()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_fields_are_read_as_they_are_written() {
        let read = |field: &str| written(field).map(|client| (client.helo, client.name.unwrap_or_default()));
        let some = |helo: &str, name: &str| Some((helo.to_string(), name.to_string()));
        assert_eq!(read("from A.example (mx.a.example [203.0.113.9]) by us"), None, "documentation");
        assert_eq!(read("from A.example (mx.a.example [64.1.2.3]) by us"), some("a.example", "mx.a.example"));
        assert_eq!(read("from x (root@mx.a.example [64.1.2.3]) by us"), some("x", "mx.a.example"));
        assert_eq!(read("from x (unknown [64.1.2.3]) by us"), some("x", ""));
        assert_eq!(read("from x.example ([64.1.2.3]) by us"), some("x.example", ""));
        assert_eq!(read("from x (a.example [64.1.2.3] (may be forged)) by us"), some("x", ""));
        assert_eq!(read("from localhost (localhost [127.0.0.1]) by us"), None);
        assert_eq!(read("from fetchmail with IMAP"), None);
        assert_eq!(read("by us; now"), None);
        assert_eq!(read("from "), None);
    }
}
