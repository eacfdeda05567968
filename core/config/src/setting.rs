//! Every setting, once: name, kind, default, what a reload does with it, Postfix's name for it, and what it means.
//!
//! The checks, the manual (`waypost help settings`), the example file and, one day, the importer are made from [`SETTINGS`]; there is no
//! other list. A name with a `*` stands for a section that the operator names, such as `[listener.mx]`.

/// What a setting's value must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds.
    Count(u64, u64),
    /// A weight: a number that may have a fraction, from −1000 to 1000.
    Weight,
    /// Octets: `50 MiB`, `512 KiB`, `1000`, within bounds.
    Size(u64, u64),
    /// A length of time: `90s`, `5m`, `4h`, `5d`, in seconds within bounds.
    Span(u64, u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
    /// A name in the sense of a file name, a user or a section: letters, digits, `.`, `-`, `_`.
    Name,
    /// A domain name.
    Domain,
    /// An address and port to listen on or to ask: `127.0.0.1:25`, `[::]:25`, `*:25`. The number is the port when none is given;
    /// 0: a port must be given.
    Socket(u16),
    /// An address range: `192.0.2.0/24`, `2001:db8::/32`, `192.0.2.1`.
    Network,
    /// A file that must be there and be readable. Relative to the file that names it.
    File,
    /// A file or folder that need not be there yet.
    Path,
    /// Several of these; one alone may be written without brackets.
    List(&'static Kind),
    /// A section whose keys the operator chooses, each with one value or several of this kind.
    Map(&'static Kind),
    /// A section that is not ours to understand: a plugin's own settings.
    Free,
}

/// What holds when a setting is not given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallback {
    /// It must be given.
    Required,
    /// This, as TOML.
    Toml(&'static str),
    /// What the listener's preset says: see [`PRESETS`].
    Preset,
    /// Nothing, or what these words say.
    Absent(&'static str),
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// On SIGHUP, for sessions and deliveries that begin afterwards.
    Live,
    /// When the server is started again.
    Restart,
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Full name; `*` is a name of the operator's.
    pub path: &'static str,
    /// What it must be.
    pub kind: Kind,
    /// What it is otherwise.
    pub default: Fallback,
    /// When a change takes effect.
    pub reload: Reload,
    /// What Postfix calls it; empty if it has nothing like it.
    pub postfix: &'static str,
    /// What it means, in a sentence or two.
    pub doc: &'static str,
}

impl Setting {
    /// The last part of the name.
    pub fn leaf(&self) -> &'static str {
        self.path.rsplit('.').next().expect("rsplit gives at least one part")
    }

    /// The section: everything in front of the last dot.
    pub fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }
}

const fn row(
    path: &'static str,
    kind: Kind,
    default: Fallback,
    reload: Reload,
    postfix: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { path, kind, default, reload, postfix, doc }
}

use Fallback::{Absent, Preset, Required, Toml};
use Kind::{Count, Domain, Flag, Free, List, Map, Name, Network, Path, Size, Socket, Span, Text, Weight, Word};
use Reload::{Live, Restart};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Every section that may have settings, with what it is for, in the order of the manual.
pub const SECTIONS: &[(&str, &str)] = &[
    ("", "The server itself."),
    ("domains", "Whose mail this server takes."),
    (
        "listener.*",
        "A port: `[listener.NAME]`, as many as you like. A preset says what the port is for, and any single setting below may then be changed for that port alone.",
    ),
    (
        "checks",
        "The built-in checks, on all ports. A check is `off`, `warn` (only the log hears of it), `reject`, `defer`, or a reply of your own such as `\"554 5.7.1 go away\"`. Rows of access tables say OK, DUNNO, REJECT, DEFER, HOLD, DISCARD, `PREPEND Name: value`, `REDIRECT address`, or a reply. `waypost explain` tells what they come to.",
    ),
    ("tls", "Certificates and TLS of the listeners."),
    ("users", "Who has a mailbox here and may log in."),
    ("auth", "How users log in."),
    ("auth.senders", "`login = \"address\"` or `login = [\"address\", \"@domain\"]`."),
    ("auth.ldap", "A directory whose users log in."),
    ("auth.token", "Tokens of an identity provider, for OAUTHBEARER and XOAUTH2."),
    ("auth.certificate", "Client certificates, for EXTERNAL."),
    ("auth.certificate.names", "`\"FINGERPRINT\" = \"login\"`."),
    ("aliases", "Names that lead elsewhere."),
    (
        "aliases.names",
        "`name = \"target\"` or `name = [\"a\", \"b@example.com\"]`; `\"@example.com\"` catches all of a domain.",
    ),
    ("relay", "Who may send to anywhere without logging in."),
    ("greylist", "Asking strangers to come back. Costs a little spam its way in, and first messages some minutes."),
    (
        "transport",
        "Where mail for a domain goes, instead of to the hosts that its MX records name. `\"example.com\" = \"smtp:[relay.example.net]\"`, `\".example.com\"` for what is below it, `\"*\"` for everything else. Targets: `mx`, `smtp:[HOST]:PORT` for one host, `smtp:DOMAIN` for another domain's hosts, `lmtp:ADDRESS:PORT`, `lmtp:unix:/PATH`, `post:NAME` for a program behind HTTP, `pipe:NAME` for a program on this machine, `fail:WORDS`.",
    ),
    (
        "canonical",
        "How addresses are written, whatever people write: tables by `user@domain`, `user` (in domains of our own) or `@domain`, whose value is an address, `@other.domain`, or a name in the same domain. Recipients are rewritten before anything else is asked about them, senders when the message is there.",
    ),
    (
        "srs",
        "The Sender Rewriting Scheme: mail that an alias sends on to another site leaves with a sender of ours, so that SPF passes there, and bounces come back through us.",
    ),
    ("queue", "The queue on disk."),
    ("delivery", "Mail going out."),
    (
        "source.*",
        "A source of outgoing mail: `[source.NAME]`. With any of them, mail leaves from their addresses alone, each sender's to one provider always from the same.",
    ),
    (
        "post.*",
        "A program that takes mail over HTTP: `[post.NAME]`. Which mail goes there says `[transport]` with `post:NAME`. One POST for each recipient, the message as `message/rfc822`; 2xx delivers, 404 and 410 mean that there is nobody, 5xx and silence that it is tried again.",
    ),
    (
        "pipe.*",
        "A program that takes mail on its standard input: `[pipe.NAME]`. Which mail goes there says `[transport]` with `pipe:NAME`. It is run once for each recipient by a helper process beside the server, finds SENDER, RECIPIENT and QUEUE_ID in its environment, and says by its exit status (sysexits.h) what became of the mail.",
    ),
    ("smarthost.*", "A login at a host that wants one: `[smarthost.NAME]`. Which mail goes there says `[transport]`."),
    ("dns", "Questions to DNS."),
    ("plugins", "The chain of plugins that judge every message."),
    ("plugin.*", "One plugin: `[plugin.NAME]`, its limits and, in `[plugin.NAME.config]`, its own settings."),
    (
        "decision.*",
        "What becomes of a message by what plugins state of it: `[decision.NAME]`, for recipients in some domains, on some ports, or for all mail from outside. The weights of all facts are added up and held against the thresholds here; with several recipients, what keeps the message away happens only as far as all of theirs go. A plugin that decides by itself is obeyed before. spam-score states its rules as facts, and takes `header-at` of the section for everybody as its `required`, unless its own settings say otherwise.",
    ),
    (
        "record",
        "Keeping a share of the transactions, to try new versions of plugins with them: `waypost plugin replay`. They lie in the folder `recorded` of `data`, readable by the server's user alone.",
    ),
    (
        "table.*",
        "A table that settings and plugins name: `[table.NAME]`. A reload swaps all of them whole, or, if one is broken, none.",
    ),
    ("table.*.rows", "The rows of a table of kind inline: `key = \"value\"`."),
    (
        "dkim.*",
        "A key that signs mail: `[dkim.NAME]`. The key never enters a plugin; a plugin asks for signatures by this name.",
    ),
    ("dmarc", "Mail that its author's domain does not stand behind."),
    (
        "tls-report",
        "Reports to other domains on what became of TLS towards them (RFC 8460). `waypost tls-report` shows what has been counted.",
    ),
    (
        "bounces",
        "What others tell us of our mail: bounces and complaints, what replies mean, and who is not written to any more. `waypost suppress` shows and changes the list.",
    ),
    ("admin", "The web page, API and metrics for those who run the server."),
    ("log", "What is written to standard output."),
    ("security", "Less power than the server was started with."),
];

/// What the presets say about the settings whose default is [`Fallback::Preset`].
pub const PRESETS: &[(&str, &[(&str, &str)])] = &[
    (
        "mx",
        &[
            ("tls", "'opportunistic'"),
            ("auth", "'off'"),
            ("relay", "'networks'"),
            ("sender-must-match-login", "false"),
            ("connections-per-address", "50"),
            ("greeting-delay", "'3ms'"),
            ("haste", "'refuse'"),
            ("tarpit", "'5s'"),
            ("offer", "['MT-PRIORITY', 'DELIVERBY']"),
        ],
    ),
    (
        "submission",
        &[
            ("tls", "'required'"),
            ("auth", "'required'"),
            ("relay", "'users'"),
            ("sender-must-match-login", "true"),
            ("connections-per-address", "50"),
            ("greeting-delay", "'3ms'"),
            ("haste", "'refuse'"),
            ("tarpit", "'5s'"),
            ("offer", "['MT-PRIORITY', 'DELIVERBY', 'FUTURERELEASE']"),
        ],
    ),
    (
        "submissions",
        &[
            ("tls", "'implicit'"),
            ("auth", "'required'"),
            ("relay", "'users'"),
            ("sender-must-match-login", "true"),
            ("connections-per-address", "50"),
            ("greeting-delay", "'3ms'"),
            ("haste", "'refuse'"),
            ("tarpit", "'5s'"),
            ("offer", "['MT-PRIORITY', 'DELIVERBY', 'FUTURERELEASE']"),
        ],
    ),
    (
        "lmtp",
        &[
            ("tls", "'none'"),
            ("auth", "'off'"),
            ("relay", "'nobody'"),
            ("sender-must-match-login", "false"),
            ("connections-per-address", "1000"),
            ("greeting-delay", "0"),
            ("haste", "'ignore'"),
            ("tarpit", "0"),
            ("offer", "[]"),
        ],
    ),
    (
        "relay",
        &[
            ("tls", "'opportunistic'"),
            ("auth", "'off'"),
            ("relay", "'networks'"),
            ("sender-must-match-login", "false"),
            ("connections-per-address", "1000"),
            ("greeting-delay", "0"),
            ("haste", "'ignore'"),
            ("tarpit", "0"),
            ("offer", "['MT-PRIORITY', 'DELIVERBY', 'FUTURERELEASE']"),
        ],
    ),
];

/// The EHLO keywords that can be masked.
const KEYWORD: Kind = Word(&[
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
    "CHUNKING",
    "BINARYMIME",
    "DSN",
    "STARTTLS",
    "AUTH",
    "REQUIRETLS",
    "LIMITS",
    "MT-PRIORITY",
    "DELIVERBY",
    "FUTURERELEASE",
]);

/// What `tls.ciphers` may hold: what rustls has with aws-lc, by IANA name.
const CIPHER: Kind = Word(&[
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
]);

/// The SASL mechanisms that can be offered.
const MECHANISMS: &[&str] = &[
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "PLAIN",
    "LOGIN",
    "OAUTHBEARER",
    "XOAUTH2",
    "EXTERNAL",
    "CRAM-MD5",
    "DIGEST-MD5",
    "SCRAM-SHA-1",
    "GSSAPI",
    "GSS-SPNEGO",
    "NTLM",
];

/// The rows.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    row("hostname", Kind::Domain, Absent("the machine's name, if it has a dot"), Restart, "myhostname",
        "The name this server greets with, says in EHLO, and writes into Received fields. Must be a full name, and its address record should lead here."),
    row("data", Path, Toml("'/var/lib/waypost'"), Restart, "queue_directory",
        "The folder that holds the queue, keys and, unless said otherwise, users and mail."),

    row("domains.own", List(&Domain), Toml("[]"), Live, "mydestination, virtual_mailbox_domains",
        "Domains whose mail ends here, in mailboxes."),
    row("domains.relay", List(&Domain), Toml("[]"), Live, "relay_domains",
        "Domains whose mail is taken from anybody and passed on (a backup MX, or a gateway in front of another server)."),

    row("domains.own-tables", List(&Name), Toml("[]"), Live, "mydestination, virtual_mailbox_domains, virtual_alias_domains",
        "Tables of further domains whose mail ends here, by domain; values do not matter."),
    row("domains.relay-tables", List(&Name), Toml("[]"), Live, "relay_domains",
        "Tables of further domains that mail is passed on to."),
    row("domains.relay-recipients", List(&Name), Toml("[]"), Live, "relay_recipient_maps",
        "Tables of those who exist in domains that mail is passed on to, by `user@domain` or `@domain` for all of it. If any is named, everybody else there is refused."),

    row("listener.*.preset", Word(&["mx", "submission", "submissions", "lmtp", "relay"]), Required, Live, "master.cf",
        "What the port is for. mx: mail from other hosts. submission: users, STARTTLS then login. submissions: the same inside TLS. lmtp: from another mail server. relay: hosts of your own."),
    row("listener.*.bind", List(&Socket(0)), Required, Restart, "master.cf, inet_interfaces",
        "Addresses and ports to listen on."),
    row("listener.*.tls", Word(&["none", "opportunistic", "required", "implicit"]), Preset, Live, "smtpd_tls_security_level, smtpd_tls_wrappermode",
        "none: not offered. opportunistic: STARTTLS offered. required: nothing before STARTTLS. implicit: TLS from the first octet."),
    row("listener.*.tls-certificate", List(&Kind::File), Absent("`tls.certificate`"), Live, "smtpd_tls_chain_files",
        "Certificate chains of this port alone."),
    row("listener.*.tls-key", List(&Kind::File), Absent("`tls.key`"), Live, "smtpd_tls_key_file",
        "Their private keys, in the same order."),
    row("listener.*.tls-version-min", Word(&["1.2", "1.3"]), Absent("`tls.version-min`"), Live, "smtpd_tls_protocols",
        "Lowest version of TLS on this port."),
    row("listener.*.tls-ciphers", List(&CIPHER), Absent("`tls.ciphers`"), Live, "smtpd_tls_ciphers",
        "Cipher suites on this port."),
    row("listener.*.tls-alpn", List(&Text), Absent("`tls.alpn`"), Live, "",
        "Protocols that clients of this port may name by ALPN."),
    row("listener.*.tls-tickets", Flag, Absent("`tls.tickets`"), Live, "tls_ssl_options = NO_TICKET",
        "Whether sessions of this port can be resumed."),
    row("listener.*.client-certificate", Word(&["none", "ask", "require"]), Toml("'none'"), Live, "smtpd_tls_ask_ccert, smtpd_tls_req_ccert",
        "Whether clients are asked for a certificate. ask: it may serve to log in by EXTERNAL. require: no session without one that is believed."),
    row("listener.*.client-authorities", List(&Kind::File), Toml("[]"), Live, "smtpd_tls_CAfile",
        "PEM files of the authorities whose client certificates are believed on this port."),
    row("listener.*.client-fingerprints", List(&Text), Toml("[]"), Live, "relay_clientcerts",
        "SHA-256 fingerprints of client certificates that are believed, whoever gave them."),
    row("listener.*.sender-must-match-login", Flag, Preset, Live, "reject_sender_login_mismatch",
        "Whether a user who has logged in may send only as himself: by his own address, one of an alias that leads to him, a subaddress of those, or a row of `auth.senders`. Refused with 553 5.7.1."),
    row("listener.*.auth", Word(&["off", "offered", "required"]), Preset, Live, "smtpd_sasl_auth_enable",
        "Whether users may, or must, log in. Offered inside TLS only."),
    row("listener.*.relay", Word(&["nobody", "users", "networks", "users-and-networks"]), Preset, Live, "smtpd_relay_restrictions",
        "Who may send to other people's domains: users who logged in, clients in `relay.networks`, both, or nobody."),
    row("listener.*.checks", Map(&Text), Toml("{}"), Live, "smtpd_*_restrictions",
        "Checks of this port that differ from `[checks]`, by the same names: `[listener.mx.checks]`, then `helo-fqdn = \"reject\"`."),
    row("listener.*.message-size", Size(16 * KIB, 1024 * MIB), Toml("'50 MiB'"), Live, "message_size_limit",
        "Largest message taken; announced by SIZE."),
    row("listener.*.recipients", Count(1, 50_000), Toml("1000"), Live, "smtpd_recipient_limit",
        "Recipients of one message; the next ones get 452."),
    row("listener.*.messages", Count(1, 1_000_000), Toml("10000"), Live, "",
        "Messages in one session before it is closed."),
    row("listener.*.errors", Count(1, 10_000), Toml("20"), Live, "smtpd_hard_error_limit",
        "Refused or unknown commands before a session is closed."),
    row("listener.*.command-timeout", Span(1, HOUR), Toml("'5m'"), Live, "smtpd_timeout",
        "How long a client may take for its next command."),
    row("listener.*.data-timeout", Span(1, HOUR), Toml("'3m'"), Live, "smtpd_timeout",
        "How long a client may pause inside a message."),
    row("listener.*.connections", Count(1, 1_000_000), Toml("20000"), Live, "default_process_limit",
        "Sessions at the same time on this listener; further clients get 421."),
    row("listener.*.connections-per-address", Count(1, 1_000_000), Preset, Live, "smtpd_client_connection_count_limit",
        "Sessions at the same time from one client, which is an IPv4 address or an IPv6 /64 network: see `client-prefix-v4` and `client-prefix-v6`."),
    row("listener.*.connections-per-minute", Count(0, 1_000_000), Toml("0"), Live, "smtpd_client_connection_rate_limit",
        "Connections of one client in a minute; further ones get 421. 0: no limit."),
    row("listener.*.messages-per-minute", Count(0, 1_000_000), Toml("0"), Live, "smtpd_client_message_rate_limit",
        "Messages of one client in a minute; further ones get 450. Not for clients in `relay.networks` and users who logged in. 0: no limit."),
    row("listener.*.recipients-per-minute", Count(0, 1_000_000), Toml("0"), Live, "smtpd_client_recipient_rate_limit",
        "The same for accepted recipients."),
    row("listener.*.client-prefix-v4", Count(8, 32), Toml("32"), Live, "smtpd_client_ipv4_prefix_length",
        "How many leading bits of an IPv4 address make one client. IPv4 addresses written as IPv6 count as IPv4."),
    row("listener.*.client-prefix-v6", Count(16, 128), Toml("64"), Live, "smtpd_client_ipv6_prefix_length",
        "How many leading bits of an IPv6 address make one client. A site has a /64 at least, and every address in it."),
    row("listener.*.pressure", Count(1, 100), Toml("90"), Live, "stress",
        "When this much of `connections` is in use, in percent, clients get 10 seconds for a command and may make 3 errors. 100: never."),
    row("listener.*.greeting-delay", Span(0, MINUTE), Preset, Live, "postscreen_greet_wait",
        "How long to wait before the greeting, to see whether the client speaks before its turn. Most of those that do so send at once."),
    row("listener.*.haste", Word(&["refuse", "ignore"]), Preset, Live, "postscreen_greet_action, smtpd_forbid_unauth_pipelining",
        "What becomes of clients that speak before the greeting, or send on behind EHLO, AUTH or DATA. refuse: 554 and the connection is closed. Clients in `relay.networks` may be hasty."),
    row("listener.*.bare-newlines", Word(&["normalise", "refuse"]), Toml("'normalise'"), Live, "smtpd_forbid_bare_newline",
        "What becomes of lines that do not end in CRLF. normalise: made to end so; they never end a message. refuse: 550, and the connection is closed. From clients in `relay.networks` they are always normalised."),
    row("listener.*.tarpit", Span(0, MINUTE), Preset, Live, "smtpd_error_sleep_time",
        "From the eleventh error of a session on, each further one is answered later, up to this. 0: at once."),
    row("listener.*.mask", List(&KEYWORD), Toml("[]"), Live, "smtpd_discard_ehlo_keywords",
        "What EHLO does not offer on this port."),
    row("listener.*.mask-for", Map(&KEYWORD), Toml("{}"), Live, "smtpd_discard_ehlo_keyword_address_maps",
        "What is not offered, in addition, to clients of a network: `mask-for = { \"192.0.2.0/24\" = [\"CHUNKING\"] }`."),
    row("listener.*.offer", List(&Word(&["MT-PRIORITY", "DELIVERBY", "FUTURERELEASE"])), Preset, Live, "",
        "What EHLO offers beyond what everybody does. MT-PRIORITY: who is known may be served first. DELIVERBY: mail that is late comes back. FUTURERELEASE: mail that is to be sent later."),
    row("listener.*.hold-max", Span(1, 366 * DAY), Toml("'30d'"), Live, "",
        "How long a client may have a message held by FUTURERELEASE."),
    row("listener.*.proxy-protocol", List(&Network), Toml("[]"), Live, "smtpd_upstream_proxy_protocol",
        "Balancers that say in front of everything, by the PROXY protocol (version 1 or 2), who their client is. They must; from anybody else it is no SMTP."),
    row("listener.*.xclient", List(&Network), Toml("[]"), Live, "smtpd_authorized_xclient_hosts, smtpd_authorized_xforward_hosts",
        "Hosts of your own that may speak for others by XCLIENT and XFORWARD: a proxy in front, a filter behind. They can be any client and any user."),
    row("listener.*.plugins", List(&Name), Absent("all of `plugins.chain`"), Live, "smtpd_milters",
        "The plugins asked on this port, in the order of `plugins.chain`. `[]` asks none."),

    row("checks.helo-required", Text, Absent("by preset: always reject"), Live, "smtpd_helo_required",
        "MAIL needs HELO or EHLO first."),
    row("checks.helo-syntax", Text, Absent("by preset: off"), Live, "reject_invalid_helo_hostname",
        "The name in HELO is one that DNS can carry: no label above 63 octets, no more than 255 in all. What is neither name nor address literal is always refused."),
    row("checks.helo-own", Text, Absent("by preset: mx reject, otherwise off"), Live, "check_helo_access",
        "Nobody from outside calls itself by our name or address."),
    row("checks.helo-fqdn", Text, Absent("by preset: off"), Live, "reject_non_fqdn_helo_hostname",
        "The name in HELO has a dot."),
    row("checks.helo-resolvable", Text, Absent("by preset: off"), Live, "reject_unknown_helo_hostname",
        "The name in HELO has an address or mail hosts."),
    row("checks.client-name", Text, Absent("by preset: off"), Live, "reject_unknown_reverse_client_hostname",
        "The client's address has a name."),
    row("checks.client-confirmed", Text, Absent("by preset: off"), Live, "reject_unknown_client_hostname",
        "The client's address has a name that leads back to it."),
    row("checks.envelope-syntax", Text, Absent("by preset: off"), Live, "strict_rfc821_envelopes",
        "Addresses in MAIL and RCPT stand in angle brackets."),
    row("checks.sender-fqdn", Text, Absent("by preset: submission and submissions reject, otherwise off"), Live, "reject_non_fqdn_sender",
        "The sender's domain has a dot."),
    row("checks.sender-domain", Text, Absent("by preset: mx reject, otherwise off"), Live, "reject_unknown_sender_domain",
        "The sender's domain exists: it has mail hosts or an address. While DNS is unsure the answer is 450."),
    row("checks.sender-null-mx", Text, Absent("by preset: mx reject, otherwise off"), Live, "",
        "The sender's domain takes mail: it has no null MX (RFC 7505)."),
    row("checks.recipient-fqdn", Text, Absent("by preset: submission and submissions reject, otherwise off"), Live, "reject_non_fqdn_recipient",
        "The recipient's domain has a dot."),
    row("checks.relay", Text, Absent("by preset: always reject"), Live, "reject_unauth_destination, relay_domains_reject_code",
        "The reply to whoever may not send to other people's domains. Always made."),
    row("checks.recipient", Text, Absent("by preset: always reject"), Live, "reject_unlisted_recipient, unknown_local_recipient_reject_code",
        "The reply about a recipient that nobody is. Always made."),
    row("checks.recipient-domain", Text, Absent("by preset: off"), Live, "reject_unknown_recipient_domain",
        "The domain of a recipient elsewhere exists. While DNS is unsure the mail is taken."),
    row("checks.recipient-null-mx", Text, Absent("by preset: off"), Live, "",
        "The domain of a recipient elsewhere takes mail (RFC 7505)."),
    row("checks.client-access", List(&Name), Toml("[]"), Live, "check_client_access",
        "Tables about clients, by address or network at connect, by confirmed name at MAIL."),
    row("checks.helo-access", List(&Name), Toml("[]"), Live, "check_helo_access",
        "Tables about names in HELO."),
    row("checks.sender-access", List(&Name), Toml("[]"), Live, "check_sender_access",
        "Tables about senders, by `user@domain`, domain, parent domain or `user@`; `<>` is the null sender."),
    row("checks.recipient-access", List(&Name), Toml("[]"), Live, "check_recipient_access",
        "Tables about recipients, by `user@domain`, domain, parent domain or `user@`. OK spares them checks, never relay control."),

    row("tls.certificate", List(&Kind::File), Absent("a self-signed one is made in `data`/tls"), Live, "smtpd_tls_cert_file, smtpd_tls_chain_files",
        "Certificate chains in PEM, the server's own certificate first. Several: the client's SNI chooses. Read again when the server reloads, and within a minute of a change."),
    row("tls.key", List(&Kind::File), Absent("made with the certificate"), Live, "smtpd_tls_key_file",
        "Private keys in PEM, in the order of `tls.certificate`."),
    row("tls.version-min", Word(&["1.2", "1.3"]), Toml("'1.2'"), Live, "smtpd_tls_protocols",
        "Lowest version of TLS that clients may use."),
    row("tls.ciphers", List(&CIPHER), Toml("[]"), Live, "smtpd_tls_ciphers, tls_high_cipherlist",
        "Cipher suites by IANA name, the preferred first. `[]`: all that are safe, which is all that there are here."),
    row("tls.alpn", List(&Text), Toml("[]"), Live, "",
        "Protocols a client may name by ALPN; one that names only others is turned away (an HTTPS client sent here on purpose). `[]`: not looked at."),
    row("tls.tickets", Flag, Toml("true"), Live, "tls_ssl_options = NO_TICKET",
        "Whether sessions can be resumed. Some Microsoft senders drop connections over tickets of TLS 1.3."),

    row("users.file", Path, Absent("`data`/users"), Live, "smtpd_sasl_path",
        "One user a line, `name:HASH` or `name:HASH:KEYS`, written by `waypost user add`: an argon2id, bcrypt or sha512-crypt hash, and keys for SCRAM-SHA-256. Each has a mailbox. `name` is the local part, at every domain of `domains.own`."),
    row("users.mailboxes", List(&Name), Toml("[]"), Live, "virtual_mailbox_maps",
        "Further mailboxes whose owners do not log in here."),
    row("users.format", Word(&["maildir", "mbox"]), Toml("'maildir'"), Restart, "home_mailbox, mail_spool_directory",
        "What a mailbox is: maildir, a folder with a file for each message; mbox, one file, locked by NAME.lock and fcntl."),
    row("users.mail", Path, Absent("`data`/mail"), Restart, "virtual_mailbox_base",
        "The folder that holds a Maildir for each mailbox."),
    row("users.mailbox-tables", List(&Name), Toml("[]"), Live, "virtual_mailbox_maps, local_recipient_maps",
        "Tables of further mailboxes, by `user@domain` or `user`; the value is the mailbox's name."),
    row("users.forward", Text, Toml("''"), Live, "forward_path",
        "Where a mailbox's owner may say that mail goes elsewhere: a path with `{mailbox}` in it, as `/home/{mailbox}/.forward`; a relative one is below `users.mail`. Empty: nowhere. Addresses only, `\\name` for a copy in the mailbox; a file that others than its owner can write is not believed, and mail waits until that is mended. A unit with ProtectHome sees no homes."),
    row("users.separator", Text, Toml("'+'"), Live, "recipient_delimiter",
        "`alice+shop@…` goes to `alice`. Several characters: each of them parts. Empty: none does."),

    row("auth.backend", Word(&["file", "dovecot", "saslauthd", "ldap"]), Toml("'file'"), Live, "smtpd_sasl_type",
        "Who knows the passwords. file: `users.file`. dovecot: Dovecot's auth socket. saslauthd: PAM or Kerberos behind its socket. ldap: a directory that users bind to."),
    row("auth.dovecot-socket", Path, Toml("'/run/dovecot/auth-client'"), Live, "smtpd_sasl_path",
        "Dovecot's `auth-client` socket."),
    row("auth.saslauthd-socket", Path, Toml("'/run/saslauthd/mux'"), Live, "saslauthd_path in smtpd.conf",
        "The socket of saslauthd."),
    row("auth.service", Name, Toml("'smtp'"), Live, "smtpd_sasl_service",
        "The service that Dovecot and PAM are told."),
    row("auth.timeout", Span(1, MINUTE), Toml("'10s'"), Live, "smtpd_sasl_response_limit",
        "How long to wait for another program's or server's answer; then the client is told 454 4.7.0."),
    row("auth.senders", Map(&Text), Toml("{}"), Live, "smtpd_sender_login_maps",
        "Further senders that a login may use: `alice = [\"sales@example.com\", \"@partner.example\"]`."),
    row("auth.ldap.url", Text, Absent("needed for `auth.backend = \"ldap\"`"), Live, "ldap_servers in saslauthd.conf",
        "The directory: `ldaps://HOST`, `ldap://HOST:PORT`, or `ldapi://%2Fpath%2Fto%2Fsocket`."),
    row("auth.ldap.start-tls", Flag, Toml("true"), Live, "ldap_start_tls in saslauthd.conf",
        "Whether `ldap://` begins TLS before anything is said. Without it passwords cross the network readable: only for this host."),
    row("auth.ldap.ca-file", Kind::File, Absent("the public authorities alone"), Live, "ldap_tls_cacert_file in saslauthd.conf",
        "A PEM file of further authorities for the directory's certificate."),
    row("auth.ldap.bind-dn", Text, Absent("the entry is searched for"), Live, "ldap_filter in saslauthd.conf",
        "The name of a user's entry: `uid=%u,ou=people,dc=example,dc=com`. %u: what stands before the @, %d: behind it, %s: all."),
    row("auth.ldap.base", Text, Absent("needed to search"), Live, "ldap_search_base in saslauthd.conf",
        "Where entries are searched for."),
    row("auth.ldap.filter", Text, Toml("'(uid=%u)'"), Live, "ldap_filter in saslauthd.conf",
        "What finds a user's entry. Exactly one must be found."),
    row("auth.ldap.search-dn", Text, Absent("nobody"), Live, "ldap_bind_dn in saslauthd.conf",
        "As whom to search."),
    row("auth.ldap.search-password", Kind::File, Absent("none"), Live, "ldap_bind_pw in saslauthd.conf",
        "A file with the password of `auth.ldap.search-dn`."),
    row("auth.ldap.user-attribute", Text, Absent("the name as the client gives it"), Live, "",
        "The attribute that holds the user's name, for the log and for the senders that he may use."),
    row("auth.token.jwks", Kind::File, Absent("not by keys"), Live, "",
        "The keys of the identity provider (JWKS) by which tokens of OAUTHBEARER and XOAUTH2 are checked."),
    row("auth.token.algorithms", List(&Word(&["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"])), Toml("['RS256', 'PS256', 'ES256', 'EdDSA']"), Live, "",
        "How tokens may be signed."),
    row("auth.token.introspection-url", Text, Absent("not by asking"), Live, "",
        "Where the identity provider is asked about each token (RFC 7662): `https://id.example.com/oauth2/introspect`."),
    row("auth.token.introspection-client", Text, Absent("none"), Live, "",
        "As which client to ask."),
    row("auth.token.introspection-secret", Kind::File, Absent("none"), Live, "",
        "A file with that client's secret."),
    row("auth.token.ca-file", Kind::File, Absent("the public authorities alone"), Live, "",
        "A PEM file of further authorities for the certificate of the server that is asked."),
    row("auth.token.issuer", Text, Absent("any: with `auth.token.jwks` it must be given"), Live, "",
        "Who must have given a token: its `iss`."),
    row("auth.token.audience", List(&Text), Toml("[]"), Live, "",
        "For whom a token must be: one of these in its `aud`. With `auth.token.jwks` there must be one."),
    row("auth.token.scope", Text, Absent("any"), Live, "",
        "A word that the token's `scope` must hold."),
    row("auth.token.user-claim", Text, Toml("'email'"), Live, "",
        "The claim that names the user: `email`, `preferred_username`, `sub`."),
    row("auth.certificate.user", List(&Word(&["email", "common-name"])), Toml("['email']"), Live, "",
        "Where EXTERNAL finds the user's name in a client certificate that is believed."),
    row("auth.certificate.names", Map(&Text), Toml("{}"), Live, "relay_clientcerts",
        "Users by the SHA-256 fingerprint of their certificate, whatever stands in it."),
    row("auth.mechanisms", List(&Word(MECHANISMS)), Absent("what the back end can do"), Live, "smtpd_sasl_mechanism_filter",
        "SASL mechanisms, in the order in which they are offered, each where it can be used: -PLUS in TLS 1.3, EXTERNAL with a verified client certificate."),

    row("aliases.files", List(&Kind::File), Toml("[]"), Live, "alias_maps, virtual_alias_maps",
        "Files in the format of aliases(5): `name: target, target`, with `:include:/path`. Beside an alias `NAME` for a list, `owner-NAME` is the sender of what the list sends."),
    row("aliases.tables", List(&Name), Toml("[]"), Live, "virtual_alias_maps",
        "Tables of further aliases, by `user@domain`, `user` or `@domain`; the value holds the targets, with commas."),
    row("aliases.names", Map(&Text), Toml("{}"), Live, "alias_maps, virtual_alias_maps",
        "Aliases written here."),

    row("relay.networks", List(&Network), Toml("[]"), Live, "mynetworks",
        "Clients that may send to anywhere. Never the whole Internet."),

    row("greylist.enabled", Flag, Toml("false"), Live, "postgrey, check_policy_service",
        "Whether senders that nobody here has seen are asked to come back, on ports of the preset mx. Not asked are clients in `relay.networks`, and users who logged in."),
    row("greylist.delay", Span(1, DAY), Toml("'5m'"), Live, "postgrey --delay",
        "How long a sender is put off after the first try."),
    row("greylist.window", Span(MINUTE, 30 * DAY), Toml("'1d'"), Live, "postgrey --retry-window",
        "Who does not come back within this is a stranger again."),
    row("greylist.remember", Span(HOUR, 366 * DAY), Toml("'35d'"), Live, "postgrey --max-age",
        "Who has come back is known for this long after the last message."),
    row("greylist.senders", List(&Text), Toml("[]"), Live, "postgrey whitelist_recipients",
        "Senders who never wait: addresses, or domains with what is below them."),
    row("greylist.networks", List(&Network), Toml("[]"), Live, "postgrey whitelist_clients",
        "Clients that never wait."),

    row("transport", Map(&Text), Toml("{}"), Live, "transport_maps, relayhost",
        "A map from domain to target."),

    row("canonical.sender", List(&Name), Toml("[]"), Live, "sender_canonical_maps",
        "Tables for envelope senders."),
    row("canonical.recipient", List(&Name), Toml("[]"), Live, "recipient_canonical_maps",
        "Tables for recipients."),
    row("canonical.both", List(&Name), Toml("[]"), Live, "canonical_maps",
        "Tables for both, asked after the others."),
    row("canonical.headers", Flag, Toml("false"), Live, "canonical_classes, local_header_rewrite_clients",
        "Rewrite From, Sender, Reply-To, To, Cc and Bcc as well, in mail of users who logged in and of `relay.networks`. Never in other people's mail, whose signatures it would break."),

    row("srs.enabled", Flag, Toml("false"), Live, "postsrsd",
        "Rewrite the sender of mail that an alias sends on to another site, unless it is of a domain of our own."),
    row("srs.domain", Kind::Domain, Absent("the first of `domains.own`"), Live, "SRS_DOMAIN",
        "The domain of rewritten senders: one of our own."),
    row("srs.key-file", Path, Absent("`data`/srs-key, made on first start"), Live, "SRS_SECRET",
        "Keys, one a line. The first signs; bounces to addresses signed by any of them are taken back."),
    row("srs.days", Count(1, 500), Toml("21"), Live, "SRS_HASHLENGTH",
        "How many days a bounce is taken back."),

    row("queue.durability", Word(&["sync", "os"]), Toml("'sync'"), Restart, "",
        "sync: a message is on disk before its 250. os: the operating system writes it soon; a power cut loses mail that was acknowledged. Only for tests and mail that may be lost."),
    row("queue.lifetime", Span(MINUTE, 90 * DAY), Toml("'5d'"), Restart, "maximal_queue_lifetime",
        "How long a message is tried before it is returned to its sender."),
    row("queue.notice-lifetime", Span(MINUTE, 90 * DAY), Toml("'1d'"), Restart, "bounce_queue_lifetime",
        "The same for our own reports to senders."),
    row("queue.retry-first", Span(1, DAY), Toml("'5m'"), Restart, "minimal_backoff_time",
        "The pause after a first failed attempt. It doubles from attempt to attempt."),
    row("queue.retry-max", Span(1, 7 * DAY), Toml("'4h'"), Restart, "maximal_backoff_time",
        "The longest pause between attempts."),
    row("queue.delay-report", Span(0, 30 * DAY), Toml("'4h'"), Restart, "delay_warning_time",
        "When a sender is told, once, that a message is late. 0: never."),
    row("queue.messages", Count(100, 1_000_000_000), Toml("10000000"), Restart, "",
        "Messages in the queue before new ones are refused with 452."),
    row("queue.free-space", Size(0, 1024 * 1024 * MIB), Toml("'256 MiB'"), Restart, "queue_minfree",
        "Disk space that new mail never takes: below it new mail is refused with 452, and what is there is still delivered."),

    row("delivery.connections", Count(1, 100_000), Toml("1000"), Restart, "default_process_limit",
        "Deliveries at the same time, in all."),
    row("delivery.connections-per-destination", Count(1, 10_000), Toml("20"), Restart, "default_destination_concurrency_limit",
        "Connections at the same time to one destination."),
    row("delivery.messages-per-connection", Count(1, 1_000_000), Toml("1000"), Restart, "smtp_connection_reuse_count_limit",
        "Messages sent over one connection before a new one is opened."),
    row("delivery.connect-timeout", Span(1, HOUR), Toml("'30s'"), Restart, "smtp_connect_timeout",
        "How long to wait for a host to answer."),

    row("delivery.transport-tables", List(&Name), Toml("[]"), Live, "transport_maps",
        "Tables of transports, by `user@domain`, domain, `.domain` or `*`, asked after `[transport]`."),
    row("delivery.roots", Kind::File, Absent("those of Mozilla's programme alone"), Restart, "smtp_tls_CAfile",
        "Further certificate authorities, in PEM, for hosts whose certificate must be good."),
    row("delivery.mta-sts", Flag, Toml("true"), Restart, "postfix-mta-sts-resolver",
        "Keep to the MTA-STS policies (RFC 8461) of other domains: fetched over HTTPS, kept in `data` for as long as they say."),
    row("delivery.shaping", Kind::File, Absent("the shipped rules alone"), Restart, "transport_destination_*, smtp_*",
        "Rules for large receivers, over the shipped ones: connections, messages, rates, and what their replies mean. `waypost help shaping` prints the shipped rules and explains their form."),

    row("source.*.address", List(&Network), Required, Restart, "smtp_bind_address, smtp_bind_address6",
        "Its address: one of IPv4, one of IPv6, or both. Peers of a family that it lacks are not reached from it."),
    row("source.*.name", Kind::Domain, Required, Restart, "smtp_helo_name",
        "Its name in EHLO: the name that the address's PTR record gives."),
    row("source.*.weight", Count(1, 1000), Toml("1"), Restart, "",
        "Its share of the senders, beside the others'."),
    row("source.*.users", List(&Name), Toml("[]"), Restart, "sender_dependent_default_transport_maps",
        "Whose it is: these users send from their own sources alone, and nobody else does."),

    row("source.*.socks", Socket(1080), Absent("mail leaves from this machine"), Restart, "",
        "A SOCKS5 server through which mail of this source leaves. `address` then names the address of that machine."),
    row("source.*.proxy", Socket(0), Absent("mail leaves from this machine"), Restart, "",
        "A proxy through which mail of this source leaves: it is told by a PROXY header, version 2, from which `address` to go on to which host."),
    row("source.*.warm-up", List(&Count(1, 1_000_000_000)), Toml("[]"), Restart, "",
        "How many recipients may be written to from a new source on its first day, its second, and so on; later there is no bound. What it may not send leaves from other sources of the pool, or waits."),
    row("source.*.since", Text, Absent("required by `warm-up`"), Restart, "",
        "The first day of a new source, UTC: `2026-11-24`."),

    row("post.*.url", Text, Required, Restart, "pipe(8)",
        "Where to: `https://…` with a certificate that is good, or `http://…` inside a network of your own."),
    row("post.*.token-file", Kind::File, Absent("no login"), Restart, "",
        "A file with a token alone, sent as `Authorization: Bearer`."),
    row("post.*.timeout", Span(1, 10 * MINUTE), Toml("'60s'"), Restart, "",
        "How long to wait for an answer."),

    row("pipe.*.command", List(&Text), Required, Restart, "pipe(8) argv",
        "The program by its whole path, and its arguments, one by one. Nothing of a message or an address becomes a part of it; no shell is involved."),
    row("pipe.*.user", Name, Absent("the server's own, unless that is root"), Restart, "pipe(8) user",
        "Whose power it has. Another user than the server's needs a server that is started as root; programs never run as root."),
    row("pipe.*.timeout", Span(1, HOUR), Toml("'5m'"), Restart, "command_time_limit",
        "It is ended, with all that it has started, when it takes longer; the mail is tried again."),
    row("pipe.*.output", Size(0, MIB), Toml("'4 KiB'"), Restart, "",
        "Octets of its output that are kept for the log and the report."),
    row("pipe.*.also-run", List(&Path), Toml("[]"), Restart, "",
        "Further programs that it may run, or folders of them. Everything else cannot be executed, where the kernel has Landlock."),

    row("smarthost.*.host", Text, Required, Restart, "smtp_sasl_password_maps",
        "The host, as `[transport]` names it."),
    row("smarthost.*.user", Text, Required, Restart, "smtp_sasl_password_maps",
        "Whom we are there."),
    row("smarthost.*.password-file", Kind::File, Required, Restart, "smtp_sasl_password_maps",
        "A file with the password alone. It is sent inside TLS, never in the clear but on loopback."),

    row("dns.servers", List(&Socket(53)), Toml("[]"), Restart, "/etc/resolv.conf",
        "Resolvers to ask. Empty: those of /etc/resolv.conf."),
    row("dns.dnssec", Flag, Toml("true"), Restart, "smtp_dns_support_level",
        "Validate answers. Needed for DANE."),
    row("dns.timeout", Span(1, MINUTE), Toml("'5s'"), Restart, "",
        "How long to wait for one answer."),

    row("plugins.chain", List(&Name), Toml("[]"), Live, "smtpd_milters",
        "The plugins, in the order in which they are asked at every stage."),
    row("plugins.folders", List(&Path), Absent("`data`/plugins, then beside the program"), Live, "",
        "Where plugins are looked for."),

    row("plugin.*.path", Kind::File, Absent("`waypost_plugin_NAME.wasm` or `NAME.wasm` in `plugins.folders`"), Live, "",
        "The component."),
    row("plugin.*.on-fault", Word(&["tempfail", "pass"]), Toml("'tempfail'"), Live, "milter_default_action",
        "When the plugin fails or runs out of a limit. tempfail: the client is told to come back. pass: as if the plugin had not been asked."),
    row("plugin.*.grants", List(&Word(&["dns", "kv", "crypto", "rewrite", "credentials"])), Toml("[]"), Live, "",
        "What the plugin may do beyond looking at the message: ask DNS, keep values, hash, change body, sender and recipients, see passwords. Nothing is granted by itself."),
    row("plugin.*.keys", List(&Name), Toml("[]"), Live, "",
        "The keys of `[dkim.*]` that the plugin may ask signatures from. dkim-sign puts the first one's signature on top: let it be RSA, for some verifiers try only that."),
    row("plugin.*.tables", List(&Name), Toml("[]"), Live, "",
        "The tables of `[table.*]` that the plugin may look up in."),
    row("plugin.*.isolation", Word(&["transaction", "connection", "pooled"]), Toml("'transaction'"), Live, "",
        "transaction: a fresh instance for each message, nothing can leak. pooled: instances are used again, which is faster; for plugins that you trust."),
    row("plugin.*.memory", Size(MIB, 1024 * MIB), Toml("'32 MiB'"), Live, "",
        "Memory of one instance."),
    row("plugin.*.cpu", Span(0, MINUTE), Toml("'10ms'"), Live, "",
        "Computing time of one call."),
    row("plugin.*.time", Span(0, 10 * MINUTE), Toml("'5s'"), Live, "milter_command_timeout",
        "Time of one call, waiting included, up to RCPT."),
    row("plugin.*.message-time", Span(0, 10 * MINUTE), Toml("'30s'"), Live, "milter_content_timeout",
        "The same once the message is there."),
    row("plugin.*.config", Free, Toml("{}"), Live, "",
        "The plugin's own settings; see its README."),

    row("decision.*.domains", List(&Domain), Toml("[]"), Live, "",
        "For recipients in these domains. `[]`: in all that no other section names."),
    row("decision.*.listeners", List(&Name), Absent("ports of the presets mx and lmtp, and there only mail from outside"), Live, "",
        "On these ports, where mail of users and of our own hosts is weighed, too."),
    row("decision.*.header-at", Weight, Absent("never"), Live, "spamassassin required_score",
        "From this sum on `X-Spam-Flag: YES` and `X-Waypost-Decision` are put into the message."),
    row("decision.*.subject-at", Weight, Absent("never"), Live, "rewrite_header Subject",
        "From this sum on the subject begins with `tag`."),
    row("decision.*.tag", Text, Toml("'[SPAM]'"), Live, "rewrite_header Subject",
        "What the subject begins with then."),
    row("decision.*.greylist-at", Weight, Absent("never"), Live, "",
        "From this sum on strangers are asked to come back, as `[greylist]` says, whether that is on for everybody or not."),
    row("decision.*.hold-at", Weight, Absent("never"), Live, "",
        "From this sum on the message is kept until an operator releases it."),
    row("decision.*.refuse-at", Weight, Absent("never"), Live, "",
        "From this sum on the message is refused with 550 5.7.1."),
    row("decision.*.text", Text, Toml("'this message is not wanted here'"), Live, "",
        "What a refusal says."),

    row("record.share", Weight, Toml("0"), Restart, "",
        "Percent of the sessions that are recorded: message, what DNS said, what each plugin said. Never passwords."),
    row("record.messages", Count(1, 1_000_000), Toml("1000"), Restart, "",
        "So many transactions are kept; the oldest go."),
    row("record.size", Size(MIB, 1024 * 1024 * MIB), Toml("'256 MiB'"), Restart, "",
        "So much of the disk they may take; the oldest go."),
    row("record.mask", List(&Word(&["addresses", "login", "subject", "body"])), Toml("['addresses', 'login']"), Restart, "",
        "What is made unreadable: local parts and names of people in addresses, logins, the subject, the text. Plugins then judge masked mail when it is replayed."),

    row("table.*.kind", Word(&["text", "cidr", "pcre", "regexp", "inline", "sqlite", "redis", "ldap"]), Toml("'text'"), Live, "hash:, texthash:, cidr:, pcre:, regexp:, inline:, sqlite:, ldap:",
        "text: `key value` a line, as for `postmap`; keys that are networks match by address. cidr, pcre, regexp: Postfix's files of that name; patterns have neither look-around nor back-references. inline: `[table.NAME.rows]`. sqlite, redis, ldap: asked when needed; mail waits while they do not answer."),
    row("table.*.file", Kind::File, Absent("none; the kinds text, cidr, pcre, regexp and sqlite need one"), Live, "",
        "The file. Text files are read at start and at reload, SQLite's when a key is asked."),
    row("table.*.rows", Map(&Text), Toml("{}"), Live, "inline:",
        "Rows written here."),
    row("table.*.query", Text, Absent("none; the kinds sqlite and ldap need one"), Live, "query, query_filter",
        "SQLite: a SELECT of one column, such as `SELECT target FROM aliases WHERE address = ?1`; the key is bound to ?1. LDAP: a filter, such as `(mail=%s)`; %s is the key, %u its local part, %d its domain. Several rows are joined by commas."),
    row("table.*.server", Text, Absent("none; the kinds redis and ldap need one"), Live, "server_host",
        "Redis: `host:port`, or the path of its socket. LDAP: `ldaps://HOST`, `ldap://HOST:PORT`, or `ldapi://%2Fpath%2Fto%2Fsocket`."),
    row("table.*.user", Text, Absent("Redis's default user; to a directory, nobody"), Live, "bind_dn",
        "Redis: who logs in. LDAP: the name of the entry that asks."),
    row("table.*.password-file", Kind::File, Absent("no password"), Live, "bind_pw",
        "Redis, LDAP: a file with the password."),
    row("table.*.database", Count(0, 1_000_000), Toml("0"), Live, "",
        "Redis: the database's number."),
    row("table.*.prefix", Text, Toml("''"), Live, "",
        "Redis: what stands in front of every key."),
    row("table.*.base", Text, Absent("none; the kind ldap needs one"), Live, "search_base",
        "LDAP: the entry below which is searched; it may hold %u and %d."),
    row("table.*.attribute", Text, Absent("none; the kind ldap needs one"), Live, "result_attribute",
        "LDAP: the attribute whose values are the answer."),
    row("table.*.start-tls", Flag, Toml("true"), Live, "start_tls",
        "LDAP: whether `ldap://` begins TLS before anything is said."),
    row("table.*.ca-file", Kind::File, Absent("the public authorities alone"), Live, "tls_ca_cert_file",
        "LDAP: further authorities, in PEM, that the directory's certificate may come from."),
    row("table.*.timeout", Span(0, MINUTE), Toml("'5s'"), Live, "",
        "How long a database may take for an answer before mail is told to come back."),

    row("dkim.*.domain", Kind::Domain, Required, Live, "OpenDKIM Domain",
        "The domain that signs: `d=`."),
    row("dkim.*.selector", Name, Required, Live, "OpenDKIM Selector",
        "The selector: `s=`. The public key belongs into DNS at `SELECTOR._domainkey.DOMAIN`."),
    row("dkim.*.algorithm", Word(&["rsa", "ed25519"]), Toml("'rsa'"), Live, "OpenDKIM SignatureAlgorithm",
        "Which kind of key this is."),
    row("dkim.*.file", Kind::File, Absent("`data`/dkim/NAME.pem, made on first start"), Live, "OpenDKIM KeyFile",
        "The private key: PKCS#8 in PEM."),

    row("dmarc.policy", Word(&["report", "enforce"]), Toml("'report'"), Live, "OpenDMARC RejectFailures",
        "What follows when an author's domain does not stand behind a message (RFC 9989). report: it is written into Authentication-Results and told to plugins. enforce: what the domain demands: p=reject is refused with 550 5.7.1, p=quarantine as `dmarc.quarantine` says."),
    row("dmarc.quarantine", Word(&["header", "hold"]), Toml("'header'"), Live, "OpenDMARC HoldQuarantinedMessages",
        "header: such mail gets a field X-Waypost-Quarantine, for filters and users. hold: it stays in the queue until an operator releases it."),
    row("dmarc.trusted-sealers", List(&Kind::Domain), Toml("[]"), Live, "",
        "Mailing lists and forwarders whose ARC seals are believed: where they saw the author authenticated, his domain's demand is not carried out."),

    row("tls-report.send", Flag, Toml("false"), Restart, "smtp_tlsrpt_enable",
        "Count TLS sessions by day and domain and send each day's report to whoever asks for it in DNS (`_smtp._tls`), by mail or over HTTPS."),
    row("tls-report.from", Text, Absent("`tls-reports@` the domain of the first [dkim.*] key"), Restart, "",
        "The sender of reports by mail. They must be signed, so its domain needs a [dkim.*] key."),
    row("tls-report.contact", Text, Absent("postmaster@ the sender's domain"), Restart, "",
        "Whom to ask about a report."),
    row("tls-report.delay-max", Span(1, 20 * HOUR), Toml("'4h'"), Restart, "",
        "Reports go out at a random time within so long after midnight, UTC."),

    row("bounces.recognise", Flag, Toml("true"), Restart, "",
        "Read bounces (RFC 3464 and older forms) and complaints (ARF, RFC 5965) that come in and tell the log what they say. They are delivered all the same."),
    row("bounces.patterns", Kind::File, Absent("the shipped categories alone"), Restart, "",
        "Categories of replies and bounces, in front of the shipped ones. `waypost help bounces` prints those and explains their form."),
    row("bounces.remember", Span(0, 90 * DAY), Toml("0"), Restart, "",
        "How long what was sent is remembered, by our id, Message-ID, envelope id and recipients, so that a bounce can be matched to it and believed. 0: not at all; then only `verp` tells true bounces from forged ones."),
    row("bounces.verp", List(&Text), Toml("[]"), Restart, "verp_delimiter_filter, XVERP",
        "Senders (`news@example.com`, `@lists.example.com`) whose mail leaves with a sender of its own for each recipient, a signed subaddress, so that a bounce tells whom it is about."),
    row("bounces.suppress", List(&Text), Toml("[]"), Restart, "",
        "Categories that put an address on the suppression list by themselves: names of `waypost help bounces`, `complaint`, or `hard` for all that say that the address is no good. Our own failures count, and bounces and complaints that are proven by `verp` or `remember`."),
    row("bounces.suppress-for", Span(0, 3650 * DAY), Toml("'180d'"), Restart, "",
        "How long an address stays on the list. 0: until it is taken off."),

    row("admin.bind", List(&Socket(0)), Toml("['127.0.0.1:8025']"), Restart, "",
        "Where the admin page listens. Changes need the token in `data`/admin-token; reading does not, so keep it on loopback."),

    row("log.format", Word(&["auto", "text", "json"]), Toml("'auto'"), Restart, "maillog_file",
        "auto: text on a terminal, JSON otherwise."),
    row("log.level", Word(&["error", "warn", "info", "debug", "trace"]), Toml("'info'"), Live, "debug_peer_level",
        "The least important lines that are written. info tells everything about mail."),

    row("security.user", Name, Absent("`waypost`, if there is such a user; whoever starts the server otherwise"), Restart, "mail_owner",
        "The user to become once the ports are bound, when started as root. Folders of `data` that belong to root are given to it; certificates and keys must be readable for it."),
    row("security.confine", Flag, Toml("true"), Restart, "",
        "Whether the server gives up, where the kernel has Landlock and seccomp, writing outside `data`, `users.mail` and the folder of `users.file`, running programs, and system calls that it has no use for."),

    row("shutdown-time", Span(0, HOUR), Toml("'30s'"), Live, "",
        "How long SIGTERM waits for sessions and deliveries under way."),
];

