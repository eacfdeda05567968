//! `waypost plugin test`: cases and messages, played and compared.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};
use waypost_plugin::{Host as Plugins, Options, PluginOptions, Source};
use waypost_types::{Edit, Fact, Verdict};

use super::Which;
use super::case::{self, Case, Expect, Facts};
use super::play::{self, Transcript};
use super::recipe::{Subject, cache_dir};
use super::world::World;

/// Plays cases against a plugin.
#[derive(Args)]
#[command(
    after_help = "Without cases, those of the plugin's folder are played. A .toml file is a transaction, or several, with what must come of \
    them; any other file is a message, and what the plugin makes of it is printed. Exits with 1 if anything is not as expected.\n\n\
    Examples:\n  waypost plugin test\n  waypost plugin test greeter cases/first.toml\n  waypost plugin test filter.wasm spam/*.eml --grants kv"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Cases and messages, or folders of them
    cases: Vec<PathBuf>,
    /// Tell of every case what the plugin did
    #[arg(long, short)]
    verbose: bool,
    /// As JSON, an object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    let subject = Subject::find(&arguments.which)?;
    let paths = match (arguments.cases.as_slice(), &subject.cases) {
        ([], Some(folder)) => files(folder)?,
        ([], None) => bail!("name the cases or messages to play: a .wasm file has none of its own"),
        (named, _) => named.iter().map(|path| files(path)).collect::<Result<Vec<_>>>()?.concat(),
    };
    if paths.is_empty() {
        bail!("there are no cases: write one, see sdk/README.md");
    }
    let options = subject.options()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut played, mut failed) = (0, 0);
    for path in &paths {
        let mut world = World::new()?;
        for case in case::read(path)? {
            let (transcript, mistakes) = runtime.block_on(try_case(&subject, &options, &mut world, &case))?;
            played += 1;
            failed += usize::from(!mistakes.is_empty());
            report(arguments, &case, &transcript, &mistakes, &world);
        }
    }
    if failed > 0 {
        bail!("{failed} of {played} cases are not as expected");
    }
    if !arguments.json {
        println!("{played} cases, all as expected");
    }
    Ok(())
}

