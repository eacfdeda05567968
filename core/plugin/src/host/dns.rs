//! `dns` (grant `dns`): questions to the resolver; `lookup-many` asks all at once.
//!
//! The contract has errors for what is not granted (`refused`) and for what is too much (`budget`): a plugin gets those, and the
//! log says once that the grant is missing.

use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::LinkerInstance;
use waypost_types::Task;
use waypost_types::limits::DOMAIN_BYTES_MAX;
use waypost_types::port::Dns;

use super::{all, function, waiting};
use crate::case::Ctx;
use crate::fault::Fault;
use crate::tape;
use crate::wit::{Looked, LookupError, Query, looked};

/// Links `dns`. Without the grant nothing in it waits, and the plugin runs without a fiber.
pub(crate) fn link(linker: &mut LinkerInstance<'_, Ctx>, granted: bool) -> Result<()> {
    if !granted {
        return link_refusing(linker);
    }
    waiting(linker, "lookup", |ctx, (query,): (Query,)| Ok(question(ctx, query)))?;
    waiting(linker, "lookup-many", |ctx, (queries,): (Vec<Query>,)| {
        let tasks: Vec<_> = queries.into_iter().map(|query| question(ctx, query)).collect();
        Ok(Box::pin(all(tasks)) as Task<'static, Vec<Looked>>)
    })
}

fn link_refusing(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    let refused = |ctx: &mut Ctx| -> Result<Looked, Fault> {
        ctx.shared.complain("DNS");
        Ok(Err(LookupError::Refused))
    };
    function(linker, "lookup", move |ctx, (_,): (Query,)| refused(ctx))?;
    function(linker, "lookup-many", move |ctx, (queries,): (Vec<Query>,)| {
        queries.iter().map(|_| refused(ctx)).collect::<Result<Vec<_>, _>>()
    })
}

/// One question, counted. There is no transaction, and so no DNS, during `init`.
fn question(ctx: &mut Ctx, query: Query) -> Task<'static, Looked> {
    let answer = |error| Box::pin(std::future::ready(Err(error))) as Task<'static, Looked>;
    if ctx.case.question.is_none() {
        return answer(LookupError::Refused);
    }
    if ctx.case.seat.dns_asked >= ctx.shared.limits.dns_questions {
        return answer(LookupError::Budget);
    }
    ctx.case.seat.dns_asked += 1;
    ctx.call.dns_asked += 1;
    if query.name.is_empty() || query.name.len() > DOMAIN_BYTES_MAX || !query.name.is_ascii() {
        return answer(LookupError::NxDomain);
    }
    let dns: Arc<dyn Dns> = ctx.shared.ports.dns.clone();
    let heard = ctx.case.heard.clone();
    Box::pin(async move {
        let kind = query.kind.into();
        let answer = dns.lookup(&query.name, kind).await;
        if let Some(heard) = heard {
            tape::hear(&heard, (query.name, kind, answer.clone()));
        }
        looked(answer)
    })
}
