//! The parameters of MAIL and RCPT: SIZE, BODY, SMTPUTF8, REQUIRETLS, RET, ENVID, AUTH, MT-PRIORITY, BY, HOLDFOR, HOLDUNTIL; NOTIFY,
//! ORCPT (the RFCs stand in [`crate::extension`]).
//!
//! A parameter whose extension was not offered is as unknown as one that does not exist: 555 5.5.4, never ignored. What xtext
//! hides is checked once decoded, because it is printed into delivery reports later: no control character gets through.

use std::time::Duration;

use waypost_types::envelope::DeliverBy;
use waypost_types::{Body, MailParameters, Notify, Return, Timestamp};

use crate::extension::{Extension, ExtensionSet};

/// RFC 3461 §4.4: octets of ENVID.
const ENVELOPE_ID_BYTES_MAX: usize = 100;
/// RFC 3461 §4.2: octets of ORCPT.
const ORIGINAL_BYTES_MAX: usize = 500;

/// Why parameters are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidParameter<'a> {
    /// Unknown or not offered: 555.
    Unknown(&'a str),
    /// The value is missing, superfluous, or wrong: 501.
    Value(&'a str),
    /// Given twice: 501.
    Repeated(&'a str),
}

/// Those of RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters {
    /// NOTIFY=.
    pub notify: Notify,
    /// ORCPT=, decoded.
    pub original: Option<Box<str>>,
}

/// Reads the parameters of MAIL. `offered` are the extensions that EHLO showed; `clock` is needed for HOLDUNTIL.
pub fn mail(
    text: &str,
    offered: ExtensionSet,
    clock: Option<Timestamp>,
) -> Result<MailParameters, InvalidParameter<'_>> {
    let mut parameters = MailParameters::default();
    let mut seen = Seen::default();
    for word in text.split_ascii_whitespace() {
        let (keyword, value) = split(word);
        let row = MAIL.iter().find(|row| row.0.eq_ignore_ascii_case(keyword));
        let &(name, extension, read) = row.ok_or(InvalidParameter::Unknown(keyword))?;
        if !offered.contains(extension) {
            return Err(InvalidParameter::Unknown(keyword));
        }
        // HOLDFOR and HOLDUNTIL exclude each other.
        seen.once(if name == "HOLDUNTIL" { "HOLDFOR" } else { name }).ok_or(InvalidParameter::Repeated(keyword))?;
        match read(&mut parameters, value, clock) {
            Some(()) => {}
            None => return Err(InvalidParameter::Value(keyword)),
        }
        if parameters.body == Body::BinaryMime && !offered.contains(Extension::BinaryMime) {
            return Err(InvalidParameter::Unknown(word));
        }
    }
    Ok(parameters)
}

/// Reads the parameters of RCPT.
pub fn rcpt(text: &str, offered: ExtensionSet) -> Result<RcptParameters, InvalidParameter<'_>> {
    let mut parameters = RcptParameters::default();
    let mut seen = Seen::default();
    for word in text.split_ascii_whitespace() {
        let (keyword, value) = split(word);
        let name = ["NOTIFY", "ORCPT"].into_iter().find(|name| name.eq_ignore_ascii_case(keyword));
        let name = name.filter(|_| offered.contains(Extension::Dsn)).ok_or(InvalidParameter::Unknown(keyword))?;
        seen.once(name).ok_or(InvalidParameter::Repeated(keyword))?;
        let bad = InvalidParameter::Value(keyword);
        if name == "NOTIFY" {
            parameters.notify = notify(value.ok_or(bad)?).ok_or(bad)?;
        } else {
            parameters.original = Some(original(value.ok_or(bad)?).ok_or(bad)?);
        }
    }
    Ok(parameters)
}

type Read = fn(&mut MailParameters, Option<&str>, Option<Timestamp>) -> Option<()>;

/// Keyword, the extension that must have been offered, and how the value is read.
static MAIL: [(&str, Extension, Read); 11] = [
    ("SIZE", Extension::Size, |p, v, _| set(&mut p.size, size(v?))),
    ("BODY", Extension::EightBitMime, |p, v, _| body(v?).map(|body| p.body = body)),
    ("SMTPUTF8", Extension::SmtpUtf8, |p, v, _| flag(&mut p.smtputf8, v)),
    ("REQUIRETLS", Extension::RequireTls, |p, v, _| flag(&mut p.require_tls, v)),
    ("RET", Extension::Dsn, |p, v, _| set(&mut p.ret, ret(v?))),
    ("ENVID", Extension::Dsn, |p, v, _| set(&mut p.envelope_id, envelope_id(v?))),
    ("AUTH", Extension::Auth, |p, v, _| set(&mut p.auth, auth(v?))),
    ("MT-PRIORITY", Extension::MtPriority, |p, v, _| priority(v?).map(|priority| p.priority = priority)),
    ("BY", Extension::DeliverBy, |p, v, _| set(&mut p.deliver_by, deliver_by(v?))),
    ("HOLDFOR", Extension::FutureRelease, |p, v, _| set(&mut p.hold_for, number(v?, 9).map(Duration::from_secs))),
    ("HOLDUNTIL", Extension::FutureRelease, |p, v, clock| set(&mut p.hold_for, Some(date(v?)?.since(clock?)))),
];

