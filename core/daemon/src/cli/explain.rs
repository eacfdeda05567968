//! `waypost explain`: what the server would say to a client, stage by stage, and where the mail would go, without sending any.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use arc_swap::ArcSwap;
use clap::Args;
use serde_json::{Value, json};
use waypost_config::Config;
use waypost_config::model::Listener;
use waypost_plugin::{Host as Plugins, PluginInfo, Ports};
use waypost_queue::{Claim, Handoff, MemoryStore};
use waypost_resolve::Resolver;
use waypost_server::Services;
use waypost_server::explain::{Step, Visit, explain};
use waypost_types::port::{KeyValue, KvError, Row};
use waypost_types::{Event, Judge, Observer, Stage, Transport};

use super::Common;
use crate::observe::now;
use crate::{assemble, routing, site};

/// Tells what the server would say to a client, and why. Nothing is sent or stored, and no server need be running.
#[derive(Args)]
#[command(
    after_help = "The same code answers as in the server: checks, access tables, relay control, aliases, plugins. TLS and the login are assumed. DNS is really asked; \
    what the server remembers (rates, greylists, the plugins' counters) begins empty and is forgotten: the answer names what that is.\n\n\
    Examples:\n  waypost explain --client 192.0.2.1 --helo mail.example.net --mail joe@example.net --rcpt alice@waypost.test\n  \
    waypost explain --client 192.0.2.1 --login alice --mail alice@waypost.test --rcpt someone@example.com --json"
)]
pub(crate) struct Arguments {
    /// The client's address
    #[arg(long, value_name = "IP")]
    client: IpAddr,
    /// Its name, instead of asking DNS
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What it says in EHLO; its name or address if not given
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
    /// Envelope sender; empty for the null sender
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    mail: String,
    /// Recipient; may be given often
    #[arg(long, value_name = "ADDRESS")]
    rcpt: Vec<String>,
    /// Who has logged in
    #[arg(long, value_name = "USER")]
    login: Option<String>,
    /// The listener; the first for mail from outside, or for users when --login is given
    #[arg(long, value_name = "LISTENER")]
    port: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    let config = arguments.common.load().map_err(|mistakes| anyhow!("{mistakes}"))?;
    let listener = choose(&config, arguments)?.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let story = runtime.block_on(play(&config, &listener, arguments))?;
    runtime.shutdown_timeout(Duration::from_millis(100));
    if arguments.json {
        println!("{:#}", as_json(&listener, &story));
    } else {
        print!("{}", as_text(&listener, arguments.client, &story));
    }
    Ok(())
}

fn choose<'c>(config: &'c Config, arguments: &Arguments) -> Result<&'c Listener> {
    let users = |l: &&Listener| matches!(l.transport, Transport::Submission | Transport::Submissions);
    let outside = |l: &&Listener| l.transport == Transport::Mx;
    let found = match (&arguments.port, &arguments.login) {
        (Some(name), _) => config.listeners.iter().find(|l| l.name == *name),
        (None, Some(_)) => config.listeners.iter().find(users),
        (None, None) => config.listeners.iter().find(outside).or(config.listeners.first()),
    };
    let names = config.listeners.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", ");
    found.with_context(|| format!("there is no such listener; choose one with --port: {names}"))
}

