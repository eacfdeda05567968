//! The running site: everything put together, reloaded, and brought to an orderly end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::signal::unix::{Signal, SignalKind, signal};
use waypost_config::{Config, Mistakes};
use waypost_deliver::Courier;
use waypost_deliver::tls_report::document::Reporter;
use waypost_deliver::tls_report::{self, Ledger};
use waypost_mailauth::Verifier;
use waypost_net::ClientTls;
use waypost_plugin::{Host as Plugins, Ports, Recorder};
use waypost_queue::Store;
use waypost_resolve::{Policies, Resolver};
use waypost_route::Router;
use waypost_server::{Listener, Options, Rules, Server, Services};
use waypost_store_rocks::RocksStore;
use waypost_types::{Address, Event, Host, Judge, Observer};

use crate::admin::{self, Admin, Desk};
use crate::assemble::{self, Sockets};
use crate::bounces::Bounces;
use crate::certificates::Certificates;
use crate::fetch::Https;
use crate::first_start::LOGIN_SECRET;
use crate::logins::Logins;
use crate::observe::writer::Writer;
use crate::observe::{Level, Observe, filter_of, now};
use crate::recorder::Recording;
use crate::routing::{self, NamedTables};
use crate::supervisor;
use crate::tls_reports::{self, TlsReports};

/// How often certificates on disk are looked at.
const CERTIFICATES_LOOK: Duration = Duration::from_secs(30);

/// How often a resolver that does not validate is asked again.
const DNSSEC_RETRY: Duration = Duration::from_secs(300);

/// Everything that runs.
pub(crate) struct Site {
    config: ArcSwap<Config>,
    load: Box<dyn Fn() -> Result<Config, Mistakes> + Send + Sync>,
    observe: Arc<Observe>,
    writer: Arc<Writer>,
    level: Level,
    store: Arc<RocksStore>,
    certificates: ArcSwap<Certificates>,
    router: Arc<ArcSwap<Router>>,
    tables: ArcSwap<NamedTables>,
    logins: Arc<Logins>,
    verifier: Arc<ArcSwapOption<Verifier>>,
    plugins: Plugins,
    resolver: Resolver,
    courier: Courier,
    server: Server,
    recorder: Option<Arc<dyn Recorder>>,
    admin: Vec<tokio::task::JoinHandle<()>>,
    reports: Option<Arc<TlsReports>>,
}

