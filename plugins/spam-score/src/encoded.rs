//! Undoing encoded words (RFC 2047), so that rules see what readers see.

/// The text with its encoded words decoded; charsets other than UTF-8 are taken for Latin-1, which is enough to see capitals and
/// phrases.
pub fn decode(text: &str) -> String {
    if !text.contains("=?") {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("=?") {
        let (before, word) = rest.split_at(at);
        let Some((decoded, len)) = decode_word(word) else {
            out.push_str(&rest[..at + 2]);
            rest = &rest[at + 2..];
            continue;
        };
        // Blanks between two encoded words are not shown.
        if !before.trim().is_empty() || out.is_empty() {
            out.push_str(before);
        }
        out.push_str(&decoded);
        rest = &word[len..];
    }
    out.push_str(rest);
    out
}

/// One word at the front: what it says and how long it is.
fn decode_word(word: &str) -> Option<(String, usize)> {
    let mut parts = word[2..].splitn(3, '?');
    let (charset, encoding, tail) = (parts.next()?, parts.next()?, parts.next()?);
    let end = tail.find("?=")?;
    let octets = match encoding {
        "B" | "b" => base64(&tail[..end]),
        "Q" | "q" => quoted(&tail[..end]),
        _ => return None,
    };
    let len = 2 + charset.len() + 1 + encoding.len() + 1 + end + 2;
    let utf8 = charset.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("utf-8"));
    let text = if utf8 {
        String::from_utf8_lossy(&octets).into_owned()
    } else {
        octets.iter().map(|byte| char::from(*byte)).collect()
    };
    Some((text, len))
}

fn base64(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'_' => out.push(b' '),
            b'=' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                out.push(high.zip(low).map_or(b'?', |(high, low)| (high * 16 + low) as u8));
            }
            byte => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn words_are_decoded_and_joined() {
        assert_eq!(decode("plain"), "plain");
        assert_eq!(decode("=?utf-8?B?RlJFRSBNT05FWQ==?= now"), "FREE MONEY now");
        assert_eq!(decode("a =?ISO-8859-1?Q?caf=E9_x?="), "a café x");
        assert_eq!(decode("=?utf-8?q?a?= =?utf-8?q?b?="), "ab");
        assert_eq!(decode("=?broken =?utf-8?X?a?= ?="), "=?broken =?utf-8?X?a?= ?=");
        assert_eq!(decode("=?utf-8?q?=4?="), "?");
    }
}
