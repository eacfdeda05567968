//! `waypost send`: a message into a server over SMTP, from standard input or made up.

use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use waypost_config::Config;
use waypost_config::model::{AuthMode, TlsMode};
use waypost_net::{ClientTls, ClientTlsOptions, Stream};
use waypost_smtp::client::{Action, Client, Options, TlsUse, Transaction};
use waypost_types::{
    Address, MailParameters, Message, MessageId, Recipient, Reply, ReversePath, Security, Transport, header,
};

use super::{Common, reachable};
use crate::observe::now;

/// Octets that are read from standard input.
const MESSAGE_BYTES_MAX: u64 = waypost_types::limits::MESSAGE_BYTES_MAX as u64;

/// Sends a message through the local server: one from standard input, or a test message.
#[derive(Args)]
#[command(
    after_help = "The server is the `mx` listener of the configuration, or its submission listener when --user is given. What is sent has been accepted, \
    not delivered: `waypost queue list` and the log tell the rest.\n\n\
    Examples:\n  waypost send alice@waypost.test\n  waypost send -f bob@example.com -t alice@waypost.test < message.eml\n  \
    waypost send --user alice --password-file waypost-data/demo-password -f alice@waypost.test someone@example.com"
)]
pub(crate) struct Arguments {
    /// Envelope sender; empty for the null sender
    #[arg(long, short, value_name = "ADDRESS", default_value = "postmaster@localhost.localdomain")]
    from: String,
    /// Recipients
    #[arg(required = true, value_name = "TO")]
    to: Vec<Address>,
    /// Subject of a test message
    #[arg(long, default_value = "A test message from Waypost")]
    subject: String,
    /// Text of a test message; standard input is not read then
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// Another server
    #[arg(long, value_name = "ADDRESS:PORT")]
    server: Option<SocketAddr>,
    /// Log in as this user, inside TLS
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// The file with the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<std::path::PathBuf>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    let config = arguments.common.load_without_plugins()?;
    let sender = match arguments.from.as_str() {
        "" | "<>" => ReversePath::Null,
        text => ReversePath::Mailbox(text.parse().map_err(|error| anyhow!("--from {text}: {error}"))?),
    };
    let (server, tls) = choose_server(arguments, &config)?;
    let options = Options {
        tls,
        credentials: credentials(arguments)?,
        loopback: server.ip().is_loopback(),
        ..Options::new(config.hostname.as_str().into())
    };
    let transaction = Transaction {
        message: Message::new(message(arguments)?),
        sender,
        parameters: MailParameters {
            smtputf8: arguments.to.iter().any(|to| !to.is_ascii()),
            ..MailParameters::default()
        },
        recipients: arguments.to.iter().cloned().map(Recipient::new).collect(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let replies = runtime.block_on(carry(server, options, transaction))?;
    report(&arguments.to, &replies)
}

fn report(to: &[Address], replies: &[Reply]) -> Result<()> {
    for (address, reply) in to.iter().zip(replies) {
        println!("{address}: {reply}");
    }
    let refused = replies.iter().filter(|reply| !reply.is_positive()).count();
    if refused > 0 { bail!("{refused} of {} recipients were not accepted", to.len()) } else { Ok(()) }
}

/// The listener that takes such mail, and how it speaks.
fn choose_server(arguments: &Arguments, config: &Config) -> Result<(SocketAddr, TlsUse)> {
    let wanted = |transport| match arguments.user {
        Some(_) => matches!(transport, Transport::Submission | Transport::Submissions),
        None => matches!(transport, Transport::Mx | Transport::Relay),
    };
    let listener = config.listeners.iter().find(|l| match arguments.server {
        Some(server) => l.bind.contains(&server),
        None => wanted(l.transport) && (arguments.user.is_none() || l.auth != AuthMode::Off),
    });
    let tls = match listener.map(|listener| listener.tls) {
        Some(TlsMode::Implicit) => TlsUse::Implicit,
        Some(TlsMode::Required) => TlsUse::Required,
        Some(TlsMode::None) => TlsUse::Never,
        Some(TlsMode::Opportunistic) | None => TlsUse::Opportunistic,
    };
    let bound = listener.and_then(|listener| listener.bind.first().copied());
    let Some(server) = arguments.server.or(bound) else {
        bail!("the configuration has no listener that takes this; name one with --server ADDRESS:PORT");
    };
    Ok((reachable(server), tls))
}

type Credentials = (Arc<str>, Arc<str>);

fn credentials(arguments: &Arguments) -> Result<Option<Credentials>> {
    let (Some(user), Some(file)) = (&arguments.user, &arguments.password_file) else { return Ok(None) };
    let password = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Some((user.as_str().into(), password.trim_end().into())))
}

/// The message with CRLF line ends: standard input's if there is any, a test message otherwise.
fn message(arguments: &Arguments) -> Result<Bytes> {
    let mut text = Vec::new();
    if arguments.body.is_none() && !std::io::stdin().is_terminal() {
        std::io::stdin().lock().take(MESSAGE_BYTES_MAX + 1).read_to_end(&mut text).context("reading the message")?;
    }
    if text.len() as u64 > MESSAGE_BYTES_MAX {
        bail!("the message is larger than {MESSAGE_BYTES_MAX} octets");
    }
    if text.is_empty() {
        text = test_message(arguments).into_bytes();
    }
    Ok(with_crlf(&text))
}

fn test_message(arguments: &Arguments) -> String {
    let now = now();
    let id = MessageId::new(now, u64::from(std::process::id()));
    let to = arguments.to.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let from = if arguments.from.is_empty() { "postmaster@localhost.localdomain" } else { &arguments.from };
    let body = arguments.body.as_deref().unwrap_or("If you can read this, mail works.");
    let subject = arguments.subject.replace(['\r', '\n'], " ");
    format!(
        "From: <{from}>\nTo: {to}\nSubject: {subject}\nDate: {}\nMessage-ID: <{id}@waypost.invalid>\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{body}\n",
        now.rfc5322()
    )
}

/// Every line end becomes CRLF, the last line gets one, and a text without a header gets an empty one.
fn with_crlf(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + text.len() / 32);
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
    }
    if header::fields(&out).next().is_none() && !out.starts_with(b"\r\n") {
        out.splice(..0, *b"\r\n");
    }
    out.into()
}

