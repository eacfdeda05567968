//! Search filters (RFC 4515), read once; what a client says is put in afterwards, as a value and never as syntax.

use crate::ber::Writer;
use crate::template::fill;

/// A filter with `%s`, `%u` and `%d` in its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Node);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    /// Tag (equal, at least, at most, approximately), attribute, value.
    Compare(u8, String, Value),
    Present(String),
    /// Attribute, and the pieces between the stars: the first and the last may be empty.
    Pieces(String, Vec<Value>),
}

/// A value: octets, and the places where identities go in are still `%u` and the like.
type Value = Vec<u8>;

impl Filter {
    /// Reads `(&(objectClass=person)(uid=%u))`.
    pub fn parse(text: &str) -> Option<Filter> {
        let (node, rest) = node(text.trim(), 0)?;
        rest.is_empty().then_some(Filter(node))
    }

    /// Writes it, with this identity in its places.
    pub fn write(&self, out: &mut Writer, identity: &str) {
        write(&self.0, out, identity);
    }
}

fn node(text: &str, depth: usize) -> Option<(Node, &str)> {
    let inner = text.strip_prefix('(').filter(|_| depth < 16)?;
    let several = |inner: &str| -> Option<(Vec<Node>, usize)> {
        let mut rest = inner;
        let mut nodes = Vec::new();
        while rest.starts_with('(') {
            let (one, after) = node(rest, depth + 1)?;
            nodes.push(one);
            rest = after;
        }
        Some((nodes, inner.len() - rest.len()))
    };
    let (found, used) = match inner.chars().next()? {
        '&' => several(&inner[1..]).map(|(nodes, used)| (Node::And(nodes), used + 1))?,
        '|' => several(&inner[1..]).map(|(nodes, used)| (Node::Or(nodes), used + 1))?,
        '!' => {
            let (one, rest) = node(&inner[1..], depth + 1)?;
            (Node::Not(Box::new(one)), inner.len() - rest.len())
        }
        _ => {
            let end = inner.find(')')?;
            (item(&inner[..end])?, end)
        }
    };
    Some((found, inner[used..].strip_prefix(')')?))
}

fn item(text: &str) -> Option<Node> {
    let (left, value) = text.split_once('=')?;
    let (attribute, tag) = match left.as_bytes().last()? {
        b'>' => (&left[..left.len() - 1], 0xa5),
        b'<' => (&left[..left.len() - 1], 0xa6),
        b'~' => (&left[..left.len() - 1], 0xa8),
        _ => (left, 0xa3),
    };
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b';');
    if attribute.is_empty() || !attribute.bytes().all(fine) || value.contains('(') {
        return None;
    }
    let attribute = attribute.to_string();
    match (tag, value) {
        (0xa3, "*") => Some(Node::Present(attribute)),
        (0xa3, value) if value.contains('*') => {
            let pieces = value.split('*').map(unescape).collect::<Option<Vec<_>>>()?;
            Some(Node::Pieces(attribute, pieces))
        }
        (tag, value) => Some(Node::Compare(tag, attribute, unescape(value)?)),
    }
}

/// `\2a` is a star.
fn unescape(text: &str) -> Option<Value> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let hex = [bytes.next()?, bytes.next()?];
        out.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
    }
    Some(out)
}

fn write(node: &Node, out: &mut Writer, identity: &str) {
    let value = |value: &Value| fill(value, identity, |text| text.as_bytes().to_vec());
    match node {
        Node::And(nodes) => out.nest(0xa0, |out| nodes.iter().for_each(|node| write(node, out, identity))),
        Node::Or(nodes) => out.nest(0xa1, |out| nodes.iter().for_each(|node| write(node, out, identity))),
        Node::Not(node) => out.nest(0xa2, |out| write(node, out, identity)),
        Node::Compare(tag, attribute, text) => out.nest(*tag, |out| {
            out.text(attribute);
            out.octets(0x04, &value(text));
        }),
        Node::Present(attribute) => out.octets(0x87, attribute.as_bytes()),
        Node::Pieces(attribute, pieces) => out.nest(0xa4, |out| {
            out.text(attribute);
            out.nest(0x30, |out| {
                let last = pieces.len() - 1;
                for (at, piece) in pieces.iter().enumerate().filter(|(_, piece)| !piece.is_empty()) {
                    let tag = if at == 0 {
                        0x80
                    } else if at == last {
                        0x82
                    } else {
                        0x81
                    };
                    out.octets(tag, &value(piece));
                }
            });
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(filter: &str, identity: &str) -> Vec<u8> {
        let mut out = Writer::default();
        Filter::parse(filter).expect("a filter").write(&mut out, identity);
        out.finish()
    }

    #[test]
    fn filters_are_read_and_written() {
        assert_eq!(bytes("(uid=%u)", "al@b"), b"\xa3\x09\x04\x03uid\x04\x02al");
        assert_eq!(
            bytes("(&(a=*)(!(b=x*y*z)))", ""),
            b"\xa0\x15\x87\x01a\xa2\x10\xa4\x0e\x04\x01b\x30\x09\x80\x01x\x81\x01y\x82\x01z"
        );
        assert_eq!(bytes("(n>=5)", ""), b"\xa5\x06\x04\x01n\x04\x015");
        assert_eq!(bytes("(a=\\2a)", ""), b"\xa3\x06\x04\x01a\x04\x01*");
    }

    #[test]
    fn what_a_client_says_is_never_syntax() {
        let evil = "*)(uid=*";
        let written = bytes("(uid=%s)", evil);
        assert_eq!(written, [&b"\xa3\x0f\x04\x03uid\x04\x08"[..], evil.as_bytes()].concat());
    }

    #[test]
    fn broken_filters_are_none() {
        for text in ["", "uid=a", "(uid=a", "(uid)", "(=a)", "(uid=a))", "(a=\\2)", "(&(a=b)", "(u id=a)"] {
            assert_eq!(Filter::parse(text), None, "{text}");
        }
    }
}