/// A file, or the files below a folder in the order of their names.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let path = entry?.path();
        let kind = path.extension().and_then(|extension| extension.to_str());
        // Messages lie beside the cases that name them.
        if kind == Some("toml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Loads the plugin into the case's world and plays. A case has an instance of its own: nothing but the store is kept.
async fn try_case(
    subject: &Subject,
    options: &PluginOptions,
    world: &mut World,
    case: &Case,
) -> Result<(Transcript, Vec<String>)> {
    let plugins = loaded(subject, options, world, case).await?;
    let transcript = try_loaded(&plugins, case).await?;
    let mistakes = case.expect.as_ref().map(|expect| compare(expect, &transcript, world)).unwrap_or_default();
    Ok((transcript, mistakes))
}

/// The plugin in the case's world.
pub(super) async fn loaded(
    subject: &Subject,
    options: &PluginOptions,
    world: &mut World,
    case: &Case,
) -> Result<Plugins> {
    let ports = world.stage(case, &subject.name)?;
    let mut options = options.clone();
    options.config = subject.config(&case.config).to_string();
    options.verbose = true;
    // The tables of a case are the plugin's.
    options.grants.tables = case.tables.keys().cloned().collect();
    options.source = match options.source {
        Source::File(path) => Source::Bytes(fs::read(&path).with_context(|| path.display().to_string())?.into()),
        bytes => bytes,
    };
    let options = Options { plugins: vec![options], cache_dir: cache_dir() };
    let loaded = tokio::task::spawn_blocking(move || Plugins::load(options, ports)).await?;
    loaded.map_err(|errors| anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// Plays a case to a plugin that is loaded.
pub(super) async fn try_loaded(plugins: &Plugins, case: &Case) -> Result<Transcript> {
    let before = |(symbol, weight): (&String, &f64)| Fact {
        plugin: "case".into(),
        symbol: symbol.clone(),
        weight: *weight,
        detail: None,
    };
    let mut jury = plugins.open_with(case.facts.iter().map(before).collect());
    play::play(case, &mut *jury).await.with_context(|| case.name.clone())
}

/// What is not as expected, a line each.
fn compare(expect: &Expect, got: &Transcript, world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut differs = |what: &str, expected: &str, found: &str| {
        wrong.push(format!("{what}: expected {expected}, got {found}"));
    };
    let (code, text) = said(got);
    if let Some(verdict) = expect.verdict.as_deref().filter(|verdict| *verdict != got.word()) {
        differs("verdict", verdict, &format!("{} {text}", got.word()));
    }
    let stage = got.stage.map_or("none", waypost_types::Stage::word);
    if let Some(expected) = expect.stage.as_deref().filter(|expected| *expected != stage) {
        differs("stage", expected, stage);
    }
    if let Some(expected) = expect.code.filter(|expected| Some(*expected) != code) {
        differs("code", &expected.to_string(), &code.map_or("none".into(), |code| code.to_string()));
    }
    if let Some(expected) = expect.text.as_deref().filter(|expected| !text.contains(expected)) {
        differs("text", &format!("`{expected}`"), &format!("`{text}`"));
    }
    compare_facts(expect, got, &mut differs);
    compare_edits(expect, got, &mut differs);
    let lists = [
        ("dns", &expect.dns, world.zone.asked(), true),
        ("without-dns", &expect.without_dns, world.zone.asked(), false),
        ("log", &expect.log, world.heard.lines(), true),
    ];
    for (what, expected, found, wanted) in lists {
        for one in expected.iter().filter(|one| found.iter().any(|line| line.contains(*one)) != wanted) {
            differs(what, &format!("`{one}`"), &format!("{found:?}"));
        }
    }
    wrong
}

fn compare_facts(expect: &Expect, got: &Transcript, differs: &mut impl FnMut(&str, &str, &str)) {
    let symbols: Vec<_> = got.facts.iter().map(|fact| format!("{} {}", fact.symbol, fact.weight)).collect();
    let weight = |symbol: &str| {
        let mut found = got.facts.iter().filter(|fact| fact.symbol == symbol).peekable();
        found.peek().is_some().then(|| found.map(|fact| fact.weight).sum::<f64>())
    };
    let wanted: Vec<(&String, Option<f64>)> = match &expect.facts {
        None => Vec::new(),
        Some(Facts::Symbols(symbols)) => symbols.iter().map(|symbol| (symbol, None)).collect(),
        Some(Facts::Weights(weights)) => weights.iter().map(|(symbol, weight)| (symbol, Some(*weight))).collect(),
    };
    for (symbol, expected) in wanted {
        let found = weight(symbol);
        let right = found.is_some_and(|found| expected.is_none_or(|expected| (found - expected).abs() < 1e-9));
        if !right {
            differs(
                "facts",
                &format!("{symbol} {}", expected.map_or(String::new(), |w| w.to_string())),
                &format!("{symbols:?}"),
            );
        }
    }
    for symbol in expect.without_facts.iter().filter(|symbol| weight(symbol).is_some()) {
        differs("without-facts", &format!("no {symbol}"), &format!("{symbols:?}"));
    }
}

fn compare_edits(expect: &Expect, got: &Transcript, differs: &mut impl FnMut(&str, &str, &str)) {
    let edits = || format!("{:?}", got.edits.iter().map(describe).collect::<Vec<_>>());
    for (name, part) in &expect.headers {
        let put = |edit: &Edit| match edit {
            Edit::PrependHeader { name: there, value } | Edit::AppendHeader { name: there, value } => {
                there.eq_ignore_ascii_case(name) && value.contains(part.as_str())
            }
            _ => false,
        };
        if !got.edits.iter().any(put) {
            differs("headers", &format!("{name}: …{part}…"), &edits());
        }
    }
    for name in &expect.removed {
        let taken =
            |edit: &Edit| matches!(edit, Edit::RemoveHeader { name: there, .. } if there.eq_ignore_ascii_case(name));
        if !got.edits.iter().any(taken) {
            differs("removed", name, &edits());
        }
    }
    let sender = got.envelope.sender.to_string();
    if let Some(expected) =
        expect.sender.as_ref().filter(|expected| expected.trim_matches(['<', '>']) != sender.trim_matches(['<', '>']))
    {
        differs("sender", expected, &sender);
    }
    let recipients: Vec<_> = got.envelope.recipients.iter().map(|to| to.address.to_string()).collect();
    if let Some(expected) = expect.recipients.as_ref().filter(|expected| **expected != recipients) {
        differs("recipients", &format!("{expected:?}"), &format!("{recipients:?}"));
    }
}

/// Code and text of what was said: a reply's, a reason, or a fault's.
pub(super) fn said(got: &Transcript) -> (Option<u16>, String) {
    let fault =
        got.opinions.last().filter(|opinion| opinion.verdict == "fault").and_then(|opinion| opinion.detail.clone());
    match (&got.verdict, fault) {
        (Verdict::Defer(reply), Some(fault)) => (Some(reply.code), fault),
        (_, Some(fault)) => (None, fault),
        (Verdict::Defer(reply) | Verdict::Refuse(reply) | Verdict::Disconnect(reply), None) => {
            (Some(reply.code), reply.text.to_string())
        }
        (Verdict::Hold(reason), None) => (None, reason.to_string()),
        (Verdict::Pass | Verdict::Accept | Verdict::Discard, None) => (None, String::new()),
    }
}

/// An edit as a line.
fn describe(edit: &Edit) -> String {
    match edit {
        Edit::PrependHeader { name, value } | Edit::AppendHeader { name, value } => {
            format!("+ {name}: {}", value.replace("\r\n", " "))
        }
        Edit::RemoveHeader { name, index: None } => format!("- {name}"),
        Edit::RemoveHeader { name, index: Some(index) } => format!("- {name} (number {index})"),
        Edit::AddRecipient(address) => format!("+ recipient {address}"),
        Edit::RemoveRecipient(address) => format!("- recipient {address}"),
        Edit::SetSender(sender) => format!("sender <{}>", sender.to_string().trim_matches(['<', '>'])),
        Edit::ReplaceBody(body) => format!("another body of {} octets", body.len()),
    }
}

fn report(arguments: &Arguments, case: &Case, got: &Transcript, mistakes: &[String], world: &World) {
    if arguments.json {
        println!("{}", as_json(case, got, mistakes, world));
        return;
    }
    let word = match (mistakes, &case.expect) {
        ([], Some(_)) => "ok  ",
        ([], None) => "    ",
        _ => "FAIL",
    };
    println!("{word} {}", case.name);
    mistakes.iter().for_each(|line| println!("       {line}"));
    if arguments.verbose || case.expect.is_none() || !mistakes.is_empty() {
        tell(got, world);
    }
}

/// All that the plugin did.
fn tell(got: &Transcript, world: &World) {
    for opinion in &got.opinions {
        let detail = opinion.detail.as_deref().unwrap_or("");
        let cost = format!("{} µs, {} octets read, {} DNS", opinion.micros, opinion.bytes_read, opinion.dns_asked);
        println!("       {:<8} {:<10} {detail} ({cost})", opinion.stage.word(), opinion.verdict);
    }
    for fact in &got.facts {
        println!("       fact {} {} {}", fact.symbol, fact.weight, fact.detail.as_deref().unwrap_or(""));
    }
    got.edits.iter().for_each(|edit| println!("       {}", describe(edit)));
    world.heard.lines().iter().for_each(|line| println!("       {line}"));
}

fn as_json(case: &Case, got: &Transcript, mistakes: &[String], world: &World) -> Value {
    let (code, text) = said(got);
    json!({
        "case": case.name,
        "as_expected": mistakes.is_empty(),
        "mistakes": mistakes,
        "verdict": got.word(),
        "stage": got.stage.map(waypost_types::Stage::word),
        "code": code,
        "text": text,
        "facts": got.facts.iter().map(|fact| json!({ "symbol": fact.symbol, "weight": fact.weight, "detail": fact.detail })).collect::<Vec<_>>(),
        "edits": got.edits.iter().map(describe).collect::<Vec<_>>(),
        "dns": world.zone.asked(),
        "log": world.heard.lines(),
        "stages": got.opinions.iter().map(|opinion| json!({
            "stage": opinion.stage.word(), "verdict": opinion.verdict, "micros": opinion.micros,
            "bytes_read": opinion.bytes_read, "dns_asked": opinion.dns_asked,
        })).collect::<Vec<_>>(),
    })
}
