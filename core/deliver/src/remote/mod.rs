//! Delivery over SMTP and LMTP: a task per connection, the walk from host to host, the connection itself.

pub(crate) mod carrier;
mod line;
mod security;
mod walk;

pub(crate) use security::Broken;