/// Which keywords have come. At most eleven names exist, so this is bounded.
#[derive(Default)]
struct Seen(Vec<&'static str>);

impl Seen {
    fn once(&mut self, name: &'static str) -> Option<()> {
        (!self.0.contains(&name)).then(|| self.0.push(name))
    }
}

fn split(word: &str) -> (&str, Option<&str>) {
    word.split_once('=').map_or((word, None), |(keyword, value)| (keyword, Some(value)))
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) -> Option<()> {
    *slot = Some(value?);
    Some(())
}

fn flag(slot: &mut bool, value: Option<&str>) -> Option<()> {
    *slot = true;
    value.is_none().then_some(())
}

fn number(text: &str, digits_max: usize) -> Option<u64> {
    let ok = (1..=digits_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| text.parse().ok()).flatten()
}

/// RFC 1870 §4 allows twenty digits: more than we can count is more than we can take, not a mistake.
fn size(text: &str) -> Option<u64> {
    let ok = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| text.parse().unwrap_or(u64::MAX))
}

fn body(text: &str) -> Option<Body> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    match () {
        () if is("7BIT") => Some(Body::SevenBit),
        () if is("8BITMIME") => Some(Body::EightBitMime),
        () if is("BINARYMIME") => Some(Body::BinaryMime),
        () => None,
    }
}

fn ret(text: &str) -> Option<Return> {
    if text.eq_ignore_ascii_case("FULL") {
        return Some(Return::Full);
    }
    text.eq_ignore_ascii_case("HDRS").then_some(Return::Headers)
}

fn envelope_id(text: &str) -> Option<Box<str>> {
    (!text.is_empty() && text.len() <= ENVELOPE_ID_BYTES_MAX).then(|| xtext(text)).flatten()
}

/// RFC 4954 §5: xtext of a mailbox, or `<>`.
fn auth(text: &str) -> Option<Box<str>> {
    if text == "<>" { Some(text.into()) } else { xtext(text).filter(|text| !text.is_empty()) }
}

/// RFC 6710 §3: −9 to 9.
fn priority(text: &str) -> Option<i8> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let ok = digits.len() == 1 && digits.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| text.parse().ok()).flatten()
}

/// RFC 2852 §4: `seconds;mode[T]`. With mode R the time must lie ahead.
fn deliver_by(text: &str) -> Option<DeliverBy> {
    let (seconds, mode) = text.split_once(';')?;
    let magnitude = number(seconds.strip_prefix(['-', '+']).unwrap_or(seconds), 9)? as i64;
    let seconds = if seconds.starts_with('-') { -magnitude } else { magnitude };
    let mode = mode.to_ascii_uppercase();
    let (return_when_late, trace) = match mode.as_str() {
        "R" => (true, false),
        "RT" => (true, true),
        "N" => (false, false),
        "NT" => (false, true),
        _ => return None,
    };
    (seconds > 0 || !return_when_late).then_some(DeliverBy { seconds, return_when_late, trace })
}

/// RFC 3461 §4.1.
fn notify(text: &str) -> Option<Notify> {
    if text.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::NEVER);
    }
    let mut notify = Notify::NEVER;
    for word in text.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => notify.success = true,
            "FAILURE" => notify.failure = true,
            "DELAY" => notify.delay = true,
            _ => return None,
        }
    }
    Some(notify)
}

/// RFC 3461 §4.2: `type;xtext`. The `utf-8` type of RFC 6533 §3 has an encoding of its own, which is kept as it is: it is the form
/// that a delivery report in ASCII needs.
fn original(text: &str) -> Option<Box<str>> {
    let (kind, address) = text.split_once(';').filter(|_| text.len() <= ORIGINAL_BYTES_MAX)?;
    let atom = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    if kind.is_empty() || address.is_empty() || !kind.bytes().all(atom) {
        return None;
    }
    if kind.eq_ignore_ascii_case("utf-8") {
        return is_utf8_xtext(address).then(|| text.into());
    }
    Some(format!("{kind};{}", xtext(address)?).into())
}

