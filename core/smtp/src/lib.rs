//! SMTP and LMTP, both sides, as machines without sockets or clocks (floor 1).
//!
//! [`server::Session`] takes bytes, answers and `now`, and gives actions; so does [`client::Client`]. Neither ever waits, looks anything
//! up, or decides about people: the session *asks*. See RFC 5321 and the extensions named in `extension`.

pub mod bdat;
pub mod client;
pub mod command;
pub mod data;
pub mod extension;
pub mod line;
pub mod parameter;
pub mod path;
pub mod response;
pub mod sasl;
pub mod server;
pub mod timer;
