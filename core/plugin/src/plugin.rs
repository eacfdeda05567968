//! One loaded plugin: checked options, linked component, its pool of instances, its breaker.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use waypost_types::{Domain, Event, Host, Question, Stage, Transport};

use crate::case::{Bucket, Call, Case, Patterns, Shared};
use crate::compile::{Cache, Origin};
use crate::engine::{MEMORY_MAX, Runtime};
use crate::fault::{Admission, Breaker, Fault};
use crate::grant;
use crate::instance::{Answer, Cell, Exports, Hook, Template};
use crate::options::{Isolation, LoadError, OnFault, PatternSet, PluginOptions, Ports, Source};
use crate::trial::Tally;
use crate::wit::{Registration, clip};

/// Octets of all patterns of one set.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Domains in a registration.
const DOMAINS_MAX: usize = 10_000;

/// What several questions share about a plugin.
pub(crate) struct Plugin {
    template: Template,
    pub(crate) isolation: Isolation,
    pub(crate) on_fault: OnFault,
    pub(crate) breaker: Breaker,
    pub(crate) tally: Tally,
    pub(crate) imports: Vec<String>,
    pub(crate) origin: Origin,
    pub(crate) registered_name: String,
    pub(crate) version: String,
    wants: Wants,
    permits: Arc<Semaphore>,
    #[allow(clippy::vec_box, reason = "instances move between pool, session and call: as pointers")]
    idle: Mutex<Vec<Box<Cell>>>,
}

/// What one call cost, for the *why* of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) bytes_read: u64,
    pub(crate) dns_asked: u32,
}

impl Plugin {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.template.shared.name
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.template.shared
    }

    pub(crate) fn exports(&self, hook: Hook) -> bool {
        self.template.exports.has(hook)
    }

    /// Whether the plugin's registration leaves this question to it.
    pub(crate) fn wants(&self, question: &Question) -> bool {
        self.wants.includes(question)
    }

    /// Asks one hook. `held` is the instance that the session keeps for this plugin, unless the plugin is pooled; the breaker
    /// has admitted the call at the moment given.
    pub(crate) async fn ask(
        &self,
        hook: Hook,
        stage: Stage,
        case: &mut Box<Case>,
        held: &mut Option<Box<Cell>>,
        (admission, started): (Admission, Instant),
    ) -> (Result<Answer, Fault>, Cost) {
        let wall = self.wall(stage);
        let mut cell = match self.cell(held, admission, started, wall).await {
            Ok(cell) => cell,
            Err(fault) => return (Err(fault), Cost::default()),
        };
        let limits = &self.template.shared.limits;
        let cpu = if hook == Hook::Command { limits.cpu_init.max(limits.cpu) } else { limits.cpu };
        let call = Call::new(started, wall, cpu);
        let answer = cell.ask(&self.template, hook, case, call).await;
        let cost = Cost { bytes_read: cell.counters().bytes_read, dns_asked: cell.counters().dns_asked };
        if answer.as_ref().err().is_none_or(Fault::spares_instance) {
            self.put_back(cell, held, started);
        }
        (answer, cost)
    }

    fn wall(&self, stage: Stage) -> Duration {
        let limits = &self.template.shared.limits;
        if matches!(stage, Stage::Message | Stage::Queue) { limits.wall_message } else { limits.wall }
    }

    /// An instance to ask: the one that is held, an idle one, or a fresh one. A probe of the breaker gets a fresh one.
    async fn cell(
        &self,
        held: &mut Option<Box<Cell>>,
        admission: Admission,
        started: Instant,
        wall: Duration,
    ) -> Result<Box<Cell>, Fault> {
        if let Some(cell) = held.take().filter(|_| admission != Admission::Probe) {
            return Ok(cell);
        }
        let permit = self.permit(started, wall).await?;
        let idle = match (self.isolation, admission) {
            (Isolation::Pooled, Admission::Closed) => self.lock().pop(),
            _ => None,
        };
        let mut cell = match idle {
            Some(cell) => cell,
            None => Box::pin(self.template.make(started, wall)).await?.0,
        };
        cell.permit = Some(permit);
        Ok(cell)
    }

    /// Waiting for a free instance counts as wall time.
    async fn permit(&self, started: Instant, wall: Duration) -> Result<OwnedSemaphorePermit, Fault> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let left = wall.saturating_sub(started.elapsed());
        let permit = Box::pin(tokio::time::timeout(left, self.permits.clone().acquire_owned())).await;
        permit.ok().and_then(Result::ok).ok_or(Fault::Limit("instances"))
    }

    fn put_back(&self, mut cell: Box<Cell>, held: &mut Option<Box<Cell>>, now: Instant) {
        if self.isolation != Isolation::Pooled {
            *held = Some(cell);
        } else if !cell.is_worn(now) {
            let permit = cell.permit.take();
            self.lock().push(cell);
            drop(permit);
        }
    }

    #[allow(clippy::vec_box, reason = "as above")]
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Box<Cell>>> {
        self.idle.lock().expect("nothing panics while it is held")
    }
}

