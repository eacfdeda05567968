//! SMTP and LMTP, both sides, as machines without sockets or clocks (floor 1).
//!
//! [`server::Session`] takes bytes, answers and `now`, and gives actions; so does [`client::Client`]. Neither ever waits, looks
//! anything up, or decides about people: the session *asks*. Both are tried against each other in virtual time (`tests/pair.rs`), the
//! server side by a dialog for each behaviour (`tests/dialogs`), by input cut anywhere (`tests/cuts.rs`), and by the fuzz targets.
//!
//! | page | what it holds |
//! |---|---|
//! | [`server`], [`client`] | the two machines |
//! | [`command`], [`parameter`], [`path`], [`bdat`] | what a client says, read |
//! | [`response`] | what a server says, read |
//! | [`line`](mod@line), [`data`] | cutting lines; the body: its end, its dots, its line ends |
//! | [`extension`] | the service extensions, as data |
//! | [`sasl`] | mechanisms of AUTH |
//! | [`timer`] | how long either side waits (RFC 5321 §4.5.3.2) |

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
