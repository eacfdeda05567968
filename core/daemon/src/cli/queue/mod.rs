//! `waypost queue`: what waits and why, and an operator's changes to it.
//!
//! While the server runs, it is asked over its admin interface with the token from the data folder; otherwise the queue is opened here.
//! Both give the same JSON, so both look the same.

mod http;

use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use waypost_config::Config;
use waypost_queue::{Change, Store};
use waypost_store_rocks::RocksStore;
use waypost_types::MessageId;
use waypost_types::event::Deaf;

use super::{Common, reachable};
use crate::admin::{entry_json, entry_text};
use crate::assemble;
use crate::observe::now;

/// Shows the queue and changes it, whether the server runs or not.
#[derive(Args)]
#[command(
    after_help = "A running server is asked through its admin interface; the token is read from the file admin-token of the data folder.\n\n\
    Examples:\n  waypost queue list\n  waypost queue list --domain example.com --json\n  waypost queue show 01h8zk4q7n2m5v9x3c6t\n  \
    waypost queue retry --all                   after an outage\n  waypost queue remove --domain example.net\n  waypost queue check"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the messages, oldest first
    List {
        #[command(flatten)]
        which: Filter,
        /// As JSON, an object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Tell the whole story of messages: envelope, attempts, replies, what comes next
    Show {
        /// The ids, as the log and `list` print them
        #[arg(required = true)]
        ids: Vec<MessageId>,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Keep messages from being delivered until they are released
    Hold(Chosen),
    /// Undo a hold
    Release(Chosen),
    /// Try now, whatever the schedule says
    Retry(Chosen),
    /// Remove messages without any report to their senders
    Remove(Chosen),
    /// Read everything and tell what does not add up
    Check {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
struct Chosen {
    /// The ids, as the log and `list` print them
    ids: Vec<MessageId>,
    /// All that match instead of ids
    #[command(flatten)]
    which: Filter,
    /// All messages
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    common: Common,
}

/// Which messages.
#[derive(Args, Default)]
struct Filter {
    /// Only messages with a pending recipient at this domain
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Only messages whose envelope sender holds this text
    #[arg(long, value_name = "TEXT")]
    sender: Option<String>,
}

impl Filter {
    fn is_given(&self) -> bool {
        self.domain.is_some() || self.sender.is_some()
    }

    fn matches(&self, entry: &Value) -> bool {
        let sender =
            self.sender.as_ref().is_none_or(|text| entry["from"].as_str().unwrap_or("").contains(text.as_str()));
        let at = |domain: &String| {
            let suffix = format!("@{}", domain.to_lowercase());
            let pending = |r: &Value| r["state"] == "pending" && r["address"].as_str().unwrap_or("").ends_with(&suffix);
            entry["recipients"].as_array().into_iter().flatten().any(pending)
        };
        sender && self.domain.as_ref().is_none_or(at)
    }
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::List { which, json, common } => list(&Queue::find(common)?, which, *json),
        Action::Show { ids, json, common } => show(&Queue::find(common)?, ids, *json),
        Action::Hold(chosen) => change(chosen, "hold"),
        Action::Release(chosen) => change(chosen, "release"),
        Action::Retry(chosen) => change(chosen, "retry"),
        Action::Remove(chosen) => change(chosen, "remove"),
        Action::Check { common } => check(&Queue::find(common)?),
    }
}

fn list(queue: &Queue, which: &Filter, json: bool) -> Result<()> {
    let mut count = 0;
    if !json {
        println!("{:20}  {:>6}  {:>9}  {:24}  TO, LAST REPLY", "ID", "AGE", "OCTETS", "FROM");
    }
    queue.each(|entry| {
        if which.matches(entry) {
            count += 1;
            if json { println!("{entry}") } else { print!("{}", row(entry)) }
        }
        Ok(())
    })?;
    if !json {
        println!("{count} messages");
    }
    Ok(())
}

/// A message on one line, and each pending recipient with its last reply below it.
fn row(entry: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("").to_string();
    let age = entry["id"]
        .as_str()
        .and_then(|id| id.parse::<MessageId>().ok())
        .map_or(0, |id| now().since(id.timestamp()).as_secs());
    let held = entry["held"].as_str().map(|why| format!("  held: {why}")).unwrap_or_default();
    let from = format!("<{}>", text(&entry["from"]));
    let mut out =
        format!("{:20}  {:>6}  {:>9}  {from:24}{held}\n", text(&entry["id"]), age_text(age), entry["size"].to_string());
    for recipient in entry["recipients"].as_array().into_iter().flatten().filter(|r| r["state"] == "pending") {
        let last = match recipient["last"]["reply"].as_str() {
            Some(reply) => format!("{reply}, next at {}", text(&recipient["due"])),
            None => "not tried yet".to_string(),
        };
        out.push_str(&format!("{:41}{}  {last}\n", "", text(&recipient["address"])));
    }
    out
}

fn age_text(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn show(queue: &Queue, ids: &[MessageId], json: bool) -> Result<()> {
    for id in ids {
        let entry = queue.ask("GET", &format!("/queue/{id}"))?;
        if json { println!("{entry}") } else { print!("{}", entry_text(&entry)) }
    }
    Ok(())
}

/// Carries out an action on every chosen message, goes on after a failure, and tells all failures.
fn change(chosen: &Chosen, action: &'static str) -> Result<()> {
    let queue = Queue::find(&chosen.common)?;
    let mut ids: Vec<String> = chosen.ids.iter().map(MessageId::to_string).collect();
    match (ids.is_empty(), chosen.all || chosen.which.is_given()) {
        (true, false) => bail!("name the messages by id, by --domain or --sender, or say --all"),
        (false, true) => bail!("name the messages by id or by --domain, --sender and --all, not both"),
        (true, true) => queue.each(|entry| {
            if chosen.which.matches(entry) {
                ids.extend(entry["id"].as_str().map(str::to_string));
            }
            Ok(())
        })?,
        (false, false) => {}
    }
    let mut failures = 0;
    for id in &ids {
        if let Err(error) = queue.ask("POST", &format!("/queue/{id}/{action}")) {
            failures += 1;
            eprintln!("{id}: {error:#}");
        }
    }
    println!("{action}: {} of {} messages", ids.len() - failures, ids.len());
    if failures > 0 { bail!("{failures} messages were left as they were") } else { Ok(()) }
}

fn check(queue: &Queue) -> Result<()> {
    let answer = queue.ask("GET", "/check")?;
    let problems = answer["problems"].as_array().cloned().unwrap_or_default();
    for problem in &problems {
        println!("{}: {}", problem["id"].as_str().unwrap_or("-"), problem["text"].as_str().unwrap_or(""));
    }
    if problems.is_empty() {
        println!("no problems: every message can be read and everything adds up");
        return Ok(());
    }
    bail!(
        "{} problems; what cannot be read has been set aside, not deleted: keep a copy of the data folder",
        problems.len()
    )
}

/// The queue of a server that runs, or of one that does not.
enum Queue {
    Running(std::net::SocketAddr, String),
    Stopped(tokio::runtime::Runtime, Arc<dyn Store>),
}

impl Queue {
    fn find(common: &Common) -> Result<Queue> {
        let config = common.load_without_plugins()?;
        let token = std::fs::read_to_string(config.data.join("admin-token")).unwrap_or_default().trim().to_string();
        for server in config.admin.iter().filter(|_| !token.is_empty()) {
            match http::ask(reachable(*server), &token, "GET", "/queue/probe") {
                // Past the token, the path is no message id: that is our server, asked without reading its queue.
                Ok(Some(answer)) if answer.status == 400 => return Ok(Queue::Running(reachable(*server), token)),
                // Nobody, somebody else, or a server with other data: the queue's lock knows whether ours runs.
                _ => {}
            }
        }
        Queue::open(&config)
    }

    fn open(config: &Config) -> Result<Queue> {
        if !config.data.join("queue").exists() {
            bail!(
                "there is no queue in {}: name its folder with --data, or the configuration with --config",
                config.data.display()
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let store = RocksStore::open(assemble::store_options(config), Arc::new(Deaf)).map_err(|error| {
            let servers: Vec<String> = config.admin.iter().map(ToString::to_string).collect();
            anyhow!(
                "no server with this queue answers at {} (admin.bind), and it cannot be opened here: {error}",
                servers.join(", ")
            )
        })?;
        Ok(Queue::Stopped(runtime, Arc::new(store)))
    }

    /// Every entry, in pages, oldest first.
    fn each(&self, mut visit: impl FnMut(&Value) -> Result<()>) -> Result<()> {
        let mut after = String::new();
        loop {
            let page = self.ask("GET", &format!("/queue?{after}"))?;
            page["entries"].as_array().into_iter().flatten().try_for_each(&mut visit)?;
            match page["next"].as_str() {
                Some(next) => after = format!("after={next}"),
                None => return Ok(()),
            }
        }
    }

    /// One question, as the admin interface takes it.
    fn ask(&self, method: &str, path: &str) -> Result<Value> {
        match self {
            Queue::Running(server, token) => {
                let answer = http::ask(*server, token, method, path)?;
                let Some(http::Answer { status, body }) = answer else { bail!("the server at {server} has gone") };
                match body["error"].as_str() {
                    Some(error) if status >= 400 => bail!("{error}"),
                    _ => Ok(body),
                }
            }
            Queue::Stopped(runtime, store) => runtime.block_on(ask_store(store.as_ref(), path)),
        }
    }
}

/// What the admin interface would answer.
async fn ask_store(store: &dyn Store, path: &str) -> Result<Value> {
    const PAGE: u32 = 1000;
    if path == "/check" {
        let problems = store.check().await?;
        let problems: Vec<_> =
            problems.iter().map(|p| json!({ "id": p.id.map(|id| id.to_string()), "text": p.text })).collect();
        return Ok(json!({ "problems": problems }));
    }
    let rest = path.strip_prefix("/queue").expect("we ask for nothing else");
    if let Some(query) = rest.strip_prefix('?') {
        let after = query.strip_prefix("after=").map(str::parse::<MessageId>).transpose()?;
        let entries = store.list(after, PAGE).await?;
        let next = entries.last().filter(|_| entries.len() == PAGE as usize).map(|entry| entry.id.to_string());
        return Ok(json!({ "entries": entries.iter().map(entry_json).collect::<Vec<_>>(), "next": next }));
    }
    let mut parts = rest.split('/').skip(1);
    let id: MessageId = parts.next().unwrap_or("").parse()?;
    let change = match parts.next() {
        None => {
            let entry = store
                .get(id)
                .await?
                .ok_or_else(|| anyhow!("no such message in the queue: it may have been delivered"))?;
            return Ok(entry_json(&entry));
        }
        Some("hold") => Change::Hold("by an operator".into()),
        Some("release") => Change::Release,
        Some("retry") => Change::Due(now()),
        _ => Change::Remove,
    };
    store.change(id, change).await?;
    Ok(json!({ "id": id.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_types::Timestamp;

    fn entry() -> Value {
        json!({
            "id": MessageId::new(Timestamp(0), 1).to_string(), "from": "a@b.example", "size": 7, "held": null,
            "recipients": [
                { "address": "x@c.example", "state": "pending", "due": "soon", "last": { "reply": "450 4.2.0 later" } },
                { "address": "y@d.example", "state": "relayed", "last": null },
            ],
        })
    }

    #[test]
    fn filters_look_at_what_is_pending() {
        let by = |domain: &str| Filter { domain: Some(domain.into()), sender: None }.matches(&entry());
        assert!(by("C.example") && !by("d.example") && !by("example"));
        assert!(Filter { sender: Some("@b".into()), domain: None }.matches(&entry()));
        assert!(!Filter { sender: Some("@x".into()), domain: Some("c.example".into()) }.matches(&entry()));
    }

    #[test]
    fn a_row_tells_why_a_message_waits() {
        let row = row(&entry());
        assert!(row.contains("<a@b.example>") && row.contains("x@c.example  450 4.2.0 later, next at soon"), "{row}");
        assert!(!row.contains("y@d.example"), "{row}");
    }
}