/// A registration's narrowing.
struct Wants {
    domains: Vec<(Domain, bool)>,
    only_inbound: bool,
    only_authenticated: bool,
    max_size: Option<u64>,
}

impl Wants {
    fn of(registration: &Registration) -> Result<Wants, String> {
        if registration.rcpt_domains.len() > DOMAINS_MAX {
            return Err(format!("it registers for more than {DOMAINS_MAX} domains"));
        }
        let domain = |text: &String| {
            let below = text.strip_prefix('.');
            let domain = Domain::parse(below.unwrap_or(text));
            domain
                .map(|domain| (domain, below.is_some()))
                .map_err(|error| format!("it registers for `{text}`: {error}"))
        };
        Ok(Wants {
            domains: registration.rcpt_domains.iter().map(domain).collect::<Result<_, _>>()?,
            only_inbound: registration.only_inbound,
            only_authenticated: registration.only_authenticated,
            max_size: registration.max_size,
        })
    }

    fn includes(&self, question: &Question) -> bool {
        let authenticated = question.session.user.is_some();
        let from_outside = matches!(question.session.transport, Transport::Mx | Transport::Lmtp | Transport::Relay);
        let inbound = from_outside && !authenticated && !question.session.trusted;
        let small = || {
            let size = question.message.as_ref().map_or(0, |message| message.len() as u64);
            self.max_size.is_none_or(|max| size <= max)
        };
        (inbound || !self.only_inbound)
            && (authenticated || !self.only_authenticated)
            && small()
            && self.concerns(question)
    }

    /// Before there are recipients every question may concern them.
    fn concerns(&self, question: &Question) -> bool {
        if self.domains.is_empty() {
            return true;
        }
        let listed = |host: &Host| {
            let listed = |(domain, below): &(Domain, bool), there: &Domain| {
                if *below { there.is_within(domain) } else { there == domain }
            };
            host.domain().is_some_and(|there| self.domains.iter().any(|row| listed(row, there)))
        };
        match question.stage {
            Stage::Connect | Stage::Helo | Stage::Auth | Stage::Mail => true,
            Stage::Rcpt => question.recipient.as_ref().is_none_or(|recipient| listed(recipient.address.host())),
            Stage::Data | Stage::Message | Stage::Queue => {
                question.envelope.recipients.iter().any(|recipient| listed(recipient.address.host()))
            }
        }
    }
}

/// Loads one plugin: everything that is wrong with its options, or else the first thing that is wrong with its component.
pub(crate) fn load(
    options: &PluginOptions,
    ports: &Ports,
    cache: &Cache,
    runtime: &Arc<Runtime>,
) -> Result<Plugin, Vec<LoadError>> {
    let error =
        |problem: String, remedy: &str| LoadError { plugin: options.name.clone(), problem, remedy: remedy.into() };
    let mut errors = check(options, ports);
    let patterns = match compile_patterns(&options.patterns) {
        Ok(patterns) => patterns,
        Err(problem) => {
            errors.push(error(problem, "use literal, non-empty texts of at most 1 MiB together"));
            HashMap::new()
        }
    };
    let wasm = read(&options.source).map_err(|problem| error(problem, "check the plugin's path and that it was built"));
    let wasm = match wasm {
        Ok(wasm) if errors.is_empty() => wasm,
        Ok(_) => return Err(errors),
        Err(problem) => return Err(errors.into_iter().chain([problem]).collect()),
    };
    let shared = Arc::new(share(options, ports, cache, runtime, patterns));
    build(options, shared, cache, &wasm).map_err(|problem| {
        vec![error(
            problem,
            "build the plugin for wasm32-wasip2 with this server's SDK, and see its README for what it needs",
        )]
    })
}

fn check(options: &PluginOptions, ports: &Ports) -> Vec<LoadError> {
    let mut errors = Vec::new();
    let mut say = |problem: String, remedy: &str| {
        errors.push(LoadError { plugin: options.name.clone(), problem, remedy: remedy.into() });
    };
    let letters = options.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !(1..=32).contains(&options.name.len()) || !letters {
        say("the name is not allowed".into(), "use at most 32 lower-case letters, digits and hyphens");
    }
    if let Err(problem) = serde_json::from_str::<serde_json::Value>(&options.config) {
        say(format!("its configuration is no JSON: {problem}"), "correct it");
    }
    if options.limits.memory > MEMORY_MAX {
        say(format!("a memory limit above {} MiB", MEMORY_MAX >> 20), "lower it");
    }
    if options.limits.instances == 0 {
        say("no instances are allowed".into(), "set the limit to at least 1");
    }
    for table in options.grants.tables.iter().filter(|table| !ports.tables.contains_key(*table)) {
        say(format!("there is no table `{table}`"), "define it, or take it out of the plugin's grants");
    }
    errors
}