/// One connection, one transaction; a reply for each recipient.
async fn carry(server: SocketAddr, options: Options, transaction: Transaction) -> Result<Vec<Reply>> {
    let tls = ClientTls::new(ClientTlsOptions::default())?;
    let connected = waypost_net::connect(server, None, Duration::from_secs(30)).await;
    let stream = connected.with_context(|| format!("no server answers at {server}; start one with `waypost run`"))?;
    let mut stream: Box<dyn Stream> = Box::new(stream);
    if options.tls == TlsUse::Implicit {
        stream = tls.connect(stream, &options.name, &Security::Encrypted).await?.0;
    }
    let (name, mut transaction) = (options.name.clone(), Some(transaction));
    let mut client = Client::new(options, Instant::now());
    let mut input = BytesMut::new();
    let mut replies = Vec::new();
    loop {
        while let Some(action) = client.poll_action() {
            match action {
                Action::Send(pieces) => {
                    for piece in pieces {
                        stream.write_all(&piece).await?;
                    }
                    stream.flush().await?;
                    client.handle_written(Instant::now());
                }
                Action::StartTls => {
                    stream = tls.connect(stream, &name, &Security::Encrypted).await.context("TLS did not come up")?.0;
                    client.handle_tls(Instant::now());
                }
                Action::Ready => {
                    client.begin(Instant::now(), transaction.take().expect("ready once, before the transaction"))
                }
                Action::Done(report) => {
                    replies = report.replies;
                    client.quit(Instant::now());
                }
                Action::Failed(failure) if replies.is_empty() => {
                    bail!("the server said at {}: {}", failure.step, failure.reply)
                }
                Action::Failed(_) => {}
                Action::Close => return Ok(replies),
            }
        }
        let deadline = client.poll_timeout().unwrap_or_else(|| Instant::now() + Duration::from_secs(300));
        match tokio::time::timeout_at(deadline.into(), stream.read_buf(&mut input)).await {
            Ok(Ok(0)) => client.handle_lost(Instant::now(), "closed"),
            Ok(Ok(_)) => client.handle_input(Instant::now(), &mut input),
            Ok(Err(error)) => client.handle_lost(Instant::now(), &error.to_string()),
            Err(_) => client.handle_timeout(Instant::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_made_those_of_mail() {
        assert_eq!(&with_crlf(b"Subject: x\n\nbody\r\nend")[..], b"Subject: x\r\n\r\nbody\r\nend\r\n");
        assert_eq!(&with_crlf(b"no header here\n")[..], b"\r\nno header here\r\n");
    }
}
