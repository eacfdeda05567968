//! From a configuration to the options of the working crates: the only place where both are known.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use waypost_config::Config;
use waypost_config::model::{AuthBackend, AuthMode, DkimKey, Listener, Plugin, TlsMode};
use waypost_config::shaping::{Provider, ReplyAction};
use waypost_deliver::local::post::Post;
use waypost_deliver::options::MailboxForm;
use waypost_deliver::shaping::{Action, Pattern, Shape, Shaping};
use waypost_deliver::sources::{self, Sources};
use waypost_mailauth::{Keys, SecretKey, SigningKey, Verifier, VerifierOptions};
use waypost_net::{ClientTlsOptions, Egress, ListenOptions, ServerTls};
use waypost_plugin::{FaultPolicy, Grants, Isolation, OnFault, PluginOptions, Source};
use waypost_queue::schedule::{Backoff, Limits, Rate, WindowLimits};
use waypost_resolve::{Dnssec, Own, Resolver, ResolverOptions};
use waypost_server::{Access, Decisions, DmarcMode, Greylist, Prefix, Rates, Rules, Sender, Thresholds};
use waypost_smtp::extension::{Extension, ExtensionSet};
use waypost_smtp::sasl::Mechanism;
use waypost_smtp::server::policy::{AuthMode as PolicyAuth, TlsMode as PolicyTls};
use waypost_smtp::server::{BareNewline, Impatience, Policy};
use waypost_store_rocks::Durability;
use waypost_types::checks::Check;
use waypost_types::port::KeyValue;
use waypost_types::{Judge, Timestamp, Transport};

use crate::routing::{NamedTables, lists};

use crate::logins::extra_senders;

/// Sockets that are bound and not yet served.
pub(crate) struct Sockets {
    /// In the order of `Config::listeners`.
    pub(crate) mail: Vec<Vec<TcpListener>>,
    /// The admin interface's.
    pub(crate) admin: Vec<TcpListener>,
}

/// Binds every port; the error names the address and the remedy.
pub(crate) fn bind(config: &Config) -> Result<Sockets> {
    let options = ListenOptions::default();
    let all = |addresses: &[SocketAddr], of: &str| -> Result<Vec<TcpListener>> {
        let one =
            |address: &SocketAddr| waypost_net::bind(*address, &options).map_err(|error| anyhow!("{of}: {error}"));
        addresses.iter().map(one).collect()
    };
    Ok(Sockets {
        mail: config
            .listeners
            .iter()
            .map(|l| all(&l.bind, &format!("listener.{}.bind", l.name)))
            .collect::<Result<_>>()?,
        admin: all(&config.admin, "admin.bind")?,
    })
}

/// What a port allows.
pub(crate) fn rules(
    config: &Config,
    listener: &Listener,
    tls: Option<ServerTls>,
    judge: Arc<dyn Judge>,
    store: Arc<dyn KeyValue>,
    tables: &NamedTables,
) -> Rules {
    let mut rules = Rules::new(Arc::new(policy(config, listener)), judge);
    rules.tls = tls;
    rules.relay_networks =
        if listener.relay_networks { config.relay_networks.as_slice().into() } else { Arc::from([]) };
    rules.relay_users = listener.relay_users;
    rules.checks = Arc::new(listener.checks.actions.clone());
    rules.access = Arc::new(Access {
        client: lists(tables, &listener.checks.client),
        helo: lists(tables, &listener.checks.helo),
        sender: lists(tables, &listener.checks.sender),
        recipient: lists(tables, &listener.checks.recipient),
    });
    rules.separators = config.users.separators.as_str().into();
    rules.senders = listener.sender_must_match_login.then(|| Arc::new(extra_senders(config)));
    rules.dmarc = match (config.dmarc.enforce, config.dmarc.hold) {
        (false, _) => DmarcMode::Report,
        (true, false) => DmarcMode::Enforce,
        (true, true) => DmarcMode::EnforceAndHold,
    };
    rules.sessions_max = listener.connections;
    rules.sessions_per_address_max = u32::try_from(listener.connections_per_address).unwrap_or(u32::MAX);
    rules.rates = Rates {
        connections: listener.connections_per_minute,
        messages: listener.messages_per_minute,
        recipients: listener.recipients_per_minute,
    };
    rules.prefix = Prefix { v4: listener.client_prefix.0, v6: listener.client_prefix.1 };
    rules.pressed_percent = listener.pressure;
    rules.balancers = listener.balancers.as_slice().into();
    rules.proxies = listener.proxies.as_slice().into();
    rules.masks = listener.mask_for.iter().map(|(network, words)| (*network, extensions(words))).collect();
    rules.decisions = Arc::new(decisions(config, listener, &store));
    let strangers = config.greylist.as_ref().filter(|_| listener.transport == Transport::Mx);
    rules.greylist = strangers.map(|settings| greylist(settings, store));
    rules
}

