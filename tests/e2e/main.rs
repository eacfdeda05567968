//! What an operator sees: the real binary, from connection to Maildir and next hop.

mod addresses;
mod checks;
mod delivery;
mod dmarc;
mod doors;
mod envelope;
mod inbound;
mod login;
mod memory;
mod operation;
mod queue;
mod rubbish;
mod submission;
mod wire;
