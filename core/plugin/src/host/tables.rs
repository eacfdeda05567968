//! `tables` (grant: the tables by name): read-only maps and lists of networks. A table that was not granted, or that cannot be asked, is
//! a fault: the interface has no room for an error, and an empty answer could let mail through.
//!
//! A table in memory answers while the guest runs. One that has to be asked (a database, a directory) answers within its own deadline, and
//! the guest sleeps meanwhile; only a plugin that was granted such a table runs on a fiber for it.

use std::net::IpAddr;
use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::LinkerInstance;
use waypost_types::port::{Table, TableError};
use waypost_types::{Soon, Task};

use super::{all, function, waiting_or_fault};
use crate::case::Ctx;
use crate::fault::Fault;

/// Links `tables`. `in_memory`: no granted table has to be waited for.
pub(crate) fn link(linker: &mut LinkerInstance<'_, Ctx>, in_memory: bool) -> Result<()> {
    if in_memory { link_ready(linker) } else { link_waiting(linker) }
}

fn link_ready(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    function(linker, "lookup", |ctx, (table, key): (String, String)| value(&*granted(ctx, &table)?, &key))?;
    function(linker, "lookup-many", |ctx, (table, keys): (String, Vec<String>)| {
        let table = granted(ctx, &table)?;
        keys.iter().map(|key| value(&*table, key)).collect::<Result<Vec<_>, _>>()
    })?;
    function(linker, "contains-cidr", |ctx, (table, address): (String, String)| {
        let table = granted(ctx, &table)?;
        ready(table.contains(parse(&address)?))
    })
}

fn link_waiting(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    waiting_or_fault(linker, "lookup", |ctx, (table, key): (String, String)| Ok(asked(granted(ctx, &table)?, key)))?;
    waiting_or_fault(linker, "lookup-many", |ctx, (table, keys): (String, Vec<String>)| {
        let table = granted(ctx, &table)?;
        let tasks = keys.into_iter().map(|key| asked(table.clone(), key)).collect();
        Ok(Box::pin(async move { all(tasks).await.into_iter().collect() }) as Task<'static, Result<Vec<_>, Fault>>)
    })?;
    waiting_or_fault(linker, "contains-cidr", |ctx, (table, address): (String, String)| {
        let (table, address) = (granted(ctx, &table)?, parse(&address)?);
        Ok(Box::pin(async move { table.contains(address).get().await.map_err(fault) }) as Task<'static, _>)
    })
}

fn asked(table: Arc<dyn Table>, key: String) -> Task<'static, Result<Option<String>, Fault>> {
    Box::pin(async move {
        let found = table.lookup(&key).get().await.map_err(fault)?;
        Ok(found.map(|value| value.into_owned()))
    })
}

fn value(table: &dyn Table, key: &str) -> Result<Option<String>, Fault> {
    Ok(ready(table.lookup(key))?.map(|value| value.into_owned()))
}

fn ready<T>(soon: Soon<'_, Result<T, TableError>>) -> Result<T, Fault> {
    match soon {
        Soon::Now(answer) => answer.map_err(fault),
        Soon::Later(_) => Err(Fault::Port("a table in memory let somebody wait".to_string())),
    }
}

fn fault(error: TableError) -> Fault {
    Fault::Port(error.0)
}

fn parse(address: &str) -> Result<IpAddr, Fault> {
    let parsed: Result<IpAddr, _> = address.parse();
    let parsed = parsed.map_err(|_| Fault::Misuse(format!("`{}` is no address", address.escape_debug())))?;
    Ok(parsed.to_canonical())
}

fn granted(ctx: &Ctx, name: &str) -> Result<Arc<dyn Table>, Fault> {
    let table = ctx.shared.tables.get(name).cloned();
    table.ok_or_else(|| Fault::Denied(format!("the table `{}`", name.escape_debug())))
}
