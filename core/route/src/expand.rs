//! One address on its way through the aliases.
//!
//! An alias that names itself means its own mailbox; any longer circle is a loop and is told with all its names. Extensions are not
//! carried over to an alias's targets. Depth and count are bounded. Who is reached through an alias that has an owner (`owner-NAME`)
//! carries it along: the innermost answers.

use ahash::HashSet;
use waypost_types::{Address, Host, Task, Timestamp, limits};

use crate::router::{Step, Stuck, Way};
use crate::table::Target;
use crate::tables::folded;
use crate::{Class, Leaf, Resolution};

/// Resolves, from canonical tables to final recipients. `trail` is told every step in words.
pub(crate) async fn resolve(
    way: &Way,
    address: &Address,
    now: Timestamp,
    trail: Option<&mut Vec<String>>,
) -> Resolution {
    match try_resolve(way, address, now, trail).await {
        Ok(resolution) => resolution,
        Err(Stuck::Broken(text)) => Resolution::of(Class::Broken(text)),
        Err(Stuck::Unsure(text)) => Resolution::of(Class::Unsure(text)),
    }
}

async fn try_resolve(
    way: &Way,
    given: &Address,
    now: Timestamp,
    mut trail: Option<&mut Vec<String>>,
) -> Result<Resolution, Stuck> {
    let canonical = match way.canonical.is_empty() {
        true => None,
        false => way.canonical(&way.canonical.recipient, given).await?,
    };
    if let (Some(trail), Some(new)) = (&mut trail, &canonical) {
        trail.push(format!("{given} is written {new} (canonical)"));
    }
    let address = canonical.as_ref().unwrap_or(given);
    let class = match way.step(address, now).await? {
        Step::Unknown => Class::Unknown,
        Step::Mailbox => Class::Own,
        Step::Relay => Class::Relay,
        // What we write our own addresses as is the operator's word, wherever it leads.
        Step::Foreign if canonical.is_some() && way.own(given.host()).await?.is_some() => Class::Own,
        Step::Foreign => Class::Foreign,
        Step::Expand(targets) => {
            let foreign = canonical.is_some() && matches!(way.step(given, now).await?, Step::Foreign);
            let class = if foreign { Class::Foreign } else { Class::Own };
            let mut expansion = Expansion::new(way, now, trail);
            expansion.expand(address, &targets, None).await?;
            return Ok(expansion.end(class));
        }
    };
    let leads = match (&canonical, &class) {
        (None, _) | (_, Class::Unknown) => Vec::new(),
        (Some(new), _) => {
            let reached = match way.step(new, now).await? {
                Step::Foreign => Class::Foreign,
                Step::Relay => Class::Relay,
                _ => Class::Own,
            };
            vec![Leaf { address: new.clone(), class: reached, owner: None }]
        }
    };
    Ok(Resolution { class, leads })
}

/// An expansion under way.
struct Expansion<'w, 't> {
    way: &'w Way,
    now: Timestamp,
    /// From the address that was asked for to the alias that is being expanded.
    path: Vec<Address>,
    /// Expanded or delivered already, in look-up form: nobody gets a message twice.
    seen: HashSet<Box<str>>,
    known: Vec<Leaf>,
    unknown: Vec<Leaf>,
    trail: Option<&'t mut Vec<String>>,
}

impl<'w, 't> Expansion<'w, 't> {
    fn new(way: &'w Way, now: Timestamp, trail: Option<&'t mut Vec<String>>) -> Expansion<'w, 't> {
        let (path, seen) = (Vec::new(), HashSet::default());
        Expansion { way, now, path, seen, known: Vec::new(), unknown: Vec::new(), trail }
    }

    fn end(mut self, class: Class) -> Resolution {
        if self.known.is_empty() {
            return Resolution::of(Class::Unknown);
        }
        // Some targets exist and some do not: the message is taken for all, and fails for those at delivery, with a report.
        self.known.append(&mut self.unknown);
        Resolution { class, leads: self.known }
    }

