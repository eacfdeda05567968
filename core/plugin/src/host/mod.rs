//! What plugins can call, one page per interface of the contract.
//!
//! Each page links its interface's functions as closures over the store's [`Ctx`]. Every function is counted before it runs, so
//! none can be forgotten. A function that was not granted is linked all the same: if its type has room for an error, that is
//! what the plugin gets; if not, the call is a fault whose text names the grant.

pub(crate) mod crypto;
pub(crate) mod dns;
pub(crate) mod env;
pub(crate) mod envelope;
pub(crate) mod http;
pub(crate) mod kv;
pub(crate) mod message;
pub(crate) mod scores;
pub(crate) mod session;
pub(crate) mod tables;
pub(crate) mod wasi;

use std::future::poll_fn;
use std::task::Poll;

use wasmtime::component::{ComponentNamedList, Lift, LinkerInstance, Lower};
use wasmtime::{AsContextMut, Result};
use waypost_types::Task;

use crate::case::Ctx;
use crate::fault::Fault;

/// Links a function with a result.
pub(crate) fn function<P, R>(
    linker: &mut LinkerInstance<'_, Ctx>,
    name: &str,
    body: impl Fn(&mut Ctx, P) -> Result<R, Fault> + Send + Sync + 'static,
) -> Result<()>
where
    P: ComponentNamedList + Lift + 'static,
    R: 'static,
    (R,): ComponentNamedList + Lower,
{
    linker.func_wrap(name, move |mut store, parameters: P| {
        let ctx = store.data_mut();
        ctx.count()?;
        Ok((body(ctx, parameters)?,))
    })
}

/// Links a function without a result.
pub(crate) fn action<P>(
    linker: &mut LinkerInstance<'_, Ctx>,
    name: &str,
    body: impl Fn(&mut Ctx, P) -> Result<(), Fault> + Send + Sync + 'static,
) -> Result<()>
where
    P: ComponentNamedList + Lift + 'static,
{
    linker.func_wrap(name, move |mut store, parameters: P| {
        let ctx = store.data_mut();
        ctx.count()?;
        Ok(body(ctx, parameters)?)
    })
}

/// Links a function that may wait. `body` prepares the wait; the guest sleeps meanwhile, and the ticks that pass are not its own.
pub(crate) fn waiting<P, R>(
    linker: &mut LinkerInstance<'_, Ctx>,
    name: &str,
    body: impl Fn(&mut Ctx, P) -> Result<Task<'static, R>, Fault> + Send + Sync + 'static,
) -> Result<()>
where
    P: ComponentNamedList + Lift + 'static,
    R: Send + 'static,
    (R,): ComponentNamedList + Lower,
{
    linker.func_wrap_async(name, move |mut store, parameters: P| {
        let ctx = store.data_mut();
        let prepared = ctx.count().and_then(|()| body(ctx, parameters));
        Box::new(async move {
            let result = prepared?.await;
            store.as_context_mut().set_epoch_deadline(1);
            store.data().shared.runtime.wake();
            Ok((result,))
        })
    })
}

/// The same for a function whose wait may end in a fault.
pub(crate) fn waiting_or_fault<P, R>(
    linker: &mut LinkerInstance<'_, Ctx>,
    name: &str,
    body: impl Fn(&mut Ctx, P) -> Result<Task<'static, Result<R, Fault>>, Fault> + Send + Sync + 'static,
) -> Result<()>
where
    P: ComponentNamedList + Lift + 'static,
    R: Send + 'static,
    (R,): ComponentNamedList + Lower,
{
    linker.func_wrap_async(name, move |mut store, parameters: P| {
        let ctx = store.data_mut();
        let prepared = ctx.count().and_then(|()| body(ctx, parameters));
        Box::new(async move {
            let result = prepared?.await;
            store.as_context_mut().set_epoch_deadline(1);
            store.data().shared.runtime.wake();
            Ok((result?,))
        })
    })
}

/// Waits for all of them at once; the results keep their places.
pub(crate) async fn all<R>(tasks: Vec<Task<'static, R>>) -> Vec<R> {
    let mut slots: Vec<Slot<R>> = tasks.into_iter().map(Slot::Waiting).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for slot in &mut slots {
            if let Slot::Waiting(task) = slot {
                match task.as_mut().poll(cx) {
                    Poll::Ready(result) => *slot = Slot::Done(result),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    let done = |slot| match slot {
        Slot::Done(result) => Some(result),
        Slot::Waiting(_) => None,
    };
    slots.into_iter().filter_map(done).collect()
}

enum Slot<R> {
    Waiting(Task<'static, R>),
    Done(R),
}
