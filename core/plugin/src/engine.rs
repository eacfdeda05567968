//! The engine that all plugins of a process share, and the clock that stops runaways.
//!
//! Measured (wasmtime 48): component-model concurrency left on doubles or triples every call, so it is off; epochs cost
//! nothing on calls and stop a guest within a tick or two, so fuel is off; a reservation below 4 GiB costs guests 40–50 % in
//! bounds checks, so it is 4 GiB (address space, not memory).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Component instances in the whole process. Reserves 8 TiB of address space of the 128 TiB that there are, and no memory.
const INSTANCES_MAX: u32 = 2000;
/// Most linear memory that an instance can be given by configuration; Python needs 128 MiB.
pub(crate) const MEMORY_MAX: usize = 128 << 20;
/// Stack of a guest.
const STACK: usize = 256 << 10;
/// Stack of a fiber: the guest's, and as much again for host functions that parse messages.
const FIBER_STACK: usize = 1 << 20;
/// One tick of the epoch clock: a fifth of the computing time that a call has by default. Every tick is a wake-up of the ticker while calls are
/// made, which at a millisecond took 17 µs of every message at 2000 messages a second.
pub(crate) const TICK: Duration = Duration::from_millis(2);
/// Ticks without a call after which the ticker goes to sleep.
const IDLE_TICKS: u32 = 50;

/// Engine and ticker. The ticker's thread ends with the last clone of the [`Runtime`].
pub(crate) struct Runtime {
    pub(crate) engine: Engine,
    ticker: Arc<Ticker>,
    thread: Thread,
}

impl Runtime {
    pub(crate) fn new() -> Result<Arc<Runtime>, String> {
        let engine = engine()?;
        let ticker = Arc::new(Ticker::default());
        let (its_engine, its_ticker) = (engine.clone(), ticker.clone());
        let handle = thread::Builder::new()
            .name("plugin-ticker".into())
            .spawn(move || its_ticker.run(&its_engine))
            .map_err(|error| error.to_string())?;
        Ok(Arc::new(Runtime { engine, ticker, thread: handle.thread().clone() }))
    }

    /// A guest is about to run: the epoch clock must go. Called before every call and after every wait; costs two loads when
    /// the clock is going already.
    pub(crate) fn wake(&self) {
        if !self.ticker.active.load(Ordering::Relaxed) {
            self.ticker.active.store(true, Ordering::SeqCst);
        }
        if self.ticker.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    /// How often the clock has gone to sleep, for tests.
    #[cfg(test)]
    fn naps(&self) -> u32 {
        self.ticker.naps.load(Ordering::SeqCst)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.ticker.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Shared between callers and the ticking thread. A caller sets `active` and then looks at `parked`; the thread sets `parked`
/// and then looks at `active`: one of them always sees the other.
#[derive(Default)]
struct Ticker {
    active: AtomicBool,
    parked: AtomicBool,
    stopped: AtomicBool,
    naps: AtomicU32,
}

impl Ticker {
    fn run(&self, engine: &Engine) {
        let mut idle = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            thread::sleep(TICK);
            engine.increment_epoch();
            idle = if self.active.swap(false, Ordering::SeqCst) { 0 } else { idle + 1 };
            if idle >= IDLE_TICKS {
                self.nap();
                idle = 0;
            }
        }
    }

    fn nap(&self) {
        self.parked.store(true, Ordering::SeqCst);
        self.naps.fetch_add(1, Ordering::SeqCst);
        while !self.active.load(Ordering::SeqCst) && !self.stopped.load(Ordering::SeqCst) {
            thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }
}

/// The engine alone, without a clock and its thread.
pub(crate) fn engine() -> Result<Engine, String> {
    Engine::new(&config()).map_err(|error| format!("{error:#}"))
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .consume_fuel(false)
        .max_wasm_stack(STACK)
        .async_stack_size(FIBER_STACK)
        .memory_reservation(4 << 30)
        .memory_init_cow(true)
        .generate_address_map(false)
        .wasm_backtrace_max_frames(None)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // A component made by wasm-tools is one to four core instances (program, shim, fix-ups, adapter).
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(4 * INSTANCES_MAX)
        .total_memories(INSTANCES_MAX)
        .total_tables(2 * INSTANCES_MAX)
        // Only calls that may wait have one. Each costs two system calls when the engine starts.
        .total_stacks(INSTANCES_MAX / 2)
        .max_memory_size(MEMORY_MAX)
        .max_unused_warm_slots(16)
        // Fresh instances are cheapest when the pages that the last one used stay, and are wiped by page scan (Linux 6.7).
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_sleeps_when_nobody_runs_and_wakes_when_somebody_does() {
        let runtime = Runtime::new().unwrap();
        while runtime.naps() == 0 {
            thread::yield_now();
        }
        runtime.wake();
        while runtime.naps() == 1 {
            thread::yield_now();
        }
    }
}
