//! Load: messages from nowhere, and a place where they end.
//!
//! Both sides read and write whole groups with as few system calls as the protocol allows and look at octets once, so that they cost a
//! fraction of any server between them.

pub(crate) mod letter;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod wire;
