//! Meaning out: the configuration as the daemon uses it. Every field is what the row of the same name in `setting` says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use waypost_route::{CidrTable, RegexpTable, TextTable, TransportKey};
use waypost_types::{Address, Domain, Transport};

pub use crate::table::Account;

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct Config {
    /// `hostname`.
    pub hostname: Domain,
    /// `data`.
    pub data: PathBuf,
    /// `shutdown-time`.
    pub shutdown_time: Duration,
    /// `[domains]`.
    pub domains: Domains,
    /// `[listener.*]`, by name.
    pub listeners: Vec<Listener>,
    /// `[users]`.
    pub users: Users,
    /// `[auth]`.
    pub auth: Auth,
    /// `[aliases]`, files and names together.
    pub aliases: Vec<waypost_route::Alias>,
    /// `aliases.tables`.
    pub alias_tables: Vec<String>,
    /// `relay.networks`.
    pub relay_networks: Vec<IpNet>,
    /// `[transport]`.
    pub transports: Vec<(TransportKey, waypost_route::Transport)>,
    /// `[canonical]`.
    pub canonical: Canonical,
    /// `[srs]`; `None` if it is off.
    pub srs: Option<Srs>,
    /// `[queue]`.
    pub queue: Queue,
    /// `[delivery]`.
    pub delivery: Delivery,
    /// How strangers are asked to come back where `[decision.*]` says so; [`Config::greylist`] is for everybody.
    pub greylist_by_score: Greylist,
    /// `[greylist]`.
    pub greylist: Option<Greylist>,
    /// `[source.*]`.
    pub sources: Vec<Source>,
    /// `[post.*]`.
    pub posts: Vec<Post>,
    /// `[pipe.*]`.
    pub pipes: Vec<Pipe>,
    /// `[smarthost.*]`.
    pub smarthosts: Vec<Smarthost>,
    /// `[dns]`.
    pub dns: Dns,
    /// `plugins.chain`, with the settings of each.
    pub plugins: Vec<Plugin>,
    /// `[decision.*]`.
    pub decisions: Vec<Decision>,
    /// `[record]`.
    pub record: Record,
    /// `[table.*]`.
    pub tables: Vec<Table>,
    /// `[dkim.*]`, by name.
    pub dkim: Vec<DkimKey>,
    /// `[dmarc]`.
    pub dmarc: Dmarc,
    /// `[bounces]`.
    pub bounces: Bounces,
    /// `[tls-report]`.
    pub tls_report: TlsReport,
    /// `admin.bind`.
    pub admin: Vec<SocketAddr>,
    /// `[log]`.
    pub log: Log,
    /// `security.user`.
    pub user: Option<String>,
    /// `security.confine`.
    pub confine: bool,
    /// What is allowed but worth knowing.
    pub notes: Vec<String>,
    pub(crate) sheet: crate::sheet::Sheet,
}

/// `[domains]`.
#[derive(Clone, Debug)]
pub struct Domains {
    /// `domains.own`.
    pub own: Vec<Domain>,
    /// `domains.relay`.
    pub relay: Vec<Domain>,
    /// `own-tables`.
    pub own_tables: Vec<String>,
    /// `relay-tables`.
    pub relay_tables: Vec<String>,
    /// `relay-recipients`.
    pub relay_recipients: Vec<String>,
}

/// What a port makes of the built-in checks.
#[derive(Clone, Debug)]
pub struct Checks {
    /// By check.
    pub actions: waypost_types::checks::Actions,
    /// `client-access`.
    pub client: Vec<String>,
    /// `helo-access`.
    pub helo: Vec<String>,
    /// `sender-access`.
    pub sender: Vec<String>,
    /// `recipient-access`.
    pub recipient: Vec<String>,
}

/// `[canonical]`.
#[derive(Clone, Debug)]
pub struct Canonical {
    /// `sender`.
    pub sender: Vec<String>,
    /// `recipient`.
    pub recipient: Vec<String>,
    /// `both`.
    pub both: Vec<String>,
    /// `headers`.
    pub headers: bool,
}

