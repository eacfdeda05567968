//! Everything an operator says about addresses, as plain lists; checked whole and made into a [`Router`].

use ahash::{HashMap, HashSet};
use waypost_types::{Address, Host};

use crate::roles::Lists;
use crate::router::{Own, Router, Way, fold};
use crate::srs::Srs;
use crate::table::{Alias, AliasKey, Mistake, Target};
use crate::transport::{DomainMap, DomainPattern, Transport, TransportKey};

/// A domain that we relay for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayDomain {
    /// Which.
    pub pattern: DomainPattern,
    /// The recipients there; all if `None`. Knowing them keeps us from bouncing what the next host refuses.
    pub recipients: Option<Vec<Address>>,
}

/// Canonical tables: what addresses are written as, by `user@domain`, `user` (in domains of our own) or `@domain`.
#[derive(Clone, Debug, Default)]
pub struct Canonical {
    /// For senders.
    pub sender: Lists,
    /// For recipients.
    pub recipient: Lists,
    /// For both, asked after the others.
    pub both: Lists,
    /// Header fields as well, in mail of users who logged in and of hosts of our own.
    pub headers: bool,
}

impl Canonical {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sender.is_empty() && self.recipient.is_empty() && self.both.is_empty()
    }
}

/// The routing tables of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Domains (and address literals) whose mail ends here. The first is the one that names without a domain stand in.
    pub own: Vec<Host>,
    /// Names that have a mailbox in every own domain. The mailbox has the name as it is written here.
    pub users: Vec<String>,
    /// Addresses that have a mailbox, with its name.
    pub mailboxes: Vec<(Address, String)>,
    /// Aliases of all three kinds; of two rows with one key the later one is told as a mistake.
    pub aliases: Vec<Alias>,
    /// Domains that we relay for.
    pub relay: Vec<RelayDomain>,
    /// Transports by address, domain or `*`.
    pub transports: Vec<(TransportKey, Transport)>,
    /// Further domains of our own: whatever they hold, by domain.
    pub own_tables: Lists,
    /// Further mailboxes: their names, by `user@domain` or `user`.
    pub mailbox_tables: Lists,
    /// Further aliases: targets, by `user@domain`, `user` or `@domain`.
    pub alias_tables: Lists,
    /// What owners of mailboxes wrote into their `.forward`: the file's text, by the mailbox's name.
    pub forwards: Lists,
    /// Further domains that we relay for.
    pub relay_tables: Lists,
    /// If there are any, only recipients whom they hold (`user@domain`, `@domain`) exist in domains that we relay for.
    pub relay_recipients: Lists,
    /// Further transports: by `user@domain`, domain, `.domain` or `*`.
    pub transport_tables: Lists,
    /// How addresses are rewritten before everything else.
    pub canonical: Canonical,
    /// Senders of forwarded mail. `None`: they stay as they are.
    pub srs: Option<Srs>,
    /// The characters that begin an extension (`user+extension`); usually `+`, none if empty.
    pub separators: String,
    /// The mailbox for `postmaster` where neither alias nor mailbox says otherwise (RFC 5321 §4.5.1); `postmaster` if `None`.
    pub postmaster: Option<String>,
}

impl Tables {
    /// Checks everything and makes the router; on mistakes tells them all.
    pub fn build(self) -> Result<Router, Vec<Mistake>> {
        let mut builder =
            Builder { way: Way::new(self.separators, self.postmaster), mistakes: Vec::new(), has_own: false };
        let has_tables = !self.own_tables.is_empty();
        let lists = [
            &self.own_tables,
            &self.mailbox_tables,
            &self.alias_tables,
            &self.forwards,
            &self.relay_tables,
            &self.relay_recipients,
            &self.transport_tables,
            &self.canonical.sender,
            &self.canonical.recipient,
            &self.canonical.both,
        ];
        builder.way.in_memory = lists.iter().all(|lists| lists.is_in_memory());
        builder.way.own_tables = self.own_tables;
        builder.way.mailbox_tables = self.mailbox_tables;
        builder.way.alias_tables = self.alias_tables;
        builder.way.forwards = self.forwards;
        builder.way.relay_tables = self.relay_tables;
        builder.way.relay_recipients = self.relay_recipients;
        builder.way.transport_tables = self.transport_tables;
        builder.way.canonical = self.canonical;
        builder.way.srs = self.srs;
        builder.own(self.own);
        builder.has_own = has_tables || builder.way.origin.is_some();
        builder.users(self.users);
        builder.mailboxes(self.mailboxes);
        builder.relay(self.relay);
        self.aliases.into_iter().for_each(|alias| builder.alias(alias));
        builder.transports(self.transports);
        if builder.mistakes.is_empty() { Ok(Router::new(builder.way)) } else { Err(builder.mistakes) }
    }
}

struct Builder {
    way: Way,
    mistakes: Vec<Mistake>,
    /// There is a domain of our own, here or in a table.
    has_own: bool,
}

impl Builder {
    fn mistake(&mut self, line: u32, text: String) {
        self.mistakes.push(Mistake { line, text });
    }