/// Decodes xtext (RFC 3461 §4). What comes out is printable.
pub fn xtext(text: &str) -> Option<Box<str>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'!'..=b'~' if byte != b'=' => byte,
            _ => return None,
        });
    }
    let text = String::from_utf8(out).ok()?;
    (!text.chars().any(char::is_control)).then(|| text.into())
}

/// RFC 3461 §4: upper case only. Lower case is borne.
fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|digit| digit as u8)
}

/// RFC 6533 §3: printable ASCII but `+`, `=` and `\`; anything else as `\x{HEX}`; or, with SMTPUTF8, as it is.
fn is_utf8_xtext(text: &str) -> bool {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = match c {
            '\\' => match embedded(rest) {
                Some((c, rest)) if !c.is_control() => rest,
                _ => return false,
            },
            '+' | '=' => return false,
            '!'..='~' => &rest[1..],
            c if c.is_ascii() || c.is_control() => return false,
            c => &rest[c.len_utf8()..],
        };
    }
    !text.is_empty()
}

/// `\x{HEX}` at the front, and what follows it.
fn embedded(text: &str) -> Option<(char, &str)> {
    let (hex, rest) = text.strip_prefix("\\x{")?.split_once('}')?;
    let ok = (2..=6).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let c = char::from_u32(u32::from_str_radix(hex, 16).ok().filter(|_| ok)?)?;
    Some((c, rest))
}

/// Writes an address in the form of RFC 6533 §3 that is ASCII: the value of `ORCPT=utf-8;`.
pub fn to_utf8_xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '!'..='~' if !matches!(c, '+' | '=' | '\\') => out.push(c),
            c => out.push_str(&format!("\\x{{{:02X}}}", u32::from(c))),
        }
    }
    out
}

/// Encodes as xtext, for passing parameters on.
pub fn to_xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'+' && byte != b'=' => out.push(byte as char),
            _ => out.push_str(&format!("+{byte:02X}")),
        }
    }
    out
}

