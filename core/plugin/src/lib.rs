//! The Wasm host: components asked at every stage, within limits.
//!
//! ```ignore
//! let host = Host::load(options, ports)?;          // blocking; every mistake at once
//! let judge: Arc<dyn Judge> = Arc::new(host.clone());
//! host.reload(options, ports)?;                    // later: sessions under way keep the plugins they began with
//! ```
//!
//! A plugin is a component of the contract in `sdk/wit`. The stages whose interfaces it exports are the stages at which it is
//! asked; everything it learns and does goes through functions that are granted, counted and limited; what it asks for takes
//! effect when its hook returns; its failure is an event and a policy, and touches nobody else.
//!
//! | page | what it holds |
//! |---|---|
//! | [`options`] | which plugins, with what grants and limits: the door's vocabulary |
//! | `engine` | wasmtime's engine as all plugins share it, and the clock that stops runaways |
//! | `compile` | component to machine code, once: the authenticated cache |
//! | `wit` | the contract's types and what they mean in ours |
//! | `grant`, `host/*` | linking: what a plugin can call, and how it is refused |
//! | `case`, `subject`, `tokens` | what is judged, understood once and shared along the chain |
//! | `instance`, `plugin` | a live instance; a loaded plugin with its pool |
//! | `chain` | order, verdicts, journal: `types::Judge` and `types::Jury` |
//! | `fault` | what can go wrong, and the breaker |
//! | [`tape`](Tape) | recording transactions |
//! | `trial` | new versions that judge without effect, or a share of the sessions |
//! | [`inspect()`] | what a component is, without starting it |

mod case;
mod chain;
mod compile;
mod engine;
mod fault;
mod grant;
mod host;
mod inspect;
mod instance;
pub mod options;
mod plugin;
mod subject;
mod tape;
mod tokens;
mod trial;
mod wit;

pub use compile::Origin;
pub use inspect::{Inspection, inspect};
pub use options::{
    FaultPolicy, Grants, Isolation, Limits, LoadError, OnFault, Options, PatternSet, PluginOptions, Ports, Source,
};
pub use tape::{Lookup, Recorder, Tape};
pub use trial::{CanaryReport, Counts, Disagreement, ShadowReport};

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use waypost_types::{Fact, Judge, Jury, Message, StageSet};

use crate::chain::{Hearing, Set};
use crate::compile::Cache;
use crate::engine::Runtime;

/// The loaded plugins: the judge of a whole server. Cheap to clone; clones are the same host.
#[derive(Clone)]
pub struct Host {
    root: Arc<Root>,
    view: Arc<View>,
}

/// What all views of a host share.
struct Root {
    runtime: Arc<Runtime>,
    whole: ArcSwap<Set>,
    views: Mutex<Vec<Weak<View>>>,
    /// What the plugins were loaded with, and the versions that were swapped out since.
    loaded: Mutex<Loaded>,
}

struct Loaded {
    options: Options,
    ports: Ports,
    /// The last one is the newest.
    replaced: Vec<Arc<plugin::Plugin>>,
}

/// Versions that were swapped out and are kept for a roll back.
const REPLACED_MAX: usize = 8;

/// All plugins, or those of one port.
struct View {
    names: Option<Vec<String>>,
    set: ArcSwap<Set>,
}

impl View {
    fn of(names: Option<Vec<String>>, whole: &Arc<Set>) -> Arc<View> {
        let set = View::choose(names.as_deref(), whole);
        Arc::new(View { names, set: ArcSwap::new(set) })
    }

    fn choose(names: Option<&[String]>, whole: &Arc<Set>) -> Arc<Set> {
        names.map_or_else(|| whole.clone(), |names| Arc::new(whole.select(names)))
    }
}

