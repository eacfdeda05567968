//! `tables` (grant: the tables by name): read-only maps and lists of networks. A table that was not granted is a fault: the
//! interface has no room for an error, and an empty answer could let mail through.

use std::net::IpAddr;
use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::LinkerInstance;
use waypost_types::port::Table;

use super::function;
use crate::case::Ctx;
use crate::fault::Fault;

/// Links `tables`.
pub(crate) fn link(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    function(linker, "lookup", |ctx, (table, key): (String, String)| Ok(granted(ctx, &table)?.lookup(&key)))?;
    function(linker, "lookup-many", |ctx, (table, keys): (String, Vec<String>)| {
        let table = granted(ctx, &table)?;
        Ok(keys.iter().map(|key| table.lookup(key)).collect::<Vec<_>>())
    })?;
    function(linker, "contains-cidr", |ctx, (table, address): (String, String)| {
        let table = granted(ctx, &table)?;
        let address: IpAddr =
            address.parse().map_err(|_| Fault::Misuse(format!("`{}` is no address", address.escape_debug())))?;
        Ok(table.contains(address.to_canonical()))
    })
}

fn granted(ctx: &Ctx, name: &str) -> Result<Arc<dyn Table>, Fault> {
    let table = ctx.shared.tables.get(name).cloned();
    table.ok_or_else(|| Fault::Denied(format!("the table `{}`", name.escape_debug())))
}
