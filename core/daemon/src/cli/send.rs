//! `waypost send`: a message through the local server, over SMTP like everybody else's.

use std::io::{IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use clap::Args;
use waypost_config::Config;
use waypost_smtp::client::{Action, Client, Options, Report, TlsUse, Transaction};
use waypost_types::{Address, MailParameters, Message, Recipient, ReversePath, Transport};

use super::Common;
use crate::observe::now;

/// Sends a message through the running server's first plain listener.
#[derive(Args)]
#[command(
    after_help = "The message is read from standard input, with its headers; from a terminal, or if there is none, a test message is made.\n\n\
    Examples:\n  waypost send alice@waypost.test\n  waypost send --from bob@waypost.test alice@waypost.test < message.eml"
)]
pub(crate) struct Arguments {
    /// Who receives it
    #[arg(required = true)]
    to: Vec<Address>,
    /// Envelope sender; postmaster of the first own domain if not given
    #[arg(long, short)]
    from: Option<Address>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    let config = arguments.common.load().map_err(|mistakes| anyhow!("{mistakes}"))?;
    let sender = match &arguments.from {
        Some(from) => from.clone(),
        None => Address::parse(&format!("postmaster@{}", config.domains.own.first().unwrap_or(&config.hostname)))?,
    };
    let transaction = Transaction {
        message: Message::new(message(&sender, &arguments.to)?),
        sender: ReversePath::Mailbox(sender),
        parameters: MailParameters::default(),
        recipients: arguments.to.iter().cloned().map(Recipient::new).collect(),
    };
    let report = converse(door(&config)?, config.hostname.as_str(), transaction)?;
    for (recipient, reply) in arguments.to.iter().zip(&report.replies) {
        println!("{recipient}: {reply}");
    }
    if report.replies.iter().all(waypost_types::Reply::is_positive) {
        Ok(())
    } else {
        bail!("not everybody was accepted")
    }
}

/// A listener that takes mail without TLS and login.
fn door(config: &Config) -> Result<SocketAddr> {
    let plain = |l: &&waypost_config::model::Listener| matches!(l.transport, Transport::Mx | Transport::Relay);
    let listener =
        config.listeners.iter().find(plain).context("there is no listener with preset mx or relay to send through")?;
    let mut address = *listener.bind.first().context("the listener has no address")?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    Ok(address)
}

fn message(sender: &Address, to: &[Address]) -> Result<Bytes> {
    let mut text = String::new();
    if !std::io::stdin().is_terminal() {
        std::io::stdin().read_to_string(&mut text).context("the message must be text; 8-bit mail in UTF-8")?;
    }
    if text.trim().is_empty() {
        let to: Vec<_> = to.iter().map(ToString::to_string).collect();
        let date = now();
        text = format!(
            "From: {sender}\nTo: {}\nSubject: test\nDate: {}\nMessage-ID: <{}.test@{}>\n\nA test message from `waypost send`.\n",
            to.join(", "),
            date.rfc5322(),
            date.millis(),
            sender.host()
        );
    }
    Ok(text.replace("\r\n", "\n").replace('\n', "\r\n").into())
}

/// Drives the client machine over a blocking socket: one transaction, then QUIT.
fn converse(address: SocketAddr, name: &str, transaction: Transaction) -> Result<Report> {
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("cannot reach {address}: is the server running?"))?;
    stream.set_read_timeout(Some(Duration::from_secs(600)))?;
    let mut client = Client::new(Options { tls: TlsUse::Never, ..Options::new(name.into()) }, Instant::now());
    let (mut input, mut piece) = (BytesMut::new(), [0; 4096]);
    let mut transaction = Some(transaction);
    loop {
        while let Some(action) = client.poll_action() {
            match action {
                Action::Send(parts) => parts.iter().try_for_each(|part| stream.write_all(part))?,
                Action::Ready => {
                    if let Some(transaction) = transaction.take() {
                        client.begin(Instant::now(), transaction);
                    }
                }
                Action::Done(report) => {
                    // The message is the server's; how it takes our leave is no matter.
                    let _ = stream.write_all(b"QUIT\r\n");
                    return Ok(report);
                }
                Action::Failed(failure) => bail!("{}: {}", failure.step, failure.reply),
                Action::StartTls | Action::Close => bail!("the server closed the connection"),
            }
        }
        match stream.read(&mut piece)? {
            0 => client.handle_lost(Instant::now(), "closed by the server"),
            count => {
                input.extend_from_slice(&piece[..count]);
                client.handle_input(Instant::now(), &mut input);
            }
        }
    }
}
