//! What an address is to us, and the way to it.
//!
//! Inside a domain of ours a name is looked up as a whole, then without its extension, each time as: virtual alias, alias, mailbox.
//! Then `postmaster` (RFC 5321 §4.5.1: it always exists), then the domain's catch-all. What stands in the configuration comes before
//! what tables say. Where a mailbox's owner has a `.forward`, that says where the mail goes. A recipient is rewritten by the canonical tables before all this. A table that cannot be asked never makes a name
//! unknown: the answer is [`Class::Unsure`], and the mail waits.
//!
//! As long as all tables are in memory every answer is there at once ([`Soon::Now`]).

use std::borrow::Cow;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use ahash::HashMap;
use waypost_types::port::TableError;
use waypost_types::{Address, Domain, Host, ReversePath, Soon, Timestamp};

use crate::expand;
use crate::roles::Lists;
use crate::srs::Srs;
use crate::table::{Target, parse_forward, parse_targets};
use crate::tables::{Canonical, Relay, folded};
use crate::transport::{DomainMap, SMTP_PORT, Transport};
use crate::{Class, Leaf, NextHop, Resolution};

/// The routing tables, swapped whole on reload; cheap to clone. Made by [`crate::Tables::build`].
#[derive(Clone, Debug, Default)]
pub struct Router {
    way: Arc<Way>,
}

/// The tables in look-up form.
#[derive(Debug, Default)]
pub(crate) struct Way {
    pub(crate) origin: Option<Host>,
    pub(crate) own: HashMap<Host, Own>,
    pub(crate) own_tables: Lists,
    pub(crate) users: HashMap<Box<str>, Box<str>>,
    pub(crate) mailbox_tables: Lists,
    pub(crate) aliases: HashMap<Box<str>, Box<[Target]>>,
    pub(crate) alias_tables: Lists,
    pub(crate) forwards: Lists,
    pub(crate) relay: Relay,
    pub(crate) relay_tables: Lists,
    pub(crate) relay_recipients: Lists,
    pub(crate) relay_virtuals: HashMap<Domain, HashMap<Box<str>, Box<[Target]>>>,
    pub(crate) transports: DomainMap<Transport>,
    /// By address in look-up form.
    pub(crate) user_transports: HashMap<Box<str>, Transport>,
    pub(crate) transport_tables: Lists,
    pub(crate) default_transport: Option<Transport>,
    pub(crate) canonical: Canonical,
    pub(crate) srs: Option<Srs>,
    /// Every answer is there at once.
    pub(crate) in_memory: bool,
    separators: String,
    postmaster: Box<str>,
}

/// One domain of ours.
#[derive(Debug, Default)]
pub(crate) struct Own {
    pub(crate) mailboxes: HashMap<Box<str>, Box<str>>,
    pub(crate) virtuals: HashMap<Box<str>, Box<[Target]>>,
    pub(crate) catch_all: Option<Box<[Target]>>,
}

/// A domain of ours that only a table knows.
static IN_TABLE: LazyLock<Own> = LazyLock::new(Own::default);

/// One look-up's result.
pub(crate) enum Step<'a> {
    Mailbox,
    Expand(Cow<'a, [Target]>),
    Unknown,
    Relay,
    Foreign,
}

/// Why an address cannot be resolved.
#[derive(Debug)]
pub(crate) enum Stuck {
    /// The tables are wrong.
    Broken(String),
    /// A table could not be asked.
    Unsure(String),
}

impl From<TableError> for Stuck {
    fn from(error: TableError) -> Stuck {
        Stuck::Unsure(error.0)
    }
}

impl Way {
    pub(crate) fn new(separators: String, postmaster: Option<String>) -> Way {
        let postmaster = postmaster.unwrap_or_else(|| "postmaster".to_string()).into();
        Way { separators, postmaster, in_memory: true, ..Way::default() }
    }

    /// The domain of ours that this is.
    pub(crate) async fn own(&self, host: &Host) -> Result<Option<&Own>, TableError> {
        if let Some(own) = self.own.get(host) {
            return Ok(Some(own));
        }
        match host {
            Host::Name(domain) if !self.own_tables.is_empty() => {
                Ok(self.own_tables.domain(domain).await?.map(|_| &*IN_TABLE))
            }
            _ => Ok(None),
        }
    }

