//! Tables that somebody else keeps (floor 2): `types::port::Table` over a database.
//!
//! | page | kind |
//! |---|---|
//! | [`forward`] | [`ForwardFiles`]: a file of each mailbox's owner |
//! | [`sqlite`] | [`SqliteTable`]: a file on this host, asked by a prepared statement |
//! | [`redis`] | [`RedisTable`]: `GET` over one kept connection for each question at a time |
//!
//! Every question has a deadline, and no answer is ever taken for "no such key": an error says which table failed and why, and mail waits for it
//! (451) instead of being refused. What is in memory is `waypost-route`'s.

pub mod forward;
pub mod redis;
pub mod sqlite;

pub use forward::ForwardFiles;
pub use redis::{RedisOptions, RedisTable};
pub use sqlite::{SqliteOptions, SqliteTable};

use waypost_types::port::TableError;

/// The error of the table `name`.
fn failed(name: &str, why: impl std::fmt::Display) -> TableError {
    TableError(format!("table {name}: {why}"))
}

/// A key in the form in which it is asked for: ASCII case does not count.
fn folded(key: &str) -> String {
    key.to_ascii_lowercase()
}
