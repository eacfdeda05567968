//! LDAP (RFC 4511): a login is good if the directory lets its user bind with the password.
//!
//! Either the user's name makes the entry's name (`bind_dn`), or the entry is searched for first, as another user or as nobody; exactly
//! one entry must be found. What a client says goes into names escaped (RFC 4514) and into filters as a value. An empty password is
//! refused here: to a directory it would be no login but an anonymous one, and good (RFC 4513 §5.1.2). One connection for each
//! login, over `ldapi:`, `ldaps:`, or `ldap:` with or without StartTLS.

mod ber;
mod filter;

pub use filter::Filter;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use waypost_net::{ClientTls, Stream};
use waypost_types::login::{AuthError, Authenticator, Credentials, Judged, Proof};
use waypost_types::{Security, SessionFacts, Task};

use self::ber::{Reader, Writer};

/// An answer of the directory's.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Answers to one search.
const MESSAGES_MAX: usize = 64;
/// RFC 4511 §4.14.1.
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// Where the directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `ldap://host:port`; with `true` StartTLS comes first.
    Plain(String, u16, bool),
    /// `ldaps://host:port`
    Tls(String, u16),
    /// `ldapi://%2Fpath`
    Socket(PathBuf),
}

impl Place {
    /// Reads an address; `start_tls` concerns `ldap:` alone.
    pub fn parse(url: &str, start_tls: bool) -> Option<Place> {
        let (scheme, rest) = url.split_once("://")?;
        let rest = rest.trim_end_matches('/');
        let host = |port: u16| -> Option<(String, u16)> {
            let (host, port) = match rest.rsplit_once(':') {
                Some((host, number)) if !number.ends_with(']') => (host, number.parse().ok()?),
                _ => (rest, port),
            };
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            (!host.is_empty() && !host.contains(['/', '?', '@'])).then(|| (host.to_string(), port))
        };
        match scheme {
            "ldap" => host(389).map(|(host, port)| Place::Plain(host, port, start_tls)),
            "ldaps" => host(636).map(|(host, port)| Place::Tls(host, port)),
            "ldapi" if rest.is_empty() => Some(Place::Socket("/run/slapd/ldapi".into())),
            "ldapi" => Some(Place::Socket(rest.replace("%2F", "/").replace("%2f", "/").into())),
            _ => None,
        }
    }
}

/// How an entry is found.
#[derive(Clone, Debug)]
pub enum Finding {
    /// Its name is this with the identity in it: `uid=%u,ou=people,dc=example,dc=com`.
    Template(String),
    /// It is searched for.
    Search {
        /// Below this entry.
        base: String,
        /// With this filter.
        filter: Filter,
        /// As this user, with this password; as nobody without.
        bind: Option<(String, String)>,
        /// The attribute that is the user's name from then on; without it the identity is.
        user: Option<String>,
    },
}

/// The directory.
#[derive(Clone)]
pub struct Ldap {
    /// Where it is.
    pub place: Place,
    /// How entries are found.
    pub finding: Finding,
    /// Whom TLS trusts.
    pub tls: ClientTls,
    /// For everything that one login needs.
    pub timeout: Duration,
}

impl Ldap {
    async fn check(&self, identity: &str, password: &str) -> Judged {
        if password.is_empty() {
            return Ok(None);
        }
        let checking = tokio::time::timeout(self.timeout, self.bind_as(identity, password));
        match checking.await {
            Ok(Ok(user)) => Ok(user.map(Into::into)),
            Ok(Err(Trouble(what))) => Err(self.trouble(&what)),
            Err(_) => Err(self.trouble("no answer in time")),
        }
    }

    async fn bind_as(&self, identity: &str, password: &str) -> Result<Option<String>, Trouble> {
        let mut line = self.connect().await?;
        let found = match &self.finding {
            Finding::Template(template) => {
                let name = fill(template.as_bytes(), identity, |text| escape_name(text).into_bytes());
                Some((String::from_utf8(name).expect("text put into text is text"), identity.to_string()))
            }
            Finding::Search { base, filter, bind, user } => {
                if let Some((name, password)) = bind {
                    line.bind(name, password).await?.then_some(()).ok_or_else(|| {
                        Trouble(format!("{name}, who searches, cannot log in: correct the name and password"))
                    })?;
                }
                line.search(base, filter, user.as_deref(), identity).await?
            }
        };
        // Nobody was found: the directory is put to the same work with an entry that is not there.
        let (name, user) = match found {
            Some((name, user)) => (name, Some(user)),
            None => ("cn=nobody".to_string(), None),
        };
        let good = line.bind(&name, password).await?;
        line.unbind().await;
        Ok(user.filter(|_| good))
    }

