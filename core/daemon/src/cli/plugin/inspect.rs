//! `waypost plugin inspect` and `check`: what a component is, and whether it starts under the server's limits.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::json;
use waypost_plugin::{Host as Plugins, Inspection, Options, PluginInfo, Source};
use waypost_types::Stage;

use super::Which;
use super::case::Case;
use super::recipe::Subject;
use super::world::World;

/// Looks at a component.
#[derive(Args)]
pub(super) struct InspectArguments {
    /// The plugin: a folder with a plugin.toml, or a .wasm file
    #[arg(default_value = ".")]
    plugin: std::path::PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Compiles and starts a plugin.
#[derive(Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    which: Which,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn inspect(arguments: &InspectArguments) -> Result<()> {
    let which = Which { plugin: arguments.plugin.clone(), grants: None, settings: None };
    let wasm = Subject::find(&which)?.wasm;
    let (size, seen) = look(&wasm)?;
    if arguments.json {
        let imports: serde_json::Map<_, _> =
            seen.imports.iter().map(|(name, functions)| (name.clone(), json!(functions))).collect();
        let value = json!({
            "file": wasm, "size": size, "contract": seen.contract, "exports": seen.exports, "imports": imports,
            "foreign": seen.foreign, "grants": seen.grants(),
        });
        println!("{value:#}");
        return Ok(());
    }
    println!("{}: a component of {} KiB", wasm.display(), size.div_ceil(1024));
    println!("contract  {}", seen.contract.join(", "));
    println!("exports   {}", seen.exports.join(", "));
    for (interface, functions) in &seen.imports {
        println!("imports   {interface:<13} {}", functions.join(", "));
    }
    seen.foreign.iter().for_each(|name| println!("imports   {name}"));
    println!("grants    {}", words(&seen.grants()));
    Ok(())
}

fn look(wasm: &Path) -> Result<(usize, Inspection)> {
    let octets = fs::read(wasm).with_context(|| wasm.display().to_string())?;
    let seen =
        waypost_plugin::inspect(&octets).map_err(|error| anyhow!("{} is no component: {error}", wasm.display()))?;
    Ok((octets.len(), seen))
}

fn words(list: &[&str]) -> String {
    if list.is_empty() { "none".into() } else { list.join(", ") }
}

pub(super) fn check(arguments: &CheckArguments) -> Result<()> {
    let subject = Subject::find(&arguments.which)?;
    let (size, seen) = look(&subject.wasm)?;
    let mut options = subject.options()?;
    options.verbose = true;
    let granted = granted(&options.grants);
    options.source = Source::Bytes(fs::read(&subject.wasm)?.into());
    let mut world = World::new()?;
    let ports = world.stage(&Case::default(), &subject.name)?;
    // Tables that are granted are the configuration's: here nobody looks anything up.
    options.grants.tables.clear();
    let started = Instant::now();
    let loaded = Plugins::load(Options { plugins: vec![options], cache_dir: None }, ports);
    let took = started.elapsed();
    let plugins = loaded
        .map_err(|errors| anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    let info = plugins.plugins().into_iter().next().context("one plugin was loaded")?;
    let missing: Vec<_> = seen.grants().into_iter().filter(|grant| !granted.contains(grant)).collect();
    let unasked: Vec<_> =
        seen.exports.iter().filter(|name| *name != "lifecycle" && !seen.asked.contains(name)).collect();
    if seen.asked.is_empty() {
        bail!("{}: it exports no stage that this server asks: it would never be asked", subject.wasm.display());
    }
    if arguments.json {
        println!(
            "{:#}",
            json!({
                "name": info.registered_name, "version": info.version, "size": size, "contract": seen.contract,
                "stages": stages(&info), "needs": seen.grants(), "missing": missing, "compiled_ms": took.as_millis() as u64,
                "unasked": unasked,
            })
        );
        return Ok(());
    }
    println!(
        "{} {}, {} KiB, contract {}",
        info.registered_name,
        info.version,
        size.div_ceil(1024),
        seen.contract.join(", ")
    );
    println!("compiled and started in {} ms", took.as_millis());
    println!("asked at  {}", stages(&info).join(", "));
    unasked.iter().for_each(|name| println!("note: this server does not ask `{name}`"));
    println!("grants    {}", words(&seen.grants()));
    if !missing.is_empty() {
        println!("note: not granted here: {}. Calls that need it fail; grant it in [plugin]", missing.join(", "));
    }
    world.heard.lines().iter().for_each(|line| println!("{line}"));
    println!("ok");
    Ok(())
}

fn stages(info: &PluginInfo) -> Vec<&'static str> {
    Stage::ALL.into_iter().filter(|stage| info.stages.contains(*stage)).map(Stage::word).collect()
}

/// The grants that options give, by their names in the configuration.
fn granted(grants: &waypost_plugin::Grants) -> Vec<&'static str> {
    let given = [
        ("dns", grants.dns),
        ("kv", grants.kv),
        ("tables", !grants.tables.is_empty()),
        ("keys", !grants.keys.is_empty()),
        ("crypto", grants.crypto || !grants.keys.is_empty()),
        ("http", !grants.http.is_empty()),
        ("rewrite", grants.rewrite),
    ];
    given.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
}