/// `[srs]`.
#[derive(Clone, Debug)]
pub struct Srs {
    /// `domain`, or the first of our own.
    pub domain: Domain,
    /// `key-file`. It is made on first start unless it was named.
    pub key_file: PathBuf,
    /// `days`.
    pub days: u16,
}

/// One of `[table.*]`.
#[derive(Clone, Debug)]
pub struct Table {
    /// The section's name.
    pub name: String,
    /// Where its rows are.
    pub source: TableSource,
}

/// Where a table's rows are.
#[derive(Clone)]
pub enum TableSource {
    /// Here.
    Memory(MemoryTable),
    /// In a file of SQLite's.
    Sqlite {
        /// `file`.
        file: PathBuf,
        /// `query`.
        query: String,
        /// `timeout`.
        timeout: Duration,
    },
    /// In Redis.
    Redis {
        /// `server`.
        server: String,
        /// `user`.
        user: Option<String>,
        /// What stands in `password-file`.
        password: Option<String>,
        /// `database`.
        database: u64,
        /// `prefix`.
        prefix: String,
        /// `timeout`.
        timeout: Duration,
    },
    /// In a directory.
    Ldap(LdapTable),
}

/// A table of the kind `ldap`.
#[derive(Clone)]
pub struct LdapTable {
    /// `server`.
    pub url: String,
    /// `start-tls`.
    pub start_tls: bool,
    /// `ca-file`.
    pub ca_file: Option<PathBuf>,
    /// `base`.
    pub base: String,
    /// `query`: a filter.
    pub filter: String,
    /// `attribute`.
    pub attribute: String,
    /// `user`, and what stands in `password-file`.
    pub bind: Option<(String, String)>,
    /// `timeout`.
    pub timeout: Duration,
}

impl std::fmt::Debug for TableSource {
    /// Never shows a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TableSource::Memory(_) => f.write_str("Memory"),
            TableSource::Sqlite { file, .. } => write!(f, "Sqlite({})", file.display()),
            TableSource::Redis { server, .. } => write!(f, "Redis({server})"),
            TableSource::Ldap(LdapTable { url, .. }) => write!(f, "Ldap({url})"),
        }
    }
}

/// A table that was read.
#[derive(Clone, Debug)]
pub enum MemoryTable {
    /// `text` and `inline`.
    Text(TextTable),
    /// `cidr`.
    Cidr(CidrTable),
    /// `pcre` and `regexp`.
    Regexp(RegexpTable),
}

/// `listener.*.tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Not offered.
    None,
    /// STARTTLS offered.
    Opportunistic,
    /// Nothing before STARTTLS.
    Required,
    /// From the first octet.
    Implicit,
}

/// `listener.*.auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// No AUTH.
    Off,
    /// Inside TLS.
    Offered,
    /// Inside TLS, and nothing without it.
    Required,
}

/// One port.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The section's name.
    pub name: String,
    /// `preset`.
    pub transport: Transport,
    /// `bind`.
    pub bind: Vec<SocketAddr>,
    /// `tls`.
    pub tls: TlsMode,
    /// Certificates and TLS of this port: `tls-*`, and what `[tls]` says where they are silent.
    pub tls_policy: Tls,
    /// `auth`.
    pub auth: AuthMode,
    /// `sender-must-match-login`.
    pub sender_must_match_login: bool,
    /// `relay` names users.
    pub relay_users: bool,
    /// `relay` names networks.
    pub relay_networks: bool,
    /// `message-size`.
    pub message_size: u64,
    /// `recipients`.
    pub recipients: usize,
    /// `messages`.
    pub messages: u32,
    /// `errors`.
    pub errors: u32,
    /// `command-timeout`.
    pub command_timeout: Duration,
    /// `data-timeout`.
    pub data_timeout: Duration,
    /// `connections`.
    pub connections: usize,
    /// `connections-per-address`.
    pub connections_per_address: usize,
    /// `connections-per-minute`.
    pub connections_per_minute: u32,
    /// `messages-per-minute`.
    pub messages_per_minute: u32,
    /// `recipients-per-minute`.
    pub recipients_per_minute: u32,
    /// `client-prefix-v4` and `client-prefix-v6`.
    pub client_prefix: (u8, u8),
    /// `pressure`, in percent.
    pub pressure: u8,
    /// `greeting-delay`.
    pub greeting_delay: Duration,
    /// `haste = "refuse"`.
    pub refuse_haste: bool,
    /// `bare-newlines = "refuse"`.
    pub refuse_bare_newlines: bool,
    /// `tarpit`.
    pub tarpit: Duration,
    /// `mask`: keywords.
    pub mask: Vec<String>,
    /// `mask-for`.
    pub mask_for: Vec<(IpNet, Vec<String>)>,
    /// `offer`: keywords.
    pub offer: Vec<String>,
    /// `hold-max`.
    pub hold_max: Duration,
    /// `proxy-protocol`.
    pub balancers: Vec<IpNet>,
    /// `xclient`.
    pub proxies: Vec<IpNet>,
    /// `[checks]` and `checks`.
    pub checks: Checks,
    /// `plugins`; `None` for all of the chain.
    pub plugins: Option<Vec<String>>,
}

