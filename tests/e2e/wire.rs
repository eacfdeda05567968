//! Dialogs on the wire, octet by octet, against the demonstration site: `wire.cases` is the table, this page reads and runs it.
//!
//! A case begins with `== name : doors : start`. Doors are `mx`, `submission`, `submissions`, or `all`. Starts, each reaching further:
//! `connect` (nothing read; on submissions TLS is up), `plain` (no TLS even there), `greeted`, `hello` (EHLO; on submission inside TLS),
//! `ready` (logged in where that is needed), `mail` (MAIL and RCPT are accepted), `data` (354 has come).
//!
//! | line | meaning |
//! |---|---|
//! | `> text` | this line with CRLF; lines that follow each other are one write, `--` parts them |
//! | `~ text` | the same, but nothing is added, and `\r \n \0 \t \\ \xNN` stand for octets; `{N*x}` is N times `x` in either form |
//! | `< 250 2.1.0` | one reply with this code and enhanced status; `< 501\|553` either code; without a status it must have one all the same |
//! | `<- 250` | one reply that has no enhanced status by its nature |
//! | `TEXT word` | the last reply holds this; `NO TEXT word` |
//! | `STARTTLS` | the handshake |
//! | `OPEN` | NOOP is answered with 250 |
//! | `CLOSED` | the connection has been closed and nothing more was said |
//! | `GONE` | the same, but a greeting and replies that are no success may come before it |
//! | `QUIET` | nothing comes |
//! | `FIN` | the client closes its side |
//! | `ARRIVES n` | so many messages with the word `{case}` arrive in alice's mailbox, and no more |
//! | `HOLDS text` | one of them holds this (escapes as above); `LACKS text` |
//!
//! `WIRE_CASE=bdat cargo test -p waypost-tests --test e2e wire` runs those whose name has this in it.
//!
//! `{case}` is a word that no other case has, `{sender}` an address that may send at this door, `{login}` alice's credentials for PLAIN.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use waypost_tests::wire::Reply;
use waypost_tests::{Waypost, Wire};

const TABLE: &str = include_str!("wire.cases");
const DOORS: [&str; 3] = ["mx", "submission", "submissions"];
const AT_ONCE: usize = 12;

#[test]
fn every_case_goes_as_written() {
    let only = std::env::var("WIRE_CASE").unwrap_or_default();
    let server = Waypost::start(&["users.separator=+"]);
    let cases = read(TABLE);
    assert!(cases.len() > 100, "the table is missing");
    let runs: Vec<(&Case, &str)> = cases
        .iter()
        .filter(|case| case.name.contains(&only))
        .flat_map(|case| case.doors.iter().map(move |door| (case, *door)))
        .collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((number, (case, door))) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|number| Some((number, runs.get(number)?)))
                {
                    let mut run = Run::new(&server, door, format!("case{number:04}word"));
                    if let Err(error) = run.play(case) {
                        let text = format!("{} at {door}: {error}\n{}", case.name, run.wire.transcript);
                        failures.lock().expect("nobody panics here").push(text);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nobody panics here");
    println!("{} cases, {} runs, {} failures", cases.len(), runs.len(), failures.len());
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

struct Case {
    name: &'static str,
    doors: Vec<&'static str>,
    start: &'static str,
    lines: Vec<(usize, &'static str)>,
}

fn read(table: &'static str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in table.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        if let Some(head) = line.strip_prefix("== ") {
            let [name, doors, start] = head.split(" : ").collect::<Vec<_>>()[..] else { panic!("{number}: {line}") };
            let doors = if doors == "all" { DOORS.to_vec() } else { doors.split(' ').collect() };
            assert!(doors.iter().all(|door| DOORS.contains(door)), "{number}: {line}");
            cases.push(Case { name, doors, start, lines: Vec::new() });
        } else if !line.is_empty() && !line.starts_with('#') {
            cases.last_mut().expect("a head comes first").lines.push((number, line));
        }
    }
    cases
}

type Outcome = Result<(), String>;

struct Run<'a> {
    server: &'a Waypost,
    door: &'static str,
    word: String,
    wire: Wire,
    last: Option<Reply>,
}

