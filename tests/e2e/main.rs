//! What an operator sees: the real binary, from connection to Maildir and next hop.

mod delivery;
mod inbound;
mod operation;
mod queue;
mod rubbish;
mod submission;
mod wire;
