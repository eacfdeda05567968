//! Plugins of the running server: what they said, and new versions swapped in, shadowing, or judging a share of the sessions.
//!
//! ```text
//! GET  /plugins                          each with its counters, and what is on trial
//! POST /plugins/NAME/swap                the component as the body
//! POST /plugins/NAME/rollback
//! POST /plugins/NAME/shadow              the component as the body; without one the trial ends
//! POST /plugins/NAME/canary?share=50     of a thousand sessions; the component as the body; without one the trial ends
//! ```

use bytes::Bytes;
use serde_json::{Value, json};
use waypost_plugin::{CanaryReport, Counts, Disagreement, Host, PluginInfo, ShadowReport};
use waypost_types::Stage;

/// All plugins and trials.
pub(crate) fn status(plugins: &Host) -> Value {
    let (shadow, canary) = plugins.trials();
    json!({
        "plugins": plugins.plugins().iter().map(plugin).collect::<Vec<_>>(),
        "shadow": shadow.as_ref().map(shadow_json),
        "canary": canary.as_ref().map(canary_json),
    })
}

/// Does what a request asks; the error is for people. Blocking: a component may have to be compiled.
pub(crate) fn change(plugins: &Host, name: &str, action: &str, query: &str, component: Bytes) -> Result<Value, String> {
    let some = |component: Bytes| (!component.is_empty()).then_some(component);
    match action {
        "swap" if component.is_empty() => Err("send the component as the body".into()),
        "swap" => Ok(plugin(&plugins.swap(name, component)?)),
        "rollback" => Ok(plugin(&plugins.roll_back(name)?)),
        "shadow" => plugins.shadow(name, some(component)).map(|()| status(plugins)),
        "canary" => {
            let share =
                query.strip_prefix("share=").and_then(|share| share.parse().ok()).filter(|share| *share <= 1000);
            if share.is_none() && !component.is_empty() {
                return Err("say for how many of a thousand sessions: ?share=50".into());
            }
            plugins.canary(name, some(component), share.unwrap_or(0)).map(|()| status(plugins))
        }
        _ => Err("it is swap, rollback, shadow or canary".into()),
    }
}

fn plugin(info: &PluginInfo) -> Value {
    let stages = Stage::ALL.into_iter().filter(|stage| info.stages.contains(*stage));
    json!({
        "name": info.name,
        "registered_name": info.registered_name,
        "version": info.version,
        "stages": stages.map(Stage::word).collect::<Vec<_>>(),
        "imports": info.imports,
        "breaker": info.breaker,
        "counts": counts(&info.counts),
    })
}

fn counts(counts: &Counts) -> Value {
    let Counts { asked, faults, refused, deferred, held, micros } = counts;
    json!({ "asked": asked, "faults": faults, "refused": refused, "deferred": deferred, "held": held, "micros": micros })
}

fn shadow_json(report: &ShadowReport) -> Value {
    let kept = |one: &Disagreement| json!({ "session": one.session.to_string(), "stage": one.stage.word(), "now": one.now, "then": one.then });
    json!({
        "plugin": report.plugin,
        "version": report.version,
        "asked": report.asked,
        "differed": report.differed,
        "left_out": report.left_out,
        "counts": counts(&report.counts),
        "last": report.kept.iter().map(kept).collect::<Vec<_>>(),
    })
}

fn canary_json(report: &CanaryReport) -> Value {
    json!({
        "plugin": report.plugin,
        "version": report.version,
        "share": report.share,
        "now": counts(&report.now),
        "then": counts(&report.then),
    })
}
