//! What the values mean together: conflicts, files that belong together, dangers; and the [`Config`] made of a sheet without mistakes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use waypost_route::TransportKey;
use waypost_types::{Address, Domain, Transport};

use crate::Surroundings;
use crate::auth;
use crate::mistake::{Mistake, Place, nearest};
use crate::model::{
    AuthMode, Canonical, Config, Delivery, DkimKey, Dmarc, Dns, Domains, Greylist, Listener, Log, Pipe, Plugin, Post,
    Queue, Record, Smarthost, Source, Srs, Table, Tls, TlsMode, TlsReport, Users,
};
use crate::sheet::Sheet;
use crate::table::{Account, read_users};
use crate::value::parse_network;
use crate::{aliases, checks, decision, lookup};

/// The settings that name tables.
const TABLE_SETTINGS: &[&str] = &[
    "domains.own-tables",
    "domains.relay-tables",
    "domains.relay-recipients",
    "users.mailbox-tables",
    "aliases.tables",
    "canonical.sender",
    "canonical.recipient",
    "canonical.both",
    "delivery.transport-tables",
];

/// Checks the sheet as a whole and makes the configuration of it. The mistakes include those that are there already.
pub(crate) fn check(
    sheet: Sheet,
    surroundings: &Surroundings,
    mut mistakes: Vec<Mistake>,
) -> Result<Config, Vec<Mistake>> {
    let mut check = Check { sheet: &sheet, surroundings, mistakes: &mut mistakes, notes: Vec::new() };
    let parts = check.everything();
    let notes = check.notes;
    match parts {
        Some(parts) if mistakes.is_empty() => Ok(build(sheet, parts, notes)),
        _ => Err(mistakes),
    }
}

/// What had to be worked out.
struct Parts {
    hostname: Domain,
    data: PathBuf,
    accounts: Vec<Account>,
    aliases: Vec<waypost_route::Alias>,
    transports: Vec<(TransportKey, waypost_route::Transport)>,
    tables: Vec<Table>,
    shaping: Vec<crate::shaping::Provider>,
    plugins: Vec<(String, PathBuf)>,
    mailboxes: Vec<String>,
    bounces: crate::model::Bounces,
}

struct Check<'a> {
    sheet: &'a Sheet,
    surroundings: &'a Surroundings,
    mistakes: &'a mut Vec<Mistake>,
    notes: Vec<String>,
}

