//! `waypost queue`: what waits and why, and an operator's changes to it.
//!
//! While the server runs, it is asked over its admin interface with the token from the data folder; otherwise the queue is opened here.
//! Both give the same JSON, so both look the same.

pub(super) mod http;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use waypost_config::Config;
use waypost_store_rocks::RocksStore;
use waypost_types::MessageId;
use waypost_types::event::Deaf;

use super::{Common, reachable};
use crate::admin::{Desk, Filter, encode, entry_text, span};
use crate::assemble;
use crate::bounces;
use crate::observe::now;

/// Shows the queue and changes it, whether the server runs or not.
#[derive(Args)]
#[command(
    after_help = "A running server is asked through its admin interface; the token is read from the file admin-token of the data folder.\n\n\
    Examples:\n  waypost queue list\n  waypost queue list --domain example.com --json\n  waypost queue show 01h8zk4q7n2m5v9x3c6t\n  \
    waypost queue retry --all                   after an outage\n  waypost queue bounce --domain example.net --older 2d\n  \
    waypost queue hold --reply 'blocked' --mx .prot.example\n  waypost queue reroute --domain example.org --to 'smtp:[relay.example.org]:25'\n  \
    waypost queue suspend --mx .prot.example --for 2h\n  waypost queue check"
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
        which: Which,
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
    /// Try once more, then return to the senders what is not taken
    Expire(Chosen),
    /// Return messages to their senders now; needs the server running
    Bounce(Chosen),
    /// Send messages another way from the next attempt on
    Reroute {
        /// A transport, as `[transport]` takes it; leave it away for the way that the tables name
        #[arg(long, value_name = "TRANSPORT")]
        to: Option<String>,
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Send nothing to a domain or to mail hosts for a while; needs the server running
    Suspend {
        #[command(flatten)]
        place: Place,
        /// How long: 90s, 5m, 4h, 3d
        #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
        span: Duration,
        #[command(flatten)]
        common: Common,
    },
    /// Take a suspension back; `retry` what it has put off
    Resume {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        common: Common,
    },
    /// Tell where mail goes now, how fast, and what is suspended; needs the server running
    Destinations {
        #[command(flatten)]
        common: Common,
    },
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
    which: Which,
    /// All messages
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    common: Common,
}

/// What is suspended.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// Recipients at this domain
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Mail hosts of this name; `.example.com` for everything below it
    #[arg(long, value_name = "HOST")]
    mx: Option<String>,
}

impl Place {
    fn query(&self) -> String {
        let (key, name) =
            self.domain.as_ref().map(|name| ("domain", name)).or(self.mx.as_ref().map(|name| ("mx", name))).unzip();
        format!("{}={}", key.unwrap_or_default(), encode(name.map_or("", String::as_str)))
    }
}

/// Which messages: all that is given must fit.
#[derive(Args, Default)]
struct Which {
    /// With a pending recipient at this domain
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Whose last attempt was at this mail host; `.example.com` for everything below it
    #[arg(long, value_name = "HOST")]
    mx: Option<String>,
    /// Whose last reply holds this text
    #[arg(long, value_name = "TEXT")]
    reply: Option<String>,
    /// Whose envelope sender holds this text
    #[arg(long, value_name = "TEXT")]
    sender: Option<String>,
    /// That this user sent
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// That have been here so long: 90s, 5m, 4h, 3d
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    older: Option<Duration>,
    /// That are held (yes) or not (no)
    #[arg(long, value_name = "YES-OR-NO", value_parser = parse_yes)]
    held: Option<bool>,
}

impl Which {
    fn filter(&self, all: bool) -> Filter {
        let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
        Filter {
            domain: lower(&self.domain),
            mx: lower(&self.mx),
            reply: lower(&self.reply),
            sender: lower(&self.sender),
            user: self.user.clone(),
            older: self.older,
            held: self.held,
            all,
        }
    }
}

fn parse_span(text: &str) -> Result<Duration, String> {
    span(text).ok_or_else(|| "write 90s, 5m, 4h or 3d".into())
}

fn parse_yes(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("yes or no".into()),
    }
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::List { which, json, common } => list(&Queue::find(common)?, &which.filter(false), *json),
        Action::Show { ids, json, common } => show(&Queue::find(common)?, ids, *json),
        Action::Hold(chosen) => change(chosen, "hold", ""),
        Action::Release(chosen) => change(chosen, "release", ""),
        Action::Retry(chosen) => change(chosen, "retry", ""),
        Action::Remove(chosen) => change(chosen, "remove", ""),
        Action::Expire(chosen) => change(chosen, "expire", ""),
        Action::Bounce(chosen) => change(chosen, "bounce", ""),
        Action::Reroute { to, chosen } => {
            change(chosen, "reroute", &format!("to={}", encode(to.as_deref().unwrap_or(""))))
        }
        Action::Suspend { place, span, common } => {
            let query = format!("{}&for={}s", place.query(), span.as_secs());
            Queue::find(common)?.ask("POST", "/destinations/suspend", &query)?;
            println!("suspended for {}", age_text(span.as_secs()));
            Ok(())
        }
        Action::Resume { place, common } => {
            Queue::find(common)?.ask("POST", "/destinations/resume", &place.query())?;
            println!("resumed; `waypost queue retry` sends at once what was put off");
            Ok(())
        }
        Action::Destinations { common } => destinations(&Queue::find(common)?),
        Action::Check { common } => check(&Queue::find(common)?),
    }
}