impl Host {
    /// Compiles (or takes from the cache), links and initialises every plugin. Blocking: seconds for a large plugin that was
    /// not compiled before. Gives every mistake at once.
    pub fn load(options: Options, ports: Ports) -> Result<Host, Vec<LoadError>> {
        let runtime = Runtime::new().map_err(|problem| vec![engine_error(problem)])?;
        let whole = Arc::new(load_set(&options, &ports, &runtime)?);
        let view = View::of(None, &whole);
        let views = Mutex::new(vec![Arc::downgrade(&view)]);
        let loaded = Mutex::new(Loaded { options, ports, replaced: Vec::new() });
        Ok(Host { root: Arc::new(Root { runtime, whole: ArcSwap::new(whole), views, loaded }), view })
    }

    /// Loads another set of plugins and puts it in place of this one for sessions that begin from now on. On error the old
    /// set stays. What was swapped or on trial ends. Blocking, as [`Host::load`].
    pub fn reload(&self, options: Options, ports: Ports) -> Result<(), Vec<LoadError>> {
        let whole = load_set(&options, &ports, &self.root.runtime)?;
        let mut loaded = self.loaded();
        *loaded = Loaded { options, ports, replaced: Vec::new() };
        self.put(whole);
        Ok(())
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, Loaded> {
        self.root.loaded.lock().expect("nothing panics while it is held")
    }

    /// Puts a set in the place of the one in use, for sessions that begin from now on.
    fn put(&self, whole: Set) {
        let whole = Arc::new(whole);
        let mut views = self.root.views.lock().expect("nothing panics while it is held");
        self.root.whole.store(whole.clone());
        views.retain(|view| view.strong_count() > 0);
        for view in views.iter().filter_map(Weak::upgrade) {
            view.set.store(View::choose(view.names.as_deref(), &whole));
        }
    }

    /// Loads another version of a plugin with the settings, grants and limits of the one in use. Blocking.
    fn another(&self, name: &str, wasm: Bytes, shadow: bool) -> Result<Arc<plugin::Plugin>, String> {
        let (mut options, mut ports, cache_dir) = {
            let loaded = self.loaded();
            let options = loaded.options.plugins.iter().find(|plugin| plugin.name == name).cloned();
            let options = options.ok_or_else(|| format!("there is no plugin `{name}` in `plugins.chain`"))?;
            (options, loaded.ports.clone(), loaded.options.cache_dir.clone())
        };
        options.source = Source::Bytes(wasm);
        if shadow {
            // Without effect: nothing is stored, fetched or logged.
            ports.kv = ports.kv.map(|kv| Arc::new(trial::ReadOnly(kv)) as Arc<dyn waypost_types::port::KeyValue>);
            ports.fetch = None;
            ports.observer = Arc::new(waypost_types::event::Deaf);
        }
        let cache = Cache::open(cache_dir.as_deref()).map_err(|error| cache_error(&error).to_string())?;
        let loaded = plugin::load(&options, &ports, &cache, &self.root.runtime);
        loaded.map(Arc::new).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    /// Puts another version of a plugin in the place of the one in use, for sessions that begin from now on; sessions under way keep
    /// theirs. Until the next reload or start, which take what the configuration names. On error everything stays. Blocking.
    pub fn swap(&self, name: &str, wasm: Bytes) -> Result<PluginInfo, String> {
        let plugin = self.another(name, wasm, false)?;
        self.exchange(&plugin, true)
    }

    /// Goes back to the version that was in use before the last swap of this plugin.
    pub fn roll_back(&self, name: &str) -> Result<PluginInfo, String> {
        let before = {
            let mut loaded = self.loaded();
            let at = loaded.replaced.iter().rposition(|plugin| **plugin.name() == *name);
            loaded.replaced.remove(at.ok_or_else(|| format!("no swap of `{name}` is there to roll back"))?)
        };
        self.exchange(&before, false)
    }

    fn exchange(&self, plugin: &Arc<plugin::Plugin>, keep: bool) -> Result<PluginInfo, String> {
        let mut loaded = self.loaded();
        let whole = self.root.whole.load_full();
        let old = whole.find(plugin.name()).ok_or("the plugin has been taken out of `plugins.chain` meanwhile")?;
        if keep {
            loaded.replaced.push(old.clone());
            let extra = loaded.replaced.len().saturating_sub(REPLACED_MAX);
            loaded.replaced.drain(..extra);
        }
        let set = whole.replace(plugin);
        let info = info_of(&set, plugin);
        self.put(set);
        Ok(info)
    }

    /// Lets another version of a plugin judge real mail without effect, until the next swap or reload; `None` ends it. Blocking.
    pub fn shadow(&self, name: &str, wasm: Option<Bytes>) -> Result<(), String> {
        let plugin = wasm.map(|wasm| self.another(name, wasm, true)).transpose()?;
        let _loaded = self.loaded();
        let whole = self.root.whole.load_full();
        let mut set = Set::new(whole.plugins.clone());
        set.canary = whole.canary.clone();
        set.shadow = plugin.map(|plugin| Arc::new(trial::Shadow::new(plugin)));
        self.put(set);
        Ok(())
    }

    /// Lets another version of a plugin judge `share` of a thousand sessions, until the next swap or reload; `None` ends it. Blocking.
    pub fn canary(&self, name: &str, wasm: Option<Bytes>, share: u32) -> Result<(), String> {
        let plugin = wasm.map(|wasm| self.another(name, wasm, false)).transpose()?;
        let _loaded = self.loaded();
        let whole = self.root.whole.load_full();
        let mut set = Set::new(whole.plugins.clone());
        set.shadow = whole.shadow.clone();
        set.canary = plugin.map(|plugin| {
            let with_it = Arc::new(whole.replace(&plugin));
            Arc::new(trial::Canary::new(plugin, with_it, share))
        });
        self.put(set);
        Ok(())
    }

    /// How the new versions on trial fare.
    pub fn trials(&self) -> (Option<ShadowReport>, Option<CanaryReport>) {
        let whole = self.root.whole.load_full();
        let canary = whole.canary.as_ref().map(|canary| CanaryReport {
            plugin: canary.plugin.name().to_string(),
            version: canary.plugin.version.clone(),
            share: canary.share,
            now: whole.find(canary.plugin.name()).map(|plugin| plugin.tally.read()).unwrap_or_default(),
            then: canary.plugin.tally.read(),
        });
        (whole.shadow.as_ref().map(|shadow| shadow.report()), canary)
    }

    /// A judge made of these plugins only, in the chain's order: for a port that asks fewer. Names that are not loaded are
    /// ignored. It follows reloads.
    pub fn select(&self, names: &[String]) -> Host {
        let mut views = self.root.views.lock().expect("nothing panics while it is held");
        let view = View::of(Some(names.to_vec()), &self.root.whole.load_full());
        views.push(Arc::downgrade(&view));
        Host { root: self.root.clone(), view }
    }

    /// The jury of a session in which these facts were stated before any plugin was asked: for trying a plugin without those that
    /// come before it.
    pub fn open_with(&self, facts: Vec<Fact>) -> Box<dyn Jury> {
        Box::new(Hearing::new(self.view.set.load_full()).with_facts(facts))
    }

    /// Puts an operator's command to a plugin (`on-command` of the contract), with the message that it is about, and gives what
    /// the plugin says. The error is for people.
    pub async fn command(
        &self,
        plugin: &str,
        name: &str,
        argument: &str,
        message: Option<Message>,
    ) -> Result<String, String> {
        let set = self.view.set.load_full();
        let loaded = set.plugins.iter().find(|loaded| **loaded.name() == *plugin);
        let loaded = loaded.ok_or_else(|| format!("there is no plugin `{plugin}` in `plugins.chain`"))?;
        chain::command(loaded, name, argument, message.unwrap_or_default()).await
    }

    /// The loaded plugins, in order, for people.
    pub fn plugins(&self) -> Vec<PluginInfo> {
        let set = self.view.set.load_full();
        set.plugins.iter().map(|plugin| info_of(&set, plugin)).collect()
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Host").field(&self.plugins()).finish()
    }
}

impl Judge for Host {
    fn stages(&self) -> StageSet {
        self.view.set.load().stages()
    }

    fn open(&self) -> Box<dyn Jury> {
        Box::new(Hearing::new(self.view.set.load_full()))
    }
}

/// Which of the components in `files` have no compiled code in `cache_dir` yet. Files that cannot be read are left to [`Host::load`] to
/// tell of. Starts no thread.
pub fn uncompiled(cache_dir: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let (Ok(engine), Ok(cache)) = (engine::engine(), Cache::open(Some(cache_dir))) else { return files.to_vec() };
    let missing = |file: &&PathBuf| fs::read(file).is_ok_and(|wasm| cache.missing(&engine, &wasm));
    files.iter().filter(missing).cloned().collect()
}

/// Compiles components into a cache folder, for a host of the same program on the same machine. Cranelift's memory stays with the process
/// that did it: a server lets another one do it.
pub fn precompile(cache_dir: &Path, files: &[PathBuf]) -> Result<(), String> {
    let engine = engine::engine()?;
    let cache = Cache::open(Some(cache_dir)).map_err(|error| format!("{}: {error}", cache_dir.display()))?;
    for file in files {
        let wasm = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        cache.compile(&engine, &wasm).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

fn info_of(set: &Set, plugin: &Arc<plugin::Plugin>) -> PluginInfo {
    PluginInfo {
        name: plugin.name().to_string(),
        registered_name: plugin.registered_name.clone(),
        version: plugin.version.clone(),
        stages: set.stages_of(plugin),
        imports: plugin.imports.clone(),
        breaker: plugin.breaker.word(),
        origin: plugin.origin,
        counts: plugin.tally.read(),
    }
}

fn load_set(options: &Options, ports: &Ports, runtime: &Arc<Runtime>) -> Result<Set, Vec<LoadError>> {
    let cache = Cache::open(options.cache_dir.as_deref()).map_err(|error| vec![cache_error(&error)])?;
    let mut plugins = Vec::new();
    let mut errors = Vec::new();
    let mut names = HashSet::new();
    for plugin in &options.plugins {
        if !names.insert(&plugin.name) {
            errors.push(LoadError {
                plugin: plugin.name.clone(),
                problem: "the name is given twice".into(),
                remedy: "give each plugin its own name".into(),
            });
        }
        match plugin::load(plugin, ports, &cache, runtime) {
            Ok(plugin) => plugins.push(Arc::new(plugin)),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(Set::new(plugins)) } else { Err(errors) }
}

fn engine_error(problem: String) -> LoadError {
    let remedy =
        "check that the process may reserve address space (ulimit -v, systemd's LimitAS and MemoryDenyWriteExecute)";
    LoadError {
        plugin: String::new(),
        problem: format!("the Wasm engine does not start: {problem}"),
        remedy: remedy.into(),
    }
}

fn cache_error(error: &std::io::Error) -> LoadError {
    LoadError {
        plugin: String::new(),
        problem: format!("the folder for compiled plugins cannot be used: {error}"),
        remedy: "let it belong to the server's user, with mode 0700".into(),
    }
}

/// What is known about a loaded plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    /// Its name in the configuration.
    pub name: String,
    /// What it calls itself.
    pub registered_name: String,
    /// The version it states.
    pub version: String,
    /// The stages at which it is asked.
    pub stages: StageSet,
    /// The interfaces that it imports, such as `dns`.
    pub imports: Vec<String>,
    /// `closed`, `open` or `half-open`.
    pub breaker: &'static str,
    /// Where its compiled code came from.
    pub origin: Origin,
    /// What it said since it was loaded.
    pub counts: Counts,
}
