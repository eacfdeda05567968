//! How each large receiver wants its mail: rules found by the names of the mail hosts, so that all domains of a provider share one budget.
//!
//! A [`Shape`] says how many connections, how many messages on each, how fast, whether in the clear; and what to do when a reply matches a pattern.
//! A plan all of whose hosts belong to one shape gets that shape's name as its provider. Everybody else is bounded by the schedule's own limits.
//! Replies are looked at only when something went wrong; mail that is taken costs one look-up by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use waypost_queue::schedule::Limits;
use waypost_resolve::Plan;
use waypost_types::{Enhanced, Reply, Security};

/// What follows from a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start less often: half as often as now, and no more for so long; then more again, step by step.
    Slow(Duration),
    /// Send nothing for so long.
    Suspend(Duration),
    /// No more than so many connections for so long.
    Connections(u32, Duration),
    /// The provider says "later" and means "never".
    Bounce,
    /// A connection takes one message fewer than this one did.
    FewerMessages,
}

/// When a reply is meant. Everything that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// The code, or its first digit.
    pub code: Option<u16>,
    /// A part of the reply, status and text, in any case; multi-line replies are one text.
    pub text: Box<str>,
}

impl Pattern {
    fn matches(&self, reply: &Reply, text: &str) -> bool {
        let code = self.code.is_none_or(|code| if code < 10 { reply.code / 100 == code } else { reply.code == code });
        code && text.contains(&*self.text)
    }
}

/// One provider.
#[derive(Debug)]
pub struct Shape {
    name: Arc<str>,
    hosts: Vec<Box<str>>,
    limits: Limits,
    messages: AtomicU32,
    tls: bool,
    replies: Vec<(Pattern, Action)>,
}

impl Shape {
    /// `hosts`: names of mail hosts; with a dot in front, everything below that name. `messages`: on one connection.
    pub fn new(
        name: &str,
        hosts: Vec<Box<str>>,
        limits: Limits,
        messages: u32,
        tls: bool,
        replies: Vec<(Pattern, Action)>,
    ) -> Shape {
        let lower = |(pattern, action): (Pattern, Action)| {
            (Pattern { text: pattern.text.to_lowercase().into(), ..pattern }, action)
        };
        let replies = replies.into_iter().map(lower).collect();
        Shape { name: name.into(), hosts, limits, messages: AtomicU32::new(messages.max(1)), tls, replies }
    }

    fn has(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| host_matches(pattern, host))
    }

    /// Messages on one connection, as far as that is known by now.
    pub(crate) fn messages(&self) -> u32 {
        self.messages.load(Ordering::Relaxed)
    }

    /// A connection was told to end behind so many messages.
    fn fewer_messages(&self, used: u32) {
        if used > 1 {
            self.messages.fetch_min(used - 1, Ordering::Relaxed);
        }
    }

    /// What follows from a reply: the reply as it is to be taken, and what to tell the schedule. `used` are the messages of that connection.
    pub(crate) fn heed(&self, reply: Reply, used: u32, consequences: &mut Vec<Action>) -> Reply {
        if reply.is_positive() {
            return reply;
        }
        let text = reply.to_string().to_lowercase();
        for (_, action) in self.replies.iter().filter(|(pattern, _)| pattern.matches(&reply, &text)) {
            match action {
                Action::FewerMessages => self.fewer_messages(used),
                Action::Bounce => return for_good(&reply),
                action if consequences.contains(action) => {}
                action => consequences.push(*action),
            }
        }
        reply
    }
}

/// A temporary refusal that its sender means for good.
fn for_good(reply: &Reply) -> Reply {
    let status = reply.enhanced.map_or(Enhanced(5, 7, 1), |Enhanced(_, subject, detail)| Enhanced(5, subject, detail));
    Reply::new(554, status, format!("the provider means this for good: {reply}"))
}

/// Whether a host is `pattern`, or below it if that begins with a dot.
pub(crate) fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('.') {
        Some(_) => host.len() > pattern.len() && host.ends_with(pattern),
        None => host == pattern,
    }
}

/// All providers.
#[derive(Clone, Debug, Default)]
pub struct Shaping {
    shapes: Arc<[Arc<Shape>]>,
    names: Arc<HashMap<Arc<str>, Arc<Shape>, ahash::RandomState>>,
}