/// What is told.
struct Story {
    steps: Vec<Step>,
    /// Plugins by the stages that only a message reaches.
    later: Vec<(String, Vec<&'static str>)>,
    /// What the server knows by now and this command does not.
    unknown: Vec<String>,
    log: Vec<String>,
}

async fn play(config: &Config, listener: &Listener, arguments: &Arguments) -> Result<Story> {
    let told = Arc::new(Told::default());
    let tables = routing::tables(config)?;
    let router = routing::router(config, &tables)?;
    let resolver = Resolver::new(assemble::resolver_options(config)).map_err(|error| anyhow!("dns: {error}"))?;
    let kept: Arc<dyn KeyValue> = Arc::new(Forgetful::default());
    let plugins = load(config, ports(config, &tables, &resolver, &kept, &told)).await?;
    let plugins = listener.plugins.as_ref().map_or_else(|| plugins.clone(), |names| plugins.select(names));
    let later = plugins.plugins().iter().filter_map(only_later).collect();
    let judge: Arc<dyn Judge> = Arc::new(plugins);
    let rules = assemble::rules(config, listener, None, judge, kept, &tables);
    let services = Services {
        store: Arc::new(MemoryStore::default()),
        handoff: Arc::new(Nowhere),
        router: Arc::new(ArcSwap::from_pointee(router)),
        credentials: None,
        verifier: Arc::new(arc_swap::ArcSwapOption::empty()),
        dns: Arc::new(resolver),
        observer: told.clone(),
    };
    let steps = explain(site::server_options(config), rules, services, visit(listener, arguments)).await;
    let log = std::mem::take(&mut *told.0.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Story { steps, later, unknown: unknown(config, listener), log })
}

/// What plugins may ask where there is no server: everything is forgotten, and nothing is fetched.
fn ports(
    config: &Config,
    tables: &routing::NamedTables,
    resolver: &Resolver,
    kept: &Arc<dyn KeyValue>,
    told: &Arc<Told>,
) -> Ports {
    Ports {
        dns: Arc::new(resolver.clone()),
        kv: Some(kept.clone()),
        sign: Some(Arc::new(assemble::keys(config).unwrap_or_default())),
        tables: tables.clone(),
        fetch: None,
        recorder: None,
        observer: told.clone(),
        now: Arc::new(now),
    }
}

/// Loads every plugin and lets each say what it thinks of its settings, as a start would; gives what they said in passing.
pub(super) async fn try_plugins(config: &Config) -> Result<Vec<String>> {
    let told = Arc::new(Told::default());
    let tables = routing::tables(config)?;
    let resolver = Resolver::new(assemble::resolver_options(config)).map_err(|error| anyhow!("dns: {error}"))?;
    let kept: Arc<dyn KeyValue> = Arc::new(Forgetful::default());
    load(config, ports(config, &tables, &resolver, &kept, &told)).await?;
    let log = std::mem::take(&mut *told.0.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(log)
}

/// The answers depend on what a client has done before, where these are set.
fn unknown(config: &Config, listener: &Listener) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(greylist) = config.greylist.as_ref().filter(|_| listener.transport == Transport::Mx) {
        let delay = greylist.delay.as_secs();
        all.push(format!(
            "greylisting: whether this client has come before; a stranger is taken after {delay} seconds"
        ));
    }
    let rates = [
        ("connections", listener.connections_per_minute),
        ("messages", listener.messages_per_minute),
        ("recipients", listener.recipients_per_minute),
    ];
    for (what, most) in rates.into_iter().filter(|(_, most)| *most > 0) {
        all.push(format!("rate: how many {what} of its {most} per minute the client has used (`{what}-per-minute`)"));
    }
    let (all_max, own_max) = (listener.connections, listener.connections_per_address);
    all.push(format!(
        "sessions: how many there are, in all (at most {all_max}) and of this client (at most {own_max})"
    ));
    all.push("plugins: what they have counted or remembered".into());
    all
}

async fn load(config: &Config, ports: Ports) -> Result<Plugins> {
    let mut options = assemble::plugin_options(config);
    // Compiled plugins are taken from where the server keeps them, if it has ever run.
    options.cache_dir = options.cache_dir.filter(|_| config.data.exists());
    let loaded = tokio::task::spawn_blocking(move || Plugins::load(options, ports)).await?;
    loaded.map_err(|errors| anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

fn only_later(plugin: &PluginInfo) -> Option<(String, Vec<&'static str>)> {
    let stages = [Stage::Data, Stage::Message, Stage::Queue].into_iter().filter(|stage| plugin.stages.contains(*stage));
    let stages: Vec<_> = stages.map(Stage::word).collect();
    (!stages.is_empty()).then(|| (plugin.name.clone(), stages))
}

fn visit(listener: &Listener, arguments: &Arguments) -> Visit {
    let literal = match arguments.client {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    Visit {
        peer: arguments.client,
        name: arguments.name.clone(),
        local: listener.bind.first().copied().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 25))),
        helo: arguments.helo.clone().or_else(|| arguments.name.clone()).unwrap_or(literal),
        sender: arguments.mail.trim_matches(['<', '>']).to_string(),
        recipients: arguments.rcpt.iter().map(|to| to.trim_matches(['<', '>']).to_string()).collect(),
        user: arguments.login.clone(),
    }
}

fn as_text(listener: &Listener, client: IpAddr, story: &Story) -> String {
    let Story { steps, later, unknown, log } = story;
    let mut out = format!("listener {} ({}), client {client}\n", listener.name, listener.transport.word());
    for step in steps {
        let reply = if step.reply.is_empty() { "(closed)" } else { &step.reply };
        out.push_str(&format!("\n{}\n", step.command));
        for note in &step.notes {
            out.push_str(format!("    {:<18} {:<9} {}", note.by, note.word, note.detail).trim_end());
            out.push('\n');
        }
        out.push_str(&format!("  = {reply}\n"));
        step.trail.iter().for_each(|line| out.push_str(&format!("    {line}\n")));
        for lead in &step.leads {
            out.push_str(&format!(
                "    -> {} ({}), sender <{}>: {}\n",
                lead.address, lead.class, lead.sender, lead.next_hop
            ));
        }
    }
    if !later.is_empty() {
        out.push_str("\nonce there is a message\n");
        later
            .iter()
            .for_each(|(name, stages)| out.push_str(&format!("    {name:<18} asked at {}\n", stages.join(", "))));
    }
    for (head, lines) in [("in the log", log), ("not known here, and taken for nothing", unknown)] {
        if !lines.is_empty() {
            out.push_str(&format!("\n{head}\n"));
            lines.iter().for_each(|line| out.push_str(&format!("    {line}\n")));
        }
    }
    out
}

fn as_json(listener: &Listener, story: &Story) -> Value {
    let Story { steps, later, unknown, log } = story;
    let step = |step: &Step| {
        json!({
            "command": step.command,
            "reply": step.reply,
            "notes": step.notes.iter().map(|note| json!({
                "stage": note.stage.word(), "by": note.by, "word": note.word, "detail": note.detail,
            })).collect::<Vec<_>>(),
            "trail": step.trail,
            "leads": step.leads.iter().map(|lead| json!({
                "address": lead.address.to_string(), "class": lead.class, "sender": lead.sender, "next_hop": lead.next_hop,
            })).collect::<Vec<_>>(),
        })
    };
    json!({
        "listener": listener.name,
        "preset": listener.transport.word(),
        "steps": steps.iter().map(step).collect::<Vec<_>>(),
        "later": later.iter().map(|(name, stages)| json!({ "plugin": name, "stages": stages })).collect::<Vec<_>>(),
        "unknown": unknown,
        "log": log,
    })
}

/// Keeps what would be logged beside the mail itself.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn observe(&self, event: Event<'_>) {
        let line = match event {
            Event::Notice { level, message } => format!("{level}: {message}"),
            Event::PluginFault { plugin, error, policy, .. } => format!("plugin {plugin} failed: {error} ({policy})"),
            Event::PluginLog { plugin, level: level @ ("warn" | "error"), message, .. } => {
                format!("{level}: plugin {plugin}: {message}")
            }
            _ => return,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// Nothing is stored, so nothing is handed on.
struct Nowhere;

impl Handoff for Nowhere {
    fn offer(&self, _: Claim) {}
}

/// What plugins remember until the command ends. Nothing expires in that time.
#[derive(Default)]
pub(crate) struct Forgetful(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Forgetful {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl KeyValue for Forgetful {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.with(|kept| kept.get(key).cloned()))
    }

    fn set(&self, key: &[u8], value: &[u8], _: Option<Duration>) -> Result<(), KvError> {
        self.with(|kept| kept.insert(key.to_vec(), value.to_vec()));
        Ok(())
    }

    fn add(&self, key: &[u8], delta: i64, _: Option<Duration>) -> Result<i64, KvError> {
        self.with(|kept| {
            let before = kept.get(key).and_then(|value| Some(i64::from_le_bytes(value.as_slice().try_into().ok()?)));
            let after = before.unwrap_or(0).saturating_add(delta);
            kept.insert(key.to_vec(), after.to_le_bytes().to_vec());
            Ok(after)
        })
    }

    fn list(&self, prefix: &[u8], after: &[u8], count_max: usize) -> Result<Vec<Row>, KvError> {
        let from = [prefix, after].concat();
        self.with(|kept| {
            let rows = kept.range(from.clone()..).filter(|(key, _)| **key != from && key.starts_with(prefix));
            Ok(rows.take(count_max).map(|(key, value)| (key.clone(), value.clone())).collect())
        })
    }

    fn remove(&self, key: &[u8]) -> Result<bool, KvError> {
        Ok(self.with(|kept| kept.remove(key).is_some()))
    }

    fn swap(&self, key: &[u8], old: &[u8], new: &[u8], _: Option<Duration>) -> Result<bool, KvError> {
        self.with(|kept| {
            let same = kept.get(key).map_or(&[][..], Vec::as_slice) == old;
            if same {
                kept.insert(key.to_vec(), new.to_vec());
            }
            Ok(same)
        })
    }
}
