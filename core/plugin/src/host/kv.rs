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
/// Attempts of a counter pair that others write to at the same time.
const SWAPS_MAX: u32 = 16;

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
        let store = batch(ctx, keys.len())?;
        let mut name = numbered(ctx, &prefix)?;
        let pair = |key: &u64| {
            Numbered::set(&mut name, *key);
            Ok(store.get(&name).map_err(failed)?.map_or((0, 0), |value| counters(&value)))
        };
        keys.iter().map(pair).collect::<Result<Vec<_>, Fault>>()
    })?;
    action(linker, "incr-many-u64", |ctx, (prefix, keys, a, b): (String, Vec<u64>, i32, i32)| {
        let store = batch(ctx, keys.len())?;
        charge(ctx, keys.len().saturating_mul(prefix.len() + 8), keys.len() * 8)?;
        let mut name = numbered(ctx, &prefix)?;
        keys.iter().try_for_each(|key| {
            Numbered::set(&mut name, *key);
            add_pair(&*store, &name, a, b)
        })
    })
}

/// The eight octets at the end of a numbered key.
struct Numbered;

impl Numbered {
    fn set(name: &mut [u8], key: u64) {
        let at = name.len() - 8;
        name[at..].copy_from_slice(&key.to_be_bytes());
    }
}

/// A key of a batch with room for its number.
fn numbered(ctx: &Ctx, prefix: &str) -> Result<Vec<u8>, Fault> {
    let mut name = full(ctx, prefix.as_bytes())?;
    name.extend_from_slice(&[0; 8]);
    Ok(name)
}

/// Two counters in eight octets.
fn counters(value: &[u8]) -> (u32, u32) {
    let word = |at: usize| value.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    (word(0), word(4))
}

fn add_pair(store: &dyn KeyValue, name: &[u8], a: i32, b: i32) -> Result<(), Fault> {
    for _ in 0..SWAPS_MAX {
        let old = store.get(name).map_err(failed)?;
        let (first, second) = old.as_deref().map_or((0, 0), counters);
        let mut new = [0; 8];
        new[..4].copy_from_slice(&first.saturating_add_signed(a).to_le_bytes());
        new[4..].copy_from_slice(&second.saturating_add_signed(b).to_le_bytes());
        if store.swap(name, old.as_deref().unwrap_or_default(), &new, None).map_err(failed)? {
            return Ok(());
        }
    }
    Err(Fault::Port("a counter of the key-value store is contended".into()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_were_written_by_others_read_as_zero_where_they_are_short() {
        assert_eq!(counters(&[1, 0, 0, 0, 2, 0, 0, 0]), (1, 2));
        assert_eq!(counters(&[1, 0, 0, 0]), (1, 0));
        assert_eq!(counters(b""), (0, 0));
    }
}
