//! Reading mailboxes out of `From`, `To` and their siblings (RFC 5322 §3.4), as real mail writes them.

/// One mailbox: what is shown and what is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// The display name, quotes undone; encoded words (RFC 2047) are left as they are.
    pub name: String,
    /// The address; empty when there is none.
    pub address: String,
}

impl Mailbox {
    /// The address's domain in lower case; empty when there is none.
    pub fn domain(&self) -> String {
        crate::addresses::split(&self.address).1.trim_end_matches('.').to_ascii_lowercase()
    }
}

/// Mailboxes that are read of one field; a field with more says nothing new.
const MAILBOXES_MAX: usize = 1000;

/// The mailboxes of an unfolded field. Groups are opened; what cannot be read is left out.
///
/// ```
/// let from = waypost_sdk::mailbox::parse(r#""Boss <boss@bank.example>" (really) <thief@example.com>, b@example.org"#);
/// assert_eq!(from[0].address, "thief@example.com");
/// assert_eq!(from[0].name, "Boss <boss@bank.example>");
/// assert_eq!(from[1].domain(), "example.org");
/// ```
pub fn parse(field: &str) -> Vec<Mailbox> {
    let mut out = Vec::new();
    let mut one = Reading::default();
    let mut rest = field.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => one.quoted(&mut rest),
            '(' => skip_comment(&mut rest),
            '<' if one.address.is_none() => one.address = Some(angle(&mut rest)),
            ',' | ';' => one.finish(&mut out),
            // The name of a group ends here; in an address without angle brackets a colon cannot stand.
            ':' if one.address.is_none() && !one.text.contains('@') => one = Reading::default(),
            c => one.text.push(c),
        }
        if out.len() == MAILBOXES_MAX {
            return out;
        }
    }
    one.finish(&mut out);
    out
}

#[derive(Default)]
struct Reading {
    text: String,
    has_quoted: bool,
    address: Option<String>,
}

impl Reading {
    /// A quoted string: part of the name, or the local part of a bare address.
    fn quoted(&mut self, rest: &mut std::str::Chars<'_>) {
        self.has_quoted = true;
        let from = self.text.len();
        while let Some(c) = rest.next() {
            match c {
                '\\' => self.text.extend(rest.next()),
                '"' => break,
                c => self.text.push(c),
            }
        }
        // `"a b"@example.com`: here the quotes belong to the address.
        if rest.as_str().starts_with('@') {
            self.text.insert(from, '"');
            self.text.push('"');
            self.has_quoted = false;
        }
    }

    fn finish(&mut self, out: &mut Vec<Mailbox>) {
        let Reading { text, has_quoted, address } = std::mem::take(self);
        let text = text.trim().to_string();
        match address {
            Some(address) => out.push(Mailbox { name: text, address }),
            None if text.contains('@') && !has_quoted => {
                // Blanks around the dots and the `@` are allowed, and mean nothing outside quotes.
                let address = if text.contains('"') { text } else { text.replace([' ', '\t'], "") };
                out.push(Mailbox { name: String::new(), address });
            }
            None if text.is_empty() => {}
            None => out.push(Mailbox { name: text, address: String::new() }),
        }
    }
}

/// To the closing bracket; a source route is dropped.
fn angle(rest: &mut std::str::Chars<'_>) -> String {
    let mut address = String::new();
    let mut quoted = false;
    while let Some(c) = rest.next() {
        match c {
            '>' if !quoted => break,
            '"' => quoted = !quoted,
            '\\' if quoted => {
                address.push(c);
                address.extend(rest.next());
                continue;
            }
            _ => {}
        }
        address.push(c);
    }
    let address = address.trim();
    let route_end = if address.starts_with('@') { address.find(':').map_or(0, |at| at + 1) } else { 0 };
    address[route_end..].to_string()
}

fn skip_comment(rest: &mut std::str::Chars<'_>) {
    let mut depth = 1;
    while let Some(c) = rest.next() {
        match c {
            '\\' => drop(rest.next()),
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(field: &str) -> Vec<String> {
        parse(field).into_iter().map(|mailbox| mailbox.address).collect()
    }

    #[test]
    fn forms_that_mail_uses() {
        assert_eq!(addresses("a@example.com"), ["a@example.com"]);
        assert_eq!(addresses("A B <a@example.com>"), ["a@example.com"]);
        assert_eq!(addresses("a@example.com (A B, C)"), ["a@example.com"]);
        assert_eq!(addresses("Team: a@example.com, B <b@example.org>;"), ["a@example.com", "b@example.org"]);
        assert_eq!(addresses("undisclosed-recipients:;"), Vec::<String>::new());
        assert_eq!(addresses("<@relay.example:a@example.com>"), ["a@example.com"]);
        assert_eq!(
            addresses("\"a b\"@example.com, <\"c>d\"@example.org>"),
            ["\"a b\"@example.com", "\"c>d\"@example.org"]
        );
        assert_eq!(parse("no address at all"), [Mailbox { name: "no address at all".into(), address: String::new() }]);
        assert_eq!(parse(""), []);
    }

    #[test]
    fn a_display_name_cannot_pose_as_the_address() {
        let tricky = parse("\"ceo@bank.example\" <x@evil.example>");
        assert_eq!(tricky[0].address, "x@evil.example");
        assert_eq!(tricky[0].name, "ceo@bank.example");
        assert_eq!(parse("ceo@bank.example <x@evil.example>")[0].domain(), "evil.example");
        assert_eq!(addresses("(<a@bank.example>) x@evil.example"), ["x@evil.example"]);
    }

    #[test]
    fn broken_input_ends() {
        for text in ["\"", "(", "<", "\"\\", "a@b (((", "<\"", ",,,;;;:::", "<@a:b>"] {
            parse(text);
        }
        assert!(parse(&"a@b,".repeat(5000)).len() <= MAILBOXES_MAX);
    }
}