impl Check<'_> {
    fn everything(&mut self) -> Option<Parts> {
        let hostname = self.hostname();
        self.domains();
        self.listeners();
        self.sockets();
        self.tls();
        self.relay();
        self.greylist();
        self.queue();
        self.dkim();
        auth::check(self.sheet, self.mistakes, &mut self.notes);
        let data = self.sheet.path("data")?.to_path_buf();
        let accounts = self.accounts(&data);
        let mailboxes = self.mailboxes(&accounts);
        let aliases = self.aliases(&mailboxes);
        let transports = self.transports();
        self.table_names();
        checks::check(self.sheet, self.mistakes);
        if self.sheet.weight("record.share").is_some_and(|share| !(0.0..=100.0).contains(&share)) {
            self.mistake("record.share", "`record.share` is no percentage", "write 0 to 100; 0 records nothing");
        }
        decision::check(self.sheet, self.mistakes);
        let tables = lookup::tables(self.sheet, self.mistakes);
        self.sources();
        self.posts();
        self.pipes();
        self.tls_report();
        let shaping = crate::shaping::with_file(self.sheet.path("delivery.shaping"), self.mistakes);
        let bounces = crate::bounces::check(self.sheet, &data, self.mistakes);
        let plugins = self.plugins(&data);
        let hostname = hostname?;
        Some(Parts { hostname, data, accounts, aliases, transports, tables, shaping, plugins, mailboxes, bounces })
    }

    fn mistake(&mut self, path: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.sheet.place(path), problem, remedy));
    }

    fn hostname(&mut self) -> Option<Domain> {
        let given = self.sheet.domain("hostname").cloned();
        let machine = || self.surroundings.hostname.as_deref().and_then(|name| Domain::parse(name).ok());
        let remedy = "write `hostname = \"mail.example.com\"`: the name whose address record leads to this machine";
        match given.clone().or_else(machine) {
            Some(name) if name.is_qualified() => Some(name),
            Some(name) if given.is_some() => {
                self.mistake("hostname", format!("`hostname`: {name} is no full name"), remedy);
                None
            }
            _ if self.sheet.is_misread("hostname") => None,
            _ => {
                self.mistake("hostname", "`hostname` is missing, and the machine's own name has no dot", remedy);
                None
            }
        }
    }

    fn domains(&mut self) {
        let (own, relay) = (self.sheet.domains("domains.own"), self.sheet.domains("domains.relay"));
        for domain in own.iter().filter(|domain| relay.contains(domain)) {
            let problem = format!("{domain} stands in `domains.own` and in `domains.relay`");
            self.mistake(
                "domains.relay",
                problem,
                "own: mail ends here in mailboxes; relay: it is passed on; choose one",
            );
        }
    }

    fn listeners(&mut self) {
        if self.sheet.names("listener").is_empty() {
            let remedy = "add a section such as\n      [listener.mx]\n      preset = \"mx\"\n      bind = \"*:25\"";
            self.mistake("", "there is no listener", remedy);
        }
        for (name, place) in self.sheet.names("listener").to_vec() {
            self.listener(&name, place);
            self.proxies(&name);
        }
    }

    fn listener(&mut self, name: &str, place: Place) {
        let at = |leaf: &str| format!("listener.{name}.{leaf}");
        let (tls, auth) = (self.sheet.word(&at("tls")), self.sheet.word(&at("auth")));
        if tls == Some("none") && auth.is_some_and(|auth| auth != "off") {
            let problem = format!("`{}` without TLS: passwords would cross the network in the clear", at("auth"));
            self.mistake(&at("tls"), problem, "set tls to opportunistic, required or implicit, or auth to off");
        }
        let relay = self.sheet.word(&at("relay")).unwrap_or("nobody");
        if relay.contains("users") && auth == Some("off") {
            let problem = format!("`{}` lets users relay, but nobody can log in on this port", at("relay"));
            self.mistake(&at("auth"), problem, "set auth to offered or required, or relay to networks or nobody");
        }
        if self.sheet.word(&at("preset")) == Some("relay") && self.sheet.networks("relay.networks").is_empty() {
            let problem = format!("[listener.{name}] relays for own networks, but there are none");
            self.mistakes.push(Mistake::new(place, problem, "list them: [relay] networks = [\"192.0.2.0/24\"]"));
        }
        let chain = self.sheet.texts("plugins.chain").unwrap_or_default();
        for plugin in self.sheet.texts(&at("plugins")).unwrap_or_default() {
            if !chain.contains(&plugin) {
                let problem = format!("`{}` names {plugin}, which is not in `plugins.chain`", at("plugins"));
                self.mistake(&at("plugins"), problem, did_you_mean(plugin, &chain, "add it to the chain"));
            }
        }
    }

    /// No port twice.
    fn sockets(&mut self) {
        let names = self.sheet.names("listener").iter().map(|(name, _)| format!("listener.{name}.bind"));
        let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
        for path in names.chain(["admin.bind".to_string()]) {
            for socket in self.sheet.sockets(&path) {
                if socket.port() == 0 {
                    continue;
                }
                if let Some(other) = taken.insert(socket, path.clone()) {
                    let problem = format!("{socket} stands in `{path}` and in `{other}`");
                    self.mistake(&path, problem, "give each its own port");
                }
            }
        }
        if self.sheet.sockets("admin.bind").iter().any(|socket| !socket.ip().is_loopback()) {
            self.notes.push(
                "admin.bind is not on loopback: whoever reaches it can read senders, recipients and replies".into(),
            );
        }
    }

    fn tls(&mut self) {
        self.pairs("tls.certificate", "tls.key");
        self.suites("tls.ciphers", "tls.version-min");
        let listeners: Vec<String> = self.sheet.names("listener").iter().map(|(name, _)| name.clone()).collect();
        let mut unnamed = false;
        for name in &listeners {
            let at = |leaf: &str| format!("listener.{name}.{leaf}");
            self.pairs(&at("tls-certificate"), &at("tls-key"));
            self.suites(&at("tls-ciphers"), &at("tls-version-min"));
            let none = self.sheet.word(&at("tls")) == Some("none");
            unnamed |= !none && self.sheet.paths(&at("tls-certificate")).is_none();
        }
        if unnamed && self.sheet.paths("tls.certificate").is_none_or(|paths| paths.is_empty()) {
            self.notes.push("tls.certificate is not set: a self-signed certificate is used".into());
        }
    }

    /// A key for each certificate.
    fn pairs(&mut self, certificate: &str, key: &str) {
        let count = |path| self.sheet.paths(path).map_or(0, |paths| paths.len());
        let (certificates, keys) = (count(certificate), count(key));
        if certificates != keys && !self.sheet.is_misread(certificate) && !self.sheet.is_misread(key) {
            let place = if keys == 0 { certificate } else { key };
            let problem = format!("{certificates} certificates but {keys} keys");
            self.mistake(place, problem, format!("list one key for each of `{certificate}`, in the same order"));
        }
    }

    /// Suites that nobody can use shut everybody out.
    fn suites(&mut self, ciphers: &str, version: &str) {
        let only_1_3 = self.sheet.word(version).or(self.sheet.word("tls.version-min")) == Some("1.3");
        let named = self.sheet.texts(ciphers).unwrap_or_default();
        if only_1_3 && !named.is_empty() && named.iter().all(|name| name.starts_with("TLS_ECDHE_")) {
            let problem = format!("`{ciphers}` names only suites of TLS 1.2, and only TLS 1.3 is allowed");
            self.mistake(ciphers, problem, "add TLS_AES_256_GCM_SHA384, or allow version 1.2");
        }
    }

    fn relay(&mut self) {
        for network in self.sheet.networks("relay.networks").iter().filter(|network| network.prefix_len() == 0) {
            let problem = format!("`relay.networks` holds {network}: an open relay for the whole Internet");
            self.mistake(
                "relay.networks",
                problem,
                "list only networks of your own; users log in on a submission port",
            );
        }
    }

    fn greylist(&mut self) {
        if self.sheet.span("greylist.delay") >= self.sheet.span("greylist.window") {
            let problem =
                "`greylist.window` is not longer than `greylist.delay`: whoever waits long enough is forgotten";
            self.mistake("greylist.window", problem, "make the window at least some hours");
        }
        for sender in self.sheet.texts("greylist.senders").unwrap_or_default() {
            let ok = match sender.contains('@') {
                true => Address::parse(sender).is_ok(),
                false => Domain::parse(sender).is_ok(),
            };
            if !ok {
                let problem = format!("`greylist.senders`: `{sender}` is no address and no domain");
                self.mistake("greylist.senders", problem, "write user@example.com or example.com");
            }
        }
    }

    /// Who is believed about who the client is, and what is not offered to whom.
    fn proxies(&mut self, name: &str) {
        for leaf in ["proxy-protocol", "xclient"] {
            let path = format!("listener.{name}.{leaf}");
            for network in self.sheet.networks(&path).iter().filter(|network| network.prefix_len() == 0) {
                let problem = format!("`{path}` holds {network}: anybody could pass for any client");
                self.mistake(&path, problem, "list only the addresses of your own balancers and proxies");
            }
        }
        let path = format!("listener.{name}.mask-for");
        for (network, _, place) in self.sheet.map(&path) {
            if parse_network(network).is_err() {
                let problem = format!("`{path}`: `{network}` is no network");
                self.mistakes.push(Mistake::new(place.clone(), problem, "write 192.0.2.0/24 or 2001:db8::/32"));
            }
        }
        let (mask, bind) = (format!("listener.{name}.mask"), format!("listener.{name}.bind"));
        let masked = self.sheet.texts(&mask).unwrap_or_default();
        if masked.contains(&"STARTTLS") && self.sheet.word(&format!("listener.{name}.tls")) == Some("required") {
            let problem = format!("`{mask}` hides STARTTLS, without which nothing is taken on this port");
            self.mistake(&mask, problem, "leave STARTTLS out of the mask, or set tls to none");
        }
        let port_25 = self.sheet.sockets(&bind).iter().any(|socket| socket.port() == 25);
        if port_25 && self.sheet.word(&format!("listener.{name}.preset")) == Some("lmtp") {
            let problem =
                format!("[listener.{name}] speaks LMTP on port 25, where hosts expect SMTP (RFC 2033 section 5)");
            self.mistake(&bind, problem, "use port 24 or any other for LMTP");
        }
    }

    fn queue(&mut self) {
        if self.sheet.span("queue.retry-first") > self.sheet.span("queue.retry-max") {
            self.mistake("queue.retry-first", "`queue.retry-first` is longer than `queue.retry-max`", "swap them");
        }
        if self.sheet.word("queue.durability") == Some("os") {
            self.notes.push("queue.durability = \"os\": a power cut loses mail that was acknowledged".into());
        }
        let forward = self.sheet.text("users.forward").unwrap_or_default();
        if !forward.is_empty() && forward.matches("{mailbox}").count() != 1 {
            let problem = format!("`users.forward`: {forward:?} does not say whose file it is");
            self.mistake("users.forward", problem, "write {mailbox} once, as in \"/home/{mailbox}/.forward\"");
        }
        let separators = self.sheet.text("users.separator").unwrap_or_default();
        if separators.chars().any(|c| !"+-=_#%&/!*".contains(c)) {
            let problem = format!("`users.separator`: {separators:?} has a character that cannot part a name");
            self.mistake("users.separator", problem, "write \"+\", \"-\", \"+-\" or \"\"");
        }
    }

    fn dkim(&mut self) {
        let mut taken = BTreeMap::new();
        for (name, place) in self.sheet.names("dkim").to_vec() {
            let domain = self.sheet.domain(&format!("dkim.{name}.domain")).cloned();
            let selector = self.sheet.text(&format!("dkim.{name}.selector"));
            if let (Some(domain), Some(selector)) = (domain, selector)
                && let Some(other) = taken.insert((domain, selector), name.clone())
            {
                let problem = format!("[dkim.{name}] and [dkim.{other}] have the same domain and selector");
                self.mistakes.push(Mistake::new(place, problem, "give each key a selector of its own"));
            }
        }
    }

    fn accounts(&mut self, data: &Path) -> Vec<Account> {
        let file = users_file(self.sheet, data);
        let named = self.sheet.is_given("users.file").then(|| self.sheet.place("users.file"));
        read_users(&file, named, self.mistakes)
    }

    fn mailboxes(&mut self, accounts: &[Account]) -> Vec<String> {
        let further = self.sheet.texts("users.mailboxes").unwrap_or_default().into_iter().map(str::to_string);
        let mut names: Vec<String> = accounts.iter().map(|account| account.name.clone()).chain(further).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Mailboxes that only tables know make every name a possible one.
    fn aliases(&mut self, mailboxes: &[String]) -> Vec<waypost_route::Alias> {
        let given = |path| !self.sheet.texts(path).unwrap_or_default().is_empty();
        let open = given("users.mailbox-tables") || given("aliases.tables");
        aliases::read(self.sheet, mailboxes, open, self.mistakes, &mut self.notes)
    }

    /// Tables that settings name, and the domain of rewritten senders.
    fn table_names(&mut self) {
        for path in TABLE_SETTINGS {
            lookup::named(self.sheet, path, self.mistakes);
        }
        if self.sheet.flag("srs.enabled") != Some(true) {
            return;
        }
        let own = self.sheet.domains("domains.own");
        match self.sheet.domain("srs.domain") {
            Some(domain)
                if !own.contains(domain) && self.sheet.texts("domains.own-tables").unwrap_or_default().is_empty() =>
            {
                let problem = format!("`srs.domain`: {domain} is no domain of our own, so bounces would not come here");
                self.mistake("srs.domain", problem, "name one of `domains.own`");
            }
            None if own.is_empty() => {
                self.mistake(
                    "srs.enabled",
                    "`srs` needs a domain of our own for rewritten senders",
                    "set `srs.domain`",
                );
            }
            _ => {}
        }
    }

    fn transports(&mut self) -> Vec<(TransportKey, waypost_route::Transport)> {
        let mut transports = Vec::new();
        for (key, targets, place) in self.sheet.map("transport") {
            let mut wrong =
                |problem: String, remedy: &str| self.mistakes.push(Mistake::new(place.clone(), problem, remedy));
            let pattern = key.parse::<TransportKey>();
            if pattern.is_err() {
                let remedy =
                    "write \"example.com\", \".example.com\" for what is below it, \"user@example.com\", or \"*\"";
                wrong(format!("`{key}` is no domain"), remedy);
            }
            let target = targets.join(", ").parse::<waypost_route::Transport>();
            if let Err(why) = &target {
                let remedy = "write one of mx, smtp:[HOST]:PORT, smtp:DOMAIN, lmtp:ADDRESS:PORT, post:NAME, pipe:NAME, fail:WORDS";
                wrong(format!("transport for `{key}`: {why}"), remedy);
            }
            if let Some((kind, name)) = section_of(target.as_ref().ok())
                && !self.sheet.names(kind).iter().any(|(known, _)| known == name)
            {
                let remedy = format!("write a section [{kind}.{name}]");
                wrong(format!("transport for `{key}`: there is no [{kind}.{name}]"), &remedy);
            }
            transports.extend(pattern.ok().zip(target.ok()));
        }
        transports
    }

    fn tls_report(&mut self) {
        let keys: Vec<Domain> = self
            .sheet
            .names("dkim")
            .iter()
            .filter_map(|(name, _)| self.sheet.domain(&format!("dkim.{name}.domain")).cloned())
            .collect();
        let from = self.sheet.text("tls-report.from").map(|text| (text.to_string(), Address::parse(text)));
        match from {
            Some((text, Err(_))) => {
                self.mistake(
                    "tls-report.from",
                    format!("`tls-report.from`: `{text}` is no address"),
                    "write tls-reports@example.com",
                );
            }
            Some((text, Ok(address))) if !keys.iter().any(|key| address.domain() == Some(key)) => {
                let problem = format!("`tls-report.from`: there is no DKIM key of the domain of {text}");
                self.mistake(
                    "tls-report.from",
                    problem,
                    "reports by mail must be signed: add a section [dkim.NAME] for it",
                );
            }
            None if self.sheet.flag("tls-report.send") == Some(true) && keys.is_empty() => {
                self.notes.push("tls-report.send without any [dkim.*]: reports by mail must be signed, so only those over HTTPS are sent".into());
            }
            _ => {}
        }
    }

    fn pipes(&mut self) {
        for (name, _) in self.sheet.names("pipe").to_vec() {
            let path = format!("pipe.{name}.command");
            let command = self.sheet.texts(&path).unwrap_or_default();
            let program = command.first().copied().unwrap_or_default().to_string();
            if !self.sheet.is_given(&path) {
                continue;
            }
            let found = std::fs::metadata(&program);
            let executable = found.is_ok_and(|found| {
                found.is_file() && std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o111 != 0
            });
            if !program.starts_with('/') || !executable {
                let problem = format!("`{path}`: `{program}` is no program");
                self.mistake(&path, problem, "name it by its whole path, and see that it can be executed");
            }
        }
    }

    fn posts(&mut self) {
        for (name, _) in self.sheet.names("post").to_vec() {
            let path = format!("post.{name}.url");
            let url = self.sheet.text(&path).unwrap_or_default().to_string();
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let place = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
            let good = !place.is_empty() && !url.chars().any(|c| c.is_whitespace() || c.is_control());
            if !good && self.sheet.is_given(&path) {
                self.mistake(&path, format!("`{path}`: `{url}` is no address"), "write https://host/path");
            }
            if url.starts_with("http://")
                && !["127.0.0.1", "localhost", "[::1]"].iter().any(|near| place.starts_with(near))
            {
                self.notes.push(format!("{path} is not over HTTPS: whoever is on the way reads and changes the mail"));
            }
        }
    }

    /// One address of each family, each a single one.
    fn sources(&mut self) {
        for (name, _) in self.sheet.names("source").to_vec() {
            let path = format!("source.{name}.address");
            let all = self.sheet.networks(&path);
            for network in all.iter().filter(|network| network.prefix_len() != network.max_prefix_len()) {
                self.mistake(&path, format!("`{path}`: {network} is a range"), "write one address");
            }
            let at = |leaf: &str| format!("source.{name}.{leaf}");
            if self.sheet.socket(&at("socks")).is_some() && self.sheet.socket(&at("proxy")).is_some() {
                self.mistake(&at("proxy"), format!("[source.{name}] has both socks and proxy"), "choose one");
            }
            let warm = !self.sheet.numbers(&at("warm-up")).is_empty();
            let since = self.sheet.text(&at("since")).map(day_number);
            match since {
                Some(None) => {
                    let problem = format!("`{}` is no day", at("since"));
                    self.mistake(&at("since"), problem, "write it as 2026-11-24");
                }
                None if warm => {
                    let problem = format!("`{}` does not know when it begins", at("warm-up"));
                    self.mistake(&at("warm-up"), problem, "add since = \"2026-11-24\", its first day");
                }
                _ => {}
            }
            let of = |v4: bool| all.iter().filter(|network| network.addr().is_ipv4() == v4).count();
            if of(true) > 1 || of(false) > 1 {
                let remedy = "one of IPv4 and one of IPv6 at most; write a further [source.NAME] for each other";
                self.mistake(&path, format!("`{path}`: two addresses of one family"), remedy);
            }
        }
    }

    /// The plugins of the chain and their files.
    fn plugins(&mut self, data: &Path) -> Vec<(String, PathBuf)> {
        let chain: Vec<String> =
            self.sheet.texts("plugins.chain").unwrap_or_default().into_iter().map(str::to_string).collect();
        for (name, _) in self.sheet.names("plugin").to_vec() {
            if !chain.contains(&name) {
                self.notes.push(format!("[plugin.{name}] is set up but not in plugins.chain: it is not asked"));
            }
            self.plugin_names(&name, "keys", "dkim");
            self.plugin_names(&name, "tables", "table");
        }
        let folders = self.sheet.paths("plugins.folders").unwrap_or_else(|| {
            std::iter::once(data.join("plugins")).chain(self.surroundings.plugin_folders.iter().cloned()).collect()
        });
        let mut found = Vec::new();
        for name in chain {
            if let Some(path) = self.plugin_path(&name, &folders) {
                found.push((name, path));
            }
        }
        found
    }

    fn plugin_path(&mut self, name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
        let setting = format!("plugin.{name}.path");
        if let Some(path) = self.sheet.path(&setting) {
            return Some(path.to_path_buf());
        }
        let files = [format!("waypost_plugin_{}.wasm", name.replace('-', "_")), format!("{name}.wasm")];
        let candidates = folders.iter().flat_map(|folder| files.iter().map(move |file| folder.join(file)));
        let found = candidates.into_iter().find(|path| path.is_file());
        if found.is_none() && self.surroundings.plugins_required {
            let places: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
            let problem = format!("the plugin {name} is not there: no {} in {}", files.join(" or "), places.join(", "));
            let remedy = format!(
                "build it (`make plugins`), put it there, say where it is with `{setting}`, or take it out of `plugins.chain`"
            );
            self.mistake("plugins.chain", problem, remedy);
        }
        found
    }

    /// What a plugin is granted by name must be there: keys and tables.
    fn plugin_names(&mut self, plugin: &str, leaf: &str, container: &str) {
        let path = format!("plugin.{plugin}.{leaf}");
        let known: Vec<&str> = self.sheet.names(container).iter().map(|(name, _)| name.as_str()).collect();
        for name in self.sheet.texts(&path).unwrap_or_default().into_iter().filter(|name| !known.contains(name)) {
            let remedy = did_you_mean(name, &known, &format!("add a section [{container}.{name}]"));
            let problem = format!("`{path}` names {name}, but there is no [{container}.{name}]");
            self.mistakes.push(Mistake::new(self.sheet.place(&path), problem, remedy));
        }
    }
}

