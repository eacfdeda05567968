//! `scores`: facts that plugins state about a transaction, and see of each other.

use wasmtime::Result;
use wasmtime::component::LinkerInstance;
use waypost_types::Fact;

use super::{action, function};
use crate::case::Ctx;
use crate::fault::Fault;
use crate::wit::clip;

const SYMBOL_MAX: usize = 64;
const DETAIL_MAX: usize = 400;

/// Links `scores`.
pub(crate) fn link(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    action(linker, "add", |ctx, (symbol, weight, detail): (String, f64, Option<String>)| {
        state(ctx, &symbol, weight, detail)
    })?;
    function(linker, "total", |ctx, ()| Ok(ctx.case.all_facts().fold(0.0, |sum, fact| sum + fact.weight)))?;
    function(linker, "symbols", |ctx, ()| {
        Ok(ctx.case.all_facts().map(|fact| (fact.symbol.clone(), fact.weight)).collect::<Vec<_>>())
    })
}

fn state(ctx: &mut Ctx, symbol: &str, weight: f64, detail: Option<String>) -> Result<(), Fault> {
    ctx.case.question()?;
    if !weight.is_finite() {
        return Err(Fault::Misuse(format!("the weight of `{}` is no number", clip(symbol, SYMBOL_MAX))));
    }
    ctx.case.seat.facts += 1;
    if ctx.case.seat.facts > ctx.shared.limits.facts {
        return Err(Fault::Limit("facts"));
    }
    let symbol = clip(symbol, SYMBOL_MAX);
    let detail = detail.map(|text| clip(&text, DETAIL_MAX));
    ctx.case.stated.push(Fact { plugin: ctx.shared.name.clone(), symbol, weight, detail });
    Ok(())
}
