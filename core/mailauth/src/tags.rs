//! Tag lists (RFC 6376 §3.2), as ARC and keys have them: read strictly. A name stands once; folds and blanks around names and values mean
//! nothing; a value may be empty.

/// The tags of a list, in order.
#[derive(Debug, Default)]
pub(crate) struct Tags<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Tags<'a> {
    /// Reads a list; `None` if it is none.
    pub(crate) fn parse(text: &'a str) -> Option<Tags<'a>> {
        let mut tags: Vec<(&str, &str)> = Vec::new();
        let mut specs = text.split(';').peekable();
        while let Some(spec) = specs.next() {
            let last = specs.peek().is_none();
            if last && blank(spec) && !tags.is_empty() {
                break;
            }
            let (name, value) = spec.split_once('=')?;
            let (name, value) = (trim(name), trim(value));
            let named = name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            let printable = value.bytes().all(|b| matches!(b, b'\t' | b'\r' | b'\n' | b' '..=b'~'));
            if !named || !printable || tags.iter().any(|(known, _)| *known == name) {
                return None;
            }
            tags.push((name, value));
        }
        Some(Tags(tags))
    }

    /// A tag's value.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// A value that must be there and not be empty.
    pub(crate) fn need(&self, name: &str) -> Option<&'a str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Base64 with blanks and folds in it.
    pub(crate) fn base64(&self, name: &str) -> Option<Vec<u8>> {
        use base64::Engine;
        let text: String = self.need(name)?.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        base64::engine::general_purpose::STANDARD.decode(text).ok()
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

fn blank(text: &str) -> bool {
    trim(text).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let tags = Tags::parse(" a = b c;\r\n\td=; e=Zm9v\r\n ; ").expect("a list");
        assert_eq!((tags.get("a"), tags.get("d"), tags.get("x")), (Some("b c"), Some(""), None));
        assert_eq!((tags.need("d"), tags.base64("e")), (None, Some(b"foo".to_vec())));
    }

    #[test]
    fn what_is_no_list_is_none() {
        for text in ["", ";", "a", "a=1;;b=2", "a=1; a=2", "1a=2", "a b=2", "=x", "a=\u{7}"] {
            assert!(Tags::parse(text).is_none(), "{text:?}");
        }
    }
}
