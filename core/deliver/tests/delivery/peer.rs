//! A peer that keeps to a script: ordinary answers, except where the script says otherwise.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use waypost_net::{ServerTls, Stream};

/// What to do instead of the ordinary thing.
pub enum Act {
    Say(&'static str),
    SayAndClose(&'static str),
    Close,
    /// Never answer again.
    Hang,
    /// The ordinary thing, but after a while.
    Dally(Duration),
}

/// At which connection (from 0), which transaction of it (from 0), what was said: `connect`, a command line, `.`, or `idle` after each
/// transaction.
pub type Script = Box<dyn Fn(usize, usize, &str) -> Option<Act> + Send + Sync>;

pub struct Peer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Script,
    keywords: &'static [&'static str],
    tls: Option<ServerTls>,
    lmtp: bool,
    log: Mutex<Vec<String>>,
    messages: Mutex<Vec<String>>,
}

impl Peer {
    pub async fn new(script: impl Fn(usize, usize, &str) -> Option<Act> + Send + Sync + 'static) -> Peer {
        Peer::with(&["PIPELINING", "8BITMIME"], None, false, script).await
    }

    pub async fn with(
        keywords: &'static [&'static str],
        tls: Option<ServerTls>,
        lmtp: bool,
        script: impl Fn(usize, usize, &str) -> Option<Act> + Send + Sync + 'static,
    ) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            keywords,
            tls,
            lmtp,
            log: Mutex::default(),
            messages: Mutex::default(),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let shared = serving.clone();
                tokio::spawn(async move { shared.serve(connection, Box::new(stream)).await });
            }
        });
        Peer { address, shared }
    }

    /// The same at a unix socket of this path; speaks LMTP.
    pub async fn at_socket(
        path: &std::path::Path,
        script: impl Fn(usize, usize, &str) -> Option<Act> + Send + Sync + 'static,
    ) -> Peer {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            keywords: &["PIPELINING"],
            tls: None,
            lmtp: true,
            log: Mutex::default(),
            messages: Mutex::default(),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let shared = serving.clone();
                tokio::spawn(async move { shared.serve(connection, Box::new(stream)).await });
            }
        });
        Peer { address: "127.0.0.1:0".parse().unwrap(), shared }
    }

    /// Every line that was said to it, as `connection: line`.
    pub fn log(&self) -> Vec<String> {
        self.shared.log.lock().unwrap().clone()
    }

    pub fn said(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.split_once(": ").unwrap().1.starts_with(text)).count()
    }

    /// Waits until something was said so often.
    pub async fn until(&self, text: &str, count: usize) {
        let wait = async {
            while self.said(text) < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait)
            .await
            .unwrap_or_else(|_| panic!("{text}: {:#?}", self.log()));
    }

    /// Messages as they came, still stuffed.
    pub fn messages(&self) -> Vec<String> {
        self.shared.messages.lock().unwrap().clone()
    }
}

impl Shared {
    async fn serve(&self, connection: usize, stream: Box<dyn Stream>) -> Option<()> {
        let mut stream = BufReader::new(stream);
        let (mut transaction, mut recipients, mut secure) = (0, 0, false);
        self.answer(&mut stream, connection, transaction, "connect", "220 peer ESMTP").await?;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            self.log.lock().unwrap().push(format!("{connection}: {line}"));
            let verb = line.split([' ', ':']).next().unwrap().to_ascii_uppercase();
            let usual = match verb.as_str() {
                "EHLO" | "LHLO" => self.ehlo(secure),
                "STARTTLS" => "220 go ahead".to_string(),
                "MAIL" => {
                    recipients = 0;
                    "250 2.1.0 ok".to_string()
                }
                "RCPT" => "250 2.1.5 ok".to_string(),
                "DATA" if recipients == 0 => "554 5.5.1 no valid recipients".to_string(),
                "DATA" => "354 go ahead".to_string(),
                "QUIT" => "221 bye".to_string(),
                _ => "250 ok".to_string(),
            };
            let said = self.answer(&mut stream, connection, transaction, line, &usual).await?;
            match verb.as_str() {
                "RCPT" if said.starts_with('2') => recipients += 1,
                "STARTTLS" if said.starts_with('2') => {
                    let (inner, _) = self.tls.as_ref().unwrap().accept(stream.into_inner()).await.ok()?;
                    (stream, secure) = (BufReader::new(inner), true);
                }
                "DATA" if said.starts_with('3') => {
                    self.message(&mut stream).await?;
                    for _ in 0..if self.lmtp { recipients } else { 1 } {
                        self.answer(&mut stream, connection, transaction, ".", "250 2.0.0 taken").await?;
                    }
                    self.idle(&mut stream, connection, transaction).await?;
                    transaction += 1;
                }
                "QUIT" => return None,
                _ => {}
            }
        }
    }

    fn ehlo(&self, secure: bool) -> String {
        let mut lines = vec!["250-peer".to_string()];
        lines.extend(
            self.keywords.iter().filter(|word| !(secure && **word == "STARTTLS")).map(|word| format!("250-{word}")),
        );
        lines.push("250 HELP".to_string());
        lines.join("\r\n")
    }

    async fn message(&self, stream: &mut BufReader<Box<dyn Stream>>) -> Option<()> {
        let mut message = String::new();
        loop {
            let from = message.len();
            if stream.read_line(&mut message).await.ok()? == 0 {
                return None;
            }
            if &message[from..] == ".\r\n" {
                message.truncate(from);
                self.messages.lock().unwrap().push(message);
                return Some(());
            }
        }
    }

    async fn idle(&self, stream: &mut BufReader<Box<dyn Stream>>, connection: usize, transaction: usize) -> Option<()> {
        match (self.script)(connection, transaction, "idle") {
            Some(_) => self.answer(stream, connection, transaction, "idle", "").await.map(|_| ()),
            None => Some(()),
        }
    }

    async fn answer(
        &self,
        stream: &mut BufReader<Box<dyn Stream>>,
        connection: usize,
        transaction: usize,
        heard: &str,
        usual: &str,
    ) -> Option<String> {
        let (text, close) = match (self.script)(connection, transaction, heard) {
            None => (usual.to_string(), false),
            Some(Act::Say(text)) => (text.to_string(), false),
            Some(Act::SayAndClose(text)) => (text.to_string(), true),
            Some(Act::Close) => return None,
            Some(Act::Hang) => return std::future::pending().await,
            Some(Act::Dally(span)) => {
                tokio::time::sleep(span).await;
                (usual.to_string(), false)
            }
        };
        stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        if close { None } else { Some(text) }
    }
}
