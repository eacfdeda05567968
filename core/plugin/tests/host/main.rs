//! The host with real components: what is asked, what is answered, what is stopped.
//!
//! Two plugins stand in `tests/guests`, three of the product's are asked too; they are built for `wasm32-wasip2` when they are older than their sources.

mod bench;
mod cost;
mod grants;
mod life;
mod limits;
mod messages;
mod shipped;
mod trial;
mod verdicts;