fn extensions(keywords: &[String]) -> ExtensionSet {
    let known = keywords.iter().filter_map(|word| Extension::from_keyword(word));
    known.fold(ExtensionSet::EMPTY, ExtensionSet::with)
}

fn greylist(greylist: &waypost_config::model::Greylist, store: Arc<dyn KeyValue>) -> Greylist {
    let addresses = greylist.addresses.iter().cloned().map(Sender::Address);
    Greylist {
        store,
        delay: greylist.delay,
        window: greylist.window,
        lifetime: greylist.lifetime,
        senders: addresses.chain(greylist.domains.iter().cloned().map(Sender::Domain)).collect(),
        networks: greylist.networks.as_slice().into(),
    }
}

/// What follows from facts on a port: the sections that name it come before those for all mail from outside.
fn decisions(config: &Config, listener: &Listener, store: &Arc<dyn KeyValue>) -> Decisions {
    let outside = matches!(listener.transport, Transport::Mx | Transport::Lmtp);
    let named = config.decisions.iter().filter(|section| section.listeners.contains(&listener.name));
    let general = config.decisions.iter().filter(|section| outside && section.listeners.is_empty());
    let mut made = Decisions::default();
    for section in named.chain(general) {
        let thresholds = Arc::new(Thresholds {
            name: section.name.as_str().into(),
            own: !section.listeners.is_empty(),
            header: section.header,
            subject: section.subject,
            tag: section.tag.as_str().into(),
            greylist: section.greylist,
            hold: section.hold,
            refuse: section.refuse,
            text: section.text.as_str().into(),
        });
        made.domains.extend(section.domains.iter().map(|domain| (domain.clone(), thresholds.clone())));
        if section.domains.is_empty() {
            made.others.push(thresholds);
        }
    }
    made.greylist = (!made.is_empty()).then(|| greylist(&config.greylist_by_score, store.clone()));
    made
}

fn policy(config: &Config, listener: &Listener) -> Policy {
    let hostname = config.hostname.as_str();
    let mut policy = match listener.transport {
        Transport::Mx | Transport::Local => Policy::mx(hostname),
        Transport::Submission => Policy::submission(hostname),
        Transport::Submissions => Policy::submissions(hostname),
        Transport::Lmtp => Policy::lmtp(hostname),
        Transport::Relay => Policy::relay(hostname),
    };
    policy.tls = match listener.tls {
        TlsMode::None => PolicyTls::None,
        TlsMode::Opportunistic => PolicyTls::Opportunistic,
        TlsMode::Required => PolicyTls::Required,
        TlsMode::Implicit => PolicyTls::Implicit,
    };
    policy.auth = match listener.auth {
        AuthMode::Off => PolicyAuth::Off,
        AuthMode::Offered => PolicyAuth::OfferedInsideTls,
        AuthMode::Required => PolicyAuth::RequiredInsideTls,
    };
    policy.helo_required = listener.checks.actions.is_on(Check::HeloRequired);
    policy.strict_paths = listener.checks.actions.is_on(Check::EnvelopeSyntax);
    policy.auth_mechanisms = mechanisms(config);
    policy.auth_relayed = matches!(config.auth.backend, AuthBackend::Dovecot(_));
    policy.message_bytes_max = usize::try_from(listener.message_size).unwrap_or(usize::MAX);
    policy.recipients_max = listener.recipients;
    policy.messages_max = listener.messages;
    policy.errors_max = listener.errors;
    policy.command_timeout = listener.command_timeout;
    policy.data_timeout = listener.data_timeout;
    policy.greeting_delay = listener.greeting_delay;
    let haste = if listener.refuse_haste { Impatience::Refuse } else { Impatience::Ignore };
    (policy.pregreet, policy.unauthorised_pipelining) = (haste, haste);
    policy.bare_newline = if listener.refuse_bare_newlines { BareNewline::Refuse } else { BareNewline::Normalise };
    policy.tarpit_max = listener.tarpit;
    policy.hold_max = listener.hold_max;
    policy.extensions = policy.extensions.plus(extensions(&listener.offer)).minus(extensions(&listener.mask));
    policy
}