/// `[tls]`, or what a port makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chain and key files. Empty: a self-signed pair is made in `data`/tls.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// Nothing below TLS 1.3.
    pub only_1_3: bool,
    /// `ciphers`; all if empty.
    pub ciphers: Vec<String>,
    /// `alpn`; not looked at if empty.
    pub alpn: Vec<String>,
    /// `tickets`.
    pub tickets: bool,
    /// `listener.*.client-certificate`: `none`, `ask` or `require`.
    pub client_certificate: &'static str,
    /// `listener.*.client-authorities`.
    pub client_authorities: Vec<PathBuf>,
    /// `listener.*.client-fingerprints`.
    pub client_fingerprints: Vec<String>,
}

/// `[greylist]`, if it is enabled.
#[derive(Clone, Debug)]
pub struct Greylist {
    /// `delay`.
    pub delay: Duration,
    /// `window`.
    pub window: Duration,
    /// `remember`.
    pub lifetime: Duration,
    /// `senders` that are addresses.
    pub addresses: Vec<Address>,
    /// `senders` that are domains.
    pub domains: Vec<Domain>,
    /// `networks`.
    pub networks: Vec<IpNet>,
}

/// `[users]`.
#[derive(Clone, Debug)]
pub struct Users {
    /// `users.file`.
    pub file: PathBuf,
    /// What stands in it.
    pub accounts: Vec<Account>,
    /// Every mailbox: the accounts' and `users.mailboxes`.
    pub mailboxes: Vec<String>,
    /// `users.mail`.
    pub mail: PathBuf,
    /// `users.format = "mbox"`.
    pub mbox: bool,
    /// `users.separator`: its characters.
    pub separators: String,
    /// `users.forward`, absolute.
    pub forward: Option<PathBuf>,
    /// `users.mailbox-tables`.
    pub mailbox_tables: Vec<String>,
}

/// `[auth]`.
#[derive(Clone, Debug)]
pub struct Auth {
    /// `backend`.
    pub backend: AuthBackend,
    /// `service`.
    pub service: String,
    /// `timeout`.
    pub timeout: Duration,
    /// `mechanisms`; `None` for what the back end can do.
    pub mechanisms: Option<Vec<String>>,
    /// `[auth.senders]`: login, and the addresses or `@domain`s that it may use.
    pub senders: Vec<(String, Vec<String>)>,
    /// `[auth.token]`, if tokens are taken.
    pub tokens: Option<Tokens>,
    /// `[auth.certificate]`.
    pub certificates: CertificateUsers,
    /// A listener believes client certificates.
    pub external: bool,
}

/// `auth.backend`.
#[derive(Clone, Debug)]
pub enum AuthBackend {
    /// `users.file`.
    File,
    /// Dovecot's socket.
    Dovecot(PathBuf),
    /// saslauthd's socket.
    Saslauthd(PathBuf),
    /// A directory.
    Ldap(Ldap),
}

/// `[auth.ldap]`.
#[derive(Clone, Debug)]
pub struct Ldap {
    /// `url`.
    pub url: String,
    /// `start-tls`.
    pub start_tls: bool,
    /// `ca-file`.
    pub ca_file: Option<PathBuf>,
    /// `bind-dn`; without it the entry is searched for.
    pub bind_dn: Option<String>,
    /// How.
    pub search: LdapSearch,
}

