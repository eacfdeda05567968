//! A report as RFC 8460 wants it: JSON (§4.4), gzip, and the message of §5.3; and the record that says who wants it (§3).

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use waypost_types::{Address, Message, Timestamp};

use super::ledger::{Count, Key};

/// Where reports are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// By mail.
    Mail(Address),
    /// By HTTPS POST.
    Post(String),
}

/// Places of one domain.
const WANTED_MAX: usize = 5;

/// Who wants reports, by the TXT records of `_smtp._tls` (§3.1): one of version 1, or nobody.
pub fn wanted(records: &[String]) -> Vec<Wanted> {
    let mut ours =
        records.iter().filter(|record| record.split(';').next().is_some_and(|one| one.trim() == "v=TLSRPTv1"));
    let (Some(record), None) = (ours.next(), ours.next()) else { return Vec::new() };
    let rua = record
        .split(';')
        .filter_map(|field| field.trim().strip_prefix("rua"))
        .find_map(|rest| rest.trim().strip_prefix('='));
    let place = |text: &str| {
        let text = text.trim();
        match text.strip_prefix("mailto:") {
            // §3: commas, exclamation marks and semicolons are escaped.
            Some(address) => {
                let bare = address.split('?').next().unwrap_or_default();
                unescaped(bare).parse().ok().map(Wanted::Mail)
            }
            None => text.starts_with("https://").then(|| Wanted::Post(text.to_string())),
        }
    };
    rua.unwrap_or_default().split(',').filter_map(place).take(WANTED_MAX).collect()
}

fn unescaped(text: &str) -> String {
    ["%2C", "%21", "%3B"].iter().zip([",", "!", ";"]).fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

/// Who reports.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// Our name.
    pub host: String,
    /// `organization-name`.
    pub organization: String,
    /// `contact-info`.
    pub contact: String,
}

/// A report on one domain's day.
#[derive(Clone, Debug)]
pub struct Document {
    /// Whom and when it is about.
    pub key: Key,
    /// Its name.
    pub id: String,
    /// The JSON, packed.
    pub gzip: Vec<u8>,
    submitter: String,
}

impl Document {
    /// Of what was counted. `random` makes the name one of its kind.
    pub fn new(reporter: &Reporter, key: &Key, counts: &[Count], random: u64) -> Document {
        let id = format!("{}.{random:016x}.{}@{}", key.day, key.domain, reporter.host);
        let gzip = packed(&json(reporter, key, counts, &id));
        Document { key: key.clone(), id, gzip, submitter: reporter.host.clone() }
    }

    /// §5.1.
    pub fn file_name(&self) -> String {
        let begin = begin(&self.key.day);
        format!("{}!{}!{begin}!{}.json.gz", self.submitter, self.key.domain, begin + 86_399)
    }

    /// The message of §5.3, without a signature.
    pub fn message(&self, from: &Address, to: &Address, now: Timestamp) -> Message {
        let Document { key, id, submitter, .. } = self;
        let boundary = format!("=_{}_{}", now.millis(), self.gzip.len());
        let (date, name, domain) = (now.rfc5322(), self.file_name(), &key.domain);
        let text = format!(
            "From: <{from}>\r\nTo: <{to}>\r\nDate: {date}\r\n\
             Subject: Report Domain: {domain} Submitter: {submitter}\r\n Report-ID: <{id}>\r\n\
             Message-ID: <{id}>\r\nTLS-Report-Domain: {domain}\r\nTLS-Report-Submitter: {submitter}\r\n\
             TLS-Required: No\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=\"{boundary}\"\r\n\r\n\
             --{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
             This is an aggregate TLS report from {submitter} about {domain}, {day}.\r\n\r\n\
             --{boundary}\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment;\r\n\tfilename=\"{name}\"\r\n\r\n{body}--{boundary}--\r\n",
            day = key.day,
            body = base64_lines(&self.gzip),
        );
        Message::new(Bytes::from(text))
    }
}

/// The JSON of §4.4.
pub fn json(reporter: &Reporter, key: &Key, counts: &[Count], id: &str) -> Value {
    json!({
        "organization-name": reporter.organization,
        "date-range": {
            "start-datetime": format!("{}T00:00:00Z", key.day),
            "end-datetime": format!("{}T23:59:59Z", key.day),
        },
        "contact-info": reporter.contact,
        "report-id": id,
        "policies": counts.iter().map(|count| count.json(&key.domain)).collect::<Vec<_>>(),
    })
}

fn packed(value: &Value) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    let written = out.write_all(value.to_string().as_bytes()).and_then(|()| out.finish());
    written.expect("memory takes everything")
}

/// The first second of a day, since 1970 (days from the civil calendar, proleptic Gregorian).
fn begin(day: &str) -> i64 {
    let mut parts = day.split('-').map(|part| part.parse::<i64>().unwrap_or(1));
    let (year, month, day) = (parts.next().unwrap_or(1970), parts.next().unwrap_or(1), parts.next().unwrap_or(1));
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468) * 86_400
}

