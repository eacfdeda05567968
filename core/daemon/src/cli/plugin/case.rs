//! A case: one transaction as TOML, and what must come of it. The form is told in `sdk/README.md`.
//!
//! A file is one case, or several in order; what stands above the first `[[case]]` holds for each of them.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::recipe;

/// Cases in one file.
const CASES_MAX: usize = 10_000;

/// A transaction, what surrounds it, and what is expected of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) port: Port,
    pub(super) client: IpAddr,
    pub(super) client_name: Option<String>,
    pub(super) helo: Option<String>,
    pub(super) tls: bool,
    pub(super) own: bool,
    pub(super) login: Option<String>,
    pub(super) password: Option<String>,
    pub(super) mail: String,
    pub(super) rcpt: Vec<String>,
    message: Option<PathBuf>,
    text: Option<String>,
    later: Option<String>,
    /// When it plays, milliseconds since 1970, instead of the clock of all cases.
    pub(super) at: Option<u64>,
    pub(super) config: Value,
    pub(super) dns: BTreeMap<String, Answers>,
    pub(super) kv: BTreeMap<String, String>,
    pub(super) tables: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) auth: BTreeMap<String, String>,
    pub(super) facts: BTreeMap<String, f64>,
    pub(super) expect: Option<Expect>,
    /// What each plugin said when this was recorded.
    pub(super) was: BTreeMap<String, Was>,
    #[serde(skip)]
    pub(super) letter: Bytes,
    #[serde(skip)]
    pub(super) wait: Duration,
}

impl Default for Case {
    fn default() -> Case {
        Case {
            name: String::new(),
            port: Port::Mx,
            client: IpAddr::from([192, 0, 2, 1]),
            client_name: None,
            helo: None,
            tls: false,
            own: false,
            login: None,
            password: None,
            mail: "sender@example.net".into(),
            rcpt: vec!["recipient@example.org".into()],
            message: None,
            text: None,
            later: None,
            at: None,
            config: Value::Object(Map::new()),
            dns: BTreeMap::new(),
            kv: BTreeMap::new(),
            tables: BTreeMap::new(),
            auth: BTreeMap::new(),
            facts: BTreeMap::new(),
            expect: None,
            was: BTreeMap::new(),
            letter: Bytes::from_static(LETTER),
            wait: Duration::ZERO,
        }
    }
}

/// What is sent where a case names no message.
const LETTER: &[u8] = b"From: Sender <sender@example.net>\r\nTo: recipient@example.org\r\nSubject: A message\r\n\
    Date: Tue, 24 Nov 2026 06:11:10 +0000\r\nMessage-ID: <1@example.net>\r\n\r\nHello.\r\n";

/// The kind of door.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Port {
    Mx,
    Submission,
    Submissions,
    Lmtp,
    Relay,
}

/// What DNS says: records, or the word for why there are none.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Answers {
    Records(Vec<String>),
    Failure(String),
}

/// What must come of a case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Expect {
    pub(super) verdict: Option<String>,
    pub(super) stage: Option<String>,
    pub(super) code: Option<u16>,
    pub(super) text: Option<String>,
    pub(super) facts: Option<Facts>,
    pub(super) without_facts: Vec<String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) removed: Vec<String>,
    pub(super) sender: Option<String>,
    pub(super) recipients: Option<Vec<String>>,
    pub(super) dns: Vec<String>,
    pub(super) without_dns: Vec<String>,
    pub(super) log: Vec<String>,
}

/// What a plugin said of a recorded transaction.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Was {
    pub(super) verdict: String,
    pub(super) stage: Option<String>,
    pub(super) text: Option<String>,
    pub(super) facts: Vec<(String, f64)>,
}

/// Symbols, with or without their weights.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Facts {
    Symbols(Vec<String>),
    Weights(BTreeMap<String, f64>),
}

/// Verdicts that a case may expect.
const VERDICTS: [&str; 8] = ["pass", "accept", "defer", "refuse", "disconnect", "discard", "hold", "fault"];

