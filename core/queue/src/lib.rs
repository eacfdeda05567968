//! The law of the queue: what an entry is, what a [`Store`] promises, when what is tried again, and what a sender is told.
//!
//! Floor 1: pure, deterministic, `now` is an argument. `INTERNALS.md` beside this crate states the law and the crash table.
//!
//! | page | what it holds |
//! |---|---|
//! | [`entry`] | [`Entry`]: a message without its octets, and how settlements change it |
//! | [`store`] | [`Store`]: what a durable queue promises; [`Claim`], [`Settlement`], [`StoreError`] |
//! | [`codec`] | entries as bytes: versioned, checksummed |
//! | [`memory`] | a [`Store`] in memory, with crashes and faults on demand, for the tests of every floor |
//! | [`conformance`] | the tests that every store must pass |
//! | [`schedule`] | who goes first, how many at once, and when again |
//! | [`dsn`] | delivery reports, RFC 3464 |
//! | [`bounce`] | the reports of others, read; what replies mean |
//! | [`suppress`] | who is not written to any more, and what was sent lately |

pub mod bounce;
pub mod codec;
pub mod conformance;
pub mod dsn;
pub mod entry;
pub mod memory;
pub mod schedule;
pub mod store;
pub mod suppress;

pub use entry::{Attempt, Delivery, Entry, Kind, Origin, State};
pub use memory::MemoryStore;
pub use schedule::Schedule;
pub use store::{
    Change, Claim, Counts, FRESH_LEASE, Handoff, Problem, Settled, Settlement, Store, StoreError, StoreLimits, Task,
};
