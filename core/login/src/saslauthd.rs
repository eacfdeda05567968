//! saslauthd's socket: passwords checked by PAM, Kerberos or whatever it was started with.
//!
//! One connection for each login: user, password, service and realm, each as a big-endian length of 16 bits and so many octets; the
//! answer, in the same form, begins with `OK` or `NO`.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use waypost_types::login::{AuthError, Authenticator, Credentials, Judged, Proof};
use waypost_types::{SessionFacts, Task};

/// What saslauthd itself takes (`MAX_REQ_LEN`).
const FIELD_BYTES_MAX: usize = 256;

/// The socket.
#[derive(Clone, Debug)]
pub struct Saslauthd {
    /// `mux`, usually in `/run/saslauthd`.
    pub socket: PathBuf,
    /// The PAM service: `smtp`.
    pub service: String,
    /// For each step.
    pub timeout: Duration,
}

impl Saslauthd {
    async fn check(&self, identity: &str, password: &str) -> Judged {
        // The realm is sent apart: saslauthd puts it back with -r.
        let (user, realm) = identity.rsplit_once('@').unwrap_or((identity, ""));
        let Some(request) = request([user, password, &self.service, realm]) else { return Ok(None) };
        let asking = tokio::time::timeout(self.timeout, self.ask(&request));
        let answer = match asking.await {
            Ok(answer) => answer.map_err(|error| self.trouble(&error.to_string()))?,
            Err(_) => return Err(self.trouble("no answer in time")),
        };
        match answer.get(..2) {
            Some(b"OK") => Ok(Some(identity.into())),
            // An internal failure is a `NO` too, and says so.
            Some(b"NO") if String::from_utf8_lossy(&answer).contains("internal") => {
                Err(self.trouble("it fails inside"))
            }
            Some(b"NO") => Ok(None),
            _ => Err(self.trouble("its answer is neither OK nor NO")),
        }
    }

    async fn ask(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(request).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    fn trouble(&self, what: &str) -> AuthError {
        AuthError::Unavailable(format!("saslauthd at {}: {what}", self.socket.display()))
    }
}

impl Authenticator for Saslauthd {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials, _client: &'a SessionFacts) -> Task<'a, Judged> {
        Box::pin(async move {
            match &credentials.proof {
                Proof::Password(password) => self.check(&credentials.identity, password).await,
                _ => Ok(None),
            }
        })
    }
}

/// The request; `None` if saslauthd would not take it.
fn request(fields: [&str; 4]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for field in fields {
        if field.len() > FIELD_BYTES_MAX || field.contains('\0') {
            return None;
        }
        out.extend_from_slice(&u16::try_from(field.len()).ok()?.to_be_bytes());
        out.extend_from_slice(field.as_bytes());
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted() {
        assert_eq!(request(["al", "p", "smtp", ""]).as_deref(), Some(&b"\0\x02al\0\x01p\0\x04smtp\0\0"[..]));
        assert_eq!(request(["a\0b", "p", "smtp", ""]), None);
        assert_eq!(request([&"x".repeat(257), "p", "smtp", ""]), None);
    }
}
