//! `kv` (grant `kv`): the plugin's own namespace of the key-value store.
//!
//! A key on disk is `p`, the plugin's name, a zero octet, and the plugin's key: names hold no zero, so no plugin can reach
//! another's keys. What a plugin writes is bounded in size and rate; the store bounds the whole. The interface has no room for
//! errors, so a failing store is a fault, and the fault policy decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::Result;
use wasmtime::component::LinkerInstance;
use waypost_types::port::{KeyValue, KvError};

use super::{action, function};
use crate::case::Ctx;
use crate::fault::Fault;

const KEY_MAX: usize = 512;
const VALUE_MAX: usize = 64 << 10;
/// Keys in one batch.
const BATCH_MAX: usize = 20_000;

/// Links `kv`.
pub(crate) fn link(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    link_single(linker)?;
    link_batches(linker)
}

fn link_single(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    function(linker, "get", |ctx, (key,): (Vec<u8>,)| store(ctx)?.get(&full(ctx, &key)?).map_err(failed))?;
    action(linker, "set", |ctx, (key, value, ttl): (Vec<u8>, Vec<u8>, Option<u32>)| {
        charge(ctx, key.len(), value.len())?;
        store(ctx)?.set(&full(ctx, &key)?, &value, span(ttl)).map_err(failed)
    })?;
    function(linker, "incr", |ctx, (key, delta, ttl): (Vec<u8>, i64, Option<u32>)| {
        charge(ctx, key.len(), 8)?;
        store(ctx)?.add(&full(ctx, &key)?, delta, span(ttl)).map_err(failed)
    })?;
    function(linker, "cas", |ctx, (key, old, new, ttl): (Vec<u8>, Option<Vec<u8>>, Vec<u8>, Option<u32>)| {
        charge(ctx, key.len(), new.len())?;
        store(ctx)?.swap(&full(ctx, &key)?, &old.unwrap_or_default(), &new, span(ttl)).map_err(failed)
    })
}

fn link_batches(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    function(linker, "get-many", |ctx, (keys,): (Vec<Vec<u8>>,)| {
        let store = batch(ctx, keys.len())?;
        keys.iter().map(|key| store.get(&full(ctx, key)?).map_err(failed)).collect::<Result<Vec<_>, _>>()
    })?;
    function(linker, "get-many-u64", |ctx, (prefix, keys): (String, Vec<u64>)| {
        batch(ctx, keys.len())?.pairs(&full(ctx, prefix.as_bytes())?, &keys).map_err(failed)
    })?;
    action(linker, "incr-many-u64", |ctx, (prefix, keys, a, b): (String, Vec<u64>, i32, i32)| {
        add_pairs(ctx, &prefix, &keys, (a, b), None)
    })?;
    type Add = (String, Vec<u64>, i32, i32, Option<u32>);
    action(linker, "add-many-u64", |ctx, (prefix, keys, a, b, ttl): Add| add_pairs(ctx, &prefix, &keys, (a, b), ttl))
}

fn add_pairs(ctx: &Ctx, prefix: &str, keys: &[u64], by: (i32, i32), ttl: Option<u32>) -> Result<(), Fault> {
    let store = batch(ctx, keys.len())?;
    charge(ctx, keys.len().saturating_mul(prefix.len() + 8), keys.len() * 8)?;
    store.add_pairs(&full(ctx, prefix.as_bytes())?, keys, by, span(ttl)).map_err(failed)
}

fn store(ctx: &Ctx) -> Result<Arc<dyn KeyValue>, Fault> {
    if !ctx.shared.grants.kv {
        return Err(Fault::Denied("the key-value store (grant `kv`)".into()));
    }
    ctx.shared.ports.kv.clone().ok_or_else(|| Fault::Port("this server has no key-value store".into()))
}

fn batch(ctx: &Ctx, len: usize) -> Result<Arc<dyn KeyValue>, Fault> {
    if len > BATCH_MAX {
        return Err(Fault::Misuse(format!("a batch has at most {BATCH_MAX} keys")));
    }
    store(ctx)
}

/// The key as it stands in the store.
pub(crate) fn full(ctx: &Ctx, key: &[u8]) -> Result<Vec<u8>, Fault> {
    if key.len() > KEY_MAX {
        return Err(Fault::Misuse(format!("a key has at most {KEY_MAX} octets")));
    }
    let name = ctx.shared.name.as_bytes();
    let mut full = Vec::with_capacity(2 + name.len() + key.len() + 8);
    full.push(b'p');
    full.extend_from_slice(name);
    full.push(0);
    full.extend_from_slice(key);
    Ok(full)
}

fn charge(ctx: &Ctx, key: usize, value: usize) -> Result<(), Fault> {
    if value > VALUE_MAX.max(BATCH_MAX * 8) {
        return Err(Fault::Misuse(format!("a value has at most {VALUE_MAX} octets")));
    }
    // An operator who trains a classifier is not held to the pace of mail.
    if ctx.case.command.is_some() {
        return Ok(());
    }
    let amount = u32::try_from(key + value).unwrap_or(u32::MAX);
    if ctx.shared.kv.take(Instant::now(), amount).0 { Ok(()) } else { Err(Fault::Limit("kv-write")) }
}

fn span(seconds: Option<u32>) -> Option<Duration> {
    seconds.map(|seconds| Duration::from_secs(u64::from(seconds)))
}

fn failed(error: KvError) -> Fault {
    match error {
        KvError::Quota => Fault::Limit("kv-quota"),
        KvError::Failed(text) => Fault::Port(format!("the key-value store failed: {text}")),
    }
}
