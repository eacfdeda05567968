//! WASI preview 2, as far as the runtimes of languages need it to start: clocks, randomness, an empty environment, no files, no
//! sockets, and standard output and error that end in the log.
//!
//! Written by hand instead of taken from `wasmtime-wasi`: that crate brings an asynchronous file system and network stack of some
//! sixty packages to provide what is refused here, and makes every call need a fiber. Whatever a component imports beyond the
//! functions below is linked as a trap that says so.

use std::time::Instant;

use aws_lc_rs::rand;
use wasmtime::Result;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource, ResourceType};

use super::{action, env, function};
use crate::case::Ctx;
use crate::fault::Fault;
use crate::wit::Level;

/// Octets of randomness in one call.
const RANDOM_MAX: u64 = 64 << 10;

struct OutputStream;
struct InputStream;
struct IoError;
struct Pollable;
struct Absent;

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

type Streamed<T> = Result<T, StreamError>;

/// Links the interface `name` (without its version) of the package `wasi`, as the component imports it.
pub(crate) fn link(
    linker: &mut LinkerInstance<'_, Ctx>,
    name: &str,
    wanted: &ComponentInstance,
    engine: &wasmtime::Engine,
) -> Result<()> {
    for (item, kind) in wanted.exports(engine) {
        match kind.ty {
            ComponentItem::Resource(_) => linker.resource(item, resource(item), |_, _| Ok(()))?,
            ComponentItem::ComponentFunc(_) => link_function(linker, name, item)?,
            _ => {}
        }
    }
    Ok(())
}

fn link_function(linker: &mut LinkerInstance<'_, Ctx>, interface: &str, name: &str) -> Result<()> {
    if link_known(linker, interface, name)? { Ok(()) } else { link_absent(linker, interface, name) }
}

/// Resource names mean the same in every interface of WASI 0.2, so an alias in one is the original in another.
fn resource(name: &str) -> ResourceType {
    match name {
        "output-stream" => ResourceType::host::<OutputStream>(),
        "input-stream" => ResourceType::host::<InputStream>(),
        "error" => ResourceType::host::<IoError>(),
        "pollable" => ResourceType::host::<Pollable>(),
        _ => ResourceType::host::<Absent>(),
    }
}

fn link_absent(linker: &mut LinkerInstance<'_, Ctx>, interface: &str, name: &str) -> Result<()> {
    let what = format!("{interface}#{name} (plugins have no files, sockets or processes)");
    linker.func_new(name, move |_, _, _, _| Err(Fault::Denied(what.clone()).into()))
}

/// Links the function if it is one of ours; says whether it was.
fn link_known(linker: &mut LinkerInstance<'_, Ctx>, interface: &str, name: &str) -> Result<bool> {
    match interface {
        "wasi:cli/environment" | "wasi:cli/exit" | "wasi:filesystem/preopens" => link_environment(linker, name),
        "wasi:cli/stdin" | "wasi:cli/stdout" | "wasi:cli/stderr" => link_standard(linker, name),
        "wasi:cli/terminal-stdin" | "wasi:cli/terminal-stdout" | "wasi:cli/terminal-stderr" => {
            link_terminal(linker, name)
        }
        "wasi:clocks/wall-clock" => link_wall_clock(linker, name),
        "wasi:clocks/monotonic-clock" => link_monotonic_clock(linker, name),
        "wasi:random/random" | "wasi:random/insecure" | "wasi:random/insecure-seed" => link_random(linker, name),
        "wasi:io/streams" => link_streams(linker, name),
        "wasi:io/poll" => link_poll(linker, name),
        _ => Ok(false),
    }
}

