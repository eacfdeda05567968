//! What an address is to us, and the way to it.
//!
//! Inside a domain of ours a name is looked up as a whole, then without its extension, each time as: virtual alias, alias, mailbox.
//! Then `postmaster` (RFC 5321 §4.5.1: it always exists), then the domain's catch-all. An alias that names itself means its own
//! mailbox; any longer circle is a loop and is told with all its names. Extensions are not carried over to an alias's targets.

use std::borrow::Cow;
use std::sync::Arc;

use ahash::{HashMap, HashSet};
use waypost_types::{Address, Domain, Host, limits};

use crate::table::Target;
use crate::tables::{Relay, folded};
use crate::transport::{DomainMap, SMTP_PORT, Transport};
use crate::{NextHop, Resolution};

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
    pub(crate) users: HashMap<Box<str>, Box<str>>,
    pub(crate) aliases: HashMap<Box<str>, Box<[Target]>>,
    pub(crate) relay: Relay,
    pub(crate) relay_virtuals: HashMap<Domain, HashMap<Box<str>, Box<[Target]>>>,
    pub(crate) transports: DomainMap<Transport>,
    pub(crate) default_transport: Option<Transport>,
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

/// One look-up's result.
enum Step<'a> {
    Mailbox,
    Expand(&'a [Target]),
    Unknown,
    Relay,
    Foreign,
}

impl Way {
    pub(crate) fn new(separators: String, postmaster: Option<String>) -> Way {
        let postmaster = postmaster.unwrap_or_else(|| "postmaster".to_string()).into();
        Way { separators, postmaster, ..Way::default() }
    }

    fn step(&self, address: &Address) -> Step<'_> {
        if let Some(own) = self.own.get(address.host()) {
            return self.step_own(own, address);
        }
        let Some((domain, recipients)) = address.domain().and_then(|domain| Some((domain, self.relay.find(domain)?)))
        else {
            return Step::Foreign;
        };
        let local = fold(address.local());
        if let Some(targets) = self.relay_virtuals.get(domain).and_then(|virtuals| virtuals.get(&*local)) {
            return Step::Expand(targets);
        }
        match recipients {
            Some(known) if !known.contains(&folded(address)) => Step::Unknown,
            _ => Step::Relay,
        }
    }

    fn step_own<'a>(&'a self, own: &'a Own, address: &Address) -> Step<'a> {
        let local = fold(address.local());
        for name in [Some(&*local), self.without_extension(&local)].into_iter().flatten() {
            if let Some(targets) = own.virtuals.get(name).or_else(|| self.aliases.get(name)) {
                return Step::Expand(targets);
            }
            if self.has_mailbox(own, name) {
                return Step::Mailbox;
            }
        }
        match &own.catch_all {
            _ if address.is_postmaster() => Step::Mailbox,
            Some(targets) => Step::Expand(targets),
            None => Step::Unknown,
        }
    }

    fn has_mailbox(&self, own: &Own, name: &str) -> bool {
        own.mailboxes.contains_key(name) || self.users.contains_key(name)
    }

    /// The mailbox of an address of ours, aliases left aside.
    fn mailbox<'a>(&'a self, own: &'a Own, address: &Address) -> Option<&'a str> {
        let local = fold(address.local());
        let of = |name: &str| own.mailboxes.get(name).or_else(|| self.users.get(name)).map(|mailbox| &**mailbox);
        of(&local)
            .or_else(|| self.without_extension(&local).and_then(of))
            .or_else(|| address.is_postmaster().then_some(&*self.postmaster))
    }

    /// `user` of `user+extension`. A quoted local part has no extension.
    fn without_extension<'a>(&self, local: &'a str) -> Option<&'a str> {
        if local.starts_with('"') {
            return None;
        }
        let at = local.find(|c| self.separators.contains(c))?;
        (at > 0).then(|| &local[..at])
    }
}

impl Router {
    pub(crate) fn new(way: Way) -> Router {
        Router { way: Arc::new(way) }
    }

    /// What an address is to us.
    pub fn resolve(&self, address: &Address) -> Resolution {
        match self.way.step(address) {
            Step::Mailbox => Resolution::Deliver(vec![address.clone()]),
            Step::Unknown => Resolution::Unknown,
            Step::Relay => Resolution::Relay(address.clone()),
            Step::Foreign => Resolution::Foreign(address.clone()),
            Step::Expand(targets) => Expansion::new(&self.way).run(address, targets),
        }
    }

    /// How to reach a final recipient. Asked at delivery time, so that queued mail follows a changed table.
    pub fn next_hop(&self, address: &Address) -> NextHop {
        let way = &*self.way;
        if let Some(transport) = address.domain().and_then(|domain| way.transports.find(domain)) {
            return hop(transport, address);
        }
        if let Some(own) = way.own.get(address.host()) {
            return match way.mailbox(own, address) {
                Some(name) => NextHop::Mailbox(name.into()),
                None => NextHop::Fail("5.1.1 no such mailbox here".into()),
            };
        }
        hop(way.default_transport.as_ref().unwrap_or(&Transport::Mx), address)
    }

