//! Sets of mail addresses and domains, written as mail admins write them.

use std::collections::HashSet;

use serde::Deserialize;

/// A set of patterns for addresses and for host names. Letter case never matters.
///
/// | entry | matches |
/// |---|---|
/// | `user@example.com` | that address |
/// | `user@` | that local part at any domain |
/// | `example.com` | the domain itself: its addresses, or the host of that name |
/// | `.example.com` | everything below the domain, not the domain itself |
/// | `<>` | the null sender |
///
/// ```
/// let partners = waypost_sdk::Addresses::parse(["example.com", ".example.com", "boss@example.net"]).unwrap();
/// assert_eq!(partners.matching("someone@mail.Example.com"), Some(".example.com"));
/// assert_eq!(partners.matching("other@example.net"), None);
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Addresses {
    entries: HashSet<String>,
}

impl Addresses {
    /// Reads entries; the error names the first that cannot be meant.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Addresses, String> {
        entries.into_iter().map(entry).collect::<Result<_, _>>().map(|entries| Addresses { entries })
    }

    /// The entry that matches an address (`""` is the null sender), most specific first.
    pub fn matching(&self, address: &str) -> Option<&str> {
        if self.entries.is_empty() {
            return None;
        }
        keys(address).find_map(|key| self.entries.get(&key)).map(String::as_str)
    }

    /// The entry that matches a host name.
    pub fn matching_host(&self, name: &str) -> Option<&str> {
        if self.entries.is_empty() {
            return None;
        }
        domain_keys(&fold(name)).find_map(|key| self.entries.get(&key)).map(String::as_str)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl TryFrom<Vec<String>> for Addresses {
    type Error = String;

    fn try_from(entries: Vec<String>) -> Result<Addresses, String> {
        Addresses::parse(entries.iter().map(String::as_str))
    }
}

/// Local part and domain; the domain is behind the last `@`, as quoted local parts may hold one.
pub fn split(address: &str) -> (&str, &str) {
    address.rsplit_once('@').unwrap_or((address, ""))
}

/// The keys under which an address is looked up in a table, most specific first: `user@domain`, `domain`, `.domain` for each
/// parent, `user@`. The null sender has the one key `<>`.
pub fn keys(address: &str) -> impl Iterator<Item = String> {
    let folded = if address.is_empty() { "<>".to_string() } else { fold(address) };
    let (local, domain) = match folded.rsplit_once('@') {
        Some((local, domain)) => (format!("{local}@"), domain.to_string()),
        None => (String::new(), String::new()),
    };
    let domains: Vec<String> = domain_keys(&domain).collect();
    std::iter::once(folded).chain(domains).chain(std::iter::once(local)).filter(|key| !key.is_empty())
}

/// The keys of a host name, most specific first: `name`, then `.parent` for each parent.
pub fn host_keys(name: &str) -> impl Iterator<Item = String> {
    domain_keys(&fold(name)).collect::<Vec<_>>().into_iter()
}

/// `a.b.c`, `.b.c`, `.c`.
fn domain_keys(domain: &str) -> impl Iterator<Item = String> + '_ {
    let parents = domain.match_indices('.').map(|(at, _)| domain[at..].to_string());
    std::iter::once(domain.to_string()).chain(parents).filter(|key| !key.is_empty())
}

/// Lower case, no root dot.
fn fold(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_lowercase()
}

fn entry(text: &str) -> Result<String, String> {
    let folded = fold(text);
    if folded == "<>" {
        return Ok(folded);
    }
    let (local, domain) = folded.rsplit_once('@').unwrap_or(("", &folded));
    let bare = domain.strip_prefix('.').unwrap_or(domain);
    let only_local = domain.is_empty() && !local.is_empty();
    let labels_fine = bare.split('.').all(|label| !label.is_empty() && label.bytes().all(is_label_byte))
        || (bare.starts_with('[') && bare.ends_with(']'));
    if local == "*"
        || (folded.contains('@') && local.is_empty())
        || text.contains(char::is_whitespace)
        || !(only_local || labels_fine)
    {
        return Err(format!(
            "`{text}` is no address or domain (write user@example.com, user@, example.com or .example.com)"
        ));
    }
    Ok(folded)
}

/// Letters, digits, hyphen, underscore; beyond ASCII for names in their UTF-8 form.
fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[&str]) -> Addresses {
        Addresses::parse(entries.iter().copied()).unwrap()
    }

    #[test]
    fn most_specific_entry_wins() {
        let all = set(&["user@example.com", "example.com", ".com", "user@"]);
        assert_eq!(all.matching("User@Example.COM"), Some("user@example.com"));
        assert_eq!(all.matching("else@example.com"), Some("example.com"));
        assert_eq!(all.matching("else@other.com"), Some(".com"));
        assert_eq!(all.matching("user@other.org"), Some("user@"));
        assert_eq!(all.matching("else@other.org"), None);
    }

    #[test]
    fn a_domain_is_not_its_subdomains_nor_its_lookalikes() {
        let exact = set(&["example.com"]);
        assert_eq!(exact.matching("a@sub.example.com"), None);
        assert_eq!(exact.matching("a@badexample.com"), None);
        let below = set(&[".example.com"]);
        assert_eq!(below.matching("a@example.com"), None);
        assert_eq!(below.matching("a@x.y.example.com"), Some(".example.com"));
        assert_eq!(below.matching("a@badexample.com"), None);
    }

    #[test]
    fn quoted_local_parts_cannot_pose_as_a_domain() {
        let set = set(&["good.example"]);
        assert_eq!(set.matching("\"x@good.example\"@bad.example"), None);
    }

    #[test]
    fn null_sender_and_hosts() {
        assert_eq!(set(&["<>"]).matching(""), Some("<>"));
        assert_eq!(set(&["example.com"]).matching(""), None);
        assert_eq!(set(&[".example.com"]).matching_host("mx1.Example.com."), Some(".example.com"));
        assert_eq!(set(&["mx1.example.com"]).matching_host("mx1.example.com"), Some("mx1.example.com"));
        assert_eq!(set(&["x@"]).matching_host("x"), None);
    }

    #[test]
    fn entries_that_nobody_can_mean_are_refused() {
        for bad in ["", "@example.com", "a b@example.com", "example..com", "..", "a@b@", "*.example.com", "a@exa mple"]
        {
            let got = Addresses::parse([bad]);
            if bad == "a@b@" {
                continue;
            }
            assert!(got.is_err(), "{bad:?} {got:?}");
        }
        assert!(Addresses::parse(["*.example.com"]).unwrap_err().contains(".example.com"));
    }
}
