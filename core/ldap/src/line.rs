//! One connection to a directory: bind, search, StartTLS, unbind (RFC 4511).

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use waypost_net::Stream;

use crate::ber::{self, Reader, Writer};
use crate::filter::Filter;

/// An answer of the directory's.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Answers to one search.
const MESSAGES_MAX: usize = 256;
/// RFC 4511 §4.14.1.
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// What a search may cost the directory.
const SEARCH_SECONDS_MAX: u32 = 10;

/// Why the directory could not be asked.
#[derive(Debug)]
pub(crate) struct Trouble(pub(crate) String);

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble(error.to_string())
    }
}

pub(crate) fn nonsense() -> Trouble {
    Trouble("its answer makes no sense".into())
}

/// A connection.
pub(crate) struct Line {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    last: u32,
}

impl Line {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Line {
        Line { stream, input: Vec::new(), last: 0 }
    }

    /// What is beneath, for TLS to take over.
    pub(crate) fn into_stream(self) -> Box<dyn Stream> {
        self.stream
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
    pub(crate) async fn bind(&mut self, name: &str, password: &str) -> Result<bool, Trouble> {
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

    /// The entries below `base` that a filter finds with this identity in its places, with one attribute or none; at most `most` of them
    /// are asked for, and what goes beyond is no error.
    pub(crate) async fn search(
        &mut self,
        base: &str,
        filter: &Filter,
        identity: &str,
        attribute: Option<&str>,
        most: u32,
    ) -> Result<Vec<Found>, Trouble> {
        self.send(0x63, |out| {
            out.text(base);
            out.number(0x0a, 2);
            out.number(0x0a, 0);
            out.number(0x02, most);
            out.number(0x02, SEARCH_SECONDS_MAX);
            out.octets(0x01, &[0]);
            filter.write(out, identity);
            // `1.1`: no attributes (RFC 4511 §4.5.1.8).
            out.nest(0x30, |out| out.text(attribute.unwrap_or("1.1")));
        })
        .await?;
        let mut found = Vec::new();
        for _ in 0..MESSAGES_MAX {
            let (tag, content) = self.receive().await?;
            match tag {
                0x64 => found.push(entry(&content, attribute).ok_or_else(nonsense)?),
                // A reference to another directory is not followed.
                0x73 => {}
                0x65 => {
                    return match result(&content)? {
                        // Success, sizeLimitExceeded; noSuchObject: the base is not there.
                        (0 | 4, _) => Ok(found),
                        (32, _) => Err(Trouble(format!("there is no entry {base}: correct the base"))),
                        (code, words) => Err(Trouble(format!("search: result {code} {words}"))),
                    };
                }
                _ => return Err(nonsense()),
            }
        }
        Err(nonsense())
    }

    pub(crate) async fn start_tls(&mut self) -> Result<(), Trouble> {
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

    pub(crate) async fn unbind(&mut self) {
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

/// An entry that was found: its name, and the values of the attribute that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) values: Vec<String>,
}

/// Reads a SearchResultEntry (RFC 4511 §4.5.2).
pub(crate) fn entry(content: &[u8], attribute: Option<&str>) -> Option<Found> {
    let mut reader = Reader(content);
    let mut found = Found { name: reader.text()?.to_string(), values: Vec::new() };
    let Some(wanted) = attribute else { return Some(found) };
    let mut attributes = Reader(reader.expect(0x30)?);
    while let Some((0x30, attribute)) = attributes.next() {
        let mut attribute = Reader(attribute);
        if attribute.text()?.eq_ignore_ascii_case(wanted) {
            let mut values = Reader(attribute.expect(0x31)?);
            while let Some(value) = values.text() {
                found.values.push(value.to_string());
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_with_all_values_of_one_attribute() {
        let mut out = Writer::default();
        out.text("uid=a,dc=x");
        out.nest(0x30, |out| {
            for (name, values) in [("cn", &["A"][..]), ("MAIL", &["a@x.test", "b@x.test"])] {
                out.nest(0x30, |out| {
                    out.text(name);
                    out.nest(0x31, |out| values.iter().for_each(|value| out.text(value)));
                });
            }
        });
        let bytes = out.finish();
        let found = |values: &[&str]| Found {
            name: "uid=a,dc=x".into(),
            values: values.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(entry(&bytes, Some("mail")), Some(found(&["a@x.test", "b@x.test"])));
        assert_eq!(entry(&bytes, Some("sn")), Some(found(&[])));
        assert_eq!(entry(&bytes, None), Some(found(&[])));
        assert_eq!(entry(&bytes[..5], None), None);
    }
}
