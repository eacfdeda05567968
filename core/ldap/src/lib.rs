//! LDAP (floor 3, RFC 4511): a directory as a back end of logins and as a table.
//!
//! | page | what it holds |
//! |---|---|
//! | [`login`] | [`LdapLogin`]: a login is good if the directory lets its user bind with the password |
//! | [`table`] | [`LdapTable`]: a key is searched for, the entries' attributes are the value |
//! | [`place`] | [`Place`]: where a directory is, and how it is reached |
//! | [`filter`] | [`Filter`]: search filters (RFC 4515), into which clients' words go as values |
//! | [`ber`] | the encoding |
//! | `line` | one connection and the four requests that are needed |
//!
//! It promises that every wait has an end, that an answer is bounded, and that nothing a client says becomes syntax of a name or a filter. There
//! is no client library in between: bind, search, StartTLS and unbind are four messages.

pub mod ber;
pub mod filter;
mod line;
pub mod login;
pub mod place;
pub mod table;
mod template;

pub use filter::Filter;
pub use login::{Finding, LdapLogin};
pub use place::{Directory, Place};
pub use table::{LdapTable, LdapTableOptions};
