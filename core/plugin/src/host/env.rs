//! `env`: log, counters, configuration, clock and budget: what every plugin has.

use std::time::Duration;

use wasmtime::Result;
use wasmtime::component::LinkerInstance;
use waypost_types::Event;

use super::{action, function};
use crate::case::Ctx;
use crate::engine::TICK;
use crate::fault::Fault;
use crate::grant;
use crate::wit::{Level, clip};

/// Longest log line, octets.
const LINE_MAX: usize = 1000;
const METRIC_NAME_MAX: usize = 64;

/// Links `env`.
pub(crate) fn link(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    action(linker, "log", |ctx, (level, message): (Level, String)| log(ctx, level, &message))?;
    function(linker, "log-enabled", |ctx, (level,): (Level,)| Ok(is_heard(ctx, level)))?;
    action(linker, "metric-add", |ctx, (name, delta): (String, f64)| metric(ctx, &name, delta))?;
    function(linker, "config", |ctx, ()| Ok(ctx.shared.config.clone()))?;
    function(linker, "now-ms", |ctx, ()| Ok(ctx.now().millis()))?;
    function(linker, "budget-us", |ctx, ()| {
        let left = TICK * ctx.call.ticks_max.saturating_sub(ctx.call.ticks);
        let whole = ctx.shared.limits.cpu_transaction.saturating_sub(TICK * ctx.case.seat.cpu_ticks);
        let left = if ctx.case.question.is_some() { left.min(whole) } else { left };
        Ok(micros(left))
    })?;
    function(linker, "granted", |ctx, (name,): (String,)| Ok(grant::is_granted(&name, &ctx.shared.grants)))
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

fn is_heard(ctx: &Ctx, level: Level) -> bool {
    ctx.shared.verbose || level >= Level::Info
}

/// A line of the plugin's. More in one call than the plugin may log in a second is a fault; lines of many calls that are too
/// much together are dropped and counted, for nobody's message is to blame.
pub(crate) fn log(ctx: &mut Ctx, level: Level, message: &str) -> Result<(), Fault> {
    if !is_heard(ctx, level) {
        return Ok(());
    }
    let line = clip(message, LINE_MAX);
    ctx.call.log = ctx.call.log.saturating_add(line.len() as u32 + 1);
    if ctx.call.log > ctx.shared.limits.log {
        return Err(Fault::Limit("log"));
    }
    ctx.shared.log(ctx.case.session_id(), level.word(), &line);
    Ok(())
}

fn metric(ctx: &mut Ctx, name: &str, delta: f64) -> Result<(), Fault> {
    let fits = (1..=METRIC_NAME_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !fits || !delta.is_finite() {
        return Err(Fault::Misuse(format!("`{}` is no metric of a plugin", name.escape_debug())));
    }
    ctx.shared.ports.observer.observe(Event::PluginMetric { plugin: &ctx.shared.name, name, delta });
    Ok(())
}