    async fn connect(&self) -> Result<Line, Trouble> {
        match &self.place {
            Place::Socket(path) => Ok(Line::new(Box::new(UnixStream::connect(path).await?))),
            Place::Tls(host, port) => self.secure(tcp(host, *port).await?, host).await,
            Place::Plain(host, port, false) => Ok(Line::new(tcp(host, *port).await?)),
            Place::Plain(host, port, true) => {
                let mut line = Line::new(tcp(host, *port).await?);
                line.start_tls().await?;
                self.secure(line.stream, host).await
            }
        }
    }

    async fn secure(&self, stream: Box<dyn Stream>, host: &str) -> Result<Line, Trouble> {
        Ok(Line::new(self.tls.connect(stream, host, &Security::Verified).await?.0))
    }

    fn trouble(&self, what: &str) -> AuthError {
        let place = match &self.place {
            Place::Plain(host, port, _) | Place::Tls(host, port) => format!("{host}:{port}"),
            Place::Socket(path) => path.display().to_string(),
        };
        AuthError::Unavailable(format!("LDAP at {place}: {what}"))
    }
}

impl Authenticator for Ldap {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials, _client: &'a SessionFacts) -> Task<'a, Judged> {
        Box::pin(async move {
            match &credentials.proof {
                Proof::Password(password) => self.check(&credentials.identity, password).await,
                _ => Ok(None),
            }
        })
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
    Ok(Box::new(TcpStream::connect((host, port)).await?))
}

/// Why the directory could not be asked.
struct Trouble(String);

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble(error.to_string())
    }
}

fn nonsense() -> Trouble {
    Trouble("its answer makes no sense".into())
}

/// A connection.
struct Line {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    last: u32,
}

impl Line {
    fn new(stream: Box<dyn Stream>) -> Line {
        Line { stream, input: Vec::new(), last: 0 }
    }

    async fn send(&mut self, tag: u8, fill: impl FnOnce(&mut Writer)) -> io::Result<()> {
        self.last += 1;
        let mut message = Writer::default();
        message.nest(0x30, |out| {
            out.number(0x02, self.last);
            out.nest(tag, fill);
        });
        self.stream.write_all(&message.finish()).await?;
        self.stream.flush().await
    }

    /// The next answer to the last request: its tag and content.
    async fn receive(&mut self) -> Result<(u8, Vec<u8>), Trouble> {
        loop {
            if let Some(size) = ber::whole(&self.input) {
                if size > MESSAGE_BYTES_MAX {
                    return Err(nonsense());
                }
                if size <= self.input.len() {
                    let message: Vec<u8> = self.input.drain(..size).collect();
                    let mut reader = Reader(Reader(&message).expect(0x30).ok_or_else(nonsense)?);
                    let id = reader.number(0x02).ok_or_else(nonsense)?;
                    let (tag, content) = reader.next().ok_or_else(nonsense)?;
                    match id {
                        // RFC 4511 §4.4.1: it is about to hang up.
                        0 => return Err(Trouble("it ends the connection".into())),
                        id if id == self.last => return Ok((tag, content.to_vec())),
                        _ => continue,
                    }
                }
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(Trouble("it hangs up".into()));
            }
        }
    }

    /// Whether the directory lets this entry in.
    async fn bind(&mut self, name: &str, password: &str) -> Result<bool, Trouble> {
        self.send(0x60, |out| {
            out.number(0x02, 3);
            out.text(name);
            out.octets(0x80, password.as_bytes());
        })
        .await?;
        let (tag, content) = self.receive().await?;
        match (tag, result(&content)?) {
            (0x61, (0, _)) => Ok(true),
            // invalidCredentials; noSuchObject, invalidDNSyntax, inappropriateAuthentication (no password there), unwillingToPerform
            // and constraintViolation (the account is locked): refusals all of them.
            (0x61, (49 | 32 | 34 | 48 | 53 | 19 | 50, _)) => Ok(false),
            (0x61, (code, words)) => Err(Trouble(format!("bind: result {code} {words}"))),
            _ => Err(nonsense()),
        }
    }

    /// The one entry that the filter finds, and the user's name; `None` if there is not exactly one.
    async fn search(
        &mut self,
        base: &str,
        filter: &Filter,
        user: Option<&str>,
        identity: &str,
    ) -> Result<Option<(String, String)>, Trouble> {
        self.send(0x63, |out| {
            out.text(base);
            out.number(0x0a, 2);
            out.number(0x0a, 0);
            // Two are enough to know that there is not exactly one.
            out.number(0x02, 2);
            out.number(0x02, 10);
            out.octets(0x01, &[0]);
            filter.write(out, identity);
            // `1.1`: no attributes (RFC 4511 §4.5.1.8).
            out.nest(0x30, |out| out.text(user.unwrap_or("1.1")));
        })
        .await?;
        let mut found = Vec::new();
        for _ in 0..MESSAGES_MAX {
            let (tag, content) = self.receive().await?;
            match tag {
                0x64 => found.push(entry(&content, user, identity).ok_or_else(nonsense)?),
                0x73 => {}
                0x65 => {
                    return match result(&content)? {
                        // Success, sizeLimitExceeded; noSuchObject: the base is not there.
                        (0 | 4, _) => Ok(if found.len() == 1 { found.pop().flatten() } else { None }),
                        (32, _) => Err(Trouble(format!("there is no entry {base}: correct the base"))),
                        (code, words) => Err(Trouble(format!("search: result {code} {words}"))),
                    };
                }
                _ => return Err(nonsense()),
            }
        }
        Err(nonsense())
    }

