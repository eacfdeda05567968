//! What a client says, put into names and filters as a value and never as syntax.

/// Puts an identity into a template: `%s` is all of it, `%u` what stands before the last `@`, `%d` what stands behind it, `%%` a percent sign.
pub(crate) fn fill(template: &[u8], identity: &str, escape: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let (user, domain) = identity.rsplit_once('@').unwrap_or((identity, ""));
    let mut out = Vec::with_capacity(template.len() + identity.len());
    let mut bytes = template.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(b's') => out.extend(escape(identity)),
            Some(b'u') => out.extend(escape(user)),
            Some(b'd') => out.extend(escape(domain)),
            Some(b'%') => out.push(b'%'),
            Some(other) => out.extend([b'%', *other]),
            None => out.push(b'%'),
        }
    }
    out
}

/// An entry's name with an identity in it.
pub(crate) fn fill_name(template: &str, identity: &str) -> String {
    let name = fill(template.as_bytes(), identity, |text| escape_name(text).into_bytes());
    String::from_utf8(name).expect("text put into text is text")
}

/// A value inside an entry's name (RFC 4514 §2.4): everything that might be syntax as hex.
fn escape_name(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if plain(c) {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|byte| out.push_str(&format!("\\{byte:02x}")));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_go_into_names_as_values() {
        assert_eq!(fill_name("uid=%u,dc=%d", "alice@own.test"), "uid=alice,dc=own.test");
        assert_eq!(fill_name("uid=%u,dc=x", "a,cn=admin+b"), "uid=a\\2ccn\\3dadmin\\2bb,dc=x");
        assert_eq!(fill_name("uid=%s%%", "ü x"), "uid=ü\\20x%");
    }
}
