//! What the host is told: which plugins, with what grants and limits, and through which ports they reach the world.
//!
//! Plain values that `daemon/assemble` fills from the configuration; nothing here knows TOML.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waypost_types::port::{Dns, Fetch, KeyValue, Sign, Table};
use waypost_types::{Observer, Stage, Timestamp};

use crate::tape::Recorder;

/// The whole chain.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The plugins, in the order in which they are asked at every stage.
    pub plugins: Vec<PluginOptions>,
    /// Where compiled code is kept between starts; created with mode 0700. `None` compiles at every start.
    pub cache_dir: Option<PathBuf>,
}

/// One plugin.
#[derive(Clone, Debug)]
pub struct PluginOptions {
    /// Its name in the configuration, the log and the key-value store: lower-case letters, digits and hyphens, at most 32.
    pub name: String,
    /// The component.
    pub source: Source,
    /// Its own settings as JSON; `{}` if it has none.
    pub config: String,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// What it may do beyond looking at the transaction.
    pub grants: Grants,
    /// What its failure means.
    pub on_fault: OnFault,
    /// What it may use up.
    pub limits: Limits,
    /// Pattern sets for `message.find`, by the id that the plugin uses.
    pub patterns: BTreeMap<String, PatternSet>,
    /// Whether its log lines of the levels trace and debug are heard.
    pub verbose: bool,
}

impl PluginOptions {
    /// A plugin with the defaults: a fresh instance for each transaction, nothing granted, 451 when it fails.
    pub fn new(name: impl Into<String>, source: Source) -> PluginOptions {
        PluginOptions {
            name: name.into(),
            source,
            config: "{}".into(),
            isolation: Isolation::default(),
            grants: Grants::default(),
            on_fault: OnFault::default(),
            limits: Limits::default(),
            patterns: BTreeMap::new(),
            verbose: false,
        }
    }
}

/// Where a component comes from.
#[derive(Clone)]
pub enum Source {
    /// A `.wasm` file.
    File(PathBuf),
    /// The component itself, in binary form.
    Bytes(Bytes),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "File({})", path.display()),
            Source::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
        }
    }
}

/// How long an instance of a plugin lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// A fresh instance for each transaction, made when its first hook is asked: nothing can leak between messages.
    #[default]
    Transaction,
    /// One instance for a whole session: for plugins that follow a connection.
    Connection,
    /// Instances are used again, by whoever comes next: fastest; for plugins that are trusted.
    Pooled,
}

/// What a plugin may do beyond session, envelope, message, auth-results, scores and env. Everything is denied unless granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Ask DNS.
    pub dns: bool,
    /// Keep values in its own namespace of the key-value store.
    pub kv: bool,
    /// Look up in these tables, by name.
    pub tables: Vec<String>,
    /// Sign with these keys, by name; `*` stands for all.
    pub keys: Vec<String>,
    /// Use the interface `crypto` for hashes and randomness, which need no key. Implied by `keys`.
    pub crypto: bool,
    /// Fetch from these URL prefixes, such as `https://api.example.net/v1/`.
    pub http: Vec<String>,
    /// Change the body, the sender and the recipients. Adding and removing header fields needs no grant.
    pub rewrite: bool,
    /// See the passwords that clients show (`on-auth`).
    pub credentials: bool,
}

/// What is answered when a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FaultPolicy {
    /// 451 4.3.0: the client comes back later.
    #[default]
    Tempfail,
    /// As if it had not been asked; the fact `PLUGIN_FAULT` is stated.
    Pass,
}

/// The fault policy of a plugin, by stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnFault {
    /// At stages without their own row.
    pub default: FaultPolicy,
    /// At particular stages.
    pub stages: Vec<(Stage, FaultPolicy)>,
}

impl OnFault {
    /// The same policy everywhere.
    pub fn all(policy: FaultPolicy) -> OnFault {
        OnFault { default: policy, stages: Vec::new() }
    }