    fn own(&mut self, hosts: Vec<Host>) {
        self.way.origin = hosts.first().cloned();
        self.way.own = hosts.into_iter().map(|host| (host, Own::default())).collect();
    }

    fn users(&mut self, users: Vec<String>) {
        let users_given = !users.is_empty();
        for name in users {
            match self.user_key(&name) {
                Ok(key) => drop(self.way.users.insert(key, name.into())),
                Err(text) => self.mistake(0, text),
            }
        }
        if users_given && !self.has_own {
            self.mistake(0, "there are users but no domain of our own: add one".to_string());
        }
    }

    /// The look-up form of a user's name. The name itself becomes a folder or an argument further on.
    fn user_key(&self, name: &str) -> Result<Box<str>, String> {
        mailbox_name(name)?;
        let host = Host::parse("[127.0.0.1]").expect("a valid literal");
        let quoted = || format!("\"{name}\"");
        let address = Address::new(name, host.clone()).or_else(|_| Address::new(&quoted(), host));
        address.map(|address| fold(address.local()).into()).map_err(|error| format!("user {name:?}: {error}"))
    }

    fn mailboxes(&mut self, mailboxes: Vec<(Address, String)>) {
        for (address, name) in mailboxes {
            if let Err(text) = mailbox_name(&name) {
                self.mistake(0, text);
            } else if let Some(own) = self.way.own.get_mut(address.host()) {
                own.mailboxes.insert(fold(address.local()).into(), name.into());
            } else {
                self.mistake(0, format!("mailbox {address}: {} is no domain of ours; add it to them", address.host()));
            }
        }
    }

    fn relay(&mut self, domains: Vec<RelayDomain>) {
        for RelayDomain { pattern, recipients } in domains {
            let name = pattern.domain.clone();
            if !pattern.below && self.way.own.contains_key(&Host::Name(name.clone())) {
                self.mistake(0, format!("{name} is both our own and relayed for: take it out of one list"));
            }
            let recipients = recipients.map(|list| list.into_iter().map(|address| folded(&address)).collect());
            self.way.relay.insert(pattern, recipients);
        }
    }

    fn alias(&mut self, alias: Alias) {
        let Alias { line, key, targets } = alias;
        let by_name = |target: &Target| matches!(target, Target::Name(_) | Target::Mailbox(_));
        if !self.has_own && targets.iter().any(by_name) {
            let text = "an alias leads to a name without a domain, and there is no domain of our own: add one or write user@domain";
            return self.mistake(line, text.to_string());
        }
        let targets = targets.into_boxed_slice();
        let (shown, before) = match key {
            AliasKey::Name(name) => {
                let before = self.way.aliases.insert(fold(&name).into(), targets);
                (name.to_string(), before)
            }
            AliasKey::Address(address) => match self.virtual_of(address.host()) {
                Some(virtuals) => (address.to_string(), virtuals.insert(fold(address.local()).into(), targets)),
                None => return self.mistake(line, foreign_alias(address.host())),
            },
            AliasKey::CatchAll(host) => match self.way.own.get_mut(&host) {
                Some(own) => (format!("@{host}"), own.catch_all.replace(targets)),
                None => return self.mistake(line, foreign_alias(&host)),
            },
        };
        if before.is_some() {
            self.mistake(line, format!("{shown} is there twice: join both rows or take one out"));
        }
    }

    fn virtual_of(&mut self, host: &Host) -> Option<&mut HashMap<Box<str>, Box<[Target]>>> {
        if let Some(own) = self.way.own.get_mut(host) {
            return Some(&mut own.virtuals);
        }
        let domain = host.domain()?;
        self.way.relay.find(domain)?;
        Some(self.way.relay_virtuals.entry(domain.clone()).or_default())
    }

    fn transports(&mut self, rules: Vec<(TransportKey, Transport)>) {
        for (key, transport) in rules {
            let shown = key.to_string();
            let before = match key {
                TransportKey::All => self.way.default_transport.replace(transport),
                TransportKey::Domain(pattern) => self.way.transports.insert(pattern, transport),
                TransportKey::Address(address) => self.way.user_transports.insert(folded(&address), transport),
            };
            if before.is_some() {
                self.mistake(0, format!("transport for {shown} is there twice: take one out"));
            }
        }
    }
}

/// Both halves in look-up form.
pub(crate) fn folded(address: &Address) -> Box<str> {
    format!("{}@{}", fold(address.local()), address.host()).into()
}

fn foreign_alias(host: &Host) -> String {
    format!("{host} is neither a domain of ours nor one that we relay for: add it to one of them")
}

/// Mailbox names become folders: nothing that leads elsewhere.
fn mailbox_name(name: &str) -> Result<(), String> {
    let bad = name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) || name.contains(char::is_control);
    if bad { Err(format!("{name:?} cannot name a mailbox: no slash, no leading dot, not empty")) } else { Ok(()) }
}

/// Recipients of a relay domain.
pub(crate) type Recipients = Option<HashSet<Box<str>>>;

/// See [`DomainMap`].
pub(crate) type Relay = DomainMap<Recipients>;