impl Site {
    /// Opens everything and takes mail. The system allows `open_files`; `load` reads the configuration anew, for reloads.
    pub(crate) async fn start(
        config: Config,
        sockets: Sockets,
        open_files: usize,
        writer: Arc<Writer>,
        level: Level,
        load: impl Fn() -> Result<Config, Mistakes> + Send + Sync + 'static,
    ) -> Result<Site> {
        let observe = Arc::new(Observe::default());
        count_panics(observe.clone());
        let certificates = Certificates::open(&config)?;
        let tables = routing::tables(&config)?;
        let router = Arc::new(ArcSwap::from_pointee(routing::router(&config, &tables)?));
        let resolver = Resolver::new(assemble::resolver_options(&config)).map_err(|error| anyhow!("dns: {error}"))?;
        let store = Arc::new(
            RocksStore::open(assemble::store_options(&config), observe.clone()).map_err(|error| anyhow!("{error}"))?,
        );
        let recording = Recording::start(&config.record, &config.data).context("data/recorded")?;
        let recorder = recording.map(|recording| Arc::new(recording) as Arc<dyn Recorder>);
        let mut ports = ports(&config, tables.clone(), &resolver, &store, &observe)?;
        ports.recorder = recorder.clone();
        let plugins = load_plugins(&config, ports).await?;
        let secret = std::fs::read(config.data.join(LOGIN_SECRET)).context("the secret of logins")?;
        let logins = Arc::new(Logins::open(&config, &secret)?);
        let client_tls = ClientTls::new(assemble::client_tls_options(&config))?;
        let ledger = open_ledger(&config, &store)?;
        if config.delivery.mta_sts {
            let fetch = Https { resolver: resolver.clone(), tls: client_tls.clone(), plain: false };
            let listener = policy_listener(&observe, ledger.as_ref());
            resolver.with_policies(Policies::new(Arc::new(fetch), Some(Arc::new(store.kv()))).told_to(listener));
        }
        let bounces = Bounces::open(&config, Arc::new(store.kv()))?;
        let fetch = Https { resolver: resolver.clone(), tls: client_tls.clone(), plain: true };
        let options = courier_options(&config, &store, &bounces, ledger.clone(), fetch)?;
        let courier = start_courier(options, &store, &observe, &router, &resolver, client_tls.clone());
        let reports = ledger
            .map(|ledger| tls_reporter(&config, ledger, &store, &observe, &resolver, &courier, client_tls))
            .transpose()?;
        let verifier = Arc::new(ArcSwapOption::from_pointee(assemble::verifier(&config, &resolver)?));
        let services = Services {
            store: store.clone(),
            handoff: Arc::new(courier.clone()),
            router: router.clone(),
            credentials: Some(logins.clone()),
            verifier: verifier.clone(),
            dns: Arc::new(resolver.clone()),
            observer: observe.clone(),
        };
        let listeners = config.listeners.iter().zip(sockets.mail).map(|(listener, sockets)| Listener {
            name: listener.name.as_str().into(),
            sockets,
            rules: rules(&config, listener, &certificates, &plugins, &store, &tables),
        });
        let mut options =
            Options { sessions_max: Some(sessions_max(&config, open_files, &observe)), ..server_options(&config) };
        options.bounces = bounces.incoming();
        let server = Server::start(options, listeners.collect(), services)?;
        let desk = Desk {
            store: store.clone(),
            courier: Some(courier.clone()),
            table: bounces.table,
            suppression: bounces.suppression,
            tls_reports: reports.clone(),
        };
        let admin = start_admin(&config, sockets.admin, desk, &observe, &writer, &plugins)?;
        let config = ArcSwap::from_pointee(config);
        let site = Site {
            config,
            load: Box::new(load),
            observe,
            writer,
            level,
            store,
            certificates: ArcSwap::from_pointee(certificates),
            router,
            tables: ArcSwap::from_pointee(tables),
            logins,
            verifier,
            plugins,
            resolver,
            courier,
            server,
            recorder,
            admin,
            reports,
        };
        site.say_started();
        if let Some(reports) = &site.reports {
            tokio::spawn(reports.clone().run());
        }
        tokio::spawn(watch_dnssec(site.resolver.clone(), site.observe.clone()));
        Ok(site)
    }

    /// The configuration as it is now.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Whoever hears what happens.
    pub(crate) fn observe(&self) -> &Observe {
        &self.observe
    }

    fn say(&self, level: &'static str, message: &str) {
        self.observe.observe(Event::Notice { level, message });
    }

    fn say_started(&self) {
        let places: Vec<_> =
            self.server.addresses().iter().map(|(name, address)| format!("{name} {address}")).collect();
        let plugins: Vec<_> =
            self.plugins.plugins().into_iter().map(|plugin| format!("{} {}", plugin.name, plugin.version)).collect();
        let counts = self.store.counts();
        self.say(
            "info",
            &format!(
                "started: {}; plugins: {}; {} messages in the queue",
                places.join(", "),
                if plugins.is_empty() { "none".into() } else { plugins.join(", ") },
                counts.entries
            ),
        );
    }

    /// Reads the configuration again. With any mistake everything stays as it was, and all mistakes are said.
    async fn reload(&self) {
        match self.try_reload().await {
            Ok(restart) if restart.is_empty() => self.say("info", "reloaded"),
            Ok(restart) => {
                let text = format!("reloaded; these settings take effect at the next start: {}", restart.join(", "));
                self.say("warn", &text);
            }
            Err(error) => self.say("error", &format!("not reloaded, everything stays as it was: {error:#}")),
        }
    }

