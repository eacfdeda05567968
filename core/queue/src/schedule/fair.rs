//! Who goes first: start-time fair queueing between flows (Goyal, Vin, Cheng 1996).
//!
//! A flow is whoever should not suffer from the others: a logged-in user, or a sender. Each job gets a tag when it comes in: the flow's own last tag plus the
//! job's cost, but never less than the tag of the job that started last. Jobs start in the order of tags. So the first job of somebody who has sent nothing
//! lately goes before everything that a mailing has waiting, whatever its length, and two mailings alternate. Equal tags go by priority, then by age.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::Entry;

/// Who a job belongs to, for fairness. Two flows that fall together by chance only share a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow(pub u64);

impl Flow {
    /// The user who logged in, or else the sender; reports are a flow of their own.
    pub fn of(entry: &Entry) -> Flow {
        match (&entry.origin.user, entry.sender.address()) {
            (Some(user), _) => Flow::named(user),
            (None, Some(sender)) => Flow::named(sender),
            (None, None) => Flow::named(&"<>"),
        }
    }

    /// A flow by any name.
    pub fn named(name: &impl Hash) -> Flow {
        // Not keyed: a clash that somebody makes on purpose shares that somebody's own turn.
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Flow(hasher.finish())
    }
}

/// One turn of a job of cost 1 and priority 0 is eight times this.
const UNIT: u64 = 1 << 10;

/// The virtual clock and the flows that have jobs waiting.
#[derive(Debug, Default)]
pub(super) struct Fair {
    now: u64,
    flows: HashMap<Flow, Share>,
}

#[derive(Debug, Default)]
struct Share {
    next: u64,
    waiting: u32,
}

impl Fair {
    /// The tag of a job that comes in. `priority` is that of RFC 6710, −9 to 9: three steps double the share.
    pub(super) fn tag(&mut self, flow: Flow, cost: u32, priority: i8) -> u64 {
        let weight = 1 << ((i32::from(priority.clamp(-9, 9)) + 9) / 3);
        let share = self.flows.entry(flow).or_default();
        let tag = share.next.max(self.now);
        share.next = tag + (u64::from(cost.max(1)) * 8 * UNIT / weight).max(1);
        share.waiting += 1;
        tag
    }

    /// A job with this tag starts.
    pub(super) fn on_start(&mut self, tag: u64) {
        self.now = self.now.max(tag);
    }

    /// A job does not wait any more. A flow with none waiting is forgotten: it has had what it asked for.
    pub(super) fn on_gone(&mut self, flow: Flow) {
        let share = self.flows.get_mut(&flow).expect("a flow stays while a job of it waits");
        share.waiting -= 1;
        if share.waiting == 0 {
            self.flows.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_goes_before_what_a_mailing_has_waiting() {
        let mut fair = Fair::default();
        let mailing: Vec<_> = (0..100).map(|_| fair.tag(Flow(1), 1, 0)).collect();
        assert!(mailing.is_sorted() && mailing[0] < mailing[1]);
        fair.on_start(mailing[10]);
        let single = fair.tag(Flow(2), 1, 0);
        assert!(single <= mailing[10], "no later than what starts now");
    }

    #[test]
    fn shares_follow_priority() {
        let mut fair = Fair::default();
        let mut jobs: Vec<(u64, u64)> = Vec::new();
        for (flow, priority) in [(1, 0), (2, 3)] {
            jobs.extend((0..300).map(|_| (fair.tag(Flow(flow), 1, priority), flow)));
        }
        jobs.sort();
        let first: Vec<_> = jobs[..300].iter().filter(|(_, flow)| *flow == 2).collect();
        assert!((199..=201).contains(&first.len()), "two of three turns, not {} of 300", first.len());
    }

    #[test]
    fn costly_jobs_take_longer_turns() {
        let mut fair = Fair::default();
        let costly: Vec<_> = (0..2).map(|_| fair.tag(Flow(1), 50, 0)).collect();
        let cheap: Vec<_> = (0..60).map(|_| fair.tag(Flow(2), 1, 0)).collect();
        assert_eq!(cheap.iter().filter(|tag| **tag < costly[1]).count(), 50);
    }

    #[test]
    fn flows_are_forgotten_when_nothing_waits() {
        let mut fair = Fair::default();
        for n in 0..1000 {
            fair.tag(Flow(n), 1, 0);
        }
        (0..1000).for_each(|n| fair.on_gone(Flow(n)));
        assert!(fair.flows.is_empty());
    }
}
