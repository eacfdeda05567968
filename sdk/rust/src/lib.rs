//! Write a Waypost plugin in Rust.
//!
//! Implement [`Plugin`] for a type of yours, name the stages that you want in [`export!`], build for `wasm32-wasip2`:
//!
//! ```
//! use waypost_sdk::{Action, Host, Outcome, Plugin, Registration};
//!
//! /// Refuses clients that greet with somebody else's name: ours.
//! struct Impostor {
//!     our_name: String,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields, rename_all = "kebab-case")]
//! struct Settings {
//!     our_name: String,
//! }
//!
//! impl Plugin for Impostor {
//!     fn init(host: &Host) -> Result<(Self, Registration), String> {
//!         let Settings { our_name } = waypost_sdk::settings(host)?;
//!         Ok((Impostor { our_name }, Registration::new("impostor", env!("CARGO_PKG_VERSION"))))
//!     }
//!
//!     fn helo(&mut self, host: &Host, name: &str, _esmtp: bool) -> Outcome {
//!         if name.eq_ignore_ascii_case(&self.our_name) && !host.session().is_own() {
//!             return Ok(Action::reject(550, (5, 7, 1), "That is my name, not yours"));
//!         }
//!         Ok(Action::Next)
//!     }
//! }
//!
//! waypost_sdk::export!(Impostor: helo);
//!
//! // and its test, natively, without a server:
//! let mut bench = waypost_sdk::Bench::<Impostor>::start(r#"{"our-name": "mx.example"}"#).unwrap();
//! assert_eq!(bench.helo("client.example"), Ok(Action::Next));
//! assert!(matches!(bench.helo("MX.example"), Ok(Action::Reject(_))));
//! ```
//!
//! * [`Plugin`]: the stages. [`Host`]: what a plugin may ask and say; each section of it that is used is a grant to be given.
//! * [`settings`]: the plugin's table of the configuration, with errors that name the setting.
//! * [`Networks`], [`Addresses`]: the lists that mail admins write.
//! * [`Bench`]: a scripted host for unit tests (not in components).
//!
//! The contract itself is `sdk/wit`; `sdk/README.md` walks through a first plugin.

pub mod addresses;
#[cfg(not(target_arch = "wasm32"))]
pub mod bench;
#[doc(hidden)]
#[allow(unsafe_code)]
pub mod bindings;
mod export;
pub mod facts;
pub mod host;
pub mod mailbox;
pub mod networks;
mod plugin;
#[cfg(not(target_arch = "wasm32"))]
pub mod script;
mod settings;
pub mod types;

pub use addresses::Addresses;
#[cfg(not(target_arch = "wasm32"))]
pub use bench::Bench;
pub use host::Host;
pub use networks::Networks;
pub use plugin::Plugin;
pub use settings::{parse_settings, settings};
pub use types::{Action, BodyNeed, DnsQuery, Outcome, Recipient, RecordType, Registration, Reply, TransportKind};