    pub(crate) async fn step<'a>(&'a self, address: &Address, now: Timestamp) -> Result<Step<'a>, Stuck> {
        if let Some(own) = self.own(address.host()).await? {
            return self.step_own(own, address, now).await;
        }
        let Some(domain) = address.domain() else { return Ok(Step::Foreign) };
        let recipients = match self.relay.find(domain) {
            Some(recipients) => recipients.as_ref(),
            None if self.relay_tables.domain(domain).await?.is_some() => None,
            None => return Ok(Step::Foreign),
        };
        let local = fold(address.local());
        if let Some(targets) = self.relay_virtuals.get(domain).and_then(|virtuals| virtuals.get(&*local)) {
            return Ok(Step::Expand(Cow::Borrowed(targets)));
        }
        let plain = self.without_extension(&local);
        if let Some(value) = self.alias_tables.address(address, plain).await? {
            return Ok(Step::Expand(Cow::Owned(table_targets(&value)?)));
        }
        if recipients.is_some_and(|known| !known.contains(&folded(address))) {
            return Ok(Step::Unknown);
        }
        if !self.relay_recipients.is_empty()
            && self.relay_recipients.address(address, plain).await?.is_none()
            && self.relay_recipients.part(&format!("@{domain}")).await?.is_none()
        {
            return Ok(Step::Unknown);
        }
        Ok(Step::Relay)
    }

    async fn step_own<'a>(&'a self, own: &'a Own, address: &Address, now: Timestamp) -> Result<Step<'a>, Stuck> {
        let local = fold(address.local());
        let plain = self.without_extension(&local);
        for name in [Some(&*local), plain].into_iter().flatten() {
            if let Some(targets) = own.virtuals.get(name).or_else(|| self.aliases.get(name)) {
                return Ok(Step::Expand(Cow::Borrowed(targets)));
            }
            if !self.alias_tables.is_empty()
                && let Some(value) = self.in_tables(&self.alias_tables, name, &local, address.host()).await?
            {
                return Ok(Step::Expand(Cow::Owned(table_targets(&value)?)));
            }
            if let Some(mailbox) = own.mailboxes.get(name).or_else(|| self.users.get(name)) {
                return self.step_mailbox(mailbox).await;
            }
            if !self.mailbox_tables.is_empty()
                && let Some(mailbox) = self.in_tables(&self.mailbox_tables, name, &local, address.host()).await?
            {
                return self.step_mailbox(mailbox.trim()).await;
            }
        }
        if address.is_postmaster() {
            return self.step_mailbox(&self.postmaster).await;
        }
        match self.srs.as_ref().and_then(|srs| srs.back(address, now)) {
            Some(Ok(back)) => return Ok(Step::Expand(Cow::Owned(vec![Target::Address(back)]))),
            Some(Err(_)) => return Ok(Step::Unknown),
            None => {}
        }
        if let Some(targets) = &own.catch_all {
            return Ok(Step::Expand(Cow::Borrowed(targets)));
        }
        if !self.alias_tables.is_empty()
            && let Some(value) = self.alias_tables.part(&format!("@{}", address.host())).await?
        {
            return Ok(Step::Expand(Cow::Owned(table_targets(&value)?)));
        }
        Ok(Step::Unknown)
    }

    /// A mailbox, or where its owner wants the mail to go.
    async fn step_mailbox(&self, mailbox: &str) -> Result<Step<'static>, Stuck> {
        if self.forwards.is_empty() {
            return Ok(Step::Mailbox);
        }
        let Some(text) = self.forwards.whole(mailbox).await? else { return Ok(Step::Mailbox) };
        match parse_forward(&text) {
            Ok(targets) if targets.is_empty() => Ok(Step::Mailbox),
            Ok(targets) => Ok(Step::Expand(Cow::Owned(targets))),
            Err(text) => Err(Stuck::Broken(format!("the .forward of {mailbox}: {text}"))),
        }
    }

    /// `name@host`, then `name` alone. Patterns are asked for whole addresses only.
    async fn in_tables(
        &self,
        tables: &Lists,
        name: &str,
        whole: &str,
        host: &Host,
    ) -> Result<Option<String>, TableError> {
        let key = format!("{name}@{host}");
        let found = if name == whole { tables.whole(&key).await? } else { tables.part(&key).await? };
        match found {
            Some(value) => Ok(Some(value.into_owned())),
            None => Ok(tables.part(name).await?.map(Cow::into_owned)),
        }
    }

    /// The mailbox of an address of ours, aliases left aside.
    pub(crate) async fn mailbox(&self, own: &Own, address: &Address) -> Result<Option<Box<str>>, TableError> {
        let local = fold(address.local());
        for name in [Some(&*local), self.without_extension(&local)].into_iter().flatten() {
            if let Some(mailbox) = own.mailboxes.get(name).or_else(|| self.users.get(name)) {
                return Ok(Some(mailbox.clone()));
            }
            if !self.mailbox_tables.is_empty()
                && let Some(value) = self.in_tables(&self.mailbox_tables, name, &local, address.host()).await?
            {
                return Ok(Some(value.trim().into()));
            }
        }
        Ok(address.is_postmaster().then(|| self.postmaster.clone()))
    }

    /// `user` of `user+extension`. A quoted local part has no extension.
    pub(crate) fn without_extension<'a>(&self, local: &'a str) -> Option<&'a str> {
        if local.starts_with('"') {
            return None;
        }
        let at = local.find(|c| self.separators.contains(c))?;
        (at > 0).then(|| &local[..at])
    }

    /// `owner-NAME` beside an alias: who answers for the list.
    pub(crate) async fn owner(&self, alias: &Address) -> Result<Option<Address>, TableError> {
        let local = fold(alias.local());
        if local.starts_with("owner-") || local.ends_with("-request") {
            return Ok(None);
        }
        let plain = self.without_extension(&local).unwrap_or(&local);
        let name = format!("owner-{plain}");
        let Some(own) = self.own(alias.host()).await? else { return Ok(None) };
        let known = own.virtuals.contains_key(&*name)
            || self.aliases.contains_key(&*name)
            || own.mailboxes.contains_key(&*name)
            || (!self.alias_tables.is_empty()
                && self.in_tables(&self.alias_tables, &name, &name, alias.host()).await?.is_some());
        Ok(if known { Address::new(&name, alias.host().clone()).ok() } else { None })
    }

    async fn transport(&self, address: &Address) -> Result<Option<Cow<'_, Transport>>, Stuck> {
        if !self.user_transports.is_empty() || !self.transport_tables.is_empty() {
            let local = fold(address.local());
            let plain = self.without_extension(&local);
            let by_user = |name: &str| self.user_transports.get(&*format!("{name}@{}", address.host()));
            if let Some(transport) = by_user(&local).or_else(|| by_user(plain?)) {
                return Ok(Some(Cow::Borrowed(transport)));
            }
            if let Some(value) = self.transport_tables.address(address, plain).await? {
                return table_transport(&value).map(Some);
            }
        }
        let Some(domain) = address.domain() else { return Ok(None) };
        if let Some(transport) = self.transports.find(domain) {
            return Ok(Some(Cow::Borrowed(transport)));
        }
        if self.transport_tables.is_empty() {
            return Ok(None);
        }
        let exact = self.transport_tables.part(domain.as_str()).await?.map(Cow::into_owned);
        match if exact.is_some() { exact } else { self.transport_tables.parents(domain).await? } {
            Some(value) => table_transport(&value).map(Some),
            None => Ok(None),
        }
    }

    async fn hop(&self, address: &Address) -> Result<NextHop, Stuck> {
        if let Some(transport) = self.transport(address).await? {
            return Ok(hop(&transport, address));
        }
        if let Some(own) = self.own(address.host()).await? {
            return Ok(match self.mailbox(own, address).await? {
                Some(name) => NextHop::Mailbox(name),
                None => NextHop::Fail("5.1.1 no such mailbox here".into()),
            });
        }
        if let Some(transport) = &self.default_transport {
            return Ok(hop(transport, address));
        }
        match self.transport_tables.part("*").await? {
            Some(value) => Ok(hop(&*table_transport(&value)?, address)),
            None => Ok(hop(&Transport::Mx, address)),
        }
    }

    /// One pass through the canonical tables of a role, then through those of both.
    pub(crate) async fn canonical(&self, of: &Lists, address: &Address) -> Result<Option<Address>, Stuck> {
        let first = self.canonical_by(of, address).await?;
        let second = self.canonical_by(&self.canonical.both, first.as_ref().unwrap_or(address)).await?;
        Ok(second.or(first).filter(|new| new != address))
    }

    async fn canonical_by(&self, tables: &Lists, address: &Address) -> Result<Option<Address>, Stuck> {
        if tables.is_empty() {
            return Ok(None);
        }
        let local = fold(address.local());
        let (plain, host) = (self.without_extension(&local), address.host());
        let extension = plain.map_or("", |plain| &address.local()[plain.len()..]);
        if let Some(value) = tables.whole(&address.to_string()).await? {
            return rewritten(&value, address, "").map(Some);
        }
        if let Some(plain) = plain
            && let Some(value) = tables.part(&format!("{plain}@{host}")).await?
        {
            return rewritten(&value, address, extension).map(Some);
        }
        if self.own(host).await?.is_some() {
            for (name, extension) in [(Some(&*local), ""), (plain, extension)] {
                let Some(name) = name else { continue };
                if let Some(value) = tables.part(name).await? {
                    return rewritten(&value, address, extension).map(Some);
                }
            }
        }
        match tables.part(&format!("@{host}")).await? {
            Some(value) => rewritten(&value, address, "").map(Some),
            None => Ok(None),
        }
    }
}