impl<'a> Run<'a> {
    fn new(server: &'a Waypost, door: &str, word: String) -> Run<'a> {
        let door = DOORS.into_iter().find(|known| *known == door).expect("looked at");
        let port = match door {
            "mx" => server.mx,
            "submission" => server.submission,
            _ => server.submissions,
        };
        Run { server, door, word, wire: Wire::connect(port), last: None }
    }

    fn play(&mut self, case: &Case) -> Outcome {
        self.begin(case.start).map_err(|error| format!("start {}: {error}", case.start))?;
        let mut lines = case.lines.iter().peekable();
        while let Some((number, line)) = lines.next() {
            let at = |error| format!("line {number}: {error}");
            let Some(mut write) = self.sent(line) else {
                self.step(line).map_err(at)?;
                continue;
            };
            while let Some(more) = lines.peek().and_then(|(_, line)| self.sent(line)) {
                write.extend(more);
                lines.next();
            }
            self.wire.send(&write);
        }
        Ok(())
    }

    fn begin(&mut self, start: &str) -> Outcome {
        const STARTS: [&str; 7] = ["plain", "connect", "greeted", "hello", "ready", "mail", "data"];
        let reach = STARTS.iter().position(|known| *known == start).ok_or("no such start")?;
        let outside = self.door != "mx";
        if reach >= 1 && self.door == "submissions" {
            self.wire.start_tls()?;
        }
        if reach >= 2 {
            self.expect("220", false)?;
        }
        if reach >= 3 {
            self.say("EHLO client.example", "250", false)?;
            if self.door == "submission" {
                self.say("STARTTLS", "220 2.0.0", true)?;
                self.wire.start_tls()?;
                self.say("EHLO client.example", "250", false)?;
            }
        }
        if reach >= 4 && outside {
            let login = self.expanded("AUTH PLAIN {login}", false);
            self.say(&String::from_utf8_lossy(&login), "235 2.7.0", true)?;
        }
        if reach >= 5 {
            let mail = self.expanded("MAIL FROM:<{sender}>", false);
            self.say(&String::from_utf8_lossy(&mail), "250 2.1.0", true)?;
            self.say("RCPT TO:<alice@waypost.test>", "250 2.1.5", true)?;
        }
        if reach >= 6 {
            self.say("DATA", "354", false)?;
        }
        Ok(())
    }

    fn say(&mut self, line: &str, want: &str, status: bool) -> Outcome {
        self.wire.send(format!("{line}\r\n").as_bytes());
        self.expect(want, status)
    }

    fn step(&mut self, line: &str) -> Outcome {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "<" => self.expect(rest, true),
            "<-" => self.expect(rest, false),
            "--" => Ok(()),
            "TEXT" => self.holds(rest, true),
            "NO" => self.holds(rest.strip_prefix("TEXT ").ok_or("NO TEXT word")?, false),
            "STARTTLS" => self.wire.start_tls(),
            "OPEN" => self.say("NOOP", "250 2.0.0", true),
            "CLOSED" => self.wire.ends(),
            "GONE" => self.gone(),
            "QUIET" if self.wire.is_quiet(Duration::from_millis(300)) => Ok(()),
            "QUIET" => Err("something was said".into()),
            "FIN" => {
                self.wire.finish();
                Ok(())
            }
            "ARRIVES" => self.arrives(rest.parse().map_err(|_| "ARRIVES n")?),
            "HOLDS" => self.mailed(rest, true),
            "LACKS" => self.mailed(rest, false),
            "NOBANNER" => match self.wire.rest() {
                rest if rest.starts_with(b"220") => Err("a banner".into()),
                _ => Ok(()),
            },
            other => Err(format!("no such line: {other}")),
        }
    }

