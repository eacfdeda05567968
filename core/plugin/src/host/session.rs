//! `session` and `auth-results`: who is connected, and what mail authentication found.

use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::LinkerInstance;

use super::{action, function};
use crate::case::Ctx;
use crate::fault::Fault;
use crate::wit::{AuthEntry, TransportKind};

/// Longest name of a variable.
const KEY_MAX: usize = 64;

/// Links `session`.
pub(crate) fn link(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    function(linker, "id", |ctx, ()| Ok(ctx.case.session()?.id.to_string()))?;
    function(linker, "transport", |ctx, ()| Ok(TransportKind::from(ctx.case.session()?)))?;
    function(linker, "client-ip", |ctx, ()| Ok(ctx.case.session()?.peer.ip().to_string()))?;
    function(linker, "client-port", |ctx, ()| Ok(ctx.case.session()?.peer.port()))?;
    function(linker, "helo", |ctx, ()| Ok(ctx.case.session()?.helo.clone()))?;
    function(linker, "ptr-name", |ctx, ()| Ok(ctx.case.session()?.peer_name.clone()))?;
    function(linker, "auth-user", |ctx, ()| Ok(ctx.case.session()?.user.clone()))?;
    function(linker, "tls", |ctx, ()| {
        Ok(ctx.case.session()?.tls.as_ref().map(|tls| format!("{}:{}", tls.version, tls.cipher)))
    })?;
    function(linker, "tls-client-cert-sha256", |ctx, ()| {
        Ok(ctx
            .case
            .session()?
            .tls
            .as_ref()
            .and_then(|tls| tls.client_certificate.as_ref().map(|c| c.fingerprint.clone())))
    })?;
    function(linker, "get-var", |ctx, (key,): (String,)| {
        Ok(ctx.case.seat.variables.iter().find(|(there, _)| *there == key).map(|(_, value)| value.clone()))
    })?;
    action(linker, "set-var", |ctx, (key, value): (String, Vec<u8>)| set_variable(ctx, key, value))
}

/// Links `auth-results`.
pub(crate) fn link_auth_results(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    function(linker, "entries", |ctx, ()| {
        let findings = Arc::clone(&ctx.case.question()?.findings);
        Ok(findings.iter().map(AuthEntry::from).collect::<Vec<_>>())
    })
}

fn set_variable(ctx: &mut Ctx, key: String, value: Vec<u8>) -> Result<(), Fault> {
    if key.len() > KEY_MAX {
        return Err(Fault::Misuse(format!("the name of a session variable has at most {KEY_MAX} octets")));
    }
    let variables = &mut ctx.case.seat.variables;
    variables.retain(|(there, _)| *there != key);
    let used: usize = variables.iter().map(|(key, value)| key.len() + value.len()).sum();
    if used + key.len() + value.len() > ctx.shared.limits.variables {
        return Err(Fault::Limit("variables"));
    }
    variables.push((key, value));
    Ok(())
}