    async fn start_tls(&mut self) -> Result<(), Trouble> {
        self.send(0x77, |out| out.octets(0x80, START_TLS)).await?;
        let (tag, content) = self.receive().await?;
        let (code, words) = result(&content)?;
        match (tag, code) {
            // Nothing that came before TLS may be read after it.
            (0x78, 0) if self.input.is_empty() => Ok(()),
            (0x78, 0) => Err(nonsense()),
            _ => Err(Trouble(format!("StartTLS: result {code} {words}"))),
        }
    }

    async fn unbind(&mut self) {
        // A courtesy (RFC 4511 §4.3): an empty request without answer.
        self.last += 1;
        let mut message = Writer::default();
        message.nest(0x30, |out| {
            out.number(0x02, self.last);
            out.octets(0x42, &[]);
        });
        let _ = self.stream.write_all(&message.finish()).await;
        let _ = self.stream.shutdown().await;
    }
}

/// Code and words of an LDAPResult.
fn result(content: &[u8]) -> Result<(u32, String), Trouble> {
    let mut reader = Reader(content);
    let code = reader.number(0x0a).ok_or_else(nonsense)?;
    let _matched = reader.expect(0x04).ok_or_else(nonsense)?;
    let words = reader.expect(0x04).ok_or_else(nonsense)?;
    Ok((code, String::from_utf8_lossy(words).into_owned()))
}

/// An entry's name and its user's; `Some(None)` if the entry lacks the attribute that names the user.
fn entry(content: &[u8], user: Option<&str>, identity: &str) -> Option<Option<(String, String)>> {
    let mut reader = Reader(content);
    let name = reader.text()?.to_string();
    let Some(wanted) = user else { return Some(Some((name, identity.to_string()))) };
    let mut attributes = Reader(reader.expect(0x30)?);
    while let Some((0x30, attribute)) = attributes.next() {
        let mut attribute = Reader(attribute);
        if attribute.text()?.eq_ignore_ascii_case(wanted) {
            let value = Reader(attribute.expect(0x31)?).text();
            return Some(value.map(|value| (name, value.to_string())));
        }
    }
    Some(None)
}

/// Puts an identity into a template: `%s` is all of it, `%u` what stands before the last `@`, `%d` what stands behind it, `%%` a percent sign.
fn fill(template: &[u8], identity: &str, escape: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let (user, domain) = identity.rsplit_once('@').unwrap_or((identity, ""));
    let mut out = Vec::with_capacity(template.len() + identity.len());
    let mut bytes = template.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(b's') => out.extend(escape(identity)),
            Some(b'u') => out.extend(escape(user)),
            Some(b'd') => out.extend(escape(domain)),
            Some(b'%') => out.push(b'%'),
            Some(other) => out.extend([b'%', *other]),
            None => out.push(b'%'),
        }
    }
    out
}

/// A value inside an entry's name (RFC 4514 §2.4): everything that might be syntax as hex.
fn escape_name(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if plain(c) {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|byte| out.push_str(&format!("\\{byte:02x}")));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        assert_eq!(Place::parse("ldap://dir.test", true), Some(Place::Plain("dir.test".into(), 389, true)));
        assert_eq!(Place::parse("ldaps://[::1]:1636/", false), Some(Place::Tls("::1".into(), 1636)));
        assert_eq!(Place::parse("ldapi://%2Frun%2Fx", false), Some(Place::Socket("/run/x".into())));
        for url in ["dir.test", "http://x", "ldap://", "ldap://a/b", "ldap://a:x"] {
            assert_eq!(Place::parse(url, false), None, "{url}");
        }
    }

    #[test]
    fn identities_go_into_names_as_values() {
        let filled = |template: &str, identity: &str| {
            String::from_utf8(fill(template.as_bytes(), identity, |text| escape_name(text).into_bytes())).expect("text")
        };
        assert_eq!(filled("uid=%u,dc=%d", "alice@own.test"), "uid=alice,dc=own.test");
        assert_eq!(filled("uid=%u,dc=x", "a,cn=admin+b"), "uid=a\\2ccn\\3dadmin\\2bb,dc=x");
        assert_eq!(filled("uid=%s%%", "ü x"), "uid=ü\\20x%");
    }
}