    async fn try_reload(&self) -> Result<Vec<String>> {
        let config = (self.load)().map_err(|mistakes| anyhow!("{mistakes}"))?;
        let running = self.config();
        let restart = config.needs_restart(&running);
        // Everything that can fail comes first; what follows cannot.
        let tables = routing::tables(&config)?;
        let router = routing::router(&config, &tables)?;
        let certificates = self.certificates.load().renewed(&config)?;
        let logins = self.logins.renewed(&config)?;
        let verifier = assemble::verifier(&config, &self.resolver)?;
        let plugins = self.plugins.clone();
        let mut ports = ports(&config, tables.clone(), &self.resolver, &self.store, &self.observe)?;
        ports.recorder = self.recorder.clone();
        let options = assemble::plugin_options(&config);
        tokio::task::spawn_blocking(move || plugins.reload(options, ports))
            .await?
            .map_err(|errors| plugin_errors(&errors))?;
        self.logins.put(logins);
        self.verifier.store(Some(Arc::new(verifier)));
        self.router.store(Arc::new(router));
        self.tables.store(Arc::new(tables.clone()));
        for listener in &config.listeners {
            // A listener that is new or gone is among `restart`.
            let rules = rules(&config, listener, &certificates, &self.plugins, &self.store, &tables);
            self.server.reload(&listener.name, rules);
        }
        self.certificates.store(Arc::new(certificates));
        self.courier.forget_plans();
        self.courier.wake();
        let _ = self.level.reload(filter_of(config.log.level));
        self.config.store(Arc::new(config));
        Ok(restart)
    }

    /// A certificate on disk has been renewed: new sessions get it, and nothing else is touched.
    fn renew_certificates(&self) {
        let config = self.config();
        match self.certificates.load().renewed(&config) {
            Ok(certificates) => {
                for listener in &config.listeners {
                    let tables = self.tables.load();
                    let rules = rules(&config, listener, &certificates, &self.plugins, &self.store, &tables);
                    self.server.reload(&listener.name, rules);
                }
                self.certificates.store(Arc::new(certificates));
                self.say("info", "certificates have changed on disk and were read again");
            }
            // Most likely half of a pair has been written; the next look will see the other half.
            Err(error) => self.say("warn", &format!("certificates have changed on disk and cannot be used: {error:#}")),
        }
    }

    /// Stops taking mail, lets sessions and deliveries end within the bound, makes the queue durable.
    async fn drain(&self) -> Result<()> {
        supervisor::stopping();
        self.say("info", "draining");
        let patience = self.config().shutdown_time;
        let cut_off = self.server.shutdown(patience).await;
        if cut_off > 0 {
            self.say("warn", &format!("{cut_off} sessions were cut off in the middle; none of them had a 250"));
        }
        self.courier.shutdown().await;
        if let Some(reports) = &self.reports {
            reports.save();
        }
        self.admin.iter().for_each(tokio::task::JoinHandle::abort);
        let closed = self.store.close().await;
        self.say("info", "stopped");
        self.writer.flush();
        closed.map_err(|error| anyhow!("the queue could not be closed: {error}"))
    }
}