/// The address that a canonical table gives: whole, `@other.domain`, or a name in the same domain.
fn rewritten(value: &str, address: &Address, extension: &str) -> Result<Address, Stuck> {
    let value = value.trim();
    let wrong =
        |error: &dyn std::fmt::Display| Stuck::Broken(format!("canonical table: {value:?} for {address}: {error}"));
    if let Some(host) = value.strip_prefix('@') {
        return Host::parse(host).map(|host| address.at(host)).map_err(|error| wrong(&error));
    }
    let (local, host) = match value.rsplit_once('@') {
        Some((local, host)) => (local, Host::parse(host).map_err(|error| wrong(&error))?),
        None => (value, address.host().clone()),
    };
    Address::new(&format!("{local}{extension}"), host).map_err(|error| wrong(&error))
}

fn table_targets(value: &str) -> Result<Vec<Target>, Stuck> {
    parse_targets(value).map_err(|text| Stuck::Broken(format!("alias table: {value:?}: {text}")))
}

fn table_transport(value: &str) -> Result<Cow<'static, Transport>, Stuck> {
    value.parse().map(Cow::Owned).map_err(|text: String| Stuck::Broken(format!("transport table: {text}")))
}

impl Router {
    pub(crate) fn new(way: Way) -> Router {
        Router { way: Arc::new(way) }
    }