/// How `[auth.ldap]` searches.
#[derive(Clone, Debug)]
pub struct LdapSearch {
    /// `base`.
    pub base: String,
    /// `filter`.
    pub filter: String,
    /// `search-dn`, and the file of `search-password`.
    pub bind: Option<(String, PathBuf)>,
    /// `user-attribute`.
    pub user: Option<String>,
}

/// `[auth.token]`.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `jwks`; otherwise `introspection`.
    pub jwks: Option<PathBuf>,
    /// `algorithms`.
    pub algorithms: Vec<String>,
    /// `introspection-url`.
    pub introspection: Option<String>,
    /// `introspection-client`, and the file of `introspection-secret`.
    pub client: Option<(String, PathBuf)>,
    /// `ca-file`.
    pub ca_file: Option<PathBuf>,
    /// `issuer`.
    pub issuer: Option<String>,
    /// `audience`.
    pub audience: Vec<String>,
    /// `scope`.
    pub scope: Option<String>,
    /// `user-claim`.
    pub user_claim: String,
}

/// `[auth.certificate]`.
#[derive(Clone, Debug)]
pub struct CertificateUsers {
    /// `user` names `email`.
    pub by_email: bool,
    /// `user` names `common-name`.
    pub by_common_name: bool,
    /// `names`: fingerprint in lower-case hex, and login.
    pub names: Vec<(String, String)>,
}

/// `[queue]`.
#[derive(Clone, Debug)]
pub struct Queue {
    /// `durability = "sync"`.
    pub sync: bool,
    /// `lifetime`.
    pub lifetime: Duration,
    /// `notice-lifetime`.
    pub notice_lifetime: Duration,
    /// `retry-first`.
    pub retry_first: Duration,
    /// `retry-max`.
    pub retry_max: Duration,
    /// `delay-report`; `None` for never.
    pub delay_report: Option<Duration>,
    /// `messages`.
    pub messages: u64,
    /// `free-space`.
    pub free_space: u64,
}

/// `[delivery]`.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// `connections`.
    pub connections: usize,
    /// `connections-per-destination`.
    pub connections_per_destination: usize,
    /// `messages-per-connection`.
    pub messages_per_connection: u32,
    /// `connect-timeout`.
    pub connect_timeout: Duration,
    /// `transport-tables`.
    pub transport_tables: Vec<String>,
    /// `roots`.
    pub roots: Option<PathBuf>,
    /// `mta-sts`.
    pub mta_sts: bool,
    /// The shipped rules for large receivers, and those of `shaping` over them.
    pub shaping: Vec<crate::shaping::Provider>,
}

/// `[source.*]`.
#[derive(Clone, Debug)]
pub struct Source {
    /// The section's name.
    pub label: String,
    /// `address`.
    pub addresses: Vec<std::net::IpAddr>,
    /// `name`.
    pub name: Domain,
    /// `weight`.
    pub weight: u32,
    /// `users`.
    pub users: Vec<String>,
    /// `socks`.
    pub socks: Option<SocketAddr>,
    /// `proxy`.
    pub proxy: Option<SocketAddr>,
    /// `since` as days since 1970, and `warm-up`, if it is not empty.
    pub warm_up: Option<(u64, Vec<u32>)>,
}

/// `[pipe.*]`.
#[derive(Clone, Debug)]
pub struct Pipe {
    /// The section's name.
    pub name: String,
    /// `command`: at least the program.
    pub command: Vec<String>,
    /// `user`.
    pub user: Option<String>,
    /// `timeout`.
    pub timeout: Duration,
    /// `output`.
    pub output: u64,
    /// `also-run`.
    pub also_run: Vec<PathBuf>,
}

/// `[post.*]`.
#[derive(Clone, Debug)]
pub struct Post {
    /// The section's name.
    pub name: String,
    /// `url`.
    pub url: String,
    /// `token-file`.
    pub token_file: Option<PathBuf>,
    /// `timeout`.
    pub timeout: Duration,
}

