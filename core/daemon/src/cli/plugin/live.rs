//! `waypost plugin status`, `swap`, `rollback`, `shadow`, `canary`: the plugins of a running server, over its admin interface.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::cli::queue::http;
use crate::cli::{Common, reachable};

/// What the running server's plugins said, and what is on trial.
#[derive(Args)]
pub(super) struct StatusArguments {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

/// Another version of a plugin.
#[derive(Args)]
#[command(
    after_help = "Sessions under way keep the version that they began with; no connection is dropped. A version that does not load changes nothing. \
    The change lasts until the next reload or start, which take the file that the configuration names: put the new version there when you \
    are content with it.\n\n\
    Examples:\n  waypost plugin swap spam-score new.wasm\n  waypost plugin rollback spam-score"
)]
pub(super) struct SwapArguments {
    /// The plugin, by its name in `plugins.chain`
    name: String,
    /// The new version
    component: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Back to the version before the last swap.
#[derive(Args)]
pub(super) struct RollbackArguments {
    /// The plugin, by its name in `plugins.chain`
    name: String,
    #[command(flatten)]
    common: Common,
}

/// A new version on trial.
#[derive(Args)]
#[command(
    after_help = "A shadow judges all mail without effect: what it says, changes or would store is thrown away; `waypost plugin status` tells how often and \
    where it disagreed. A canary judges a share of the sessions in the plugin's place. One of each is on trial at a time, until the next swap or reload.\n\n\
    Examples:\n  waypost plugin shadow spam-score new.wasm\n  waypost plugin canary spam-score new.wasm --share 5\n  waypost plugin canary spam-score --end"
)]
pub(super) struct TrialArguments {
    /// The plugin, by its name in `plugins.chain`
    name: String,
    /// The new version
    #[arg(required_unless_present = "end")]
    component: Option<PathBuf>,
    /// The trial is over
    #[arg(long, conflicts_with = "component")]
    end: bool,
    /// Percent of the sessions (canary only)
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    share: f64,
    #[command(flatten)]
    common: Common,
}

/// Asks the running server.
fn ask(common: &Common, method: &str, path: &str, body: &[u8]) -> Result<Value> {
    let config = common.load_without_plugins()?;
    let token = config.data.join("admin-token");
    let token = fs::read_to_string(&token)
        .with_context(|| format!("{}: is this the server's data folder?", token.display()))?;
    for server in &config.admin {
        if let Some(answer) = http::ask(reachable(*server), token.trim(), method, path, body)? {
            match answer.body["error"].as_str() {
                Some(error) => bail!("{error}"),
                None => return Ok(answer.body),
            }
        }
    }
    bail!("no server answers at admin.bind: start it, or name its configuration with --config")
}

pub(super) fn status(arguments: &StatusArguments) -> Result<()> {
    let status = ask(&arguments.common, "GET", "/plugins", &[])?;
    if arguments.json {
        println!("{status:#}");
    } else {
        print!("{}", as_text(&status));
    }
    Ok(())
}

pub(super) fn swap(arguments: &SwapArguments) -> Result<()> {
    let component = read(&arguments.component)?;
    let info = ask(&arguments.common, "POST", &format!("/plugins/{}/swap", arguments.name), &component)?;
    println!("{} {} judges the sessions that begin from now on", arguments.name, text(&info["version"]));
    Ok(())
}

pub(super) fn rollback(arguments: &RollbackArguments) -> Result<()> {
    let info = ask(&arguments.common, "POST", &format!("/plugins/{}/rollback", arguments.name), &[])?;
    println!("{} {} is back", arguments.name, text(&info["version"]));
    Ok(())
}

pub(super) fn shadow(arguments: &TrialArguments) -> Result<()> {
    trial(arguments, "shadow", "")
}

pub(super) fn canary(arguments: &TrialArguments) -> Result<()> {
    if !(0.1..=100.0).contains(&arguments.share) {
        bail!("--share is a percentage from 0.1 to 100");
    }
    trial(arguments, "canary", &format!("?share={}", (arguments.share * 10.0).round() as u32))
}

fn trial(arguments: &TrialArguments, kind: &str, query: &str) -> Result<()> {
    let component = arguments.component.as_ref().map(read).transpose()?.unwrap_or_default();
    let path = format!("/plugins/{}/{kind}{query}", arguments.name);
    let status = ask(&arguments.common, "POST", &path, &component)?;
    match &status[kind]["version"] {
        Value::String(version) => {
            println!("{} {version} is on trial; `waypost plugin status` tells how it fares", arguments.name)
        }
        _ => println!("the trial of {} is over", arguments.name),
    }
    Ok(())
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn as_text(status: &Value) -> String {
    let mut out = format!("{:<18} {:<10} {:<10} {}\n", "plugin", "version", "breaker", HEAD);
    for plugin in status["plugins"].as_array().into_iter().flatten() {
        let (name, version, breaker) = (text(&plugin["name"]), text(&plugin["version"]), text(&plugin["breaker"]));
        let _ = writeln!(out, "{name:<18} {version:<10} {breaker:<10} {}", row(&plugin["counts"]));
    }
    if let shadow @ Value::Object(_) = &status["shadow"] {
        let (name, version) = (text(&shadow["plugin"]), text(&shadow["version"]));
        let _ = writeln!(out, "\nshadow of {name}: version {version}");
        let (asked, differed, left_out) = (&shadow["asked"], &shadow["differed"], &shadow["left_out"]);
        let _ = writeln!(out, "  {asked} questions answered, {differed} otherwise, {left_out} left out");
        for one in shadow["last"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "  {} at {}", text(&one["session"]), text(&one["stage"]));
            let _ = writeln!(out, "    now:  {}\n    then: {}", text(&one["now"]), text(&one["then"]));
        }
    }
    if let canary @ Value::Object(_) = &status["canary"] {
        let share = canary["share"].as_f64().unwrap_or_default() / 10.0;
        let _ = writeln!(
            out,
            "\ncanary of {}: version {}, {share} % of the sessions",
            text(&canary["plugin"]),
            text(&canary["version"])
        );
        let _ = writeln!(
            out,
            "  {:<8} {HEAD}\n  now      {}\n  then     {}",
            "",
            row(&canary["now"]),
            row(&canary["then"])
        );
    }
    out
}

const HEAD: &str = "   asked   faults  refused deferred     held  µs each";

fn row(counts: &Value) -> String {
    let number = |name: &str| counts[name].as_u64().unwrap_or_default();
    let each = number("micros") as f64 / number("asked").max(1) as f64;
    let fields = ["asked", "faults", "refused", "deferred", "held"].map(|name| format!("{:>8}", number(name)));
    format!("{} {each:>8.1}", fields.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_table_with_what_is_on_trial_below() {
        let status = serde_json::json!({
            "plugins": [{ "name": "x", "version": "1", "breaker": "closed", "counts": { "asked": 2, "micros": 5 } }],
            "shadow": { "plugin": "x", "version": "2", "asked": 7, "differed": 1, "left_out": 0,
                "last": [{ "session": "s", "stage": "rcpt", "now": "pass", "then": "refuse no" }] },
            "canary": null,
        });
        let text = as_text(&status);
        assert!(text.contains("x                  1          closed            2        0"), "{text}");
        assert!(text.contains("7 questions answered, 1 otherwise") && text.contains("then: refuse no"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}
