//! Recorded transactions on disk: cases for `waypost plugin replay`, sampled, masked and bounded.
//!
//! A transaction is two files in the folder `recorded` below the data folder: the message (`.eml`) and a case (`.toml`) in the form that
//! `waypost plugin test` reads. A thread of its own writes them; when it does not keep up, transactions are left out. The oldest
//! go when there are too many or they grow too large.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::fmt::Write;
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use waypost_config::model::Record;
use waypost_plugin::{Lookup, Recorder, Tape};
use waypost_types::port::{DnsError, DnsType};
use waypost_types::{Address, Fact, Message, Opinion, ReversePath, Stage, Transport, header};

/// Transactions that wait to be written.
const WAITING_MAX: usize = 32;
/// Larger messages are not recorded.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// The folder's name.
pub(crate) const FOLDER: &str = "recorded";

/// Writes what is recorded.
pub(crate) struct Recording {
    /// Of a thousand sessions.
    share: u32,
    begun: AtomicU32,
    tapes: Mutex<SyncSender<Tape>>,
}

impl Recording {
    /// Begins to record into `data`, as the settings say; `None` if they say not to.
    pub(crate) fn start(settings: &Record, data: &Path) -> io::Result<Option<Recording>> {
        let share = (settings.share * 10.0).round() as u32;
        if share == 0 {
            return Ok(None);
        }
        let folder = data.join(FOLDER);
        private(&folder)?;
        let (tapes, taken) = sync_channel(WAITING_MAX);
        let shelf = Shelf::open(folder, settings)?;
        std::thread::Builder::new().name("recorder".into()).spawn(move || shelf.keep(&taken))?;
        Ok(Some(Recording { share: share.min(1000), begun: AtomicU32::new(0), tapes: Mutex::new(tapes) }))
    }
}

fn private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl Recorder for Recording {
    fn wants(&self) -> bool {
        let count = self.begun.fetch_add(1, Ordering::Relaxed) % 1000;
        count * self.share / 1000 != (count + 1) * self.share / 1000
    }

    fn record(&self, tape: Tape) {
        if tape.message.as_ref().is_none_or(|message| message.len() <= MESSAGE_BYTES_MAX)
            && let Ok(tapes) = self.tapes.lock()
        {
            // Full: the disk does not keep up, and mail does not wait for it.
            let _ = tapes.try_send(tape);
        }
    }
}

/// What is there, the oldest first, with its octets.
struct Shelf {
    folder: PathBuf,
    messages: usize,
    size: u64,
    mask: Mask,
    kept: VecDeque<(String, u64)>,
    used: u64,
}

impl Shelf {
    fn open(folder: PathBuf, settings: &Record) -> io::Result<Shelf> {
        let mut names: Vec<(String, u64)> = Vec::new();
        for entry in fs::read_dir(&folder)?.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(stem) = name.strip_suffix(".toml") {
                let octets =
                    |ending: &str| fs::metadata(folder.join(format!("{stem}.{ending}"))).map_or(0, |meta| meta.len());
                names.push((stem.to_string(), octets("toml") + octets("eml")));
            }
        }
        names.sort();
        let used = names.iter().map(|(_, octets)| octets).sum();
        let mask = Mask::new(&settings.mask);
        Ok(Shelf { folder, messages: settings.messages, size: settings.size, mask, kept: names.into(), used })
    }

    fn keep(mut self, tapes: &Receiver<Tape>) {
        let mut count = 0_u32;
        while let Ok(tape) = tapes.recv() {
            count = count.wrapping_add(1);
            let stem = format!("{:013}-{count:06}", crate::observe::now().0);
            // A full disk is said by the queue; what is recorded can be missed.
            if let Ok(octets) = self.write(&stem, &tape) {
                self.kept.push_back((stem, octets));
                self.used += octets;
            }
            self.make_room();
        }
    }

    fn write(&self, stem: &str, tape: &Tape) -> io::Result<u64> {
        let message = tape.message.as_ref().map(|message| self.mask.message(message));
        let case = case_text(tape, message.is_some().then_some(stem), &self.mask);
        let mut octets = case.len() as u64;
        if let Some(message) = &message {
            octets += message.len() as u64;
            fs::write(self.folder.join(format!("{stem}.eml")), message)?;
        }
        fs::write(self.folder.join(format!("{stem}.toml")), case)?;
        Ok(octets)
    }

    fn make_room(&mut self) {
        while self.kept.len() > self.messages || self.used > self.size {
            let Some((stem, octets)) = self.kept.pop_front() else { return };
            self.used -= octets;
            for ending in ["toml", "eml"] {
                let _ = fs::remove_file(self.folder.join(format!("{stem}.{ending}")));
            }
        }
    }
}