/// What is offered: what the operator names, or what the back end, tokens and certificates can do.
fn mechanisms(config: &Config) -> Vec<Mechanism> {
    use Mechanism::{External, Login, OAuthBearer, Plain, ScramSha256, ScramSha256Plus, XOAuth2};
    if let Some(names) = &config.auth.mechanisms {
        return names.iter().filter_map(|name| Mechanism::from_name(name)).collect();
    }
    let scram = matches!(config.auth.backend, AuthBackend::File).then_some([ScramSha256Plus, ScramSha256]);
    let tokens = config.auth.tokens.is_some().then_some([OAuthBearer, XOAuth2]);
    let external = config.auth.external.then_some(External);
    scram.into_iter().flatten().chain([Plain, Login]).chain(tokens.into_iter().flatten()).chain(external).collect()
}

/// How DNS is asked.
pub(crate) fn resolver_options(config: &Config) -> ResolverOptions {
    let own = Own {
        names: std::iter::once(&config.hostname).cloned().collect(),
        addresses: config
            .listeners
            .iter()
            .flat_map(|l| &l.bind)
            .map(SocketAddr::ip)
            .filter(|ip| !ip.is_unspecified())
            .collect(),
        ports: config
            .listeners
            .iter()
            .filter(|l| l.transport == Transport::Mx)
            .flat_map(|l| &l.bind)
            .map(SocketAddr::port)
            .collect(),
    };
    ResolverOptions {
        servers: config.dns.servers.clone(),
        dnssec: if config.dns.dnssec { Dnssec::Validate } else { Dnssec::Off },
        timeout: config.dns.timeout,
        own,
        ..ResolverOptions::default()
    }
}

/// How mail is authenticated.
pub(crate) fn verifier(config: &Config, resolver: &Resolver) -> Result<Verifier> {
    let mut options = VerifierOptions::new(Arc::new(resolver.clone()), config.hostname.as_str());
    // A client waits meanwhile: two tries at one server, not more.
    options.timeout = options.timeout.min(config.dns.timeout * 2);
    options.trusted_sealers = config.dmarc.trusted_sealers.iter().map(|domain| domain.as_str().to_string()).collect();
    Ok(Verifier::new(options)?)
}

/// How the queue is opened.
pub(crate) fn store_options(config: &Config) -> waypost_store_rocks::Options {
    let mut options = waypost_store_rocks::Options::new(config.data.join("queue"));
    options.durability = if config.queue.sync { Durability::Sync } else { Durability::Os };
    options.messages_max = config.queue.messages;
    options.disk_reserve_bytes = config.queue.free_space;
    let largest = config.listeners.iter().map(|l| l.message_size).max().unwrap_or(0);
    // Trace headers and edits come on top of what a client may send.
    options.message_bytes_max = options.message_bytes_max.max(largest + (1 << 20));
    options
}