fn list(queue: &Queue, which: &Filter, json: bool) -> Result<()> {
    let mut count = 0;
    if !json {
        println!("{:20}  {:>6}  {:>9}  {:24}  TO, LAST REPLY", "ID", "AGE", "OCTETS", "FROM");
    }
    queue.each(which, |entry| {
        count += 1;
        if json { println!("{entry}") } else { print!("{}", row(entry)) }
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
        let entry = queue.ask("GET", &format!("/queue/{id}"), "")?;
        if json { println!("{entry}") } else { print!("{}", entry_text(&entry)) }
    }
    Ok(())
}

/// Carries out an action on every chosen message, goes on after a failure, and tells all failures.
fn change(chosen: &Chosen, action: &'static str, more: &str) -> Result<()> {
    let queue = Queue::find(&chosen.common)?;
    let filter = chosen.which.filter(chosen.all);
    match (chosen.ids.is_empty(), filter.is_given()) {
        (true, false) => {
            bail!(
                "name the messages by id, by --domain, --mx, --reply, --sender, --user, --older or --held, or say --all"
            )
        }
        (false, true) => bail!("name the messages by id or by --domain, --sender and the like, not both"),
        (true, true) => change_all(&queue, &filter, action, more),
        (false, false) => change_each(&queue, &chosen.ids, action, more),
    }
}

fn change_each(queue: &Queue, ids: &[MessageId], action: &str, more: &str) -> Result<()> {
    let mut failures = 0;
    for id in ids {
        if let Err(error) = queue.ask("POST", &format!("/queue/{id}/{action}"), more) {
            failures += 1;
            eprintln!("{id}: {error:#}");
        }
    }
    println!("{action}: {} of {} messages", ids.len() - failures, ids.len());
    if failures > 0 { bail!("{failures} messages were left as they were") } else { Ok(()) }
}

/// The queue does the work, a part at a time.
fn change_all(queue: &Queue, filter: &Filter, action: &str, more: &str) -> Result<()> {
    let (mut changed, mut busy, mut after) = (0, 0, String::new());
    loop {
        let answer = queue.ask("POST", &format!("/queue/{action}"), &format!("{more}{}{after}", filter.query()))?;
        changed += answer["changed"].as_u64().unwrap_or(0);
        busy += answer["busy"].as_u64().unwrap_or(0);
        match answer["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    println!("{action}: {changed} messages");
    if busy > 0 { bail!("{busy} messages were being delivered at that moment; try again") } else { Ok(()) }
}

fn destinations(queue: &Queue) -> Result<()> {
    let answer = queue.ask("GET", "/destinations", "")?;
    println!(
        "{:>7}  {:>7}  {:>6}  {:>9}  {:>12}  DESTINATION",
        "WAITING", "RUNNING", "WINDOW", "QUIET FOR", "ONE EACH"
    );
    for it in answer["destinations"].as_array().into_iter().flatten() {
        let quiet = it["quiet_for"].as_u64().map(age_text).unwrap_or_default();
        let pace = it["seconds_between"].as_f64().map(|seconds| format!("{seconds:.2} s")).unwrap_or_default();
        println!(
            "{:>7}  {:>7}  {:>6}  {quiet:>9}  {pace:>12}  {}",
            it["waiting"].to_string(),
            it["running"].to_string(),
            it["window"].to_string(),
            it["destination"].as_str().unwrap_or("")
        );
    }
    for it in answer["suspended"].as_array().into_iter().flatten() {
        let left = age_text(it["seconds_left"].as_u64().unwrap_or(0));
        let (kind, name) = if it["mx"].is_string() { ("hosts", &it["mx"]) } else { ("domain", &it["domain"]) };
        println!("suspended for {left}: {kind} {}", name.as_str().unwrap_or(""));
    }
    Ok(())
}

fn check(queue: &Queue) -> Result<()> {
    let answer = queue.ask("GET", "/check", "")?;
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
pub(super) enum Queue {
    Running(std::net::SocketAddr, String),
    Stopped(tokio::runtime::Runtime, Desk),
}

impl Queue {
    pub(super) fn find(common: &Common) -> Result<Queue> {
        let config = common.load_without_plugins()?;
        let token = std::fs::read_to_string(config.data.join("admin-token")).unwrap_or_default().trim().to_string();
        for server in config.admin.iter().filter(|_| !token.is_empty()) {
            match http::ask(reachable(*server), &token, "GET", "/queue/probe", &[]) {
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
        let suppression = bounces::suppression(config, Arc::new(store.kv()))?;
        let table = bounces::table(config);
        Ok(Queue::Stopped(
            runtime,
            Desk { store: Arc::new(store), courier: None, table, suppression, tls_reports: None },
        ))
    }

    /// Every entry that fits, in pages, oldest first.
    fn each(&self, filter: &Filter, mut visit: impl FnMut(&Value)) -> Result<()> {
        let mut after = String::new();
        loop {
            let page = self.ask("GET", "/queue", &format!("{}{after}", filter.query()))?;
            page["entries"].as_array().into_iter().flatten().for_each(&mut visit);
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(()),
            }
        }
    }

    /// One question, as the admin interface takes it.
    pub(super) fn ask(&self, method: &str, path: &str, query: &str) -> Result<Value> {
        match self {
            Queue::Running(server, token) => {
                let answer = http::ask(*server, token, method, &format!("{path}?{query}"), &[])?;
                let Some(http::Answer { status, body }) = answer else { bail!("the server at {server} has gone") };
                match body["error"].as_str() {
                    Some(error) if status >= 400 => bail!("{error}"),
                    _ => Ok(body),
                }
            }
            Queue::Stopped(runtime, desk) => {
                runtime.block_on(desk.answer(method, path, query)).map_err(|refusal| anyhow!("{}", refusal.text()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
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
    fn a_row_tells_why_a_message_waits() {
        let row = row(&entry());
        assert!(row.contains("<a@b.example>") && row.contains("x@c.example  450 4.2.0 later, next at soon"), "{row}");
        assert!(!row.contains("y@d.example"), "{row}");
    }
}
