//! A table in Redis (or Valkey, KeyDB …): `GET prefix+key`.
//!
//! The protocol is RESP2, of which a look-up needs four reply types, so there is no client library in between. A question takes a kept
//! connection or makes one; a kept one that turns out to be dead is replaced once, within the same deadline. The key is in lower case.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use waypost_types::Soon;
use waypost_types::port::{Found, Table};

use crate::{failed, folded};

/// Connections that are kept.
const KEPT_MAX: usize = 16;
/// Octets of one value.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Octets of a line of the protocol.
const LINE_BYTES_MAX: u64 = 4096;

/// Where to ask, and what.
#[derive(Clone)]
pub struct RedisOptions {
    /// `host:port`, or the path of a socket.
    pub server: String,
    /// A user of Redis's ACL; the default user if `None`.
    pub user: Option<String>,
    /// The password, if there is one.
    pub password: Option<String>,
    /// The database's number.
    pub database: u64,
    /// What stands in front of every key.
    pub prefix: String,
    /// For one question, connecting included.
    pub timeout: Duration,
}

/// The table.
pub struct RedisTable {
    name: String,
    options: RedisOptions,
    idle: Mutex<Vec<Line>>,
}

impl std::fmt::Debug for RedisTable {
    /// Never shows the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisTable({} {})", self.name, self.options.server)
    }
}

/// A connection.
type Line = BufReader<Box<dyn Wire>>;

trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}

/// Why a question failed.
enum Trouble {
    /// The connection: another may do.
    Broken(String),
    /// The server said no.
    Said(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        Trouble::Broken(error.to_string())
    }
}

impl RedisTable {
    /// A table; asks nothing yet.
    pub fn new(name: &str, options: RedisOptions) -> RedisTable {
        RedisTable { name: name.to_string(), options, idle: Mutex::default() }
    }

    async fn ask(&self, key: &str) -> Result<Option<String>, Trouble> {
        let key = format!("{}{}", self.options.prefix, folded(key));
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(line) = kept {
            match self.get(line, &key).await {
                // Redis closes what has been idle for long.
                Err(Trouble::Broken(_)) => {}
                answer => return answer,
            }
        }
        let line = self.connect().await?;
        self.get(line, &key).await
    }

    async fn get(&self, mut line: Line, key: &str) -> Result<Option<String>, Trouble> {
        let answer = command(&mut line, &["GET", key]).await;
        if !matches!(answer, Err(Trouble::Broken(_))) {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < KEPT_MAX {
                idle.push(line);
            }
        }
        answer
    }

    async fn connect(&self) -> Result<Line, Trouble> {
        let server = &self.options.server;
        let wire: Box<dyn Wire> = if server.starts_with('/') {
            Box::new(UnixStream::connect(server).await?)
        } else {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        };
        let mut line = BufReader::new(wire);
        if let Some(password) = &self.options.password {
            match &self.options.user {
                Some(user) => command(&mut line, &["AUTH", user, password]).await?,
                None => command(&mut line, &["AUTH", password]).await?,
            };
        }
        if self.options.database != 0 {
            command(&mut line, &["SELECT", &self.options.database.to_string()]).await?;
        }
        Ok(line)
    }
}

impl Table for RedisTable {
    fn lookup<'a>(&'a self, key: &'a str) -> Soon<'a, Found<'a>> {
        Soon::Later(Box::pin(async move {
            match tokio::time::timeout(self.options.timeout, self.ask(key)).await {
                Ok(Ok(value)) => Ok(value.map(Cow::Owned)),
                Ok(Err(Trouble::Said(why) | Trouble::Broken(why))) => Err(failed(&self.name, why)),
                Err(_) => Err(failed(&self.name, "no answer in time")),
            }
        }))
    }
}

/// Sends a command and reads its reply.
async fn command(line: &mut Line, words: &[&str]) -> Result<Option<String>, Trouble> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    line.get_mut().write_all(&out).await?;
    line.get_mut().flush().await?;
    reply(line).await
}

/// `+OK`, `-ERR …`, `:1` or `$3` with its octets.
async fn reply(line: &mut Line) -> Result<Option<String>, Trouble> {
    let mut head = Vec::new();
    (&mut *line).take(LINE_BYTES_MAX).read_until(b'\n', &mut head).await?;
    let head = head.strip_suffix(b"\r\n").ok_or_else(|| Trouble::Broken("the connection was closed".to_string()))?;
    let head = String::from_utf8_lossy(head).into_owned();
    let rest = head.get(1..).unwrap_or("");
    match head.as_bytes().first() {
        Some(b'+' | b':') => Ok(Some(rest.to_string())),
        Some(b'-') => Err(Trouble::Said(rest.to_string())),
        Some(b'$') if rest == "-1" => Ok(None),
        Some(b'$') => bulk(line, rest).await.map(Some),
        _ => Err(Trouble::Broken("it does not speak Redis's protocol".to_string())),
    }
}

async fn bulk(line: &mut Line, length: &str) -> Result<String, Trouble> {
    let length: usize = length.parse().map_err(|_| Trouble::Broken("a reply without a length".to_string()))?;
    if length > VALUE_BYTES_MAX {
        return Err(Trouble::Broken(format!("a value of {length} octets is too large")));
    }
    let mut value = vec![0; length + 2];
    line.read_exact(&mut value).await?;
    value.truncate(length);
    String::from_utf8(value).map_err(|_| Trouble::Broken("a value that is no UTF-8".to_string()))
}
