//! The law of the queue: what an entry is, what a [`Store`] promises, when what is tried again, and what a sender is told.
//!
//! Floor 1: pure, deterministic, `now` is an argument. `INTERNALS.md` beside this crate states the law and the crash table.

pub mod entry;
pub mod store;

pub use entry::{Attempt, Delivery, Entry, Kind, Origin, State};
pub use store::{Change, Claim, Counts, Handoff, Problem, Settled, Settlement, Store, StoreError, StoreLimits, Task};
