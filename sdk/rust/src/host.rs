//! What a plugin may ask the server, and tell it.
//!
//! A [`Host`] comes with every call. In a component it is the contract's imports and nothing else: a section that a plugin never
//! uses is not imported, and so needs no grant. In a native build it is the scripted host of a [`Bench`](crate::Bench), which is
//! how a plugin is unit-tested without a server.
//!
//! Everything said to the host is kept in a journal and takes effect when the hook returns `Ok`.

use std::net::IpAddr;

#[cfg(target_arch = "wasm32")]
use crate::bindings::imports;
#[cfg(not(target_arch = "wasm32"))]
use crate::script::Script;
use crate::types::{
    AuthFinding, DnsAnswer, DnsError, DnsQuery, HttpRequest, HttpResponse, Level, Part, Recipient, RecordType,
    TransportKind,
};

/// The server, as far as a plugin can see it. Costs nothing in a component.
#[derive(Clone)]
pub struct Host {
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) script: std::rc::Rc<std::cell::RefCell<Script>>,
}

#[cfg(target_arch = "wasm32")]
impl Host {
    /// The one host of a component; made by [`export!`](crate::export).
    #[doc(hidden)]
    pub const fn imported() -> Host {
        Host {}
    }
}

/// Writes a section of [`Host`] down once: in a component each function is the import of the same name, natively the script's.
macro_rules! section {
    (
        $(#[$section_doc:meta])* $name:ident ($interface:ident)
        { $( $(#[$doc:meta])* fn $function:ident($($argument:ident: $type:ty),*) $(-> $answer:ty)?; )* }
    ) => {
        $(#[$section_doc])*
        #[derive(Clone, Copy)]
        pub struct $name<'a> {
            #[cfg_attr(target_arch = "wasm32", allow(dead_code))]
            host: &'a Host,
        }

        impl $name<'_> {
            $(
                $(#[$doc])*
                pub fn $function(self, $($argument: $type),*) $(-> $answer)? {
                    #[cfg(target_arch = "wasm32")]
                    { imports::$interface::$function($($argument),*) }
                    #[cfg(not(target_arch = "wasm32"))]
                    { self.host.script.borrow_mut().$interface.$function($($argument),*) }
                }
            )*
        }

        impl Host {
            $(#[$section_doc])*
            pub fn $interface(&self) -> $name<'_> {
                $name { host: self }
            }
        }
    };
}

section! {
    /// Who is connected.
    Session(session) {
        /// The session's name in the log.
        fn id() -> String;
        /// The kind of door it came through.
        fn transport() -> TransportKind;
        /// The client's address as text; see [`Session::client_address`].
        fn client_ip() -> String;
        /// The client's port.
        fn client_port() -> u16;
        /// The argument of HELO or EHLO; empty before.
        fn helo() -> String;
        /// The client's forward-confirmed name.
        fn ptr_name() -> Option<String>;
        /// What TLS negotiated, `TLSv1.3:TLS_AES_128_GCM_SHA256`.
        fn tls() -> Option<String>;
        /// SHA-256 of the client's certificate, in hex.
        fn tls_client_cert_sha256() -> Option<String>;
        /// The authenticated user.
        fn auth_user() -> Option<String>;
        /// What this plugin kept under `key` earlier on this connection.
        fn get_var(key: &str) -> Option<Vec<u8>>;
        /// Keeps a value for later stages of this connection; other plugins never see it.
        fn set_var(key: &str, value: &[u8]);
    }
}

impl Session<'_> {
    /// The client's address, IPv4-mapped ones unmapped; `None` where there is none (mail made on this host).
    pub fn client_address(self) -> Option<IpAddr> {
        self.client_ip().parse::<IpAddr>().ok().map(|address| address.to_canonical())
    }

    /// Whether mail comes from one of our own: a user who logged in, this host, or a host in the port's relay networks.
    pub fn is_own(self) -> bool {
        self.transport() == TransportKind::Local || self.auth_user().is_some()
    }
}

section! {
    /// The envelope so far.
    Envelope(envelope) {
        /// The reverse-path; empty for `<>`.
        fn sender() -> String;
        /// ESMTP parameters of MAIL.
        fn sender_params() -> Vec<(String, Option<String>)>;
        /// Recipients accepted so far.
        fn recipients() -> Vec<Recipient>;
        /// How many they are.
        fn recipient_count() -> u32;
        /// A further recipient.
        fn add_recipient(address: &str) -> Result<(), String>;
        /// One recipient less.
        fn remove_recipient(address: &str) -> Result<(), String>;
        /// Another sender.
        fn set_sender(address: &str) -> Result<(), String>;
    }
}

section! {
    /// The message. Nothing of it enters the plugin unless asked for.
    Message(message) {
        /// Octets in all.
        fn size() -> u64;
        /// The unfolded values of every field of this name.
        fn header(name: &str) -> Vec<String>;
        /// All fields, unfolded, in order.
        fn headers() -> Vec<(String, String)>;
        /// The header block as it stands, up to the empty line.
        fn raw_headers() -> Vec<u8>;
        /// Octets from `offset`, at most `len`; fewer at the end. 16–64 KiB a time is best.
        fn read(offset: u64, len: u32) -> Vec<u8>;
        /// MIME parts, parsed once by the server for all plugins.
        fn parts() -> Vec<Part>;
        /// A part's content, transfer-decoded; text as UTF-8.
        fn read_part(path: &str, offset: u64, len: u32) -> Vec<u8>;
        /// Where the patterns of a configured set occur: (pattern, offset).
        fn find(set: &str) -> Vec<(u32, u64)>;
        /// A digest (`sha256`) of the message or of one part.
        fn digest(algorithm: &str, part: Option<&str>) -> Vec<u8>;
        /// Hashed tokens for classifiers.
        fn token_hashes(max: u32) -> Vec<u64>;
        /// Puts a field at the end of the header block.
        fn add_header(name: &str, value: &str);
        /// Puts a field in front of everything.
        fn prepend_header(name: &str, value: &str);
        /// Takes fields out: the `nth` of this name from 0, or all.
        fn remove_header(name: &str, nth: Option<u32>);
        /// Another body; needs the grant `rewrite`.
        fn replace_body(data: &[u8]) -> Result<(), String>;
    }
}

section! {
    /// What mail authentication found (SPF, DKIM, DMARC, ARC, iprev).
    AuthResults(auth_results) {
        /// Every finding.
        fn entries() -> Vec<AuthFinding>;
    }
}

section! {
    /// Facts shared along the chain. Facts stated up to AUTH live as long as the session, later ones as long as the transaction.
    Scores(scores) {
        /// States a fact. A positive weight speaks for spam.
        fn add(symbol: &str, weight: f64, detail: Option<&str>);
        /// The sum of weights.
        fn total() -> f64;
        /// Symbols and weights, every plugin's.
        fn symbols() -> Vec<(String, f64)>;
    }
}

impl Scores<'_> {
    /// Whether anybody stated this fact.
    pub fn has(self, symbol: &str) -> bool {
        self.symbols().iter().any(|(name, _)| name == symbol)
    }
}

section! {
    /// DNS. Grant `dns`.
    Dns(dns) {
        /// One question.
        fn lookup(query: &DnsQuery) -> Result<DnsAnswer, DnsError>;
        /// Many, asked all at once; answers in the order of the questions.
        fn lookup_many(queries: &[DnsQuery]) -> Vec<Result<DnsAnswer, DnsError>>;
    }
}

impl Dns<'_> {
    /// The texts of a name's records, empty when there are none or nobody answers.
    pub fn records(self, name: &str, rtype: RecordType) -> Vec<String> {
        self.lookup(&DnsQuery { name: name.to_string(), rtype }).map(|answer| answer.records).unwrap_or_default()
    }
}

section! {
    /// Tables of the configuration. Grant `tables`.
    Tables(tables) {
        /// The value of a key.
        fn lookup(table: &str, key: &str) -> Option<String>;
        /// The values of many keys.
        fn lookup_many(table: &str, keys: &[String]) -> Vec<Option<String>>;
        /// Whether a table of networks holds an address.
        fn contains_cidr(table: &str, ip: &str) -> bool;
    }
}

section! {
    /// This plugin's own persistent storage. Grant `kv`.
    Kv(kv) {
        /// A value.
        fn get(key: &[u8]) -> Option<Vec<u8>>;
        /// Many values.
        fn get_many(keys: &[Vec<u8>]) -> Vec<Option<Vec<u8>>>;
        /// Pairs of counters under numeric keys.
        fn get_many_u64(prefix: &str, keys: &[u64]) -> Vec<(u32, u32)>;
        /// Sets a value, for so many seconds or for good.
        fn set(key: &[u8], value: &[u8], ttl_s: Option<u32>);
        /// Adds to a counter, atomically; its new value.
        fn incr(key: &[u8], delta: i64, ttl_s: Option<u32>) -> i64;
        /// Adds to pairs of counters.
        fn incr_many_u64(prefix: &str, keys: &[u64], a: i32, b: i32);
        /// The same; each counter that was added to expires so many seconds after the last addition.
        fn add_many_u64(prefix: &str, keys: &[u64], a: i32, b: i32, ttl_s: Option<u32>);
        /// Sets a value if the old one is as expected; says whether it did.
        fn cas(key: &[u8], old: Option<&[u8]>, new: &[u8], ttl_s: Option<u32>) -> bool;
    }
}

section! {
    /// Signatures and digests made by the server: private keys never enter a plugin. Grant `crypto` and the keys by name.
    Crypto(crypto) {
        /// A raw signature over a digest.
        fn sign(key_id: &str, digest: &[u8]) -> Result<Vec<u8>, String>;
        /// The value of a DKIM-Signature field for the message of this call.
        fn dkim_sign(key_id: &str, headers: &[String]) -> Result<String, String>;
        /// HMAC-SHA-256.
        fn hmac(key_id: &str, data: &[u8]) -> Result<Vec<u8>, String>;
        /// SHA-256.
        fn sha256(data: &[u8]) -> Vec<u8>;
        /// Random octets.
        fn random(n: u32) -> Vec<u8>;
    }
}

section! {
    /// HTTP to the hosts named in the grant. Grant `http`.
    Http(http) {
        /// One request.
        fn fetch(request: &HttpRequest) -> Result<HttpResponse, String>;
        /// Many, all at once.
        fn fetch_many(requests: &[HttpRequest]) -> Vec<Result<HttpResponse, String>>;
    }
}

section! {
    /// The plugin's surroundings.
    Env(env) {
        /// A line in the log. Prefer [`Env::debug`] and its siblings, which cost nothing when nobody listens.
        fn log(level: Level, text: &str);
        /// Whether lines of this level are kept.
        fn log_enabled(level: Level) -> bool;
        /// Adds to a metric.
        fn metric_add(name: &str, delta: f64);
        /// This plugin's settings as JSON; see [`settings`](crate::settings).
        fn config() -> String;
        /// Milliseconds since 1970; stands still during a call.
        fn now_ms() -> u64;
        /// CPU time left in this call, microseconds.
        fn budget_us() -> u32;
        /// Whether an interface (`kv`, `dns`) may be used: for plugins that can do without.
        fn granted(name: &str) -> bool;
    }
}

impl Env<'_> {
    /// Logs at debug level; the text is only made if somebody listens.
    pub fn debug(self, text: impl FnOnce() -> String) {
        if self.log_enabled(Level::Debug) {
            self.log(Level::Debug, &text());
        }
    }

    /// Logs at info level.
    pub fn info(self, text: &str) {
        self.log(Level::Info, text);
    }

    /// Logs a warning.
    pub fn warn(self, text: &str) {
        self.log(Level::Warn, text);
    }
}