fn base64_lines(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len() / 3 * 4 + bytes.len() / 28 + 8);
    for line in bytes.chunks(57) {
        for three in line.chunks(3) {
            let word = three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
            for at in 0..4 {
                let digit = DIGITS[(word >> (18 - 6 * at) & 63) as usize];
                out.push(if at <= three.len() { char::from(digit) } else { '=' });
            }
        }
        out.push_str("\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use flate2::read::GzDecoder;
    use waypost_types::Domain;
    use waypost_types::port::{KvError, Row};

    use super::super::{Fault, Ledger, Policy, Session};
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn session(kind: &'static str, fault: Option<(Fault, &str)>) -> Session {
        let strings = if kind == "sts" { vec!["version: STSv1".into(), "mode: enforce".into()] } else { Vec::new() };
        Session {
            domain: Domain::parse("far.example").expect("a domain"),
            policy: Policy { kind, strings, hosts: Vec::new() },
            host: "mx.far.example".into(),
            receiving: Some([192, 0, 2, 1].into()),
            sending: Some([192, 0, 2, 9].into()),
            fault: fault.map(|(fault, reason)| (fault, reason.to_string())),
        }
    }

    fn reporter() -> Reporter {
        Reporter {
            host: "mx.own.example".into(),
            organization: "own.example".into(),
            contact: "postmaster@own.example".into(),
        }
    }

    #[test]
    fn sessions_become_a_report_and_outlive_a_restart() {
        let shelf = Arc::new(Shelf::default());
        let ledger = Ledger::open(shelf.clone()).expect("empty");
        for _ in 0..3 {
            ledger.count(session("sts", None), NOW);
            ledger.count(session("sts", Some((Fault::CertificateExpired, "expired"))), NOW);
        }
        ledger.count(session("no-policy-found", Some((Fault::StarttlsNotSupported, ""))), NOW);
        ledger.save().expect("saved");
        let again = Ledger::open(shelf.clone()).expect("read");
        let [key] = again.keys().try_into().expect("one domain");
        assert_eq!((key.day.as_str(), again.get(&key)), ("2026-11-18", ledger.get(&key)));
        let document = Document::new(&reporter(), &key, &again.get(&key), 7);
        let mut text = String::new();
        GzDecoder::new(&document.gzip[..]).read_to_string(&mut text).expect("gzip");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            value["policies"][0]["summary"],
            json!({ "total-successful-session-count": 3, "total-failure-session-count": 3 })
        );
        assert_eq!(value["policies"][0]["failure-details"][0]["failed-session-count"], 3);
        assert_eq!(value["policies"][1]["failure-details"][0]["result-type"], "starttls-not-supported");
        assert_eq!(document.file_name(), "mx.own.example!far.example!1794960000!1795046399.json.gz");
        again.forget(&key);
        assert_eq!(Ledger::open(shelf).expect("read").keys(), []);
    }

    #[test]
    fn a_report_travels_as_the_rfc_says() {
        let key = Key { day: "2026-11-18".into(), domain: "far.example".into() };
        let document = Document::new(&reporter(), &key, &[], 7);
        let at = |text: &str| text.parse::<Address>().expect("an address");
        let message = document.message(&at("tls@own.example"), &at("r@far.example"), NOW);
        let text = String::from_utf8(message.contiguous().to_vec()).expect("text");
        for part in [
            "TLS-Report-Domain: far.example\r\n",
            "TLS-Report-Submitter: mx.own.example\r\n",
            "TLS-Required: No\r\n",
            "report-type=\"tlsrpt\"",
            "Content-Type: application/tlsrpt+gzip\r\n",
            "Report Domain: far.example Submitter: mx.own.example",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert!(text.split("\r\n").all(|line| line.len() < 998));
        assert_eq!(base64_lines(b"Hello"), "SGVsbG8=\r\n");
        assert_eq!(base64_lines(b"Hi"), "SGk=\r\n");
    }

    #[test]
    fn one_record_says_who_wants_reports() {
        let of = |records: &[&str]| wanted(&records.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mail = Wanted::Mail("reports@example.com".parse().expect("an address"));
        assert_eq!(of(&["v=TLSRPTv1;rua=mailto:reports@example.com"]), std::slice::from_ref(&mail));
        let post = Wanted::Post("https://reporting.example.com/v1/tlsrpt".into());
        assert_eq!(
            of(&["v=spf1", "v=TLSRPTv1; rua=mailto:reports@example.com , https://reporting.example.com/v1/tlsrpt"]),
            [mail, post]
        );
        for nobody in [
            &["v=TLSRPTv1; rua=ftp://x"][..],
            &["v=TLSRPTv2;rua=mailto:a@b.c"],
            &["v=TLSRPTv1"],
            &["v=TLSRPTv1;rua=mailto:a@b.c", "v=TLSRPTv1;rua=mailto:a@b.c"],
            &[],
        ] {
            assert_eq!(of(nobody), [], "{nobody:?}");
        }
    }

    /// A store that tests share.
    #[derive(Default)]
    struct Shelf(std::sync::Mutex<std::collections::BTreeMap<Vec<u8>, Vec<u8>>>);

    impl waypost_types::port::KeyValue for Shelf {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
            Ok(self.0.lock().expect("lock").get(key).cloned())
        }

        fn set(&self, key: &[u8], value: &[u8], _: Option<std::time::Duration>) -> Result<(), KvError> {
            self.0.lock().expect("lock").insert(key.to_vec(), value.to_vec());
            Ok(())
        }

        fn add(&self, _: &[u8], _: i64, _: Option<std::time::Duration>) -> Result<i64, KvError> {
            Err(KvError::Quota)
        }

        fn swap(&self, _: &[u8], _: &[u8], _: &[u8], _: Option<std::time::Duration>) -> Result<bool, KvError> {
            Err(KvError::Quota)
        }

        fn remove(&self, key: &[u8]) -> Result<bool, KvError> {
            Ok(self.0.lock().expect("lock").remove(key).is_some())
        }

        fn list(&self, prefix: &[u8], after: &[u8], count_max: usize) -> Result<Vec<Row>, KvError> {
            let shelf = self.0.lock().expect("lock");
            let from = [prefix, after].concat();
            let rows = shelf.range(from.clone()..).filter(|(key, _)| **key != from && key.starts_with(prefix));
            Ok(rows.take(count_max).map(|(key, value)| (key.clone(), value.clone())).collect())
        }
    }
}
