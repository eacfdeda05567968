//! The steps of a message that need no operating system, each as something that can be run again and again.
//!
//! `waypost-count` counts their instructions. A step does in each round what it does for one message of 10 KB, as `smtp-source -l 10240`
//! sends it, and allocates and frees as the server would.

mod sample;
mod smtp;
mod store;

/// A step, ready to be run.
pub type Round = Box<dyn FnMut()>;

/// A step of a message.
pub struct Step {
    /// Its name, as it stands in `counts.tsv`.
    pub name: &'static str,
    /// What a round does.
    pub what: &'static str,
    /// Makes it ready.
    pub ready: fn() -> Round,
}

/// All of them.
pub const STEPS: &[Step] = &[
    Step { name: "decode-data", what: "unstuff the octets behind DATA", ready: smtp::decode },
    Step { name: "stuff-data", what: "stuff a message for DATA", ready: smtp::stuff },
    Step { name: "receive", what: "a pipelined transaction through the server's machine", ready: smtp::receive },
    Step { name: "receive-50", what: "the same with fifty recipients", ready: smtp::receive_fifty },
    Step { name: "greet", what: "a new server session up to the answer to EHLO", ready: smtp::greet },
    Step { name: "send", what: "a pipelined transaction through the client's machine", ready: smtp::send },
    Step { name: "parse-address", what: "read an address", ready: smtp::address },
    Step { name: "walk-headers", what: "walk a header block of twelve fields", ready: smtp::headers },
    Step { name: "route-own", what: "find a mailbox behind an alias", ready: store::route_own },
    Step { name: "route-away", what: "find the transport of a foreign domain", ready: store::route_away },
    Step { name: "encode-entry", what: "an entry as octets", ready: store::encode },
    Step { name: "decode-entry", what: "an entry from octets", ready: store::decode },
    Step { name: "settle-entry", what: "an entry after a delivery", ready: store::settle },
    Step { name: "schedule", what: "a job in, started, ended, a thousand others waiting", ready: store::schedule },
    Step { name: "report", what: "a report of a failure (RFC 3464)", ready: store::report },
];
