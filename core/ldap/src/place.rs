//! Where a directory is: `ldapi:`, `ldaps:`, or `ldap:` with or without StartTLS.

use std::fmt;
use std::io;
use std::path::PathBuf;

use tokio::net::{TcpStream, UnixStream};
use waypost_net::{ClientTls, Stream};
use waypost_types::Security;

use crate::line::{Line, Trouble};

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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Plain(host, port, _) | Place::Tls(host, port) => write!(f, "{host}:{port}"),
            Place::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A directory: its place, and whom TLS trusts there.
#[derive(Clone)]
pub struct Directory {
    /// Where it is.
    pub place: Place,
    /// Whom TLS trusts.
    pub tls: ClientTls,
}

impl Directory {
    pub(crate) async fn connect(&self) -> Result<Line, Trouble> {
        match &self.place {
            Place::Socket(path) => Ok(Line::new(Box::new(UnixStream::connect(path).await?))),
            Place::Tls(host, port) => self.secure(tcp(host, *port).await?, host).await,
            Place::Plain(host, port, false) => Ok(Line::new(tcp(host, *port).await?)),
            Place::Plain(host, port, true) => {
                let mut line = Line::new(tcp(host, *port).await?);
                line.start_tls().await?;
                self.secure(line.into_stream(), host).await
            }
        }
    }

    async fn secure(&self, stream: Box<dyn Stream>, host: &str) -> Result<Line, Trouble> {
        Ok(Line::new(self.tls.connect(stream, host, &Security::Verified).await?.0))
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
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
}
