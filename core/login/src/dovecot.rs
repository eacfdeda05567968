//! Dovecot's authentication socket (its auth-client protocol, version 1.x, as Postfix and Exim speak it).
//!
//! One connection for each login: Dovecot greets with what it can do, takes one `AUTH` line, and goes on with `CONT` lines until it says
//! `OK` or `FAIL`. PLAIN and LOGIN become one PLAIN request; every other mechanism is Dovecot's own, round by round. `nologin`
//! tells Dovecot that no IMAP session follows. Dovecot's own delay of refusals comes on top of ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use waypost_types::login::{AuthError, Authenticator, Credentials, Judged, Proof, Round, Rounds};
use waypost_types::{SessionFacts, Task};

/// A line of Dovecot's, with a token in it.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Lines of its greeting.
const GREETING_LINES_MAX: usize = 256;

/// The socket.
#[derive(Clone)]
pub struct Dovecot {
    options: Arc<DovecotOptions>,
}

/// Where it is.
#[derive(Clone, Debug)]
pub struct DovecotOptions {
    /// `auth-client`, usually in `/run/dovecot`.
    pub socket: PathBuf,
    /// What Dovecot is told that the login is for: `smtp`.
    pub service: String,
    /// For each answer.
    pub timeout: Duration,
}

impl Dovecot {
    /// A back end behind this socket.
    pub fn new(options: DovecotOptions) -> Dovecot {
        Dovecot { options: Arc::new(options) }
    }

    async fn plain(&self, identity: &str, password: &str, client: &SessionFacts) -> Judged {
        if identity.contains('\0') || password.contains('\0') {
            return Ok(None);
        }
        let message = format!("\0{identity}\0{password}").into_bytes();
        let mut line = Line::open(&self.options).await?;
        line.begin("PLAIN", client, Some(&message)).await?;
        match line.round().await? {
            Round::Granted(user) => Ok(Some(user)),
            Round::Denied(_) => Ok(None),
            Round::Challenge(_) => Err(trouble(&self.options.socket, "PLAIN is answered with a challenge")),
        }
    }
}

impl Authenticator for Dovecot {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials, client: &'a SessionFacts) -> Task<'a, Judged> {
        Box::pin(async move {
            match &credentials.proof {
                Proof::Password(password) => self.plain(&credentials.identity, password, client).await,
                _ => Ok(None),
            }
        })
    }

    fn begin(&self, mechanism: &'static str, client: &Arc<SessionFacts>) -> Result<Box<dyn Rounds>, AuthError> {
        let stage = Stage::Fresh(mechanism, client.clone());
        Ok(Box::new(Exchange { options: self.options.clone(), stage }))
    }
}

/// A mechanism of Dovecot's under way.
struct Exchange {
    options: Arc<DovecotOptions>,
    stage: Stage,
}

enum Stage {
    Fresh(&'static str, Arc<SessionFacts>),
    Talking(Box<Line>),
    Over,
}

impl Rounds for Exchange {
    fn handle(&mut self, response: Option<Vec<u8>>) -> Task<'_, Result<Round, AuthError>> {
        Box::pin(async move {
            let mut line = match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Fresh(mechanism, client) => {
                    let mut line = Line::open(&self.options).await?;
                    line.begin(mechanism, &client, response.as_deref()).await?;
                    line
                }
                Stage::Talking(mut line) => {
                    line.go_on(response.as_deref().unwrap_or_default()).await?;
                    *line
                }
                Stage::Over => return Err(trouble(&self.options.socket, "the exchange is over")),
            };
            let round = line.round().await?;
            if let Round::Challenge(_) = round {
                self.stage = Stage::Talking(Box::new(line));
            }
            Ok(round)
        })
    }
}

/// A connection with one request on it. Closing it cancels the request.
struct Line {
    stream: BufReader<UnixStream>,
    socket: PathBuf,
    service: String,
    timeout: Duration,
}

impl Line {
    /// Connects and exchanges greetings.
    async fn open(options: &DovecotOptions) -> Result<Line, AuthError> {
        let socket = options.socket.clone();
        let connecting = tokio::time::timeout(options.timeout, UnixStream::connect(&socket));
        let stream = match connecting.await {
            Ok(connected) => connected.map_err(|error| trouble(&socket, &error.to_string()))?,
            Err(_) => return Err(trouble(&socket, "nobody takes the connection")),
        };
        let mut line =
            Line { stream: BufReader::new(stream), socket, service: options.service.clone(), timeout: options.timeout };
        line.send(&format!("VERSION\t1\t2\nCPID\t{}\n", std::process::id())).await?;
        for _ in 0..GREETING_LINES_MAX {
            let text = line.receive().await?;
            let mut fields = text.split('\t');
            match fields.next() {
                Some("VERSION") if fields.next() != Some("1") => {
                    return Err(trouble(&line.socket, "it speaks another version of the protocol than 1"));
                }
                Some("DONE") => return Ok(line),
                _ => {}
            }
        }
        Err(trouble(&line.socket, "its greeting has no end"))
    }

    async fn begin(&mut self, mechanism: &str, client: &SessionFacts, initial: Option<&[u8]>) -> Result<(), AuthError> {
        let request = request(mechanism, &self.service, client, initial);
        self.send(&request).await
    }

