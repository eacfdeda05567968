//! What a component is, without starting it: which stages it exports, which functions it can call, and so which grants it may need.

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::engine::Runtime;
use crate::grant::PACKAGE;
use crate::instance::Hook;

/// What a component is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Versions of the contract that its interfaces name; a plugin has one.
    pub contract: Vec<String>,
    /// The contract's interfaces that it exports, such as `on-rcpt`.
    pub exports: Vec<String>,
    /// Those of them that this server asks.
    pub asked: Vec<String>,
    /// The contract's interfaces that it imports, each with the functions that it can call.
    pub imports: Vec<(String, Vec<String>)>,
    /// Everything else that it imports, such as `wasi:clocks/wall-clock@0.2.6`.
    pub foreign: Vec<String>,
}

impl Inspection {
    /// The grants without which some of its calls are refused.
    pub fn grants(&self) -> Vec<&'static str> {
        let imports = |interface: &str, function: Option<&str>| {
            let found = self.imports.iter().find(|(name, _)| name == interface);
            found.is_some_and(|(_, functions)| function.is_none_or(|one| functions.iter().any(|f| f == one)))
        };
        let rewrites = [
            ("message", "replace-body"),
            ("envelope", "add-recipient"),
            ("envelope", "remove-recipient"),
            ("envelope", "set-sender"),
        ];
        let signs = ["dkim-sign", "sign"].iter().any(|function| imports("crypto", Some(function)));
        let wanted = [
            ("dns", imports("dns", None)),
            ("kv", imports("kv", None)),
            ("tables", imports("tables", None)),
            ("keys", signs),
            ("crypto", imports("crypto", None) && !signs),
            ("http", imports("http", None)),
            ("rewrite", rewrites.iter().any(|(interface, function)| imports(interface, Some(function)))),
        ];
        wanted.into_iter().filter_map(|(grant, wants)| wants.then_some(grant)).collect()
    }
}

/// Looks at a component. Compiles it, which takes seconds where it is large; the error says why it is none.
pub fn inspect(wasm: &[u8]) -> Result<Inspection, String> {
    let runtime = Runtime::new()?;
    let component = Component::from_binary(&runtime.engine, wasm).map_err(|error| format!("{error:#}"))?;
    let (engine, ty) = (&runtime.engine, component.component_type());
    let mut seen = Inspection::default();
    for (import, kind) in ty.imports(engine) {
        match contract(import, &mut seen.contract) {
            Some(interface) => {
                let functions = match &kind.ty {
                    ComponentItem::ComponentInstance(instance) => functions(instance, engine),
                    _ => Vec::new(),
                };
                seen.imports.push((interface, functions));
            }
            None => seen.foreign.push(import.to_string()),
        }
    }
    for (export, _) in ty.exports(engine) {
        if let Some(interface) = contract(export, &mut seen.contract) {
            seen.exports.push(interface);
        }
    }
    let asked =
        |name: &&String| *name == "on-command" || Hook::ALL.iter().any(|(_, _, interface, _)| name == interface);
    seen.asked = seen.exports.iter().filter(asked).cloned().collect();
    seen.contract.sort();
    seen.contract.dedup();
    Ok(seen)
}

fn functions(instance: &wasmtime::component::types::ComponentInstance, engine: &wasmtime::Engine) -> Vec<String> {
    let function = |(name, item): (&str, wasmtime::component::types::ComponentExtern)| {
        matches!(item.ty, ComponentItem::ComponentFunc(_)).then(|| name.to_string())
    };
    instance.exports(engine).filter_map(function).collect()
}

/// The interface's own name, if it is the contract's; its version is noted.
fn contract(name: &str, versions: &mut Vec<String>) -> Option<String> {
    let (name, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
    versions.push(version.to_string());
    Some(name.to_string())
}
