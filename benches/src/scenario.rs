//! The scenarios: what is sent, over what, to where.

use std::fmt::Write as _;

use serde::Serialize;

/// Which way mail takes through the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// From a host of our own to the sink.
    Relay,
    /// The next hop is down: only taking it in is measured.
    AcceptOnly,
    /// From a stranger to a domain that we relay for, every plugin asked, SPF, DKIM and DMARC checked.
    Inbound,
    /// From a user who logs in, signed, to the sink.
    Submission,
    /// From a stranger into a Maildir.
    Mailbox,
}

/// One scenario.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Scenario {
    /// As the command line names it.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) what: &'static str,
    /// The way.
    pub(crate) way: Way,
    /// Octets of a message.
    pub(crate) bytes: usize,
    /// Sessions at the same time.
    pub(crate) sessions: usize,
    /// Messages in the short form.
    pub(crate) messages: u64,
    /// Messages on a connection; 0 for all.
    pub(crate) per_connection: u64,
    /// Recipients of each.
    pub(crate) recipients: usize,
    /// STARTTLS on both sides.
    pub(crate) tls: bool,
    /// Belongs to the short form.
    pub(crate) short: bool,
}

const RELAY: Scenario = Scenario {
    name: "relay-10k",
    what: "plain relay, 10 KB",
    way: Way::Relay,
    bytes: 10_240,
    sessions: 50,
    messages: 5000,
    per_connection: 0,
    recipients: 1,
    tls: false,
    short: true,
};

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    RELAY,
    Scenario { name: "relay-2k", what: "plain relay, 2 KB", bytes: 2048, short: false, ..RELAY },
    Scenario { name: "relay-100k", what: "plain relay, 100 KB", bytes: 102_400, messages: 1000, short: false, ..RELAY },
    Scenario { name: "relay-1m", what: "plain relay, 1 MB", bytes: 1 << 20, messages: 200, short: false, ..RELAY },
    Scenario { name: "relay-connections", what: "one message for each connection, 10 KB", per_connection: 1, ..RELAY },
    Scenario { name: "relay-tls", what: "STARTTLS on both sides, 10 KB", tls: true, ..RELAY },
    Scenario {
        name: "relay-50-recipients",
        what: "50 recipients of each, 10 KB",
        recipients: 50,
        messages: 1000,
        short: false,
        ..RELAY
    },
    Scenario { name: "accept-only", what: "next hop down, 10 KB", way: Way::AcceptOnly, short: false, ..RELAY },
    Scenario { name: "inbound", what: "from strangers through all four plugins, 10 KB", way: Way::Inbound, ..RELAY },
    Scenario {
        name: "submission",
        what: "STARTTLS, AUTH, DKIM with RSA-2048 and Ed25519, 10 KB",
        way: Way::Submission,
        tls: true,
        messages: 2000,
        ..RELAY
    },
    Scenario {
        name: "mailbox",
        what: "from strangers into a Maildir, 10 KB",
        way: Way::Mailbox,
        messages: 3000,
        ..RELAY
    },
];

/// The list for people.
pub(crate) fn list() -> String {
    let mut text = String::new();
    for scenario in ALL {
        let mark = if scenario.short { "short" } else { "long" };
        writeln!(text, "{:<22} {:<6} {}", scenario.name, mark, scenario.what).expect("a String takes everything");
    }
    text
}