    /// The policy at `stage`.
    pub fn at(&self, stage: Stage) -> FaultPolicy {
        self.stages.iter().find(|(at, _)| *at == stage).map_or(self.default, |(_, policy)| *policy)
    }
}

/// What a plugin may use up. Reaching one is a fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Linear memory of one instance, octets. JavaScript needs 64 MiB, Python 128 MiB.
    pub memory: usize,
    /// CPU in one call.
    pub cpu: Duration,
    /// CPU in one transaction.
    pub cpu_transaction: Duration,
    /// CPU while an instance is made and initialised.
    pub cpu_init: Duration,
    /// Wall time of one call up to RCPT and DATA, waiting for a free instance included.
    pub wall: Duration,
    /// Wall time of one call at the stages message and queue.
    pub wall_message: Duration,
    /// Host functions called in one call.
    pub host_calls: u32,
    /// DNS questions in one transaction.
    pub dns_questions: u32,
    /// Fetches in one transaction.
    pub fetches: u32,
    /// Edits of header fields and envelope in one transaction.
    pub edits: u32,
    /// Facts in one transaction.
    pub facts: u32,
    /// Log text in one call, and of all calls in a second (then lines are dropped and counted), octets.
    pub log: u32,
    /// Octets of session variables.
    pub variables: usize,
    /// Octets written to the key-value store in a minute.
    pub kv_write: u32,
    /// Instances at a time; whoever comes later waits.
    pub instances: u32,
    /// Calls after which a pooled instance is replaced.
    pub uses: u32,
    /// Age at which a pooled instance is replaced.
    pub age: Duration,
    /// Faults within a minute that open the breaker.
    pub breaker_faults: u32,
    /// How long an open breaker waits before it tries one call.
    pub breaker_pause: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory: 32 << 20,
            cpu: Duration::from_millis(10),
            cpu_transaction: Duration::from_millis(100),
            cpu_init: Duration::from_secs(1),
            wall: Duration::from_secs(5),
            wall_message: Duration::from_secs(30),
            host_calls: 1000,
            dns_questions: 100,
            fetches: 10,
            edits: 64,
            facts: 200,
            log: 8 << 10,
            variables: 16 << 10,
            kv_write: 16 << 20,
            instances: 250,
            uses: 10_000,
            age: Duration::from_secs(600),
            breaker_faults: 5,
            breaker_pause: Duration::from_secs(30),
        }
    }
}

/// Patterns that the host looks for in a message so that the body need not enter the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatternSet {
    /// Literal texts.
    pub patterns: Vec<String>,
    /// Whether ASCII case is ignored.
    pub ignore_case: bool,
    /// Whether decoded text parts are searched instead of the message as it came.
    pub decoded: bool,
}

/// How plugins reach the world: filled by the daemon.
#[derive(Clone)]
pub struct Ports {
    /// The resolver.
    pub dns: Arc<dyn Dns>,
    /// The key-value store, if there is one.
    pub kv: Option<Arc<dyn KeyValue>>,
    /// The key ring, if there is one.
    pub sign: Option<Arc<dyn Sign>>,
    /// The tables that can be granted, by name.
    pub tables: BTreeMap<String, Arc<dyn Table>>,
    /// An HTTP client, if there is one.
    pub fetch: Option<Arc<dyn Fetch>>,
    /// Whoever keeps transactions, if anybody does.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// Whoever listens to events.
    pub observer: Arc<dyn Observer>,
    /// The clock.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").field("tables", &self.tables.keys()).finish_non_exhaustive()
    }
}

/// Why a plugin cannot be loaded, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// Which plugin; empty if it is about the host itself.
    pub plugin: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.plugin.is_empty() {
            write!(f, "plugin {}: ", self.plugin)?;
        }
        write!(f, "{}: {}", self.problem, self.remedy)
    }
}

impl std::error::Error for LoadError {}
