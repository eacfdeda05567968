//! `crypto` (grants `keys` and `crypto`): signing with keys that never enter a plugin.
//!
//! Signatures have room for an error, and give one for a key that was not granted. Hashes and randomness need the grant
//! `crypto`, or any key.

use std::sync::Arc;

use aws_lc_rs::{digest, hmac, rand};
use wasmtime::Result;
use wasmtime::component::LinkerInstance;
use waypost_types::port::Sign;

use super::function;
use crate::case::Ctx;
use crate::fault::Fault;

/// Octets of randomness in one call.
const RANDOM_MAX: u32 = 1024;

/// Links `crypto`.
pub(crate) fn link(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    function(linker, "sign", |ctx, (key, digest): (String, Vec<u8>)| {
        Ok(ring(ctx, &key).and_then(|r| r.sign(&key, &digest)))
    })?;
    function(linker, "dkim-sign", |ctx, (key, headers): (String, Vec<String>)| {
        let len = ctx.case.subject()?.message().len();
        ctx.scan(len)?;
        let ring = ring(ctx, &key);
        let message = ctx.case.subject()?.message();
        Ok(ring.and_then(|ring| ring.dkim(&key, &headers, message)))
    })?;
    function(linker, "hmac", |ctx, (key, data): (String, Vec<u8>)| {
        ctx.scan(data.len())?;
        Ok(key_granted(ctx, &key).map(|()| keyed(&ctx.shared.hmac_root, &key, &data)))
    })?;
    function(linker, "sha256", |ctx, (data,): (Vec<u8>,)| {
        granted(ctx)?;
        ctx.scan(data.len())?;
        Ok(digest::digest(&digest::SHA256, &data).as_ref().to_vec())
    })?;
    function(linker, "random", |ctx, (len,): (u32,)| {
        granted(ctx)?;
        if len > RANDOM_MAX {
            return Err(Fault::Misuse(format!("`random` gives at most {RANDOM_MAX} octets")));
        }
        let mut bytes = vec![0; len as usize];
        rand::fill(&mut bytes).map_err(|_| Fault::Port("the operating system gives no randomness".into()))?;
        Ok(bytes)
    })
}

fn granted(ctx: &Ctx) -> Result<(), Fault> {
    if ctx.shared.grants.crypto || !ctx.shared.grants.keys.is_empty() {
        return Ok(());
    }
    Err(Fault::Denied("the interface `crypto` (grant `crypto`)".into()))
}

fn key_granted(ctx: &Ctx, key: &str) -> Result<(), String> {
    if ctx.shared.grants.keys.iter().any(|name| name == "*" || name == key) {
        return Ok(());
    }
    Err(format!("the key `{}` is not granted: add it to the plugin's `keys`", key.escape_debug()))
}

fn ring(ctx: &Ctx, key: &str) -> Result<Arc<dyn Sign>, String> {
    key_granted(ctx, key)?;
    ctx.shared.ports.sign.clone().ok_or_else(|| "this server has no key ring".to_string())
}

/// HMAC-SHA-256 with the plugin's own key of this name: made from the installation's secret, different for every plugin.
fn keyed(root: &[u8; 32], key: &str, data: &[u8]) -> Vec<u8> {
    let root = hmac::Key::new(hmac::HMAC_SHA256, root);
    let named = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, key.as_bytes()).as_ref());
    hmac::sign(&named, data).as_ref().to_vec()
}