    /// Whether mail for this domain ends here.
    pub fn is_own(&self, host: &Host) -> bool {
        self.way.own.contains_key(host)
    }

    /// The first of our own domains: where names without a domain, such as RCPT TO:<postmaster>, stand.
    pub fn origin(&self) -> Option<&Host> {
        self.way.origin.as_ref()
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

/// One address on its way through the aliases.
struct Expansion<'a> {
    way: &'a Way,
    /// From the address that was asked for to the alias that is being expanded.
    path: Vec<Address>,
    /// Expanded or delivered already, in look-up form: nobody gets a message twice.
    seen: HashSet<Box<str>>,
    finals: Vec<Address>,
    unknown: Vec<Address>,
}

impl<'a> Expansion<'a> {
    fn new(way: &'a Way) -> Expansion<'a> {
        Expansion { way, path: Vec::new(), seen: HashSet::default(), finals: Vec::new(), unknown: Vec::new() }
    }

    fn run(mut self, address: &Address, targets: &'a [Target]) -> Resolution {
        if let Err(text) = self.expand(address, targets) {
            return Resolution::Broken(text);
        }
        if self.finals.is_empty() {
            return Resolution::Unknown;
        }
        // Some targets exist and some do not: the message is taken for all, and fails for those at delivery, with a report.
        self.finals.append(&mut self.unknown);
        Resolution::Deliver(self.finals)
    }

    fn expand(&mut self, address: &Address, targets: &'a [Target]) -> Result<(), String> {
        if self.path.len() >= limits::ALIAS_DEPTH_MAX {
            return Err(format!("aliases are nested deeper than {}: {}", limits::ALIAS_DEPTH_MAX, self.trail(address)));
        }
        self.path.push(address.clone());
        for target in targets {
            self.follow(address, target)?;
        }
        self.path.pop();
        Ok(())
    }

    fn follow(&mut self, from: &Address, target: &Target) -> Result<(), String> {
        let next = self.place(from, target);
        let key = folded(&next);
        // `alice: alice, bob@else.where` keeps a copy in alice's own mailbox.
        let stop = matches!(target, Target::Mailbox(_)) || folded(from) == key;
        match self.way.step(&next) {
            Step::Expand(targets) if !stop => {
                if self.path.iter().any(|passed| folded(passed) == key) {
                    return Err(format!("aliases lead in a circle: {}", self.trail(&next)));
                }
                if self.seen.insert(key) { self.expand(&next, targets) } else { Ok(()) }
            }
            Step::Unknown => self.keep(key, next, false),
            // What a stopped alias leads to is a mailbox if there is one of that name.
            Step::Expand(_) => {
                let known = self.way.own.get(next.host()).is_some_and(|own| self.way.mailbox(own, &next).is_some());
                let relayed = !self.way.own.contains_key(next.host());
                self.keep(key, next, known || relayed)
            }
            Step::Mailbox | Step::Relay | Step::Foreign => self.keep(key, next, true),
        }
    }

    /// A name stands in the domain of the address that it was reached by, or in the first of ours if that is not ours.
    fn place(&self, from: &Address, target: &Target) -> Address {
        let name = match target {
            Target::Address(address) => return address.clone(),
            Target::Name(name) | Target::Mailbox(name) => name,
        };
        let origin =
            || self.way.origin.clone().expect("tables with names have a domain of our own: checked when built");
        let host = if self.way.own.contains_key(from.host()) { from.host().clone() } else { origin() };
        Address::new(name, host).expect("the name was a local part when the table was read")
    }

    fn keep(&mut self, key: Box<str>, address: Address, known: bool) -> Result<(), String> {
        // A stopped alias and the alias itself share a key; both can be wanted.
        let slot = if known { "to " } else { "no " };
        if !self.seen.insert(format!("{slot}{key}").into()) {
            return Ok(());
        }
        if self.finals.len() + self.unknown.len() >= limits::ALIAS_EXPANSION_MAX {
            let first = self.path.first().map(ToString::to_string).unwrap_or_default();
            return Err(format!("{first} leads to more than {} addresses", limits::ALIAS_EXPANSION_MAX));
        }
        if known {
            self.finals.push(address)
        } else {
            self.unknown.push(address)
        }
        Ok(())
    }

    fn trail(&self, last: &Address) -> String {
        let passed = self.path.iter().map(ToString::to_string);
        passed.chain([last.to_string()]).collect::<Vec<_>>().join(" -> ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RelayDomain, Tables, parse_aliases, parse_transports, parse_virtual};

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
        }
    }

    fn router() -> Router {
        tables().build().expect("the tables are right")
    }

    fn delivered(text: &str) -> Vec<String> {
        match router().resolve(&address(text)) {
            Resolution::Deliver(to) => to.iter().map(ToString::to_string).collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn users_are_found_in_any_case_and_with_extensions() {
        assert_eq!(delivered("Alice@one.test"), ["Alice@one.test"]);
        assert_eq!(delivered("alice+list@one.test"), ["alice+list@one.test"]);
        assert_eq!(delivered("alice@[192.0.2.1]"), ["alice@[192.0.2.1]"]);
        let router = router();
        assert_eq!(router.next_hop(&address("ALICE+x@one.test")), NextHop::Mailbox("alice".into()));
        assert_eq!(router.next_hop(&address("dan@two.test")), NextHop::Mailbox("dan-two".into()));
        assert_eq!(router.resolve(&address("dan@one.test")), Resolution::Unknown);
        assert_eq!(router.resolve(&address("+alice@one.test")), Resolution::Unknown);
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
        assert_eq!(router().resolve(&address("self@one.test")), Resolution::Unknown, "there is no such mailbox");
    }

    #[test]
    fn a_circle_is_named() {
        let Resolution::Broken(text) = router().resolve(&address("a@one.test")) else { panic!("a circle") };
        assert!(text.ends_with("a@one.test -> b@one.test -> c@one.test -> a@one.test"), "{text}");
    }

    #[test]
    fn targets_that_do_not_exist() {
        let router = router();
        assert_eq!(router.resolve(&address("ghost@one.test")), Resolution::Unknown);
        assert_eq!(delivered("half@one.test"), ["alice@one.test", "nobody@one.test"]);
        assert!(matches!(router.next_hop(&address("nobody@one.test")), NextHop::Fail(_)));
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let chain: String = (0..30).map(|n| format!("n{n}: n{}\n", n + 1)).collect();
        let many: Vec<String> = (0..=limits::ALIAS_EXPANSION_MAX).map(|n| format!("u{n}@else.test")).collect();
        let text = format!("{chain}many: {}\n", many.join(", "));
        let aliases = parse_aliases(&text, |_| Err("none".to_string())).expect("valid");
        let router = Tables { own: vec![host("one.test")], aliases, ..Tables::default() }.build().expect("right");
        for (name, word) in [("n0", "nested deeper"), ("many", "more than 10000")] {
            let Resolution::Broken(text) = router.resolve(&address(&format!("{name}@one.test"))) else {
                panic!("{name}")
            };
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn postmaster_exists_in_every_domain_of_ours_before_any_catch_all() {
        for domain in ["one.test", "two.test", "[192.0.2.1]"] {
            let asked = format!("PostMaster@{domain}");
            assert_eq!(delivered(&asked), [asked.as_str()]);
            assert_eq!(router().next_hop(&address(&asked)), NextHop::Mailbox("postmaster".into()));
        }
        let router = Tables { postmaster: Some("alice".into()), ..tables() }.build().expect("right");
        assert_eq!(router.next_hop(&address("postmaster@one.test")), NextHop::Mailbox("alice".into()));
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
        let of = |text: &str| router.resolve(&address(text));
        assert_eq!(of("x@relay.test"), Resolution::Relay(address("x@relay.test")));
        assert_eq!(of("eve@a.known.test"), Resolution::Relay(address("eve@a.known.test")));
        assert_eq!(of("adam@a.known.test"), Resolution::Unknown);
        assert_eq!(of("x@known.test"), Resolution::Foreign(address("x@known.test")));
        assert_eq!(of("x@else.test"), Resolution::Foreign(address("x@else.test")));
        assert_eq!(of("x@[198.51.100.1]"), Resolution::Foreign(address("x@[198.51.100.1]")));
    }

    #[test]
    fn relay_tricks_lead_nowhere() {
        let router = router();
        for local in ["x%else.test", "else.test!x", "\"x@else.test\"", "@else.test:x"] {
            if let Ok(tricky) = Address::parse(&format!("{local}@one.test")) {
                assert_eq!(router.resolve(&tricky), Resolution::Unknown, "{tricky}");
            }
        }
    }

    #[test]
    fn transports_decide_before_everything_else() {
        let router = router();
        let hop = |text: &str| router.next_hop(&address(text));
        let sink = NextHop::Literal("127.0.0.1".parse().expect("an address"), 2626);
        assert_eq!(hop("x@sink.test"), sink);
        assert_eq!(hop("x@a.sink.test"), NextHop::Fail("5.1.2 no".into()));
        assert_eq!(hop("alice@lists.test"), NextHop::Lmtp("127.0.0.1:24".parse().expect("an address")));
        assert_eq!(hop("x@else.test"), NextHop::Mx(Domain::parse("else.test").expect("a domain")));
        assert_eq!(hop("x@[198.51.100.1]"), NextHop::Literal("198.51.100.1".parse().expect("an address"), 25));
        let all = parse_transports("* smtp:[127.0.0.1]:2626\nelse.test mx\n").expect("valid");
        let router = Tables { transports: all, ..tables() }.build().expect("right");
        assert_eq!(router.next_hop(&address("x@any.test")), sink);
        assert_eq!(
            router.next_hop(&address("x@else.test")),
            NextHop::Mx(Domain::parse("else.test").expect("a domain"))
        );
        assert_eq!(router.next_hop(&address("alice@one.test")), NextHop::Mailbox("alice".into()), "* is not for us");
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
}