    /// What an address is to us, and where it leads.
    pub fn resolve<'a>(&'a self, address: &'a Address, now: Timestamp) -> Soon<'a, Resolution> {
        self.soon(async move { expand::resolve(&self.way, address, now, None).await })
    }

    /// The same, with every step in words.
    pub fn explain<'a>(&'a self, address: &'a Address, now: Timestamp) -> Soon<'a, (Resolution, Vec<String>)> {
        self.soon(async move {
            let mut trail = Vec::new();
            let resolution = expand::resolve(&self.way, address, now, Some(&mut trail)).await;
            (resolution, trail)
        })
    }

    /// How to reach a final recipient. Asked at delivery time, so that queued mail follows a changed table.
    pub fn next_hop<'a>(&'a self, address: &'a Address) -> Soon<'a, NextHop> {
        self.soon(async move {
            match self.way.hop(address).await {
                Ok(hop) => hop,
                Err(Stuck::Broken(text) | Stuck::Unsure(text)) => NextHop::Later(text.into()),
            }
        })
    }

    /// What becomes of an envelope sender; `None` if nothing.
    pub fn sender<'a>(&'a self, sender: &'a ReversePath) -> Soon<'a, Result<Option<Address>, String>> {
        let Some(address) = sender.address().filter(|_| !self.way.canonical.is_empty()) else {
            return Soon::Now(Ok(None));
        };
        self.rewrite(address, true)
    }

    /// What the canonical tables make of an address, as a sender's or a recipient's; `None` if they leave it.
    pub fn rewrite<'a>(&'a self, address: &'a Address, sender: bool) -> Soon<'a, Result<Option<Address>, String>> {
        let of = if sender { &self.way.canonical.sender } else { &self.way.canonical.recipient };
        self.soon(async move {
            self.way.canonical(of, address).await.map_err(|stuck| match stuck {
                Stuck::Broken(text) | Stuck::Unsure(text) => text,
            })
        })
    }

    /// Whether header fields are rewritten as well as the envelope.
    pub fn rewrites_headers(&self) -> bool {
        self.way.canonical.headers && !self.way.canonical.is_empty()
    }

    /// The envelope sender of mail that an alias of ours sends on to `leaf`: the list's owner; for another site, when the sender is of none
    /// of our domains, an address of ours that leads back (SRS). `None`: as it is. A notice keeps its null sender, or it could be answered.
    pub fn forwarding_sender<'a>(
        &'a self,
        sender: &'a ReversePath,
        leaf: &'a Leaf,
        now: Timestamp,
    ) -> Soon<'a, Option<Address>> {
        let Some(sender) = sender.address() else { return Soon::Now(None) };
        if leaf.owner.is_some() {
            return Soon::Now(leaf.owner.clone());
        }
        let Some(srs) = self.way.srs.as_ref().filter(|_| leaf.class == Class::Foreign) else { return Soon::Now(None) };
        self.soon(async move {
            // A table that cannot be asked: rewritten is the safe side, the bounce leads back all the same.
            let ours = self.way.own(sender.host()).await.is_ok_and(|own| own.is_some());
            if ours && !srs.is_ours(sender) { None } else { srs.forward(sender, now) }
        })
    }

    /// Whether mail for this domain ends here, as far as the configuration itself says.
    pub fn is_own(&self, host: &Host) -> bool {
        self.way.own.contains_key(host)
    }

    /// Whether mail for this domain ends here; a table that cannot be asked is an error.
    pub fn owns<'a>(&'a self, host: &'a Host) -> Soon<'a, Result<bool, TableError>> {
        self.soon(async move { self.way.own(host).await.map(|own| own.is_some()) })
    }

    /// The first of our own domains: where names without a domain, such as RCPT TO:<postmaster>, stand.
    pub fn origin(&self) -> Option<&Host> {
        self.way.origin.as_ref()
    }

    /// Tables in memory answer at once, so work that asks only them never waits.
    fn soon<'a, T: 'a>(&self, work: impl Future<Output = T> + Send + 'a) -> Soon<'a, T> {
        if !self.way.in_memory {
            return Soon::Later(Box::pin(work));
        }
        match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Soon::Now(answer),
            Poll::Pending => panic!("a table in memory let somebody wait"),
        }
    }
}

fn hop(transport: &Transport, address: &Address) -> NextHop {
    match (transport, address.host()) {
        (Transport::To(hop), _) => hop.clone(),
        (Transport::Mx, Host::Name(domain)) => NextHop::Mx(domain.clone()),
        (Transport::Mx, Host::Literal(ip)) => NextHop::Literal(*ip, SMTP_PORT),
    }
}