/// How mail goes out.
pub(crate) fn courier_options(config: &Config) -> Result<waypost_deliver::Options> {
    let mut options = waypost_deliver::Options::new(config.hostname.clone(), config.users.mail.clone());
    options.backoff = Backoff { first: config.queue.retry_first, max: config.queue.retry_max, ..Backoff::default() };
    options.schedule.running_max = u32::try_from(config.delivery.connections).unwrap_or(u32::MAX);
    options.schedule.limits.window.max = u32::try_from(config.delivery.connections_per_destination).unwrap_or(u32::MAX);
    options.connect_timeout = config.delivery.connect_timeout;
    options.shaping = Shaping::new(config.delivery.shaping.iter().map(shape).collect());
    options.connection_messages_max = config.delivery.messages_per_connection;
    options.reporter.lifetime = config.queue.notice_lifetime;
    options.reporter.delay_after = config.queue.delay_report.unwrap_or(Duration::MAX);
    options.drain_max = config.shutdown_time;
    options.sources = Sources::new(config.sources.iter().map(source).collect());
    options.mailbox_form = if config.users.mbox { MailboxForm::Mbox } else { MailboxForm::Maildir };
    for named in &config.posts {
        options.posts.insert(named.name.clone(), post(named)?);
    }
    for host in &config.smarthosts {
        let password = std::fs::read_to_string(&host.password_file)
            .with_context(|| format!("smarthost at {}: {}", host.host, host.password_file.display()))?;
        options.credentials.insert(host.host.clone(), (host.user.as_str().into(), password.trim_end().into()));
    }
    Ok(options)
}

fn post(post: &waypost_config::model::Post) -> Result<Post> {
    let token = |file: &std::path::PathBuf| {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("post.{}.token-file: {}", post.name, file.display()))?;
        Ok::<_, anyhow::Error>(("Authorization".to_string(), format!("Bearer {}", text.trim())))
    };
    let headers = post.token_file.iter().map(token).collect::<Result<_>>()?;
    Ok(Post { url: post.url.clone(), headers, timeout: post.timeout })
}

fn source(source: &waypost_config::model::Source) -> sources::Source {
    let v4 = source.addresses.iter().find_map(|address| if let IpAddr::V4(v4) = address { Some(*v4) } else { None });
    let v6 = source.addresses.iter().find_map(|address| if let IpAddr::V6(v6) = address { Some(*v6) } else { None });
    let users = source.users.iter().map(|user| user.as_str().into()).collect();
    let egress = source.socks.map(Egress::Socks).or(source.proxy.map(Egress::Proxy));
    let warm_up = source
        .warm_up
        .as_ref()
        .map(|(day, by_day)| sources::WarmUp { begins: Timestamp(day * 86_400_000), by_day: by_day.clone() });
    sources::Source { name: source.name.as_str().into(), v4, v6, weight: source.weight, users, egress, warm_up }
}

/// TLS towards other hosts.
pub(crate) fn client_tls_options(config: &Config) -> ClientTlsOptions {
    ClientTlsOptions { extra_roots: config.delivery.roots.clone(), ..ClientTlsOptions::default() }
}

/// One provider's rules.
fn shape(provider: &Provider) -> Shape {
    let initial = provider.connections.min(WindowLimits::default().initial);
    let window = WindowLimits { initial, max: provider.connections, ..WindowLimits::default() };
    let rate = provider.per_minute.map(|count| Rate::per(count, Duration::from_secs(60)));
    let hosts = provider.hosts.iter().map(|host| host.as_str().into()).collect();
    let replies = provider.replies.iter().map(|rule| {
        let pattern = Pattern { code: rule.code, text: rule.text.as_str().into() };
        let action = match rule.action {
            ReplyAction::Slow(span) => Action::Slow(span),
            ReplyAction::Suspend(span) => Action::Suspend(span),
            ReplyAction::Connections(count, span) => Action::Connections(count, span),
            ReplyAction::Bounce => Action::Bounce,
            ReplyAction::FewerMessages => Action::FewerMessages,
        };
        (pattern, action)
    });
    Shape::new(&provider.name, hosts, Limits { window, rate }, provider.messages, provider.tls, replies.collect())
}