/// What is made unreadable.
#[derive(Default)]
struct Mask {
    addresses: bool,
    login: bool,
    subject: bool,
    body: bool,
    names: RandomState,
}

impl Mask {
    fn new(words: &[&'static str]) -> Mask {
        let has = |word: &str| words.contains(&word);
        Mask {
            addresses: has("addresses"),
            login: has("login"),
            subject: has("subject"),
            body: has("body"),
            names: RandomState::new(),
        }
    }

    /// The same name for the same address, until the server is started again.
    fn name(&self, text: &str) -> String {
        format!("masked{:08x}", self.names.hash_one(text) as u32)
    }

    fn address(&self, address: &Address) -> String {
        match self.addresses {
            true => format!("{}@{}", self.name(address.local()), address.host()),
            false => address.to_string(),
        }
    }

    fn message(&self, message: &Message) -> Vec<u8> {
        let mut octets = message.contiguous().to_vec();
        let block = header::block_len(&octets);
        if self.body {
            octets[block..].iter_mut().filter(|byte| is_text(**byte)).for_each(|byte| *byte = b'x');
        }
        let mut ranges = Vec::new();
        for field in header::fields(&octets[..block]) {
            let addresses =
                ["From", "To", "Cc", "Bcc", "Sender", "Reply-To", "Return-Path", "Delivered-To", "X-Original-To"];
            if self.addresses && addresses.iter().any(|name| field.is(name)) {
                ranges.push((place(&octets, field.value), true));
            } else if self.subject && field.is("Subject") {
                ranges.push((place(&octets, field.value), false));
            }
        }
        for (range, domains_stay) in ranges {
            mask_text(&mut octets[range], domains_stay);
        }
        octets
    }
}

fn is_text(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

/// Where a part of `whole` lies in it.
fn place(whole: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// Letters and digits become `x`; what stands behind an `@` stays, if told.
fn mask_text(text: &mut [u8], domains_stay: bool) {
    let mut in_domain = false;
    for byte in text {
        match *byte {
            b'@' => in_domain = domains_stay,
            b'.' | b'-' => {}
            other if is_text(other) => {
                if !in_domain {
                    *byte = b'x';
                }
            }
            _ => in_domain = false,
        }
    }
}

/// A text of TOML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// The case.
fn case_text(tape: &Tape, message: Option<&str>, mask: &Mask) -> String {
    let mut out = String::new();
    let mut say = |key: &str, value: String| {
        let _ = writeln!(out, "{key} = {value}");
    };
    say("at", crate::observe::now().0.to_string());
    if let Some(session) = &tape.session {
        let port = match session.transport {
            Transport::Local => Transport::Mx,
            other => other,
        };
        say("port", quoted(port.word()));
        say("client", quoted(&session.peer.ip().to_string()));
        session.peer_name.iter().for_each(|name| say("client-name", quoted(name)));
        say("helo", quoted(&session.helo));
        say("tls", session.tls.is_some().to_string());
        say("own", session.trusted.to_string());
        if let Some(user) = &session.user {
            say("login", quoted(&if mask.login { mask.name(user) } else { user.to_string() }));
        }
    }
    let sender = match &tape.envelope.sender {
        ReversePath::Null => String::new(),
        ReversePath::Mailbox(address) => mask.address(address),
    };
    say("mail", quoted(&sender));
    let asked = tape.envelope.recipients.iter().map(|to| &to.address).filter(|_| tape.recipients.is_empty());
    let recipients: Vec<_> = tape.recipients.iter().chain(asked).map(|to| quoted(&mask.address(to))).collect();
    say("rcpt", format!("[{}]", recipients.join(", ")));
    message.iter().for_each(|stem| say("message", quoted(&format!("{stem}.eml"))));
    if !tape.findings.is_empty() {
        out.push_str("[auth]\n");
        let mut seen = Vec::new();
        for finding in tape.findings.iter() {
            // A case has one of each method; the first is what counts most.
            if seen.contains(&finding.method) {
                continue;
            }
            seen.push(finding.method);
            // The identity of SPF is an address, or a domain.
            let domain = finding.domain.as_deref().map(|text| match Address::parse(text) {
                Ok(address) => mask.address(&address),
                Err(_) => text.to_string(),
            });
            let words = [Some(finding.result), domain.as_deref(), finding.selector.as_deref()];
            let words: Vec<_> = words.into_iter().flatten().collect();
            let _ = writeln!(out, "{} = {}", finding.method, quoted(&words.join(" ")));
        }
    }
    lookups_text(&tape.lookups, &mut out);
    said_text(&tape.opinions, &tape.facts, &mut out);
    out
}

fn lookups_text(lookups: &[Lookup], out: &mut String) {
    let mut seen = Vec::new();
    for (name, kind, answer) in lookups {
        let key = quoted(&format!("{} {}", name.trim_end_matches('.').to_ascii_lowercase(), kind_word(*kind)));
        if seen.contains(&key) {
            continue;
        }
        if seen.is_empty() {
            out.push_str("[dns]\n");
        }
        let value = match answer {
            Ok(answer) => {
                format!("[{}]", answer.records.iter().map(|record| quoted(record)).collect::<Vec<_>>().join(", "))
            }
            Err(error) => quoted(match error {
                DnsError::NxDomain => "nxdomain",
                DnsError::NoData => "nodata",
                DnsError::ServFail => "servfail",
                DnsError::Timeout => "timeout",
                DnsError::Refused => "refused",
            }),
        };
        let _ = writeln!(out, "{key} = {value}");
        seen.push(key);
    }
}

fn kind_word(kind: DnsType) -> &'static str {
    match kind {
        DnsType::A => "A",
        DnsType::Aaaa => "AAAA",
        DnsType::Mx => "MX",
        DnsType::Txt => "TXT",
        DnsType::Ptr => "PTR",
        DnsType::Tlsa => "TLSA",
        DnsType::Cname => "CNAME",
        DnsType::Ns => "NS",
        DnsType::Srv => "SRV",
    }
}

/// `[was.PLUGIN]`: the verdict, where it was given, and the facts.
fn said_text(opinions: &[Opinion], facts: &[Fact], out: &mut String) {
    let mut plugins: Vec<&str> = opinions.iter().map(|opinion| &*opinion.plugin).collect();
    plugins.sort_unstable();
    plugins.dedup();
    for plugin in plugins {
        let of = || opinions.iter().filter(|opinion| *opinion.plugin == *plugin);
        let decided = of().rfind(|opinion| opinion.verdict != "pass").or_else(|| of().next_back());
        let Some(last) = decided else { continue };
        let _ = writeln!(out, "[was.{}]\nverdict = {}", quoted(plugin), quoted(last.verdict));
        let stage = if last.verdict == "pass" { None } else { Some(last.stage) };
        let stage = stage.map(Stage::word);
        for (key, value) in [("stage", stage), ("text", last.detail.as_deref())] {
            let _ = value.map(|value| writeln!(out, "{key} = {}", quoted(value)));
        }
        let stated: Vec<_> = facts.iter().filter(|fact| *fact.plugin == *plugin).collect();
        let rows: Vec<_> = stated.iter().map(|fact| format!("[{}, {:?}]", quoted(&fact.symbol), fact.weight)).collect();
        let _ = writeln!(out, "facts = [{}]", rows.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_masked_cannot_be_read_and_keeps_its_form() {
        let mask = Mask::new(&["addresses", "subject", "body"]);
        let text = "From: Ann Lee <ann.lee@example.com>\r\nSubject: Secret 42\r\nX: kept\r\n\r\nDear Bob,\r\n";
        let masked = mask.message(&Message::new(Bytes::from(text)));
        let masked = String::from_utf8(masked).unwrap();
        assert_eq!(masked, "From: xxx xxx <xxx.xxx@example.com>\r\nSubject: xxxxxx xx\r\nX: kept\r\n\r\nxxxx xxx,\r\n");
        let address = Address::parse("ann.lee@example.com").unwrap();
        assert!(mask.address(&address).ends_with("@example.com") && !mask.address(&address).contains("ann"));
        assert_eq!(Mask::default().message(&Message::new(Bytes::from(text))), text.as_bytes());
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Record { share: 1.0, messages: 2, size: 1 << 20, mask: Vec::new() };
        let mut shelf = Shelf::open(folder.path().to_path_buf(), &settings).unwrap();
        let mut tape = Tape::default();
        tape.message = Some(Message::new(Bytes::from_static(b"A: 1\r\n\r\nx")));
        for stem in ["1", "2", "3"] {
            let octets = shelf.write(stem, &tape).unwrap();
            shelf.kept.push_back((stem.into(), octets));
            shelf.used += octets;
            shelf.make_room();
        }
        let there = |name: &str| folder.path().join(name).exists();
        assert!(!there("1.toml") && !there("1.eml") && there("2.eml") && there("3.toml"));
        let again = Shelf::open(folder.path().to_path_buf(), &settings).unwrap();
        assert_eq!((again.kept.len(), again.used), (2, shelf.used));
    }
}