/// The look-up form of a local part; borrowed if it is in it already.
pub(crate) fn fold(local: &str) -> Cow<'_, str> {
    if local.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii()) {
        Cow::Owned(local.to_lowercase())
    } else {
        Cow::Borrowed(local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RelayDomain, Tables, TextTable, parse_aliases, parse_transports, parse_virtual};
    use std::sync::Mutex;
    use waypost_types::limits;
    use waypost_types::port::{Found, Table};

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn now<T>(soon: Soon<'_, T>) -> T {
        match soon {
            Soon::Now(answer) => answer,
            Soon::Later(_) => panic!("everything is in memory"),
        }
    }

    fn class(router: &Router, text: &str) -> Class {
        now(router.resolve(&address(text), NOW)).class
    }

    fn hop_of(router: &Router, text: &str) -> NextHop {
        now(router.next_hop(&address(text)))
    }

    fn list(text: &str) -> Lists {
        Lists::from(vec![Arc::new(TextTable::parse(text).expect("a table")) as Arc<dyn Table>])
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn host(text: &str) -> Host {
        Host::parse(text).expect("a host")
    }

    const ALIASES: &str = "root: alice\nteam: alice, Bob, carol@else.test, ALICE\nself: self\nbob: bob, copy@else.test\n\
        a: b\nb: c\nc: a\nghost: nobody\nhalf: alice, nobody\nsales: team, team+x, root\n";

    fn tables() -> Tables {
        let mut aliases = parse_aliases(ALIASES, |_| Err("none".to_string())).expect("valid");
        let virtuals = "info@two.test alice@one.test\n@two.test bob@one.test\ndesk@relay.test alice@one.test\n";
        aliases.extend(parse_virtual(virtuals).expect("valid"));
        let transports = "sink.test smtp:[127.0.0.1]:2626\n.sink.test fail:5.1.2 no\nlists.test lmtp:127.0.0.1:24\n";
        Tables {
            own: vec![host("one.test"), host("two.test"), host("[192.0.2.1]"), host("lists.test")],
            users: vec!["alice".into(), "Bob".into()],
            mailboxes: vec![(address("dan@two.test"), "dan-two".into())],
            aliases,
            relay: vec![
                RelayDomain { pattern: "relay.test".parse().expect("a pattern"), recipients: None },
                RelayDomain {
                    pattern: ".known.test".parse().expect("a pattern"),
                    recipients: Some(vec![address("eve@a.known.test")]),
                },
            ],
            transports: parse_transports(transports).expect("valid"),
            separators: "+".into(),
            postmaster: None,
            ..Tables::default()
        }
    }

    fn router() -> Router {
        tables().build().expect("the tables are right")
    }

    fn led(router: &Router, text: &str) -> Vec<String> {
        let Resolution { class, leads } = now(router.resolve(&address(text), NOW));
        assert_eq!(class, Class::Own, "{text}");
        match leads.is_empty() {
            true => vec![text.to_string()],
            false => leads.iter().map(|leaf| leaf.address.to_string()).collect(),
        }
    }

    fn delivered(text: &str) -> Vec<String> {
        led(&router(), text)
    }

    #[test]
    fn users_are_found_in_any_case_and_with_extensions() {
        assert_eq!(delivered("Alice@one.test"), ["Alice@one.test"]);
        assert_eq!(delivered("alice+list@one.test"), ["alice+list@one.test"]);
        assert_eq!(delivered("alice@[192.0.2.1]"), ["alice@[192.0.2.1]"]);
        let router = router();
        assert_eq!(hop_of(&router, "ALICE+x@one.test"), NextHop::Mailbox("alice".into()));
        assert_eq!(hop_of(&router, "dan@two.test"), NextHop::Mailbox("dan-two".into()));
        assert_eq!(class(&router, "dan@one.test"), Class::Unknown);
        assert_eq!(class(&router, "+alice@one.test"), Class::Unknown);
    }

    #[test]
    fn aliases_lead_through_names_and_addresses_without_duplicates() {
        assert_eq!(delivered("root@one.test"), ["alice@one.test"]);
        assert_eq!(delivered("root+x@one.test"), ["alice@one.test"]);
        let team = ["alice@one.test", "Bob@one.test", "copy@else.test", "carol@else.test"];
        assert_eq!(sorted(delivered("TEAM@one.test")), sorted(team.map(String::from).to_vec()));
        assert_eq!(sorted(delivered("sales@one.test")), sorted(team.map(String::from).to_vec()));
        assert_eq!(delivered("root@two.test"), ["alice@two.test"], "a name stands in the domain it was reached by");
    }

    fn sorted(mut list: Vec<String>) -> Vec<String> {
        list.iter_mut().for_each(|text| *text = text.to_lowercase());
        list.sort();
        list
    }

    #[test]
    fn an_alias_that_names_itself_keeps_a_copy() {
        assert_eq!(sorted(delivered("bob@one.test")), ["bob@one.test", "copy@else.test"]);
        assert_eq!(class(&router(), "self@one.test"), Class::Unknown, "there is no such mailbox");
    }

    #[test]
    fn a_circle_is_named() {
        let Class::Broken(text) = class(&router(), "a@one.test") else { panic!("a circle") };
        assert!(text.ends_with("a@one.test -> b@one.test -> c@one.test -> a@one.test"), "{text}");
    }

    #[test]
    fn targets_that_do_not_exist() {
        let router = router();
        assert_eq!(class(&router, "ghost@one.test"), Class::Unknown);
        assert_eq!(delivered("half@one.test"), ["alice@one.test", "nobody@one.test"]);
        assert!(matches!(hop_of(&router, "nobody@one.test"), NextHop::Fail(_)));
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let chain: String = (0..30).map(|n| format!("n{n}: n{}\n", n + 1)).collect();
        let many: Vec<String> = (0..=limits::ALIAS_EXPANSION_MAX).map(|n| format!("u{n}@else.test")).collect();
        let text = format!("{chain}many: {}\n", many.join(", "));
        let aliases = parse_aliases(&text, |_| Err("none".to_string())).expect("valid");
        let router = Tables { own: vec![host("one.test")], aliases, ..Tables::default() }.build().expect("right");
        for (name, word) in [("n0", "nested deeper"), ("many", "more than 10000")] {
            let Class::Broken(text) = class(&router, &format!("{name}@one.test")) else { panic!("{name}") };
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn postmaster_exists_in_every_domain_of_ours_before_any_catch_all() {
        for domain in ["one.test", "two.test", "[192.0.2.1]"] {
            let asked = format!("PostMaster@{domain}");
            assert_eq!(delivered(&asked), [asked.as_str()]);
            assert_eq!(hop_of(&router(), &asked), NextHop::Mailbox("postmaster".into()));
        }
        let router = Tables { postmaster: Some("alice".into()), ..tables() }.build().expect("right");
        assert_eq!(hop_of(&router, "postmaster@one.test"), NextHop::Mailbox("alice".into()));
    }

    #[test]
    fn virtual_aliases_and_catch_all() {
        assert_eq!(delivered("info@two.test"), ["alice@one.test"]);
        assert_eq!(sorted(delivered("whoever@two.test")), ["bob@one.test", "copy@else.test"]);
        assert_eq!(delivered("dan@two.test"), ["dan@two.test"], "a mailbox comes before the catch-all");
        assert_eq!(delivered("desk@relay.test"), ["alice@one.test"]);
    }

    #[test]
    fn relayed_and_foreign_domains() {
        let router = router();
        let of = |text: &str| class(&router, text);
        assert_eq!(of("x@relay.test"), Class::Relay);
        assert_eq!(of("eve@a.known.test"), Class::Relay);
        assert_eq!(of("adam@a.known.test"), Class::Unknown);
        assert_eq!(of("x@known.test"), Class::Foreign);
        assert_eq!(of("x@else.test"), Class::Foreign);
        assert_eq!(of("x@[198.51.100.1]"), Class::Foreign);
    }

    #[test]
    fn relay_tricks_lead_nowhere() {
        let router = router();
        for local in ["x%else.test", "else.test!x", "\"x@else.test\"", "@else.test:x"] {
            if let Ok(tricky) = Address::parse(&format!("{local}@one.test")) {
                assert_eq!(class(&router, &tricky.to_string()), Class::Unknown, "{tricky}");
            }
        }
    }

    #[test]
    fn transports_decide_before_everything_else() {
        let router = router();
        let hop = |text: &str| hop_of(&router, text);
        let sink = NextHop::Literal("127.0.0.1".parse().expect("an address"), 2626);
        assert_eq!(hop("x@sink.test"), sink);
        assert_eq!(hop("x@a.sink.test"), NextHop::Fail("5.1.2 no".into()));
        assert_eq!(hop("alice@lists.test"), NextHop::Lmtp("127.0.0.1:24".parse().expect("an address")));
        assert_eq!(hop("x@else.test"), NextHop::Mx(Domain::parse("else.test").expect("a domain")));
        assert_eq!(hop("x@[198.51.100.1]"), NextHop::Literal("198.51.100.1".parse().expect("an address"), 25));
        let all = parse_transports("* smtp:[127.0.0.1]:2626\nelse.test mx\n").expect("valid");
        let router = Tables { transports: all, ..tables() }.build().expect("right");
        assert_eq!(hop_of(&router, "x@any.test"), sink);
        assert_eq!(hop_of(&router, "x@else.test"), NextHop::Mx(Domain::parse("else.test").expect("a domain")));
        assert_eq!(hop_of(&router, "alice@one.test"), NextHop::Mailbox("alice".into()), "* is not for us");
    }

    #[test]
    fn every_mistake_of_the_tables_is_told() {
        let aliases =
            parse_virtual("x@foreign.test alice\n@foreign.test alice\nroot alice\nROOT bob\n").expect("valid");
        let wrong = Tables {
            own: vec![host("one.test")],
            users: vec!["../etc".into(), "alice".into()],
            mailboxes: vec![(address("x@foreign.test"), "x".into())],
            aliases,
            relay: vec![RelayDomain { pattern: "one.test".parse().expect("a pattern"), recipients: None }],
            transports: parse_transports("* mx\n* mx\n").expect("valid"),
            ..Tables::default()
        };
        let mistakes = wrong.build().expect_err("seven mistakes");
        assert_eq!(mistakes.len(), 7, "{mistakes:?}");
    }

    #[test]
    fn tables_know_domains_mailboxes_aliases_and_relayed_recipients() {
        let router = Tables {
            own_tables: list("three.test ours\n.below.test ours\n"),
            mailbox_tables: list("carl@three.test carl-box\ndora dora\n"),
            alias_tables: list(
                "info@three.test carl, dora\nlist alice\n@x.below.test carl@three.test\nat@three.test @one.test\n",
            ),
            relay_tables: list("far.test yes\n"),
            relay_recipients: list("eve@far.test x\n@relay.test x\n"),
            ..tables()
        }
        .build()
        .expect("right");
        assert_eq!(led(&router, "carl@three.test"), ["carl@three.test"]);
        assert_eq!(hop_of(&router, "Carl+x@three.test"), NextHop::Mailbox("carl-box".into()));
        assert_eq!(led(&router, "dora@one.test"), ["dora@one.test"], "a name alone counts in every domain of ours");
        assert_eq!(led(&router, "INFO@three.test"), ["carl@three.test", "dora@three.test"]);
        assert_eq!(led(&router, "list@one.test"), ["alice@one.test"]);
        assert_eq!(led(&router, "whoever@x.below.test"), ["carl@three.test"]);
        assert_eq!(class(&router, "nobody@three.test"), Class::Unknown);
        assert_eq!(class(&router, "at@three.test"), Class::Unknown, "there is no at@one.test");
        assert_eq!(class(&router, "eve@far.test"), Class::Relay);
        assert_eq!(class(&router, "adam@far.test"), Class::Unknown);
        assert_eq!(class(&router, "anybody@relay.test"), Class::Relay);
    }

    #[test]
    fn a_list_has_an_owner_who_answers_for_it() {
        let text = "list: alice, bob@else.test, inner\nowner-list: alice\ninner: x@else.test\nowner-inner: bob\nplain: y@else.test\n";
        let aliases = parse_aliases(text, |_| Err("none".to_string())).expect("valid");
        let router = Tables { aliases, ..tables() }.build().expect("right");
        let owners = |text: &str| -> Vec<(String, Option<String>)> {
            let leads = now(router.resolve(&address(text), NOW)).leads;
            leads.iter().map(|leaf| (leaf.address.to_string(), leaf.owner.as_ref().map(Address::to_string))).collect()
        };
        let of = |address: &str, owner: &str| (address.to_string(), Some(owner.to_string()));
        assert_eq!(
            owners("list@one.test"),
            [
                of("alice@one.test", "owner-list@one.test"),
                of("bob@else.test", "owner-list@one.test"),
                of("x@else.test", "owner-inner@one.test")
            ]
        );
        assert_eq!(owners("plain@one.test"), [("y@else.test".to_string(), None)]);
        assert_eq!(owners("owner-list@one.test"), [("alice@one.test".to_string(), None)]);
        let leaf = |text: &str| now(router.resolve(&address(text), NOW)).leads.remove(0);
        let sender = |from: ReversePath, leaf: &Leaf| now(router.forwarding_sender(&from, leaf, NOW));
        let from = ReversePath::Mailbox(address("joe@home.test"));
        assert_eq!(sender(from.clone(), &leaf("list@one.test")), Some(address("owner-list@one.test")));
        assert_eq!(sender(ReversePath::Null, &leaf("list@one.test")), None, "a notice must not be answered");
        assert_eq!(sender(from, &leaf("plain@one.test")), None, "without SRS");
    }

    #[test]
    fn forwarded_mail_leaves_with_a_sender_that_leads_back() {
        let srs =
            Srs { domain: Domain::parse("one.test").expect("a domain"), keys: vec![(*b"key").into()], days_max: 21 };
        let router = Tables { srs: Some(srs), ..tables() }.build().expect("right");
        let leaf = |class| Leaf { address: address("x@else.test"), class, owner: None };
        let sender =
            |from: &str, class| now(router.forwarding_sender(&ReversePath::Mailbox(address(from)), &leaf(class), NOW));
        let rewritten = sender("joe@home.test", Class::Foreign).expect("rewritten");
        assert!(rewritten.to_string().starts_with("SRS0="), "{rewritten}");
        assert_eq!(led(&router, &rewritten.to_string()), ["joe@home.test"]);
        assert_eq!(sender("alice@two.test", Class::Foreign), None, "SPF of our own domains names us");
        assert_eq!(sender("joe@home.test", Class::Own), None, "it stays here");
        let forged = rewritten.to_string().replace("=joe@", "=eve@");
        assert_eq!(class(&router, &forged), Class::Unknown);
    }

    #[test]
    fn canonical_tables_rewrite_before_everything_else() {
        let canonical = Canonical {
            sender: list("alice@one.test Alice.Lee@one.test\n"),
            recipient: list("alice.lee@one.test alice\n@old.test @two.test\n"),
            both: list("@gone.test @else.test\n"),
            headers: true,
        };
        let mut own = tables().own;
        own.push(host("old.test"));
        let router = Tables { canonical, own, ..tables() }.build().expect("right");
        let sender = |text: &str| now(router.sender(&ReversePath::Mailbox(address(text)))).expect("an answer");
        assert_eq!(sender("alice@one.test"), Some(address("Alice.Lee@one.test")));
        assert_eq!(sender("alice+x@one.test"), Some(address("Alice.Lee+x@one.test")), "the extension stays");
        assert_eq!(sender("joe@gone.test"), Some(address("joe@else.test")));
        assert_eq!(sender("bob@one.test"), None);
        assert_eq!(led(&router, "Alice.Lee@one.test"), ["alice@one.test"]);
        assert_eq!(led(&router, "dan@old.test"), ["dan@two.test"]);
        let Resolution { class, leads } = now(router.resolve(&address("x@gone.test"), NOW));
        assert_eq!(
            (class, leads[0].address.to_string().as_str()),
            (Class::Foreign, "x@else.test"),
            "relay control asks"
        );
        assert!(router.rewrites_headers());
    }

    #[test]
    fn one_recipient_can_have_a_transport_of_its_own() {
        let transports = parse_transports("bob@else.test smtp:[127.0.0.1]:2626\nelse.test mx\n").expect("valid");
        let transport_tables =
            list("alice@one.test lmtp:127.0.0.1:24\n.far.test fail:5.1.2 no\n* smtp:[127.0.0.1]:2627\n");
        let router = Tables { transports, transport_tables, ..tables() }.build().expect("right");
        let literal = |port| NextHop::Literal("127.0.0.1".parse().expect("an address"), port);
        assert_eq!(hop_of(&router, "Bob+x@else.test"), literal(2626));
        assert!(matches!(hop_of(&router, "carl@else.test"), NextHop::Mx(_)));
        assert_eq!(hop_of(&router, "alice@one.test"), NextHop::Lmtp("127.0.0.1:24".parse().expect("an address")));
        assert_eq!(hop_of(&router, "bob@one.test"), NextHop::Mailbox("Bob".into()));
        assert_eq!(hop_of(&router, "x@a.far.test"), NextHop::Fail("5.1.2 no".into()));
        assert_eq!(hop_of(&router, "x@any.test"), literal(2627));
    }

    /// A table that somebody else keeps, and who answers late or not at all.
    struct Far(Mutex<Result<TextTable, String>>);

    impl Table for Far {
        fn lookup<'a>(&'a self, key: &'a str) -> Soon<'a, Found<'a>> {
            let table = self.0.lock().expect("a table").clone();
            Soon::Later(Box::pin(async move {
                table.map(|table| table.find(key).map(|value| Cow::Owned(value.to_string()))).map_err(TableError)
            }))
        }
    }

    #[test]
    fn a_table_that_cannot_be_asked_makes_nobody_unknown() {
        let far = Arc::new(Far(Mutex::new(TextTable::parse("carl carl\n").map_err(|_| String::new()))));
        let mailbox_tables = Lists::from(vec![far.clone() as Arc<dyn Table>]);
        let router = Tables { mailbox_tables, ..tables() }.build().expect("right");
        let ask = |text: &str| {
            let address = address(text);
            let mut asked = pin!(router.resolve(&address, NOW).get());
            let Poll::Ready(got) = asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { panic!("late") };
            got.class
        };
        assert!(matches!(router.resolve(&address("carl@one.test"), NOW), Soon::Later(_)));
        assert_eq!(ask("carl@one.test"), Class::Own);
        assert_eq!(ask("nobody@one.test"), Class::Unknown);
        *far.0.lock().expect("a table") = Err("table people: no answer in time".to_string());
        assert_eq!(ask("carl@one.test"), Class::Unsure("table people: no answer in time".into()));
        assert_eq!(ask("alice@one.test"), Class::Own, "she stands in the configuration");
    }

    #[test]
    fn every_step_is_told_to_whoever_wants_to_know() {
        let router = router();
        let address = address("sales@one.test");
        let (_, trail) = now(router.explain(&address, NOW));
        assert_eq!(trail[0], "sales@one.test is an alias for team@one.test");
        assert!(trail.contains(&"root@one.test is an alias for alice@one.test".to_string()), "{trail:?}");
    }
}