/// `[smarthost.*]`.
#[derive(Clone, Debug)]
pub struct Smarthost {
    /// `host`.
    pub host: String,
    /// `user`.
    pub user: String,
    /// `password-file`.
    pub password_file: PathBuf,
}

/// `[dns]`.
#[derive(Clone, Debug)]
pub struct Dns {
    /// `servers`; empty for the system's.
    pub servers: Vec<SocketAddr>,
    /// `dnssec`.
    pub dnssec: bool,
    /// `timeout`.
    pub timeout: Duration,
}

/// `[record]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// `share`, percent.
    pub share: f64,
    /// `messages`.
    pub messages: usize,
    /// `size`.
    pub size: u64,
    /// `mask`.
    pub mask: Vec<&'static str>,
}

/// `[decision.*]`: from which sum of weights on what becomes of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The section's name.
    pub name: String,
    /// `domains`; empty for all others.
    pub domains: Vec<Domain>,
    /// `listeners`; empty for mail from outside.
    pub listeners: Vec<String>,
    /// `header-at`.
    pub header: Option<f64>,
    /// `subject-at`.
    pub subject: Option<f64>,
    /// `tag`.
    pub tag: String,
    /// `greylist-at`.
    pub greylist: Option<f64>,
    /// `hold-at`.
    pub hold: Option<f64>,
    /// `refuse-at`.
    pub refuse: Option<f64>,
    /// `text`.
    pub text: String,
}

/// `[plugin.*]`.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The section's name.
    pub name: String,
    /// The component.
    pub path: PathBuf,
    /// `on-fault`: `tempfail` or `pass`.
    pub on_fault: &'static str,
    /// `grants`.
    pub grants: Vec<String>,
    /// `keys`.
    pub keys: Vec<String>,
    /// `tables`.
    pub tables: Vec<String>,
    /// `isolation`.
    pub isolation: &'static str,
    /// `memory`.
    pub memory: u64,
    /// `cpu`.
    pub cpu: Duration,
    /// `time`.
    pub time: Duration,
    /// `message-time`.
    pub message_time: Duration,
    /// `[plugin.*.config]` as JSON.
    pub config: String,
}

/// `[dkim.*]`.
#[derive(Clone, Debug)]
pub struct DkimKey {
    /// The section's name.
    pub name: String,
    /// `domain`.
    pub domain: Domain,
    /// `selector`.
    pub selector: String,
    /// `algorithm = "ed25519"`, RSA otherwise.
    pub ed25519: bool,
    /// The key. If it is [`DkimKey::ours`], it may not be there yet.
    pub file: PathBuf,
    /// The file was not named: it is made on first start.
    pub ours: bool,
}

/// `[dmarc]`.
#[derive(Clone, Debug)]
pub struct Dmarc {
    /// `policy = "enforce"`.
    pub enforce: bool,
    /// `quarantine = "hold"`.
    pub hold: bool,
    /// `trusted-sealers`.
    pub trusted_sealers: Vec<Domain>,
}

/// `[tls-report]`.
#[derive(Clone, Debug)]
pub struct TlsReport {
    /// `send`.
    pub send: bool,
    /// `from`.
    pub from: Option<Address>,
    /// `contact`.
    pub contact: Option<String>,
    /// `delay-max`.
    pub delay_max: Duration,
}

/// `[bounces]`.
#[derive(Clone, Debug)]
pub struct Bounces {
    /// `recognise`.
    pub recognise: bool,
    /// The shipped categories, and those of `patterns` in front of them.
    pub categories: Vec<crate::bounces::Category>,
    /// `remember`; `None`: not at all.
    pub remember: Option<Duration>,
    /// `verp`.
    pub verp: Vec<Mailer>,
    /// The key of `verp`, made on first start.
    pub verp_key: PathBuf,
    /// `suppress`: categories, `hard` replaced by those that are.
    pub suppress: Vec<String>,
    /// `suppress-for`; `None`: for ever.
    pub suppress_for: Option<Duration>,
}

/// One of `bounces.verp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mailer {
    /// One sender.
    Address(Address),
    /// Every sender of a domain.
    Domain(Domain),
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct Log {
    /// `format`: `auto`, `text` or `json`.
    pub format: &'static str,
    /// `level`.
    pub level: &'static str,
}
