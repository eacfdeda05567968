//! `waypost plugin bench`: what a plugin costs, measured in this process: no network, nothing else.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::json;
use waypost_plugin::{Host as Plugins, Isolation, Options, PluginOptions, Source};
use waypost_types::{Judgement, Jury, Question, Stage, StageSet, Task};

use super::Which;
use super::case::{self, Case};
use super::play;
use super::recipe::{Subject, cache_dir};
use super::world::World;

/// Instances that are held at once to see what one weighs.
const HELD: usize = 100;

/// Measures a plugin.
#[derive(Args)]
#[command(
    after_help = "A case or message says what is asked; without one it is the first of the plugin's own cases, or a short message from nobody in particular. `reused` is a call into an \
    instance that is there (isolation = \"pooled\"), `fresh` includes making one (\"transaction\", the first call of a message).\n\n\
    Examples:\n  waypost plugin bench\n  waypost plugin bench filter.wasm --grants kv --case message.eml --seconds 5"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// A case or a message
    #[arg(long, value_name = "FILE")]
    case: Option<PathBuf>,
    /// How long to measure
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Times of one stage in microseconds, sorted.
struct Times {
    stage: Stage,
    micros: Vec<f64>,
}

impl Times {
    fn at(&self, share: f64) -> f64 {
        let last = self.micros.len().saturating_sub(1);
        self.micros.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    let subject = Subject::find(&arguments.which)?;
    let case = first_case(arguments, &subject)?;
    let octets = fs::read(&subject.wasm).with_context(|| subject.wasm.display().to_string())?;
    let mut options = subject.options()?;
    options.config = subject.config(&case.config).to_string();
    options.source = Source::Bytes(octets.clone().into());
    options.grants.tables = case.tables.keys().cloned().collect();
    options.limits.instances = options.limits.instances.max(HELD as u32 + 10);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let span = Duration::from_secs_f64(arguments.seconds.clamp(0.05, 600.0) / 2.0);
    let (compiled, cached) =
        (time_load(&subject, &options, &case, false)?, time_load(&subject, &options, &case, true)?);
    let reused = runtime.block_on(measure(&subject, &options, &case, Isolation::Pooled, span))?;
    let fresh = runtime.block_on(measure(&subject, &options, &case, Isolation::Transaction, span))?;
    let weight = runtime.block_on(weigh(&subject, &options, &case))?;
    if reused.is_empty() {
        bail!("the plugin is asked nothing about this message: name another with --case");
    }
    if arguments.json {
        let rows = |times: &[Times]| {
            let row = |t: &Times| json!({ "stage": t.stage.word(), "calls": t.micros.len(), "median_us": t.at(0.5), "p99_us": t.at(0.99) });
            times.iter().map(row).collect::<Vec<_>>()
        };
        let value = json!({
            "component_bytes": octets.len(), "compile_ms": compiled.as_secs_f64() * 1e3, "load_ms": cached.as_secs_f64() * 1e3,
            "reused": rows(&reused), "fresh": rows(&fresh), "instance_bytes": weight,
        });
        println!("{value:#}");
        return Ok(());
    }
    println!("component            {} KiB", octets.len().div_ceil(1024));
    println!(
        "compile              {:.1} ms; from the cache {:.1} ms",
        compiled.as_secs_f64() * 1e3,
        cached.as_secs_f64() * 1e3
    );
    println!("memory per instance  {} KiB", weight.div_ceil(1024));
    for (word, times) in [("reused", &reused), ("fresh", &fresh)] {
        for row in times {
            println!("{word:<7} {:<12} {:>9.2} µs median, {:>9.2} µs p99", row.stage.word(), row.at(0.5), row.at(0.99));
        }
    }
    Ok(())
}

/// The case that was named, or the first one of the plugin's own.
fn first_case(arguments: &Arguments, subject: &Subject) -> Result<Case> {
    let own = || subject.cases.as_deref().filter(|folder| folder.is_dir()).map(super::test::files);
    let path = match &arguments.case {
        Some(path) => Some(path.clone()),
        None => own().transpose()?.and_then(|files| files.into_iter().next()),
    };
    let Some(path) = path else { return Ok(Case::default()) };
    case::read(&path)?.into_iter().next().with_context(|| format!("{} has no case", path.display()))
}

fn load(subject: &Subject, options: &PluginOptions, case: &Case, cached: bool) -> Result<Plugins> {
    let ports = World::new()?.stage(case, &subject.name)?;
    let options = Options { plugins: vec![options.clone()], cache_dir: cache_dir().filter(|_| cached) };
    let loaded = Plugins::load(options, ports);
    loaded.map_err(|errors| anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// How long loading takes, from source or from the cache (which an earlier load has filled).
fn time_load(subject: &Subject, options: &PluginOptions, case: &Case, cached: bool) -> Result<Duration> {
    if cached {
        load(subject, options, case, true)?;
    }
    let started = Instant::now();
    load(subject, options, case, cached)?;
    Ok(started.elapsed())
}

/// Plays the case again and again; the times are those of the plugin's calls alone.
async fn measure(
    subject: &Subject,
    options: &PluginOptions,
    case: &Case,
    isolation: Isolation,
    span: Duration,
) -> Result<Vec<Times>> {
    let options = PluginOptions { isolation, ..options.clone() };
    let plugins = load(subject, &options, case, true)?;
    let mut rows: Vec<Times> = Stage::ALL.into_iter().map(|stage| Times { stage, micros: Vec::new() }).collect();
    let started = Instant::now();
    while started.elapsed() < span {
        let mut timed = Timed { jury: plugins.open_with(Vec::new()), times: Vec::new() };
        play::play(case, &mut timed).await?;
        for (stage, micros) in timed.times {
            rows[stage as usize].micros.push(micros);
        }
    }
    rows.retain(|row| !row.micros.is_empty());
    rows.iter_mut().for_each(|row| row.micros.sort_by(f64::total_cmp));
    Ok(rows)
}

/// A jury with a stop watch.
struct Timed {
    jury: Box<dyn Jury>,
    times: Vec<(Stage, f64)>,
}

impl Jury for Timed {
    fn stages(&self) -> StageSet {
        self.jury.stages()
    }

    fn judge(&mut self, question: Question) -> Task<'_, Judgement> {
        Box::pin(async move {
            let (stage, started) = (question.stage, Instant::now());
            let judgement = self.jury.judge(question).await;
            let micros = started.elapsed().as_secs_f64() * 1e6;
            // Whoever has no part in this message is not asked, and that is no measure of anything.
            if !judgement.opinions.is_empty() {
                self.times.push((stage, micros));
            }
            judgement
        })
    }

    fn reset(&mut self) {
        self.jury.reset();
    }
}

/// Resident memory that a live instance adds after it was asked all that the case asks.
async fn weigh(subject: &Subject, options: &PluginOptions, case: &Case) -> Result<usize> {
    let options = PluginOptions { isolation: Isolation::Connection, ..options.clone() };
    let plugins = load(subject, &options, case, true)?;
    let mut held = Vec::with_capacity(HELD);
    // The first one brings the code in.
    let mut first = plugins.open_with(Vec::new());
    play::play(case, &mut *first).await?;
    let before = resident()?;
    for _ in 0..HELD {
        let mut jury = plugins.open_with(Vec::new());
        play::play(case, &mut *jury).await?;
        held.push(jury);
    }
    Ok(resident()?.saturating_sub(before) / HELD)
}

/// Resident memory of this process, octets.
fn resident() -> Result<usize> {
    let text = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS in /proc/self/status")?;
    let kib: usize = line.trim().trim_end_matches(" kB").parse().context("VmRSS in /proc/self/status")?;
    Ok(kib << 10)
}
