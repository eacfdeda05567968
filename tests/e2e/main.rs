//! What an operator sees: the real binary, from connection to Maildir and next hop.

mod addresses;
mod bounces;
mod checks;
mod decisions;
mod delivery;
mod directory;
mod dkim;
mod dmarc;
mod doors;
mod egress;
mod envelope;
mod inbound;
mod login;
mod mailboxes;
mod memory;
mod operation;
mod plugin;
mod policy;
mod privileges;
mod queue;
mod rubbish;
mod scheduling;
mod spam;
mod submission;
mod tls_report;
mod wire;
