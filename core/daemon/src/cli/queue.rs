//! `waypost queue`: through the running server, or in its files when it is not running.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use waypost_config::Config;
use waypost_queue::{Change, Store, StoreError};
use waypost_store_rocks::RocksStore;
use waypost_types::event::Deaf;
use waypost_types::{MessageId, Timestamp};

use super::Common;
use crate::admin::{entry_json, entry_text};
use crate::assemble;

/// Looks at the queue and changes it.
#[derive(Args)]
#[command(
    after_help = "The running server is asked through its admin port; when there is none, the queue's files are opened directly.\n\n\
    Examples:\n  waypost queue list\n  waypost queue show 01k9x2m4c7r3t8w5q6v0\n  waypost queue retry 01k9x2m4c7r3t8w5q6v0\n  waypost queue check"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// What is waiting, oldest first
    List(Common),
    /// The whole story of one message
    Show(One),
    /// Keep a message until it is released
    Hold(One),
    /// Let a held message go
    Release(One),
    /// Try a message now
    Retry(One),
    /// Remove a message without telling anybody
    Remove(One),
    /// Read everything and tell what does not add up
    Check(Common),
}

#[derive(Args)]
struct One {
    /// The message's id, as the log and `queue list` print it
    id: MessageId,
    #[command(flatten)]
    common: Common,
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::List(common) => list(&Queue::open(common)?),
        Action::Show(one) => {
            print!("{}", entry_text(&Queue::open(&one.common)?.get(&format!("/queue/{}", one.id))?));
            Ok(())
        }
        Action::Hold(one) => change(one, "hold"),
        Action::Release(one) => change(one, "release"),
        Action::Retry(one) => change(one, "retry"),
        Action::Remove(one) => change(one, "remove"),
        Action::Check(common) => check(&Queue::open(common)?),
    }
}

fn change(one: &One, action: &str) -> Result<()> {
    Queue::open(&one.common)?.request("POST", &format!("/queue/{}/{action}", one.id))?;
    println!("{}: {action} done", one.id);
    Ok(())
}

fn list(queue: &Queue) -> Result<()> {
    let mut path = "/queue".to_string();
    let mut count = 0;
    loop {
        let page = queue.get(&path)?;
        for entry in page["entries"].as_array().into_iter().flatten() {
            count += 1;
            print_row(entry);
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/queue?after={next}"),
            None => break,
        }
    }
    println!("{count} {}", if count == 1 { "message" } else { "messages" });
    Ok(())
}

fn print_row(entry: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
    println!(
        "{}  {:>9}  {}  <{}>",
        text(&entry["id"]),
        entry["size"],
        text(&entry["accepted"]),
        entry["from"].as_str().unwrap_or("")
    );
    for recipient in entry["recipients"].as_array().into_iter().flatten().filter(|r| r["state"] == "pending") {
        let due = recipient["due"].as_str().unwrap_or("now");
        println!("    <{}>  {} attempts, next at {due}", text(&recipient["address"]), recipient["attempts"]);
        if let Some(reply) = recipient["last"]["reply"].as_str() {
            println!("        {reply}");
        }
    }
}

fn check(queue: &Queue) -> Result<()> {
    let problems = queue.get("/check")?;
    let problems = problems["problems"].as_array().cloned().unwrap_or_default();
    for problem in &problems {
        println!("{}: {}", problem["id"].as_str().unwrap_or("?"), problem["text"].as_str().unwrap_or(""));
    }
    if problems.is_empty() {
        println!("ok: everything adds up");
        return Ok(());
    }
    bail!("{} entries do not add up; they are set aside and nothing was deleted", problems.len())
}

/// The two ways to the queue, with one vocabulary: that of the admin interface.
enum Queue {
    Server { address: SocketAddr, token: String },
    Files { store: Arc<RocksStore>, runtime: tokio::runtime::Runtime },
}

impl Queue {
    fn open(common: &Common) -> Result<Queue> {
        let config = common.load().map_err(|mistakes| anyhow!("{mistakes}"))?;
        let listens = |address: &SocketAddr| TcpStream::connect_timeout(address, Duration::from_secs(2)).is_ok();
        let address = config.admin.first().copied().map(reachable);
        let Some(address) = address.filter(listens) else { return Queue::open_files(&config) };
        let path = config.data.join("admin-token");
        let token = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}: run this as the user that runs the server, or name its folder with --data",
                path.display()
            )
        })?;
        Ok(Queue::Server { address, token: token.trim().to_string() })
    }

    fn open_files(config: &Config) -> Result<Queue> {
        let folder = config.data.join("queue");
        if !folder.exists() {
            bail!(
                "no server answers, and there is no queue in {}: name the server's folder with --data, or its file with --config",
                folder.display()
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let store =
            RocksStore::open(assemble::store_options(config), Arc::new(Deaf)).map_err(|error| anyhow!("{error}"))?;
        Ok(Queue::Files { store: Arc::new(store), runtime })
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.request("GET", path)
    }

    fn request(&self, method: &str, path: &str) -> Result<Value> {
        match self {
            Queue::Server { address, token } => over_http(*address, token, method, path),
            Queue::Files { store, runtime } => runtime.block_on(in_files(store, path)),
        }
    }
}

/// An address that is listened on everywhere is asked at loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

/// One request of our own interface, whose answers are known to have a length and to end with the connection.
fn over_http(address: SocketAddr, token: &str, method: &str, path: &str) -> Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(600)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the admin port answers something else than HTTP")?;
    let value: Value = serde_json::from_str(body).context("the admin port answers something else than JSON")?;
    if head.split(' ').nth(1) == Some("200") {
        return Ok(value);
    }
    bail!("{}", value["error"].as_str().unwrap_or("the server refused"))
}

async fn in_files(store: &RocksStore, path: &str) -> Result<Value> {
    let explain = |error: StoreError| anyhow!("{error}");
    if path == "/check" {
        let problems = store.check().await.map_err(explain)?;
        let problems: Vec<_> =
            problems.iter().map(|p| json!({ "id": p.id.map(|id| id.to_string()), "text": p.text })).collect();
        return Ok(json!({ "problems": problems }));
    }
    let rest = path.strip_prefix("/queue").context("a path of the queue")?;
    let Some(rest) = rest.strip_prefix('/') else {
        let after = rest.strip_prefix("?after=").map(str::parse::<MessageId>).transpose()?;
        let entries = store.list(after, 1000).await.map_err(explain)?;
        let next = if entries.len() == 1000 { entries.last().map(|e| e.id.to_string()) } else { None };
        return Ok(json!({ "entries": entries.iter().map(entry_json).collect::<Vec<_>>(), "next": next }));
    };
    let (id, action) = rest.split_once('/').unwrap_or((rest, ""));
    let id: MessageId = id.parse()?;
    let change = match action {
        "" => {
            return store
                .get(id)
                .await
                .map_err(explain)?
                .map(|entry| entry_json(&entry))
                .context("no such message in the queue");
        }
        "hold" => Change::Hold("by an operator".into()),
        "release" => Change::Release,
        "remove" => Change::Remove,
        _ => Change::Due(Timestamp(0)),
    };
    store.change(id, change).await.map_err(explain)?;
    store.close().await.map_err(explain)?;
    Ok(json!({}))
}
