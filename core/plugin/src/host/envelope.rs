//! `envelope`: sender, parameters and recipients, and the journaled changes to them (grant `rewrite`).

use wasmtime::Result;
use wasmtime::component::LinkerInstance;
use waypost_types::{Address, Body, Edit, MailParameters, Return, ReversePath};

use super::function;
use crate::case::Ctx;
use crate::fault::Fault;
use crate::wit::Rcpt;

/// Links `envelope`.
pub(crate) fn link(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    function(linker, "sender", |ctx, ()| Ok(ctx.case.question()?.envelope.sender.to_string()))?;
    function(linker, "sender-params", |ctx, ()| Ok(parameters(&ctx.case.question()?.envelope.parameters)))?;
    function(linker, "recipients", |ctx, ()| {
        Ok(ctx.case.question()?.envelope.recipients.iter().map(Rcpt::from).collect::<Vec<_>>())
    })?;
    function(linker, "recipient-count", |ctx, ()| Ok(ctx.case.question()?.envelope.recipients.len() as u32))?;
    function(linker, "add-recipient", |ctx, (text,): (String,)| {
        change(ctx, || Address::parse(&text).map(Edit::AddRecipient).map_err(|error| error.to_string()))
    })?;
    function(linker, "remove-recipient", |ctx, (text,): (String,)| {
        change(ctx, || Address::parse(&text).map(Edit::RemoveRecipient).map_err(|error| error.to_string()))
    })?;
    function(linker, "set-sender", |ctx, (text,): (String,)| {
        change(ctx, || match text.as_str() {
            "" | "<>" => Ok(Edit::SetSender(ReversePath::Null)),
            text => Address::parse(text)
                .map(|address| Edit::SetSender(ReversePath::Mailbox(address)))
                .map_err(|error| error.to_string()),
        })
    })
}

fn change(ctx: &mut Ctx, edit: impl FnOnce() -> Result<Edit, String>) -> Result<Result<(), String>, Fault> {
    ctx.case.question()?;
    if !ctx.shared.grants.rewrite {
        return Ok(Err("the grant `rewrite` is missing".into()));
    }
    match edit() {
        Ok(edit) => ctx.edit(edit).map(Ok),
        Err(problem) => Ok(Err(problem)),
    }
}

/// The parameters of MAIL as keyword and value.
fn parameters(given: &MailParameters) -> Vec<(String, Option<String>)> {
    let mut list = Vec::new();
    let mut add = |keyword: &str, value: Option<String>| list.push((keyword.to_string(), value));
    if let Some(size) = given.size {
        add("SIZE", Some(size.to_string()));
    }
    match given.body {
        Body::SevenBit => {}
        Body::EightBitMime => add("BODY", Some("8BITMIME".into())),
        Body::BinaryMime => add("BODY", Some("BINARYMIME".into())),
    }
    if given.smtputf8 {
        add("SMTPUTF8", None);
    }
    if given.require_tls {
        add("REQUIRETLS", None);
    }
    if let Some(ret) = given.ret {
        add("RET", Some(if ret == Return::Full { "FULL" } else { "HDRS" }.into()));
    }
    if let Some(id) = &given.envelope_id {
        add("ENVID", Some(id.to_string()));
    }
    if let Some(auth) = &given.auth {
        add("AUTH", Some(auth.to_string()));
    }
    if given.priority != 0 {
        add("MT-PRIORITY", Some(given.priority.to_string()));
    }
    if let Some(by) = given.deliver_by {
        let mode = if by.return_when_late { "R" } else { "N" };
        add("BY", Some(format!("{};{mode}{}", by.seconds, if by.trace { "T" } else { "" })));
    }
    if let Some(hold) = given.hold_for {
        add("HOLDFOR", Some(hold.as_secs().to_string()));
    }
    list
}
