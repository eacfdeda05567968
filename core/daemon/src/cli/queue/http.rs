//! One request to the admin interface of a running server. Blocking, bounded, HTTP/1.1 as our own server speaks it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Octets of an answer: a thousand entries of a thousand recipients fit.
const ANSWER_BYTES_MAX: u64 = 512 << 20;
const TIMEOUT: Duration = Duration::from_secs(60);

/// An answer.
pub(crate) struct Answer {
    /// HTTP's status.
    pub(crate) status: u16,
    /// The JSON body.
    pub(crate) body: Value,
}

/// Asks, sending `body`. `None` if nobody listens there.
pub(crate) fn ask(server: SocketAddr, token: &str, method: &str, path: &str, body: &[u8]) -> Result<Option<Answer>> {
    let Ok(mut stream) = TcpStream::connect_timeout(&server, Duration::from_secs(2)) else { return Ok(None) };
    stream
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)))
        .context("a timeout")?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut answer = Vec::new();
    stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.write_all(body))
        .and_then(|()| stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer))
        .with_context(|| format!("the server at {server} does not answer"))?;
    parse(&answer).with_context(|| format!("what answers at {server} is not Waypost's admin interface")).map(Some)
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no end of the header")?;
    let head = std::str::from_utf8(&answer[..end]).context("the header is no text")?;
    if head.to_ascii_lowercase().contains("\r\ntransfer-encoding:") {
        bail!("a chunked answer");
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    let body = serde_json::from_slice(&answer[end + 4..]).context("the body is no JSON")?;
    Ok(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer = parse(b"HTTP/1.1 404 Not Found\r\ncontent-length: 13\r\n\r\n{\"error\":\"x\"}").expect("fine");
        assert_eq!((answer.status, answer.body["error"].as_str()), (404, Some("x")));
        for bad in [&b"220 mx ESMTP\r\n"[..], b"HTTP/1.1 200 OK\r\n\r\n<html>", b""] {
            assert!(parse(bad).is_err());
        }
    }
}
