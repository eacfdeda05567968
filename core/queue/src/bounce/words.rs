//! Bounces in the forms from before RFC 3464, and those of programs that never heard of it: qmail, old Exim and sendmail, Exchange, and whoever writes
//! a sentence and an address.
//!
//! They all come from the null sender, from a daemon or with a telling subject, name an address at the front of a line and say behind or below it what was wrong; below a
//! line that says so follows what is returned.

use std::borrow::Cow;

use memchr::memmem;
use waypost_types::Enhanced;

use super::mime::{Part, contains};
use super::{About, Report, What, address, brief};

/// Lines that are looked at.
const LINES_MAX: usize = 300;
/// Lines of one diagnosis.
const DIAGNOSIS_LINES_MAX: usize = 8;

/// What the subjects of such mail have in them.
const SUBJECTS: &[&str] = &[
    "undeliver",
    "delivery status",
    "delivery failure",
    "delivery notification",
    "delivery report",
    "failure notice",
    "failed delivery",
    "delivery failed",
    "returned mail",
    "returned to sender",
    "return to sender",
    "mail delivery",
    "mail system error",
    "message delivery",
    "could not be delivered",
    "not delivered",
    "warning: could not send",
    "delayed",
    "non remis",
    "unzustellbar",
    "nicht zustellbar",
    "no entregado",
];
/// Who writes it.
const DAEMONS: &[&str] = &["mailer-daemon", "mail delivery", "postmaster", "mdaemon", "mailer_daemon", "mail system"];
/// Words of a report that the mail is only late.
const LATE: &[&str] = &[
    "delayed",
    "not yet been delivered",
    "will keep trying",
    "will be retried",
    "still being retried",
    "warning: could not send",
    "is not required",
    "need not resend",
    "do not need to resend",
];
/// What stands above the returned message.
const SEAMS: &[&str] = &[
    "below this line is a copy",
    "this is a copy of",
    "original message follows",
    "--- original message",
    "returned message",
    "unsent message below",
    "message header follows",
    "headers of the message",
    "----- message",
    "received: ",
    "return-path: ",
];

pub(super) fn is_subject(value: &[u8]) -> bool {
    SUBJECTS.iter().any(|part| contains(value, part.as_bytes()))
}

pub(super) fn is_daemon(value: &[u8]) -> bool {
    DAEMONS.iter().any(|part| contains(value, part.as_bytes()))
}

/// Reads the words of a report.
pub(super) fn read(top: &Part<'_>, parts: &[Part<'_>]) -> Option<Report> {
    let named: Vec<Box<str>> =
        top.field("X-Failed-Recipients").iter().flat_map(|list| list.split(',')).filter_map(address).collect();
    let text = text(top, parts);
    let front = &text[..seam(&text)];
    let subject = top.field("Subject").unwrap_or_default().to_lowercase();
    let lower = front.to_lowercase();
    let late = named.is_empty() && LATE.iter().any(|word| subject.contains(word) || lower.contains(word));
    let what = if late { What::Delayed } else { What::Failed };
    let mut report = Report::of("words");
    report.about = diagnoses(front, what);
    if !named.is_empty() {
        let common = report.about.first().cloned();
        report
            .about
            .retain(|about| about.recipient.as_ref().is_some_and(|one| named.iter().any(|name| same(name, one))));
        for name in named {
            if !report.about.iter().any(|about| about.recipient.as_ref().is_some_and(|one| same(one, &name))) {
                let (status, diagnosis) =
                    common.as_ref().map_or((None, brief(front)), |it| (it.status, it.diagnosis.clone()));
                report.about.push(About { recipient: Some(name), what, status, diagnosis });
            }
        }
    }
    (!report.about.is_empty()).then_some(report)
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// What was returned, as far as it stands in the text itself.
pub(super) fn returned(top: &Part<'_>, parts: &[Part<'_>]) -> Vec<u8> {
    let text = text(top, parts);
    let mut rest = &text[seam(&text)..];
    // The header begins at the first line that is a field.
    while let Some((line, more)) = rest.split_once('\n') {
        let name = line.split(':').next().unwrap_or_default();
        if line.contains(':')
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !name.starts_with('-')
        {
            break;
        }
        rest = more;
    }
    rest.as_bytes().to_vec()
}