/// Reads the cases of a `.toml` file, or makes one of a message.
pub(super) fn read(path: &Path) -> Result<Vec<Case>> {
    if path.extension().is_none_or(|extension| extension != "toml") {
        let name = path.display().to_string();
        return Ok(vec![Case { name, letter: letter(path)?, ..Case::default() }]);
    }
    let mut common: Map<String, Value> = recipe::read(path)?;
    let listed = match common.remove("case") {
        None => vec![Value::Object(Map::new())],
        Some(Value::Array(cases)) if cases.len() <= CASES_MAX => cases,
        Some(_) => bail!("{}: `case` is a list of sections, at most {CASES_MAX}: write [[case]]", path.display()),
    };
    let common = Value::Object(common);
    let one = |(index, over): (usize, &Value)| {
        let mut value = common.clone();
        recipe::lay_over(&mut value, over);
        finish(path, index, value).with_context(|| format!("{}, case {}", path.display(), index + 1))
    };
    listed.iter().enumerate().map(one).collect()
}

fn finish(path: &Path, index: usize, value: Value) -> Result<Case> {
    let mut case: Case = serde_path_to_error::deserialize(value)
        .map_err(|error| anyhow!("{}: {}", error.path(), recipe::plain(error.inner())))?;
    if case.name.is_empty() {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        case.name = if index == 0 { stem } else { format!("{stem} {}", index + 1) };
    }
    case.letter = match (&case.message, &case.text) {
        (Some(_), Some(_)) => bail!("`message` and `text` are both there: keep one"),
        (Some(file), None) => letter(&path.parent().unwrap_or(Path::new("")).join(file))?,
        (None, Some(text)) => crlf(text.as_bytes()),
        (None, None) => case.letter,
    };
    case.wait = case.later.as_deref().map(span).transpose()?.unwrap_or_default();
    let expected = case.expect.as_ref().and_then(|expect| expect.verdict.as_deref());
    if let Some(word) = expected.filter(|word| !VERDICTS.contains(word)) {
        bail!("expect.verdict: `{word}` is none of {}", VERDICTS.join(", "));
    }
    Ok(case)
}

/// A message file, with the line ends of the wire.
fn letter(path: &Path) -> Result<Bytes> {
    Ok(crlf(&fs::read(path).with_context(|| path.display().to_string())?))
}

/// Lines that end in LF alone get their CR.
fn crlf(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + text.len() / 32);
    for (at, byte) in text.iter().enumerate() {
        if *byte == b'\n' && (at == 0 || text[at - 1] != b'\r') {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out.into()
}

/// `90s`, `5m`, `2h`, `1d`.
fn span(text: &str) -> Result<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => bail!("later: `{text}` is no span: write 90s, 5m, 2h or 1d"),
    };
    let count: u32 = digits.parse().map_err(|_| anyhow!("later: `{text}` is no span: write 90s, 5m, 2h or 1d"))?;
    Ok(Duration::from_secs(u64::from(count) * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(text: &str) -> Result<Vec<Case>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn what_stands_above_holds_for_every_case() {
        let text = "client = '198.51.100.7'\nconfig = { a = 1, b = 1 }\n[[case]]\nlater = '2m'\n[[case]]\nname = 'y'\nconfig.b = 2\nclient = '::1'\ntext = \"a: b\\n\"";
        let read = cases(text).unwrap();
        assert_eq!((read[0].client.to_string(), read[0].name.as_str()), ("198.51.100.7".into(), "x"));
        assert_eq!(read[0].wait, Duration::from_secs(120));
        assert_eq!(read[1].config, serde_json::json!({"a": 1, "b": 2}));
        assert_eq!((read[1].client.to_string(), read[1].letter.as_ref()), ("::1".into(), &b"a: b\r\n"[..]));
    }

    #[test]
    fn a_file_without_cases_is_one() {
        assert_eq!(cases("mail = ''").unwrap().len(), 1);
    }

    #[test]
    fn mistakes_name_the_case_and_the_field() {
        let said = |text: &str| format!("{:#}", cases(text).unwrap_err());
        assert!(
            said("[[case]]\n[[case]]\nclint = 'x'").contains("case 2: clint: unknown field"),
            "{}",
            said("[[case]]\n[[case]]\nclint = 'x'")
        );
        assert!(said("expect.verdict = 'reject'").contains("none of pass"));
        assert!(said("later = '3 weeks'").contains("90s"));
    }
}
