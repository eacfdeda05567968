//! What the courier is given.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use waypost_net::ClientTls;
use waypost_queue::Store;
use waypost_queue::bounce::Table;
use waypost_queue::dsn::Reporter;
use waypost_queue::schedule::{self, Backoff};
use waypost_queue::suppress::Suppression;
use waypost_route::{NextHop, Verp};
use waypost_types::port::{Fetch, KeyValue};
use waypost_types::{Address, Domain, Observer, Soon};

use crate::local::post::Post;
use crate::plan::Planner;
use crate::shaping::Shaping;
use crate::sources::Sources;
use crate::tls_report::Sessions;

/// User and password for a host that wants a login.
pub type Credentials = (Arc<str>, Arc<str>);

/// What a mailbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailboxForm {
    /// A folder, a file for each letter.
    Maildir,
    /// One file.
    Mbox,
}

/// The courier's rules.
#[derive(Clone)]
pub struct Options {
    /// Our name in EHLO.
    pub name: Arc<str>,
    /// Where the mailboxes are.
    pub mail_dir: PathBuf,
    /// What they are.
    pub mailbox_form: MailboxForm,
    /// Where letters are posted, by name.
    pub posts: HashMap<String, Post>,
    /// The socket of the helper that runs programs.
    pub pipes: Option<PathBuf>,
    /// Who posts them.
    pub fetch: Option<Arc<dyn Fetch>>,
    /// When again.
    pub backoff: Backoff,
    /// Order, windows and rates.
    pub schedule: schedule::Options,
    /// How long a claim lasts. Longer than the longest attempt: RFC 5321 §4.5.3.2 allows one about half an hour.
    pub lease: Duration,
    /// Claims in hand at once: waiting, running or being settled.
    pub claims_max: usize,
    /// MiB of messages read from the store at once. Fresh messages come in memory and are bounded by the schedule.
    pub loaded_mib_max: u16,
    /// Recipients of one transaction. RFC 5321 §4.5.3.1.8 promises room for 100.
    pub recipients_max: usize,
    /// Until a TCP connection must be up.
    pub connect_timeout: Duration,
    /// Addresses tried in one attempt (Postfix's `smtp_mx_address_limit`).
    pub addresses_max: u32,
    /// Transactions on one connection. Receivers count them, and load balancers do not see kept ones.
    pub connection_messages_max: u32,
    /// How long a connection is kept without a transaction. Short: a kept connection takes a place at the peer.
    pub connection_idle_max: Duration,
    /// Connections kept idle at once, all destinations together.
    pub idle_connections_max: usize,
    /// Source address for IPv4 peers.
    pub source_v4: Option<IpAddr>,
    /// Source address for IPv6 peers.
    pub source_v6: Option<IpAddr>,
    /// A pool of sources; in place of `name`, `source_v4` and `source_v6` where it is not empty.
    pub sources: Sources,
    /// How large receivers want their mail.
    pub shaping: Shaping,
    /// Where what an operator has suspended outlives the process.
    pub kept: Option<Arc<dyn KeyValue>>,
    /// Who counts TLS sessions.
    pub tls_sessions: Option<Arc<Sessions>>,
    /// What replies mean.
    pub table: Table,
    /// Whose mail leaves with a sender for each recipient.
    pub verp: Option<Verp>,
    /// Who is not written to any more.
    pub suppression: Option<Suppression>,
    /// Logins by host name, as [`waypost_resolve::Hop::host`] has it.
    pub credentials: HashMap<String, Credentials>,
    /// Who reports to senders, and when a delay is reported.
    pub reporter: Reporter,
    /// How long [`Courier::shutdown`](crate::Courier::shutdown) waits for transactions that run.
    pub drain_max: Duration,
    /// RFC timeouts are divided by this; 1 in production.
    pub timeout_divisor: u32,
}

impl Options {
    /// Defaults for a host of this name with Maildirs under `mail_dir`.
    pub fn new(host: Domain, mail_dir: PathBuf) -> Options {
        Options {
            name: host.as_str().into(),
            mail_dir,
            mailbox_form: MailboxForm::Maildir,
            posts: HashMap::new(),
            pipes: None,
            fetch: None,
            backoff: Backoff::default(),
            schedule: schedule::Options::default(),
            lease: Duration::from_secs(3600),
            claims_max: 20_000,
            loaded_mib_max: 256,
            recipients_max: 100,
            connect_timeout: Duration::from_secs(30),
            addresses_max: 5,
            connection_messages_max: 100,
            connection_idle_max: Duration::from_secs(3),
            idle_connections_max: 200,
            source_v4: None,
            source_v6: None,
            sources: Sources::default(),
            shaping: Shaping::default(),
            kept: None,
            tls_sessions: None,
            table: Table::default(),
            verp: None,
            suppression: None,
            credentials: HashMap::new(),
            reporter: Reporter::new(host),
            drain_max: Duration::from_secs(30),
            timeout_divisor: 1,
        }
    }
}

/// The way of a recipient.
pub type Route = dyn Fn(&Address) -> Soon<'static, NextHop> + Send + Sync;
/// Where an address leads.
pub type Expand = dyn Fn(&Address) -> Soon<'static, Vec<Address>> + Send + Sync;

/// What the courier stands on.
#[derive(Clone)]
pub struct Services {
    /// The queue.
    pub store: Arc<dyn Store>,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
    /// Where a final recipient leads, by the tables as they are now: asked for each attempt, so that queued mail follows a reload.
    pub route: Arc<Route>,
    /// Where a report to this address goes, aliases and rewritten senders undone. Empty: nowhere.
    pub expand: Arc<Expand>,
    /// From a next hop to hosts.
    pub planner: Arc<dyn Planner>,
    /// TLS towards peers.
    pub tls: ClientTls,
}