/// Runs until a signal ends it.
pub(crate) async fn serve(site: Site) -> Result<()> {
    let listen = |kind| signal(kind).context("cannot listen to signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let mut look = tokio::time::interval(CERTIFICATES_LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => if site.certificates.load().are_stale() { site.renew_certificates() },
            _ = hangup.recv() => site.reload().await,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tokio::select! {
        result = site.drain() => result,
        () = either(&mut terminate, &mut interrupt) => bail!("ended at once by a second signal; what was accepted is in the queue"),
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

fn rules(
    config: &Config,
    listener: &waypost_config::model::Listener,
    tls: &Certificates,
    plugins: &Plugins,
    store: &RocksStore,
    tables: &NamedTables,
) -> Rules {
    let judge: Arc<dyn Judge> = match &listener.plugins {
        Some(names) => Arc::new(plugins.select(names)),
        None => Arc::new(plugins.clone()),
    };
    assemble::rules(config, listener, tls.of(listener), judge, Arc::new(store.kv()), tables)
}

/// Sessions that the limit of open files leaves room for, beside the queue's files, deliveries, and what the rest needs. A session has one
/// file, its connection. Said aloud if a listener would take more.
fn sessions_max(config: &Config, open_files: usize, observe: &Observe) -> usize {
    const REST: usize = 256;
    let others = usize::from(waypost_store_rocks::OPEN_FILES_MAX) + config.delivery.connections + REST;
    // Even where deliveries alone could take all: they seldom do, and mail must come in.
    let room = open_files.saturating_sub(others).max(open_files / 4);
    let wanted = config.listeners.iter().map(|listener| listener.connections).max().unwrap_or(0);
    if wanted > room {
        let message = format!(
            "the limit of {open_files} open files leaves room for {room} sessions, a listener would take {wanted}: raise the limit \
             (LimitNOFILE=, ulimit -n), or lower `listener.*.connections` or `delivery.connections`"
        );
        observe.observe(Event::Notice { level: "warn", message: &message });
    }
    room
}

pub(crate) fn server_options(config: &Config) -> Options {
    let mut options = Options::new(config.hostname.as_str());
    options.lifetime = config.queue.lifetime;
    options
}

fn ports(
    config: &Config,
    tables: NamedTables,
    resolver: &Resolver,
    store: &RocksStore,
    observe: &Arc<Observe>,
) -> Result<Ports> {
    Ok(Ports {
        dns: Arc::new(resolver.clone()),
        kv: Some(Arc::new(store.kv())),
        sign: Some(Arc::new(assemble::keys(config)?)),
        tables,
        fetch: None,
        recorder: None,
        observer: observe.clone(),
        now: Arc::new(now),
    })
}

async fn load_plugins(config: &Config, ports: Ports) -> Result<Plugins> {
    let options = assemble::plugin_options(config);
    let loaded = tokio::task::spawn_blocking(move || Plugins::load(options, ports)).await?;
    loaded.map_err(|errors| plugin_errors(&errors))
}

fn plugin_errors(errors: &[waypost_plugin::LoadError]) -> anyhow::Error {
    anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn start_courier(
    options: waypost_deliver::Options,
    store: &Arc<RocksStore>,
    observe: &Arc<Observe>,
    router: &Arc<ArcSwap<Router>>,
    resolver: &Resolver,
    tls: ClientTls,
) -> Courier {
    let services = waypost_deliver::Services {
        store: store.clone(),
        observer: observe.clone(),
        route: routing::route(router.clone()),
        expand: routing::expand(router.clone()),
        planner: Arc::new(resolver.clone()),
        tls,
    };
    Courier::start(options, services)
}

/// What delivery keeps and asks beside the queue.
fn courier_options(
    config: &Config,
    store: &RocksStore,
    bounces: &Bounces,
    ledger: Option<Arc<Ledger>>,
    fetch: Https,
) -> Result<waypost_deliver::Options> {
    let mut options = assemble::courier_options(config)?;
    bounces.outgoing(&mut options);
    options.kept = Some(Arc::new(store.kv()));
    options.sources = options.sources.counted_in(Arc::new(store.kv()));
    options.tls_sessions =
        ledger.map(|ledger| Arc::new(move |session| ledger.count(session, now())) as Arc<tls_report::Sessions>);
    options.fetch = Some(Arc::new(fetch));
    options.pipes = crate::pipes::socket(config);
    Ok(options)
}

/// The counters of TLS reports, if there are to be any.
fn open_ledger(config: &Config, store: &RocksStore) -> Result<Option<Arc<Ledger>>> {
    let opened = config.tls_report.send.then(|| Ledger::open(Arc::new(store.kv()))).transpose();
    Ok(opened.map_err(|error| anyhow!("the counters of TLS reports cannot be read: {error:?}"))?.map(Arc::new))
}

/// Policies that cannot be had are said, and counted where reports are.
fn policy_listener(observe: &Arc<Observe>, ledger: Option<&Arc<Ledger>>) -> Arc<waypost_resolve::mta_sts::Listener> {
    let (observe, ledger) = (observe.clone(), ledger.cloned());
    Arc::new(move |domain, fault, error| {
        observe.observe(Event::PolicyFailed { domain, fault: tls_report::Fault::from(fault).word(), error });
        if let Some(ledger) = &ledger {
            ledger.count(tls_reports::policy_failure(domain, fault, error), now());
        }
    })
}

fn tls_reporter(
    config: &Config,
    ledger: Arc<Ledger>,
    store: &Arc<RocksStore>,
    observe: &Arc<Observe>,
    resolver: &Resolver,
    courier: &Courier,
    tls: ClientTls,
) -> Result<Arc<TlsReports>> {
    let first = config.dkim.first().map(|dkim| &dkim.domain);
    let home = first.or(config.domains.own.first()).unwrap_or(&config.hostname);
    let from = match &config.tls_report.from {
        Some(from) => from.clone(),
        None => Address::new("tls-reports", Host::Name(home.clone()))?,
    };
    let key = config.dkim.iter().find(|dkim| from.domain() == Some(&dkim.domain)).map(|dkim| dkim.name.clone());
    let contact = config.tls_report.contact.clone().unwrap_or_else(|| format!("postmaster@{}", from.host()));
    let host = config.hostname.to_string();
    Ok(Arc::new(TlsReports {
        ledger,
        options: config.tls_report.clone(),
        reporter: Reporter { host, organization: from.host().to_string(), contact },
        keys: assemble::keys(config)?,
        key,
        from,
        lifetime: config.queue.notice_lifetime,
        resolver: resolver.clone(),
        fetch: Https { resolver: resolver.clone(), tls, plain: false },
        store: store.clone(),
        courier: courier.clone(),
        observe: observe.clone(),
    }))
}

fn start_admin(
    config: &Config,
    sockets: Vec<std::net::TcpListener>,
    desk: Desk,
    observe: &Arc<Observe>,
    writer: &Arc<Writer>,
    plugins: &Plugins,
) -> Result<Vec<tokio::task::JoinHandle<()>>> {
    let token = std::fs::read_to_string(config.data.join("admin-token")).context("the admin token")?;
    let admin = Arc::new(Admin {
        desk,
        observe: observe.clone(),
        writer: writer.clone(),
        plugins: plugins.clone(),
        token: token.trim().to_string(),
        hostname: config.hostname.to_string(),
    });
    let serve = |socket: std::net::TcpListener| -> Result<_> {
        socket.set_nonblocking(true)?;
        Ok(tokio::spawn(admin::serve(tokio::net::TcpListener::from_std(socket)?, admin.clone())))
    };
    sockets.into_iter().map(serve).collect()
}

/// Says loudly when DNSSEC cannot be had, because DANE is off then; and when it can be had again.
async fn watch_dnssec(resolver: Resolver, observe: Arc<Observe>) {
    let mut said = false;
    loop {
        match resolver.check_dnssec().await {
            Ok(()) if said => {
                observe.observe(Event::Notice { level: "info", message: "DNSSEC validates again: DANE is on" });
                return;
            }
            Ok(()) => return,
            Err(error) if !said => {
                observe.observe(Event::Notice { level: "warn", message: &error });
                said = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(DNSSEC_RETRY).await;
    }
}

/// A task that panics loses its session or delivery and nothing else; it is said, with its place.
fn count_panics(observe: Arc<Observe>) {
    std::panic::set_hook(Box::new(move |panic| {
        observe
            .observe(Event::Notice { level: "error", message: &format!("a task panicked, please report it: {panic}") });
    }));
}
