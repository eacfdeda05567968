//! Introspection (RFC 7662): the server that gave a token is asked whether it is good. A POST on a connection of its own, over TLS with a
//! verified certificate unless the operator has written `http:`; everything in bounded time and size.

use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use waypost_net::{ClientTls, Stream};
use waypost_types::Security;
use waypost_types::login::AuthError;

/// What an answer may have.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where to ask, and as whom.
#[derive(Clone)]
pub struct IntrospectionOptions {
    /// `https://id.example.com/oauth2/introspect`
    pub url: String,
    /// The client's name and secret, for Basic authentication.
    pub client: Option<(String, String)>,
    /// For everything together.
    pub timeout: Duration,
}

/// A server that can be asked.
pub struct Introspection {
    options: IntrospectionOptions,
    tls: ClientTls,
    target: Target,
}

#[derive(Debug, PartialEq, Eq)]
struct Target {
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

impl Introspection {
    /// `tls` says which authorities are trusted. The error says what is wrong with the address.
    pub fn new(options: IntrospectionOptions, tls: ClientTls) -> Result<Introspection, String> {
        let target = parse(&options.url).ok_or_else(|| {
            format!("{} is no address: write https://HOST/PATH, or http:// for a server on this host", options.url)
        })?;
        Ok(Introspection { options, tls, target })
    }

    /// What the server says of a token; `None` if it is not active.
    pub(super) async fn ask(&self, token: &str) -> Result<Option<Value>, AuthError> {
        let trouble = |what: String| AuthError::Unavailable(format!("{}: {what}", self.options.url));
        let exchange = tokio::time::timeout(self.options.timeout, self.exchange(token));
        let answer = exchange.await.map_err(|_| trouble("no answer in time".into()))?;
        let answer = answer.map_err(|error| trouble(error.to_string()))?;
        let body = body(&answer).map_err(trouble)?;
        let said: Value = serde_json::from_slice(&body).map_err(|error| trouble(format!("no JSON: {error}")))?;
        Ok(Some(said).filter(|said| said.get("active") == Some(&Value::Bool(true))))
    }

    async fn exchange(&self, token: &str) -> io::Result<Vec<u8>> {
        let Target { secure, host, port, .. } = &self.target;
        let connection = tokio::net::TcpStream::connect((host.as_str(), *port)).await?;
        let mut stream: Box<dyn Stream> = Box::new(connection);
        if *secure {
            stream = self.tls.connect(stream, host, &Security::Verified).await?.0;
        }
        stream.write_all(self.request(token).as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        match stream.take(ANSWER_BYTES_MAX as u64).read_to_end(&mut answer).await {
            // A server that does not say goodbye inside TLS; whether all is here is told by its length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            read => drop(read?),
        }
        Ok(answer)
    }

    fn request(&self, token: &str) -> String {
        let form = format!("token={}&token_type_hint=access_token", encode(token));
        let Target { host, port, path, .. } = &self.target;
        let authorization = self.options.client.as_ref().map_or(String::new(), |(name, secret)| {
            format!("Authorization: Basic {}\r\n", BASE64.encode(format!("{}:{}", encode(name), encode(secret))))
        });
        format!(
            "POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: waypost\r\nAccept: application/json\r\n{authorization}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{form}",
            form.len()
        )
    }
}

/// Percent-encoding of everything that RFC 3986 does not leave alone.
fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

fn parse(url: &str) -> Option<Target> {
    let (secure, rest) = match url.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("http://")?),
    };
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    let path = if path.is_empty() { "/" } else { path };
    let default_port = if secure { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, default_port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let fine = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'@');
    (!host.is_empty() && fine(host) && fine(path)).then(|| Target {
        secure,
        host: host.to_string(),
        port,
        path: path.to_string(),
    })
}

/// The body of a whole answer with status 200.
fn body(answer: &[u8]) -> Result<Vec<u8>, String> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("the answer is no HTTP, or too long")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")).unwrap_or_default();
    if status.get(1..5) != Some(" 200") {
        return Err(format!("it answers {}", status.get(2..).unwrap_or("nonsense")));
    }
    let fields: Vec<(String, &str)> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
    let rest = &answer[end + 4..];
    if field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return chunks(rest).ok_or_else(|| "the answer is cut short".into());
    }
    match field("content-length").map(str::parse::<usize>) {
        Some(Ok(length)) if length <= rest.len() => Ok(rest[..length].to_vec()),
        Some(_) => Err("the answer is cut short".into()),
        None => Ok(rest.to_vec()),
    }
}

/// RFC 9112 §7.1.
fn chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_net::ClientTlsOptions;

    #[test]
    fn addresses_are_read() {
        let target = parse("https://id.test/introspect?x=1").expect("an address");
        assert_eq!(
            (target.secure, &*target.host, target.port, &*target.path),
            (true, "id.test", 443, "/introspect?x=1")
        );
        assert_eq!(
            parse("http://[::1]:8080").map(|t| (t.host, t.port, t.path)),
            Some(("::1".into(), 8080, "/".into()))
        );
        for url in ["ftp://x/", "https://", "https://a b/", "http://x:y/", "http://u@x/"] {
            assert_eq!(parse(url), None, "{url}");
        }
    }

    #[test]
    fn answers_are_read_whole_or_not() {
        let answer = |head: &str, rest: &str| body(format!("{head}\r\n\r\n{rest}").as_bytes());
        assert_eq!(answer("HTTP/1.1 200 OK\r\nContent-Length: 2", "{}x"), Ok(b"{}".to_vec()));
        let chunked = answer("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked", "1;x=y\r\n{\r\n1\r\n}\r\n0\r\n\r\n");
        assert_eq!(chunked, Ok(b"{}".to_vec()));
        assert!(answer("HTTP/1.1 200 OK\r\nContent-Length: 9", "{}").is_err());
        assert!(answer("HTTP/1.1 401 Unauthorized", "{}").is_err_and(|error| error.contains("401")));
        assert!(body(b"SSH-2.0").is_err());
    }

    #[tokio::test]
    async fn a_server_is_asked_over_a_real_socket() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/introspect", listener.local_addr().expect("an address"));
        let serve = tokio::spawn(async move {
            let mut seen = Vec::new();
            for text in [r#"{"active":true,"username":"alice"}"#, r#"{"active":false}"#, "oops"] {
                let (mut stream, _) = listener.accept().await.expect("a client");
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.expect("a request");
                seen.push(String::from_utf8_lossy(&request[..read]).into_owned());
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                stream.write_all(answer.as_bytes()).await.expect("written");
            }
            seen
        });
        let client = Some(("us".to_string(), "s&cret".to_string()));
        let options = IntrospectionOptions { url, client, timeout: Duration::from_secs(5) };
        let tls = ClientTls::new(ClientTlsOptions::default()).expect("usable");
        let server = Introspection::new(options, tls).expect("an address");
        let said = server.ask("to/ken").await.expect("an answer").expect("active");
        assert_eq!(said["username"], "alice");
        assert_eq!(server.ask("other").await, Ok(None));
        assert!(matches!(server.ask("third").await, Err(AuthError::Unavailable(_))));
        let seen = serve.await.expect("served");
        assert!(seen[0].contains("token=to%2Fken&"), "{}", seen[0]);
        assert!(seen[0].contains(&format!("Basic {}", BASE64.encode("us:s%26cret"))), "{}", seen[0]);
        assert!(matches!(server.ask("gone").await, Err(AuthError::Unavailable(_))));
    }
}