/// The first part for people; an HTML one as it is, if there is no other.
fn text<'a>(top: &Part<'a>, parts: &[Part<'a>]) -> String {
    let part = parts.iter().find(|part| part.is("text/plain")).or(parts.first()).unwrap_or(top);
    let text: Cow<'_, [u8]> = part.text();
    String::from_utf8_lossy(&text).into_owned()
}

/// Where the report ends and what it returns begins.
fn seam(text: &str) -> usize {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let lower = line.trim_start().to_ascii_lowercase();
        if SEAMS.iter().any(|seam| lower.contains(seam))
            && (lower.starts_with('-')
                || lower.starts_with("rec")
                || lower.starts_with("ret")
                || lower.ends_with(":\r\n"))
        {
            return at;
        }
        at += line.len();
    }
    text.len()
}

/// Addresses at the front of lines, each with what is said on that line and below it.
fn diagnoses(front: &str, what: What) -> Vec<About> {
    let mut found: Vec<About> = Vec::new();
    let mut said = String::new();
    let mut open = 0;
    for line in front.lines().take(LINES_MAX) {
        let line = line.trim_end();
        if let Some((who, rest)) = leading_address(line) {
            finish(&mut found, &mut said);
            if found.len() >= super::RECIPIENTS_MAX {
                return found;
            }
            said.push_str(rest);
            open = DIAGNOSIS_LINES_MAX;
            found.push(About { recipient: Some(who), what, status: None, diagnosis: "".into() });
        } else if line.is_empty() {
            // An empty line ends a diagnosis that has words.
            open = if said.trim().is_empty() { open } else { 0 };
        } else if open > 0 {
            said.push(' ');
            said.push_str(line);
            open -= 1;
        }
    }
    finish(&mut found, &mut said);
    found
}

fn finish(found: &mut [About], said: &mut String) {
    if let Some(about) = found.last_mut()
        && about.diagnosis.is_empty()
    {
        about.status = status(said);
        about.diagnosis = brief(said);
    }
    said.clear();
}

/// `<user@example.org>: words`, `user@example.org words`, `'user@example.org' on …`; blanks in front do not matter.
fn leading_address(line: &str) -> Option<(Box<str>, &str)> {
    let line = line.trim_start();
    let end = line.find([' ', '\t', ',', ';', '(']).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let word = word.trim_end_matches([':', '.']);
    let inside = word.trim_matches(['<', '>', '"', '\'']);
    let (local, host) = inside.rsplit_once('@')?;
    let plain = !local.is_empty()
        && host.contains('.')
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        && !local.contains([':', '<', '>', '@', '/']);
    plain.then(|| (inside.into(), rest.trim_start_matches([':', ' '])))
}

/// The first enhanced status in a text: `5.1.1` alone, never a part of an address or a version.
pub(super) fn status(text: &str) -> Option<Enhanced> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(dot) = memmem::find(&bytes[from..], b".") {
        let dot = from + dot;
        from = dot + 1;
        let Some(start) = dot.checked_sub(1).filter(|at| matches!(bytes[*at], b'2' | b'4' | b'5')) else { continue };
        let free = start == 0 || !(bytes[start - 1].is_ascii_alphanumeric() || matches!(bytes[start - 1], b'.' | b'-'));
        let end = bytes[start..]
            .iter()
            .position(|byte| !(byte.is_ascii_digit() || *byte == b'.'))
            .map_or(bytes.len(), |len| start + len);
        let code = text[start..end].trim_end_matches('.');
        if free && let Some((status, "")) = Enhanced::parse_prefix(code) {
            return Some(status);
        }
    }
    None
}