    async fn go_on(&mut self, response: &[u8]) -> Result<(), AuthError> {
        self.send(&format!("CONT\t1\t{}\n", BASE64.encode(response))).await
    }

    /// What Dovecot says to our request.
    async fn round(&mut self) -> Result<Round, AuthError> {
        loop {
            let text = self.receive().await?;
            let mut fields = text.split('\t');
            let (word, id) = (fields.next().unwrap_or_default(), fields.next());
            if id != Some("1") {
                // Mechanisms that come later, other news.
                continue;
            }
            let fields: Vec<&str> = fields.collect();
            let value = |name: &str| fields.iter().find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            match word {
                "OK" => {
                    let user = value("user").filter(|user| !user.is_empty());
                    let user = user.ok_or_else(|| trouble(&self.socket, "a login without a user"))?;
                    return Ok(Round::Granted(unescape(user).into()));
                }
                "CONT" => {
                    let text = fields.first().copied().unwrap_or_default();
                    let challenge =
                        BASE64.decode(text).map_err(|_| trouble(&self.socket, "a challenge in no base64"))?;
                    return Ok(Round::Challenge(challenge));
                }
                "FAIL" if fields.contains(&"temp") || value("code") == Some("temp_fail") => {
                    return Err(trouble(&self.socket, "Dovecot's own back end fails; its log says why"));
                }
                "FAIL" => return Ok(Round::Denied(value("user").map(unescape))),
                _ => {}
            }
        }
    }

    async fn send(&mut self, text: &str) -> Result<(), AuthError> {
        let writing = tokio::time::timeout(self.timeout, self.stream.get_mut().write_all(text.as_bytes()));
        match writing.await {
            Ok(written) => written.map_err(|error| trouble(&self.socket, &error.to_string())),
            Err(_) => Err(trouble(&self.socket, "it does not read")),
        }
    }

    async fn receive(&mut self) -> Result<String, AuthError> {
        let mut text = String::new();
        let mut limited = (&mut self.stream).take(LINE_BYTES_MAX);
        match tokio::time::timeout(self.timeout, limited.read_line(&mut text)).await {
            Err(_) => Err(trouble(&self.socket, "no answer in time")),
            Ok(Err(error)) => Err(trouble(&self.socket, &error.to_string())),
            Ok(Ok(_)) => match text.strip_suffix('\n') {
                Some(line) => Ok(line.to_string()),
                None => Err(trouble(&self.socket, "it hangs up, or says too much")),
            },
        }
    }
}

/// `AUTH` with all that Dovecot may want to know: for its policies, its log, and `allow_nets`.
fn request(mechanism: &str, service: &str, client: &SessionFacts, initial: Option<&[u8]>) -> String {
    let SessionFacts { peer, local, .. } = client;
    let mut line = format!(
        "AUTH\t1\t{mechanism}\tservice={service}\tnologin\tlip={}\tlport={}\trip={}\trport={}",
        local.ip(),
        local.port(),
        peer.ip(),
        peer.port()
    );
    if let Some(tls) = &client.tls {
        line.push_str("\tsecured");
        if let Some(name) = &tls.server_name {
            line.push_str(&format!("\tlocal_name={}", escape(name)));
        }
        if let Some(certificate) = tls.client_certificate.as_ref().filter(|certificate| certificate.verified) {
            line.push_str("\tvalid-client-cert");
            if !certificate.common_name.is_empty() {
                line.push_str(&format!("\tcert_username={}", escape(&certificate.common_name)));
            }
        }
    }
    // It must be the last.
    if let Some(initial) = initial {
        line.push_str(&format!("\tresp={}", BASE64.encode(initial)));
    }
    line.push('\n');
    line
}

/// Dovecot's escapes of what would end a field or a line.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '\0' => out.push_str("\x010"),
            '\x01' => out.push_str("\x011"),
            '\t' => out.push_str("\x01t"),
            '\r' => out.push_str("\x01r"),
            '\n' => out.push_str("\x01n"),
            c => out.push(c),
        }
        out
    })
}

fn unescape(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        out.push(match (c, c == '\x01') {
            (_, true) => match chars.next() {
                Some('0') => '\0',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('n') => '\n',
                _ => '\x01',
            },
            (c, false) => c,
        });
    }
    out
}

fn trouble(socket: &Path, what: &str) -> AuthError {
    AuthError::Unavailable(format!("Dovecot at {}: {what}", socket.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_who_asks_from_where_and_the_message_last() {
        let mut client = SessionFacts::nobody();
        client.peer = "192.0.2.7:1234".parse().expect("an address");
        client.local = "[2001:db8::1]:587".parse().expect("an address");
        let line = request("PLAIN", "smtp", &client, Some(b"\0a\0b"));
        assert_eq!(
            line,
            "AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=2001:db8::1\tlport=587\trip=192.0.2.7\trport=1234\tresp=AGEAYg==\n"
        );
    }

    #[test]
    fn nothing_that_a_client_says_ends_a_field() {
        assert_eq!(escape("a\tb\nc\x01"), "a\x01tb\x01nc\x011");
        assert_eq!(unescape(&escape("a\tb\nc\x01\0")), "a\tb\nc\x01\0");
    }
}