fn read(source: &Source) -> Result<Bytes, String> {
    match source {
        Source::Bytes(bytes) => Ok(bytes.clone()),
        Source::File(path) => fs::read(path).map(Bytes::from).map_err(|error| format!("{}: {error}", path.display())),
    }
}

fn compile_patterns(
    sets: &std::collections::BTreeMap<String, PatternSet>,
) -> Result<HashMap<String, Patterns>, String> {
    let compiled = |(id, set): (&String, &PatternSet)| {
        let bytes: usize = set.patterns.iter().map(String::len).sum();
        if bytes > PATTERN_BYTES_MAX || set.patterns.iter().any(String::is_empty) {
            return Err(format!("the pattern set `{id}` is too large or has an empty pattern"));
        }
        let searcher = AhoCorasick::builder().ascii_case_insensitive(set.ignore_case).build(&set.patterns);
        let searcher = searcher.map_err(|error| format!("the pattern set `{id}`: {error}"))?;
        Ok((id.clone(), Patterns { searcher, decoded: set.decoded }))
    };
    sets.iter().map(compiled).collect()
}

fn share(
    options: &PluginOptions,
    ports: &Ports,
    cache: &Cache,
    runtime: &Arc<Runtime>,
    patterns: HashMap<String, Patterns>,
) -> Shared {
    let granted: HashSet<&String> = options.grants.tables.iter().collect();
    let tables = ports.tables.iter().filter(|(name, _)| granted.contains(name));
    Shared {
        name: options.name.as_str().into(),
        config: options.config.as_str().into(),
        grants: options.grants.clone(),
        limits: options.limits.clone(),
        verbose: options.verbose,
        ports: ports.clone(),
        tables: tables.map(|(name, table)| (name.clone(), table.clone())).collect(),
        patterns,
        hmac_root: cache.derive(&format!("hmac\0{}", options.name)),
        runtime: runtime.clone(),
        log: Bucket::new(Duration::from_secs(1), options.limits.log),
        kv: Bucket::new(Duration::from_secs(60), options.limits.kv_write),
        complained: false.into(),
    }
}

/// Compiles, links, and makes a first instance, which checks the exports' types and asks for the registration.
fn build(options: &PluginOptions, shared: Arc<Shared>, cache: &Cache, wasm: &[u8]) -> Result<Plugin, String> {
    let engine = &shared.runtime.engine;
    let (component, origin) = cache.compile(engine, wasm)?;
    let exports = Exports::of(&component)?;
    let linked = grant::link(engine, &component, &shared.grants, &shared.ports)?;
    let pre = linked.linker.instantiate_pre(&component).map_err(|error| format!("{error:#}"))?;
    tell_of_denied(&shared, &linked.denied);
    let limits = &shared.limits;
    let breaker = Breaker::new(limits.breaker_faults, limits.breaker_pause);
    let permits = Arc::new(Semaphore::new(limits.instances as usize));
    let template = Template { shared: shared.clone(), pre, exports, on_fiber: linked.waits };
    let wall = limits.cpu_init.max(limits.wall);
    let (cell, registration) = block_on(template.make(Instant::now(), wall)).map_err(|fault| fault.to_string())?;
    let idle = if options.isolation == Isolation::Pooled { vec![cell] } else { Vec::new() };
    Ok(Plugin {
        template,
        isolation: options.isolation,
        on_fault: options.on_fault.clone(),
        breaker,
        tally: Tally::default(),
        imports: linked.imports,
        origin,
        wants: Wants::of(&registration)?,
        registered_name: clip(&registration.name, 64),
        version: clip(&registration.version, 64),
        permits,
        idle: Mutex::new(idle),
    })
}

fn tell_of_denied(shared: &Shared, denied: &[String]) {
    if denied.is_empty() {
        return;
    }
    let message = format!(
        "plugin {} can use {}, which it is not granted: if it does, the call is refused",
        shared.name,
        denied.join(", ")
    );
    shared.ports.observer.observe(Event::Notice { level: "info", message: &message });
}

/// Runs a future that waits for nothing outside: a guest on its fiber, giving way at ticks.
fn block_on<R>(future: impl Future<Output = R>) -> R {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::yield_now(),
        }
    }
}