impl Shaping {
    /// Of these; where two have the same host, the first one counts.
    pub fn new(shapes: Vec<Shape>) -> Shaping {
        let shapes: Vec<Arc<Shape>> = shapes.into_iter().map(Arc::new).collect();
        let names = shapes.iter().map(|shape| (shape.name.clone(), shape.clone())).collect();
        Shaping { shapes: shapes.into(), names: Arc::new(names) }
    }

    /// The name and limits of each.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (Arc<str>, Limits)> {
        self.shapes.iter().map(|shape| (shape.name.clone(), shape.limits))
    }

    /// The shape of a provider.
    pub(crate) fn of(&self, provider: &str) -> Option<&Arc<Shape>> {
        self.names.get(provider)
    }

    /// Puts a plan under the shape that all of its hosts belong to, if there is one.
    pub(crate) fn apply(&self, plan: &mut Plan) {
        let all = |shape: &&Arc<Shape>| plan.hops.iter().all(|hop| shape.has(&hop.host));
        let Some(shape) = self.shapes.iter().find(all) else { return };
        plan.provider = shape.name.clone();
        if shape.tls {
            let open = plan.hops.iter_mut().filter(|hop| hop.security == Security::Opportunistic);
            open.for_each(|hop| hop.security = Security::Encrypted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_resolve::Hop;

    fn shape(replies: Vec<(Pattern, Action)>) -> Shape {
        Shape::new("big", vec![".big.example".into()], Limits::default(), 50, true, replies)
    }

    fn pattern(code: Option<u16>, text: &str) -> Pattern {
        Pattern { code, text: text.into() }
    }

    #[test]
    fn a_plan_belongs_to_a_provider_if_all_its_hosts_do() {
        let shaping = Shaping::new(vec![shape(Vec::new())]);
        let plan = |hosts: &[&str]| {
            let hop = |host: &&str| Hop {
                host: host.to_string(),
                addresses: vec![[192, 0, 2, 1].into()],
                port: 25,
                security: Security::Opportunistic,
            };
            let mut plan = Plan { hops: hosts.iter().map(hop).collect(), provider: "own".into(), applied: None };
            shaping.apply(&mut plan);
            (plan.provider.to_string(), plan.hops[0].security.clone())
        };
        assert_eq!(plan(&["mx1.big.example", "a.mx2.big.example"]), ("big".into(), Security::Encrypted));
        assert_eq!(plan(&["mx1.big.example", "mx.small.example"]), ("own".into(), Security::Opportunistic));
        assert_eq!(plan(&["big.example"]).0, "own");
        assert_eq!(plan(&["notbig.example"]).0, "own");
    }

    #[test]
    fn replies_are_found_by_code_and_part_in_any_case() {
        let hour = Duration::from_secs(3600);
        let shape = shape(vec![
            (pattern(Some(421), "[TSS04]"), Action::Suspend(hour)),
            (pattern(Some(4), "[TS03]"), Action::Bounce),
            (pattern(None, "4.7.28"), Action::Slow(hour)),
            (pattern(None, "max message per connection"), Action::FewerMessages),
        ]);
        let heed = |reply: &Reply, used| {
            let mut actions = Vec::new();
            let heeded = shape.heed(reply.clone(), used, &mut actions);
            (heeded, actions)
        };
        let tss = Reply::new(421, Enhanced(4, 7, 0), "[tss04] Messages temporarily deferred");
        assert_eq!(heed(&tss, 1), (tss.clone(), vec![Action::Suspend(hour)]));
        let other_code = Reply { code: 451, ..tss };
        assert_eq!(heed(&other_code, 1), (other_code.clone(), vec![]));
        let rate = Reply::new(421, Enhanced(4, 7, 28), "unusual rate");
        assert_eq!(heed(&rate, 1).1, [Action::Slow(hour)]);
        let (never, actions) = heed(&Reply::plain(421, "4.7.1 [TS03] All messages deferred permanently"), 1);
        assert!(never.is_permanent() && actions.is_empty() && never.text.contains("[TS03]"), "{never}");
        assert_eq!(heed(&Reply::plain(451, "Max message per connection reached"), 21).1, []);
        assert_eq!(shape.messages(), 20);
        heed(&Reply::plain(451, "max message per connection reached"), 40);
        assert_eq!(shape.messages(), 20, "it never rises");
        let ok = Reply::plain(250, "4.7.28 in the text of a success");
        assert_eq!(heed(&ok, 1), (ok.clone(), vec![]));
    }
}
