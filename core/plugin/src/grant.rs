//! Linking a component: what it imports, and what it was granted of it.
//!
//! Deny by default. Session, envelope, message, auth-results, scores and env are every plugin's; the other interfaces do only
//! what the grants say (each page of `host/` says how it refuses). What the host does not have at all is an error at load,
//! except in WASI: language runtimes import more of it than they use, so the rest of it traps when it is called.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance};
use wasmtime::{Engine, Result};

use crate::case::Ctx;
use crate::host;
use crate::options::{Grants, Ports};
use crate::wit::VERSION;

/// What the names of the contract's interfaces begin with.
pub(crate) const PACKAGE: &str = "waypost:plugin/";

/// A linker that has all that a component may ask for.
pub(crate) struct Linked {
    pub(crate) linker: Linker<Ctx>,
    /// Whether anything linked can wait, so that calls need a fiber.
    pub(crate) waits: bool,
    /// The interfaces of the contract that the component imports.
    pub(crate) imports: Vec<String>,
    /// Those that it was not granted.
    pub(crate) denied: Vec<String>,
}

/// Links what `component` imports. The error says what the host does not have.
pub(crate) fn link(engine: &Engine, component: &Component, grants: &Grants, ports: &Ports) -> Result<Linked, String> {
    let in_memory = grants.tables.iter().filter_map(|name| ports.tables.get(name)).all(|table| table.is_in_memory());
    let mut linked = Linked { linker: Linker::new(engine), waits: false, imports: Vec::new(), denied: Vec::new() };
    for (import, kind) in component.component_type().imports(engine) {
        let (name, version) = import.split_once('@').unwrap_or((import, ""));
        let mut instance = linked.linker.instance(import).map_err(|error| error.to_string())?;
        if let Some(interface) = name.strip_prefix(PACKAGE) {
            if version != VERSION {
                return Err(format!("it is made for version {version} of the contract, and this server has {VERSION}"));
            }
            link_contract(&mut instance, interface, grants, in_memory)?;
            linked.waits |= waits(interface, grants, in_memory);
            linked.imports.push(interface.to_string());
            if !is_granted(interface, grants) {
                linked.denied.push(interface.to_string());
            }
        } else if let (true, ComponentItem::ComponentInstance(wanted)) = (name.starts_with("wasi:"), &kind.ty) {
            host::wasi::link(&mut instance, name, wanted, engine).map_err(|error| format!("{error:#}"))?;
        } else {
            return Err(format!("it imports `{import}`, which this server does not have"));
        }
    }
    Ok(linked)
}

fn link_contract(
    instance: &mut LinkerInstance<'_, Ctx>,
    interface: &str,
    grants: &Grants,
    in_memory: bool,
) -> Result<(), String> {
    let done = match interface {
        "session" => host::session::link(instance),
        "envelope" => host::envelope::link(instance),
        "message" => host::message::link(instance),
        "auth-results" => host::session::link_auth_results(instance),
        "scores" => host::scores::link(instance),
        "dns" => host::dns::link(instance, grants.dns),
        "tables" => host::tables::link(instance, in_memory),
        "kv" => host::kv::link(instance),
        "crypto" => host::crypto::link(instance),
        "http" => host::http::link(instance, !grants.http.is_empty()),
        "env" => host::env::link(instance),
        // Only types, such as `types` itself.
        _ => Ok(()),
    };
    done.map_err(|error| format!("{error:#}"))
}

/// Whether any function of the interface can make a guest wait.
fn waits(interface: &str, grants: &Grants, in_memory: bool) -> bool {
    match interface {
        "dns" => grants.dns,
        "http" => !grants.http.is_empty(),
        "tables" => !in_memory,
        _ => false,
    }
}

/// Whether an interface may be used; names that are no interfaces are nobody's to refuse.
pub(crate) fn is_granted(interface: &str, grants: &Grants) -> bool {
    match interface {
        "dns" => grants.dns,
        "tables" => !grants.tables.is_empty(),
        "kv" => grants.kv,
        "crypto" => grants.crypto || !grants.keys.is_empty(),
        "http" => !grants.http.is_empty(),
        _ => true,
    }
}