/// The key ring.
pub(crate) fn keys(config: &Config) -> Result<Keys> {
    let mut keys = Keys::new();
    for dkim in &config.dkim {
        let pem = std::fs::read_to_string(&dkim.file)
            .with_context(|| format!("dkim.{}.file: {}", dkim.name, dkim.file.display()))?;
        let secret = SecretKey::from_pem(&pem)
            .map_err(|error| anyhow!("dkim.{}.file: {}: {error}", dkim.name, dkim.file.display()))?;
        keys.insert(&dkim.name, SigningKey::new(dkim.domain.clone(), &dkim.selector, secret));
    }
    Ok(keys)
}

/// Where compiled plugins are kept.
pub(crate) fn plugin_cache(config: &Config) -> PathBuf {
    config.data.join("plugin-cache")
}

/// The components of all plugins.
pub(crate) fn plugin_files(config: &Config) -> Vec<PathBuf> {
    config.plugins.iter().map(|plugin| plugin.path.clone()).collect()
}

/// The plugins, in the order of the chain.
pub(crate) fn plugin_options(config: &Config) -> waypost_plugin::Options {
    waypost_plugin::Options {
        plugins: config.plugins.iter().map(|plugin| one_plugin(config, plugin)).collect(),
        cache_dir: Some(plugin_cache(config)),
    }
}

fn one_plugin(config: &Config, plugin: &Plugin) -> PluginOptions {
    let mut options = PluginOptions::new(&plugin.name, Source::File(plugin.path.clone()));
    options.config = plugin_config(config, plugin);
    options.isolation = match plugin.isolation {
        "connection" => Isolation::Connection,
        "pooled" => Isolation::Pooled,
        _ => Isolation::Transaction,
    };
    let granted = |name: &str| plugin.grants.iter().any(|grant| grant == name);
    options.grants = Grants {
        dns: granted("dns"),
        kv: granted("kv"),
        tables: plugin.tables.clone(),
        keys: plugin.keys.clone(),
        crypto: granted("crypto"),
        rewrite: granted("rewrite"),
        credentials: granted("credentials"),
        ..Grants::default()
    };
    options.on_fault = match plugin.on_fault {
        "pass" => OnFault::all(FaultPolicy::Pass),
        _ => OnFault::all(FaultPolicy::Tempfail),
    };
    options.limits.memory = usize::try_from(plugin.memory).unwrap_or(usize::MAX);
    options.limits.cpu = plugin.cpu;
    options.limits.wall = plugin.time;
    options.limits.wall_message = plugin.message_time;
    options
}

/// A plugin's own settings. One that is granted keys and says nothing of them is told whose they are, so that `[dkim.*]` is written once.
fn plugin_config(config: &Config, plugin: &Plugin) -> String {
    let mut settings: serde_json::Value =
        serde_json::from_str(&plugin.config).unwrap_or_else(|_| serde_json::json!({}));
    let Some(fields) = settings.as_object_mut() else { return plugin.config.clone() };
    if !plugin.keys.is_empty() && !fields.contains_key("keys") {
        let keys: Vec<_> = granted_keys(config, plugin)
            .map(|dkim| serde_json::json!({ "domain": dkim.domain.as_str(), "key": dkim.name }))
            .collect();
        fields.insert("keys".into(), keys.into());
    }
    if plugin.name == SPAM_SCORE {
        tell_scorer(config, fields);
    }
    settings.to_string()
}

/// The plugin whose rules are facts for `[decision.*]`.
const SPAM_SCORE: &str = "spam-score";

/// One place weighs: the plugin states its rules as facts, and calls spam in its own fields what the section for everybody marks.
fn tell_scorer(config: &Config, fields: &mut serde_json::Map<String, serde_json::Value>) {
    let everybody = config.decisions.iter().find(|section| section.domains.is_empty());
    if let Some(required) = everybody.and_then(|section| section.header) {
        fields.entry("required").or_insert(required.into());
    }
}

/// In the order in which they are named, which is that of the signatures on a message.
fn granted_keys<'a>(config: &'a Config, plugin: &'a Plugin) -> impl Iterator<Item = &'a DkimKey> {
    let named = |name: &'a String| config.dkim.iter().filter(move |dkim| name == "*" || *name == dkim.name);
    plugin.keys.iter().flat_map(named)
}
