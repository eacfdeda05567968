//! Runs the dialogs in `tests/dialogs`; their form is described in the README there.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::BytesMut;
use waypost_smtp::extension::Extension;
use waypost_smtp::sasl::{Mechanism, NONCE_BYTES};
use waypost_smtp::server::{Action, Answer, Ask, AuthMode, BareNewline, Impatience, Policy, Session, TlsMode};
use waypost_types::login::{Proof, ScramKeys};
use waypost_types::{Enhanced, Reply, SessionFacts, SessionId, Timestamp, TlsFacts, Transport};

#[test]
fn every_dialog_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "dialog"));
    paths.sort();
    assert!(paths.len() > 50, "the dialogs are missing");
    let mut failures = String::new();
    for path in &paths {
        let script = Script::parse(&std::fs::read_to_string(path).unwrap());
        for octets in [false, true] {
            if octets && script.cuts_matter {
                continue;
            }
            if let Err(error) = Run::new(&script, octets).play(&script) {
                let how = if octets { ", octet by octet" } else { "" };
                writeln!(failures, "{}{how}: {error}", path.file_name().unwrap().display()).unwrap();
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// A dialog, read.
struct Script {
    policy: Policy,
    tls: bool,
    trusted: bool,
    cuts_matter: bool,
    answers: Vec<(String, String)>,
    body: Vec<(usize, String)>,
}

impl Script {
    fn parse(text: &str) -> Script {
        let mut script = Script {
            policy: Policy::mx("mx.example.com"),
            tls: false,
            trusted: false,
            cuts_matter: false,
            answers: Vec::new(),
            body: Vec::new(),
        };
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
            let word = line.split_once(':').map_or("", |(word, _)| word);
            let rest = line.get(word.len() + 1..).unwrap_or("").trim_start();
            match word {
                _ if line.starts_with('#') || line.is_empty() => {}
                _ if !script.body.is_empty() => script.body.push((number, line.to_string())),
                "preset" => script.preset(rest),
                "set" => set(&mut script.policy, rest),
                "tls" => script.tls = rest == "up",
                "trusted" => script.trusted = rest == "yes",
                "mechanisms" => {
                    script.policy.auth_relayed = rest.starts_with("relayed ");
                    let names = rest.split(' ').filter(|name| *name != "relayed");
                    script.policy.auth_mechanisms =
                        names.map(|name| Mechanism::from_name(name).expect("a mechanism")).collect();
                }
                "cuts" => script.cuts_matter = rest == "matter",
                "answer" => {
                    let (to, answer) = rest.split_once('=').expect("answer: question = reply");
                    script.answers.push((to.trim().to_string(), answer.trim().to_string()));
                }
                _ => script.body.push((number, line.to_string())),
            }
        }
        script.policy.check().expect("a policy that makes sense");
        script
    }

    fn preset(&mut self, name: &str) {
        let make = match name {
            "mx" => Policy::mx,
            "submission" => Policy::submission,
            "submissions" => Policy::submissions,
            "lmtp" => Policy::lmtp,
            "relay" => Policy::relay,
            other => panic!("no preset {other}"),
        };
        self.policy = make("mx.example.com");
        self.tls |= self.policy.tls == TlsMode::Implicit;
    }
}

fn set(policy: &mut Policy, setting: &str) {
    let (name, value) = setting.split_once('=').expect("set: name=value");
    let number = || value.parse::<usize>().expect("a number");
    let impatience = || if value == "refuse" { Impatience::Refuse } else { Impatience::Ignore };
    match name {
        "tls" => {
            policy.tls = match value {
                "none" => TlsMode::None,
                "required" => TlsMode::Required,
                other => panic!("no TLS mode {other}"),
            }
        }
        "auth" => {
            policy.auth = match value {
                "offered" => AuthMode::OfferedInsideTls,
                "required" => AuthMode::RequiredInsideTls,
                "clear" => AuthMode::DangerouslyOfferedInClear,
                other => panic!("no AUTH mode {other}"),
            }
        }
        "bare_newline" => policy.bare_newline = BareNewline::Refuse,
        "pregreet" => policy.pregreet = impatience(),
        "unauthorised_pipelining" => policy.unauthorised_pipelining = impatience(),
        "helo_required" => policy.helo_required = value == "true",
        "strict_paths" => policy.strict_paths = value == "true",
        "message_bytes_max" => policy.message_bytes_max = number(),
        "recipients_max" => policy.recipients_max = number(),
        "messages_max" => policy.messages_max = number() as u32,
        "errors_max" => policy.errors_max = number() as u32,
        "idle_commands_max" => policy.idle_commands_max = number() as u32,
        "auth_failures_max" => policy.auth_failures_max = number() as u32,
        "tarpit_errors" => policy.tarpit_errors = number() as u32,
        "greeting_delay" => policy.greeting_delay = Duration::from_secs(number() as u64),
        "offer" => policy.extensions = policy.extensions.with(Extension::from_keyword(value).expect("a keyword")),
        "mask" => policy.extensions = policy.extensions.without(Extension::from_keyword(value).expect("a keyword")),
        other => panic!("no setting {other}"),
    }
}

/// A session that is being talked to.
struct Run {
    session: Session,
    now: Instant,
    octets: bool,
    answers: Vec<(String, String)>,
    input: BytesMut,
    /// What the server has said and nobody has looked at.
    said: VecDeque<String>,
    /// Replies that are exempt from the rule of enhanced codes: the greeting and the answers to HELO, EHLO, LHLO.
    greeted: bool,
    hello_due: bool,
    sends: usize,
    asked: VecDeque<String>,
    body: Vec<u8>,
    resets: usize,
    handshake: bool,
    paused: Duration,
    closed: Option<String>,
}

type Outcome = Result<(), String>;

impl Run {
    fn new(script: &Script, octets: bool) -> Run {
        let peer = "192.0.2.1:40000".parse().unwrap();
        let facts = SessionFacts {
            id: SessionId::new(1),
            transport: Transport::Mx,
            peer,
            local: "192.0.2.25:25".parse().unwrap(),
            peer_name: None,
            helo: "".into(),
            esmtp: false,
            tls: script.tls.then(tls_facts),
            user: None,
            trusted: script.trusted,
        };
        let now = Instant::now();
        let mut session = Session::new(Arc::new(script.policy.clone()), facts, now);
        // 2026-11-24T06:11:10Z
        session.set_clock(now, Timestamp(1_795_500_670_000));
        Run {
            session,
            now,
            octets,
            answers: script.answers.clone(),
            input: BytesMut::new(),
            said: VecDeque::new(),
            greeted: false,
            hello_due: false,
            sends: 0,
            asked: VecDeque::new(),
            body: Vec::new(),
            resets: 0,
            handshake: false,
            paused: Duration::ZERO,
            closed: None,
        }
    }

    fn play(mut self, script: &Script) -> Outcome {
        // A dialog that begins with the client's words is about speaking before the greeting.
        let early = script.body.first().is_some_and(|(_, line)| line.starts_with('C'));
        if !early {
            self.drive()?;
        }
        let mut lines = script.body.iter().peekable();
        while let Some((number, line)) = lines.next() {
            let at = |error| format!("line {number}: {error}");
            if !line.starts_with("C:") && !line.starts_with("C~") {
                self.step(line).map_err(at)?;
                continue;
            }
            let mut write = sent(line);
            while let Some((_, more)) = lines.next_if(|(_, line)| line.starts_with("C:") || line.starts_with("C~")) {
                write.extend(sent(more));
            }
            self.client_writes(&write).map_err(at)?;
        }
        self.quiet()
    }

    fn client_writes(&mut self, bytes: &[u8]) -> Outcome {
        self.quiet()?;
        self.sends = 0;
        if !self.octets {
            self.input.extend_from_slice(bytes);
            return self.drive();
        }
        for byte in bytes {
            self.input.extend_from_slice(&[*byte]);
            self.drive()?;
        }
        Ok(())
    }

    /// Lets the session do what it can, as the server's loop does.
    fn drive(&mut self) -> Outcome {
        loop {
            self.hello_due |=
                self.input.to_ascii_uppercase().windows(4).any(|w| [&b"EHLO"[..], b"HELO", b"LHLO"].contains(&w));
            self.session.handle_input(self.now, &mut self.input);
            let mut answered = false;
            while let Some(action) = self.session.poll_action() {
                answered |= self.act(action)?;
            }
            if !answered {
                return Ok(());
            }
        }
    }

    fn act(&mut self, action: Action) -> Result<bool, String> {
        if let Some(reason) = &self.closed {
            return Err(format!("after the end ({reason}): {action:?}"));
        }
        match action {
            Action::Send(bytes) => {
                self.sends += 1;
                let text = std::str::from_utf8(&bytes).map_err(|_| "not UTF-8")?;
                let text = text.strip_suffix("\r\n").ok_or("a reply without CRLF")?;
                for line in text.split("\r\n") {
                    self.check_enhanced(line)?;
                    self.said.push_back(line.to_string());
                }
            }
            Action::Ask(_, Ask::Reset) => {
                self.resets += 1;
                self.body.clear();
            }
            Action::Ask(ticket, ask) => {
                let (name, argument) = name(&ask);
                self.greeted &= name != "proxied";
                self.asked.push_back(format!("{name} {argument}").trim_end().to_string());
                let answer = self.answer(name, &argument, &ask);
                self.session.handle_answer(self.now, ticket, answer);
                return Ok(true);
            }
            Action::Body(bytes) => self.body.extend_from_slice(&bytes),
            Action::StartTls => self.handshake = true,
            Action::Pause(span) => {
                self.now += span;
                self.paused += span;
            }
            Action::Close(reason) => self.closed = Some(format!("{reason:?}").to_lowercase()),
        }
        Ok(false)
    }

    /// RFC 2034: every reply has its enhanced code but the greeting, EHLO's, 334 and 354.
    fn check_enhanced(&mut self, line: &str) -> Outcome {
        let code = line.get(..3).ok_or("a reply without a code")?;
        let text = line.get(4..).unwrap_or("");
        let enhanced = Enhanced::parse_prefix(text);
        match (code, enhanced) {
            ("334" | "354", None) => Ok(()),
            ("220", None) if !std::mem::replace(&mut self.greeted, true) => Ok(()),
            ("250", None) if self.hello_due => {
                self.hello_due = line.as_bytes()[3] == b'-';
                Ok(())
            }
            (code, Some((Enhanced(class, ..), _))) if code.as_bytes()[0] == b'0' + class => Ok(()),
            _ => Err(format!("wrong enhanced code: {line}")),
        }
    }

    fn answer(&self, name: &str, argument: &str, ask: &Ask) -> Answer {
        let exact = format!("{name} {argument}");
        let found = self.answers.iter().find(|(to, _)| *to == exact || to == name);
        match (found, ask) {
            (Some((_, words)), _) => answer(words),
            (None, Ask::Auth(credentials)) if credentials.password() == Some("pencil") => {
                Answer::Granted(credentials.identity.as_str().into())
            }
            (None, Ask::Auth(credentials)) if credentials.proof == Proof::Exchanged(true) => {
                Answer::Granted(credentials.identity.as_str().into())
            }
            (None, Ask::Auth(_)) => Answer::Denied,
            (None, Ask::Keys(_)) => Answer::Keys(pencil_keys(), [7; NONCE_BYTES]),
            (None, Ask::Round(true, ..)) => Answer::Challenge(b"hello".to_vec()),
            (None, Ask::Round(_, _, Some(message))) if message == b"alice" => Answer::Granted("alice".into()),
            (None, Ask::Round(..)) => Answer::Denied,
            (None, Ask::Message) => Answer::Reply(reply("250 2.0.0 queued as 1")),
            (None, _) => Answer::Yes,
        }
    }

    fn step(&mut self, line: &str) -> Outcome {
        let (word, rest) =
            line.split_once([':', '~', ' ']).map_or((line, ""), |(word, rest)| (word, rest.trim_start()));
        match word {
            "S" if line.starts_with("S~") => self.expect_reply(rest),
            "S" => self.expect(rest),
            "--" => Ok(()),
            "NOTHING" => self.quiet(),
            "SENDS" if self.octets => Ok(()),
            "SENDS" => same(&rest.parse().unwrap(), &self.sends),
            "ASKED" => {
                while let Some(asked) = self.asked.pop_front() {
                    if asked == rest {
                        return Ok(());
                    }
                }
                Err(format!("not asked: {rest}"))
            }
            "NOT" => {
                let unwanted = rest.strip_prefix("ASKED: ").expect("NOT ASKED: question");
                let found = self.asked.iter().find(|asked| asked.starts_with(unwanted));
                found.map_or(Ok(()), |asked| Err(format!("asked: {asked}")))
            }
            "BODY" => {
                same(&String::from_utf8(expand(rest, true)).unwrap(), &String::from_utf8_lossy(&self.body).into_owned())
            }
            "RESET" => {
                let resets = std::mem::take(&mut self.resets);
                if resets > 0 { Ok(()) } else { Err("no reset".to_string()) }
            }
            "FACT" => self.fact(rest),
            "TLS" => self.start_tls(),
            "WAIT" => self.wait(Duration::from_secs(rest.parse().unwrap())),
            "EOF" => {
                self.session.handle_eof(self.now);
                self.drive()
            }
            "SHUTDOWN" => {
                self.session.handle_shutdown(self.now);
                self.drive()
            }
            "CLOSED" => {
                self.quiet()?;
                same(&Some(rest.to_string()), &self.closed)
            }
            "PRESSED" => {
                self.session.set_pressed(rest == "yes");
                Ok(())
            }
            "PAUSED" => same(&rest.to_string(), &std::mem::take(&mut self.paused).as_millis().to_string()),
            "OPEN" => same(&None, &self.closed),
            other => panic!("no such line: {other}"),
        }
    }

    fn expect(&mut self, want: &str) -> Outcome {
        let got = self.said.pop_front().ok_or_else(|| format!("nothing was said instead of {want}"))?;
        let matches = want.strip_suffix('*').map_or(got == want, |front| got.starts_with(front));
        if matches { Ok(()) } else { Err(format!("want {want}\n     got {got}")) }
    }

    fn expect_reply(&mut self, code: &str) -> Outcome {
        loop {
            let got = self.said.pop_front().ok_or_else(|| format!("no whole {code} reply"))?;
            match got.strip_prefix(code).and_then(|rest| rest.chars().next()) {
                Some('-') => {}
                Some(' ') => return Ok(()),
                _ => return Err(format!("want a {code} reply\n     got {got}")),
            }
        }
    }

    fn quiet(&self) -> Outcome {
        if self.said.is_empty() { Ok(()) } else { Err(format!("not expected: {:?}", self.said)) }
    }

    fn fact(&self, rest: &str) -> Outcome {
        let facts = self.session.facts();
        let (name, want) = rest.split_once('=').expect("FACT: name=value");
        let got = match name {
            "helo" => facts.helo.to_string(),
            "esmtp" => facts.esmtp.to_string(),
            "peer" => facts.peer.ip().to_string(),
            "name" => facts.peer_name.as_deref().unwrap_or("").to_string(),
            "forwarded" => format!("{:?}", self.session.forwarded().map(|f| (f.address, &f.helo))),
            "user" => facts.user.as_deref().unwrap_or("").to_string(),
            "tls" => facts.tls.is_some().to_string(),
            other => panic!("no fact {other}"),
        };
        same(&want.to_string(), &got)
    }

    fn start_tls(&mut self) -> Outcome {
        if !std::mem::take(&mut self.handshake) {
            return Err("no handshake is wanted".to_string());
        }
        self.session.handle_tls(self.now, tls_facts());
        self.drive()
    }

    fn wait(&mut self, span: Duration) -> Outcome {
        let until = self.now + span;
        while let Some(deadline) = self.session.poll_timeout().filter(|deadline| *deadline <= until) {
            self.now = deadline.max(self.now);
            self.session.handle_timeout(self.now);
            self.drive()?;
        }
        self.now = until;
        Ok(())
    }
}

/// The keys of `pencil`, salted as RFC 7677 §3 does.
fn pencil_keys() -> ScramKeys {
    let key = |text: &str| BASE64.decode(text).expect("base64").try_into().expect("32 octets");
    ScramKeys {
        iterations: 4096,
        salt: BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64").into(),
        stored_key: key("WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="),
        server_key: key("wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="),
    }
}

fn tls_facts() -> Arc<TlsFacts> {
    Arc::new(TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384".to_string(),
        server_name: None,
        client_certificate: None,
        exporter: Some(Arc::from(&b"exported"[..])),
        resumed: false,
    })
}

fn same<T: PartialEq + std::fmt::Debug>(want: &T, got: &T) -> Outcome {
    if want == got { Ok(()) } else { Err(format!("want {want:?}\n     got {got:?}")) }
}

fn name(ask: &Ask) -> (&'static str, String) {
    match ask {
        Ask::Connect => ("connect", String::new()),
        Ask::Proxied => ("proxied", String::new()),
        Ask::Helo => ("helo", String::new()),
        Ask::Auth(credentials) => ("auth", credentials.identity.clone()),
        Ask::Keys(identity) => ("keys", identity.clone()),
        Ask::Round(first, mechanism, message) => {
            let text = message.as_deref().map_or("nothing".into(), String::from_utf8_lossy);
            ("round", format!("{} {mechanism} {text}", if *first { "first" } else { "next" }))
        }
        Ask::Mail(sender, _) => ("mail", sender.to_string()),
        Ask::Rcpt(recipient) => ("rcpt", recipient.address.to_string()),
        Ask::Data => ("data", String::new()),
        Ask::Message => ("message", String::new()),
        Ask::Reset => ("reset", String::new()),
    }
}

/// `550 5.7.1 no`, `close 550 5.7.1 no`, `each 250 2.0.0 yes | 550 5.0.0 no`.
fn answer(words: &str) -> Answer {
    if let Some(replies) = words.strip_prefix("each ") {
        return Answer::Each(replies.split('|').map(|words| reply(words.trim())).collect());
    }
    words.strip_prefix("close ").map_or_else(|| Answer::Reply(reply(words)), |words| Answer::Close(reply(words)))
}

fn reply(words: &str) -> Reply {
    let (code, rest) = words.split_once(' ').expect("code and text");
    let (enhanced, text) = Enhanced::parse_prefix(rest).expect("an enhanced code");
    Reply::new(code.parse().unwrap(), enhanced, text.to_string())
}

fn sent(line: &str) -> Vec<u8> {
    let text = line[2..].strip_prefix(' ').unwrap_or(&line[2..]);
    if line.starts_with("C~") {
        return expand(text, true);
    }
    let mut bytes = expand(text, false);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Resolves `{N*x}`, and escapes where wanted.
fn expand(text: &str, escapes: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' if escapes => {
                let escape = rest.chars().next().expect("a letter after the backslash");
                rest = &rest[1..];
                match escape {
                    'r' => out.push(b'\r'),
                    'n' => out.push(b'\n'),
                    't' => out.push(b'\t'),
                    '0' => out.push(0),
                    '\\' => out.push(b'\\'),
                    'x' => {
                        out.push(u8::from_str_radix(&rest[..2], 16).expect("two hex digits"));
                        rest = &rest[2..];
                    }
                    other => panic!("no escape {other}"),
                }
            }
            '{' => {
                let (inside, behind) = rest.split_once('}').expect("{N*text}");
                let (count, what) = inside.split_once('*').expect("{N*text}");
                out.extend(expand(what, escapes).repeat(count.parse().expect("a count")));
                rest = behind;
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}
