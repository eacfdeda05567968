//! The `Authentication-Results` field (RFC 8601): writing ours, and recognising those that others wrote in our name.
//!
//! Forged ones must be removed before anybody reads the message (RFC 8601 §5). The name in front is compared as a lenient reader would
//! read it: in any case, behind comments and folds, quoted or not, with or without a trailing dot (CVE-2019-20790 is what happens to those who look
//! for the one spelling that they write themselves).

use waypost_types::{Domain, Finding};

/// The field, folded, with its final CRLF.
pub fn results_field(authserv_id: &str, findings: &[Finding]) -> String {
    let mut field = String::with_capacity(64 + findings.len() * 80);
    field.push_str("Authentication-Results: ");
    field.push_str(authserv_id);
    if findings.is_empty() {
        field.push_str("; none");
    }
    for finding in findings {
        field.push_str(";\r\n\t");
        write_finding(&mut field, finding);
    }
    field.push_str("\r\n");
    field
}

fn write_finding(out: &mut String, finding: &Finding) {
    out.push_str(finding.method);
    out.push('=');
    out.push_str(finding.result);
    if let Some(detail) = &finding.detail {
        out.push_str(" (");
        out.extend(detail.chars().take(200).map(in_comment));
        out.push(')');
    }
    if let Some(value) = &finding.domain {
        write_property(out, finding.property, value);
    }
    if let Some(selector) = &finding.selector {
        write_property(out, "header.s", selector);
    }
}

fn write_property(out: &mut String, name: &str, value: &str) {
    // A line of its own when the value is long: lines should stay under 78 characters (RFC 5322 §2.1.1).
    out.push_str(if value.len() > 40 { "\r\n\t " } else { " " });
    out.push_str(name);
    out.push('=');
    if is_plain(value) {
        out.push_str(value);
        return;
    }
    out.push('"');
    for c in value.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

/// `value` of RFC 2045 or `[local] "@" domain`: what needs no quotes.
fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| !c.is_control() && !c.is_whitespace() && !"()<>,;:\\\"/[]?=".contains(c))
}

fn in_comment(c: char) -> char {
    match c {
        '(' | ')' | '\\' => '\'',
        c if c.is_control() => ' ',
        c => c,
    }
}

/// Whether the value of an `Authentication-Results` field speaks in the name of `authserv_id`. One whose author cannot be read counts as
/// ours: nobody can say what a reader would make of it.
pub fn is_results_of(value: &[u8], authserv_id: &str) -> bool {
    let rest = skip_cfws(value);
    let Some(name) = leading_name(rest) else { return true };
    let name = name.trim_end_matches('.');
    let ours = authserv_id.trim_end_matches('.');
    if name.eq_ignore_ascii_case(ours) {
        return true;
    }
    // Names beyond ASCII are compared in their A-label form.
    !name.is_ascii() && Domain::parse(name).ok().is_some_and(|name| name.as_str().eq_ignore_ascii_case(ours))
}

/// The token or quoted string at the front; `None` if there is neither.
fn leading_name(rest: &[u8]) -> Option<String> {
    if rest.first() == Some(&b'"') {
        return quoted(&rest[1..]);
    }
    let end = rest.iter().position(|b| b.is_ascii_whitespace() || b";(/=\"".contains(b)).unwrap_or(rest.len());
    let name = std::str::from_utf8(&rest[..end]).ok()?;
    (!name.is_empty()).then(|| name.to_string())
}

fn quoted(rest: &[u8]) -> Option<String> {
    let mut name = Vec::new();
    let mut bytes = rest.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => return String::from_utf8(name).ok(),
            b'\\' => name.push(*bytes.next()?),
            b'\r' | b'\n' => {}
            byte => name.push(byte),
        }
    }
    None
}

/// Comments (nested), folds and blanks.
fn skip_cfws(value: &[u8]) -> &[u8] {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(&byte) = value.get(at) {
        match byte {
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b'\\' if depth > 0 => at += 1,
            byte if depth > 0 || byte.is_ascii_whitespace() => {}
            _ => break,
        }
        at += 1;
    }
    value.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(method: &'static str, result: &'static str, property: &'static str, domain: &str) -> Finding {
        Finding { method, result, domain: Some(domain.into()), property, selector: None, detail: None }
    }

    #[test]
    fn findings_are_written_as_rfc_8601_has_them() {
        let mut dkim = finding("dkim", "pass", "header.d", "example.com");
        dkim.selector = Some("s1".into());
        let mut dmarc = finding("dmarc", "fail", "header.from", "example.org");
        dmarc.detail = Some("p=reject (sic)".into());
        let findings = [finding("spf", "pass", "smtp.mailfrom", "a@example.com"), dkim, dmarc];
        assert_eq!(
            results_field("mx.example.net", &findings),
            "Authentication-Results: mx.example.net;\r\n\tspf=pass smtp.mailfrom=a@example.com;\r\n\
             \tdkim=pass header.d=example.com header.s=s1;\r\n\tdmarc=fail (p=reject 'sic') header.from=example.org\r\n"
        );
        assert_eq!(results_field("mx.example.net", &[]), "Authentication-Results: mx.example.net; none\r\n");
    }

    #[test]
    fn nothing_that_a_sender_wrote_can_add_a_clause_or_a_field() {
        let mut evil = finding("spf", "fail", "smtp.mailfrom", "x; dkim=pass\r\nX: y\"@evil");
        evil.detail = Some("a)\r\n; dkim=pass (".into());
        let field = results_field("mx", &[evil]);
        assert_eq!(
            field,
            "Authentication-Results: mx;\r\n\tspf=fail (a'  ; dkim=pass ') smtp.mailfrom=\"x; dkim=passX: y\\\"@evil\"\r\n"
        );
    }

    #[test]
    fn forged_results_are_known_in_every_spelling() {
        for value in [
            " mx.example.net; spf=pass",
            "\r\n\tMX.Example.NET 1; spf=pass",
            "mx.example.net",
            " (a (nested\\) one)) mx.example.net(x);",
            " \"mx.example.net\"; dkim=pass",
            " \"mx\\.example.net\"; dkim=pass",
            " mx.example.net.; spf=pass",
            "",
            " ; spf=pass",
            " \"unterminated",
        ] {
            assert!(is_results_of(value.as_bytes(), "mx.example.net"), "{value:?}");
        }
        for value in [" mx.example.net.evil; spf=pass", "other; x=(mx.example.net)", " xmx.example.net;"] {
            assert!(!is_results_of(value.as_bytes(), "mx.example.net"), "{value:?}");
        }
        assert!(is_results_of(" mx.bücher.example; spf=pass".as_bytes(), "mx.xn--bcher-kva.example"));
    }
}
