//! Tables and the router that is made of them, from the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use arc_swap::ArcSwap;
use waypost_config::Config;
use waypost_config::model::{self, MemoryTable, TableSource};
use waypost_deliver::options::{Expand, Route};
use waypost_ldap::{Filter, LdapTable, LdapTableOptions};
use waypost_route::{Canonical, DomainPattern, Lists, RelayDomain, Router, Srs, Tables};
use waypost_table::{ForwardFiles, RedisOptions, RedisTable, SqliteOptions, SqliteTable};
use waypost_types::port::Table;
use waypost_types::{Domain, Host, Soon};

use crate::logins::directory;
use crate::observe::now;

/// Tables by name.
pub(crate) type NamedTables = BTreeMap<String, Arc<dyn Table>>;

/// Opens every table that the configuration has. The error names the table.
pub(crate) fn tables(config: &Config) -> Result<NamedTables> {
    config.tables.iter().map(|table| Ok((table.name.clone(), open(table)?))).collect()
}

fn open(table: &model::Table) -> Result<Arc<dyn Table>> {
    Ok(match &table.source {
        TableSource::Memory(MemoryTable::Text(table)) => Arc::new(table.clone()),
        TableSource::Memory(MemoryTable::Cidr(table)) => Arc::new(table.clone()),
        TableSource::Memory(MemoryTable::Regexp(table)) => Arc::new(table.clone()),
        TableSource::Sqlite { file, query, timeout } => {
            let options = SqliteOptions { file: file.clone(), query: query.clone(), timeout: *timeout };
            Arc::new(SqliteTable::open(&table.name, options)?)
        }
        TableSource::Redis { server, user, password, database, prefix, timeout } => {
            let options = RedisOptions {
                server: server.clone(),
                user: user.clone(),
                password: password.clone(),
                database: *database,
                prefix: prefix.clone(),
                timeout: *timeout,
            };
            Arc::new(RedisTable::new(&table.name, options))
        }
        TableSource::Ldap(ldap) => Arc::new(LdapTable::new(&table.name, open_ldap(&table.name, ldap)?)),
    })
}

fn open_ldap(name: &str, ldap: &model::LdapTable) -> Result<LdapTableOptions> {
    let [server, cas, query] = ["server", "ca-file", "query"].map(|leaf| format!("table.{name}.{leaf}"));
    let filter = Filter::parse(&ldap.filter)
        .ok_or_else(|| anyhow!("{query}: {} is no filter: write it as RFC 4515 says, (mail=%s)", ldap.filter))?;
    Ok(LdapTableOptions {
        directory: directory(&ldap.url, ldap.start_tls, ldap.ca_file.as_ref(), [&server, &cas])?,
        base: ldap.base.clone(),
        filter,
        attribute: ldap.attribute.clone(),
        bind: ldap.bind.clone(),
        timeout: ldap.timeout,
    })
}

/// The tables that a setting names, in its order. That they are there was checked.
pub(crate) fn lists(tables: &NamedTables, names: &[String]) -> Lists {
    Lists::from(names.iter().filter_map(|name| tables.get(name).cloned()).collect::<Vec<_>>())
}

/// Where addresses lead.
pub(crate) fn router(config: &Config, tables: &NamedTables) -> Result<Router> {
    let list = |names: &[String]| lists(tables, names);
    let forwards = config.users.forward.as_deref().map(ForwardFiles::new);
    let tables = Tables {
        own: config.domains.own.iter().cloned().map(Host::Name).collect(),
        own_tables: list(&config.domains.own_tables),
        users: config.users.mailboxes.clone(),
        mailboxes: Vec::new(),
        mailbox_tables: list(&config.users.mailbox_tables),
        aliases: config.aliases.clone(),
        alias_tables: list(&config.alias_tables),
        forwards: Lists::from(forwards.map(|files| vec![Arc::new(files) as Arc<dyn Table>]).unwrap_or_default()),
        relay: config.domains.relay.iter().map(relay_domain).collect(),
        relay_tables: list(&config.domains.relay_tables),
        relay_recipients: list(&config.domains.relay_recipients),
        transports: config.transports.clone(),
        transport_tables: list(&config.delivery.transport_tables),
        canonical: Canonical {
            sender: list(&config.canonical.sender),
            recipient: list(&config.canonical.recipient),
            both: list(&config.canonical.both),
            headers: config.canonical.headers,
        },
        srs: config.srs.as_ref().map(srs).transpose()?,
        separators: config.users.separators.clone(),
        postmaster: None,
    };
    let told = |mistakes: Vec<waypost_route::Mistake>| {
        anyhow!(
            "{}",
            mistakes.iter().map(|mistake| format!("addresses: {}", mistake.text)).collect::<Vec<_>>().join("\n")
        )
    };
    tables.build().map_err(told)
}

fn relay_domain(domain: &Domain) -> RelayDomain {
    RelayDomain { pattern: DomainPattern { domain: domain.clone(), below: false }, recipients: None }
}

fn srs(srs: &model::Srs) -> Result<Srs> {
    let file = srs.key_file.display();
    let text = std::fs::read_to_string(&srs.key_file).with_context(|| format!("srs.key-file: {file}"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<Box<[u8]>> = lines.map(|line| line.as_bytes().into()).collect();
    ensure!(
        !keys.is_empty() && keys.iter().all(|key| key.len() >= 16),
        "srs.key-file: {file}: each line is a key of at least 16 characters; remove the file to have one made"
    );
    Ok(Srs { domain: srs.domain.clone(), keys, days_max: srs.days })
}

/// The way of a recipient, by the tables as they are when it is asked.
pub(crate) fn route(router: Arc<ArcSwap<Router>>) -> Arc<Route> {
    Arc::new(move |address| {
        let router = router.load_full();
        if let Soon::Now(hop) = router.next_hop(address) {
            return Soon::Now(hop);
        }
        let address = address.clone();
        Soon::Later(Box::pin(async move { router.next_hop(&address).get().await }))
    })
}

/// Where a report goes: aliases and rewritten senders undone.
pub(crate) fn expand(router: Arc<ArcSwap<Router>>) -> Arc<Expand> {
    let leads = |resolution: waypost_route::Resolution| resolution.leads.into_iter().map(|leaf| leaf.address).collect();
    Arc::new(move |address| {
        let router = router.load_full();
        if let Soon::Now(resolution) = router.resolve(address, now()) {
            return Soon::Now(leads(resolution));
        }
        let address = address.clone();
        Soon::Later(Box::pin(async move { leads(router.resolve(&address, now()).get().await) }))
    })
}