    fn expect(&mut self, want: &str, status: bool) -> Outcome {
        let (codes, wanted) = want.split_once(' ').map_or((want, None), |(codes, status)| (codes, Some(status)));
        let reply = self.wire.reply()?.ok_or_else(|| format!("closed instead of {want}"))?;
        let code_ok = codes.split('|').any(|code| code == reply.code.to_string());
        let status_ok = match wanted {
            Some(wanted) => wanted.split('|').any(|wanted| reply.status.as_deref() == Some(wanted)),
            None => reply.has_status() == status,
        };
        let text = reply.lines.join(" / ");
        if !code_ok || !status_ok || (status && !reply.has_status()) {
            return Err(format!("want {want}, got {} {text}", reply.code));
        }
        self.last = Some(reply);
        Ok(())
    }

    fn holds(&self, text: &str, wanted: bool) -> Outcome {
        let reply = self.last.as_ref().ok_or("nothing was said yet")?;
        let found = reply.lines.iter().any(|line| line.contains(text));
        if found == wanted { Ok(()) } else { Err(format!("{text} in {:?}: {found}", reply.lines)) }
    }

    /// Closed, and nothing was carried out before.
    fn gone(&mut self) -> Outcome {
        while let Some(reply) = self.wire.reply()? {
            if reply.code < 400 && !matches!(reply.code, 220 | 221) {
                return Err(format!("carried out: {} {}", reply.code, reply.lines.join(" / ")));
            }
        }
        Ok(())
    }

    fn mine(&self) -> Vec<String> {
        self.server.mailbox("alice").into_iter().filter(|mail| mail.contains(&self.word)).collect()
    }

    fn arrives(&self, count: usize) -> Outcome {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while self.mine().len() < count {
            if std::time::Instant::now() > end {
                return Err(format!("{} of {count} messages arrived", self.mine().len()));
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        std::thread::sleep(Duration::from_millis(200));
        let got = self.mine().len();
        if got == count { Ok(()) } else { Err(format!("{got} messages arrived instead of {count}")) }
    }

    fn mailed(&self, text: &str, wanted: bool) -> Outcome {
        let text = String::from_utf8_lossy(&self.expanded(text, true)).into_owned();
        let mails = self.mine();
        let found = mails.iter().any(|mail| mail.contains(&text));
        if found == wanted { Ok(()) } else { Err(format!("{text:?}: {found} in\n{}", mails.join("\n---\n"))) }
    }

    /// What a line sends, if it sends something.
    fn sent(&self, line: &str) -> Option<Vec<u8>> {
        if let Some(text) = line.strip_prefix('>') {
            let mut bytes = self.expanded(text.strip_prefix(' ').unwrap_or(text), false);
            bytes.extend_from_slice(b"\r\n");
            return Some(bytes);
        }
        line.strip_prefix("~ ").map(|text| self.expanded(text, true))
    }

    fn expanded(&self, text: &str, escapes: bool) -> Vec<u8> {
        let sender = if self.door == "mx" { "joe@client.example" } else { "alice@waypost.test" };
        let mut text = text.replace("{case}", &self.word).replace("{sender}", sender);
        if text.contains("{login}") {
            let login = format!("\0alice@waypost.test\0{}", self.server.password());
            text = text.replace("{login}", &BASE64.encode(login));
        }
        expand(&text, escapes)
    }
}

/// Resolves `{N*x}`, and escapes where wanted.
fn expand(text: &str, escapes: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' if escapes => {
                let escape = rest.as_bytes()[0];
                rest = &rest[1..];
                out.push(match escape {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'0' => 0,
                    b'x' => {
                        let byte = u8::from_str_radix(&rest[..2], 16).expect("two hex digits");
                        rest = &rest[2..];
                        byte
                    }
                    other => other,
                });
            }
            '{' => match rest.split_once('}').and_then(|(inside, behind)| Some((inside.split_once('*')?, behind))) {
                Some(((count, what), behind)) => {
                    out.extend(expand(what, escapes).repeat(count.parse().expect("a count")));
                    rest = behind;
                }
                None => out.push(b'{'),
            },
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}