    /// Boxed, as aliases lead to aliases; only who is an alias pays for it.
    fn expand<'a>(
        &'a mut self,
        address: &'a Address,
        targets: &'a [Target],
        owner: Option<Address>,
    ) -> Task<'a, Result<(), Stuck>> {
        Box::pin(async move {
            if self.path.len() >= limits::ALIAS_DEPTH_MAX {
                let trail = self.names(address);
                let text = format!("aliases are nested deeper than {}: {trail}", limits::ALIAS_DEPTH_MAX);
                return Err(Stuck::Broken(text));
            }
            let owner = self.way.owner(address).await?.or(owner);
            self.path.push(address.clone());
            for target in targets {
                self.follow(address, target, owner.as_ref()).await?;
            }
            self.path.pop();
            Ok(())
        })
    }

    async fn follow(&mut self, from: &Address, target: &Target, owner: Option<&Address>) -> Result<(), Stuck> {
        let next = self.place(from, target)?;
        if let Some(trail) = &mut self.trail {
            trail.push(format!("{from} is an alias for {next}"));
        }
        let key = folded(&next);
        // `alice: alice, bob@else.where` keeps a copy in alice's own mailbox.
        let stop = matches!(target, Target::Mailbox(_)) || folded(from) == key;
        let class = match self.way.step(&next, self.now).await? {
            Step::Expand(targets) if !stop => {
                if self.path.iter().any(|passed| folded(passed) == key) {
                    return Err(Stuck::Broken(format!("aliases lead in a circle: {}", self.names(&next))));
                }
                if !self.seen.insert(key) {
                    return Ok(());
                }
                return self.expand(&next, &targets, owner.cloned()).await;
            }
            // What a stopped alias leads to is a mailbox if there is one of that name.
            Step::Expand(_) => match self.way.own(next.host()).await? {
                Some(own) if self.way.mailbox(own, &next).await?.is_some() => Class::Own,
                Some(_) => Class::Unknown,
                None => Class::Relay,
            },
            Step::Unknown => Class::Unknown,
            Step::Mailbox => Class::Own,
            Step::Relay => Class::Relay,
            Step::Foreign => Class::Foreign,
        };
        self.keep(&key, Leaf { address: next, class, owner: owner.cloned() })
    }

    /// A name stands in the domain of the address that it was reached by, or in the first of ours if that is not ours.
    fn place(&self, from: &Address, target: &Target) -> Result<Address, Stuck> {
        let name = match target {
            Target::Address(address) => return Ok(address.clone()),
            Target::At(host) => return Ok(from.at(host.clone())),
            Target::Name(name) | Target::Mailbox(name) => name,
        };
        let relayed = from.domain().is_some_and(|domain| self.way.relay.find(domain).is_some());
        let host: &Host = match &self.way.origin {
            Some(origin) if relayed && !self.way.own.contains_key(from.host()) => origin,
            _ => from.host(),
        };
        Address::new(name, host.clone()).map_err(|error| Stuck::Broken(format!("{from} leads to {name:?}: {error}")))
    }

    fn keep(&mut self, key: &str, leaf: Leaf) -> Result<(), Stuck> {
        // A stopped alias and the alias itself share a key; both can be wanted.
        let known = leaf.class != Class::Unknown;
        let slot = if known { "to " } else { "no " };
        if !self.seen.insert(format!("{slot}{key}").into()) {
            return Ok(());
        }
        if self.known.len() + self.unknown.len() >= limits::ALIAS_EXPANSION_MAX {
            let first = self.path.first().map(ToString::to_string).unwrap_or_default();
            let text = format!("{first} leads to more than {} addresses", limits::ALIAS_EXPANSION_MAX);
            return Err(Stuck::Broken(text));
        }
        if known {
            self.known.push(leaf)
        } else {
            self.unknown.push(leaf)
        }
        Ok(())
    }

    fn names(&self, last: &Address) -> String {
        let passed = self.path.iter().map(ToString::to_string);
        passed.chain([last.to_string()]).collect::<Vec<_>>().join(" -> ")
    }
}