/// The section that a transport names.
fn section_of(target: Option<&waypost_route::Transport>) -> Option<(&'static str, &str)> {
    match target? {
        waypost_route::Transport::To(waypost_route::NextHop::Post(name)) => Some(("post", name)),
        waypost_route::Transport::To(waypost_route::NextHop::Pipe(name)) => Some(("pipe", name)),
        _ => None,
    }
}

fn did_you_mean(word: &str, known: &[&str], otherwise: &str) -> String {
    match nearest(word, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`? Otherwise {otherwise}"),
        None => otherwise.to_string(),
    }
}

fn users_file(sheet: &Sheet, data: &Path) -> PathBuf {
    sheet.path("users.file").map_or_else(|| data.join("users"), Path::to_path_buf)
}

const CHECKED: &str = "a sheet without mistakes holds every value that is required or has a default";

fn build(sheet: Sheet, parts: Parts, notes: Vec<String>) -> Config {
    let s = &sheet;
    let number = |path: &str| s.number(path).expect(CHECKED);
    let span = |path: &str| s.span(path).expect(CHECKED);
    let word = |path: &str| s.word(path).expect(CHECKED);
    let names = |path: &str| s.texts(path).unwrap_or_default().into_iter().map(str::to_string).collect::<Vec<_>>();
    let mail = s.path("users.mail").map_or_else(|| parts.data.join("mail"), Path::to_path_buf);
    Config {
        shutdown_time: span("shutdown-time"),
        domains: Domains {
            own: s.domains("domains.own"),
            relay: s.domains("domains.relay"),
            own_tables: names("domains.own-tables"),
            relay_tables: names("domains.relay-tables"),
            relay_recipients: names("domains.relay-recipients"),
        },
        listeners: s.names("listener").iter().map(|(name, _)| build_listener(s, name)).collect(),
        users: Users {
            file: users_file(s, &parts.data),
            accounts: parts.accounts,
            mailboxes: parts.mailboxes,
            mail: mail.clone(),
            mbox: word("users.format") == "mbox",
            separators: s.text("users.separator").unwrap_or_default().to_string(),
            forward: s.text("users.forward").filter(|text| !text.is_empty()).map(|text| mail.join(text)),
            mailbox_tables: names("users.mailbox-tables"),
        },
        auth: auth::build(s),
        aliases: parts.aliases,
        alias_tables: names("aliases.tables"),
        canonical: Canonical {
            sender: names("canonical.sender"),
            recipient: names("canonical.recipient"),
            both: names("canonical.both"),
            headers: s.flag("canonical.headers").expect(CHECKED),
        },
        srs: build_srs(s, &parts.data),
        relay_networks: s.networks("relay.networks"),
        transports: parts.transports,
        queue: Queue {
            sync: word("queue.durability") == "sync",
            lifetime: span("queue.lifetime"),
            notice_lifetime: span("queue.notice-lifetime"),
            retry_first: span("queue.retry-first"),
            retry_max: span("queue.retry-max"),
            delay_report: Some(span("queue.delay-report")).filter(|span| !span.is_zero()),
            messages: number("queue.messages"),
            free_space: number("queue.free-space"),
        },
        delivery: Delivery {
            connections: number("delivery.connections") as usize,
            connections_per_destination: number("delivery.connections-per-destination") as usize,
            messages_per_connection: number("delivery.messages-per-connection") as u32,
            connect_timeout: span("delivery.connect-timeout"),
            roots: s.path("delivery.roots").map(Path::to_path_buf),
            mta_sts: s.flag("delivery.mta-sts").expect(CHECKED),
            shaping: parts.shaping,
            transport_tables: names("delivery.transport-tables"),
        },
        greylist: s.flag("greylist.enabled").expect(CHECKED).then(|| build_greylist(&sheet)),
        greylist_by_score: build_greylist(&sheet),
        decisions: decision::build(s),
        record: Record {
            share: s.weight("record.share").expect(CHECKED),
            messages: number("record.messages") as usize,
            size: number("record.size"),
            mask: s.words("record.mask"),
        },
        sources: s.names("source").iter().map(|(name, _)| build_source(s, name)).collect(),
        pipes: s.names("pipe").iter().map(|(name, _)| build_pipe(s, name)).collect(),
        posts: s.names("post").iter().map(|(name, _)| build_post(s, name)).collect(),
        smarthosts: s.names("smarthost").iter().map(|(name, _)| build_smarthost(s, name)).collect(),
        dns: Dns {
            servers: s.sockets("dns.servers"),
            dnssec: s.flag("dns.dnssec").expect(CHECKED),
            timeout: span("dns.timeout"),
        },
        plugins: parts.plugins.into_iter().map(|(name, path)| build_plugin(s, name, path)).collect(),
        tables: parts.tables,
        dkim: s.names("dkim").iter().map(|(name, _)| build_dkim(s, name, &parts.data)).collect(),
        dmarc: Dmarc {
            enforce: word("dmarc.policy") == "enforce",
            hold: word("dmarc.quarantine") == "hold",
            trusted_sealers: s.domains("dmarc.trusted-sealers"),
        },
        bounces: parts.bounces,
        tls_report: TlsReport {
            send: s.flag("tls-report.send").expect(CHECKED),
            from: s.text("tls-report.from").map(|text| Address::parse(text).expect(CHECKED)),
            contact: s.text("tls-report.contact").map(str::to_string),
            delay_max: span("tls-report.delay-max"),
        },
        admin: s.sockets("admin.bind"),
        log: Log { format: word("log.format"), level: word("log.level") },
        user: s.text("security.user").map(str::to_string),
        confine: s.flag("security.confine").expect(CHECKED),
        hostname: parts.hostname,
        data: parts.data,
        notes,
        sheet,
    }
}

fn strings(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_string).collect()
}

fn mask_for(s: &Sheet, path: &str) -> Vec<(ipnet::IpNet, Vec<String>)> {
    s.map(path)
        .into_iter()
        .map(|(network, words, _)| (parse_network(network).expect(CHECKED), strings(words)))
        .collect()
}

fn build_greylist(s: &Sheet) -> Greylist {
    let span = |path| s.span(path).expect(CHECKED);
    let senders = s.texts("greylist.senders").unwrap_or_default();
    let (addresses, domains): (Vec<&str>, Vec<&str>) = senders.into_iter().partition(|sender| sender.contains('@'));
    Greylist {
        delay: span("greylist.delay"),
        window: span("greylist.window"),
        lifetime: span("greylist.remember"),
        addresses: addresses.iter().map(|text| Address::parse(text).expect(CHECKED)).collect(),
        domains: domains.iter().map(|text| Domain::parse(text).expect(CHECKED)).collect(),
        networks: s.networks("greylist.networks"),
    }
}

fn build_srs(s: &Sheet, data: &Path) -> Option<Srs> {
    if s.flag("srs.enabled") != Some(true) {
        return None;
    }
    let domain = s.domain("srs.domain").cloned().or_else(|| s.domains("domains.own").into_iter().next());
    Some(Srs {
        domain: domain.expect(CHECKED),
        key_file: s.path("srs.key-file").map_or_else(|| data.join("srs-key"), Path::to_path_buf),
        days: s.number("srs.days").expect(CHECKED) as u16,
    })
}

fn build_listener(s: &Sheet, name: &str) -> Listener {
    let at = |leaf: &str| format!("listener.{name}.{leaf}");
    let number = |leaf: &str| s.number(&at(leaf)).expect(CHECKED);
    let span = |leaf: &str| s.span(&at(leaf)).expect(CHECKED);
    let word = |leaf: &str| s.word(&at(leaf)).expect(CHECKED);
    let transport = match word("preset") {
        "mx" => Transport::Mx,
        "submission" => Transport::Submission,
        "submissions" => Transport::Submissions,
        "lmtp" => Transport::Lmtp,
        _ => Transport::Relay,
    };
    Listener {
        name: name.to_string(),
        checks: checks::build(s, name, transport),
        transport,
        bind: s.sockets(&at("bind")),
        tls: match word("tls") {
            "none" => TlsMode::None,
            "opportunistic" => TlsMode::Opportunistic,
            "required" => TlsMode::Required,
            _ => TlsMode::Implicit,
        },
        tls_policy: build_tls(s, name),
        auth: match word("auth") {
            "off" => AuthMode::Off,
            "offered" => AuthMode::Offered,
            _ => AuthMode::Required,
        },
        sender_must_match_login: s.flag(&at("sender-must-match-login")).expect(CHECKED),
        relay_users: word("relay").contains("users"),
        relay_networks: word("relay").contains("networks"),
        message_size: number("message-size"),
        recipients: number("recipients") as usize,
        messages: number("messages") as u32,
        errors: number("errors") as u32,
        command_timeout: span("command-timeout"),
        data_timeout: span("data-timeout"),
        connections: number("connections") as usize,
        connections_per_address: number("connections-per-address") as usize,
        connections_per_minute: number("connections-per-minute") as u32,
        messages_per_minute: number("messages-per-minute") as u32,
        recipients_per_minute: number("recipients-per-minute") as u32,
        client_prefix: (number("client-prefix-v4") as u8, number("client-prefix-v6") as u8),
        pressure: number("pressure") as u8,
        greeting_delay: span("greeting-delay"),
        refuse_haste: word("haste") == "refuse",
        refuse_bare_newlines: word("bare-newlines") == "refuse",
        tarpit: span("tarpit"),
        mask: strings(s.texts(&at("mask")).unwrap_or_default()),
        mask_for: mask_for(s, &at("mask-for")),
        offer: strings(s.texts(&at("offer")).unwrap_or_default()),
        hold_max: span("hold-max"),
        balancers: s.networks(&at("proxy-protocol")),
        proxies: s.networks(&at("xclient")),
        plugins: s.texts(&at("plugins")).map(|names| names.into_iter().map(str::to_string).collect()),
    }
}

/// What the port says, and `[tls]` where it is silent.
fn build_tls(s: &Sheet, listener: &str) -> Tls {
    let own = |leaf: &str| format!("listener.{listener}.tls-{leaf}");
    let common = |leaf: &str| format!("tls.{leaf}");
    let port = |leaf: &str| format!("listener.{listener}.{leaf}");
    let paths = |path: String| s.paths(&path).into_iter().flatten();
    let pairs = |certificate, key| paths(certificate).zip(paths(key)).collect();
    let texts = |leaf: &str| {
        let texts = s.texts(&own(leaf)).or_else(|| s.texts(&common(leaf))).expect(CHECKED);
        texts.into_iter().map(str::to_string).collect()
    };
    Tls {
        pairs: match s.paths(&own("certificate")) {
            Some(_) => pairs(own("certificate"), own("key")),
            None => pairs(common("certificate"), common("key")),
        },
        only_1_3: s.word(&own("version-min")).or_else(|| s.word(&common("version-min"))) == Some("1.3"),
        ciphers: texts("ciphers"),
        alpn: texts("alpn"),
        client_certificate: s.word(&port("client-certificate")).expect(CHECKED),
        client_authorities: paths(port("client-authorities")).collect(),
        client_fingerprints: s
            .texts(&port("client-fingerprints"))
            .expect(CHECKED)
            .into_iter()
            .map(str::to_string)
            .collect(),
        tickets: s.flag(&own("tickets")).or_else(|| s.flag(&common("tickets"))).expect(CHECKED),
    }
}

/// Days since 1970 of `2026-11-24`.
fn day_number(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return None };
    let (year, month, day) = (year.parse::<u64>().ok()?, month.parse::<u64>().ok()?, day.parse::<u64>().ok()?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if !(1970..10_000).contains(&year) || day == 0 || day > length {
        return None;
    }
    let before = year - 1;
    let years = 365 * (year - 1970) + (before / 4 - before / 100 + before / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);
    Some(years + lengths[..(month - 1) as usize].iter().sum::<u64>() + day - 1)
}

fn build_source(s: &Sheet, label: &str) -> Source {
    let at = |leaf: &str| format!("source.{label}.{leaf}");
    Source {
        label: label.to_string(),
        addresses: s.networks(&at("address")).iter().map(ipnet::IpNet::addr).collect(),
        name: s.domain(&at("name")).expect(CHECKED).clone(),
        weight: s.number(&at("weight")).expect(CHECKED) as u32,
        users: s.texts(&at("users")).unwrap_or_default().into_iter().map(str::to_string).collect(),
        socks: s.socket(&at("socks")),
        proxy: s.socket(&at("proxy")),
        warm_up: s
            .text(&at("since"))
            .and_then(day_number)
            .zip(Some(s.numbers(&at("warm-up"))).filter(|all| !all.is_empty())),
    }
}

fn build_pipe(s: &Sheet, name: &str) -> Pipe {
    let at = |leaf: &str| format!("pipe.{name}.{leaf}");
    Pipe {
        name: name.to_string(),
        command: strings(s.texts(&at("command")).unwrap_or_default()),
        user: s.text(&at("user")).map(str::to_string),
        timeout: s.span(&at("timeout")).expect(CHECKED),
        output: s.number(&at("output")).expect(CHECKED),
        also_run: s.paths(&at("also-run")).unwrap_or_default(),
    }
}

fn build_post(s: &Sheet, name: &str) -> Post {
    let at = |leaf: &str| format!("post.{name}.{leaf}");
    Post {
        name: name.to_string(),
        url: s.text(&at("url")).expect(CHECKED).to_string(),
        token_file: s.path(&at("token-file")).map(Path::to_path_buf),
        timeout: s.span(&at("timeout")).expect(CHECKED),
    }
}

fn build_smarthost(s: &Sheet, name: &str) -> Smarthost {
    let at = |leaf: &str| format!("smarthost.{name}.{leaf}");
    Smarthost {
        host: s.text(&at("host")).expect(CHECKED).to_lowercase(),
        user: s.text(&at("user")).expect(CHECKED).to_string(),
        password_file: s.path(&at("password-file")).expect(CHECKED).to_path_buf(),
    }
}

fn build_plugin(s: &Sheet, name: String, path: PathBuf) -> Plugin {
    let at = |leaf: &str| format!("plugin.{name}.{leaf}");
    let span = |leaf: &str| s.span(&at(leaf)).expect(CHECKED);
    let names = |leaf: &str| s.texts(&at(leaf)).expect(CHECKED).into_iter().map(str::to_string).collect();
    Plugin {
        on_fault: s.word(&at("on-fault")).expect(CHECKED),
        grants: names("grants"),
        keys: names("keys"),
        tables: names("tables"),
        isolation: s.word(&at("isolation")).expect(CHECKED),
        memory: s.number(&at("memory")).expect(CHECKED),
        cpu: span("cpu"),
        time: span("time"),
        message_time: span("message-time"),
        config: s.text(&at("config")).expect(CHECKED).to_string(),
        path,
        name,
    }
}

fn build_dkim(s: &Sheet, name: &str, data: &Path) -> DkimKey {
    let at = |leaf: &str| format!("dkim.{name}.{leaf}");
    let given = s.path(&at("file"));
    DkimKey {
        name: name.to_string(),
        domain: s.domain(&at("domain")).expect(CHECKED).clone(),
        selector: s.text(&at("selector")).expect(CHECKED).to_string(),
        ed25519: s.word(&at("algorithm")) == Some("ed25519"),
        ours: given.is_none(),
        file: given.map_or_else(|| data.join("dkim").join(format!("{name}.pem")), Path::to_path_buf),
    }
}