/// The row of a setting's pattern or full name.
pub fn find(path: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| matches(setting.path, path))
}

/// Whether a pattern such as `listener.*.tls` stands for this name.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('.'), path.split('.'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(p), Some(part)) if p == "*" || p == part => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_fit_for_the_manual() {
        for setting in SETTINGS {
            assert!(setting.doc.ends_with('.'), "{}: the doc is a sentence", setting.path);
            assert!(SECTIONS.iter().any(|(name, _)| *name == setting.section()), "{}: no such section", setting.path);
            assert_eq!(SETTINGS.iter().filter(|other| other.path == setting.path).count(), 1, "{} twice", setting.path);
        }
    }

    #[test]
    fn every_preset_says_everything_that_is_left_to_it() {
        for (preset, says) in PRESETS {
            for setting in SETTINGS.iter().filter(|setting| setting.default == Preset) {
                assert!(
                    says.iter().any(|(leaf, _)| *leaf == setting.leaf()),
                    "{preset} is silent about {}",
                    setting.path
                );
            }
        }
    }

    #[test]
    fn stars_stand_for_one_name() {
        assert!(matches("listener.*.tls", "listener.mx.tls"));
        assert!(!matches("listener.*.tls", "listener.mx.auth"));
        assert!(!matches("listener.*", "listener.mx.tls"));
        assert_eq!(find("listener.mx.tls").map(Setting::leaf), Some("tls"));
    }
}
