//! An HTTP client, small and strict: verified certificates alone, no redirects, a bound on the answer. For MTA-STS policies (RFC 8461 §3.3 forbids
//! redirects, and so does the trait), which come over HTTPS or not at all, and for mail that is handed to a program.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use waypost_net::{ClientTls, Stream};
use waypost_resolve::Resolver;
use waypost_types::port::{Dns, DnsType, Fetch, FetchRequest, FetchResponse};
use waypost_types::{Security, Task};

/// Octets of an answer.
const BODY_BYTES_MAX: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses tried.
const ADDRESSES_MAX: usize = 4;

/// See the head of this page.
pub(crate) struct Https {
    pub(crate) resolver: Resolver,
    pub(crate) tls: ClientTls,
    /// Plain HTTP, too, where an address says so: for programs of our own.
    pub(crate) plain: bool,
}

impl Fetch for Https {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> Task<'a, Result<FetchResponse, String>> {
        Box::pin(async move {
            let exchange = tokio::time::timeout(request.timeout, self.exchange(request));
            exchange.await.unwrap_or_else(|_| Err(format!("{}: no answer in time", request.url)))
        })
    }
}

impl Https {
    async fn exchange(&self, request: &FetchRequest) -> Result<FetchResponse, String> {
        let (secure, host, port, path) = parts(&request.url)?;
        if !secure && !self.plain {
            return Err(format!("{}: not over HTTPS", request.url));
        }
        let stream: Box<dyn Stream> = Box::new(self.connect(host, port).await?);
        let stream = match secure {
            true => self.tls.connect(stream, host, &Security::Verified).await.map_err(words)?.0,
            false => stream,
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
        // It ends with the exchange: the sender is dropped then.
        let driver = tokio::spawn(connection);
        let mut builder = Request::builder().method(request.method.as_str()).uri(path).header(HOST, host);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let asked = builder.body(Full::new(Bytes::from(request.body.clone()))).map_err(words)?;
        let answer = sender.send_request(asked).await.map_err(words)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        driver.abort();
        let text = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let headers = head.headers.iter().map(text).collect();
        Ok(FetchResponse { status: head.status.as_u16(), headers, body: body.to_bytes().to_vec() })
    }

    async fn connect(&self, host: &str, port: u16) -> Result<tokio::net::TcpStream, String> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            let connected = waypost_net::connect(SocketAddr::new(address, port), None, CONNECT_TIMEOUT).await;
            return connected.map_err(words);
        }
        let (v4, v6) = tokio::join!(self.resolver.lookup(host, DnsType::A), self.resolver.lookup(host, DnsType::Aaaa));
        let records = [&v4, &v6].into_iter().flatten().flat_map(|answer| &answer.records);
        let addresses: Vec<IpAddr> = records.filter_map(|record| record.parse().ok()).take(ADDRESSES_MAX).collect();
        let mut last = v4.err().map_or_else(|| format!("{host} has no address"), |error| format!("{host}: {error}"));
        for address in addresses {
            match waypost_net::connect(SocketAddr::new(address, port), None, CONNECT_TIMEOUT).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Whether inside TLS, host, port and path of an absolute address.
fn parts(url: &str) -> Result<(bool, &str, u16, &str), String> {
    let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(format!("{url}: no HTTP address")),
    };
    let (place, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    match place.rsplit_once(':').filter(|_| !place.ends_with(']')) {
        Some((host, port)) => Ok((secure, host, port.parse().map_err(|_| format!("{url}: no port"))?, path)),
        None => Ok((secure, place, if secure { 443 } else { 80 }, path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(
            parts("https://mta-sts.a.example/.well-known/x"),
            Ok((true, "mta-sts.a.example", 443, "/.well-known/x"))
        );
        assert_eq!(parts("https://a.example:8443"), Ok((true, "a.example", 8443, "/")));
        assert_eq!(parts("http://[::1]:80/x"), Ok((false, "[::1]", 80, "/x")));
        assert_eq!(parts("http://[::1]"), Ok((false, "[::1]", 80, "/")));
        assert!(parts("ftp://a.example/").is_err() && parts("https://a.example:x/").is_err());
    }
}