/// An RFC 3339 date and time, `2026-11-24T06:11:10Z` or with an offset.
fn date(text: &str) -> Option<Timestamp> {
    let field = |from: usize, len: usize| number(text.get(from..from + len)?, len);
    let (year, month, day) = (field(0, 4)?, field(5, 2)?, field(8, 2)?);
    let (hour, minute, second) = (field(11, 2)?, field(14, 2)?, field(17, 2)?);
    let bytes = text.as_bytes();
    let marks = bytes[4] == b'-'
        && bytes[7] == b'-'
        && matches!(bytes[10], b'T' | b't')
        && bytes[13] == b':'
        && bytes[16] == b':';
    let ranges = year >= 1970
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !marks || !ranges {
        return None;
    }
    let zone = text.get(19..)?;
    let zone = zone.strip_prefix('.').map_or(zone, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    seconds.checked_add_signed(-offset(zone)?).map(|seconds| Timestamp(seconds * 1000))
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("Z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let ok = hours.len() == 2 && minutes.len() == 2;
    ok.then(|| Some(sign * (number(hours, 2)? as i64 * 3600 + number(minutes, 2)? as i64 * 60))).flatten()
}

/// Days since 1970 of a Gregorian date (Howard Hinnant's `days_from_civil`).
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> ExtensionSet {
        Extension::ALL.into_iter().fold(ExtensionSet::EMPTY, ExtensionSet::with)
    }

    fn read(text: &str) -> Result<MailParameters, InvalidParameter<'_>> {
        mail(text, all(), Some(Timestamp(1_795_500_670_000)))
    }

    #[test]
    fn mail_parameters_are_read_in_any_case() {
        let p = read("size=1000 BODY=8bitmime SMTPUTF8 REQUIRETLS RET=HDRS ENVID=a+2Bb AUTH=<> MT-PRIORITY=-3 BY=120;RT HOLDFOR=60")
            .unwrap();
        assert_eq!((p.size, p.body, p.smtputf8, p.require_tls), (Some(1000), Body::EightBitMime, true, true));
        assert_eq!(
            (p.ret, p.envelope_id.as_deref(), p.auth.as_deref()),
            (Some(Return::Headers), Some("a+b"), Some("<>"))
        );
        assert_eq!((p.priority, p.hold_for), (-3, Some(Duration::from_secs(60))));
        assert_eq!(p.deliver_by, Some(DeliverBy { seconds: 120, return_when_late: true, trace: true }));
    }

    #[test]
    fn hold_until_becomes_a_span() {
        for text in [
            "HOLDUNTIL=2026-11-24T06:12:10Z",
            "HOLDUNTIL=2026-11-24T08:12:10.5+02:00",
            "HOLDUNTIL=2026-11-24T01:12:10-05:00",
        ] {
            assert_eq!(read(text).unwrap().hold_for, Some(Duration::from_secs(60)), "{text}");
        }
        assert_eq!(read("HOLDUNTIL=2026-01-01T00:00:00Z").unwrap().hold_for, Some(Duration::ZERO));
        for text in [
            "HOLDUNTIL=tomorrow",
            "HOLDUNTIL=2026-13-01T00:00:00Z",
            "HOLDUNTIL=2026-11-24T06:12:10",
            "HOLDUNTIL=2026-11-24 06:12:10Z",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_and_unoffered_parameters_are_the_same() {
        assert_eq!(read("FOO=1"), Err(InvalidParameter::Unknown("FOO")));
        let none = mail("SIZE=1 RET=FULL", ExtensionSet::EMPTY.with(Extension::Size), None);
        assert_eq!(none, Err(InvalidParameter::Unknown("RET")));
        let binary = mail("BODY=BINARYMIME", all().without(Extension::BinaryMime), None);
        assert_eq!(binary, Err(InvalidParameter::Unknown("BODY=BINARYMIME")));
        assert_eq!(rcpt("NOTIFY=NEVER", ExtensionSet::EMPTY), Err(InvalidParameter::Unknown("NOTIFY")));
    }

    #[test]
    fn bad_values_are_refused() {
        for text in [
            "SIZE",
            "SIZE=",
            "SIZE=-1",
            "SIZE=999999999999999999999",
            "BODY=9BIT",
            "SMTPUTF8=1",
            "RET=ALL",
            "ENVID=",
            "ENVID=a+0Ab",
            "ENVID=+",
            "AUTH=",
            "MT-PRIORITY=10",
            "MT-PRIORITY=+1",
            "BY=0;R",
            "BY=1",
            "BY=1;X",
            "HOLDFOR=1234567890",
        ] {
            let keyword = text.split('=').next().unwrap();
            assert_eq!(read(text), Err(InvalidParameter::Value(keyword)), "{text}");
        }
        assert_eq!(read("SIZE=1 size=2"), Err(InvalidParameter::Repeated("size")));
        assert_eq!(read("HOLDFOR=1 HOLDUNTIL=2026-11-24T06:12:10Z"), Err(InvalidParameter::Repeated("HOLDUNTIL")));
    }

    #[test]
    fn rcpt_parameters_are_read() {
        let p = rcpt("NOTIFY=success,DELAY ORCPT=rfc822;Bob+2Btag@example.com", all()).unwrap();
        assert_eq!(p.notify, Notify { given: true, success: true, failure: false, delay: true });
        assert_eq!(p.original.as_deref(), Some("rfc822;Bob+tag@example.com"));
        assert_eq!(rcpt("NOTIFY=NEVER", all()).unwrap().notify, Notify::NEVER);
        for text in [
            "NOTIFY=NEVER,DELAY",
            "NOTIFY=",
            "NOTIFY",
            "ORCPT=bob",
            "ORCPT=rfc822;",
            "ORCPT=rfc822;a+0D+0Ab",
            "ORCPT=a b",
        ] {
            assert!(rcpt(text, all()).is_err(), "{text}");
        }
    }

    #[test]
    fn originals_in_unicode_keep_their_form() {
        for text in ["utf-8;j\\x{FC}rgen@example.com", "UTF-8;a\\x{2B}b@example.com", "utf-8;jürgen@example.com"] {
            assert_eq!(rcpt(&format!("ORCPT={text}"), all()).unwrap().original.as_deref(), Some(text));
        }
        for text in ["a+2Bb", "a=b", "a\\b", "a\\x{zz}", "a\\x{0D}b", "a\\x{110000}", "a\\x{41"] {
            assert!(rcpt(&format!("ORCPT=utf-8;{text}@example.com"), all()).is_err(), "{text}");
        }
        assert_eq!(to_utf8_xtext("jürgen+x@example.com"), "j\\x{FC}rgen\\x{2B}x@example.com");
        assert!(is_utf8_xtext(&to_utf8_xtext("jürgen+x\\@example.com")));
    }

    #[test]
    fn xtext_is_reversible() {
        for text in ["a", "a+b=c", "jürgen @x"] {
            assert_eq!(xtext(&to_xtext(text)).as_deref(), Some(text));
        }
        assert_eq!(to_xtext("a+b"), "a+2Bb");
    }
}
