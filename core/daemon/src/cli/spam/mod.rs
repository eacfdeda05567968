//! `waypost spam`: teaching spam-score what is spam and what is not.
//!
//! Every command is put to the plugin itself (`on-command` of the contract), so that what learns is what judges: over the admin
//! interface while the server runs, otherwise in a host of its own over the store, opened here.

mod letters;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use waypost_config::Config;
use waypost_plugin::{Host as Plugins, Ports};
use waypost_resolve::Resolver;
use waypost_store_rocks::RocksStore;
use waypost_types::Message;
use waypost_types::event::Deaf;

use super::queue::http;
use super::{Common, reachable};
use crate::assemble;
use crate::observe::now;

/// Teaches the classifier of spam-score, and tells what it knows.
#[derive(Args)]
#[command(
    after_help = "Messages come from files, folders (Maildirs too) and mbox files, or with `-` from standard input. A message that is \
    learned twice counts once; one that is learned as the other kind moves. Works whether the server runs or not; the plugin \
    needs `grants = [\"kv\"]`.\n\n\
    Examples:\n  waypost spam learn --spam ~/Maildir/.Junk\n  waypost spam learn --ham archive.mbox\n  \
    waypost spam stats\n  waypost spam score message.eml\n  waypost spam forget message.eml"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Learn messages as spam or as ham
    Learn {
        /// They are spam
        #[arg(long, conflicts_with = "ham", required_unless_present = "ham")]
        spam: bool,
        /// They are not
        #[arg(long)]
        ham: bool,
        /// For this domain of the plugin's `per-domain` alone
        #[arg(long, value_name = "DOMAIN", default_value = "")]
        domain: String,
        /// Files, folders, mbox files, or `-`
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Forget messages that were learned, or everything
    Forget {
        /// Everything that was ever learned
        #[arg(long, conflicts_with = "paths", required_unless_present = "paths")]
        all: bool,
        /// For this domain of the plugin's `per-domain` alone
        #[arg(long, value_name = "DOMAIN", default_value = "")]
        domain: String,
        /// Files, folders, mbox files, or `-`
        paths: Vec<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// How much was learned
    Stats {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Score messages as if they had come now from nobody in particular, and tell why
    Score {
        /// As JSON, an object a line
        #[arg(long)]
        json: bool,
        /// Files, folders, mbox files, or `-`
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::Learn { spam, domain, paths, common, .. } => {
            teach(common, paths, if *spam { "learn-spam" } else { "learn-ham" }, domain)
        }
        Action::Forget { all: true, common, .. } => {
            Teacher::find(common)?.ask("forget-all", "", &[])?;
            println!("everything is forgotten");
            Ok(())
        }
        Action::Forget { domain, paths, common, .. } => teach(common, paths, "forget", domain),
        Action::Stats { json, common } => stats(&Teacher::find(common)?, *json),
        Action::Score { json, paths, common } => score(&Teacher::find(common)?, paths, *json),
    }
}

/// Puts every message to the plugin, goes on after a failure, and tells how many were what.
fn teach(common: &Common, paths: &[PathBuf], command: &str, domain: &str) -> Result<()> {
    let teacher = Teacher::find(common)?;
    let (mut changed, mut moved, mut same, mut failures) = (0, 0, 0, 0);
    letters::each(paths, &mut |name, letter| {
        match teacher.ask(command, domain, letter).as_deref() {
            Ok("learned" | "forgotten") => changed += 1,
            Ok("moved") => moved += 1,
            Ok(_) => same += 1,
            Err(error) if failures == 0 && changed + moved + same == 0 => bail!("{name}: {error:#}"),
            Err(error) => {
                failures += 1;
                eprintln!("{name}: {error:#}");
            }
        }
        Ok(())
    })?;
    let verb = if command == "forget" { "forgotten" } else { "learned" };
    println!("{changed} messages {verb}, {moved} moved from the other kind, {same} known as such already");
    if failures > 0 { bail!("{failures} messages were left out") } else { Ok(()) }
}

fn stats(teacher: &Teacher, json: bool) -> Result<()> {
    let text = teacher.ask("stats", "", &[])?;
    if json {
        println!("{text}");
        return Ok(());
    }
    let stats: Value = serde_json::from_str(&text)?;
    for row in stats["classifiers"].as_array().into_iter().flatten() {
        let name = row["domain"].as_str().filter(|name| !name.is_empty()).unwrap_or("everybody");
        let word = if row["in_use"] == true { "in use" } else { "not in use yet" };
        println!("{name}: {} spam, {} ham learned; {word}", row["spam"], row["ham"]);
    }
    println!("A classifier is used once {} messages of each kind have been learned.", stats["learned_min"]);
    Ok(())
}

fn score(teacher: &Teacher, paths: &[PathBuf], json: bool) -> Result<()> {
    letters::each(paths, &mut |name, letter| {
        let mut said: Value = serde_json::from_str(&teacher.ask("score", "", letter)?)?;
        if json {
            said["message"] = name.into();
            println!("{said}");
            return Ok(());
        }
        let word = if said["spam"] == true { "spam" } else { "ham" };
        println!("{name}: {word}, {} of {}", said["score"], said["required"]);
        for rule in said["rules"].as_array().into_iter().flatten() {
            println!("  {:>6}  {}", rule["weight"].to_string(), rule["rule"].as_str().unwrap_or(""));
        }
        Ok(())
    })
}

/// The plugin in a server that runs, or in a host made here.
enum Teacher {
    Running(SocketAddr, String),
    Stopped(Box<Here>),
}

struct Here {
    runtime: tokio::runtime::Runtime,
    plugins: Plugins,
    store: RocksStore,
}

const PLUGIN: &str = "spam-score";

impl Teacher {
    fn find(common: &Common) -> Result<Teacher> {
        let config = common.load()?;
        if !config.plugins.iter().any(|plugin| plugin.name == PLUGIN) {
            bail!("spam-score is not in `plugins.chain`: add it, with `grants = [\"kv\"]` in [plugin.spam-score]");
        }
        let token = std::fs::read_to_string(config.data.join("admin-token")).unwrap_or_default().trim().to_string();
        for server in config.admin.iter().filter(|_| !token.is_empty()) {
            match http::ask(reachable(*server), &token, "GET", "/queue/probe", &[]) {
                // Past the token, the path is no message id: that is our server.
                Ok(Some(answer)) if answer.status == 400 => return Ok(Teacher::Running(reachable(*server), token)),
                _ => {}
            }
        }
        Teacher::open(&config)
    }

    fn open(config: &Config) -> Result<Teacher> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let store = RocksStore::open(assemble::store_options(config), Arc::new(Deaf)).map_err(|error| {
            anyhow!("no server answers at admin.bind, and its store cannot be opened here: {error}")
        })?;
        let _within = runtime.enter();
        let resolver = Resolver::new(assemble::resolver_options(config)).map_err(|error| anyhow!("dns: {error}"))?;
        let ports = Ports {
            dns: Arc::new(resolver),
            kv: Some(Arc::new(store.kv())),
            sign: None,
            tables: Default::default(),
            fetch: None,
            recorder: None,
            observer: Arc::new(Deaf),
            now: Arc::new(now),
        };
        let mut options = assemble::plugin_options(config);
        options.plugins.retain(|plugin| plugin.name == PLUGIN);
        let plugins = Plugins::load(options, ports)
            .map_err(|errors| anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
        drop(_within);
        Ok(Teacher::Stopped(Box::new(Here { runtime, plugins, store })))
    }

    fn ask(&self, command: &str, domain: &str, letter: &[u8]) -> Result<String> {
        match self {
            Teacher::Running(server, token) => {
                let path = format!("/plugin/{PLUGIN}/{command}?{domain}");
                let Some(answer) = http::ask(*server, token, "POST", &path, letter)? else {
                    bail!("the server at {server} has gone")
                };
                match (&answer.body["said"], &answer.body["error"]) {
                    (Value::String(said), _) => Ok(said.clone()),
                    (_, error) => bail!("{}", error.as_str().unwrap_or("no answer that could be understood")),
                }
            }
            Teacher::Stopped(here) => {
                let message = Message::new(letter.to_vec().into());
                let asked = here.plugins.command(PLUGIN, command, domain, Some(message));
                here.runtime.block_on(asked).map_err(|error| anyhow!("{error}"))
            }
        }
    }
}

impl Drop for Here {
    /// What was learned is on disk before the command ends.
    fn drop(&mut self) {
        if let Err(error) = self.runtime.block_on(waypost_queue::Store::close(&self.store)) {
            eprintln!("the store could not be closed: {error}");
        }
    }
}