fn link_environment(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "get-environment" => function(linker, name, |_, ()| Ok(Vec::<(String, String)>::new()))?,
        "get-arguments" => function(linker, name, |_, ()| Ok(Vec::<String>::new()))?,
        "initial-cwd" => function(linker, name, |_, ()| Ok(None::<String>))?,
        "get-directories" => function(linker, name, |_, ()| Ok(Vec::<(Resource<Absent>, String)>::new()))?,
        "exit" => action(linker, name, |_, (_,): (Result<(), ()>,)| Err(Fault::Trapped("it called exit".into())))?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn link_standard(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "get-stdin" => function(linker, name, |_, ()| Ok(Resource::<InputStream>::new_own(0)))?,
        "get-stdout" | "get-stderr" => function(linker, name, |_, ()| Ok(Resource::<OutputStream>::new_own(0)))?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn link_terminal(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "get-terminal-stdin" | "get-terminal-stdout" | "get-terminal-stderr" => {
            function(linker, name, |_, ()| Ok(None::<Resource<Absent>>))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn link_wall_clock(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    let at = |millis: u64| Datetime { seconds: millis / 1000, nanoseconds: (millis % 1000) as u32 * 1_000_000 };
    match name {
        "now" => function(linker, name, move |ctx, ()| Ok(at(ctx.now().millis())))?,
        "resolution" => function(linker, name, move |_, ()| Ok(at(1)))?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn link_monotonic_clock(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    let origin = Instant::now();
    match name {
        "now" => function(linker, name, move |_, ()| Ok(origin.elapsed().as_nanos() as u64))?,
        "resolution" => function(linker, name, |_, ()| Ok(1000u64))?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn link_random(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "get-random-bytes" | "get-insecure-random-bytes" => function(linker, name, |_, (len,): (u64,)| {
            if len > RANDOM_MAX {
                return Err(Fault::Misuse(format!("at most {RANDOM_MAX} octets of randomness at a time")));
            }
            let mut bytes = vec![0; len as usize];
            fill(&mut bytes)?;
            Ok(bytes)
        })?,
        "get-random-u64" | "get-insecure-random-u64" => function(linker, name, |_, ()| number())?,
        "insecure-seed" | "get-insecure-seed" => function(linker, name, |_, ()| Ok((number()?, number()?)))?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn fill(bytes: &mut [u8]) -> Result<(), Fault> {
    rand::fill(bytes).map_err(|_| Fault::Port("the operating system gives no randomness".into()))
}

fn number() -> Result<u64, Fault> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn link_streams(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    let write = |ctx: &mut Ctx, (_, data): (Resource<OutputStream>, Vec<u8>)| -> Result<Streamed<()>, Fault> {
        for line in String::from_utf8_lossy(&data).lines().filter(|line| !line.trim().is_empty()) {
            env::log(ctx, Level::Warn, line)?;
        }
        Ok(Ok(()))
    };
    match name {
        "[method]output-stream.check-write" => {
            function(linker, name, |_, (_,): (Resource<OutputStream>,)| Ok(Streamed::Ok(4096u64)))?;
        }
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => {
            function(linker, name, write)?
        }
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => {
            function(linker, name, |_, (_,): (Resource<OutputStream>,)| Ok(Streamed::Ok(())))?;
        }
        "[method]output-stream.subscribe" => {
            function(linker, name, |_, (_,): (Resource<OutputStream>,)| Ok(Resource::<Pollable>::new_own(0)))?;
        }
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => {
            function(linker, name, |_, (_, _): (Resource<InputStream>, u64)| {
                Ok(Streamed::<Vec<u8>>::Err(StreamError::Closed))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Only streams can be waited for, and those are always ready; a sleep is not among the functions.
fn link_poll(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "[method]pollable.block" => action(linker, name, |_, (_,): (Resource<Pollable>,)| Ok(()))?,
        "[method]pollable.ready" => function(linker, name, |_, (_,): (Resource<Pollable>,)| Ok(true))?,
        "poll" => function(linker, name, |_, (list,): (Vec<Resource<Pollable>>,)| {
            Ok((0..list.len() as u32).collect::<Vec<_>>())
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}
